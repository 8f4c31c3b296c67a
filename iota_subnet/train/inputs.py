"""Whether the bytes that a pass was given can be read at all, which is the same for whoever looks."""

from __future__ import annotations

from iota_subnet.spec import RunSpec
from iota_subnet.train import activations, codec


def unfit(spec: RunSpec, stage: int, op: str, place: int, data: bytes) -> str:
    """Why input number `place` of a pass in `stage` does not decode, or nothing. Values that are not finite do not."""
    model, train = spec.model, spec.train
    try:
        if (place == 0 and stage == 0) or (op == "loss" and place == 1):
            codec.bytes_to_tokens(data, (train.microbatch, model.seq + 1), model.vocab)
        else:
            activations.decode(spec, data, "", place == 0 and activations.carries_ids(spec, stage))
    except ValueError as error:
        return str(error) or type(error).__name__
    return ""
