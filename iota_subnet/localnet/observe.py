"""What the launcher sees: the validator's status over HTTP, and the chain through the SDK. No other window."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from template.chain import MetagraphView
from template.errors import NeuronError
from template.staging import Stage
from template.subtensor import SubtensorChain


@dataclass
class Picture:
    """The newest of everything."""

    status: dict[str, Any] | None = None
    view: MetagraphView | None = None
    weights: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    losses_of_epoch: int = 0
    _epoch: int = -1

    def take(self, status: dict[str, Any]) -> None:
        """Keep a status, and append the losses that are new in it."""
        self.status = status
        epoch = len(status["reports"])
        recent = status["recent_losses"]
        if epoch != self._epoch or len(recent) < self.losses_of_epoch:
            self._epoch, self.losses_of_epoch = epoch, 0
        self.losses += recent[self.losses_of_epoch :]
        self.losses_of_epoch = len(recent)


def fetch_status(port: int) -> dict[str, Any] | None:
    """The validator's status, or None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status", timeout=5) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except (urllib.error.URLError, OSError, ValueError):
        return None


def look_at_chain(chain: SubtensorChain, stage: Stage, netuid: int, picture: Picture) -> None:
    """Refresh metagraph and weights; what the chain does not answer stays as it was."""
    try:
        view = chain.metagraph(netuid)
        rows = stage.weights(netuid)
    except (NeuronError, OSError):
        return
    by_uid = {neuron.uid: neuron.hotkey for neuron in view.neurons}
    picture.view = view
    for row in rows.values():
        if row:
            total = sum(row.values())
            picture.weights = {by_uid[uid]: value / total for uid, value in row.items() if uid in by_uid}
