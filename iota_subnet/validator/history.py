"""The ledger's way to other validators: pages of events as they are on disk, chained by their digests.

Law: whoever reads can check that nothing was left out, changed or put in, because each digest covers all before it; the
reply that carries a page is signed, so that an orchestrator which tells two validators two stories has signed both.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from iota_subnet.validator.journal import LedgerError, Mark, Row, chained

#: Bytes of event bodies in one page.
PAGE_BYTES = 256 << 10

#: Events in one page.
PAGE_EVENTS = 2_000

Line = tuple[str, str]


def page(rows: Iterable[Row]) -> tuple[Line, ...]:
    """As many rows as fit, as (kind, body in base64)."""
    lines: list[Line] = []
    size = 0
    for row in rows:
        size += len(row.body)
        if lines and (size > PAGE_BYTES or len(lines) == PAGE_EVENTS):
            break
        lines.append((row.kind, base64.b64encode(row.body).decode("ascii")))
    return tuple(lines)


def rows(after: Mark, lines: Iterable[Line]) -> list[Row]:
    """The rows that follow `after`, with their digests computed here.

    Raises:
        LedgerError: a body that is no base64.
    """
    found: list[Row] = []
    for kind, text in lines:
        try:
            body = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise LedgerError(f"event {after.seq + 1} is not readable") from None
        after = Mark(after.seq + 1, chained(after.digest, kind, body))
        found.append(Row(after.seq, kind, body, after.digest))
    return found
