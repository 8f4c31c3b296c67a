"""Neurons at work, asked by `iota status`; and what they leave behind when they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from iota_subnet.status.find import Neuron, find
from iota_subnet.statusfile import read_status
from tests.validator.swarm import Swarm, swarm


async def look(s: Swarm) -> dict[str, Neuron]:
    # In a thread: the validator that it asks lives on this loop.
    found = await asyncio.to_thread(find, s.folder / "state", None, None, None)
    return {neuron.document["wallet_hotkey"]: neuron for neuron in found}


async def test_every_neuron_of_a_run_is_found_and_tells_the_same_run(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=3) as s:
        state = await s.finished()
        for miner in s.miners.values():
            up = miner.reporter
            await s.until(lambda up=up: up.report is not None and up.report.closed == 1 and up.report.weights)
            up.soon()
        neurons = await look(s)
        assert list(neurons) == ["validator", "miner-0", "miner-1", "miner-2"]
        assert all(neuron.problem == "" for neuron in neurons.values())
        run = neurons["validator"].run
        assert run is not None and run["phase"] == "done"
        for name, miner in s.miners.items():
            document = read_status(miner.status.path)
            assert document["hotkey"] == miner.hotkey and document["leases_done"] == miner.worker.done > 0
            assert document["standing"]["score"] > 0 and len(document["standing"]["parts"]) == 2
            assert abs(document["standing"]["score"] - run["scores"][miner.hotkey]) < 1e-3
            shares = [document[f"{kind}_share"] for kind in ("compute", "fetch", "idle")]
            assert abs(sum(shares) - 1) < 0.001 and shares[0] > 0
            assert sum(counts["done"] for counts in document["epochs"].values()) == miner.worker.done
            assert miner.record.of(0)["refused"] == 0, name
        assert state.reports[-1].weights_set
        leaving = s.miners["miner-2"]
        leaving.stop()
        await asyncio.wait_for(s.tasks.pop(leaving), 10)
        gone = (await look(s))["miner-2"]
        assert gone.problem.startswith("not running: it stopped")


async def test_a_miner_in_the_line_knows_its_place(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=2, max_miners=2, epochs=0) as s:
        await s.until(lambda: s.validator._service is not None and len(s.state.miners) == 2)
        late = s.add_miner("late")
        await s.until(lambda: (r := late.reporter.report) is not None and r.place is not None)
        assert late.reporter.report is not None and late.reporter.report.seat is None
        late.status.write()
        neuron = (await look(s))["late"]
        assert neuron.problem and neuron.document["standing"]["place"]["number"] == 1
