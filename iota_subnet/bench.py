"""`iota bench`: lists the benchmarks of the repository, or runs some of them in a form that takes a minute or two.

Law: nothing is measured here; a benchmark is a script of its own, and this starts it in a process of its own.
"""

from __future__ import annotations

import argparse
import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

from template.errors import BadSettings

FOLDER = Path(__file__).parents[1] / "benchmarks"

#: Those that have one, their short form. The others take long by nature: runs of whole swarms, with seeds.
QUICK = {
    "butterfly": "--peers 4 --values 1000000 --runs 2 --codec bf16 --no-hivemind",
    "codecs": "--values 1000000 --runs 3",
    "ledger": "--events 5000 --runs 1 --folder /tmp",
    "localnet": "--runs 2 --seconds 2",
    "recovery": "--worlds 2",
    "routing": "--worlds 1",
    "scale": "--miners 100,1000 --seconds 3",
    "simulate": "--seeds 4",
    "transport": "",
}

EPILOG = """\
examples:
  iota bench                        what there is, and what each measures
  iota bench transport localnet     these two, in their short form
  iota bench --full credit          as for the figures in the documentation; takes long
  python benchmarks/credit.py --help   its own flags

exit code: 0 all ran, 1 one failed, 2 there is no such benchmark
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; without any, all are listed")
    parser.add_argument("--full", action="store_true", help="run them as they are, not in their short form")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def main(options: argparse.Namespace) -> int:
    """The exit code. Raises BadSettings."""
    known = listed(FOLDER)
    if not known:
        raise BadSettings(f"no benchmarks in {FOLDER}; they come with the repository: install with pip install -e .")
    if not options.names:
        return _list(known, options.json)
    for name in options.names:
        if name not in known:
            raise BadSettings(f"no benchmark {name}; there are {', '.join(known)}")
        if name not in QUICK and not options.full:
            raise BadSettings(f"{name} has no short form; run it with: iota bench --full {name}")
    failed = [name for name in options.names if _run(name, "" if options.full else QUICK[name])]
    for name in failed:
        print(f"error: the benchmark {name} failed", file=sys.stderr)
    return 1 if failed else 0


def listed(folder: Path) -> dict[str, str]:
    """What each script in `folder` measures, in its own words."""
    scripts = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    return {path.stem: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0] for path in scripts}


def _list(known: dict[str, str], as_json: bool) -> int:
    rows = [{"name": name, "measures": text, "quick": QUICK.get(name)} for name, text in known.items()]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for name, text in known.items():
            print(f"{name:<14} {'quick' if name in QUICK else '     '}  {text}")
    return 0


def _run(name: str, arguments: str) -> int:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *shlex.split(arguments)]
    print(f"$ python benchmarks/{name}.py {arguments}", flush=True)
    return subprocess.run(command, check=False).returncode
