"""Who reduces which shard: every pair before any twice, nobody more than his share, nobody his own twin."""

from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.core.pairs import MAX_PAIRS, pairs, shards_for


@given(st.integers(2, 12), st.integers(1, 90), st.text())
def test_every_shard_gets_two_different_reducers(n: int, shards: int, label: str) -> None:
    drawn = pairs(tuple(f"m{k}" for k in range(n)), shards, label)
    assert len(drawn) == shards and all(len(set(pair)) == 2 for pair in drawn)


@given(st.integers(2, 12), st.integers())
def test_with_one_shard_per_pair_every_pair_is_used_exactly_once(n: int, label: int) -> None:
    hotkeys = tuple(f"m{k}" for k in range(n))
    drawn = pairs(hotkeys, n * (n - 1) // 2, label)
    assert sorted(tuple(sorted(pair)) for pair in drawn) == sorted(combinations(sorted(hotkeys), 2))


def test_pairs_depend_on_the_salt_and_not_on_the_order_of_commits() -> None:
    assert pairs(("a", "b", "c"), 3, "x") == pairs(("c", "a", "b"), 3, "x")
    assert len({tuple(pairs(("a", "b", "c", "d"), 6, label)) for label in range(20)}) > 15


def test_one_reduces_alone_and_nobody_reduces_nothing() -> None:
    assert pairs(("a",), 2, "x") == [("a",), ("a",)]
    assert pairs((), 1, "x") == [()]


@given(st.integers(2, 600), st.integers(1, 10**9))
def test_everybody_reduces_as_much_as_everybody_else(n: int, size: int) -> None:
    shards = shards_for(n, size)
    drawn = pairs(tuple(f"m{k}" for k in range(n)), shards, "x")
    load = Counter(hotkey for pair in drawn for hotkey in pair)
    most, least = max(load.values()), min(load.get(f"m{k}", 0) for k in range(n))
    assert most - least <= (0 if shards < size or shards == n * (n - 1) // 2 else 2)


@given(st.integers(1, 5000), st.integers(1, 10**9))
def test_there_are_as_many_shards_as_pairs_while_these_are_few(n: int, size: int) -> None:
    shards = shards_for(n, size)
    assert 1 <= shards <= min(size, max(MAX_PAIRS, n))
    if n <= 23:
        assert shards == min(size, max(1, n * (n - 1) // 2))
    else:
        assert shards >= min(size, n), "everybody has work"


@given(st.integers(2, 60), st.integers(1, 400), st.integers())
def test_no_pair_meets_twice_before_all_have_met(n: int, shards: int, label: int) -> None:
    drawn = Counter(tuple(sorted(pair)) for pair in pairs(tuple(f"m{k}" for k in range(n)), shards, label))
    assert max(drawn.values()) <= -(-shards // (n * (n - 1) // 2))
