"""What only the source says: HTTP routes, metrics, and the messages of a specification's checks."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

#: Who answers the routes that a file adds, and at which address.
SERVED = {
    "iota_subnet/wire/server.py": ("validator and miner", "--blobs.port"),
    "iota_subnet/wire/channel_server.py": ("validator", "--blobs.port"),
    "iota_subnet/validator/neuron.py": ("validator", "--blobs.port"),
    "iota_subnet/dashboard/server.py": ("validator", "--blobs.port"),
    "iota_subnet/dashboard/own.py": ("miner", "--local.port"),
    "iota_subnet/metrics/server.py": ("validator and miner", "--local.port"),
}


def flat(text: str) -> str:
    """One line."""
    return " ".join(text.split())


def refusals(cls: Any) -> Iterator[str]:
    """The messages of a specification's own checks, with field names where they would hold values."""
    check = getattr(cls, "__post_init__", None)
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(check)))) if check is not None else ():
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "SpecError"):
            continue
        text = node.args[0]
        assert isinstance(text, ast.JoinedStr)
        parts = [part.value if isinstance(part, ast.Constant) else _inner(part) for part in text.values]
        told = re.sub(r"\b(\w+)=`\1`", r"`\1`", "".join(map(str, parts)))
        if "`name`" not in told:  # the choices of a codec are in its type
            yield told


def _inner(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue)
    return f"`{ast.unparse(part.value).removesuffix('!r').replace('self.', '')}`"


def routes() -> list[list[str]]:
    """Every HTTP route: its path, who answers, at which port, and what it gives."""
    rows = []
    for file, (who, where) in SERVED.items():
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        told = {
            node.name: flat((ast.get_docstring(node) or "").split("\n\n")[0])
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        named = {
            ast.unparse(node.targets[0]): node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "web.get":
                path, handler = node.args[0], ast.unparse(node.args[1]).removeprefix("self.")
                given = path.value if isinstance(path, ast.Constant) else named[ast.unparse(path)]
                rows.append([f"`GET {given}`", who, f"`{where}`", told[handler]])
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FILES":
                assert isinstance(node.value, ast.Dict)
                for key in node.value.keys:
                    assert isinstance(key, ast.Constant)
                    text = "The page." if key.value == "/" else "Part of the page."
                    rows.append([f"`GET {key.value}`", who, f"`{where}`", text])
    return rows


#: Kinds of metrics by what makes them.
KINDS = {"Gauge": "gauge", "gauge": "gauge", "Counter": "counter", "counter": "counter", "Info": "info"}


def metrics_of(file: Path) -> list[list[str]]:
    """Every metric that a module makes: name, kind, labels, meaning."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            # A table of names and texts, of which a loop makes metrics.
            made = next((call for call in ast.walk(node) if isinstance(call, ast.Call) and _kind_of(call)), None)
            for row in node.iter.elts:
                if made is not None and isinstance(row, ast.Tuple) and _names_metric(row.elts):
                    found.append((row.lineno, _metric(made, row.elts)))
        elif isinstance(node, ast.Call) and _kind_of(node) and _names_metric(node.args):
            found.append((node.lineno, _metric(node, node.args)))
    return [row for _, row in sorted(found)]


def _names_metric(parts: list[ast.expr]) -> bool:
    return bool(parts) and isinstance(parts[0], ast.Constant) and str(parts[0].value).startswith("iota_")


def _kind_of(call: ast.Call) -> str:
    return KINDS.get(ast.unparse(call.func).removesuffix("MetricFamily").lstrip("_"), "")


def _metric(call: ast.Call, parts: list[ast.expr]) -> list[str]:
    name, text = (ast.literal_eval(part) for part in parts[:2])
    labels = next((ast.literal_eval(given.value) for given in call.keywords if given.arg == "labels"), [])
    what = _kind_of(call)
    end = {"counter": "_total", "info": "_info"}.get(what, "")
    return [f"`{name}{end}`", what, ", ".join(labels), text]
