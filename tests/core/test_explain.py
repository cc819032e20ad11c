"""Why a backend is picked: read off what picks, so that it cannot lie."""

import random

import pytest
from builders import CountingPolicy, claim, make_pool, specs
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState
from twisted_lb.core.decision import Candidate, Decision, Skipped
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings


def test_each_reason_has_its_word():
    pool, _ = make_pool("admin:1", "down:1", "ejected:1", "full:1", "tried:1", "free:1", max_in_flight=1)
    leases = {lease.backend.name: lease for lease in (claim(pool) for _ in range(6))}
    for name in ("admin:1", "down:1", "tried:1", "free:1"):
        pool.settle(leases[name], Outcome.OK, 0.0)
    pool.settle(leases["ejected:1"], Outcome.REFUSED, 0.0)
    pool.observe_probe(pool.backends["down:1"], False, "x", 0.0)
    pool.command(pool.backends["admin:1"], AdminState.MAINT, 0.0)
    decision = pool.explain(ANY, 0.0, (pool.backends["tried:1"],))
    assert {one.backend_name: one.skipped for one in decision.candidates} == {
        "admin:1": Skipped.ADMIN,
        "down:1": Skipped.DOWN,
        "ejected:1": Skipped.EJECTED,
        "full:1": Skipped.FULL,
        "tried:1": Skipped.TRIED,
        "free:1": None,
    }
    assert [one.rank is None for one in decision.candidates if one.skipped] == [True] * 5
    assert (decision.pool, decision.picked, decision.trial, decision.waits) == ("p", "free:1", False, False)


def test_turns_are_ranked_by_how_far_away_they_are():
    pool, _ = make_pool("a:1", "b:1", "c:1")
    first = claim(pool).backend.name
    order = ["a:1", "b:1", "c:1"] * 2
    at = order.index(first) + 1
    assert pool.explain(ANY, 0.0) == Decision(
        "p",
        order[at],
        trial=False,
        waits=False,
        candidates=tuple(Candidate(name, None, float(away)) for away, name in enumerate(order[at : at + 3])),
    )


def test_unequal_turns_are_ranked_by_what_each_is_owed():
    pool, _ = make_pool("a:1,weight=2", "b:1")
    for _ in range(6):
        decision = pool.explain(ANY, 0.0)
        assert decision.candidates[0].backend_name == decision.picked == claim(pool).backend.name
        ranks = [one.rank for one in decision.candidates]
        assert ranks == sorted(ranks, reverse=True)
        assert sum(ranks) == pytest.approx(1.0)


def test_chance_is_ranked_by_the_share_of_each():
    pool, _ = make_pool("a:1", "b:1,weight=3", policy="rand")
    assert [(one.backend_name, one.rank) for one in pool.explain(ANY, 0.0).candidates] == [("b:1", 0.75), ("a:1", 0.25)]


def test_nobody_left_is_no_pick_and_a_queue_is_a_wait():
    pool, _ = make_pool("a:1", max_in_flight=1, max_queued=1, queue_wait_s=1.0)
    claim(pool)
    decision = pool.explain(ANY, 0.0)
    assert (decision.picked, decision.waits) == (None, True)
    pool.claim(ANY, 0.0)
    assert not pool.explain(ANY, 0.0).waits  # the queue is full
    pool.update([], 0.0)
    assert pool.explain(ANY, 0.0) == Decision("p", None, trial=False, waits=False, candidates=())


def test_a_trial_that_is_due_is_said_to_be_one():
    pool, _ = make_pool("a:1", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    assert pool.explain(ANY, 0.5).candidates[0].skipped is Skipped.EJECTED
    decision = pool.explain(ANY, 1.0)
    assert (decision.picked, decision.trial) == ("a:1", True)
    assert claim(pool, 1.0).trial


def test_who_is_new_to_a_policy_that_takes_long_has_no_rank_yet():
    pool = Pool("p", CountingPolicy(eager=False), PoolSettings(), random.Random(1), lambda event: None)
    pool.update(specs("a:1"), 0.0)
    claim(pool)
    pool.update(specs("b:1"), 1.0)
    assert pool.explain(ANY, 1.0) == Decision(
        "p", None, trial=False, waits=False, candidates=(Candidate("b:1", None, None),)
    )
    assert pool.claim(ANY, 1.0) is Refusal.NO_BACKEND


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sets(st.integers(0, 3), max_size=3)),
        st.tuples(st.just("settle"), st.sampled_from([Outcome.OK, Outcome.REFUSED, Outcome.TIMED_OUT])),
        st.tuples(st.just("probe"), st.tuples(st.integers(0, 3), st.booleans())),
        st.tuples(st.just("command"), st.tuples(st.integers(0, 3), st.sampled_from(list(AdminState)))),
        st.tuples(st.just("weights"), st.lists(st.integers(1, 3), min_size=1, max_size=4)),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 3.0])),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    policy=st.sampled_from(list(POLICIES)),
    eager=st.booleans(),
    checked=st.booleans(),
    most=st.sampled_from([0, 1, 2]),
    queue=st.sampled_from([0, 2]),
    seed=st.integers(0, 20),
    steps=STEPS,
)
def test_explain_names_whom_the_next_claim_takes(policy, eager, checked, most, queue, seed, steps):
    pool = Pool(
        "p",
        CountingPolicy(policy, eager=eager),
        PoolSettings(1, 1, checked=checked, max_in_flight=most, max_queued=queue, queue_wait_s=2.0),
        random.Random(seed),
        lambda event: None,
    )
    pool.update(specs("a:1", "b:1", "c:1,weight=2", "d:1"), 0.0)
    now, leases = 0.0, []
    for kind, what in steps:
        backends = list(pool.backends.values())
        if kind == "claim":
            tried = tuple(backend for index, backend in enumerate(backends) if index in what)
            before = repr(pool), pool.snapshot()
            decision = pool.explain(ANY, now, tried)
            assert decision == pool.explain(ANY, now, tried)
            assert before[0] == repr(pool)
            verdict = pool.claim(ANY, now, tried)
            if isinstance(verdict, Lease):
                leases.append(verdict)
                assert (decision.picked, decision.trial) == (verdict.backend.name, verdict.trial)
                assert decision.waits is False
            else:
                assert decision.picked is None
                assert decision.waits == (verdict is not Refusal.NO_BACKEND)
            assert {one.backend_name for one in decision.candidates} == set(pool.backends)
        elif kind == "settle" and leases:
            pool.settle(leases.pop(0), what, now)
        elif kind == "probe":
            pool.observe_probe(backends[what[0] % len(backends)], what[1], "x", now)
        elif kind == "command":
            pool.command(backends[what[0] % len(backends)], what[1], now)
        elif kind == "weights":
            pool.update(specs(*(f"{'abcd'[at]}:1,weight={weight}" for at, weight in enumerate(what))), now)
        elif kind == "pass":
            now += what
            pool.tick(now)
            leases.extend(verdict for _, verdict in pool.grants(now) if isinstance(verdict, Lease))


@pytest.mark.parametrize("policy", POLICIES)
def test_asking_why_changes_nothing(policy):
    asked, plain = (make_pool("a:1", "b:1,weight=2", "c:1", policy=policy)[0] for _ in range(2))
    for step in range(60):
        for _ in range(step % 3):
            asked.explain(ANY, 0.0)
        assert claim(asked).backend.name == claim(plain).backend.name
