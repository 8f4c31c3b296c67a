"""CLASP measured: whom it finds and when, whom it wrongs, what a lying tail can do, what a million samples cost.

    python benchmarks/clasp.py [--json FILE] [--only toy,bias,alarms,delay,forged,speed] [--svg docs] [--runs 2000]

The toy is the paper's (arXiv 2507.17766, section 6): 5 stages of 5 miners, losses from N(4.5, 0.2), one bad miner that
adds a tenth to the loss and to its deviation. The paper gives no threshold; here its mean loss is an outlier above its
layer's mean by 3 standard errors (the deviation of all losses over the root of the miner's samples).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import sqrt
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import mean, median, pstdev
from typing import Any

from iota_subnet.core.clasp import SIGMAS, Columns, Effect, Sample, estimate
from iota_subnet.core.clasp_data import columns, design
from iota_subnet.core.clasp_fit import fit
from iota_subnet.core.evidence import FALSE_ALARMS, MARGIN, Evidence, flagged, update

PARTS = ("toy", "bias", "alarms", "delay", "forged", "speed")
SIZES = (30, 50, 65, 80, 100, 150, 200, 300, 500)
BAD = "s2m3"
SIGMA = 3.0

Row = dict[str, Any]
Each = Callable[[Callable[[int], Any], int], list[Any]]


def row(name: str, values: Sequence[float], unit: str, peer: str = "", peer_value: float | None = None) -> Row:
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


def rate(name: str, hits: int, n: int, unit: str, peer: str = "", peer_value: float | None = None) -> Row:
    """A share, with its 95 % interval (Wilson) as min and max."""
    z, p = 1.96, hits / n
    centre, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (round(max(0.0, (centre + sign * half) / (1 + z * z / n)), 6) for sign in (-1, 1))
    return row(name, [p], unit, peer, peer_value) | {"n": n, "min": low, "max": high}


# -- the paper's toy --------------------------------------------------------------------------------------------------


def toy(seed: int, n: int, bad: str = BAD, together: float = 0.0) -> list[Sample]:
    """`together` is how often s3m1 comes along when the bad miner was drawn, besides by chance."""
    rng, samples = Random(seed), []
    for _ in range(n):
        path = [f"s{s}m{rng.randrange(5)}" for s in range(5)]
        if path[2] == BAD and rng.random() < together:
            path[3] = "s3m1"
        samples.append(Sample(tuple(path), rng.gauss(4.5, 0.2) * (1.1 if bad in path else 1.0)))
    return samples


def by_the_paper(samples: list[Sample], effects: dict[str, Effect]) -> dict[str, float]:
    """Mean loss above the layer's mean, in standard errors."""
    spread = pstdev(sample.loss for sample in samples)
    found = {}
    for stage in range(5):
        layer = {h: e for h, e in effects.items() if h.startswith(f"s{stage}")}
        centre = mean(effect.mean_loss for effect in layer.values())
        found |= {h: (e.mean_loss - centre) / (spread / sqrt(e.samples)) for h, e in layer.items()}
    return found


def detected(seed: int, n: int, bad: str, together: float = 0.0) -> tuple[bool, int, bool, int]:
    """Whether the bad miner was found, and how many honest ones were accused: the paper's rule, and ours."""
    samples = toy(seed, n, bad, together)
    effects = estimate(samples)
    paper = [h for h, z in by_the_paper(samples, effects).items() if z > SIGMA]
    ours = [h for h, e in effects.items() if e.quality < 1]
    return bad in paper, len(set(paper) - {bad}), bad in ours, len(set(ours) - {bad})


