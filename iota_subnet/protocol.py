"""The synapses between miners and the validator that orchestrates: decisions, never tensors.

`Join`, `Leave`, `Standing` and `Dossier` go from a miner's dendrite to the validator's axon, `History` from another
validator's; `AssignLayer`, `SetPhase` and `MergePlan` go from the validator's dendrite to the miner's axon. Every field
is signed, both ways, by `SignedSynapse`. The hot path (leases and receipts) is in `messages.py` and runs over the work
channel.
"""

from __future__ import annotations

from pydantic import Field

from iota_subnet.messages import MAX_SHARDS, Blob, PlannedDuty, StageManifest, StandingReport
from template.synapse import SignedSynapse


class Join(SignedSynapse):
    """A miner asks for a seat. `boot` is drawn once per process: the same boot means that nothing was lost.

    One without an open port says so by axon_port 0: orders come to it over its work channel. Its blobs lie in the
    bucket that `data_url` names; without one, the validator relays them.
    """

    spec_version: int
    boot: str = Field(min_length=8, max_length=64)
    axon_ip: str = Field(max_length=64)
    axon_port: int = Field(ge=0, le=65535)
    data_url: str = Field(max_length=256, pattern=r"^(https?://[^?#@\s]+)?$")
    threads: int = Field(ge=1, le=4096)

    accepted: bool = False
    reason: str = ""
    spec: str = ""
    channel_url: str = ""


class Leave(SignedSynapse):
    """A miner stops on purpose: its seat is free at once, and nothing waits for it.

    With `drain` it gets nothing new and asks again until it is `accepted`; `needed_for` says why not yet.
    """

    reason: str = Field("", max_length=200)
    drain: bool = False

    accepted: bool = False
    needed_for: str = ""


class Standing(SignedSynapse):
    """A miner asks how it stands. Answered for the calling hotkey alone, whether it has a seat or not."""

    report: StandingReport | None = None


class Dossier(SignedSynapse):
    """A miner asks for all that a verdict against it rests on, to come to it again. Answered for the calling hotkey
    alone, and only when there is a verdict: until then nobody is told what is looked at.

    `epoch` -1 is the newest verdict that was not "sound"; the reply says which it is. `finding` is JSON, `order` the
    order, `blobs` what it names, page by page: those after the first `after` of `total`.
    """

    epoch: int = Field(-1, ge=-1)
    after: int = Field(0, ge=0)

    reason: str = ""
    finding: str = ""
    order: Blob | None = None
    blobs: tuple[Blob, ...] = ()
    total: int = 0


class History(SignedSynapse):
    """Another validator reads the ledger: the events after number `after`, as many as fit into one reply.

    `lines` are kinds and bodies (base64); `head` is the number of the newest event when they were read, and `digest`,
    in hex, what it and all before it come to. `spec` and `data_url` say what is trained and where the blobs are.
    """

    after: int = Field(ge=0)

    reason: str = ""
    spec: str = ""
    data_url: str = ""
    lines: tuple[tuple[str, str], ...] = ()
    head: int = 0
    digest: str = ""


class AssignLayer(SignedSynapse):
    """The orchestrator gives a miner its stage and the global state to start from."""

    spec_digest: str
    stage: int = Field(ge=0)
    epoch: int = Field(ge=0)
    manifest: StageManifest
    inner_step: int = Field(0, ge=0)
    seconds_left: float

    accepted: bool = False
    reason: str = ""


class SetPhase(SignedSynapse):
    """The phase of the run. `shards` > 0 asks for the pseudo-gradient in so many; `manifest` asks to install it."""

    phase: str
    epoch: int = Field(ge=0)
    seconds_left: float
    waiting_for: str = ""
    commitment: str = ""
    shards: int = Field(0, ge=0, le=MAX_SHARDS)
    manifest: StageManifest | None = None

    accepted: bool = False
    reason: str = ""


class MergePlan(SignedSynapse):
    """Which of so many shards a miner reduces, drawn with `salt`; `SetPhase` committed to it when the epoch opened.

    `core.pairs.pairs` draws again what was drawn: from the hotkeys of the contributors, `shards`, `salt` and `stage`.
    """

    stage: int = Field(ge=0)
    epoch: int = Field(ge=0)
    salt: str
    shards: int = Field(ge=1, le=MAX_SHARDS)
    seconds_left: float
    duties: tuple[PlannedDuty, ...]

    accepted: bool = False
    reason: str = ""
