"""The poller: batches, what waits until after them, and what must never take it down."""

import errno
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.epollreactor import EPollReactor
from world import FakeReactor

from twisted_lb.net import poller as poller_module
from twisted_lb.net.clock import Clock
from twisted_lb.net.over_reactor import release, runtime_of
from twisted_lb.net.poller import READ, WRITE, EpollPoller, Pollable, Poller
from twisted_lb.net.reactor_poller import ReactorPoller
from twisted_lb.net.transport import Transport
from twisted_lb.testing import HeapClock

interpreted_only = pytest.mark.skipif(
    not poller_module.__file__.endswith(".py"), reason="a compiled Pollable takes no interpreted subclass"
)


class Floor:
    """A poller, its clock, and the reactor where it needs one."""

    def __init__(self, kind: str) -> None:
        self.clock = HeapClock(50.0)
        self.now = Clock(self.clock.seconds)
        self.reactor = FakeReactor()
        self.poller: Poller = (
            ReactorPoller(self.reactor, self.now, self.clock.callLater)
            if kind == "reactor"
            else EpollPoller(self.now, self.clock.callLater, lambda: pytest.fail("lost"), 1)
        )
        self.led = select.epoll() if kind == "leading" else None
        if isinstance(self.poller, EpollPoller) and self.led is not None:
            self.poller.lead(self.led.fileno(), lambda delay_s: pytest.fail("the reactor has nothing to do"))

    def batch(self) -> None:
        if isinstance(self.poller, EpollPoller) and self.led is not None:
            self.poller.iterate(0)
        elif isinstance(self.poller, EpollPoller):
            self.poller.doRead()
        else:
            self.reactor.turn()

    def stop(self) -> None:
        self.poller.stop()
        if self.led is not None:
            self.led.close()


@pytest.fixture(params=["epoll", "leading", "reactor"])
def floor(request):
    one = Floor(request.param)
    yield one
    assert one.poller.watched == 0
    one.stop()


@pytest.fixture
def pair():
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


class Handler(Pollable):
    def __init__(self, on_ready: Callable[[int], object] = lambda flags: None) -> None:
        self.flags: list[int] = []
        self.crashes = 0
        self.on_ready = on_ready

    def ready(self, flags):
        self.flags.append(flags)
        self.on_ready(flags)

    def crashed(self):
        self.crashes += 1

    def batch_ended(self):
        self.on_ready(0)


# What waits until after the batch.


def test_soon_is_on_a_later_turn_in_order(floor):
    told: list[int] = []
    for number in range(3):
        floor.poller.soon(lambda number=number: told.append(number))
    assert told == []
    floor.clock.settle()
    assert told == [0, 1, 2]


@interpreted_only
def test_a_handler_is_told_that_the_batch_is_over_in_the_order_of_what_is_called_soon(floor):
    told: list[int] = []
    floor.poller.soon(lambda: told.append(1))
    floor.poller.tell_after_batch(Handler(lambda _: told.append(2)))
    floor.poller.soon(lambda: told.append(3))
    assert told == []
    floor.clock.settle()
    assert told == [1, 2, 3]


def test_soon_within_soon_comes_after_it_and_never_starves_the_reactor(floor):
    told: list[int] = []

    def again() -> None:
        told.append(len(told))
        if len(told) < 100:
            floor.poller.soon(again)

    floor.poller.soon(again)
    floor.clock.run_until(lambda: told)
    assert 0 < len(told) < 100, "all within one turn of the reactor"
    floor.clock.settle()
    assert told == list(range(100))


