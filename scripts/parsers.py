"""The command lines of the programs as objects: for the reference, and for the tests of what the docs tell to type."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from iota_subnet import cli, fleet
from iota_subnet.settings import MinerSettings, ValidatorSettings
from template.localnet import cli as chain

#: The neurons by the program that runs them.
NEURONS: dict[str, type[BaseModel]] = {"neurons/miner.py": MinerSettings, "neurons/validator.py": ValidatorSettings}


def commands() -> dict[str, argparse.ArgumentParser]:
    """`iota ...` by its words, with those of the embedded chain and with actions such as `iota ledger verify`."""
    found: dict[str, argparse.ArgumentParser] = {}
    for name, (module, help_text) in cli.COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f"iota {name}", description=f"{help_text[0].upper()}{help_text[1:]}.")
        import_module(module).add_arguments(parser)
        found |= _with_actions(f"iota {name}", parser)
    found["iota mine"] = argparse.ArgumentParser(prog="iota mine", description=fleet.DESCRIPTION)
    fleet.add_arguments(found["iota mine"])
    found["iota chain"] = chain._parser("iota chain")
    for name, add in chain.COMMANDS.items():
        words = "iota faucet" if name == "faucet" else f"iota chain {name}"
        found[words] = argparse.ArgumentParser(prog=words)
        add(found[words])
    return found


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Everything that can be given to it but its actions and --help."""
    for action in parser._actions:
        if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            yield action


def flags(settings: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Each flag of a neuron without its dashes, with its field and its default as this program has it."""
    for name, info in settings.model_fields.items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            # A program may have other defaults than its group, as an object of a subclass.
            given = info.default
            for part, inner in type(given).model_fields.items():
                yield f"{name}.{part}", inner, getattr(given, part)
        else:
            yield name, info, info.default


def _with_actions(words: str, parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = {words: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found |= _with_actions(f"{words} {name}", inner)
    return found


def is_switch(info: FieldInfo) -> bool:
    """Whether the flag stands alone: --run.overlap, --no-run.overlap."""
    return info.annotation is bool or bool in get_args(info.annotation)
