"""How one miner stands: what it is given, what it owes, what it waits for, what it has earned and why.

Pure: state, hotkey and time in, a bounded report out. Law: whoever gets no work, no seat or no pay finds the reason
here, in words that say what to do or until when to wait.
"""

from __future__ import annotations

from math import fsum
from typing import Literal

from iota_subnet.core.scoring import score
from iota_subnet.core.state import MAX_STRIKES, TRIES, EpochReport, Miner, Phase, RunState
from iota_subnet.messages import (
    AuditReport,
    Ban,
    Duties,
    Evidence,
    Measured,
    OpenLease,
    Place,
    ScorePart,
    Seat,
    StandingReport,
)

#: Most parts, leases and faults in one report; what older parts add is kept as one number.
MAX_PARTS = 32
MAX_LEASES = 32
MAX_FAULTS = 8

#: Characters of a text.
MAX_TEXT = 200

NO_DUTIES = Duties("none", 0, 0)


def standing(state: RunState, hotkey: str, now: float) -> StandingReport:
    """The report for `hotkey`, who may have no seat; `now` and all times in `state` are seconds of the same clock."""
    miner = state.miners.get(hotkey)
    duties = _duties(state, hotkey) if miner is not None else NO_DUTIES
    own, own_s = _own(state, hotkey, miner, duties, now)
    parts = state.parts.get(hotkey, [])
    window = state.spec.swarm.score_window_s
    value, share, rank, ranked = _rank(state, hotkey)
    written = next((report for report in reversed(state.reports) if report.weights_set or report.weights_failed), None)
    closed = _closed(state)
    return StandingReport(
        phase=state.phase.value,
        epoch=state.epoch,
        epochs=state.spec.swarm.epochs,
        waiting_for=state.waiting_for[:MAX_TEXT],
        seconds_left=_left(state.deadline, now),
        own=own[:MAX_TEXT],
        own_s=own_s,
        seat=_seat(state, miner, now) if miner is not None else None,
        place=_place(state, hotkey, now),
        ban=_ban(state, hotkey, now),
        leases=_leases(state, miner, now) if miner is not None else (),
        duties=duties,
        volume=state.volume.get(hotkey, 0.0),
        closed=closed.epoch if closed is not None else -1,
        parts=tuple(
            ScorePart(
                part.epoch,
                part.volume,
                part.quality,
                part.agreement,
                _left(part.at + window, now),
                part.merged,
                part.standing,
            )
            for part in parts[-MAX_PARTS:]
        ),
        older=fsum(part.worth for part in parts[:-MAX_PARTS]),
        score=value,
        share=share,
        rank=rank,
        ranked=ranked,
        measured=_measured(state, hotkey),
        faults=tuple(
            Evidence(fault.epoch, fault.what[:MAX_TEXT], _left(fault.at + window, now))
            for fault in [fault for fault in state.faults if fault.hotkey == hotkey][-MAX_FAULTS:]
        ),
        weights_epoch=written.epoch if written is not None else -1,
        weights=(written.weights_failed or written.weights_set) if written is not None else "",
        audits=tuple(
            AuditReport(verdict.epoch, verdict.verdict, verdict.reason[:MAX_TEXT], verdict.passes)
            for verdict in state.verdicts.get(hotkey, [])
        ),
    )


