"""Whoever acts in the fault network: a story, told by a generator, that waits for moments and for things to come about."""

from collections.abc import Callable, Iterator
from itertools import count

from twisted_lb.testing import HeapClock

# Seconds to wait; or a condition, and how long to wait for it.
Step = float | tuple[Callable[[], object], float]
Story = Iterator[Step]


class Actor:
    """Tells its story step by step; `look` has to be called whenever a condition may have come about."""

    def __init__(self, clock: HeapClock) -> None:
        self.clock = clock
        self._story: Story | None = None
        self._until: Callable[[], object] | None = None
        self._alarm = None
        self._telling = False
        self._frozen = False
        self._missed = False  # something that came about while it was frozen

    @property
    def done(self) -> bool:
        return self._story is None

    def tell(self, story: Story) -> None:
        self._story = story
        self._go_on()

    def look(self) -> None:
        if self._until is not None and not self._frozen and self._until():
            self._go_on()

    def freeze(self) -> None:
        """Do nothing until `thaw`."""
        self._frozen = True

    def thaw(self) -> None:
        """Go on from there."""
        self._frozen = False
        if self._missed:
            self._missed = False
            self._go_on()
        else:
            self.look()

    def stop(self) -> None:
        """Whatever comes next is left out."""
        self._story = self._until = None
        self._quiet()

    def _quiet(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _ring(self) -> None:
        self._alarm = None
        self._go_on()

    def _go_on(self) -> None:
        if self._telling:
            return
        if self._frozen:
            self._missed = True
            return
        self._quiet()
        self._until = None
        self._telling = True
        try:
            self._tell()
        finally:
            self._telling = False

    def _tell(self) -> None:
        for _ in count():
            if self._story is None:
                return
            try:
                step = next(self._story)
            except StopIteration:
                self._story = None
                return
            if self._story is None:
                return
            if isinstance(step, tuple):
                condition, within_s = step
                if condition():
                    continue
                self._until = condition
            else:
                within_s = step
            self._alarm = self.clock.callLater(within_s, self._ring)
            return
