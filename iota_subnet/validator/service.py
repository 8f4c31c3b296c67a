"""The shell of the core: journal, decide, perform. Its only state is the orchestrator's.

Law: an event is on disk before it is handled, and handled before anything it causes is sent. What fails comes back as
an event. Events that arrive while one is being handled wait their turn, so no two interleave.

A snapshot is saved when an epoch begins, and when the ledger says that one is due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from loguru import logger

from iota_subnet.core import invariants
from iota_subnet.core.actions import Action
from iota_subnet.core.events import Event
from iota_subnet.core.orchestrator import Orchestrator
from iota_subnet.core.state import Phase, RunState
from iota_subnet.validator.ledger import Ledger


class Service:
    """Applies events one after the other. `perform` must not block and must not raise."""

    def __init__(
        self, orchestrator: Orchestrator, ledger: Ledger, perform: Callable[[Action], None], check: bool = False
    ) -> None:
        self._orchestrator = orchestrator
        self._ledger = ledger
        self._perform = perform
        self._check = check
        self._waiting: deque[Event] = deque()
        self._busy = False
        self._closed = False
        # A core that raised may have changed half of its state: that is nothing to go on from.
        self._whole = True

    @property
    def state(self) -> RunState:
        """For reading only."""
        return self._orchestrator.state

    def post(self, event: Event) -> list[Action]:
        """Apply `event`; the actions it caused, already being performed. Empty when it had to wait its turn."""
        if self._closed:
            return []
        self._waiting.append(event)
        if self._busy:
            return []
        self._busy = True
        caused: list[Action] = []
        try:
            while self._waiting:
                # What an earlier failure left behind comes first; its actions are not this event's.
                present = self._waiting.popleft()
                actions = self._apply(present)
                if present is event:
                    caused = actions
        finally:
            self._busy = False
        return caused

    def close(self) -> None:
        """Take no more events: what happens while the validator ends is for its successor to find out."""
        self._closed = True

    def save(self) -> None:
        """A snapshot of the end. Whoever goes on from here, maybe with other rules in another release, has nothing to
        replay that these rules have decided."""
        if self._whole and len(self._ledger):
            self._ledger.save(self.state)

    def _apply(self, event: Event) -> list[Action]:
        phase, epoch = self.state.phase, self.state.epoch
        self._ledger.append(event)
        try:
            actions = self._orchestrator.handle(event)
        except Exception:
            self._whole = False
            raise
        if self._check:
            invariants.check(self.state)
        if (phase, epoch) != (self.state.phase, self.state.epoch):
            logger.info("epoch {}: {} ({})", self.state.epoch, self.state.phase.value, self.state.waiting_for)
        for action in actions:
            self._perform(action)
        begins = self.state.phase is Phase.TRAIN and (phase, epoch) != (self.state.phase, self.state.epoch)
        if (begins or self._ledger.due) and self._whole:
            self._ledger.save(self.state)
        return actions
