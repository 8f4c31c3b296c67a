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


def test_a_full_subnet_to_the_digit():
    """256 uids, the owner's and a validator's among them; the score of hotkey k is k."""
    ledger = MemoryLedger()
    ledger.add_subnet(7, "owner", max_uids=256)
    uid_of = {f"m{k}": ledger.register(7, f"m{k}") for k in range(1, 256)}
    assert sorted(uid_of.values()) == list(range(1, 256))
    scores = {f"m{k}": float(k) for k in range(256)}
    uids, weights = to_chain_weights(scores, view_of(ledger), exclude=("m255",))
    # m255 is left out, so 254 is the largest: the weight of k is round(65535 k / 254).
    assert uids == list(range(1, 255)) and weights == [round(65535 * k / 254) for k in range(1, 255)]
    # One more has to go for a newcomer, who has no score yet.
    taken = ledger.register(7, "newcomer")
    after, kept = to_chain_weights(scores, view_of(ledger), exclude=("m255",))
    gone = next(hotkey for hotkey, uid in uid_of.items() if uid == taken)
    assert taken not in after and len(after) == len(uids) - (gone != "m255")
    assert dict(zip(after, kept, strict=True)).items() <= dict(zip(uids, weights, strict=True)).items()


def test_a_validator_in_earnest_has_a_permit_and_weighty_stake():
    ledger = MemoryLedger()
    ledger.add_subnet(7, "owner")
    ledger.register(7, "large", stake=1000.0, validator_permit=True)
    ledger.register(7, "small", stake=150.0, validator_permit=True)
    ledger.register(7, "a", stake=99.0, validator_permit=True)
    ledger.register(7, "rich", stake=5000.0)
    view = MemoryChain("a", ledger).metagraph(7)
    assert [view.votes(hotkey, 0.01) for hotkey in ("large", "small", "a", "rich", "nobody")] == [True] * 3 + [
        False
    ] * 2
    assert [view.votes(hotkey, 0.03) for hotkey in ("large", "small", "a")] == [True, True, False]


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
