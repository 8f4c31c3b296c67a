"""What several validators make of the same run, on the embedded chain: real processes, real audits, the chain's vtrust.

    python benchmarks/validators.py --json [--miners 4] [--epochs 3] [--batches 60] [--liar]

An orchestrator and one that follows it (two with `--liar`, so that those who do not lie have the most stake). With
`--liar` the orchestrator credits the first miner with as much as all others together; what it writes into the ledger
is true, since others check that. Prints JSON: by validator vtrust and the share of the weights that the favourite gets,
and the favourite's share of the incentive at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from iota_subnet.localnet.launch import Launcher
from iota_subnet.localnet.options import add_arguments, parse

LIAR = """
import sys
from iota_subnet.validator import neuron

class Liar(neuron.IotaValidator):
    def _take_scores(self, epoch, scores):
        favourite = {favourite!r}
        super()._take_scores(epoch, scores | {{favourite: sum(scores.values())}})

# Processes for arithmetic import this file too.
if __name__ == "__main__":
    neuron.IotaValidator = Liar
    sys.path.insert(0, {root!r})
    from neurons.validator import main
    sys.exit(main())
"""

ROOT = Path(__file__).resolve().parents[1]


class Several(Launcher):
    """A launcher whose orchestrator may lie."""

    liar = False

    def validator_program(self, name: str) -> list[str]:
        if not self.liar or name != "validator":
            return super().validator_program(name)
        program = self.dir / "liar.py"
        program.write_text(LIAR.format(favourite=next(iter(self.names)), root=str(ROOT)), encoding="utf-8")
        return [sys.executable, str(program)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--liar", action="store_true", help="the orchestrator credits a favourite")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--miners", type=int, default=4, help="(default 4)")
    parser.add_argument("--epochs", type=int, default=3, help="(default 3)")
    parser.add_argument("--batches", type=int, default=60, help="(default 60)")
    given = parser.parse_args()
    flags = argparse.ArgumentParser()
    add_arguments(flags)
    with tempfile.TemporaryDirectory() as folder:
        argv = ["--no-ui", "--keep", "--stages", "2", "--validators", "3" if given.liar else "2"]
        options = parse(flags.parse_args(argv))
        options = replace(
            options, miners=given.miners, epochs=given.epochs, batches=given.batches, run_dir=Path(folder) / "run"
        )
        launcher = Several(options, Console(stderr=True))
        launcher.liar = given.liar
        summary = launcher.run()
    print(json.dumps(_told(summary)))
    return 0 if summary["complete"] else 1


def _told(summary: dict[str, Any]) -> dict[str, Any]:
    favourite = next(iter(summary["names"]))
    return {
        "vtrust": {one["name"]: one["vtrust"] for one in summary["validators"].values()},
        "favourite_weight": {
            one["name"]: round(one["weights"].get(favourite, 0.0), 4) for one in summary["validators"].values()
        },
        "favourite_incentive": summary["incentive"].get(favourite, 0.0),
        "incentive": sorted(summary["incentive"].values()),
        "epochs": summary["epochs"],
        "complete": summary["complete"],
    }


if __name__ == "__main__":
    sys.exit(main())
