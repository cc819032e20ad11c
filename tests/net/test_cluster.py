"""A cluster: who is in a pool, what that means for connections and checks, and the queue for its backends."""

import dataclasses

import pytest
from house import GET, House

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.events import BackendRemoved
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.testing import (
    NEVER_ANSWER,
    Balanced,
    HeapClock,
    MemoryNetwork,
    ScriptedBackend,
    ScriptedClient,
    Wait,
    response,
)

LATE = [Wait(3), response(b"late")]


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def update(house: House, *texts: str) -> None:
    house.cluster.update(BackendSpec.parse(text) for text in texts)
    house.clock.settle()


def told(client: ScriptedClient) -> int:
    """The status that the client was told last, 0 for nothing."""
    _, found, rest = client.received.rpartition(b"HTTP/1.1 ")
    return int(rest[:3]) if found else 0


# Members.


def test_a_cluster_says_how_it_is(build):
    house = build("a:80", "b:80")
    house.backend("a:80")
    house.ask()
    pool = "<Pool default: 2 usable of 2, 0 in flight>"
    assert repr(house.cluster) == f"<Cluster default: 1 connections open, 1 idle, {pool}>"


def test_a_connection_to_a_backend_that_was_removed_meanwhile_is_not_put_back(build):
    house = build()
    house.backend("a:80", [LATE])
    client = house.ask()
    update(house, "b:80")
    house.wait(3)
    assert client.received.endswith(b"late")
    assert (house.cluster.idle, house.cluster.open) == (0, 0)


def test_nor_is_one_to_the_address_that_a_backend_had(build):
    house = build()
    old = house.backend("a:80", [LATE])
    new = house.backend("new:80")
    client = house.ask()
    house.cluster.update([BackendSpec("a:80", TcpAddress("new", 80))])
    house.wait(3)
    assert client.received.endswith(b"late")
    assert house.cluster.open == 0
    house.ask()
    assert (len(old.requests), len(new.requests)) == (1, 1)


def test_nor_to_a_backend_that_has_come_back_under_its_name(build):
    house = build()
    backend = house.backend("a:80", [LATE])
    house.ask()
    update(house, "b:80")
    update(house, "a:80")
    house.wait(3)
    assert house.cluster.open == 0
    house.ask()
    assert [len(one.requests) for one in backend.connections] == [1, 1]


def test_what_is_kept_of_connections_to_a_backend_that_is_removed_is_closed(build):
    house = build("a:80", "b:80")
    backends = [house.backend(name) for name in ("a:80", "b:80")]
    for _ in range(2):
        house.ask()
    assert house.cluster.idle == 2
    update(house, "b:80")
    assert (house.cluster.idle, house.cluster.open) == (1, 1)
    assert [backend.connections[0].open for backend in backends] == [False, True]


def test_a_backend_that_is_added_is_checked_and_used(build):
    house = build(health_check={"interval_s": 2.0, "path": "/well"})
    house.backend("a:80")
    house.wait(3)
    added = house.backend("b:80")
    update(house, "a:80", "b:80")
    for _ in range(2):
        house.ask()
    house.wait(3)
    assert {request.split()[1] for request in added.requests} == {b"/", b"/well"}
    assert house.members[1].health.known


def test_a_backend_that_is_removed_is_checked_no_more(build):
    house = build("a:80", "b:80", health_check={"interval_s": 2.0})
    house.wait(3)
    update(house, "a:80")
    house.network.dialled.clear()
    house.wait(10)
    assert {str(address) for address in house.network.dialled} == {"a:80"}


def test_a_backend_that_moves_is_checked_where_it_is_now(build):
    house = build(health_check={"interval_s": 2.0})
    house.wait(3)
    house.cluster.update([BackendSpec("a:80", TcpAddress("new", 80))])
    house.network.dialled.clear()
    house.wait(10)
    assert {str(address) for address in house.network.dialled} == {"new:80"}


def test_an_update_that_cannot_be_changes_neither_members_nor_connections_nor_checks(build):
    house = build(health_check={"interval_s": 2.0})
    house.backend("a:80")
    house.ask()
    house.wait(3)
    with pytest.raises(ValueError, match="twice"):
        update(house, "b:80", "c:80", "b:80")
    house.network.dialled.clear()
    house.wait(10)
    assert [member.name for member in house.members] == ["a:80"]
    assert house.cluster.idle == 1
    assert {str(address) for address in house.network.dialled} == {"a:80"}


