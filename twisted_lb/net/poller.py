"""The poller: an epoll beside the reactor's. Twisted watches one descriptor; ours are dispatched when it is readable.

It takes the reactor's cost per event away and leaves Twisted in charge of everything else. In a process of our own it
leads: the process waits in our epoll, which watches the reactor's as one descriptor. Where there is no epoll,
`ReactorPoller` offers the same on the reactor directly.
"""

import _socket
import os
import select
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.net.clock import Clock, Later, Timer

# The flags of epoll, also where it does not exist: they are the interface.
READ: Final = 0x001
WRITE: Final = 0x004
ERROR: Final = 0x008
HANGUP: Final = 0x010
PEER_CLOSED: Final = 0x2000

# One batch; what is left is reported again at once, after the reactor had its turn.
_BATCH: Final = 512
# While a batch is worked off the peers go on, and asking again costs a tenth of a turn of the reactor: up to so many
# batches in one turn, as long as they are small.
_BATCHES: Final = 16
# After so many turns without a second batch, as with one connection, only one turn of so many asks for it.
_ALONE: Final = 16
# Events in one batch from which on each gets less: a crowd of bulk transfers must not keep the small requests waiting.
_CROWD: Final = 128
# Callbacks queued by callbacks: past this depth they wait for the reactor.
_ROUNDS: Final = 8

_log = Logger("twisted_lb.net.poller")  # by name: compiled, there is no frame to learn it from


class Pollable:
    """An owner of a descriptor: `ready(flags)` says that a look is worth it, `crashed` that its handler raised."""

    def ready(self, flags: int) -> None:
        """Look at the descriptor; flags only choose where."""
        raise NotImplementedError

    def crashed(self) -> None:
        """Close at once: `ready` raised, which is a bug that is logged and must not touch the other connections."""
        raise NotImplementedError

    def batch_ended(self) -> None:
        """The batch is over, after which it wanted to be told (`Poller.tell_after_batch`)."""
        raise NotImplementedError


class Poller:
    """What transports and listeners need: interest in descriptors, and a place for what must wait until after the batch.

    The clock is read once at the beginning of each batch.
    """

    def __init__(self, clock: Clock, later: Later) -> None:
        self.clock: Final = clock
        self._later: Final = later
        # Whether very many have something to do in this batch: then each should do a little only.
        self.crowded: bool = False
        self._dispatching: bool = False
        self._flush_due: bool = False
        self._flush_call: Timer | None = None
        self._queue: list[Callable[[], None] | Pollable] = []
        self._closing: list[_socket.socket | int] = []

    def add(self, fd: int, handler: Pollable, interest: int) -> None:
        """Watch a descriptor that was not watched."""
        raise NotImplementedError

    def change(self, fd: int, interest: int) -> None:
        """Watch a descriptor for something else; 0 still reports errors and hang-ups."""
        raise NotImplementedError

    def hand_over(self, fd: int, handler: Pollable) -> None:
        """Let another handler have the events of a descriptor that is watched; what it is watched for stays."""
        raise NotImplementedError

    def park(self, fd: int) -> None:
        """Watch a descriptor for nothing at all, errors included, until the next `change`."""
        raise NotImplementedError

    def remove(self, fd: int) -> None:
        """Watch a descriptor no more; events of it that are late in this batch are dropped."""
        raise NotImplementedError

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more that is closed after this batch, and that no other process has."""
        self.remove(fd)

    @property
    def watched(self) -> int:
        """How many descriptors are watched."""
        raise NotImplementedError

    def stop(self) -> None:
        """Give the reactor back what belongs to it."""
        self.flush()
        if self._flush_due and self._flush_call is not None:
            self._flush_due = False
            self._flush_call.cancel()

    def soon(self, callback: Callable[[], None]) -> None:
        """Call a function after this batch, or on the reactor's next turn outside one; never before this returns."""
        self._queue.append(callback)
        self._schedule()

    def tell_after_batch(self, handler: Pollable) -> None:
        """Tell a handler when this batch is over, in the order of what is called `soon`: for each connection, and nothing is made for it."""
        self._queue.append(handler)
        self._schedule()

    def close_later(self, sock: _socket.socket | int) -> None:
        """Close a socket, or a descriptor, after the batch, so that its number does not come back within it."""
        self._closing.append(sock)
        self._schedule()

    def _schedule(self) -> None:
        if not self._dispatching and not self._flush_due:
            self._flush_due = True
            self._flush_call = self._later(0, self._flush_on_turn)

    def _flush_on_turn(self) -> None:
        self._flush_due = False
        self.clock.read()
        self._dispatching = True
        self._settle()

    def flush(self) -> None:
        """Deliver what is queued now: for a stop, and for tests."""
        self._dispatching = True
        self._settle()

    def _settle(self) -> None:
        """End a batch: deliver what was queued, then close what was closed."""
        rounds = 0
        while self._queue and rounds < _ROUNDS:
            rounds += 1
            queue = self._queue
            self._queue = []
            for callback in queue:
                try:
                    if isinstance(callback, Pollable):
                        callback.batch_ended()
                    else:
                        callback()
                except Exception:
                    _log.failure("a queued delivery failed")
        closing = self._closing
        if closing:
            self._closing = []
            for sock in closing:
                try:
                    if isinstance(sock, int):
                        os.close(sock)
                    else:
                        sock.close()
                except OSError:
                    _log.failure("closing a socket failed")
        self._dispatching = False
        if self._queue:
            self._schedule()

    def _dispatch(self, handler: Pollable, flags: int) -> None:
        """Dispatch one event, guarded: an exception that left here would make Twisted drop the poller for good."""
        try:
            handler.ready(flags)
        except Exception:
            self._failed(handler)

    def _failed(self, handler: Pollable) -> None:
        """Called while the exception is being handled, for the log."""
        _log.failure("an event handler failed; its connection is closed")
        try:
            handler.crashed()
        except Exception:
            _log.failure("closing it failed too")


