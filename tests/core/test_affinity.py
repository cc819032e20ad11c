"""Affinity (sticky sessions): requests go where they are bound, past the policy, and elsewhere only where that is lost or full."""

import collections
from dataclasses import replace
from random import Random

import pytest
from builders import Told, claim, make_pool, specs

from twisted_lb.core.affinity import AffinityRules, Bindings, Bond
from twisted_lb.core.agent import read_agent
from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.attempts import Attempts
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.decision import recalled
from twisted_lb.core.held import Held
from twisted_lb.core.lease import Lease, LoadLease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.succession import Succession

RULES = AffinityRules("the header x", max_age_s=60.0, most=1000, drain_s=100.0)


def bound_pool(*texts: str, rules: AffinityRules = RULES, **settings) -> tuple[Pool, Told]:
    return make_pool(*texts, affinity=rules, **settings)


def bindings_of(pool: Pool) -> Bindings:
    assert pool.bindings is not None
    return pool.bindings


def keyed(pool: Pool, key: int, now: float = 0.0) -> Ask:
    """The ask of a request with this key, as the data path makes it."""
    home = bindings_of(pool).find(key, now)
    return Ask(bond=Bond(home, Held.NEW, key, early=True))


def at(pool: Pool, backend: str) -> Ask:
    """The ask of a request that is bound to this backend, as by a cookie."""
    return Ask(bond=Bond(bindings_of(pool).home_of(pool.backends[backend]), Held.UNKNOWN))


def served(pool: Pool, ask: Ask, now: float = 0.0) -> str:
    """Who serves it, at once."""
    lease = pool.claim(ask, now)
    assert isinstance(lease, Lease)
    pool.settle(lease, Outcome.OK, now)
    return lease.backend.name


def counted(pool: Pool) -> dict[str, int]:
    return {held.name: pool.totals.affinity[held] for held in Held if pool.totals.affinity[held]}


def test_requests_with_one_key_go_to_one_backend_and_count_as_kept():
    pool, _ = bound_pool("a:1", "b:1", "c:1")
    first = served(pool, keyed(pool, 7))
    assert [served(pool, keyed(pool, 7)) for _ in range(5)] == [first] * 5
    assert counted(pool) == {"NEW": 1, "KEPT": 5}


def test_requests_that_come_while_the_first_one_with_their_key_is_answered_go_there_too():
    pool, _ = bound_pool("a:1", "b:1", "c:1")
    leases = [pool.claim(keyed(pool, 7), 0.0) for _ in range(4)]
    assert len({lease.backend for lease in leases if isinstance(lease, Lease)}) == 1


@pytest.mark.parametrize("policy", ["rr", "least", "first", "ring"])
def test_a_request_that_is_bound_moves_no_turn_of_the_others(policy):
    pool, _ = bound_pool("a:1", "b:1,weight=2", "c:1", policy=policy)
    plain, _ = bound_pool("a:1", "b:1,weight=2", "c:1", policy=policy)
    rng = Random(1)
    got = []
    for _ in range(400):
        if rng.random() < 0.5:
            assert served(pool, at(pool, "b:1")) == "b:1"
        else:
            got.append((served(pool, ANY), served(plain, ANY)))
    assert all(one == other for one, other in got)
    if policy == "rr":
        counts = collections.Counter(one for one, _ in got)
        assert max(abs(counts[name] - len(got) * part) for name, part in (("a:1", 0.25), ("b:1", 0.5))) < 1


def lost(pool: Pool, backend: Backend, how: str) -> None:
    match how:
        case "MAINT":
            pool.command(backend, AdminState.MAINT, 1.0)
        case "DOWN":
            for _ in range(3):
                pool.observe_probe(backend, False, "503", 1.0)
        case "EJECTED":
            lease = next(one for _ in range(9) if (one := claim(pool)).backend is backend)
            pool.settle(lease, Outcome.REFUSED, 1.0)
        case "AGENT":
            pool.hear_agent(backend, read_agent(b"down"), 1.0)
        case "BUSY":
            pool.hear_busy(backend, True, "429", 1.0)
        case "REMOVED":
            pool.update(specs(*(name for name in pool.backends if name != backend.name)), 1.0)
        case "MOVED":
            other = [BackendSpec(n, specs(n if n != backend.name else "z:9")[0].address) for n in pool.backends]
            pool.update(other, 1.0)


