"""What leaves a connection as one: heads with the first piece of their body, chunks with what follows, long pieces uncopied."""

import socket

import pytest
from twisted.internet.task import Clock as Turns

from twisted_lb.net.clock import Clock
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.outgoing import Outgoing
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.transport import Transport
from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import Limits

LONG = bytes(range(256)) * 256
SHORT = b"short"


class Socket:
    """What a transport calls, noted as it came; `room` is how much it takes before it blocks. Its number is a real one."""

    def __init__(self, fd: int, room: int = 1 << 30) -> None:
        self._fd = fd
        self.calls: list[list[bytes]] = []
        self.taken = b""
        self.room = room

    def fileno(self) -> int:
        return self._fd

    def read(self, fd: int, most: int) -> bytes:
        raise BlockingIOError

    def write(self, fd: int, data: bytes) -> int:
        return self.writev(fd, [data])

    def writev(self, fd: int, pieces: list[bytes]) -> int:
        self.calls.append(list(pieces))
        some = b"".join(pieces)[: self.room]
        if not some:
            raise BlockingIOError
        self.taken += some
        self.room -= len(some)
        return len(some)

    def close(self) -> None:
        pass

    def sendmsg(self, pieces: list[bytes]) -> int:
        return self.writev(self._fd, [bytes(piece) for piece in pieces])


class Protocol:
    """Whoever the connection belongs to."""

    def makeConnection(self, transport: object) -> None:
        pass

    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        pass


class Deaf:
    """A protocol that does nothing."""

    def makeConnection(self, transport) -> None:
        pass


class NotOurs:
    """A transport that is not ours."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)


@pytest.fixture
def sock():
    """The socket of `out`; for another room it may be changed before the first write."""
    one, other = socket.socketpair()
    with one, other:
        yield Socket(one.fileno())


@pytest.fixture
def transport(sock):
    turns = Turns()
    poller = EpollPoller(Clock(turns.seconds), turns.callLater, lambda: None)
    transport = Transport(poller, sock)
    transport.open(Protocol())
    yield transport
    poller.stop()


@pytest.fixture
def out(transport):
    out = Outgoing()
    out.attach(transport)
    return out


def payload_of(body: bytes) -> bytes:
    decoder = ChunkDecoder(Limits())
    payload = decoder.feed(body)
    assert decoder.done
    assert decoder.rest == b""
    return payload


def test_a_head_leaves_with_a_short_first_piece_in_one_buffer(sock, out):
    out.held = b"head"
    out.write(SHORT)
    out.write(b"next")
    out.end(b"")
    assert sock.calls == [[b"head" + SHORT], [b"next"]]


def test_a_long_first_piece_is_not_copied(sock, out):
    out.held = b"head"
    out.write(LONG)
    assert [len(pieces) for pieces in sock.calls] == [2]
    assert sock.calls[0][1] is LONG


def test_a_head_without_a_body_leaves_at_the_end_or_at_a_flush(sock, out):
    out.held = b"one"
    out.end(b"")
    out.held = b"two"
    out.flush()
    out.flush()
    assert sock.calls == [[b"one"], [b"two"]]


def test_chunks_wait_for_what_follows_and_leave_with_the_end(sock, out):
    out.held = b"head"
    out.chunked = True
    out.write(SHORT)
    out.write(b"and more")
    assert sock.calls == []
    out.end(b"T: 1\r\n")
    assert sock.calls == [[b"head5\r\nshort\r\n8\r\nand more\r\n0\r\nT: 1\r\n\r\n"]]
    out.held = b"head"
    out.write(b"plain again")
    assert sock.calls[1:] == [[b"headplain again"]]


def test_a_long_chunk_leaves_between_its_size_and_what_follows_and_is_not_copied(sock, out):
    out.held = b"head"
    out.chunked = True
    out.write(LONG)
    out.end(b"")
    assert sock.calls == [[b"head10000\r\n", LONG, b"\r\n0\r\n\r\n"]]
    assert sock.calls[0][1] is LONG


@pytest.mark.parametrize("pieces", [[LONG, LONG], [LONG, SHORT], [SHORT, LONG], [SHORT, LONG, SHORT, SHORT, LONG]])
@pytest.mark.parametrize("flushed", [True, False])
def test_chunks_of_all_sizes_come_in_order(sock, out, pieces, flushed):
    out.chunked = True
    for piece in pieces:
        out.write(piece)
        if flushed:
            out.flush()
    out.end(b"")
    assert payload_of(sock.taken) == b"".join(pieces)


@pytest.mark.parametrize("room", [0, 1, 10, 11, 12, len(LONG), len(LONG) + 11, len(LONG) + 12, len(LONG) + 17])
def test_what_the_kernel_does_not_take_is_kept(sock, transport, out, room):
    sock.room = room
    out.held = b"head"
    out.chunked = True
    out.write(LONG)
    out.end(b"")
    everything = b"head10000\r\n" + LONG + b"\r\n0\r\n\r\n"
    assert sock.taken == everything[:room]
    assert transport.unsent == len(everything) - room
    # What is written now stays behind it.
    out.held = b"next"
    out.write(LONG)
    sock.room = 1 << 30
    while transport.unsent:
        transport.ready(4)
    assert sock.taken == everything + b"next" + LONG


def test_after_the_goodbye_nothing_is_sent(sock, transport, out):
    transport.loseConnection()
    out.held = b"head"
    out.write(LONG)
    out.attach(None)
    out.write(SHORT)
    assert sock.calls == []


def test_a_foreign_transport_gets_the_same_bytes():
    foreign = NotOurs()
    adapter = Foreign(Clock(lambda: 0.0), Deaf())
    adapter.makeConnection(foreign)
    out = Outgoing()
    out.attach(adapter)
    out.held = b"head"
    out.write(LONG)
    out.chunked = True
    out.write(LONG)
    out.end(b"")
    out.send(SHORT)
    assert foreign.calls == [b"head" + LONG, b"10000\r\n" + LONG + b"\r\n0\r\n\r\n", SHORT]