def toy_rows(each: Each, svg: Path | None) -> list[Row]:
    out, curves = [], []
    for n in SIZES:
        found = each(partial(detected, n=n, bad=BAD), 400)
        paper, _, ours, _ = (sum(values) for values in zip(*found, strict=True))
        out.append(rate(f"toy, {n} samples: bad miner found", ours, 400, "of runs", "mean loss + 3 s", paper / 400))
        curves.append((n, ours / 400, paper / 400))
    for bad, together, words in (
        (BAD, 0.0, "honest accused beside a bad one"),
        ("nobody", 0.0, "honest accused, all honest"),
        (BAD, 0.5, "honest accused, a companion in half of the bad one's samples"),
    ):
        found = each(partial(detected, n=300, bad=bad, together=together), 800)
        _, paper, _, ours = (sum(values) for values in zip(*found, strict=True))
        honest = 800 * (24 if bad == BAD else 25)
        out.append(rate(f"toy, 300 samples: {words}", ours, honest, "of miners", "mean loss + 3 s", paper / honest))
    if svg:
        (svg / "clasp-detection.svg").write_text(plot(curves), encoding="utf-8")
    return out


KINDS = (
    ("the bad miner", lambda h: h == BAD),
    ("its stage-mates", lambda h: h.startswith("s2") and h != BAD),
    ("its companion", lambda h: h == "s3m1"),
    ("the companion's stage-mates", lambda h: h.startswith("s3") and h != "s3m1"),
    ("all others", lambda h: h[:2] in ("s0", "s1", "s4")),
)


def attributed(seed: int, together: float) -> list[tuple[list[float], list[float]]]:
    """By kind of miner, what both estimators attribute to each, against the mean of its stage."""
    samples = toy(seed, 500, together=together)
    effects = estimate(samples)
    average = mean(sample.loss for sample in samples)
    return [
        (
            [e.mean_loss - average for h, e in effects.items() if of(h)],
            [e.effect for h, e in effects.items() if of(h)],
        )
        for _, of in KINDS
    ]


def bias_rows(each: Each, svg: Path | None) -> list[Row]:
    truth = (0.36, -0.09, 0.0, 0.0, 0.0)
    out, bars = [], []
    for together, words in ((0.0, "even routing"), (0.5, "a companion in half of the bad miner's samples")):
        runs = each(partial(attributed, together=together), 400)
        for kind, (name, _) in enumerate(KINDS):
            paper, ours = ([value for run in runs for value in run[kind][side]] for side in (0, 1))
            off = mean(ours) - truth[kind], mean(paper) - truth[kind]
            out.append(row(f"bias of {name}, {words}", [off[0]], "nats", "mean loss", off[1]) | {"n": len(ours)})
            spread = row(f"deviation of {name}, {words}", [pstdev(ours)], "nats", "mean loss", pstdev(paper))
            out.append(spread | {"n": len(ours)})
            bars.append((words, name, *off))
    if svg:
        (svg / "clasp-bias.svg").write_text(bars_of(bars), encoding="utf-8")
    return out


# -- the sequential test ----------------------------------------------------------------------------------------------


def epoch(rng: Random, n: int, harm: float = 0.0) -> dict[str, Effect]:
    """3 stages of 4; losses that fall, hang together in time, and lie 0.15 about their mean; s1m2 does harm."""
    drift, samples = 0.0, []
    for index in range(n):
        drift = 0.9 * drift + rng.gauss(0, 0.02)
        path = (f"s0m{rng.randrange(4)}", f"s1m{rng.randrange(4)}", f"s2m{rng.randrange(4)}")
        loss = 4 - 0.5 * index / n + drift + rng.gauss(0, 0.15)
        samples.append(Sample(path, loss + (harm if path[1] == "s1m2" else 0.0)))
    return estimate(samples)


def honest_run(seed: int, epochs: int = 12) -> bool:
    rng, evidence = Random(f"honest {seed}"), dict[str, Evidence]()
    for _ in range(epochs):
        evidence = update(evidence, epoch(rng, 120))
    return bool(flagged(evidence))


def marginal_run(seed: int, epochs: int = 100) -> bool:
    """The worst that is allowed: every miner does as much harm as the margin, and scores are exactly normal."""
    rng, evidence, error = Random(f"margin {seed}"), dict[str, Evidence](), 0.02
    for _ in range(epochs):
        seen = {f"m{k}": rng.gauss(MARGIN, error) for k in range(12)}
        evidence = update(evidence, {h: Effect(30, 4.0, v, error, 1.0, v / error, 4) for h, v in seen.items()})
    return bool(flagged(evidence))


