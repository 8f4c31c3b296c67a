"""The pages of the reference: what the code declares, as Markdown. Each function gives one page as text."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

from pydantic_core import PydanticUndefined

from iota_subnet import SPEC_VERSION, messages
from iota_subnet import protocol as synapses
from iota_subnet import spec as specification
from iota_subnet.core import actions, events
from scripts import parsers, sources
from scripts.kinds import amount, bounds, kind, unit
from scripts.sources import flat
from template.synapse import SignedSynapse

ROOT = Path(__file__).resolve().parents[1]


def protocol() -> str:
    """Synapses, work channel, the records in them, and HTTP."""
    made = [c for c in vars(synapses).values() if _is_of(c, synapses) and issubclass(c, SignedSynapse)]
    down = [c for c in vars(messages).values() if _is_of(c, messages) and messages.FromOrchestrator in c.__bases__]
    up = [c for c in vars(messages).values() if _is_of(c, messages) and messages.FromMiner in c.__bases__]
    records = [c for c in vars(messages).values() if _is_of(c, messages) and dataclasses.is_dataclass(c)]
    lines = [
        "# Protocol",
        f"Version {SPEC_VERSION} (`SPEC_VERSION`); both sides of a run must have the same. How it is used is in "
        "[architecture.md](../architecture.md); the rules of signed calls are in `template/envelope.py`, those of the "
        "work channel in `iota_subnet/wire/handshake.py`.",
        "## Synapses",
        _prose(synapses),
        "A call is `POST /NAME` on the receiver's axon. The caller fills in the fields of the request, the receiver "
        "those of the reply.",
    ]
    for cls in made:
        lines += [f"### {cls.__name__}", _prose(cls), _table(_pydantic(cls))]
    size = (
        f"`max_frame_bytes` of the run's specification, {amount(specification.SwarmSpec().max_frame_bytes)} by default"
    )
    lines += [
        "## Work channel",
        "One websocket for each miner (`/v1/channel`). A frame is msgpack, signed by the sender's hotkey and numbered, "
        f"of at most {size}. Every message may be sent twice and counts once.",
    ]
    for title, classes in (("From the orchestrator to a miner", down), ("From a miner to the orchestrator", up)):
        lines.append(f"### {title}")
        for cls in classes:
            lines += [f"#### {cls.__name__}", _prose(cls), _table(_struct(cls))]
    lines += ["## Records", "What synapses and messages hold."]
    for cls in records:
        lines += [f"### {cls.__name__}", _prose(cls), _table(_dataclass(cls))]
    lines += ["## HTTP", _rows(["route", "of a", "port", "what it gives"], sources.routes())]
    return "\n\n".join(lines)


def core() -> str:
    """What can happen, and what the core asks for."""
    lines = [
        "# Events and actions of the core",
        "`Orchestrator.handle(event)` returns actions. Events are what the ledger holds ([ledger.md](../ledger.md)).",
        "## Events",
        _prose(events),
    ]
    for cls in events.ALL.values():
        lines += [f"### {cls.__name__}", _prose(cls), _table(_dataclass(cls, skip=("at",)))]
    lines += ["## Actions", _prose(actions)]
    for cls in vars(actions).values():
        if _is_of(cls, actions) and issubclass(cls, actions.Action) and cls is not actions.Action:
            lines += [f"### {cls.__name__}", _prose(cls), _table(_dataclass(cls))]
    lines.append("## Records")
    for cls in (events.Manifest, events.ShardRef, specification.BlobRef, actions.Contribution, actions.Duty):
        lines += [f"### {cls.__name__}", _prose(cls), _table(_dataclass(cls))]
    return "\n\n".join(lines)


def spec() -> str:
    """The run's specification and the presets."""
    lines = [
        "# The specification of a run",
        _prose(specification),
        "A validator makes it from its flags ([settings.md](settings.md)), or reads it from `--run.spec FILE`.",
    ]
    parts = (specification.RunSpec, specification.ModelSpec, specification.TrainSpec)
    for cls in (*parts, specification.SwarmSpec, specification.DataSpec):
        lines += [f"## {cls.__name__}", _prose(cls), _table(_dataclass(cls))]
        if refused := list(sources.refusals(cls)):
            lines += ["Refused with `SpecError`:", "\n".join(f"* {text}" for text in refused)]
    names = [field.name for field in dataclasses.fields(specification.ModelSpec)]
    rows = [[f"`{name}`", *(amount(getattr(p, name)) for p in specification.PRESETS.values())] for name in names[1:]]
    heads = ["", *(f"`{name}`" for name in specification.PRESETS)]
    lines += ["## Presets", _rows(heads, [[c if c != "()" else "" for c in row] for row in rows])]
    return "\n\n".join(lines)


def settings() -> str:
    """Every flag of the neurons, with its variable."""
    lines = [
        "# Settings of the neurons",
        "A flag wins over the environment, that over `.env` in the working folder, that over the default. A switch is "
        "given alone, or as `--no-NAME`. [.env.example](../../.env.example) is one to begin with.",
    ]
    heads = ["flag", "variable", "type", "unit", "bounds", "default", "meaning"]
    for program, cls in parsers.NEURONS.items():
        rows = []
        for flag, info, default in parsers.flags(cls):
            shown = "required" if default is PydanticUndefined else _value(default)
            type_name = "switch" if parsers.is_switch(info) else kind(info.annotation)
            variable = f"`{flag.replace('.', '_').upper()}`"
            measure = "" if unit(flag) == "ss58" else unit(flag)
            rows.append([f"`--{flag}`", variable, type_name, measure, bounds(info), shown, info.description or ""])
        lines += [f"## {program}", _prose(cls), _rows(heads, rows)]
    return "\n\n".join(lines)


