"""Why a backend is picked: read off what picks, so that it cannot lie."""

import random
from dataclasses import replace

import pytest
from builders import CountingPolicy, claim, make_pool, specs
from hypothesis import given
from hypothesis import strategies as st
from some import examples

from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.backend import AdminState
from twisted_lb.core.decision import Candidate, Decision, recalled
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pickers.base import MOST_REMEMBERED, open_to
from twisted_lb.core.pickers.shadow import ShadowedPolicy
from twisted_lb.core.pickers.shares import Shares
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.standing import Skipped


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
        candidates=tuple(
            Candidate(name, None, float(away), load=int(name == first), pool="p")
            for away, name in enumerate(order[at : at + 3])
        ),
        rule=f"in turn: its turn, number {at % 3 + 1} of 3",
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
    pool, _ = make_pool("a:1", max_in_flight=1, max_queued=1, queue_timeout_s=1.0, no_backend_s=1.0)
    claim(pool)
    decision = pool.explain(ANY, 0.0)
    assert (decision.picked, decision.waits) == (None, True)
    pool.claim(ANY, 0.0)
    assert not pool.explain(ANY, 0.0).waits  # the queue is full
    pool.update([], 0.0)
    assert pool.explain(ANY, 0.0) == Decision(
        "p", None, trial=False, waits=False, candidates=(), rule="the pool has no backend"
    )


def test_a_trial_that_is_due_is_said_to_be_one():
    pool, _ = make_pool("a:1", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 0.0)
    assert pool.explain(ANY, 0.5).candidates[0].skipped is Skipped.EJECTED
    decision = pool.explain(ANY, 1.0)
    assert (decision.picked, decision.trial) == ("a:1", True)
    assert claim(pool, 1.0).trial


def test_who_is_new_to_a_policy_that_takes_long_has_no_rank_yet_and_gets_what_nobody_else_can_take():
    """Its table is built at the next tick, or where otherwise a request would be refused, or wait."""
    pool = Pool("p", CountingPolicy(eager=False), PoolSettings(), random.Random(1), lambda event: None)
    pool.update(specs("a:1"), 0.0)
    claim(pool)
    pool.update(specs("a:1", "b:1"), 1.0)
    assert {one.backend_name: one.rank for one in pool.explain(ANY, 1.0).candidates} == {"a:1": 0.0, "b:1": None}
    assert [claim(pool, now=1.0).backend.name for _ in range(2)] == ["a:1", "a:1"]
    pool.update(specs("b:1"), 2.0)
    assert pool.explain(ANY, 2.0).picked == "b:1"
    assert claim(pool, now=2.0).backend.name == "b:1"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sets(st.integers(0, 3), max_size=3)),
        st.tuples(st.just("settle"), st.sampled_from([Outcome.OK, Outcome.REFUSED, Outcome.TIMED_OUT])),
        st.tuples(st.just("probe"), st.tuples(st.integers(0, 3), st.booleans())),
        st.tuples(st.just("command"), st.tuples(st.integers(0, 3), st.sampled_from(list(AdminState)))),
        st.tuples(
            st.just("weights"),
            st.lists(st.tuples(st.integers(1, 3), st.sampled_from([None, 0, 1, 2])), min_size=1, max_size=4),
        ),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 3.0])),
    ),
    max_size=30,
)


