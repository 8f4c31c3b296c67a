"""The live terminal view: what the run does and waits for, the loss curve, one row per miner."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iota_subnet.localnet.observe import Picture

#: Bits of a braille character by (column, row) of its dots.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))

CURVE_HEIGHT = 8

#: Columns of a terminal below which the table leaves out what can be done without.
NARROW = 100


def render(
    picture: Picture, names: dict[str, str], dead: set[str], seconds: float, note: str, width: int
) -> RenderableType:
    """One frame, `width` columns wide. `names` by hotkey; `dead` are the names of miners whose process is gone."""
    table = _table(picture, names, dead, width < NARROW)
    return Group(_head(picture, seconds, note, width), _curve(picture, width), table)


def _head(picture: Picture, seconds: float, note: str, width: int) -> RenderableType:
    status = picture.status
    clock = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    if status is None:
        return Panel(Text(f"{note}  [{clock}]"), title="IOTA localnet", border_style="cyan")
    counts = status["microbatches"]
    block = picture.view.block if picture.view is not None else 0
    epoch = f"epoch {min(status['epoch'] + 1, status['epochs'] or status['epoch'] + 1)} of {status['epochs'] or '∞'}"
    line = Text.assemble(
        (f" {status['phase'].upper()} ", "bold black on cyan"),
        f"  {epoch}   ",
        (status["waiting_for"], "bold"),
        f"   {status['seconds_left']:.0f} s at most" if status["phase"] != "done" else "",
    )
    numbers = Text(
        f"{status['tokens']:,} tokens   {counts['retired']} microbatches done, {counts['live']} on their way, "
        f"{counts['lost']} lost\nactivations {_size(status['wire_bytes_activations'])}, "
        f"merges {_size(status['wire_bytes_merge'])}   block {block}   {clock}",
        style="dim",
    )
    bar = ProgressBar(total=max(1, counts["per_epoch"]), completed=counts["in_epoch"], width=width - 4)
    return Panel(Group(line, numbers, bar), title="IOTA localnet", border_style="cyan")


def _curve(picture: Picture, width: int) -> RenderableType:
    evals = [] if picture.status is None else [r["eval_loss"] for r in picture.status["reports"] if r["eval_loss"]]
    title = "training loss, nats per token"
    if evals:
        title += "   held-out: "
        # The newest count most: a title that does not fit would be cut at its end.
        room = max(1, (width - len(title) - 6) // 7)
        title += "  ".join(f"{value:.3f}" for value in evals[-min(room, 6) :])
    return Panel(
        Text("\n".join(plot(picture.losses, width - 12, CURVE_HEIGHT)), style="cyan"), title=title, title_align="left"
    )


def plot(values: Sequence[float], width: int, height: int) -> list[str]:
    """`values` as a curve of `height` lines of braille dots, `width` columns wide, the scale at the left."""
    if not values:
        return ["(no microbatch has come back yet)"] + [""] * (height - 1)
    points = _thin(values, 2 * width)
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    cells = [[0] * width for _ in range(height)]
    last = 4 * height - 1
    levels = [last - round((value - low) / span * last) for value in points]
    for x, (level, before) in enumerate(zip(levels, [levels[0], *levels], strict=False)):
        # A steep step is drawn as a stroke, so that the curve stays one line.
        for y in range(min(level, before), max(level, before) + 1):
            cells[y // 4][x // 2] |= DOTS[x % 2][y % 4]
    labels = {0: f"{high:6.2f} ", height - 1: f"{low:6.2f} "}
    return [
        labels.get(row, " " * 7) + "".join(chr(0x2800 + cell) if cell else " " for cell in line)
        for row, line in enumerate(cells)
    ]


def _thin(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [len(values) * i // width for i in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def _table(picture: Picture, names: dict[str, str], dead: set[str], narrow: bool) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, border_style="dim", pad_edge=False)
    columns = ["miner", "uid", "hotkey", "stage", "state", "passes", "s/pass", "score", "weight", "incentive"]
    hidden = {"hotkey", "s/pass"} if narrow else set()
    for header in columns:
        if header not in hidden:
            table.add_column(
                header, justify="left" if header in ("miner", "hotkey", "state") else "right", no_wrap=True
            )
    status = picture.status or {}
    miners = {row["hotkey"]: row for row in status.get("miners", [])}
    scores = status.get("scores", {})
    banned = {row["hotkey"] for row in status.get("banned", [])}
    for hotkey, name in names.items():
        row = miners.get(hotkey)
        neuron = picture.view.by_hotkey(hotkey) if picture.view is not None else None
        cells: list[str | Text] = [
            name,
            str(neuron.uid) if neuron else "",
            f"{hotkey[:6]}…{hotkey[-4:]}",
            str(row["stage"]) if row and row["stage"] >= 0 else "",
            _state(row, name in dead, hotkey in banned, status.get("phase", "")),
            str(row["done"]) if row else "",
            f"{row['seconds']:.3f}" if row else "",
            f"{scores.get(hotkey, 0.0):.1f}",
            f"{picture.weights.get(hotkey, 0.0):.3f}",
            f"{neuron.incentive:.3f}" if neuron else "",
        ]
        table.add_row(*(cell for header, cell in zip(columns, cells, strict=True) if header not in hidden))
    return table


def _state(row: dict[str, object] | None, dead: bool, banned: bool, phase: str) -> Text:
    if dead or (banned and row is None):
        return Text("killed" if dead else "banned", style="red")
    if row is None:
        return Text("joining", style="yellow")
    if not row["connected"]:
        return Text("away", style="red")
    if phase == "train":
        return Text("working", style="green") if row["leases"] else Text("idle", style="dim")
    return Text(phase, style="cyan")


def _size(nbytes: int) -> str:
    value = float(nbytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