def commands() -> str:
    """Every `iota` command, with its options and examples."""
    listed = parsers.commands()
    lines = [
        "# Commands",
        "`iota COMMAND --help` says the same. Where nothing else is said, the exit code is 0: done, 1: what was asked "
        "for did not come out, 2: a wrong setting or environment, of which one line says what to do.",
    ]
    for words, parser in listed.items():
        lines.append(f"## {words}")
        if parser.description:
            lines.append(flat(parser.description))
        rows = []
        for action in parsers.options(parser):
            name = ", ".join(f"`{flag}`" for flag in action.option_strings)
            name = name or f"`{_metavar(action)}`"
            value = f" {_metavar(action)}" if action.option_strings and action.nargs != 0 else ""
            text = (action.help or "") % {**vars(action), "prog": parser.prog}
            if action.choices and not action.metavar:
                text = f"{text}; one of {', '.join(map(str, action.choices))}"
            rows.append([f"{name}{value}", text])
        if rows:
            lines.append(_rows(["option", "meaning"], rows))
        above = listed.get(words.rpartition(" ")[0])
        if above is not None and above.epilog == parser.epilog:
            continue
        if parser.epilog and "\n" in parser.epilog:
            text = parser.epilog.replace("%(prog)s", parser.prog)
            lines.append(f"```text\n{text.strip()}\n```")
        elif parser.epilog:
            lines.append(flat(parser.epilog))
    return "\n\n".join(lines)


def metrics() -> str:
    """Names, kinds, labels and meanings of all metrics."""
    lines = [
        "# Metrics",
        "`/metrics` on `--local.port`, in the text format of Prometheus ([metrics.md](../metrics.md)). Names end with "
        "their unit; `_total` only grows.",
    ]
    for title, files in (
        ("A validator", ("run.py", "traffic.py")),
        ("A miner", ("work.py", "traffic.py")),
    ):
        rows = [row for file in files for row in sources.metrics_of(ROOT / "iota_subnet/metrics" / file)]
        lines += [f"## {title}", _rows(["metric", "kind", "labels", "meaning"], rows)]
    return "\n\n".join(lines)


# What the pages are made of


def _is_of(thing: Any, module: Any) -> bool:
    return inspect.isclass(thing) and thing.__module__ == module.__name__


def _prose(thing: Any) -> str:
    """A docstring, a line for each paragraph; indented parts stay as they are."""
    paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join(text if text.startswith("    ") else flat(text) for text in paragraphs)


def _pydantic(cls: type[SignedSynapse]) -> Iterator[list[str]]:
    replies = _replies(cls)
    for name in cls.required_hash_fields:
        info = cls.model_fields[name]
        default = "" if info.default is PydanticUndefined else _value(info.default)
        part = "reply" if name in replies else "request"
        yield [f"`{name}`", kind(info.annotation), unit(name), bounds(info), default, part]


def _replies(cls: type[SignedSynapse]) -> set[str]:
    """Fields of the reply: in the source an empty line stands before them."""
    body = ast.parse(inspect.getsource(cls)).body[0]
    assert isinstance(body, ast.ClassDef)
    fields = [node for node in body.body if isinstance(node, ast.AnnAssign)]
    begins = [i for i in range(1, len(fields)) if fields[i].lineno > (fields[i - 1].end_lineno or 0) + 1]
    start = begins[0] if begins else 0 if all(node.value for node in fields) else len(fields)
    return {ast.unparse(node.target) for node in fields[start:]}


def _struct(cls: Any) -> Iterator[list[str]]:
    hints = get_type_hints(cls)
    names, defaults = cls.__struct_fields__, cls.__struct_defaults__
    for number, name in enumerate(names):
        given = number - (len(names) - len(defaults))
        default = _value(defaults[given]) if given >= 0 else ""
        yield [f"`{name}`", kind(hints[name]), unit(name), "", default, ""]


def _dataclass(cls: Any, skip: tuple[str, ...] = ()) -> Iterator[list[str]]:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name not in skip:
            default = "" if field.default is dataclasses.MISSING else _value(field.default)
            yield [f"`{field.name}`", kind(hints[field.name]), unit(field.name), "", default, ""]


def _value(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if value == "":
        return '""'
    return f"`{value}`" if isinstance(value, (str, Path)) else amount(value)


def _table(rows: Iterable[list[str]]) -> str:
    """Fields; a column that holds nothing is left out."""
    listed = list(rows)
    if not listed:
        return "No fields."
    heads = ["field", "type", "unit", "bounds", "default", "part"]
    used = [i for i in range(len(heads)) if i < 2 or any(row[i] for row in listed)]
    return _rows([heads[i] for i in used], [[row[i] for i in used] for row in listed])


def _rows(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(flat(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices and not action.option_strings:
        return action.dest
    return action.dest.upper() if action.option_strings else action.dest
