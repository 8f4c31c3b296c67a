"""Statuses as a person reads them: one panel a neuron. What strangers wrote is shown as one printable line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from iota_subnet.status.find import Neuron
from iota_subnet.status.validator_view import validator
from iota_subnet.status.words import clean, columns, count, left, percent, rows, short, told
from iota_subnet.statusfile import ago

#: Receipts and epochs shown of one miner alone, and of one among several.
ALONE, AMONG = 10, 3

#: Outcomes that need more than their name.
WORDS = {"sent": "sent and not confirmed yet", "unsent": "not sent for want of a work channel"}

STYLES = {"accepted": "green", "late": "yellow", "refused": "red", "failed": "red", "unsent": "yellow"}


def render(neurons: Sequence[Neuron], now: float) -> RenderableType:
    """One panel for each; `now` in Unix seconds."""
    lines = ALONE if len(neurons) == 1 else AMONG
    return Group(*(_panel(neuron, now, lines) for neuron in neurons))


def _panel(neuron: Neuron, now: float, lines: int) -> Panel:
    document = neuron.document
    name = "/".join(str(document[key]) for key in ("wallet", "wallet_hotkey") if document.get(key))
    title = clean(f"{neuron.kind} {name} {short(document.get('hotkey', ''))}")
    if document.get("netuid") is not None:
        title += f", subnet {document['netuid']}, pid {document.get('pid')}"
    try:
        body = miner(document, now, lines, neuron.gone) if neuron.kind == "miner" else validator(neuron.run)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"its status cannot be read ({type(error).__name__}: {error}); is it of another release of iota?"
        body = [Text(clean(said), style="yellow")]
    if neuron.problem:
        body = [Text(clean(neuron.problem), style="bold red"), *body]
    return Panel(Group(*body), title=title, title_align="left", border_style="red" if neuron.problem else "cyan")


def miner(document: dict[str, Any], now: float, lines: int, gone: bool) -> list[RenderableType]:
    """What a miner's status file says. Times left count down from when it was written, unless the process is gone."""
    age = 0.0 if gone else max(0.0, now - document["written_at"])
    present = "was" if gone else "now"
    standing = document["standing"]
    table = rows()
    if standing is None:
        why = clean(document["standing_trouble"]) or "it was not asked yet"
        table.add_row(present, clean(document["state"]))
        table.add_row("score", f"unknown: no word from the validator ({why})")
        return [table]
    old = age + document["standing_age_s"]
    table.add_row(present, _now(document, age))
    table.add_row("seat", _seat(standing, old))
    if standing["place"] is not None:
        place = standing["place"]
        table.add_row(
            "line", f"number {place['number']} of {place['of']}; place kept for {left(place['kept_s'] - old)}"
        )
    table.add_row("run", _run(standing, old))
    if document["leases"]:
        table.add_row("leases", _leases(document["leases"], age))
    if document["receipts"]:
        table.add_row("work", _work(document))
        table.add_row("", _receipts(document["receipts"], age, lines))
    _pay(table, standing, old, lines)
    if document["time"]["so_far"]["seconds"]:
        table.add_row("time", _time(document["time"]))
    if old > 30:
        table.add_row("", Text(f"the validator's word above is {ago(old)} old", style="yellow"))
    return [table]


def _pay(table: Table, standing: dict[str, Any], old: float, lines: int) -> None:
    """The score, what it is made of, and what was found of this miner."""
    table.add_row("score", _score(standing))
    if standing["parts"] or standing["volume"]:
        table.add_row("", _parts(standing, old, lines))
    if standing["measured"] is not None:
        table.add_row("CLASP", _measured(standing["measured"]))
    if standing["parts"]:
        table.add_row("audits", _audits(standing["audits"]))
    for fault in standing["faults"]:
        until = f"no pay for another {_window(fault['seconds_left'] - old)}"
        said = f"epoch {fault['epoch'] + 1}: {told(fault['what'])}; {until}"
        table.add_row(Text("fault", style="bold red"), Text(said, style="red"))
    table.add_row("weights", _weights(standing))


