"""Where a service listens: who its sockets come from, and that none is left where it cannot be."""

import os
import socket
from contextlib import closing

import pytest

from twisted_lb import openings as module
from twisted_lb.config.addresses import ListenAddress
from twisted_lb.errors import StartError
from twisted_lb.net.sockets import Held, bind_tcp
from twisted_lb.openings import STATUS, handed, openings

ANY = ListenAddress("127.0.0.1")
PORT_80 = ListenAddress(port=80)


class Predecessor:
    """An instance that runs."""

    pid = 7

    def __init__(self, *held: Held) -> None:
        self.held = list(held)
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def world(monkeypatch):
    """Sets who has sockets: a service manager by name, a running instance by name and where."""

    def one(activated=(), old: Predecessor | None = None) -> None:
        monkeypatch.setattr(module, "inherited", lambda environ, pid: [*activated])
        monkeypatch.setattr(module, "predecessor_at", lambda path: old)

    return one


def held(name: str, where: str = "") -> Held:
    return Held(name, where, bind_tcp("127.0.0.1", 0))


def opened(**wanted: ListenAddress):
    return openings({name: (address,) for name, address in wanted.items()}, takeover="/run/lb", environ={})


def test_what_nobody_has_is_bound(world):
    world()
    with closing(opened(default=ANY, status=ANY)) as one:
        assert [(each.name, each.where) for each in one.held] == [("default", ANY.where), ("status", ANY.where)]
        assert one.predecessor is None


def test_sockets_of_a_service_manager_are_for_clients_unless_they_are_called_status(world):
    given = [held("lb.socket"), held("status"), held("")]
    world(given)
    with closing(opened(default=PORT_80, status=ANY)) as one:
        assert [each.sock for each in one.of("default")] == [given[0].sock, given[2].sock]
        assert [each.sock for each in one.of(STATUS)] == [given[1].sock]


def test_what_a_service_manager_does_not_have_is_bound(world):
    world([held("lb.socket")])
    with closing(opened(default=ANY, status=ANY)) as one:
        assert [(each.name, each.where) for each in one.held] == [("default", ""), ("status", ANY.where)]


def test_sockets_of_a_running_instance_are_taken_where_they_were_wanted_at_the_same_address(world):
    old = Predecessor(held("default", ANY.where), held("status", "127.0.0.1:9000"))
    world(old=old)
    with closing(opened(default=ANY, status=ANY)) as one:
        assert one.of("default") == [old.held[0]]
        assert one.of("status") != [old.held[1]]
        assert one.predecessor is old
        assert old.held[1].sock.fileno() < 0
    assert old.closed


def test_what_a_running_instance_has_of_a_service_manager_is_taken_whatever_is_wanted(world):
    old = Predecessor(held("default", ""))
    world(old=old)
    with closing(opened(default=PORT_80)) as one:
        assert one.held == old.held


def test_a_service_manager_comes_before_a_running_instance(world):
    given, old = held("lb.socket"), Predecessor(held("default", ANY.where))
    world([given], old)
    with closing(opened(default=ANY)) as one:
        assert [each.sock for each in one.held] == [given.sock]
        assert old.held[0].sock.fileno() < 0


def test_sockets_that_are_not_wanted_are_closed(world):
    given = [held("lb.socket"), held("status")]
    world(given)
    with closing(opened(default=ANY)) as one:
        assert [each.sock for each in one.held] == [given[0].sock]
        assert given[1].sock.fileno() < 0


def test_what_cannot_be_bound_is_a_start_error_and_nothing_is_left(world):
    given, old = held("lb.socket"), Predecessor(held("other", ""))
    world([given], old)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StartError, match="already in use"):
            opened(default=ANY, status=ListenAddress("127.0.0.1", taken.getsockname()[1]))
    assert given.sock.fileno() < 0
    assert old.held[0].sock.fileno() < 0
    assert old.closed


def test_a_service_manager_or_an_instance_that_gives_something_else_is_a_start_error(monkeypatch):
    def refuse(*_):
        raise ValueError("it is no good")

    monkeypatch.setattr(module, "predecessor_at", refuse)
    with pytest.raises(StartError, match=r"^takeover /run/lb: it is no good$"):
        openings({"default": (ANY,)}, takeover="/run/lb")
    monkeypatch.setattr(module, "inherited", refuse)
    with pytest.raises(StartError, match=r"^it is no good$"):
        openings({"default": (ANY,)}, environ={})


def test_who_is_not_alone_in_its_process_asks_nobody(monkeypatch):
    monkeypatch.delattr(module, "inherited")
    monkeypatch.delattr(module, "predecessor_at")
    openings({"default": (ANY,)}).close()


def test_whether_sockets_will_come_from_others_is_known_before(tmp_path):
    path = str(tmp_path / "lb")
    assert not handed(None, {})
    assert not handed(path, {"LISTEN_PID": str(os.getpid() + 1)})
    assert handed(None, {"LISTEN_PID": str(os.getpid())})
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert handed(path, {})
