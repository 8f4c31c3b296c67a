"""Every btcli command of docs/localnet.md, in its order, as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BTCLI = Path(sys.executable).with_name("btcli")
DOCUMENT = (ROOT / "docs" / "localnet.md").read_text()
COMMANDS = re.findall(r"^\$ (btcli .*)$", DOCUMENT, re.MULTILINE)
ENDPOINT = "ws://127.0.0.1:9944"


@pytest.mark.e2e
@pytest.mark.skipif(not BTCLI.exists(), reason=f"btcli is not installed beside {sys.executable}")
def test_commands_of_the_guide_work(tmp_path: Path) -> None:
    assert len(COMMANDS) > 15
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "COLUMNS": "400", "PYTHONPATH": ""}
    # periods of shielded extrinsics are a few blocks: long enough blocks for a slow machine
    chain = [sys.executable, "-m", "template.localnet", "--port", "0", "--block-time", "0.5", "--tempo", "10"]
    with subprocess.Popen(chain, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().split()[3]
            for command in COMMANDS:
                words = shlex.split(command.replace(ENDPOINT, endpoint), comments=True)[1:]
                # what a reader answers: the default for names and paths, and yes to what costs
                names = 20 if words[0] == "wallet" and words[1] != "transfer" else 0
                answers = "\n" * (7 if words[:2] == ["subnets", "create"] else names) + "y\n" * 20
                done = subprocess.run(
                    [str(BTCLI), *words],
                    input=answers,
                    env=environment,
                    cwd=tmp_path,
                    capture_output=True,
                    text=True,
                    timeout=240,
                )
                assert done.returncode == 0, (command, done.stdout, done.stderr)
                assert "❌" not in done.stdout, (command, done.stdout)
        finally:
            process.kill()
