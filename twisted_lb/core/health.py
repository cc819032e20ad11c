"""Health: whether a backend is up or down by its probes (HAProxy's rise and fall)."""

from twisted_lb.core.never import NEVER


class Health:
    """The health of a backend, by consecutive probes. Unknown counts as `up` says: up, as a rule, since a new balancer must
    serve.

    `silent`, while it is down or on its way: every failed probe met silence (refused, reset, no answer in time), none an
    answer. A server that says no is known to be there; one that was silent may just be starting.
    """

    __slots__ = ("_against", "_failed", "known", "silent", "up")

    def __init__(self, *, up: bool = True) -> None:
        self.up: bool = up
        self.known: bool = False
        self.silent: bool = False
        self._against: int = 0  # results in a row that contradict `up`
        self._failed: list[float] = []  # when the last failed probes were made, as many as take a backend out

    def observe(self, passed: bool, rise: int, fall: int, *, silent: bool = False, asked_at: float = NEVER) -> bool:
        """Take the result of a probe; True if that is news. The `rise`th pass or `fall`th failure in a row flips `up`. The
        very first result decides alone, and is news unless the backend is up, as it was taken to be. `silent`: it failed
        without an answer. `asked_at`: when the probe was made.
        """
        if passed:
            # A sign of life: what was sent before it is no longer overdue.
            self._failed = [-NEVER] * len(self._failed)
        else:
            first = self.up and not self._against
            self.silent = silent and (first or self.silent)
            if first:
                self._failed.clear()
            self._failed.append(asked_at)
            if len(self._failed) > fall:
                del self._failed[0]
        if not self.known:
            self.known = True
            expected = passed and self.up
            self.up = passed
            return not expected
        if passed == self.up:
            self._against = 0
            return False
        self._against += 1
        if self._against < (fall if self.up else rise):
            return False
        self._against = 0
        self.up = passed
        return True

    @property
    def silent_since(self) -> float:
        """When the first of the last `fall` probes was made (monotonic seconds), all of which met silence: what was sent
        before that has seen no sign of life from a backend that is taken for dead. -NEVER where it is up, or has answered.
        """
        return self._failed[0] if self.silent and not self.up else -NEVER

    def forget(self) -> bool:
        """Forget all probes, since checks were turned off: unknown, and so up; True if that flipped `up`."""
        flipped = not self.up
        self.up = True
        self.known = False
        self.silent = False
        self._failed.clear()
        self._against = 0
        return flipped

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<Health {state if self.known else 'unknown'}, {self._against} against>"
