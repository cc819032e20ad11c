"""The clock of the hot path, read once a batch and not once a request; and timers, as the reactor gives them."""

from collections.abc import Callable
from typing import Final, Protocol


class Timer(Protocol):
    """A timer: a call to come, as a reactor's `callLater` returns it."""

    def cancel(self) -> None:
        """Cancel the call; only before it was made."""


# `later(delay_s, call)` makes the call once, from the event loop.
Later = Callable[[float, Callable[[], None]], Timer]
# `soon(call)` makes the call when all others had their turn, never before it returns.
Soon = Callable[[Callable[[], None]], None]


class Clock:
    """A clock: `now` is monotonic seconds, as of the last `read`."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.now: float = seconds()
        self._seconds: Final = seconds

    def read(self) -> float:
        """Bring `now` up to date and return it."""
        self.now = self._seconds()
        return self.now
