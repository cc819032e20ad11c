"""Where a service listens: who its sockets come from, and that none is left where it cannot be."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from twisted.internet.endpoints import _SystemdParser
from twisted.python.systemd import ListenFDs

from twisted_lb import openings as module
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.errors import StartError
from twisted_lb.net.sockets import Held, bind_tcp, inode_of
from twisted_lb.openings import STATUS, handed, openings

ANY = ListenAddress("127.0.0.1")
PORT_80 = ListenAddress(port=80)


class Predecessor:
    """An instance that runs."""

    pid = 7

    def __init__(self, *held: Held) -> None:
        self.held = list(held)
        self.closed = False
        self.relieved = False

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


def test_what_twisteds_own_parser_has_taken_out_of_the_environment_is_there_again(monkeypatch):
    """It does so when it is imported; the names stay, and with them it is known that nobody has had the sockets yet."""
    for descriptors, pid in ([3, 4], str(os.getpid())), ([], None):
        daemon = ListenFDs(descriptors, ("web", "status")[: len(descriptors)])
        monkeypatch.setattr(_SystemdParser, "_sddaemon", daemon)
        environ = {"LISTEN_FDNAMES": "web:status"}
        assert handed(None, environ) is (pid is not None)
        assert (environ.get("LISTEN_PID"), environ.get("LISTEN_FDS")) == (pid, "2" if pid else None)
    monkeypatch.setattr(_SystemdParser, "_sddaemon", ListenFDs([3], ("web",)))
    environ = {}  # they were taken from there before
    assert not handed(None, environ)


def test_the_command_line_leaves_the_sockets_of_a_service_manager_in_the_environment():
    code = "import sys, twisted_lb.tap, twisted_lb.service; print('twisted.internet.endpoints' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


def test_whether_sockets_will_come_from_others_is_known_before(tmp_path):
    path = str(tmp_path / "lb")
    assert not handed(None, {})
    assert not handed(path, {"LISTEN_PID": str(os.getpid() + 1)})
    assert handed(None, {"LISTEN_PID": str(os.getpid())})
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert handed(path, {})


# Another generation of the configuration.


def at(sock: socket.socket) -> ListenAddress:
    return ListenAddress(*sock.getsockname())


def free() -> ListenAddress:
    with bind_tcp("127.0.0.1", 0) as sock:
        return at(sock)


def test_a_socket_stays_open_for_the_same_address_whatever_it_is_for():
    one, other = free(), free()
    with closing(openings({"web": (one,), "old": (other,)})) as opened_:
        [web], [old] = opened_.of("web"), opened_.of("old")
        change = opened_.change({"new": (other,), "web": (one,)})
        change.commit()
        assert [each.sock for each in opened_.held] == [old.sock, web.sock]
        assert [each.name for each in opened_.held] == ["new", "web"]


def test_of_two_sockets_at_any_port_each_stays_with_its_name():
    with closing(openings({"a": (ANY,), "b": (ANY,)})) as opened_:
        [a], [b] = opened_.of("a"), opened_.of("b")
        opened_.change({"b": (ANY,), "a": (ANY,)}).commit()
        assert (opened_.of("a"), opened_.of("b")) == ([a], [b])
        opened_.change({"b": (ANY,)}).commit()
        assert opened_.held == [b]
        a.sock.close()


def test_only_what_is_not_open_is_bound():
    with closing(openings({"a": (ANY,)})) as opened_:
        [a] = opened_.held
        change = opened_.change({"a": (ANY,), "b": (ANY,)})
        assert opened_.held == [a]
        change.commit()
        assert opened_.of("a") == [a]
        assert opened_.of("b") != [a]


def test_sockets_of_a_service_manager_stand_for_all_addresses_of_their_name(world):
    given = held("web")
    world([given])
    with closing(opened(web=PORT_80)) as opened_:
        opened_.change({"web": (ListenAddress(port=81),), "more": (ANY,)}).commit()
        assert [one.name for one in opened_.held] == ["web", "more"]
        assert opened_.held[0] is given


@pytest.mark.parametrize(
    "address",
    [lambda port: ListenAddress(port=port), lambda port: ListenAddress("0.0.0.0", port)],
    ids=["all", "all of IPv4"],
)
@pytest.mark.parametrize("name", ["web", "other"])
def test_an_address_that_overlaps_one_that_is_open_is_an_error_and_nothing_is_changed(address, name):
    one = free()
    with closing(openings({"web": (one,)})) as opened_:
        before = list(opened_.held)
        wanted = address(one.port)
        with pytest.raises(StartError) as caught:
            opened_.change({name: (ANY, wanted)})
        assert str(caught.value) == (
            f"cannot listen on {wanted.where} while {one.where} is open: "
            "take one away first, and add the other with the next reload"
        )
        assert opened_.held == before


def test_what_was_bound_for_a_change_that_fails_is_closed_and_its_file_is_gone(tmp_path):
    path = str(tmp_path / "lb.sock")
    with closing(openings({"web": (ANY,)})) as opened_, bind_tcp("127.0.0.1", 0) as taken:
        with pytest.raises(StartError, match="already in use"):
            opened_.change({"web": (ANY, ListenAddress(path=path), at(taken))})
        assert not os.path.exists(path)


def test_a_change_that_is_not_made_leaves_nothing():
    with closing(openings({"web": (ANY,)})) as opened_:
        change = opened_.change({"web": (ANY,), "more": (ANY,)})
        change.undo()
        assert [one.sock.fileno() < 0 for one in change.held] == [False, True]
        assert opened_.of("more") == []


# Unix sockets.


def test_the_file_of_a_unix_socket_goes_with_it(tmp_path):
    path, other = (ListenAddress(path=str(tmp_path / name)) for name in ("a", "b"))
    opened_ = openings({"web": (path, other)})
    first = opened_.held[0].sock
    opened_.change({"web": (other,)}).commit()
    first.close()
    assert (os.path.exists(path.path), os.path.exists(other.path)) == (False, True)
    opened_.close()
    assert not os.path.exists(other.path)


def test_the_file_of_a_socket_that_another_process_has_stays(tmp_path, world):
    """A successor that prepares, or the predecessor of one that prepares itself."""
    paths = [ListenAddress(path=str(tmp_path / name)) for name in "abc"]
    opened_ = openings({"web": paths})
    before = list(opened_.held)
    change = opened_.change({"web": paths[1:]})
    change.commit(files_stay=True)
    assert os.path.exists(paths[0].path)
    old = Predecessor(*opened_.held)
    world(old=old)
    successor = openings({"web": paths[1:]}, takeover="/run/lb")
    successor.change({"web": paths[2:]}).commit()
    assert os.path.exists(paths[1].path)
    old.relieved = True
    successor.change({"web": ()}).commit()
    assert not os.path.exists(paths[2].path)
    for one in before:
        one.sock.close()


def test_a_file_that_is_another_ones_by_now_stays(tmp_path):
    path = tmp_path / "a"
    opened_ = openings({"web": (ListenAddress(path=str(path)),)})
    path.rename(tmp_path / "away")
    path.touch()
    opened_.close()
    assert path.exists()


def test_who_has_handed_its_sockets_on_leaves_their_files(tmp_path):
    path = ListenAddress(path=str(tmp_path / "a"))
    opened_ = openings({"web": (path,)})
    opened_.close(handed_on=True)
    assert os.path.exists(path.path)


def test_who_has_not_relieved_its_predecessor_leaves_the_files_to_it(tmp_path, world):
    path = ListenAddress(path=str(tmp_path / "a"))
    first = openings({"web": (path,)})
    world(old=Predecessor(*(one._replace(sock=one.sock.dup()) for one in first.held)))
    opened(web=path).close()
    assert os.path.exists(path.path)
    first.close()


def test_who_may_connect_is_changed_at_the_socket_that_is_open(tmp_path):
    path = str(tmp_path / "a")
    opened_ = openings({"web": (ListenAddress(path=path),)})
    inode = inode_of(path)
    opened_.change({"web": (ListenAddress(path=path, mode=0o600),)}).commit()
    assert (Path(path).stat().st_mode & 0o777, inode_of(path)) == (0o600, inode)
    opened_.close()


def test_a_group_that_is_not_there_changes_nothing(tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "b")]
    opened_ = openings({"web": tuple(ListenAddress(path=path) for path in paths)})
    with pytest.raises(StartError, match=f"^unix:{paths[1]}: there is no group nobody-has-it$"):
        opened_.change(
            {"web": (ListenAddress(path=paths[0], mode=0o600), ListenAddress(path=paths[1], group="nobody-has-it"))}
        )
    assert Path(paths[0]).stat().st_mode & 0o777 == 0o666
    opened_.close()
