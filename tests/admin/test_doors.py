"""The sockets of the admin door: whose they are, whom they replace, and what happens where they cannot be had."""

import grp
import os
import re
import socket
import stat
from pathlib import Path

import pytest
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.admin.doors import PortDoor, UnixDoor, default_path
from twisted_lb.errors import StartError
from twisted_lb.testing import HeapClock


@pytest.fixture
def said():
    lines = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.admin.doors":
            lines.append(f"{event['log_level'].name}: {formatEvent(event)}")

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lb.sock")


@pytest.fixture
def door():
    doors = []

    def make(path, mode=0o600, group="", *, explicit=True, owner=None):
        doors.append(UnixDoor(path, mode, group, explicit=explicit, owner=owner))
        return doors[-1]

    yield make
    for one in doors:
        one.close()


@pytest.fixture
def umask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def reaches(path):
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


def test_the_default_is_in_the_services_directory_or_the_users(tmp_path):
    first, second = str(tmp_path / "a"), str(tmp_path / "b")
    both = {"RUNTIME_DIRECTORY": f"{first}:{second}", "XDG_RUNTIME_DIR": second}
    assert default_path("8080", both) == ""
    os.mkdir(second)
    assert default_path("8080", both) == f"{second}/twisted_lb/8080.admin.sock"
    os.mkdir(first)
    assert default_path("8080", both) == f"{first}/twisted_lb/8080.admin.sock"
    assert default_path("8080", {}) == default_path("8080", {"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": ""}) == ""


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_it_has_its_mode_whatever_the_umask_is_and_leaves_that_alone(door, path, umask, mask):
    os.umask(mask)
    assert door(path, 0o660).open()
    assert mode_of(path) == 0o660
    assert os.umask(0) == mask


def test_nobody_else_reaches_it_before_it_has_its_mode(door, path, umask, monkeypatch):
    seen = []
    plain = os.chmod
    monkeypatch.setattr(os, "chmod", lambda at, mode: (seen.append(mode_of(at)), plain(at, mode)))
    door(path, 0o666).open()
    assert seen == [0o600]


def test_it_has_its_group(door, path):
    own = grp.getgrgid(os.getegid()).gr_name
    door(path, 0o660, own).open()
    assert os.stat(path).st_gid == os.getegid()


def test_a_group_that_there_is_not_is_an_error_and_nothing_is_left(door, path, tmp_path):
    with pytest.raises(StartError, match=r"^admin\.socket .*lb\.sock: there is no group no-such-group$"):
        door(path, 0o660, "no-such-group").open()
    assert [one.name for one in tmp_path.iterdir()] == []


def test_opened_twice_it_is_one(door, path):
    one = door(path)
    assert one.open()
    assert one.open()
    assert reaches(path)


def test_closed_its_file_is_gone(door, path):
    one = door(path)
    one.open()
    one.close()
    one.close()
    assert not os.path.exists(path)


