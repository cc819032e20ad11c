"""Requests that wait in a pool's queue, through the whole data plane: in which order they are served, for how long, what they are told."""

import re

import pytest
from crossroads import OK, Crossroads, get
from faults.web import site_of, standing_wall_clock
from house import House

from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.testing import ScriptedBackend, ScriptedClient, Wait, response

SIDES = ("engine", "resource")
SERVICE_S = 1.0


class Counting:
    """A backend that takes a second for each request, and counts what it has at a time, as it sees it."""

    def __init__(self, house: House, address: str = "a:80", *lines: bytes) -> None:
        self.order: list[str] = []
        self.most = 0
        self._house = house
        self._lines = lines
        self.server: ScriptedBackend = house.backend(address, self._answer)

    def _answer(self, request: bytes):
        self.order.append(request.split(b" ")[1].decode().removeprefix("/"))
        self.most = max(self.most, sum(one.open and one._waiting is not None for one in self.server.connections) + 1)
        return [Wait(SERVICE_S), response(b"ok\n", 200, *self._lines)]


class Line:
    """A house with a queue in front of one backend that has a request at a time."""

    def __init__(self, house: House, side: str = "engine") -> None:
        self.house = house
        self.clients: dict[str, ScriptedClient] = {}
        self.backend = Counting(house)
        if side == "resource":
            house.balanced.listener.stop()
            site = site_of(house.frontend, house.clock)
            house.balanced.listener = house.network.listen("lb:8080", lambda: site.buildProtocol(None))

    def ask(self, name: str, *lines: str, host: str = "127.0.0.1", client: ScriptedClient | None = None) -> None:
        """Let a request come for /NAME, with these fields."""
        if client is None:
            client = ScriptedClient(self.house.network, "lb:8080", host)
        self.clients[name] = client
        text = "\r\n".join((f"GET /{name} HTTP/1.1", "Host: x", *lines, "", ""))
        self.house.ask(text.encode("latin-1"), client)

    def told(self, name: str) -> int:
        """The status that a client was told; 0 for none."""
        found = re.findall(rb"HTTP/1\.[01] (\d\d\d) ", self.clients[name].received)
        return int(found[-1]) if found else 0

    def field(self, name: str, field: bytes) -> str:
        found = re.search(rb"\r\n%b: ([^\r]*)\r\n" % field, self.clients[name].received)
        return "" if found is None else found[1].decode()

    @property
    def waiting(self) -> int:
        return self.house.cluster.snapshot().waiting

    @property
    def order(self) -> list[str]:
        """Who was served so far, in this order."""
        return self.backend.order


@pytest.fixture
def line(build):
    def one(*, side: str = "engine", queue: dict | None = None, **options) -> Line:
        options = {"max_in_flight": 1, "ejection": {"consecutive_failures": 1}, **options}
        return Line(build("a:80", queue={"length": 1000, "timeout_s": 60.0, **(queue or {})}, **options), side)

    with standing_wall_clock():
        yield one


BOTH = pytest.mark.parametrize("side", SIDES)


# In which order.


@BOTH
def test_no_more_are_at_a_backend_than_it_may_have_and_who_came_first_is_first(line, side):
    one = line(side=side, max_in_flight=2)
    names = [f"n{number}" for number in range(9)]
    for name in names:
        one.ask(name)
    assert one.waiting == 7
    one.house.wait(SERVICE_S * 5)
    assert [one.told(name) for name in names] == [200] * 9
    assert (one.backend.most, one.waiting) == (2, 0)
    assert [sorted(one.order[at : at + 2]) for at in range(0, 9, 2)] == [names[at : at + 2] for at in range(0, 9, 2)]


@BOTH
@pytest.mark.parametrize(
    ("fair_by", "greedy", "modest"),
    [
        ("client", {"host": "10.0.0.1"}, {"host": "10.0.0.2"}),
        ({"header": "X-Key"}, {"lines": ["X-Key: greedy"]}, {"lines": ["x-key:  modest "]}),
        ({"cookie": "who"}, {"lines": ["Cookie: a=b; who=greedy"]}, {"lines": ["Cookie: who=modest"]}),
        ({"header": "X-Key"}, {"lines": ["X-Key: greedy"]}, {"host": "10.0.0.9"}),
    ],
)
def test_who_sends_many_does_not_hold_up_who_sends_few(line, side, fair_by, greedy, modest):
    one = line(side=side, queue={"fair_by": fair_by})
    for number in range(8):
        one.ask(f"greedy{number}", *greedy.get("lines", []), host=greedy.get("host", "10.0.0.1"))
    for number in range(3):
        one.ask(f"modest{number}", *modest.get("lines", []), host=modest.get("host", "10.0.0.1"))
    one.house.wait(7.5)
    # The first one is served without a wait.
    assert one.order[:7] == ["greedy0", "greedy1", "modest0", "greedy2", "modest1", "greedy3", "modest2"]
    one.house.wait(9)


