"""Whatever a guide tells people to type exists, and whatever it points at is there. No process is started."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts import parsers
from tests.docs import reading
from tests.docs.reading import ROOT, Line

#: Files that a run or a user makes, by the names that guides give them; and files of other projects.
MADE = {
    "summary.json", "order.json", "finding.json", "ledger.sqlite", "ledger.sqlite.lock", "state.json", "status.json",
    "model.json", "out.json", ".env", "spec.json", "feed.json", "link.json", "loud.py", "config.json", "runs/main",
    "build/docs", "books/*.txt", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "iota.json",
}  # fmt: skip

#: Flags of other programs (btcli, pip, npm, git, curl, pm2) that guides name in the text.
FOREIGN = {"--wallet-path", "--unsafe", "--network", "--only", "--param"}

FILE = re.compile(r"[\w@.*/-]+\.(py|md|toml|yml|json|jsonl|js|css|sh|lock|service|svg|png|sqlite|cfg)")
FOLDER = re.compile(r"(?:iota_subnet|template|neurons|tests|docs|benchmarks|scripts)(?:/[\w.-]+)*/?")


@cache
def programs() -> dict[str, set[str]]:
    """The options of every `iota` command by its words."""
    return {
        words: {flag for action in parsers.options(parser) for flag in action.option_strings} | {"--help", "-h"}
        for words, parser in parsers.commands().items()
    }


@cache
def neuron_flags(program: str) -> set[str]:
    """The flags of a neuron, switches in both forms."""
    found = {"--help", "-h"}
    for flag, info, _ in parsers.flags(parsers.NEURONS[program]):
        found |= {f"--{flag}", f"--no-{flag}"} if parsers.is_switch(info) else {f"--{flag}"}
    return found


@cache
def source(script: str) -> str:
    """A script's text, and that of the folder of its name beside it."""
    path = ROOT / script
    folder = path.with_suffix("")
    files = [path, *sorted(folder.glob("*.py"))] if folder.is_dir() else [path]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@cache
def files() -> tuple[str, ...]:
    """Every file of the tree, as /path, but for what is made or installed."""
    left_out = {".git", ".venv", "runs", "build", "node_modules", "__pycache__"}
    return tuple(
        f"/{path.relative_to(ROOT)}"
        for path in ROOT.rglob("*")
        if path.is_file() and not left_out & set(path.relative_to(ROOT).parts)
    )


def flags_of(words: tuple[str, ...]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]


def wrong(line: Line) -> str:
    """Why a command line would be refused, or nothing."""
    program, *rest = line.words
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        named = [word for word in rest if re.fullmatch(r"[a-z-]+", word)]
        return next((f"no target {name}" for name in named if name not in targets), "")
    if program == "iota":
        return _wrong_iota(rest)
    if rest[:2] == ["-m", "pytest"]:
        paths = [word.partition("::")[0] for word in rest[2:] if word.startswith("tests/")]
        return next((f"no {path}" for path in paths if not list(ROOT.glob(path))), "")
    if rest[:1] == ["-m"]:
        return "" if rest[1] in ("venv", "pip") or find_spec(rest[1]) else f"no module {rest[1]}"
    if not rest or not rest[0].endswith(".py"):
        return ""
    script = rest[0]
    if not (ROOT / script).is_file():
        return f"no {script}"
    if script in parsers.NEURONS:
        return next((f"no flag {flag}" for flag in flags_of(line.words) if flag not in neuron_flags(script)), "")
    return next((f"no flag {flag}" for flag in flags_of(line.words) if not _takes(script, flag)), "")


def _takes(script: str, flag: str) -> bool:
    """Whether a script's source has the flag, spelt out or made of a list of names."""
    text = source(script)
    return f'"{flag}"' in text or ('"--{' in text and f'"{flag[2:]}"' in text)


def _wrong_iota(rest: list[str]) -> str:
    if not rest or rest[0] in ("--help", "--version") or rest[0].isupper():
        return ""
    for first in rest[0].split("|"):
        actions = rest[1].split("|") if len(rest) > 1 else [""]
        for action in actions:
            words = f"iota {first} {action}" if f"iota {first} {action}" in programs() else f"iota {first}"
            if words not in programs():
                return f"no command {words}"
            # What `iota mine` does not know are flags of its miners.
            known = programs()[words] | (neuron_flags("neurons/miner.py") if first == "mine" else set())
            if bad := [flag for flag in flags_of(tuple(rest)) if flag not in known]:
                return f"{words} has no {bad[0]}"
    return ""


