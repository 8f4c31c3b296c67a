"""Every error this package raises on purpose, and who has to act on it.

Exception
+-- NeuronError            the user acts: one clear line that says what to do; `template.cli` prints it, exit code 2
|   +-- NotRegistered      the hotkey has no uid in the subnet
|   +-- NoSuchSubnet       the netuid does not exist on that chain
|   +-- ChainUnreachable   no chain answers at the endpoint
|   +-- PortInUse          the axon's port is taken
|   +-- WalletMissing      a key file is not where the settings say
|   +-- BadSettings        a flag, an environment variable or a line of .env is wrong
+-- PeerError              a peer acts, or nobody: the caller retries, chooses another peer, or gives up
    +-- Refused            the peer answered, with its signature, that it will not; `reason` says why
    +-- Unreachable        no answer in time
    +-- BadReply           an answer that the peer did not sign, or that does not parse; never use its content
"""

from __future__ import annotations


class NeuronError(Exception):
    """A condition that the operator of the neuron can put right; the message is one line and says how."""


class NotRegistered(NeuronError):
    """The hotkey has no uid in the subnet. The message holds the exact command that registers it."""

    def __init__(self, hotkey: str, netuid: int, wallet_name: str, wallet_hotkey: str, network: str) -> None:
        self.hotkey = hotkey
        self.netuid = netuid
        self.command = (
            f"btcli subnets register --netuid {netuid} --wallet.name {wallet_name} "
            f"--wallet.hotkey {wallet_hotkey} --network {network}"
        )
        super().__init__(f"hotkey {hotkey} is not registered in subnet {netuid}; register it with: {self.command}")


class NoSuchSubnet(NeuronError):
    """The chain answers but has no subnet of that number."""

    def __init__(self, netuid: int, endpoint: str) -> None:
        self.netuid = netuid
        super().__init__(
            f"subnet {netuid} does not exist on {endpoint}; "
            f"check --netuid and --subtensor.network, or list the subnets with: btcli subnets list --network {endpoint}"
        )


class ChainUnreachable(NeuronError):
    """No chain answered at the endpoint, or not in a way that the SDK understands; `detail` says which."""

    def __init__(self, endpoint: str, detail: str = "") -> None:
        self.endpoint = endpoint
        super().__init__(
            f"no usable answer from a chain at {endpoint}{f' ({detail})' if detail else ''}; "
            "check that a node is running there, the address (--subtensor.network) and your firewall"
        )


class PortInUse(NeuronError):
    """The address the axon should listen on cannot be bound."""

    def __init__(self, ip: str, port: int, detail: str = "another program is listening there") -> None:
        self.ip = ip
        self.port = port
        super().__init__(f"cannot listen on {ip}:{port}: {detail}; choose another --axon.port or --axon.ip")


class WalletMissing(NeuronError):
    """A key of the wallet cannot be read. The message holds the command that creates it."""


class BadSettings(NeuronError):
    """A setting has a wrong value or a flag is unknown; the message names the flag."""


class PeerError(Exception):
    """Something went wrong with another neuron; never the operator's fault by itself."""


class Refused(PeerError):
    """The peer answered that it will not serve this request.

    A handler raises it too: the reason travels back to the caller, signed. `status` is the HTTP status.
    """

    def __init__(self, reason: str, status: int = 403) -> None:
        self.reason = reason
        self.status = status
        super().__init__(reason)


class Unreachable(PeerError):
    """The peer did not answer within the time given."""


class BadReply(PeerError):
    """The reply is not the peer's: unsigned, altered, too large, or not of the promised shape."""
