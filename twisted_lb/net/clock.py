"""The time of the hot path: read once a batch, not once a request."""

from collections.abc import Callable
from typing import Final


class Clock:
    """`now` in monotonic seconds, as of the last `read`."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.now: float = seconds()
        self._seconds: Final = seconds

    def read(self) -> float:
        """Bring `now` up to date and return it."""
        self.now = self._seconds()
        return self.now
