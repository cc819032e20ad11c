"""Splits: exact over time, or sticky; what they keep when they change, and who moves."""

import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.ask import key_of
from twisted_lb.core.split import Split, StickySplit


def turns(split: Split, count: int) -> list[str]:
    return [split.take(0) for _ in range(count)]


def test_of_each_hundred_in_a_row_just_ten_go_to_the_canary_each_tenth():
    split = Split([("api", 90), ("canary", 10)])
    taken = turns(split, 1000)
    assert {taken[start : start + 100].count("canary") for start in range(900)} == {10}
    at = [index for index, name in enumerate(taken) if name == "canary"]
    assert {later - before for before, later in pairwise(at)} == {10}


def test_turns_are_spread_as_smooth_weighted_round_robin_does():
    assert "".join(turns(Split([("a", 5), ("b", 1), ("c", 1)]), 7)) == "aabacaa"
    assert "".join(turns(Split([("a", 1), ("b", 1), ("c", 1)]), 6)) == "abcabc"
    assert "".join(turns(Split([("a", 2), ("b", 2)]), 4)) == "abab"


WEIGHTS = st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any)


@given(WEIGHTS)
def test_each_cycle_is_exact_wherever_it_begins(weights):
    shares = [(f"p{index}", weight) for index, weight in enumerate(weights)]
    split, cycle = Split(shares), sum(weights)
    taken = turns(split, 2 * cycle)
    for start in range(cycle + 1):
        counts = Counter(taken[start : start + cycle])
        assert [counts[name] for name, _ in shares] == weights


@given(WEIGHTS)
def test_nobody_is_ever_more_than_his_turns_ahead_or_behind(weights):
    """The bound of the algorithm: less than one turn for each other pool."""
    shares = [(f"p{index}", weight) for index, weight in enumerate(weights)]
    split, counts, total = Split(shares), Counter(), sum(weights)
    for turn in range(1, 2 * total + 1):
        counts[split.take(turn)] += 1
        for name, weight in shares:
            assert abs(counts[name] - turn * weight / total) < max(len([one for one in weights if one]) - 1, 1)


def test_a_weight_of_0_gets_nothing():
    assert set(turns(Split([("a", 0), ("b", 1), ("c", 0)]), 50)) == {"b"}
    assert {StickySplit([("a", 0), ("b", 1)]).take(key) for key in range(50)} == {"b"}


@pytest.mark.parametrize("kind", [Split, StickySplit])
@pytest.mark.parametrize(
    ("shares", "reason"),
    [
        ([], "a split has no weight above 0"),
        ([("a", 0), ("b", 0)], "a split has no weight above 0"),
        ([("a", 1), ("b", -1)], "a split has a negative weight"),
        ([("a", 1), ("a", 2)], "a split names a pool twice"),
    ],
)
def test_what_is_no_split_is_refused(kind, shares, reason):
    with pytest.raises(ValueError) as caught:
        kind(shares)
    assert str(caught.value) == reason


@given(WEIGHTS, st.integers(0, 60))
def test_the_same_split_goes_on_as_if_nothing_had_happened(weights, before):
    shares = [(f"p{index}", weight) for index, weight in enumerate(weights)]
    undisturbed, old, new = Split(shares), Split(shares), Split(shares)
    turns(undisturbed, before)
    turns(old, before)
    new.take_over(old)
    assert turns(new, 60) == turns(undisturbed, 60)


def test_two_hundred_reloads_take_nothing_from_the_canary():
    split, taken = Split([("api", 90), ("canary", 10)]), []
    for reload in range(200):
        taken += turns(split, 3)
        # Each second one in another order, or with the same shares in other numbers.
        new = Split([("canary", 1), ("api", 9)] if reload % 2 else [("api", 90), ("canary", 10)])
        new.take_over(split)
        split = new
    assert {taken[start : start + 10].count("canary") for start in range(0, 600, 10)} == {1}


def test_a_pool_that_stays_is_owed_what_it_was():
    old = Split([("api", 50), ("canary", 50)])
    assert old.take(0) == "api"
    new = Split([("api", 90), ("canary", 10)])
    new.take_over(old)
    # Half a turn is owed, and a tenth of one for each turn: it comes first in the fifth, not only in the sixth.
    assert turns(new, 10).index("canary") < turns(Split([("api", 90), ("canary", 10)]), 10).index("canary")


def test_a_pool_that_comes_or_goes_leaves_the_others_their_turns():
    old = Split([("a", 1), ("b", 1), ("c", 1)])
    assert turns(old, 1) == ["a"]
    new = Split([("a", 1), ("b", 1)])
    new.take_over(old)
    assert turns(new, 3) == ["b", "a", "b"]
    more = Split([("a", 1), ("b", 1), ("d", 1)])
    more.take_over(new)
    assert Counter(turns(more, 300)) == {"a": 100, "b": 100, "d": 100}