@examples(300)
@given(
    policy=st.sampled_from(list(POLICIES)),
    eager=st.booleans(),
    checked=st.booleans(),
    most=st.sampled_from([0, 1, 2]),
    queue=st.sampled_from([0, 2]),
    seed=st.integers(0, 20),
    key=st.integers(0, 5),
    steps=STEPS,
)
def test_explain_names_whom_the_next_claim_takes(policy, eager, checked, most, queue, seed, key, steps):
    ask = Ask(key_of(b"%d" % key), by="path") if key else ANY
    pool = Pool(
        "p",
        CountingPolicy(policy, eager=eager),
        PoolSettings(
            1, 1, checked=checked, max_in_flight=most, max_queued=queue, queue_timeout_s=2.0, no_backend_s=2.0
        ),
        random.Random(seed),
        lambda event: None,
    )
    pool.update(specs("a:1", "b:1", "c:1,weight=2", "d:1"), 0.0)
    now, leases, told = 0.0, [], []
    for kind, what in steps:
        backends = list(pool.backends.values())
        if kind == "claim":
            tried = tuple(backend for index, backend in enumerate(backends) if index in what)
            before = repr(pool), pool.snapshot()
            decision = pool.explain(ask, now, tried)
            assert decision == pool.explain(ask, now, tried)
            assert before[0] == repr(pool)
            skips = {one.name: one.skipped_times for one in backends}
            pool.explain(ask, now, tried)
            assert skips == {one.name: one.skipped_times for one in backends}
            closed = {one.name for one in backends if not open_to(one, tried)}
            verdict = pool.claim(ask, now, tried)
            if isinstance(verdict, Lease):
                assert not verdict.backend.limit or verdict.backend.in_flight <= verdict.backend.limit
                leases.append(verdict)
                told.append((verdict, decision))
                assert (decision.picked, decision.trial) == (verdict.backend.name, verdict.trial)
                assert decision.waits is False
                assert recalled(verdict) == decision
            else:
                assert decision.picked is None
                assert decision.waits == isinstance(verdict, Ticket)
                skipped = pool.refused(tried, now).decision().skipped
                assert {one.backend_name: one.skipped for one in skipped} == {
                    one.backend_name: one.skipped for one in decision.skipped
                }
            assert {one.backend_name for one in decision.candidates} == set(pool.backends)
            assert {one.backend_name for one in decision.skipped} == closed
        elif kind == "settle" and leases:
            pool.settle(leases.pop(0), what, now)
        elif kind == "probe":
            pool.observe_probe(backends[what[0] % len(backends)], what[1], "x", now)
        elif kind == "command":
            pool.command(backends[what[0] % len(backends)], what[1], now)
        elif kind == "weights":
            before = {one: one.in_flight for one in backends}
            members = specs(*(f"{'abcd'[at]}:1,weight={weight}" for at, (weight, _) in enumerate(what)))
            pool.update([replace(one, limit=limit) for one, (_, limit) in zip(members, what, strict=True)], now)
            assert {one: one.in_flight for one in before} == before
        elif kind == "pass":
            now += what
            pool.tick(now)
            granted = [verdict for _, verdict in pool.grants(now) if isinstance(verdict, Lease)]
            for lease in granted:
                leases.append(lease)
                decision = recalled(lease)
                told.append((lease, decision))
                assert decision.picked == lease.backend.name
                assert lease.backend.name not in {one.backend_name for one in decision.skipped}
        for one in pool.backends.values():
            assert (one.standing.why, one.standing.weight) == (one.out, one.weight)
            assert one.available == (one.out is None and not one.full)
    # Nothing that has happened since makes any difference to what was.
    assert all(recalled(lease) == decision for lease, decision in told)


@pytest.mark.parametrize("policy", POLICIES)
def test_asking_why_changes_nothing(policy):
    asked, plain = (make_pool("a:1", "b:1,weight=2", "c:1", policy=policy)[0] for _ in range(2))
    for step in range(60):
        for _ in range(step % 3):
            asked.explain(ANY, 0.0)
        assert claim(asked).backend.name == claim(plain).backend.name


def rule_of(policy: str, *texts: str, down: str = "") -> str:
    pool, _ = make_pool(*texts, policy=policy)
    if down:
        pool.observe_probe(pool.backends[down], False, "x", 0.0)
    return recalled(claim(pool)).rule


@pytest.mark.parametrize(
    ("policy", "texts", "down", "rule"),
    [
        ("rr", ["a:1", "b:1"], "", "in turn: its turn, number 1 of 2"),
        ("rr", ["a:1", "b:1"], "a:1", "in turn: it was the turn of a:1; the next that was open stood 1 further"),
        ("rr", ["a:1,weight=3", "b:1"], "", "in turn by weight: it was owed most, 0.750 turns"),
        (
            "rr",
            ["a:1,weight=3", "b:1"],
            "a:1",
            "in turn by weight: it was the turn of a:1; of those that were open it was owed most turns of others, 0.250",
        ),
        ("rand", ["a:1", "b:1"], "", "by chance: drew 0.1344, its share is 0.5000"),
        ("rand", ["a:1,weight=3", "b:1"], "", "by chance: drew 0.1344, its share is 0.7500"),
        ("least", ["a:1"], "", "least of all: 0 in flight by weight"),
        (
            "least",
            ["a:1", "b:1", "c:1"],
            "a:1",
            "least of all: 0 in flight by weight, drawn by chance among 2 that had as little",
        ),
        (
            "p2c",
            ["a:1", "b:1"],
            "",
            "two choices: 0 in flight by weight; b:1 has 0 in flight by weight, as much, and was drawn later",
        ),
        ("p2c", ["a:1", "b:1"], "a:1", "two choices: nobody else was open"),
        ("p2c", ["a:1"], "", "two choices: nobody else was open"),
    ],
)
def test_the_rule_and_the_number_that_decided_are_told(policy, texts, down, rule):
    assert rule_of(policy, *texts, down=down) == rule


def test_the_number_that_was_drawn_leads_to_the_one_that_was_picked():
    pool, _ = make_pool("a:1,weight=2", "b:1", "c:1", policy="rand")
    shares = Shares(list(pool.backends.values()))
    for _ in range(30):
        lease = claim(pool)
        assert shares.members[shares.at(lease.mark)] is lease.backend


