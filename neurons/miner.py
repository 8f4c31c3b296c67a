"""Run a miner: `python neurons/miner.py --netuid 1 --wallet.name w --wallet.hotkey h`. `--help` lists every flag."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from iota_subnet.settings import MinerSettings
from template import cli, logs, wallet
from template.settings import parse


async def run(argv: Sequence[str]) -> None:
    """Run one miner until it is stopped, and drained. Raises NeuronError."""
    settings = parse(MinerSettings, argv, prog="neurons/miner.py")
    logging = settings.logging
    logs.setup(logging.effective_level, file=logging.file, who=settings.wallet.hotkey, as_json=logging.as_json)
    keys = wallet.load(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    # Imported late, so that --help and a wrong flag answer at once.
    from iota_subnet.miner import rogue
    from iota_subnet.miner.neuron import IotaMiner
    from template.subtensor import SubtensorChain

    conduct = rogue.chosen(settings, keys.hotkey.ss58_address)
    chain = SubtensorChain(keys, settings.subtensor.endpoint, settings.subtensor.timeout_s)
    try:
        await IotaMiner(settings, chain, keys, conduct=conduct).run()
    finally:
        # Left to the interpreter, its threads would hold up the end of the process.
        chain.close()


def main() -> int:
    """Exit code: 0 stopped in good order, 2 a wrong setting or environment, 1 anything else."""
    return cli.main(run)


if __name__ == "__main__":
    sys.exit(main())
