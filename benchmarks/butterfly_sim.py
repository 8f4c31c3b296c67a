"""What the redundant Butterfly All-Reduce promises, measured on the core: bytes, failures, liars.

    python benchmarks/butterfly_sim.py [--json FILE] [--only bytes,failures,liars] [--draws 1000] [--svg docs]

The real core decides; miners answer at once and publish hashes (`iota_subnet/sim/butterfly.py`), so that nothing here
depends on the machine. Bytes are those of the blobs that the core has miners fetch, without headers. A draw is one
secret: who commits, who is paired with whom, and what is checked all follow from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import combinations
from math import ceil, comb, sqrt
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import Any, NamedTuple

from iota_subnet.core.actions import Duty, SendMergePlan
from iota_subnet.core.pairs import pairs, shards_for
from iota_subnet.core.recompute import STAGES_WORTH
from iota_subnet.core.state import Phase
from iota_subnet.sim.butterfly import VALIDATOR, Butterfly
from iota_subnet.spec import SwarmSpec

#: Parameters of the stage; no multiple of anything, so that rounding shows.
SIZE = 1_000_003

#: Bytes of the stage in the codec of pseudo-gradients and in that of means, both bf16.
W, M = 2 * SIZE, 2 * SIZE

#: Replicas that vanish, of 50.
GONE = (5, 10, 17, 25)

#: Share of the shards about which twins agree that the validator checks by chance.
AUDITED = SwarmSpec().audit_shards

EPOCHS = (1, 5, 10, 20)


def row(name: str, values: list[float], unit: str, peer: str = "", peer_value: float | None = None) -> dict[str, Any]:
    value = median(values)
    return {
        "name": name,
        "value": round(value, 6),
        "unit": unit,
        "peer": peer,
        "peer_value": round(peer_value, 6) if peer_value is not None else None,
        "ratio": round(value / peer_value, 4) if peer_value else None,
        "n": len(values),
        "min": round(min(values), 6),
        "max": round(max(values), 6),
    }


def rate(name: str, hits: int, draws: int, peer: str, expected: float) -> dict[str, Any]:
    """A share of draws, with its 95 % interval (Wilson) as min and max."""
    low, high = interval(hits, draws)
    return row(name, [hits / draws], "of draws", peer, expected) | {"n": draws, "min": low, "max": high}


def interval(hits: int, draws: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share."""
    p, n = hits / draws, draws
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return round((middle - half) / (1 + z * z / n), 6), round((middle + half) / (1 + z * z / n), 6)


# -- bytes ------------------------------------------------------------------------------------------------------------


class Carried(NamedTuple):
    """Bytes of one merge, by miner."""

    reduce_in: list[int]
    reduce_out: list[int]
    install_in: list[int]
    install_out: list[int]


def carried(n: int) -> Carried:
    """One merge of `n` replicas in which nothing goes wrong."""
    run = Butterfly(n, SIZE, f"bytes {n}", Random(n)).until(Phase.REDUCE)
    # The first state is installed before the first epoch.
    run.bytes.clear()
    run.until(Phase.TRAIN)
    return Carried(
        *([run.bytes[what, way, h] for h in run.hotkeys] for what in ("reduce", "install") for way in ("in", "out"))
    )


def formula(n: int) -> tuple[float, float]:
    """Bytes that each miner receives, and sends on average: while reducing, and while installing."""
    return 2 * W * (n - 1) / n, M * (1 - 2 / n)


