"""A swarm of the simulator behind the real page: the real core, scripted miners, losses that fall.

    python scripts/pretend.py [--miners 24] [--stages 4] [--epochs 0] [--batches 400] [--port 8099] [--speed 1]

For looking at the page, and for its checks: `page_checks.py` measures it with 1,000 miners. Nothing is trained; the
simulated clock follows the real one, `--speed` times as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import math
import sys
import time
from hashlib import blake2b
from pathlib import Path
from random import Random

from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iota_subnet.core.state import Phase, RunState
from iota_subnet.dashboard.hub import Hub
from iota_subnet.dashboard.server import Dashboard
from iota_subnet.sim.plans import Plan, Trait
from iota_subnet.sim.world import World
from iota_subnet.validator.standing import standing
from iota_subnet.validator.status import snapshot
from template.chain import MetagraphView, NeuronView

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

#: Simulated seconds that are played before the first look.
HEAD_START_S = 5.0

#: Real seconds between two steps of the world.
STEP_S = 0.1


class PretendSwarm:
    """A world whose losses fall as those of a training do, with a chain that pays by score."""

    def __init__(
        self, miners: int, stages: int, epochs: int, batches: int, seed: int = 1, speed: float = 1.0, pace: float = 0.4
    ) -> None:
        rng = Random(seed)
        traits = {number: Trait(seconds=pace * rng.uniform(0.6, 2.0)) for number in range(miners)}
        swarm = {"epochs": epochs, "epoch_batches": batches, "start_miners": miners, "max_miners": max(256, miners)}
        plan = Plan(seed, stages=stages, miners=miners, epochs=epochs, traits=traits, swarm=swarm)
        plan = dataclasses.replace(plan, latest_s=math.inf)
        self.world = World(plan, check=1_000_000_000)
        self.speed = speed
        self._rng = rng
        self._done = 0
        self._paid: tuple[int, MetagraphView] | None = None
        self.world.start()
        self.play(HEAD_START_S)

    @property
    def state(self) -> RunState:
        return self.world.orchestrator.state

    def clock(self) -> float:
        return self.world.now

    def play(self, until: float) -> None:
        """Let all happen that happens before `until` simulated seconds."""
        while self.world.heap and self.world.heap[0][0] <= until and self.state.phase is not Phase.DONE:
            self.world.step()
            self._falling()
        self.world.now = max(self.world.now, until)

    def _falling(self) -> None:
        """The simulator's losses say nothing: put in those of a training."""
        samples = self.state.samples
        if self.state.phase is Phase.TRAIN and len(samples) > self._done:
            total = sum(report.microbatches for report in self.state.reports)
            for index in range(self._done, len(samples)):
                loss = 1.9 + 3.6 * math.exp(-total / 160) + 0.5 * math.exp(-total / 1500) + self._rng.gauss(0, 0.06)
                samples[index] = dataclasses.replace(samples[index], loss=loss)
        self._done = len(samples)
        if self.state.first_eval_loss == 3.0:
            self.state.first_eval_loss = 6.0
        for report in self.state.reports[-3:]:
            if report.eval_loss == 3.0 and report.train_loss is not None:
                report.eval_loss = report.train_loss - 0.05

    def chain(self) -> MetagraphView:
        """Incentive by score, renewed with each epoch."""
        if self._paid is None or self._paid[0] != len(self.state.reports):
            self._paid = len(self.state.reports), self._pay()
        return self._paid[1]

    def _pay(self) -> MetagraphView:
        scores = next((report.scores for report in reversed(self.state.reports) if report.scores), {})
        total = sum(scores.values()) or 1.0
        neurons = tuple(
            NeuronView(
                uid, hotkey, "cold", 10.0, False, True, 0, scores.get(hotkey, 0.0) / total, 0.0,
                148.0 * scores.get(hotkey, 0.0) / total, "127.0.0.1", 1,
            )
            for uid, hotkey in enumerate(sorted(self.world.miners))
        )  # fmt: skip
        return MetagraphView(1, 1000 + 12 * len(self.state.reports), neurons, "owner")

    def dashboard(self) -> Dashboard:
        """The real one."""
        return Dashboard(
            lambda: self.state, self.chain, self.clock,
            lambda hotkey: standing(self.state, hotkey, self.clock()), address("validator"), 1,
        )  # fmt: skip

    async def live(self) -> None:
        """Follow the real clock."""
        offset = time.monotonic() * self.speed - self.world.now
        while True:
            self.play(time.monotonic() * self.speed - offset)
            await asyncio.sleep(STEP_S)


def address(name: str) -> str:
    """What looks like a hotkey."""
    raw = blake2b(name.encode(), digest_size=46).digest()
    return "5" + "".join(ALPHABET[byte % len(ALPHABET)] for byte in raw) + "x"


async def serve(swarm: PretendSwarm, port: int, started: asyncio.Future[Hub] | None = None) -> None:
    """Until it is cancelled; `started` is told the hub."""
    page = swarm.dashboard()

    async def status(request: web.Request) -> web.Response:
        return web.json_response(snapshot(swarm.state, swarm.clock()))

    app = web.Application()
    app.add_routes([*page.routes(), web.get("/v1/status", status)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    page.hub.start()
    if started is not None:
        started.set_result(page.hub)
    try:
        await swarm.live()
    finally:
        await page.hub.close()
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miners", type=int, default=24)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--pace", type=float, default=0.4, help="seconds that a forward pass takes, about")
    o = parser.parse_args()
    swarm = PretendSwarm(o.miners, o.stages, o.epochs, o.batches, speed=o.speed, pace=o.pace)
    print(f"http://127.0.0.1:{o.port}/", flush=True)
    try:
        asyncio.run(serve(swarm, o.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
