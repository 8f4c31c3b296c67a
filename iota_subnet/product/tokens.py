"""The tokenizer that goes with an exported model, as one of transformers."""

from __future__ import annotations

from typing import Any

from iota_subnet.spec import DataSpec, ModelSpec
from iota_subnet.train.corpus import DataError
from template.errors import BadSettings


def tokenizer_for(data: DataSpec, model: ModelSpec) -> Any:
    """A fast tokenizer with the ids that the run was trained on. Raises BadSettings: it cannot be loaded."""
    if data.tokenizer == "bytes":
        return byte_tokenizer(model.seq)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(data.tokenizer)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadSettings(f"tokenizer {data.tokenizer!r} of this run cannot be loaded: {first}") from None


def byte_tokenizer(seq: int) -> Any:
    """Ids are the bytes of UTF-8. No id is special to it: any text comes back as it was, zero bytes included."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = _letters()
    inner = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        clean_up_tokenization_spaces=False,
        model_max_length=seq,
        model_input_names=["input_ids", "attention_mask"],
    )


def _letters() -> list[str]:
    """The printable letter by which ByteLevel writes each byte: its own if it has one, else the next from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def bytes_of(data: DataSpec, tokenizer: Any, ids: list[list[int]]) -> int:
    """Bytes of text that these tokens stand for. Raises DataError: none."""
    if data.tokenizer == "bytes":
        total = sum(map(len, ids))
    else:
        total = sum(len(text.encode()) for text in tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False))
    if not total:
        raise DataError("the held-out tokens stand for no text")
    return total
