"""Another generation of the configuration while requests run: what comes, what goes, and what nobody touches."""

import pytest
from house import GET, House
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.events import BackendAdded, BackendRemoved, PoolExhausted
from twisted_lb.plan import DEFAULT
from twisted_lb.testing import NEVER_ANSWER, ScriptedClient, Wait, response
from twisted_lb.testing.backends import usual

OFFER = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
TUNNEL = [SWITCH, NEVER_ANSWER]
LATE = [Wait(3), response(b"late")]
WEB = {"address": "127.0.0.1:80", "default_pool": "api"}
API = {"backends": ["b:80"], "health_check": {"interval_s": 0.0}, "queue": {"no_backend_s": 0.0}}
ONE = {"address": "127.0.0.1:81"}


def status(client: ScriptedClient) -> int:
    """That of the answer since the last look, 0 for none."""
    heard = client.take()
    return int(heard[9:12]) if heard.startswith(b"HTTP/1.1 ") else 0


@pytest.fixture
def build():
    houses = []

    def one(*names, **options):
        house = House(*names, **options)
        houses.append(house)
        return house

    yield one
    for house in houses:
        house.close()


def two(build, **options) -> House:
    """Two listeners, `default` and `web`, before a pool each, `default` and `api`."""
    house = build(listen={"port": 8080}, listeners={"web": WEB}, pools={"api": API}, **options)
    house.open("web", "lb:80")
    return house


# Listeners.


def test_a_listener_that_comes_serves_its_pool(build):
    house = build(listen={"port": 8080})
    house.backend("b:80")
    house.apply(listeners={"web": WEB}, pools={"api": API})
    house.open("web", "lb:80")
    client = house.ask(GET, house.client("lb:80"))
    assert status(client) == 200
    assert (house.record.route, house.record.pool) == ("to api", "api")


def without_web(house: House) -> None:
    house._options.pop("listeners")
    house.apply()


def test_clients_of_a_listener_that_goes_are_drained(build):
    house = two(build)
    house.backend("b:80", [response(b"first"), LATE])
    idle = house.ask(GET, house.client("lb:80"))
    busy = house.ask(GET, house.client("lb:80"))
    idle.take()
    frontend = house.plane.frontends["web"]
    without_web(house)
    assert (list(house.plane.frontends), list(house.plane.leaving.frontends)) == ([DEFAULT], [frontend])
    house.wait(0.7)
    assert (idle.ended, busy.ended, house.plane.clients) == (True, False, 1)
    house.wait(3)
    heard = busy.take()
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in heard
    assert (busy.ended, house.plane.clients) == (True, 0)
    assert not house.plane.leaving.frontends


def test_a_request_that_still_comes_to_a_listener_that_goes_is_counted_where_its_route_was(build):
    house = two(build)
    house.backend("b:80")
    client = house.ask(GET, house.client("lb:80"))
    assert status(client) == 200
    frontend = house.plane.frontends["web"]
    without_web(house)
    assert status(house.ask(GET, client)) == 200
    assert [(flow.route, flow.begun, flow.ended) for flow in frontend.flows.all] == [("to api", 2, 2)]
    assert house.plane.self_check.look(house.clock.seconds()) == []


def test_what_a_listener_that_goes_does_not_finish_in_its_time_is_cut_and_its_tunnels_later(build):
    house = two(build, timeouts={"drain_s": 5.0, "tunnel_drain_s": 20.0, "tunnel_idle_s": 60.0})
    house.backend("b:80", [TUNNEL, NEVER_ANSWER])
    tunnel = house.ask(OFFER, house.client("lb:80"))
    busy = house.ask(GET, house.client("lb:80"))
    without_web(house)
    house.wait(4.9)
    assert not busy.ended
    house.wait(0.5)
    assert (status(busy), busy.ended, tunnel.open) == (503, True, True)
    assert house.record.detail == "its listener was removed"
    house.wait(14)
    assert tunnel.open
    house.wait(1.5)
    assert not tunnel.open
    assert not house.plane.leaving.frontends


def test_a_listener_that_is_back_is_another_one_and_what_has_left_goes_on_leaving(build):
    house = two(build)
    house.backend("b:80", [LATE])
    client = house.ask(GET, house.client("lb:80"))
    without_web(house)
    house.apply(listeners={"web": WEB})
    assert house.plane.exchanges == 1
    assert status(house.ask(GET, house.client("lb:80"))) == 200
    house.wait(3.5)
    assert (status(client), client.ended) == (200, True)