def test_the_guides_hold_command_lines_at_all() -> None:
    """Else the next test would pass for the wrong reason."""
    found = list(reading.commands())
    assert sum(line.words[0] == "iota" for line in found) > 60
    assert sum(line.words[-1:] != ("iota",) and "neurons/miner.py" in line.words for line in found) >= 1


def test_every_command_line_names_programs_actions_and_flags_that_exist() -> None:
    told = {f"{line}: {why}" for line in reading.commands() if (why := wrong(line))}
    assert not told, "\n".join(sorted(told))


@pytest.mark.parametrize(
    "line",
    ["iota lokalnet", "iota localnet --minerz 3", "iota ledger verify --to 5", "make tests", "python benchmarks/no.py",
     "python neurons/miner.py --work.thread 2", "python benchmarks/credit.py --cheat", "iota mine --countz 3",
     "python -m pytest tests/no"],
)  # fmt: skip
def test_a_wrong_command_line_is_seen(line: str) -> None:
    assert wrong(Line("nowhere", tuple(line.split())))


def test_flags_that_are_named_in_the_text_exist_somewhere() -> None:
    known = set().union(*programs().values(), *(neuron_flags(program) for program in parsers.NEURONS), FOREIGN)
    for script in (*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*.py")):
        known |= set(re.findall(r'"(--[\w.-]+)"', source(str(script.relative_to(ROOT)))))
    told = {
        f"{page}: {flag}"
        for page, text in reading.pages().items()
        for span in reading.spans(text)
        if span.startswith("--")
        for flag in flags_of(tuple(span.split()))
        if flag not in known and "NAME" not in span and not flag.endswith(".")
    }
    assert not told, "\n".join(sorted(told))


def test_variables_that_are_named_in_the_text_are_those_of_flags() -> None:
    names = {flag.replace(".", "_").upper() for cls in parsers.NEURONS.values() for flag, _, _ in parsers.flags(cls)}
    groups = {name.partition("_")[0] for name in names if "_" in name}
    told = {
        f"{page}: {span}"
        for page, text in reading.pages().items()
        for span in reading.spans(text)
        if re.fullmatch(r"[A-Z]+_[A-Z_]+", span) and span.partition("_")[0] in groups and span not in names
    }
    assert not told, "\n".join(sorted(told))


def test_every_link_and_picture_leads_somewhere() -> None:
    told = []
    for page, text in reading.pages().items():
        for link in reading.links(text):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            if not target.exists():
                told.append(f"{page}: {link}")
            elif anchor and target.suffix == ".md":
                if anchor not in reading.anchors(target.read_text(encoding="utf-8")):
                    told.append(f"{page}: {link} (no such heading)")
    assert not told, "\n".join(told)


def test_every_file_that_is_named_is_there() -> None:
    told = []
    for page, text in reading.pages().items():
        for span in reading.spans(text):
            if Path(span).name in MADE or span in MADE or re.match(r"\d+\.", span):
                continue
            if not (FILE.fullmatch(span) or FOLDER.fullmatch(span)) or Path(span).is_absolute():
                continue
            near = (ROOT / page).parent / span
            if "*" in span:
                there = any(ROOT.glob(span))
            else:
                there = near.exists() or (ROOT / span).exists() or any(f.endswith(f"/{span}") for f in files())
                there = there or any((ROOT / package / span).is_dir() for package in ("iota_subnet", "template"))
            if not there and "." in span:
                told.append(f"{page}: {span}")
    assert not told, "\n".join(told)


def test_every_test_that_is_named_is_there() -> None:
    told = []
    for page, text in reading.pages().items():
        for span in reading.spans(text):
            file, _, name = span.partition("::")
            if name and file.startswith("tests/"):
                path = ROOT / file
                if not path.is_file() or f"def {name}(" not in path.read_text(encoding="utf-8"):
                    told.append(f"{page}: {span}")
    assert not told, "\n".join(told)


def test_every_page_is_reached_from_the_index() -> None:
    texts = {(ROOT / page).resolve(): text for page, text in reading.pages().items()}
    reached, left = set(), [(ROOT / "docs/README.md").resolve()]
    while left:
        page = left.pop()
        if page in texts and page not in reached:
            reached.add(page)
            left += [(page.parent / link.partition("#")[0]).resolve() for link in reading.links(texts[page])]
    assert sorted(str(page.relative_to(ROOT)) for page in texts.keys() - reached) == []


def test_every_benchmark_is_explained() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "benchmarks").glob("*.py") if f"benchmarks/{path.name}" not in text]
    assert missing == []
