"""What every party of a run must agree on, frozen, with one digest.

Standard library only. A `RunSpec` travels as canonical JSON in the reply to `Join`; whoever holds it can build any
stage, check any tensor's shape, and recompute any merge.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from iota_subnet import SPEC_VERSION

#: How activations, pseudo-gradients and their mean travel. `topk` cannot carry a mean: it would drop most of it.
Codec = Literal["fp32", "bf16"]
ActivationCodec = Literal["fp32", "bf16", "int8"]
DeltaCodec = Literal["fp32", "bf16", "int8", "topk"]
MeanCodec = Literal["fp32", "bf16", "int8"]

#: How a stage boundary is made narrow (`model/bottleneck.py`); those of `WITH_TOKENS` need the token ids beyond it.
Bottleneck = Literal["resbm", "resbm+tokens", "subspace"]
WITH_TOKENS = ("resbm+tokens", "subspace")

#: The inner optimiser. Muon moves the matrices inside blocks and boundaries, AdamW all others.
OptimiserName = Literal["adamw", "muon"]

#: Bytes of one value on the wire, by codec.
CODEC_BYTES: dict[str, int] = {"fp32": 4, "bf16": 2}

#: So many values share one float32 scale in the codecs int8 and topk; topk keeps its share of each such block.
INT8_BLOCK = 256
TOPK_BLOCK = 4096


class SpecError(ValueError):
    """A run specification that cannot describe a run; the message names the field and the remedy."""


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where some bytes can be had: `digest` is blake3 in hex, `urls` are tried in order."""

    digest: str
    nbytes: int
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A Llama-style decoder cut into `stages` runs of blocks.

    `bottleneck` is the width b of what crosses a stage boundary, made by `boundary_codec`; 0 sends the full `dim`.
    `split` says how many blocks each stage has; empty is as even as can be (see `model.cost.balanced`).
    """

    preset: str = "tiny"
    vocab: int = 256
    dim: int = 128
    blocks: int = 6
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 352
    seq: int = 128
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    stages: int = 3
    bottleneck: int = 32
    boundary_codec: Bottleneck = "resbm"
    split: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.boundary_codec not in get_args(Bottleneck):
            known = ", ".join(get_args(Bottleneck))
            raise SpecError(f"boundary_codec={self.boundary_codec!r} is not known; choose one of {known}")
        if self.stages < 1 or self.blocks < self.stages:
            raise SpecError(f"stages={self.stages} needs 1 <= stages <= blocks={self.blocks}; choose fewer stages")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise SpecError(f"dim={self.dim} must be heads={self.heads} times an even head size")
        if self.heads % self.kv_heads:
            raise SpecError(f"heads={self.heads} must be a multiple of kv_heads={self.kv_heads}")
        if not 0 <= self.bottleneck <= self.dim:
            raise SpecError(f"bottleneck={self.bottleneck} must lie between 0 (off) and dim={self.dim}")
        if any(type(count) is not int or count < 1 for count in self.split):
            raise SpecError(f"split={self.split} needs whole numbers of blocks, at least 1 each")
        if self.split and (len(self.split) != self.stages or sum(self.split) != self.blocks):
            raise SpecError(f"split={self.split} must cut {self.blocks} blocks into stages={self.stages} parts")

    @property
    def boundary(self) -> int:
        """Values per token that cross a stage boundary."""
        return self.bottleneck or self.dim

    def reads_tokens(self, stage: int) -> bool:
        """Whether this stage's entry needs the token ids besides what the stage before it has made."""
        return stage > 0 and self.bottleneck > 0 and self.boundary_codec in WITH_TOKENS

    def products(self, stage: int) -> int:
        """Multiplications in the matrix products of a forward pass of `stage`, per token: blocks, attention, encoder
        and decoder, LM head. Of attention's scores the half that causality leaves; lookups of tables are none."""
        d, b, tail = self.dim, self.bottleneck, stage == self.stages - 1
        block = 2 * d * d + 2 * d * d * self.kv_heads // self.heads + 3 * d * self.ffn + d * self.seq
        encoder, decoder = d * d + d * b, 2 * d * b + 2 * d * d
        if self.boundary_codec == "subspace":
            # Embedding and both branches of a block are projected, there and back, wherever something is sent on.
            decoder, encoder = d * b, 3 * d * b if stage == 0 else d * b
            block += 0 if tail else 4 * d * b
        made = len(self.blocks_of(stage)) * block + (d * self.vocab if tail else 0)
        if b:
            made += (0 if tail else encoder) + (0 if stage == 0 else decoder)
        return made

    def flops_share(self, stage: int) -> float:
        """This stage's part of what a token costs the whole model, so that no stage is paid worse for its work."""
        return self.products(stage) / sum(self.products(k) for k in range(self.stages))

    def blocks_of(self, stage: int) -> range:
        """The transformer blocks [a, b) of `stage`; without a `split` earlier stages get the remainder."""
        if not 0 <= stage < self.stages:
            raise SpecError(f"stage {stage} is not one of 0..{self.stages - 1}")
        if self.split:
            start = sum(self.split[:stage])
            return range(start, start + self.split[stage])
        size, extra = divmod(self.blocks, self.stages)
        start = stage * size + min(stage, extra)
        return range(start, start + size + (stage < extra))