def test_a_stop_waits_for_who_is_leaving_too(build):
    house = two(build)
    house.backend("b:80", [LATE])
    client = house.ask(GET, house.client("lb:80"))
    without_web(house)
    done = house.plane.drain(60)
    assert not done.called
    house.apply()
    house.wait(3.5)
    assert (done.called, status(client)) == (True, 200)


def test_bounds_of_connections_hold_for_who_comes(build):
    house = build()
    clients = [house.client() for _ in range(3)]
    house.clock.settle()
    house.apply(limits={"connections": 2, "connections_per_client": 1})
    house.clock.settle()
    gate = house.frontend.gate
    assert (gate.most, gate.per_client, gate.open, gate.full) == (2, 1, 3, True)
    assert not any(client.ended for client in clients)


# Pools.


@pytest.mark.parametrize(
    ("hosts", "members"),
    [(["c"], ["web:80"]), (["b", "c"], ["web:80@b:80", "web:80@c:80"])],
    ids=["moves", "is spread"],
)
def test_what_a_name_server_answers_in_the_middle_of_it_is_heard(build, hosts, members):
    """A pool that comes has names looked up, and a hosts file answers at once: also for a pool that nobody touches."""
    house = two(build, resolved={"web": ["b"]})
    house.wait(0.1)  # its name is due between two ticks
    house.apply(pools={"api": {**API, "backends": ["web:80"]}})
    cluster = house.plane.clusters["api"]
    asked = [house.backend("b:80"), house.backend("c:80")]
    client = house.ask(GET, house.client("lb:80"))
    assert status(client) == 200
    house.wait(5.1)
    house.network.name("web", *hosts)
    house.apply(pools={"more": {**API, "backends": ["more:80"]}})
    assert house.plane.clusters["api"] is cluster
    assert list(cluster.pool.backends) == members
    for _ in range(2):
        assert status(house.ask(GET, house.client("lb:80"))) == 200
    assert [len(backend.requests) for backend in asked] == ([1, 2] if len(hosts) == 1 else [2, 1])


def test_a_pool_that_goes_finishes_what_runs_and_then_nothing_of_it_is_left(build):
    house = two(build)
    house.backend("b:80", [LATE])
    client = house.ask(GET, house.client("lb:80"))
    cluster = house.plane.clusters["api"]
    house.events.clear()
    house._options.pop("listeners")
    house._options.pop("pools")
    house.apply()
    assert list(house.plane.clusters) == [DEFAULT]
    assert list(house.plane.leaving.clusters) == [cluster]
    [leaving] = cluster.snapshot().leaving
    assert (leaving.name, leaving.in_flight) == ("b:80", 1)
    house.wait(3.5)
    assert status(client) == 200
    assert not house.plane.leaving.clusters
    assert (cluster.open, cluster.pool.leaving, house.events) == (0, {}, [])


def test_requests_that_wait_for_a_pool_that_goes_are_refused_at_once(build):
    api = {**API, "queue": {"no_backend_s": 30.0}, "health_check": {"interval_s": 60.0, "initial": "down"}}
    house = build(listen={"port": 8080}, listeners={"web": WEB}, pools={"api": api})
    house.open("web", "lb:80")
    client = house.ask(GET, house.client("lb:80"))
    assert status(client) == 0
    house._options.pop("pools")
    house._options.pop("listeners")
    house.apply()
    house.clock.settle()
    assert status(client) == 503
    assert house.clock.seconds() == 1000.0


def test_a_pool_that_comes_is_no_news_unless_nobody_of_it_is_usable(build):
    house = build(listen={"port": 8080})
    down = {**API, "health_check": {"interval_s": 5.0, "initial": "down"}}
    house.apply(listeners={"web": WEB}, pools={"api": API, "down": down})
    assert [type(event) for event in house.events] == [PoolExhausted]
    assert house.events[0].pool == "down"


