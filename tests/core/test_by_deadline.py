"""Earliest deadline first: published sequences, exact shares, and what goes on over rebuilds and the border of 64 members."""

import random
from collections import Counter

import pytest
from builders import backends
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_lb.core.ask import ANY
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pickers.by_deadline import EarliestDeadline, phase
from twisted_lb.core.pickers.by_turns import Rotation, SmoothRotation

RNG = random.Random(7)


def picks(picker, count, avoid=()):
    return [picker.pick(ANY, 0.0, RNG, avoid) for _ in range(count)]


def as_envoy(**weights):
    """Everybody's first deadline at 1/w."""
    members = backends(**weights)
    return members, EarliestDeadline(members, dict.fromkeys(members, 1.0), {})


def many(weights):
    return backends(**{f"b{index}": weight for index, weight in enumerate(weights)})


# 100 members: one heavy, some of middle weight, most light.
MIXED = [256, *([17] * 9), *([1, 2, 3] * 30)]


@pytest.mark.parametrize(
    ("weights", "sequence"),
    [
        # Envoy test/common/upstream/edf_scheduler_test.cc and round_robin_lb_test.cc: weights 1 and .35, deadlines of the
        # second at 20/7 and 40/7.
        ({"a": 20, "b": 7}, "aabaaab"),
        # In bunches, where nginx has aabacaa: why phases are spread here.
        ({"a": 5, "b": 1, "c": 1}, "aaaabca"),
    ],
)
def test_from_one_over_weight_on_the_order_is_envoys(weights, sequence):
    _, picker = as_envoy(**weights)
    assert "".join(one.name[0] for one in picks(picker, len(sequence))) == sequence


def test_in_one_cycle_of_weights_1_to_128_each_has_exactly_its_weight():
    """Envoy's edf_scheduler_test.cc: 8,256 picks."""
    members, picker = as_envoy(**{f"b{weight}": weight for weight in range(1, 129)})
    got = Counter(picks(picker, 8256))
    assert [got[one] for one in members] == list(range(1, 129))


def test_phases_are_spread_over_a_turn_from_its_middle_on():
    assert [phase(index, 4) for index in range(4)] == [0.5, 0.75, 0.0, 0.25]


def test_those_of_equal_weight_take_turns_evenly_beside_a_heavy_one():
    """64 of weight 1 and one of 64: by turns, as nginx would have it."""
    members = many([64] + [1] * 64)
    picker = EarliestDeadline(members, {one: phase(index, 65) for index, one in enumerate(members)}, {})
    heavy = [one is members[0] for one in picks(picker, 128)]
    assert sum(heavy) == 64
    assert all(sum(heavy[at : at + 4]) in (1, 2, 3) for at in range(125))


@pytest.mark.parametrize("seed", range(20))
def test_any_cycle_has_exactly_the_weights_wherever_it_begins(seed):
    members = many(MIXED)
    picker = POLICIES["rr"].build(members, None, random.Random(seed), 0.0)
    assert isinstance(picker, EarliestDeadline)
    for _ in range(3):
        got = Counter(picks(picker, sum(MIXED)))
        assert [got[one] for one in members] == MIXED
        picks(picker, seed)


def test_the_first_one_of_many_balancers_begins_anywhere():
    members = many(MIXED)
    starts = Counter(
        POLICIES["rr"].build(members, None, random.Random(seed), 0.0).pick(ANY, 0.0, RNG, ()) for seed in range(1000)
    )
    # By time, and not by turns: the heavy one's deadlines end the longer intervals.
    assert starts[members[0]] < 800
    assert len(starts) > 40


def test_a_rebuild_that_changes_nothing_changes_no_sequence():
    members = many(MIXED)
    expected = picks(POLICIES["rr"].build(members, None, random.Random(3), 0.0), 400)
    picker = POLICIES["rr"].build(members, None, random.Random(3), 0.0)
    got = []
    for _ in range(400):
        picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
        got += picks(picker, 1)
    assert got == expected


def test_what_is_left_behind_goes_on_as_it_was():
    """A picker that was forked or replaced gives what it would have given."""
    members = many(MIXED)
    picker = POLICIES["rr"].build(members, None, random.Random(3), 0.0)
    picks(picker, 50)
    fork = picker.fork()
    owed = picker.owed()
    expected = picks(fork, 100)
    assert picker.owed() == owed
    assert picks(picker, 100) == expected


@pytest.mark.parametrize("at", [0, 1, 7, 40, 64, 100])
def test_over_the_border_and_back_the_next_in_turn_is_next(at):
    """From equal weights to others among 66, and back: no policy begins anew at the first backend."""
    members = many([1] * 66)
    picker = Rotation(members, 20)
    turn = picks(Rotation(members, 20), at + 10)
    picks(picker, at)
    members[65].weight = 2
    picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
    assert isinstance(picker, EarliestDeadline)
    assert picks(picker.fork(), 3) == turn[at : at + 3]
    members[65].weight = 1
    picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
    assert isinstance(picker, Rotation)
    assert picks(picker, 10) == turn[at:]


