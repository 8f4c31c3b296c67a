"""What a decision and a megabyte cost, against the SDK's own way, in the same run.

    python benchmarks/transport.py [--json]

Rows: a tiny signed call (SignedDendrite -> SignedAxon; peer: bt.Dendrite -> bt.Axon with one hashed field), and 10 MB
(blob server -> fetcher with ticket and digest; peer: a float32 bt.Tensor in a synapse). One process holds both ends.
"""

# No postponed annotations here: the SDK's Axon.attach looks at them as objects.
import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import bittensor as bt
import numpy as np
from bittensor.core import axon as sdk_axon
from bittensor.core import dendrite as sdk_dendrite

from iota_subnet.spec import BlobRef
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, MemoryStore
from iota_subnet.wire.tickets import Ticket, encode
from template.staging import wallet_from_uri
from template.synapse import SignedAxon, SignedDendrite, SignedSynapse
from template.wallet import sign, verify

REPETITIONS = 7
CALLS = 50
TENSOR_BYTES = 10_000_000


class Ask(SignedSynapse):
    number: int
    answer: int = 0


class PlainAsk(bt.Synapse):
    number: int
    answer: int = 0
    required_hash_fields: ClassVar[tuple[str, ...]] = ("number",)


class PlainTensor(bt.Synapse):
    tensor: bt.Tensor | None = None


async def seconds_of(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def repeat(work: Callable[[], Awaitable[object]], per: int = 1) -> list[float]:
    """Seconds per unit of `REPETITIONS` runs, after one that warms up."""
    await work()
    return [await seconds_of(work) / per for _ in range(REPETITIONS)]


def row(name: str, unit: str, ours: list[float], peer: str, theirs: list[float]) -> dict[str, Any]:
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "name": name, "value": mine, "unit": unit, "peer": peer, "peer_value": other, "ratio": mine / other,
        "n": len(ours), "min": min(ours), "max": max(ours),
    }  # fmt: skip


async def ours(wallet: Any) -> tuple[list[float], list[float]]:
    """Seconds per call and per 10 MB."""
    axon = SignedAxon(wallet, "127.0.0.1", 0, who=lambda hotkey: None)

    async def answer(ask: Ask) -> Ask:
        ask.answer = ask.number + 1
        return ask

    axon.attach(answer, synapse_type=Ask)
    await axon.start()
    dendrite = SignedDendrite(wallet)
    hotkey = wallet.hotkey.ss58_address

    async def calls() -> None:
        for number in range(CALLS):
            reply = await dendrite.call(hotkey, "127.0.0.1", axon.port, Ask(number=number))
            assert reply.answer == number + 1

    per_call = await repeat(calls, CALLS)
    store = MemoryStore(1 << 30)
    server = BlobServer(store, "127.0.0.1", 0, hotkey, verify)
    fetcher = BlobFetcher(1 << 30)
    await server.start()
    ref = server.located(store.put(os.urandom(TENSOR_BYTES)))
    ticket = encode(Ticket(ref.digest, hotkey, time.time() + 600), lambda data: sign(wallet, data))

    async def fetch() -> None:
        assert len(await fetcher.fetch(BlobRef(ref.digest, ref.nbytes, ref.urls), ticket)) == TENSOR_BYTES

    per_tensor = await repeat(fetch)
    await fetcher.close()
    await server.stop()
    await dendrite.close()
    await axon.stop()
    return per_call, per_tensor


async def sdk(wallet: Any) -> tuple[list[float], list[float]]:
    """The same with the SDK as it is; only its questions to public sites are silenced, which it cannot do offline."""
    sdk_dendrite.networking.get_external_ip = lambda: "127.0.0.1"
    sdk_axon.networking.get_external_ip = lambda: "127.0.0.1"
    port = int(os.environ.get("BENCH_PORT", "38091"))
    axon = bt.Axon(wallet=wallet, ip="127.0.0.1", port=port, external_ip="127.0.0.2")

    def answer(ask: PlainAsk) -> PlainAsk:
        ask.answer = ask.number + 1
        return ask

    def take(ask: PlainTensor) -> PlainTensor:
        ask.tensor = None
        return ask

    axon.attach(answer).attach(take)
    axon.start()
    while not listens(port):
        await asyncio.sleep(0.05)
    info = axon.info()
    info.ip = "127.0.0.1"
    dendrite = bt.Dendrite(wallet=wallet)
    dendrite.external_ip = "127.0.0.3"

    async def calls() -> None:
        for number in range(CALLS):
            reply = await dendrite.forward(info, PlainAsk(number=number), timeout=10, deserialize=False)
            assert reply.answer == number + 1, reply.dendrite.status_message

    per_call = await repeat(calls, CALLS)
    tensor = bt.Tensor.serialize(np.random.default_rng(0).random(TENSOR_BYTES // 4, dtype=np.float32))

    async def send() -> None:
        reply = await dendrite.forward(info, PlainTensor(tensor=tensor), timeout=60, deserialize=False)
        assert reply.is_success, reply.dendrite.status_message

    per_tensor = await repeat(send)
    await dendrite.aclose_session()
    axon.stop()
    return per_call, per_tensor


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        wallet = wallet_from_uri(Path(folder), "bench", "bench", "//Bench")
        our_call, our_tensor = await ours(wallet)
        sdk_call, sdk_tensor = await sdk(wallet)
    peer = f"bittensor {bt.__version__}"
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "rows": [
            row("signed call", "s", our_call, f"{peer} dendrite/axon", sdk_call),
            row("10 MB between two miners", "s", our_tensor, f"{peer} Tensor in a synapse", sdk_tensor),
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    result = asyncio.run(measure())
    if asked.json:
        print(json.dumps(result, indent=2))
        return
    for item in result["rows"]:
        print(f"{item['name']:<28} {item['value']:.4f} {item['unit']}   {item['peer']}: {item['peer_value']:.4f}")


if __name__ == "__main__":
    main()
