"""`iota localnet`: set up, start the same entry points an operator runs, watch, stop, sum up."""

from __future__ import annotations

import io
import json
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from iota_subnet.localnet.observe import Picture, fetch_status, look_at_chain
from iota_subnet.localnet.options import Options
from iota_subnet.localnet.processes import Child, Family
from iota_subnet.localnet.summary import sentences, summarise
from iota_subnet.localnet.view import render
from template.errors import NeuronError
from template.staging import Stage, wallet_from_uri
from template.subtensor import SubtensorChain

#: Blocks per epoch of the chain: at 0.25 s a block, incentives follow the weights within seven seconds.
TEMPO = 24

#: The validator's stake. Paid miners hold stake too, and vote with nothing: with much less than this they would outvote
#: the validator within minutes.
STAKE_TAO = 20_000.0

#: Blocks between two looks at the metagraph, and between two settings of weights.
LOOK_BLOCKS = 8

#: Seconds after the last epoch that its held-out loss, its weights and the chain's epoch may take.
SETTLE_S = 120.0

ENTRY_POINTS = Path(__file__).resolve().parents[2] / "neurons"


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
        self.killed: list[str] = []
        self.note = "starting"
        self.began = time.monotonic()
        self._miners: list[Child] = []
        self._validator: Child | None = None
        self._kills: list[tuple[float, int | None]] = []
        self.recoveries: list[float] = []
        self._restarted_at = 0.0
        self._start_validator: Callable[[], Child] | None = None
        self._status_port = 0
        self._train_began = 0.0
        self._train_ended = 0.0
        self._stop = False

    def run(self) -> dict[str, Any]:
        """The whole run; its summary. Raises NeuronError with what went wrong, Stopped on Ctrl-C."""
        spec = self.options.spec()
        logs = self.dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        (self.dir / "spec.json").write_text(spec.to_json(), encoding="utf-8")
        family = Family(logs)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            endpoint, netuid, chain, stage = self._stage(family)
            self._start_neurons(family, endpoint, netuid)
            threading.Thread(target=self._watch_chain, args=(chain, stage, netuid), daemon=True).start()
            self._watch()
        finally:
            self.say("stopping all processes")
            family.stop()
        summary = summarise(self.picture, self.names, self.killed, time.monotonic() - self.began, self._train_seconds())
        summary["validator_recovery_seconds"] = self.recoveries
        self._write(summary)
        return summary

    # Setting up

    def _stage(self, family: Family) -> tuple[str, int, SubtensorChain, Stage]:
        """Chain, wallets, subnet, registrations, stake."""
        port = free_port()
        endpoint = f"ws://127.0.0.1:{port}"
        self._next(f"starting the chain at {endpoint}")
        argv = [sys.executable, "-m", "template.localnet", "--port", str(port), "--tempo", str(TEMPO)]
        child = family.start("chain", [*argv, "--block-time", str(self.options.block_time)])
        self._until(lambda: listens(port), 30.0, child, "the chain to listen")
        stage = Stage(endpoint)
        wallets = self.dir / "wallets"
        alice = wallet_from_uri(wallets, "faucet", "none", "//Alice")
        owner = wallet_from_uri(wallets, "owner", "owner", "//Owner")
        validator = wallet_from_uri(wallets, "validator", "validator", "//Validator")
        miners = [wallet_from_uri(wallets, "miners", f"miner-{i}", "//Miners") for i in range(self.options.miners)]
        for name, wallet, tao in (
            ("owner", owner, 5_000.0),
            ("validator", validator, STAKE_TAO + 1_000.0),
            ("miners", miners[0], 5_000.0),
        ):
            self._next(f"funding {name}")
            stage.fund(alice, wallet.coldkeypub.ss58_address, tao)
        self._next("creating the subnet")
        netuid = stage.create_subnet(owner)
        self._next(f"registering the validator on subnet {netuid}")
        stage.register(validator, netuid)
        stage.stake(validator, netuid, STAKE_TAO)
        for wallet in miners:
            self._next(f"registering {wallet.hotkey_str} on subnet {netuid}")
            stage.register(wallet, netuid)
            self.names[wallet.hotkey.ss58_address] = wallet.hotkey_str
        return endpoint, netuid, SubtensorChain(validator, endpoint, 15.0), stage

    def _start_neurons(self, family: Family, endpoint: str, netuid: int) -> None:
        self._status_port = free_port()
        common = [
            "--netuid", str(netuid), "--wallet.path", str(self.dir / "wallets"), "--axon.ip", "127.0.0.1",
            "--subtensor.chain_endpoint", endpoint, "--neuron.state_dir", str(self.dir / "state"),
            "--neuron.step_s", "1", "--neuron.epoch_length", str(LOOK_BLOCKS),
        ]  # fmt: skip
        self._next("starting the validator")
        validator = [
            sys.executable, str(ENTRY_POINTS / "validator.py"), *common, "--wallet.name", "validator",
            "--wallet.hotkey", "validator", "--axon.port", str(free_port()), "--blobs.port", str(self._status_port),
            "--run.spec", str(self.dir / "spec.json"), "--run.dir", str(self.dir / "validator"),
        ]  # fmt: skip
        self._start_validator = lambda: family.start("validator", validator)
        self._validator = self._start_validator()
        for index in range(self.options.miners):
            self._next(f"starting miner-{index}")
            argv = [sys.executable, str(ENTRY_POINTS / "miner.py"), *common, "--wallet.name", "miners"]
            ports = [
                "--wallet.hotkey",
                f"miner-{index}",
                "--axon.port",
                "0",
                "--blobs.port",
                "0",
                "--work.drain_s",
                "0",
            ]
            self._miners.append(family.start(f"miner-{index}", [*argv, *ports]))

    # Watching

    def _watch(self) -> None:
        live = Live(console=self.console, refresh_per_second=4, transient=False) if self.options.ui else None
        if live is not None:
            live.start()
        try:
            settled_at: int | None = None
            while True:
                self._check_stop()
                self._kill_due()
                self._look()
                if live is not None:
                    live.update(self._frame(self.console.width))
                status, view = self.picture.status, self.picture.view
                if status is not None and status["phase"] == "done" and view is not None and self._is_written(status):
                    self.note = "waiting for the chain's own epoch"
                    settled_at = view.block if settled_at is None else settled_at
                    # One whole epoch after the weights, whenever the present one ends.
                    if view.block > settled_at + TEMPO + 1:
                        return
                if self._train_ended and time.monotonic() > self._train_ended + SETTLE_S:
                    self.say(f"the last scores were not on chain after {SETTLE_S:.0f} s; see {self.dir / 'logs'}")
                    return
                time.sleep(0.4)
        finally:
            if live is not None:
                live.update(self._frame(self.console.width))
                live.stop()

    def _is_written(self, status: dict[str, Any]) -> bool:
        """Whether the last epoch was evaluated, and its scores are weights on chain."""
        last = status["reports"][-1]
        return last["eval_loss"] is not None and last["weights_set"].startswith("block")

    def _look(self) -> None:
        status = fetch_status(self._status_port)
        if status is not None:
            before = self.picture.status
            self.picture.take(status)
            if status["phase"] != "wait" and not self._train_began:
                self._train_began = time.monotonic()
                due = [(self._train_began + after, miner) for after, miner in self.options.kills]
                self._kills = sorted(due, key=lambda kill: kill[0])
            if status["phase"] == "done" and not self._train_ended:
                self._train_ended = time.monotonic()
            self._note_recovery(status)
            if not self.options.ui:
                self._tell(before, status)
        assert self._validator is not None
        if not self._validator.alive:
            raise NeuronError(f"the validator has ended; the end of {self._validator.log}:\n{self._validator.tail()}")
        for child in self._miners:
            if not child.alive and child.name not in self.killed:
                raise NeuronError(f"{child.name} has ended; the end of {child.log}:\n{child.tail()}")

    def _tell(self, before: dict[str, Any] | None, status: dict[str, Any]) -> None:
        """One plain line for each change of phase or reason, and for each held-out loss."""
        if before is None or (before["phase"], before["epoch"]) != (status["phase"], status["epoch"]):
            self.say(f"epoch {status['epoch'] + 1}: {status['phase']} ({status['waiting_for']})")
        known = {report["epoch"] for report in (before or {"reports": []})["reports"] if report["eval_loss"]}
        for report in status["reports"]:
            if report["eval_loss"] and report["epoch"] not in known:
                held_out, train = report["eval_loss"], report["train_loss"]
                self.say(f"epoch {report['epoch'] + 1}: held-out loss {held_out:.3f}, train {train:.3f}")

    def _kill_due(self) -> None:
        while self._kills and time.monotonic() >= self._kills[0][0]:
            _, miner = self._kills.pop(0)
            if miner is None:
                self._restart_validator()
                continue
            child = self._miners[miner]
            self.killed.append(child.name)
            child.send(signal.SIGKILL)
            self.say(f"killed {child.name} with SIGKILL")

    def _watch_chain(self, chain: SubtensorChain, stage: Stage, netuid: int) -> None:
        while not self._stop:
            try:
                look_at_chain(chain, stage, netuid, self.picture)
            except Exception as error:
                # The SDK has errors of many kinds; the next look may be better, and the run does not depend on it.
                self.note = f"the chain does not answer: {type(error).__name__}"
            time.sleep(1.0)

    def _restart_validator(self) -> None:
        """kill -9, and a new process on the same run directory at once, as pm2 would."""
        assert self._validator is not None and self._start_validator is not None
        self._validator.send(signal.SIGKILL)
        self._validator.process.wait()
        self._restarted_at = time.monotonic()
        self._validator = self._start_validator()
        self.say("killed the validator with SIGKILL and started it again")

    def _note_recovery(self, status: dict[str, Any]) -> None:
        """Seconds from a restart of the validator to the first lease in a connected miner's hands."""
        if self._restarted_at and any(row["connected"] and row["leases"] for row in status["miners"]):
            self.recoveries.append(round(time.monotonic() - self._restarted_at, 2))
            self._restarted_at = 0.0

    def _frame(self, width: int) -> Any:
        return render(self.picture, self.names, set(self.killed), time.monotonic() - self.began, self.note, width)

    # Help

    def _next(self, text: str) -> None:
        """The next step of setting up; between two of them Ctrl-C is heard."""
        self._check_stop()
        self.say(text)

    def say(self, text: str) -> None:
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
            for name in ("wallets", "state", "validator"):
                shutil.rmtree(self.dir / name, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def main(options: Options) -> int:
    """Run, print the summary; 0 for a complete run, 130 when interrupted."""
    console = Console()
    launcher = Launcher(options, console)
    try:
        summary = launcher.run()
    except Stopped:
        console.print("stopped; no process is left behind", highlight=False)
        return 130
    for line in sentences(summary):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"summary and logs: {launcher.dir}", markup=False, highlight=False)
    return 0 if summary["complete"] else 1