class _Forks:
    """Whether this process has forked: then others may have its descriptors."""

    def __init__(self) -> None:
        self.seen: bool = False

    def note(self) -> None:
        """It has."""
        self.seen = True


# Of the process, as the hook is: Python knows no way to take one back.
_forks: Final = _Forks()
os.register_at_fork(after_in_parent=_forks.note, after_in_child=_forks.note)


class EpollPoller(Poller):
    """The poller over an epoll: the reactor sees it as one readable descriptor (an IReadDescriptor by duck), or is led.

    `lost` is called when nothing drives it any more outside `stop`: nothing moves then, so the process must end.
    """

    def __init__(
        self,
        clock: Clock,
        later: Later,
        lost: Callable[[], None],
        max_batches: int = _BATCHES,
    ) -> None:
        super().__init__(clock, later)
        self._epoll: Final = select.epoll()
        self._register: Final[Callable[[int, int], None]] = self._epoll.register
        # By descriptor: the kernel gives out the lowest number that is free.
        self._handlers: list[Pollable | None] = []
        self._watched: int = 0
        self._parked: set[int] = set()
        self._lost: Final = lost
        self._max_batches: Final = max_batches
        self._alone: int = 0  # turns in a row that had one batch
        self._stopped: bool = False
        # What is led: the descriptor of a reactor's own epoll, and its iteration.
        self._led: int = -1
        self._led_ready: bool = False
        self._led_iteration: Callable[[float | None], object] | None = None

    def fileno(self) -> int:
        """The epoll's own descriptor, -1 once closed."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        """Twisted asks for it."""
        return "poller"

    def lead(self, fd: int, iteration: Callable[[float | None], object]) -> None:
        """Lead a reactor from now on, instead of being one of its readers: `fd` is its own epoll, `iteration` waits for
        that one, so many seconds. The reactor has to call `iterate` in its place.
        """
        self._make_place(fd)
        self._epoll.register(fd, READ)
        self._led = fd
        self._led_iteration = iteration

    @property
    def leads(self) -> bool:
        """Whether a reactor is led."""
        return self._led_iteration is not None

    def iterate(self, delay_s: float | None) -> None:
        """One iteration of the reactor that is led: wait, for so many seconds or for ever, and dispatch; then let the
        reactor dispatch what is its own. One system call less for each turn, and no epoll that has to wake another.
        """
        iteration = self._led_iteration
        assert iteration is not None
        if self._led < 0:
            iteration(delay_s)  # it is on its way to its stop
            return
        self._led_ready = False
        try:
            self._work(-1.0 if delay_s is None else delay_s)
        except (OSError, ValueError):
            _log.failure("the poller cannot wait any more")
            self._led = -1
            self._lost()
        if self._led_ready:
            iteration(0.0)

    def doRead(self) -> None:
        """Dispatch what is here. Called by the reactor."""
        self._work(0.0)

    def _work(self, wait_s: float) -> None:
        """Wait for a batch and dispatch it, and the next one if it is here already; a few at the most."""
        events = self._poll(wait_s)
        for _ in range(self._max_batches - 1):
            if not events or events >= _BATCH or self._stopped:
                return
            if self._alone >= _ALONE:
                self._alone += 1
                if self._alone % _ALONE:
                    return
            batch = self._poll(0.0)
            if not batch:
                self._alone += 1
                return
            self._alone = 0
            events += batch

    def _poll(self, wait_s: float) -> int:
        """Dispatch one batch; returns how many events it had."""
        batch = self._epoll.poll(wait_s, _BATCH)
        self.clock.read()
        self._dispatching = True
        self.crowded = len(batch) > _CROWD
        handlers = self._handlers
        for fd, flags in batch:
            handler = handlers[fd]
            if handler is not None:
                try:
                    handler.ready(flags)
                except Exception:
                    self._failed(handler)
            elif fd == self._led:
                self._led_ready = True
        if self._queue or self._closing:
            self._settle()
        else:
            self._dispatching = False
        return len(batch)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor dropped the poller."""
        if not self._stopped:
            _log.critical("the reactor dropped the poller: {reason}", reason=reason)
            self._lost()

    def add(self, fd: int, handler: Pollable, interest: int) -> None:
        """See Poller."""
        self._register(fd, interest)
        if fd >= len(self._handlers):
            self._make_place(fd)
        self._handlers[fd] = handler
        self._watched += 1

    def _make_place(self, fd: int) -> None:
        """Make a place for the handler of a descriptor with a higher number than any before."""
        self._handlers += [None] * (fd + 1 - len(self._handlers))

    def _take(self, fd: int) -> bool:
        """Take a descriptor's handler out; False where it has none."""
        handlers = self._handlers
        if not 0 <= fd < len(handlers) or handlers[fd] is None:
            return False
        handlers[fd] = None
        self._watched -= 1
        return True

    def change(self, fd: int, interest: int) -> None:
        """See Poller."""
        if fd in self._parked:
            self._parked.discard(fd)
            self._register(fd, interest)
        else:
            self._epoll.modify(fd, interest)

    def hand_over(self, fd: int, handler: Pollable) -> None:
        """See Poller."""
        self._handlers[fd] = handler

    def park(self, fd: int) -> None:
        """See Poller."""
        if fd not in self._parked:
            self._parked.add(fd)
            self._epoll.unregister(fd)

    def remove(self, fd: int) -> None:
        """See Poller."""
        if not self._take(fd):
            return
        if fd in self._parked:
            self._parked.discard(fd)
        else:
            self._epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """See Poller. Its close takes it out of the epoll, without a call of its own, unless a fork has made it another process's too: the
        kernel would report it for ever (epoll(7), questions 6 and 8).
        """
        if _forks.seen:
            self.remove(fd)
        elif self._take(fd) and self._parked:
            self._parked.discard(fd)

    def handler_of(self, fd: int) -> Pollable | None:
        """Who has the events of a descriptor, None for nobody."""
        return self._handlers[fd] if 0 <= fd < len(self._handlers) else None

    @property
    def watched(self) -> int:
        """See Poller."""
        return self._watched

    def stop(self) -> None:
        """Deliver what is queued and close the epoll; the caller has taken it out of the reactor."""
        self._stopped = True
        super().stop()
        self._epoll.close()
