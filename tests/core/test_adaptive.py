"""Adaptive limits in a pool: who is told what, what else bounds a backend, and what a limit outlives."""

import dataclasses

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import ADAPTIVE, AdminState
from twisted_lb.core.gradient import SAMPLES, START, AdaptiveRules
from twisted_lb.core.lease import Lease, LoadLease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.queue import Ticket
from twisted_lb.core.succession import Succession
from twisted_lb.core.weighing import SlowStart

RULES = AdaptiveRules()
S = 0.1


def adaptive(*texts, rules=RULES, **settings):
    return make_pool(
        *texts, checked=False, adaptive=rules, max_queued=100, queue_timeout_s=60.0, no_backend_s=60.0, **settings
    )


def serve(pool, now, rounds, latency_s=S, outcome=Outcome.OK, *, heard=True):
    """As many requests at a time as the pool takes, again and again; the moment after."""
    for _ in range(rounds):
        leases = []
        while isinstance(lease := pool.claim(ANY, now), Lease):
            leases.append(lease)
        pool.withdraw(lease)
        now += latency_s
        for one in leases:
            if heard:
                pool.responded(one, now)
            pool.settle(one, outcome, now)
    return now


def one_of(pool):
    [backend] = pool.backends.values()
    return backend


def test_a_pool_without_adaptive_limits_has_plain_leases_and_tells_nobody():
    pool, _ = make_pool("a:1", checked=False, max_in_flight=3)
    assert type(claim(pool)) is Lease
    assert (one_of(pool).gradient, one_of(pool).told) == (None, None)


@pytest.mark.parametrize("policy", ["rr", "least", "latency"])
def test_whatever_the_policy_is_the_limit_moves_and_its_load_is_what_it_would_be(policy):
    pool, _ = adaptive("a:1", policy=policy)
    backend = one_of(pool)
    assert backend.limit == START
    assert isinstance(claim(pool), LoadLease)
    serve(pool, 0.0, 100)
    assert backend.limit > START
    assert backend.limit == backend.gradient.limit
    assert type(backend.load) is type((loads := POLICIES[policy].loads(pool.counts)) and loads.of(backend.slot))


def test_what_is_beyond_the_limit_waits_and_is_granted_when_it_grows():
    pool, _ = adaptive("a:1")
    backend = one_of(pool)
    now = serve(pool, 0.0, 30)
    most = backend.limit
    leases = [claim(pool, now) for _ in range(most)]
    tickets = [pool.claim(ANY, now) for _ in range(100)]
    assert all(isinstance(one, Ticket) for one in tickets)
    for _ in range(100):
        if backend.limit > most:
            break
        now += S / most
        pool.responded(leases[0], now)
        pool.settle(leases.pop(0), Outcome.OK, now)
        if backend.limit == most:
            leases += [lease for _, lease in pool.grants(now) if isinstance(lease, Lease)]
            assert backend.in_flight == most
    granted = pool.grants(now)
    assert len(granted) == backend.limit - most + 1
    assert backend.in_flight == backend.limit


def test_a_limit_that_falls_cuts_nothing():
    pool, _ = adaptive("a:1", rules=AdaptiveRules(least=20, most=100))
    backend = one_of(pool)
    leases = [claim(pool) for _ in range(20)]
    pool.configure(dataclasses.replace(pool.settings, adaptive=AdaptiveRules(most=5)), 1.0)
    assert (backend.limit, backend.in_flight, backend.available) == (5, 20, False)
    for lease in leases[:15]:
        pool.settle(lease, Outcome.OK, 2.0)
    assert not backend.available
    pool.settle(leases[15], Outcome.OK, 2.0)
    assert backend.available
    assert all(lease.open for lease in leases[16:])


def test_each_backend_has_its_own():
    pool, _ = adaptive("a:1", "b:1")
    a, b = pool.backends.values()
    now = 0.0
    for _ in range(200):
        leases = []
        while isinstance(lease := pool.claim(ANY, now), Lease):
            leases.append(lease)
        pool.withdraw(lease)
        now += 1.0
        crowd = b.in_flight
        for one in leases:
            # b has two workers, a as many as anybody likes
            took = S if one.backend is a else S * max(1.0, crowd / 2)
            pool.responded(one, one.opened_at + took)
            pool.settle(one, Outcome.OK, now)
    assert a.limit > 3 * b.limit
    assert 2 <= b.limit <= 6


