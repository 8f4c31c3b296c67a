"""Lines as SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#087f5b", "#c2255c", "#1864ab", "#e67700", "#5f3dc4", "#495057", "#2b8a3e", "#862e9c")

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 64, 230, 40, 52


@dataclass(frozen=True)
class Series:
    """A line through (x, y); `band` are all values at each x, of which the reach is drawn."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()
    dashed: bool = False
    colour: int = 0


def lines(
    title: str,
    across: str,
    up: str,
    series: Sequence[Series],
    ticks: Sequence[tuple[float, str]],
    scale: Callable[[float], float] = float,
    high: float | None = None,
) -> str:
    """A picture; `ticks` are (x, label), `scale` what is done to x before it is drawn."""
    xs = [scale(x) for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + [y for one in series for pair in one.band for y in pair]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), min(high or max(ys), max(ys))
    y0, y1 = y0 - 0.05 * (y1 - y0), y1 + 0.05 * (y1 - y0)

    def at(x: float, y: float) -> str:
        across_ = LEFT + (WIDTH - LEFT - RIGHT) * (scale(x) - x0) / (x1 - x0)
        return f"{across_:.1f},{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (min(y, y1) - y0) / (y1 - y0):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<style>text{font:12px sans-serif;fill:#222}.axis{stroke:#868e96}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
        f'<text x="{LEFT}" y="20">{escape(title)}</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">{escape(across)}</text>',
        f'<text x="8" y="{TOP - 8}">{escape(up)}</text>',
    ]
    for step in range(6):
        y = y0 + (y1 - y0) * step / 5
        height = at(series[0].points[0][0], y).split(",")[1]
        parts.append(
            f'<line class="axis" stroke-width=".5" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height}" y2="{height}"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{float(height) + 4:.1f}" text-anchor="end">{y:.3g}</text>')
    for x_value, label in ticks:
        x = at(x_value, y0).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(label)}</text>')
    for number, one in enumerate(series):
        colour = COLOURS[one.colour % len(COLOURS)]
        if one.band:
            way = [at(x, low) for (x, _), (low, _) in zip(one.points, one.band, strict=True)]
            back = [at(x, top) for (x, _), (_, top) in zip(one.points, one.band, strict=True)]
            parts.append(f'<polygon fill="{colour}" opacity=".15" points="{" ".join(way + back[::-1])}"/>')
        dash = ' stroke-dasharray="5 4"' if one.dashed else ""
        places = " ".join(at(x, y) for x, y in one.points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2"{dash} points="{places}"/>')
        below = TOP + 18 * number + 8
        parts.append(
            f'<line stroke="{colour}" stroke-width="2"{dash} x1="{WIDTH - RIGHT + 14}" x2="{WIDTH - RIGHT + 40}" '
            f'y1="{below - 4}" y2="{below - 4}"/>'
        )
        parts.append(f'<text x="{WIDTH - RIGHT + 46}" y="{below}">{escape(one.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
