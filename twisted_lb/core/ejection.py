"""Ejection: timed removal of a backend because of bad outcomes of traffic (passive checks, outlier detection).

Whoever is REFUSED is ejected at once, whatever share of the backends that is: nobody listens there (`eject`). By the other
rules, which are in `outliers.py`, somebody listens and serves badly (`rest`).
"""

import enum
from math import ceil
from typing import Final

from twisted_lb.core.never import NEVER

# Of whoever is refused, without checks: how long an ejection lasts, at first and at most.
FIRST_S: Final = 1.0
LONGEST_S: Final = 30.0
# Of whoever serves badly: an ejection lasts up to so much longer, by chance, so that those which went together, here or at
# other balancers, do not return together.
JITTER: Final = 0.1


class EjectionRule(enum.IntEnum):
    """Which rule takes a backend out. The value indexes counters, so it never changes: new ones are appended."""

    REFUSED = 0
    CONSECUTIVE_FAILURES = 1
    SUCCESS_RATE = 2
    FAILURE_PERCENT = 3


_REFUSED: Final = EjectionRule.REFUSED


class Ejection:
    """The ejection of one backend, active or not, by the `rule` that holds now or held last.

    Of whoever is REFUSED it ends with checks after `rise` passed probes; without, after a time, with one trial request at a time
    (the half-open state of a circuit breaker). By the other rules it always ends after a time, with one good answer to a trial,
    or with checks before that. `times` is how often in short order it was ejected by them: with each time its rest is longer.
    """

    __slots__ = (
        "_hastened", "_missed", "_passed", "_rest_s", "_returned_at", "_seen_at", "_trial_s", "active", "due", "ended_at", "on_trial", "rule",
        "times", "until",
    )  # fmt: skip

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
        self.ended_at: float = -NEVER
        self.rule: EjectionRule = _REFUSED
        self.times: int = 0
        # When an ejection by the other rules ended last; NEVER while one lasts, be it that it is for a refused connection by now.
        self._returned_at: float = -NEVER
        self._missed: bool = False  # a probe has failed since
        self._trial_s: float = 0.0  # after so long without an end a trial is followed by another one

    def eject(self, now: float, *, checked: bool, trial: bool = False, began_at: float = NEVER) -> bool:
        """Eject the backend; True if that is news. `checked`: probes bring it back, else time does. `trial`: a trial
        request has failed, and the time doubles, unless the trial was hastened: that is no news either.

        `began_at`: when the attempt began that is the reason. One that was under way at the ejection says nothing new,
        nor does one that began before the backend was found well again: EHOSTUNREACH takes 3 s to come. Who was out for serving
        badly is now out for not being there.
        """
        if not trial and ((self.active and self.rule is _REFUSED) or began_at < self.ended_at):
            return False
        news = not self._hastened
        if self.active and news and self.rule is _REFUSED:
            self._rest_s = min(self._rest_s * 2, LONGEST_S)
        self._leave(_REFUSED, now)
        self.until = NEVER if checked else now + self._rest_s
        return news

    def rest(self, rule: EjectionRule, now: float, base_s: float, longest_s: float, chance: float) -> bool:
        """Eject the backend by a rule other than REFUSED, or again, since its trial has failed; True if that is news, see `eject`.

        It rests `base_s` n times, `longest_s` at most, and `chance` (0 to 1) of JITTER more. n grows by one with each ejection,
        as long as the rest grows, and falls by one for each `base_s` that passed since the last one has ended (Envoy's multiplier).
        """
        news = not self._hastened
        if not self.active and self.times:
            self.times = max(self.times - int((now - self._returned_at) / base_s), 0)
        if news or not self.times:
            self.times = min(self.times + 1, max(ceil(longest_s / base_s), 1))
        self._leave(rule, now)
        self._missed = False
        self._trial_s = base_s
        self._returned_at = NEVER
        self.until = now + min(base_s * self.times, longest_s) * (1 + JITTER * chance)
        return news

    def adopt(self, rule: EjectionRule, until: float, now: float) -> bool:
        """Another process has ejected the backend, by this rule and until then (NEVER: checks decide): it is out here too; True if that is news.
        A trial that is under way here tells what it finds all the same.
        """
        if self.active:
            return False
        self._leave(rule, now)
        self._missed = False
        self.until = until
        if rule is not _REFUSED:
            self._trial_s = max(until - now, FIRST_S)
            self._returned_at = NEVER
            self.times = max(self.times, 1)
        return True

    def _leave(self, rule: EjectionRule, now: float) -> None:
        """It is out from now on, by this rule, and no trial is due or under way."""
        self.active = True
        self.rule = rule
        self._hastened = False
        self._seen_at = now
        self.due = self.on_trial = False
        self._passed = 0

    def follow(self, now: float, *, checked: bool) -> None:
        """Follow checks that were turned on or off: probes end the ejection of whoever was refused from now on, or time does; a
        trial that is under way ends as it would.
        """
        if self.active and not self.on_trial and self.rule is _REFUSED:
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

    @property
    def began_at(self) -> float:
        """When traffic found out last that it is not well: at its beginning, or by its last trial (monotonic seconds)."""
        return self._seen_at

    def wake(self) -> None:
        """The ejection has lasted its time: a trial request may be made."""
        self.due = True
        self.until = NEVER

    def begin_trial(self, now: float) -> None:
        """A trial request goes to the backend, to find out whether it is back. Where an answer is wanted, which may take long (a
        download, a backend that hangs), and there is none after a while, another one may be made.
        """
        self.due = False
        self.on_trial = True
        self.until = NEVER if self.rule is _REFUSED else now + self._trial_s

    def end_trial(self, now: float, *, listens: bool, checked: bool) -> bool:
        """A trial request ended. `listens`: it found the backend, or by the other rules had a good answer, and the ejection is over,
        which returns True; else it told nothing, and is repeated. `checked`: see `eject`.
        """
        self.on_trial = False
        if listens:
            self.clear(now)
            return True
        self.until = NEVER if checked and self.rule is _REFUSED else now
        return False

    def observe(self, passed: bool, rise: int, now: float) -> bool:
        """Take the result of a probe; True if it ended the ejection, as `rise` passed ones in a row do. Of whoever serves badly only
        where one has failed since it was ejected: probes that pass all along ask for something else than requests do.
        """
        if not self.active:
            return False
        self._missed = self._missed or not passed
        self._passed = self._passed + 1 if passed else 0
        if self._passed < rise or not (self._missed or self.rule is _REFUSED):
            return False
        self.clear(now)
        return True

    def clear(self, now: float) -> None:
        """End the ejection, with nothing held against the backend."""
        self.ended_at = now
        if self._returned_at == NEVER:
            self._returned_at = now
        self.active = self.due = self.on_trial = self._hastened = False
        self.until = NEVER
        self._passed = 0
        self._rest_s = FIRST_S

    def __repr__(self) -> str:
        return f"<Ejection {'on trial' if self.on_trial else 'active' if self.active else 'none'}>"