def test_turns_are_of_equal_cost(line):
    one = line(queue={"fair_by": {"header": "X-Key"}}, cost={"header": "X-Cost"})
    one.ask("first")
    for number in range(3):
        one.ask(f"dear{number}", "X-Key: dear", "X-Cost: 3")
    for number in range(9):
        one.ask(f"cheap{number}", "X-Key: cheap", "X-Cost: 1")
    one.house.wait(9.5)
    assert [name.rstrip("0123456789") for name in one.order[1:9]] == ["dear", *["cheap"] * 3] * 2
    one.house.wait(9)


@BOTH
@pytest.mark.parametrize(
    ("priority_by", "batch", "usual", "interactive"),
    [
        ({"header": "Priority"}, "Priority: u=7", "Priority: nonsense", "Priority: u=0, i"),
        (
            {"header": "X-Class", "classes": {"interactive": 1, "batch": 6}},
            "X-Class: Batch",
            "X-Class: other",
            "X-Class: interactive",
        ),
    ],
)
def test_the_urgent_are_served_first_by_what_a_header_says(line, side, priority_by, batch, usual, interactive):
    one = line(side=side, queue={"priority_by": priority_by})
    one.ask("first")
    for number in range(2):
        one.ask(f"batch{number}", batch)
        one.ask(f"usual{number}", usual)
        one.ask(f"interactive{number}", interactive)
    one.house.wait(8)
    assert one.order == ["first", "interactive0", "interactive1", "usual0", "usual1", "batch0", "batch1"]


@BOTH
def test_the_urgent_are_served_first_by_their_route(line, side):
    routes = [{"path_prefix": "/b", "urgency": 7}, {"path_prefix": "/i", "urgency": 0}, {}]
    one = line(side=side, routes=[{**route, "pool": "default"} for route in routes])
    for name in ("u/0", "b/0", "u/1", "i/0", "b/1", "i/1"):
        one.ask(name)
    one.house.wait(8)
    assert one.order == ["u/0", "i/0", "i/1", "u/1", "b/0", "b/1"]


def test_of_the_urgent_too_each_has_a_turn(line):
    one = line(queue={"fair_by": "client", "priority_by": {"header": "Priority"}})
    one.ask("first")
    for name, host, urgency in (
        ("b1", 1, 7), ("a1", 1, 1), ("a2", 1, 1), ("a3", 1, 1), ("c1", 2, 1), ("b2", 2, 7),
    ):  # fmt: skip
        one.ask(name, f"Priority: u={urgency}", host=f"10.0.0.{host}")
    one.house.wait(8)
    assert one.order == ["first", "a1", "c1", "a2", "a3", "b1", "b2"]