@given(WEIGHTS, WEIGHTS, st.integers(0, 40))
def test_whatever_is_taken_over_each_cycle_is_exact(before, after, count):
    old = Split([(f"p{index}", weight) for index, weight in enumerate(before)])
    turns(old, count)
    shares = [(f"p{index}", weight) for index, weight in enumerate(after)]
    new = Split(shares)
    new.take_over(old)
    # What was owed is paid within a few cycles, and then all is as from the start.
    turns(new, 10 * sum(after))
    counts = Counter(turns(new, sum(after)))
    assert [counts[name] for name, _ in shares] == after


def test_a_split_shows_its_shares():
    assert repr(Split([("api", 90), ("canary", 10), ("old", 0)])) == "<Split api 90, canary 10>"
    assert repr(StickySplit([("api", 90), ("canary", 10), ("old", 0)])) == "<StickySplit api 90, canary 10>"


KEYS = [key_of(b"client %d" % number) for number in range(20_000)]


def pools(*shares: tuple[str, int]) -> list[str]:
    split = StickySplit(shares)
    return [split.take(key) for key in KEYS]


def within(count: int, share: float) -> bool:
    """Whether a count out of all keys is within four standard deviations of the share: 1 of 16,000 would not be."""
    return abs(count - len(KEYS) * share) <= 4 * math.sqrt(len(KEYS) * share * (1 - share))


@pytest.mark.parametrize(
    "shares",
    [
        (("api", 95), ("canary", 5)),
        (("api", 1), ("canary", 1)),
        (("a", 50), ("b", 30), ("c", 20)),
        (("a", 1), ("b", 999)),
    ],
)
def test_each_pool_gets_its_share_of_the_clients(shares):
    counts = Counter(pools(*shares))
    total = sum(weight for _, weight in shares)
    assert all(within(counts[name], weight / total) for name, weight in shares)


def test_from_5_to_10_percent_moves_only_clients_into_the_canary():
    before, after = pools(("api", 95), ("canary", 5)), pools(("api", 90), ("canary", 10))
    moved = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    assert moved.keys() == {("api", "canary")}
    assert within(moved["api", "canary"], 0.05)


def test_with_more_pools_too_as_long_as_the_others_keep_their_proportion():
    before = pools(("a", 57), ("b", 38), ("canary", 5))
    after = pools(("a", 54), ("b", 36), ("canary", 10))
    moved = Counter(pair for pair in zip(before, after, strict=True) if pair[0] != pair[1])
    assert moved.keys() == {("a", "canary"), ("b", "canary")}
    assert within(moved.total(), 0.05)
    assert within(moved["a", "canary"], 0.03)


def test_a_pool_that_goes_leaves_all_other_clients_where_they_are():
    before, after = pools(("a", 50), ("b", 30), ("c", 20)), pools(("a", 50), ("b", 30), ("c", 0))
    assert all(then == now for then, now in zip(before, after, strict=True) if then != "c")
    counts = Counter(now for then, now in zip(before, after, strict=True) if then == "c")
    assert counts.keys() == {"a", "b"}


def test_the_order_of_pools_makes_no_difference():
    assert pools(("a", 3), ("b", 2), ("c", 1)) == pools(("c", 1), ("b", 2), ("a", 3))


def test_two_splits_of_other_pools_are_independent():
    """Who is in one canary is in another one no more often than anybody: 10 % of 10 %."""
    one, other = pools(("api", 90), ("canary", 10)), pools(("web", 90), ("next", 10))
    assert within(list(zip(one, other, strict=True)).count(("canary", "next")), 0.01)


def test_a_key_meets_the_same_pool_for_ever():
    """Known answers: they may never change, since with them all clients would."""
    split = StickySplit([("a", 1), ("b", 1), ("c", 1)])
    assert "".join(split.take(key) for key in range(40)) == "ababacabaacaccabaaaaabaacacbcabccbbbacbc"
    assert split.take(2**64 - 1) == "a"


def test_it_is_the_same_in_every_process():
    program = (
        "from twisted_lb.core.split import StickySplit; "
        "s = StickySplit([('api', 60), ('canary', 40)]); print(''.join(s.take(k)[0] for k in range(200)))"
    )
    heard = {
        subprocess.run(
            [sys.executable, "-P", "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    split = StickySplit([("api", 60), ("canary", 40)])
    assert heard == {"".join(split.take(key)[0] for key in range(200))}
