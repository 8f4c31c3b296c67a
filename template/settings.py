"""A neuron's settings, by the flags the Bittensor ecosystem knows, from four places.

Precedence: command line > environment > `.env` in the working directory > default.
One rule names them all: the flag `--axon.external_port` is the environment variable (or line of `.env`)
`AXON_EXTERNAL_PORT`: upper case, dots become underscores. Durations and intervals carry their unit in the help.

A subnet adds its own group by subclassing:

    class Mine(NeuronSettings):
        model: ModelSettings = ModelSettings()        # --model.layers, MODEL_LAYERS

    settings = parse(Mine, sys.argv[1:])

The SDK's own `bt.Config` is not used: it ignores the command line unless BT_NO_PARSE_CLI_ARGS=false is set, and with it
set, `--subtensor.network local` still leaves the endpoint at finney (both tested in test_settings.py).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from template.errors import BadSettings

NETWORKS = {
    "finney": "wss://entrypoint-finney.opentensor.ai:443",
    "test": "wss://test.finney.opentensor.ai:443",
    "archive": "wss://archive.chain.opentensor.ai:443",
    "local": "ws://127.0.0.1:9944",
}

Port = Annotated[int, Field(ge=0, le=65535)]
S = TypeVar("S", bound="NeuronSettings")


class Group(BaseModel):
    """Base of every group of flags; frozen, so that what was printed at the start stays true."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)


class WalletSettings(Group):
    """Which keys sign."""

    name: str = Field(default="default", description="name of the wallet, i.e. its coldkey")
    hotkey: str = Field(default="default", description="name of the hotkey inside the wallet")
    path: Path = Field(default=Path("~/.bittensor/wallets"), description="folder that holds the wallets")


class SubtensorSettings(Group):
    """Which chain."""

    network: str = Field(
        default="finney", description="finney, test, archive, local, or the ws:// or wss:// address of a node"
    )
    chain_endpoint: str | None = Field(
        default=None, description="address of a node; wins over --subtensor.network when given"
    )
    timeout_s: float = Field(default=30.0, gt=0, description="seconds to wait for one answer of the chain")

    @field_validator("network", "chain_endpoint")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is None or value in NETWORKS:
            return value
        parts = urlsplit(value)
        _ = parts.port  # raises ValueError, in good words, for a port that is none
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"use one of {', '.join(NETWORKS)}, or an address such as ws://127.0.0.1:9944")
        return value

    @property
    def endpoint(self) -> str:
        """The websocket address that `network` and `chain_endpoint` together mean."""
        chosen = self.chain_endpoint or self.network
        return NETWORKS.get(chosen, chosen)


class AxonSettings(Group):
    """Where this neuron listens, and what it announces."""

    ip: str = Field(default="0.0.0.0", description="address to listen on; 0.0.0.0 means every interface")
    port: Port = Field(default=8091, description="port to listen on; 0 picks a free one")
    external_ip: str | None = Field(
        default=None, description="address to announce on chain; needed when --axon.ip is 0.0.0.0"
    )
    external_port: Port | None = Field(
        default=None, description="port to announce on chain; the listening port when not given"
    )
    max_body_bytes: int = Field(default=1 << 20, ge=1024, description="largest request body accepted, in bytes")

    @field_validator("ip", "external_ip")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(ipaddress.ip_address(value.strip("[]")))
        except ValueError:
            raise ValueError("use a numeric address such as 203.0.113.7, not a host name") from None

    def announced(self, bound_port: int) -> tuple[str, int]:
        """The (ip, port) to put on chain, `bound_port` being the one the axon listens on.

        Raises BadSettings when the address is a wildcard and no external one is given: no public site is asked what
        our address is, because a neuron must start offline and behind a proxy, and the answer may be wrong.
        """
        ip = self.external_ip or self.ip
        if ipaddress.ip_address(ip).is_unspecified:
            raise BadSettings(
                f"--axon.external_ip (AXON_EXTERNAL_IP): needed because --axon.ip is {self.ip}; "
                "give the address under which other neurons reach this one"
            )
        return ip, self.external_port or bound_port


