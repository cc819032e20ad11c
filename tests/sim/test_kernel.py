"""The loop of a simulation: by hand where a hand can follow, to the last bit where two builds have to agree."""

import random

import pytest

from twisted_lb.core.pickers import Picker
from twisted_lb.sim.farm import Farm
from twisted_lb.sim.laws import Empirical, Exponential, Fixed, Trace
from twisted_lb.sim.observe import Unstable


def farm(*moments, demand=2.0, **options):
    options = {"policy": "rr", "backends": 1, "warm_up": 0.0} | options
    return Farm(service=Fixed(demand), arrivals=Trace(moments), requests=len(moments), **options)


def test_a_request_waits_for_those_before_it():
    assert list(farm(0.0, 1.0, 2.0, 10.0).run().latencies) == [2.0, 3.0, 4.0, 2.0]


def test_a_request_waits_for_the_first_of_several_workers():
    assert list(farm(0.0, 1.0, 1.5, 1.5, workers=2).run().latencies) == [2.0, 2.0, 2.5, 3.5]


def test_a_server_of_twice_the_speed_takes_half_the_time():
    assert list(farm(0.0, 5.0, speeds={0: 2.0}).run().latencies) == [1.0, 1.0]


def test_what_comes_before_the_end_of_the_warm_up_is_served_and_not_counted():
    run = farm(0.0, 1.0, 2.0, 10.0, warm_up=0.5).run()
    assert list(run.latencies) == [4.0, 2.0]
    assert run.servers["b0"].requests == 2


def test_fewer_requests_come_where_the_arrivals_end():
    run = Farm("rr", 1, requests=100, warm_up=0.0, service=Fixed(1.0), arrivals=Trace([0.0, 3.0])).run()
    assert list(run.latencies) == [1.0, 1.0]


def test_a_request_that_no_backend_has_room_for_is_refused():
    run = farm(0.0, 1.0, 2.0, max_in_flight=1).run()
    assert list(run.latencies) == [2.0, 2.0]
    assert run.statuses == {200: 2, 503: 1}


def test_another_policy_meets_the_same_requests():
    """The work of all of them, whoever does it; summed in another order."""
    work = [sum(one.offered for one in Farm(name, requests=2_000).run().servers.values()) for name in ("rr", "least")]
    assert work[0] == pytest.approx(work[1], rel=1e-12)


def test_another_seed_is_another_run_and_the_same_seed_the_same():
    runs = [Farm("rand", requests=500).run(seed).digest for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_each_balancer_counts_for_itself():
    """Two with one request each: neither knows of the other's, so that both scan an idle pool."""
    alone = Farm("least", 10, 0.9, 20_000).run().mean
    many = Farm("least", 10, 0.9, 20_000, balancers=10).run().mean
    assert many > 1.5 * alone


def test_requests_with_keys_are_asked_for_with_them():
    heard = set()

    class Ear(Picker):
        def __init__(self, members):
            super().__init__()
            self.members = members

        def pick(self, ask, now, rng, tried):
            heard.add(ask.key)
            return self.members[ask.key % len(self.members)]

    class Listening:
        describe, eager, keyed = "listening", True, True

        def loads(self, counts):
            return None

        def build(self, members, previous, rng, now):
            return Ear(members)

    Farm(Listening(), requests=500, keys=7).run()
    assert len(heard) == 7


# Unstable runs.


def test_a_server_that_is_offered_more_than_it_can_serve_has_no_latency():
    run = Farm("rr", 10, 0.5, 10_000, speeds={3: 0.1}).run()
    assert run.unstable.startswith("b3 is offered ")
    assert run.share("b3") == pytest.approx(0.1)
    for measure in (lambda: run.mean, lambda: run.p99, lambda: run.quantile(0.5)):
        with pytest.raises(Unstable, match="b3"):
            measure()


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_busy_server_is_no_unstable_one(seed):
    """M/M/1 at 0.9, 2,000 requests for each of ten: the most of ten is offered more than it can serve now and then."""
    assert not Farm("rand", 10, 0.9, 20_000, Exponential(1.0)).run(seed).unstable


# Pure and compiled.

# Whoever changes what a policy draws changes these: the failure says what they are now. Both builds have to agree.
DIGESTS = {
    "rr": "027db0d53ef0e9f9",
    "rand": "7ed071c064d16214",
    "least": "b6f5cee7243db620",
    "p2c": "c25b58d381f87cb7",
    "latency": "1e17ea152786d1c1",
    "prequal": "daa9d5d8d0d8c6c6",
}


@pytest.mark.parametrize("policy", DIGESTS)
def test_both_builds_give_the_same_bits(policy):
    """Times of sums and quotients alone, which IEEE 754 has exact: no logarithm, whose last bit is the platform's."""
    rng = random.Random(1)
    moments, now = [], 0.0
    for _ in range(5_000):
        now += rng.random() * 0.0025 * 2  # 400 a second, of 10 backends with 20 ms each: 0.8
        moments.append(now)
    work = Empirical([rng.random() * 0.04 for _ in range(997)])
    run = Farm(policy, service=work, arrivals=Trace(moments), requests=len(moments)).run(1)
    assert run.digest == DIGESTS[policy]
