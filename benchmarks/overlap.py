"""Training that goes on during merges against training that waits for them: real processes, equal tokens.

`iota localnet` is run with and without --overlap, in turn, with the same seeds. Prints JSON:
{"rows": [{"name", "value", "unit", "peer", "peer_value", "ratio", "n", "min", "max"}]}; a value is the median over the
runs with overlap, its peer the median of those without; `min` and `max` are of the runs with overlap.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any


def run(seed: int, options: argparse.Namespace, overlap: bool) -> dict[str, Any]:
    """The summary of one run. Raises SystemExit with its last lines when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "iota_subnet.cli", "localnet", "--no-ui", "--run-dir", f"{folder}/run",
            "--json", f"{folder}/summary.json", "--seed", str(seed), "--miners", str(options.miners),
            "--stages", str(options.stages), "--epochs", str(options.epochs), "--batches", str(options.batches),
            "--graphs", str(options.graphs), *(["--overlap"] if overlap else []),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        summary: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text(encoding="utf-8"))
    how = "overlap" if overlap else "waits  "
    idle = list(summary["merge_idle_share"].values())
    print(
        f"seed {seed} {how}: held-out loss {summary['eval_loss_last']:.4f}, {summary['tokens_per_second']:,.0f} "
        f"tokens/s, idle in merges {100 * median(idle):.1f} % ({100 * max(idle):.1f} % at most)",
        file=sys.stderr,
    )
    return summary


def row(name: str, unit: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    value, peer = median(ours), median(theirs)
    return {
        "name": name, "value": round(value, 4), "unit": unit, "peer": "waiting for merges",
        "peer_value": round(peer, 4),
        "ratio": round(value / peer, 4) if peer else None, "n": len(ours), "min": round(min(ours), 4),
        "max": round(max(ours), 4),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind, with seeds 0, 1, ... (default 5)")
    parser.add_argument("--miners", type=int, default=6)
    parser.add_argument("--stages", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batches", type=int, default=120)
    parser.add_argument("--graphs", type=int, default=4, help="enough that miners are not idle in TRAIN (default 4)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    with_it: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    for seed in range(options.runs):
        # The order changes, so that a machine that grows busier favours nobody.
        for overlap in (True, False) if seed % 2 else (False, True):
            (with_it if overlap else without).append(run(seed, options, overlap))

    def both(name: str, unit: str, key: Any) -> dict[str, Any]:
        return row(name, unit, [key(summary) for summary in with_it], [key(summary) for summary in without])

    rows = [
        both("held-out loss after equal tokens", "nats per token", lambda s: s["eval_loss_last"]),
        both("tokens per second", "1/s", lambda s: s["tokens_per_second"]),
        both("idle share of a miner during merges, mean", "share", lambda s: _mean(s["merge_idle_share"])),
        both(
            "idle share of a miner during merges, worst miner", "share", lambda s: max(s["merge_idle_share"].values())
        ),
        both("idle share of a miner over the run, mean", "share", lambda s: _mean(s["idle_share"])),
    ]
    text = json.dumps({"rows": rows}, indent=1)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


def _mean(shares: dict[str, float]) -> float:
    return sum(shares.values()) / len(shares)


if __name__ == "__main__":
    main()
