"""Run a validator, which hosts the orchestrator: `python neurons/validator.py --netuid 1 --wallet.name w`.

With `--run.follow auto` it follows another validator's run instead, audits on its own, and sets its own weights.
`--help` lists every flag.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from iota_subnet.settings import ValidatorSettings
from template import cli, logs, wallet
from template.settings import parse


async def run(argv: Sequence[str]) -> None:
    """Run one validator, or a follower with `--run.follow`, until it is stopped. Raises NeuronError."""
    settings = parse(ValidatorSettings, argv, prog="neurons/validator.py")
    logging = settings.logging
    logs.setup(logging.effective_level, file=logging.file, who=settings.wallet.hotkey, as_json=logging.as_json)
    keys = wallet.load(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    # Imported late, so that --help and a wrong flag answer at once.
    from iota_subnet.validator.follower import IotaFollower
    from iota_subnet.validator.neuron import IotaValidator
    from template.subtensor import SubtensorChain

    chain = SubtensorChain(keys, settings.subtensor.endpoint, settings.subtensor.timeout_s)
    kind = IotaFollower if settings.run.follow else IotaValidator
    try:
        await kind(settings, chain, keys).run()
    finally:
        # Left to the interpreter, its threads would hold up the end of the process.
        chain.close()


def main() -> int:
    """Exit code: 0 stopped in good order, 2 a wrong setting or environment, 1 anything else."""
    return cli.main(run)


if __name__ == "__main__":
    sys.exit(main())
