"""A frontend: what the clients of one listener share, and their drain."""

import pytest
from house import GET, House

from twisted_lb.net.frontend import Frontend
from twisted_lb.testing import NEVER_ANSWER, Wait, response


@pytest.fixture
def house():
    one = House()
    yield one
    one.close()


class Guest:
    """A client that notes what it is told, in one list for all, and leaves when it is killed."""

    def __init__(self, frontend: Frontend, name: str, told: list[str]) -> None:
        self.frontend, self.name, self.told = frontend, name, told
        frontend.clients[self] = None

    def drain(self) -> None:
        self.told.append(f"{self.name} drains")

    def kill(self, why: str) -> None:
        self.told.append(f"{self.name} is killed")
        self.frontend.clients.pop(self, None)


def test_a_frontend_says_how_it_is(house):
    house.backend("a:80", [NEVER_ANSWER])
    house.ask()
    assert repr(house.frontend) == "<Frontend default: open, 1 clients, 1 exchanges>"
    house.frontend.drain()
    assert repr(house.frontend) == "<Frontend default: draining, 1 clients, 1 exchanges>"


def test_where_one_route_has_all_requests_nobody_looks_for_it(house):
    house.backend()
    house.ask()
    assert house.frontend.straight is house.plane.routes["default"].only
    assert house.record.route == "default"


def test_a_drain_and_a_kill_are_told_to_every_client(house):
    told: list[str] = []
    for name in ("one", "two"):
        Guest(house.frontend, name, told)
    house.frontend.drain()
    assert sorted(told) == ["one drains", "two drains"]
    assert house.frontend.draining
    told.clear()
    house.frontend.kill()
    assert sorted(told) == ["one is killed", "two is killed"]
    assert not house.frontend.clients


def test_while_it_drains_every_answer_ends_its_connection(house):
    house.backend("a:80", [[Wait(1), response()]])
    running, idle = house.ask(), house.client()
    house.clock.settle()
    house.frontend.drain()
    house.ask(GET, idle)
    house.wait(1)
    for client in (running, idle):
        assert b"\r\nConnection: close\r\n" in client.received
        assert client.ended


def test_who_connects_while_it_drains_is_answered_once(house):
    house.backend()
    house.frontend.drain()
    client = house.ask(GET * 2)
    assert client.received.count(b"HTTP/1.1 200 ") == 1
    assert client.ended


def test_what_is_no_request_is_answered_by_the_listeners_page(tmp_path):
    page = tmp_path / "bad.txt"
    page.write_text("bad")
    house = House(error_pages={"400": str(page)})
    client = house.ask(b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")
    assert client.received.startswith(b"HTTP/1.1 400 ")
    assert client.received.endswith(b"\r\n\r\nbad")
    house.close()


def test_an_answer_to_what_is_no_request_names_an_id_of_ours_or_the_one_that_is_known(house):
    own, known = (house.frontend.local_reply(400, request_id=given)[1] for given in (b"", b"abc"))
    assert known == b"400 Bad Request\nrequest abc\n"
    assert len(own) == len(known) - 3 + 32


def test_each_observer_is_told_of_each_exchange_that_ends():
    seen: list[tuple[str, int]] = []
    observers = tuple(lambda record, name=name: seen.append((name, record.status)) for name in ("first", "second"))
    house = House(observers=observers)
    house.backend("a:80", [response(), response(b"", 404)])
    house.ask(GET, house.ask())
    assert seen == [("first", 200), ("second", 200), ("first", 404), ("second", 404)]
    house.close()
