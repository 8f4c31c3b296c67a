"""What the guides tell people to type, to open and to follow, as data for the tests. Nothing is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Programs whose command lines are looked at; what stands after one of `ENDS` is another command.
PROGRAMS = {"iota", "python", "python3", "make"}
ENDS = {"|", "||", "&&", "&", ";", ">", ">>"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .+\n)+", re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """One command line of a guide, by its words."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


@cache
def pages() -> dict[str, str]:
    """Text by path, of every page for people: README, docs, the chain's own README."""
    files = [ROOT / "README.md", ROOT / "template/localnet/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}


def prose(text: str) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """What stands between single backticks, each as one line."""
    return [" ".join(found.split()) for found in SPAN.findall(prose(text))]


def links(text: str) -> list[str]:
    """Where links and pictures lead, but for other sites."""
    return [found for found in LINK.findall(prose(text)) if "://" not in found]


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    titles = (title.lower().replace("`", "") for title in HEADING.findall(prose(text)))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


def commands() -> Iterator[Line]:
    """Every command line of `PROGRAMS`, in code blocks and in the text."""
    for page, text in pages().items():
        blocks = [body for kind, body in FENCE.findall(text) if kind in ("", "console", "sh", "bash")]
        blocks += INDENTED.findall(FENCE.sub("", text))
        shown = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        for line in [*shown, *spans(text)]:
            if words := _command(line):
                yield Line(page, tuple(words))


def _command(line: str) -> list[str]:
    line = line.strip().removeprefix("$ ")
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    end = next((i for i, word in enumerate(words) if word in ENDS), len(words))
    words = words[:end]
    if not words:
        return []
    words[0] = words[0].rpartition("/")[2]
    return words if words[0] in PROGRAMS else []
