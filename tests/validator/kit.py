"""What the tests of both shells share: keys, a very small run, text to train on, and a wait with a deadline."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bittensor_wallet import Keypair

from iota_subnet.core.events import Manifest, RunStarted, ShardRef
from iota_subnet.core.state import Miner
from iota_subnet.spec import BlobRef, DataSpec, ModelSpec, RunSpec, SwarmSpec, TrainSpec
from iota_subnet.wire.blobs import digest_of

NOW = 1_000_000.0

SMALL = ModelSpec("small", 256, 32, 3, 4, 2, 48, 32, stages=2, bottleneck=8)

SWARM = SwarmSpec(
    epochs=2,
    start_miners=3,
    start_s=20.0,
    epoch_batches=8,
    min_batches=2,
    live_per_replica=3,
    lease_s=10.0,
    reconnect_s=4.0,
    ready_s=15.0,
    train_s=60.0,
    drain_s=5.0,
    commit_s=4.0,
    reduce_s=4.0,
    install_s=6.0,
)


def small_spec(source: str = "stdlib", train: dict[str, Any] | None = None, **swarm: Any) -> RunSpec:
    """A run whose passes take milliseconds."""
    batches = TrainSpec(**({"microbatch": 2, "accumulate": 2, "warmup": 2} | (train or {})))
    return RunSpec(
        "small", 7, model=SMALL, train=batches, swarm=dataclasses.replace(SWARM, **swarm), data=DataSpec(source)
    )


@cache
def key(name: str) -> Keypair:
    """A real sr25519 key; the same name is the same key."""
    return Keypair.create_from_uri(f"//{name}")


def hotkey(name: str) -> str:
    address: str = key(name).ss58_address
    return address


def signer(name: str) -> Callable[[bytes], bytes]:
    return lambda data: bytes(key(name).sign(data))


def started(spec: RunSpec) -> RunStarted:
    """The first event of a run whose stages have a hundred parameters."""
    shards = (ShardRef(0, 100, BlobRef(digest("weights"), 500), BlobRef(digest("momentum"), 500)),)
    stages = range(spec.model.stages)
    manifests = tuple(Manifest(stage, 0, shards) for stage in stages)
    return RunStarted(at=NOW, spec_digest=spec.digest(), secret="s", sizes=(100,) * len(stages), manifests=manifests)


def seated(name: str, stage: int = 0, port: int = 9) -> Miner:
    """A miner with a seat, as the core keeps it."""
    url = f"http://127.0.0.1:{port}"
    return Miner(hotkey(name), "boot-of-it", NOW, axon="127.0.0.1:8", data_url=url, stage=stage, connected=True)


def digest(text: str) -> str:
    return digest_of(text.encode())


def write_text(folder: Path, nbytes: int = 40_000) -> str:
    """A corpus with something to learn in it; the source that names it."""
    rng = random.Random(3)
    words = ["".join(rng.choices("etaoinshr", k=rng.randint(2, 7))) for _ in range(120)]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        text = ""
        while len(text) < nbytes // 4:
            text += " ".join(rng.choices(words, k=9)) + ".\n"
        (folder / f"{number}.txt").write_text(text)
    return f"text:{folder}/*.txt"


async def eventually(condition: Callable[[], Any], within_s: float = 10.0, what: str = "it") -> Any:
    """Poll until `condition()` is true; its value. Fails after `within_s`."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not (found := condition()):
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not happen within {within_s} s"
        await asyncio.sleep(0.01)
    return found
