"""The model of an exchange decides as the exchange does: every pick, attempt, status and latency of the whole engine, byte by byte in
memory, is that of the simulated world. A simulator with logic of its own would drift from what it simulates.
"""

import random

import pytest
from some import some
from whole_engine import Faults, Whole

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import BY_KEY, BY_LOAD, LOADS, POLICIES
from twisted_lb.sim.laws import Exponential, Poisson
from twisted_lb.sim.servers import Workers
from twisted_lb.sim.world import World

NAMES = ["b0:80", "b1:80", "b2:80", "b3:80"]
ARRIVALS, SERVICE = Poisson(150.0), Exponential(0.02)  # 0.75 of four
# As many as a kernel lets wait.
BACKLOG = 2048
TABLES = [{"choose": choose, "load": load} for choose in BY_LOAD for load in LOADS]
# A wait in the script of the referee is rounded to the clock's last bit, and no latency is below a nanosecond.
SAME_S = 1e-9


def keys_of(policy):
    """How many keys requests have: some, where the policy goes by them."""
    return 50 if isinstance(policy, str) and policy in BY_KEY else 0


def config(policy="rr", **options):
    options = {"health_check": {"interval_s": 0.0}} | options
    return LoadBalancerConfig.model_validate(
        {"backends": NAMES, "policy": policy, "limits": {"client_bytes_per_s": 0}, "upstream": {"max_idle": 1000}}
        | ({"key": {"header": "X-Key"}} if keys_of(policy) else {})
        | options
    )


def engine(policy, requests, seed, faults, backlog=BACKLOG, **options):
    whole = Whole(
        config(policy, **options),
        ARRIVALS,
        SERVICE,
        requests=requests,
        seed=seed,
        keys=max(keys_of(policy), 1),
        backlog=backlog,
    )
    whole.happen(faults)
    return whole.run()


def world(policy, requests, seed, faults, backlog=BACKLOG, **options):
    visits = {}
    made = World(
        config(policy, **options),
        ARRIVALS,
        SERVICE,
        seed=seed,
        server=lambda name: Workers(name, backlog=backlog),
        keys=keys_of(policy),
        observe=lambda one: visits.update({one.number: one}),
    )
    for at, name in faults.down:
        made.at(at, made.down, name)
    for at, name in faults.up:
        made.at(at, made.up, name)
    for at, name, speed in faults.slow:
        made.at(at, made.slow, name, speed)
    for at, name, share in faults.errors:
        made.at(at, made.errors, name, share)
    made.run(requests)
    assert made.cluster.pool.broken(0) == []
    assert made.cluster.pool.leases == 0
    return visits


def compare(policy, requests, seed, faults=None, **options):
    """What both say of each request; the engine's."""
    faults = Faults() if faults is None else faults
    told = engine(policy, requests, seed, faults, **options)
    visits = world(policy, requests, seed, faults, **options)
    assert len(told) == len(visits) == requests
    for number in range(requests):
        one, other = visits[number], told[number]
        assert (one.status, one.outcomes) == (other.status, other.attempts), number
        assert one.latency_s == pytest.approx(other.latency_s, abs=SAME_S), number
    return told


