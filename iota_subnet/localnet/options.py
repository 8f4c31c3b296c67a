"""What `iota localnet` can be told."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from iota_subnet.core.state import Phase
from iota_subnet.localnet import tun
from iota_subnet.localnet.adversaries import Adversary, placed
from iota_subnet.localnet.faults import Fault
from iota_subnet.localnet.lanes import Link
from iota_subnet.model.importing import model_of, tokenizer_of
from iota_subnet.model.presets import choose
from iota_subnet.product.source import open_run, state_of
from iota_subnet.settings import blob_limit, imported
from iota_subnet.spec import PRESETS, DataSpec, RunSpec, SpecError, SwarmSpec
from iota_subnet.train.data import DataError, Feed
from iota_subnet.validator.journal import LedgerError
from template.errors import BadSettings

STAGES = 3

#: More on their way would train faster and worse: each microbatch makes the gradients of the others older.
GRAPHS = 2


#: One local run cannot use more: each audits on its own.
VALIDATORS_MAX = 8


@dataclass(frozen=True, slots=True)
class Options:
    """One local run."""

    miners: int
    stages: int
    epochs: int
    batches: int
    preset: str
    data: str
    seed: int
    faults: tuple[Fault, ...]
    link: Link | None
    json: Path | None
    ui: bool
    run_dir: Path | None
    keep: bool
    block_time: float
    svg: Path | None
    overlap: bool = False
    graphs: int = GRAPHS
    adversaries: tuple[Adversary, ...] = ()
    audit_miners: float = SwarmSpec().audit_miners
    split: str = "auto"
    bottleneck: int | None = None
    init: Path | None = None
    resume: bool = False
    validators: int = 1

    def spec(self) -> RunSpec:
        """The run that these options describe. Raises BadSettings."""
        if self.resume:
            assert self.run_dir is not None
            return _resumed(self.run_dir)
        began, tokenizer = "", DataSpec().tokenizer
        try:
            if self.init is None:
                model = choose(self.preset, self.stages, self.bottleneck, split=self.split)
            else:
                model, began = imported(self.init, self.stages, self.bottleneck, self.split, self.seed)
                tokenizer = tokenizer_of(self.init)
        except SpecError as error:
            flags = "--init" if self.init is not None else "--stages, --bottleneck, --split"
            raise BadSettings(f"{flags}: {error}") from None
        swarm = SwarmSpec(
            epochs=self.epochs,
            epoch_batches=self.batches,
            start_miners=self.miners,
            start_s=30.0,
            live_per_replica=self.graphs,
            overlap=self.overlap,
            audit_miners=self.audit_miners,
            max_blob_bytes=blob_limit(model),
        )
        spec = RunSpec("localnet", self.seed, init=began, model=model, swarm=swarm, data=DataSpec(self.data, tokenizer))
        return _with_text(spec)


def _with_text(spec: RunSpec) -> RunSpec:
    """`spec`, once its text was found to be usable: better now than in a process that starts in half a minute."""
    try:
        Feed(spec)
    except DataError as error:
        raise BadSettings(f"--data {spec.data.source}: {error}") from None
    return spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `iota localnet`."""
    add = parser.add_argument
    add("--miners", type=int, default=6, metavar="N", help="miner processes (default 6)")
    add(
        "--validators",
        type=int,
        default=1,
        metavar="N",
        help="validators of equal stake (default 1); all but the first follow its ledger, audit on their own and set "
        "their own weights",
    )
    add("--stages", type=int, metavar="K", help=f"pipeline stages (default {STAGES}; those of --init, if it has any)")
    add("--epochs", type=int, default=4, metavar="E", help="epochs to train before the run ends (default 4)")
    add("--batches", type=int, default=200, metavar="B", help="microbatches per epoch (default 200)")
    add("--overlap", action="store_true", help="go on training while an epoch is merged")
    add(
        "--graphs",
        type=int,
        default=GRAPHS,
        metavar="G",
        help=f"microbatches on their way per replica (default {GRAPHS}); more leave fewer miners idle and make "
        "gradients older",
    )
    add("--preset", choices=sorted(PRESETS), default="tiny", help="size of the model (default tiny)")
    add(
        "--bottleneck",
        type=int,
        metavar="B",
        help="values per token that cross a stage boundary; 0 sends all, which makes a plain Llama (default: the "
        "preset's)",
    )
    add("--split", default="auto", metavar="S", help="blocks per stage: auto (balanced), even, or a list such as 3,2,1")
    add(
        "--init",
        type=Path,
        metavar="DIR",
        help="begin with the model in a folder of transformers, a Llama or what iota export wrote; --preset is ignored",
    )
    add("--data", default="stdlib", help="stdlib (default), text:GLOB, or hf:NAME, streamed by the datasets package")
    add("--seed", type=int, default=0, help="seed of first weights, data order and stage choice (default 0)")
    add(
        "--kill",
        action="append",
        default=[],
        metavar="SECONDS:MINER",
        help="kill -9 a miner (0, 1, ...) that long after training began; repeatable. SECONDS:validator kills the "
        "validator, which is started again at once, as pm2 would",
    )
    add(
        "--freeze",
        action="append",
        default=[],
        metavar="SECONDS:MINER:FOR",
        help="SIGSTOP a miner (or validator, or chain) that long after training began, SIGCONT after FOR seconds more; "
        "repeatable",
    )
    add(
        "--chain-away",
        action="append",
        default=[],
        metavar="SECONDS:FOR",
        help="that long after training began the chain's endpoint is gone for FOR seconds: its connections are cut and "
        "new ones refused, while it goes on making blocks; repeatable",
    )
    add(
        "--adversary",
        action="append",
        default=[],
        metavar="KIND:COUNT",
        help="the last COUNT miners cheat, in a way that tests/adversaries.py knows, or as FILE.py:CLASS:COUNT says; "
        "repeatable, see docs/adversaries.md",
    )
    add(
        "--audit-miners",
        type=float,
        default=SwarmSpec().audit_miners,
        metavar="SHARE",
        help=f"share of the replicas' epochs that the validator computes again (default {SwarmSpec().audit_miners:g})",
    )
    add(
        "--link",
        metavar="RATE,RTT,LOSS",
        help="put every miner behind a line of its own, for example 20mbit,80ms,1%%: bits a second, round trip, share "
        "of packets lost in either direction; each part may be left out. Needs Linux, root and /dev/net/tun",
    )
    add("--json", type=Path, metavar="FILE", help="also write the summary here")
    add("--no-ui", action="store_true", help="print plain lines instead of the live view")
    add("--run-dir", type=Path, metavar="DIR", help="folder of the run (default runs/localnet-TIME)")
    add(
        "--resume",
        type=Path,
        metavar="DIR",
        help="go on with a run that was stopped or kept, from its newest checkpoint: its folder is used again, with a "
        "new chain and miners that hold nothing",
    )
    add("--keep", action="store_true", help="keep wallets, ledger and blobs; else only logs and summary.json stay")
    add(
        "--block-time",
        type=float,
        default=0.25,
        metavar="S",
        help="seconds per block of the embedded chain (default 0.25)",
    )
    add("--svg", type=Path, metavar="FILE", help="write the last view as a picture")


