"""`iota ledger`: look at the history of a run. Reads only; the validator of the run may go on writing."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from iota_subnet.core.events import ALL, BatchPublished, Event, Manifest, RunStarted
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.spec import BlobRef
from iota_subnet.validator import snapshots
from iota_subnet.validator.journal import Journal, LedgerError, Row, decode, reading
from iota_subnet.validator.verify import Broken, verify
from template.errors import BadSettings

EXAMPLES = """examples:
  iota ledger verify runs/main                      # digests, every event, every snapshot, the invariants
  iota ledger replay runs/main --to 5000 --json     # the state after event 5000
  iota ledger show runs/main --kind EffectFailed --limit 20
  iota ledger show runs/main --hotkey 5Grwva --from 90000 --json | jq .
  iota ledger data runs/main                        # cut every microbatch from its text again, compare digests
  iota ledger data runs/main --batch 17             # which texts its samples were cut from

PATH is a ledger.sqlite, or the folder of a run. Nothing is changed, and the validator may be running.
exit code: 0 done, 1 the ledger is broken or the text is another, 2 it cannot be read or an option is wrong
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and flags of `iota ledger`."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        found: argparse.ArgumentParser = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EXAMPLES, formatter_class=raw
        )
        found.add_argument("path", type=Path, metavar="PATH", help="ledger.sqlite, or the folder of a run")
        return found

    action("verify", "check that nothing was edited, removed or reordered, and that every snapshot is right")
    replay = action("replay", "play the events again, and tell the state they come to")
    replay.add_argument("--to", type=int, metavar="SEQ", help="stop after this event (default: the newest)")
    replay.add_argument("--json", action="store_true", help="print one JSON object")
    show = action("show", "print events, one a line")
    show.add_argument("--kind", choices=sorted(ALL), metavar="KIND", help=f"one of {', '.join(ALL)}")
    show.add_argument("--hotkey", metavar="H", help="only events of this hotkey, or of those that begin so")
    show.add_argument("--from", type=int, default=1, dest="first", metavar="SEQ", help="begin at this event")
    show.add_argument("--to", type=int, metavar="SEQ", help="stop after this event")
    show.add_argument("--limit", type=int, default=0, metavar="N", help="print so many at most (0: all)")
    show.add_argument("--json", action="store_true", help="print JSON lines, with all fields")
    data = action("data", "cut microbatches from their text again, and compare them with the digests in the ledger")
    data.add_argument("--batch", type=int, metavar="N", help="only this microbatch, with the texts of its samples")
    data.add_argument("--data", metavar="SOURCE", help="where the same text lies here, such as text:GLOB")
    data.add_argument("--json", action="store_true", help="print JSON lines, one a microbatch")


def main(options: argparse.Namespace) -> int:
    """Exit code: 0 done, 1 the ledger is broken. Raises BadSettings."""
    try:
        with reading(options.path) as journal:
            try:
                return {"verify": _verify, "replay": _replay, "show": _show, "data": _data}[options.action](
                    journal, options
                )
            except LedgerError as error:
                print(f"BROKEN: {error}")
                return 1
    except LedgerError as error:
        raise BadSettings(str(error)) from None
    except BrokenPipeError:
        # Whoever reads has seen enough (`| head`); the interpreter must not try to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _verify(journal: Journal, options: argparse.Namespace) -> int:
    try:
        found = verify(journal)
    except Broken as broken:
        print(f"BROKEN at event {broken.seq}: {broken}")
        return 1
    state = found.state
    gone = f", of {found.head.seq}: the others were deleted" if found.base.seq else ""
    print(f"ok: {found.events} events{gone}; {found.played} played again, {found.snapshots} snapshots are right")
    print(f"epoch {state.epoch}, {state.phase.value}, {sum(r.microbatches for r in state.reports)} microbatches")
    print(f"history {found.head.seq} {found.head.digest.hex()}")
    print(f"state   {snapshots.state_hash(state)}")
    return 0


def _replay(journal: Journal, options: argparse.Namespace) -> int:
    head = journal.head()
    to = head.seq if options.to is None else options.to
    if not 0 <= to <= head.seq:
        raise BadSettings(f"--to {to}: the newest event is {head.seq}")
    core, start = earliest(journal, to)
    began = time.perf_counter()
    seq = start
    try:
        for row in journal.rows(start, to):
            seq = row.seq
            core.handle(decode(row))
    except Exception as error:
        print(f"BROKEN at event {seq}: {type(error).__name__}: {error}")
        return 1
    seconds = time.perf_counter() - began
    state, mark = core.state, journal.mark(to)
    result = {
        "seq": to,
        "from": start,
        "phase": state.phase.value,
        "epoch": state.epoch,
        "microbatches": sum(report.microbatches for report in state.reports),
        "miners": len(state.miners),
        "history": mark.digest.hex() if mark else "",
        "state": snapshots.state_hash(state),
        "seconds": round(seconds, 3),
        "events_per_second": round((to - start) / seconds) if seconds else None,
    }
    if options.json:
        print(json.dumps(result))
        return 0
    since = f" from the snapshot after event {start}" if start else ""
    print(f"{to - start} events{since} in {seconds:.2f} s ({result['events_per_second']} per second)")
    print(
        f"epoch {state.epoch}, {state.phase.value}, {result['microbatches']} microbatches, {len(state.miners)} miners"
    )
    print(f"waiting for: {state.waiting_for}")
    print(f"history {to} {result['history']}")
    print(f"state   {result['state']}")
    return 0


