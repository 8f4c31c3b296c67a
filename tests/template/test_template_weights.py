"""Scores by hotkey become uids and u16 weights: golden vectors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from template.memory import MemoryChain, MemoryLedger
from template.weights import U16_MAX, to_chain_weights


def make(max_uids: int = 8) -> MemoryLedger:
    ledger = MemoryLedger()
    ledger.add_subnet(7, "owner", max_uids=max_uids)
    for hotkey in ("a", "b", "c"):
        ledger.register(7, hotkey)
    return ledger


def view_of(ledger: MemoryLedger):
    return MemoryChain("a", ledger).metagraph(7)


@pytest.mark.parametrize(
    ("scores", "burn", "uids", "weights"),
    [
        ({"a": 1.0, "b": 0.5}, 0.0, [1, 2], [65535, 32768]),
        ({"b": 3.0, "a": 3.0}, 0.0, [1, 2], [65535, 65535]),
        ({"a": 1e-9, "b": 1.0}, 0.0, [1, 2], [1, 65535]),
        ({"a": 1e308, "b": 1e308}, 0.0, [1, 2], [65535, 65535]),
        ({"a": math.nan, "b": math.inf, "c": -1.0}, 0.0, [], []),
        ({}, 0.0, [], []),
        ({"a": 0.0}, 0.0, [], []),
        ({"stranger": 5.0}, 0.0, [], []),
        ({"a": 1.0, "stranger": 5.0}, 0.0, [1], [65535]),
        ({"a": 1.0, "b": 1.0}, 0.5, [0, 1, 2], [65535, 32768, 32768]),
        ({"a": 1.0}, 0.9, [0, 1], [65535, 7282]),
        ({"a": 1.0}, 1.0, [0], [65535]),
        ({}, 0.3, [0], [65535]),
        ({"owner": 1.0, "a": 1.0}, 0.5, [0, 1], [65535, 21845]),
    ],
)
def test_golden(scores, burn, uids, weights):
    assert to_chain_weights(scores, view_of(make()), burn=burn) == (uids, weights)


def test_uid_re_registration_pays_nothing_to_the_newcomer():
    ledger = make(max_uids=4)
    scores = {"a": 1.0, "b": 2.0}
    assert to_chain_weights(scores, view_of(ledger)) == ([1, 2], [32768, 65535])
    assert ledger.register(7, "newcomer") == 1  # takes a's uid
    assert to_chain_weights(scores, view_of(ledger)) == ([2], [65535])
    assert ledger.register(7, "a") == 1  # a comes back, by chance to the same uid
    assert to_chain_weights(scores, view_of(ledger)) == ([1, 2], [32768, 65535])


def test_exclude_and_bad_burn():
    view = view_of(make())
    assert to_chain_weights({"a": 1.0, "b": 1.0}, view, exclude={"a"}) == ([2], [65535])
    for burn in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="burn"):
            to_chain_weights({"a": 1.0}, view, burn=burn)


@given(st.dictionaries(st.sampled_from(["owner", "a", "b", "c", "x"]), st.floats(allow_nan=True)), st.floats(0, 1))
def test_always_a_valid_vector(scores, burn):
    uids, weights = to_chain_weights(scores, view_of(make()), burn=burn)
    assert uids == sorted(set(uids)) and len(uids) == len(weights)
    assert all(1 <= weight <= U16_MAX for weight in weights)
    assert not weights or max(weights) == U16_MAX