#: How the columns of a score go together.
FORMULA = "adds = (volume + merge) x quality x agreement x audit; a fault makes the whole score 0 while it counts"


def explained(hotkey: str, standing: dict[str, Any], references: dict[str, Any]) -> RenderableType:
    """A score with all its parts, for `iota score`; `references` are numbers of ledger events, if there is a ledger."""
    table = rows()
    _pay(table, standing, 0.0, 1000)
    table.add_row("how", Text(FORMULA))
    if references:
        first, last, number = references["receipts"]
        said = f"{count(number, 'receipt')} in events {first} to {last}"
        said += f"; audits in events {', '.join(map(str, references['audits']))}" if references["audits"] else ""
        table.add_row("ledger", Text(said))
    return Panel(table, title=f"score of {clean(hotkey)}", title_align="left", border_style="cyan")


def _now(document: dict[str, Any], age: float) -> Text:
    until = f"   {left(document['now_s'] - age)}" if document["now_s"] > age else ""
    return Text.assemble((told(document["now"]), "bold"), until)


def _seat(standing: dict[str, Any], old: float) -> Text:
    seat, ban = standing["seat"], standing["ban"]
    if seat is None:
        banned = f", banned for {left(ban['seconds_left'] - old)}: {told(ban['reason'])}" if ban is not None else ""
        return Text(f"none{banned}", style="bold red")
    holds = f"holds epoch {seat['installed'] + 1}" if seat["installed"] >= 0 else "holds nothing yet"
    ready = (
        Text("ready", style="green")
        if not seat["missing"]
        else Text(f"not ready: {told(seat['missing'])}", style="yellow")
    )
    strikes = f", {count(seat['strikes'], 'failed or late lease')} in a row" if seat["strikes"] else ""
    return Text.assemble(f"stage {seat['stage']}, slot {seat['slot']}, {holds}, ", ready, strikes)


def _run(standing: dict[str, Any], old: float) -> Text:
    of = f" of {standing['epochs']}" if standing["epochs"] else ""
    until = f"   {left(standing['seconds_left'] - old)} at most" if standing["seconds_left"] > old else ""
    merge = standing["duties"]
    duties = f"   commit {merge['commit']}, shards reduced {merge['reduce_done']}" if merge["commit"] != "none" else ""
    return Text(
        f"epoch {standing['epoch'] + 1}{of}, {standing['phase']}: {told(standing['waiting_for'])}{until}{duties}"
    )


def _leases(leases: list[dict[str, Any]], age: float) -> Text:
    parts = [
        f"{lease['op']} of microbatch {lease['batch']} (lease {lease['lease']}, "
        + (
            f"withdrawn: {clean(lease['withdrawn'])})"
            if lease["withdrawn"]
            else f"{left(lease['seconds_left'] - age)})"
        )
        for lease in leases
    ]
    return Text("\n".join(parts))


def _work(document: dict[str, Any]) -> Text:
    """How many leases of each epoch were done, and what the validator said of the last ones."""
    epochs = [
        f"epoch {int(epoch) + 1}: "
        + ", ".join(f"{counts.get(what, 0)} {what}" for what in ("done", "refused", "failed"))
        for epoch, counts in list(document["epochs"].items())[-2:]
    ]
    outcomes = Counter(row["outcome"] for row in document["receipts"])
    last = ", ".join(f"{number} {WORDS.get(outcome, outcome)}" for outcome, number in outcomes.items())
    return Text("; ".join(epochs) + f"\nlast {len(document['receipts'])}: {last}")


def _receipts(receipts: list[dict[str, Any]], age: float, lines: int) -> Table:
    """The newest, and before them those that came to nothing."""
    bad = [row for row in receipts if row["outcome"] not in ("sent", "accepted")][:lines]
    shown = bad + [row for row in receipts if row not in bad][: lines - len(bad)]
    table = columns("ago>", "lease>", "step", "microbatch>", "epoch>", "computed>", "outcome")
    for row in shown:
        said = f"{row['outcome']}: {clean(row['reason'])}" if row["reason"] else row["outcome"]
        table.add_row(
            ago(row["ago_s"] + age), str(row["lease"]), row["op"], str(row["batch"]), str(row["epoch"] + 1),
            f"{row['seconds']:.2f} s", Text(said, style=STYLES.get(row["outcome"], "")),
        )  # fmt: skip
    return table


