"""Levels: priorities, backups and panic, by Envoy's tables, and what pools make of them."""

import math
import random
from collections import Counter

import pytest
from builders import claim, make_pool
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.address import parse_address
from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.attempts import Attempts
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.decision import recalled
from twisted_lb.core.events import LevelsShifted, PanicBegan, PanicEnded, PoolExhausted
from twisted_lb.core.lease import Lease
from twisted_lb.core.levels import Census, spread, spread_with_backups
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.standing import Skipped
from twisted_lb.core.weighing import SlowStart


def census(usable, whole=100, *, wanted=None, willing=None):
    wanted = whole if wanted is None else wanted
    return Census(whole, wanted, usable, wanted if willing is None else willing)


# Envoy's `priority.rst`. Of 25/25/20 it prints 36/36/28: what rounding leaves goes to the first level, by its code.
PRIORITIES = [
    ((100,), (100,)),
    ((100, 100), (100, 0)),
    ((72, 100), (100, 0)),
    ((71, 100), (99, 1)),
    ((50, 100), (70, 30)),
    ((25, 100), (35, 65)),
    ((0, 100), (0, 100)),
    ((72, 72), (100, 0)),
    ((71, 71), (99, 1)),
    ((50, 50), (70, 30)),
    ((25, 25), (50, 50)),
    ((100, 100, 100), (100, 0, 0)),
    ((72, 72, 100), (100, 0, 0)),
    ((71, 71, 100), (99, 1, 0)),
    ((50, 50, 100), (70, 30, 0)),
    ((25, 100, 100), (35, 65, 0)),
    ((25, 25, 100), (35, 35, 30)),
    ((25, 25, 20), (37, 35, 28)),
    ((0, 0), (0, 0)),
    ((0, 0, 3), (0, 0, 100)),
]


@pytest.mark.parametrize(("usable", "shares"), PRIORITIES)
def test_levels_share_as_envoys_do(usable, shares):
    assert spread([census(one) for one in usable]).shares == shares


# Envoy's `panic_threshold.rst`, threshold 50 %: healthy percents, shares, which panic. Of the rows 50/60, 25/100 and 5/65 it prints
# 50/50, 25/75 and 7/93; by its formula, and its code, they are these.
PANICS = [
    ((72, 72), (100, 0), (False, False)),
    ((71, 71), (99, 1), (False, False)),
    ((50, 60), (70, 30), (False, False)),
    ((25, 100), (35, 65), (False, False)),
    ((25, 25), (50, 50), (True, True)),
    ((5, 65), (8, 92), (True, False)),
    ((0, 0), (50, 50), (True, True)),
    ((0, 100), (0, 100), (False, False)),
    ((49,), (100,), (True,)),
    ((50,), (100,), (False,)),
]


@pytest.mark.parametrize(("usable", "shares", "panics"), PANICS)
def test_panic_goes_with_levels_as_envoys_does(usable, shares, panics):
    found = spread([census(one) for one in usable], 50)
    assert (found.shares, found.panics) == (shares, panics)


def test_where_all_levels_panic_it_counts_how_many_backends_they_have():
    """`recalculateLoadInTotalPanic`: by the number of hosts, and what rounding leaves is the first one's."""
    assert spread([census(1, 10), census(1, 20), census(0, 0)], 50).shares == (34, 66, 0)


def test_without_a_threshold_nobody_panics():
    assert spread([census(0), census(0)], 0).panics == (False, False)


def test_what_an_operator_has_taken_out_counts_as_missing_and_not_for_panic():
    """A deploy is no panic, but what is left bears less."""
    found = spread([census(2, 10, wanted=2), census(10, 10)], 50)
    assert (found.shares, found.panics) == ((28, 72), (False, False))


def test_backups_are_used_where_nobody_else_is_usable_and_only_then():
    assert spread_with_backups([census(1), census(0)], census(5)).shares == (100, 0, 0)
    assert spread_with_backups([census(0), census(0)], census(5)).shares == (0, 0, 100)
    assert spread_with_backups([census(0), census(0)], census(0)).shares == (0, 0, 0)


def test_backups_come_before_panic_in_the_levels():
    found = spread_with_backups([census(0)], census(5, 5), 50)
    assert (found.shares, found.panics) == ((0, 100), (False, False))
    found = spread_with_backups([census(0)], census(0, 5), 50)
    assert (found.shares, found.panics) == ((100, 0), (True, False))
    found = spread_with_backups([census(0, willing=0)], census(0, 5), 50)
    assert (found.shares, found.panics) == ((0, 100), (False, True))


