"""docs/localnet.md from an empty home directory: its commands in their order, with the real btcli, and their figures.

MEV protection and safe staking are left at btcli's defaults. Blocks are made on demand, so that the figures are exact
however slow the machine is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from localnet_process import ROOT, Btcli, needs_btcli, running

from template.localnet import main
from template.localnet.client import LocalClient, keypair

GUIDE = (ROOT / "docs" / "localnet.md").read_text()
COMMANDS = re.findall(r"^\$ ((?:btcli|iota faucet|iota chain advance) .*)$", GUIDE, re.MULTILINE)
ENDPOINT = "ws://127.0.0.1:9944"
ALICE, EVE = keypair("//Alice"), keypair("//Eve")
TAO = 10**9
TEMPO = 200  # nobody earns before the epochs at the end

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), needs_btcli]


class Operator:
    """The reader of the guide, who owns //Alice; `paid` is what left her account since it was asked last."""

    def __init__(self, home: Path, endpoint: str) -> None:
        self.btcli, self.endpoint = Btcli(home), endpoint
        self.wallets = str(home / ".bittensor" / "wallets")
        self.chain = LocalClient(endpoint)
        self._free = self.free()

    def free(self) -> int:
        return self.chain.free_balance(bytes(ALICE.public_key))

    def paid(self) -> int:
        before, self._free = self._free, self.free()
        return before - self._free

    def run(self, command: str) -> Any:
        """Output of a command as the guide writes it; that of one in AS_JSON decoded."""
        program, *words = shlex.split(command.replace(ENDPOINT, self.endpoint), comments=True)
        if program == "iota":  # `iota faucet` and `iota chain advance` are these of the package
            words = [word.replace("ADDRESS", EVE.ss58_address) for word in words if word != "chain"]
            assert main([*words, "--endpoint", self.endpoint]) == 0, command
            return ""
        if " ".join(words[:2]) in AS_JSON:
            return self.btcli.json(*words, answers=typed(words))
        return self.btcli.text(*words, answers=typed(words))


def typed(words: list[str]) -> str:
    """What a reader answers: the default for names and paths, and yes to what costs."""
    if words[:2] == ["subnets", "create"]:
        return "\n" * 7 + "y\n" * 20
    return ("\n" * 20 if words[0] == "wallet" and words[1] != "transfer" else "") + "y\n" * 20


def check_wallets(operator: Operator, output: str) -> None:
    assert all(name in output for name in ("owner", "validator", "miner"))


def check_balance(operator: Operator, output: Any) -> None:
    assert float(output["balances"]["owner"]["free"]) == pytest.approx(operator.free() / TAO, abs=1e-4)
    assert 100 * TAO < operator.paid() < 100.001 * TAO, "the faucet takes it from //Alice"


def check_transfer(operator: Operator, output: str) -> None:
    assert 10 * TAO < operator.paid() < 10.001 * TAO
    assert operator.chain.free_balance(bytes(EVE.public_key)) == 1_000_110 * TAO


def check_burn_cost(operator: Operator, output: Any) -> None:
    assert output["burn_cost"]["tao"] == 100


def check_created(operator: Operator, output: str) -> None:
    assert "netuid: 1" in output
    assert operator.paid() == 100 * TAO, "and no fee"


def check_listed(operator: Operator, output: Any) -> None:
    assert output["subnets"]["1"]["subnet_name"] == "mine"
    assert output["subnets"]["1"]["tempo"]["sn_tempo"] == TEMPO


def check_hyperparameters(operator: Operator, output: Any) -> None:
    now = {item["hyperparameter"]: item["value"] for item in output}
    assert (now["immunity_period"], now["tempo"]) == (100, TEMPO), "the first was set a command before"
    assert operator.paid() == 0, "starting and setting cost nothing"


def check_registered(operator: Operator, output: str) -> None:
    assert "UID 1" in output
    assert operator.paid() == TAO // 10, "the burn, and no fee"


def check_staked(operator: Operator, output: str) -> None:
    assert 100 * TAO < operator.paid() < 100.01 * TAO


def staked(output: Any) -> float:
    (stakes,) = output["stake_info"].values()
    return sum(float(item["stake_value"]) for item in stakes if item["netuid"] == 1)


def check_stakes(operator: Operator, output: Any) -> None:
    assert 95 < staked(output) < 105, "alpha at a price near 1"


def check_metagraph(operator: Operator, output: str) -> None:
    assert "Subnet 1: mine" in output


def check_overview(operator: Operator, output: Any) -> None:
    assert output["total_balance"] == pytest.approx(operator.free() / TAO, abs=1e-4)


CHECKS: dict[str, Callable[[Operator, Any], None]] = {
    "wallet list": check_wallets,
    "wallet balance": check_balance,
    "wallet transfer": check_transfer,
    "subnets burn-cost": check_burn_cost,
    "subnets create": check_created,
    "subnets list": check_listed,
    "subnets hyperparameters": check_hyperparameters,
    "subnets register": check_registered,
    "stake add": check_staked,
    "stake list": check_stakes,
    "subnets metagraph": check_metagraph,
    "wallet overview": check_overview,
}
AS_JSON = {
    "wallet balance",
    "wallet overview",
    "subnets burn-cost",
    "subnets list",
    "subnets show",
    "subnets hyperparameters",
    "stake list",
}


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with running("--on-demand", "--tempo", str(TEMPO)) as chain:
        yield Operator(tmp_path, chain.endpoint)


def follow_the_guide(operator: Operator) -> None:
    left = dict(CHECKS)
    for command in COMMANDS:
        output = operator.run(command)
        check = left.pop(" ".join(command.split()[1:3]), None)
        if check is not None:
            check(operator, output)
    assert not left, "the guide no longer has these commands"


def go_beyond_it(operator: Operator) -> None:
    """What the guide leaves out: show, stake remove, axon set."""
    shown = operator.run(f"btcli subnets show --netuid 1 --network {ENDPOINT} --no-prompt")
    assert [neuron["uid"] for neuron in shown["uids"]] == [0, 1]
    assert shown["registration_cost"] == pytest.approx(0.1)
    signer = f"--netuid 1 --wallet-name owner --hotkey default --network {ENDPOINT} --no-prompt"
    listing = f"btcli stake list --wallet-name owner --network {ENDPOINT} --no-prompt"
    operator.run(f"btcli stake remove {signer} --amount 40")
    assert 39 * TAO < -operator.paid() < 41 * TAO
    assert 55 < staked(operator.run(listing)) < 65
    operator.run(f"btcli axon set {signer} --ip 1.2.3.4 --port 8091")


def set_and_read_weights(operator: Operator) -> None:
    """btcli has no command for plain weights, so the SDK sets them with btcli's wallet."""
    import bittensor as bt

    operator.chain.advance(2 * (TEMPO + 1))  # the second epoch after the stake has the permit in force
    wallet = bt.Wallet(name="owner", hotkey="default", path=operator.wallets)
    with bt.Subtensor(network=operator.endpoint) as subtensor:
        metagraph: Any = subtensor.metagraph(1)
        assert (metagraph.axons[0].ip, metagraph.axons[0].port) == ("1.2.3.4", 8091)
        assert metagraph.validator_permit[0]
        answer = subtensor.set_weights(wallet, 1, [0, 1], [0.5, 1.0], wait_for_inclusion=True)
        assert answer.success, answer.message
        assert dict(subtensor.weights(1))[0] == [(0, 32768), (1, 65535)]


def test_a_subnet_from_an_empty_home(operator: Operator) -> None:
    follow_the_guide(operator)
    go_beyond_it(operator)
    set_and_read_weights(operator)
