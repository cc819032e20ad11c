"""What traffic says about a backend: timed removal because of bad outcomes.

The one rule so far is REFUSED, which ejects at once, whatever share of the backends that is: nobody listens there. More
rules are more calls of `eject`.
"""

from typing import Final

from twisted_lb.core.never import NEVER

# Without checks: how long a refused backend rests, at first and at most.
FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0


class Ejection:
    """In or out. With checks it ends after `rise` good ones; without, after a time, with one trial request at a time."""

    __slots__ = ("_ended_at", "_passed", "_rest_s", "active", "due", "on_trial", "until")

    def __init__(self) -> None:
        self.active: bool = False
        # When a trial may be made (monotonic seconds); NEVER while checks decide, or a trial may be made or is under way.
        self.until: float = NEVER
        self.due: bool = False
        self.on_trial: bool = False
        self._passed: int = 0
        self._rest_s: float = FIRST_S
        self._ended_at: float = -NEVER

    def eject(self, now: float, *, checked: bool, trial: bool = False, began_at: float = NEVER) -> bool:
        """Take the backend out; True if that is news. `checked`: checks bring it back, else time does. `trial`: the trial
        request found nobody, the rest doubles.

        `began_at`: when the attempt did that says so. One that was under way when it happened says nothing new, nor
        after the backend was found well again: EHOSTUNREACH takes 3 s to come.
        """
        if not trial and (self.active or began_at < self._ended_at):
            return False
        if self.active:
            self._rest_s = min(self._rest_s * 2, LONGEST_S)
        self.active = True
        self.due = self.on_trial = False
        self._passed = 0
        self.until = NEVER if checked else now + self._rest_s
        return True

    def follow(self, now: float, *, checked: bool) -> None:
        """Checks decide from now on, or time does, as `eject` has it; a trial that is under way ends as it would."""
        if self.active and not self.on_trial:
            self.due = False
            self.until = NEVER if checked else now + self._rest_s

    def wake(self) -> None:
        """Its time has come: a trial may be made."""
        self.due = True
        self.until = NEVER

    def begin_trial(self) -> None:
        """One request goes there to find out."""
        self.due = False
        self.on_trial = True
        self.until = NEVER

    def end_trial(self, now: float, *, listens: bool, checked: bool) -> bool:
        """The trial found somebody, or told nothing and is repeated; True if the ejection is over. `checked`: see eject."""
        self.on_trial = False
        if listens:
            self.clear(now)
            return True
        self.until = NEVER if checked else now
        return False

    def observe(self, passed: bool, rise: int, now: float) -> bool:
        """Take the result of a check; True if it ended the ejection, as `rise` good ones in a row do."""
        if not self.active:
            return False
        self._passed = self._passed + 1 if passed else 0
        if self._passed < rise:
            return False
        self.clear(now)
        return True

    def clear(self, now: float) -> None:
        """In again, with nothing held against it."""
        self._ended_at = now
        self.active = self.due = self.on_trial = False
        self.until = NEVER
        self._passed = 0
        self._rest_s = FIRST_S

    def __repr__(self) -> str:
        return f"<Ejection {'on trial' if self.on_trial else 'active' if self.active else 'none'}>"
