"""`iota checkpoint`: the models that a run's folder holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from iota_subnet.core.events import Manifest
from iota_subnet.product.source import CheckpointBroken, Run, open_run, state_of
from iota_subnet.product.words import columns, size
from iota_subnet.validator.checkpoints import BLOBS, Checkpoint
from iota_subnet.validator.journal import LedgerError
from iota_subnet.validator.ledger import alone
from template.errors import BadSettings

EXAMPLES = """examples:
  iota checkpoint list --run runs/main
  iota checkpoint verify --run runs/main             # compute all digests again; exit code 1 if one is wrong
  iota checkpoint prune --run runs/main --keep 1     # while its validator is stopped

a validator keeps the newest --run.keep_checkpoints (3) by itself
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and flags of `iota checkpoint`."""
    raw = argparse.RawDescriptionHelpFormatter
    parser.epilog, parser.formatter_class = EXAMPLES, raw
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("list", "epoch, held-out loss, bytes and digests of each checkpoint"),
        ("verify", "compute the digests of all bytes again, and compare with the ledger"),
        ("prune", "delete all but the newest"),
    ):
        action = actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EXAMPLES, formatter_class=raw
        )
        action.add_argument(
            "--run", type=Path, required=True, metavar="DIR", help="a validator's --run.dir, or a localnet folder"
        )
        if name == "prune":
            action.add_argument("--keep", type=int, required=True, metavar="N", help="how many stay, at least 1")
        action.add_argument("--json", action="store_true", help="print one JSON object")


def main(options: argparse.Namespace) -> int:
    """Exit code: 0 done, 1 a checkpoint is broken. Raises BadSettings."""
    with open_run(options.run) as run:
        return {"list": _list, "verify": _verify, "prune": _prune}[options.action](run, options)


def _list(run: Run, options: argparse.Namespace) -> int:
    found = [_told(run, epoch) for epoch in run.checkpoints.epochs()]
    if options.json:
        print(json.dumps({"run": str(run.folder), "spec": run.spec.digest(), "checkpoints": found}))
        return 0
    if not found:
        print(f"{run.folder} holds no checkpoint yet")
        return 0
    rows = [
        (
            str(row["epoch"]), _when(row["at"]), _loss(row["loss"]), size(row["bytes"]),
            " ".join(name[:12] for name in row["manifests"][:4]) + (" ..." if len(row["manifests"]) > 4 else ""),
            row["problem"] or "here",
        )
        for row in found
    ]  # fmt: skip
    print(
        "\n".join(columns(("epoch", "measured (UTC)", "held-out", "bytes", "manifests by stage", ""), rows, (1, 4, 5)))
    )
    return 0


def _told(run: Run, epoch: int) -> dict[str, Any]:
    try:
        found = run.load(epoch)
    except CheckpointBroken as error:
        return {"epoch": epoch, "at": None, "loss": None, "bytes": 0, "manifests": [], "problem": str(error)}
    lost = len({ref.digest for ref in run.lost(found)})
    return {
        "epoch": found.epoch,
        "at": found.at,
        "loss": found.loss,
        "bytes": found.nbytes,
        "manifests": [manifest.name for manifest in found.manifests],
        "problem": f"{lost} of its blobs are missing" if lost else "",
    }


def _verify(run: Run, options: argparse.Namespace) -> int:
    measured = run.measured()
    whole = run.journal.base().seq == 0
    results: list[dict[str, Any]] = []
    for epoch in run.checkpoints.epochs():
        problems = list(_problems(run, epoch, measured, whole))
        results.append({"epoch": epoch, "ok": not problems, "problems": problems})
    if options.json:
        print(json.dumps({"run": str(run.folder), "checkpoints": results}))
    else:
        for result in results:
            words = "; ".join(result["problems"][:3]) + (" ..." if len(result["problems"]) > 3 else "")
            print(f"{result['epoch']:>6}  {'ok' if result['ok'] else f'BROKEN: {words}'}")
        if not results:
            print(f"{run.folder} holds no checkpoint yet")
    return 0 if all(result["ok"] for result in results) else 1


def _problems(run: Run, epoch: int, measured: dict[tuple[str, ...], float], whole: bool) -> Iterator[str]:
    """What is wrong with one. Of an event that was deleted from the ledger nothing can be said (`whole` false)."""
    try:
        found = run.load(epoch)
    except CheckpointBroken as error:
        yield str(error)
        return
    for ref in {ref.digest: ref for ref in found.blobs()}.values():
        try:
            run.blob(ref)
        except CheckpointBroken as error:
            yield str(error)
            return
    try:
        run.states(found)
    except CheckpointBroken as error:
        yield str(error)
    loss = measured.get(tuple(manifest.name for manifest in found.manifests))
    if loss is None and whole:
        yield "the ledger knows no such manifests"
    if loss is not None and loss != found.loss:
        yield f"the ledger says held-out loss {loss:.6f}, the file {found.loss:.6f}"


def _prune(run: Run, options: argparse.Namespace) -> int:
    if options.keep < 1:
        raise BadSettings(f"--keep {options.keep}: at least 1; a run without any could not go on")
    try:
        with alone(run.journal.path):
            gone, freed = _drop(run, options.keep)
    except LedgerError as error:
        raise BadSettings(f"{error}; stop its validator first, or lower its --run.keep_checkpoints") from None
    if options.json:
        print(json.dumps({"run": str(run.folder), "pruned": gone, "bytes": freed}))
    else:
        print(f"{len(gone)} checkpoints deleted, {size(freed)} freed; {len(run.checkpoints.epochs())} left")
    return 0


def _drop(run: Run, keep: int) -> tuple[list[int], int]:
    """Epochs that are gone and bytes that are free. What the run needs to go on stays, whatever names it."""
    files = run.checkpoints
    old = files.epochs()[:-keep]
    state = state_of(run.journal)
    needed = set(_names([*state.manifests, *state.former, *state.safe]))
    kept = [found for found in files.readable() if found.epoch not in old]
    needed |= {ref.digest for found in kept for ref in found.blobs()}
    freed = 0
    for found in (found for found in files.readable() if found.epoch in old):
        files.drop(found.epoch)
        freed += sum(_delete(run.folder / BLOBS, digest) for digest in _loose(found, needed))
    for epoch in old:
        files.drop(epoch)
    return old, freed


def _names(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        for shard in manifest.shards:
            yield from filter(None, shard.digests)


def _loose(found: Checkpoint, needed: set[str]) -> list[str]:
    names = dict.fromkeys(ref.digest for ref in found.blobs())
    return [name for name in names if name not in needed and len(name) == 64 and name.isalnum()]


def _delete(folder: Path, digest: str) -> int:
    path = folder / digest
    try:
        nbytes = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    (folder / f"{digest}.pin").unlink(missing_ok=True)
    return nbytes


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.4f}"


def _when(at: float | None) -> str:
    if at is None:
        return "?"
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"
