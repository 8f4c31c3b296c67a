"""`iota doctor`: options, output, exit code."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator

from iota_subnet import __version__
from iota_subnet.doctor.finding import Finding, needs
from iota_subnet.settings import MinerSettings, ValidatorSettings
from template.errors import BadSettings
from template.settings import parse

#: Flags of the neurons that matter here, and what they are; those not given come from the environment or .env.
FLAGS = {
    "netuid": "number of the subnet",
    "wallet.name": "name of the wallet",
    "wallet.hotkey": "name of its hotkey",
    "wallet.path": "folder of the wallets",
    "subtensor.network": "finney, test, local, or the ws:// address of a node",
    "subtensor.chain_endpoint": "address of a node",
    "axon.ip": "address to listen on",
    "axon.port": "port of the axon",
    "axon.external_ip": "address that others reach",
    "blobs.port": "port of the blob server",
    "neuron.state_dir": "folder of its state",
}

#: Those of a miner whose blobs lie in a bucket.
BUCKET = {
    "blobs.bucket": "s3://BUCKET/PREFIX for what others read; no port is opened",
    "blobs.bucket_url": "address under which everybody can read it",
}

MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✕", "red"), "skipped": ("-", "dim")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota doctor`."""
    parser.add_argument("role", nargs="?", choices=("miner", "validator"), default="miner", help="(default miner)")
    parser.add_argument("--url", help="a validator's public address: clock, release and bandwidth are compared with it")
    for flag, text in FLAGS.items():
        parser.add_argument(f"--{flag}", dest=flag, metavar="X", help=text)
    parser.add_argument("--work.device", dest="work.device", metavar="X", help="torch device: cpu, cuda, cuda:1, mps")
    parser.add_argument("--blobs.relay", dest="blobs.relay", action="store_const", const="", help="open no port")
    for flag, text in BUCKET.items():
        parser.add_argument(f"--{flag}", dest=flag, metavar="X", help=text)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "examples:\n"
        "  iota doctor                                            # this machine alone\n"
        "  iota doctor --netuid 9 --wallet.name me --wallet.hotkey m1 --axon.external_ip 203.0.113.7\n"
        "  iota doctor validator --netuid 9 --json\n\n"
        "Flags are those of neurons/miner.py and neurons/validator.py; what is not given is taken from the\n"
        "environment and .env as they do. Exit code: 0 nothing stands in the way, 1 something does, 2 a wrong setting."
    )


def main(options: argparse.Namespace) -> int:
    """0 nothing stands in the way (warnings do not), 1 something does. Raises NeuronError."""
    findings = report(options)
    if options.json:
        kept = list(findings)
        document = {
            "version": __version__,
            "role": options.role,
            "ok": all(one.state != "bad" for one in kept),
            "findings": [dataclasses.asdict(one) for one in kept],
        }
        print(json.dumps(document, indent=2))
        return 0 if document["ok"] else 1
    return show(findings)


def report(options: argparse.Namespace) -> Iterator[Finding]:
    """One after the other, as they are found."""
    from iota_subnet.doctor.machine import machine
    from iota_subnet.doctor.network import chain, validator

    settings, known = _settings(options)
    try:
        wanted = needs(options.role)
    except ValueError as error:
        raise BadSettings(f"{error}; get the file that belongs to this release") from None
    device = settings.work.device if isinstance(settings, MinerSettings) else "cpu"
    yield from machine(wanted, device, settings.neuron.state_dir)
    if isinstance(settings, MinerSettings) and settings.blobs.relay:
        yield Finding("ports", "ok", "none is needed, the validator relays (--blobs.relay)")
    elif isinstance(settings, MinerSettings) and settings.blobs.bucket:
        from iota_subnet.doctor.bucket import bucket

        yield Finding("ports", "ok", "none is needed (--blobs.bucket)")
        yield from bucket(settings.blobs)
    else:
        yield from _ports(settings, known)
    yield from chain(settings, known)
    yield from validator(options.url, wanted)


def _ports(settings: MinerSettings | ValidatorSettings, known: bool) -> Iterator[Finding]:
    from iota_subnet.doctor.machine import port

    axon = settings.axon
    yield port("--axon.port", axon.ip, axon.port, axon.external_ip)
    yield port("--blobs.port", axon.ip, settings.blobs.port, axon.external_ip)
    if known and axon.external_ip is None and axon.ip in ("0.0.0.0", "::"):
        advice = "give the one that others reach, --axon.external_ip; a miner without: --blobs.relay or --blobs.bucket"
        yield Finding("address", "bad", f"--axon.ip is {axon.ip}", advice)


def show(findings: Iterable[Finding]) -> int:
    """A line each; the exit code."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    counts = dict.fromkeys(MARKS, 0)
    for one in findings:
        counts[one.state] += 1
        mark, style = MARKS[one.state]
        line = Text.assemble((f" {mark} ", style), (f"{one.name}: ", "bold"), one.text)
        console.print(line, soft_wrap=True)
        if one.advice:
            console.print(Text(f"     {one.advice}", style="dim"), soft_wrap=True)
    if counts["bad"]:
        console.print(f"{counts['bad']} to be mended first", style="red")
        return 1
    rest = [
        f"{count} {word}"
        for word, count in (("to look at", counts["warn"]), ("not looked at", counts["skipped"]))
        if count
    ]
    console.print(f"nothing stands in the way{', ' + ', '.join(rest) if rest else ''}", style="green")
    return 0


def _settings(options: argparse.Namespace) -> tuple[MinerSettings | ValidatorSettings, bool]:
    """As the neuron itself would have them, and whether the subnet is known."""
    kind: type[MinerSettings] | type[ValidatorSettings] = MinerSettings
    if options.role == "validator":
        kind = ValidatorSettings
    given = vars(options)
    names = [*FLAGS, "work.device", "blobs.relay", *BUCKET] if options.role == "miner" else list(FLAGS)
    # A switch stands alone.
    argv = [text for flag in names if given[flag] is not None for text in (f"--{flag}", given[flag]) if text]
    try:
        return parse(kind, argv), True
    except BadSettings as error:
        if "--netuid (NETUID): is required" not in str(error):
            raise
        return parse(kind, [*argv, "--netuid", "0"]), False