def alarm_rows(each: Each, runs: int) -> list[Row]:
    words = "12 miners, an honest one flagged"
    return [
        rate(
            f"12 epochs of 120 samples, {words}", sum(each(honest_run, runs)), runs, "of runs", "at most", FALSE_ALARMS
        ),
        rate(
            f"100 epochs at the margin, {words}",
            sum(each(marginal_run, runs)),
            runs,
            "of runs",
            "at most",
            FALSE_ALARMS,
        ),
    ]


def delay(seed: int, harm: float, n: int, most: int) -> tuple[int, int]:
    """Epochs until the harmful one is flagged (one more than `most` if never), and how many honest ones were."""
    rng, evidence = Random(f"delay {seed}"), dict[str, Evidence]()
    for count in range(1, most + 1):
        evidence = update(evidence, epoch(rng, n, harm))
        found = flagged(evidence)
        if "s1m2" in found:
            return count, len(found) - 1
    return most + 1, len(flagged(evidence))


def delay_rows(each: Each) -> list[Row]:
    out = []
    for n, harms, most, runs in ((120, (0.5, 0.2, 0.1, 0.07, 0.05), 100, 30), (1200, (0.1, 0.05, 0.03, 0.02), 60, 12)):
        for harm in harms:
            found = each(partial(delay, harm=harm, n=n, most=most), runs)
            out.append(
                row(f"harm of {harm} nats, {n} samples an epoch: flagged after", [c for c, _ in found], "epochs")
            )
    return out


# -- forged losses ----------------------------------------------------------------------------------------------------


def forged(seed: int, tails: int, lie: float, harm: float) -> tuple[bool, bool, float]:
    """Whether x0 lost quality, whether a plain regression would have it so, and its quality. t0 lies about x0."""
    rng, samples = Random(seed), []
    for _ in range(600):
        path = (f"x{rng.randrange(4)}", f"y{rng.randrange(4)}", f"t{rng.randrange(tails)}")
        about = path[0] == "x0"
        samples.append(Sample(path, rng.gauss(4.5, 0.2) + harm * about + lie * (about and path[2] == "t0")))
    quality = estimate(samples)["x0"].quality
    data = design(columns(samples), None)
    plain = fit(data)
    seat = plain.first[0] + data.hotkeys[0].index("x0")
    error = sqrt(sum(plain.squares) / (600 - plain.rank) * plain.spread[seat])
    return quality < 1, plain.effect[seat] > SIGMAS * error, quality


def forged_rows(each: Each) -> list[Row]:
    out = []
    for tails in (2, 3, 4, 8):
        for lie, harm, words in ((1.0, 0.0, "honest, framed by one"), (-1.0, 0.4, "harm of 0.4, shielded by one")):
            found = each(partial(forged, tails=tails, lie=lie, harm=harm), 400)
            ours, plain, _ = (sum(values) for values in zip(*found, strict=True))
            name = f"{tails} tails, {words}: loses quality"
            out.append(rate(name, ours, 400, "of runs", "plain regression", plain / 400))
    return out


# -- speed ------------------------------------------------------------------------------------------------------------


