"""Run a miner: `python neurons/miner.py --netuid 1 --wallet.name w --wallet.hotkey h`. `--help` lists every flag."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from iota_subnet.settings import MinerSettings
from template import cli, logs, wallet
from template.settings import parse


async def run(argv: Sequence[str]) -> None:
    settings = parse(MinerSettings, argv, prog="neurons/miner.py")
    logs.setup(settings.logging.effective_level, file=settings.logging.file, who=settings.wallet.hotkey)
    keys = wallet.load(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    # Imported late, so that --help and a wrong flag answer at once.
    from iota_subnet.miner import rogue
    from iota_subnet.miner.neuron import IotaMiner
    from template.subtensor import SubtensorChain

    conduct = rogue.chosen(settings, keys.hotkey.ss58_address)
    chain = SubtensorChain(keys, settings.subtensor.endpoint, settings.subtensor.timeout_s)
    await IotaMiner(settings, chain, keys, conduct=conduct).run()


def main() -> int:
    return cli.main(run)


if __name__ == "__main__":
    sys.exit(main())