def _score(standing: dict[str, Any]) -> Text:
    if standing["rank"]:
        place = f" = {percent(standing['share'])} of the swarm's, rank {standing['rank']} of {standing['ranked']}"
    elif standing["faults"]:
        place = ", because of the fault below"
    elif standing["closed"] < 0:
        place = ", because no epoch has closed yet"
    else:
        place = ", because no finished microbatch of a closed epoch is this miner's"
    return Text.assemble((f"{standing['score']:.2f}", "bold"), place)


def _parts(standing: dict[str, Any], old: float, lines: int) -> Table:
    """The epochs that make the score, the newest first."""
    table = columns("epoch>", "volume>", "merge>", "quality>", "agreement>", "audit>", "adds>", "counts for another>")
    if standing["volume"]:
        table.add_row(str(standing["epoch"] + 1), f"{standing['volume']:.2f}", "", "", "", "", "", "not closed yet")
    parts = list(reversed(standing["parts"]))
    for part in parts[:lines]:
        table.add_row(
            str(part["epoch"] + 1), f"{part['volume']:.2f}", f"{part['merged']:.2f}", f"{part['quality']:.3f}",
            f"{part['agreement']:.3f}", f"{part['standing']:.0f}", f"{_adds(part):.2f}",
            _window(part["seconds_left"] - old),
        )  # fmt: skip
    rest = sum(_adds(part) for part in parts[lines:]) + standing["older"]
    if rest:
        table.add_row("older", "", "", "", "", "", f"{rest:.2f}", "")
    return table


def _adds(part: dict[str, Any]) -> float:
    value: float = (part["volume"] + part["merged"]) * part["quality"] * part["agreement"] * part["standing"]
    return value


def _audits(audits: list[dict[str, Any]]) -> Text:
    """What was found when epochs of this miner were computed again, the newest first."""
    lines = [
        Text(
            f"epoch {found['epoch'] + 1}: {found['verdict']}, {count(found['passes'], 'pass', 'passes')}"
            + (f", {told(found['reason'])}" if found["reason"] else ""),
            style="" if found["verdict"] == "sound" else "red",
        )
        for found in reversed(audits)
    ]
    return Text("\n").join(lines) if lines else Text("none of this miner's epochs was drawn in the window")


def _measured(found: dict[str, Any]) -> Text:
    if found["error"] == 0:
        word = "nothing to compare with in its stage"
    elif found["quality"] < 1:
        word = "significant harm"
    else:
        word = "no significant harm"
    effect = f"effect on loss {found['effect']:+.3f} ± {found['error']:.3f} nats per token" if found["error"] else ""
    parts = [f"epoch {found['epoch'] + 1}: {word}", effect, f"{count(found['samples'], 'microbatch', 'microbatches')}"]
    parts.append(f"mean loss {found['mean_loss']:.3f}")
    return Text(", ".join(part for part in parts if part), style="red" if found["quality"] < 1 else "")


def _weights(standing: dict[str, Any]) -> str:
    if not standing["weights"]:
        return "the validator has set none yet"
    return f"last set after epoch {standing['weights_epoch'] + 1}: {told(standing['weights'])}"


def _time(time: dict[str, Any]) -> Text:
    names = {"so_far": "so far", "epoch": "this epoch", "last": "last epoch"}
    parts = []
    for key, name in names.items():
        spent = time[key]
        if spent["seconds"]:
            shares = [f"{word} {percent(spent[f'{kind}_share'])}" for word, kind in KINDS]
            parts.append(f"{name:<10} {', '.join(shares)}")
    return Text("\n".join(parts))


KINDS = (("computing", "compute"), ("only fetching", "fetch"), ("idle", "idle"))


def _window(seconds: float) -> str:
    """How long something still counts; it goes when an epoch closes after that."""
    return ago(seconds) if seconds > 0 else "this epoch"