LOST = {
    "MAINT": "ADMIN",
    "DOWN": "DOWN",
    "EJECTED": "EJECTED",
    "AGENT": "AGENT",
    "BUSY": "AGENT",
    "REMOVED": "REMOVED",
    "MOVED": "REMOVED",
}


@pytest.mark.parametrize("how", LOST)
def test_a_lost_backend_is_left_at_once_and_the_binding_follows(how):
    pool, _ = bound_pool("a:1", "b:1", "c:1", agents=True, busy=True, max_in_flight=0)
    first = served(pool, keyed(pool, 7))
    backend = pool.backends[first]
    lost(pool, backend, how)
    ask = keyed(pool, 7, 1.0)
    then = pool.claim(ask, 1.0)
    assert isinstance(then, Lease)
    assert then.backend is not backend
    assert isinstance(ask.bond, Bond)
    assert ask.bond.held.name == LOST[how]
    pool.settle(then, Outcome.OK, 1.0)
    assert {served(pool, keyed(pool, 7, 1.0), 1.0) for _ in range(4)} == {then.backend.name}


def test_the_clients_of_a_removed_backend_are_spread_by_the_policy():
    pool, _ = bound_pool("a:1", "b:1", "c:1")
    homes = {key: served(pool, keyed(pool, key)) for key in range(1, 301)}
    assert collections.Counter(homes.values()) == {"a:1": 100, "b:1": 100, "c:1": 100}
    pool.update(specs("a:1", "c:1"), 1.0)
    after = {key: served(pool, keyed(pool, key, 1.0), 1.0) for key in homes}
    assert all(after[key] == home for key, home in homes.items() if home != "b:1"), "who was not there stays"
    assert collections.Counter(after[key] for key, home in homes.items() if home == "b:1") == {"a:1": 50, "c:1": 50}


def test_bindings_follow_a_backend_to_its_other_name():
    pool, _ = bound_pool("a:1", "b:1")
    home = served(pool, keyed(pool, 7))
    kept = "b:1" if home == "a:1" else "a:1"
    succession = Succession()
    succession.heirs["new"] = home
    address = pool.backends[home].address
    pool.update([BackendSpec("new", address), *specs(kept)], 1.0, succession)
    assert {served(pool, keyed(pool, 7, 1.0), 1.0) for _ in range(4)} == {"new"}


def test_an_endpoint_that_rests_and_returns_has_its_own_again():
    pool, _ = bound_pool("a:1", "b:1")
    home = served(pool, at(pool, "a:1"))
    assert home == "a:1"
    resting = Succession(["n"])
    resting.resting["a:1"] = "n"
    mine = at(pool, "a:1").bond
    assert mine is not None
    pool.update(specs("b:1"), 1.0, resting)
    assert served(pool, Ask(bond=Bond(mine.home, Held.UNKNOWN)), 1.0) == "b:1"
    pool.update(specs("a:1", "b:1"), 2.0, Succession(["n"]))
    assert {served(pool, Ask(bond=Bond(mine.home, Held.UNKNOWN)), 2.0) for _ in range(4)} == {"a:1"}


def test_a_backup_is_left_when_the_others_are_back():
    pool, _ = bound_pool("a:1")
    pool.update([*specs("a:1"), BackendSpec("z", specs("z:1")[0].address, backup=True)], 0.0)
    lost(pool, pool.backends["a:1"], "DOWN")
    assert served(pool, keyed(pool, 7, 1.0), 1.0) == "z"
    for _ in range(2):
        pool.observe_probe(pool.backends["a:1"], True, "200", 2.0)
    ask = keyed(pool, 7, 2.0)
    assert served(pool, ask, 2.0) == "a:1"
    assert isinstance(ask.bond, Bond)
    assert ask.bond.held is Held.STANDBY


def test_in_panic_an_ejected_backend_keeps_its_own():
    pool, _ = bound_pool("a:1", "b:1", "c:1", panic_percent=100)
    lost(pool, pool.backends["a:1"], "EJECTED")
    assert pool.panics
    assert served(pool, at(pool, "a:1"), 1.0) == "a:1"