@pytest.mark.parametrize("policy", some(7, [*POLICIES, *TABLES]), ids=str)
def test_every_pick_is_the_engine_s(policy):
    compare(policy, 800, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("policy", [*POLICIES, *TABLES], ids=str)
def test_every_pick_of_many_is_the_engine_s(policy):
    compare(policy, 5_000, seed=2)


@pytest.mark.parametrize("backlog", [0, 1, 20])
def test_who_finds_a_backlog_full_goes_on_as_the_engine_does(backlog):
    outcomes = {outcome for one in compare("first", 300, 1, backlog=backlog).values() for _, outcome in one.attempts}
    assert outcomes == {Outcome.OK, Outcome.NO_RESPONSE}


def bad_day(seed):
    """Two servers die for a while, one is slow, one fails fast."""
    rng = random.Random(seed)
    dead, gone, slow, bad = rng.sample(NAMES, 4)
    begin = rng.uniform(0.3, 0.8)
    return Faults(
        down=[(begin, dead), (begin + 0.7, gone)],
        up=[(begin + rng.uniform(0.5, 2.0), dead), (begin + rng.uniform(1.0, 2.0), gone)],
        slow=[(rng.uniform(0.2, 1.0), slow, 0.3), (2.5, slow, 1.0)],
        errors=[(rng.uniform(0.2, 1.0), bad, 0.3), (2.8, bad, 0.0)],
    )


BAD_DAY = {
    "health_check": {"interval_s": 0.5},
    "timeouts": {"attempt_s": 0.35, "response_head_s": 1.0},
    "retry": {"bad_statuses": [500], "more_attempts": 2},
    "queue": {"no_backend_s": 0.5, "length": 20},
}


BACKOFF = {"retry": BAD_DAY["retry"] | {"backoff_s": 0.02}}


def compare_bad_day(policy, seed, requests=500, **options):
    return compare(policy, requests, seed, bad_day(seed), **BAD_DAY | options)


@pytest.mark.parametrize("policy", some(4, POLICIES))
def test_every_attempt_of_a_bad_day_is_the_engine_s(policy):
    compare_bad_day(policy, seed=3)


@pytest.mark.parametrize("seed", [3, 4])
def test_waits_before_retries_are_the_engine_s(seed):
    compare_bad_day("p2c", seed, **BACKOFF)


HEDGING = {"hedge": {"delay_s": 0.03}, "retry": BAD_DAY["retry"] | {"budget_percent": 100}}


@pytest.mark.parametrize("policy", some(1, ["rr", "p2c", "latency"]))
def test_every_hedge_is_the_engine_s(policy):
    told = compare(policy, 800, 1, **HEDGING)
    outcomes = {outcome for one in told.values() for _, outcome in one.attempts}
    assert outcomes == {Outcome.OK, Outcome.CANCELLED}


def test_every_place_that_is_held_behind_a_hedge_is_the_engine_s():
    """Servers that finish what is taken back, and whose places are counted."""
    compare("least", 800, 1, **HEDGING, max_in_flight=2, abandoned_s=30.0, queue={"length": 1000, "timeout_s": 30.0})


@pytest.mark.parametrize("seed", some(1, [3, 4, 5]))
def test_every_hedge_of_a_bad_day_is_the_engine_s(seed):
    compare_bad_day("p2c", seed, **HEDGING)


def test_bad_days_have_everything_that_is_compared():
    """What the comparison is worth: retries for each reason, local replies, a queue."""
    outcomes, statuses = set(), set()
    for seed in (3, 4, 5):
        for one in compare_bad_day("p2c", seed).values():
            outcomes |= {outcome for _, outcome in one.attempts}
            statuses.add(one.status)
    assert outcomes >= {Outcome.OK, Outcome.BAD_STATUS, Outcome.STALE_REUSE, Outcome.REFUSED, Outcome.TIMED_OUT}
    assert statuses >= {200, 504}


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["serving", "failing fast"])
def test_a_server_that_has_died_answers_nothing_while_its_connections_are_reset(share):
    """Each in its turn, a microsecond after the other: what would have been answered meanwhile is not."""
    options = {"retry": {"bad_statuses": [500], "more_attempts": 2}}
    errors = [(0.0, "b0:80", share)]
    visits = world("rand", 60, 4, Faults(errors=errors), **options).values()
    asked = [one for one in visits if one.outcomes[0][0] == "b0:80"]
    for one in asked[-6:]:
        answered_at = one.born + (0.001 if share else one.latency_s)
        told = compare("rand", 60, 4, Faults(down=[(answered_at - 0.5e-6, "b0:80")], errors=errors), **options)
        assert told[one.number].attempts[0] in [("b0:80", Outcome.STALE_REUSE), ("b0:80", Outcome.NO_RESPONSE)]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 300))
def test_every_attempt_of_many_bad_days_is_the_engine_s(seed):
    compare_bad_day(list(POLICIES)[seed % len(POLICIES)], seed)
