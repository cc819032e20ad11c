"""Names that move, and names of many: traffic and checks go to the same servers, those that the name means now."""

import pytest
from house import GET, House

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.endpoints import LEAVES_AFTER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.succession import RETURNS_WITHIN_S
from twisted_lb.net.names import AGAIN_S, REFRESH_S
from twisted_lb.plan import DEFAULT
from twisted_lb.testing import NEVER_ANSWER, ScriptedBackend, Wait, response

CHECKED = {"interval_s": 2.0, "path": "/well", "rise": 1, "fall": 1}
# A tick may be late by its pause.
SOON = REFRESH_S + 0.3


@pytest.fixture
def town(build):
    """A house whose backend is the name `app`; options are those of a house, `hosts` what it means at the start."""

    def one(*hosts: str, backends=("app:80",), **options) -> House:
        return build(*backends, resolved={"app": hosts}, **options)

    return one


def servers(house: House, *hosts: str, port: int = 80, script=()) -> dict[str, ScriptedBackend]:
    places = {host: f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts}
    return {host: house.backend(place, *([script] if script else [])) for host, place in places.items()}


def asked(backend: ScriptedBackend, path: bytes = b"/") -> int:
    """How many requests for this path it got."""
    return sum(request.split()[1] == path for request in backend.requests)


def ask(house: House, times: int = 1, request: bytes = GET) -> list[int]:
    """The statuses that so many clients were told."""
    clients = [house.ask(request) for _ in range(times)]
    return [int(client.received[9:12] or b"0") for client in clients]


def members(house: House) -> list[str]:
    return [one.name for one in house.members]


def said(house: House) -> list[str]:
    """The events since the last look."""
    texts = [str(event) for event in house.events]
    house.events.clear()
    return texts


# One name, one server, and then another one (blue/green).


def test_traffic_follows_a_name_that_moves(town):
    house = town("10.0.0.1")
    old, new = servers(house, "10.0.0.1", "10.0.0.2").values()
    ask(house, 2)
    house.network.name("app", "10.0.0.2")
    house.wait(SOON)
    ask(house, 2)
    assert (asked(old), asked(new)) == (2, 2)
    assert not old.connections[0].open
    assert said(house) == ["app:80 has changed: address 10.0.0.1 -> 10.0.0.2"]
    assert members(house) == ["app:80"]


def test_checks_speak_of_the_server_that_gets_the_traffic(town):
    """The old server lives on, and then fails: nobody is to meet it."""
    house = town("10.0.0.1", health_check=CHECKED)
    old, new = servers(house, "10.0.0.1", "10.0.0.2").values()
    client = house.client()
    for _ in range(100):
        house.ask(client=client)
        house.wait(0.1)
    house.network.name("app", "10.0.0.2")
    house.wait(SOON)
    before = (asked(old), asked(old, b"/well"))
    for _ in range(100):
        house.ask(client=client)
        house.wait(0.1)
    assert client.received.count(b"200 OK") == 200
    assert (asked(old), asked(old, b"/well")) == before
    assert asked(new) == 100
    assert asked(new, b"/well") > 3


def test_a_check_comes_at_once_when_a_name_has_moved(town):
    house = town("10.0.0.1", health_check={**CHECKED, "interval_s": 60.0})
    servers(house, "10.0.0.1")
    house.wait(10)
    house.network.name("app", "10.0.0.2")
    house.wait(SOON)
    assert not house.members[0].usable, "nobody listens there"


def test_what_the_old_server_says_of_itself_after_the_move_is_not_heard(town):
    house = town("10.0.0.1", health_check={**CHECKED, "interval_s": 20.0, "timeout_s": 15.0})
    house.backend("10.0.0.1:80", [response(), [Wait(9), response(b"", 503)]])
    servers(house, "10.0.0.2")
    house.clock.run_until(lambda: len(house.network.dialled) == 2)
    house.network.name("app", "10.0.0.2")
    house.wait(SOON)
    assert said(house) == ["app:80 has changed: address 10.0.0.1 -> 10.0.0.2"]
    house.wait(12)
    assert (said(house), house.members[0].usable) == ([], True)


def test_an_exchange_that_runs_ends_where_it_began_and_its_connection_is_not_kept(town):
    house = town("10.0.0.1")
    old, new = house.backend("10.0.0.1:80", [[Wait(9), response(b"late")]]), house.backend("10.0.0.2:80")
    client = house.ask()
    house.network.name("app", "10.0.0.2")
    house.wait(9)
    assert client.received.endswith(b"late")
    assert not old.connections[0].open
    ask(house)
    assert (asked(old), asked(new)) == (1, 1)


