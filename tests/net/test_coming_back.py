"""The last backend goes and comes back: who waits, who is told what, and how soon everybody is served again."""

import pytest
from house import GET, House

from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import BackendDown, BackendReturned, BackendUp
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.testing import ScriptedClient, response

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
ILL = response(b"ill", status=503)


def told(client: ScriptedClient) -> int:
    """The status that the client was told last, 0 for nothing."""
    _, found, rest = client.received.rpartition(b"HTTP/1.1 ")
    return int(rest[:3]) if found else 0


def ask_every(house: House, every_s: float, until_s: float, request: bytes = GET) -> list[tuple[float, ScriptedClient]]:
    """A new client each time; with the moment of each."""
    asked = []
    while house.clock.seconds() < until_s:
        asked.append((house.clock.seconds(), house.ask(request)))
        house.wait(every_s)
    return asked


@pytest.fixture
def lonely(build):
    """One backend, which answers, and the queue as it is by default; `checked(interval)` makes it a checked one."""

    def make(interval_s: float, **options) -> House:
        house = build(**{"health_check": {"interval_s": interval_s}, "queue": {"no_backend_s": 1.0}, **options})
        house.server = house.backend("a:80")
        house.wait(3)
        return house

    return make


INTERVALS = pytest.mark.parametrize("interval_s", [0.0, 2.0, 10.0])


@INTERVALS
@pytest.mark.parametrize("request_", [GET, POST])
def test_a_restart_within_the_wait_is_noticed_by_nobody(lonely, interval_s, request_):
    house = lonely(interval_s)
    house.server.stop()
    begins_at = house.clock.seconds()
    asked = ask_every(house, 0.05, begins_at + 0.7, request_)
    house.backend("a:80")
    asked += ask_every(house, 0.05, begins_at + 3.0, request_)
    house.wait(2)
    assert {told(client) for _, client in asked} == {200}
    assert house.cluster.snapshot().waiting == 0


@INTERVALS
@pytest.mark.parametrize("away_s", [1, 3, 10, 40, 300])
def test_after_an_outage_of_any_length_everybody_is_served_half_a_second_after_the_return(lonely, interval_s, away_s):
    house = lonely(interval_s)
    house.server.stop()
    begins_at = house.clock.seconds()
    during = ask_every(house, 0.5, begins_at + away_s)
    house.backend("a:80")
    back_at = house.clock.seconds()
    after = ask_every(house, 0.05, back_at + 3.0)
    house.wait(2)
    assert {told(client) for at, client in after if at >= back_at + 0.5} == {200}
    assert {told(client) for _, client in during if told(client) != 200} <= {502, 503}


def test_an_outage_without_any_requests_costs_the_next_one_nothing(lonely):
    house = lonely(0.0)
    house.server.stop()
    house.ask()
    house.wait(500)
    house.backend("a:80")
    client = house.ask()
    assert told(client) == 200, "it is the trial, and that at once"


def test_who_waits_in_vain_is_told_the_status_of_its_last_attempt_or_503(lonely):
    house = lonely(10.0)
    house.server.stop()
    tried, new = house.ask(), house.ask()
    house.wait(0.9)
    assert (told(tried), told(new)) == (0, 0)
    house.wait(0.2)
    assert (told(tried), told(new)) == (502, 503)
    first, second = sorted(house.records[-2:], key=lambda record: -record.status)
    assert (first.local_reply, second.local_reply) == (Refusal.NO_BACKEND, Outcome.REFUSED)
    assert first.queued_s == pytest.approx(1.0)


def test_without_checks_one_of_those_that_wait_knocks_four_times_a_second(lonely):
    house = lonely(0.0)
    house.server.stop()
    clients = [house.ask() for _ in range(20)]
    house.wait(0.95)
    assert sum(house.members[0].outcomes) - house.members[0].outcomes[Outcome.OK] in (4, 5)
    house.wait(0.2)
    assert {told(client) for client in clients} == {502, 503}
    assert house.cluster.snapshot().waiting == 0


@pytest.mark.parametrize("initial", ["up", "down"])
def test_who_waits_is_served_by_a_backend_that_is_added_as_soon_as_it_may_be(lonely, initial):
    house = lonely(10.0, health_check={"interval_s": 10.0, "initial": initial}, queue={"no_backend_s": 0.5})
    house.server.stop()
    house.ask()
    house.wait(1)
    waiting = house.ask()
    house.backend("b:80")
    house.apply(backends=["a:80", "b:80"])
    house.wait(0.3)
    assert told(waiting) == 200


def test_more_than_may_wait_are_refused_at_once(lonely):
    house = lonely(10.0, queue={"no_backend_s": 1.0, "length": 3})
    house.server.stop()
    house.ask()
    clients = [house.ask() for _ in range(5)]
    assert [told(client) for client in clients] == [0, 0, 503, 503, 503]
    house.wait(2)