def test_what_took_a_backend_out_is_told_with_how_long_it_was_so():
    pool, _ = make_pool("admin:1", "down:1", "ejected:1", "free:1", checked=False)
    leases = {lease.backend.name: lease for lease in (claim(pool) for _ in range(4))}
    pool.command(pool.backends["admin:1"], AdminState.MAINT, 1.0)
    pool.observe_probe(pool.backends["down:1"], False, "status 500", 2.0)
    pool.settle(leases["ejected:1"], Outcome.REFUSED, 3.0, "connection refused")
    found = {one.backend_name: one for one in pool.explain(ANY, 3.5).candidates}
    assert (found["admin:1"].admin, found["admin:1"].for_s) == ("maint", 2.5)
    assert (found["down:1"].reason, found["down:1"].for_s) == ("status 500", 1.5)
    ejected = found["ejected:1"]
    assert (ejected.reason, ejected.for_s, ejected.left_s) == ("connection refused", 0.5, 0.5)
    assert (found["free:1"].reason, found["free:1"].for_s) == ("", 3.5)


def test_who_is_stepped_over_is_counted_by_the_reason_and_not_by_who_only_asks():
    pool, _ = make_pool("a:1", "b:1", "c:1")
    a, b, _ = pool.backends.values()
    pool.observe_probe(a, False, "x", 0.0)
    for _ in range(4):
        pool.explain(ANY, 0.0)
        claim(pool)
    assert a.skipped_times == {Skipped.DOWN: 2}
    pool.observe_probe(a, True, "x", 0.0)
    pool.observe_probe(a, True, "x", 0.0)
    for _ in range(3):
        claim(pool, tried=(b,))
    assert (a.skipped_times, b.skipped_times) == ({Skipped.DOWN: 2}, {Skipped.TRIED: 1})


def test_who_is_full_is_counted_as_full():
    pool, _ = make_pool("a:1", "b:1", max_in_flight=1)
    claim(pool)
    claim(pool)
    assert pool.claim(ANY, 0.0) is Refusal.ALL_FULL
    assert [one.skipped_times for one in pool.backends.values()] == [{Skipped.FULL: 1}] * 2
    assert [one.skips for one in pool.snapshot().backends] == [{"FULL": 1}] * 2


def test_of_many_backends_the_loads_are_remembered_while_somebody_looks_closely():
    pool, _ = make_pool(*(f"a{number}:1" for number in range(MOST_REMEMBERED + 1)))
    assert {one.load for one in recalled(claim(pool, 0.0)).candidates} == {None}
    pool.closely_until = 2.0
    assert {one.load for one in recalled(claim(pool, 1.0)).candidates} == {0, 1}
    assert {one.load for one in recalled(claim(pool, 2.0)).candidates} == {None}


def test_of_many_backends_the_loads_are_remembered_of_who_was_retried_has_waited_or_found_nobody():
    texts = [f"a{number}:1" for number in range(MOST_REMEMBERED + 1)]
    pool, _ = make_pool(*texts, max_in_flight=1, max_queued=1, queue_timeout_s=9.0, no_backend_s=9.0)
    first = claim(pool, tried=(pool.backends["a0:1"],))
    assert {one.load for one in recalled(first).candidates} == {0}
    for _ in range(MOST_REMEMBERED):
        claim(pool)
    assert {one.load for one in pool.refused((), 0.0).decision().candidates} == {1}
    pool.claim(ANY, 0.0)
    pool.settle(first, Outcome.OK, 1.0)
    [(_, granted)] = pool.grants(1.0)
    assert sorted({one.load for one in recalled(granted).candidates}) == [0, 1]


def reasons(pool: Pool, now: float) -> dict[str, tuple[Skipped | None, str]]:
    return {one.backend_name: (one.skipped, one.reason) for one in pool.explain(ANY, now).candidates}


def test_who_took_it_out_is_told_as_long_as_that_is_what_keeps_it_out():
    pool, _ = make_pool("a:1", "b:1")
    a = pool.backends["a:1"]
    pool.command(a, AdminState.DRAIN, 1.0, "by alice: “deploy”")
    for at in (2.0, 3.0, 4.0):
        pool.observe_probe(a, False, "status 500", at)
    assert reasons(pool, 5.0)["a:1"] == (Skipped.ADMIN, "by alice: “deploy”")
    pool.command(a, AdminState.MAINT, 6.0, "by bob")
    assert reasons(pool, 6.0)["a:1"] == (Skipped.ADMIN, "by bob")
    pool.command(a, AdminState.READY, 7.0, "by bob")
    assert reasons(pool, 7.0)["a:1"] == (Skipped.DOWN, "status 500")
    for at in (8.0, 9.0):
        pool.observe_probe(a, True, "status 200", at)
    assert reasons(pool, 9.0)["a:1"] == (None, "")
    pool.command(a, AdminState.DRAIN, 10.0)
    assert reasons(pool, 10.0)["a:1"] == (Skipped.ADMIN, "")


