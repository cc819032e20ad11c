"""Signals: each of those that daemons are sent does what it is for, and none ends the process at once."""

import signal
import threading

import pytest

from twisted_lb import signals
from twisted_lb.__main__ import Early
from twisted_lb.signals import Signals, while_stopping
from twisted_lb.testing import HeapClock

HUP, USR1, USR2, QUIT, TERM = (
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGQUIT,
    signal.SIGTERM,
)


class Reactor(HeapClock):
    """As much of a reactor as signals need."""

    running = False

    def __init__(self) -> None:
        super().__init__()
        self.when_running: list = []
        self.stopped_by: list[int] = []

    def callFromThread(self, call, *arguments):
        self.callLater(0, call, *arguments)

    def callWhenRunning(self, call, *arguments):
        self.when_running.append((call, arguments))

    def sigTerm(self, number, frame=None):
        self.stopped_by.append(number)


class Life:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def reload(self):
        self.told.append("reload")

    def upgrade(self):
        self.told.append("upgrade")

    def reopen_logs(self):
        self.told.append("reopen")

    def leave(self, reason):
        self.told.append(f"leave: {reason}")

    def leave_patiently(self, reason):
        self.told.append(f"leave patiently: {reason}")


class Process:
    """A process that hears signals, with a terminal or without."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.life = Life()
        self.reactor = Reactor()
        self.terminal = terminal
        self.signals = Signals(self.life, self.reactor, lambda: self.terminal)

    def send(self, *numbers: int) -> list[str]:
        for number in numbers:
            # Not os.kill: that may wake another thread, and whoever has sent it goes on before the handler was called.
            signal.raise_signal(number)
            self.reactor.settle()
        return self.life.told


@pytest.fixture
def start():
    """Starts processes; afterwards every signal means what it meant before."""
    before = {number: signal.getsignal(number) for number in (HUP, USR1, USR2, QUIT)}
    made: list[Process] = []

    def one(**options) -> Process:
        if not made:  # only now: with the first test of a run the reactor starts, and hears it
            before[TERM] = signal.getsignal(TERM)
        made.append(Process(**options))
        made[-1].signals.install()
        return made[-1]

    yield one
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "told"),
    [(HUP, ["reload"]), (USR1, ["reopen"]), (USR2, ["upgrade"]), (QUIT, ["leave patiently: SIGQUIT"])],
)
def test_each_signal_does_what_it_is_for(start, number, told):
    assert start().send(number) == told


def test_nothing_is_done_within_a_handler(start):
    process = start()
    signal.raise_signal(HUP)
    assert process.life.told == []
    process.reactor.settle()
    assert process.life.told == ["reload"]


def test_a_handler_that_was_there_before_is_called_too(start):
    """twistd rotates its log at SIGUSR1."""
    called: list[int] = []
    before = signal.signal(USR1, lambda number, frame: called.append(number))
    try:
        process = start()
        assert process.send(USR1) == ["reopen"]
        assert called == [USR1]
    finally:
        signal.signal(USR1, before)


def test_two_balancers_in_one_process_both_hear(start):
    first, second = start(), start()
    second.send(HUP)
    first.reactor.settle()
    assert first.life.told == second.life.told == ["reload"]


def test_before_the_reactor_hears_it_sigterm_is_kept_for_it(start):
    process = start()
    signal.raise_signal(TERM)
    assert process.reactor.stopped_by == []
    [(call, arguments)] = process.reactor.when_running
    call(*arguments)
    assert process.reactor.stopped_by == [TERM]


def test_where_the_reactor_runs_sigterm_is_its_own(start):
    before = signal.getsignal(TERM)
    process = Process()
    process.reactor.running = True
    process.signals.install()
    assert signal.getsignal(TERM) is before


def test_outside_of_the_main_thread_nothing_is_installed():
    before = signal.getsignal(HUP)
    thread = threading.Thread(target=Process().signals.install)
    thread.start()
    thread.join()
    assert signal.getsignal(HUP) is before


# A terminal.


def test_with_its_terminal_there_a_hangup_is_a_reload(start):
    process = start(terminal=True)
    process.send(HUP)
    process.reactor.advance(1)
    assert process.life.told == ["reload"]


def test_a_hangup_of_a_terminal_that_goes_away_is_a_stop_however_often_it_comes(start):
    process = start(terminal=True)
    process.send(HUP, HUP)
    process.terminal = False
    process.reactor.advance(1)
    assert process.life.told == ["leave: its terminal is gone (SIGHUP)"]


def test_after_that_a_hangup_is_a_reload(start):
    process = start(terminal=True)
    process.terminal = False
    process.send(HUP)
    process.reactor.advance(1)
    assert process.send(HUP) == ["leave: its terminal is gone (SIGHUP)", "reload"]


def test_who_ignored_hangups_before_the_start_outlives_the_terminal(start):
    """nohup."""
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        process = start(terminal=True)
        process.terminal = False
        process.send(HUP)
        process.reactor.advance(1)
        assert process.life.told == ["reload"]
    finally:
        signal.signal(HUP, before)


# What came before.


@pytest.fixture
def early():
    """Handlers of `python -m twisted_lb`, from its first statement on."""
    before = {number: signal.signal(number, Early()) for number in (HUP, QUIT)}
    yield signal.getsignal(HUP)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_hangup_while_the_process_starts_is_told_when_it_runs(early, start):
    signal.raise_signal(HUP)
    process = start()
    assert process.life.told == []
    for call, arguments in process.reactor.when_running:
        call(*arguments)
    process.reactor.advance(1)
    assert process.life.told == ["reload"]


def test_nothing_is_told_of_a_hangup_that_did_not_come(early, start):
    assert start().reactor.when_running == []


@pytest.mark.parametrize("gone", [True, False])
def test_a_terminal_that_went_away_while_the_process_started_is_a_stop(early, start, gone):
    early.came = early.terminal = True
    process = start(terminal=not gone)
    [(call, arguments)] = process.reactor.when_running
    call(*arguments)
    process.reactor.advance(1)
    assert process.life.told == ["leave: its terminal is gone (SIGHUP)" if gone else "reload"]


def test_a_handler_of_the_start_is_not_called_any_more(early, start):
    """SIGQUIT would end the process at once."""
    process = start()
    assert process.send(QUIT, HUP) == ["leave patiently: SIGQUIT", "reload"]
    assert not early.came


def test_whether_there_is_a_terminal_can_be_asked():
    assert signals.has_terminal() in {True, False}


# A second signal.


def test_while_stopping_the_reactors_signals_end_the_wait():
    reactor = Reactor()
    before = signal.signal(TERM, reactor.sigTerm)
    try:
        hurried: list[str] = []
        restore = while_stopping(reactor, lambda: hurried.append("hurry"))
        signal.raise_signal(TERM)
        reactor.settle()
        assert (hurried, reactor.stopped_by) == (["hurry"], [])
        restore()
        signal.raise_signal(TERM)
        assert reactor.stopped_by == [TERM]
    finally:
        signal.signal(TERM, before)


def test_while_several_stop_a_signal_ends_the_wait_of_each_that_still_stops():
    reactor = Reactor()
    before = signal.signal(TERM, reactor.sigTerm)
    try:
        hurried: list[str] = []
        restore_first = while_stopping(reactor, lambda: hurried.append("first"))
        restore_second = while_stopping(reactor, lambda: hurried.append("second"))
        signal.raise_signal(TERM)
        reactor.settle()
        assert hurried == ["first", "second"]
        restore_first()
        signal.raise_signal(TERM)
        reactor.settle()
        assert (hurried, reactor.stopped_by) == (["first", "second", "second"], [])
        restore_second()
        signal.raise_signal(TERM)
        assert reactor.stopped_by == [TERM]
    finally:
        signal.signal(TERM, before)


def test_while_stopping_handlers_of_others_stay():
    called: list[int] = []
    before = signal.signal(TERM, lambda number, frame: called.append(number))
    try:
        restore = while_stopping(Reactor(), lambda: called.append(-1))
        signal.raise_signal(TERM)
        restore()
        assert called == [TERM]
    finally:
        signal.signal(TERM, before)