def test_a_connect_that_was_under_way_when_the_name_moved_serves_once(town):
    house = town("10.0.0.1")
    old, _ = servers(house, "10.0.0.1", "10.0.0.2").values()
    client = house.client()
    client.send(GET)
    house.clock.run_until(lambda: bool(house.network.dialled))
    house.network.name("app", "10.0.0.2")
    names = house.balanced.runtime.names
    names.failed(TcpAddress("app", 80))
    names.find(TcpAddress("app", 80), lambda addresses: None)
    house.clock.settle()
    assert client.received.startswith(b"HTTP/1.1 200")
    assert [one.open for one in old.connections] == [False]


def test_a_name_that_means_what_it_did_closes_nothing(town):
    house = town("10.0.0.1")
    (server,) = servers(house, "10.0.0.1").values()
    for _ in range(5):
        ask(house)
        house.wait(SOON)
    assert len(server.connections) == 1
    assert said(house) == []


def test_a_resolver_that_fails_closes_nothing_and_removes_nobody(town):
    house = town("10.0.0.1", "10.0.0.2")
    one, other = servers(house, "10.0.0.1", "10.0.0.2").values()
    ask(house, 2)
    house.network.name("app")
    house.wait(40)
    assert ask(house, 2) == [200, 200]
    assert (len(one.connections), len(other.connections)) == (1, 1)
    assert said(house) == []


def test_of_the_addresses_of_one_backend_the_one_that_worked_is_where_all_go(town):
    house = town("fd00::1", "10.0.0.1", health_check=CHECKED)
    second = house.backend("10.0.0.1:80")
    house.wait(3)
    ask(house)
    first = house.backend("[fd00::1]:80")
    house.wait(30)
    ask(house)
    assert asked(second) == 2
    assert (first.requests, len(house.members)) == ([], 1)
    second.stop()
    house.wait(30)
    ask(house, 2)
    assert (asked(first), asked(first, b"/well") > 3) == (2, True)


def test_connections_to_the_address_that_was_in_force_are_closed_when_another_one_is(town):
    house = town("10.0.0.1", "fd00::1")
    first, second = house.backend("10.0.0.1:80", [response(), NEVER_ANSWER]), house.backend("[fd00::1]:80")
    ask(house)
    running = house.ask()
    house.network.refuse("10.0.0.1:80")
    ask(house)
    assert asked(second) == 1
    house.network.heal("10.0.0.1:80")
    ask(house)
    assert (asked(first), asked(second)) == (2, 2)
    assert running.received == b""


def test_a_server_that_is_gone_is_looked_for_under_its_name_at_once(town):
    """A container that is started anew under another address."""
    house = town("10.0.0.1", health_check={**CHECKED, "interval_s": 1.0}, queue={"no_backend_s": 3.0})
    (old,) = servers(house, "10.0.0.1").values()
    house.wait(2)
    house.network.name("app", "10.0.0.2")
    servers(house, "10.0.0.2")
    old.stop()
    client = house.ask()
    house.wait(AGAIN_S + 1.0)
    assert client.received.startswith(b"HTTP/1.1 200")


def test_without_checks_too(town):
    house = town("10.0.0.1", queue={"no_backend_s": 3.0})
    house.network.name("app", "10.0.0.2")
    servers(house, "10.0.0.2")
    client = house.ask()
    house.wait(AGAIN_S + 1.0)
    assert client.received.startswith(b"HTTP/1.1 200")


def test_checks_at_another_port_ask_the_server_that_gets_the_traffic(town):
    house = town("10.0.0.1", "fd00::1", health_check={**CHECKED, "port": 9000})
    well = {**servers(house, "10.0.0.1", "fd00::1", port=9000)}
    servers(house, "fd00::1")
    house.wait(1)
    ask(house)
    house.wait(20)
    assert asked(well["fd00::1"], b"/well") > 5
    assert asked(well["10.0.0.1"], b"/well") <= 1
    assert well["fd00::1"].requests[0].split(b"\r\n")[1] == b"Host: app:9000"


# One name, many servers (headless service, compose scale).


