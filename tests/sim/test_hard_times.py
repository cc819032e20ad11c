"""Hard times, in a world: a backend that fails fast (sinkhole), and a cold one that joins."""

import math

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.pickers import POLICIES
from twisted_lb.plan import DEFAULT
from twisted_lb.sim.farm import Farm
from twisted_lb.sim.laws import Exponential, Poisson
from twisted_lb.sim.servers import Workers
from twisted_lb.sim.world import World

NAMES = [f"b{number}:80" for number in range(10)]
SERVICE = Exponential(0.02)


def config(policy, names=NAMES, **options):
    options = {"health_check": {"interval_s": 0.0}} | options
    return LoadBalancerConfig.model_validate({"backends": list(names), "policy": policy} | options)


# The sinkhole: who fails at once has nothing in flight.


@pytest.mark.parametrize(
    ("policy", "load", "share"),
    [
        ("rand", 0.5, 0.10),
        ("p2c", 0.3, 0.128),
        ("p2c", 0.5, 0.147),
        ("p2c", 0.8, 0.173),
        ("least", 0.3, 0.143),
        ("least", 0.5, 0.191),
        ("least", 0.8, 0.290),
    ],
)
def test_who_is_a_hundred_times_faster_draws_requests(policy, load, share):
    """A failure that nobody notices is a fast server. Independent simulations, to three digits; of 18,000 requests such a share
    deviates by sqrt(share * (1 - share) / 18000), at most 0.0034, times 3; picks are correlated: doubled.
    """
    farm = Farm(policy, 10, requests=20_000, service=SERVICE, arrivals=Poisson(load * 500), speeds={9: 100.0})
    assert farm.run().share("b9") == pytest.approx(share, abs=6 * math.sqrt(share * (1 - share) / 18_000))


def sinkhole(policy, requests=6_000, **options):
    """The share of a backend that answers 500 after 0.2 ms, from the beginning."""
    world = World(config(policy, **options), Poisson(250.0), SERVICE)
    world.errors("b9:80", within_s=0.0002)
    return world.run(requests).share("b9:80")


COUNTED = {"retry": {"bad_statuses": [500], "more_attempts": 0}}


@pytest.mark.parametrize("policy", ["latency", "prequal"])
def test_a_failure_that_counts_is_charged_as_slow(policy):
    """Chance would be 10 %, and who looks at requests in flight alone gives it 15 to 19."""
    assert sinkhole(policy, **COUNTED) < 0.02


@pytest.mark.parametrize("policy", ["p2c", "least"])
def test_who_looks_at_requests_in_flight_alone_is_drawn_into_a_sinkhole(policy):
    """Also where failures count, unless something takes the backend out: ejection by statuses is another part's business."""
    if ejected_by_status():
        pytest.skip("failures that count take it out")
    assert sinkhole(policy, **COUNTED) > 0.12


def ejected_by_status():
    """Whether failures that count take a backend out by default."""
    return sinkhole("rr", 2_000, **COUNTED) < 0.05


@pytest.mark.parametrize("policy", ["latency"])
def test_a_failure_that_does_not_count_is_the_fastest_answer(policy):
    """What `bad_statuses` is for: without, a status is an answer like any other."""
    assert sinkhole(policy) > 0.2


# A cold backend joins.


def joined(policy, requests=600):
    """Nine with 16 workers each at 0.9; the tenth joins when they are busy. The backends of all requests since, in order, and the most
    that the new one had in flight.
    """
    seen = []
    world = World(
        config(policy, NAMES[:9]),
        Poisson(0.9 * 9 * 16 / 0.02),
        SERVICE,
        server=lambda name: Workers(name, 16),
        observe=seen.append,
    )
    peak = [0]

    def look():
        peak[0] = max(peak[0], world.cluster.pool.backends["b9:80"].in_flight)
        world.clock.callLater(0.0002, look)

    world.at(0.5, world.apply, config(policy))
    world.at(0.5001, look)
    world.run(int(0.5 * 6480) + requests, warm_up=0.0)
    since = sorted((one for one in seen if one.born >= 0.5), key=lambda one: one.number)
    return [one.backend for one in since], peak[0]


def test_least_of_all_fills_a_cold_backend_up_to_the_level_of_the_others():
    """The first dozen requests all go there, in 2 ms: what slow start is for."""
    backends, peak = joined("least")
    assert set(backends[:8]) == {"b9:80"}
    assert 8 <= peak < 40


def test_two_choices_give_a_cold_backend_twice_its_share_at_most():
    """One of the two that are drawn is it with 2/10. Of 100 requests: 20, deviation 4; by 3 of it."""
    backends, _ = joined("p2c")
    assert 8 <= backends[:100].count("b9:80") <= 32


@pytest.mark.parametrize("policy", ["latency", "prequal"])
def test_who_looks_at_latency_sends_one_to_find_out(policy):
    """While nothing is known of it and one request is there, others go elsewhere; it has its share later."""
    backends, _ = joined(policy)
    first = backends.index("b9:80")
    assert backends[first + 1 : first + 20].count("b9:80") <= 4


@pytest.mark.parametrize("policy", ["rr", "rand", "least", "p2c", "latency", "prequal"])
def test_a_cold_backend_is_used_and_not_run_over(policy):
    """Within 600 requests, 0.09 s: of its share, 60, a third at least, and never more than twice what the others have in flight."""
    backends, peak = joined(policy)
    assert backends.count("b9:80") > 20
    assert peak <= 2 * 16 + 8


def test_ten_that_are_alike_have_alike_shares_in_the_end():
    world = World(config("least"), Poisson(400.0), SERVICE)
    run = world.run(8_000)
    assert world.data_plane.plan.pools[DEFAULT].policy is POLICIES["least"]
    for name in NAMES:  # of 7,200 by chance 720, deviation 25; those who count are more even
        assert run.share(name) == pytest.approx(0.1, abs=0.0105)