def once(stages: int, miners: int, n: int, kind: str) -> tuple[float, float, float]:
    """Seconds of processor time of one estimate, peak MB of the process, and MB before."""
    rng = Random(1)
    names = [[f"5F{s:02}{m:04}{'x' * 40}" for m in range(miners)] for s in range(stages)]
    paths = [rng.choices(of, k=n) for of in names]
    losses = [rng.gauss(4.0, 0.2) for _ in range(n)]
    given: Columns | list[Sample] = Columns(paths, losses)
    if kind == "rows":
        given = [Sample(path, loss) for path, loss in zip(zip(*paths, strict=True), losses, strict=True)]
        del paths, losses
    if kind == "weighted":
        chances = [[rng.uniform(0.5, 2.0) / miners for _ in range(n)] for _ in range(stages)]
        given = Columns(paths, losses, chances, [rng.random() for _ in range(n)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.process_time()
    estimate(given)
    return time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, before


def apart(seed: int) -> tuple[float, float]:
    """The fast way against the exact one: effects in standard errors, and errors as a share."""
    rng = Random(seed)
    paths = [rng.choices([f"s{s}m{m}" for m in range(40)], k=4000) for s in range(4)]
    given = Columns(paths, [rng.gauss(4.0, 0.2) for _ in range(4000)])
    exact, fast = estimate(given), estimate(given, exact=0)
    return (
        max(abs(exact[h].effect - fast[h].effect) / exact[h].error for h in exact),
        max(abs(exact[h].error / fast[h].error - 1) for h in exact),
    )


def speed_rows(each: Each, repetitions: int = 5) -> list[Row]:
    out = []
    for stages, miners, n, kind in (
        (4, 250, 1_000_000, "columns"),
        (3, 334, 1_000_000, "columns"),
        (4, 250, 1_000_000, "rows"),
        (4, 250, 1_000_000, "weighted"),
        (3, 50, 1_000, "rows"),
        (3, 4, 120, "rows"),
    ):
        command = [sys.executable, __file__, "--once", f"{stages},{miners},{n},{kind}"]
        found = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(repetitions)
        ]
        name = f"{n:,} samples, {stages} x {miners} miners, {kind}"
        large = n >= 1_000_000
        out.append(row(f"{name}: time", [f[0] for f in found], "s", *(("asked", 2.0) if large else ())))
        if large:
            out.append(row(f"{name}: peak of the process", [f[1] for f in found], "MB", "asked", 500.0))
            out.append(row(f"{name}: of that the samples", [f[2] for f in found], "MB"))
    found = each(apart, 20)
    out.append(row("4,000 samples, 4 x 40: fast from exact, largest effect", [f[0] for f in found], "standard errors"))
    out.append(row("4,000 samples, 4 x 40: fast from exact, largest error", [f[1] for f in found], "share"))
    return out


# -- pictures ---------------------------------------------------------------------------------------------------------

STYLE = (
    "<style>text{font:12px sans-serif;fill:#222}.axis{stroke:#222}.a{stroke:#0b7285;fill:#0b7285}"
    ".b{stroke:#e8590c;fill:#e8590c}@media(prefers-color-scheme:dark){text{fill:#ddd}.axis{stroke:#ddd}"
    ".a{stroke:#3bc9db;fill:#3bc9db}.b{stroke:#ff922b;fill:#ff922b}}</style>"
)
OURS, PAPER = ("a", "regression, 3.5 errors, tails crosswise"), ("b", "mean loss, 3 errors (paper)")


def canvas(width: int, height: int, title: str, ours: str, paper: str) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        STYLE,
        f'<text x="50" y="20">{title}</text>',
        f'<circle class="a" cx="56" cy="38" r="4"/><text x="66" y="42">{ours}</text>',
        f'<circle class="b" cx="346" cy="38" r="4"/><text x="356" y="42">{paper}</text>',
    ]


