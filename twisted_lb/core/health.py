"""What probes say about a backend (HAProxy's rise and fall)."""


class Health:
    """Up or down, by consecutive results. Unknown counts as up: a balancer that just started must serve."""

    __slots__ = ("_against", "known", "up")

    def __init__(self) -> None:
        self.up: bool = True
        self.known: bool = False
        self._against: int = 0  # results in a row that contradict `up`

    def observe(self, passed: bool, rise: int, fall: int) -> bool:
        """Take one result; True if it flipped `up`, after `rise` good or `fall` bad ones. The first one decides alone."""
        if not self.known:
            self.known = True
            flipped = passed != self.up
            self.up = passed
            return flipped
        if passed == self.up:
            self._against = 0
            return False
        self._against += 1
        if self._against < (fall if self.up else rise):
            return False
        self._against = 0
        self.up = passed
        return True

    def forget(self) -> bool:
        """Nobody probes any more: unknown again, and so up; True if that flipped `up`."""
        flipped = not self.up
        self.up = True
        self.known = False
        self._against = 0
        return flipped

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<Health {state if self.known else 'unknown'}, {self._against} against>"