def bytes_rows(svg: Path | None) -> list[dict[str, Any]]:
    found = {n: carried(n) for n in range(2, 33)}
    out = []
    for n in (2, 4, 8, 16, 23, 24, 32):
        reduce, install = formula(n)
        for name, values, expected in zip(
            ("fetched to reduce", "served to reduce", "fetched to install", "served to install"),
            found[n],
            (reduce, reduce, install, install),
            strict=True,
        ):
            share = [value / W for value in values]
            out.append(row(f"{name}, {n} replicas", [mean(share)], "W", "formula", expected / W))
            out[-1] |= {"n": n, "min": round(min(share), 6), "max": round(max(share), 6)}
    worst = max(
        abs(value / expected - 1)
        for n, c in found.items()
        for values, expected in (
            (c.reduce_in, formula(n)[0]),
            (c.reduce_out, formula(n)[0]),
            (c.install_in, formula(n)[1]),
        )
        for value in values
        if expected
    )
    out.append(
        row("largest deviation of any miner from the formula, 2 to 32 replicas", [worst], "share", "asked", 0.03)
    )
    if svg:
        (svg / "butterfly-bytes.svg").write_text(plot(found), encoding="utf-8")
    return out


# -- failures ---------------------------------------------------------------------------------------------------------


class Repair(NamedTuple):
    """What came of one merge of 50 whose replicas vanished. Bytes in W."""

    both_gone: float
    touched: int
    leases: int
    by_validator: int
    validator_bytes: float
    repair_bytes: float
    most: float
    coverage: float
    accused: int


def failed(seed: int, gone: int, at: float, n: int = 50) -> Repair:
    """`gone` of `n` vanish at one blow when the pairs have been shown and the share `at` of REDUCE's turns is over."""
    run = Butterfly(n, SIZE, f"failures {seed}", Random(seed)).until(Phase.REDUCE)
    drawn = [tuple(shard.reducers) for shard in run.merge.shards]
    for _ in range(int(at * 4 * len(drawn))):
        run.step()
    assert run.state.phase is Phase.REDUCE, "there is nothing left to repair"
    lost = Random(f"lost {seed}").sample(run.hotkeys, gone)
    before = len(run.history)
    run.vanish(lost)
    run.until(Phase.INSTALL)
    plans = [action for action in run.history[before:] if isinstance(action, SendMergePlan)]
    again = [duty.shard for plan in plans for duty in plan.duties]
    merge, report = run.merge, run.state.reports[0]
    load = Counter(hotkey for shard in merge.shards for hotkey in shard.reducers if hotkey not in run.gone)
    extra = 0
    for (hotkey, _, index), have in run.have.items():
        if hotkey not in drawn[index]:
            extra += sum(merge.commits[other][1][index].nbytes for other in have if other != hotkey)
    return Repair(
        both_gone=sum(all(h in run.gone for h in pair) for pair in drawn) / len(drawn),
        touched=len(set(again)),
        leases=len(again),
        by_validator=report.recomputed,
        validator_bytes=run.bytes["reduce", "in", VALIDATOR] / W,
        repair_bytes=extra / W,
        most=max(load.values()) / (2 * len(merge.shards) / (n - gone)),
        coverage=report.coverage[0],
        accused=len(run.state.faults),
    )


def both_gone(shards: int, gone: int, draws: int, n: int = 50) -> float:
    """Share of shards whose drawn pair is among `gone` replicas, over many salts."""
    hotkeys = tuple(f"m{number:03}" for number in range(n))
    lost = frozenset(hotkeys[:gone])
    return mean(
        sum(lost.issuperset(pair) for pair in pairs(hotkeys, shards, "both", seed)) / shards for seed in range(draws)
    )


