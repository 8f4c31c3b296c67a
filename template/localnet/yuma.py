"""One Yuma consensus epoch as a pure function of its inputs.

Follows the epoch rules measured on subtensor spec 293 ("Epoch rules" 1-10 of the reference vectors) in float64; results
agree with that runtime within 1 unit of each u16 field and 5 rao of emission. Yuma3, liquid alpha and child keys are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Row = tuple[tuple[int, int], ...]

U16 = 65535
_FIXED_STEP = 2.0**-32  # resolution of the runtime's I32F32 numbers
_ROUNDING = 1e-9  # float noise allowed before truncation, well below one u16 unit


@dataclass(frozen=True)
class EpochInput:
    """State at the end of the block before the epoch block. Lists are indexed by uid, fractions are u16.

    ``alpha_stake`` and ``root_stake`` are rao, ``bonds_moving_avg`` millionths, ``tao_weight`` a fraction of 2^64 and
    ``emission`` the rao of alpha to share out.
    """

    block: int
    tempo: int
    kappa: int
    bonds_moving_avg: int
    bonds_penalty: int
    activity_cutoff: int
    max_validators: int
    stake_threshold: int
    tao_weight: int
    owner_uid: int | None
    emission: int
    alpha_stake: Sequence[int]
    root_stake: Sequence[int]
    last_update: Sequence[int]
    block_at_registration: Sequence[int]
    validator_permit: Sequence[bool]
    weights: Sequence[Row]
    bonds: Sequence[Row]


@dataclass(frozen=True)
class EpochResult:
    """What the epoch stores; u16 lists unless said otherwise. Emissions are rao of alpha per uid."""

    active: list[bool]
    validator_permit: list[bool]
    stake_weight: list[int]
    consensus: list[int]
    incentive: list[int]
    dividends: list[int]
    rank: list[int]
    trust: list[int]
    validator_trust: list[int]
    pruning_scores: list[int]
    server_emission: list[int]
    validator_emission: list[int]
    bonds: list[Row]


def _normalize(values: Floats) -> Floats:
    total = float(values.sum())
    return values / total if total > 0 else values


def _normalize_columns(matrix: Floats) -> Floats:
    totals = matrix.sum(axis=0)
    return matrix / np.where(totals > 0, totals, 1.0)


def _normalize_rows(matrix: Floats) -> Floats:
    totals = matrix.sum(axis=1, keepdims=True)
    return matrix / np.where(totals > 0, totals, 1.0)


def _dense(rows: Sequence[Row], size: int) -> Floats:
    matrix = np.zeros((size, size))
    for i, row in enumerate(rows):
        for j, value in row:
            if j < size:
                matrix[i, j] = value
    return matrix


def _to_u16(values: Floats) -> list[int]:
    return [int(v) for v in np.floor(np.clip(values, 0.0, 1.0) * U16 + _ROUNDING * U16)]


def _to_u16_upscaled(values: Floats) -> list[int]:
    peak = float(values.max(initial=0.0))
    return _to_u16(values / peak) if peak > 0 else [0] * len(values)


def _stake_shares(inputs: EpochInput) -> Floats:
    """Stake per uid as a share of all stake; shares below 2^-32 are zero (rule 2)."""
    root = np.asarray(inputs.root_stake, dtype=np.float64) * (inputs.tao_weight / 2.0**64)
    total = np.asarray(inputs.alpha_stake, dtype=np.float64) + root
    total[total < inputs.stake_threshold] = 0.0
    shares = _normalize(total)
    shares[shares < _FIXED_STEP] = 0.0
    return shares


def _top_permits(stake: Floats, limit: int) -> Bools:
    """The ``limit`` largest nonzero stakes; on equal stake the higher uid wins (rule 2)."""
    permits = np.zeros(len(stake), dtype=np.bool_)
    order = sorted(range(len(stake)), key=lambda uid: (stake[uid], uid), reverse=True)
    for uid in order[:limit]:
        permits[uid] = stake[uid] > 0
    return permits


def _voting_weights(inputs: EpochInput, permits: Bools) -> Floats:
    """Row-normalised weights of permitted validators, without the diagonal and stale entries (rules 2, 4, 5)."""
    size = len(permits)
    weights = _dense(inputs.weights, size)
    weights[~permits] = 0.0
    for uid in range(size):
        if uid != inputs.owner_uid:
            weights[uid, uid] = 0.0
    updated = np.asarray(inputs.last_update, dtype=np.int64)
    registered = np.asarray(inputs.block_at_registration, dtype=np.int64)
    weights[updated[:, None] <= registered[None, :]] = 0.0
    return _normalize_rows(weights)


def _consensus(weights: Floats, stake: Floats, kappa: float) -> Floats:
    """Per miner the smallest weight w such that the stake voting at most w exceeds 1 - kappa (rule 6)."""
    size = len(stake)
    voters = np.flatnonzero(stake > 0)
    if len(voters) == 0:
        return np.zeros(size)
    votes = weights[voters]
    order = np.argsort(votes, axis=0, kind="stable")
    ordered = np.take_along_axis(votes, order, axis=0)
    reached = np.cumsum(stake[voters][order], axis=0)
    # equal votes count together, so each row takes the total of the last equal one
    for i in range(len(voters) - 2, -1, -1):
        reached[i] = np.where(ordered[i] == ordered[i + 1], reached[i + 1], reached[i])
    enough = reached > (1.0 - kappa) + _ROUNDING * 1e-3
    # with kappa 0 nothing exceeds 1 - kappa: then the highest vote stands
    first = np.where(enough.any(axis=0), np.argmax(enough, axis=0), len(voters) - 1)
    return np.asarray(ordered[first, np.arange(size)], dtype=np.float64)


def _next_bonds(inputs: EpochInput, weights: Floats, clipped: Floats, stake: Floats) -> Floats:
    """Column-normalised moving average of bonds (rules 8, 9)."""
    size = len(stake)
    old = _dense(inputs.bonds, size)
    registered = np.asarray(inputs.block_at_registration, dtype=np.int64)
    old[:, inputs.block - inputs.tempo <= registered] = 0.0
    old = _normalize_columns(old)
    penalty = inputs.bonds_penalty / U16
    mixed = weights + penalty * (clipped - weights)
    fresh = _normalize_columns(mixed * stake[:, None])
    alpha = 1.0 - inputs.bonds_moving_avg / 1_000_000
    return _normalize_columns(alpha * fresh + (1.0 - alpha) * old)


def _stored_bonds(inputs: EpochInput, bonds: Floats, old_permit: Bools, new_permit: Bools) -> list[Row]:
    """Rows as stored: upscaled per column; a lost permit empties the row, others without permit keep theirs."""
    peaks = bonds.max(axis=0, initial=0.0)
    upscaled = np.floor(bonds / np.where(peaks > 0, peaks, 1.0) * U16 + _ROUNDING * U16).astype(np.int64)
    rows: list[Row] = []
    for uid in range(len(bonds)):
        if new_permit[uid]:
            columns = np.flatnonzero(bonds[uid] > 0)
            rows.append(tuple((int(j), int(upscaled[uid, j])) for j in columns))
        elif old_permit[uid]:
            rows.append(())
        else:
            rows.append(inputs.bonds[uid])
    return rows


def _emission_shares(incentive: Floats, dividends: Floats, stake: Floats, active: Floats) -> tuple[Floats, Floats]:
    """Shares of servers and validators in the emission (rule 10)."""
    total = float(incentive.sum() + dividends.sum())
    if total > 0:
        return incentive / total, dividends / total
    return np.zeros(len(stake)), active if active.sum() > 0 else stake


def run_epoch(inputs: EpochInput) -> EpochResult:
    """Run one epoch; pure, and free of side effects on ``inputs``."""
    size = len(inputs.alpha_stake)
    stake = _stake_shares(inputs)
    old_permit = np.asarray(inputs.validator_permit, dtype=np.bool_)
    new_permit = _top_permits(stake, inputs.max_validators)
    is_active = np.asarray(inputs.last_update, dtype=np.int64) + inputs.activity_cutoff >= inputs.block
    active_stake = _normalize(np.where(is_active & old_permit, stake, 0.0))

    weights = _voting_weights(inputs, old_permit)
    pre_ranks = weights.T @ active_stake
    consensus = _consensus(weights, active_stake, inputs.kappa / U16)
    clipped = np.minimum(weights, consensus[None, :])
    ranks = clipped.T @ active_stake
    trust = np.divide(ranks, pre_ranks, out=np.zeros(size), where=pre_ranks > 0)
    incentive = _normalize(ranks)

    bonds = _next_bonds(inputs, weights, clipped, active_stake)
    dividends = _normalize(bonds @ incentive)
    server, validator = _emission_shares(incentive, dividends, stake, active_stake)
    return EpochResult(
        active=[bool(value) for value in is_active],
        validator_permit=[bool(value) for value in new_permit],
        stake_weight=_to_u16(stake),
        consensus=_to_u16(consensus),
        incentive=_to_u16(incentive),
        dividends=_to_u16(dividends),
        rank=_to_u16(incentive),
        trust=_to_u16(trust),
        validator_trust=_to_u16(clipped.sum(axis=1)),
        pruning_scores=_to_u16_upscaled(server + validator),
        server_emission=[int(v) for v in np.floor(server * inputs.emission + 1e-6)],
        validator_emission=[int(v) for v in np.floor(validator * inputs.emission + 1e-6)],
        bonds=_stored_bonds(inputs, bonds, old_permit, new_permit),
    )
