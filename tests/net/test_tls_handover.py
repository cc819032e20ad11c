"""A connection over TLS at the end of its handshake, when the kernel has not taken all of what that says."""

import os
import select
import socket

import pytest
from tls_peers import TlsEnd, client_context, server_context
from wires import stream_pair
from world import Time

from twisted_lb.net.clock import Clock
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.tls import TlsTransport


class NarrowSocket:
    """A socket whose kernel takes half of one write while it is `narrow`, and nothing more until it is not."""

    family = socket.AF_UNIX

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.narrow = False
        self._full = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def read(self, fd: int, most: int) -> bytes:
        return os.read(fd, most)

    def write(self, fd: int, data: bytes) -> int:
        if self._full:
            raise BlockingIOError
        self._full = self.narrow
        return os.write(fd, data[: len(data) // 2] if self.narrow else data)

    def writev(self, fd: int, pieces: list[bytes]) -> int:
        return self.write(fd, b"".join(pieces))

    def sendmsg(self, pieces: list) -> int:
        return self.write(self._sock.fileno(), b"".join(pieces))

    def widen(self) -> None:
        self.narrow = self._full = False

    def close(self) -> None:
        self._sock.close()


class Protocol:
    """Notes what it is told, once it has the connection."""

    def __init__(self) -> None:
        self.received = b""
        self.up = False

    def secured(self, transport: TlsTransport) -> None:
        self.up = True
        transport.take_over(self, b"")

    def failed(self, transport: TlsTransport, reason: str) -> None:
        pytest.fail(reason)

    def lost(self, transport: TlsTransport) -> None:
        pytest.fail("its handshake did not fail")

    def makeConnection(self, transport: object) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        pass


def test_what_is_unsent_at_the_end_of_a_handshake_is_sent_and_then_nothing_is_watched_for():
    time = Time()
    poller = EpollPoller(Clock(time.seconds), time.callLater, lambda: pytest.fail("lost"), 1)

    def run() -> int:
        """Let the poller turn while it has something to do; how often it did."""
        for turns in range(100):
            if not select.select([poller.fileno()], [], [], 0)[0]:
                return turns
            poller.doRead()
        return 100

    near, far = stream_pair()
    sock, protocol, end = NarrowSocket(near), Protocol(), TlsEnd(server_context(), server_side=True)
    transport = TlsTransport(
        poller, sock, client_context(), protocol, server_side=False, server_name="localhost", peer=("b", 443)
    )
    transport.begin()
    end.inbound.write(far.recv(65536))
    assert not end.shake()
    far.sendall(end.outbound.read())
    sock.narrow = True
    while not protocol.up:
        select.select([poller.fileno()], [], [], 1)
        poller.doRead()
    assert transport.unsent, "of the client's Finished"
    sock.widen()
    assert run() < 10, "it is watched for writing though nothing is unsent"
    assert not transport.unsent
    far.setblocking(False)
    end.inbound.write(far.recv(65536))
    assert end.shake()
    transport.loseConnection()
    poller.flush()
    poller.stop()
    far.close()