def test_a_stale_socket_is_replaced(door, path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    assert not reaches(path)
    assert door(path).open()
    assert reaches(path)


def test_a_stale_socket_of_an_attempt_that_died_is_replaced(door, path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{path}.{os.getpid()}")
    assert door(path).open()
    assert reaches(path)
    assert not os.path.exists(f"{path}.{os.getpid()}")


@pytest.fixture
def living(path):
    """Another process listens there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        yield os.lstat(path).st_ino


def test_a_living_one_is_an_error_where_it_was_asked_for(door, path, living, tmp_path):
    with pytest.raises(StartError, match=rf"^admin\.socket {re.escape(path)}: another process listens there$"):
        door(path).open()
    assert os.lstat(path).st_ino == living
    assert [one.name for one in tmp_path.iterdir()] == ["lb.sock"]


def test_a_living_one_whose_queue_is_full_is_a_living_one(door, path):
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as waits:
        sock.bind(path)
        sock.listen(0)
        waits.connect(path)
        with pytest.raises(StartError, match="another process listens there"):
            door(path).open()


def test_a_living_one_is_a_warning_where_nobody_asked(door, path, living, said):
    assert not door(path, explicit=False).open()
    assert said == [f"warn: no admin socket at {path}: another process listens there"]
    assert os.lstat(path).st_ino == living


def test_a_file_that_is_no_socket_stays(door, path, tmp_path, said):
    Path(path).write_text("precious")
    with pytest.raises(StartError, match=r"there is a file that is no socket$"):
        door(path).open()
    assert not door(path, explicit=False).open(instead=True)
    assert said == [f"warn: no admin socket at {path}: there is a file that is no socket"]
    assert Path(path).read_text() == "precious"
    assert [one.name for one in tmp_path.iterdir()] == ["lb.sock"]


def test_a_folder_that_there_is_not_is_an_error(door, tmp_path):
    with pytest.raises(StartError, match=r"^admin\.socket /.*/none/lb\.sock: No such file or directory$"):
        door(str(tmp_path / "none" / "lb.sock")).open()


def test_a_path_that_is_too_long_is_one_line(door, tmp_path, said):
    path = str(tmp_path / ("x" * 120))
    assert not door(path, explicit=False).open()
    assert said == [f"warn: no admin socket at {path}: AF_UNIX path too long"]
    with pytest.raises(StartError, match="AF_UNIX path too long"):
        door(path).open()


def test_the_default_one_makes_its_folder_so_that_others_may_look_in(door, tmp_path, umask):
    os.umask(0o077)
    path = str(tmp_path / "twisted_lb" / "8080.admin.sock")
    assert door(path, 0o660, explicit=False).open()
    assert mode_of(os.path.dirname(path)) == 0o755
    assert mode_of(path) == 0o660


def test_one_that_takes_over_replaces_the_file_in_one_step_and_the_one_before_leaves_it_alone(door, path, monkeypatch):
    old, new = door(path), door(path)
    old.open()
    there = []
    plain = os.replace
    monkeypatch.setattr(
        os,
        "replace",
        lambda one, other: (there.append(reaches(other)), plain(one, other), there.append(reaches(other))),
    )
    assert new.open(instead=True)
    assert there == [True, True]
    old.close()
    assert reaches(path)
    new.close()
    assert not os.path.exists(path)


def test_one_that_fails_to_take_over_leaves_the_one_before_alone(door, path, monkeypatch):
    old = door(path)
    old.open()

    def refuse(one, other):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StartError, match="Permission denied"):
        door(path).open(instead=True)
    assert reaches(path)
    assert [one.name for one in Path(path).parent.iterdir()] == ["lb.sock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_socket_and_folder_are_the_users_that_the_process_is_going_to_be(door, tmp_path):
    path = str(tmp_path / "twisted_lb" / "8080.admin.sock")
    door(path, explicit=False, owner=12345).open()
    assert os.stat(path).st_uid == os.stat(os.path.dirname(path)).st_uid == 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_folder_of_somebody_else_stays_his(door, tmp_path):
    folder = tmp_path / "twisted_lb"
    folder.mkdir()
    os.chown(folder, 12346, -1)
    door(str(folder / "8080.admin.sock"), explicit=False, owner=12345).open()
    assert folder.stat().st_uid == 12346


class Ports:
    """Port doors, and the time that they wait by."""

    def __init__(self) -> None:
        self.clock = HeapClock()
        self.opened = []
        self.doors = []

    def door(self, port):
        self.doors.append(PortDoor("127.0.0.1", port, f"127.0.0.1:{port}", self.clock.callLater))
        return self.doors[-1]


@pytest.fixture
def ports():
    one = Ports()
    yield one
    for door in one.doors:
        door.close()
    assert not one.clock.getDelayedCalls()


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_port_is_opened_at_once(ports):
    door = ports.door(0)
    door.open(ports.opened.append)
    assert ports.opened == [door.sock]
    door.close()
    door.close()
    assert door.sock is None


def test_a_taken_port_is_a_warning(ports, taken, said):
    port = taken.getsockname()[1]
    ports.door(port).open(ports.opened.append)
    assert ports.opened == []
    assert said == [f"warn: no admin page on 127.0.0.1:{port}: already in use"]


def test_the_port_of_the_one_before_is_waited_for(ports, taken, said):
    door = ports.door(taken.getsockname()[1])
    door.open(ports.opened.append, instead=True)
    ports.clock.advance(3)
    assert (ports.opened, said) == ([], [])
    taken.close()
    ports.clock.advance(1)
    assert ports.opened == [door.sock]


def test_it_is_not_waited_for_without_end(ports, taken, said):
    ports.door(taken.getsockname()[1]).open(ports.opened.append, instead=True)
    ports.clock.advance(11)
    assert len(said) == 1
    assert ports.opened == []


def test_closed_while_it_waits_it_waits_no_more(ports, taken, said):
    door = ports.door(taken.getsockname()[1])
    door.open(ports.opened.append, instead=True)
    door.close()
    ports.clock.advance(11)
    assert said == []
