"""`iota track`: a run's curves in trackio or wandb, read from what its validator tells everybody.

Law: the validator knows nothing of trackers, needs no package and no account of theirs, and is not slowed down by them.
Steps are finished microbatches, so that whoever starts again, or looks from elsewhere, draws the same axis.
"""

from __future__ import annotations

import argparse
import http.client
import math
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from iota_subnet.status.find import fetch, look
from template.errors import BadSettings

#: By name, the extra of setup.py that installs it. Both have init, log and finish.
TRACKERS = {"trackio": "trackio", "wandb": "wandb"}

#: Losses of so many of the newest microbatches make the training loss of a point.
SMOOTHED = 32

EPILOG = """\
examples:
  iota track --url http://203.0.113.7:8093                    trackio, on this machine: then `trackio show`
  iota track --url http://203.0.113.7:8093 --to wandb         with the account that `wandb login` has stored
  iota track --url http://127.0.0.1:8093 --project mine --every 2

The step is the number of finished microbatches. It ends with the run, or with Ctrl-C.
exit code: 0 the run is complete or you stopped it, 2 a wrong setting, or no validator there at the start
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota track`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--url", required=True, help="a validator's public address, such as http://203.0.113.7:8093")
    parser.add_argument("--to", choices=TRACKERS, default="trackio", help="the tracker (default %(default)s)")
    parser.add_argument("--project", default="iota", help="its project (default %(default)s)")
    parser.add_argument(
        "--every", type=float, default=10.0, metavar="SECONDS", help="between two looks (default %(default)s)"
    )


def main(options: argparse.Namespace) -> int:
    """The exit code. Raises NeuronError."""
    if not options.every > 0:
        raise BadSettings(f"--every {options.every:g}: give a number of seconds above 0")
    tracker = _tracker(options.to)
    run = look(options.url).run or {}
    print(f"{run['run']} at {options.url} in {options.to}, project {options.project}; Ctrl-C stops it", flush=True)
    tracker.init(
        project=options.project,
        name=f"{run['run']}-{str(run['spec'])[:8]}",
        config={"spec": run["spec"], "epochs": run["epochs"], "microbatches": run["microbatches"]["per_epoch"]},
        resume="allow",
    )
    try:
        follow(options.url, run, tracker.log, lambda: time.sleep(options.every))
    except KeyboardInterrupt:
        pass
    finally:
        tracker.finish()
    return 0


def follow(url: str, run: dict[str, Any], log: Callable[..., Any], wait: Callable[[], None]) -> None:
    """Log `run`, a status, and those that follow, until one says that the run is complete.

    A validator that does not answer is asked again: it may be restarting.
    """
    drawn, away, step = -1, False, -1
    while True:
        for report, at in _closed(run):
            if report["epoch"] > drawn:
                drawn = report["epoch"]
                # A held-out loss comes when the next epoch has begun, and trackers take no step that goes back.
                step = max(at, step + 1)
                log(epoch(report), step=step)
                print(f"epoch {drawn + 1}: held-out loss {report['eval_loss']:.4f}", flush=True)
        now = int(run["microbatches"]["retired"])
        if now > step:
            step = now
            log(present(run), step=step)
        if run["phase"] == "done":
            return
        wait()
        try:
            run = fetch(url)
            away = False
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not away:
                print(f"the validator does not answer ({error}); asking again", flush=True)
            away = True


def present(run: Mapping[str, Any]) -> dict[str, float]:
    """What a status says of this moment, by the names of the tracker."""
    newest = run["recent_losses"][-SMOOTHED:]
    found = {
        "epoch": run["epoch"] + 1,
        "tokens": run["tokens"],
        "microbatches/live": run["microbatches"]["live"],
        "microbatches/lost": run["microbatches"]["lost"],
        "miners/seated": sum(miner["stage"] >= 0 for miner in run["miners"]),
        "miners/connected": sum(miner["connected"] for miner in run["miners"]),
        "miners/faults": len(run["faults"]),
        "bytes/activations": run["wire_bytes_activations"],
        "bytes/merges": run["wire_bytes_merge"],
    }
    return found | ({"loss/train": math.fsum(newest) / len(newest)} if newest else {})


def epoch(report: Mapping[str, Any]) -> dict[str, float]:
    """What a closed epoch adds."""
    found = {"loss/held_out": report["eval_loss"], "merge/twins_disagreed": report["twin_disagreements"]}
    if report["train_loss"] is not None:
        found["loss/train_epoch"] = report["train_loss"]
    if report["coverage"]:
        found["merge/coverage"] = min(report["coverage"])
    return found


def _closed(run: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], int]]:
    """Epochs whose held-out loss is known, each with the microbatches that were finished when it ended."""
    at = run["microbatches"]["retired"] - sum(report["microbatches"] for report in run["reports"])
    for report in run["reports"]:
        at += report["microbatches"]
        if report["eval_loss"] is not None:
            yield report, at


def _tracker(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise BadSettings(f"--to {name}: not installed; pip install -e '.[{TRACKERS[name]}]'") from None