def plot(curves: Iterable[tuple[int, float, float]]) -> str:
    """How often the bad miner was found, over the number of samples."""
    curves = list(curves)
    parts = canvas(640, 320, "The paper's toy: how often the bad miner is found", OURS[1], PAPER[1])

    def x(n: float) -> float:
        return 50 + 570 * n / 500

    def y(share: float) -> float:
        return 270 - 205 * share

    for level in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="44" y="{y(level) + 4:.1f}" text-anchor="end">{level:g}</text>')
        faint = "" if not level else ' opacity="0.15"'
        parts.append(f'<line class="axis"{faint} x1="50" y1="{y(level):.1f}" x2="620" y2="{y(level):.1f}"/>')
    for side, (name, _) in ((1, OURS), (2, PAPER)):
        points = " ".join(f"{x(point[0]):.1f},{y(point[side]):.1f}" for point in curves)
        parts.append(f'<polyline class="{name}" style="fill:none" stroke-width="1.5" points="{points}"/>')
        parts += [f'<circle class="{name}" cx="{x(p[0]):.1f}" cy="{y(p[side]):.1f}" r="3"/>' for p in curves]
    parts += [f'<text x="{x(n):.1f}" y="288" text-anchor="middle">{n}</text>' for n in (50, 100, 200, 300, 400, 500)]
    parts.append('<text x="620" y="308" text-anchor="end">samples</text>')
    return "\n".join([*parts, "</svg>", ""])


def bars_of(bars: Sequence[tuple[str, str, float, float]]) -> str:
    """What is attributed beyond the truth, by kind of miner."""
    most = max(abs(value) for bar in bars for value in bar[2:])
    parts = canvas(
        760, 60 + 26 * len(bars) + 70, "Bias in nats per token, 500 samples", "regression", "mean loss (paper)"
    )
    line, last = 60, ""

    def x(value: float) -> float:
        return 430 + 190 * value / most

    for words, name, ours, paper in bars:
        if words != last:
            line, last = line + 14, words
            parts.append(f'<text x="10" y="{line}">{words}</text>')
            line += 8
        parts.append(f'<text x="200" y="{line + 14}" text-anchor="end">{name}</text>')
        for value, kind, at in ((ours, "a", line), (paper, "b", line + 10)):
            left, wide = min(x(0), x(value)), max(1.0, abs(x(value) - x(0)))
            parts.append(f'<rect class="{kind}" x="{left:.1f}" y="{at}" width="{wide:.1f}" height="8"/>')
        parts.append(f'<text x="752" y="{line + 14}" text-anchor="end">{ours:+.3f} / {paper:+.3f}</text>')
        line += 26
    parts.append(f'<line class="axis" x1="{x(0)}" y1="60" x2="{x(0)}" y2="{line}"/>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", metavar="FILE", nargs="?", const="-", help="write rows as JSON to FILE, - for stdout")
    parser.add_argument("--svg", type=Path, metavar="DIR", help="write clasp-detection.svg and clasp-bias.svg")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--runs", type=int, default=2000, help="runs per rate of false alarms (default 2000)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        stages, miners, n, kind = options.once.split(",")
        print(json.dumps(once(int(stages), int(miners), int(n), kind)))
        return 0
    wanted = options.only.split(",")
    if any(name not in PARTS for name in wanted) or options.runs < 1:
        parser.error(f"--only {options.only} --runs {options.runs}: some of {','.join(PARTS)}; at least 1 run")
    rows: list[Row] = []
    with get_context("fork").Pool(options.jobs) as pool:

        def each(one: Callable[[int], Any], runs: int) -> list[Any]:
            return pool.map(one, range(runs), chunksize=max(1, runs // options.jobs // 8))

        parts: dict[str, Callable[[], list[Row]]] = {
            "toy": lambda: toy_rows(each, options.svg),
            "bias": lambda: bias_rows(each, options.svg),
            "alarms": lambda: alarm_rows(each, options.runs),
            "delay": lambda: delay_rows(each),
            "forged": lambda: forged_rows(each),
            "speed": lambda: speed_rows(each),
        }
        for name in wanted:
            rows += parts[name]()
    text = json.dumps({"machine": f"{platform.machine()}, Python {platform.python_version()}", "rows": rows})
    if options.json and options.json != "-":
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.json == "-":
        print(text)
        return 0
    for item in rows:
        peer = f"  ({item['peer']}: {item['peer_value']:.4g})" if item["peer"] else ""
        span = f"  [{item['min']:.4g}, {item['max']:.4g}], n {item['n']}"
        print(f"{item['name']:74} {item['value']:>9.4g} {item['unit']}{peer}{span}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
