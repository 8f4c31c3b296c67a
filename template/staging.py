"""What an owner does once to stage a subnet: wallets, funds, registration, stake. For test chains with public keys.

Works on any chain on which the given wallet has funds; the embedded one prefunds //Alice. Not for mainnet: keys made
from a URI are known to everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from template.errors import NeuronError
from template.logs import adopt_bittensor

if TYPE_CHECKING:
    from bittensor_wallet import Wallet

#: Blocks that a transaction stays valid; a test chain may make several blocks a second.
PERIOD = 128

#: A call that meets a block just being made is sent again.
TRIES = 3


def wallet_from_uri(root: Path, name: str, hotkey: str, uri: str) -> Wallet:
    """Write a wallet whose coldkey is `uri` and whose hotkey is `uri`/`hotkey`, without passwords."""
    from bittensor_wallet import Wallet

    wallet = Wallet(name=name, hotkey=hotkey, path=str(root))
    if not (root / name / "coldkeypub.txt").is_file():
        wallet.create_coldkey_from_uri(uri, use_password=False, overwrite=True, suppress=True)
    wallet.create_hotkey_from_uri(f"{uri}/{hotkey}", use_password=False, overwrite=True, suppress=True)
    return wallet


class Stage:
    """One connection to a test chain. Raises NeuronError when the chain refuses."""

    def __init__(self, endpoint: str) -> None:
        import bittensor as bt

        adopt_bittensor()
        self._bt = bt
        self._subtensor = bt.Subtensor(network=endpoint)

    def close(self) -> None:
        """Hang up."""
        self._subtensor.close()

    def fund(self, source: Wallet, ss58: str, tao: float) -> None:
        """Transfer `tao` from `source` to `ss58`."""
        amount = self._bt.Balance.from_tao(tao)
        self._do(
            f"transfer to {ss58}",
            lambda: self._subtensor.transfer(
                wallet=source, destination_ss58=ss58, amount=amount, transfer_all=False, **_WAIT
            ),
        )

    def create_subnet(self, owner: Wallet) -> int:
        """Register a subnet and start its emission; its netuid."""
        before = set(self._netuids())
        self._do("register_subnet", lambda: self._subtensor.register_subnet(wallet=owner, **_WAIT))
        netuid = max(set(self._netuids()) - before)
        self._do("start_call", lambda: self._subtensor.start_call(wallet=owner, netuid=netuid, **_WAIT))
        return netuid

    def register(self, wallet: Wallet, netuid: int) -> int:
        """Register the wallet's hotkey by burning; its uid."""
        self._do(
            f"burned_register of {wallet.hotkey_str}",
            lambda: self._subtensor.burned_register(wallet=wallet, netuid=netuid, **_WAIT),
        )
        uid = self._subtensor.get_uid_for_hotkey_on_subnet(wallet.hotkey.ss58_address, netuid)
        if uid is None:
            raise NeuronError(f"hotkey {wallet.hotkey_str} was registered and has no uid; the subnet may be full")
        return int(uid)

    def stake(self, wallet: Wallet, netuid: int, tao: float) -> None:
        """Put `tao` as stake on the wallet's own hotkey."""
        hotkey = wallet.hotkey.ss58_address
        amount = self._bt.Balance.from_tao(tao)
        self._do(
            "add_stake",
            lambda: self._subtensor.add_stake(wallet=wallet, netuid=netuid, hotkey_ss58=hotkey, amount=amount, **_WAIT),
        )

    def weights(self, netuid: int) -> dict[int, dict[int, int]]:
        """Weights on chain: uid of who set them -> uid -> u16."""
        return {int(uid): {int(i): int(w) for i, w in row} for uid, row in self._subtensor.weights(netuid)}

    def validator_trust(self, netuid: int) -> dict[str, float]:
        """vtrust by hotkey, in [0, 1]: the share of each validator's weights that consensus has let stand."""
        graph = self._subtensor.metagraph(netuid)
        return {str(hotkey): float(trust) for hotkey, trust in zip(graph.hotkeys, graph.validator_trust, strict=True)}

    def _netuids(self) -> list[int]:
        return [int(netuid) for netuid in self._subtensor.get_all_subnets_netuid()]

    def _do(self, what: str, call: Callable[[], Any]) -> None:
        message = ""
        for _ in range(TRIES):
            response = call()
            if response.success:
                return
            message = " ".join(str(response.message or response.error).split())
        raise NeuronError(f"{what} was refused by the chain: {message}")


_WAIT: dict[str, Any] = {
    "wait_for_inclusion": True,
    "wait_for_finalization": False,
    "mev_protection": False,
    "period": PERIOD,
}
