"""The validator as a neuron: what it says when it cannot start, and that nothing stops its clock in silence."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest

from iota_subnet.core.state import Phase
from iota_subnet.validator.ledger import LedgerError
from template.errors import BadSettings, NeuronError

from .kit import SMALL, small_spec, write_text
from .swarm import Swarm, swarm


async def refused(s: Swarm) -> str:
    """The one line with which the validator ends."""
    with pytest.raises(NeuronError) as caught:
        await asyncio.wait_for(s.tasks.pop(s.add_validator()), 15)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def alone(folder: Path) -> Swarm:
    return Swarm(folder, small_spec(write_text(folder / "text")))


async def test_a_taken_port_names_its_flag(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        s, port = alone(tmp_path), str(taken.getsockname()[1])
        flags = s.flags("validator")
        s.flags = lambda name: [*flags, "--blobs.port", port]  # type: ignore[method-assign]
        assert (await refused(s)).startswith("--blobs.port (BLOBS_PORT): ")
        s.flags = lambda name: [*flags, "--axon.port", port]  # type: ignore[method-assign]
        assert "--axon.port" in await refused(s)


async def test_a_store_that_the_model_does_not_fit_into_names_its_flag(tmp_path: Path) -> None:
    big = dataclasses.replace(SMALL, dim=256, ffn=512)
    s = Swarm(tmp_path, dataclasses.replace(small_spec(write_text(tmp_path / "text")), model=big))
    flags = s.flags("validator")
    s.flags = lambda name: [*flags, "--blobs.max_bytes", str(1 << 20)]  # type: ignore[method-assign]
    assert (await refused(s)).startswith("--blobs.max_bytes (BLOBS_MAX_BYTES): ")


async def test_a_run_directory_of_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=0) as s:
        await s.until(lambda: s.validator._service is not None and s.validator.gateway.opened)
        await s.crash(s.validator)
        (tmp_path / "spec.json").write_text(small_spec(s.spec.data.source, start_miners=1, epochs=5).to_json())
        line = await refused(s)
    assert line.startswith("--run.dir (RUN_DIR): ") and "swarm.epochs is 2 there, 5 here" in line


async def test_two_validators_on_one_run_directory_are_one_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iota_subnet.validator.ledger.LOCK_S", 0.05)
    async with swarm(tmp_path, miners=0) as s:
        await s.until(lambda: s.validator._service is not None and s.validator.gateway.opened)
        first = s.validator
        assert "in use by another validator" in await refused(s)
        s.validator = first
        await s.phase(Phase.WAIT)


async def test_text_that_is_not_there_names_its_flag(tmp_path: Path) -> None:
    s = Swarm(tmp_path, small_spec("text:/nowhere/*"))
    with pytest.raises(BadSettings, match=r"--run\.data \(RUN_DATA\): text:/nowhere"):
        await s.tasks.pop(s.add_validator())


async def test_a_ledger_that_cannot_be_written_ends_the_validator_loudly_and_room_made_in_time_saves_it(
    tmp_path: Path,
) -> None:
    async with swarm(tmp_path, miners=0) as s:
        up = s.validator
        await s.until(lambda: up._service is not None and up.gateway.opened)
        written = len(up.ledger)
        up.ledger._db.execute("PRAGMA query_only = ON")
        await s.until(lambda: up.failures >= 2)
        up.ledger._db.execute("PRAGMA query_only = OFF")
        await s.until(lambda: up.failures == 0 and len(up.ledger) > written)
        up.ledger._db.execute("PRAGMA query_only = ON")
        with pytest.raises(NeuronError, match=r"--run\.dir.*cannot be written.*make room"):
            await asyncio.wait_for(asyncio.shield(s.tasks[up]), 15)
        del s.tasks[up]
        with pytest.raises(LedgerError):
            up.ledger.head()


async def test_miners_are_let_in_only_when_the_run_has_begun(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=0) as s:
        up = s.validator
        await s.until(lambda: hasattr(up, "gateway"))
        while not up.gateway.opened:
            assert up.gateway.who(s.hotkey("validator")) is not None
            await asyncio.sleep(0)
        assert s.state.manifests and up.gateway.who(s.hotkey("validator")) is None
