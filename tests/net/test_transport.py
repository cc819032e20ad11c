"""The transport's contract, and the traps of a socket: on our poller, on the reactor's own, and beside Twisted's transport.

The far end of each connection is a plain socket in the hands of the test.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from world import FakeReactor, Time, stream_pair

from twisted_lb.net import poller as poller_module
from twisted_lb.net.clock import Clock
from twisted_lb.net.poller import READ, EpollPoller, Pollable
from twisted_lb.net.reactor_poller import ReactorPoller
from twisted_lb.net.transport import HIGH_WATER_BYTES, LOW_WATER_BYTES, Transport


class Loop:
    """A poller, turned by hand."""

    def __init__(self, kind: str) -> None:
        self.time = Time()
        self.lost = 0
        self.turns_with_events = 0
        clock = Clock(self.time.seconds)
        self.reactor = FakeReactor()
        if kind == "epoll":
            self.poller = EpollPoller(clock, self.time.callLater, self._lost)
        else:
            self.poller = ReactorPoller(self.reactor, clock, self.time.callLater)

    def _lost(self) -> None:
        self.lost += 1

    def turn(self) -> bool:
        ran = self.time.run_due()
        if isinstance(self.poller, EpollPoller):
            if select.select([self.poller.fileno()], [], [], 0)[0]:
                self.turns_with_events += 1
                self.poller.doRead()
                return True
        elif self.reactor.turn():
            self.turns_with_events += 1
            return True
        return ran

    def run(self, most: int = 1000) -> None:
        for _ in range(most):
            if not self.turn():
                return
        raise AssertionError("it spins")


class Recorder:
    """A protocol that notes what it is told, in one list."""

    def __init__(self) -> None:
        self.told: list = []
        self.data = b""
        self.transport = None
        self.reason = None
        self.on_data = lambda data: None

    def makeConnection(self, transport):
        self.transport = transport
        self.told.append("made")

    def dataReceived(self, data):
        assert data
        self.data += data
        self.told.append("data")
        self.on_data(data)

    def readConnectionLost(self):
        self.told.append("fin")

    def connectionLost(self, reason):
        self.told.append("lost")
        self.reason = reason

    def pauseProducing(self):
        self.told.append("pause")

    def resumeProducing(self):
        self.told.append("resume")

    def stopProducing(self):
        pass


class Line:
    """A connection: our transport and its protocol here, a plain socket there."""

    def __init__(self, kind: str) -> None:
        self.loop = Loop(kind)
        near, self.far = stream_pair()
        self.protocol = Recorder()
        self.transport = Transport(self.loop.poller, near)
        self.transport.open(self.protocol)
        self.protocol.told.clear()

    @property
    def told(self) -> list:
        return self.protocol.told

    def run(self, most: int = 1000) -> None:
        self.loop.run(most)

    def read_far(self, most: int = 1 << 30) -> bytes:
        got = b""
        while len(got) < most:
            try:
                data = self.far.recv(min(1 << 16, most - len(got)))
            except BlockingIOError:
                if not self.loop.turn():
                    break
                continue
            if not data:
                break
            got += data
        return got

    def fill(self) -> int:
        """Write until bytes stay here; how many were written."""
        written = 0
        while not self.transport.unsent:
            self.transport.write(b"x" * 65536)
            written += 65536
        return written

    def reset_far(self) -> None:
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()


def read_to_the_end(sock: socket.socket) -> None:
    while sock.recv(1 << 20):
        pass


@pytest.fixture(params=["epoll", "reactor"])
def line(request):
    one = Line(request.param)
    yield one
    one.far.close()
    one.transport.abortConnection()
    one.run()
    assert one.loop.poller.watched == 0
    one.loop.poller.stop()


def test_bytes_go_both_ways(line):
    line.far.send(b"ping")
    line.run()
    assert line.protocol.data == b"ping"
    line.transport.write(b"pong")
    assert line.far.recv(10) == b"pong"  # without any turn of the loop


def test_nothing_is_told_before_write_lose_or_abort_return(line):
    line.reset_far()
    line.transport.write(b"x")
    line.transport.write(b"y")
    line.transport.loseConnection()
    line.transport.abortConnection()
    assert line.told == []
    line.run()
    assert line.told == ["lost"]


def test_a_fin_is_told_once_and_writing_goes_on(line):
    line.far.send(b"last")
    line.far.shutdown(socket.SHUT_WR)
    line.run()
    assert line.told == ["data", "fin"]
    line.transport.write(b"answer")
    assert line.far.recv(10) == b"answer"
    line.run()
    assert line.told == ["data", "fin"]


def test_a_protocol_that_knows_no_half_close_is_told_that_it_is_over(line):
    class Plain:
        makeConnection = dataReceived = lambda self, argument: None
        lost = None

        def connectionLost(self, reason):
            self.lost = reason

    near, far = stream_pair()
    plain = Plain()
    Transport(line.loop.poller, near).open(plain)
    far.close()
    line.run()
    assert plain.lost.check(ConnectionDone)


def test_losing_the_connection_sends_everything_first(line):
    size = line.fill()
    line.transport.loseConnection()
    line.transport.write(b"too late")
    assert line.read_far() == b"x" * size
    line.run()
    assert line.told == ["lost"]
    assert line.protocol.reason.check(ConnectionDone)


def test_aborting_resets(line):
    line.fill()
    line.transport.abortConnection()
    line.run()
    assert line.protocol.reason.check(ConnectionAborted)
    with pytest.raises(ConnectionResetError):
        read_to_the_end(line.far)


def test_half_closing_sends_a_fin_after_what_was_written(line):
    size = line.fill()
    line.transport.loseWriteConnection()
    line.transport.write(b"too late")
    assert line.read_far() == b"x" * size
    assert line.far.recv(10) == b""
    line.far.send(b"still heard")
    line.run()
    assert line.protocol.data == b"still heard"


def test_many_pieces_arrive_complete_and_in_order(line):
    pieces = [os.urandom(1 + 997 * index % 30000) for index in range(600)]
    got = b""
    for piece in pieces:
        line.transport.write(piece)
        got += line.read_far(3000)
    got += line.read_far()
    assert got == b"".join(pieces)


def test_a_producer_is_paused_above_the_high_mark_and_resumed_below_the_low_one(line):
    line.transport.registerProducer(line.protocol, True)
    while line.transport.unsent <= HIGH_WATER_BYTES:
        assert "pause" not in line.told
        line.transport.write(b"x" * 20000)
    assert line.told == ["pause"]
    line.transport.write(b"x" * 20000)
    assert line.told == ["pause"]
    while "resume" not in line.told:
        before = line.transport.unsent
        line.read_far(65536)
        line.run()
        assert before > LOW_WATER_BYTES
    assert line.told == ["pause", "resume"]
    assert line.transport.unsent <= LOW_WATER_BYTES


def test_one_streaming_producer_at_a_time(line):
    line.transport.registerProducer(line.protocol, True)
    with pytest.raises(RuntimeError):
        line.transport.registerProducer(line.protocol, True)
    line.transport.unregisterProducer()
    line.transport.unregisterProducer()
    with pytest.raises(RuntimeError):
        line.transport.registerProducer(line.protocol, False)


def test_paused_means_nothing_is_read_until_resumed(line):
    line.transport.pauseProducing()
    line.far.send(b"later")
    line.run()
    assert line.told == []
    line.transport.resumeProducing()
    assert line.told == []
    line.run()
    assert line.protocol.data == b"later"


def test_pausing_within_a_delivery_stops_the_next_one(line):
    line.protocol.on_data = lambda data: line.transport.pauseProducing()
    for _ in range(3):
        line.far.send(b"x" * 60000)
        line.run()
    assert line.told == ["data"]


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_an_end_while_paused_is_read_after_the_pause_and_does_not_spin(line, end):
    line.transport.pauseProducing()
    line.far.send(b"last words")
    if end == "fin":
        line.far.shutdown(socket.SHUT_WR)
    else:
        line.reset_far()
    line.run(most=20)
    before = line.loop.turns_with_events
    for _ in range(20):
        line.loop.turn()
    assert line.loop.turns_with_events - before <= 1, "it spins on an end that it was told already"
    assert line.told == []
    line.transport.resumeProducing()
    line.run()
    assert line.protocol.data == b"last words"
    assert line.told[-1] == ("fin" if end == "fin" else "lost")


def test_an_end_while_paused_with_bytes_unsent_lets_them_go_out(line):
    size = line.fill()
    line.transport.pauseProducing()
    line.far.shutdown(socket.SHUT_WR)
    line.run(most=50)
    assert len(line.read_far()) == size
    assert line.told == []


def test_a_reset_after_a_fin_is_told(line):
    line.far.shutdown(socket.SHUT_WR)
    line.run()
    line.reset_far()
    line.transport.write(b"x")
    line.run()
    line.transport.write(b"y")
    line.run()
    assert line.told == ["fin", "lost"]


def test_what_the_peer_said_before_it_took_no_more_is_still_read(line):
    """A 413 and a close in the middle of an upload."""
    line.far.send(b"413 too large")
    line.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    line.transport.write(b"upload")  # unread at the far end: its close is a reset
    line.far.close()
    line.transport.write(b"more")
    line.transport.write(b"and more")
    line.run()
    assert line.told[-1] == "lost"
    assert line.protocol.data in (b"413 too large", b"")  # Linux hands it over unless the reset overtook it


class BrokenPipeSocket:
    """A socket that refuses to send and still has something to be read."""

    def __init__(self, sock):
        self._sock = sock

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def send(self, data):
        raise BrokenPipeError(errno.EPIPE, "broken pipe")


def test_a_failed_send_leaves_reading_alone_until_the_end():
    loop = Loop("epoll")
    near, far = stream_pair()
    protocol = Recorder()
    transport = Transport(loop.poller, BrokenPipeSocket(near))
    transport.open(protocol)
    far.send(b"413 too large")
    transport.write(b"upload")
    loop.run()
    assert protocol.data == b"413 too large"
    far.close()
    loop.run()
    assert protocol.told[-1] == "lost"
    assert protocol.reason.check(ConnectionLost)
    loop.poller.stop()


def test_a_handler_that_raises_closes_its_own_connection_only(line, logged_errors):
    other_near, other_far = stream_pair()
    other = Recorder()
    Transport(line.loop.poller, other_near).open(other)

    def blow_up(data):
        raise ZeroDivisionError

    line.protocol.on_data = blow_up
    line.far.send(b"x")
    other_far.send(b"y")
    line.run()
    assert line.told == ["data", "lost"]
    assert other.data == b"y"
    assert len(logged_errors.take()) == 1
    other_far.close()
    other.transport.abortConnection()
    line.run()


def test_a_descriptors_number_does_not_come_back_within_a_batch():
    """Both are ready in one batch; the first handled closes the other and opens a new one."""
    loop = Loop("epoll")
    pairs = [stream_pair() for _ in range(2)]
    protocols = [Recorder() for _ in pairs]
    transports = []
    for (near, _), protocol in zip(pairs, protocols, strict=True):
        transport = Transport(loop.poller, near)
        transport.open(protocol)
        transports.append(transport)
    fresh = []

    def replace(index):
        def on_data(data):
            other = 1 - index
            if not fresh:
                transports[other].abortConnection()
                near, far = stream_pair()
                protocol = Recorder()
                Transport(loop.poller, near).open(protocol)
                fresh.append((near.fileno(), protocol, near, far))

        return on_data

    numbers = {near.fileno() for near, _ in pairs}
    for index, protocol in enumerate(protocols):
        protocol.on_data = replace(index)
    for _, far in pairs:
        far.send(b"x")
    loop.run()
    number, protocol, near, far = fresh[0]
    assert number not in numbers
    assert "data" not in protocol.told
    for sock in [far, *[far for _, far in pairs]]:
        sock.close()
    loop.run()
    for transport in [*transports, protocol.transport]:
        transport.abortConnection()
    loop.run()
    loop.poller.stop()


def test_a_poller_that_is_dropped_by_the_reactor_says_so(logged_errors):
    loop = Loop("epoll")
    loop.poller.connectionLost(None)
    assert loop.lost == 1
    assert len(logged_errors.take()) == 1
    loop.poller.stop()
    loop.poller.connectionLost(None)
    assert loop.lost == 1


@pytest.mark.skipif(
    not poller_module.__file__.endswith(".py"), reason="a compiled Pollable takes no interpreted subclass"
)
def test_a_batch_is_bounded_and_the_rest_follows():
    loop = Loop("epoll")

    class Counter(Pollable):
        count = 0

        def ready(self, flags):
            Counter.count += 1

        def crashed(self):
            pass

    pairs = [socket.socketpair() for _ in range(600)]
    for near, far in pairs:
        loop.poller.add(near.fileno(), Counter(), READ)
        far.send(b"x")
    loop.poller.doRead()
    assert Counter.count == 512
    for near, far in pairs:
        loop.poller.remove(near.fileno())
        near.close()
        far.close()
    loop.poller.stop()


ECHO = """
import socket, sys
from twisted.internet import %(module)s
%(module)s.install()
from twisted.internet import reactor
from twisted_lb.net.clock import Clock
from twisted_lb.net.listener import Listener, bind_tcp
from twisted_lb.net.poller import EpollPoller

