"""Takeover: the unix socket on which a running instance hands its listening sockets to its successor."""

import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_lb.net.sockets import BUSY, GIVE, TAKEN, Held, hand, inode_of, may_meet, peer_of

_BACKLOG: Final = 8
_READ_BYTES: Final = 64

_log = Logger()


class Takeover:
    """The socket at `path`, from `open` to `close`. `held` are the sockets to hand over; `taken` is called, with the
    process that has them, once a successor accepts on them: then this instance is to stop accepting. `left` is called
    with a successor that ends before it accepts: that changes nothing.

    Its mode is 0600, and whoever connects has to be of the same user, or root.
    """

    def __init__(
        self,
        path: str,
        reactor: Any,
        held: Callable[[], Sequence[Held]],
        taken: Callable[[int], None],
        left: Callable[[int], None],
    ) -> None:
        self.path: Final = path
        self.held: Final = held
        self.taken: Final = taken
        self.left: Final = left
        self.reactor: Final = reactor
        self.successor: _Peer | None = None
        self._door: _Door | None = None
        self._inode: tuple[int, int] | None = None

    def open(self) -> None:
        """Listen from now on, in place of who listened there before, a successor that has left, say. OSError when that
        cannot be, or what is there is no socket.
        """
        sock = _listening_in_place(self.path)
        if self._door is not None:
            self._door.close()
        self._inode = inode_of(self.path)
        self._door = _Door(self, sock)
        self.reactor.addReader(self._door)

    def close(self) -> None:
        """Listen no more; the file goes, unless it is a successor's by now. Harmless when it is closed."""
        door, self._door = self._door, None
        if self.successor is not None:
            self.successor.close()
        if door is not None:
            door.close()
            if self._inode == inode_of(self.path):
                os.unlink(self.path)


def _listening_in_place(path: str) -> socket.socket:
    """A socket at this path that replaces another one without a moment in between."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(17, "not a socket")
    except FileNotFoundError:
        pass  # there is none: nobody was here before
    own = f"{path}.{os.getpid()}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(own)
        os.chmod(own, 0o600)  # nobody can connect before it listens
        sock.listen(_BACKLOG)
        os.rename(own, path)
    except BaseException:
        sock.close()
        if os.path.lexists(own):
            os.unlink(own)
        raise
    return sock


@implementer(IReadDescriptor)
class _Reading:
    """A descriptor that the reactor reads."""

    def __init__(self, takeover: Takeover, sock: socket.socket) -> None:
        self._takeover: Final = takeover
        self._sock: Final = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "takeover"

    def doRead(self) -> None:
        raise NotImplementedError

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has dropped it."""
        self._sock.close()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._takeover.reactor.removeReader(self)
            self._sock.close()


class _Door(_Reading):
    """Takes in whoever connects."""

    def doRead(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except OSError:
            return  # it has left again
        pid, uid = peer_of(connection)
        if not may_meet(uid):
            _log.warn("takeover refused: process {pid} is of user {uid}", pid=pid, uid=uid)
            connection.close()
            return
        connection.setblocking(False)
        self._takeover.reactor.addReader(_Peer(self._takeover, connection, pid))


class _Peer(_Reading):
    """A process that has connected: a successor, as soon as it asks."""

    def __init__(self, takeover: Takeover, sock: socket.socket, pid: int) -> None:
        super().__init__(takeover, sock)
        self._pid: Final = pid
        self._said = b""

    def doRead(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._said += data
        if not data or len(self._said) > _READ_BYTES:
            self._left()
        elif self._said == GIVE:
            self._said = b""
            self._give()
        elif self._said == TAKEN and self._takeover.successor is self:
            self._takeover.successor = None
            self.close()
            self._takeover.taken(self._pid)

    def _give(self) -> None:
        takeover = self._takeover
        if takeover.successor not in (None, self):
            self._sock.send(BUSY)
            self.close()
            return
        try:
            hand(self._sock, takeover.held())
        except OSError as error:
            _log.warn("process {pid} could not be handed the sockets: {error}", pid=self._pid, error=error)
            self._left()
            return
        takeover.successor = self
        _log.info("process {pid} prepares to take over", pid=self._pid)

    def _left(self) -> None:
        self.close()
        if self._takeover.successor is self:
            self._takeover.successor = None
            _log.warn("process {pid} left before it took over: nothing has changed", pid=self._pid)
            self._takeover.left(self._pid)