def test_the_least_of_it_and_an_agents_limit_holds():
    pool, _ = adaptive("a:1")
    backend = one_of(pool)
    backend.agent.limit = 3
    backend.bound(None, 0)
    assert (backend.limit, backend.gradient.limit) == (3, START)
    serve(pool, 0.0, 200)
    assert (backend.limit, backend.gradient.limit) == (3, START)
    backend.agent.limit = 500
    backend.bound(None, 0)
    assert backend.limit == START


def test_slow_start_is_a_part_of_it():
    pool, _ = adaptive("a:1", "b:1", "c:1", slow_start=SlowStart(60.0))
    backend = pool.backends["a:1"]
    pool.command(backend, AdminState.MAINT, 1.0)
    pool.command(backend, AdminState.READY, 2.0)
    assert backend.weighing.ramping
    assert (backend.limit, backend.most) == (1, START)


def test_an_operators_limit_stands_in_its_place_and_nothing_is_learnt_meanwhile():
    pool, _ = adaptive("a:1")
    backend = one_of(pool)
    now = serve(pool, 0.0, 50)
    learnt, windows = backend.gradient.limit, backend.gradient.windows
    [spec] = specs("a:1")
    pool.update([dataclasses.replace(spec, limit=2)], now)
    now = serve(pool, now, 300, 9.0)
    assert (backend.limit, backend.gradient.windows) == (2, windows)
    pool.update([spec], now)
    assert backend.limit == learnt


def test_it_goes_on_from_its_last_value_when_a_backend_is_back_or_the_policy_is_another_one():
    pool, _ = adaptive("a:1")
    backend = one_of(pool)
    now = serve(pool, 0.0, 50)
    learnt = backend.limit
    assert learnt > START
    pool.command(backend, AdminState.MAINT, now)
    pool.command(backend, AdminState.READY, now + 100)
    pool.choose_by(POLICIES["least"])
    assert (backend.limit, isinstance(claim(pool, now + 100), LoadLease)) == (learnt, True)


def test_the_same_server_under_another_name_keeps_it():
    pool, _ = adaptive("a:1")
    now = serve(pool, 0.0, 50)
    learnt = one_of(pool).limit
    [spec] = specs("a:1")
    succession = Succession()
    succession.heirs["b"] = "a:1"
    pool.update([dataclasses.replace(spec, name="b")], now, succession)
    assert (one_of(pool).name, one_of(pool).limit) == ("b", learnt)


def test_it_can_be_turned_on_and_off_while_requests_run():
    pool, _ = make_pool("a:1", checked=False, max_in_flight=50, policy="least")
    backend = one_of(pool)
    before = [claim(pool) for _ in range(2)]
    pool.configure(dataclasses.replace(pool.settings, max_in_flight=0, adaptive=RULES), 1.0)
    assert backend.limit == START
    during = [claim(pool, 1.0) for _ in range(2)]
    pool.configure(dataclasses.replace(pool.settings, max_in_flight=50, adaptive=None), 2.0)
    assert (backend.limit, backend.told) == (50, backend.load)
    for lease in (*before, *during):
        pool.responded(lease, 3.0)
        pool.settle(lease, Outcome.OK, 3.0)
    assert (backend.in_flight, pool.broken()) == (0, [])


def with_own(pool, now, **limits):
    """Give backends limits of their own."""
    pool.update(
        [dataclasses.replace(one, limit=limits.get(one.name.partition(":")[0])) for one in specs(*pool.backends)], now
    )


def numbered(*texts, **settings):
    return make_pool(*texts, checked=False, max_in_flight=3, max_queued=100, queue_timeout_s=60.0, **settings)


