"""The kit that tries policies out: all of ours pass, and each way to be broken is caught, in words that say what and where."""

import random
import re
from itertools import count

import pytest

from twisted_lb.core.pickers import BY_LOAD, LOADS, POLICIES, policy_of
from twisted_lb.core.pickers.base import Picker
from twisted_lb.sim import Farm
from twisted_lb.testing import check_policy

# Where latencies are compared, weight alone does not say who gets what, not even of idle members.
BY_LATENCY = ("peak_ewma", "hot_cold")
WITHIN = {"latency": None, "prequal": None, "first": None}


@pytest.mark.parametrize("name", POLICIES)
def test_each_built_in_holds(name):
    check_policy(name, within=WITHIN.get(name, 2.0))


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("choose", BY_LOAD)
def test_each_choice_by_each_load_holds(choose, load):
    check_policy(policy_of(choose, load), within=None if load in BY_LATENCY else 2.0, seed=2)


class Good:
    """Fewest requests in flight for its weight, ties by chance."""

    def __init__(self, members, previous=None):
        self.members = members

    def pick(self, ask, now, rng, tried):
        open_ = [one for one in self.members if one.open_to(tried)]
        return min(
            open_, key=lambda one: (one.in_flight / one.weight, rng.random() ** (1 / one.weight) * -1), default=None
        )


class Zoned(Good):
    """Goes by a label."""

    def __init__(self, members, previous=None):
        super().__init__(members)
        self.near = [one for one in members if one.labels["zone"] == "here"]

    def pick(self, ask, now, rng, tried):
        near = [one for one in self.near if one.open_to(tried)] or [one for one in self.members if one.open_to(tried)]
        return rng.choice(near) if near else None


class Hearing(Good):
    """Counts what its members have in flight by itself, and asserts that it hears of each end."""

    def __init__(self, members, previous=None):
        super().__init__(members)
        self.open = dict(previous.open) if previous else {}

    def leased(self, member, cost, now):
        self.open[member] = self.open.get(member, 0) + 1

    def settled(self, member, cost, outcome, elapsed_s, now):
        self.open[member] -= 1
        assert self.open[member] >= 0

    def load(self, member, now):
        return self.open.get(member, 0) / member.weight


def test_good_ones_hold():
    check_policy(Good)
    check_policy(lambda members, previous: Good(members), seed=7)
    check_policy(Zoned, within=None, labels=[{"zone": "here"}, {"zone": "there"}])


def test_one_that_hears_holds_and_is_told_all_ends():
    check_policy(Hearing)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, f"policy should be one of {', '.join(POLICIES)}, a PolicyTable, a Policy or package.module:Class, not 5"),
        ("leastconn", f"policy should be one of {', '.join(POLICIES)}, not 'leastconn'; did you mean \"least\"?"),
        ("nowhere:Mine", "policy nowhere:Mine: no module nowhere, neither where Python looks"),
        (
            None,
            f"policy should be one of {', '.join(POLICIES)}, a PolicyTable, a Policy or package.module:Class, not None",
        ),
    ],
)
def test_what_is_no_policy_is_told_with_what_is_allowed_to_who_tries_or_simulates_it(given, said):
    for tried in (check_policy, Farm):
        with pytest.raises(ValueError, match="policy") as caught:
            tried(given)
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)


# Deliberately broken ones.


class NoPick:
    def __init__(self, members):
        pass


class Raises(Good):
    def pick(self, ask, now, rng, tried):
        if len(tried) == 3:
            raise KeyError("zone")
        return super().pick(ask, now, rng, tried)


class NotMade(Good):
    def __init__(self, members, previous=None):
        super().__init__(members)
        if len(members) == 1:
            raise ValueError("one is too few")


class Names(Good):
    def pick(self, ask, now, rng, tried):
        return super().pick(ask, now, rng, tried).name


class IgnoresTried(Good):
    def pick(self, ask, now, rng, tried):
        return super().pick(ask, now, rng, ())


class IgnoresHealth(Good):
    def pick(self, ask, now, rng, tried):
        return rng.choice([one for one in self.members if one not in tried])


class GivesUp(Good):
    def pick(self, ask, now, rng, tried):
        chosen = rng.choice(self.members)
        return chosen if chosen.open_to(tried) else None


class Keeps(Good):
    """Goes on with members that have left."""

    def __init__(self, members, previous=None):
        super().__init__(previous.members if previous else members)


class ByOrder(Good):
    """Takes the first of those that are alike (herd)."""

    def pick(self, ask, now, rng, tried):
        return min((one for one in self.members if one.open_to(tried)), key=lambda one: one.in_flight, default=None)


class IgnoresWeights(Good):
    def pick(self, ask, now, rng, tried):
        open_ = [one for one in self.members if one.open_to(tried)]
        return rng.choice(open_) if open_ else None


class Starves(Good):
    def pick(self, ask, now, rng, tried):
        open_ = [one for one in self.members if one.open_to(tried)]
        liked = [one for one in open_ if one.name != "m0"] or open_
        return rng.choices(liked, [one.weight for one in liked])[0] if liked else None


class Quadratic(Good):
    def pick(self, ask, now, rng, tried):
        for _ in self.members:
            for _ in self.members[::2]:
                pass
        return super().pick(ask, now, rng, tried)


class Slow(Good):
    def pick(self, ask, now, rng, tried):
        for _ in range(10_000):
            pass
        return super().pick(ask, now, rng, tried)


class Grows(Good):
    """Looks at all it has ever done."""

    def __init__(self, members, previous=None):
        super().__init__(members)
        self.done = []

    def pick(self, ask, now, rng, tried):
        self.done.append(now)
        for _ in self.done[-100_000:]:
            pass
        return super().pick(ask, now, rng, tried)