#: Copies of its weights that a replica can be asked to keep.
MAX_STASH = 8


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """Batches and optimisers. `accumulate` microbatches make one inner step of one replica.

    The defaults are those of `tiny`, found by trial on one corpus: the pipeline delays gradients by a few steps, and a
    first moment (`betas[0]` > 0) adds to that delay. They say nothing about larger models.

    Pseudo-gradients travel as `delta_codec`, their mean as `mean_codec`; topk keeps the share `topk` of the values.
    In the mean a contribution whose norm exceeds `delta_clip` times the median is scaled down to that (0: never), and
    of n values of one parameter the floor(`delta_trim` * n) smallest and as many of the largest are left out.

    A backward pass whose replica did the forward pass at most `stash` inner steps ago uses the weights of then, which
    saves it a second forward pass and costs the replica as many copies of its weights; else it uses the current ones.

    With `optimiser` "muon" a matrix moves by root mean square `muon_rms` * lr in a step, all else as with AdamW.
    """

    microbatch: int = 8
    accumulate: int = 1
    lr: float = 1.5e-3
    lr_min: float = 1.5e-4
    warmup: int = 20
    decay: int = 240
    betas: tuple[float, float] = (0.0, 0.95)
    weight_decay: float = 0.1
    clip: float = 1.0
    outer_lr: float = 0.7
    outer_momentum: float = 0.9
    outer_momentum_start: float = 0.4
    outer_warmup: int = 20
    activation_codec: ActivationCodec = "bf16"
    delta_codec: DeltaCodec = "bf16"
    mean_codec: MeanCodec = "bf16"
    topk: float = 1 / 32
    delta_clip: float = 3.0
    delta_trim: float = 0.0
    optimiser: OptimiserName = "adamw"
    muon_momentum: float = 0.95
    muon_rms: float = 0.2
    stash: int = 3

    def __post_init__(self) -> None:
        kinds: dict[str, Any] = {"activation_codec": ActivationCodec, "delta_codec": DeltaCodec}
        for name, kind in (kinds | {"mean_codec": MeanCodec, "optimiser": OptimiserName}).items():
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise SpecError(f"{name}={value!r} is not known; choose one of {', '.join(known)}")
        if not 0 < self.topk <= 1:
            raise SpecError(f"topk={self.topk} is a share of the values; choose more than 0 and at most 1")
        if not 0 <= self.muon_momentum < 1:
            raise SpecError(f"muon_momentum={self.muon_momentum} must lie in [0, 1)")
        if not 0 < self.muon_rms < math.inf:
            raise SpecError(f"muon_rms={self.muon_rms} would not move a matrix; choose more than 0, as 0.2")
        if not 0 <= self.stash <= MAX_STASH:
            raise SpecError(f"stash={self.stash} copies of a stage's weights; choose 0 to {MAX_STASH}")
        if self.delta_clip != 0 and not 1 <= self.delta_clip < math.inf:
            raise SpecError(f"delta_clip={self.delta_clip} would clip the median too; choose 1 or more, or 0 for off")
        if not 0 <= self.delta_trim < 0.5:
            raise SpecError(f"delta_trim={self.delta_trim} would leave nobody; choose 0 (off) or more, below 0.5")


