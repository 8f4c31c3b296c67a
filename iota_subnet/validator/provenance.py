"""Whether the texts that a run says it trained on are those that its specification names.

Law: a microbatch is a function of the specification, its number and the corpus (`train.data`). So whoever has the
corpus makes it again without asking anybody, and compares its digest with the one in the ledger.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import blake3

from iota_subnet.core.events import BatchPublished, Event
from iota_subnet.spec import RunSpec
from iota_subnet.train.data import Cut, DataError, Feed


class Sample(NamedTuple):
    """One microbatch made again: its number, its digest in the ledger and here, and each sample's texts."""

    batch: int
    published: str
    made: str
    cuts: list[list[Cut]]

    @property
    def same(self) -> bool:
        """Whether the text here gives the bytes that the run published."""
        return self.published == self.made


def feed_of(spec: RunSpec, source: str | None = None) -> Feed:
    """The run's feed; `source`, if any, is where its text lies on this machine.

    Raises:
        DataError: it cannot be had, or its held-out text is not the one that the specification has pinned.
    """
    here = spec if source is None else dataclasses.replace(spec, data=dataclasses.replace(spec.data, source=source))
    feed = Feed(here)
    if spec.data.eval_digest not in ("", feed.eval_digest()):
        raise DataError(
            f"the text of {here.data.source} on this machine is not the run's: its held-out part has the digest "
            f"{feed.eval_digest()[:12]}..., the run's has {spec.data.eval_digest[:12]}..."
        )
    return feed


def published(events: Iterable[Event]) -> list[tuple[int, str]]:
    """Numbers and digests of the microbatches in a history, by number; one that was published twice comes once."""
    return sorted({(event.batch, event.tokens.digest) for event in events if isinstance(event, BatchPublished)})


def make_again(feed: Feed, wanted: Iterable[tuple[int, str]]) -> Iterable[Sample]:
    """Each of `wanted`, (number, digest) by number, made again.

    A stream has to be read from its beginning, and cannot skip what nobody asks about.

    Raises:
        DataError: the text cannot be read, or the stream broke.
    """
    following = 0
    for batch, digest in wanted:
        # A corpus in memory has no state, and needs nothing read before.
        for skipped in range(following, batch) if feed.state() else ():
            feed.batch(skipped)
        following = batch + 1
        yield Sample(batch, digest, blake3.blake3(feed.batch(batch)).hexdigest(), feed.cuts(batch))