def test_of_a_pool_that_is_called_otherwise_nothing_is_known(build):
    checked = {**API, "health_check": {"interval_s": 1.0}}
    house = build(listen={"port": 8080}, listeners={"web": WEB}, pools={"api": checked})
    house.backend("b:80")
    house.wait(2)
    before = house.plane.clusters["api"]
    assert before.pool.backends["b:80"].health.known
    for table in ("pools", "listeners"):
        house._options.pop(table)
    house.apply(pools={"app": checked}, listeners={"web": {**WEB, "default_pool": "app"}})
    after = house.plane.clusters["app"]
    assert after is not before
    assert not after.pool.backends["b:80"].health.known
    house.wait(2)
    assert after.pool.backends["b:80"].health.known


# Backends that are leaving.


def test_a_removed_backend_is_leaving_as_long_as_it_has_something_in_flight(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [LATE])
    client = house.ask()
    house.apply(backends=["b:80"])
    [leaving] = house.cluster.snapshot().leaving
    assert (leaving.name, leaving.in_flight, leaving.tunnels, leaving.available) == ("a:80", 1, 0, False)
    house.wait(3.5)
    assert (status(client), house.cluster.snapshot().leaving) == (200, ())


def test_a_removed_backend_has_its_time_and_its_tunnels_have_theirs(build):
    house = build("a:80", "b:80", timeouts={"drain_s": 5.0, "tunnel_drain_s": 20.0, "tunnel_idle_s": 60.0})
    house.backend("a:80", [TUNNEL, NEVER_ANSWER])
    house.backend("b:80")
    tunnel = house.ask(OFFER)
    house.ask()
    busy = house.ask()
    house.apply(backends=["b:80"])
    [leaving] = house.cluster.snapshot().leaving
    assert (leaving.in_flight, leaving.tunnels) == (2, 1)
    house.wait(4.9)
    assert not busy.ended
    house.wait(0.5)
    assert (status(busy), house.record.detail) == (503, "its backend was removed")
    assert tunnel.open
    [leaving] = house.cluster.snapshot().leaving
    assert (leaving.in_flight, leaving.tunnels) == (1, 1)
    house.wait(15)
    assert (tunnel.open, house.cluster.snapshot().leaving) == (False, ())


def test_a_backend_that_is_back_before_it_has_left_is_a_new_one(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [LATE])
    client = house.ask()
    [old, _] = house.members
    house.apply(backends=["b:80"])
    house.apply(backends=["b:80", "a:80"])
    assert house.members[1] is not old
    assert [type(event) for event in house.events] == [BackendRemoved, BackendAdded]
    house.wait(3.5)
    assert (status(client), house.pool.leaving) == (200, {})


# Checks.


def test_checks_that_come_take_out_who_does_not_answer(build):
    house = build("a:80")
    house.wait(30)
    assert house.members[0].usable
    house.apply(health_check={"interval_s": 1.0, "fall": 1})
    house.wait(2)
    assert not house.members[0].usable


def test_checks_that_go_ask_nobody_any_more_and_what_they_said_is_forgotten(build):
    house = build("a:80", health_check={"interval_s": 1.0, "fall": 1})
    house.wait(3)
    assert not house.members[0].usable
    house.apply(health_check={"interval_s": 0.0})
    assert (house.members[0].usable, house.cluster.checks) == (True, None)
    backend = house.backend("a:80")
    house.wait(30)
    assert backend.requests == []


def test_another_interval_of_checks_holds_at_once_though_a_long_pause_has_begun(build):
    house = build("a:80", health_check={"interval_s": 600.0})
    backend = house.backend("a:80")
    house.wait(2)
    checks = house.cluster.checks
    assert len(backend.requests) == 1
    house.apply(health_check={"interval_s": 1.0})
    house.wait(10)
    assert house.cluster.checks is checks
    assert 9 <= len(backend.requests) <= 13


def test_checks_ask_another_question_at_another_port(build):
    house = build("a:80", health_check={"interval_s": 1.0})
    house.backend("a:80")
    probed = house.backend("a:90")
    house.wait(3)
    assert probed.requests == []
    house.apply(health_check={"port": 90, "path": "/well"})
    house.wait(3)
    assert probed.requests
    assert all(request.startswith(b"GET /well HTTP/1.1\r\n") for request in probed.requests)