def test_who_gave_it_no_weight_is_told():
    pool, _ = make_pool("a:1", "b:1")
    a, b = pool.backends.values()
    pool.update([replace(specs("a:1")[0], weight=0), *specs("b:1")], 1.0)
    pool.weighed(a, 1.0, "by alice")
    assert reasons(pool, 2.0) == {"a:1": (Skipped.WEIGHT, "by alice"), "b:1": (None, "")}
    claimed = claim(pool, 2.0)
    pool.update(specs("a:1", "b:1"), 3.0)
    assert reasons(pool, 3.0) == {"a:1": (None, ""), "b:1": (None, "")}
    assert {one.reason for one in recalled(claimed).candidates} == {"by alice", ""}
    assert claimed.backend is b


def test_a_decision_of_then_tells_who_it_was_then():
    pool, _ = make_pool("a:1", "b:1")
    a = pool.backends["a:1"]
    pool.command(a, AdminState.DRAIN, 1.0, "by alice")
    lease = claim(pool, 3.0)
    pool.command(a, AdminState.READY, 4.0, "by bob")
    pool.command(a, AdminState.MAINT, 5.0, "by bob")
    found = next(one for one in recalled(lease).candidates if one.backend_name == "a:1")
    assert (found.admin, found.reason, found.for_s) == ("drain", "by alice", 2.0)


def test_what_an_attempt_has_brought_about_is_remembered_of_the_last_few():
    pool, _ = make_pool("a:1", "b:1", checked=False)
    a = pool.backends["a:1"]
    first = claim(pool, 1.0, tried=(pool.backends["b:1"],))
    pool.settle(first, Outcome.REFUSED, 2.0, "connection refused")
    assert a.brought_about(1.0, 1.5, 2.0) == "ejected for 1 s: connection refused"
    assert (a.brought_about(1.0, 3.0), a.brought_about(0.5, 2.0)) == ("", "")
    trial = claim(pool, 3.0, tried=(pool.backends["b:1"],))
    assert trial.trial
    pool.reached(trial, 3.5)
    pool.settle(trial, Outcome.OK, 4.0)
    assert a.brought_about(3.0, 3.5, 4.0) == "used again: it accepts connections again"
    for at in range(10, 50):
        a.remember(at, at, "x")
    assert (len(a.aftermath), a.brought_about(1.0, 2.0)) == (32, "")


def test_an_attempt_after_which_nothing_happened_has_brought_about_nothing():
    pool, _ = make_pool("a:1")
    lease = claim(pool, 1.0)
    pool.settle(lease, Outcome.OK, 2.0)
    assert (lease.backend.aftermath, lease.backend.brought_about(1.0, 2.0)) == ([], "")


def test_a_picker_that_is_built_in_a_claim_follows_the_turn_that_was_in_vain():
    """A shadow whose tables are built at ticks: the claim asks the old rotation, finds nobody, and builds the next one after it."""
    policy = ShadowedPolicy(POLICIES["rr"], POLICIES["maglev"], "maglev")
    pool, _ = make_pool("a:80,weight=5", "b:80,weight=2", policy=policy)
    for _ in range(3):
        pool.settle(claim(pool), Outcome.OK, 0.0)
    pool.update(specs("a:80,weight=5", "b:80,weight=2", "c:80,weight=3", "d:80,weight=3"), 0.0)
    tried = [pool.backends["a:80"], pool.backends["b:80"]]
    told = pool.explain(ANY, 0.0, tried)
    lease = claim(pool, tried=tried)
    assert (told.picked, told.rule) == (lease.backend.name, recalled(lease).rule)


def test_a_picker_that_is_built_in_a_claim_knows_what_a_level_that_was_empty_was_owed():
    """The turns of a level outlive the time in which nobody of it is wanted, also where explain builds what the claim is going to."""
    policy = ShadowedPolicy(POLICIES["rr"], POLICIES["maglev"], "maglev")
    pool, _ = make_pool(policy=policy)
    *first, last = specs("a:80,weight=5", "b:80,weight=2", "c:80")
    pool.update([*first, replace(last, priority=1)], 0.0)
    first = [pool.backends["a:80"], pool.backends["b:80"]]
    for _ in range(3):
        pool.settle(claim(pool), Outcome.OK, 0.0)
    for backend in first:
        pool.command(backend, AdminState.MAINT, 0.0)
    pool.tick(0.0)
    assert claim(pool).backend.name == "c:80"
    for backend in first:
        pool.command(backend, AdminState.READY, 0.0)
    told = pool.explain(ANY, 0.0)
    lease = claim(pool)
    assert (told.picked, told.rule) == (lease.backend.name, recalled(lease).rule)