def parse(raw: argparse.Namespace) -> Options:
    """Check what argparse cannot. Raises BadSettings."""
    if raw.resume is not None:
        if raw.run_dir is not None or raw.init is not None:
            raise BadSettings("--resume uses that run's folder and model; leave out --run-dir and --init")
        spec = _resumed(raw.resume)
        raw.stages, raw.epochs, raw.batches = spec.model.stages, spec.swarm.epochs or 1, spec.swarm.epoch_batches
        raw.run_dir, raw.keep = raw.resume, True
    elif raw.stages is None:
        raw.stages = _stages(raw.init)
    if raw.miners < raw.stages:
        raise BadSettings(f"--miners {raw.miners}: at least one miner per stage is needed; use --miners {raw.stages}")
    for name in ("miners", "stages", "epochs", "batches", "graphs"):
        if getattr(raw, name) < 1:
            raise BadSettings(f"--{name} must be at least 1")
    if not 1 <= raw.validators <= VALIDATORS_MAX:
        raise BadSettings(f"--validators {raw.validators}: use 1 to {VALIDATORS_MAX}")
    if not 0.01 <= raw.block_time <= 60:
        raise BadSettings(f"--block-time {raw.block_time:g}: use 0.01 to 60 seconds")
    if not 0 <= raw.audit_miners <= 1:
        raise BadSettings(f"--audit-miners {raw.audit_miners:g}: use a share from 0 to 1")
    adversaries = tuple(Adversary.parse(text) for text in raw.adversary)
    placed(adversaries, raw.miners)
    faults = [Fault.kill(text, raw.miners) for text in raw.kill]
    faults += [Fault.freeze(text, raw.miners) for text in raw.freeze]
    faults += [Fault.chain_away(text) for text in raw.chain_away]
    return Options(
        raw.miners, raw.stages, raw.epochs, raw.batches, raw.preset, raw.data, raw.seed, tuple(faults),
        _link(raw), raw.json, not raw.no_ui, raw.run_dir, raw.keep, raw.block_time, raw.svg, raw.overlap, raw.graphs,
        adversaries, raw.audit_miners, raw.split, raw.bottleneck, raw.init, raw.resume is not None,
        raw.validators,
    )  # fmt: skip


def _resumed(folder: Path) -> RunSpec:
    """The specification of a run that can go on. Raises BadSettings."""
    with open_run(folder) as run:
        if run.folder == folder:
            raise BadSettings(f"--resume {folder}: give the folder of an iota localnet run, which has validator/ in it")
        try:
            over = state_of(run.journal).phase is Phase.DONE
            spec = RunSpec.from_json((folder / "spec.json").read_text(encoding="utf-8"))
        except (OSError, LedgerError, SpecError) as error:
            raise BadSettings(f"--resume {folder}: {error}") from None
    if over:
        raise BadSettings(
            f"--resume {folder}: this run is complete; train its model further with: iota export --run {folder} "
            "--out model, iota localnet --init model"
        )
    return spec


def _stages(init: Path | None) -> int:
    """As many as nobody asked otherwise."""
    if init is None:
        return STAGES
    try:
        model = model_of(init)
    except SpecError as error:
        raise BadSettings(f"--init: {error}") from None
    return model.stages if model.bottleneck else min(STAGES, model.blocks)


def _link(raw: argparse.Namespace) -> Link | None:
    if raw.link is None:
        return None
    link = Link.parse(raw.link)
    if raw.adversary:
        raise BadSettings("--link: its chain is not on loopback, where alone a miner may cheat; leave out --adversary")
    if raw.data.startswith("hf:"):
        raise BadSettings(f"--link: {raw.data} comes from the internet, which the emulated network does not reach")
    if raw.miners > tun.MINERS_MAX:
        raise BadSettings(f"--link has addresses for {tun.MINERS_MAX} miners; use --miners {tun.MINERS_MAX}")
    tun.check()
    return link