def earliest(journal: Journal, to: int) -> tuple[Orchestrator, int]:
    """A core at the first place that the file can be played from, and the number of the last event in it."""
    spec = journal.spec()
    core = Orchestrator(spec)
    if journal.base().seq == 0:
        return core, 0
    for seq in journal.snapshot_seqs():
        if seq <= to:
            core.state = journal.load(seq, spec)
            return core, seq
    raise BadSettings(f"--to {to}: the events before it were deleted and no snapshot is that old")


def _show(journal: Journal, options: argparse.Namespace) -> int:
    printed = 0
    for row in journal.rows(options.first - 1, options.to):
        if options.kind and row.kind != options.kind:
            continue
        event = decode(row)
        if options.hotkey and not _of(event, options.hotkey):
            continue
        print(_as_json(row, event) if options.json else _as_text(row, event))
        printed += 1
        if printed == options.limit:
            break
    return 0


def _data(journal: Journal, options: argparse.Namespace) -> int:
    from iota_subnet.train.data import DataError
    from iota_subnet.validator import provenance

    wanted = provenance.published(decode(row) for row in journal.rows() if row.kind == BatchPublished.__name__)
    if options.batch is not None:
        wanted = [pair for pair in wanted if pair[0] == options.batch]
        if not wanted:
            raise BadSettings(f"--batch {options.batch}: the ledger has no such microbatch")
    wrong = 0
    try:
        for sample in provenance.make_again(provenance.feed_of(journal.spec(), options.data), wanted):
            wrong += not sample.same
            if options.json:
                print(json.dumps({**sample._asdict(), "same": sample.same}))
                continue
            if not sample.same:
                made = f"the text here gives {sample.made[:16]}..."
                print(f"WRONG: microbatch {sample.batch}: the ledger has {sample.published[:16]}..., {made}")
            for number, cuts in enumerate(sample.cuts if options.batch is not None else []):
                where = " + ".join(f"{cut.document[:16]}[{cut.lo}:{cut.hi}]" for cut in cuts)
                print(f"microbatch {sample.batch} sample {number}: {where}")
    except DataError as error:
        raise BadSettings(f"{error}; give the text that the run had: --data SOURCE") from None
    if not options.json and not wrong:
        print(f"ok: {len(wanted)} microbatches were cut from this text")
    return 1 if wrong else 0


def _of(event: Event, hotkey: str) -> bool:
    """Whether an event is of a hotkey, given whole or by its beginning."""
    whose: str = getattr(event, "hotkey", "")
    return bool(whose) and whose.startswith(hotkey)


def _as_json(row: Row, event: Event) -> str:
    """All fields but the run's secret, which decides who is drawn next. A number that JSON has not is null.

    No event has a field called seq, event or history.
    """
    fields = msgspec.to_builtins(event)
    if isinstance(event, RunStarted):
        del fields["secret"]
    return msgspec.json.encode({"seq": row.seq, "event": row.kind, **fields, "history": row.digest.hex()}).decode()


def _as_text(row: Row, event: Event) -> str:
    fields = {name: getattr(event, name) for name in type(event).__dataclass_fields__ if name not in ("at", "secret")}
    parts = [f"{name}={_brief(name, value)}" for name, value in fields.items() if value not in ("", (), None)]
    return f"{row.seq:>8} {_when(event.at)} {row.kind:<18} {' '.join(parts)}".rstrip()


def _when(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(at)


def _brief(name: str, value: Any) -> str:
    """One field for a person: what is long is cut, lists are counted, losses are averaged."""
    if isinstance(value, BlobRef):
        return f"{value.digest[:12]}({value.nbytes}B)"
    if isinstance(value, tuple):
        if name == "losses" and value:
            return f"{math.fsum(value) / len(value):.4f}x{len(value)}"
        if value and isinstance(value[0], (BlobRef, Manifest)):
            return f"[{len(value)}]"
        return f"[{','.join(_brief('', part) for part in value[:4])}{',...' * (len(value) > 4)}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        most = {"hotkey": 48, "reason": 120, "message": 120}.get(name, 16)
        text = value if len(value) <= most else f"{value[:most]}..."
        return json.dumps(text, ensure_ascii=False) if not text.isprintable() or " " in text else text
    return str(value)