# Draining.


def drained(pool: Pool, backend: Backend, how: str, now: float) -> None:
    if how == "drain":
        pool.command(backend, AdminState.DRAIN, now)
    elif how == "weight 0":
        pool.update(specs(f"{backend.name},weight=0", *(n for n in pool.backends if n != backend.name)), now)
    else:
        pool.hear_agent(backend, read_agent(b"drain"), now)


@pytest.mark.parametrize("how", ["drain", "weight 0", "agent"])
def test_draining_keeps_its_own_until_the_bound_and_gets_no_new_ones(how):
    pool, _ = bound_pool("a:1", "b:1", agents=True)
    drained(pool, pool.backends["a:1"], how, 10.0)
    assert served(pool, at(pool, "a:1"), 109.0) == "a:1"
    assert {served(pool, ANY, 109.0) for _ in range(4)} == {"b:1"}
    assert served(pool, at(pool, "a:1"), 110.0) == "b:1"


@pytest.mark.parametrize("how", ["drain", "weight 0", "agent"])
@pytest.mark.parametrize("then", ["DOWN", "EJECTED"])
def test_a_backend_that_fails_while_it_drains_is_left(how, then):
    pool, _ = bound_pool("a:1", "b:1", agents=True)
    backend = pool.backends["a:1"]
    drained(pool, backend, how, 0.5)
    if then == "DOWN":
        lost(pool, backend, then)
    else:
        lease = pool.claim(at(pool, "a:1"), 0.5)
        assert isinstance(lease, Lease)
        pool.settle(lease, Outcome.REFUSED, 1.0)
    ask = at(pool, "a:1")
    assert served(pool, ask, 1.0) == "b:1"
    assert isinstance(ask.bond, Bond)
    assert ask.bond.held.name == then


def test_maintenance_keeps_nobody():
    pool, _ = bound_pool("a:1", "b:1")
    drained(pool, pool.backends["a:1"], "drain", 1.0)
    pool.command(pool.backends["a:1"], AdminState.MAINT, 2.0)
    assert served(pool, at(pool, "a:1"), 2.0) == "b:1"


def test_the_last_backend_keeps_its_own_while_it_drains_and_new_requests_find_nobody():
    pool, _ = bound_pool("a:1")
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 1.0)
    assert pool.exhausted
    assert served(pool, at(pool, "a:1"), 1.0) == "a:1"
    assert pool.claim(ANY, 1.0) is Refusal.NO_BACKEND


# Full.


def test_where_its_own_is_full_another_one_serves_a_request_and_it_stays_bound():
    pool, _ = bound_pool("a:1", "b:1", max_in_flight=1)
    first = pool.claim(keyed(pool, 7), 0.0)
    assert isinstance(first, Lease)
    second = pool.claim(keyed(pool, 7), 0.0)
    assert isinstance(second, Lease)
    assert second.backend is not first.backend
    pool.settle(first, Outcome.OK, 0.0)
    pool.settle(second, Outcome.OK, 0.0)
    assert served(pool, keyed(pool, 7)) == first.backend.name
    assert counted(pool) == {"NEW": 1, "FULL": 1, "KEPT": 1}


def waiting(pool: Pool, ask: Ask, now: float = 0.0, tried=()) -> Ticket:
    ticket = pool.claim(ask, now, tried)
    assert isinstance(ticket, Ticket)
    return ticket


def queueing(*texts: str, **changes) -> Pool:
    rules = replace(RULES, **changes)
    pool, _ = bound_pool(*texts, rules=rules, max_in_flight=1, max_queued=10, queue_timeout_s=5.0, no_backend_s=5.0)
    return pool


def test_a_request_waits_for_its_own_while_others_overtake():
    pool = queueing("a:1", "b:1", waits=True)
    mine = pool.claim(at(pool, "a:1"), 0.0)
    assert isinstance(mine, Lease)
    ticket = waiting(pool, at(pool, "a:1"))
    assert served(pool, ANY) == "b:1", "new ones go past it"
    assert pool.grants(0.0) == []
    pool.settle(mine, Outcome.OK, 1.0)
    [(granted, lease)] = pool.grants(1.0)
    assert granted is ticket
    assert isinstance(lease, Lease)
    assert lease.backend.name == "a:1"
    assert counted(pool)["KEPT"] == 2


