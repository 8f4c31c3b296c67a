"""What is public in the packages, and whether it says what it is.

The agreed form. Public is every module, and every function, class and method of it whose own name, and that of the
class around it, begins with no underscore; what is defined inside a function is nobody's business. Each has a docstring
whose first paragraph ends as a sentence does. Two may go without: a package file that holds nothing, and a method that
overrides one with a docstring in a base class of these packages, because it keeps the same promise. Shapes, units and
the errors that callers must expect are in it where there are any; that is for reviewers to see.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("neurons", "iota_subnet", "template")

#: How a first paragraph may end.
ENDS = (".", ":", "!", "?", ")", "`")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Public:
    """One public thing: `name` is dotted within its module, "" for the module itself."""

    module: str
    path: Path
    line: int
    name: str
    node: ast.Module | Definition

    @property
    def docstring(self) -> str:
        """Its docstring without indentation, or nothing."""
        return ast.get_docstring(self.node) or ""


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Dotted name, file and syntax tree of every module of the packages, in order."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, path, ast.parse(path.read_text(encoding="utf-8"))


def public() -> list[Public]:
    """Everything public, module by module, as it is written down."""
    found = []
    for module, path, tree in modules():
        if tree.body:
            found.append(Public(module, path, 1, "", tree))
        found += [Public(module, path, node.lineno, name, node) for name, node in _definitions(tree.body, "")]
    return found


def warnings() -> list[str]:
    """What is not as the agreed form says, a line each: file, line, name, and what to do."""
    everything = public()
    bases = {one.name: one for one in everything if isinstance(one.node, ast.ClassDef) and "." not in one.name}
    documented = {one.name for one in everything if one.docstring}
    told = []
    for one in everything:
        where = f"{one.path.relative_to(ROOT)}:{one.line}: {one.name or one.module}"
        first = one.docstring.split("\n\n")[0].rstrip()
        if not first and not _overrides(one, bases, documented):
            told.append(f"{where} has no docstring: say what it gives, in which units, and what it raises")
        elif first and not first.endswith(ENDS):
            told.append(f"{where}: the first paragraph of its docstring is no sentence")
    return told


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Definition]]:
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from _definitions(node.body, prefix)
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")


def _overrides(one: Public, bases: dict[str, Public], documented: set[str]) -> bool:
    """Whether a base class, found by its name, documents the same method."""
    owner, _, method = one.name.rpartition(".")
    seen, left = set(), [owner]
    while left:
        name = left.pop()
        if name in seen or name not in bases:
            continue
        seen.add(name)
        if name != owner and f"{name}.{method}" in documented:
            return True
        node = bases[name].node
        assert isinstance(node, ast.ClassDef)
        left += [base.split("[")[0].rpartition(".")[2] for base in map(ast.unparse, node.bases)]
    return False
