"""What the URL of a blob says of who answers there: a blob server, a validator that relays, or an S3 bucket.

    http://IP:PORT/v1/blobs/DIGEST                      a blob server
    http://IP:PORT/v1/relay/HOTKEY/v1/blobs/DIGEST      a validator, for a miner without an open port
    https://HOST/.../HOTKEY/BOOT/v1/blobs/DIGEST        a bucket, where that miner has put it

Law: a ticket is shown to the first two alone. S3 refuses a request whose Authorization it does not understand, and a
stranger's host has no business with it.
"""

from __future__ import annotations

import re

#: What stands before a digest in all of them.
BLOBS = "/v1/blobs"

#: What begins the path of all that a validator relays.
RELAYED = "/v1/relay/"

#: The path of a blob server's or of a relay, and no other: a bucket's folder may begin with the words of a relay.
_SERVED = re.compile(rf"(?:{RELAYED}[^/]+)?{BLOBS}/([0-9a-f]{{64}})", re.ASCII)

#: A bucket's folder belongs to one process of one miner. Segments hold nothing that would have to be quoted.
_BUCKET = re.compile(
    r"https?://[^/?#@\s]+/(?:[\w.~-]+/)*([1-9A-HJ-NP-Za-km-z]{40,64})/[0-9a-f]{32}(?:/v1/blobs/[0-9a-f]{64})?", re.ASCII
)


def asks_ticket(path: str, digest: str) -> bool:
    """Whether who answers for this URL path wants a ticket for the blob."""
    match = _SERVED.fullmatch(path)
    return match is not None and match[1] == digest


def folder(hotkey: str, boot: str) -> str:
    """Where a miner's process puts its blobs; `boot` is 32 hex digits that are drawn anew by each process."""
    return f"{hotkey}/{boot}"


def keeper(url: str) -> str:
    """The hotkey of the miner whose bucket this is, of the base or of a blob in it; "" where there is no bucket."""
    match = _BUCKET.fullmatch(url)
    return match[1] if match is not None else ""