@BOTH
def test_requests_that_are_sent_ahead_overtake_nobody(line, side):
    one = line(side=side)
    client = one.house.client()
    client.send(b"".join(b"GET /ahead%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3)))
    one.house.clock.settle()
    one.ask("other0")
    one.ask("other1")
    one.house.wait(6)
    assert one.order == ["ahead0", "other0", "other1", "ahead1", "ahead2"]


def test_a_retry_waits_at_the_head(line):
    one = line(retry={"bad_statuses": [503], "more_attempts": 2})
    two = Counting(one.house, "b:80")
    one.house.cluster.update([BackendSpec.parse("a:80"), BackendSpec.parse("b:80")])
    one.house.clock.settle()
    # The first is cut after its second, when the other has a new one already, and others wait.
    one.backend.server.script.append([Wait(SERVICE_S), b""])
    one.ask("one")
    one.house.wait(0.5)
    one.ask("two")
    for name in ("three", "four"):
        one.ask(name)
    assert (one.waiting, one.order + two.order) == (2, ["two"])
    one.backend.server.connections[0].transport.loseConnection()
    one.house.wait(0.1)
    # Its first attempt has failed: a is out of the question for it, and it waits for b in front of all others.
    assert one.waiting >= 1
    one.house.wait(5)
    assert two.order[:2] == ["two", "one"]
    assert {one.told(name) for name in ("one", "two", "three", "four")} == {200}


@BOTH
@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_leaves_loses_its_place_at_once_and_nobody_is_asked_for_it(line, side, how):
    one = line(side=side, queue={"length": 2})
    for name in ("first", "gone", "second"):
        one.ask(name)
    one.ask("beyond")
    assert one.told("beyond") == 503
    getattr(one.clients["gone"], how)()
    one.house.clock.settle()
    assert one.waiting == 1
    one.ask("third")
    assert one.told("third") == 0
    one.house.wait(4)
    assert one.order == ["first", "second", "third"]


def test_thousands_that_leave_at_once_leave_nothing(line):
    one = line(
        queue={"length": 10_000, "timeout_s": 3600, "fair_by": {"header": "X-Key"}},
        limits={"connections": 20_000, "client_bytes_per_s": 0},
    )
    one.ask("first")
    for number in range(2000):
        one.ask(f"n{number}", f"X-Key: {number}")
    assert one.waiting == 2000
    for number in range(2000):
        one.clients[f"n{number}"].reset()
    one.house.clock.settle()
    assert one.waiting == 0
    one.ask("next")
    one.house.wait(2.5)
    assert one.order == ["first", "next"]


# For how long, and what they are told.


@BOTH
@pytest.mark.parametrize("status", [503, 429])
def test_who_finds_it_full_is_told_so_and_when_to_come_again(line, side, status):
    one = line(side=side, queue={"length": 8, "full_status": status})
    for number in range(9):
        one.ask(f"n{number}")
    one.ask("early")
    assert (one.told("early"), one.field("early", b"Retry-After")) == (status, "1"), "nothing is known yet"
    assert one.house.record.local_reply is Refusal.ALL_FULL
    one.house.wait(4.5)  # one a second
    for number in range(4):
        one.ask(f"m{number}")
    one.ask("late")
    # Eight wait, and one ends each second.
    assert (one.told("late"), one.field("late", b"Retry-After")) == (status, "9")
    one.house.wait(12)


@BOTH
@pytest.mark.parametrize("status", [503, 429])
def test_who_has_waited_for_as_long_as_it_may_is_told_the_same(line, side, status):
    one = line(side=side, queue={"timeout_s": 0.5, "full_status": status})
    one.ask("first")
    one.ask("second")
    one.house.wait(0.4)
    assert one.told("second") == 0
    one.house.wait(0.3)
    assert (one.told("second"), one.field("second", b"Retry-After")) == (status, "1")
    assert one.house.record.queued_s == pytest.approx(0.5, abs=0.15)
    one.house.wait(1)
    assert one.order == ["first"]


@pytest.mark.parametrize("queue", [{"length": 0}, {"timeout_s": 0.0}])
def test_where_nobody_waits_who_finds_it_full_is_told_so_at_once(line, queue):
    one = line(queue=queue)
    one.ask("first")
    one.ask("second")
    assert (one.told("second"), one.waiting) == (503, 0)
    one.house.wait(1.5)
    one.ask("third")
    one.house.wait(1.5)
    assert one.told("third") == 200


@BOTH
def test_who_is_full_is_not_gone_and_nobody_falls_back(side):
    full = {"max_in_flight": 1, "queue": {"length": 1}}
    roads = Crossroads(side, {"pool": "api", "fallback": "web"}, pool_options={"api": full})
    clients = [roads.client().send(get()) for _ in range(3)]
    roads.world.run()
    assert [peer.backend for peer in roads.world.backend_connections] == ["api:80"]
    assert clients[2].read().startswith(b"HTTP/1.1 503 ")
    roads.down("api")
    assert roads.ask(get()).asked == "web:80", "now it is gone"
    roads.close()


@BOTH
def test_when_the_last_backend_goes_who_waits_for_it_falls_back_at_once(side):
    full = {"max_in_flight": 1, "queue": {"length": 5, "timeout_s": 60.0, "no_backend_s": 30.0}}
    roads = Crossroads(side, {"pool": "api", "fallback": "web"}, pool_options={"api": full})
    first, waits = [roads.client().send(get(path)) for path in ("/1", "/2")]
    roads.world.run()
    assert [peer.backend for peer in roads.world.backend_connections] == ["api:80"]
    roads.down("api")
    roads.world.run()
    assert [peer.backend for peer in roads.world.backend_connections] == ["api:80", "web:80"]
    assert roads.world.backend_connections[1].read().startswith(b"GET /2 ")
    for peer in roads.world.backend_connections:
        peer.send(OK)
    roads.world.run()
    assert [one.read()[9:12] for one in (first, waits)] == [b"200", b"200"]
    assert {record.pool for record in roads.records} == {"api", "web"}
    roads.close()


@BOTH
def test_when_the_last_backend_goes_who_waits_for_it_is_answered_at_once_where_that_is_the_fallback(side):
    full = {"max_in_flight": 1, "queue": {"length": 5, "timeout_s": 60.0}}
    own = {"status": 503, "text": "later"}
    roads = Crossroads(side, {"pool": "api", "fallback": own}, pool_options={"api": full})
    clients = [roads.client().send(get(method=method)) for method in ("GET", "GET", "HEAD")]
    roads.world.run()
    roads.down("api")
    roads.world.run()
    assert [one.read().endswith(b"\r\n\r\nlater") for one in clients] == [False, True, False]
    assert roads.world.plane.clusters["api"].pool.waiting == 0
    roads.world.backend_connections[0].send(OK)
    roads.world.run()
    roads.close()


# Deadlines.


@BOTH
@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        ({"deadline_s": 0.5}, []),
        ({"deadline_header": "X-Wait"}, ["X-Wait: 500"]),
        ({"deadline_header": "grpc-timeout"}, ["GRPC-Timeout: 500m"]),
        ({"deadline_s": 9.0, "deadline_header": "grpc-timeout"}, ["grpc-timeout: 500000u"]),
        ({"deadline_s": 0.5, "deadline_header": "X-Wait"}, ["X-Wait: 60000"]),
    ],
)
def test_at_the_deadline_the_wait_for_an_answer_ends_and_is_no_fault_of_the_backend(line, side, keys, lines):
    one = line(side=side, timeouts=keys, retry={"more_attempts": 2})
    one.ask("one", *lines)
    one.house.wait(0.4)
    assert one.told("one") == 0
    one.house.wait(0.3)
    assert one.told("one") == 504
    assert one.house.record.attempts[-1].outcome is Outcome.LATE
    assert (one.house.members[0].usable, one.order) == (True, ["one"]), "neither ejected nor asked again"
    one.house.wait(2)