def test_whoever_hears_of_a_removal_finds_no_connection_any_more():
    network = MemoryNetwork(HeapClock())
    heard: list[tuple[type, int]] = []
    config = LoadBalancerConfig(backends=["a:80"], health_check={"interval_s": 0.0})
    balanced = Balanced(config, network, hear=lambda event: heard.append((type(event), balanced.cluster.idle)))
    ScriptedBackend(network, "a:80")
    ScriptedClient(network, "lb:8080").send(GET)
    network.clock.settle()
    assert balanced.cluster.idle == 1
    balanced.cluster.update([])
    assert heard[0] == (BackendRemoved, 0)
    balanced.close()
    network.clock.settle()


def test_a_backend_that_traffic_finds_closed_is_checked_at_once(build):
    house = build(health_check={"interval_s": 60.0})
    backend = house.backend("a:80")
    house.wait(3)
    backend.stop()
    house.ask()
    house.network.dialled.clear()
    house.wait(0.1)
    assert len(house.network.dialled) == 1


def test_a_word_about_a_backend_that_is_not_there_is_a_key_error(build):
    with pytest.raises(KeyError, match="no backend is called b:80"):
        build().cluster.command("b:80", AdminState.DRAIN)


def test_a_check_of_a_backend_that_was_removed_meanwhile_is_passed_over(build):
    house = build(health_check={"interval_s": 60.0})
    house.cluster.observe_probe("b:80", passed=False, reason="late")
    assert house.events == []


def test_a_backend_in_maintenance_is_asked_nothing_and_one_that_is_ready_again_is(build):
    house = build("a:80", "b:80")
    backends = [house.backend(name) for name in ("a:80", "b:80")]
    house.cluster.command("a:80", AdminState.MAINT)
    for _ in range(4):
        house.ask()
    assert [len(backend.requests) for backend in backends] == [0, 4]
    house.cluster.command("a:80", AdminState.READY)
    for _ in range(4):
        house.ask()
    assert [len(backend.requests) for backend in backends] == [2, 6]


def test_after_everything_was_closed_nothing_is_kept(build):
    house = build()
    backend = house.backend("a:80")
    house.ask()
    house.cluster.close_all()
    house.clock.settle()
    house.ask()
    assert (len(backend.requests), house.cluster.open) == (2, 0)


# The queue.


def queue(house: House, most: int = 2, wait_s: float = 1.0, **settings) -> House:
    cluster = house.cluster
    wanted = dataclasses.replace(
        house.pool.settings, max_queued=most, queue_timeout_s=wait_s, no_backend_s=wait_s, **settings
    )
    cluster.configure(cluster.upstream_rules, wanted)
    return house


def down(house: House, name: str = "a:80") -> None:
    """Let checks find that it is down."""
    for _ in range(house.pool.settings.fall):
        house.cluster.observe_probe(name, passed=False, reason="made to fail")


def up(house: House, name: str = "a:80") -> None:
    for _ in range(house.pool.settings.rise):
        house.cluster.observe_probe(name, passed=True, reason="fine")
    house.clock.settle()


@pytest.fixture
def waiting(build):
    """One backend, down, that would answer; two requests may wait for a second."""
    house = queue(build(health_check={"interval_s": 3600.0, "timeout_s": 1.0}))
    house.answering = house.backend("a:80")
    house.wait(5)
    house.cluster.checks.stop()
    house.answering.requests.clear()
    down(house)
    return house


def test_a_request_waits_for_a_backend_and_is_granted_the_one_that_comes_back(waiting):
    client = waiting.ask()
    waiting.wait(0.7)
    assert (client.received, waiting.cluster.snapshot().waiting) == (b"", 1)
    up(waiting)
    assert told(client) == 200
    assert waiting.record.queued_s == pytest.approx(0.7)
    assert len(waiting.record.attempts) == 1


def test_a_wait_in_vain_ends_with_503(waiting):
    client = waiting.ask()
    waiting.wait(0.9)
    assert told(client) == 0
    waiting.wait(0.5)
    assert told(client) == 503
    assert b"\r\nRetry-After: " in client.received
    record = waiting.record
    assert (record.local_reply, record.attempts, record.backend_name) == (Refusal.NO_BACKEND, [], "")
    assert record.queued_s == pytest.approx(1.0, abs=0.3)


def test_who_finds_the_queue_full_gets_503_at_once(waiting):
    clients = [waiting.ask() for _ in range(3)]
    assert [told(client) for client in clients] == [0, 0, 503]
    assert waiting.record.queued_s == 0
    up(waiting)
    assert [told(client) for client in clients] == [200, 200, 503]


