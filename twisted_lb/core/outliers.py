"""Outliers: backends that somebody listens at and that serve badly, found by what traffic meets there (Envoy's outlier detection):
failures in a row, and success rates beside the others'.
"""

from collections.abc import Collection, Iterable, Sequence
from math import sqrt
from random import Random
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import BackendEjected, BackendReturned, EjectionWithheld
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome
from twisted_lb.core.settings import EjectionRules
from twisted_lb.core.streak import Streak
from twisted_lb.core.window import STEPS, Window

# Rates are looked at so often at most.
_LOOK_EVERY_S: Final = 0.25
# Where as many are out as may be, that holds for so long: while all fail, each failure would count the members again.
_FULL_FOR_S: Final = 0.25
# More than rates that are equal differ by when they are added up.
_EQUAL: Final = 1e-9


class Ended:
    """An attempt that has not ended well, or was a trial: what is to be judged of it. `client` is whose request it was."""

    __slots__ = ("at", "client", "detail", "lease", "outcome")

    def __init__(self, lease: Lease, outcome: Outcome, detail: str, client: str, at: float) -> None:
        self.lease: Final = lease
        self.outcome: Final = outcome
        self.detail: Final = detail
        self.client: Final = client
        self.at: Final = at


def least_success_rate(rates: Sequence[float], factor: float) -> float:
    """Below which success rate one of these is an outlier: `factor` standard deviations below their mean, of the population and not
    of a sample. Envoy's numbers: of 50, 100, 100, 100, 100 and 1.9 it is 52. Of N, k of which are equally bad, the bad ones
    are sqrt((N - k) / k) deviations below, so that by 1.9 nobody ever is of four.
    """
    mean = sum(rates) / len(rates)
    return mean - factor * sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))


class _Outlier:
    """By which rule a backend is an outlier, with the figures."""

    __slots__ = ("because", "rule")

    def __init__(self, rule: EjectionRule, because: str) -> None:
        self.rule: Final = rule
        self.because: Final = because


class _Judged:
    """A backend that had requests, and which part of them it has answered well, in per cent."""

    __slots__ = ("backend", "good", "rate", "requests")

    def __init__(self, backend: Backend, good: int, bad: int) -> None:
        self.backend: Final = backend
        self.good: Final = good
        self.requests: Final = good + bad
        self.rate: Final = good * 100 / (good + bad)

    def too_low(self, least: float, others: str) -> _Outlier:
        """It is below the `least` success rate, of which `others` says how it comes."""
        well = f"{self.good} of {self.requests} requests went well, {self.rate:.4g} %"
        return _Outlier(EjectionRule.SUCCESS_RATE, f"{well}, which is below {least:.4g} %: {others}")

    def too_many_failed(self, enough: float) -> _Outlier:
        """It has failed more than may be."""
        failed = f"{self.requests - self.good} of {self.requests} requests failed, {100 - self.rate:.4g} %"
        return _Outlier(EjectionRule.FAILURE_PERCENT, f"{failed}, and {enough:g} % are enough")


