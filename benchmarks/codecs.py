"""What a merge's bytes and arithmetic cost on one core, against hivemind's codecs where that is installed.

    OMP_NUM_THREADS=1 python benchmarks/codecs.py [--json] [--values N] [--runs R]

Vectors of N normal float32 (default 10 million). Rows: encoding and decoding with each codec in MB of float32 a second,
and bytes a value; the robust mean of 4 and of 8 contributions, with clipping at 3 medians, without, and trimmed; the
outer step; the digest of weights and momentum. The peer is hivemind's codec of the same width (fp32: NONE, bf16:
FLOAT16, int8: UNIFORM_8BIT); it has none with an eighth of a byte. Its packages may pin another torch than ours, so it
is looked for and not required: run the script with the interpreter of an environment that has hivemind and blake3.
Value and peer are medians of R runs that take turns; the first of each is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

# One core: before numpy and torch start their threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from iota_subnet.spec import TrainSpec
from iota_subnet.train import allreduce, state

PEERS = {"fp32": "NONE", "bf16": "FLOAT16", "int8": "UNIFORM_8BIT"}

Work = Callable[[], object]


class Peer(NamedTuple):
    """hivemind's codec of the same width."""

    name: str
    encode: Work
    #: None where it fails by itself: 1.1.12 cannot read its 8-bit codecs with numpy 2.4.
    decode: Work | None
    bytes_a_value: float


def hivemind_codec(kind: str, values: np.ndarray) -> Peer | None:
    """None without hivemind, or where it has no such codec."""
    if kind not in PEERS:
        return None
    try:
        warnings.simplefilter("ignore")
        import hivemind
        import torch
        from hivemind.compression import deserialize_torch_tensor, serialize_torch_tensor
        from hivemind.proto import runtime_pb2
    except ImportError:
        return None
    torch.set_num_threads(1)
    tensor = torch.from_numpy(values)
    compression = getattr(runtime_pb2.CompressionType, PEERS[kind])

    def encode() -> Any:
        return serialize_torch_tensor(tensor, compression).SerializeToString()

    blob = encode()

    def decode() -> Any:
        return deserialize_torch_tensor(runtime_pb2.Tensor.FromString(blob))

    try:
        decode()
    except TypeError:
        return Peer(f"hivemind {hivemind.__version__} {PEERS[kind]}", encode, None, len(blob) / values.size)
    return Peer(f"hivemind {hivemind.__version__} {PEERS[kind]}", encode, decode, len(blob) / values.size)


def measure(works: list[Work], runs: int) -> list[list[float]]:
    """Seconds of each, taking turns, so that what else the machine does falls on all alike."""
    seconds: list[list[float]] = [[] for _ in works]
    for run in range(runs + 1):
        for work, found in zip(works, seconds, strict=True):
            began = time.perf_counter()
            work()
            if run:
                found.append(time.perf_counter() - began)
    return seconds


def row(name: str, unit: str, values: list[float], peer: str | None = None, theirs: list[float] | None = None) -> Any:
    value = statistics.median(values)
    other = statistics.median(theirs) if theirs else None
    return {
        "name": name, "value": value, "unit": unit, "peer": peer, "peer_value": other,
        "ratio": value / other if other else None, "n": len(values), "min": min(values), "max": max(values),
    }  # fmt: skip


def codec_rows(kind: str, values: np.ndarray, runs: int) -> list[Any]:
    train = TrainSpec(delta_codec=kind)  # type: ignore[arg-type]
    blob = allreduce.encode_delta(values, train)
    peer = hivemind_codec(kind, values)
    works: dict[str, Work] = {
        "encode": lambda: allreduce.encode_delta(values, train),
        "decode": lambda: allreduce.decode_delta(blob, values.size, train),
    }
    if peer:
        works["peer's encode"] = peer.encode
    if peer and peer.decode:
        works["peer's decode"] = peer.decode
    seconds = dict(zip(works, measure(list(works.values()), runs), strict=True))
    speeds = {name: [values.nbytes / 1e6 / each for each in one] for name, one in seconds.items()}
    name, width = (peer.name, [peer.bytes_a_value]) if peer else (None, None)
    return [
        row(f"{kind}: encode", "MB/s", speeds["encode"], name, speeds.get("peer's encode")),
        row(f"{kind}: decode", "MB/s", speeds["decode"], name, speeds.get("peer's decode")),
        row(f"{kind}: bytes a value", "B", [len(blob) / values.size], name, width),
    ]


def merge_rows(vectors: list[np.ndarray], runs: int) -> list[Any]:
    size = vectors[0].size
    given = [(place + 1, vector) for place, vector in enumerate(vectors)]
    weights, momentum, mean = vectors[:3]
    named: dict[str, Work] = {}
    ways = {"plain": (0.0, 0.0), "clipped": (3.0, 0.0), "clipped, trimmed by 1/4": (3.0, 0.25)}
    for n in (4, 8):
        for label, way in ways.items():
            named[f"mean of {n}, {label}"] = lambda n=n, way=way: allreduce.mean(given[:n], size, *way)
    named["norm"] = lambda: allreduce.norm(weights)
    named["outer step"] = lambda: allreduce.outer_step(weights, momentum, mean, 0.7, 0.9)
    named["digest of weights and momentum"] = lambda: state.state_digest(weights, momentum)
    seconds = measure(list(named.values()), runs)
    return [row(name, "ms", [each * 1e3 for each in one]) for name, one in zip(named, seconds, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--values", type=int, default=10_000_000, metavar="N", help="length of a vector")
    parser.add_argument("--runs", type=int, default=7, metavar="R", help="measurements of each")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal(asked.values, np.float32) for _ in range(8)]
    rows = [found for kind in ("fp32", "bf16", "int8", "topk") for found in codec_rows(kind, vectors[0], asked.runs)]
    rows += merge_rows(vectors, asked.runs)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, one used, Python {platform.python_version()}"
    if asked.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=2))
        return
    for item in rows:
        peer = f"   {item['peer']}: {item['peer_value']:.4g}" if item["peer_value"] else ""
        print(f"{item['name']:<34} {item['value']:10.4g} {item['unit']:<5} {item['min']:.4g}..{item['max']:.4g}{peer}")


if __name__ == "__main__":
    main()
