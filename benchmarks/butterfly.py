"""A merge of one stage by Butterfly All-Reduce, against hivemind's averager and gloo, in the same run.

    python benchmarks/butterfly.py [--peers 4 8] [--values 10000000] [--runs 5] [--codec fp32 bf16] [--json FILE]
    python benchmarks/butterfly.py --kill [--peers 4 8] [--kills 20] [--rival-kills 5]

Ours: n processes with the miner's own merger, runner, outbox, blob server and fetcher, under the validator's own core,
ledger and auditor (`swarm/`); seconds from the first word that asks for a commit to the last report of an installed
state, twins compared and outer step included. Peers: hivemind (interpreter by --hivemind or HIVEMIND_PYTHON), from the
go to the last peer's end, in a group that was found before, and with matchmaking; torch's gloo, which has neither
redundancy nor fault tolerance. Same vector, same machine, all by turns. CPU seconds are those of all processes of a
side. What hivemind and gloo sent is what loopback carried: run it in a network namespace of its own for a clean count.

--kill: SIGKILL of a quarter of the replicas at a random moment of the reduction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from loguru import logger
from peers.rivals import Gloo, Hivemind, interpreter
from swarm.adapter import SEED, spec_of
from swarm.coordinator import Merge, Swarm

#: Repetitions that are thrown away, of ours and of the rivals: blobs of two epochs are kept, so that only the fourth
#: merge finds the memory that the first has left.
WARM = 3

#: What hivemind sends in place of our codec.
RIVAL_CODEC = {"fp32": "fp32", "bf16": "fp16"}

#: Seconds after which a replica that does not come back counts as dead, in --kill; hivemind's timeouts are 2 and 4.
RECONNECT_S = 2.0


def seconds_of(values: list[float]) -> dict[str, Any]:
    return {"value": median(values), "min": min(values), "max": max(values), "n": len(values)}


def sound(merge: Merge, peers: int) -> None:
    """Stop at a merge that is fast and wrong."""
    assert merge.coverage == 1.0 and merge.off == 0.0, f"{merge.off:.2%} of the vector is not the mean"
    assert len(merge.digests) == 1, "replicas differ"
    assert merge.contributors == [peers] * len(merge.contributors) and not merge.recomputed, "not all took part"


async def side_by_side(peers: int, codec: str, asked: argparse.Namespace, python: str | None) -> list[dict[str, Any]]:
    """Seconds of merges of `peers` replicas, taken in turn with those of the rivals; the first of each warm up."""
    taken: dict[str, list[Any]] = {"ours": [], "hivemind": [], "step": [], "gloo": []}
    with tempfile.TemporaryDirectory() as folder:
        swarm = Swarm(spec_of(asked.values, codec, peers, 5.0), peers, Path(folder))
        rival = Hivemind(python, peers, asked.values, RIVAL_CODEC[codec]) if python else None
        gloo = Gloo(peers, asked.values, Path(folder)) if codec == "fp32" else None
        await swarm.start()
        if rival:
            await rival.start(f"bench{peers}{codec}")
        if gloo:
            await gloo.start()
        for _ in range(asked.runs + WARM):
            merge = await swarm.merge()
            sound(merge, peers)
            taken["ours"].append(merge)
            if asked.verbose:
                phases = ", ".join(f"{name} {at:.2f}" for name, at in merge.phases.items())
                print(f"  {merge.seconds:.3f} s, {merge.cpu:.2f} CPU s; {phases}", file=sys.stderr)
            if rival:
                taken["hivemind"].append(await rival.reduce())
                taken["step"].append(await rival.step())
            if gloo:
                taken["gloo"].append(await gloo.reduce())
        await asyncio.gather(*(side.close() for side in (swarm, rival, gloo) if side))
    merges: list[Merge] = taken["ours"][WARM:]
    mine = {
        "replicas": peers, "codec": codec, "unit": "s", **seconds_of([merge.seconds for merge in merges]),
        "cpu_s": median(merge.cpu for merge in merges),
        "sent_mb": median(sum(merge.sent) / peers for merge in merges) / 1e6,
        "error": max(merge.error for merge in merges),
        "phases": {name: median(m.phases[name] for m in merges) for name in merges[0].phases},
    }  # fmt: skip
    rows = []
    for name, label in (("hivemind", "hivemind all-reduce"), ("step", "hivemind step"), ("gloo", "gloo all-reduce")):
        runs = taken[name][WARM:]
        assert all(run.ok for run in runs), f"{label} failed"
        row = {"name": f"merge of {peers} replicas, {codec}", **mine, "peer": label if runs else None}
        if runs:
            other = seconds_of([run.seconds for run in runs])
            row |= {
                "peer_value": other["value"], "peer_min": other["min"], "peer_max": other["max"],
                "peer_cpu_s": median(run.cpu for run in runs), "peer_sent_mb": min(run.sent for run in runs) / 1e6,
                "ratio": mine["value"] / other["value"],
            }  # fmt: skip
        if runs or name == "hivemind":
            rows.append(row)
            print(told(row), flush=True)
    return rows


async def kills(peers: int, codec: str, asked: argparse.Namespace, python: str | None) -> list[dict[str, Any]]:
    """A quarter of the replicas die while shards are reduced."""
    random, count = Random(SEED), max(1, peers // 4)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        swarm = Swarm(spec_of(asked.values, codec, peers, RECONNECT_S), peers, Path(folder))
        await swarm.start()
        whole = [await swarm.merge() for _ in range(3)]
        reduce_s = median(merge.phases["install"] - merge.phases["reduce"] for merge in whole[1:])
        merges = []
        for _ in range(asked.kills):
            merges.append(merge := await swarm.merge(count, random, reduce_s))
            if asked.verbose:
                told_of = f"coverage {merge.coverage}, off {merge.off:.4f}, {merge.recomputed} recomputed"
                print(f"  {merge.seconds:.3f} s, killed at {merge.killed_at:.2f}; {told_of}", file=sys.stderr)
            await swarm.revive()
        await swarm.close()
    rows.append(
        {
            "name": f"{count} of {peers} killed, {codec}", "side": "ours", "unit": "s",
            **seconds_of([merge.seconds for merge in merges]),
            "unaveraged": max(max(merge.off, 1 - merge.coverage) for merge in merges),
            "identical": all(len(merge.digests) == 1 for merge in merges),
            "recomputed": sum(merge.recomputed for merge in merges), "reduce_s": reduce_s,
        }
    )  # fmt: skip
    print(told(rows[0]), flush=True)
    if python is None:
        return rows
    found = []
    for turn in range(asked.rival_kills):
        rival = Hivemind(python, peers, asked.values, RIVAL_CODEC[codec])
        await rival.start(f"kill{peers}{turn}")
        await rival.reduce()
        quiet = await rival.reduce()
        found.append(await rival.killed(count, random, quiet.seconds))
        await rival.close()
    lost = [answer["unaveraged"] for _, answers in found for answer in answers]
    rows.append(
        {
            "name": f"{count} of {peers} killed, {codec}", "side": "hivemind", "unit": "s",
            **seconds_of([result.seconds for result, _ in found]), "unaveraged": max(lost),
            "unaveraged_median": median(lost),
            "identical": all(len({answer["digest"] for answer in answers}) == 1 for _, answers in found),
        }
    )  # fmt: skip
    print(told(rows[-1]), flush=True)
    return rows


async def measure(asked: argparse.Namespace) -> dict[str, Any]:
    python = None if asked.no_hivemind else interpreter(asked.hivemind)
    if python is None and not asked.no_hivemind:
        print(
            "no hivemind here: python -m venv V && V/bin/pip install hivemind, then --hivemind V/bin/python",
            file=sys.stderr,
        )
    rows: list[dict[str, Any]] = []
    for peers in asked.peers:
        for codec in asked.codec:
            found = await (kills if asked.kill else side_by_side)(peers, codec, asked, python)
            rows += found
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"machine": machine, "values": asked.values, "rows": rows}


def told(row: dict[str, Any]) -> str:
    """One row for people."""
    spread = f"{row['value']:.3f} s [{row['min']:.3f}..{row['max']:.3f}] n={row['n']}"
    if "side" in row:
        same = "identical" if row["identical"] else "not identical"
        return f"{row['name']:<28} {row['side']:<9} {spread}  un-averaged {row['unaveraged']:.2%}, survivors {same}"
    text = f"{row['name']:<28} {spread}  {row['cpu_s']:.2f} CPU s  {row['sent_mb']:.1f} MB"
    if row["peer"] is None:
        return f"{text}   peer: null"
    other = f"{row['peer_value']:.3f} s [{row['peer_min']:.3f}..{row['peer_max']:.3f}]"
    costs = f"{row['peer_cpu_s']:.2f} CPU s  {row['peer_sent_mb']:.1f} MB  ratio {row['ratio']:.2f}"
    return f"{text}   {row['peer']}: {other}  {costs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--values", type=int, default=10_000_000, help="parameters of the stage")
    parser.add_argument("--runs", type=int, default=5, help=f"repetitions after {WARM} that warm up")
    parser.add_argument("--codec", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--kill", action="store_true", help="kill a quarter of the replicas")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rival-kills", type=int, default=5)
    parser.add_argument("--hivemind", metavar="PYTHON", help="an interpreter that has hivemind")
    parser.add_argument("--no-hivemind", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="tell every merge")
    parser.add_argument("--json", metavar="FILE", type=Path)
    asked = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    result = asyncio.run(measure(asked))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