@BOTH
@pytest.mark.parametrize(
    ("timeouts", "lines"), [({"deadline_s": 0.5}, []), ({"deadline_header": "X-Wait"}, ["X-Wait: 500"])]
)
def test_a_deadline_that_is_over_in_the_queue_is_504_and_nobody_is_asked(line, side, timeouts, lines):
    routes = [{"path_prefix": "/second", "pool": "default", "timeouts": timeouts}, {"pool": "default"}]
    one = line(side=side, routes=routes)
    one.ask("first")
    one.ask("second", *lines)
    assert one.waiting == 1
    one.house.wait(0.7)
    assert (one.told("second"), one.waiting) == (504, 0)
    assert one.house.record.local_reply is Refusal.LATE
    one.house.wait(2)
    assert one.order == ["first"]


NONSENSE = ["X-Wait: ", "X-Wait: soon", "X-Wait: -5", "X-Wait: 1.5", "X-Wait: 123456789", "X-Wait: 5s", "X-Wait: 5 S"]


@pytest.mark.parametrize(
    "lines", [[one] for one in NONSENSE] + [["X-Wait: 100", "X-Wait: 200"], ["X-Wait: " + "9" * 5000]]
)
def test_what_is_no_time_is_no_deadline(line, lines):
    one = line(timeouts={"deadline_header": "X-Wait"})
    one.ask("first")
    one.ask("second", *lines)
    one.house.wait(3)
    assert (one.told("first"), one.told("second")) == (200, 200)


def test_a_deadline_far_away_is_none(line):
    one = line(timeouts={"deadline_header": "X-Wait"})
    one.ask("one", "X-Wait: 99999999H")
    one.house.wait(2)
    assert one.told("one") == 200


