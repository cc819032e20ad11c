"""The data plane: its parts, another generation of the configuration while requests run, and its end."""

import dataclasses
import gc
import weakref

import pytest
from house import GET, House
from twisted.logger import formatEvent, globalLogPublisher
from world import World

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.events import BackendAdded, BackendEjected, BackendUp, PoolExhausted, PoolRecovered
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.record import Record
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.listener import bind_tcp
from twisted_lb.net.pipes import CAN_SPLICE
from twisted_lb.plan import DEFAULT
from twisted_lb.planned import RoutePlan
from twisted_lb.testing import NEVER_ANSWER, RESET, ScriptedClient, Wait, response

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
LATE = [Wait(3), response(b"late")]


def status(client: ScriptedClient) -> int:
    """That of the answer since the last look, 0 for none."""
    heard = client.take()
    return int(heard[9:12]) if heard.startswith(b"HTTP/1.1 ") else 0


# Its parts.


def test_a_plane_says_what_is_in_it(build):
    house = build("a:80", "b:80")
    assert repr(house.plane) == (
        "<DataPlane: [<Frontend default: open, 0 clients, 0 exchanges>], "
        "[<Cluster default: 0 connections open, 0 idle, <Pool default: 2 usable of 2, 0 in flight>>]>"
    )


def test_clients_and_exchanges_are_counted_over_all_frontends(build):
    house = build()
    house.backend("a:80", [LATE])
    house.client()
    house.ask()
    assert (house.plane.clients, house.plane.exchanges) == (2, 1)
    house.wait(3)
    assert (house.plane.clients, house.plane.exchanges) == (2, 0)


@pytest.mark.parametrize(("planned", "most"), [(None, 17), (5, 5)])
def test_where_the_plan_names_no_number_clients_have_the_room_that_there_is(build, planned, most):
    house = build(limits={"connections": planned})
    plane = DataPlane(
        house.balanced.runtime, house.plan(), hear=house.events.append, room=lambda backends: 18 - backends
    )
    assert plane.frontends[DEFAULT].gate.most == most
    plane.close()


def test_each_listener_accepts_on_its_sockets():
    world = World()
    socks = [bind_tcp("127.0.0.1", 0) for _ in range(2)]
    plane = DataPlane(world.runtime, world.plane.plan, {DEFAULT: socks}, hear=world.events.append)
    assert [one.port for one in plane.listeners[DEFAULT]] == [sock.getsockname()[1] for sock in socks]
    plane.drain(0)
    plane.close()
    world.close()


def test_who_starts_with_a_backend_knows_it_and_is_told_only_what_changes(build):
    house = build("a:80")
    house.ask()
    assert [type(event) for event in house.events] == [BackendEjected, PoolExhausted]
    house.plane.update(DEFAULT, [BackendSpec.parse("a:80"), BackendSpec.parse("b:80")])
    assert [type(event) for event in house.events[2:]] == [BackendAdded, PoolRecovered]


@pytest.mark.parametrize(("wanted", "said"), [("none", []), ("failed", ["GET 502"]), ("all", ["GET 502", "GET 200"])])
def test_requests_are_logged_as_the_plan_says(build, wanted, said):
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"].startswith("twisted_lb.request_log"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    house = build(log={"requests": wanted})
    house.ask()
    house.backend("a:80")
    house.wait(2)
    house.ask()
    globalLogPublisher.removeObserver(observe)
    assert [" ".join(line.split()[1:4:2]) for line in lines] == said


# Checks.


def test_backends_are_asked_what_the_plan_asks_and_as_often(build):
    house = build(health_check={"interval_s": 10.0, "path": "/well?"})
    backend = house.backend("a:80")
    house.wait(100)
    assert len(backend.requests) in (9, 10, 11)
    assert set(backend.requests) == {backend.requests[0]}
    assert backend.requests[0].startswith(b"GET /well? HTTP/1.1\r\nHost: a:80\r\nUser-Agent: twisted_lb-check/")


