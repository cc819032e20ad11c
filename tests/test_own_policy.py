"""A policy of one's own in a whole balancer: what it decides, what is told of what it does wrong, and a reload."""

import pytest
from house import GET, House

from twisted_lb.admin.metrics import metrics_text
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.ask import ANY
from twisted_lb.core.events import PolicyFailed, PolicyHandedOver, PolicyTakenBack
from twisted_lb.core.measures import ProcessMeasures
from twisted_lb.plan_diff import plan_diff
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient
from twisted_lb.testing.balanced import runtime_of


class Last:
    """Picks the last one, says why, and knows how often it did."""

    def __init__(self, members, previous=None):
        self.members = members
        self.picks = previous.picks if previous else 0
        self.why = ""

    def pick(self, ask, now, rng, tried):
        self.picks += 1
        self.why = f"the last one, number {self.picks}"
        return [one for one in self.members if one.open_to(tried)][-1]


class Broken(Last):
    """Raises."""

    def pick(self, ask, now, rng, tried):
        raise KeyError("zone")


@pytest.fixture
def house():
    houses = []

    def make(*names, **options):
        houses.append(House(*names, **options))
        for name in names:
            houses[-1].backend(name)
        return houses[-1]

    yield make
    for one in houses:
        one.close()


def series(lb, name):
    text = metrics_text(lb.plane.measures(), ProcessMeasures("0", "3", False, 1.0)).decode()
    found = [line.split(" ") for line in text.splitlines() if line.startswith(f"twisted_lb_{name}{{")]
    return {labels.removeprefix(f"twisted_lb_{name}"): float(value) for labels, value in found}


def asked(lb):
    """Of a request that is asked now: its status, its backend, and what decided."""
    lb.ask(GET)
    lb.wait(0.2)
    [explained] = lb.plane.explained("recent", 1)
    [attempt] = explained.attempts
    return explained.status, attempt.backend, attempt.decision.rule


def test_it_is_asked_and_explained(house):
    lb = house("a:80", "b:80", policy=Last)
    status, backend, rule = asked(lb)
    assert (status, backend) == (200, "b:80")
    assert rule == f"policy {__name__}:Last: the last one, number 1"
    for _ in range(2):
        assert lb.pool.explain(ANY, lb.clock.seconds()).rule.endswith("number 2")


def test_where_it_fails_clients_notice_nothing_and_operators_do(house):
    lb = house("a:80", "b:80", policy=Broken)
    assert {asked(lb)[0] for _ in range(5)} == {200}
    [failed] = [event for event in lb.events if isinstance(event, PolicyFailed)]
    assert failed.what.startswith("raised KeyError: 'zone' (test_own_policy.py:")
    told = series(lb, "policy_faults_total")
    assert told['{pool="default",reason="raised",role="policy"}'] == 5
    assert sum(told.values()) == 5


def test_another_budget_leaves_its_state_and_is_told_by_a_reload(house):
    lb = house("a:80", "b:80", policy=Last)
    asked(lb)
    before = lb.plane.plan
    lb.apply(policy_budget_us=700)
    assert any("policy_budget_us 500 -> 700" in line for line in plan_diff(before, lb.plane.plan).lines)
    assert asked(lb)[2].endswith("number 2")
    lb.apply(backends=["b:80", "a:80"])
    _, backend, rule = asked(lb)
    assert backend == "a:80"
    assert rule.endswith("number 3")


def test_one_that_is_slow_hands_over_and_is_taken_back():
    clock = HeapClock(1000.0)
    network = MemoryNetwork(clock)
    readings = iter(range(10_000))
    config = LoadBalancerConfig.model_validate(
        {"backends": ["a:80", "b:80"], "policy": Last, "health_check": {"interval_s": 0.0}}
    )
    runtime = runtime_of(clock, network, stopwatch=lambda: next(readings) * 0.001)
    balanced = Balanced(config, network, runtime=runtime)
    for name in ("a:80", "b:80"):
        ScriptedBackend(network, name)
    client = ScriptedClient(network, "lb:8080")
    for _ in range(10):
        client.send(GET)
        clock.settle()
    clock.advance(0.5)
    handed = [event for event in balanced.events if isinstance(event, PolicyHandedOver)]
    assert len(handed) == 1
    pool = balanced.data_plane.measures().pools[0]
    assert (pool.minded.own["policy"].late, pool.minded.own["policy"].resting) == (10, True)
    clock.advance(10)
    assert isinstance(balanced.events[-1], PolicyTakenBack)
    assert not balanced.data_plane.measures().pools[0].minded.own["policy"].resting
    client.close()
    clock.settle()
    balanced.close()
    clock.advance(1)


def test_a_shadow_is_in_metrics_and_explanations_and_routes_nothing(house):
    lb = house("a:80", "b:80", policy="rr", shadow={"policy": Last})
    rules = [asked(lb)[2] for _ in range(4)]
    assert sum("; the shadow " in rule for rule in rules) == 4
    assert sum(" agrees: " in rule for rule in rules) == 2
    assert series(lb, "shadow_claims_total") == {'{pool="default"}': 4}
    assert series(lb, "shadow_agreed_total") == {'{pool="default"}': 2}
    assert set(series(lb, "shadow_in_flight").values()) == {0}
    before = lb.plane.plan
    lb.apply(shadow={"policy": None})
    assert any("shadow.policy" in line for line in plan_diff(before, lb.plane.plan).lines)
    assert "shadow" not in asked(lb)[2]
    assert series(lb, "shadow_claims_total") == {}
