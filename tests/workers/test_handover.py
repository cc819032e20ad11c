"""What a parent leaves to the program that it becomes: all of it comes, and what is not understood is said."""

import json
import os
import socket

import pytest

from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import BackendEjected
from twisted_lb.respawn import HANDOVER
from twisted_lb.workers.facts import AgentSaid, Probed
from twisted_lb.workers.handover import Handover, OldSocket, OldWorker, handed_over

FACTS = [
    Probed("app", "a", passed=True, reason="200", busy=True, said=b"up\xff", asked_at=12.5),
    Probed("app", "b", passed=False, reason="refused", silent=True),
    AgentSaid("app", "a", b"75%"),
    AgentSaid("app", "b", None),
    BackendEjected("app", "b", None, "3 in a row", 99.0, False, 12.0, EjectionRule.REFUSED),
]


def handover(**more) -> Handover:
    values = {
        "generation": 3,
        "table": 20,
        "slots": 2,
        "rows": 14,
        "control": 21,
        "control_name": "\0x",
        "channels": [(22, 23), (24, 25)],
        "sockets": [OldSocket("default", "port 80", [26, 27]), OldSocket("status", "127.0.0.1:81", [28])],
        "doors": {"unix:/run/x": 29},
        "workers": [OldWorker(100, 0, 0, 2, 5.0, leaving=False), OldWorker(101, 1, None, 1, 4.0, True, 50.0)],
        "columns": [("app", "a", 0), ("app", "b", 1)],
        "facts": FACTS,
        "wishes": {"version": 1},
        "counted": b"\0\xff",
        "restarts": 4,
        "pid_file": "/run/x.pid",
    }
    return Handover(**(values | more))


def test_all_of_it_comes():
    left = handover()
    assert Handover.of_text(left.text()) == left


def test_every_descriptor_is_named_once():
    assert sorted(handover().descriptors()) == list(range(20, 30))
    assert sorted(handover(control=None).descriptors()) == [20, *range(22, 30)]


def test_what_a_later_program_says_beside_is_left_out():
    values = json.loads(handover().text())
    values["more"] = 1
    assert Handover.of_text(json.dumps(values)) == handover()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"form": 2}, "of form 2, not 1"),
        ({"workers": [{"pid": 1}]}, "TypeError: .*"),
        ({"channels": 3}, "TypeError: .*"),
    ],
)
def test_what_cannot_be_read_is_said(change, why):
    with pytest.raises(ValueError, match=f"^{why}$"):
        Handover.of_text(json.dumps(json.loads(handover().text()) | change))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"form": 1}'])
def test_what_is_none_is_no_handover(text):
    with pytest.raises(ValueError):
        Handover.of_text(text)


def test_descriptors_are_inherited_and_by_no_one_else_afterwards():
    with socket.create_server(("127.0.0.1", 0)) as sock, open(os.devnull) as table:
        left = handover(
            table=table.fileno(), control=None, channels=[], doors={}, sockets=[OldSocket("x", "y", [sock.fileno()])]
        )
        fd = left.leave()
        assert all(os.get_inheritable(one) for one in (fd, sock.fileno(), table.fileno()))
        environ = {HANDOVER: str(fd), "OTHER": "1"}
        assert handed_over(environ) == left
        assert environ == {"OTHER": "1"}
        assert not any(os.get_inheritable(one) for one in (sock.fileno(), table.fileno()))
        with pytest.raises(OSError):
            os.fstat(fd)


def test_where_it_cannot_be_executed_nothing_is_inherited():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        left = handover(table=sock.fileno(), control=None, channels=[], doors={}, sockets=[])
        fd = left.leave()
        left.keep(fd)
        assert not os.get_inheritable(sock.fileno())
        with pytest.raises(OSError):
            os.fstat(fd)


def test_without_a_program_before_there_is_none():
    assert handed_over({}) is None