@given(
    levels=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=5),
    percent=st.integers(0, 100),
)
def test_shares_are_all_or_nothing_and_nobody_has_any_who_has_nobody(levels, percent):
    counted = [census(min(usable, whole), whole) for usable, whole in levels]
    found = spread(counted, percent)
    assert sum(found.shares) in (0, 100)
    assert all(share >= 0 for share in found.shares)
    for one, share, panic in zip(counted, found.shares, found.panics, strict=True):
        assert not share or one.usable or panic
        assert not panic or one.fewer_than(percent)
    if any(one.usable for one in counted):
        assert sum(found.shares) == 100


# In a pool.


def members(**levels):
    """`a=0, b="backup"`: a backend of each level."""
    counted = []
    for name, level in levels.items():
        spec = BackendSpec.parse(f"{name}:1")
        backup = level == "backup"
        counted.append(BackendSpec(name, spec.address, priority=0 if backup else level, backup=backup))
    return counted


def leveled(policy="rr", now=0.0, *, checked=True, settings=None, **levels):
    pool, told = make_pool(policy=policy, checked=checked, **(settings or {}))
    pool.update(members(**levels), now)
    told.clear()
    return pool, told


def down(pool, *names, now=1.0):
    for name in names:
        for _ in range(3):
            pool.observe_probe(pool.backends[name], False, "status 503", now)


def up(pool, *names, now=2.0):
    for name in names:
        for _ in range(2):
            pool.observe_probe(pool.backends[name], True, "x", now)


def run(pool, count=100, now=5.0, ask=ANY):
    found = Counter()
    for _ in range(count):
        lease = pool.claim(ask, now)
        assert isinstance(lease, Lease)
        pool.settle(lease, Outcome.OK, now)
        found[lease.backend.name] += 1
    return found


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"first"}))
def test_a_backup_is_used_only_while_nobody_else_is_usable_whatever_the_policy(policy):
    pool, told = leveled(policy, a=0, b=0, s="backup", t="backup")
    assert set(run(pool)) == {"a", "b"}
    down(pool, "a")
    assert set(run(pool)) == {"b"}
    down(pool, "b")
    assert set(run(pool)) == {"s", "t"}
    up(pool, "a")
    assert set(run(pool)) == {"a"}
    assert [str(one) for one in told if isinstance(one, LevelsShifted)] == [
        "pool p uses the backups",
        "pool p uses level 0",
    ]
    assert not [one for one in told if isinstance(one, PoolExhausted)]


def test_levels_have_their_shares_by_chance():
    """Of two, one is usable: 70 % (Envoy). Binomial: five standard deviations."""
    pool, _ = leveled(a=0, b=0, c=1, d=1)
    assert set(run(pool)) == {"a", "b"}
    down(pool, "b")
    count = 4000
    found = run(pool, count)
    assert abs(found["a"] - 0.7 * count) < 5 * math.sqrt(count * 0.7 * 0.3)
    assert abs(found["c"] - found["d"]) <= 1


def test_turns_of_a_level_go_on_where_they_were():
    """A backup that was in use for a while does not make the primary begin anew."""
    pool, _ = leveled(a=0, b=0, c=0, s="backup")
    order = [claim(pool).backend.name for _ in range(4)]
    down(pool, "a", "b", "c")
    assert claim(pool, 2.0).backend.name == "s"
    up(pool, "a", "b", "c")
    assert [claim(pool, 3.0).backend.name for _ in range(3)] == [order[1], order[2], order[0]]
    pool.update(members(a=0, b=0, c=0, s="backup", t="backup"), 4.0)
    assert [claim(pool, 4.0).backend.name for _ in range(3)] == [order[1], order[2], order[0]]


def test_turns_go_on_when_levels_come_and_go():
    pool, _ = leveled(a=0, b=0, c=0)
    order = [claim(pool).backend.name for _ in range(4)]
    pool.update(members(a=0, b=0, c=0, s="backup"), 1.0)
    assert [claim(pool, 1.0).backend.name for _ in range(2)] == [order[1], order[2]]
    pool.update(members(a=0, b=0, c=0), 2.0)
    assert [claim(pool, 2.0).backend.name for _ in range(3)] == [order[0], order[1], order[2]]
    assert not any(one.standby for one in pool.backends.values())


