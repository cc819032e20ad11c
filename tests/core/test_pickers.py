"""By turns and by chance: exact sequences, exact shares, and what a rebuild keeps."""

import itertools
import math
import random
import re
from collections import Counter

import pytest
from builders import backends, built
from hypothesis import given
from hypothesis import strategies as st
from some import examples

from twisted_lb.core.ask import ANY
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pickers.by_turns import Rotation, SmoothRotation

RNG = random.Random(7)


def picks(picker, count: int, avoid=()) -> str:
    chosen = [picker.pick(ANY, 0.0, RNG, avoid) for _ in range(count)]
    return "".join(backend.name[0] if backend else "-" for backend in chosen)


@pytest.mark.parametrize(
    ("weights", "sequence"),
    [
        ({"a": 5, "b": 1, "c": 1}, "aabacaa"),  # nginx's own example
        ({"a": 4, "b": 3, "c": 2}, "abcabacba"),  # the LVS weights, smoothly
        ({"a": 2, "b": 1}, "aba"),
        ({"a": 1, "b": 3}, "babb"),
    ],
)
def test_smooth_weighted_round_robin_is_nginxs(weights, sequence):
    picker = SmoothRotation(backends(**weights), {})
    assert picks(picker, 3 * len(sequence)) == sequence * 3


def test_the_credits_are_nginxs():
    members = backends(a=5, b=1, c=1)
    picker = SmoothRotation(members, {})
    trace = []
    for _ in range(7):
        picker.pick(ANY, 0.0, RNG, ())
        trace.append(tuple(round(picker.owed()[member] * 7) for member in members))
    assert trace == [(-2, 1, 1), (-4, 2, 2), (1, -4, 3), (-1, -3, 4), (4, -2, -2), (2, -1, -1), (0, 0, 0)]


def test_equal_weights_take_turns():
    assert picks(Rotation(backends(a=1, b=1, c=1)), 7) == "abcabca"


@pytest.mark.parametrize(
    "weights", [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 3, "b": 2, "c": 1, "d": 1}], ids=["equal", "unequal"]
)
def test_a_rebuild_between_any_two_picks_changes_nothing(weights):
    members = backends(**weights)
    policy = POLICIES["rr"]
    undisturbed = policy.build(
        members, Rotation(members, 0) if len(set(weights.values())) == 1 else SmoothRotation(members, {}), RNG, 0.0
    )
    expected = picks(undisturbed, 30)
    for at in range(30):
        picker = policy.build(
            members, Rotation(members, 0) if len(set(weights.values())) == 1 else SmoothRotation(members, {}), RNG, 0.0
        )
        got = picks(picker, at)
        picker = policy.build(members, picker, RNG, 0.0)
        assert got + picks(picker, 30 - at) == expected


def test_when_one_leaves_the_next_in_turn_is_next():
    for at in range(4):
        members = backends(a=1, b=1, c=1, d=1)
        picker = Rotation(members)
        picks(picker, at)
        for leaving in range(4):
            rest = [member for index, member in enumerate(members) if index != leaving]
            then = picks(POLICIES["rr"].build(rest, picker, RNG, 0.0), 3)
            turn = [index % 4 for index in range(at, at + 4) if index % 4 != leaving]
            assert then == "".join("abcd"[index] for index in turn)


@pytest.mark.parametrize("at", range(8))
def test_who_comes_is_served_when_the_round_is_over_and_the_next_in_turn_is_next(at):
    *members, new = backends(a=1, b=1, c=1, d=1, e=1)
    picker = Rotation(members)
    picks(picker, at)
    waiting, served = "abcd"[at % 4 :], "abcd"[: at % 4]
    then = picks(POLICIES["rr"].build([*members, new], picker, RNG, 0.0), 10)
    assert then == (waiting + "e" + served) * 2


@pytest.mark.parametrize("at", range(12))
def test_two_who_come_are_served_in_the_order_of_the_configuration(at):
    members = backends(a=1, x=1, b=1, y=1, c=1)
    picker = Rotation([members[0], members[2], members[4]])
    picks(picker, at)
    then = picks(POLICIES["rr"].build(members, picker, RNG, 0.0), 5)
    assert then == "abc"[at % 3 :] + "xy" + "abc"[: at % 3]


@pytest.mark.parametrize("at", range(8))
def test_another_order_of_the_configuration_leaves_the_turn_as_it_is(at):
    members = backends(a=1, b=1, c=1, d=1)
    picker = Rotation(members)
    picks(picker, at)
    assert picks(POLICIES["rr"].build(members[::-1], picker, RNG, 0.0), 4) == "abcdabcd"[at % 4 :][:4]


