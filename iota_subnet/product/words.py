"""Figures for people: numbers with three digits that count, and columns that fit a terminal of 80."""

from __future__ import annotations

from collections.abc import Sequence


def short(value: float) -> str:
    """1173120 -> 1.17M."""
    return _scaled(value, ("", "k", "M", "G", "T", "P"), "")


def size(nbytes: float) -> str:
    """2097152 -> 2.1 MB."""
    return _scaled(nbytes, ("B", "kB", "MB", "GB", "TB", "PB"), " ")


def _scaled(value: float, units: Sequence[str], space: str) -> str:
    power = 0
    while value >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}{space}{units[power]}"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Lines of a table, as wide as its cells need; the columns numbered in `left` stand left, the others right."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(w) if at in left else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(row) for row in [head, *rows]]
