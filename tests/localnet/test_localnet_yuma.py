"""Yuma consensus: hand-written cases and properties. Measured numbers: test_localnet_vectors.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from template.localnet.yuma import EpochInput, run_epoch

U16_FIELDS = (
    "stake_weight",
    "consensus",
    "incentive",
    "dividends",
    "rank",
    "trust",
    "validator_trust",
    "pruning_scores",
)
ALPHA = 10**12


def inputs(size: int, **changes: Any) -> EpochInput:
    base = EpochInput(
        block=100,
        tempo=10,
        kappa=32767,
        bonds_moving_avg=900_000,
        bonds_penalty=65535,
        activity_cutoff=5000,
        max_validators=64,
        stake_threshold=0,
        tao_weight=0,
        owner_uid=None,
        emission=1_000_000_000,
        alpha_stake=[0] * size,
        root_stake=[0] * size,
        last_update=[50] * size,
        block_at_registration=[1] * size,
        validator_permit=[False] * size,
        weights=[()] * size,
        bonds=[()] * size,
    )
    return replace(base, **changes)


def one_validator(**changes: Any) -> EpochInput:
    return inputs(
        3,
        **{
            "alpha_stake": [ALPHA, 0, 0],
            "validator_permit": [True, False, False],
            "weights": [((1, 65535), (2, 65535)), (), ()],
            **changes,
        },
    )


def test_one_validator_splits_evenly() -> None:
    result = run_epoch(one_validator())
    assert result.incentive == [0, 32767, 32767]
    assert result.dividends == [65535, 0, 0]
    assert result.server_emission == [0, 250_000_000, 250_000_000]
    assert result.validator_emission == [500_000_000, 0, 0]
    assert result.validator_permit == [True, False, False]
    assert result.bonds == [((1, 65535), (2, 65535)), (), ()]


def test_permits_of_the_last_epoch_decide_who_votes() -> None:
    result = run_epoch(one_validator(validator_permit=[False] * 3))
    assert result.incentive == [0, 0, 0]
    assert result.validator_permit == [True, False, False]
    assert result.validator_emission == [1_000_000_000, 0, 0], "without votes emission goes by stake"


def test_inactive_validator_does_not_vote_but_keeps_its_permit() -> None:
    result = run_epoch(one_validator(activity_cutoff=49))
    assert result.active == [False] * 3
    assert result.incentive == [0, 0, 0]
    assert result.validator_permit == [True, False, False]
    assert run_epoch(one_validator(activity_cutoff=50)).active == [True] * 3, "the boundary is inclusive"


def test_votes_for_a_neuron_registered_since_are_ignored() -> None:
    result = run_epoch(one_validator(block_at_registration=[1, 1, 50]))
    assert result.incentive == [0, 65535, 0]


def test_own_weight_counts_only_for_the_owner() -> None:
    weights = [((0, 65535), (1, 65535)), (), ()]
    assert run_epoch(one_validator(weights=weights)).incentive == [0, 65535, 0]
    assert run_epoch(one_validator(weights=weights, owner_uid=0)).incentive == [32767, 32767, 0]


def test_minority_vote_is_clipped_to_the_majority() -> None:
    result = run_epoch(
        inputs(
            4,
            alpha_stake=[6 * ALPHA, 4 * ALPHA, 0, 0],
            validator_permit=[True, True, False, False],
            weights=[((2, 65535),), ((3, 65535),), (), ()],
        )
    )
    assert result.consensus == [0, 0, 65535, 0]
    assert result.incentive == [0, 0, 65535, 0]
    assert result.dividends == [65535, 0, 0, 0]
    assert result.validator_trust == [65535, 0, 0, 0]


@pytest.mark.parametrize(("kappa", "winner"), [(32767, 65535), (32768, 0)])
def test_even_split_depends_on_the_side_of_kappa(kappa: int, winner: int) -> None:
    result = run_epoch(
        inputs(
            3,
            kappa=kappa,
            alpha_stake=[ALPHA, ALPHA, 0],
            validator_permit=[True, True, False],
            weights=[((2, 65535),), (), ()],
        )
    )
    assert result.consensus[2] == winner


def test_ties_for_a_permit_go_to_the_higher_uid() -> None:
    result = run_epoch(inputs(3, alpha_stake=[ALPHA] * 3, max_validators=2))
    assert result.validator_permit == [False, True, True]


def test_lost_permit_empties_the_bonds_row() -> None:
    bonds = [((2, 65535),), ((2, 65535),), ()]
    result = run_epoch(
        inputs(3, alpha_stake=[0, ALPHA, 0], validator_permit=[True, True, False], bonds=bonds, max_validators=1)
    )
    assert result.bonds[0] == ()


def test_empty_emission_and_nobody_staked() -> None:
    result = run_epoch(inputs(2))
    assert result.server_emission == [0, 0]
    assert result.validator_emission == [0, 0]
    assert result.validator_permit == [False, False]


@st.composite
def networks(draw: st.DrawFn) -> EpochInput:
    size = draw(st.integers(2, 8))
    stakes = draw(st.lists(st.integers(0, 10**15), min_size=size, max_size=size, unique=True))
    row = st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, 65535)), max_size=size, unique_by=lambda p: p[0])
    rows = [tuple(draw(row)) for _ in range(size)]
    permits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return inputs(size, alpha_stake=stakes, weights=rows, validator_permit=permits)


@settings(max_examples=60, deadline=None)
@given(networks())
def test_shares_stay_shares(network: EpochInput) -> None:
    result = run_epoch(network)
    for name in U16_FIELDS:
        assert all(0 <= value <= 65535 for value in getattr(result, name))
    assert sum(result.incentive) <= 65535
    assert sum(result.dividends) <= 65535
    assert sum(result.server_emission) + sum(result.validator_emission) <= network.emission
    assert sum(result.validator_permit) <= network.max_validators


@settings(max_examples=40, deadline=None)
@given(networks(), st.randoms())
def test_uids_are_only_names(network: EpochInput, shuffler: Any) -> None:
    """Renumbering the neurons renumbers the result (stakes are distinct, so no tie falls to a uid)."""
    size = len(network.alpha_stake)
    order = list(range(size))
    shuffler.shuffle(order)  # order[new] = old
    place = {old: new for new, old in enumerate(order)}
    moved = replace(
        network,
        alpha_stake=[network.alpha_stake[old] for old in order],
        validator_permit=[network.validator_permit[old] for old in order],
        weights=[tuple((place[j], value) for j, value in network.weights[old]) for old in order],
    )
    before, after = run_epoch(network), run_epoch(moved)
    for name in U16_FIELDS:
        expected = [getattr(before, name)[old] for old in order]
        assert all(abs(a - b) <= 1 for a, b in zip(getattr(after, name), expected, strict=True)), name
