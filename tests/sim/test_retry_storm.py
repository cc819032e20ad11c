"""A retry storm, in a world: three slow servers for ten seconds, and what is left of it afterwards, with the retry budget and without."""

import math

import pytest
from some import some

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.sim.laws import Exponential, Poisson
from twisted_lb.sim.servers import Workers
from twisted_lb.sim.world import World

NAMES = [f"b{number}:80" for number in range(3)]
SERVICE_S = 0.02
# 150 requests a second are what all three can serve; a balancer that tries each three times asks for 315.
ARRIVES = 105.0
SLOW_FROM, SLOW_TO, ENDS = 20.0, 30.0, 120.0


def storm(**retry):
    """Which share of the requests was answered in time, by the ten seconds in which they came, and how many attempts each had then.
    Who gives up after half a second is worked for all the same (WSGI).
    """
    config = LoadBalancerConfig.model_validate(
        {
            "backends": NAMES,
            "policy": "p2c",
            "health_check": {"interval_s": 0.0},
            "timeouts": {"attempt_s": 0.5, "response_head_s": 5.0},
            "retry": {"more_attempts": 2, **retry},
        }
    )
    seen = []
    world = World(
        config,
        Poisson(ARRIVES),
        Exponential(SERVICE_S),
        seed=3,
        server=lambda name: Workers(name, 1),
        observe=seen.append,
    )
    for name in NAMES:
        world.at(SLOW_FROM, world.slow, name, 0.2)
        world.at(SLOW_TO, world.slow, name, 1.0)
    world.run(int(ARRIVES * ENDS), warm_up=0.0)
    tens = [[one for one in seen if 10 * ten <= one.born < 10 * ten + 10] for ten in range(12)]
    answered = [sum(one.status == 200 for one in ten) / len(ten) for ten in tens]
    return answered, [sum(one.attempts.count for one in ten) / len(ten) for ten in tens]


def test_without_a_budget_the_storm_outlives_its_cause():
    """Metastable: all three attempts of each request keep the servers busy with what nobody waits for any more."""
    answered, attempts = storm(budget_percent=100, budget_per_s=100_000)
    assert answered[0] > 0.99
    assert max(answered[4:]) < 0.05
    assert min(attempts[4:]) > 2.8


def test_with_the_budget_it_is_over_soon():
    """Of 105 requests a second 126 come to the servers at most, and 150 they can serve: the backlog of the ten seconds is worked off."""
    answered, attempts = storm(budget_percent=20, budget_per_s=0)
    assert answered[0] > 0.99
    assert answered[2] < 0.3, "while they are slow"
    assert min(answered[-3:]) > 0.99
    # Once what the ten seconds before have saved can be spent besides; a request that came in one ten may be repeated in the next.
    assert max(attempts) < 1.4
    assert max(attempts[3:]) < 1.2 * 1.05
    assert math.isclose(attempts[0], 1.0, abs_tol=0.05)


@pytest.mark.parametrize("backoff_s", some(1, [0.05, 0.5]))
def test_waits_alone_are_no_budget(backoff_s):
    """They move the storm by their length, and it lasts."""
    answered, _ = storm(budget_percent=100, budget_per_s=100_000, backoff_s=backoff_s)
    assert max(answered[5:]) < 0.05
