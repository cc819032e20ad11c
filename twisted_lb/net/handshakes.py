"""TLS handshakes under way: bounded, and a few at a time, so that a flood of them does not stop requests that run."""

from typing import Final, Protocol

from twisted_lb.net.clock import Later

# Fairness: a full handshake keeps the process for up to half a millisecond, nearly all of it where the ClientHello is answered. With eight at
# once the median of running requests was five times as late in a flood of them (benchmarks/handshake_flood.py).
AT_ONCE: Final = 2


class Beginner(Protocol):
    """Who waits for its turn to answer a ClientHello."""

    def begin_handshake(self) -> None:
        """It is its turn."""


class Hellos:
    """The ClientHellos that a process answers: `AT_ONCE` in one turn of its reactor, over all listeners. Turns are counted and not
    moments: without an epoll each event has a moment of its own.
    """

    def __init__(self, later: Later) -> None:
        self._later: Final = later
        self._begun: int = 0  # in this turn

    def claim(self) -> bool:
        """Count one that is to be answered now; False where others have to have their turn before."""
        if not self._begun:
            self._later(0, self._turn)
        self._begun += 1
        return self._begun <= AT_ONCE

    def _turn(self) -> None:
        self._begun = 0


class Handshakes:
    """The handshakes of one listener: at most `most` are under way. Who is beyond that, or beyond what a process answers at once,
    waits for its turn, first come, first served. `open` are under way.
    """

    def __init__(self, hellos: Hellos, later: Later) -> None:
        self.most: int = 1000
        self.open: int = 0
        self._hellos: Final = hellos
        self._later: Final = later
        self._waiting: dict[Beginner, None] = {}  # an ordered set
        self._scheduled: bool = False

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    def claim(self, beginner: Beginner) -> bool:
        """Count a handshake that begins; False: not yet, `begin_handshake` is called when it may, and counted then."""
        if self._waiting or self.open >= self.most or not self._hellos.claim():
            self._waiting[beginner] = None
            self._schedule()
            return False
        self.open += 1
        return True

    def withdraw(self, beginner: Beginner) -> None:
        """Forget one that waits. Harmless when it does not."""
        self._waiting.pop(beginner, None)

    def end(self) -> None:
        """Count the end of a handshake, once for each that began."""
        self.open -= 1
        if self._waiting:
            self._schedule()

    def configure(self, most: int) -> None:
        """Have another bound. Those under way go on."""
        self.most = most
        if self._waiting:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self.open < self.most:
            self._scheduled = True
            self._later(0, self._go_on)

    def _go_on(self) -> None:
        """Begin those whose turn it is: all others had theirs since the last ones."""
        self._scheduled = False
        while self._waiting and self.open < self.most and self._hellos.claim():
            beginner = next(iter(self._waiting))
            del self._waiting[beginner]
            self.open += 1
            beginner.begin_handshake()
        if self._waiting:
            self._schedule()

    def __repr__(self) -> str:
        return f"<Handshakes {self.open} of {self.most} open, {len(self._waiting)} waiting>"