def test_who_leaves_gives_up_its_place_and_nobody_is_asked_for_it(waiting):
    clients = [waiting.ask() for _ in range(2)]
    clients[0].reset()
    waiting.clock.settle()
    assert waiting.cluster.snapshot().waiting == 1
    assert (waiting.record.status, waiting.record.attempts) == (0, [])
    third = waiting.ask()
    up(waiting)
    assert (told(clients[1]), told(third)) == (200, 200)
    assert len(waiting.answering.requests) == 2


def test_what_is_granted_to_one_who_left_meanwhile_is_given_back(waiting):
    """The one that was served before it has made it leave: its verdict was made already."""
    cluster = waiting.cluster
    tickets = [cluster.pool.claim(Ask(), waiting.clock.seconds()) for _ in range(2)]

    class First:
        def granted(self, ticket, verdict):
            cluster.leave(tickets[1])
            cluster.pool.settle(verdict, Outcome.OK, waiting.clock.seconds())

    cluster.wait(tickets[0], First())
    cluster.wait(tickets[1], First())
    up(waiting)
    assert cluster.snapshot().waiting == 0
    assert [backend.in_flight for backend in cluster.pool.backends.values()] == [0]
    assert cluster.pool.backends["a:80"].outcomes[Outcome.CANCELLED] == 1


def test_a_client_that_closes_its_side_gives_up_its_place_too(waiting):
    client = waiting.ask()
    client.half_close()
    waiting.clock.settle()
    assert waiting.cluster.snapshot().waiting == 0
    up(waiting)
    assert waiting.answering.requests == []


def test_a_body_is_not_read_on_while_its_request_waits_and_arrives_whole_when_it_is_granted(waiting):
    waiting.apply(limits={"replay_body_bytes": 8192})
    queue(waiting)
    body = bytes(range(256)) * 4096
    client = waiting.ask(post(body))
    [connection] = waiting.frontend.clients
    assert client.transport.unsent > len(body) // 2
    assert waiting.cluster.snapshot().waiting == 1
    waiting.wait(0.5)
    assert client.transport.unsent > len(body) // 2
    assert connection in waiting.frontend.clients
    up(waiting)
    assert told(client) == 200
    assert waiting.answering.requests[-1].endswith(body)


def test_the_time_for_a_body_does_not_pass_while_nobody_reads_it(waiting):
    waiting.apply(limits={"replay_body_bytes": 1000}, timeouts={"body_idle_s": 1.0})
    queue(waiting, wait_s=10.0)
    body = b"x" * 5000
    client = waiting.ask(post(body)[:-1000])
    waiting.wait(5)
    assert told(client) == 0
    up(waiting)
    waiting.ask(body[:1000], client)
    assert told(client) == 200


def test_a_short_body_waits_with_its_request(waiting):
    client = waiting.ask(post(b"hello"))
    up(waiting)
    assert told(client) == 200
    assert waiting.answering.requests[-1].endswith(b"\r\n\r\nhello")


def test_requests_sent_ahead_wait_behind_the_one_that_waits(waiting):
    client = waiting.ask(GET * 3)
    assert waiting.cluster.snapshot().waiting == 1
    up(waiting)
    assert client.received.count(b"HTTP/1.1 200 ") == 3


def test_the_time_for_the_answer_begins_when_the_wait_is_over(waiting):
    waiting.apply(timeouts={"response_head_s": 4.0})
    queue(waiting, wait_s=10.0)
    waiting.answering.script.append(LATE)
    client = waiting.ask()
    waiting.wait(9)
    up(waiting)
    waiting.wait(3)
    assert told(client) == 200


def test_what_waits_is_told_at_the_end():
    house = queue(House(health_check={"interval_s": 3600.0, "timeout_s": 1.0}))
    down(house)
    client = house.ask()
    assert house.cluster.snapshot().waiting == 1
    house.balanced.close()
    house.clock.settle()
    assert (told(client), client.ended) == (503, True)
    assert (house.plane.exchanges, house.cluster.snapshot().waiting) == (0, 0)


def test_nobody_waits_where_there_is_nobody_to_wait_for(build):
    house = queue(build())
    house.cluster.command("a:80", AdminState.MAINT)
    client = house.ask()
    assert told(client) == 503