def test_requests_with_a_key_stay_in_their_level():
    pool, _ = leveled(a=0, b=0, c=1, d=1)
    down(pool, "b")
    levels = {}
    for at in range(200):
        ask = Ask(key=key_of(b"%d" % at))
        levels.setdefault(ask.key, set()).update("01"[name in "cd"] for name in run(pool, 5, ask=ask))
    assert all(len(found) == 1 for found in levels.values())
    assert 30 < sum(found == {"1"} for found in levels.values()) < 90  # 30 % of 200 is 60


def test_a_retry_goes_to_a_backup_when_it_has_tried_everybody_else():
    """As nginx's does. What it has not tried comes first."""
    pool, _ = leveled(a=0, b=0, s="backup")
    a, b = pool.backends["a"], pool.backends["b"]
    assert claim(pool, tried=(a,)).backend is b
    lease = claim(pool, tried=(a, b))
    assert lease.backend.name == "s"
    told = recalled(lease)
    assert told.rule == "nobody was open in level 0, on to the backups: in turn: its turn, number 1 of 1"
    assert [one.backend_name for one in told.candidates if one.skipped is None] == ["s"]


QUEUE = {"max_in_flight": 1, "max_queued": 5, "queue_timeout_s": 10.0, "no_backend_s": 10.0}


def test_a_full_primary_queues_by_default_and_grants_go_to_it():
    pool, _ = leveled(a=0, b=0, s="backup", settings=QUEUE)
    first, _second = claim(pool), claim(pool)
    ticket = pool.claim(ANY, 0.0)
    assert isinstance(ticket, Ticket)
    assert not pool.has_room(())
    assert pool.grants(1.0) == []
    pool.settle(first, Outcome.OK, 2.0)
    [(granted, lease)] = pool.grants(2.0)
    assert granted is ticket
    assert isinstance(lease, Lease)
    assert lease.backend is first.backend


def test_a_full_primary_spills_where_that_is_wanted():
    pool, _ = leveled(a=0, b=0, c=1, s="backup", settings={**QUEUE, "spill": True})
    assert pool.has_room(())
    assert [claim(pool).backend.name for _ in range(4)][2:] == ["c", "s"]
    assert isinstance(pool.claim(ANY, 0.0), Ticket)


def test_without_a_queue_a_full_primary_refuses_rather_than_spill():
    pool, _ = leveled(a=0, s="backup", settings={"max_in_flight": 1})
    claim(pool)
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL


def test_levels_that_are_in_use_help_one_another_before_anybody_waits():
    pool, _ = leveled(a=0, b=0, c=1, d=1, settings=QUEUE)
    down(pool, "b")
    assert {claim(pool).backend.name for _ in range(3)} == {"a", "c", "d"}
    assert isinstance(pool.claim(ANY, 0.0), Ticket)


def test_whoever_waits_is_served_by_the_backups_when_the_primary_goes():
    pool, _ = leveled(a=0, s="backup", settings=QUEUE)
    claim(pool)
    ticket = pool.claim(ANY, 0.0)
    assert isinstance(ticket, Ticket)
    down(pool, "a")
    [(granted, lease)] = pool.grants(2.0)
    assert (granted, lease.backend.name) == (ticket, "s")


def test_a_client_with_a_connection_of_its_own_stays_on_a_backup():
    pool, _ = leveled(a=0, s="backup")
    lease = pool.claim_on(pool.backends["s"], ANY, 1.0)
    assert isinstance(lease, Lease)
    assert recalled(lease).picked == "s"


def test_in_panic_a_client_with_a_connection_of_its_own_stays_at_whom_panic_uses():
    pool, _ = panicking(a=0, b=0, c=0, d=0)
    for _ in range(3):
        pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    assert pool.panics
    out = next(one for one in pool.backends.values() if not one.usable)
    lease = pool.claim_on(out, ANY, 0.1)
    assert isinstance(lease, Lease)
    assert not lease.trial
    pool.command(out, AdminState.DRAIN, 0.2)
    assert pool.claim_on(out, ANY, 0.2) is None


