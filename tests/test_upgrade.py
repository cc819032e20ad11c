"""Upgrades: the process becomes another program once that has rehearsed, and goes on where it cannot."""

import os
import signal
import socket
import sys
from types import SimpleNamespace

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_lb.admin.operator import Refused
from twisted_lb.respawn import HANDOVER, REHEARSES
from twisted_lb.service import upgrade as upgrades
from twisted_lb.service.upgrade import HELD, Upgrade
from twisted_lb.workers.handover import Handover


class Reactor(Clock):
    """A reactor that starts no process."""

    def __init__(self):
        super().__init__()
        self.children = []
        self.refuses = None

    def spawnProcess(self, protocol, executable, words, env, path, childFDs):
        if self.refuses is not None:
            raise self.refuses
        number = int(env[HANDOVER])
        text = os.pread(number, 1 << 16, 0).decode()
        killed = []
        self.children.append(
            SimpleNamespace(protocol=protocol, words=words, env=env, path=path, fds=childFDs, text=text, killed=killed)
        )
        return SimpleNamespace(signalProcess=killed.append)


@pytest.fixture
def house(monkeypatch):
    """An upgrade, with what it does to the process."""
    reactor = Reactor()
    sock = socket.create_server(("127.0.0.1", 0))
    made, executed = [], []

    def handover(pid_file):
        made.append(Handover(len(made), sock.fileno(), 1, 9, None, "", [], [], {}, [], [], pid_file=pid_file))
        return made[-1]

    def execve(program, words, environment):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        executed.append(SimpleNamespace(program=program, words=words, env=environment, blocked=blocked))
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "twisted_lb", "lb", "--config", "x"])
    monkeypatch.setattr(upgrades.os, "execve", execve)
    prepared = []
    why_not = [""]
    one = Upgrade(reactor, handover, lambda: why_not[-1], lambda: prepared.append(len(made)))
    with sock:
        yield SimpleNamespace(
            upgrade=one, reactor=reactor, made=made, executed=executed, prepared=prepared, sock=sock, why_not=why_not
        )


def begin(house, pid_file=""):
    told = []
    house.upgrade.begin(pid_file).addCallbacks(told.append, lambda failure: told.append(failure.value))
    return told


def end(house, status=0, said=b""):
    child = house.reactor.children[-1]
    child.protocol.childDataReceived(2, said)
    reason = ProcessDone(0) if status == 0 else ProcessTerminated(status)
    child.protocol.processEnded(Failure(reason))


def test_the_new_program_rehearses_with_what_it_is_going_to_get(house):
    begin(house, "/run/x.pid")
    [child] = house.reactor.children
    assert child.words == ["python", "-m", "twisted_lb", "lb", "--config", "x"]
    assert (child.env[REHEARSES], child.path) == ("1", os.getcwd())
    assert Handover.of_text(child.text) == house.made[0]
    assert house.made[0].pid_file == "/run/x.pid"
    number = int(child.env[HANDOVER])
    assert child.fds == {1: "r", 2: "r", number: number, house.sock.fileno(): house.sock.fileno()}
    # Nothing of it is left in this process.
    assert not os.get_inheritable(house.sock.fileno())
    with pytest.raises(OSError):
        os.fstat(number)


def test_it_is_executed_when_whoever_asked_has_been_told(house):
    told = begin(house)
    end(house)
    assert (told, house.executed) == ([None], [])
    house.reactor.advance(1)
    [executed] = house.executed
    assert executed.words == ["python", "-m", "twisted_lb", "lb", "--config", "x"]
    assert REHEARSES not in executed.env
    assert executed.env[HANDOVER].isdecimal()
    assert executed.blocked >= HELD
    # What is handed over is as it is then: made after all was prepared.
    assert (house.prepared, len(house.made)) == ([1], 2)


def test_a_program_that_cannot_be_executed_changes_nothing(house):
    before, here = signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.getcwd()
    begin(house)
    end(house)
    house.reactor.advance(1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert os.getcwd() == here
    assert not os.get_inheritable(house.sock.fileno())
    assert not house.upgrade.under_way
    begin(house)
    assert house.upgrade.under_way


@pytest.mark.parametrize(
    ("status", "said", "why"),
    [
        (1, b"lb.toml:1: no backend\n", "the new program cannot start: lb.toml:1: no backend"),
        (1, b"", "the new program cannot start: status 1"),
    ],
)
def test_a_rehearsal_that_fails_is_a_refusal_with_its_words(house, status, said, why):
    told = begin(house)
    end(house, status, said)
    [refused] = told
    assert isinstance(refused, Refused)
    assert (refused.code, refused.detail) == ("bad_program", why)
    house.reactor.advance(100)
    assert house.executed == []
    assert not house.upgrade.under_way


def test_one_that_takes_too_long_is_killed(house):
    told = begin(house)
    house.reactor.advance(61)
    assert house.reactor.children[0].killed == ["KILL"]
    house.reactor.children[0].protocol.processEnded(Failure(ProcessTerminated(None, 9)))
    assert told[0].detail == "the new program cannot start: ended by signal 9"


def test_where_no_child_can_be_started_nothing_is_changed(house):
    house.reactor.refuses = OSError(11, "Resource temporarily unavailable")
    told = begin(house)
    assert told[0].detail.endswith("Resource temporarily unavailable")
    assert not house.upgrade.under_way


def test_a_process_that_cannot_be_started_again_says_why(house, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "x"])
    assert begin(house)[0].detail == "this process cannot be started again: it is a program of `python -c`"
    assert not house.upgrade.under_way


def test_it_is_refused_at_once_where_there_can_be_none(house):
    house.why_not.append("the balancer stops")
    [refused] = begin(house)
    assert (refused.code, refused.detail) == ("busy", "the balancer stops")
    assert house.reactor.children == []


def test_there_is_one_at_a_time(house):
    begin(house)
    assert begin(house)[0].detail == "an upgrade is under way"
    assert len(house.reactor.children) == 1


def test_what_has_changed_during_the_rehearsal_counts(house):
    told = begin(house)
    house.why_not.append("the balancer stops")
    end(house)
    assert told[0].detail == "the balancer stops"
    house.reactor.advance(1)
    assert house.executed == []
    assert not house.upgrade.under_way


def test_a_stop_in_the_moment_before_is_a_stop(house):
    begin(house)
    end(house)
    house.why_not.append("the balancer stops")
    house.reactor.advance(1)
    assert (house.executed, house.prepared) == ([], [])


def test_a_stop_ends_the_rehearsal(house):
    begin(house)
    house.upgrade.stop()
    assert house.reactor.children[0].killed == ["KILL"]
    end(house, 1)
    house.upgrade.stop()
    assert house.reactor.children[0].killed == ["KILL"]
