"""The poller where there is no epoll: every descriptor is registered with the reactor itself. Slower, otherwise alike."""

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorFDSet, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_lb.net.clock import Clock, Later
from twisted_lb.net.poller import ERROR, HANGUP, READ, WRITE, Pollable, Poller


@implementer(IReadWriteDescriptor)
class _Watched:
    """One descriptor as the reactor wants it."""

    def __init__(self, fd: int, handler: Pollable, dispatch: Callable[[Pollable, int], None]) -> None:
        self._fd: Final = fd
        self._handler: Pollable = handler
        self._dispatch: Final = dispatch
        self.gone = False

    def hand_over(self, handler: Pollable) -> None:
        self._handler = handler

    def fileno(self) -> int:
        return -1 if self.gone else self._fd

    def logPrefix(self) -> str:
        return "poller"

    def doRead(self) -> None:
        if not self.gone:
            self._dispatch(self._handler, READ)

    def doWrite(self) -> None:
        if not self.gone:
            self._dispatch(self._handler, WRITE)

    def connectionLost(self, reason: Failure) -> None:
        # The reactor has taken the descriptor out; a waiting writer has to find out too.
        if not self.gone:
            self._dispatch(self._handler, READ | WRITE | HANGUP | ERROR)


class ReactorPoller(Poller):
    """The poller over `addReader` and `addWriter`. Without interest in reading, hang-ups are not reported."""

    def __init__(
        self,
        reactor: IReactorFDSet,
        clock: Clock,
        later: Later,
    ) -> None:
        super().__init__(clock, later)
        self._reactor: Final = reactor
        self._watched: dict[int, _Watched] = {}

    def add(self, fd: int, handler: Pollable, interest: int) -> None:
        """See Poller."""
        self._watched[fd] = _Watched(fd, handler, self._batch)
        self.change(fd, interest)

    def change(self, fd: int, interest: int) -> None:
        """See Poller."""
        watched = self._watched[fd]
        if interest & READ:
            self._reactor.addReader(watched)
        else:
            self._reactor.removeReader(watched)
        if interest & WRITE:
            self._reactor.addWriter(watched)
        else:
            self._reactor.removeWriter(watched)

    def hand_over(self, fd: int, handler: Pollable) -> None:
        """See Poller."""
        self._watched[fd].hand_over(handler)

    def park(self, fd: int) -> None:
        """See Poller."""
        self.change(fd, 0)

    def remove(self, fd: int) -> None:
        """See Poller."""
        watched = self._watched.pop(fd, None)
        if watched is not None:
            self._reactor.removeReader(watched)
            self._reactor.removeWriter(watched)
            watched.gone = True

    @property
    def watched(self) -> int:
        """See Poller."""
        return len(self._watched)

    def _batch(self, handler: Pollable, flags: int) -> None:
        self.clock.read()
        self._dispatching = True
        self._dispatch(handler, flags)
        self._settle()