def test_an_ejected_primary_is_tried_while_backups_serve_and_is_left_to_when_it_answers():
    pool, told = leveled(a=0, s="backup", checked=False)
    pool.settle(claim(pool, 1.0), Outcome.REFUSED, 1.0)
    assert set(run(pool, 10, now=1.5)) == {"s"}
    trial = claim(pool, 2.5)
    assert (trial.backend.name, trial.trial) == ("a", True)
    assert recalled(trial).rule.startswith("level 0 has nobody usable, and a trial is due: ")
    assert set(run(pool, 10, now=2.6)) == {"s"}, "one trial at a time"
    pool.settle(trial, Outcome.OK, 2.7)
    assert set(run(pool, 10, now=2.8)) == {"a"}
    assert [one.in_use for one in told if isinstance(one, LevelsShifted)] == ["the backups", "level 0"]


def test_an_ejected_backup_is_tried_when_it_is_needed_and_not_while_primaries_serve():
    pool, _ = leveled(a=0, s="backup", checked=False)
    down(pool, "a")
    pool.settle(claim(pool, 1.0), Outcome.REFUSED, 1.0)
    up(pool, "a", now=1.5)
    assert set(run(pool, 10, now=3.0)) == {"a"}, "its trial is due, and a primary has everything"
    down(pool, "a", now=4.0)
    trial = claim(pool, 4.5)
    assert (trial.backend.name, trial.trial) == ("s", True)


@pytest.mark.parametrize("spill", [False, True], ids=["waits", "spills"])
@pytest.mark.parametrize("policy", ["ring", "maglev"])
@pytest.mark.parametrize("how", ["added", "ready again"])
def test_a_backup_stands_by_though_the_only_usable_primary_is_in_no_table_yet(policy, spill, how):
    """Tables that take long are built at a tick: until then the one who came is in none, and its level is in use all the same."""
    pool, _ = leveled(
        policy,
        settings={"spill": spill, "max_queued": 1, "queue_timeout_s": 1.0, "no_backend_s": 1.0},
        a=0,
        b=0,
        s="backup",
    )
    if how == "added":
        pool.update(members(a=0, b=0, c=0, s="backup"), 2.0)
    else:
        pool.update(members(a=0, b=0, c=0, s="backup"), 0.5)
        pool.command(pool.backends["c"], AdminState.DRAIN, 0.6)
        pool.tick(0.7)
        pool.command(pool.backends["c"], AdminState.READY, 2.0)
    down(pool, "a", "b")
    assert pool.explain(ANY, 2.1).picked == "c"
    assert set(run(pool, now=2.1)) == {"c"}


def test_an_explanation_says_why_backups_stand_by():
    pool, _ = leveled(a=0, b=0, c=1, s="backup")
    down(pool, "b")
    told = pool.explain(ANY, 2.0)
    found = {one.backend_name: (one.skipped, one.reason) for one in told.candidates}
    assert found["s"] == (Skipped.STANDBY, "backup: 1 of level 0 and 1 of level 1 are usable")
    assert found["a"] == (None, "")
    lease = claim(pool, 2.0)
    assert (recalled(lease).rule, recalled(lease).picked) == (told.rule, told.picked)
    assert "% of the requests (drew " in told.rule
    up(pool, "b")
    told = pool.explain(ANY, 3.0)
    assert told.rule.startswith("level 0 has all requests: in turn: ")
    assert {one.backend_name for one in told.skipped} == {"c", "s"}


def test_priorities_and_weights_are_followed_live():
    pool, _ = leveled(a=0, b=1)
    assert set(run(pool, 5)) == {"a"}
    pool.update(members(a=1, b=0), 6.0)
    assert set(run(pool, 5, now=6.0)) == {"b"}
    pool.command(pool.backends["b"], AdminState.DRAIN, 7.0)
    assert set(run(pool, 5, now=7.0)) == {"a"}


def test_only_backups_are_a_pool_like_any_other():
    pool, _ = leveled(s="backup", t="backup")
    assert run(pool, 10) == {"s": 5, "t": 5}


def test_a_pool_with_one_level_has_the_picker_of_its_policy_and_nothing_around_it():
    pool, _ = make_pool("a:1", "b:1")
    claim(pool)
    assert type(pool._selection.picker).__name__ == "Rotation"


# Panic.


def panicking(policy="rr", *, even_down=False, checked=False, percent=50, **levels):
    return leveled(policy, checked=checked, settings={"panic_percent": percent, "panic_even_down": even_down}, **levels)


def eject(pool, *names, now=1.0):
    for name in names:
        others = tuple(one for one in pool.backends.values() if one.name != name)
        lease = claim(pool, now, others)
        assert lease.backend.name == name
        pool.settle(lease, Outcome.REFUSED, now, "connection refused")


