"""Words, times and tables that the panels share."""

from __future__ import annotations

from rich import box
from rich.table import Table

from iota_subnet.statusfile import ago, from_one

#: Characters of one text that a stranger may have written.
MAX_TEXT = 240


def clean(text: object) -> str:
    """One printable line: no terminal takes orders from a status."""
    return "".join(char if char.isprintable() else " " for char in str(text)[:MAX_TEXT])


def told(text: object) -> str:
    """One printable line that somebody else wrote, with epochs as people count them."""
    return from_one(clean(text))


def short(hotkey: object) -> str:
    """The first six and last four characters of a hotkey; short texts as they are."""
    text = clean(hotkey)
    return text if len(text) <= 14 else f"{text[:6]}..{text[-4:]}"


def left(seconds: float) -> str:
    """`42 s`, `5 min`; `overdue` when there is nothing left."""
    return ago(seconds) if seconds > 0 else "overdue"


def percent(share: float) -> str:
    """0.25 as `25 %`."""
    return f"{100 * share:.0f} %"


def count(number: int, one: str, many: str = "") -> str:
    """`1 lease`, `2 leases`; `many` is the plural if it is not with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def rows() -> Table:
    """A grid of names and what they stand for."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def columns(*headers: str) -> Table:
    """A light table; a header that ends in > has its column to the right."""
    table = Table(box=box.SIMPLE_HEAD, border_style="dim", pad_edge=False, padding=(0, 1), show_edge=False)
    for header in headers:
        table.add_column(header.rstrip(">"), justify="right" if header.endswith(">") else "left")
    return table