@dataclass(frozen=True, slots=True)
class SwarmSpec:
    """Quotas, deadlines (seconds) and limits of the orchestrator. Every queue and body is bounded.

    `epochs` = 0 trains for ever. The first epoch waits for `start_miners` ready miners, `start_s` at most.
    `epoch_batches` microbatches are opened per epoch; a replica counts in the merge from `min_batches` backward passes
    on; a phase moves on when `quorum` of the replicas are there, or at its deadline.

    A lease is given to somebody else after `hedge` times (`hedge_drain` near the end of an epoch) what its miner was
    measured to need, within `lease_min_s` .. `lease_s`. Each replica keeps about `live_per_replica` graphs: so many
    microbatches are on their way as that allows (`facts.room_for_graphs`), and no more than are done within `stale_s`.
    More of them leave fewer miners idle, and make gradients older. After `rescue_s` without anybody who could work, a
    stage is rescued: by the last state that the validator holds, if the new one is lost. Miners beyond `max_miners`
    wait in a line; a place is kept for who asks again within `wait_s`. Who fails its neighbours is banned for `ban_s`.
    With `overlap` miners go on with microbatches of the next epoch while an epoch's merge is under way, and carry over
    to the new state what they learnt meanwhile; only the last epoch ends with its last microbatch.

    Of the shards about which twins agree the validator recomputes the share `audit_shards`, drawn after the fact; at
    least 2 / n of a stage that n replicas merge, unless it is 0. Of the replicas' epochs it computes the share
    `audit_miners` again, of the others pass number d with a chance of `audit_passes` / d and all before it, and gives
    up what was not answered after `audit_s`. The duties of a merge earn `merge_share` of what its epoch's passes earn.
    """

    epochs: int = 0
    start_miners: int = 1
    start_s: float = 60.0
    epoch_batches: int = 120
    min_batches: int = 8
    quorum: float = 0.8
    live_per_replica: int = 3
    leases_per_miner: int = 2
    lease_s: float = 30.0
    lease_min_s: float = 5.0
    hedge: float = 3.0
    hedge_drain: float = 2.0
    stale_s: float = 600.0
    reconnect_s: float = 5.0
    ready_s: float = 120.0
    overlap: bool = False
    train_s: float = 600.0
    drain_s: float = 20.0
    commit_s: float = 30.0
    reduce_s: float = 60.0
    install_s: float = 60.0
    rescue_s: float = 60.0
    audit_shards: float = 0.1
    audit_miners: float = 0.1
    audit_passes: float = 0.5
    audit_s: float = 600.0
    merge_share: float = 0.01
    score_window_s: float = 600.0
    max_miners: int = 256
    wait_s: float = 120.0
    ban_s: float = 600.0
    max_blob_bytes: int = 64 << 20
    max_frame_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Where text comes from, pinned by the digests of its tokenizer and of the list of held-out documents."""

    source: str = "stdlib"
    tokenizer: str = "bytes"
    eval_digest: str = ""


# Asked for with every status; to make it takes longer than all else in one.
@functools.lru_cache(maxsize=8)
def _digest(spec: RunSpec) -> str:
    return hashlib.blake2b(spec.to_json().encode(), digest_size=32).hexdigest()


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One training run. Two parties that hold the same `digest()` compute the same things.

    `init` is the digest of the first weights, if they were not drawn from the seed (see `model.importing`).
    """

    name: str = "iota"
    seed: int = 0
    init: str = ""
    version: int = SPEC_VERSION
    model: ModelSpec = field(default_factory=ModelSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    swarm: SwarmSpec = field(default_factory=SwarmSpec)
    data: DataSpec = field(default_factory=DataSpec)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """blake2b-256 of the canonical JSON, in hex."""
        return _digest(self)

    @staticmethod
    def from_json(text: str) -> RunSpec:
        """Read a spec that a stranger sent.

        Raises:
            SpecError: not JSON, a field too many or of the wrong type, or another spec version.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise SpecError(f"the run specification is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise SpecError("the run specification is not a JSON object")
        if raw.get("version") != SPEC_VERSION:
            raise SpecError(
                f"the run uses spec version {raw.get('version')!r}, this software {SPEC_VERSION}; "
                "install the same release as the validator"
            )
        parts = {"model": ModelSpec, "train": TrainSpec, "swarm": SwarmSpec, "data": DataSpec}
        values = {name: _build(parts[name], value) if name in parts else value for name, value in raw.items()}
        spec: RunSpec = _build(RunSpec, values)
        return spec


def _build(cls: Any, raw: Any) -> Any:
    """Build a flat frozen dataclass from JSON values, checking names and scalar types."""
    if not isinstance(raw, dict):
        raise SpecError(f"{cls.__name__} must be an object, not {type(raw).__name__}")
    defaults = cls()
    names = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(raw) - names)
    if unknown:
        raise SpecError(f"{cls.__name__} has no field {unknown[0]!r}; install the same release as the validator")
    values: dict[str, Any] = {}
    for name, value in raw.items():
        like = getattr(defaults, name)
        if isinstance(like, tuple) and isinstance(value, list):
            value = tuple(value)
        if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(like):
            raise SpecError(f"{cls.__name__}.{name} must be {type(like).__name__}, not {type(value).__name__}")
        values[name] = value
    return cls(**values)


def manifest_name(stage: int, epoch: int, revision: int, shards: Iterable[tuple[int, int, str, str]]) -> str:
    """blake2b-256, in hex, of all that counts in a stage's global state; where the bytes lie does not.

    A shard is (lo, hi, digest of weights, digest of momentum).
    """
    line = json.dumps([stage, epoch, revision, *map(list, shards)], separators=(",", ":"))
    return hashlib.blake2b(line.encode(), digest_size=32).hexdigest()


def shard_bounds(size: int, shards: int) -> list[tuple[int, int]]:
    """Cut [0, size) into `shards` contiguous slices that cover it exactly and differ by at most one in length."""
    if shards < 1:
        raise SpecError(f"a vector cannot be cut into {shards} shards")
    return [(size * i // shards, size * (i + 1) // shards) for i in range(shards)]


def topk_kept(length: int, share: float) -> int:
    """How many values of a block of `length` codec topk keeps."""
    return math.ceil(length * share)


def delta_bytes(train: TrainSpec, values: int) -> int:
    """Bytes of a pseudo-gradient blob of so many values, without its header (`codec.HEADER_BYTES_MAX` at most)."""
    if train.delta_codec != "topk":
        return _body_bytes(train.delta_codec, values)
    blocks, rest = divmod(values, TOPK_BLOCK)
    # A position and a value each, and a scale per block.
    kept = blocks * topk_kept(TOPK_BLOCK, train.topk) + topk_kept(rest, train.topk)
    return (2 + 1) * kept + 4 * (blocks + (rest > 0))


def mean_bytes(train: TrainSpec, values: int) -> int:
    """Bytes of the blob of a mean of so many values, without its header (`codec.HEADER_BYTES_MAX` at most)."""
    return _body_bytes(train.mean_codec, values)


def _body_bytes(codec: str, values: int) -> int:
    return values + 4 * -(-values // INT8_BLOCK) if codec == "int8" else values * CODEC_BYTES[codec]


PRESETS: dict[str, ModelSpec] = {
    "tiny": ModelSpec(),
    "100m": ModelSpec("100m", 32_000, 768, 12, 12, 4, 2048, 1024, stages=3, bottleneck=96),
    "1b": ModelSpec("1b", 128_256, 2048, 16, 32, 8, 8192, 2048, rope_theta=500_000.0, stages=4, bottleneck=64),
    "15b": ModelSpec("15b", 128_256, 5120, 50, 40, 8, 13_824, 2048, rope_theta=500_000.0, stages=5, bottleneck=80),
    "100b": ModelSpec("100b", 128_256, 9216, 90, 72, 8, 32_256, 4096, rope_theta=500_000.0, stages=16, bottleneck=144),
}