def test_connecting_may_be_all_that_is_asked(build):
    house = build(health_check={"interval_s": 2.0, "kind": "tcp"})
    backend = house.backend("a:80", [NEVER_ANSWER] * 9)
    house.wait(10)
    assert (backend.requests, len(backend.connections) > 3) == ([], True)
    assert house.members[0].health.known


def test_a_check_takes_no_longer_than_the_plan_says(build):
    house = build(health_check={"interval_s": 10.0, "timeout_s": 3.0, "fall": 1})
    house.backend("a:80", [NEVER_ANSWER] * 9)
    house.wait(2.9)
    assert house.members[0].usable
    house.wait(1.2)
    assert not house.members[0].usable


@pytest.mark.parametrize(("initial", "first"), [("up", 200), ("down", 503)])
def test_before_its_first_check_a_backend_is_what_the_plan_says(build, initial, first):
    house = build(health_check={"interval_s": 10.0, "initial": initial})
    house.backend("a:80")
    assert status(house.ask()) == first
    house.wait(1)
    assert status(house.ask()) == 200
    assert [str(event) for event in house.events] == {
        "up": [],
        "down": [
            "pool default has no usable backend",
            "a:80 is up: status 200",
            "pool default has a usable backend again",
        ],
    }[initial]


def test_who_is_not_well_at_its_first_check_is_told_of_whatever_it_was_taken_for(build):
    for initial in ("up", "down"):
        house = build("a:80", health_check={"interval_s": 10.0, "initial": initial})
        house.backend("a:80", [response(b"", 503)])
        house.wait(1)
        down, nobody = "a:80 is down: status 503", "pool default has no usable backend"
        assert [str(event) for event in house.events] == ([down, nobody] if initial == "up" else [nobody, down])


def test_where_nobody_checks_everybody_is_taken_for_up(build):
    house = build(health_check={"interval_s": 0.0, "initial": "down"})
    house.backend("a:80")
    assert status(house.ask()) == 200


def test_a_backend_with_a_port_for_checks_of_its_own_is_asked_there(build):
    """Also one that has changed, whose record stays."""
    tables = [{"address": "a:80", "check_port": 81}, {"address": "b:80"}]
    house = build(backends=tables, health_check={"interval_s": 10.0, "port": 9})
    servers = {where: house.backend(where) for where in ("a:80", "a:81", "a:82", "a:9", "b:9", "b:80")}

    def asked() -> list[str]:
        return [where for where, server in servers.items() if server.requests]

    house.wait(1)
    assert asked() == ["a:81", "b:9"]
    record = house.members[0]
    house.apply(backends=[{"address": "a:80", "check_port": 82}, tables[1]])
    house.wait(1)
    assert asked() == ["a:81", "a:82", "b:9"]
    assert house.members[0] is record


def test_a_backend_is_checked_at_the_port_and_in_the_words_that_the_plan_names(build):
    house = build(
        health_check={
            "interval_s": 10.0,
            "port": 9,
            "method": "OPTIONS",
            "host": "app",
            "headers": {"X-A": "b"},
            "expect_statuses": [401],
            "expect_text": "who are you",
            "initial": "down",
        }
    )
    traffic, health = house.backend("a:80"), house.backend("a:9", [response(b"who are you?", 401)])
    house.wait(1)
    assert (traffic.requests, len(health.requests)) == ([], 1)
    assert health.requests[0].startswith(b"OPTIONS / HTTP/1.1\r\nHost: app\r\n")
    assert b"\r\nX-A: b\r\n" in health.requests[0]
    assert str(house.events[1]) == "a:80 is up: status 401, with the expected text"
    house.ask()
    assert len(traffic.requests) == 1


@pytest.mark.parametrize(("head_bytes", "up"), [(65536, True), (16384, False)])
def test_a_check_takes_the_heads_that_traffic_takes(build, head_bytes, up):
    house = build(limits={"head_bytes": head_bytes}, health_check={"interval_s": 1.0, "fall": 1})
    house.backend("a:80", lambda request: [response(b"", 200, b"X: " + b"y" * 40_000)])
    house.wait(3)
    assert house.members[0].usable is up


# Another plan: what runs keeps the route that it was led by.


