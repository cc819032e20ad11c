"""Reported: load as the utilization that backends report (ORCA), with what has changed since then by our own counts."""

from math import exp
from typing import Final

from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Load, Loads
from twisted_lb.core.load_report import LoadReport
from twisted_lb.core.never import NEVER

# What was reported so long ago counts no more. Reports come with answers: of a backend without any nobody knows how it is.
EXPIRES_S: Final = 10.0
# What is in flight is averaged over as long as gRPC's weights hold (A58: weight_update_period).
_AVERAGED_S: Final = 1.0
# Less utilization is as good as this one, or the first of many idle ones would draw all requests until its next report.
LEAST: Final = 0.01
# Of so many reports the average is what a request is taken to need at backends that are silent.
_REMEMBERED: Final = 64


class Reports(Loads):
    """What the backends of one pool report. `usual`: of how much utilization a request is on average, by the reports of late; with
    backends that get what their reports say that is the reciprocal of gRPC's average weight, which A58 gives to silent ones too.
    """

    def __init__(self, counts: Counts, metric: str = "") -> None:
        self._counts: Final = counts
        self.metric: Final = metric
        self.usual: float = 1.0  # nobody has reported yet: requests are compared
        self.heard_at: float = -NEVER  # when anybody has reported last
        self._heard: int = 0

    def of(self, slot: int) -> Load:
        """What measures it."""
        return Reported(self, self._counts, slot)

    def learn(self, each: float, now: float) -> None:
        """A report came, by which a request is so much utilization."""
        self.heard_at = now
        self._heard = min(self._heard + 1, _REMEMBERED)
        self.usual += (each - self.usual) / self._heard


class Reported(Load):
    """Reported load: the utilization that the backend would report with one request more.

    The last report counts for what was in flight on average while it was made, so a request is of so much utilization, and
    those that are in flight now, and one, of so many times that: our own counts are fresh where reports are late, and many requests
    between two reports do not all go to the same backend (stale shared signals). Where the last report is older than
    EXPIRES_S, or there was none, a request is what it usually is in the pool, so that our own counts decide. Where nobody in the pool
    reports, requests in flight are compared, without the one more: of idle members the heaviest would get all.
    """

    __slots__ = ("_counts", "_each", "_reports", "_running", "_slot", "reported_at", "utilization")

    def __init__(self, reports: Reports, counts: Counts, slot: int) -> None:
        self._reports: Final = reports
        self._counts: Final = counts
        self._slot: Final = slot
        self.utilization: float = -1.0  # nothing was reported
        self.reported_at: float = 0.0
        self._running: float = 0.0
        self._each: float = 0.0

    def hear(self, report: LoadReport, now: float) -> bool:
        """Take over a report; False, and nothing is changed, where it does not say what is compared, or something absurd."""
        utilization = report.utilization(self._reports.metric)
        if utilization < 0:
            return False
        running = float(max(self._counts.load(self._slot), 1))  # as a rule the one whose answer reports is among them
        if self.fresh(now):
            kept = exp((self.reported_at - now) / _AVERAGED_S)
            running = self._running * kept + running * (1.0 - kept)
        self.utilization = utilization
        self.reported_at = now
        self._running = running
        if utilization > 0:
            self._each = max(utilization, LEAST) / running
            self._reports.learn(self._each, now)
        else:
            # As in A58: of an idle one it is not known what a request costs it.
            self._each = self._reports.usual
            self._reports.heard_at = now
        return True

    def fresh(self, now: float) -> bool:
        """Whether there is a report that still counts."""
        return self.utilization >= 0 and now - self.reported_at < EXPIRES_S

    def value(self, weight: float, now: float) -> float:
        """The utilization with one more request, for each unit of weight."""
        load = self._counts.load(self._slot)
        if self.fresh(now):
            return self._each * (load + 1) / weight
        reports = self._reports
        return reports.usual * (load + 1 if now - reports.heard_at < EXPIRES_S else load) / weight
