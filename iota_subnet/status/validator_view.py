"""A validator's status as a person reads it: the run, its stages, who waits, who is banned, the last epoch."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from iota_subnet.status.words import clean, columns, count, left, percent, rows, short, told
from iota_subnet.statusfile import ago

#: Hotkeys named in one line.
NAMED = 4

#: Miners whose agreement with their twins is shown.
MET = 8


def validator(run: dict[str, Any] | None) -> list[RenderableType]:
    """What /v1/status says; nothing when it did not answer."""
    if run is None:
        return []
    table = rows()
    table.add_row("run", _run(run))
    batches = run["microbatches"]
    done = f"{batches['retired']} done, {batches['live']} on their way, {batches['lost']} lost"
    table.add_row("microbatches", f"{done}; {batches['in_epoch']} of {batches['per_epoch']} in this epoch")
    table.add_row("stages", _stages(run))
    if run.get("empty"):
        table.add_row("", Text(f"nobody can work in stage {_list(run['empty'])}", style="bold red"))
    for stage, epoch in run.get("returned", {}).items():
        table.add_row(
            "", Text(f"stage {stage} lost its new state and went back to that of epoch {epoch + 1}", style="yellow")
        )
    if run.get("line"):
        first = [f"{short(place['hotkey'])} (asked {ago(place['asked_s'])} ago)" for place in run["line"][:NAMED]]
        table.add_row("line", f"{count(len(run['line']), 'miner')} for a seat: {_more(first, len(run['line']))}")
    for ban in run.get("banned", [])[:NAMED]:
        table.add_row("banned", f"{short(ban['hotkey'])}, {left(ban['seconds_left'])}: {told(ban['reason'])}")
    for label, line in _agreement(run):
        table.add_row(label, line)
    for fault in run["faults"][-NAMED:]:
        said = f"epoch {fault['epoch'] + 1}, {short(fault['hotkey'])}: {told(fault['what'])}"
        table.add_row("fault", Text(said, style="red"))
    closed = [report for report in run["reports"] if report["train_loss"] is not None]
    if closed:
        table.add_row("last epoch", _report(closed[-1]))
    written = [report for report in run["reports"] if report["weights_set"] or report["weights_failed"]]
    if written:
        last = written[-1]
        word = "refused" if last["weights_failed"] else "last set"
        said = f"{word} after epoch {last['epoch'] + 1}: {told(last['weights_failed'] or last['weights_set'])}"
        table.add_row("weights", said)
    else:
        table.add_row("weights", "none set yet")
    return [table]


def _run(run: dict[str, Any]) -> Text:
    of = f" of {run['epochs']}" if run["epochs"] else ""
    until = f"   {left(run['seconds_left'])} at most" if run["phase"] != "done" else ""
    where = f"{clean(run['run'])}, epoch {run['epoch'] + 1}{of}, {clean(run['phase'])}: "
    return Text.assemble(where, (told(run["waiting_for"]), "bold"), until)


def _stages(run: dict[str, Any]) -> Table:
    """How many miners sit in each stage, and what they are worth to it."""
    table = columns("stage>", "miners>", "connected>", "installed>", "leases open>", "leases done>", "score>")
    # As the validator counts: whoever has installed the newest state of its stage.
    newest = run["epoch"] + (run["phase"] in ("install", "done"))
    stages = sorted({row["stage"] for row in run["miners"]} | set(run.get("empty", [])))
    for stage in stages:
        members = [row for row in run["miners"] if row["stage"] == stage]
        table.add_row(
            str(stage) if stage >= 0 else "none yet",
            str(len(members)),
            str(sum(row["connected"] for row in members)),
            str(sum(row["installed"] >= newest for row in members)),
            str(sum(row["leases"] for row in members)),
            str(sum(row["done"] for row in members)),
            f"{sum(row['score'] for row in members):.1f}",
        )
    return table


def _agreement(run: dict[str, Any]) -> list[tuple[str, Text]]:
    """For each stage the pairs of twins that differed, then what each miner's agreement is, the least first."""
    said: list[tuple[str, Text]] = []
    pairs = run.get("differed", [])
    for stage in sorted({row["stage"] for row in pairs}):
        here = [row for row in pairs if row["stage"] == stage]
        names = [f"{' and '.join(map(short, row['pair']))} {row['times']} of {row['of']}" for row in here[:NAMED]]
        where = f"stage {stage}" if stage >= 0 else "no stage any more"
        said.append(("differed", Text(f"{where}: {_more(names, len(here))}", style="red")))
    met = sorted(run.get("met", {}).items(), key=lambda item: (item[1]["agreed"] / item[1]["of"], item[0]))
    for hotkey, row in met[:MET]:
        twins = count(row["twins"], "twin")
        said.append(("agreement", Text(f"{short(hotkey)} agreed {row['agreed']} of {row['of']} with {twins}")))
    if len(met) > MET:
        said.append(("", Text(f"{len(met) - MET} more, who agreed as often or more often")))
    return said


def _report(report: dict[str, Any]) -> str:
    held_out = f"{report['eval_loss']:.3f}" if report["eval_loss"] is not None else "not measured yet"
    parts = [
        f"epoch {report['epoch'] + 1}: {count(report['microbatches'], 'microbatch', 'microbatches')}",
        f"train loss {report['train_loss']:.3f}",
        f"held-out {held_out}",
    ]
    if report["coverage"]:
        parts.append(f"merged {percent(min(report['coverage']))} of the parameters")
    if report["twins_compared"]:
        parts.append(f"{report['twin_disagreements']} of {report['twins_compared']} twins disagreed")
    return ", ".join(parts)


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _more(names: list[str], total: int) -> str:
    return ", ".join(names) + (f" and {total - len(names)} more" if total > len(names) else "")