@pytest.mark.parametrize("at", [0, 1, 30, 77, 140])
def test_credit_survives_the_border_of_64_both_ways(at):
    weights = [5, 1, 3, 2] * 16
    members = many([*weights, 2])
    total = sum(weights)
    picker = POLICIES["rr"].build(members[:64], None, random.Random(1), 0.0)
    assert isinstance(picker, SmoothRotation)
    start = Counter({one: round(-turns * 1000) for one, turns in picker.owed().items()})
    got = Counter(picks(picker, at))
    picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
    assert isinstance(picker, EarliestDeadline)
    got += Counter(picks(picker, 40))
    picker = POLICIES["rr"].build(members[:64], picker, RNG, 0.0)
    assert isinstance(picker, SmoothRotation)
    got += Counter(picks(picker, 2 * total - at))
    # Two cycles and 40 picks, of which the new one had one or two.
    for one, weight in zip(members, weights, strict=False):
        expected = weight * (2 + 39 / total)
        assert abs(got[one] + start[one] / 1000 - expected) < 2.5, (one, got[one], expected)


def test_rebuilds_after_every_pick_by_members_that_come_and_go_starve_nobody():
    members = many(MIXED)
    picker = None
    got = Counter()
    for step in range(3 * sum(MIXED)):
        now = members if step % 2 else members[:-1]
        picker = POLICIES["rr"].build(now, picker, random.Random(1), 0.0)
        got += Counter(picks(picker, 1))
    assert all(abs(got[one] - 3 * weight) <= 4 for one, weight in zip(members[:-1], MIXED, strict=False))


CHANGES = st.lists(
    st.tuples(st.integers(1, 99), st.lists(st.tuples(st.integers(0, 99), st.integers(1, 256)), max_size=3)), max_size=12
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(changes=CHANGES)
def test_whatever_changes_no_debt_grows(changes):
    """The number of members goes over the border, weights are changed live; nobody is owed more than a few turns."""
    members = many([1 + index % 7 for index in range(100)])
    picker = None
    for count, weights in changes:
        for index, weight in weights:
            members[index].weight = weight
        picker = POLICIES["rr"].build(members[:count], picker, random.Random(1), 0.0)
        picks(picker, count)
        owed = picker.owed()
        assert abs(sum(owed.values())) < 1e-3
    if picker is not None:
        fresh = picker
        total = sum(one.weight for one in owed)
        got = Counter(picks(fresh, 4 * total))
        for one in owed:
            assert abs(got[one] - 4 * one.weight - owed[one]) < 3


@pytest.mark.parametrize("out", [1, 10, 60, 98])
def test_the_share_of_those_that_are_not_open_goes_to_all_others_by_weight(out):
    """Of 100; where most are out all are looked at, which gives the same."""
    members = many(MIXED)
    picker = POLICIES["rr"].build(members, None, random.Random(2), 0.0)
    avoided, rest = members[:out], members[out:]
    total = sum(one.weight for one in rest)
    got = Counter(picks(picker, 20 * total, avoided))
    # Whatever is forfeited, whoever is open has exactly its deadlines in order: a turn more or less at both ends.
    assert all(abs(got[one] - 20 * one.weight) <= 1 for one in rest)
    assert not any(got[one] for one in avoided)


def test_one_look_at_all_is_the_same_as_many_looks_at_the_next():
    members = many([200, 200, *([1] * 70)])
    avoided = members[:60]
    picker = POLICIES["rr"].build(members, None, random.Random(2), 0.0)
    got = picks(picker, 48, avoided)
    # What a patient one would pick: whoever is open, in the order of deadlines.
    patient = POLICIES["rr"].build(members, None, random.Random(2), 0.0)
    expected = [one for one in picks(patient, 20_000) if one not in avoided][:48]
    assert got == expected


def test_who_was_out_has_no_turns_in_store_when_it_is_back():
    members = many(MIXED)
    picker = POLICIES["rr"].build(members, None, random.Random(2), 0.0)
    picks(picker, 5 * sum(MIXED), members[:1])
    got = Counter(picks(picker, sum(MIXED)))
    assert [got[one] for one in members] == MIXED


def test_nobody_is_picked_when_all_are_avoided_and_shares_are_as_before_then():
    members = many(MIXED)
    picker = POLICIES["rr"].build(members, None, random.Random(2), 0.0)
    assert picks(picker, 9, members) == [None] * 9
    assert picker.recalled(picker.mark, None).rule.endswith(
        "nobody was open; of more than 64 it is not kept when each was due"
    )
    got = Counter(picks(picker, sum(MIXED)))
    assert [got[one] for one in members] == MIXED


def test_those_that_are_stepped_over_count_it():
    members = many(MIXED)
    members[0].available = False
    picker = POLICIES["rr"].build(members, None, random.Random(2), 0.0)
    picks(picker, 333)
    assert members[0].passed_over >= 250
    assert sum(one.passed_over for one in members[1:]) == 0


def test_it_says_whose_turn_it_was():
    members = many(MIXED)
    picker = POLICIES["rr"].build(members, None, random.Random(2), 0.0)
    first, then = (one for one, _ in picker.ranking(ANY, 0.0)[:2])
    assert picker.ranking(ANY, 0.0)[0][1] == 0.0
    fork = picker.fork()
    picked = fork.pick(ANY, 0.0, RNG, ())
    assert picked is first
    assert fork.recalled(fork.mark, picked).rule.startswith("in turn by weight, the earliest deadline first: its turn;")
    picked = picker.pick(ANY, 0.0, RNG, (first,))
    rule = picker.recalled(picker.mark, picked).rule
    assert f"it was the turn of {first.name}; " in rule
    assert "forfeited" in rule
    assert picked is then or then is first