CHANGES = {
    "one leaves": ({"a": 4, "b": 3, "c": 2}, {"a": 4, "c": 2}),
    "the heaviest leaves": ({"a": 5, "b": 1, "c": 1}, {"b": 1, "c": 1}),
    "one arrives": ({"a": 4, "c": 2}, {"a": 4, "b": 3, "c": 2}),
    "a weight grows": ({"a": 1, "b": 2, "c": 3}, {"a": 9, "b": 2, "c": 3}),
    "a weight shrinks": ({"a": 9, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}),
    "equal to unequal": ({"a": 1, "b": 1, "c": 1}, {"a": 3, "b": 2, "c": 1}),
    "unequal to equal": ({"a": 3, "b": 2, "c": 1}, {"a": 1, "b": 1, "c": 1}),
}


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
def test_a_change_between_any_two_picks_costs_nobody_more_than_a_turn(before, after):
    for at in range(2 * sum(before.values())):
        everybody = {backend.name[0]: backend for backend in backends(**(before | after))}

        def members(weights, everybody=everybody):
            for name, weight in weights.items():
                everybody[name].weight = weight
            return [everybody[name] for name in weights]

        old = members(before)
        equal = len(set(before.values())) == 1
        picker = Rotation(old) if equal else SmoothRotation(old, {})
        picks(picker, at)
        for build in (1, 2):
            picker = POLICIES["rr"].build(members(after), picker, RNG, 0.0)
            got = Counter(picks(picker, sum(after.values())))
            assert all(abs(got[name] - weight) <= 1 for name, weight in after.items()), (at, build, got)


def test_from_equal_to_unequal_and_back_goes_on_with_the_next_in_turn():
    for at in range(6):
        members = backends(a=1, b=1, c=1)
        picker = Rotation(members)
        turn = picks(Rotation(members), at + 2)
        picks(picker, at)
        members[2].weight = 2
        picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
        members[2].weight = 1
        picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
        assert picks(picker, 2) == turn[at:]


def test_rebuilds_after_every_few_picks_keep_the_shares():
    """A picker that restarted at the first would give everything to the first few."""
    members = backends(a=1, b=1, c=1, d=1, e=1)
    picker = Rotation(members)
    got = ""
    for _ in range(100):
        got += picks(picker, 2)
        picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
    assert Counter(got) == dict.fromkeys("abcde", 40)


def test_a_flapping_member_leaves_the_others_their_even_shares():
    members = backends(a=1, b=1, c=1, d=1)
    picker = Rotation(members)
    got = ""
    for round_ in range(200):
        now = members if round_ % 2 else members[:3]
        picker = POLICIES["rr"].build(now, picker, RNG, 0.0)
        got += picks(picker, 3)
    counts = Counter(got)
    assert max(counts[name] for name in "abc") - min(counts[name] for name in "abc") <= 4


def test_changing_weights_goes_on_from_what_is_owed():
    members = backends(a=1, b=1)
    picker = Rotation(members)
    assert picks(picker, 1) == "a"
    members[0].weight = 2
    picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
    assert isinstance(picker, SmoothRotation)
    assert Counter(picks(picker, 300)) == {"a": 200, "b": 100}
    members[0].weight = 1
    picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
    assert isinstance(picker, Rotation)
    assert Counter(picks(picker, 10)) == {"a": 5, "b": 5}


def test_the_first_rotation_of_many_balancers_begins_anywhere():
    starts = Counter(
        picks(POLICIES["rr"].build(backends(a=1, b=1, c=1), None, random.Random(seed), 0.0), 1) for seed in range(300)
    )
    # Binomial(300, 1/3): mean 100, sd 8.2; five of them.
    assert all(abs(starts[name] - 100) < 41 for name in "abc")


@pytest.mark.parametrize(
    "weights", [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 4, "b": 2, "c": 1, "d": 1}], ids=["equal", "unequal"]
)
def test_a_turn_of_one_to_be_avoided_goes_to_all_others_by_weight(weights):
    members = backends(**weights)
    picker = POLICIES["rr"].build(members, SmoothRotation(members, {}), RNG, 0.0)
    avoided = members[1]
    total = sum(weights.values())
    counts = Counter(picks(picker, 1400 * total, (avoided,)))
    rest = total - weights["b"]
    for name in "acd":
        expected = 1400 * total * weights[name] / rest
        assert abs(counts[name] - expected) <= 2, (name, counts, expected)
    assert "b" not in counts


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_describes_itself_in_one_line_the_fields_word_first(policy):
    # It stands in a table of Markdown, between semicolons.
    assert re.fullmatch(r"[a-z][a-z -]*: [^|;\n]{1,80}[^|;\n.]", POLICIES[policy].describe)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("weights", [{"a": 1, "b": 1}, {"a": 2, "b": 1}], ids=["equal", "unequal"])
