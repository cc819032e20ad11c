"""Health: whether a backend is up or down by its probes (HAProxy's rise and fall)."""


class Health:
    """The health of a backend, by consecutive probes. Unknown counts as up: a new balancer must serve."""

    __slots__ = ("_against", "known", "up")

    def __init__(self) -> None:
        self.up: bool = True
        self.known: bool = False
        self._against: int = 0  # results in a row that contradict `up`

    def observe(self, passed: bool, rise: int, fall: int) -> bool:
        """Take the result of a probe; True if it flipped `up`: the `rise`th pass or `fall`th failure in a row, or the
        very first result.
        """
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
        """Forget all probes, since checks were turned off: unknown, and so up; True if that flipped `up`."""
        flipped = not self.up
        self.up = True
        self.known = False
        self._against = 0
        return flipped

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<Health {state if self.known else 'unknown'}, {self._against} against>"
