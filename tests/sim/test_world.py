"""A simulated world: the real data plane, and servers that are slow, fail and die on virtual time."""

import pytest
from some import some

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.events import BackendEjected, BackendReturned, PoolExhausted
from twisted_lb.core.outcome import Outcome
from twisted_lb.plan import DEFAULT
from twisted_lb.sim import theory
from twisted_lb.sim.farm import Farm
from twisted_lb.sim.laws import Exponential, Fixed, Lognormal, Poisson, Trace
from twisted_lb.sim.machines import Network
from twisted_lb.sim.servers import Delay, Sharing, Workers
from twisted_lb.sim.stats import replicate
from twisted_lb.sim.world import World


def config(*backends, **options):
    options = {"health_check": {"interval_s": 0.0}, "queue": {"no_backend_s": 0.0, "timeout_s": 0.0}} | options
    return LoadBalancerConfig.model_validate({"backends": list(backends or ("a:80",))} | options)


def visits_of(world, requests):
    seen = []
    world._observe = seen.append
    world.run(requests, warm_up=0.0)
    return sorted(seen, key=lambda one: one.number)


# Against the kernel, and against theory.


@pytest.mark.parametrize("policy", ["rr", "rand", "least", "prequal"])
def test_where_nothing_happens_it_is_the_kernel(policy):
    """To the last bit for a policy that draws nothing: the streams of the pools have other names."""
    ten = config(*(f"b{number}:80" for number in range(10)), policy=policy)
    farm = Farm(policy, requests=2_000, service=Exponential(0.02))
    world = World(ten, Poisson(farm.rate), Exponential(0.02)).run(2_000)
    if policy == "rr":
        assert world.latencies == farm.run().latencies
    else:
        assert world.mean == pytest.approx(farm.run().mean, rel=0.25)  # 2,000 at 0.8 tell no more


def sharing(law):
    def run(seed):
        return World(config(), Poisson(0.8 / law.mean), law, seed=seed, server=Sharing).run(4_000)

    return replicate(run, range(1, 9)).mean


@pytest.mark.parametrize("law", some(1, [Fixed(0.02), Exponential(0.02), Lognormal(0.02, 1.5)]), ids=str)
def test_processor_sharing_is_insensitive_to_the_law_of_service(law):
    """M/G/1-PS: 1 / (1 - load), whatever the law is; 5 at 0.8. Inside 1.5 times an interval of 95 %, t with 7: 99.2 %."""
    found = sharing(law)
    assert abs(found.value / 0.02 - theory.m_g_1_sharing(0.8)) < 1.5 * found.half / 0.02
    assert found.half < 0.25 * found.value


def lost(run):
    return run.statuses.get(503, 0) / sum(run.statuses.values())


@pytest.mark.parametrize("law", [Exponential(0.02), Fixed(0.02)], ids=str)
def test_a_pool_without_a_queue_loses_what_erlang_says(law):
    """One backend with a limit of 5, as many workers, 4 erlangs: B = 0.199, whatever the law of service is."""

    def run(seed):
        world = World(config(), Poisson(4 / law.mean), law, seed=seed, server=lambda name: Workers(name, 5))
        world.data_plane.set_limit(DEFAULT, "a:80", 5)
        return world.run(4_000)

    found = replicate(run, range(1, 9)).of(lost)
    assert abs(found.value - theory.erlang_b(5, 4.0)) < 1.5 * found.half
    assert found.half < 0.02


def test_a_server_with_a_full_backlog_resets_connections():
    """Erlang's B again, where it is the server that is full: nothing is tried again, so that each is asked for once."""

    def run(seed):
        world = World(
            config(retry={"more_attempts": 0}),
            Poisson(4 / 0.02),
            Exponential(0.02),
            seed=seed,
            server=lambda name: Workers(name, 5, backlog=0),
        )
        return world.run(4_000)

    found = replicate(run, range(1, 9)).of(lambda one: one.statuses.get(502, 0) / sum(one.statuses.values()))
    assert abs(found.value - theory.erlang_b(5, 4.0)) < 1.5 * found.half


# What happens to servers.


def test_a_server_that_dies_is_ejected_and_nobody_is_failed():
    world = World(config("a:80", "b:80"), Trace([0.1 * number for number in range(40)]), Fixed(0.03))
    world.at(0.91, world.down, "a:80")
    visits = visits_of(world, 40)
    assert {one.status for one in visits} == {200}
    assert {one.backend for one in visits[10:20]} == {"b:80"}
    assert any(isinstance(event, BackendEjected) and event.backend_name == "a:80" for event in world.events)


def test_what_a_server_was_asked_when_it_died_is_asked_of_another():
    world = World(config("a:80", "b:80"), Trace([0.0, 0.01, 0.5, 0.51]), Fixed(0.2))
    world.at(0.55, world.down, "a:80")
    world.at(0.55, world.down, "b:80")
    world.at(0.6, world.up, "a:80")
    outcomes = [one.outcomes for one in visits_of(world, 4)]
    assert [len(one) for one in outcomes[:2]] == [1, 1]
    assert outcomes[2][0][1] is Outcome.STALE_REUSE  # a kept connection; then nobody listened


