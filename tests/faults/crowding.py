"""Judges how many requests a backend had at a time, as it is seen on the connections to it."""

from collections import defaultdict
from typing import TYPE_CHECKING

from faults.attempts import Attempt
from faults.ledger import Record
from faults.reader import read_both
from faults.tape import ENDS, HEARD, PUT, SAID, SAID_FIN, SAID_RST, TOOK, Tape

if TYPE_CHECKING:
    from faults.oracle import Oracle

# A deadline may be a tick of the wheel early.
LATE_S = 0.25
# What is let go of is closed after the batch, when somebody else may have been sent there already.
_BATCH = 1000


class Crowding:
    """No backend has more requests at a time than `max_in_flight`: from the first byte of each to the last of its answer, or until
    the connection is let go of. What the backend goes on with then it does for nobody; where places are held (`abandoned_s`) it has
    that one too, until it has answered or closed the connection, or that time is over.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle

    def judge(self) -> None:
        limits = [settings.max_in_flight for _, settings in self._oracle.town.generations.all]
        if not all(isinstance(limit, int) and limit for limit in limits):
            return
        most = max(limits)
        moments: dict[int, list[tuple[int, int]]] = defaultdict(list)
        names: dict[int, str] = {}
        for attempts in self._oracle.backends.attempts.values():
            for attempt in attempts:
                if attempt.tape is not None and attempt.reached and attempt.member is not None:
                    record = id(attempt.member.record)
                    names[record] = attempt.backend
                    moments[record] += [(attempt.at, 1), (self._ended(attempt), -1)]
        for record, changes in moments.items():
            held = 0
            for _, change in sorted(changes):
                held += change
                if held > most:
                    self._oracle.complain(f"{names[record]} has {held} requests at a time, {most} may be there")
                    break

    def full(self, place: str, record: Record) -> bool:
        """Whether the backend there may have had all that it may have when a request ended; also where the limit is not a number."""
        limits = [settings.max_in_flight for settings in self._oracle.settings(record.name) if settings.max_in_flight]
        member = self._oracle.town.members.at(place, record.at)
        if not limits or member is None:
            return False
        most = min((limit for limit in limits if isinstance(limit, int)), default=0)
        held = sum(
            attempt.at < record.at < self._ended(attempt, batch=0)
            for name, attempts in self._oracle.backends.attempts.items()
            if name != record.name
            for attempt in attempts
            if attempt.member is not None and attempt.member.record is member.record
        )
        return held >= most

    def _ended(self, attempt: Attempt, batch: int = _BATCH) -> int:
        """When it held its place no more, as far as can be seen; `batch`: how much earlier than it is closed."""
        tape, answer = attempt.tape, attempt.answer
        if tape is None:
            assert attempt.dialled is not None
            return attempt.dialled.failed_at or self._oracle.town.network.tapes.tick()
        if self._oracle.town.line.abandoned_s and attempt.request is not None and attempt.request.complete:
            return self._let_go(attempt, tape, batch)
        over = tape.first(*ENDS)
        if answer is not None and answer.ends_at is not None:
            over = tape.entry_of(TOOK, answer.ends_at - 1) or over
        if over is None:
            return self._oracle.town.network.tapes.tick()
        return max(over.at - batch, attempt.at) if over.what in SAID else over.at

    def _let_go(self, attempt: Attempt, tape: Tape, batch: int) -> int:
        """When a backend that has the whole request is at work on it no more, as far as can be seen."""
        _, answers = read_both(tape.all(PUT), tape.all(TOOK))
        answer = answers.messages[attempt.index] if attempt.index < len(answers.messages) else None
        closed, reset, told = tape.first(*HEARD), tape.first(SAID_RST), tape.first(SAID_FIN)
        ends = [] if closed is None else [closed.at]
        if answer is not None and answer.ends_at is not None:
            last = tape.entry_of(TOOK, answer.ends_at - 1)
            ends += [] if last is None else [last.at]
        began = answer is not None or (told is not None and answers.broken)
        patient = (
            told is not None
            and reset is not None
            and reset.when - told.when >= self._oracle.town.line.abandoned_s - LATE_S
        )
        if reset is not None and (began or patient):
            ends.append(max(reset.at - batch, attempt.at))
        return min(ends, default=self._oracle.town.network.tapes.tick())
