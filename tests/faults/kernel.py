"""Sockets and an epoll in memory, for the real Transport on the real EpollPoller: what the kernel does, in the hands of
the fault injector.
"""

import _socket
import errno
import fcntl
import os
import random
import select
import socket
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
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

    @property
    def closed(self) -> bool:
        return self._closed

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


class _Known:
    """A socket whose descriptor stays somebody else's."""

    def __init__(self, sock: MemorySocket) -> None:
        self.shutdown = sock.shutdown

    def detach(self) -> None:
        pass


class DiallingSocket(MemorySocket):
    """A socket that connects, as the Dialer makes it: with an error, or in the end with pipes."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._fd = kernel.opened(self)
        self._shut = self._aborted = self._closed = False
        self._error = 0
        self._there = False
        self._attached = False
        self.cancel: Callable[[], None] = lambda: None
        self.kept: object = None

    def connect_ex(self, where: tuple) -> int:
        self._kernel.connects(self, where)
        return errno.EINPROGRESS

    def attach(self, incoming: Pipe, outgoing: Pipe, host: tuple, peer: tuple) -> None:
        """The connection is there, with these pipes; `connected` says so."""
        self._incoming, self._outgoing, self._host, self._peer = incoming, outgoing, host, peer
        self._attached = True
        incoming.when_readable = outgoing.when_room = lambda: self._kernel.changed(self._fd)

    def connected(self) -> None:
        self._there = True
        self._kernel.changed(self._fd)

    def fail(self, code: int) -> None:
        """The connect fails with this errno."""
        self._error = code
        self._kernel.changed(self._fd)

    def state(self) -> int:
        if self._there:
            return super().state()
        return WRITE | ERROR | HANGUP if self._error else 0

    def getsockopt(self, level: int, option: int) -> int:
        return super().getsockopt(level, option) if self._there else self._error

    def close(self) -> None:
        self.cancel()
        if self._attached:
            super().close()
        elif not self._closed:
            self._closed = True
            self._kernel.released(self._fd)


class TimerDescriptor:
    """A timerfd."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._due: float | None = None
        self._alarm: Any = None
        self.fd = kernel.opened(self)

    def set(self, at: float) -> None:
        self.disarm()
        self._due = at
        now = self._kernel.clock.seconds()
        self._alarm = self._kernel.clock.callLater(max(at - now, 0.0), lambda: self._kernel.changed(self.fd))

    def disarm(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()

    def read(self, fd: int, most: int) -> bytes:
        if not self.state():
            raise BlockingIOError(errno.EAGAIN, "not yet")
        self._due = None
        return bytes(8)

    def close(self) -> None:
        self.disarm()
        self._kernel.released(self.fd)

    def state(self) -> int:
        return READ if self._due is not None and self._due <= self._kernel.clock.seconds() else 0


class ReactorDescriptor:
    """The epoll of a reactor that is led: it has nothing to say."""

    def __init__(self, kernel: "Kernel") -> None:
        self._fd = kernel.opened(self)

    def fileno(self) -> int:
        return self._fd

    def state(self) -> int:
        return 0


class Kernel:
    """The descriptors of a process, and its one epoll, which turns when something changes. Events come in any order."""

    def __init__(self, clock: HeapClock, rng: random.Random) -> None:
        self.clock = clock
        self.files: dict[int, Any] = {}
        self.exact: Callable[[], float | None] = lambda: None  # the next of the moments that a timer is set for
        self.held = False  # the process is
        self.connects: Callable[[DiallingSocket, tuple], None] = lambda sock, where: (
            None
        )  # told of each that begins to connect
        self.turn: Callable[[], None] = lambda: None  # the poller's doRead
        self.after: Callable[[], None] = lambda: None
        self.closed = False
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

    def epoll_class(self) -> type:
        """What `select.epoll` is here: making one gives this kernel's, and `of_a_reactor` one for somebody else."""

        class Epoll(ReactorDescriptor):
            def __new__(cls) -> Any:
                return kernel

            @classmethod
            def of_a_reactor(cls) -> ReactorDescriptor:
                one = object.__new__(cls)
                one.__init__(kernel)  # type: ignore[misc]
                return one

        kernel = self
        return Epoll

    def system_calls(self) -> AbstractContextManager[object]:
        """Those that are made past the sockets, on descriptors of this kernel."""
        ioctl, read, write, close = fcntl.ioctl, os.read, os.write, os.close

        def our_ioctl(fd: int, request: int, argument: bytes) -> bytes:
            if fd < FIRST_FD:
                return ioctl(fd, request, argument)
            assert request == termios.TIOCOUTQ
            if fd not in self.files:
                raise OSError(errno.EBADF, "bad file descriptor")
            return self.files[fd].queued().to_bytes(4, "little")

        def our_read(fd: int, most: int) -> bytes:
            return read(fd, most) if fd < FIRST_FD else self.files[fd].read(fd, most)

        def our_close(fd: int) -> None:
            close(fd) if fd < FIRST_FD else self.files[fd].close()

        def our_write(fd: int, data: bytes) -> int:
            return write(fd, data) if fd < FIRST_FD else self.files[fd].write(fd, data)

        kernel = self

        class Socket(socket.socket):
            """One that connects."""

            def __new__(cls, *words: object) -> Any:
                return DiallingSocket(kernel)

        class Known(_socket.socket):
            """One of a descriptor."""

            def __new__(cls, family: int, kind: int, protocol: int, fd: int) -> Any:
                return _Known(kernel.files[fd])

        patches = ExitStack()
        patches.enter_context(patch.object(_socket, "socket", Known))
        patches.enter_context(patch.object(socket, "socket", Socket))
        patches.enter_context(patch.object(os, "write", our_write))
        patches.enter_context(patch.object(fcntl, "ioctl", our_ioctl))
        patches.enter_context(patch.object(os, "read", our_read))
        patches.enter_context(patch.object(os, "close", our_close))
        return patches

    # The C library, for timers.

    def timerfd_create(self, which: int, flags: int) -> int:
        return TimerDescriptor(self).fd

    def timerfd_settime(self, fd: int, flags: int, spec: Any, before: None) -> int:
        """By the nanosecond; the rest of a nanosecond is not lost here, for time stands still while there is work."""
        at, exact = spec[2] + spec[3] / 1e9, self.exact()
        self.files[fd].set(at if exact is None or abs(exact - at) > 1e-8 else exact)
        return 0

    # Sockets.

    def opened(self, file: Any) -> int:
        self._next_fd += 1
        self.files[self._next_fd] = file
        return self._next_fd

    def released(self, fd: int) -> None:
        # epoll(7): closing takes a descriptor out, where nobody else has it.
        del self.files[fd]
        self._interest.pop(fd, None)
        self._changed.discard(fd)

    @property
    def sockets(self) -> list[MemorySocket]:
        """Those that are open."""
        return [file for file in self.files.values() if isinstance(file, MemorySocket)]

    def changed(self, fd: int) -> None:
        if fd in self._interest:
            self._changed.add(fd)
            self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._due:
            self._due = True
            self.clock.callLater(0, self._turn)

    def hold(self, *, held: bool) -> None:
        """Hold the process, or let it go on: it does nothing meanwhile."""
        self.held = held
        if not held and self._changed:
            self._turn_soon()

    def _turn(self) -> None:
        self._due = False
        if self.held:
            return
        self.turn()
        self.after()
        if self._changed:
            self._turn_soon()

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
            flags = self.files[fd].state() & (self._interest[fd] | ERROR | HANGUP)
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
        self.closed = True
