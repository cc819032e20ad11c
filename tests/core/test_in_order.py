"""First available: in order, full ones passed over."""

import random

from builders import backends, built, claim, make_pool

from twisted_lb.core.ask import ANY
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES

RNG = random.Random(1)


def test_all_go_to_the_first_while_it_has_room_and_the_next_ones_when_it_is_full():
    pool, _ = make_pool("a:1", "b:1", "c:1", policy="first", max_in_flight=2)
    leases = [claim(pool) for _ in range(6)]
    assert [lease.backend.name for lease in leases] == ["a:1", "a:1", "b:1", "b:1", "c:1", "c:1"]
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
    pool.settle(leases[2], Outcome.OK, 0.0)
    assert claim(pool).backend.name == "b:1"
    pool.settle(leases[0], Outcome.OK, 0.0)
    assert claim(pool).backend.name == "a:1"


def test_who_is_down_or_was_tried_is_passed_over():
    pool, _ = make_pool("a:1", "b:1", "c:1", policy="first", checked=False)
    a, b, _ = pool.backends.values()
    assert claim(pool, tried=(a,)).backend is b
    lease = claim(pool)
    assert lease.backend is a
    pool.settle(lease, Outcome.REFUSED, 0.0, "refused")
    assert claim(pool).backend is b
    # Its one trial, when that is due.
    assert claim(pool, now=60.0).backend is a
    assert claim(pool, now=60.0).backend is b


def test_the_order_is_that_of_the_configuration_whatever_the_weights_are():
    members = backends(a=1, b=9, c=5)
    assert built("first", members).pick(ANY, 0.0, RNG, ()) is members[0]
    picker = POLICIES["first"].build(members[::-1], built("first", members), RNG, 0.0)
    assert picker.pick(ANY, 0.0, RNG, ()) is members[2]


def test_it_says_how_many_were_passed_over():
    members = backends(a=1, b=1, c=1)
    picker = built("first", members)
    assert [(one.name, place) for one, place in picker.ranking(ANY, 0.0)] == [
        ("a:80", 0.0),
        ("b:80", 1.0),
        ("c:80", 2.0),
    ]
    told = []
    for tried in ((), members[:1], members[:2], members):
        picked = picker.pick(ANY, 0.0, RNG, tried)
        told.append(picker.recalled(picker.mark, picked).rule)
    assert told == [
        "first in order: the first one was open",
        "first in order: number 2 of 3, the one before it was full or out",
        "first in order: number 3 of 3, the 2 before it were full or out",
        "first in order: none of 3 was open",
    ]
    assert [one.passed_as_tried for one in members] == [3, 2, 1]


def test_who_stands_behind_an_open_one_is_tried_when_its_time_is_over_once():
    pool, _ = make_pool("a:1", "b:1", "c:1", policy="first", checked=False, max_in_flight=1)
    first, second = claim(pool), claim(pool)
    assert second.backend.name == "b:1"
    pool.settle(second, Outcome.REFUSED, 0.0, "refused")
    pool.settle(first, Outcome.OK, 0.0)
    assert claim(pool, now=0.5).backend.name == "a:1"
    pool.settle(pool_lease := claim(pool, now=0.5), Outcome.OK, 0.5)
    assert pool_lease.backend.name == "c:1"
    said = pool.explain(ANY, 2.0)
    assert (said.picked, said.trial) == ("b:1", True)
    assert said.rule == "a trial was due: one request finds out whether it is back, wherever it stands"
    trial = claim(pool, now=2.0)
    assert (trial.backend.name, trial.trial) == ("b:1", True)
    assert claim(pool, now=2.0).backend.name == "c:1"
    pool.settle(trial, Outcome.OK, 2.1)
    assert pool.backends["b:1"].usable