class Echo:
    def makeConnection(self, transport): self.transport = transport
    def dataReceived(self, data): self.transport.write(data); self.transport.loseConnection()
    def connectionLost(self, reason): listener.stop(); reactor.callLater(0, finish)

def finish():
    reactor.removeReader(poller)
    poller.stop()
    reactor.stop()

poller = EpollPoller(Clock(reactor.seconds), reactor.callLater, reactor.stop)
reactor.addReader(poller)
listener = Listener(poller, bind_tcp("127.0.0.1", 0), Echo, reactor.callLater)
listener.start()
client = socket.create_connection(("127.0.0.1", listener.port))
client.send(b"through " + type(reactor).__name__.encode())
reactor.run()
print(client.recv(100).decode())
client.close()
"""


@pytest.mark.parametrize("module", ["epollreactor", "pollreactor", "selectreactor", "asyncioreactor"])
def test_the_poller_works_within_any_reactor(module, tmp_path: Path):
    script = tmp_path / "echo.py"
    script.write_text(ECHO % {"module": module})
    done = subprocess.run([sys.executable, "-P", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.startswith("through "), done.stderr
    assert done.stderr == ""


def test_twisteds_interfaces_are_provided():
    from twisted.internet.interfaces import (
        IConsumer,
        IHalfCloseableProtocol,
        IPushProducer,
        IReadDescriptor,
        ITransport,
    )

    from twisted_lb.net.downstream import Downstream
    from twisted_lb.net.upstream import Upstream

    assert IReadDescriptor.implementedBy(EpollPoller)
    assert all(one.implementedBy(Transport) for one in (ITransport, IConsumer, IPushProducer))
    assert all(IHalfCloseableProtocol.implementedBy(one) for one in (Downstream, Upstream))


def test_addresses_are_twisteds(line):
    assert line.transport.getPeer().host == "127.0.0.1"
    assert line.transport.getHost().port != line.transport.getPeer().port
    assert line.transport.peer_name() == "127.0.0.1"
    with contextlib.suppress(OSError):
        line.transport.setTcpNoDelay(True)