def test_none_is_picked_when_all_are_to_be_avoided(policy, weights):
    members = backends(**weights)
    picker = built(policy, members, RNG)
    assert picks(picker, 5, members) == "-----"
    assert set(picks(picker, 5, members[:1])) == {"b"}


@pytest.mark.parametrize(
    ("weights", "avoid"), list(itertools.product([{"a": 1, "b": 1, "c": 1}, {"a": 5, "b": 3, "c": 2}], ["", "a", "c"]))
)
def test_chance_gives_each_its_share_by_weight(weights, avoid):
    members = backends(**weights)
    avoided = [member for member in members if member.name[0] in avoid]
    picker = POLICIES["rand"].build(members, None, RNG, 0.0)
    rng = random.Random(11)
    count = 20_000
    got = Counter(picker.pick(ANY, 0.0, rng, avoided).name[0] for _ in range(count))
    rest = {name: weight for name, weight in weights.items() if name not in avoid}
    for name, weight in rest.items():
        share = weight / sum(rest.values())
        # Binomial: five standard deviations, 6e-7 for each of the cells.
        assert abs(got[name] - count * share) < 5 * math.sqrt(count * share * (1 - share)) + 1
    assert set(got) == set(rest)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_member_gets_everything(policy):
    assert set(picks(built(policy, backends(a=3), RNG), 20)) == {"a"}


WEIGHTS = st.one_of(
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
    st.integers(1, 9).map(lambda size: [1] * size),
)


@examples(300)
@given(weights=WEIGHTS, seed=st.integers(0, 99), cuts=st.sets(st.integers(0, 59)))
def test_rebuilds_wherever_they_come_change_no_sequence(weights, seed, cuts):
    """Also for a rotation that began elsewhere, and though what is owed is kept in floats."""
    members = backends(**{"abcdefghi"[index]: weight for index, weight in enumerate(weights)})
    expected = picks(POLICIES["rr"].build(members, None, random.Random(seed), 0.0), 60)
    picker = POLICIES["rr"].build(members, None, random.Random(seed), 0.0)
    got = ""
    for at in range(60):
        if at in cuts:
            picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
        got += picks(picker, 1)
    assert got == expected


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 4, "b": 2, "c": 1, "d": 1}])
def test_the_turns_of_an_avoided_one_go_to_all_others_through_rebuilds(weights):
    members = backends(**weights)
    picker = None
    rounds = 700
    got = ""
    for _ in range(rounds * sum(weights.values())):
        picker = POLICIES["rr"].build(members, picker, RNG, 0.0)
        got += picks(picker, 1, (members[1],))
    rest = sum(weights.values()) - weights["b"]
    for name in "acd":
        assert abs(got.count(name) - len(got) * weights[name] / rest) <= 2


@examples(100)
@given(
    weights=st.lists(st.integers(1, 5), min_size=5, max_size=5),
    changes=st.lists(st.tuples(st.sets(st.integers(0, 4), min_size=1), st.integers(0, 7)), max_size=40),
)
def test_whoever_comes_and_goes_no_debt_grows(weights, changes):
    """What is owed stays a matter of a few turns, so that nobody is starved or flooded after many changes."""
    members = backends(**dict(zip("abcde", weights, strict=True)))
    picker = POLICIES["rr"].build(members, None, RNG, 0.0)
    for present, count in changes:
        picker = POLICIES["rr"].build([members[index] for index in sorted(present)], picker, RNG, 0.0)
        picks(picker, count)
        assert isinstance(picker, (Rotation, SmoothRotation))
        owed = picker.owed().values()
        assert abs(sum(owed)) < 1e-3
        assert max(owed) - min(owed) <= 5


def test_the_first_weighted_rotation_of_many_balancers_begins_anywhere_in_its_cycle():
    weights = {"a": 3, "b": 2, "c": 1}
    cycle = picks(SmoothRotation(backends(**weights), {}), 6)
    starts = Counter(
        picks(POLICIES["rr"].build(backends(**weights), None, random.Random(seed), 0.0), 6) for seed in range(600)
    )
    assert set(starts) == {cycle[at:] + cycle[:at] for at in range(6)}
    # Binomial(600, 1/6): mean 100, sd 9.1; five of them.
    assert all(abs(count - 100) < 46 for count in starts.values())