def test_checks_that_stay_as_they_are_keep_their_turns(build):
    house = build("a:80", health_check={"interval_s": 10.0})
    backend = house.backend("a:80")
    house.wait(2)
    for _ in range(40):
        house.apply(timeouts={"head_s": 3.0 + house.clock.seconds()})
        house.wait(1)
    assert 4 <= len(backend.requests) <= 6


# The log of requests.


def test_requests_are_logged_as_the_new_plan_says(build):
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"].startswith("twisted_lb.request_log"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        house = build("a:80", log={"requests": "none"})
        house.backend("a:80")
        house.ask()
        assert lines == []
        house.apply(log={"requests": "all"})
        house.ask()
        assert len(lines) == 1
        house.apply(log={"requests": "none"})
        house.ask()
        assert len(lines) == 1
    finally:
        globalLogPublisher.removeObserver(observe)
    assert len(house.records) == 3


def test_what_a_brief_log_has_left_out_is_said_when_another_log_takes_its_place(build):
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"].startswith("twisted_lb.request_log"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        house = build("a:80", log={"requests": "brief"})
        for _ in range(3):
            house.ask()
        said = len(lines)
        house.apply(log={"requests": "none"})
        assert len(lines) == said + 1
    finally:
        globalLogPublisher.removeObserver(observe)


# What is changed at run time.


def weights(house: House) -> dict[str, int]:
    return {member.name: member.weight for member in house.members}


def test_a_backend_of_weight_zero_gets_no_new_requests_and_finishes_what_it_has(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [LATE])
    other = house.backend("b:80")
    client = house.ask()
    house.plane.set_weight(DEFAULT, "a:80", 0)
    for _ in range(4):
        house.ask()
    assert len(other.requests) == 4
    house.wait(3.5)
    assert status(client) == 200
    assert house.plane.source(DEFAULT, "a:80", "weight") == "runtime"


def test_where_all_weights_are_zero_nobody_is_usable(build):
    house = build("a:80")
    house.backend("a:80")
    house.plane.set_weight(DEFAULT, "a:80", 0)
    assert status(house.ask()) == 503
    assert isinstance(house.events[-1], PoolExhausted)
    house.plane.reset(DEFAULT, "a:80")
    assert status(house.ask()) == 200


def test_runtime_changes_hold_over_plans_that_say_nothing_new_of_them(build):
    house = build("a:80", "b:80,weight=3")
    house.plane.set_weight(DEFAULT, "b:80", 9)
    house.plane.command(DEFAULT, "a:80", AdminState.DRAIN)
    house.plane.add_backend(DEFAULT, BackendSpec.parse("c:80"))
    records = house.members
    house.apply(timeouts={"head_s": 3.0})
    house.apply(backends=["b:80,weight=3", "a:80", "d:80"])
    assert weights(house) == {"b:80": 9, "a:80": 1, "d:80": 1, "c:80": 1}
    assert house.pool.backends["a:80"].admin is AdminState.DRAIN
    assert {*map(id, records)} <= {*map(id, house.members)}
    house.apply(backends=["b:80,weight=2", "a:80"])
    assert weights(house) == {"b:80": 2, "a:80": 1, "c:80": 1}


def test_an_added_backend_that_appears_in_the_file_is_the_files_with_its_record(build):
    house = build("a:80")
    house.plane.add_backend(DEFAULT, BackendSpec.parse("c:80"))
    [_, record] = house.members
    assert house.plane.source(DEFAULT, "c:80", "backend") == "runtime"
    house.apply(backends=["a:80", "c:80"])
    assert house.members[1] is record
    assert house.plane.source(DEFAULT, "c:80", "backend") == ""
    house.apply(backends=["a:80"])
    assert [member.name for member in house.members] == ["a:80"]


def test_a_removed_backend_stays_away_until_it_is_reset(build):
    house = build("a:80", "b:80")
    house.plane.remove_backend(DEFAULT, "a:80")
    house.apply(backends=["a:80", "b:80", "c:80"])
    assert [member.name for member in house.members] == ["b:80", "c:80"]
    house.plane.reset(DEFAULT, "a:80")
    assert [member.name for member in house.members] == ["a:80", "b:80", "c:80"]


def test_a_reset_ends_a_drain(build):
    house = build("a:80", "b:80")
    house.plane.command(DEFAULT, "a:80", AdminState.MAINT)
    house.plane.reset(DEFAULT, "a:80")
    assert house.members[0].admin is AdminState.READY
    house.plane.reset(DEFAULT, "nobody")