@BOTH
@pytest.mark.parametrize("value", ["0", "0H", "00000000n"])
def test_whose_deadline_is_over_at_once_is_sent_to_nobody(line, side, value):
    one = line(side=side, timeouts={"deadline_header": "X-Wait"})
    one.ask("one", f"X-Wait: {value}")
    assert (one.told("one"), one.order) == (504, [])
    assert one.house.record.local_reply is Refusal.LATE


def test_what_nobody_could_answer_in_time_is_not_sent(line):
    one = line(timeouts={"deadline_header": "X-Wait"}, max_in_flight=0)
    one.ask("one")
    one.house.wait(30)
    one.ask("two")  # now it is known how quickly it answers at best
    one.house.wait(2)
    one.ask("three", "X-Wait: 700")
    assert (one.told("three"), one.order) == (504, ["one", "two"])
    one.ask("four", "X-Wait: 1500")
    one.house.wait(2)
    assert one.told("four") == 200


# Settings that change on the fly, and what else counts.


def test_settings_hold_for_whoever_comes_from_then_on(line):
    one = line(queue={"length": 4})
    for number in range(4):
        one.ask(f"batch{number}", "X-Class: b")
    one.house.apply(
        queue={"length": 5, "full_status": 429, "priority_by": {"header": "X-Class", "classes": {"i": 0, "b": 7}}}
    )
    one.ask("batch4", "X-Class: b")
    one.ask("inter", "X-Class: i")
    one.ask("beyond")
    assert (one.told("beyond"), one.waiting) == (429, 5)
    one.house.wait(2.5)
    assert one.order[:3] == ["batch0", "inter", "batch1"], "those before have the urgency that they had, and lanes"
    one.house.apply(max_in_flight=4)
    one.house.wait(0.1)
    assert (one.waiting, one.backend.most) == (0, 4), "whoever waits has what there is now"
    one.house.wait(3)
    assert {one.told(name) for name in one.clients} == {200, 429}


def test_a_smaller_limit_cuts_nothing_and_grants_nothing_until_it_is_kept(line):
    one = line(max_in_flight=4)
    for number in range(6):
        one.ask(f"n{number}")
    one.house.apply(max_in_flight=1)
    one.ask("last")
    assert (one.waiting, len(one.order)) == (3, 4)
    one.house.wait(1.5)
    assert len(one.order) == 5
    one.house.wait(5)
    assert {one.told(name) for name in one.clients} == {200}


def test_a_tunnel_counts_for_as_long_as_it_stands(line):
    one = line(upgrades=["chat"])
    one.backend.server.script.append(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n"
    )
    one.ask("tunnel", "Upgrade: chat", "Connection: upgrade")
    assert one.told("tunnel") == 101
    one.ask("second")
    one.house.wait(3)
    assert (one.waiting, one.told("second")) == (1, 0)
    one.clients["tunnel"].close()
    one.house.wait(1.5)
    assert one.told("second") == 200


def test_one_who_is_logged_in_waits_for_its_own_and_goes_past_nobody_there(line):
    """NTLM: its connection is to that backend, and no other one knows it."""
    one = line()
    one.backend.server.script.append(response(b"", 401, b"WWW-Authenticate: NTLM challenge"))
    client = one.house.client()
    one.ask("hello", "Authorization: NTLM hello", client=client)
    assert one.told("hello") == 401
    one.ask("first")
    one.ask("own", "Authorization: NTLM me", client=client)
    one.ask("other")
    assert one.waiting == 2
    one.house.wait(3.5)
    assert one.order == ["first", "own", "other"]
    assert (one.backend.most, len(one.backend.server.connections)) == (1, 2)


def test_one_who_is_logged_in_and_late_keeps_its_connection(line):
    one = line(timeouts={"deadline_header": "X-Wait"})
    one.backend.server.script.append(response(b"", 401, b"WWW-Authenticate: NTLM challenge"))
    client = one.house.client()
    one.ask("hello", "Authorization: NTLM hello", client=client)
    one.ask("late", "Authorization: NTLM me", "X-Wait: 0", client=client)
    assert (one.told("late"), one.order) == (504, [])
    one.ask("own", "Authorization: NTLM me", client=client)
    one.house.wait(1.5)
    assert (one.told("own"), one.order, len(one.backend.server.connections)) == (200, ["own"], 1)


