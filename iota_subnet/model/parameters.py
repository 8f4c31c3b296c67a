"""Names, shapes and first values of a stage's parameters, without torch.

Law: everything here is a function of (ModelSpec, stage, seed) alone, bit for bit, on any machine. That is why the
first values come from raw Philox words and exact arithmetic: `torch.Tensor.normal_` takes another code path on
another CPU, and strangers must start from the same digest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iota_subnet.spec import ModelSpec

#: Starting scale of the last layer of an encoder or decoder, relative to 1/sqrt(fan in): near the identity path.
BOUNDARY_GAIN = 0.1
#: Starting scale of the LM head, relative to 1/sqrt(fan in): the first loss stays within 0.2 of ln(vocab).
HEAD_GAIN = 0.5
#: Embeddings as wide as the branches that are added to them. Smaller ones make a sharp loss surface at the start, and
#: sharpness is what delayed gradients cannot stand: in a pipeline with two steps of delay, 0.09 instead of 1 cost
#: 0.3 nats per byte after 256k tokens at width 128.
EMBEDDING_STD = 1.0


class Parameter(NamedTuple):
    """One tensor of the flat vector. `std` 0 means constant ones (a norm's gain)."""

    name: str
    shape: tuple[int, ...]
    std: float

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def _matrix(name: str, rows: int, columns: int, gain: float = 1.0) -> Parameter:
    return Parameter(f"{name}.weight", (rows, columns), gain / math.sqrt(columns))


def _norm(name: str, width: int) -> Parameter:
    return Parameter(f"{name}.weight", (width,), 0.0)


def _block(model: ModelSpec, index: int) -> list[Parameter]:
    at, d = f"blocks.{index}", model.dim
    kv = model.kv_heads * (d // model.heads)
    # Each block adds two branches to the residual stream; this keeps the stream's variance independent of the depth.
    out = 1 / math.sqrt(2 * model.blocks)
    return [
        _norm(f"{at}.attn_norm", d),
        _matrix(f"{at}.attn.wq", d, d),
        _matrix(f"{at}.attn.wk", kv, d),
        _matrix(f"{at}.attn.wv", kv, d),
        _matrix(f"{at}.attn.wo", d, d, out),
        _norm(f"{at}.mlp_norm", d),
        _matrix(f"{at}.mlp.gate", model.ffn, d),
        _matrix(f"{at}.mlp.up", model.ffn, d),
        _matrix(f"{at}.mlp.down", d, model.ffn, out),
    ]


def _encoder(model: ModelSpec, at: str) -> list[Parameter]:
    d, b = model.dim, model.bottleneck
    return [_norm(f"{at}.norm", d), _matrix(f"{at}.hidden", d, d), _matrix(f"{at}.out", b, d, BOUNDARY_GAIN)]


def _decoder(model: ModelSpec, at: str) -> list[Parameter]:
    d, b = model.dim, model.bottleneck
    return [_norm(f"{at}.norm", b), _matrix(f"{at}.hidden", 2 * d, b), _matrix(f"{at}.out", d, 2 * d, BOUNDARY_GAIN)]


def _token_decoder(model: ModelSpec, at: str) -> list[Parameter]:
    return [*_decoder(model, at), Parameter(f"{at}.tokens.weight", (model.vocab, model.dim), EMBEDDING_STD)]


def _nothing(model: ModelSpec, at: str) -> list[Parameter]:
    return []


Table = Callable[[ModelSpec, str], list[Parameter]]

#: Tensors of encoder and decoder by the name of the codec, in the order in which `bottleneck.CODECS` defines them.
BOUNDARIES: dict[str, tuple[Table, Table]] = {
    "resbm": (_encoder, _decoder),
    "resbm+tokens": (_encoder, _token_decoder),
    "subspace": (_nothing, _nothing),
}


def parameters(model: ModelSpec, stage: int) -> list[Parameter]:
    """The tensors of `stage` in the order of its flat vector (the order in which `Stage` defines them)."""
    d, last = model.dim, model.stages - 1
    encoder, decoder = BOUNDARIES[model.boundary_codec]
    table: list[Parameter] = []
    if stage == 0:
        table.append(Parameter("embed.weight", (model.vocab, d), EMBEDDING_STD))
    elif model.bottleneck:
        table += decoder(model, f"decoders.{stage - 1}")
    for index in model.blocks_of(stage):
        table += _block(model, index)
    if stage == last:
        table += [_norm("norm", d), _matrix("head", model.vocab, d, HEAD_GAIN)]
    elif model.bottleneck:
        table += encoder(model, f"encoders.{stage}")
    return table


def parameter_count(model: ModelSpec, stage: int) -> int:
    """P, the length of the flat vector of `stage`."""
    return sum(parameter.size for parameter in parameters(model, stage))


def initial_vector(model: ModelSpec, stage: int, seed: int) -> npt.NDArray[np.float32]:
    """First values of `stage`, float32 [P]. Each tensor depends on (seed, its name) only, not on the split's order."""
    parts = [draw(parameter, seed) for parameter in parameters(model, stage)]
    return np.concatenate(parts)


def draw(parameter: Parameter, seed: int) -> npt.NDArray[np.float32]:
    """First values of one tensor, float32, flat."""
    if parameter.std == 0:
        return np.ones(parameter.size, np.float32)
    label = f"{seed}:{parameter.name}".encode()
    key = int.from_bytes(hashlib.blake2b(label, digest_size=16).digest(), "little")
    words = np.random.Philox(key=key).random_raw(parameter.size)
    # The top 24 bits fit a float32 exactly, so the only rounding is one IEEE multiplication. Uniform in (-1, 1).
    centred = (words >> np.uint64(40)).astype(np.float32) - np.float32(2**23 - 0.5)
    values: npt.NDArray[np.float32] = np.multiply(centred, np.float32(parameter.std * math.sqrt(3) / 2**23))
    return values
