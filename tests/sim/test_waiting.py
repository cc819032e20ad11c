"""The queue under load on virtual time: greedy clients beside modest ones, interactive requests before batch, overload with deadlines."""

from random import Random
from typing import Any

import pytest
from some import some

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.ask import Ask
from twisted_lb.sim import theory
from twisted_lb.sim.laws import Exponential, Fixed, Law, Lognormal, Poisson
from twisted_lb.sim.servers import Workers
from twisted_lb.sim.stats import Run, replicate
from twisted_lb.sim.visits import Visit
from twisted_lb.sim.world import World

NO_END: dict[str, Any] = {"response_head_s": 3600}
SERVED_S = 1.0


def visits(requests: int, rate: float, law: Law, *, workers: int = 1, timeouts: dict[str, Any] = NO_END, **world: Any):
    """What became of so many requests, by number, before a server of so many workers, which has as many at a time."""
    seen: list[Visit] = []
    config = LoadBalancerConfig.model_validate(
        {
            "backends": ["a:80"],
            "max_in_flight": workers,
            "health_check": {"interval_s": 0.0},
            "queue": {"length": 1_000_000, "timeout_s": 3600, "no_backend_s": 0.0},
            "timeouts": {**NO_END, **timeouts},
        }
    )
    World(config, Poisson(rate), law, server=lambda name: Workers(name, workers), observe=seen.append, **world).run(
        requests, warm_up=0.0
    )
    return sorted(seen, key=lambda one: one.number)


GREEDY, MODEST = 1, 2


def of_two(rng: Random) -> Ask:
    """19 of 20 are the greedy one's."""
    return Ask(lane=GREEDY if rng.random() < 0.95 else MODEST)


def alone(seen: list[Visit]) -> list[Visit]:
    """The modest one's requests that find none of its own before them."""
    mine = [one for one in seen if one.attempts.ask.lane == MODEST]
    return [
        one
        for before, one in zip([None, *mine], mine, strict=False)
        if before is None or before.born + before.latency_s <= one.born
    ]


def test_a_modest_client_waits_for_one_turn_of_a_greedy_one_whatever_that_sends():
    """One worker that is offered twice what it can serve: who was first may be under way, and one of the greedy one's is next."""
    fair = alone(visits(3000, 2.0, Fixed(SERVED_S), ask=of_two))
    assert len(fair) > 80
    assert max(one.latency_s for one in fair) <= 3 * SERVED_S + 1e-9
    together = alone(visits(3000, 2.0, Fixed(SERVED_S), ask=lambda rng: Ask(lane=0 * of_two(rng).lane)))
    assert together == [], "in one lane there is none of its own"


def test_without_lanes_the_modest_wait_as_long_as_the_greedy():
    """Who comes last finds half of all before it: 3,000 come in 1,500 s and are served in 3,000."""
    seen = visits(3000, 2.0, Fixed(SERVED_S), ask=lambda rng: Ask(cost=of_two(rng).lane))
    modest = [one.latency_s for one in seen if one.attempts.ask.cost == MODEST]
    assert max(modest) > 1000


@pytest.mark.long
def test_interactive_requests_wait_as_if_there_were_no_batch_but_for_what_is_under_way():
    """Non-preemptive priorities (Cobham 1954), a server that is always busy, as batch alone would have it: who is urgent waits
    R / (1 - load), with R = 0.5 of a fixed service that is under way, load 0.3: 0.714. Of 3,000 such waits, sd about 0.8 and
    correlated, the mean is within 0.1: five standard errors if one in ten counts.
    """
    seen = visits(12_000, 1.2, Fixed(SERVED_S), ask=lambda rng: Ask(urgency=1 if rng.random() < 0.25 else 6))[500:]
    interactive = [one.latency_s - SERVED_S for one in seen if one.attempts.ask.urgency == 1]
    assert sum(interactive) / len(interactive) == pytest.approx(0.5 / 0.7, abs=0.1)
    batch = [one.latency_s for one in seen if one.attempts.ask.urgency == 6]
    assert max(batch) > 1000


def of_a_queue(seed: int, policy: str) -> Run:
    """Four backends of two workers each, which have two requests at a time: what is beyond that waits in the pool."""
    config = LoadBalancerConfig.model_validate(
        {
            "backends": [f"b{number}:80" for number in range(4)],
            "policy": policy,
            "max_in_flight": 2,
            "health_check": {"interval_s": 0.0},
            "queue": {"length": 1_000_000, "timeout_s": 3600, "no_backend_s": 0.0},
            "timeouts": NO_END,
        }
    )
    law, arrivals = Exponential(SERVED_S), Poisson(8 * 0.8 / SERVED_S)
    return World(config, arrivals, law, seed=seed, server=lambda name: Workers(name, 2)).run(1_500)


@pytest.mark.parametrize("policy", some(1, ["rr", "least"]))
def test_one_queue_before_all_is_m_m_c_whatever_the_policy_is(policy):
    """Nobody waits while anybody is free: M/M/8 at 0.8, a latency of 1.29 services. Within 1.5 times an interval of 95 %, t
    with 7: 99.2 %.
    """
    found = replicate(lambda seed: of_a_queue(seed, policy), range(1, 9)).mean
    assert abs(found.value / SERVED_S - theory.m_m_c(8, 0.8)) < 1.5 * found.half / SERVED_S
    assert found.half < 0.2 * found.value


LAWS = [Fixed(SERVED_S), Lognormal(SERVED_S, 0.3), Exponential(SERVED_S)]


def goodput(law: Law, patience_s: float, *, told: bool) -> float:
    """Four workers are offered half more than they can serve: what share of that is answered within the clients' patience."""
    timeouts = {"deadline_s": patience_s} if told else {}
    seen = visits(2000, 6.0, law, workers=4, timeouts=timeouts, abandoned="stops")
    good = sum(one.status == 200 and one.latency_s <= patience_s for one in seen)
    return good * law.mean / (4 * seen[-1].born)


@pytest.mark.parametrize("patience_s", [2.0, 5.0])
@pytest.mark.parametrize("law", some(1, LAWS), ids=repr)
def test_where_too_many_come_deadlines_keep_what_is_done_worth_something(law, patience_s):
    """Without, all wait longer than anybody has patience for, soon after it has begun. With, hardly anything is sent in vain."""
    assert goodput(law, patience_s, told=False) < 0.1
    assert goodput(law, patience_s, told=True) > 0.85


def test_a_deadline_is_kept_to_the_moment_and_told_as_such():
    seen = visits(2000, 6.0, Exponential(SERVED_S), workers=4, timeouts={"deadline_s": 2.0})
    assert {one.status for one in seen} == {200, 504}
    assert all(one.latency_s <= 2.0 + 0.2 for one in seen)
    outcomes = {outcome.name for one in seen for _, outcome in one.outcomes if outcome is not None}
    assert outcomes == {"OK", "LATE"}
    assert all(one.attempts.count <= 1 for one in seen), "what is late is not asked for again"
