"""What probes say about a backend (HAProxy's rise and fall)."""

from typing import Final


class Health:
    """Up or down, by consecutive results. Unknown counts as up: a balancer that just started must serve."""

    __slots__ = ("_against", "_fall", "_rise", "known", "up")

    def __init__(self, rise: int, fall: int) -> None:
        self.up: bool = True
        self.known: bool = False
        self._rise: Final = rise
        self._fall: Final = fall
        self._against: int = 0  # results in a row that contradict `up`

    def observe(self, passed: bool) -> bool:
        """Take one result; True if it flipped `up`. The very first one decides alone."""
        if not self.known:
            self.known = True
            flipped = passed != self.up
            self.up = passed
            return flipped
        if passed == self.up:
            self._against = 0
            return False
        self._against += 1
        if self._against < (self._fall if self.up else self._rise):
            return False
        self._against = 0
        self.up = passed
        return True

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<Health {state if self.known else 'unknown'}, {self._against} against>"
