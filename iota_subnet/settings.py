"""The flags that IOTA adds to those of every neuron. `--run.epochs 4` is RUN_EPOCHS=4 in the environment or `.env`."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from iota_subnet.model.importing import model_of, tokenizer_of, weights_digest, weights_of
from iota_subnet.model.parameters import parameter_count
from iota_subnet.model.presets import choose
from iota_subnet.spec import PRESETS, DataSpec, ModelSpec, RunSpec, SpecError, SwarmSpec
from iota_subnet.train.tuning import Tuning
from template.errors import BadSettings
from template.settings import AxonSettings, Group, NeuronGroup, NeuronSettings, Port

#: Bucket names as S3 has them; a prefix of segments that need no quoting and lead nowhere else.
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9_-][\w.-]*)*/?", re.ASCII)
_BUCKET_URL = re.compile(r"https?://[\w.:\[\]-]+(?:/[\w.~-]+)*/?", re.ASCII)


class DataServer(Group):
    """Where this neuron serves tensors; the validator's work channel and status share the port."""

    port: Port = Field(0, description="port of the blob server; 0 picks a free one")
    max_bytes: int = Field(4 << 30, ge=1 << 20, description="bytes of blobs kept at most")


class ValidatorData(DataServer):
    """A validator's, which relays for miners without an open port."""

    relay_bytes: int = Field(
        256 << 20, ge=0, description="memory for blobs of miners without an open port; 0 relays nothing"
    )


class MinerData(DataServer):
    """A miner's."""

    relay: bool = Field(
        False, description="open no port: orders come over the work channel, and the validator relays the blobs"
    )
    bucket: str = Field(
        "",
        description="open no port: as --blobs.relay, but blobs are uploaded to s3://BUCKET/PREFIX, where others read "
        "them; keys and endpoint are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
    )
    bucket_url: str = Field(
        "", description="address under which everybody can read that bucket (default: from region and endpoint)"
    )

    @field_validator("bucket")
    @classmethod
    def _is_bucket(cls, value: str) -> str:
        if value and not _BUCKET.fullmatch(value):
            raise ValueError("use s3://BUCKET or s3://BUCKET/PREFIX, of letters, digits and . _ -")
        return value

    @field_validator("bucket_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not _BUCKET_URL.fullmatch(value):
            raise ValueError("use an address such as https://pub.example.org or https://s3.example.org/BUCKET")
        return value

    @model_validator(mode="after")
    def _one_way_out(self) -> MinerData:
        if self.bucket and self.relay:
            raise BadSettings("--blobs.bucket and --blobs.relay are two ways to do without an open port; give one")
        if self.bucket_url and not self.bucket:
            raise BadSettings("--blobs.bucket_url says where others read --blobs.bucket; give that too")
        return self


class LocalSettings(Group):
    """What this neuron shows on its own machine: /metrics for Prometheus, and a miner its page."""

    ip: str = Field("127.0.0.1", description="address of /metrics and of a miner's page; keep it to this machine")
    port: Port = Field(0, description="their port; 0 picks a free one, which the log and iota status name")

    @field_validator("ip")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value.strip("[]")))
        except ValueError:
            raise ValueError("use a numeric address such as 127.0.0.1, not a host name") from None


class RunSettings(Group):
    """The run a validator orchestrates. `--run.spec` fixes everything; the other flags make a new specification."""

    dir: Path = Field(Path("runs/validator"), description="folder of the ledger and of the model's blobs")
    spec: Path | None = Field(None, description="run specification as JSON; the flags below are then ignored")
    name: str = Field("iota", description="name of the run")
    preset: str = Field("tiny", description=f"size of the model: {', '.join(PRESETS)}")
    stages: int = Field(3, ge=1, description="pipeline stages")
    split: str = Field("auto", description="blocks per stage: auto (balanced by FLOPs), even, or a list such as 5,5,2")
    bottleneck: int | None = Field(
        None, ge=0, description="values per token that cross a stage boundary; 0 sends all (default: the preset's)"
    )
    init: Path | None = Field(
        None, description="begin with the model in this folder of transformers (a Llama, or from iota export)"
    )
    epochs: int = Field(0, ge=0, description="epochs to train; 0 trains for ever")
    batches: int = Field(120, ge=1, description="microbatches per epoch")
    miners: int = Field(1, ge=1, description="ready miners that the first epoch waits for, a minute at most")
    overlap: bool = Field(False, description="go on training while an epoch is merged")
    follow: str = Field(
        "",
        description="do not orchestrate: follow the ledger of the validator with this hotkey (auto: the serving one "
        "with the most stake), audit miners on our own, and set weights by what is found",
    )
    seed: int = Field(0, description="public seed of first weights, data order and stage choice")
    data: str = Field("stdlib", description="stdlib, text:GLOB, or hf:NAME (streamed by the datasets package)")
    keep_events: int = Field(1_000_000, ge=0, description="newest events that the ledger keeps at least; 0 keeps all")
    keep_checkpoints: int = Field(3, ge=3, description="newest epochs whose model stays on disk (iota checkpoint)")
    tokenizer: str = Field("bytes", description="bytes, or a tokenizer for transformers' AutoTokenizer")

    def build(self) -> RunSpec:
        """The specification that these flags describe. Raises BadSettings."""
        try:
            if self.spec is not None:
                return RunSpec.from_json(self.spec.read_text(encoding="utf-8"))
            if self.preset not in PRESETS:
                raise BadSettings(f"--run.preset (RUN_PRESET): {self.preset!r} is not one of {', '.join(PRESETS)}")
            began = ""
            if self.init is None:
                model = choose(self.preset, self.stages, self.bottleneck, split=self.split)
            else:
                stages = self.stages if "stages" in self.model_fields_set else None
                model, began = imported(self.init, stages, self.bottleneck, self.split, self.seed)
        except OSError as error:
            raise BadSettings(f"--run.spec (RUN_SPEC): {self.spec} cannot be read: {error.strerror}") from None
        except SpecError as error:
            raise BadSettings(f"--run: {error}") from None
        swarm = SwarmSpec(
            epochs=self.epochs,
            epoch_batches=self.batches,
            start_miners=self.miners,
            overlap=self.overlap,
            max_blob_bytes=blob_limit(model),
        )
        tokenizer = self.tokenizer
        if self.init is not None and "tokenizer" not in self.model_fields_set:
            tokenizer = tokenizer_of(self.init)
        data = DataSpec(self.data, tokenizer)
        return RunSpec(self.name, self.seed, init=began, model=model, swarm=swarm, data=data)


