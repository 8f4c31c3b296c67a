"""The terminal view: whole at any width, right in its figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from iota_subnet.core.state import Phase
from iota_subnet.localnet.observe import Picture
from iota_subnet.localnet.view import CURVE_HEIGHT, plot, render

from .recorded import hotkey, in_phase, picture


def drawn(seen: Picture, names: dict[str, str], width: int, dead: frozenset[str] = frozenset()) -> list[str]:
    """The frame as lines, as a terminal of this width gets them."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, legacy_windows=False)
    console.print(render(seen, names, set(dead), 83.0, "starting", width))
    return [line.strip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("phase", list(Phase))
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut_off(width: int, phase: Phase) -> None:
    seen, names = picture()
    assert seen.status is not None
    seen.status["reports"] = [*seen.status["reports"] * 8, seen.status["reports"][0] | {"eval_loss": 3.009}]
    seen.losses = [2.5 + n % 7 for n in range(5000)]
    lines = drawn(in_phase(seen, phase, "the pseudo-gradients of 2 replicas"), names, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines).replace(f"{hotkey(0)[:6]}…", "")
    assert phase.value.upper() in lines[1] and "the pseudo-gradients of 2 replicas" in lines[1]
    assert next(line for line in lines if "held-out" in line).rstrip("╮─").endswith("3.000  3.009 ")
    table = [line for line in lines if line.startswith("miner-")]
    assert len(table) == 6
    assert all(line.endswith(f"0.167       {0.1 * n:.3f}") for n, line in enumerate(table))


def test_a_narrow_terminal_loses_columns_and_a_wide_one_has_them_all() -> None:
    seen, names = picture()
    (narrow,) = [line for line in drawn(seen, names, 80) if line.startswith("miner ")]
    (wide,) = [line for line in drawn(seen, names, 120) if line.startswith("miner ")]
    assert narrow.split() == ["miner", "uid", "stage", "state", "passes", "score", "weight", "incentive"]
    assert wide.split() == [
        *narrow.split()[:2], "hotkey", "stage", "state", "passes", "s/pass", *narrow.split()[5:],
    ]  # fmt: skip


def test_before_anything_is_known_the_note_is_shown() -> None:
    lines = drawn(Picture(), {}, 80)
    assert "starting  [1:23]" in lines[1] and max(map(len, lines)) <= 80


def test_a_killed_miner_and_one_that_never_came_are_told_apart() -> None:
    seen, names = picture()
    assert seen.status is not None
    seen.status["miners"] = [row for row in seen.status["miners"] if row["hotkey"] != hotkey(5)]
    for row in seen.status["miners"]:
        row["connected"] = row["hotkey"] != hotkey(1)
    rows = [line.split() for line in drawn(seen, names, 80, frozenset({"miner-0"})) if line.startswith("miner-")]
    assert [row[3] for row in rows[:5]] == ["killed", "away", "done", "done", "done"]
    assert rows[5][2] == "joining"


def test_a_banned_miner_does_not_look_as_if_it_were_still_to_come() -> None:
    seen, names = picture()
    assert seen.status is not None
    seen.status["miners"] = [row for row in seen.status["miners"] if row["hotkey"] not in (hotkey(4), hotkey(5))]
    seen.status["banned"] = [{"hotkey": hotkey(5), "seconds_left": 9.0, "reason": "an audit failed"}]
    rows = [line.split() for line in drawn(seen, names, 120) if line.startswith("miner-")]
    assert "joining" in rows[4] and "banned" in rows[5]


@pytest.mark.parametrize("count", [1, 2, 7, 119, 120, 121, 1000])
def test_a_plot_fits_its_box(count: int) -> None:
    lines = plot([float(n % 13) for n in range(count)], 60, CURVE_HEIGHT)
    assert len(lines) == CURVE_HEIGHT
    assert all(len(line) == 7 + 60 for line in lines)
    assert all(char == " " or 0x2800 < ord(char) <= 0x28FF for line in lines for char in line[7:])


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """(x, y) of every dot, y downwards: a braille cell has two columns of four."""
    bits = {
        0x01: (0, 0),
        0x02: (0, 1),
        0x04: (0, 2),
        0x40: (0, 3),
        0x08: (1, 0),
        0x10: (1, 1),
        0x20: (1, 2),
        0x80: (1, 3),
    }
    return {
        (2 * column + x, 4 * row + y)
        for row, line in enumerate(lines)
        for column, char in enumerate(line[7:])
        for bit, (x, y) in bits.items()
        if char != " " and ord(char) - 0x2800 & bit
    }


def test_a_plot_falls_as_its_values_do_and_names_their_range() -> None:
    lines = plot([4.0, 3.0, 2.0, 1.0, 0.0], 10, 4)
    lowest = [max(y for x, y in dots(lines) if x == column) for column in range(5)]
    assert lowest == sorted(lowest) and (lowest[0], lowest[-1]) == (0, 15)
    assert max(x for x, _ in dots(lines)) == 4
    assert (lines[0][:7], lines[1][:7], lines[3][:7]) == ("  4.00 ", " " * 7, "  0.00 ")


def test_a_curve_is_one_line_without_gaps() -> None:
    found = dots(plot([0.0, 9.0, 0.0, 5.0, 5.0], 10, 4))
    for column in range(4):
        here, there = ({y for x, y in found if x == side} for side in (column, column + 1))
        assert min(there) <= max(here) + 1 and min(here) <= max(there) + 1
        assert here == set(range(min(here), max(here) + 1))


def test_a_plot_of_nothing_says_so_and_one_of_equal_values_is_flat() -> None:
    assert plot([], 60, 3) == ["(no microbatch has come back yet)", "", ""]
    assert {y for _, y in dots(plot([2.5] * 9, 60, 3))} == {11}


def test_a_long_run_is_thinned_by_means() -> None:
    assert plot([1.0, 3.0, 5.0, 7.0] * 200, 50, 2) == plot([4.0] * 100, 50, 2)
