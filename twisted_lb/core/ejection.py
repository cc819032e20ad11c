"""Ejection: timed removal of a backend because of bad outcomes of traffic (passive checks, outlier detection).

The one rule so far is REFUSED, which ejects at once, whatever share of the backends that is: nobody listens there. More
rules are more calls of `eject`.
"""

from typing import Final

from twisted_lb.core.never import NEVER

# Without checks: how long an ejection lasts, at first and at most.
FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0


class Ejection:
    """The ejection of one backend, active or not. With checks it ends after `rise` passed probes; without, after a
    time, with one trial request at a time (the half-open state of a circuit breaker).
    """

    __slots__ = ("_ended_at", "_hastened", "_passed", "_rest_s", "_seen_at", "active", "due", "on_trial", "until")

    def __init__(self) -> None:
        self.active: bool = False
        # When a trial may be made (monotonic seconds); NEVER while checks decide, or a trial may be made or is under way.
        self.until: float = NEVER
        self.due: bool = False
        self.on_trial: bool = False
        self._passed: int = 0
        self._rest_s: float = FIRST_S
        self._seen_at: float = -NEVER  # when traffic found nobody there last
        self._hastened: bool = False  # the trial that is due, or under way, came before the end of the rest
        self._ended_at: float = -NEVER

    def eject(self, now: float, *, checked: bool, trial: bool = False, began_at: float = NEVER) -> bool:
        """Eject the backend; True if that is news. `checked`: probes bring it back, else time does. `trial`: a trial
        request has failed, and the time doubles, unless the trial was hastened: that is no news either.

        `began_at`: when the attempt began that is the reason. One that was under way at the ejection says nothing new,
        nor does one that began before the backend was found well again: EHOSTUNREACH takes 3 s to come.
        """
        if not trial and (self.active or began_at < self._ended_at):
            return False
        news = not self._hastened
        if self.active and news:
            self._rest_s = min(self._rest_s * 2, LONGEST_S)
        self.active = True
        self._hastened = False
        self._seen_at = now
        self.due = self.on_trial = False
        self._passed = 0
        self.until = NEVER if checked else now + self._rest_s
        return news

    def follow(self, now: float, *, checked: bool) -> None:
        """Follow checks that were turned on or off: probes end the ejection from now on, or time does; a trial that is
        under way ends as it would.
        """
        if self.active and not self.on_trial:
            self.due = False
            self.until = NEVER if checked else now + self._rest_s

    def hasten(self, now: float, within_s: float) -> None:
        """Somebody waits for this backend: a trial may be made `within_s` after the last one, not only at the end of the
        rest. Nothing changes where probes decide.
        """
        soon = max(self._seen_at + within_s, now)
        if soon < self.until != NEVER:
            self.until = soon
            self._hastened = True

    def wake(self) -> None:
        """The ejection has lasted its time: a trial request may be made."""
        self.due = True
        self.until = NEVER

    def begin_trial(self) -> None:
        """A trial request goes to the backend, to find out whether it is back."""
        self.due = False
        self.on_trial = True
        self.until = NEVER

    def end_trial(self, now: float, *, listens: bool, checked: bool) -> bool:
        """A trial request ended. `listens`: it found the backend, and the ejection is over, which returns True; else it
        told nothing, and is repeated. `checked`: see `eject`.
        """
        self.on_trial = False
        if listens:
            self.clear(now)
            return True
        self.until = NEVER if checked else now
        return False

    def observe(self, passed: bool, rise: int, now: float) -> bool:
        """Take the result of a probe; True if it ended the ejection, as `rise` passed ones in a row do."""
        if not self.active:
            return False
        self._passed = self._passed + 1 if passed else 0
        if self._passed < rise:
            return False
        self.clear(now)
        return True

    def clear(self, now: float) -> None:
        """End the ejection, with nothing held against the backend."""
        self._ended_at = now
        self.active = self.due = self.on_trial = self._hastened = False
        self.until = NEVER
        self._passed = 0
        self._rest_s = FIRST_S

    def __repr__(self) -> str:
        return f"<Ejection {'on trial' if self.on_trial else 'active' if self.active else 'none'}>"
