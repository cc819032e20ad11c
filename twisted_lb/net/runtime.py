"""The runtime: time, chance, deadlines and the way to the network. One per process, test or simulation."""

from collections.abc import Callable
from email.utils import formatdate
from random import Random
from typing import Any, Final

from twisted_lb.core.share import ALONE, Share
from twisted_lb.core.trace import Trace, chosen
from twisted_lb.net.clock import Clock, Later, Soon
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.net.dialer import GreetingDial
from twisted_lb.net.handshakes import Hellos
from twisted_lb.net.memory import Memory
from twisted_lb.net.names import Names
from twisted_lb.net.pipes import Pipes
from twisted_lb.net.poller import Poller
from twisted_lb.wire.trace_context import trace_parent

# By more than this the wall clock has stepped; less is what may pass between the readings of two clocks.
_STEP_S: Final = 0.1


class Runtime:
    """What all parts of one process share. Durations are monotonic seconds; `wall` is for Date fields and logs alone.

    `memory` bounds what all of them hold of bodies, `hellos` how many handshakes of TLS are begun at once, `pipes` are those that bulk
    goes through. `later` calls back after a time, `soon` when all others had their turn. `time` is the same time as Twisted's
    IReactorTime, for LoopingCalls. `dial` connects, and goes by `names`. `poller` drives sockets; None where the network is in
    memory and has none. `stopwatch` measures how long a call takes, in seconds; None: nobody measures that, as on virtual time.
    `share`: what several processes have together.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        wall: Clock,
        later: Later,
        soon: Soon,
        time: Any,
        dial: GreetingDial,
        names: Names,
        deadlines: Deadlines,
        poller: Poller | None,
        seed: int,
        stopwatch: Callable[[], float] | None = None,
        share: Share = ALONE,
    ) -> None:
        self.clock: Final = clock
        self.wall: Final = wall
        self.later: Final = later
        self.soon: Final = soon
        self.time: Final = time
        self.dial: Final = dial
        self.names: Final = names
        self.deadlines: Final = deadlines
        self.poller: Final = poller
        self.seed: Final = seed
        self.stopwatch: Final = stopwatch
        self.share: Final = share
        self.memory: Final = Memory(soon, shared=share.amount("memory of bodies"))
        self.hellos: Final = Hellos(later)
        self.pipes: Final = Pipes()
        self._epoch: float = float("-inf")
        self._ids: Final = self.stream("ids")
        self._date: bytes = b""
        self._date_until: float = float("-inf")

    def epoch(self) -> float:
        """What is to be added to monotonic seconds for those since 1970: the same each time until the wall clock steps, so that
        a moment is called the same whenever somebody asks.
        """
        epoch = self.wall.read() - self.clock.read()
        if abs(epoch - self._epoch) > _STEP_S:
            self._epoch = epoch
        return self._epoch

    def stream(self, name: str) -> Random:
        """A random stream of its own, the same for the same seed and name: a draw more in one stream moves no other."""
        return Random(f"{self.seed}/{name}")

    def new_id(self, bits: int = 128) -> bytes:
        """A random id in hexadecimal, never all zeros."""
        return b"%0*x" % (bits // 4, self._ids.getrandbits(bits) or 1)

    def trace(self, lines: bytes, ratio: float) -> Trace:
        """The trace of a request with these field lines: its caller's, whose decision about spans holds, or one that begins here,
        whose spans are wanted of the share `ratio` (below zero: of none).
        """
        told = trace_parent(lines) if lines else None
        if told is not None:
            sampled = told.sampled and ratio >= 0.0
            return Trace(told.trace_id, told.span_id, self.new_id(64) if sampled else b"", sampled=sampled)
        trace_id = self.new_id()
        return Trace(trace_id, b"", self.new_id(64), sampled=ratio > 0.0 and chosen(trace_id, ratio))

    def http_date(self) -> bytes:
        """Now, as a Date field wants it (RFC 9110 5.6.7), made once a second."""
        now = self.clock.now
        if now >= self._date_until:
            wall = self.wall.read()
            self._date = formatdate(wall, usegmt=True).encode("ascii")
            self._date_until = now + 1.0 - wall % 1.0
        return self._date
