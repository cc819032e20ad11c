"""The self-check: what must be so is so, and what is not is counted and said."""

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.outcome import Outcome
from twisted_lb.self_check import SelfCheck
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient, Wait, response

GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


class Running:
    """A balancer with one request under way and one that waits for a backend."""

    def __init__(self) -> None:
        self.clock = HeapClock()
        network = MemoryNetwork(self.clock)
        config = LoadBalancerConfig(backends=["a:80", "b:80"], health_check={"interval_s": 0.0})
        self.balanced = Balanced(config, network)
        for name in ("a:80", "b:80"):
            ScriptedBackend(network, name, [[Wait(5), response(b"x")]])
        self.clients = [ScriptedClient(network, "lb:8080").send(GET) for _ in range(2)]
        self.clock.settle()
        self.plane = self.balanced.data_plane
        self.check = self.plane.self_check

    def looks(self) -> list[str]:
        return self.check.look(self.clock.seconds())

    def end(self) -> None:
        self.clock.advance(6)
        for client in self.clients:
            client.close()
        self.clock.settle()


@pytest.fixture
def running():
    return Running()


def test_while_requests_run_and_when_they_have_ended_nothing_is_wrong(running):
    assert running.plane.exchanges == 2
    assert running.looks() == []
    running.end()
    assert running.plane.exchanges == 0
    assert running.looks() == []
    assert running.check.violations == 0


def one_lease_too_many(plane):
    plane.clusters["default"].pool.backends["a:80"].requests += 1


def one_settled_twice(plane):
    plane.clusters["default"].pool.backends["a:80"].outcomes[Outcome.OK] += 1


def one_in_flight_nowhere(plane):
    counts = plane.clusters["default"].pool.counts
    counts.claim(counts.open())


def a_ticket_nobody_waits_with(plane):
    cluster = plane.clusters["default"]
    cluster.waiting[object()] = object()


def a_tunnel_of_nobody(plane):
    plane.frontends["default"].tunnels += 1


def an_exchange_that_never_began(plane):
    plane.frontends["default"].exchanges += 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (one_lease_too_many, ["pool default: a:80 has 2 leases, 0 settled and 1 open"]),
        (one_settled_twice, ["pool default: a:80 has 1 leases, 1 settled and 1 open"]),
        (
            one_in_flight_nowhere,
            [
                "pool default: 3 are in flight, 2 of them at a backend",
                "3 requests are at backends or wait for one, and 2 exchanges run",
            ],
        ),
        (
            a_ticket_nobody_waits_with,
            [
                "pool default: 1 requests wait with 0 tickets",
                "3 requests are at backends or wait for one, and 2 exchanges run",
            ],
        ),
        (a_tunnel_of_nobody, ["clients have 1 tunnels, and backends 0"]),
        (an_exchange_that_never_began, ["listener default: 2 exchanges have begun, 0 ended and 3 run"]),
    ],
)
def test_what_does_not_add_up_is_named(running, logged_errors, spoil, said):
    spoil(running.plane)
    assert running.looks() == said
    assert running.check.violations == len(said)
    assert [event["what"] for event in logged_errors.take()] == said


def test_the_same_is_counted_each_time_and_said_once_a_minute(running, logged_errors):
    one_lease_too_many(running.plane)
    now = running.clock.seconds()
    for later in (0, 5, 59, 61):
        running.check.look(now + later)
    assert running.check.violations == 4
    assert len(logged_errors.take()) == 2


def test_it_looks_every_five_seconds_by_itself(running, logged_errors):
    one_lease_too_many(running.plane)
    running.clock.advance(4)
    few = running.check.violations
    running.clock.advance(11)
    assert few <= 1
    assert running.check.violations in (3, 4)
    logged_errors.take()


def test_descriptors_that_no_part_knows_are_told_when_they_stay(logged_errors):
    descriptors = [20]
    check = SelfCheck(lambda: ([], []), lambda: 10, lambda: descriptors[0])
    assert check.look(0) == []
    descriptors[0] = 200
    said = [check.look(5.0 * turn) for turn in range(1, 13)]
    assert said[:11] == [[]] * 11
    assert said[11] == ["190 descriptors are open that no part knows, 10 were"]
    descriptors[0] = 30
    assert check.look(100) == []
    assert len(logged_errors.take()) == 1


def test_descriptors_of_a_connection_are_known(running):
    watched = [10]
    check = SelfCheck(lambda: ([], []), lambda: watched[0], lambda: watched[0] + 5)
    for turn in range(40):
        watched[0] += 50
        assert check.look(5.0 * turn) == []
