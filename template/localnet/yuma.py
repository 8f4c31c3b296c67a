"""One Yuma consensus epoch as a pure function of its inputs.

Follows the epoch rules measured on subtensor spec 293 in that runtime's own fixed point (:mod:`.fixed`), so that every
result is equal to its, bit by bit. Stake that child keys move is the caller's business: it is in the stake given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from template.localnet import fixed
from template.localnet.fixed import ONE, Matrix, Vector
from template.localnet.liquid_alpha import liquid_average

Row = tuple[tuple[int, int], ...]

_STAKE_BITS = 64  # stakes are I64F64 until they are shares
_MILLION = 1_000_000


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
    yuma3: bool = False
    liquid_alpha: bool = False  # acts only with yuma3
    alpha_low: int = 45875
    alpha_high: int = 58982
    alpha_sigmoid_steepness: int = 1000  # hundredths


@dataclass(frozen=True)
class EpochResult:
    """What the epoch stores; u16 lists unless said otherwise. Emissions are rao of alpha per uid.

    ``emission`` is that of both parts as the runtime stores it: rounded once.
    """

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
    emission: list[int]
    bonds: list[Row]


def _stake_shares(inputs: EpochInput) -> Vector:
    """Stake per uid as a share of all stake (rule 2); stakes below the threshold count nothing."""
    tao_weight = ((inputs.tao_weight << 32) // (2**64 - 1)) << 32  # kept by the runtime with 32 fraction bits
    pairs = zip(inputs.alpha_stake, inputs.root_stake, strict=True)
    stakes = [(alpha << _STAKE_BITS) + root * tao_weight for alpha, root in pairs]
    counted = [stake if stake >> _STAKE_BITS >= inputs.stake_threshold else 0 for stake in stakes]
    total = sum(counted)
    return [(stake << fixed.BITS) // total for stake in counted] if total else [0] * len(counted)


def _top_permits(stake: Vector, limit: int) -> list[bool]:
    """The ``limit`` largest nonzero stakes; on equal stake the higher uid wins (rule 2)."""
    order = sorted(range(len(stake)), key=lambda uid: (stake[uid], uid), reverse=True)
    chosen = set(order[:limit])
    return [uid in chosen and stake[uid] > 0 for uid in range(len(stake))]


def _voting_weights(inputs: EpochInput) -> Matrix:
    """Row-normalised weights of permitted validators, without the diagonal and stale entries (rules 2, 4, 5)."""
    size, registered = len(inputs.alpha_stake), inputs.block_at_registration
    rows: Matrix = []
    for uid, row in enumerate(inputs.weights):
        updated = inputs.last_update[uid]
        if not inputs.validator_permit[uid]:
            row = ()
        rows.append(
            [
                (j, value << fixed.BITS)
                for j, value in row
                if j < size and (j != uid or uid == inputs.owner_uid) and updated > registered[j]
            ]
        )
    return fixed.rows_normalized(rows)


def _weighted_median(stake: Vector, votes: Vector, minority: int, whole: int) -> int:
    """The runtime's search for the vote with ``minority`` of the stake below it, pivot by pivot."""
    low, high, voters = 0, whole, list(range(len(stake)))
    while len(voters) > 1:
        pivot = votes[voters[len(voters) // 2]]
        lower = [i for i in voters if votes[i] < pivot]
        upper = [i for i in voters if votes[i] > pivot]
        below = low + sum(stake[i] for i in lower)
        above = high - sum(stake[i] for i in upper)
        if minority < below and lower:
            voters, high = lower, below
        elif above <= minority and upper:
            voters, low = upper, above
        else:
            return pivot
    return votes[voters[0]] if voters else 0


def _consensus(weights: Matrix, stake: Vector, kappa: int) -> Vector:
    """Per miner the smallest weight w such that the stake voting at most w exceeds 1 - kappa (rule 6)."""
    size = len(stake)
    voters = [uid for uid in range(size) if stake[uid] > 0]
    shares = fixed.normalized([stake[uid] for uid in voters])
    whole = sum(shares)
    columns = [[0] * len(voters) for _ in range(size)]
    for place, uid in enumerate(voters):
        for j, value in weights[uid]:
            columns[j][place] = value
    return [_weighted_median(shares, votes, whole - kappa, whole) if any(votes) else 0 for votes in columns]


def _kept_bonds(inputs: EpochInput, scale: Callable[[int], int]) -> Matrix:
    """Old bonds without those to neurons registered since the last epoch (rule 9)."""
    size, last = len(inputs.alpha_stake), max(inputs.block - inputs.tempo, 0)
    fresh = [registered >= last for registered in inputs.block_at_registration]
    return [[(j, scale(value)) for j, value in row if j < size and not fresh[j]] for row in inputs.bonds]


def _bonds_alpha(inputs: EpochInput) -> int:
    return ONE - (inputs.bonds_moving_avg << fixed.BITS) // _MILLION


def _yuma2(inputs: EpochInput, weights: Matrix, incentive: Vector, stake: Vector) -> tuple[Matrix, Vector]:
    """Bonds as stored and dividends (rule 8): bonds are shares in each miner."""
    old = fixed.columns_normalized(_kept_bonds(inputs, lambda value: value << fixed.BITS))
    fresh = fixed.columns_normalized(fixed.rows_scaled(weights, stake))
    bonds = fixed.columns_normalized(fixed.moving_average(fresh, old, _bonds_alpha(inputs)))
    dividends = fixed.normalized(fixed.row_products(bonds, incentive))
    return fixed.columns_upscaled(bonds), dividends


def _yuma3(
    inputs: EpochInput, weights: Matrix, incentive: Vector, stake: Vector, consensus: Vector
) -> tuple[Matrix, Vector]:
    """Bonds as stored and dividends (rules 11, 12): bonds are moving averages of weights."""
    old = _kept_bonds(inputs, fixed.from_u16)
    if inputs.liquid_alpha and any(consensus):
        low, high = fixed.from_u16(inputs.alpha_low), fixed.from_u16(inputs.alpha_high)
        bonds = liquid_average(weights, old, consensus, low, high, inputs.alpha_sigmoid_steepness)
    else:
        bonds = fixed.moving_average(weights, old, _bonds_alpha(inputs))
    shares = fixed.row_products(fixed.columns_normalized(bonds), incentive)
    return bonds, fixed.normalized([fixed.mul(a, b) for a, b in zip(shares, stake, strict=True)])


def _stored_bonds(inputs: EpochInput, bonds: Matrix, new_permit: list[bool]) -> list[Row]:
    """A lost permit empties the row; others without permit keep theirs."""
    rows: list[Row] = []
    for uid, row in enumerate(bonds):
        if new_permit[uid]:
            rows.append(tuple((j, fixed.to_u16(value)) for j, value in row))
        else:
            rows.append(() if inputs.validator_permit[uid] else inputs.bonds[uid])
    return rows


def _emission_shares(
    incentive: Vector, dividends: Vector, stake: Vector, active: Vector
) -> tuple[Vector, Vector, Vector]:
    """Shares of servers, of validators and of both together in the emission (rule 10)."""
    both = [a + b for a, b in zip(incentive, dividends, strict=True)]
    total = sum(both)
    if total:
        server, validator = ([(value << fixed.BITS) // total for value in part] for part in (incentive, dividends))
        return server, validator, fixed.normalized(both)
    fallback = active if any(active) else stake
    return [0] * len(stake), fallback, fallback


def run_epoch(inputs: EpochInput) -> EpochResult:
    """Run one epoch; pure, and free of side effects on ``inputs``."""
    stake = _stake_shares(inputs)
    permits = _top_permits(stake, inputs.max_validators)
    is_active = [updated + inputs.activity_cutoff >= inputs.block for updated in inputs.last_update]
    votes = zip(stake, is_active, inputs.validator_permit, strict=True)
    active_stake = fixed.normalized([share if awake and permit else 0 for share, awake, permit in votes])

    weights = _voting_weights(inputs)
    pre_ranks = fixed.column_products(weights, active_stake)
    consensus = _consensus(weights, active_stake, fixed.from_u16(inputs.kappa))
    clipped = fixed.columns_clipped(weights, consensus)
    ranks = fixed.column_products(clipped, active_stake)
    incentive = fixed.normalized(ranks)

    for_bonds = fixed.interpolated(weights, clipped, fixed.from_u16(inputs.bonds_penalty))
    if inputs.yuma3:
        bonds, dividends = _yuma3(inputs, for_bonds, incentive, active_stake, consensus)
    else:
        bonds, dividends = _yuma2(inputs, for_bonds, incentive, active_stake)
    server, validator, combined = _emission_shares(incentive, dividends, stake, active_stake)

    def in_rao(shares: Vector) -> list[int]:
        return [share * inputs.emission >> fixed.BITS for share in shares]

    def in_u16(shares: Vector) -> list[int]:
        return [fixed.to_u16(share) for share in shares]

    return EpochResult(
        active=is_active,
        validator_permit=permits,
        stake_weight=in_u16(stake),
        consensus=in_u16(consensus),
        incentive=in_u16(incentive),
        dividends=in_u16(dividends),
        rank=in_u16(incentive),
        trust=in_u16([fixed.div(a, b) for a, b in zip(ranks, pre_ranks, strict=True)]),
        validator_trust=in_u16([sum(value for _, value in row) for row in clipped]),
        pruning_scores=fixed.upscaled_to_u16(combined),
        server_emission=in_rao(server),
        validator_emission=in_rao(validator),
        emission=in_rao(combined),
        bonds=_stored_bonds(inputs, bonds, permits),
    )