def test_a_delivery_that_raises_does_not_stop_the_next(floor, logged_errors):
    told: list[str] = []
    floor.poller.soon(lambda: 1 // 0)
    floor.poller.soon(lambda: told.append("next"))
    floor.clock.settle()
    assert told == ["next"]
    assert len(logged_errors.take()) == 1


def test_what_is_to_close_closes_after_what_is_to_be_told(floor, pair):
    near, _ = pair
    told: list[int] = []
    floor.poller.close_later(near)
    floor.poller.soon(lambda: told.append(near.fileno()))
    assert near.fileno() >= 0
    floor.clock.settle()
    assert told[0] >= 0
    assert near.fileno() == -1


def test_a_socket_that_does_not_close_takes_nobody_down(floor, pair, logged_errors):
    class Stubborn:
        def close(self):
            raise OSError(errno.EBADF, "somebody else closed it")

    floor.poller.close_later(Stubborn())
    floor.poller.close_later(pair[0])
    floor.poller.flush()
    assert pair[0].fileno() == -1
    assert len(logged_errors.take()) == 1
    floor.clock.settle()


def test_flush_delivers_at_once(floor, pair):
    told: list[int] = []
    floor.poller.soon(lambda: told.append(1))
    floor.poller.close_later(pair[0])
    floor.poller.flush()
    assert told == [1]
    assert pair[0].fileno() == -1
    floor.clock.settle()
    assert told == [1]


# Descriptors.


def test_a_descriptor_that_cannot_be_watched_is_not(pair):
    floor = Floor("epoll")
    near, _ = pair
    number = near.fileno()
    near.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        floor.poller.add(number, _nobody(), READ)
    assert floor.poller.watched == 0
    floor.poller.stop()


def _nobody() -> Pollable:
    return Pollable()


def test_removing_twice_or_what_is_not_there_is_harmless(floor, pair):
    near, _ = pair
    floor.poller.remove(near.fileno())
    floor.poller.add(near.fileno(), _nobody(), 0)
    assert floor.poller.watched == 1
    floor.poller.remove(near.fileno())
    floor.poller.remove(near.fileno())
    assert floor.poller.watched == 0


@interpreted_only
def test_interest_decides_what_is_reported(floor, pair):
    near, far = pair
    handler = Handler()
    floor.poller.add(near.fileno(), handler, 0)
    far.send(b"x")
    floor.batch()
    assert handler.flags == []
    floor.poller.change(near.fileno(), READ)
    floor.batch()
    assert len(handler.flags) == 1
    assert handler.flags[0] & READ
    floor.poller.change(near.fileno(), WRITE)
    floor.batch()
    assert handler.flags[-1] & WRITE
    floor.poller.remove(near.fileno())
    floor.batch()
    assert len(handler.flags) == 2


@interpreted_only
def test_a_parked_descriptor_says_nothing_until_the_next_change(floor, pair):
    near, far = pair
    handler = Handler()
    floor.poller.add(near.fileno(), handler, READ)
    far.close()
    floor.poller.park(near.fileno())
    floor.poller.park(near.fileno())
    for _ in range(3):
        floor.batch()
    assert handler.flags == []
    floor.poller.change(near.fileno(), READ)
    floor.batch()
    assert handler.flags
    floor.poller.park(near.fileno())
    floor.poller.remove(near.fileno())


@interpreted_only
def test_an_event_of_what_was_removed_earlier_in_the_batch_is_dropped(floor):
    pairs = [socket.socketpair() for _ in range(2)]
    handlers = []
    for index, (near, far) in enumerate(pairs):
        far.send(b"x")
        handlers.append(Handler(lambda flags, index=index: floor.poller.remove(pairs[1 - index][0].fileno())))
        floor.poller.add(near.fileno(), handlers[-1], READ)
    floor.batch()
    assert sorted(len(handler.flags) for handler in handlers) == [0, 1]
    for near, far in pairs:
        floor.poller.remove(near.fileno())
        near.close()
        far.close()


@interpreted_only
def test_a_handler_that_raises_is_told_so_and_the_others_are_served(floor, logged_errors):
    pairs = [socket.socketpair() for _ in range(3)]
    handlers = [Handler(), Handler(lambda flags: 1 // 0), Handler()]
    for (near, far), handler in zip(pairs, handlers, strict=True):
        far.send(b"x")
        floor.poller.add(near.fileno(), handler, READ)
    floor.batch()
    assert [len(handler.flags) for handler in handlers] == [1, 1, 1]
    assert [handler.crashes for handler in handlers] == [0, 1, 0]
    assert len(logged_errors.take()) == 1
    for near, far in pairs:
        floor.poller.remove(near.fileno())
        near.close()
        far.close()


@interpreted_only
def test_even_one_that_raises_when_it_is_told_so(floor, pair, logged_errors):
    class Hopeless(Handler):
        def crashed(self):
            raise ZeroDivisionError

    near, far = pair
    far.send(b"x")
    floor.poller.add(near.fileno(), Hopeless(lambda flags: 1 // 0), READ)
    floor.batch()
    assert len(logged_errors.take()) == 2
    floor.poller.remove(near.fileno())


@interpreted_only
def test_the_clock_is_read_at_the_beginning_of_a_batch(floor, pair):
    near, far = pair
    seen: list[float] = []
    floor.poller.add(near.fileno(), Handler(lambda flags: seen.append(floor.now.now)), READ)
    far.send(b"x")
    floor.clock.advance(7.0)
    floor.batch()
    assert seen == [57.0]
    floor.poller.remove(near.fileno())


@interpreted_only
def test_what_a_handler_queues_is_delivered_after_the_batch(floor):
    pairs = [socket.socketpair() for _ in range(2)]
    told: list[str] = []

    def act(flags: int) -> None:
        told.append("event")
        floor.poller.soon(lambda: told.append("after"))

    for near, far in pairs:
        far.send(b"x")
        floor.poller.add(near.fileno(), Handler(act), READ)
    if isinstance(floor.poller, EpollPoller):
        floor.batch()
        assert told == ["event", "event", "after", "after"]
    else:
        # The reactor's batch is not ours to look into: each event is a batch.
        floor.batch()
        assert told == ["event", "after", "event", "after"]
    assert floor.clock.next_at() is None
    for near, far in pairs:
        floor.poller.remove(near.fileno())
        near.close()
        far.close()


def test_a_poller_that_the_reactor_drops_says_so_unless_it_was_stopped(logged_errors):
    lost: list[int] = []
    poller = EpollPoller(Clock(lambda: 0.0), HeapClock().callLater, lambda: lost.append(1))
    poller.connectionLost(None)
    assert lost == [1]
    assert len(logged_errors.take()) == 1
    poller.stop()
    poller.connectionLost(None)
    assert lost == [1]
    assert poller.fileno() == -1


@interpreted_only
def test_a_batch_is_bounded_and_the_rest_follows():
    floor = Floor("epoll")
    handler = Handler()
    pairs = [socket.socketpair() for _ in range(600)]
    for near, far in pairs:
        floor.poller.add(near.fileno(), handler, READ)
        far.send(b"x")
    floor.batch()
    assert len(handler.flags) == 512
    for near, far in pairs:
        floor.poller.remove(near.fileno())
        near.close()
        far.close()
    floor.poller.stop()


# Within a running reactor.

TALK = """
import select, socket, threading
from twisted.internet import %(reactor)s
%(reactor)s.install()
from twisted.internet import reactor
from twisted_lb.net.listener import Listener, bind_tcp
from twisted_lb.net.over_reactor import release, runtime_of

class Echo:
    def makeConnection(self, transport): self.transport = transport
    def dataReceived(self, data): self.transport.write(data)
    def readConnectionLost(self): self.transport.loseConnection()
    def connectionLost(self, reason):
        listener.stop()
        reactor.callLater(0, finish)

def finish():
    reactor.stop()
    release(runtime, reactor)
    left.append((poller.watched, runtime.time.getDelayedCalls()))
    left.append(poller in reactor.getReaders())

if not %(epoll)s:
    del select.epoll  # as on a system that has none
runtime = runtime_of(reactor, 1, reactor.stop, whole_process=%(whole_process)s)
poller = runtime.poller
assert getattr(poller, "leads", False) is %(leads)s
listener = Listener(poller, bind_tcp("127.0.0.1", 0), Echo, reactor.callLater)
listener.start()
left = []

def talk():
    client = socket.create_connection(("127.0.0.1", listener.port))
    sent = b"x" * 1_000_000
    threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR))).start()
    got = 0
    while data := client.recv(65536):
        got += len(data)
    print(got, flush=True)
    client.close()

talking = threading.Thread(target=talk)
talking.start()
reactor.run()
talking.join()
print(left)
"""


@pytest.mark.parametrize("kind", ["embedded", "a process of our own", "without epoll"])
@pytest.mark.parametrize("reactor", ["epollreactor", "pollreactor", "selectreactor", "asyncioreactor"])
def test_it_works_within_any_reactor(reactor, kind, tmp_path: Path):
    script = tmp_path / "talk.py"
    ours = kind == "a process of our own"
    told = {"reactor": reactor, "epoll": kind != "without epoll", "whole_process": ours}
    script.write_text(TALK % {**told, "leads": ours and reactor == "epollreactor"})
    done = subprocess.run([sys.executable, "-P", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "1000000\n[(0, []), False]\n", done.stderr
    assert done.stderr == ""


# Leading a reactor.


class LedReactor:
    """Twisted's epoll reactor, led by a poller as in a process of our own, and driven by hand."""

    def __init__(self) -> None:
        self.losses: list[int] = []
        self.reactor = EPollReactor()
        self.runtime = runtime_of(self.reactor, 1, lambda: self.losses.append(1), whole_process=True)
        assert isinstance(self.runtime.poller, EpollPoller)
        self.poller = self.runtime.poller

    def close(self) -> None:
        if self.poller.fileno() >= 0:
            release(self.runtime, self.reactor)
        self.reactor.disconnectAll()
        self.reactor.removeAll()
        self.reactor._poller.close()


@pytest.fixture
def led():
    one = LedReactor()
    yield one
    one.close()


class Line:
    """A reader of the reactor's own: a socket, and what came over it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.got = b""

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "line"

    def doRead(self) -> None:
        self.got += self.sock.recv(100)

    def connectionLost(self, reason: object) -> None:
        pass


def test_who_leads_waits_for_what_is_the_reactors_too(led, pair):
    near, far = pair
    line = Line(near)
    led.reactor.addReader(line)
    told: list[str] = []
    waking = threading.Thread(target=lambda: led.reactor.callFromThread(told.append, "woken"))
    waking.start()
    while not told:
        led.reactor.iterate(60.0)  # it would wait that long unless it is woken
    waking.join()
    far.send(b"hello")
    led.reactor.iterate(60.0)
    assert line.got == b"hello"
    led.reactor.callLater(0.0, told.append, "later")
    led.reactor.iterate(0.0)
    assert told == ["woken", "later"]
    led.reactor.removeReader(line)


def test_who_leads_serves_its_own_while_the_reactor_is_busy(led, pair):
    near, far = pair
    line = Line(near)
    led.reactor.addReader(line)
    ends = [Echo(), Echo()]
    for sock, protocol in zip(socket.socketpair(), ends, strict=True):
        sock.setblocking(False)
        Transport(led.poller, sock).open(protocol)
    ends[0].transport.write(b"x")
    for turn in range(1, 6):
        far.send(b"y")
        heard = ends[0].heard + ends[1].heard
        led.reactor.iterate(60.0)
        assert line.got == b"y" * turn
        assert ends[0].heard + ends[1].heard > heard
    led.reactor.removeReader(line)
    for end in ends:
        end.transport.abortConnection()
    led.reactor.iterate(0.0)


def test_who_cannot_lead_any_more_says_so_once_and_the_reactor_goes_on(led, pair, logged_errors):
    near, far = pair
    line = Line(near)
    led.reactor.addReader(line)
    led.poller._epoll.close()
    for turn in range(1, 4):
        far.send(b"z")
        led.reactor.iterate(60.0)
        assert len(line.got) >= turn - 1
    assert led.losses == [1]
    assert line.got == b"zzz"
    assert len(logged_errors.take()) == 1
    led.reactor.removeReader(line)
    del led.reactor.doIteration


def test_who_is_released_leads_no_more(led, pair):
    near, far = pair
    line = Line(near)
    release(led.runtime, led.reactor)
    assert "doIteration" not in vars(led.reactor)
    led.reactor.addReader(line)
    far.send(b"a")
    led.reactor.iterate(60.0)
    assert line.got == b"a"
    led.reactor.removeReader(line)


def test_a_second_balancer_of_the_process_is_a_reader_of_the_reactor_that_the_first_one_leads(led):
    second = runtime_of(led.reactor, 2, lambda: led.losses.append(2), whole_process=True)
    assert second.poller is not None
    ends = [Echo(), Echo()]
    for sock, protocol in zip(socket.socketpair(), ends, strict=True):
        sock.setblocking(False)
        Transport(second.poller, sock).open(protocol)
    ends[0].transport.write(b"x")
    led.reactor.iterate(60.0)
    assert ends[1].heard
    for end in ends:
        end.transport.abortConnection()
    led.reactor.iterate(0.0)
    release(second, led.reactor)
    assert second.poller not in led.reactor.getReaders()
    assert led.poller.leads
    assert led.losses == []


def test_a_reactor_that_others_use_too_is_not_led():
    reactor = EPollReactor()
    runtime = runtime_of(reactor, 1, lambda: pytest.fail("lost"))
    assert runtime.poller in reactor.getReaders()
    assert "doIteration" not in vars(reactor)
    release(runtime, reactor)
    assert runtime.poller not in reactor.getReaders()
    reactor.removeAll()
    reactor._poller.close()


class Echo:
    """Sends back each byte, at once: there is always something to do."""

    def __init__(self) -> None:
        self.heard = 0

    def makeConnection(self, transport):
        self.transport = transport

    def dataReceived(self, data):
        self.heard += 1
        self.transport.write(data)

    def connectionLost(self, reason):
        pass


@pytest.mark.parametrize("most", [1, 3, 16])
def test_batches_that_follow_at_once_are_taken_in_one_turn_up_to_a_bound(most):
    clock = HeapClock()
    poller = EpollPoller(Clock(clock.seconds), clock.callLater, lambda: pytest.fail("lost"), most)
    near, far = socket.socketpair()
    ends = [Echo(), Echo()]
    for sock, protocol in zip((near, far), ends, strict=True):
        sock.setblocking(False)
        Transport(poller, sock).open(protocol)
    ends[0].transport.write(b"x")
    poller.doRead()
    assert ends[0].heard + ends[1].heard == most
    for end in ends:
        end.transport.abortConnection()
    poller.stop()


FORKED = """
import os, select, socket
from twisted_lb.net import poller
from twisted_lb.net.clock import Clock
from twisted_lb.net.poller import READ, EpollPoller, Pollable

one = EpollPoller(Clock(lambda: 0.0), lambda delay_s, call: None, lambda: None, 1)
near, far = socket.socketpair()
one.add(near.fileno(), Pollable(), READ)
far.send(b"x")
told, tell = os.pipe()
child = 0 if {forks} else -1
if {forks}:
    child = os.fork()
    if not child:
        os.read(told, 1)
        os._exit(0)
one.forget(near.fileno())
one.close_later(near)
one.flush()
print(one.watched, select.select([one.fileno()], [], [], 0)[0])
os.write(tell, b"x")
if child > 0:
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("forks", [False, True], ids=["alone", "forked"])
def test_a_descriptor_that_is_forgotten_is_out_of_the_epoll_though_a_child_has_it_too(forks):
    done = subprocess.run(
        [sys.executable, "-c", FORKED.format(forks=forks)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "0 []\n", done.stderr