def test_requests_are_spread_over_the_addresses_of_a_name(town):
    house = town("10.0.0.1", "10.0.0.2", "10.0.0.3")
    backends = servers(house, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert ask(house, 30) == [200] * 30
    assert [asked(one) for one in backends.values()] == [10, 10, 10]
    assert members(house) == ["app:80@10.0.0.1:80", "app:80@10.0.0.2:80", "app:80@10.0.0.3:80"]


def test_a_sick_address_does_not_matter(town):
    house = town("10.0.0.1", "10.0.0.2", "10.0.0.3", health_check=CHECKED)
    house.backend("10.0.0.1:80", [response(b"", 503)] * 99)
    servers(house, "10.0.0.2", "10.0.0.3")
    house.wait(2)
    assert ask(house, 30) == [200] * 30
    assert said(house) == ["app:80@10.0.0.1:80 is down: status 503"]


def test_with_first_all_go_to_one_address(town):
    house = town("10.0.0.1", "10.0.0.2", resolve="first")
    one, other = servers(house, "10.0.0.1", "10.0.0.2").values()
    ask(house, 4)
    assert (asked(one), asked(other)) == (4, 0)


@pytest.mark.parametrize(("family", "host"), [("ipv4", "10.0.0.1"), ("ipv6", "fd00::1")])
def test_one_backend_is_asked_in_its_family_alone(town, family, host):
    house = town("fd00::1", "10.0.0.1", family=family)
    backends = servers(house, "fd00::1", "10.0.0.1")
    ask(house, 2)
    assert [name for name, one in backends.items() if one.requests] == [host]


def test_a_name_without_an_address_of_its_family_is_refused(town):
    house = town("10.0.0.1", family="ipv6")
    servers(house, "10.0.0.1")
    assert ask(house) == [502]
    assert house.record.detail == "the name does not resolve to an IPv6 address"


def test_a_backend_that_says_so_itself_is_resolved_its_own_way(town):
    house = town(
        "10.0.0.1",
        "10.0.0.2",
        backends=({"address": "app:80", "resolve": "first"}, {"address": "app:81", "weight": 3}),
    )
    assert members(house) == ["app:80", "app:81@10.0.0.1:81", "app:81@10.0.0.2:81"]
    assert [one.weight for one in house.members] == [1, 3, 3]


def test_the_host_that_is_named_is_the_name_and_not_the_address(town):
    house = town("10.0.0.1", "10.0.0.2", health_check=CHECKED)
    one, _ = servers(house, "10.0.0.1", "10.0.0.2").values()
    house.wait(1)
    assert one.requests[0].split(b"\r\n")[1] == b"Host: app:80"
    ask(house, 2, b"GET / HTTP/1.0\r\n\r\n")
    assert b"Host: app:80\r\n" in one.requests[-1]


def test_a_new_address_is_used_and_checked_and_one_that_is_gone_drains(town):
    house = town("10.0.0.1", "10.0.0.2", health_check=CHECKED)
    backends = servers(house, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.wait(2)
    house.network.name("app", "10.0.0.2", "10.0.0.3")
    house.wait(SOON)
    assert said(house) == ["app:80@10.0.0.3:80 is added: 10.0.0.3 is an address of app"]
    house.wait(2)
    assert ask(house, 3) == [200] * 3
    assert [asked(one) for one in backends.values()] == [1, 1, 1]
    assert backends["10.0.0.1"].connections[-1].open
    house.wait(REFRESH_S * LEAVES_AFTER)
    assert said(house) == ["app:80@10.0.0.1:80 is removed: 3 answers for app came without it"]
    assert not any(one.open for one in backends["10.0.0.1"].connections)
    ask(house, 4)
    assert [asked(one) for one in backends.values()] == [1, 3, 3]


def test_a_request_that_runs_on_an_address_that_leaves_ends_well(town):
    house = town("10.0.0.1", "10.0.0.2", timeouts={"response_head_s": 100.0})
    servers(house, "10.0.0.1", "10.0.0.2", script=[[Wait(30), response(b"late")]])
    clients = [house.ask() for _ in range(2)]
    house.network.name("app", "10.0.0.2", "10.0.0.3")
    house.wait(25)
    assert members(house) == ["app:80@10.0.0.2:80", "app:80@10.0.0.3:80"]
    house.wait(10)
    assert [client.received[-4:] for client in clients] == [b"late", b"late"]
    assert house.cluster.idle == 1


def test_one_that_is_back_is_what_it_was(town):
    house = town("10.0.0.1", "10.0.0.2")
    servers(house, "10.0.0.1", "10.0.0.2")
    ask(house, 4)
    house.cluster.command("app:80@10.0.0.1:80", AdminState.DRAIN)
    record = house.members[0]
    house.network.name("app", "10.0.0.2", "10.0.0.3")
    house.wait(20)
    assert "app:80@10.0.0.1:80" not in members(house)
    house.network.name("app", "10.0.0.1", "10.0.0.2")
    house.wait(SOON)
    back = house.pool.backends["app:80@10.0.0.1:80"]
    assert back is record
    assert (back.requests, back.admin) == (2, AdminState.DRAIN)


# Between one and many.


def test_a_scale_from_one_to_two_does_not_empty_the_pool(town):
    house = town("10.0.0.1", health_check={**CHECKED, "initial": "down"})
    backends = servers(house, "10.0.0.1", "10.0.0.2")
    house.wait(2)
    said(house)
    house.network.name("app", "10.0.0.1", "10.0.0.2")
    house.wait(REFRESH_S - 1)
    for _ in range(20):
        assert ask(house) == [200]
        house.wait(0.1)
    assert said(house) == [
        "app:80@10.0.0.1:80 is added: 10.0.0.1 is an address of app",
        "app:80@10.0.0.2:80 is added: 10.0.0.2 is an address of app",
        "app:80 is removed: app has several addresses",
        "app:80@10.0.0.2:80 is up: status 200",
    ]
    house.wait(3)
    assert asked(backends["10.0.0.2"]) > 0


def test_nor_does_one_back_to_one(town):
    house = town("10.0.0.1", "10.0.0.2", health_check={**CHECKED, "initial": "down"})
    backends = servers(house, "10.0.0.1", "10.0.0.2")
    house.wait(2)
    house.network.name("app", "10.0.0.2")
    for _ in range(200):
        assert ask(house) == [200]
        house.wait(0.1)
    assert members(house) == ["app:80"]
    before = asked(backends["10.0.0.1"])
    ask(house, 3)
    assert asked(backends["10.0.0.1"]) == before


def test_one_that_is_left_of_two_families_goes_on_where_its_record_is_from(town):
    house = town("10.0.0.1", "10.0.0.2")
    backends = servers(house, "10.0.0.1", "10.0.0.2", "fd00::1")
    house.network.name("app", "fd00::1", "10.0.0.2")
    house.wait(20)
    assert members(house) == ["app:80"]
    ask(house, 2)
    assert (asked(backends["10.0.0.2"]), asked(backends["fd00::1"])) == (2, 0)


def test_a_move_from_one_to_others_ends_with_the_others(town):
    house = town("10.0.0.1", health_check={**CHECKED, "initial": "down"})
    backends = servers(house, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.wait(2)
    house.network.name("app", "10.0.0.2", "10.0.0.3")
    for _ in range(250):
        assert ask(house) == [200]
        house.wait(0.1)
    assert members(house) == ["app:80@10.0.0.2:80", "app:80@10.0.0.3:80"]
    before = asked(backends["10.0.0.1"])
    ask(house, 3)
    assert asked(backends["10.0.0.1"]) == before


# At the start, and with a slow resolver.


def test_a_name_that_is_resolved_later_is_waited_for(town):
    house = town("10.0.0.1", "10.0.0.2", resolve_s=2.0)
    backends = servers(house, "10.0.0.1", "10.0.0.2")
    client = house.ask()
    assert house.cluster.unresolved == ["app"]
    house.wait(2)
    assert client.received.startswith(b"HTTP/1.1 200")
    assert house.cluster.unresolved == []
    assert members(house) == ["app:80@10.0.0.1:80", "app:80@10.0.0.2:80"]
    ask(house, 4)
    assert sorted(asked(one) for one in backends.values()) == [2, 3]
    assert said(house)[-1] == "app:80 is removed: app has several addresses"


def test_a_name_that_does_not_resolve_is_found_when_it_does(town):
    house = town(queue={"no_backend_s": 5.0})
    servers(house, "10.0.0.1", "10.0.0.2")
    client = house.ask()
    assert house.cluster.unresolved == []
    house.wait(1)
    house.network.name("app", "10.0.0.1", "10.0.0.2")
    house.wait(AGAIN_S + 1)
    assert client.received.startswith(b"HTTP/1.1 200")
    assert len(house.members) == 2


def test_an_answer_after_the_end_does_nothing(town):
    house = town("10.0.0.1", resolve_s=2.0)
    house.plane.update("default", [])
    house.wait(3)
    house.network.name("app", "10.0.0.2")
    house.wait(20)
    assert members(house) == []
    assert house.network.resolver.asked == ["app"]


# The operator.


def test_a_command_for_a_name_is_for_all_its_addresses_and_those_to_come(town):
    house = town("10.0.0.1", "10.0.0.2")
    servers(house, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.cluster.command("app:80", AdminState.DRAIN)
    assert [one.admin for one in house.members] == [AdminState.DRAIN] * 2
    house.network.name("app", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.wait(SOON)
    assert [one.admin for one in house.members] == [AdminState.DRAIN] * 3
    assert ask(house) == [503]
    house.cluster.command("app:80", AdminState.READY)
    assert ask(house) == [200]


def test_it_is_for_those_who_are_back_too(town):
    house = town("10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.network.name("app", "10.0.0.1", "10.0.0.2")
    house.wait(20)
    house.cluster.command("app:80", AdminState.MAINT)
    house.network.name("app", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.wait(SOON)
    assert [one.admin for one in house.members] == [AdminState.MAINT] * 3


def test_a_command_for_nobody_is_refused(town):
    house = town("10.0.0.1", "10.0.0.2")
    for name in ("app:81", "app:80@10.0.0.7:80"):
        with pytest.raises(KeyError, match="no backend is called"):
            house.cluster.command(name, AdminState.DRAIN)


def test_a_drain_of_an_endpoint_that_has_left_stands_in_the_way_of_no_reload(town):
    """And it holds when the endpoint is back, however long that took."""
    house = town("10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.plane.command(DEFAULT, V4[0], AdminState.DRAIN)
    house.network.name("app", "10.0.0.2", "10.0.0.3")
    house.wait(20)
    house.apply(backends=["app:80", "10.0.0.9:80"])
    assert members(house) == [V4[1], "app:80@10.0.0.3:80", "10.0.0.9:80"]
    house.apply(backends=["app:80"], resolve="first")
    house.apply(resolve="auto")
    house.wait(RETURNS_WITHIN_S)
    house.network.name("app", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    house.wait(SOON)
    assert {one.name for one in house.members if one.admin is AdminState.DRAIN} == {V4[0]}


def test_a_drain_of_an_endpoint_holds_for_a_pool_that_begins_as_one_of_a_name_does(build):
    """As after a restart with a state file: names are not known yet then."""
    house = build("a:80", resolved={"app": ["10.0.0.1", "10.0.0.2"]})
    house.plane.overlay.command("api", V4[1], AdminState.MAINT)
    house.apply(pools={"api": {"backends": ["app:80"], "health_check": {"interval_s": 0.0}}})
    house.wait(SOON)
    admins = {name: one.admin for name, one in house.plane.clusters["api"].pool.backends.items()}
    assert admins == {V4[0]: AdminState.READY, V4[1]: AdminState.MAINT}


def test_an_endpoint_that_is_ready_though_its_name_is_drained_stays_so_over_reloads(town):
    house = town("10.0.0.1", "10.0.0.2")
    house.plane.command(DEFAULT, V4[1], AdminState.MAINT)
    house.plane.command(DEFAULT, "app:80", AdminState.DRAIN)
    house.plane.command(DEFAULT, V4[0], AdminState.READY)
    for _ in range(2):
        assert [one.admin for one in house.members] == [AdminState.READY, AdminState.DRAIN]
        house.apply(timeouts={"connect_s": 1.0})
    house.plane.command(DEFAULT, "app:80", AdminState.READY)
    assert house.plane.overlay.pools == {}


def test_a_reset_of_a_name_is_for_all_its_endpoints_and_one_of_an_endpoint_goes_by_the_name(town):
    house = town("10.0.0.1", "10.0.0.2")
    house.plane.command(DEFAULT, "app:80", AdminState.DRAIN)
    house.plane.command(DEFAULT, V4[0], AdminState.READY)
    house.plane.reset(DEFAULT, V4[0])
    assert [one.admin for one in house.members] == [AdminState.DRAIN] * 2
    house.plane.command(DEFAULT, V4[0], AdminState.MAINT)
    house.plane.reset(DEFAULT, "app:80")
    assert [one.admin for one in house.members] == [AdminState.READY] * 2
    assert house.plane.overlay.pools == {}


def test_an_update_that_names_it_again_changes_nothing_and_one_that_does_not_removes_all(town):
    house = town("10.0.0.1", "10.0.0.2")
    before = house.members
    house.cluster.update([BackendSpec.parse("app:80"), BackendSpec.parse("10.0.0.9:80")])
    assert house.members[:2] == before
    assert members(house)[2:] == ["10.0.0.9:80"]
    house.cluster.update([BackendSpec.parse("10.0.0.9:80")])
    assert members(house) == ["10.0.0.9:80"]
    house.cluster.update([BackendSpec.parse("app:80")])
    assert members(house) == ["app:80@10.0.0.1:80", "app:80@10.0.0.2:80"]
    assert not {id(one) for one in house.members} & {id(one) for one in before}


def test_an_update_with_a_name_twice_changes_nothing(town):
    house = town("10.0.0.1", "10.0.0.2")
    with pytest.raises(ValueError, match="app:80 is there twice"):
        house.cluster.update([BackendSpec.parse("app:80"), BackendSpec("app:80", TcpAddress("b", 80))])
    assert len(house.members) == 2


def test_another_way_of_resolving_is_gone_by_at_once(town):
    house = town("10.0.0.1", "10.0.0.2")
    house.apply(resolve="first")
    assert members(house) == ["app:80"]
    house.apply(resolve="auto")
    assert members(house) == ["app:80@10.0.0.1:80", "app:80@10.0.0.2:80"]
    before = house.members
    house.apply(timeouts={"connect_s": 1.0})
    assert house.members == before


def test_a_pool_and_a_backend_that_say_together_what_they_said_before_change_nothing(town):
    house = town("10.0.0.1", "10.0.0.2")
    before = house.members
    house.cluster.command("app:80@10.0.0.1:80", AdminState.DRAIN)
    said(house)
    house.apply(resolve="first", backends=[{"address": "app:80", "resolve": "auto"}])
    assert (house.members, said(house)) == (before, [])
    house.apply(resolve="auto", backends=["app:80"])
    assert (house.members, said(house)) == (before, [])
    assert house.members[0].admin is AdminState.DRAIN


def test_another_family_is_another_server(town):
    house = town("fd00::1", "10.0.0.1")
    backends = servers(house, "fd00::1", "10.0.0.1")
    ask(house)
    house.apply(family="ipv4")
    ask(house)
    assert [asked(one) for one in backends.values()] == [1, 1]
    assert not backends["fd00::1"].connections[0].open
    assert said(house) == ["app:80 has changed: family auto -> ipv4"]


V4 = ["app:80@10.0.0.1:80", "app:80@10.0.0.2:80"]
V6 = ["app:80@[fd00::1]:80", "app:80@[fd00::2]:80"]


@pytest.mark.parametrize(
    ("others", "family", "then"), [((), "ipv4", V4), (("fd00::1",), "ipv4", V4), (("fd00::1", "fd00::2"), "ipv6", V6)]
)
def test_addresses_that_are_in_another_family_too_are_what_they_were(town, others, family, then):
    """Also while the name is looked up anew, which may take its time."""
    house = town("10.0.0.1", "10.0.0.2", *others)
    house.cluster.command(V4[0], AdminState.DRAIN)
    before = house.members
    assert members(house) == V4
    house.network.resolver.delay_s = 2.0
    house.apply(family=family)
    after = house.members
    assert (members(house), after == before) == (then, then == V4)
    house.wait(3)
    assert house.members == after


def test_a_backend_that_gets_another_name_has_not_moved_but_is_another_one(build):
    house = build("app:80", resolved={"app": ["10.0.0.1"], "new": ["10.0.0.2"]})
    backends = servers(house, "10.0.0.1", "10.0.0.2")
    ask(house)
    house.cluster.update([BackendSpec("app:80", TcpAddress("new", 80))])
    ask(house)
    assert [asked(one) for one in backends.values()] == [1, 1]
    assert said(house) == ["app:80 has changed: address app:80 -> new:80"]
    house.network.name("new", "10.0.0.1")
    house.wait(SOON)
    assert said(house) == ["app:80 has changed: address 10.0.0.2 -> 10.0.0.1"]


def test_of_those_that_were_asked_the_log_names_the_address(town):
    house = town("10.0.0.1", "10.0.0.2")
    servers(house, "10.0.0.2")
    ask(house, 2)
    names = {attempt.lease.backend.name: attempt.outcome for record in house.records for attempt in record.attempts}
    assert names == {"app:80@10.0.0.1:80": Outcome.REFUSED, "app:80@10.0.0.2:80": Outcome.OK}
    assert [one.name for one in house.cluster.snapshot().backends] == members(house)