def test_who_waits_for_its_own_is_refused_when_it_has_waited_for_too_long():
    pool = queueing("a:1", "b:1", waits=True)
    assert isinstance(pool.claim(at(pool, "a:1"), 0.0), Lease)
    ticket = waiting(pool, at(pool, "a:1"))
    assert pool.grants(5.0) == [(ticket, Refusal.ALL_FULL)]


def test_where_the_queue_has_no_room_a_request_does_not_wait_for_its_own():
    rules = replace(RULES, waits=True)
    pool, _ = bound_pool("a:1", "b:1", rules=rules, max_in_flight=1, max_queued=0, queue_timeout_s=5.0)
    assert isinstance(pool.claim(at(pool, "a:1"), 0.0), Lease)
    assert served(pool, at(pool, "a:1")) == "b:1"


@pytest.mark.parametrize("how", [how for how in LOST if how not in ("AGENT", "BUSY")])
def test_who_waits_for_a_backend_that_is_lost_meanwhile_waits_for_anyone_and_first(how):
    pool = queueing("a:1", "b:1", waits=True)
    other = next(
        one for _ in range(2) if (one := claim(pool)).backend.name == "b:1" or pool.settle(one, Outcome.OK, 0.0)
    )
    mine = pool.claim(at(pool, "a:1"), 0.0)
    assert isinstance(mine, Lease)
    first, second = waiting(pool, at(pool, "a:1")), waiting(pool, at(pool, "a:1"))
    behind = waiting(pool, ANY)
    if how == "EJECTED":
        pool.settle(mine, Outcome.REFUSED, 1.0)
    else:
        lost(pool, pool.backends["a:1"], how)
        if how == "MOVED":
            assert isinstance(pool.claim(at(pool, "a:1"), 1.0), Ticket | Lease)
    served_now = [(ticket, lease.backend.name) for ticket, lease in pool.grants(1.0) if isinstance(lease, Lease)]
    free = "a:1" if how == "MOVED" else ""
    assert served_now == ([(first, "a:1")] if free else [])
    pool.settle(other, Outcome.OK, 2.0)
    ((granted, lease),) = pool.grants(2.0)
    assert granted is (second if free else first)
    assert isinstance(lease, Lease)
    assert lease.backend.name == "b:1"
    assert first.only is second.only is None
    pool.settle(lease, Outcome.OK, 3.0)
    ((granted, _),) = pool.grants(3.0)
    assert granted is (behind if free else second)
    assert not pool.broken()


def test_who_waits_for_a_backend_in_drain_is_served_by_it():
    pool = queueing("a:1", "b:1", waits=True)
    mine = pool.claim(at(pool, "a:1"), 0.0)
    assert isinstance(mine, Lease)
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 0.0)
    ticket = waiting(pool, at(pool, "a:1"))
    pool.settle(mine, Outcome.OK, 1.0)
    ((granted, lease),) = pool.grants(1.0)
    assert granted is ticket
    assert isinstance(lease, Lease)
    assert lease.backend.name == "a:1"


def test_who_waits_for_anyone_gets_its_own_if_that_is_free_by_then():
    pool = queueing("a:1", "b:1")
    leases = {one.backend.name: one for one in (claim(pool), claim(pool))}
    for name in ("b:1", "a:1", "b:1"):
        ticket = waiting(pool, at(pool, name))
        for lease in leases.values():
            pool.settle(lease, Outcome.OK, 1.0)
        ((granted, lease),) = pool.grants(1.0)
        assert granted is ticket
        assert isinstance(lease, Lease)
        assert lease.backend.name == name
        rest = claim(pool)
        leases = {lease.backend.name: lease, rest.backend.name: rest}


def test_a_request_that_is_bound_does_not_overtake_who_waits_for_whoever_is_free():
    pool = queueing("a:1")
    lease = claim(pool)
    first = waiting(pool, ANY)
    pool.settle(lease, Outcome.OK, 1.0)
    second = waiting(pool, at(pool, "a:1"), 1.0)
    assert [ticket for ticket, _ in pool.grants(1.0)] == [first]
    assert pool.waiting == 1
    pool.withdraw(second)


