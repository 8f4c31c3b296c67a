"""An order with the bytes that it names, as a folder: `order.json` and `blobs/<digest>`.

Law: `order.json` is written last, so that a folder which has one is whole. Names come from strangers: what is no digest
is no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from iota_subnet.train import transcript
from iota_subnet.train.books import BadOrder
from iota_subnet.train.order import Order

ORDER, BLOBS = "order.json", "blobs"

_HEX = frozenset("0123456789abcdef")


def names(order: Order, said: bytes | None) -> Iterator[str]:
    """Digests of all that an audit may ask for, each once, those first that it cannot do without.

    Args:
        order: what the audit is about. The base's momentum is not asked for.
        said: bytes of the transcript, if they are to be had; it names outputs that have no receipt.
    """
    found = [order.transcript, *(weights for _, _, weights, _ in order.base)]
    found += [digest for owed in order.owed for digest in owed.inputs]
    found += order.shards
    found += [owed.output for owed in order.owed]
    try:
        found += [done.output for done in transcript.decode(said).passes] if said is not None else []
    except transcript.BadTranscript:
        pass
    return (digest for digest in dict.fromkeys(found) if _is_digest(digest))


def save(order: Order, blob: Callable[[str], bytes | None], folder: Path) -> list[str]:
    """Write a bundle; the digests of what could not be had. Raises OSError."""
    blobs = folder / BLOBS
    blobs.mkdir(parents=True, exist_ok=True)
    missing = []
    for digest in names(order, blob(order.transcript)):
        data = blob(digest)
        if data is None:
            missing.append(digest)
        else:
            (blobs / digest).write_bytes(data)
    (folder / ORDER).write_bytes(msgspec.json.format(msgspec.json.encode(order)))
    return missing


def load(folder: Path) -> tuple[Order, Callable[[str], bytes | None]]:
    """The order in `folder`, and what gives its bytes by digest; they are read when asked for, and not checked.

    Raises:
        BadOrder: there is no order, or it is none.
    """
    path = folder / ORDER
    try:
        order = msgspec.json.decode(path.read_bytes(), type=Order)
    except OSError as error:
        raise BadOrder(f"{path}: {error.strerror}; an audit's folder has {ORDER} and {BLOBS}/") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadOrder(f"{path} is no order: {error}") from None

    def blob(digest: str) -> bytes | None:
        if not _is_digest(digest):
            return None
        try:
            return (folder / BLOBS / digest).read_bytes()
        except OSError:
            return None

    return order, blob


def _is_digest(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)