class NeuronDefaults(NeuronGroup):
    """As for every neuron, but a training run moves faster than a chain's epoch."""

    step_s: float = Field(3.0, ge=0, description="seconds between two looks at the chain")
    epoch_length: int = Field(20, ge=1, description="blocks between two looks at the metagraph, and weight settings")


class ValidatorAxon(AxonSettings):
    """Miners find a validator by what it announces on chain."""

    port: Port = Field(8090, description="port to listen on; 0 picks a free one")


class ValidatorSettings(NeuronSettings):
    """A validator: hosts the orchestrator, feeds data, checks merges, measures held-out loss, sets weights."""

    axon: AxonSettings = ValidatorAxon()
    neuron: NeuronGroup = NeuronDefaults()
    run: RunSettings = RunSettings()
    blobs: ValidatorData = ValidatorData()
    local: LocalSettings = LocalSettings()


class WorkSettings(Group):
    """How a miner works."""

    validator: str | None = Field(
        None, description="hotkey of the validator to work for; the one with most stake if none"
    )
    threads: int = Field(1, ge=1, description="CPU threads for one stage")
    drain_s: float = Field(
        30.0, ge=0, description="seconds to finish what others wait for before stopping; 0 stops at once"
    )
    finish_s: float = Field(
        0.0, ge=0, description="seconds to finish the epoch before stopping; who leaves in its midst is not paid for it"
    )
    evidence_bytes: int = Field(
        4 << 30, ge=1 << 20, description="bytes on disk for what an audit may ask for; who cannot show it is not paid"
    )
    device: str = Field("cpu", description="torch device of the stage: cpu, cuda, cuda:1, mps")
    devices: str = Field("", description="several devices that hold the stage together, such as cuda:0,cuda:1 (FSDP2)")
    recompute: bool = Field(
        False, description="compute the inside of each block again for the backward pass instead of keeping it"
    )
    compile: bool = Field(False, description="hand the stage to torch.compile; GPU only")
    bf16: bool | None = Field(None, description="multiply matrices in bfloat16; GPU only, where it is the default")
    conduct: str | None = Field(
        None,
        description="FILE.py:CLASS, a miner that cheats, to try the defences; only for a chain on this machine",
    )
    conduct_friends: str = Field(
        "", description="hotkeys, with commas, of all who run that class together, this one among them"
    )

    def tuning(self) -> Tuning:
        """How the stage is computed."""
        devices = tuple(name.strip() for name in self.devices.split(",") if name.strip())
        return Tuning(self.recompute, self.compile, self.bf16, devices)

    @model_validator(mode="after")
    def _fits_the_device(self) -> WorkSettings:
        if problem := self.tuning().problem(self.device):
            raise ValueError(problem)
        return self


class MinerSettings(NeuronSettings):
    """A miner: trains one stage of the model and takes part in its merges."""

    neuron: NeuronGroup = NeuronDefaults()
    work: WorkSettings = WorkSettings()
    blobs: MinerData = MinerData()
    local: LocalSettings = LocalSettings()

    @model_validator(mode="after")
    def _no_port_to_reach(self) -> MinerSettings:
        if self.blobs.bucket and self.axon.external_ip is not None:
            raise BadSettings(
                "--axon.external_ip is for a miner with open ports, --blobs.bucket for one without; give one of them"
            )
        return self


def imported(folder: Path, stages: int | None, bottleneck: int | None, split: str, seed: int) -> tuple[ModelSpec, str]:
    """The model in a folder of transformers, and the digest of its weights. Raises SpecError."""
    model = model_of(folder, stages, bottleneck, split)
    return model, weights_digest(weights_of(folder, model, seed))


def blob_limit(model: ModelSpec) -> int:
    """Bytes of the largest blob of a run: a whole stage in fp32, which is what a stage with one or two replicas merges,
    with its header; never less than the default."""
    largest = 4 * max(parameter_count(model, stage) for stage in range(model.stages)) + (64 << 10)
    return max(SwarmSpec().max_blob_bytes, largest)


def advertised(axon: AxonSettings, bound: str) -> str:
    """`bound` (http://ip:port) as others reach it."""
    host = axon.announced(0)[0]
    return f"http://{f'[{host}]' if ':' in host else host}:{urlsplit(bound).port}"
