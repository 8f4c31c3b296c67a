"""The run loop. The first five tests are the defects of the official template, one each."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from loguru import logger

from template.base import BaseMinerNeuron, BaseNeuron, BaseValidatorNeuron
from template.chain import WeightsResult
from template.errors import BadSettings, ChainUnreachable, NeuronError, NoSuchSubnet, NotRegistered


class Scripted(BaseValidatorNeuron):
    """Plays a list: an exception is raised, "stop" stops, anything else is a good step."""

    script: tuple[object, ...] = ("stop",)
    results: tuple = ()

    async def step(self) -> None:
        index = getattr(self, "_played", 0)
        self._played = index + 1
        act = self.script[min(index, len(self.script) - 1)]
        if isinstance(act, Exception):
            raise act
        if act == "stop":
            self.stop()

    async def on_weights_set(self, result) -> None:
        self.results = (*self.results, result)


@pytest.fixture
def messages():
    """What is logged, as (level, text)."""
    seen: list[tuple[str, str]] = []
    number = logger.add(lambda m: seen.append((m.record["level"].name, m.record["message"])), level="TRACE")
    yield seen
    logger.remove(number)


@pytest.fixture
def make(settings, chain_of, wallets):
    def build(*flags: str, who: str = "Bob", kind: type[BaseNeuron] = Scripted, script: tuple = ("stop",)):
        neuron = kind(settings(*flags), chain_of(who), wallets[who])
        neuron.script = script  # type: ignore[attr-defined]
        return neuron

    return build


async def test_defect_1_a_restart_does_not_zero_the_saved_scores(make):
    first = make(script=("work", "stop"))
    first.scores = {"x": 0.5, "y": 0.3}
    await first.run()
    again = make()
    assert again.scores == {"x": 0.5, "y": 0.3} and again.steps == 2
    before = again.settings.state_path.read_bytes()
    await again.check_registered()
    await again.resync_metagraph()
    await again.sync()
    assert again.settings.state_path.read_bytes() == before  # only a finished step writes


async def test_defect_2_one_exception_does_not_end_the_loop(make, messages):
    neuron = make(script=(ValueError("odd"), ValueError("odd"), "work", "stop"))
    await neuron.run()
    assert neuron.steps == 2 and neuron.failures == 0
    assert [text for level, text in messages if level == "ERROR"] == ["step failed: ValueError: odd"]
    assert ("INFO", "working again after 2 failed steps") in messages


async def test_defect_2_too_many_failures_stop_loudly(make):
    neuron = make("--neuron.failures_max", "3", script=(ValueError("odd"),))
    with pytest.raises(RuntimeError, match="3 steps failed in a row, the last with ValueError: odd"):
        await neuron.run()
    assert not neuron.settings.state_path.exists()  # no step was ever finished


def test_defect_3_an_unknown_hotkey_is_refused_not_a_value_error(settings, chain_of, wallets, address):
    class Miner(BaseMinerNeuron):
        async def step(self) -> None: ...

    miner = Miner(settings(), chain_of("Charlie"), wallets["Charlie"])
    assert "starting" in miner.who(address["Bob"])
    miner.view = miner.chain.metagraph(1)
    assert miner.who(address["Bob"]) is None
    assert "not registered in subnet 1" in miner.who(address["Dave"])
    assert "no validator permit" in miner.who(address["Alice"])
    assert miner.who("") is not None
    rich = Miner(settings("--blacklist.min_stake", "5000"), chain_of("Charlie"), wallets["Charlie"])
    rich.view = miner.view
    assert rich.who(address["Bob"]) == "stake 1000 is below the 5000 that this miner asks for"


async def test_defect_4_sync_is_due_by_our_own_last_sync(make, ledger):
    neuron = make("--neuron.epoch_length", "10")
    ledger.advance(1000)  # last_update of a neuron that never set weights is now long ago
    calls = []
    read = neuron.chain.metagraph
    neuron.chain.metagraph = lambda netuid: calls.append(netuid) or read(netuid)
    for _ in range(50):
        await neuron.sync()
    assert len(calls) == 1
    ledger.advance(9)
    await neuron.sync()
    assert len(calls) == 1
    ledger.advance(1)
    await neuron.sync()
    assert len(calls) == 2
    ledger.block = 5  # the chain began anew
    await neuron.sync()
    assert len(calls) == 3


def test_defect_5_the_tests_themselves_run():
    """The official tests all fail in setUp. Ours exist, are collected by name, and none touches sys.argv."""
    for path in Path(__file__).parent.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert any(name.startswith("test_") for name in names), path
        uses = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "argv"]
        assert not uses, path


async def test_not_registered_names_the_command(make):
    neuron = make("--wallet.name", "w", "--wallet.hotkey", "h", "--subtensor.network", "test", who="Dave")
    with pytest.raises(NotRegistered) as caught:
        await neuron.run()
    command = "btcli subnets register --netuid 1 --wallet.name w --wallet.hotkey h --network test"
    assert caught.value.command == command and command in str(caught.value)


async def test_no_such_subnet(make):
    with pytest.raises(NoSuchSubnet, match="subnet 9"):
        await make("--netuid", "9").run()


async def test_being_dropped_from_the_subnet_ends_the_run(make, ledger, address):
    neuron = make("--neuron.epoch_length", "1", script=("work", "work", "work"))

    async def step() -> None:
        ledger.subnet(1).neurons.pop(1)
        ledger.advance()

    neuron.step = step
    with pytest.raises(NotRegistered):
        await neuron.run()


async def test_work_goes_on_while_the_chain_is_away(make, ledger, messages):
    neuron = make("--neuron.failures_max", "2", "--neuron.epoch_length", "1")
    done = []

    async def step() -> None:
        ledger.online = len(done) >= 5
        done.append(1)
        if len(done) == 8:
            neuron.stop()

    neuron.step = step
    await neuron.run()
    assert neuron.steps == 8 and neuron.failures == 0
    assert len([text for level, text in messages if level == "WARNING" and "no usable answer" in text]) == 1


async def test_a_neuron_error_in_every_step_surfaces_as_itself(make):
    neuron = make("--neuron.failures_max", "2", script=(ChainUnreachable("ws://x"),))
    with pytest.raises(ChainUnreachable):
        await neuron.run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_after_the_step(make, number):
    before = signal.signal(number, signal.SIG_DFL)  # where the tests run under nohup, SIGHUP is ignored
    neuron = make(script=("work",))

    async def step() -> None:
        if neuron.steps == 0:  # once only: the second signal is meant to kill
            os.kill(os.getpid(), number)

    neuron.step = step
    try:
        await asyncio.wait_for(neuron.run(), 30)
    finally:
        signal.signal(number, before)
    assert neuron.stopping and neuron.steps >= 1


async def test_on_stop_runs_after_an_error_too(make):
    neuron = make("--neuron.failures_max", "1", script=(ValueError("x"),))
    closed = []

    async def on_stop() -> None:
        closed.append(True)

    neuron.on_stop = on_stop
    with pytest.raises(RuntimeError):
        await neuron.run()
    assert closed == [True]


@pytest.mark.parametrize(
    ("content", "says"),
    [("{", "cannot be read"), ("[]", "cannot be read"), ('{"version": 1}', "cannot be read")],
)
def test_a_broken_state_file_is_kept_and_named(make, content, says):
    path = make().settings.state_path
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(NeuronError, match=says):
        make()
    assert path.read_text() == content


async def test_state_of_another_version_or_hotkey_is_refused(make):
    neuron = make()
    await neuron.run()
    path = neuron.settings.state_path
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"version": 99}))
    with pytest.raises(NeuronError, match="version 99"):
        make()
    path.write_text(json.dumps(document | {"hotkey": "other"}))
    with pytest.raises(NeuronError, match="belongs to hotkey other"):
        make()


async def test_a_crash_while_saving_leaves_the_old_state(make, monkeypatch):
    neuron = make()
    neuron.scores = {"x": 1.0}
    neuron.save_state()

    def crash(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("template.base.neuron.json.dump", crash)
    neuron.scores = {}
    with pytest.raises(OSError):
        neuron.save_state()
    monkeypatch.undo()
    assert json.loads(neuron.settings.state_path.read_text())["state"]["scores"] == {"x": 1.0}


async def test_weights_are_set_when_due_and_only_then(make, ledger, address):
    neuron = make("--neuron.epoch_length", "10")
    await neuron.resync_metagraph()
    ledger.advance(100)
    assert not neuron.should_set_weights(ledger.block)  # no scores yet
    neuron.scores = {address["Charlie"]: 2.0, address["Dave"]: 9.0}
    assert neuron.should_set_weights(ledger.block)
    await neuron.sync()
    assert ledger.weights_of(1, address["Bob"]) == {2: 65535} and neuron.results[-1].ok
    assert not neuron.should_set_weights(ledger.advance(9))
    assert neuron.should_set_weights(ledger.advance(1))


async def test_the_chain_s_rate_limit_is_honoured(make, ledger, address):
    ledger.subnet(1).weights_rate_limit = 50
    neuron = make("--neuron.epoch_length", "1")
    neuron.scores = {address["Charlie"]: 1.0}
    await neuron.resync_metagraph()
    assert not neuron.should_set_weights(ledger.advance(50))
    assert neuron.should_set_weights(ledger.advance(1))


async def test_a_refused_weight_setting_is_reported_and_not_hammered(make, ledger, address):
    neuron = make("--neuron.epoch_length", "100")
    neuron.scores = {address["Charlie"]: 1.0}
    await neuron.resync_metagraph()
    ledger.advance(200)
    neuron.chain.set_weights = lambda *_: WeightsResult(False, "the chain says no")
    await neuron.sync()
    assert [result.message for result in neuron.results] == ["the chain says no"]
    assert not neuron.should_set_weights(ledger.advance(9))
    assert neuron.should_set_weights(ledger.advance(1))


async def test_scores_follow_the_hotkey_when_its_uid_changes_hands(make, ledger, address):
    neuron = make("--neuron.epoch_length", "1")
    neuron.scores = {address["Charlie"]: 1.0}
    await neuron.resync_metagraph()
    ledger.subnet(1).max_uids = 3
    ledger.register(1, address["Dave"])  # takes Charlie's uid after our last sync
    ledger.advance(20)
    result = await neuron.set_weights()
    assert not result.ok and "none of the scored hotkeys" in result.message


async def test_announce_axon_once(make, ledger, address):
    neuron = make("--axon.ip", "127.0.0.1")
    await neuron.resync_metagraph()
    await neuron.announce_axon(9999)
    own = neuron.chain.metagraph(1).by_hotkey(address["Bob"])
    assert (own.ip, own.port) == ("127.0.0.1", 9999) and own.is_serving
    with pytest.raises(BadSettings):
        await make("--axon.ip", "0.0.0.0").announce_axon(1)