# Retries.


def test_a_request_that_its_own_has_failed_goes_elsewhere_and_is_bound_there():
    pool, _ = bound_pool("a:1", "b:1")
    home = served(pool, keyed(pool, 7))
    attempts = Attempts(pool, RetryRules(2, frozenset()), keyed(pool, 7), idempotent=True)
    attempts.due = NEVER
    attempts.begin(0.0)
    first = attempts.current
    assert first is not None
    assert first.lease.backend.name == home
    attempts.ended(first, Outcome.NO_RESPONSE, 1.0)
    again = attempts.again(Outcome.NO_RESPONSE, 1.0, replayable=True)
    assert isinstance(again, Lease)
    assert again.backend.name != home
    pool.settle(again, Outcome.OK, 1.0)
    assert served(pool, keyed(pool, 7, 1.0), 1.0) == again.backend.name
    assert counted(pool) == {"NEW": 1, "KEPT": 2, "FAILED": 1}


def test_a_keep_alive_race_is_no_reason_to_leave_its_own():
    pool, _ = bound_pool("a:1", "b:1", "c:1")
    attempts = Attempts(pool, RetryRules(2, frozenset()), at(pool, "c:1"), idempotent=True)
    attempts.begin(0.0)
    first = attempts.current
    assert first is not None
    attempts.ended(first, Outcome.STALE_REUSE, 1.0)
    again = attempts.again(Outcome.STALE_REUSE, 1.0, replayable=True)
    assert isinstance(again, Lease)
    assert again.backend.name == "c:1"


# The table.


def test_a_binding_that_nobody_uses_is_forgotten_in_time_and_each_use_prolongs_it():
    pool, _ = bound_pool("a:1", "b:1")
    table = bindings_of(pool)
    table.bind(7, pool.backends["a:1"], 0.0)
    for now in (59.0, 118.0):
        home = table.find(7, now)
        assert home is not None
        assert home.backend is pool.backends["a:1"]
    assert table.find(7, 178.0) is None
    assert len(table) == 0


def test_to_look_is_no_use():
    table = Bindings(RULES)
    pool, _ = bound_pool("a:1")
    table.bind(7, pool.backends["a:1"], 0.0)
    assert table.find(7, 59.0, touch=False) is not None
    assert table.find(7, 60.0, touch=False) is None
    assert len(table) == 1


def test_the_table_is_bounded_and_who_was_used_least_recently_makes_room():
    pool, _ = bound_pool("a:1", rules=replace(RULES, most=3))
    table, backend = bindings_of(pool), pool.backends["a:1"]
    for key in (1, 2, 3):
        table.bind(key, backend, 0.0)
    assert table.find(1, 1.0) is not None
    table.bind(4, backend, 2.0)
    assert [key for key in (1, 2, 3, 4) if table.find(key, 2.0, touch=False)] == [1, 3, 4]
    assert (len(table), table.forgotten) == (3, 1)
    table.configure(replace(RULES, most=1))
    assert [key for key in (1, 2, 3, 4) if table.find(key, 2.0, touch=False)] == [4]


def test_old_bindings_go_at_ticks_some_thousands_at_a_time():
    pool, _ = bound_pool("a:1", rules=replace(RULES, most=100_000))
    table = bindings_of(pool)
    for key in range(5000):
        table.bind(key + 1, pool.backends["a:1"], 0.0)
    table.bind(9999, pool.backends["a:1"], 30.0)
    pool.tick(59.0)
    assert len(table) == 5001
    pool.tick(60.0)
    assert len(table) == 905
    pool.tick(60.1)
    assert len(table) == 1


def test_a_session_that_has_ended_is_bound_no_more():
    table = Bindings(RULES)
    pool, _ = bound_pool("a:1")
    table.bind(7, pool.backends["a:1"], 0.0)
    table.forget(7)
    table.forget(7)
    assert table.find(7, 0.0) is None


def test_the_table_keeps_nobody_who_is_gone():
    pool, _ = bound_pool("a:1", "b:1")
    table = bindings_of(pool)
    table.bind(7, pool.backends["a:1"], 0.0)
    pool.update(specs("b:1"), 1.0)
    home = table.find(7, 1.0)
    assert home is not None
    assert home.backend is None