def test_the_first_build_over_many_weights_takes_bounded_work():
    members = backends(**{f"a{index}": 1 + 4 * index for index in range(64)})
    spun = POLICIES["rr"].build(members, None, random.Random(0), 0.0)
    assert isinstance(spun, SmoothRotation)
    # 20,000 looks at most, of which each turn takes 64: owed turns are of those few.
    assert sum(turns < 0 for turns in spun.owed().values()) <= 20_000 // 64


def test_chance_keeps_the_weights_also_where_nearly_all_are_avoided():
    members = backends(a=50, b=1, c=3)
    picker = POLICIES["rand"].build(members, None, RNG, 0.0)
    rng = random.Random(3)
    got = Counter(picker.pick(ANY, 0.0, rng, members[:1]).name[0] for _ in range(4000))
    # Binomial(4000, 3/4): sd 27.4; five of them.
    assert abs(got["c"] - 3000) < 137
    assert got["b"] == 4000 - got["c"]


def test_who_is_avoided_now_and_then_leaves_the_others_their_even_shares():
    """Next-index instead of in-turn would give the neighbour half as much again."""
    members = backends(a=1, b=1, c=1, d=1)
    picker = Rotation(members)
    rng = random.Random(2)
    counts = Counter(picks(picker, 1, members[1:2] if rng.random() < 0.5 else ()) for _ in range(4000))
    assert max(counts[name] for name in "acd") - min(counts[name] for name in "acd") <= 1
    assert 0 < counts["b"] < counts["a"]


PHASES = st.lists(
    st.tuples(
        st.sets(st.integers(0, 4), min_size=1),
        st.one_of(st.just([1] * 5), st.lists(st.integers(1, 9), min_size=5, max_size=5)),
        st.lists(st.booleans(), max_size=15),
    ),
    min_size=1,
    max_size=5,
)


@examples(300)
@given(phases=PHASES)
def test_a_rebuild_that_changes_nothing_changes_no_sequence_whatever_was_before(phases):
    """Members and weights change between the phases, for both; only one is rebuilt besides, within them."""

    def sequence(*, rebuilt: bool) -> str:
        members = backends(a=1, b=1, c=1, d=1, e=1)
        picker = None
        got = ""
        for present, weights, cuts in phases:
            for member, weight in zip(members, weights, strict=True):
                member.weight = weight
            now = [members[index] for index in sorted(present)]
            picker = POLICIES["rr"].build(now, picker, random.Random(1), 0.0)
            for cut in cuts:
                got += picks(picker, 1)
                if rebuilt and cut:
                    picker = POLICIES["rr"].build(now, picker, RNG, 0.0)
        return got

    assert sequence(rebuilt=True) == sequence(rebuilt=False)


def test_after_thousands_of_changes_nobody_is_owed_more_than_a_few_turns():
    rng = random.Random(5)
    members = backends(**dict.fromkeys("abcdefgh", 1))
    picker = None
    for _ in range(5000):
        for member in members:
            member.weight = rng.choice([1, 1, 1, 2, 5, 9])
        if rng.random() < 0.5:
            for member in members:
                member.weight = 1
        present = [member for member in members if rng.random() < 0.7] or members[:1]
        picker = POLICIES["rr"].build(present, picker, rng, 0.0)
        picks(picker, rng.randrange(7))
        owed = picker.owed().values()
        assert abs(sum(owed)) < 1e-3
        assert max(owed) - min(owed) < 2


def test_those_that_are_always_avoided_do_not_make_the_rest_unequal_in_a_short_run():
    """A retry avoids the failed one: of each round its turn goes to another one of the rest."""
    members = backends(a=1, b=1, c=1, d=1)
    picker = SmoothRotation(members, {})
    got = picks(picker, 12, members[:1])
    assert Counter(got) == {"b": 4, "c": 4, "d": 4}


def test_two_avoided_ones_leave_all_turns_to_the_rest_by_weight():
    members = backends(a=5, b=1, c=2, d=4)
    picker = SmoothRotation(members, {})
    counts = Counter(picks(picker, 1200, (members[0], members[1])))
    assert abs(counts["c"] - 400) <= 2
    assert abs(counts["d"] - 800) <= 2


@pytest.mark.parametrize("policy", POLICIES)
def test_who_is_avoided_but_is_no_member_changes_nothing(policy):
    members = backends(a=1, b=1, c=1)
    stranger = backends(x=1)
    plain, avoiding = (built(policy, members, random.Random(3)) for _ in range(2))
    left, right = random.Random(4), random.Random(4)
    for _ in range(50):
        assert plain.pick(ANY, 0.0, left, ()) is avoiding.pick(ANY, 0.0, right, stranger)