def count(number: int, what: str) -> str:
    """`1 shard`, `2 shards`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _left(deadline: float, now: float) -> float:
    return round(max(0.0, deadline - now), 1)


def _seat(state: RunState, miner: Miner, now: float) -> Seat:
    missing, _ = _missing(state, miner, now)
    rest = _left(miner.rest_until, now)
    return Seat(miner.stage, miner.slot, miner.installed, missing[:MAX_TEXT], miner.done, miner.strikes, rest)


def _missing(state: RunState, miner: Miner, now: float) -> tuple[str, float]:
    """What a miner with a seat lacks before it may be given work, and until when; nothing if it lacks nothing."""
    if not miner.connected:
        return "open the work channel; the seat is kept until then", _left(miner.back_by, now)
    if miner.stage < 0:
        return "wait for a stage", 0.0
    if miner.installed < state.manifests[miner.stage].epoch:
        offer = f", offer {miner.assign_tries + 1} of {TRIES}" if miner.assign_tries else ""
        what = f"install stage {miner.stage} of epoch {state.manifests[miner.stage].epoch}{offer}"
        return what, _left(miner.assign_deadline, now)
    if now < miner.rest_until:
        what = f"rest after {miner.strikes} failed or late leases in a row; {MAX_STRIKES} cost the seat"
        return what, _left(miner.rest_until, now)
    return "", 0.0


def _own(state: RunState, hotkey: str, miner: Miner | None, duties: Duties, now: float) -> tuple[str, float]:
    """What this miner has to do now, be it to wait, and how long that may take."""
    if miner is None:
        return _outside(state, hotkey, now)
    if state.phase is Phase.DONE:
        return "nothing: the run is complete", 0.0
    left = _left(state.deadline, now)
    if duties.commit == "owed":
        return "publish the pseudo-gradient", left
    if duties.reduce_owed:
        return f"reduce {count(duties.reduce_owed, 'shard')}", left
    missing, missing_s = _missing(state, miner, now)
    if missing:
        return missing, missing_s
    if miner.leases:
        due = max(state.leases[lease].deadline for lease in miner.leases)
        return f"do {count(len(miner.leases), 'lease')}", _left(due, now)
    if state.phase is Phase.TRAIN:
        if state.index.empty:
            return f"wait for {state.waiting_for}", left
        if state.draining:
            return f"wait for the epoch's last microbatches, {len(state.batches)} of them, which are with others", left
        return f"wait for a lease: none of {len(state.batches)} microbatches needs this miner now", left
    return f"wait ({state.waiting_for})", left


def _outside(state: RunState, hotkey: str, now: float) -> tuple[str, float]:
    """The same for who has no seat."""
    ban, place = _ban(state, hotkey, now), _place(state, hotkey, now)
    if ban is not None:
        return f"wait for the end of the ban: {ban.reason}", ban.seconds_left
    if state.registered is not None and hotkey not in state.registered:
        return "register the hotkey on this subnet", 0.0
    if place is not None:
        return f"wait for a seat: number {place.number} of {place.of} in the line; keep asking", place.kept_s
    return "join", 0.0


def _place(state: RunState, hotkey: str, now: float) -> Place | None:
    asked = state.line.get(hotkey)
    if asked is None:
        return None
    return Place(list(state.line).index(hotkey) + 1, len(state.line), _left(asked + state.spec.swarm.wait_s, now))


def _ban(state: RunState, hotkey: str, now: float) -> Ban | None:
    until = state.banned.get(hotkey)
    if until is None or until[0] <= now:
        return None
    return Ban(_left(until[0], now), until[1][:MAX_TEXT])


def _leases(state: RunState, miner: Miner, now: float) -> tuple[OpenLease, ...]:
    held = [state.leases[lease] for lease in list(miner.leases)[:MAX_LEASES]]
    return tuple(OpenLease(lease.id, lease.op, lease.batch, _left(lease.deadline, now)) for lease in held)


def _duties(state: RunState, hotkey: str) -> Duties:
    """Duties of the merge under way; those of a process that is gone are over."""
    commit: Literal["none", "owed", "done"] = "none"
    owed = done = 0
    for merge in state.merges:
        if hotkey in merge.gone:
            continue
        if hotkey in merge.commits:
            commit = "done"
        elif hotkey in merge.eligible and state.phase is Phase.COMMIT:
            commit = "owed"
        for shard in merge.shards:
            if hotkey in shard.results:
                done += 1
            elif hotkey in shard.reducers and shard.accepted is None and state.phase is Phase.REDUCE:
                owed += 1
    return Duties(commit, owed, done)


def _closed(state: RunState) -> EpochReport | None:
    """The last epoch that was scored."""
    return next((report for report in reversed(state.reports) if report.scores), None)


def _rank(state: RunState, hotkey: str) -> tuple[float, float, int, int]:
    """Score, share of all scores, rank, and how many have one. Scores change when an epoch closes and at a fault, so
    the last report has all others' and nothing is added up for everybody at every question."""
    value = score(state, hotkey)
    closed = _closed(state)
    scores = {**(closed.scores if closed is not None else {}), hotkey: value}
    paid = [other for other in scores.values() if other > 0]
    if value <= 0:
        return value, 0.0, 0, len(paid)
    return value, value / fsum(paid), 1 + sum(other > value for other in paid), len(paid)


def _measured(state: RunState, hotkey: str) -> Measured | None:
    """CLASP's last word on this miner; it is silent on epochs in which the miner was on no pathway."""
    for report in reversed(state.reports):
        found = report.effects.get(hotkey)
        if found is not None:
            return Measured(report.epoch, found.samples, found.mean_loss, found.effect, found.error, found.quality)
    return None
