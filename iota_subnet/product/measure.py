"""Held-out loss of a model, with the figures that make models of different tokenizers comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from typing import Any

import torch
from torch.nn import functional as F

from iota_subnet.product.loaded import Loaded
from iota_subnet.product.source import Run
from iota_subnet.product.tokens import bytes_of, tokenizer_for
from iota_subnet.spec import DataSpec, ModelSpec, RunSpec
from iota_subnet.train import codec
from iota_subnet.train.corpus import DataError
from iota_subnet.train.data import Feed
from iota_subnet.train.evaluate import evaluate
from iota_subnet.validator.checkpoints import Checkpoint
from template.errors import BadSettings

#: Tokens of a sequence for a model whose context is longer than that, and whose run is not known.
SEQ_MAX = 1024


@dataclass(frozen=True)
class Measured:
    """`loss` is in nats per token, over `tokens` predicted tokens that stand for `bytes` of text.

    `recorded` is what the run's ledger says of the same checkpoint and text; None where there is none.
    """

    of: str
    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes: int
    data: str
    data_digest: str
    recorded: float | None

    def as_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def measure_run(run: Run, found: Checkpoint, data: str | None) -> Measured:
    """As the swarm measures: through the stages, with what crosses them rounded as on the wire. Raises BadSettings."""
    spec = run.spec if data is None else replace(run.spec, data=replace(run.spec.data, source=data, eval_digest=""))
    feed = _feed(spec)
    blobs = feed.heldout()
    loss = evaluate(spec, run.weights(found), blobs)
    recorded = found.loss if data is None else None
    of = f"{run.folder}, checkpoint {found.epoch}"
    return _figures(of, loss, spec, feed, tokenizer_for(spec.data, spec.model), recorded)


@torch.no_grad()
def measure_model(loaded: Loaded, data: str | None) -> Measured:
    """As transformers computes it. Raises BadSettings."""
    spec = loaded.spec
    if spec is None:
        model = ModelSpec(vocab=loaded.vocab, seq=min(loaded.seq, SEQ_MAX))
        spec = RunSpec(model=model, data=DataSpec(tokenizer=loaded.name))
    if data is not None:
        spec = replace(spec, data=replace(spec.data, source=data, eval_digest=""))
    feed = _feed(spec)
    losses = []
    for tokens in map(torch.from_numpy, _arrays(spec, feed.heldout())):
        logits = loaded.model(tokens[:, :-1].long()).logits
        losses.append(float(F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].long().flatten())))
    return _figures(loaded.name, sum(losses) / len(losses), spec, feed, loaded.tokenizer, None)


def _feed(spec: RunSpec) -> Feed:
    try:
        feed = Feed(spec)
    except DataError as error:
        raise BadSettings(f"--data: {error}") from None
    if spec.data.eval_digest not in ("", feed.eval_digest()):
        # Another version of Python has another standard library; a stream may have changed.
        raise BadSettings(
            f"the held-out text of this run (digest {spec.data.eval_digest[:12]}...) is not that of {spec.data.source} "
            f"on this machine ({feed.eval_digest()[:12]}...); measure on a text of your own: --data text:GLOB"
        )
    return feed


def _arrays(spec: RunSpec, blobs: Sequence[bytes]) -> list[Any]:
    shape = (spec.train.microbatch, spec.model.seq + 1)
    return [codec.bytes_to_tokens(blob, shape, spec.model.vocab) for blob in blobs]


def _figures(of: str, loss: float, spec: RunSpec, feed: Feed, tokenizer: Any, recorded: float | None) -> Measured:
    targets = [row[1:].tolist() for array in _arrays(spec, feed.heldout()) for row in array]
    tokens, nbytes = sum(map(len, targets)), bytes_of(spec.data, tokenizer, targets)
    bits = loss * tokens / nbytes / log(2)
    perplexity = float(torch.tensor(loss, dtype=torch.float64).exp())
    return Measured(of, loss, perplexity, bits, tokens, nbytes, spec.data.source, feed.eval_digest(), recorded)
