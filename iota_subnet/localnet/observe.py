"""What the launcher sees: the validator's status over HTTP, and the chain through the SDK. No other window."""

from __future__ import annotations

import http.client
import json
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from iota_subnet.localnet.findings import Finding, news
from template.chain import MetagraphView
from template.errors import NeuronError
from template.staging import Stage
from template.subtensor import SubtensorChain


@dataclass
class Picture:
    """The newest of everything, and all that was ever found against somebody.

    `weights` are those of the validator that orchestrates, by the miner's hotkey; `votes` those of each that has set
    any, by its own; `trust` is what the chain's last epoch has let stand of them.
    """

    status: dict[str, Any] | None = None
    view: MetagraphView | None = None
    weights: dict[str, float] = field(default_factory=dict)
    votes: dict[str, dict[str, float]] = field(default_factory=dict)
    trust: dict[str, float] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _seen: tuple[int, int] = (-1, 0)

    def take(self, status: dict[str, Any]) -> None:
        """Keep a status, and append the losses that are new in it; it shows only the newest of an epoch."""
        self.status = status
        epoch, done = len(status["reports"]), status["microbatches"]["in_epoch"]
        fresh = done - (self._seen[1] if self._seen[0] == epoch else 0)
        self._seen = (epoch, done)
        self.findings += news(self.findings, status)
        if fresh > 0:
            self.losses += status["recent_losses"][-fresh:]


def fetch_status(port: int, host: str = "127.0.0.1") -> dict[str, Any] | None:
    """The validator's status, or None while it does not answer."""
    # A proxy that the environment names has no way to this machine's own addresses.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{host}:{port}/v1/status", timeout=1) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except (OSError, http.client.HTTPException, ValueError):
        return None


def look_at_chain(chain: SubtensorChain, stage: Stage, netuid: int, validators: list[str], picture: Picture) -> None:
    """Refresh metagraph, weights and vtrust; what the chain does not answer stays as it was. The first of `validators`
    orchestrates; with one alone there is nobody to agree with."""
    try:
        view = chain.metagraph(netuid)
        rows = stage.weights(netuid)
        trust = stage.validator_trust(netuid) if len(validators) > 1 else {}
    except (NeuronError, OSError):
        return
    by_uid = {neuron.uid: neuron.hotkey for neuron in view.neurons}
    picture.view = view
    picture.trust = {hotkey: trust[hotkey] for hotkey in validators if hotkey in trust}
    for voter, row in rows.items():
        if row and by_uid.get(voter) in validators:
            total = sum(row.values())
            picture.votes[by_uid[voter]] = {by_uid[uid]: value / total for uid, value in row.items() if uid in by_uid}
    picture.weights = picture.votes.get(validators[0], picture.weights)
