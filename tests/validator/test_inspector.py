"""The validator keeps evidence of few audits, and never throws away that of one which waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from iota_subnet.core.actions import AuditMiner
from iota_subnet.core.events import Event, Manifest, MinerAudited
from iota_subnet.messages import Blob
from iota_subnet.spec import BlobRef
from iota_subnet.train.order import Finding
from iota_subnet.validator import inspector
from iota_subnet.validator.inspector import BLOBS, Inspector
from iota_subnet.wire.blobs import digest_of

from .kit import NOW, small_spec

SAID = b"a transcript"


class Swarm:
    """Has all bytes, and a pool that fails whom it can look at once `gather` audits wait."""

    def __init__(self, folder: Path, gather: int) -> None:
        self.folder, self.gather, self.heard = folder, gather, list[MinerAudited]()
        self.inspector = Inspector(
            small_spec(), "V", folder, cast(Any, self), cast(Any, self), cast(Any, self), self.state, self.post,
            lambda: NOW,
        )  # fmt: skip

    async def state(self, manifest: Manifest) -> list[Any]:
        return []

    async def fetch(self, ref: BlobRef, ticket: str, label: str) -> bytes:
        return SAID

    def blob(self, ref: BlobRef, reader: str) -> Blob:
        return Blob(ref.digest, ref.nbytes, ref.urls, "")

    async def run(self, task: Callable[..., bytes], folder: str, device: str, passes: int) -> bytes:
        while len(list(self.folder.glob(f"*/{inspector.ORDER}"))) < self.gather:
            await asyncio.sleep(0.01)
        there = (Path(folder) / BLOBS / digest_of(SAID)).is_file()
        return msgspec.json.encode(Finding("failed" if there else "withheld", "", 1))

    def post(self, event: Event) -> None:
        assert isinstance(event, MinerAudited)
        self.heard.append(event)


def order(number: int) -> AuditMiner:
    said = BlobRef(digest_of(SAID), len(SAID), ("http://127.0.0.1:9/v1/blobs/x",))
    return AuditMiner(f"miner-{number:02d}", 0, 3, "", 0, Manifest(0, 3, ()), 1, (0, 2), (), said, ())


async def test_evidence_that_waits_is_kept_and_of_the_rest_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "KEEP_FAILED", 2)
    swarm = Swarm(tmp_path, gather=6)
    await asyncio.wait_for(asyncio.gather(*(swarm.inspector.audit(order(number)) for number in range(6))), 60)
    assert [event.verdict for event in swarm.heard] == ["failed"] * 6
    assert len(list(tmp_path.glob(f"*/{BLOBS}"))) == 2
    assert len(list(tmp_path.glob(f"*/{inspector.FINDING}"))) == 6
