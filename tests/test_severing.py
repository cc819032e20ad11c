"""What becomes of tunnels whose backend goes down, and of those that stayed at a backup."""

import pytest
from house import GET, House

from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import ConnectionsCut
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import NEVER_ANSWER, ScriptedBackend, ScriptedClient, Wait, response

OFFER = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
CHECKED = {"interval_s": 1.0, "kind": "http", "path": "/well", "fall": 1, "rise": 1}
BACKUP = {"address": "s:80", "backup": True}


class Server:
    """A backend that switches whoever offers it, answers checks as it is told, and everything else late."""

    def __init__(self, house: House, address: str) -> None:
        self.status = 200
        self.scripted: ScriptedBackend = house.backend(address, self._answer)

    def _answer(self, request: bytes):
        if b" /well " in request:
            return [response(b"", self.status)]
        return [SWITCH, NEVER_ANSWER] if b"\r\nUpgrade: " in request else [Wait(5), response(b"late")]

    def refuse(self) -> None:
        """Take no new connections; what is open stays."""
        self.scripted.listener.stop()


class Place:
    """A balancer, and its servers by name."""

    def __init__(self, *backends, **options) -> None:
        self.house = House(*backends, **options)
        names = [one if isinstance(one, str) else one["address"] for one in backends]
        self.servers = {name.partition(":")[0]: Server(self.house, name) for name in names}

    def switched(self) -> ScriptedClient:
        """A client with a tunnel."""
        client = self.house.ask(OFFER)
        assert client.take().startswith(b"HTTP/1.1 101 ")
        return client

    def cut(self) -> list[tuple[str, int, str]]:
        """What was cut, as events tell it."""
        events = [one for one in self.house.events if isinstance(one, ConnectionsCut)]
        return [(one.backend_name, one.count, one.reason) for one in events]


@pytest.fixture
def make():
    places = []

    def one(*backends, **options) -> Place:
        places.append(Place(*(backends or ("a:80", "b:80")), **options))
        return places[-1]

    yield one
    for place in places:
        place.house.close()


# Backends that go down.


def test_tunnels_to_a_backend_that_its_checks_find_down_are_cut_with_the_reason(make):
    place = make("a:80", health_check=CHECKED, close_when_down=True)
    house = place.house
    house.wait(1)
    clients = [place.switched(), place.switched()]
    place.servers["a"].status = 503
    house.wait(2)
    assert [one.open for one in clients] == [False, False]
    assert place.cut() == [("a:80", 2, "its backend is down: status 503")]
    for record in house.records:
        assert (record.status, record.outcome, record.ended_by) == (101, Outcome.CANCELLED, Outcome.CANCELLED)
        assert record.detail == "its backend is down: status 503"
    assert (house.plane.tunnels, house.members[0].tunnels, house.members[0].failures) == (0, 0, 0)
    [last, _] = house.plane.explained("recent", 2)
    assert (last.outcome, last.detail) == ("CANCELLED", "its backend is down: status 503")
    assert "a:80: 2 tunnels are cut: its backend is down: status 503" in [str(one) for one in house.events]


def test_without_the_option_a_tunnel_outlives_the_health_of_its_backend(make):
    place = make("a:80", health_check=CHECKED)
    place.house.wait(1)
    client = place.switched()
    place.servers["a"].status = 503
    place.house.wait(60)
    assert (client.open, place.cut()) == (True, [])


def test_a_request_is_not_cut_with_them(make):
    place = make("a:80", health_check={**CHECKED, "move": False}, close_when_down=True)
    house = place.house
    house.wait(1)
    tunnel, client = place.switched(), house.ask(GET)
    place.servers["a"].status = 503
    house.wait(2)
    assert (tunnel.open, client.take()) == (False, b"")
    house.wait(5)
    assert client.take().endswith(b"late")


def test_tunnels_to_others_stay(make):
    place = make(health_check=CHECKED, close_when_down=True)
    place.house.wait(1)
    clients = [place.switched(), place.switched()]
    at = [client.at().name for client in place.house.frontend.clients]
    assert sorted(at) == ["a:80", "b:80"]
    place.servers["a"].status = 503
    place.house.wait(2)
    assert [one.open for one in clients] == [name == "b:80" for name in at]
    assert place.cut() == [("a:80", 1, "its backend is down: status 503")]


def test_tunnels_to_a_backend_that_traffic_ejects_are_cut(make):
    place = make(close_when_down=True)
    clients = [place.switched(), place.switched()]
    at = [client.at().name for client in place.house.frontend.clients]
    place.servers["a"].refuse()
    for _ in range(2):
        place.switched()
    place.house.wait(0.3)
    assert [one.open for one in clients] == [name == "b:80" for name in at]
    assert place.cut() == [("a:80", 1, "its backend is ejected: connection refused")]


def test_what_its_agent_says_is_down_is_cut_too_and_what_it_drains_is_not(make):
    def said(line: bytes):
        return lambda request: [response(b"", 200, b"X-Agent: " + line)]

    place = make("a:80", health_check={**CHECKED, "agent": "header", "agent_header": "X-Agent"}, close_when_down=True)
    house, server = place.house, place.servers["a"]
    house.wait(1)
    client = place.switched()
    server.scripted.answer = said(b"drain")
    house.wait(2)
    assert client.open
    server.scripted.answer = said(b"down # out of memory")
    house.wait(2)
    assert not client.open
    [(name, count, why)] = place.cut()
    assert (name, count) == ("a:80", 1)
    assert why.startswith("its backend is down by its agent")


