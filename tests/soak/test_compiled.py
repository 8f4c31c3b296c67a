"""`make compile` changes how fast the core decides, never what."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mypyc")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
]

ROOT = Path(__file__).resolve().parents[2]


def test_machine_code_decides_what_the_sources_decide(tmp_path: Path) -> None:
    for name in ("iota_subnet", "template", "neurons"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def python(*words: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=800
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def simulated() -> Any:
        result = json.loads(
            python("-m", "iota_subnet.cli", "simulate", "--seeds", "20", "--faults", "all", "--json", "-")
        )
        return {key: result[key] for key in ("events", "violations", "microbatches_lost", "ledger_hash")}

    slow = simulated()
    python("setup.py", "-q", "build_ext", "--inplace", IOTA_COMPILE="1")
    where = python("-c", "import iota_subnet.core.routing as core; print(core.__file__)")
    assert where.strip().endswith(".so") and where.startswith(str(tmp_path))
    assert simulated() == slow and slow["violations"] == 0
