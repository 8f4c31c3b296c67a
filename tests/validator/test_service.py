"""Journal, then handle, then perform; one event at a time."""

from __future__ import annotations

import pytest

from iota_subnet.core.actions import Action, Evaluate, Refuse
from iota_subnet.core.events import Event, MinerConnected, StageInstalled, Tick
from iota_subnet.core.invariants import Broken
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.validator.ledger import Ledger, LedgerError
from iota_subnet.validator.service import Service

from .kit import small_spec, started

SPEC = small_spec()


class Watched:
    """A service whose every step is written down."""

    def __init__(self, check: bool = False) -> None:
        self.steps: list[str] = []
        self.then: list[Event] = []
        self.ledger = Ledger(":memory:", SPEC)
        self.orchestrator = Orchestrator(SPEC)
        append, handle = self.ledger.append, self.orchestrator.handle

        def appended(event: Event) -> None:
            append(event)
            self.steps.append(f"journal {type(event).__name__}")

        def handled(event: Event) -> list[Action]:
            self.steps.append(f"handle {type(event).__name__}")
            return handle(event)

        self.ledger.append = appended  # type: ignore[method-assign]
        self.orchestrator.handle = handled  # type: ignore[method-assign]
        self.service = Service(self.orchestrator, self.ledger, self.perform, check)

    def perform(self, action: Action) -> None:
        self.steps.append(f"perform {type(action).__name__}")
        while self.then:
            assert self.service.post(self.then.pop(0)) == [], "an event waits its turn"


def nobody(name: str = "stranger") -> MinerConnected:
    return MinerConnected(at=1.0, hotkey=name)


def test_an_event_is_journaled_before_it_is_handled_and_handled_before_it_is_acted_on() -> None:
    watched = Watched()
    assert watched.service.post(nobody()) == [Refuse("stranger", "connection", "join first")]
    assert watched.steps == ["journal MinerConnected", "handle MinerConnected", "perform Refuse"]


def test_events_posted_while_one_is_handled_wait_their_turn() -> None:
    watched = Watched()
    watched.then = [Tick(at=2.0), StageInstalled(at=2.0, hotkey="other", stage=0, epoch=0, digest="d", manifest="n")]
    assert [action.hotkey for action in watched.service.post(nobody()) if isinstance(action, Refuse)] == ["stranger"]
    assert watched.steps == [
        "journal MinerConnected", "handle MinerConnected", "perform Refuse", "journal Tick", "handle Tick",
        "journal StageInstalled", "handle StageInstalled", "perform Refuse",
    ]  # fmt: skip


def test_what_cannot_be_journaled_is_not_handled_and_the_next_event_is() -> None:
    watched = Watched()
    watched.ledger._db.execute("PRAGMA query_only = ON")
    with pytest.raises(LedgerError):
        watched.service.post(nobody())
    assert watched.steps == []
    watched.ledger._db.execute("PRAGMA query_only = OFF")
    assert watched.service.post(nobody("later")) == [Refuse("later", "connection", "join first")]


def test_the_actions_returned_are_those_of_the_event_that_was_posted() -> None:
    """Join reads its refusal from them: an event left over by a failure must not answer for another miner."""
    watched = Watched()

    def fails(action: Action) -> None:
        watched.service.post(nobody("left over"))
        raise RuntimeError("a defect")

    watched.service._perform = fails
    with pytest.raises(RuntimeError, match="a defect"):
        watched.service.post(nobody())
    watched.service._perform = watched.perform
    assert [a.hotkey for a in watched.service.post(nobody("mine")) if isinstance(a, Refuse)] == ["mine"]
    assert watched.steps.count("handle MinerConnected") == 3


def test_a_closed_service_writes_nothing_down() -> None:
    watched = Watched()
    watched.service.close()
    assert watched.service.post(nobody()) == []
    assert watched.steps == [] and len(watched.ledger) == 0


def test_a_broken_invariant_stops_the_event_that_broke_it() -> None:
    watched = Watched(check=True)
    first = started(SPEC)
    assert watched.service.post(first) == [Evaluate(0, first.manifests)]
    watched.orchestrator.state.opened_total = 3
    with pytest.raises(Broken, match="3 microbatches were opened"):
        watched.service.post(Tick(at=2.0))