class Outliers:
    """Judges what traffic says of one pool's backends, and takes them out by its `rules`. What it knows of a backend is with the
    backend: `Backend.streak` and `Backend.window`. `chance` is for the time that they rest.
    """

    __slots__ = ("_chance", "_full", "_full_until", "_look_at", "_pool", "rules")

    def __init__(self, pool: str, rules: EjectionRules, chance: Random) -> None:
        self.rules: EjectionRules = rules
        self._pool: Final = pool
        self._chance: Final = chance
        self._look_at: float = -NEVER
        self._full: str = ""
        self._full_until: float = -NEVER

    def configure(self, rules: EjectionRules, members: Iterable[Backend]) -> None:
        """Replace the rules. Who is out rests as it was told; what nobody looks at any more is forgotten."""
        self.rules = rules
        self._look_at = self._full_until = -NEVER
        for one in members:
            if not rules.consecutive_failures:
                one.streak = None
            if not self.looking:
                one.window = None

    @property
    def looking(self) -> bool:
        """Whether any rule looks at rates."""
        return self.rules.success_rate_factor > 0 or self.rules.failure_percent > 0

    # Failures in a row.

    def judge(
        self, ended: Ended, members: Collection[Backend], *, checked: bool
    ) -> BackendEjected | EjectionWithheld | None:
        """Judge an attempt that failed: whether it was one too many in a row. What began before the backend came back says nothing
        of it. `checked`: whether there are checks that may know more.
        """
        rules, backend, at = self.rules, ended.lease.backend, ended.at
        if not rules.consecutive_failures or not CONSEQUENCE[ended.outcome].in_a_row:
            return None
        ejection = backend.ejection
        if ejection.active or backend.removed or ended.lease.opened_at < ejection.ended_at:
            return None
        streak = backend.streak
        if streak is None:
            streak = backend.streak = Streak()
        streak.add(ended.outcome, ended.client)
        if streak.failures < rules.consecutive_failures or streak.clients < rules.min_clients:
            return None
        rule, because = EjectionRule.CONSECUTIVE_FAILURES, str(streak)
        instead = self._stays(backend, members, at)
        if instead:
            told, streak.withheld = streak.withheld, True
            return None if told else EjectionWithheld(self._pool, backend.name, rule, because, instead, at)
        ejected = self._eject(backend, rule, ended.outcome, because, at, checked=checked)
        backend.remember(ended.lease.opened_at, at, f"ejected {ejected.how_long}: {ejected.because}")
        return ejected

    # Trials.

    def judge_trial(self, ended: Ended, *, checked: bool) -> BackendEjected | BackendReturned | None:
        """Judge the trial of a backend that one of these rules has ejected: a good answer ends that, a failure is another ejection,
        and anything else tells nothing.
        """
        backend, at, outcome = ended.lease.backend, ended.at, ended.outcome
        if outcome is Outcome.OK:
            return self.returned(ended.lease, at)
        if CONSEQUENCE[outcome].blame is Blame.NONE:
            backend.ejection.end_trial(at, listens=False, checked=checked)
            return None
        hastened = not self._rest(backend, backend.ejection.rule, at)
        if hastened:
            return None
        because = f"a trial request failed: {ended.detail or outcome.name}"
        ejected = self._told(backend, outcome, because, at, checked=checked)
        backend.remember(ended.lease.opened_at, at, f"ejected {ejected.how_long}: {ejected.because}")
        return ejected

    def returned(self, lease: Lease, now: float) -> BackendReturned:
        """A trial was answered well: the ejection is over."""
        backend, reason = lease.backend, "a trial request was answered"
        backend.ejection.end_trial(now, listens=True, checked=False)
        backend.remember(lease.opened_at, now, f"used again: {reason}")
        return BackendReturned(self._pool, backend.name, reason, now)

    # Rates.

    def look(
        self, members: Collection[Backend], now: float, *, checked: bool
    ) -> list[tuple[Backend, BackendEjected | EjectionWithheld]]:
        """Look at the rates of those that had enough requests, if any rule does, and it is time to: who is taken out, or would be,
        the worst first. O(backends).
        """
        if now < self._look_at or not self.looking:
            return []
        self._look_at = now + max(self.rules.window_s / STEPS, _LOOK_EVERY_S)
        judged = [one for backend in members if (one := self._judged(backend, now)) is not None]
        judged.sort(key=lambda one: one.rate)
        found = self._by_success_rate(judged)
        found.update((one, why) for one, why in self._by_failures(judged).items() if one not in found)
        told: list[tuple[Backend, BackendEjected | EjectionWithheld]] = []
        for one in judged:
            backend, outlier = one.backend, found.get(one)
            if outlier is not None:
                event = self._take_out(backend, outlier, members, now, checked=checked)
                if event is not None:
                    told.append((backend, event))
            elif backend.window is not None:
                backend.window.withheld = ""
        return told

    def _judged(self, backend: Backend, now: float) -> _Judged | None:
        if backend.ejection.active:
            backend.window = None
            return None
        good, bad = backend.outcomes[Outcome.OK], backend.failures
        window = backend.window
        if window is None:
            backend.window = Window(now, good, bad)
            return None
        good, bad = window.look(now, good, bad, self.rules.window_s)
        if good + bad:
            return _Judged(backend, good, bad)
        window.withheld = ""
        return None

    def _by_success_rate(self, judged: Iterable[_Judged]) -> dict[_Judged, _Outlier]:
        factor = self.rules.success_rate_factor
        enough = [one for one in judged if one.requests >= self.rules.success_rate_requests]
        if not factor or len(enough) < self.rules.min_backends:
            return {}
        rates = [one.rate for one in enough]
        least = least_success_rate(rates, factor)
        others = f"{factor:g} standard deviations below the {sum(rates) / len(rates):.4g} % of {len(enough)} backends"
        return {one: one.too_low(least, others) for one in enough if one.rate < least - _EQUAL}

    def _by_failures(self, judged: Iterable[_Judged]) -> dict[_Judged, _Outlier]:
        most = self.rules.failure_percent
        enough = [one for one in judged if one.requests >= self.rules.failure_percent_requests]
        if not most or len(enough) < self.rules.min_backends:
            return {}
        return {one: one.too_many_failed(most) for one in enough if 100 - one.rate >= most - _EQUAL}

    def _take_out(
        self, backend: Backend, outlier: _Outlier, members: Collection[Backend], now: float, *, checked: bool
    ) -> BackendEjected | EjectionWithheld | None:
        rule, because, instead = outlier.rule, outlier.because, self._stays(backend, members, now)
        if not instead:
            return self._eject(backend, rule, None, because, now, checked=checked)
        window = backend.window
        if window is None:
            return None
        told, window.withheld = window.withheld, because
        return None if told else EjectionWithheld(self._pool, backend.name, rule, because, instead, now)

    # For all of them.

    def _stays(self, backend: Backend, members: Collection[Backend], now: float) -> str:
        """Why a backend stays in, whatever its outcomes: as many as may be are out by traffic already, or nobody else is usable;
        empty where it may go. Whom the operator does not want is not among the members.
        """
        if now < self._full_until:
            return self._full
        wanted = [one for one in members if one.wanted]
        out = sum(one.ejection.active for one in wanted)
        most = len(wanted) * self.rules.max_percent // 100
        if out >= most:
            self._full = f"{most} of {len(wanted)} may be out by traffic, and {out} are"
            self._full_until = now + _FULL_FOR_S
            return self._full
        others = [one for one in wanted if one.usable and one is not backend and not one.ejection.active]
        return "" if others else "nobody else is usable"

    def _eject(
        self, backend: Backend, rule: EjectionRule, outcome: Outcome | None, because: str, now: float, *, checked: bool
    ) -> BackendEjected:
        self._rest(backend, rule, now)
        return self._told(backend, outcome, because, now, checked=checked)

    def _rest(self, backend: Backend, rule: EjectionRule, now: float) -> bool:
        backend.streak = backend.window = None
        rules = self.rules
        return backend.ejection.rest(rule, now, rules.base_s, rules.longest_s, self._chance.random())

    def _told(
        self, backend: Backend, outcome: Outcome | None, because: str, now: float, *, checked: bool
    ) -> BackendEjected:
        ejection = backend.ejection
        return BackendEjected(self._pool, backend.name, outcome, because, ejection.until, checked, now, ejection.rule)

    def __repr__(self) -> str:
        return f"<Outliers of {self._pool}>"
