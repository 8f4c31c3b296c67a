"""A real validator with real miners: its page, its stream, and the metrics of both kinds of neuron."""

from __future__ import annotations

from pathlib import Path

from aiohttp import ClientSession

from tests.validator.swarm import swarm

from .kit import Reader, heard

POLICY = "Content-Security-Policy"


async def test_a_validator_serves_its_run_and_every_neuron_its_metrics(tmp_path: Path) -> None:
    async with swarm(tmp_path, miners=3) as s, ClientSession() as client:
        await s.until(lambda: s.validator._service is not None and len(s.state.miners) == 3)
        url, reader = s.validator.server.url, Reader()
        async with client.get(f"{url}/") as answer:
            assert answer.status == 200 and "dashboard.js" in await answer.text()
        async with client.get(f"{url}/v1/stream") as stream:
            await stream.content.readuntil(b"\n\n")
            reader.take(heard(await stream.content.readuntil(b"\n\n")))
            # The curve is of closed spans of time: its first point may come after the first microbatch.
            while not (reader.seen["all"]["points"] and len(reader.seen["rows"]) == 3):
                message = await stream.content.readuntil(b"\n\n")
                if not message.startswith(b":"):
                    reader.take(heard(message))
        assert {row[0] for row in reader.seen["rows"].values()} == {miner.hotkey for miner in s.miners.values()}
        assert reader.seen["all"]["points"] and reader.seen["run"]["params"] == list(s.state.sizes)
        hotkey = next(iter(s.miners.values())).hotkey
        async with client.get(f"{url}/v1/miners/{hotkey}") as answer:
            assert (await answer.json())["report"]["seat"]["stage"] == s.state.miners[hotkey].stage
        async with client.get(f"{s.validator.local.url}metrics") as answer:
            assert f'iota_run_info{{preset="{s.state.spec.model.preset}"' in await answer.text()
        for miner in s.miners.values():
            async with client.get(f"{miner.local.url}metrics") as answer:
                assert "iota_connected 1.0" in await answer.text()
            async with client.get(f"{miner.local.url}v1/own") as answer:
                assert (await answer.json())["hotkey"] == miner.hotkey
            async with client.get(miner.local.url) as answer:
                assert "own.js" in await answer.text() and "default-src 'none'" in answer.headers[POLICY]
