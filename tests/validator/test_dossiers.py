"""What a miner is shown of verdicts, and what it is not: others' audits, audits under way, files that are no evidence.
And what it takes from a validator that tells nonsense."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from bittensor import TerminalInfo

from iota_subnet.core.state import RunState, Verdict
from iota_subnet.messages import Blob
from iota_subnet.protocol import Dossier
from iota_subnet.spec import BlobRef
from iota_subnet.train.order import Finding
from iota_subnet.validator import audit_fetch, dossiers
from iota_subnet.validator.dossiers import Dossiers, Shelf
from iota_subnet.validator.inspector import BLOBS, FINDING, ORDER, folder_of
from iota_subnet.validator.outgoing import Outgoing
from iota_subnet.wire.blobs import BlobFetcher, BlobServer, MemoryStore
from template.errors import NeuronError
from template.wallet import verify

from .kit import NOW, digest, hotkey, signer, small_spec

MINE, OTHER = hotkey("mine"), hotkey("other")
FAILED = Finding("failed", "the loss of pass 3 is wrong", 3, 2, (), 0.1)


class Desk:
    """A validator's dossiers over a folder of audits."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shelf, self.state = folder, Shelf(), RunState(small_spec())
        server = BlobServer(MemoryStore(1), "127.0.0.1", 80, hotkey("V"), verify, lambda: NOW)
        outgoing = Outgoing("run", signer("V"), lambda: NOW, MemoryStore(1), lambda: server)
        self.dossiers = Dossiers(folder, self.shelf, outgoing, server.url_of, lambda: self.state)

    def audit(self, of: str, epoch: int, blobs: int = 3, judged: bool = True) -> list[str]:
        """Lay down an audit that was not sound; the names of its blobs."""
        folder = folder_of(self.folder, epoch, of)
        (folder / BLOBS).mkdir(parents=True)
        names = [digest(f"{of} {epoch} {number}") for number in range(blobs)]
        for name in names:
            (folder / BLOBS / name).write_bytes(b"bytes")
        (folder / ORDER).write_bytes(b"{}")
        if judged:
            (folder / FINDING).write_bytes(msgspec.json.encode(FAILED))
            self.state.verdicts.setdefault(of, []).append(Verdict(NOW, epoch, "failed", FAILED.reason, 3, 0))
        return sorted(names)

    def ask(self, who: str, epoch: int = -1, after: int = 0) -> Dossier:
        synapse = Dossier(epoch=epoch, after=after)
        synapse.dendrite = TerminalInfo(hotkey=who)
        return asyncio.run(self.dossiers.answer(synapse))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "audits")


def test_the_newest_verdict_is_shown_with_all_its_bytes(desk: Desk) -> None:
    desk.audit(MINE, 2)
    names = desk.audit(MINE, 4)
    said = desk.ask(MINE)
    assert (said.reason, said.epoch, said.total) == ("", 4, 3)
    assert [blob.digest for blob in said.blobs] == names
    assert all(desk.shelf.get(name) == b"bytes" for name in names)
    assert said.order is not None and desk.shelf.get(said.order.digest) == b"{}"


def test_nobody_is_shown_what_was_found_of_another(desk: Desk) -> None:
    names = desk.audit(OTHER, 4)
    for epoch in (-1, 4):
        said = desk.ask(MINE, epoch)
        assert said.reason and not said.finding and said.order is None and not said.blobs
    assert not any(desk.shelf.has(name) for name in names)


@pytest.mark.parametrize("epoch", [5, 10**9, 10**400])
def test_an_epoch_that_was_not_yet_is_answered_with_a_reason(desk: Desk, epoch: int) -> None:
    desk.audit(MINE, 4)
    said = desk.ask(MINE, epoch)
    assert said.reason.startswith("no evidence of an audit of this hotkey") and not said.blobs


def test_an_audit_under_way_is_not_shown(desk: Desk) -> None:
    names = desk.audit(MINE, 4, judged=False)
    said = desk.ask(MINE, 4)
    assert said.reason and not said.blobs and not any(desk.shelf.has(name) for name in names)


@pytest.mark.parametrize("finding", [msgspec.json.encode(Finding("sound", "")), b"", b"half of a find"])
def test_a_sound_audit_or_half_a_finding_is_not_shown(desk: Desk, finding: bytes) -> None:
    names = desk.audit(MINE, 4)
    (folder_of(desk.folder, 4, MINE) / FINDING).write_bytes(finding)
    assert desk.ask(MINE, 4).reason and not any(desk.shelf.has(name) for name in names)


