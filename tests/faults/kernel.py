"""Sockets and an epoll in memory, for the real Transport on the real EpollPoller: what the kernel does, in the hands of
the fault injector.
"""

import errno
import fcntl
import random
import select
import socket
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

from twisted_lb.net.clock import Clock
from twisted_lb.net.poller import ERROR, HANGUP, PEER_CLOSED, READ, WRITE, EpollPoller
from twisted_lb.testing import HeapClock
from twisted_lb.testing.pipe import Pipe

# Far above every descriptor of the process: a call that slips through to the kernel fails.
FIRST_FD = 1_000_000
# Of what a pipe holds, the part that stands for the receiver's buffer: the kernel counts it as delivered.
_RECEIVED = 32768


class MemorySocket:
    """One end of a connection, as the socket module gives it."""

    family = socket.AF_INET

    def __init__(self, kernel: "Kernel", incoming: Pipe, outgoing: Pipe, host: tuple, peer: tuple) -> None:
        self._kernel = kernel
        self._incoming = incoming
        self._outgoing = outgoing
        self._host = host
        self._peer = peer
        self._fd = kernel.opened(self)
        self._shut = False
        self._aborted = False
        self._closed = False
        incoming.when_readable = outgoing.when_room = lambda: kernel.changed(self._fd)

    def fileno(self) -> int:
        return self._fd

    def getpeername(self) -> tuple:
        return self._peer

    def getsockname(self) -> tuple:
        return self._host

    def read(self, fd: int, most: int) -> bytes:
        assert fd == self._fd
        assert not self._closed
        if self._incoming.bytes:
            return self._incoming.take(most)
        if self._incoming.reset:
            raise ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
        if self._incoming.ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, "nothing here")

    def write(self, fd: int, data: bytes) -> int:
        assert fd == self._fd
        assert not self._closed
        if self._shut or self._incoming.reset:
            raise BrokenPipeError(errno.EPIPE, "broken pipe")
        taken = self._outgoing.put(data)
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "no room")
        return taken

    def writev(self, fd: int, pieces: list[bytes]) -> int:
        return self.write(fd, b"".join(pieces))

    def sendmsg(self, pieces: list) -> int:
        return self.write(self._fd, b"".join(pieces))

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        if self._incoming.reset:
            raise OSError(errno.ENOTCONN, "not connected")
        self._shut = True
        self._outgoing.end()

    def setsockopt(self, level: int, option: int, value: object) -> None:
        if option == socket.SO_LINGER:
            self._aborted = True

    def getsockopt(self, level: int, option: int) -> int:
        assert option == socket.SO_ERROR
        return errno.ECONNRESET if self._incoming.reset else 0

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._kernel.released(self._fd)
        if self._aborted or self._incoming.bytes or self._incoming.reset:
            self._outgoing.cut()
        else:
            self._outgoing.end()
        self._incoming.close()

    # The kernel's own view.

    def state(self) -> int:
        """The flags that epoll would report with every interest."""
        incoming = self._incoming
        flags = 0
        if incoming.bytes or incoming.ended or incoming.reset:
            flags |= READ
        if incoming.ended or incoming.reset:
            flags |= PEER_CLOSED
        if incoming.reset:
            flags |= ERROR | HANGUP | WRITE
        elif incoming.ended and self._shut:
            flags |= HANGUP
        if self._outgoing.room or self._outgoing.closed:
            flags |= WRITE
        return flags

    def queued(self) -> int:
        """What the peer's kernel has not taken."""
        return max(self._outgoing.queued - _RECEIVED, 0)  # type: ignore[attr-defined]


class Kernel:
    """The descriptors of a process, and its one epoll, which turns when something changes. Events come in any order."""

    def __init__(self, clock: HeapClock, rng: random.Random) -> None:
        self.sockets: dict[int, MemorySocket] = {}
        self.turn: Callable[[], None] = lambda: None  # the poller's doRead
        self.after: Callable[[], None] = lambda: None
        self.epoll_closed = False
        self._clock = clock
        self._rng = rng
        self._next_fd = FIRST_FD
        self._interest: dict[int, int] = {}
        self._changed: set[int] = set()
        self._due = False

    def poller(self, clock: Clock, later: Callable[..., object], lost: Callable[[], None]) -> EpollPoller:
        """The real one, which asks `select` for its epoll."""
        with patch.object(select, "epoll", lambda: self):
            poller = EpollPoller(clock, later, lost, self._rng.choice([1, 16]))
        self.turn = poller.doRead
        return poller

    def counting_what_is_queued(self) -> AbstractContextManager[object]:
        """For Transport.backlog, which asks the kernel."""
        real = fcntl.ioctl

        def ioctl(fd: int, request: int, argument: bytes) -> bytes:
            if fd < FIRST_FD:
                return real(fd, request, argument)
            assert request == termios.TIOCOUTQ
            if fd not in self.sockets:
                raise OSError(errno.EBADF, "bad file descriptor")
            return self.sockets[fd].queued().to_bytes(4, "little")

        return patch.object(fcntl, "ioctl", ioctl)

    # Sockets.

    def opened(self, sock: MemorySocket) -> int:
        self._next_fd += 1
        self.sockets[self._next_fd] = sock
        return self._next_fd

    def released(self, fd: int) -> None:
        del self.sockets[fd]
        assert fd not in self._interest, "closed while the epoll watches it"

    def changed(self, fd: int) -> None:
        if fd in self._interest:
            self._changed.add(fd)
            if not self._due:
                self._due = True
                self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._due = False
        self.turn()
        self.after()
        if self._changed and not self._due:
            self._due = True
            self._clock.callLater(0, self._turn)

    # The epoll.

    def register(self, fd: int, interest: int) -> None:
        assert fd not in self._interest
        self._interest[fd] = interest
        self.changed(fd)

    def modify(self, fd: int, interest: int) -> None:
        assert fd in self._interest
        self._interest[fd] = interest
        self.changed(fd)

    def unregister(self, fd: int) -> None:
        del self._interest[fd]
        self._changed.discard(fd)

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        events = []
        for fd in sorted(self._changed):
            flags = self.sockets[fd].state() & (self._interest[fd] | ERROR | HANGUP)
            if flags:
                events.append((fd, flags))
            else:
                self._changed.discard(fd)
        self._rng.shuffle(events)
        # Some are late, as in a batch that is full.
        return events[: self._rng.randint(1, len(events))] if events else []

    def fileno(self) -> int:
        return FIRST_FD

    def close(self) -> None:
        self.epoll_closed = True
