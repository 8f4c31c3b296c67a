"""Load a wallet and sign with its hotkey, by `bittensor_wallet` alone, never by the whole SDK."""

from __future__ import annotations

from pathlib import Path

from bittensor_wallet import Keypair, Wallet

from template.errors import WalletMissing

SIGNATURE_BYTES = 64


def load(name: str = "default", hotkey: str = "default", path: str | Path = "~/.bittensor/wallets") -> Wallet:
    """Return the wallet with its hotkey unlocked and its coldkey's public half readable.

    The private coldkey is never touched: a neuron does not need it, so it need not be on the machine.
    Raises WalletMissing, naming the file and the btcli command that creates it.
    """
    root = Path(path).expanduser()
    wallet = Wallet(name=name, hotkey=hotkey, path=str(root))
    where = f"--wallet.name {name} --wallet.hotkey {hotkey} --wallet.path {root}"
    public_coldkey = root / name / "coldkeypub.txt"
    if not public_coldkey.is_file():
        raise WalletMissing(
            f"no coldkey at {public_coldkey}; create a wallet with: btcli wallet create {where} "
            f"(or copy coldkeypub.txt from the machine that has it)"
        )
    hotkey_file = root / name / "hotkeys" / hotkey
    if not hotkey_file.is_file():
        raise WalletMissing(f"no hotkey at {hotkey_file}; create it with: btcli wallet new-hotkey {where}")
    try:
        _ = wallet.hotkey, wallet.coldkeypub
    except Exception as error:  # bittensor_wallet raises several unrelated types: KeyFileError, ValueError, its own
        raise WalletMissing(
            f"the wallet in {root / name} cannot be read ({error}); restore it with: btcli wallet regen-hotkey {where}"
        ) from error
    return wallet


def sign(wallet: Wallet, data: bytes) -> bytes:
    """The hotkey's sr25519 signature of `data`, 64 bytes."""
    return bytes(wallet.hotkey.sign(data))


def verify(ss58: str, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of hotkey `ss58` over `data`. Malformed input is False, never an exception."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        return bool(Keypair(ss58_address=ss58).verify(data, signature))
    except (ValueError, TypeError):  # bittensor_wallet 4.1: a bad address or signature encoding
        return False
