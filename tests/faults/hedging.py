"""Judges hedges: of what, when and where they are sent, and that one answer alone is heard."""

from typing import TYPE_CHECKING

from faults.attempts import Attempt, stale
from faults.tape import ENDS, TOOK

from twisted_lb.core.hedging import Hedged

if TYPE_CHECKING:
    from faults.oracle import Oracle

ROUNDED_S = 1e-6
SENT = (Hedged.WON, Hedged.LOST, Hedged.STOOD_IN, Hedged.FAILED, Hedged.CUT)


class Hedging:
    """A hedge is sent for a request that may be repeated, after the delay, while not one byte of the answer has come;
    to another backend than any that was asked, once; and of the two that are under way one is taken back as soon as the other one has
    answered.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain

    def judge(self) -> None:
        sent = 0
        for record in self._town.records:
            if record.hedge is None:
                continue
            sent += 1
            attempts = self._oracle.backends.attempts.get(record.name, [])
            hedges = [attempt for attempt in attempts if attempt.hedge]
            if len(hedges) == 1 and record.attempts == len(attempts):
                self._judge_one(record.name, hedges[0], sorted(attempts, key=lambda one: one.at))
        counted = sum(self._town.pool.totals.hedges[what] for what in SENT)
        if counted != sent:
            self.complain(f"{counted} hedges are counted, {sent} are on record")

    def _judge_one(self, name: str, hedge: Attempt, attempts: list[Attempt]) -> None:
        oracle = self._oracle
        first = attempts[attempts.index(hedge) - 1]
        rules = [settings.hedge for settings in oracle.settings(name)]
        if not any(one.on for one in rules):
            self.complain(f"{name} is hedged, and nothing is to be")
        if not any(one.retry.budget_percent or one.retry.budget_per_s for one in oracle.settings(name)):
            self.complain(f"{name} is hedged, and there is no budget for it")
        if not oracle.idempotent(name):
            self.complain(f"{name} must not be repeated and is hedged")
        for other in attempts:
            if other is not hedge and other.member is not None and hedge.member is not None:
                same = other.member.record is hedge.member.record
                if same and other.at < hedge.at and not stale(other):
                    self.complain(f"{name}: its hedge is at {hedge.backend}, which was asked before")
        waited = hedge.when - first.when
        if waited < min(one.delay_s for one in rules) - ROUNDED_S:
            self.complain(f"{name} is hedged after {waited} s")
        if first.tape is not None and first.request is not None:
            self._judge_beside(name, first, hedge)

    def _judge_beside(self, name: str, first: Attempt, hedge: Attempt) -> None:
        if (begins := self._answered(first, whole=False)) is not None and begins < hedge.at:
            self.complain(f"{name} is hedged after a byte of its answer has come")
        answers = [at for one in (first, hedge) if (at := self._answered(one, whole=True)) is not None]
        if len(answers) != 2:
            return
        # Both have answered: the one that was later was let go of by then, or the earlier one was no answer.
        early, late = sorted((first, hedge), key=lambda one: self._answered(one, whole=True) or 0)
        statuses = {status for settings in self._oracle.settings(name) for status in settings.retry.bad_statuses}
        assert early.tape is not None
        if self._oracle.backends.readers[early.tape][1].broken:
            return
        if early.answer is not None and early.answer.status in statuses | {101}:
            return  # which nobody asked for
        self.complain(f"{name} was answered by {early.backend}, and {late.backend} was heard still")

    def _answered(self, attempt: Attempt, *, whole: bool) -> int | None:
        """When the first byte of its answer had come, or its whole head; None where none has."""
        tape, answer = attempt.tape, attempt.answer
        if tape is None or answer is None or (whole and answer.head_ends_at is None):
            return None
        entry = tape.entry_of(TOOK, (answer.head_ends_at or 1) - 1 if whole else answer.begins_at)
        over = tape.first(*ENDS)
        if entry is None or (over is not None and over.at < entry.at):
            return None
        return entry.at