class OwnChance(Good):
    def pick(self, ask, now, rng, tried):
        return super().pick(ask, now, random, tried)


CLOCK = count()


class OwnTime(Good):
    def pick(self, ask, now, rng, tried):
        open_ = [one for one in self.members if one.open_to(tried)]
        weighted = [one for one in open_ for _ in range(int(one.weight))]
        return weighted[next(CLOCK) * 7919 % 104729 % len(weighted)] if weighted else None


SHARED = {}


class Shared(Good):
    """What it remembers is shared with its copies."""

    def pick(self, ask, now, rng, tried):
        SHARED["picks"] = SHARED.get("picks", 0) + 1
        open_ = [one for one in self.members if one.open_to(tried)]
        weighted = [one for one in open_ for _ in range(int(one.weight))]
        return weighted[(SHARED["picks"] * 7919 + rng.getrandbits(16)) % len(weighted)] if weighted else None


class BadHook(Good):
    def settled(self, member, cost, outcome, elapsed_s, now):
        if outcome.name == "TIMED_OUT":
            raise ValueError("late")


class ForgetsItsLeases(Hearing):
    """Loses on each rebuild what it knows of members."""

    def __init__(self, members, previous=None):
        super().__init__(members)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NoPick, r"NoPick has no method pick\(ask, now, rng, tried\)"),
        (Raises, r"Raises: raised KeyError: 'zone' \(test_policies\.py:\d+\) \(\w+ alone is open, the others were tried; pick \d+;"),
        (NotMade, r"NotMade: cannot be made: it raised ValueError: one is too few \(test_policies\.py:\d+\) \(members come, go, "),
        (Names, r"Names: returned 'm\d', which is no member \(m0 alone is open"),
        (IgnoresTried, r"IgnoresTried: returned m\d, which was tried before \(m0 alone is open, the others were tried; "),
        (IgnoresHealth, r"IgnoresHealth: returned m\d, which is not available \(m0 alone is open, the others are down or drained; "),
        (GivesUp, r"GivesUp: returned None while somebody was open \(m0 alone is open"),
        (Keeps, r"Keeps: returned (<Member m\d, .*>, which is no member|None while somebody was open) \(members come, go"),
        (ByOrder, r"ByOrder: starves: m1 got 0\.0% of 2000 picks, its weight means 20\.0% \(one request at a time, weights 1, 1, 1, 1, 1; "),
        (IgnoresWeights, r"IgnoresWeights: m0 got 2\d\.\d% of 2000 picks, its weight means 10\.0% \(one request at a time, weights 1, 2, 3, 4; "),
        (Starves, r"Starves: starves: m0 got 0\.0% of 2000 picks, its weight means 20\.0% \(one request at a time"),
        (Quadratic, r"Quadratic: a pick among 400 members takes \d+ steps of the interpreter, among 50 \d+: more than in proportion \(400 members"),
        (Slow, r"Slow: a pick takes \d+ steps of the interpreter, at most 20000 are fine \(50 members"),
        (Grows, r"Grows: a pick takes \d+ steps of the interpreter after 2000 others, \d+ before: it gets slower \(50 members"),
        (OwnChance, r"OwnChance: picks (m\d+|nobody), and before (m\d+|nobody): it goes by chance or time of its own"),
        (OwnTime, r"OwnTime: picks (m\d+|nobody), and before (m\d+|nobody): it goes by chance or time of its own"),
        (Shared, r"Shared: (picks|`explain` says) "),
        (BadHook, r"BadHook: settled\(\) raised ValueError: late \(test_policies\.py:\d+\) \(members come, go, fail and fill up"),
        (ForgetsItsLeases, r"ForgetsItsLeases: settled\(\) raised KeyError: <Member m\d+, .*> \(test_policies\.py:\d+\) \(members come, go"),
    ],
)  # fmt: skip
def test_each_way_to_be_broken_is_caught(kind, said):
    with pytest.raises(AssertionError) as caught:
        check_policy(kind)
    text = str(caught.value)
    assert re.match(said, text), text
    assert "\n" not in text
    assert kind is NoPick or text.endswith("; check_policy(…, seed=1))")


# Policies that are written against the pool itself, and have nobody between.


class Unguarded(Picker):
    """Picks whoever is there."""

    def __init__(self, members):
        super().__init__()
        self.members = members

    def pick(self, ask, now, rng, tried):
        return rng.choice(self.members)


class Nobody(Unguarded):
    def pick(self, ask, now, rng, tried):
        return None


def raw(picker):
    class Raw:
        describe, eager, keyed = "raw", True, False

        def loads(self, counts):
            return None

        def build(self, members, previous, rng, now):
            return picker(members)

    return Raw()


@pytest.mark.parametrize(
    ("picker", "said"),
    [
        (Unguarded, r"raw: picked m\d, and m0 were open \(m0 alone is open"),
        (Nobody, r"raw: picked nobody, and m0 were open \(m0 alone is open"),
    ],
)
def test_a_picker_of_the_pool_itself_is_tried_out_too(picker, said):
    with pytest.raises(AssertionError, match=said):
        check_policy(raw(picker))


def test_what_it_draws_follows_from_the_seed_and_chance_outside_is_left_as_it_was():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    texts = []
    for seed in (1, 1, 2):
        with pytest.raises(AssertionError) as caught:
            check_policy(IgnoresWeights, seed=seed)
        texts.append(str(caught.value))
    assert texts[0] == texts[1] != texts[2]
    assert random.random() == expected
