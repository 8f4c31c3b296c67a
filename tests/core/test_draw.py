import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iota_subnet.core.draw import choose, commitment, digest, draw, salt, shuffled


@given(st.lists(st.text(), min_size=1), st.lists(st.text(), min_size=1))
def test_two_labels_give_one_digest_only_if_they_are_the_same(a: list[str], b: list[str]) -> None:
    assert (digest(*a) == digest(*b)) == (a == b)


def test_every_number_comes_about_as_often_as_any_other() -> None:
    # Chi-square with 9 degrees of freedom: 27.9 is exceeded once in 1000; the draw is fixed, so this never flickers.
    counts = Counter(draw(10, "uniform", index) for index in range(10_000))
    assert sum((counts[k] - 1000) ** 2 / 1000 for k in range(10)) < 27.9


@given(st.integers(1, 50), st.integers())
def test_a_draw_lies_in_its_range_and_does_not_depend_on_other_draws(n: int, label: int) -> None:
    first = draw(n, label)
    draw(n, "something else")
    assert 0 <= first < n and draw(n, label) == first


def test_nothing_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="nothing"):
        draw(0, "label")
    with pytest.raises(ValueError, match="nothing"):
        choose([], "label")


@given(st.lists(st.integers(), max_size=30), st.integers())
def test_shuffling_keeps_every_item(items: list[int], label: int) -> None:
    assert sorted(shuffled(items, label)) == sorted(items)


def test_every_item_gets_to_every_place() -> None:
    firsts = Counter(tuple(shuffled("abc", index)) for index in range(1200))
    assert len(firsts) == 6 and min(firsts.values()) > 140


def test_the_salt_is_bound_by_its_commitment_and_new_each_epoch() -> None:
    salts = [salt("secret", epoch) for epoch in range(50)]
    assert len(set(salts)) == 50 and salt("other", 0) != salts[0]
    assert len({commitment(value) for value in salts}) == 50
    assert commitment(salts[0]) != salts[0]


def test_a_draw_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = "from iota_subnet.core.draw import draw; print([draw(1000, 'x', i, ('a', 1)) for i in range(5)])"
    outs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert outs == {f"{[draw(1000, 'x', i, ('a', 1)) for i in range(5)]}\n"}