def failure_rows(draws: int, each: Callable[..., list[Any]]) -> list[dict[str, Any]]:
    out = []
    n = 50
    for gone in GONE:
        law = gone * (gone - 1) / (n * (n - 1))
        share = f"{100 * gone // n} % of 50 vanish"
        # With one shard for each pair there is nothing to draw: the share is exact in every epoch.
        for shards, salts in ((shards_for(n, SIZE), 10 * draws), (comb(n, 2), max(1, draws // 10))):
            name = f"{share}: both reducers gone, {shards} shards, mean"
            out.append(row(name, [both_gone(shards, gone, salts)], "of shards", "k(k-1)/(n(n-1))", law) | {"n": salts})
        for at, when in ((0.0, "when pairs are shown"), (0.4, "in the middle")):
            runs: list[Repair] = each(partial(failed, gone=gone, at=at), max(20, draws // 10))
            out += [
                row(f"{share} {when}: shards lost", [1 - r.coverage for r in runs], "of the stage"),
                row(f"{share} {when}: shards leased again", [r.touched for r in runs], "shards"),
                row(f"{share} {when}: duties given again", [r.leases for r in runs], "duties"),
                row(f"{share} {when}: repair, fetched by all survivors", [r.repair_bytes for r in runs], "W"),
                row(f"{share} {when}: fetched by the validator", [r.validator_bytes for r in runs], "W"),
                row(f"{share} {when}: most loaded survivor, of the mean", [r.most for r in runs], "x"),
                row(f"{share} {when}: accused", [r.accused for r in runs], "miners"),
            ]
    return out


# -- liars ------------------------------------------------------------------------------------------------------------


def everywhere(number: int, duty: Duty, truth: str) -> str:
    """A lie of its own, on every shard."""
    return f"lie {number} {truth}"


def with_friends(run: Butterfly, liars: list[str], duty: Duty, truth: str) -> str:
    """The same lie as the twin, where the twin is a friend, and the truth elsewhere."""
    pair = run.merge.shards[duty.shard].reducers
    return f"lie {truth}" if all(hotkey in liars for hotkey in pair) else truth


class Caught(NamedTuple):
    """Epochs until all liars were named (0: not in time); how many epochs had a shared shard; who was named wrongly."""

    after: int
    shared: int
    honest_accused: int


def hunt(seed: int, n: int, liars: int, kind: str, epochs: int, size: int = 10_007) -> Caught:
    run = Butterfly(n, size, f"liars {n} {kind} {seed}", Random(seed), audit_shards=AUDITED)
    false = Random(f"liars {seed}").sample(run.hotkeys, liars)
    for number, hotkey in enumerate(false):
        run.lies[hotkey] = {
            "alone": partial(everywhere, number),
            "everywhere": partial(everywhere, 0),
            "shared": partial(with_friends, run, false),
        }[kind]
    shared = 0
    for epoch in range(1, epochs + 1):
        run.until(Phase.INSTALL)
        shared += any(all(h in false for h in shard.reducers) for shard in run.merge.shards)
        run.until(Phase.TRAIN)
        named = {fault.hotkey for fault in run.state.faults}
        if named.issuperset(false) or epoch == epochs:
            return Caught(epoch if named.issuperset(false) else 0, shared, len(named.difference(false)))
    raise AssertionError("no epoch")


def liar_rows(draws: int, each: Callable[..., list[Any]]) -> list[dict[str, Any]]:
    out = []
    wrongly = 0
    for name, liars, kind in (("one liar", 1, "alone"), ("two colluders on all their shards", 2, "everywhere")):
        found: list[Caught] = each(partial(hunt, n=8, liars=liars, kind=kind, epochs=1), draws)
        wrongly += sum(c.honest_accused for c in found)
        out.append(
            rate(f"{name} among 8: named after 1 epoch", sum(c.after == 1 for c in found), draws, "promise", 1.0)
        )
    found = each(partial(hunt, n=8, liars=2, kind="shared", epochs=max(EPOCHS)), draws)
    wrongly += sum(c.honest_accused for c in found)
    for epochs in EPOCHS:
        hits = sum(0 < c.after <= epochs for c in found)
        looked = max(AUDITED, STAGES_WORTH / 8)
        law = 1 - (1 - looked) ** epochs
        name = f"two colluders on the shard they share, among 8: named after {epochs} epochs"
        out.append(rate(name, hits, draws, f"1-(1-{looked})^E", law))
    few = max(20, draws // 5)
    found = each(partial(hunt, n=50, liars=2, kind="shared", epochs=1), few)
    wrongly += sum(c.honest_accused for c in found)
    law = shards_for(50, SIZE) / comb(50, 2)
    out.append(rate("two of 50 share a shard in an epoch", sum(c.shared for c in found), few, "S/(n(n-1)/2)", law))
    out.append(row("honest miners accused, in all these draws", [wrongly], "miners", "promise", 0.0))
    return out


# -- pictures ---------------------------------------------------------------------------------------------------------

#: Colours that can be told apart in both modes, and without red and green.
STYLE = (
    "<style>text{font:12px sans-serif;fill:#222}.axis{stroke:#222}.a{stroke:#0b7285;fill:#0b7285}"
    ".b{stroke:#e8590c;fill:#e8590c}.c{stroke:#868e96;fill:#868e96}.none{fill:#e9ecef}.same{fill:#a5d8ff}"
    ".some{fill:#ffa94d}.never{fill:#c92a2a}@media(prefers-color-scheme:dark){text{fill:#ddd}.axis{stroke:#ddd}"
    ".a{stroke:#3bc9db;fill:#3bc9db}.b{stroke:#ff922b;fill:#ff922b}.none{fill:#2b3035}.same{fill:#1864ab}"
    ".some{fill:#f08c00}.never{fill:#ff6b6b}}</style>"
)


def plot(found: dict[int, Carried]) -> str:
    """Bytes that a miner receives in one merge, in W, over the number of replicas."""
    width, height, left, bottom, top = 640, 360, 50, 50, 60
    most = 4.5

    def x(n: float) -> float:
        return left + (width - left - 20) * (n - 2) / 30

    def y(share: float) -> float:
        return height - bottom - (height - bottom - top) * share / most

    both = {n: (mean(c.reduce_in) / W, mean(c.install_in) / W) for n, c in found.items()}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        STYLE,
        f'<text x="{left}" y="20">Bytes that one miner receives in a merge, in W (its stage in bf16)</text>',
        f'<line class="axis" x1="{left}" y1="{y(0):.1f}" x2="{width - 20}" y2="{y(0):.1f}"/>',
    ]
    for level in range(5):
        parts.append(f'<text x="{left - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level}</text>')
        parts.append(
            f'<line class="axis" opacity="0.15" x1="{left}" y1="{y(level):.1f}" x2="{width - 20}" y2="{y(level):.1f}"/>'
        )
    lines: list[tuple[str, str, Callable[[int], float], Callable[[int], float]]] = [
        ("b", "in all", lambda n: sum(both[n]), lambda n: sum(formula(n)) / W),
        ("a", "to reduce", lambda n: both[n][0], lambda n: formula(n)[0] / W),
    ]
    for number, (name, words, measured, law) in enumerate(lines):
        points = " ".join(f"{x(n):.1f},{y(law(n)):.1f}" for n in found)
        parts.append(f'<polyline class="{name}" style="fill:none" stroke-width="1.5" points="{points}"/>')
        parts += [f'<circle class="{name}" cx="{x(n):.1f}" cy="{y(measured(n)):.1f}" r="3"/>' for n in found]
        parts.append(f'<circle class="{name}" cx="{left + 6 + 110 * number}" cy="38" r="4"/>')
        parts.append(f'<text x="{left + 16 + 110 * number}" y="42">{words}</text>')
    parts.append(f'<text x="{left + 236}" y="42">dots: measured; lines: formula</text>')
    for n in (2, 4, 8, 12, 16, 20, 24, 28, 32):
        parts.append(f'<text x="{x(n):.1f}" y="{height - bottom + 18}" text-anchor="middle">{n}</text>')
    parts.append(f'<text x="{width - 20}" y="{height - 8}" text-anchor="end">replicas of the stage</text>')
    return "\n".join([*parts, "</svg>", ""])


def matrix(epochs: int = 12, n: int = 50) -> str:
    """Who agreed with whom after `epochs` epochs of 50 replicas: three who lie each for themselves, two who collude."""
    run = Butterfly(n, SIZE, "matrix", Random(7), audit_shards=AUDITED)
    alone, ring = [run.hotkeys[k] for k in (9, 23, 38)], [run.hotkeys[k] for k in (30, 44)]
    for number, hotkey in enumerate(alone):
        run.lies[hotkey] = partial(everywhere, number)
    # The third lies now and then only.
    run.lies[alone[2]] = lambda duty, truth: f"lie {truth}" if duty.shard % 3 == 0 else truth
    for hotkey in ring:
        run.lies[hotkey] = partial(with_friends, run, ring)
    for _ in range(epochs):
        run.until(Phase.INSTALL)
        run.until(Phase.TRAIN)
    named = {fault.hotkey for fault in run.state.faults}
    cell, left, top = 10, 50, 70
    side = left + n * cell + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {top + n * cell + 40}" role="img">',
        STYLE,
        f'<text x="{left}" y="20">Who agreed with whom, to the bit: {n} replicas, {epochs} epochs</text>',
    ]
    legend = ("same", "always"), ("some", "now and then"), ("never", "never"), ("none", "have not met")
    for number, (kind, words) in enumerate(legend):
        parts.append(f'<rect class="{kind}" x="{left + 120 * number}" y="32" width="10" height="10"/>')
        parts.append(f'<text x="{left + 16 + 120 * number}" y="41">{words}</text>')
    for one, other in combinations(range(n), 2):
        met = run.state.agreement.get((run.hotkeys[one], run.hotkeys[other]))
        kind = "none" if met is None else "same" if not met.differed else "some" if met.agreed else "never"
        for row_, column in ((one, other), (other, one)):
            place = f'x="{left + column * cell}" y="{top + row_ * cell}"'
            parts.append(f'<rect class="{kind}" {place} width="9" height="9"/>')
    for number, hotkey in enumerate(run.hotkeys):
        if hotkey in run.lies:
            mark = "*" if hotkey in named else ""
            y = top + number * cell + 9
            parts.append(f'<text x="{left - 6}" y="{y}" text-anchor="end">{number}{mark}</text>')
            parts.append(f'<text x="{left + number * cell + 4}" y="{top - 6}" text-anchor="middle">{number}</text>')
    words = f"* named; {int(alone[0][1:])} and {int(alone[1][1:])} always lie, {int(alone[2][1:])} now and then, "
    words += f"{int(ring[0][1:])} and {int(ring[1][1:])} only together"
    parts.append(f'<text x="{left}" y="{top + n * cell + 24}">{words}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", nargs="?", const="-", help="write rows as JSON to FILE, - for stdout")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write butterfly-bytes.svg and butterfly-matrix.svg")
    parser.add_argument("--only", default="bytes,failures,liars", help="some of bytes,failures,liars")
    parser.add_argument("--draws", type=int, default=200, help="draws per figure of liars (default 200)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    options = parser.parse_args()
    wanted = options.only.split(",")
    unknown = [name for name in wanted if name not in ("bytes", "failures", "liars")]
    if unknown or options.draws < 1:
        parser.error(f"--only {options.only} --draws {options.draws}: some of bytes,failures,liars; at least 1 draw")
    with get_context("fork").Pool(options.jobs) as pool:

        def each(one: Callable[[int], Any], draws: int) -> list[Any]:
            return pool.map(one, range(draws), chunksize=max(1, ceil(draws / options.jobs / 8)))

        rows = bytes_rows(options.svg) if "bytes" in wanted else []
        rows += failure_rows(options.draws, each) if "failures" in wanted else []
        rows += liar_rows(options.draws, each) if "liars" in wanted else []
    if options.svg:
        (options.svg / "butterfly-matrix.svg").write_text(matrix(), encoding="utf-8")
    text = json.dumps({"machine": f"{platform.machine()}, Python {platform.python_version()}", "rows": rows})
    if options.json and options.json != "-":
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.json == "-":
        print(text)
        return 0
    for item in rows:
        peer = f"  ({item['peer']}: {item['peer_value']:.4g})" if item["peer"] else ""
        span = f"  [{item['min']:.4g}, {item['max']:.4g}], n {item['n']}"
        print(f"{item['name']:76} {item['value']:>9.4g} {item['unit']}{peer}{span}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