def test_what_is_not_there_cannot_be_changed_at_run_time(build):
    plane = build("a:80").plane
    changes = [
        lambda pool, name: plane.command(pool, name, AdminState.DRAIN),
        lambda pool, name: plane.set_weight(pool, name, 1),
        plane.remove_backend,
    ]
    for change in changes:
        with pytest.raises(KeyError, match="no backend is called z:80"):
            change(DEFAULT, "z:80")
        with pytest.raises(KeyError, match="no pool is called nowhere"):
            change("nowhere", "a:80")
    assert plane.overlay.pools == {}


def test_an_update_keeps_what_was_changed_at_run_time(build):
    house = build("a:80")
    house.plane.set_weight(DEFAULT, "a:80", 4)
    house.plane.update(DEFAULT, [BackendSpec.parse("a:80"), BackendSpec.parse("b:80")])
    assert weights(house) == {"a:80": 4, "b:80": 1}
    house.plane.update(DEFAULT, [BackendSpec.parse("a:80,weight=2")])
    assert weights(house) == {"a:80": 2}


# Two hundred in a row.


def test_two_hundred_reloads_under_load_lose_nothing_and_leave_nothing(build):
    """With tunnels and slow downloads; backends, weights, a route, a listener and a pool come, change and go."""
    many = {
        "limits": {"connections": 500, "client_bytes_per_s": 0},
        "timeouts": {"tunnel_idle_s": 600.0, "drain_s": 600.0},
    }
    house = build("a:80", "b:80", "c:80", listen={"port": 8080}, listeners={"web": WEB}, pools={"api": API}, **many)
    house.open("web", "lb:80")
    drip = [b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n", *([Wait(0.5), b"x"] * 400)]
    for address in ("a:80", "b:80", "c:80", "d:80"):
        house.backend(
            address, lambda request: TUNNEL if b"chat" in request else drip if b"slow" in request else usual(request)
        )
    tunnels = [house.ask(OFFER) for _ in range(50)]
    slow = [house.ask(GET.replace(b"/", b"/slow", 1)) for _ in range(20)]
    plane, clock, runtime = house.plane, house.clock, house.balanced.runtime
    unchanged = [
        plane.clusters[DEFAULT],
        plane.frontends[DEFAULT],
        plane.frontends[DEFAULT].gate,
        house.members[0],
        house.members[1],
    ]
    asked = failed = 0
    sizes: list[tuple[int, ...]] = []
    busy = [house.client() for _ in range(64)]
    for number in range(200):
        turn = number % 4
        house._options["listeners"] = {"web": WEB, **({"more": {**ONE, "default_pool": "api"}} if turn == 1 else {})}
        house._options["pools"] = {"api": API, **({"more": {**API, "backends": ["d:80"]}} if turn == 2 else {})}
        house.apply(
            backends=["a:80", f"b:80,weight={1 + turn}", "c:80" if turn < 3 else "d:80"],
            limits={"head_bytes": 9000 + turn},
            timeouts={"response_head_s": 40.0 + turn},
        )
        for client in busy:
            house.ask(GET, client)
            asked += 1
            failed += status(client) != 200
        house.wait(0.5)
        sizes.append((
            len(clock.getDelayedCalls()), runtime.deadlines.armed, len(plane.leaving.clusters), len(plane.leaving.frontends),
            len(runtime.names._watched), len(plane._probes), house.cluster.open, len(house.pool.leaving),
        ))  # fmt: skip
    assert (asked, failed) == (12_800, 0)
    assert all(client.open for client in (*tunnels, *slow))
    assert plane.tunnels == 50
    assert unchanged == [plane.clusters[DEFAULT], plane.frontends[DEFAULT], plane.frontends[DEFAULT].gate, house.members[0], house.members[1]]  # fmt: skip
    assert sum(member.requests for member in house.members[:2]) > 6000
    # Turn by turn, not more at the end than after the first ones.
    for turn in range(4):
        assert all(late <= early for early, late in zip(sizes[40 + turn], sizes[196 + turn], strict=True)), (
            turn,
            sizes[40 + turn],
            sizes[196 + turn],
        )
    house.wait(120)
    assert [client.take().count(b"x") for client in slow] == [400] * 20
