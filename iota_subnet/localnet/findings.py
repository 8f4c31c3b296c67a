"""Who was found to cheat, when and by what, held against who does: the figures of a run with adversaries.

Law: a finding is a fault or a ban in the validator's status. It is kept when it was first seen, because the validator
forgets it after a while. Epochs count from 0 here and from 1 in sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was found against `hotkey` while the run was in epoch `seen`; a fault names the `epoch` that it is about,
    a ban does not."""

    hotkey: str
    what: str
    epoch: int | None
    seen: int


def news(known: Iterable[Finding], status: Mapping[str, Any]) -> list[Finding]:
    """What a status says and nobody has said before."""
    had = {(found.hotkey, found.what, found.epoch) for found in known}
    said = [(fault["hotkey"], fault["what"], fault["epoch"]) for fault in status.get("faults", [])]
    said += [(ban["hotkey"], f"banned: {ban['reason']}", None) for ban in status.get("banned", [])]
    return [Finding(*one, status["epoch"]) for one in dict.fromkeys(said) if one not in had]


def figures(
    names: Mapping[str, str],
    kinds: Mapping[str, str],
    weights: Mapping[str, float],
    killed: Iterable[str],
    found: Iterable[Finding],
) -> dict[str, Any]:
    """For the summary, by hotkey: what each miner is, its weight over the honest median, and what was found.

    `kinds` are those of the adversaries, by the miner's name; who was killed is not in the median. It is null where
    nobody honest has a weight.
    """
    kind = {hotkey: kinds.get(name, "honest") for hotkey, name in names.items()}
    gone = set(killed)
    honest = [weights.get(h, 0.0) for h, name in names.items() if kind[h] == "honest" and name not in gone]
    middle = median(honest) if honest else 0.0
    findings: dict[str, list[dict[str, Any]]] = {hotkey: [] for hotkey in names}
    for one in found:
        entry = asdict(one)
        findings.setdefault(entry.pop("hotkey"), []).append(entry)
    return {
        "kinds": kind,
        "honest_share": {h: round(weights.get(h, 0.0) / middle, 4) if middle else None for h in names},
        "findings": findings,
        "found_in_epoch": {h: min((e["seen"] for e in findings[h]), default=None) for h in names},
    }


def words(summary: Mapping[str, Any], hotkey: str) -> str:
    """The end of a miner's line."""
    share = summary["honest_share"][hotkey]
    return f"{summary['kinds'][hotkey]}, {'?' if share is None else f'{share:.2f}'} of the honest median"


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """One line for each adversary, and one for each honest miner that was found to cheat."""
    names, kinds = summary["names"], summary["kinds"]
    lines = []
    for hotkey, name in names.items():
        if kinds[hotkey] != "honest":
            share = summary["honest_share"][hotkey]
            weight = f"weight {'?' if share is None else f'{share:.2f}'} of the honest median"
            lines.append(f"adversaries: {kinds[hotkey]} {name} {weight}, {_found(summary['findings'][hotkey])}")
    if not lines:
        return []
    wrong = [hotkey for hotkey in names if kinds[hotkey] == "honest" and summary["findings"][hotkey]]
    lines += [f"honest: {names[hotkey]} was {_found(summary['findings'][hotkey])}" for hotkey in wrong]
    return lines if wrong else [*lines, "honest: nobody was found to cheat"]


def _found(findings: list[dict[str, Any]]) -> str:
    if not findings:
        return "not found"
    first, more = findings[0], len(findings) - 1
    about = f"epoch {first['epoch'] + 1}, " if first["epoch"] is not None else ""
    return f"found in epoch {first['seen'] + 1} ({about}{first['what']}{f'; {more} more' if more else ''})"
