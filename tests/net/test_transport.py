"""The traps of a socket that our transport knows, on our poller and on the reactor's own.

The far end of each connection is a plain socket in the hands of the test. What every transport promises: the contract.
"""

import contextlib
import errno
import os
import socket
import struct

import pytest
from turned import Loop, Recorder
from twisted.internet.error import ConnectionLost
from wires import arrived, stream_pair

from twisted_lb.net.clock import Clock
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.transport import HIGH_WATER_BYTES, LOW_WATER_BYTES, Transport
from twisted_lb.testing import HeapClock


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


@pytest.fixture(params=["epoll", "reactor"])
def line(request):
    one = Line(request.param)
    yield one
    one.far.close()
    one.transport.abortConnection()
    one.run()
    assert one.loop.poller.watched == 0
    one.loop.poller.stop()


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


def test_twisteds_interfaces_are_provided():
    from twisted.internet.interfaces import (
        IConsumer,
        IHalfCloseableProtocol,
        IPushProducer,
        IReadDescriptor,
        ITransport,
    )

    from twisted_lb.net.foreign import Foreign
    from twisted_lb.net.http1 import Http1
    from twisted_lb.net.http1_upstream import Http1Upstream

    assert IReadDescriptor.implementedBy(EpollPoller)
    assert all(one.implementedBy(Transport) for one in (ITransport, IConsumer, IPushProducer))
    assert IHalfCloseableProtocol.implementedBy(Foreign)
    assert all(IPushProducer.implementedBy(one) for one in (Http1, Http1Upstream))


def test_addresses_are_twisteds(line):
    assert line.transport.getPeer().host == "127.0.0.1"
    assert line.transport.getHost().port != line.transport.getPeer().port
    assert line.transport.peer_name() == "127.0.0.1"
    assert line.transport.port_name() == str(line.transport.getHost().port)
    with contextlib.suppress(OSError):
        line.transport.setTcpNoDelay(True)


def test_a_peer_that_is_gone_already_has_no_address_but_asking_is_no_error():
    loop = Loop("epoll")
    near, far = stream_pair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    arrived()
    protocol = Recorder()
    transport = Transport(loop.poller, near)
    transport.open(protocol)
    assert (transport.peer_name(), transport.getPeer().host, transport.getPeer().port) == ("unknown", "unknown", 0)
    loop.run()
    assert protocol.told == ["made", "lost"]
    loop.poller.stop()


def test_asking_after_the_end_for_an_address_touches_nobody_elses_descriptor():
    """A transport that was given a descriptor made a socket object of it, which closed that number when it went."""
    loop = Loop("epoll")
    near, far = stream_pair()
    fd = near.detach()
    transport = Transport(loop.poller, fd, ("192.0.2.7", 4711))
    transport.open(Recorder())
    transport.loseConnection()
    loop.run()
    with socket.socket() as other:
        os.dup2(other.fileno(), fd)
        assert (transport.getPeer().host, transport.getHost().host) == ("192.0.2.7", "unknown")
        with pytest.raises(OSError, match="descriptor"):
            transport.setTcpNoDelay(True)
        del transport
        os.close(fd)  # still ours
    far.close()
    loop.poller.stop()


def test_a_unix_socket_has_a_path_for_an_address(tmp_path):
    loop = Loop("epoll")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        near = socket.socket(socket.AF_UNIX)
        near.connect(str(tmp_path / "s"))
        near.setblocking(False)
    transport = Transport(loop.poller, near)
    transport.open(Recorder())
    assert (transport.peer_name(), transport.port_name()) == ("unix", "")
    assert transport.getPeer().name == str(tmp_path / "s").encode()
    assert transport.getHost().name is None
    transport.abortConnection()
    loop.run()
    loop.poller.stop()


def test_a_reset_while_paused_is_told_to_those_who_want_to_know():
    class Watchful(Recorder):
        def connectionBroken(self):
            self.told.append("broken")

    for kind in ("epoll", "reactor"):
        loop = Loop(kind)
        near, far = stream_pair()
        protocol = Watchful()
        transport = Transport(loop.poller, near)
        transport.open(protocol)
        transport.pauseProducing()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        loop.run()
        # Without interest in anything a reactor tells nothing: found out when there is something to send.
        assert protocol.told == (["made", "broken"] if kind == "epoll" else ["made"])
        transport.abortConnection()
        loop.run()
        loop.poller.stop()


def test_what_the_kernel_still_holds_counts_as_not_taken(line):
    assert line.transport.backlog() == 0
    line.transport.write(b"x" * 1000)
    arrived()
    line.far.recv(1)
    line.fill()
    assert line.transport.backlog() > line.transport.unsent > 0


def test_it_shows_its_state(line):
    assert "open unsent=0" in repr(line.transport)
    line.transport.pauseProducing()
    assert "paused" in repr(line.transport)
    line.fill()
    line.transport.loseConnection()
    assert "closing" in repr(line.transport)
    assert line.transport.disconnecting
    line.transport.abortConnection()
    assert "gone" in repr(line.transport)
    assert not line.transport.connected


def test_in_a_crowd_each_receives_a_little_so_that_all_have_their_turn_soon():
    """200 connections with half a megabyte each: no batch takes more of one of them than 16 KiB."""
    clock = HeapClock()
    poller = EpollPoller(Clock(clock.seconds), clock.callLater, lambda: pytest.fail("lost"), 1)
    fars, takers = [], []
    for _ in range(200):
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        far.send(b"x" * 100_000)
        takers.append(Taker())
        fars.append(far)
        Transport(poller, near).open(takers[-1])
    for _ in range(5):
        poller.doRead()
    assert max(max(taker.sizes) for taker in takers) == 16384
    for taker in takers[100:]:
        taker.transport.abortConnection()
    poller.flush()
    for taker in takers[:100]:
        taker.sizes.clear()
    for far in fars[:100]:
        far.send(b"x" * 100_000)
    for _ in range(5):
        poller.doRead()
    assert max(max(taker.sizes) for taker in takers[:100]) > 16384
    for taker in takers[:100]:
        taker.transport.abortConnection()
    poller.stop()
    for far in fars:
        far.close()


class Taker:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def makeConnection(self, transport):
        self.transport = transport

    def dataReceived(self, data):
        self.sizes.append(len(data))

    def connectionLost(self, reason):
        pass