def test_checks_bring_a_server_back():
    checked = config("a:80", "b:80", health_check={"interval_s": 0.5, "rise": 2})
    world = World(checked, Trace([0.05 * number for number in range(200)]), Fixed(0.01))
    world.at(2.01, world.down, "a:80")
    world.at(5.0, world.up, "a:80")
    visits = visits_of(world, 200)
    assert {one.status for one in visits} == {200}
    (back,) = [event.at for event in world.events if isinstance(event, BackendReturned)]
    assert 5.0 < back < 5.0 + 2 * 0.55 + 0.55  # two checks of at most 0.55 s, and what the first one has waited
    late = {one.backend for one in visits if one.born > back + 0.1}
    assert late == {"a:80", "b:80"}


def test_a_request_waits_for_somebody_to_come_back():
    waiting = config("a:80", queue={"no_backend_s": 5.0})
    world = World(waiting, Trace([0.0, 1.0]), Fixed(0.01))
    world.at(0.5, world.down, "a:80")
    world.at(2.0, world.up, "a:80")
    first, second = visits_of(world, 2)
    assert (first.status, second.status) == (200, 200)
    assert 1.0 < second.latency_s < 1.6
    assert any(isinstance(event, PoolExhausted) for event in world.events)


def test_a_server_is_slow_for_a_while():
    world = World(config(), Trace([0.0, 1.0, 2.0]), Fixed(0.1))
    world.at(0.5, world.slow, "a:80", 0.25)
    world.at(1.5, world.slow, "a:80", 1.0)
    assert [one.latency_s for one in visits_of(world, 3)] == pytest.approx([0.1, 0.4, 0.1])


def test_a_server_fails_fast():
    world = World(config(), Trace([0.0, 1.0, 2.0]), Fixed(0.1))
    world.at(0.5, world.errors, "a:80")
    world.at(1.5, world.errors, "a:80", 0.0)
    visits = visits_of(world, 3)
    assert [one.status for one in visits] == [200, 500, 200]
    assert visits[1].latency_s == pytest.approx(0.001)


def test_an_error_that_counts_is_tried_elsewhere():
    world = World(config("a:80", "b:80", retry={"bad_statuses": [500]}), Trace([0.1, 0.2, 0.3, 0.4]), Fixed(0.01))
    world.errors("a:80")
    visits = visits_of(world, 4)
    assert {one.status for one in visits} == {200}
    assert [len(one.outcomes) for one in visits].count(2) >= 1


def test_what_is_not_idempotent_is_not_tried_again():
    posts = World(config("a:80", "b:80"), Trace([0.0, 0.0]), Fixed(1.0), method="POST")
    posts.at(0.5, posts.down, "a:80")
    assert sorted(one.status for one in visits_of(posts, 2)) == [200, 502]


def test_a_request_that_takes_too_long_is_given_up_and_goes_on_there():
    """The deadline is looked at every 0.1 s."""
    slow = config(timeouts={"response_head_s": 1.0}, retry={"more_attempts": 0})
    world = World(slow, Trace([0.0, 2.0]), Fixed(3.0))
    first, second = visits_of(world, 2)
    assert (first.status, second.status) == (504, 504)
    assert first.latency_s == pytest.approx(1.0, abs=0.11)


@pytest.mark.parametrize(("abandoned", "latency_s"), [("finishes", 0.5), ("stops", 0.1)])
def test_what_nobody_waits_for_is_finished_or_not(abandoned, latency_s):
    demands = iter([1.5, 0.1])

    class Law:
        mean = 1.0

        def block(self, rng, count):
            return list(demands)

    short = config(timeouts={"response_head_s": 1.0}, retry={"more_attempts": 0})
    world = World(short, Trace([0.0, 1.1]), Law(), abandoned=abandoned)
    assert visits_of(world, 2)[1].latency_s == pytest.approx(latency_s)


def test_the_way_there_and_back_is_inside_the_lease():
    world = World(
        config(),
        Trace([0.0, 1.0]),
        Fixed(0.1),
        network=Network(to_backend_s=0.01, connect_s=0.02),
        server=Delay,
    )
    first, second = visits_of(world, 2)
    assert first.latency_s == pytest.approx(0.02 + 0.01 + 0.1 + 0.01)
    assert second.latency_s == pytest.approx(0.01 + 0.1 + 0.01)  # its connection was kept


def test_another_configuration_is_gone_by_from_its_moment_on():
    world = World(config("a:80"), Trace([0.1 * number for number in range(20)]), Fixed(0.01))
    world.at(0.95, world.apply, config("a:80", "b:80"))
    visits = visits_of(world, 20)
    assert {one.backend for one in visits[:10]} == {"a:80"}
    assert {one.backend for one in visits[10:]} == {"a:80", "b:80"}


def test_the_same_seed_is_the_same_run():
    def digest(seed):
        world = World(config("a:80", "b:80", policy="p2c"), Poisson(60.0), Exponential(0.02), seed=seed)
        world.at(1.0, world.down, "a:80")
        return world.run(300).digest

    assert digest(1) == digest(1) != digest(2)


def test_what_it_cannot_be_is_said():
    with pytest.raises(ValueError, match="abandoned should be finishes or stops, not 'goes on'"):
        World(config(), Poisson(1.0), Fixed(1.0), abandoned="goes on")
    with pytest.raises(ValueError, match="no route leads to a pool api"):
        World(config(), Poisson(1.0), Fixed(1.0), pool="api")
    with pytest.raises(ValueError, match="connections to the pool default are carried as they are"):
        World(config(protocol="tcp"), Poisson(1.0), Fixed(1.0))
