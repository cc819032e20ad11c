"""Pairs of connected TCP sockets whose two ends agree: what one has sent has come to the other before a test goes on.

Loopback hands packets on in the kernel's own time, which on a busy machine is not at once. A test that moves its own clock
while they are under way sees another order of events each time.
"""

import contextlib
import fcntl
import socket
import struct
import termios
import time
import weakref
from dataclasses import dataclass

# Not left to the kernel, which sizes both by the pace of traffic. The default of net.core.rmem_max: everybody may have it.
BUFFER_BYTES = 212_992
# What a slow reader takes at once: more than half of a buffer, else the kernel does not tell the sender of the room.
SIP_BYTES = 250_000

# How long packets may be under way on a machine that is very busy; a lost one is sent again after 0.2 s and more.
PATIENCE_S = 20.0
# Without any change for so long, an end is not behind but full.
STUCK_S = 0.05
NAP_S = 0.0005

# struct tcp_info of linux/tcp.h: state, ... unacked, ... bytes_received, ... bytes_sent, bytes_retrans.
TCP_INFO = struct.Struct("=B23xI100xQ64xQQ")

TCP_DELACK_MAX_US = 46
# The least that is allowed where the kernel's ticks are 4 ms.
DELAY_US = 8000

FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING = 4, 5, 6, 7, 8, 9, 11
HAS_SENT_FIN = {FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING}
HAS_HEARD_THE_END = {TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING}


@dataclass(frozen=True)
class End:
    """What the kernel knows of one end of a connection."""

    state: int
    unacked: int
    received: int
    sent: int
    unsent: int
    unread: int

    @classmethod
    def of(cls, sock: socket.socket) -> "End":
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        state, unacked, received, sent, sent_again = TCP_INFO.unpack_from(raw)
        return cls(state, unacked, received, sent - sent_again, _unsent(raw), _unread(sock))


def _unsent(raw: bytes) -> int:
    return int(struct.unpack_from("=I", raw, 144)[0])


def _unread(sock: socket.socket) -> int:
    # No peeking: that would take the error away which the one under test is to find.
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return 0
    return int(struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0])


class Wire:
    """A connection by its two ends."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends: tuple[weakref.ref[socket.socket], ...] = (weakref.ref(near), weakref.ref(far))
        self.stuck: list[End | None] = []  # how the ends were when they were found stuck

    def move(self, old: socket.socket, new: socket.socket) -> None:
        self._ends = tuple(weakref.ref(new) if ref() is old else ref for ref in self._ends)

    def others(self, sock: socket.socket) -> list[socket.socket]:
        """The other end than this one, if it is one of these, and is there."""
        ends = [ref() for ref in self._ends]
        return [one for one in ends if one is not None and one is not sock] if sock in ends else []

    def close(self) -> None:
        for ref in self._ends:
            sock = ref()
            if sock is not None:
                sock.close()

    def ends(self) -> list[End | None]:
        """Both ends, None for one that was closed here."""
        socks = [ref() for ref in self._ends]
        return [None if sock is None or sock.fileno() < 0 else End.of(sock) for sock in socks]


_wires: list[Wire] = []


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets: a socketpair of unix sockets knows no reset."""
    with socket.socket() as server:
        _shape(server)
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        near = socket.socket()
        _shape(near)
        near.connect(server.getsockname())
        far, _ = server.accept()
    for sock in (near, far):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _wires.append(Wire(near, far))
    return near, far


def _shape(sock: socket.socket) -> None:
    """Fix what the kernel would size by the pace of traffic, before the handshake that settles it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    # With the 64 KiB of loopback a window that is less than that opens by the timers of the kernel only.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
    with contextlib.suppress(OSError):  # Linux 6.15; older ones take their 40 ms for an acknowledgement
        sock.setsockopt(socket.IPPROTO_TCP, TCP_DELACK_MAX_US, DELAY_US)


def queued(listening: socket.socket) -> int:
    """How many connections wait to be accepted: of those that were just made the last packet may be under way."""
    return End.of(listening).unacked


def cut() -> None:
    """Close every end that is still open: a test that failed did not come to it, and the next one is not to blame."""
    for wire in _wires:
        wire.close()
    _wires.clear()


def moved(old: socket.socket, new: socket.socket) -> None:
    """Know an end by another socket of the same connection: somebody made one for the old one's descriptor."""
    for wire in _wires:
        wire.move(old, new)


def acknowledged(far: socket.socket) -> None:
    """Wait until all that was sent to this end has been acknowledged too, which may take the kernel its time: until then the other end
    counts it as not taken.
    """
    ends_at = time.monotonic() + PATIENCE_S
    for wire in _wires:
        for other in wire.others(far):
            while other.fileno() >= 0 and End.of(other).unacked:
                assert time.monotonic() < ends_at, "never acknowledged"
                time.sleep(NAP_S)


def arrived() -> bool:
    """Wait for what is under way on any wire; whether anything was."""
    waited = False
    for wire in (*_wires,):
        with contextlib.suppress(OSError):
            waited = _settled(wire) or waited
    return waited


def _settled(wire: Wire) -> bool:
    began_at = changed_at = time.monotonic()
    before = None
    while True:
        ends = wire.ends()
        if ends == [None, None]:
            _wires.remove(wire)
            return before is not None
        one, other = ends
        if ends == wire.stuck or not (_behind(one, other) or _behind(other, one)):
            return before is not None
        now = time.monotonic()
        if ends != before:
            changed_at = now
        elif now - changed_at > STUCK_S and _may_be_stuck(one, other):
            wire.stuck = ends
            return False
        assert now - began_at < PATIENCE_S, f"never arrived: {ends}"
        before = ends
        time.sleep(NAP_S)


def _behind(one: End | None, other: End | None) -> bool:
    """Whether something of the one end is still to come to the other."""
    if other is None or other.state == CLOSE:
        return False
    if one is None:
        # Its FIN or RST, and the RST for what was sent to it afterwards.
        return other.state not in HAS_HEARD_THE_END or other.unacked > 0
    if one.state == CLOSE:
        return other.state not in HAS_HEARD_THE_END
    ended = one.state in HAS_SENT_FIN and not one.unsent and other.state not in HAS_HEARD_THE_END
    # An acknowledgement may be delayed by 40 ms and more; it matters where the sender's buffer waits for it. So does the news
    # that the receiver has room again.
    waiting = one.unsent > 0 and (one.unacked > 0 or other.unread == 0)
    return ended or one.sent > other.received or waiting


def _may_be_stuck(one: End | None, other: End | None) -> bool:
    """Whether an end that was closed has more than the other one takes, which does not read."""
    left = one or other
    return (one is None or other is None) and left is not None and left.unread > 0