def test_a_backend_may_learn_its_own_beside_others_that_have_a_number():
    pool, told = numbered("a:1", "b:1", own_adaptive=AdaptiveRules(most=9))
    a, b = pool.backends.values()
    with_own(pool, 0.0, a=ADAPTIVE)
    assert str(told[-1]) == "p/a:1 has changed: limit 3 -> adaptive"
    assert (a.limit, b.limit, a.learns, b.learns) == (START, 3, True, False)
    serve(pool, 0.0, 200)
    assert (a.limit, b.limit, b.gradient, b.told) == (9, 3, None, None), "as the rules bound it"
    assert a.limit_why
    assert pool.broken() == []


def test_a_number_in_the_place_of_its_own_adaptive_limit_forgets_nothing():
    pool, told = numbered("a:1")
    backend = one_of(pool)
    with_own(pool, 0.0, a=ADAPTIVE)
    now = serve(pool, 0.0, 100)
    learnt, windows = backend.limit, backend.gradient.windows
    with_own(pool, now, a=2)
    assert (str(told[-1]), backend.limit) == ("p/a:1 has changed: limit adaptive -> 2", 2)
    now = serve(pool, now, 300, 9.0)
    assert backend.gradient.windows == windows
    with_own(pool, now, a=ADAPTIVE)
    assert (backend.limit, learnt > START) == (learnt, True)
    with_own(pool, now)
    assert (backend.limit, backend.gradient, backend.told) == (3, None, None)
    assert str(told[-1]) == "p/a:1 has changed: limit adaptive -> that of its pool"


def test_its_rules_and_its_pool_may_change_while_requests_run():
    pool, _ = numbered("a:1", "b:1")
    a, b = pool.backends.values()
    with_own(pool, 0.0, a=ADAPTIVE, b=2)
    lease = claim(pool)
    pool.configure(dataclasses.replace(pool.settings, own_adaptive=AdaptiveRules(most=5), adaptive=RULES), 1.0)
    now = serve(pool, 1.0, 100)
    assert (a.limit, b.limit, a.learns, b.learns) == (5, 2, True, False)
    pool.configure(dataclasses.replace(pool.settings, adaptive=None), now)
    assert (a.limit, b.limit, b.gradient) == (5, 2, None)
    pool.settle(lease, Outcome.OK, now)
    assert (pool.leases, pool.broken()) == (0, [])


def test_the_same_server_under_another_name_keeps_its_own_too():
    pool, _ = numbered("a:1")
    with_own(pool, 0.0, a=ADAPTIVE)
    now = serve(pool, 0.0, 100)
    learnt = one_of(pool).limit
    succession = Succession()
    succession.heirs["b"] = "a:1"
    [spec] = specs("a:1")
    pool.update([dataclasses.replace(spec, name="b", limit=ADAPTIVE)], now, succession)
    backend = one_of(pool)
    windows = backend.gradient.windows
    assert (backend.limit, type(claim(pool, now))) == (learnt, LoadLease)
    serve(pool, now, 100)
    assert backend.gradient.windows > windows, "and goes on learning"


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.CONNECT_TIMEOUT])
def test_who_answers_nobody_in_time_is_slow(outcome):
    pool, _ = adaptive("a:1")
    backend = one_of(pool)
    now = serve(pool, 0.0, 60)
    learnt, unloaded_s = backend.limit, backend.gradient.unloaded_s
    serve(pool, now, 30, 30 * S, outcome, heard=False)
    assert backend.limit < learnt / 2
    # A measurement that nobody answers goes on.
    assert backend.gradient.unloaded_s == unloaded_s


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.CLIENT_GONE, Outcome.CANCELLED, Outcome.STALE_REUSE])
def test_ends_that_tell_nothing_of_latency_move_nothing(outcome):
    pool, _ = make_pool("a:1", "b:1", checked=True, adaptive=RULES)
    for _ in range(3 * SAMPLES):
        pool.settle(claim(pool), outcome, 0.0)
        for backend in pool.backends.values():
            if backend.ejection.active:
                pool.observe_probe(backend, True, "x", 0.0)
                pool.observe_probe(backend, True, "x", 0.0)
    assert [one.gradient.windows for one in pool.backends.values()] == [0, 0]


def test_decisions_are_explained_by_the_limit_that_held():
    pool, _ = adaptive("a:1")
    serve(pool, 0.0, 60)
    [candidate] = pool.explain(ANY, 100.0).candidates
    assert candidate.limit == one_of(pool).limit > START
