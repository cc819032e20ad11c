"""What traffic says about a backend: timed removal because of bad outcomes.

The one rule so far is REFUSED, which ejects at once, whatever share of the backends that is: nobody listens there. More
rules are more calls of `eject`.
"""

from typing import Final

NEVER: Final = float("inf")
# Without checks: how long a refused backend rests, at first and at most.
FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0


class Ejection:
    """In or out. With checks it ends after `rise` good ones; without, after a time, with one trial request at a time."""

    def __init__(self, rise: int, *, checked: bool) -> None:
        self.active: bool = False
        # When a trial may be made (monotonic seconds); NEVER while checks decide or a trial is under way.
        self.until: float = NEVER
        self.on_trial: bool = False
        self.checked: Final = checked
        self._rise: Final = rise
        self._passed: int = 0
        self._rest_s: float = FIRST_S

    def eject(self, now: float) -> bool:
        """Take the backend out; True if it was in. A failed trial rests twice as long."""
        began = not self.active
        if not began and not self.on_trial:
            return False  # a request that was under way when it happened says nothing new
        if self.on_trial:
            self._rest_s = min(self._rest_s * 2, LONGEST_S)
        self.active = True
        self.on_trial = False
        self._passed = 0
        self.until = NEVER if self.checked else now + self._rest_s
        return began

    def begin_trial(self) -> None:
        """One request goes there to find out."""
        self.on_trial = True
        self.until = NEVER

    def end_trial(self, now: float, *, answered: bool) -> bool:
        """The trial ended other than by REFUSED; True if the ejection is over. One that told nothing is repeated."""
        self.on_trial = False
        if answered:
            self.clear()
            return True
        self.until = now
        return False

    def observe(self, passed: bool) -> bool:
        """Take the result of a check; True if it ended the ejection."""
        if not self.active or not self.checked:
            return False
        self._passed = self._passed + 1 if passed else 0
        if self._passed < self._rise:
            return False
        self.clear()
        return True

    def clear(self) -> None:
        """In again, with nothing held against it."""
        self.active = False
        self.on_trial = False
        self.until = NEVER
        self._passed = 0
        self._rest_s = FIRST_S

    def __repr__(self) -> str:
        return f"<Ejection {'on trial' if self.on_trial else 'active' if self.active else 'none'}>"
