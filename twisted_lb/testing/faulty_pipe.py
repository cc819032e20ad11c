"""A faulty pipe: one direction of a connection where little is taken at once, and arrives late and in pieces."""

from collections import deque
from collections.abc import Callable
from enum import Enum
from itertools import pairwise
from random import Random
from typing import Final

from twisted.internet.interfaces import IReactorTime

from twisted_lb.testing.chances import Chances
from twisted_lb.testing.pipe import Pipe

_MOST_PIECES: Final = 5


class _Mark(Enum):
    FIN = "fin"
    RST = "rst"


class FaultyPipe(Pipe):
    """A faulty pipe: bytes on their way arrive late, in their order, the end last."""

    def __init__(self, clock: IReactorTime, capacity: int, rng: Random, chances: Callable[[], Chances]) -> None:
        super().__init__(capacity)
        self._clock: Final = clock
        self._rng: Final = rng
        self._chances: Final = chances
        self._flying: deque[tuple[float, bytes | _Mark]] = deque()
        self._flying_bytes = 0
        self._landing = False
        self._stalled_until = 0.0
        self._breathing = False
        self._marked: _Mark | None = None
        self._passed = 0
        self._after: tuple[int, Callable[[], None]] | None = None

    # Faults.

    def after(self, count: int, happen: Callable[[], None]) -> None:
        """Call `happen` once `count` bytes have been taken; the next byte waits for that."""
        self._after = (count, happen)

    def stall(self, seconds: float) -> None:
        """Let nothing arrive for so long."""
        self._stalled_until = self._clock.seconds() + seconds

    # The writer's end.

    @property
    def room(self) -> int:
        """See Pipe."""
        return 0 if self._breathing else max(super().room - self._flying_bytes, 0)

    @property
    def queued(self) -> int:
        """Bytes that were taken and not yet read."""
        return len(self.bytes) + self._flying_bytes

    def put(self, data: bytes | bytearray) -> int:
        """See Pipe."""
        if self.closed:
            return super().put(data)
        taken = self._share(min(self.room, len(data)))
        if not taken:
            return 0
        self._passed += taken
        for piece in self._pieces(bytes(data[:taken])):
            self._fly(piece)
        return taken

    def _share(self, most: int) -> int:
        """How many bytes of a write are taken."""
        if self._after is not None and self._passed + most > self._after[0]:
            (count, happen), self._after = self._after, None
            most = max(count - self._passed, 0)
            self._clock.callLater(0, happen)
            self._breathe(0.0)
        elif most > 1 and self._rng.random() < self._chances().partial_write:
            most = max(int(most * self._rng.random()), 1)
            self._breathe(self._delay_s())
        return most

    def _breathe(self, seconds: float) -> None:
        """Take nothing for so long."""
        self._breathing = True
        self._clock.callLater(seconds, self._breathed)

    def _breathed(self) -> None:
        self._breathing = False
        self.when_room()

    def _pieces(self, data: bytes) -> list[bytes]:
        if len(data) < 2 or self._rng.random() >= self._chances().split:
            return [data]
        count = self._rng.randint(2, _MOST_PIECES)
        cuts = sorted({0, len(data), *(self._rng.randrange(len(data)) for _ in range(count))})
        return [data[start:end] for start, end in pairwise(cuts)]

    def end(self) -> None:
        """See Pipe."""
        if self._marked is None:
            self._marked = _Mark.FIN
            self._fly(_Mark.FIN)

    def cut(self) -> None:
        """See Pipe."""
        self.tear()

    def tear(self) -> None:
        """Tear the pipe: a reset that neither side asked for."""
        if self._marked is not _Mark.RST:
            self._marked = _Mark.RST
            if self._flying and self._rng.random() < self._chances().overtaken:
                self._flying.clear()
                self._flying_bytes = 0
            self._fly(_Mark.RST)

    # The way, and the reader's end.

    def _delay_s(self) -> float:
        chances = self._chances()
        return self._rng.uniform(0, chances.longest_delay_s) if self._rng.random() < chances.delayed else 0.0

    def _fly(self, what: bytes | _Mark) -> None:
        delay_s = self._delay_s()
        now = self._clock.seconds()
        if not self._flying and not delay_s and self._stalled_until <= now and not self._landing:
            self._land(what)
            return
        due = max(now + delay_s, self._flying[-1][0] if self._flying else 0.0)
        self._flying.append((due, what))
        if not isinstance(what, _Mark):
            self._flying_bytes += len(what)
        self._wait()

    def _wait(self) -> None:
        if not self._landing and self._flying:
            self._landing = True
            due = max(self._flying[0][0], self._stalled_until)
            self._clock.callLater(max(due - self._clock.seconds(), 0.0), self._look)

    def _look(self) -> None:
        """Look at the first of what is on its way: one thing a turn, so that pieces stay pieces."""
        self._landing = False
        if self._flying and max(self._flying[0][0], self._stalled_until) <= self._clock.seconds():
            _, what = self._flying.popleft()
            if not isinstance(what, _Mark):
                self._flying_bytes -= len(what)
            self._land(what)
        self._wait()

    def _land(self, what: bytes | _Mark) -> None:
        if what is _Mark.RST:
            super().cut()
        elif what is _Mark.FIN:
            super().end()
        elif self.closed:
            self.back.cut()
        elif not self.reset:  # what was sent behind a reset arrives nowhere
            assert isinstance(what, bytes)
            self._arrived(what)

    def __repr__(self) -> str:
        return f"<FaultyPipe: {len(self.bytes)} here, {self._flying_bytes} on their way, {self._passed} in all>"