def test_an_exchange_that_runs_keeps_its_retries(build):
    house = build("a:80", "b:80", retry={"more_attempts": 1})
    for name in ("a:80", "b:80"):
        house.backend(name, [[Wait(3), RESET]])
    running = house.ask()
    house.apply(retry={"more_attempts": 0})
    house.wait(3)
    assert running.received == b""
    house.wait(3)
    assert [one.outcome.name for one in house.record.attempts] == ["NO_RESPONSE", "NO_RESPONSE"]
    assert status(running) == 502


def test_an_exchange_that_comes_after_it_has_the_new_retries(build):
    house = build("a:80", "b:80", retry={"more_attempts": 1})
    for name in ("a:80", "b:80"):
        house.backend(name, [RESET])
    house.apply(retry={"more_attempts": 0})
    assert status(house.ask()) == 502
    assert len(house.record.attempts) == 1


def test_an_exchange_that_runs_keeps_its_timeouts(build):
    house = build(timeouts={"response_head_s": 10.0, "response_idle_s": 10.0})
    house.backend("a:80", [[Wait(9), response(b"x" * 60)[:-30], Wait(9), b"x" * 30], NEVER_ANSWER])
    running = house.ask()
    house.apply(timeouts={"response_head_s": 1.0, "response_idle_s": 1.0})
    later = house.ask()
    house.wait(1.2)
    assert status(later) == 504
    house.wait(18)
    assert running.received.endswith(b"x" * 60)


def test_an_exchange_that_runs_keeps_them_also_for_its_next_attempt(build):
    house = build("a:80", "b:80", timeouts={"attempt_s": 5.0})
    house.backend("a:80", [[Wait(3), RESET]])
    house.backend("b:80", [[Wait(4), response(b"late")]])
    running = house.ask()
    house.apply(timeouts={"attempt_s": 1.0})
    house.wait(8)
    assert running.received.endswith(b"late")


def test_an_exchange_that_runs_keeps_its_pages(build, tmp_path):
    page = tmp_path / "sorry.html"
    page.write_text("sorry")
    house = build(retry={"more_attempts": 0})
    house.backend("a:80", [[Wait(1), RESET], [Wait(1), RESET]])
    running = house.ask()
    house.apply(error_pages={"502": str(page)})
    later = house.ask()
    house.wait(2)
    assert b"sorry" not in running.received
    assert later.received.endswith(b"sorry")


# A connection goes by its listener's new rules from its next request on.