@pytest.mark.parametrize(("changes", "kept"), [({"max_age_s": 90.0}, True), ({"by": "the client"}, False)])
def test_what_is_bound_outlives_other_rules_unless_keys_mean_something_else(changes, kept):
    pool, _ = bound_pool("a:1", "b:1", "c:1")
    home = served(pool, keyed(pool, 7))
    pool.configure(replace(pool.settings, affinity=replace(RULES, **changes)), 1.0)
    assert (bindings_of(pool).find(7, 1.0) is not None) is kept
    assert not kept or served(pool, keyed(pool, 7, 1.0), 1.0) == home


def test_where_affinity_is_turned_off_what_runs_goes_on_by_the_policy():
    pool, _ = bound_pool("a:1", "b:1")
    ask = at(pool, "a:1")
    pool.configure(replace(pool.settings, affinity=None), 1.0)
    assert {served(pool, ask, 1.0) for _ in range(2)} == {"a:1", "b:1"}


# Explained.


def told(pool: Pool, ask: Ask, now: float = 0.0, tried=()) -> str:
    """What is told of a claim: later, and, the same backend, before."""
    foreseen = pool.explain(ask, now, tried)
    lease = pool.claim(ask, now, tried)
    assert isinstance(lease, Lease)
    decision = recalled(lease)
    assert decision.picked == foreseen.picked == lease.backend.name
    assert decision.rule == foreseen.rule
    [picked] = [one for one in decision.candidates if one.backend_name == decision.picked]
    assert picked.skipped is None
    pool.settle(lease, Outcome.OK, now)
    return decision.rule


def test_it_is_told_why_a_request_went_where_it_is_bound_or_why_not():
    pool, _ = bound_pool("a:1", "b:1")
    first = told(pool, keyed(pool, 7))
    assert first.startswith("in turn")
    assert first.endswith("; by the header x it was bound to nobody yet")
    assert told(pool, keyed(pool, 7)) == "it is bound to it by the header x"
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 0.0)
    assert told(pool, at(pool, "a:1")) == (
        "it is bound to it by the header x, and in drain a backend keeps its own for 100 s"
    )
    assert told(pool, at(pool, "a:1"), 100.0).endswith(
        "; a:1, to which it was bound by the header x, was taken out by the operator"
    )
    assert told(pool, Ask(bond=Bond(None, Held.UNKNOWN))).endswith(
        "; the header x that it brought is not known, or not any more"
    )
    gone = at(pool, "a:1")
    pool.update(specs("b:1"), 101.0)
    assert told(pool, gone, 101.0).endswith("; the backend that it was bound to by the header x is not there any more")


def test_what_waits_for_its_own_is_told_to_wait():
    pool = queueing("a:1", "b:1", waits=True)
    assert isinstance(pool.claim(at(pool, "a:1"), 0.0), Lease)
    decision = pool.explain(at(pool, "a:1"), 0.0)
    assert decision.picked is None
    assert decision.waits
    assert decision.rule == "it is bound to a:1 by the header x, and waits for that"
    spilled = bound_pool("a:1", "b:1", max_in_flight=1)[0]
    assert isinstance(spilled.claim(at(spilled, "a:1"), 0.0), Lease)
    full = "had as many requests in flight as it may have; it stays bound there"
    assert told(spilled, at(spilled, "a:1")).endswith(f"; a:1, to which it was bound by the header x, {full}")


def test_loads_are_told_of_requests_that_are_bound_also_at_a_backend_without_weight():
    for name, policy in POLICIES.items():
        pool, _ = bound_pool("a:1", "b:1", policy=policy)
        drained(pool, pool.backends["a:1"], "weight 0", 0.0)
        for _ in range(40):
            lease = pool.claim(at(pool, "a:1"), 0.0)
            assert isinstance(lease, Lease), name
            assert isinstance(lease, LoadLease) or policy.loads(pool.counts) is None
            pool.settle(lease, Outcome.OK, 1.0)


# Whatever happens.