def test_off_means_that_nobody_waits(lonely):
    house = lonely(10.0, queue={"no_backend_s": 0.0})
    house.server.stop()
    assert [told(house.ask()) for _ in range(2)] == [502, 503]


def test_two_backends_that_go_at_once_are_like_one(build):
    house = build("a:80", "b:80", health_check={"interval_s": 2.0}, queue={"no_backend_s": 1.0})
    servers = [house.backend(name) for name in ("a:80", "b:80")]
    house.wait(3)
    for server in servers:
        server.stop()
    begins_at = house.clock.seconds()
    asked = ask_every(house, 0.05, begins_at + 0.6)
    house.backend("b:80")
    asked += ask_every(house, 0.05, begins_at + 2.0)
    house.wait(2)
    assert {told(client) for _, client in asked} == {200}


def test_a_request_that_waits_is_read_no_further_than_it_can_be_held(lonely):
    house = lonely(10.0, limits={"replay_body_bytes": 1000})
    house.server.stop()
    house.ask()
    body = b"x" * 500_000
    client = house.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert client.transport.unsent > 300_000
    backend = house.backend("a:80")
    house.wait(1)
    assert told(client) == 200
    assert backend.requests[-1].endswith(body) or backend.requests[-2].endswith(body)


# Checks.


def test_nobody_is_sent_where_the_last_check_found_it_unhealthy(lonely):
    """The promise of `-c`: it said no, and no haste of ours makes a yes of it."""
    house = lonely(2.0)
    house.server.script.extend([ILL] * 1000)
    house.wait(10)
    assert not house.members[0].usable
    asked = len([one for one in house.server.requests if not one.startswith(b"GET / HTTP/1.1\r\nHost: a")])
    clients = [house.ask() for _ in range(5)]
    house.wait(2)
    assert {told(client) for client in clients} == {503}
    assert len([one for one in house.server.requests if not one.startswith(b"GET / HTTP/1.1\r\nHost: a")]) == asked


def probes(house: House, backend, seconds: float) -> int:
    before = len(backend.connections)
    house.wait(seconds)
    return len(backend.connections) - before


def test_who_is_out_is_checked_once_a_second_and_five_times_while_somebody_waits(build):
    house = build("a:80", health_check={"interval_s": 10.0}, queue={"no_backend_s": 5.0})
    backend = house.backend("a:80", [ILL] * 10_000)
    house.wait(40)
    assert not house.members[0].usable
    assert 8 <= probes(house, backend, 10) <= 12
    house.ask()
    assert 18 <= probes(house, backend, 4) <= 23
    house.wait(2)
    assert house.cluster.snapshot().waiting == 0
    assert 8 <= probes(house, backend, 10) <= 12


def test_who_is_in_is_checked_as_often_as_ever_while_another_one_is_out(build):
    house = build("a:80", "b:80", health_check={"interval_s": 10.0})
    backend = house.backend("b:80")
    house.wait(40)
    assert [one.usable for one in house.members] == [False, True]
    assert 9 <= probes(house, backend, 100) <= 11


def test_down_interval_s_says_how_often(build):
    house = build("a:80", health_check={"interval_s": 2.0, "down_interval_s": 20.0})
    backend = house.backend("a:80", [ILL] * 10_000)
    house.wait(40)
    assert 4 <= probes(house, backend, 100) <= 6


def test_who_is_drained_by_the_operator_is_checked_as_ever(build):
    house = build("a:80", health_check={"interval_s": 10.0})
    backend = house.backend("a:80", [ILL] * 10_000)
    house.cluster.command("a:80", AdminState.DRAIN)
    house.wait(40)
    assert 9 <= probes(house, backend, 100) <= 11


def test_who_is_in_maintenance_is_not_checked_and_soon_when_it_is_over(build):
    house = build("a:80", "b:80", health_check={"interval_s": 10.0})
    backend = house.backend("a:80")
    house.wait(40)
    house.cluster.command("a:80", AdminState.MAINT)
    assert probes(house, backend, 100) == 0
    house.cluster.command("a:80", AdminState.READY)
    assert probes(house, backend, 1.1) == 1


def test_while_another_one_serves_a_return_takes_as_many_checks_as_it_should(build):
    house = build("a:80", "b:80", health_check={"interval_s": 2.0, "rise": 4})
    house.backend("b:80")
    house.wait(20)
    house.backend("a:80")
    at = house.clock.seconds()
    house.clock.run_until(lambda: house.members[0].usable, 60)
    assert 2.5 <= house.clock.seconds() - at <= 5
    kinds = [type(event) for event in house.events if event.backend_name == "a:80"]
    assert kinds[0] is BackendDown
    assert kinds[-1] in (BackendUp, BackendReturned)
