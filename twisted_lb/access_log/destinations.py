"""Destinations: where the lines of the access log go. None of them waits for whoever reads there."""

import contextlib
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol

from twisted_lb.access_log.moments import Stamps, syslog_time
from twisted_lb.access_log.rules import STDOUT, SYSLOG
from twisted_lb.errors import StartError
from twisted_lb.log_files import LogFile

# Of a new file: its group may read it, as it may read NGINX's.
_MODE: Final = 0o640
# O_NONBLOCK: a named pipe that nobody reads must not hold the start up; it means nothing to a file on a disk.
_OPEN: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
# A pipe that can be written to has room for so much (POSIX: PIPE_BUF).
_PIPE_BYTES: Final = select.PIPE_BUF
_DEV_LOG: Final = "/dev/log"
# RFC 3164 4.1.1: facility local0 (16), severity informational (6), as HAProxy's configurations mostly have it.
_PRIORITY: Final = 16 * 8 + 6
# rsyslog cuts a message that is longer.
_DATAGRAM_BYTES: Final = 8192

# A user and a group, by their numbers; -1 is whoever opens it.
Owner = tuple[int, int]
NOBODY: Final[Owner] = (-1, -1)


class Destination(Protocol):
    """Where lines go.

    `lost`: lines that it could not give to anybody, and will not.
    """

    lost: int

    @property
    def where(self) -> str:
        """What it is called in messages."""

    @property
    def may_block(self) -> bool:
        """Whether writing there may take as long as a disk takes."""

    def write(self, data: bytes) -> int:
        """Take whole lines, or what is left of some: how many bytes were taken; the rest may be tried again. OSError where
        nothing can be taken, now or later.
        """

    def reopen(self) -> None:
        """Somebody has renamed it: begin anew under the name."""

    def wait(self, most_s: float) -> None:
        """Wait until it may take something, at most so long: nothing else is to be done any more."""

    def close(self) -> None:
        """Let go of it."""


class FileDestination:
    """A file, to whose end lines are appended, whoever else writes there. It is opened anew when it was renamed."""

    may_block = True

    def __init__(self, path: str, owner: Owner = NOBODY) -> None:
        """StartError where it cannot be opened. A file that is made is this owner's."""
        self.lost: int = 0
        self.where: Final = path
        try:
            try:
                descriptor = os.open(path, _OPEN | os.O_EXCL, _MODE)
            except FileExistsError:
                descriptor = os.open(path, _OPEN, _MODE)
            else:
                # Not one that was there: who may write to its folder could have put a link to any file in its place.
                with contextlib.suppress(OSError):
                    os.fchown(descriptor, *owner)
                with contextlib.suppress(OSError):
                    os.fchmod(descriptor, _MODE)  # whatever the umask is: a daemon's is 077
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise StartError(f"the access log {path} cannot be opened: {reason}") from None
        self._file: Final = LogFile(path, descriptor, most_bytes=0, old_files=0)

    def write(self, data: bytes) -> int:
        """See Destination."""
        try:
            return self._file.append(data)
        except BlockingIOError:
            return 0  # a named pipe that is full

    def reopen(self) -> None:
        """See Destination."""
        self._file.reopen()

    def wait(self, most_s: float) -> None:
        """See Destination."""
        time.sleep(min(most_s, 0.01))

    def close(self) -> None:
        """See Destination."""
        self._file.close()


class StreamDestination:
    """Standard output, whatever it is: a file, a terminal, a pipe, a socket of a service manager. It is shared with others, so
    that it may not be made one that never blocks; instead no more is written than there is room for.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self.lost: int = 0
        self.where: Final = STDOUT
        # twistd puts its log in the place of sys.stdout.
        self._descriptor: Final = os.dup(_stdout() if descriptor is None else descriptor)
        kind = os.fstat(self._descriptor).st_mode
        self._socket: Final = socket.socket(fileno=self._descriptor) if stat.S_ISSOCK(kind) else None
        self.may_block: Final = stat.S_ISREG(kind)
        self._poll: Final = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)

    def write(self, data: bytes) -> int:
        """See Destination."""
        if self.may_block:
            return os.write(self._descriptor, data)
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            sent = 0
            while sent < len(data) and self._poll.poll(0):
                sent += os.write(self._descriptor, data[sent : sent + _PIPE_BYTES])
        except BlockingIOError:
            return 0
        return sent

    def reopen(self) -> None:
        """See Destination: it has no name."""

    def wait(self, most_s: float) -> None:
        """See Destination."""
        self._poll.poll(most_s * 1000)

    def close(self) -> None:
        """See Destination."""
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._descriptor)


class SyslogDestination:
    """The system's log, over its socket: a datagram for each line, in the form of RFC 3164 that HAProxy sends there. What it
    does not take at once is lost.
    """

    may_block = False

    def __init__(self, path: str = _DEV_LOG, wall: Callable[[], float] = time.time) -> None:
        """StartError where nobody listens there."""
        self.lost: int = 0
        self.where: Final = SYSLOG
        self._path: Final = path
        self._wall: Final = wall
        self._stamps: Final = Stamps(syslog_time)
        self._socket: socket.socket | None = None
        try:
            self._connect()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StartError(f"the access log cannot go to syslog: {path}: {reason}") from None

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setblocking(False)
        try:
            made.connect(self._path)
        except OSError:
            made.close()
            raise
        self._socket = made
        return made

    def write(self, data: bytes) -> int:
        """See Destination: all of it is taken, or lost."""
        head = b"<%d>%b twisted_lb[%d]: " % (_PRIORITY, self._stamps.at(int(self._wall())), os.getpid())
        lines = data.split(b"\n")
        del lines[-1]
        for number, line in enumerate(lines):
            if not self._sent((head + line)[:_DATAGRAM_BYTES]):
                self.lost += len(lines) - number
                break
        return len(data)

    def _sent(self, message: bytes) -> bool:
        """Whether somebody has the message; once more where the log's server is another one by now."""
        for _ in range(2):
            try:
                (self._socket or self._connect()).send(message)
            except BlockingIOError:
                return False
            except OSError:
                self.close()
            else:
                return True
        return False

    def reopen(self) -> None:
        """See Destination."""
        self.close()

    def wait(self, most_s: float) -> None:
        """See Destination: there is nothing to wait for."""

    def close(self) -> None:
        """See Destination."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _stdout() -> int:
    """The descriptor of standard output, also where there is no such file object."""
    return 1 if sys.__stdout__ is None else sys.__stdout__.fileno()


def destination_of(file: str, owner: Owner = NOBODY) -> Destination:
    """The destination of this name; StartError where it cannot be had. A file that is made is this owner's."""
    if file == SYSLOG:
        return SyslogDestination()
    return StreamDestination() if file == STDOUT else FileDestination(file, owner)
