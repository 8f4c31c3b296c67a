"""Which miners of a run cheat, and how: `--adversary KIND:COUNT` and `--adversary FILE.py:CLASS:COUNT`.

Law: the last miners of the run are the adversaries, in the order of the flags: with 6 miners `lazy:1` and `noise:2` are
miner-3, miner-4 and miner-5. Those of one flag are friends, and know each other's hotkeys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iota_subnet.miner import rogue
from template.errors import BadSettings

#: Where the kinds are that have a name.
KNOWN = Path(__file__).resolve().parents[2] / "tests" / "adversaries.py"


@dataclass(frozen=True, slots=True)
class Adversary:
    """`count` miners that run the class `conduct` (FILE.py:CLASS), called `kind`."""

    kind: str
    conduct: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Adversary:
        """KIND:COUNT or FILE.py:CLASS:COUNT; the class is loaded once to see that it can be. Raises BadSettings."""
        flag = f"--adversary {text}"
        what, _, count = text.rpartition(":")
        if not what or not count.isdecimal() or int(count) < 1:
            raise BadSettings(f"{flag}: use KIND:COUNT or FILE.py:CLASS:COUNT, for example --adversary free_rider:1")
        try:
            kind, conduct = _find(what)
            rogue.load(conduct)
        except BadSettings as error:
            raise BadSettings(f"{flag}: {error}") from None
        return cls(kind, conduct, int(count))


def _find(what: str) -> tuple[str, str]:
    """The name of a kind, and FILE.py:CLASS with an absolute path. Raises BadSettings."""
    path, _, name = what.rpartition(":")
    if path:
        return name, f"{Path(path).expanduser().resolve()}:{name}"
    if not KNOWN.is_file():
        raise BadSettings(f"the kinds are in tests/adversaries.py of a checkout, and there is no {KNOWN}")
    kinds = rogue.module(KNOWN).KINDS
    if what not in kinds:
        raise BadSettings(f"no such kind; the kinds are {', '.join(sorted(kinds))}")
    return what, f"{KNOWN}:{kinds[what].__name__}"


def placed(adversaries: Sequence[Adversary], miners: int) -> dict[int, Adversary]:
    """Who cheats, by the miner's number. Raises BadSettings if there are more of them than miners."""
    found = [adversary for adversary in adversaries for _ in range(adversary.count)]
    if len(found) > miners:
        raise BadSettings(f"--adversary: {len(found)} adversaries among {miners} miners; use --miners {len(found)}")
    return dict(enumerate(found, miners - len(found)))


def flags(places: dict[int, Adversary], index: int, hotkeys: Sequence[str]) -> list[str]:
    """What `neurons/miner.py` is told as that miner; `hotkeys` are those of all miners, by number."""
    adversary = places.get(index)
    if adversary is None:
        return []
    friends = [hotkeys[number] for number, other in places.items() if other is adversary]
    return ["--work.conduct", adversary.conduct, "--work.conduct_friends", ",".join(friends)]
