"""A model that can be asked, wherever it came from: the model of transformers, its tokenizer, and the run behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iota_subnet.product.source import open_run
from iota_subnet.spec import DataSpec, RunSpec
from template.errors import BadSettings


@dataclass(frozen=True)
class Loaded:
    """`spec` is that of the run it came from, None for a model of another origin; `seq` is its context in tokens."""

    model: Any
    tokenizer: Any
    seq: int
    vocab: int
    spec: RunSpec | None
    name: str

    @property
    def data(self) -> DataSpec:
        """The run's data specification; the default one for a model that came without a run."""
        return DataSpec() if self.spec is None else self.spec.data


def from_run(path: Path, epoch: int | None) -> Loaded:
    """The newest whole checkpoint of a run, or that of `epoch`. Raises NeuronError."""
    with open_run(path) as run:
        found = run.checkpoint(epoch)
        weights, spec = run.weights(found), run.spec
    from iota_subnet.product.export import assemble
    from iota_subnet.product.tokens import tokenizer_for

    with quiet():
        model = assemble(spec, weights)
        tokenizer = tokenizer_for(spec.data, spec.model)
    name = f"{path}, checkpoint {found.epoch}"
    return Loaded(model, tokenizer, spec.model.seq, spec.model.vocab, spec, name)


def from_folder(path: Path) -> Loaded:
    """A causal language model in a folder of transformers; code in it is never run. Raises BadSettings."""
    from iota_subnet.product.export import spec_in

    if not (path / "config.json").is_file():
        raise BadSettings(f"--model {path}: no config.json there; give a folder that iota export or transformers wrote")
    spec = spec_in(path)
    import transformers

    import iota_subnet.model.auto  # noqa: F401

    try:
        with quiet():
            model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype="float32", local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise BadSettings(f"--model {path} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    seq = int(getattr(model.config, "max_position_embeddings", None) or 1024)
    return Loaded(model.eval(), tokenizer, seq, int(model.config.vocab_size), spec, str(path))


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and hints, which are not for those who run our commands."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