@pytest.mark.parametrize("policy", sorted(POLICIES.keys() - {"first"}))
def test_in_panic_ejected_ones_are_used_like_the_others_whatever_the_policy(policy):
    """Four of equal weight: a quarter each. Binomial: five standard deviations. Trials are not due yet."""
    pool, told = panicking(policy, a=0, b=0, c=0, d=0)
    eject(pool, "a", "b")
    assert set(run(pool, 20, now=1.1)) == {"c", "d"}, "two of four are not fewer than half"
    assert not told.take()[2:]
    eject(pool, "c")
    found = run(pool, 2000, now=1.2)
    assert set(found) == {"a", "b", "c", "d"}
    if policy not in ("latency", "prequal"):  # to whom failures count as slow
        assert all(abs(number - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for number in found.values())
    assert [str(one) for one in told if isinstance(one, PanicBegan | PanicEnded)] == [
        "pool p is in panic: 1 of 4 backends is usable, others are used too"
    ]
    assert pool.panics


def test_panic_ends_when_enough_are_usable_again():
    pool, told = panicking(a=0, b=0, c=0, d=0, checked=True)
    eject(pool, "a", "b", "c")
    assert set(run(pool, 8)) == {"a", "b", "c", "d"}
    up(pool, "a")
    assert set(run(pool, 8)) == {"a", "d"}
    assert [type(one) for one in told if isinstance(one, PanicBegan | PanicEnded)] == [PanicBegan, PanicEnded]
    assert not pool.panics


def test_panic_leaves_out_whom_the_operator_has_taken_out_and_whom_checks_have_found_unhealthy():
    pool, _ = panicking(a=0, b=0, c=0, d=0, e=0, checked=True)
    pool.command(pool.backends["a"], AdminState.MAINT, 0.5)
    pool.command(pool.backends["b"], AdminState.DRAIN, 0.5)
    down(pool, "c")
    eject(pool, "d")
    assert set(run(pool, 20)) == {"d", "e"}


def test_panic_uses_those_too_that_are_down_where_a_second_setting_says_so():
    pool, _ = panicking(a=0, b=0, c=0, d=0, checked=True, even_down=True)
    pool.command(pool.backends["a"], AdminState.MAINT, 0.5)
    down(pool, "c", "b")
    assert set(run(pool, 30)) == {"b", "c", "d"}
    told = pool.explain(ANY, 6.0)
    found = {one.backend_name: (one.skipped, one.panic, one.reason) for one in told.candidates}
    assert found["b"] == (None, True, "status 503")
    assert found["a"][0] is Skipped.ADMIN
    assert found["d"] == (None, False, "")


def test_whoever_goes_down_in_panic_is_out_all_the_same():
    pool, _ = panicking(a=0, b=0, c=0, d=0, checked=True)
    eject(pool, "a", "b", "c")
    down(pool, "a")
    assert set(run(pool, 20)) == {"b", "c", "d"}


def test_in_panic_with_nobody_usable_requests_go_out_instead_of_waiting():
    pool, _ = panicking(a=0, b=0, checked=True)
    eject(pool, "a", "b")
    assert pool.exhausted
    assert set(run(pool, 4)) == {"a", "b"}


def test_in_panic_whoever_is_refused_goes_on_to_others_that_are_out_instead_of_waiting():
    pool, _ = panicking(a=0, b=0, checked=True)
    attempts = Attempts(pool, RetryRules(2, frozenset()), ANY, idempotent=True)
    eject(pool, "a", "b")
    first = attempts.begin(1.1)
    assert isinstance(first, Lease)
    assert attempts.current is not None
    attempts.ended(attempts.current, Outcome.REFUSED, 1.1)
    second = attempts.again(Outcome.REFUSED, 1.1, replayable=True)
    assert isinstance(second, Lease)
    assert second.backend is not first.backend
    attempts.ended(attempts.current, Outcome.REFUSED, 1.1)
    assert attempts.again(Outcome.REFUSED, 1.1, replayable=True) is Refusal.NO_BACKEND


def test_in_panic_whoever_is_refused_by_the_only_one_asks_it_as_often_as_it_may_and_no_more():
    waits = {"panic_percent": 50, "max_queued": 10, "no_backend_s": 5.0}
    pool, _ = leveled("rr", checked=True, settings=waits, a=0)
    eject(pool, "a")
    attempts = Attempts(pool, RetryRules(2, frozenset()), ANY, idempotent=True)
    verdict = attempts.begin(1.1)
    asked = 0
    while isinstance(verdict, Lease) and asked < 10:
        asked += 1
        assert attempts.current is not None
        attempts.ended(attempts.current, Outcome.REFUSED, 1.1)
        verdict = attempts.again(Outcome.REFUSED, 1.1, replayable=True)
        if isinstance(verdict, Ticket):
            # At once, since panic uses it as before: no time is between two of them.
            ((ticket, verdict),) = pool.grants(1.1)
            assert ticket is attempts.waiting
            attempts.granted(ticket, verdict, 1.1)
    assert (asked, verdict) == (3, None)


def test_a_trial_that_is_due_is_made_in_panic_too():
    pool, _ = panicking(a=0, b=0, c=0)
    eject(pool, "a", "b")
    found = run(pool, 6, now=2.5)  # after a second each
    assert set(found) == {"a", "b", "c"}
    assert not any(one.ejection.active for one in pool.backends.values())
    assert not pool.panics


def test_a_failure_in_panic_is_no_new_ejection():
    pool, told = panicking(a=0, b=0, checked=True)
    eject(pool, "a", "b")
    told.clear()
    pool.settle(claim(pool, 2.0), Outcome.REFUSED, 2.0)
    assert told == []


def test_a_threshold_that_is_set_or_taken_back_holds_at_once():
    pool, _ = panicking(percent=0, a=0, b=0, c=0, checked=True)
    eject(pool, "a", "b")
    assert set(run(pool, 6)) == {"c"}
    pool.configure(PoolSettings(panic_percent=50), 6.0)
    assert set(run(pool, 6, now=6.0)) == {"a", "b", "c"}
    pool.configure(PoolSettings(), 7.0)
    assert set(run(pool, 6, now=7.0)) == {"c"}
    assert not pool.panics


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    percent=st.sampled_from([0, 30, 50, 100]),
    even_down=st.booleans(),
    spill=st.booleans(),
    levels=st.lists(st.sampled_from([0, 0, 1, 2, "backup"]), min_size=1, max_size=6),
    steps=st.lists(
        st.tuples(st.sampled_from(["down", "up", "refused", "maint", "ready", "claim"]), st.integers(0, 5)), max_size=30
    ),
)
def test_nobody_is_picked_who_must_not_be_and_somebody_is_where_somebody_may(
    policy, percent, even_down, spill, levels, steps
):
    """Never who is out for the operator, or down unless panic covers that; and a standby only where the rest has nobody for it."""
    settings = {"panic_percent": percent, "panic_even_down": even_down, "spill": spill}
    names = dict(zip("abcdef", levels, strict=False))
    pool, _ = leveled(policy, settings=settings, **names)
    for at, (what, which) in enumerate(steps):
        now = 1.0 + at
        backend = list(pool.backends.values())[which % len(names)]
        if what in ("down", "up"):
            (down if what == "down" else up)(pool, backend.name, now=now)
        elif what in ("maint", "ready"):
            pool.command(backend, AdminState(what), now)
        verdict = pool.claim(ANY, now)
        usable = [one for one in pool.backends.values() if one.usable]
        if not isinstance(verdict, Lease):
            assert not usable
            continue
        picked = verdict.backend
        assert picked.admin is AdminState.READY
        assert picked.health.up or (even_down and pool.panics)
        assert picked.usable or pool.panics
        assert not picked.standby
        if picked.level > 128:
            assert not any(one.usable and one.level <= 128 for one in usable)
        pool.settle(verdict, Outcome.REFUSED if what == "refused" else Outcome.OK, now)
        assert pool.broken() == []
        assert abs(sum(pool.meant().values()) - 1.0) < 1e-9 or not any(
            one.usable or one.standing.panic for one in pool.backends.values()
        )


def test_a_primary_that_returns_with_a_slow_start_has_its_level_again():
    """Its ramp begins in that moment, which does not hide from the levels that it is back."""
    settings = PoolSettings(1, 1, slow_start=SlowStart(5.0))
    pool = Pool("p", POLICIES["rr"], settings, random.Random(1), lambda _event: None)
    pool.update([BackendSpec.parse("a:80"), BackendSpec("b", parse_address("b:80"), backup=True)], 0.0)
    pool.observe_probe(pool.backends["a:80"], False, "down", 1.0)
    assert pool.levels.shares == (0, 100)
    pool.observe_probe(pool.backends["a:80"], True, "up", 2.0)
    assert pool.levels.shares == (100, 0)