def test_room_at_a_backend_is_given_first_come_first_served(build):
    house = queue(build(), wait_s=10.0, max_in_flight=1)
    backend = house.backend("a:80", [[Wait(1), response(b"%d" % n)] for n in range(3)])
    clients = [house.ask(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n) for n in range(3)]
    for answered in range(1, 4):
        house.wait(1)
        assert [told(client) for client in clients] == [200] * answered + [0] * (3 - answered)
    assert [request.split()[1] for request in backend.requests] == [b"/0", b"/1", b"/2"]
    assert [record.queued_s for record in house.records] == pytest.approx([0, 1, 2])


def test_who_comes_while_others_wait_is_behind_them(build):
    house = queue(build("a:80", "b:80"), wait_s=10.0, max_in_flight=1)
    for name in ("a:80", "b:80"):
        house.backend(name, lambda request: [Wait(1), response(request.split()[1])])
    clients = [house.ask(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n) for n in range(4)]
    house.wait(1)
    late = house.ask()
    assert house.cluster.snapshot().waiting == 1
    house.wait(1)
    assert [told(client) for client in [*clients, late]] == [200] * 4 + [0]


def test_a_kept_connection_is_used_for_who_has_waited(build):
    house = queue(build(), wait_s=10.0, max_in_flight=1)
    backend = house.backend("a:80", [LATE])
    for _ in range(2):
        house.ask()
    house.wait(3)
    assert [len(connection.requests) for connection in backend.connections] == [2]


def occupied(house: House, name: str) -> ScriptedClient:
    """A client to whose request a backend says nothing."""
    others = [member for member in house.members if member.name != name]
    for other in others:
        house.cluster.command(other.name, AdminState.DRAIN)
    house.backend(name, [NEVER_ANSWER])
    client = house.ask()
    for other in others:
        house.cluster.command(other.name, AdminState.READY)
    return client


def full_beside_failing(build, **options) -> House:
    """b:80 is full until `house.holder` leaves, and may be waited for; what a:80 does is up to the test."""
    house = queue(build("a:80", "b:80", timeouts={"response_head_s": 3600.0, "connect_s": 2.0}, **options))
    queue(house, max_in_flight=1)
    house.holder = occupied(house, "b:80")
    return house


def test_after_an_attempt_that_failed_a_wait_in_vain_ends_with_its_status(build):
    house = full_beside_failing(build)
    client = house.ask()
    assert (told(client), house.cluster.snapshot().waiting) == (0, 1)
    house.wait(1.3)
    assert told(client) == 502
    record = house.record
    assert (record.local_reply, [one.outcome for one in record.attempts]) == (Outcome.REFUSED, [Outcome.REFUSED])
    assert record.queued_s == pytest.approx(1.0, abs=0.3)


def test_and_with_that_of_a_timeout_if_it_was_one(build):
    house = full_beside_failing(build)
    house.network.hang("a:80")
    client = house.ask()
    house.wait(2.1)
    assert (told(client), house.cluster.snapshot().waiting) == (0, 1)
    house.wait(1.3)
    assert told(client) == 504


def test_an_attempt_that_failed_may_be_followed_by_one_that_was_waited_for(build):
    house = full_beside_failing(build)
    client = house.ask()
    house.wait(0.5)
    house.holder.reset()
    house.clock.settle()
    assert told(client) == 200
    record = house.record
    assert [one.outcome for one in record.attempts] == [Outcome.REFUSED, Outcome.OK]
    assert record.queued_s == pytest.approx(0.5)


def test_who_leaves_while_waiting_for_another_attempt_gives_up_its_place(build):
    house = full_beside_failing(build)
    client = house.ask()
    client.reset()
    house.clock.settle()
    assert house.cluster.snapshot().waiting == 0
    assert [one.outcome for one in house.record.attempts] == [Outcome.REFUSED]
    house.wait(2)
    assert house.cluster.snapshot().waiting == 0


def test_a_bad_status_is_passed_on_when_another_attempt_would_have_to_wait(build):
    house = full_beside_failing(build, retry={"bad_statuses": [503]})
    house.backend("a:80", [response(b"busy", 503)])
    client = house.ask()
    assert (told(client), house.cluster.snapshot().waiting) == (503, 0)
    assert client.received.endswith(b"busy")
    assert house.record.outcome is Outcome.BAD_STATUS


def test_what_nobody_waits_for_any_more_is_given_to_nobody(build):
    house = full_beside_failing(build, retry={"bad_statuses": [503]})
    house.backend("a:80", [response(b"busy", 503)])
    house.ask()
    house.holder.reset()
    house.wait(2)
    assert [member.in_flight for member in house.members] == [0, 0]
