"""What a service manager is told: sd_notify, and its watchdog."""

import os
import socket

import pytest
from twisted.logger import globalLogPublisher

from twisted_lb.notify import Notify


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def notify(manager, **more: str) -> Notify:
    return Notify({"NOTIFY_SOCKET": manager.getsockname(), **more}, 7)


def heard(manager) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_each_state_has_its_words(manager):
    one = notify(manager)
    one.ready()
    assert heard(manager) == ["READY=1"]
    one.ready(took_over=True)
    assert heard(manager) == ["READY=1", f"MAINPID={os.getpid()}"]
    one.stopping()
    assert heard(manager) == ["STOPPING=1", "STATUS=stopping"]
    one.alive()
    assert heard(manager) == ["WATCHDOG=1"]


def test_a_reload_says_when_by_the_clock_that_never_steps(manager):
    notify(manager).reloading()
    first, second = heard(manager)
    assert first == "RELOADING=1"
    assert second.partition("=")[2].isdecimal()


def test_an_abstract_socket_is_written_with_an_at():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"twisted_lb test {os.getpid()}"
        sock.bind(f"\0{name}")
        Notify({"NOTIFY_SOCKET": f"@{name}"}, 7).ready()
        assert sock.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_happens():
    one = Notify({"WATCHDOG_USEC": "1000000"}, 7)
    one.ready()
    assert one.watchdog_s == 0


@pytest.mark.parametrize(
    ("variables", "every_s"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
    ],
)
def test_the_watchdog_is_told_twice_as_often_as_it_looks(manager, variables, every_s):
    assert notify(manager, **variables).watchdog_s == every_s


def test_one_that_is_not_there_is_said_once(tmp_path):
    said = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.notify":
            said.append(event["log_format"])

    one = Notify({"NOTIFY_SOCKET": str(tmp_path / "nowhere")}, 7)
    globalLogPublisher.addObserver(observe)
    one.ready()
    one.alive()
    globalLogPublisher.removeObserver(observe)
    assert said == ["the service manager cannot be told: {error}"]