class LoggingSettings(Group):
    """How much to say, and where."""

    level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="least level to print"
    )
    debug: bool = Field(default=False, description="same as --logging.level DEBUG")
    trace: bool = Field(default=False, description="same as --logging.level TRACE")
    file: Path | None = Field(default=None, description="also write to this file, rotated at 20 MB, 5 kept")
    as_json: bool = Field(default=False, description="write one JSON object a line")

    @field_validator("level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def effective_level(self) -> str:
        """TRACE, DEBUG or `level`, in this order of precedence."""
        return "TRACE" if self.trace else "DEBUG" if self.debug else self.level


class NeuronGroup(Group):
    """The run loop."""

    state_dir: Path = Field(default=Path("~/.bittensor/neurons"), description="folder for this neuron's state file")
    epoch_length: int = Field(
        default=100, ge=1, description="blocks between two looks at the metagraph, and weight settings"
    )
    step_s: float = Field(default=12.0, ge=0, description="seconds between the starts of two steps")
    failures_max: int = Field(default=10, ge=1, description="failed steps in a row after which the neuron stops loudly")
    version_key: int = Field(
        default=0, ge=0, description="version key sent with weights; at least the subnet's WeightsVersion"
    )
    burn: float = Field(
        default=0.0, ge=0, le=1, description="share of the weights put on the subnet owner, who burns it"
    )


class BlacklistSettings(Group):
    """Whom a miner serves."""

    force_validator_permit: bool = Field(default=True, description="serve only callers that hold a validator permit")
    min_stake: float = Field(default=0.0, ge=0, description="least stake of a caller, in alpha")


class NeuronSettings(BaseSettings):
    """Flags win over environment variables, those over .env, those over defaults. --axon.port is AXON_PORT."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_file=".env", env_nested_delimiter="_", env_nested_max_split=1,
        env_ignore_empty=True, cli_avoid_json=True, cli_implicit_flags=True, cli_hide_none_type=True,
        nested_model_default_partial_update=True,
    )  # fmt: skip

    netuid: int = Field(ge=0, le=65535, description="number of the subnet")
    wallet: WalletSettings = WalletSettings()
    subtensor: SubtensorSettings = SubtensorSettings()
    axon: AxonSettings = AxonSettings()
    logging: LoggingSettings = LoggingSettings()
    neuron: NeuronGroup = NeuronGroup()
    blacklist: BlacklistSettings = BlacklistSettings()

    @property
    def state_path(self) -> Path:
        """The state file; one per chain subnet and hotkey, so that two neurons on one machine never share it."""
        folder = self.neuron.state_dir.expanduser() / self.wallet.name / self.wallet.hotkey
        return folder / f"netuid{self.netuid}" / "state.json"


def parse(cls: type[S], argv: Sequence[str], prog: str | None = None) -> S:
    """Build `cls` from `argv` (without the program's name), the environment, `.env` and the defaults.

    `--help` prints every flag with its meaning and default, and ends the program as argparse does.
    Raises BadSettings: one line that names the flag.
    """
    try:
        return cls(_cli_parse_args=list(argv), _cli_exit_on_error=False, _cli_prog_name=prog)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise BadSettings(_one_line(first["loc"], first["msg"], first.get("input"))) from None
    except SettingsError as error:
        detail = str(error.__cause__ or error).replace("error parsing CLI: ", "")
        raise BadSettings(f"{' '.join(detail.split())}; see --help") from None


def _one_line(loc: tuple[int | str, ...], message: str, value: object) -> str:
    """`--axon.port (AXON_PORT): Input should be ... (got 'x')`."""
    names = [str(part) for part in loc]
    flag, variable = f"--{'.'.join(names)}", "_".join(names).upper()
    if message == "Field required":
        return f"{flag} ({variable}): is required"
    return f"{flag} ({variable}): {message.removeprefix('Value error, ')} (got {value!r})"