class Wild:
    """A pool with affinity in the hands of chance."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.names = [f"{letter}:1" for letter in "abcde"]
        rules = AffinityRules(
            "the header x",
            max_age_s=self.rng.choice([5.0, 500.0]),
            most=self.rng.choice([3, 50]),
            waits=self.rng.random() < 0.5,
            drain_s=self.rng.choice([0.0, 10.0]),
        )
        self.pool, _ = make_pool(
            *self.names,
            policy=self.rng.choice(["rr", "least", "p2c", "first", "ring"]),
            affinity=rules,
            max_in_flight=self.rng.choice([1, 2]),
            max_queued=4,
            queue_timeout_s=3.0,
            no_backend_s=1.0,
            panic_percent=self.rng.choice([0, 50]),
        )
        self.leases: list[Lease] = []
        self.tickets: list[Ticket] = []

    def step(self) -> None:
        rng, pool = self.rng, self.pool
        self.now += rng.random()
        some = list(pool.backends.values())
        match rng.randrange(10):
            case 0:
                pool.update(specs(*rng.sample(self.names, rng.randrange(1, 6))), self.now)
            case 1:
                pool.command(rng.choice(some), rng.choice(list(AdminState)), self.now)
            case 2:
                pool.observe_probe(rng.choice(some), rng.random() < 0.6, "?", self.now)
            case 3 if self.tickets:
                pool.withdraw(self.tickets.pop(rng.randrange(len(self.tickets))))
            case 4 | 5 if self.leases:
                outcome = rng.choice([Outcome.OK, Outcome.OK, Outcome.REFUSED, Outcome.CLIENT_GONE])
                pool.settle(self.leases.pop(rng.randrange(len(self.leases))), outcome, self.now)
            case _:
                self.ask()
        pool.tick(self.now)
        for ticket, verdict in pool.grants(self.now):
            self.tickets.remove(ticket)
            if isinstance(verdict, Lease):
                self.take(verdict, ticket.ask)

    def ask(self) -> None:
        ask = keyed(self.pool, self.rng.randrange(1, 9), self.now)
        verdict = self.pool.claim(ask, self.now)
        if isinstance(verdict, Lease):
            self.take(verdict, ask)
        elif isinstance(verdict, Ticket):
            self.tickets.append(verdict)

    def take(self, lease: Lease, ask: Ask) -> None:
        backend, bond = lease.backend, ask.bond
        assert bond is not None
        assert self.pool.backends.get(backend.name) is backend, "a member"
        assert backend.health.up
        assert backend.admin is not AdminState.MAINT
        assert lease.trial or not backend.ejection.active or backend.panicked
        if backend.admin is AdminState.DRAIN:
            assert bond.held is Held.KEPT, "who drains gets its own alone"
            assert self.now - backend.standing.since < self.pool.settings.affinity.drain_s
        if bond.held is Held.KEPT:
            assert bond.backend is backend
        assert recalled(lease).picked == backend.name
        self.leases.append(lease)

    def check(self) -> None:
        pool = self.pool
        assert not pool.broken(len(self.tickets)), pool.broken(len(self.tickets))
        open_at = collections.Counter(lease.backend for lease in self.leases)
        for one in pool.backends.values():
            assert open_at[one] == one.in_flight <= max(one.limit, 0) or one.panicked, f"{one} has more than it may"
        table = bindings_of(pool)
        assert len(table) <= table.rules.most
        lost = [ticket for ticket in self.tickets if ticket.only is not None and ticket.only.removed]
        assert not lost, "who waits for nobody waits for anyone"


@pytest.mark.parametrize("seed", range(60))
def test_nobody_is_bound_to_who_is_not_to_be_used_and_nobody_has_more_than_it_may(seed):
    wild = Wild(seed)
    for _ in range(300):
        wild.step()
        wild.check()
    for ticket in wild.tickets:
        wild.pool.withdraw(ticket)
    for lease in wild.leases:
        wild.pool.settle(lease, Outcome.OK, wild.now)
    assert wild.pool.counts.total == 0
    assert sum(wild.pool.totals.affinity) > 20


def test_every_policy_lets_affinity_go_past_it():
    for name, policy in POLICIES.items():
        pool, _ = bound_pool("a:1", "b:1", "c:1", policy=policy)
        assert {served(pool, at(pool, "c:1")) for _ in range(5)} == {"c:1"}, name
