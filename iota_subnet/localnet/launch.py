"""`iota localnet`: set up, start the same entry points an operator runs, watch, stop, sum up."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from iota_subnet.localnet.adversaries import flags, placed
from iota_subnet.localnet.drill import Drill
from iota_subnet.localnet.network import Network, Wan, free_port, listens
from iota_subnet.localnet.observe import Picture, fetch_status, look_at_chain
from iota_subnet.localnet.options import VALIDATORS_MAX, Options
from iota_subnet.localnet.processes import Child, Family
from iota_subnet.localnet.subnet import Subnet, called, create
from iota_subnet.localnet.summary import agreement, sentences, summarise
from iota_subnet.localnet.usage import Usage, idle_shares, merge_idle_shares
from iota_subnet.localnet.view import render
from iota_subnet.spec import RunSpec
from template.errors import BadSettings, NeuronError

#: Blocks per epoch of the chain: at 0.25 s a block, incentives follow the weights within seven seconds.
TEMPO = 24

#: Blocks between two looks at the metagraph, and between two settings of weights.
LOOK_BLOCKS = 8

#: Seconds after the last epoch that its held-out loss, its weights and the chain's epoch may take.
SETTLE_S = 120.0

ENTRY_POINTS = Path(__file__).resolve().parents[2] / "neurons"


#: What is kept of a run only when asked for.
KEPT = ("wallets", "state", *called(VALIDATORS_MAX))


class Stopped(Exception):
    """The user asked for an end."""


class Launcher:
    """One local run, from an empty folder to a summary."""

    def __init__(self, options: Options, console: Console) -> None:
        self.options = options
        self.console = console
        self.dir = options.run_dir or Path("runs") / time.strftime("localnet-%Y%m%d-%H%M%S")
        self.picture = Picture()
        self.names: dict[str, str] = {}
        self.validators: dict[str, str] = {}
        self._cheats = placed(options.adversaries, options.miners)
        self.kinds = {f"miner-{index}": adversary.kind for index, adversary in self._cheats.items()}
        self.note = "starting"
        self.began = time.monotonic()
        self.network = Network()
        self._processes: dict[str, Child] = {}
        self._commands: dict[str, Callable[[], Child]] = {}
        self._drill = Drill(options.faults, self._processes, self.restart, self.say)
        self._usage = Usage()
        self._status_port = 0
        self._train_began = 0.0
        self._train_ended = 0.0
        self._stop = False

    def run(self) -> dict[str, Any]:
        """The whole run; its summary. Raises NeuronError with what went wrong, Stopped on Ctrl-C."""
        spec = self.spec()
        left = [name for name in KEPT if (self.dir / name).exists()]
        if self.options.resume:
            for name in ("wallets", "state"):
                # They belong to a chain that is gone, and miners that hold nothing are as good as new ones.
                shutil.rmtree(self.dir / name, ignore_errors=True)
        elif left:
            # Its chain is gone, and with it the wallets' registrations: there is nothing to go on with.
            raise BadSettings(f"--run-dir {self.dir}: another run has left {left[0]} there; choose a new folder")
        logs = self.dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        (self.dir / "spec.json").write_text(spec.to_json(), encoding="utf-8")
        family = Family(logs)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            if self.options.link is not None:
                self._next(f"making {self.options.miners} links of {self.options.link}")
                self.network = Wan(self.options.link, self.options.miners, self.options.seed, self.dir, family)
            endpoint = self._start_chain(family)
            subnet = create(endpoint, self.dir / "wallets", self.options.miners, self._next, self.options.validators)
            self.names.update(subnet.names)
            self.validators.update(subnet.validators)
            self._start_neurons(family, endpoint, subnet.netuid)
            threading.Thread(target=self._watch_chain, args=(subnet,), daemon=True).start()
            self._watch()
        finally:
            self.say("stopping all processes")
            self._stop = True
            family.stop()
            link = self.network.figures()
            self.network.leave()
        summary = self._summary(link)
        self._write(summary)
        return summary

    def spec(self) -> RunSpec:
        """What is trained. Raises BadSettings."""
        return self.options.spec()

    def _summary(self, link: dict[str, Any] | None) -> dict[str, Any]:
        drill = self._drill
        wall_s, train_s = time.monotonic() - self.began, self._train_seconds()
        summary = summarise(self.picture, self.names, drill.killed, wall_s, train_s, self.kinds)
        summary["validator_recovery_seconds"] = drill.recoveries
        summary["frozen"] = drill.frozen
        summary["cpu_share"] = self._usage.shares(train_s)
        summary["idle_share"] = idle_shares(self.dir / "state")
        summary["merge_idle_share"] = merge_idle_shares(self.dir / "state", self.options.epochs)
        summary["link"] = link
        summary["validators"] = agreement(self.picture, self.validators)
        return summary

    # Setting up

    def _start_chain(self, family: Family) -> str:
        """The chain's endpoint, once it listens."""
        port, hub = free_port(self.network.hub), self.network.hub
        endpoint = f"ws://{hub}:{port}"
        self._next(f"starting the chain at {endpoint}")
        argv = [sys.executable, "-m", "template.localnet", "--host", hub, "--port", str(port), "--tempo", str(TEMPO)]
        child = family.start("chain", [*argv, "--block-time", str(self.options.block_time)])
        self._processes["chain"] = child
        self._until(lambda: listens(hub, port), 30.0, child, "the chain to listen")
        return endpoint

    def _start_neurons(self, family: Family, endpoint: str, netuid: int) -> None:
        self._status_port = free_port(self.network.hub)
        common = [
            "--netuid", str(netuid), "--wallet.path", str(self.dir / "wallets"),
            "--subtensor.chain_endpoint", endpoint, "--neuron.state_dir", str(self.dir / "state"),
            "--neuron.step_s", "1", "--neuron.epoch_length", str(LOOK_BLOCKS),
        ]  # fmt: skip
        page = f"the dashboard: http://{self.network.hub}:{self._status_port}/"
        self.console.print(page, markup=False, highlight=False, soft_wrap=True)
        for name in self.validators.values():
            self._next(f"starting {name}")
            self._commands[name] = partial(family.start, name, self._validator(name, common))
            self.restart(name)
        for index in range(self.options.miners):
            name = f"miner-{index}"
            self._next(f"starting {name}")
            argv = [*self.miner_program(index), *common, "--wallet.name", "miners", "--wallet.hotkey", name]
            argv += ["--axon.ip", self.network.address(index), "--axon.port", "0", "--blobs.port", "0"]
            # When all end at once there is nobody to drain for.
            argv += ["--work.drain_s", "0", *flags(self._cheats, index, list(self.names))]
            self._processes[name] = family.start(name, argv, netns=self.network.namespace(index))

    def _validator(self, name: str, common: list[str]) -> list[str]:
        """The first orchestrates, the others follow it."""
        argv = [
            *self.validator_program(name), *common, "--wallet.name", "validator", "--wallet.hotkey", name,
            "--axon.ip", self.network.hub, "--axon.port", str(free_port(self.network.hub)),
            "--run.dir", str(self.dir / name),
        ]  # fmt: skip
        if name != "validator":
            return [*argv, "--run.follow", "auto"]
        argv += ["--blobs.port", str(self._status_port), "--run.spec", str(self.dir / "spec.json")]
        return argv if self.options.init is None else [*argv, "--run.init", str(self.options.init.resolve())]

    def validator_program(self, name: str) -> list[str]:
        """What is run as that validator; who tries a lying one puts another in."""
        return [sys.executable, str(ENTRY_POINTS / "validator.py")]

    def miner_program(self, index: int) -> list[str]:
        """What is run as that miner; a test of bad miners puts another one in."""
        return [sys.executable, str(ENTRY_POINTS / "miner.py")]

    def restart(self, name: str) -> None:
        """Start a process in the place of one that is gone."""
        self._processes[name] = self._commands[name]()

    # Watching

    def _watch(self) -> None:
        live = Live(console=self.console, refresh_per_second=4, transient=False) if self.options.ui else None
        if live is not None:
            live.start()
        try:
            settled_at: int | None = None
            while True:
                self._check_stop()
                self._look()
                if self._train_began:
                    self._drill.act(time.monotonic() - self._train_began)
                if live is not None:
                    live.update(self._frame(self.console.width))
                status, view = self.picture.status, self.picture.view
                if status is None or view is None or not self._drill.over:
                    pass
                elif status["phase"] == "done" and self._is_written(status):
                    self.note = "waiting for the chain's own epoch"
                    settled_at = view.block if settled_at is None else settled_at
                    # One whole epoch after the weights, whenever the present one ends.
                    if view.block > settled_at + TEMPO + 1:
                        return
                if self._train_ended and self._drill.over and time.monotonic() > self._train_ended + SETTLE_S:
                    self.say(f"the last scores were not on chain after {SETTLE_S:.0f} s; see {self.dir / 'logs'}")
                    return
                time.sleep(0.4)
        finally:
            if live is not None:
                live.update(self._frame(self.console.width))
                live.stop()

    def _is_written(self, status: dict[str, Any]) -> bool:
        """Whether the last epoch was evaluated, all audits are answered, and the scores are weights on chain."""
        last = status["reports"][-1]
        if status["audits_open"]:
            return False
        return last["eval_loss"] is not None and last["weights_set"].startswith("block")

    def _look(self) -> None:
        status = fetch_status(self._status_port, self.network.hub)
        if status is not None:
            before = self.picture.status
            self.picture.take(status)
            if status["phase"] != "wait" and not self._train_began:
                self._train_began = time.monotonic()
            if status["phase"] == "done" and not self._train_ended:
                self._train_ended = time.monotonic()
            self._drill.note(status)
            if not self.options.ui:
                self._tell(before, status)
        for name, child in list(self._processes.items()):
            if child.alive:
                if self._train_began and not self._train_ended:
                    self._usage.look(name, child.process.pid)
            elif name not in self._drill.killed:
                self.ended(name, child)

    def ended(self, name: str, child: Child) -> None:
        """A process has ended that nobody killed: so does the run. Raises NeuronError."""
        raise NeuronError(f"{name} has ended; the end of {child.log}:\n{child.tail()}")

    def _tell(self, before: dict[str, Any] | None, status: dict[str, Any]) -> None:
        """One plain line for each change of phase or reason, and for each held-out loss."""
        if before is None or (before["phase"], before["epoch"]) != (status["phase"], status["epoch"]):
            self.say(f"epoch {status['epoch'] + 1}: {status['phase']} ({status['waiting_for']})")
        known = {report["epoch"] for report in (before or {"reports": []})["reports"] if report["eval_loss"]}
        for report in status["reports"]:
            if report["eval_loss"] and report["epoch"] not in known:
                held_out, train = report["eval_loss"], report["train_loss"]
                self.say(f"epoch {report['epoch'] + 1}: held-out loss {held_out:.3f}, train {train:.3f}")

    def _watch_chain(self, subnet: Subnet) -> None:
        while not self._stop:
            try:
                look_at_chain(subnet.chain, subnet.stage, subnet.netuid, list(subnet.validators), self.picture)
            except Exception as error:
                # The SDK has errors of many kinds; the next look may be better, and the run does not depend on it.
                self.note = f"the chain does not answer: {type(error).__name__}"
            time.sleep(1.0)

    def _frame(self, width: int) -> Any:
        return render(
            self.picture, self.names, set(self._drill.killed), time.monotonic() - self.began, self.note, width
        )

    # Help

    def _next(self, text: str) -> None:
        """The next step of setting up; between two of them Ctrl-C is heard."""
        self._check_stop()
        self.say(text)

    def say(self, text: str) -> None:
        """What is going on, for the view; printed as a line when there is no view."""
        self.note = text
        seconds = time.monotonic() - self.began
        if not self.options.ui or self._status_port == 0:
            self.console.print(f"[{seconds:6.1f} s] {text}", markup=False, highlight=False)

    def _train_seconds(self) -> float:
        if not self._train_began:
            return 0.0
        return (self._train_ended or time.monotonic()) - self._train_began

    def _until(self, truth: Callable[[], bool], seconds: float, child: Child, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not truth():
            self._check_stop()
            if not child.alive:
                raise NeuronError(f"{child.name} has ended; the end of {child.log}:\n{child.tail()}")
            if time.monotonic() > deadline:
                raise NeuronError(f"waited {seconds:.0f} s for {what}; see {child.log}")
            time.sleep(0.05)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop = True

    def _check_stop(self) -> None:
        if self._stop:
            raise Stopped

    def _write(self, summary: dict[str, Any]) -> None:
        text = json.dumps(summary, indent=2)
        (self.dir / "summary.json").write_text(text, encoding="utf-8")
        if self.options.json is not None:
            self.options.json.write_text(text, encoding="utf-8")
        if self.options.svg is not None:
            picture = Console(record=True, width=110, file=io.StringIO())
            picture.print(self._frame(110))
            picture.save_svg(str(self.options.svg), title="iota localnet")
        if not self.options.keep:
            for name in KEPT:
                shutil.rmtree(self.dir / name, ignore_errors=True)


def main(options: Options) -> int:
    """Run, print the summary; 0 for a complete run, 130 when interrupted."""
    console = Console()
    launcher = Launcher(options, console)
    try:
        summary = launcher.run()
    except Stopped:
        console.print("stopped; no process is left behind", highlight=False)
        if (launcher.dir / "validator").is_dir():
            line = f"go on with: iota localnet --resume {launcher.dir}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return 130
    for line in sentences(summary):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"summary and logs: {launcher.dir}", markup=False, highlight=False)
    return 0 if summary["complete"] else 1
