"""The reference, written from the code so that it cannot say anything else than the code.

    python scripts/reference.py            # docs/reference/*.md, which are committed; build/docs/*.md, every function
    python scripts/reference.py --check    # write nothing; exit 1 when a committed page is out of date

Both also look whether everything public says what it is (`docstrings.py`); a warning is exit 1. No torch is imported.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import docstrings, tables  # noqa: E402

PAGES = ROOT / "docs/reference"
BUILD = ROOT / "build/docs"

NOTE = "Written from the code by `make docs`; change the code, not this page.\n"


def pages() -> dict[str, str]:
    """The committed pages by file name."""
    made = {
        "protocol.md": tables.protocol(),
        "core.md": tables.core(),
        "spec.md": tables.spec(),
        "settings.md": tables.settings(),
        "commands.md": tables.commands(),
        "metrics.md": tables.metrics(),
    }
    return {name: _with_note(text) for name, text in made.items()}


def functions() -> dict[str, str]:
    """All that is public, a page for each package; not committed, because the code is nearer."""
    made: dict[str, list[str]] = {}
    for one in docstrings.public():
        lines = made.setdefault(".".join(one.module.split(".")[:2]), [])
        if isinstance(one.node, ast.Module):
            lines += [f"## {one.module}", ""]
        else:
            lines += [f"### `{_signature(one)}`", ""]
        if one.docstring:
            lines += [one.docstring, ""]
    return {f"{package}.md": f"# {package}\n\n" + "\n".join(lines) for package, lines in made.items()}


def out_of_date() -> list[str]:
    """Committed pages that are not what the code says, and files beside them that nobody wrote."""
    made = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")}
    return sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))


def _signature(one: docstrings.Public) -> str:
    if isinstance(one.node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in one.node.bases)
        return f"class {one.name}({bases})" if bases else f"class {one.name}"
    assert not isinstance(one.node, ast.Module)
    result = f" -> {ast.unparse(one.node.returns)}" if one.node.returns is not None else ""
    return f"{one.name}({ast.unparse(one.node.args)}){result}"


def _with_note(text: str) -> str:
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{NOTE}{rest.rstrip()}\n"


def main() -> int:
    """Exit code: 0 all is well, 1 something is out of date or has no docstring; a line on stderr says what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and say what is out of date")
    options = parser.parse_args()
    warnings = docstrings.warnings()
    if options.check:
        warnings += [f"docs/reference/{name} is out of date: run make docs" for name in out_of_date()]
    else:
        written = {PAGES / name: text for name, text in pages().items()}
        written |= {BUILD / name: text for name, text in functions().items()}
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"{len(written)} pages in {PAGES.relative_to(ROOT)} and {BUILD.relative_to(ROOT)}")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 1 if warnings else 0


if __name__ == "__main__":
    sys.exit(main())