@pytest.mark.parametrize("admin", [AdminState.DRAIN, AdminState.MAINT])
def test_what_an_operator_takes_out_is_left_to_finish(make, admin):
    place = make(health_check=CHECKED, close_when_down=True)
    place.house.wait(1)
    clients = [place.switched(), place.switched()]
    place.house.plane.command("default", "a:80", admin)
    place.house.wait(10)
    assert [one.open for one in clients] == [True, True]


def test_a_backend_in_drain_that_goes_down_loses_its_tunnels_all_the_same(make):
    place = make("a:80", health_check=CHECKED, close_when_down=True)
    place.house.wait(1)
    client = place.switched()
    place.house.plane.command("default", "a:80", AdminState.DRAIN)
    place.servers["a"].status = 503
    place.house.wait(2)
    assert not client.open


def test_who_is_used_in_panic_keeps_its_tunnels(make):
    place = make(health_check=CHECKED, close_when_down=True, panic={"threshold_percent": 100, "even_down": True})
    place.house.wait(1)
    clients = [place.switched(), place.switched()]
    for server in place.servers.values():
        server.status = 503
    place.house.wait(3)
    assert ([one.open for one in clients], place.cut()) == ([True, True], [])


def test_a_tunnel_that_begins_while_its_backend_is_down_already_is_cut(make):
    place = make("a:80", health_check={**CHECKED, "move": False}, close_when_down=True)
    house, server = place.house, place.servers["a"]
    house.wait(1)
    server.scripted.answer = lambda request: (
        [response(b"", server.status)] if b" /well " in request else [Wait(3), SWITCH, NEVER_ANSWER]
    )
    client = house.ask(OFFER)
    server.status = 503
    house.wait(2)
    assert (client.open, client.take()) == (True, b"")
    house.wait(1.5)
    assert client.take().startswith(b"HTTP/1.1 101 ")
    assert not client.open


def test_a_backend_that_nobody_has_checked_yet_is_not_down(make):
    place = make("a:80", close_when_down=True)
    client = place.switched()
    place.house.apply(health_check={**CHECKED, "interval_s": 5.0, "initial": "down"})
    place.house.wait(20)
    assert (client.open, place.cut()) == (True, [])


def test_a_reload_that_wants_it_holds_for_what_is_down_already(make):
    place = make("a:80", health_check=CHECKED)
    place.house.wait(1)
    client = place.switched()
    place.servers["a"].status = 503
    place.house.wait(5)
    assert client.open
    place.house.apply(close_when_down=True)
    place.house.wait(0.3)
    assert not client.open


# Backups.


def backed_up(make, **options) -> tuple[Place, ScriptedClient]:
    """A tunnel at a backup, while its primary is down."""
    place = make("a:80", BACKUP, health_check=CHECKED, **options)
    place.house.wait(1)
    place.servers["a"].status = 503
    place.house.wait(2)
    client = place.switched()
    [found] = place.house.frontend.clients
    assert found.at().name == "s:80"
    return place, client


def test_a_tunnel_leaves_its_backup_when_the_primary_is_used_again(make):
    place, client = backed_up(make, leave_backups=True)
    place.servers["a"].status = 200
    place.house.wait(2)
    assert not client.open
    why = "its backend is a backup, and the pool uses level 0 again"
    assert place.cut() == [("s:80", 1, why)]
    assert (place.house.record.outcome, place.house.record.detail) == (Outcome.CANCELLED, why)


def test_without_the_option_it_stays_there(make):
    place, client = backed_up(make)
    place.servers["a"].status = 200
    place.house.wait(10)
    assert (client.open, place.cut()) == (True, [])


def test_a_request_at_the_backup_is_finished_there(make):
    place, tunnel = backed_up(make, leave_backups=True)
    client = place.house.ask(GET)
    place.servers["a"].status = 200
    place.house.wait(2)
    assert (tunnel.open, client.take()) == (False, b"")
    place.house.wait(5)
    assert client.take().endswith(b"late")


def test_a_tunnel_that_came_to_a_backup_since_the_primary_was_full_stays(make):
    place = make("a:80", BACKUP, max_in_flight=1, queue={"when_full": "spill"}, leave_backups=True)
    clients = [place.switched(), place.switched()]
    assert sorted(client.at().name for client in place.house.frontend.clients) == ["a:80", "s:80"]
    place.house.wait(10)
    assert ([one.open for one in clients], place.cut()) == ([True, True], [])


def test_a_primary_that_is_gone_again_in_the_same_turn_leaves_the_tunnel_where_it_is(make):
    place, client = backed_up(make, leave_backups=True)
    cluster = place.house.cluster
    cluster.observe_probe("a:80", True, "status 200")
    cluster.observe_probe("a:80", False, "status 503")
    place.house.clock.settle()
    assert (client.open, place.cut()) == (True, [])


def test_nobody_is_left_at_the_backup_after_a_time_without_anybody(make):
    place, client = backed_up(make, leave_backups=True)
    place.servers["s"].status = 503
    place.house.wait(2)
    assert client.open
    place.servers["a"].status = 200
    place.house.wait(2)
    assert not client.open