def test_an_audit_whose_evidence_was_dropped_is_not_shown(desk: Desk) -> None:
    for name in desk.audit(MINE, 4):
        (folder_of(desk.folder, 4, MINE) / BLOBS / name).unlink()
    (folder_of(desk.folder, 4, MINE) / BLOBS).rmdir()
    assert desk.ask(MINE, 4).reason.startswith("no evidence")


def test_only_what_has_a_digest_for_a_name_is_handed_out(desk: Desk) -> None:
    names = desk.audit(MINE, 4)
    for name in ("opinions.jsonl", ".tmp-" + names[0], names[0] + ".pin"):
        (folder_of(desk.folder, 4, MINE) / BLOBS / name).write_bytes(b"secret")
    said = desk.ask(MINE)
    assert [blob.digest for blob in said.blobs] == names and said.total == len(names)


def test_pages_come_one_after_the_other_and_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dossiers, "PAGE", 2)
    names = desk.audit(MINE, 4, blobs=5)
    pages = [[blob.digest for blob in desk.ask(MINE, 4, after).blobs] for after in (0, 2, 4, 6, 10**9)]
    assert pages == [names[:2], names[2:4], names[4:], [], []]


def test_the_shelf_forgets_who_asked_long_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dossiers, "MAX_TOLD", 2)
    shelf = Shelf()
    for name in "abca":
        shelf.tell(name, tmp_path / name)
    assert [shelf.has(name) for name in "abc"] == [True, False, True]
    assert shelf.size("a") is None and shelf.open("a") is None and shelf.get("a") is None


# -- a miner that is told nonsense ------------------------------------------------------------------------------------


class Stub(BlobFetcher):
    """Has any bytes but those of `lacks`."""

    def __init__(self, lacks: str = "") -> None:
        super().__init__(1 << 20)
        self.lacks = lacks

    async def fetch(self, ref: BlobRef, ticket: str, label: str = "blob") -> bytes:
        if ref.digest == self.lacks:
            raise audit_fetch.FetchFailed(ref.digest, "gone", "missing")
        return b"bytes"


def take(out: Path, *replies: Dossier, lacks: str = "") -> tuple[int, Finding]:
    """Fetch from a validator that gives these replies, the last of them for ever."""
    told = list(replies)

    async def ask(synapse: Dossier) -> Dossier:
        return told.pop(0) if len(told) > 1 else told[0]

    return asyncio.run(audit_fetch.fetch(ask, -1, out, Stub(lacks)))


def page(*names: str, total: int = 1, nbytes: int = 5, finding: str = msgspec.json.encode(FAILED).decode()) -> Dossier:
    blobs = tuple(Blob(name, nbytes, (), "") for name in names)
    return Dossier(epoch=4, total=total, finding=finding, order=Blob(digest("order"), 5, (), ""), blobs=blobs)


def test_a_whole_dossier_is_written_down(tmp_path: Path) -> None:
    assert take(tmp_path / "out", page(digest("a"), total=2), page(digest("b"), total=2)) == (4, FAILED)
    assert {path.name for path in (tmp_path / "out" / BLOBS).iterdir()} == {digest("a"), digest("b")}
    assert (tmp_path / "out" / ORDER).is_file()


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a" * 63, ""])
def test_a_name_that_is_no_digest_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(NeuronError, match="no digest"):
        take(tmp_path / "out", page(name))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_bytes_that_cannot_be_had_leave_a_folder_without_an_order(tmp_path: Path) -> None:
    with pytest.raises(NeuronError, match="what is there is kept"):
        take(tmp_path / "out", page(digest("a"), digest("b"), total=2), lacks=digest("b"))
    assert not (tmp_path / "out" / ORDER).exists()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (page(digest("a"), total=10**9), "larger than"),
        (page(digest("a"), nbytes=audit_fetch.MAX_BYTES + 1), "larger than"),
        (page(total=3), "told of 0 blobs and has 3"),
        (page(digest("a"), finding="?"), "cannot be read"),
        (Dossier(reason="no audit of this hotkey"), "no audit of this hotkey"),
        (Dossier(), "another release"),
    ],
)
def test_a_validator_that_tells_nonsense_is_left_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Dossier, said: str
) -> None:
    monkeypatch.setattr(audit_fetch, "MAX_BLOBS", 8)
    with pytest.raises(NeuronError, match=said):
        take(tmp_path / "out", reply)
    assert not (tmp_path / "out" / ORDER).exists()