def test_a_kept_connection_has_the_new_limits_from_its_next_request_on(build):
    house = build()
    backend = house.backend("a:80")
    client = house.ask()
    assert status(client) == 200
    house.apply(limits={"head_bytes": 300, "request_line_bytes": 300})
    house.ask(GET, client)
    assert status(client) == 200
    house.ask(b"GET / HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"y" * 300), client)
    assert (status(client), len(backend.requests)) == (431, 2)


def test_a_body_that_is_coming_keeps_the_time_it_has(build):
    house = build(timeouts={"body_idle_s": 10.0})
    house.backend("a:80")
    client = house.ask(POST + b"half")
    house.apply(timeouts={"body_idle_s": 1.0})
    house.wait(9)
    house.ask(b" body", client)
    assert status(client) == 200
    house.ask(POST + b"half", client)
    house.wait(1.2)
    assert status(client) == 408


def test_a_kept_connection_waits_by_the_new_rules_after_the_request_that_runs(build):
    house = build()
    house.backend("a:80", [LATE])
    client = house.ask()
    house.apply(timeouts={"client_idle_s": 2.0})
    house.wait(3)
    assert status(client) == 200
    house.wait(2.2)
    assert client.ended


def test_a_kept_connection_is_led_by_the_new_route_from_its_next_request_on(build):
    house = build(limits={"body_bytes": 9})
    house.backend("a:80")
    client = house.ask(POST + b"half")
    house.apply(limits={"body_bytes": 8})
    house.ask(b" body", client)
    assert status(client) == 200
    house.ask(POST, client)
    assert status(client) == 413


# Pools claim and connect by theirs at once.


def test_a_claim_goes_by_the_new_settings_of_its_pool(build):
    house = build()
    house.backend("a:80", [LATE])
    house.ask()
    plan = house.plan()
    pool = plan.pools[DEFAULT]
    bounded = dataclasses.replace(
        pool, settings=dataclasses.replace(pool.settings, max_in_flight=1, queue_timeout_s=0.0)
    )
    house.plane.apply(dataclasses.replace(plan, pools={DEFAULT: bounded}))
    assert status(house.ask()) == 503
    house.wait(3)
    assert status(house.ask()) == 200


def test_a_connect_goes_by_the_new_rules_of_its_pool(build):
    house = build(retry={"more_attempts": 0})
    house.network.hang("a:80")
    running = house.ask()
    house.apply(timeouts={"connect_s": 1.0})
    later = house.ask()
    house.wait(1.2)
    assert (status(later), status(running)) == (504, 0)
    house.wait(4)
    assert status(running) == 504


def test_a_connection_whose_exchange_ends_is_kept_by_the_new_rules(build):
    house = build()
    house.backend("a:80", [LATE])
    house.ask()
    house.apply(upstream={"max_idle": 0})
    house.wait(3)
    assert house.cluster.open == 0


def test_a_check_goes_by_the_new_settings_of_its_pool(build):
    house = build(health_check={"interval_s": 1.0, "fall": 5})
    backend = house.backend("a:80")
    house.wait(1.5)
    backend.stop()
    house.wait(3.5)
    assert house.members[0].usable
    house.apply(health_check={"fall": 1})
    house.wait(1.1)
    assert not house.members[0].usable


def test_a_pool_has_another_policy_from_its_next_claim_on(build):
    house = build("a:80", "b:80")
    house.apply(policy="rand")
    assert house.pool.policy is POLICIES["rand"]


def test_a_request_goes_to_whoever_is_less_loaded_once_the_policy_says_so(build):
    house = build("a:80", "b:80")
    slow, fast = house.backend("a:80", [NEVER_ANSWER]), house.backend("b:80")
    waiting = house.ask()
    assert not waiting.received
    house.apply(policy="least")
    assert [status(house.ask()) for _ in range(6)] == [200] * 6
    assert (len(slow.requests), len(fast.requests)) == (1, 6)


def test_latency_is_measured_to_the_head_of_an_answer_and_the_slower_one_left_alone(build):
    slow_head = [Wait(0.5), response(b"slow")]
    slow_body = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", Wait(0.5), b"k"]
    house = build("a:80", "b:80", policy="latency")
    slow = house.backend("a:80", lambda request: slow_head)
    fast = house.backend("b:80", lambda request: slow_body)
    for _ in range(10):
        house.ask()
        house.wait(0.6)
    assert (len(slow.requests), len(fast.requests)) == (1, 9)


def test_backends_of_the_new_plan_are_there_at_once(build):
    house = build()
    house.backend("b:80")
    assert status(house.ask()) == 502
    house.apply(backends=["b:80"])
    assert [member.name for member in house.members] == ["b:80"]
    assert status(house.ask()) == 200


# What is equal is not touched.


def test_the_same_plan_touches_nothing(build):
    house = build("a:80", "b:80")
    house.backend("a:80")
    client = house.ask()
    plane = house.plane
    before = [
        plane.clusters[DEFAULT], plane.frontends[DEFAULT], plane.routes[DEFAULT], house.pool, *house.members,
        plane.frontends[DEFAULT].gate, plane.frontends[DEFAULT].client_rules, house.cluster.checks,
    ]  # fmt: skip
    plane.apply(plane.plan)
    house.apply()
    after = [
        plane.clusters[DEFAULT], plane.frontends[DEFAULT], plane.routes[DEFAULT], plane.clusters[DEFAULT].pool, *house.members,
        plane.frontends[DEFAULT].gate, plane.frontends[DEFAULT].client_rules, house.cluster.checks,
    ]  # fmt: skip
    assert list(map(id, before)) == list(map(id, after))
    assert (house.cluster.idle, client.open) == (1, True)
    assert house.events == []


def test_a_backend_that_stays_keeps_its_record_and_its_connections(build):
    house = build()
    backend = house.backend("a:80")
    house.ask()
    [member] = house.members
    house.apply(backends=["b:80", "a:80,weight=3"])
    assert house.members[1] is member
    assert (member.weight, member.requests, house.cluster.idle) == (3, 1, 1)
    house.apply(backends=["a:80,weight=3"])
    house.ask()
    house.ask()
    assert [len(one.requests) for one in backend.connections] == [3]


def test_what_an_update_has_changed_outlives_a_plan_that_says_nothing_new_of_it(build):
    house = build()
    house.plane.update(DEFAULT, [BackendSpec.parse("b:80")])
    house.apply(timeouts={"head_s": 3.0})
    assert [member.name for member in house.members] == ["b:80"]


# Plans that cannot be.


def test_a_plan_whose_listener_leads_nowhere_cannot_be():
    house = House()
    listener = house.plane.plan.listeners[DEFAULT]
    with pytest.raises(ValueError, match="nowhere"):
        dataclasses.replace(house.plane.plan, listeners={DEFAULT: dataclasses.replace(listener, route="nowhere")})
    house.close()


def test_a_plan_whose_route_leads_nowhere_cannot_be():
    house = House()
    lead = house.plane.plan.routes[DEFAULT].leads[0]
    route = RoutePlan((dataclasses.replace(lead, pool="nowhere"),), lead.rules)
    with pytest.raises(ValueError, match="nowhere"):
        dataclasses.replace(house.plane.plan, routes={DEFAULT: route})
    house.close()


# Update.


def test_an_update_changes_the_backends_of_one_pool(build):
    house = build(health_check={"interval_s": 1.0})
    house.backend("b:80")
    house.wait(5)
    house.plane.update(DEFAULT, [BackendSpec.parse("b:80")])
    house.wait(1.5)
    assert [(member.name, member.health.known, member.usable) for member in house.members] == [("b:80", True, True)]
    assert not any(isinstance(event, BackendUp) for event in house.events)


def test_an_update_of_a_pool_that_is_not_there_is_a_key_error(build):
    with pytest.raises(KeyError):
        build().plane.update("nowhere", [])


# Its end.


def test_with_nobody_there_a_drain_is_over_at_once(build):
    assert build().plane.drain(5).called


def test_a_drain_lets_exchanges_finish_and_their_clients_know(build):
    house = build()
    house.backend("a:80", [LATE])
    client = house.ask()
    drained = house.plane.drain(10)
    house.wait(2.9)
    assert not drained.called
    house.wait(0.2)
    assert drained.called
    assert client.received.endswith(b"late")
    assert b"\r\nConnection: close\r\n" in client.received


def test_a_drain_waits_for_a_request_that_is_on_its_way_on_a_kept_connection(build):
    house = build()
    house.backend("a:80")
    client = house.ask()
    client.take()
    drained = house.plane.drain(10)
    house.wait(0.4)
    assert not drained.called
    assert status(house.ask(GET, client)) == 200
    house.wait(0.1)
    assert drained.called


def test_a_drain_waits_no_longer_than_it_may(build):
    house = build()
    house.backend("a:80", [NEVER_ANSWER])
    house.ask()
    drained = house.plane.drain(5)
    house.wait(4.9)
    assert not drained.called
    house.wait(0.2)
    assert (drained.called, house.plane.exchanges) == (True, 1)


def test_a_drain_is_over_when_somebody_has_waited_long_enough(build):
    house = build()
    house.backend("a:80", [NEVER_ANSWER])
    house.ask()
    drained = house.plane.drain(5)
    house.plane.hurry()
    assert drained.called
    house.plane.hurry()


def test_to_hurry_without_a_drain_is_nothing(build):
    house = build()
    house.backend("a:80", [LATE])
    client = house.ask()
    house.plane.hurry()
    house.wait(3)
    assert status(client) == 200


@pytest.fixture
def said():
    """The lines of drains."""
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.draining":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_a_drain_says_that_it_begins_and_what_it_cut(build, said):
    house = build()
    house.backend("a:80", [NEVER_ANSWER])
    house.ask()
    house.client()
    house.clock.settle()
    house.plane.drain(5)
    house.wait(6)
    assert said == [
        "drain begins: waits for 2 clients, 1 exchange, at most 5 s",
        "drain ended after 5.0 s, cut: 1 client, 1 exchange",
    ]


def test_a_drain_without_anybody_says_so(build, said):
    build().plane.drain(8)
    assert said == ["drain begins: nobody is there, at most 8 s", "drain ended after 0.0 s, nothing was cut"]


def test_a_long_drain_says_once_a_minute_what_it_waits_for(build, said):
    house = build(timeouts={"response_head_s": 900.0})
    house.backend("a:80", [[Wait(130), response(b"late")]])
    house.ask()
    house.plane.drain(3600)
    house.wait(140)
    assert said[1:] == [
        "drain goes on after 60 s: waits for 1 client, 1 exchange",
        "drain goes on after 120 s: waits for 1 client, 1 exchange",
        "drain ended after 130.0 s, nothing was cut",
    ]


def test_what_is_cut_is_our_doing_and_not_the_clients(build):
    records: list[Record] = []
    house = build("a:80", "b:80", observers=(records.append,))
    house.backend("a:80", [NEVER_ANSWER])
    house.backend("b:80", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal", Wait(60)])
    house.ask()
    house.ask()
    house.plane.drain(0)
    house.frontend.kill()
    assert [(one.status, one.outcome.name) for one in records] == [(503, "CANCELLED"), (200, "CANCELLED")]


def closed(house: House) -> House:
    """All but its frontend's ends in the network is let go of."""
    house.balanced.close()
    house.clock.settle()
    return house


def test_closed_it_ends_what_runs_and_keeps_nothing():
    house = House(health_check={"interval_s": 1.0})
    backend = house.backend("a:80", lambda request: [NEVER_ANSWER] if request.startswith(b"POST") else [response()])
    kept, running = house.ask(), house.ask(POST + b"half")
    closed(house)
    assert (kept.lost is not None, running.ended, status(running)) == (True, True, 503)
    assert not any(connection.open for connection in backend.connections)
    assert (house.plane.clients, house.plane.exchanges, house.cluster.open) == (0, 0, 0)
    house.wait(5)
    assert house.clock.getDelayedCalls() == []


@pytest.mark.skipif(not CAN_SPLICE, reason="there is no splice here")
def test_closed_it_keeps_no_pipes():
    house = House()
    pipes = house.plane.runtime.pipes
    pipes.give(pipes.take(0.0, lambda: None))
    assert pipes.idle == 1
    closed(house)
    assert (pipes.idle, pipes.in_use) == (0, 0)


def test_closed_it_tells_nothing_of_backends_that_are_still_there():
    house = closed(House("a:80", "b:80"))
    assert house.events == []


def test_closed_it_has_no_name_looked_up_any_more():
    pools = {"api": {"backends": ["api:80"], "health_check": {"interval_s": 0.0}}}
    house = House("web:80", resolved={"web": ["a"], "api": ["b"]}, listen={"port": 8080}, pools=pools)
    house.wait(0.1)
    for cluster in house.plane.clusters.values():
        for name in ("web", "api"):
            cluster.runtime.names.failed(TcpAddress(name, 80))
    asked = list(house.network.resolver.asked)
    closed(house)
    assert house.network.resolver.asked == asked


def test_closed_it_has_nobody_to_lead_a_request_to():
    """A resource may outlive its balancer."""
    house = closed(House())
    client = ScriptedClient(house.network, house.network.listen("late:80", house.balanced.build).address)
    house.ask(GET, client)
    assert status(client) == 503
    client.close()
    house.wait(5)


def test_a_data_plane_that_has_ended_is_freed():
    """All its parts know one another: nothing among them may be kept from the cycle collector."""
    house = House()
    house.backend("a:80", [response(b"hello")])
    house.ask()
    ended = weakref.ref(house.plane)
    house.close()
    del house
    gc.collect()
    assert ended() is None
