"""What a check comes to, and the requirements that it is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

#: ok; warn: it may work; bad: it will not; skipped: could not be looked at, and `advice` says what that needs.
State = Literal["ok", "warn", "bad", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer: what was looked at, how it is, and what to do unless it is ok."""

    name: str
    state: State
    text: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one role: cores, GiB of memory and of disk, GiB of the GPU if one is used, Mbit/s down."""

    cores: int
    ram: float
    disk: float
    vram: float
    mbits: float


#: For an installation without min_compute.yml beside it: what that file says of this release.
BUILT_IN = {"miner": Needs(1, 1.0, 2.0, 0.0, 10.0), "validator": Needs(2, 2.0, 5.0, 0.0, 10.0)}

FILE = Path(__file__).resolve().parents[2] / "min_compute.yml"


def needs(role: str, file: Path = FILE) -> Needs:
    """Of `role`, from min_compute.yml. Raises ValueError for a file that cannot be read."""
    if not file.is_file():
        return BUILT_IN[role]
    import yaml  # type: ignore[import-untyped]

    try:
        document: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        spec = document["compute_spec"][role]
        return Needs(
            cores=int(spec["cpu"]["min_cores"]),
            ram=float(spec["memory"]["min_ram"]),
            disk=float(spec["storage"]["min_space"]),
            vram=float(spec["gpu"]["min_vram"]),
            mbits=float(document["network_spec"]["bandwidth"]["download"]),
        )
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read ({type(error).__name__}: {error})") from None