@BOTH
def test_who_is_over_its_rate_does_not_wait_and_who_waits_has_paid_once(side):
    """GCRA, one a second and three at once, before the queue: of n that come in t seconds at most 3 + t are let through, however
    long those wait for their places.
    """
    full = {"max_in_flight": 1, "queue": {"length": 50, "timeout_s": 100.0}}
    route = {"pool": "api", "rate_limits": [{"per_s": 1.0, "burst": 3, "key": "client"}]}
    roads = Crossroads(side, route, pool_options={"api": full})
    clients = [roads.client().send(get(f"/{number}")) for number in range(6)]
    roads.world.run()
    pool = roads.world.plane.clusters["api"].pool
    told = [client.read()[9:12] for client in clients]
    assert (told, pool.waiting, pool.leases) == ([b"", b"", b"", b"429", b"429", b"429"], 2, 1)
    for passed in range(1, 9):
        roads.world.advance(0.5)
        one = roads.client().send(get())
        roads.world.run()
        assert (one.read()[9:12], pool.waiting) == (b"" if passed % 2 == 0 else b"429", 2 + passed // 2)
    backend = roads.world.backend_connections[0]
    served = 0
    while backend.read():
        backend.send(OK)
        served += 1
        roads.world.run()
    assert (served, pool.waiting, pool.leases) == (7, 0, 0), "3 at once, and 4 in 4 seconds; a wait costs nothing more"
    assert [client.read()[9:12] for client in clients[:3]] == [b"200"] * 3
    roads.close()


@BOTH
def test_requests_of_one_connection_wait_one_after_the_other(line, side):
    one = line(side=side)
    client = one.house.client()
    one.ask("first")
    for number in range(3):
        one.ask(f"own{number}", client=client)
        one.ask(f"other{number}")
    assert one.waiting == 4, "of the connection its first"
    one.house.wait(8)
    assert one.order == ["first", "own0", "other0", "other1", "other2", "own1", "own2"]


@BOTH
def test_http_1_0_waits_like_any_other(line, side):
    one = line(side=side)
    one.ask("first")
    client = one.house.ask(b"GET /old HTTP/1.0\r\nHost: x\r\n\r\n")
    one.ask("last")
    one.house.wait(3.5)
    assert one.order == ["first", "old", "last"]
    assert b" 200 " in client.received
    assert client.ended or not client.open


# Hostile.


def test_values_as_long_as_a_head_may_be_are_lanes_and_urgencies_like_others(line):
    one = line(
        queue={"fair_by": {"header": "X-Key"}, "priority_by": {"header": "Priority"}},
        limits={"head_bytes": 65536, "client_bytes_per_s": 0},
    )
    one.ask("first")
    for number in range(3):
        one.ask(f"a{number}", "X-Key: " + "a" * 20_000, "Priority: " + "u=9," * 5000)
    one.ask("b0", "X-Key: " + "a" * 20_000 + "b", "Priority: " + " ,u=" * 5000 + "u=3")
    one.ask("c0", "Priority: u=0" + ",x" * 9000)
    one.house.wait(8)
    assert one.order == ["first", "c0", "a0", "b0", "a1", "a2"]


@pytest.mark.parametrize("said", ["u=8", "u=-1", "u", "u=", "u=1.0", 'u="1"', "=", "U=0", "x;u=0", "u=00", ""])
def test_an_urgency_that_is_none_is_the_usual_one(line, said):
    one = line(queue={"priority_by": {"header": "Priority"}})
    for name, line_ in (("first", "u=3"), ("low", "u=4"), ("odd", said), ("high", "u=2")):
        one.ask(name, f"Priority: {line_}")
    one.house.wait(5)
    assert one.order == ["first", "high", "odd", "low"]


def test_a_lane_for_each_of_thousands_costs_nobody_its_turn(line):
    one = line(
        queue={"length": 5000, "fair_by": {"header": "X-Key"}}, limits={"connections": 20_000, "client_bytes_per_s": 0}
    )
    one.ask("first")
    for number in range(1500):
        one.ask(f"n{number}", f"X-Key: {number}")
    one.house.wait(30)
    assert one.order == ["first", *(f"n{number}" for number in range(30))]
    assert one.waiting == 1470
    for number in range(1500):
        one.clients[f"n{number}"].reset()
    one.house.clock.settle()
