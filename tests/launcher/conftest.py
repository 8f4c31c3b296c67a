"""No .env and no variable of the developer's machine reaches a test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.split("_")[0] in ("NETUID", "WALLET", "SUBTENSOR", "AXON", "LOGGING", "NEURON", "RUN", "BLOBS", "WORK"):
            monkeypatch.delenv(name)
