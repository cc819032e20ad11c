"""Judges how long was waited, and how often a connection was used, by the settings of the time or of the request."""

from typing import TYPE_CHECKING

from faults.attempts import Attempt, begun
from faults.logins import bound_from
from faults.tape import ENDS, TOOK
from faults.timing import LONG_S

if TYPE_CHECKING:
    from faults.oracle import Oracle

# A deadline may be a tick of the wheel late, and sums of floating point a little off.
LATE_S = 0.11
ROUNDED_S = 1e-6
# Whose answers are no larger together was never waited for: the mark is a little above, and heads grow on the way.
NEVER_FULL_BYTES = 60_000


class Patience:
    """Connections go by the settings that are in force when they are made or used again, a request by those that it began
    with, to its end.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain

    def judge(self) -> None:
        brief = any(ends - begins < LONG_S for begins, ends in self._town.process.held)
        for record in self._town.records:
            # After a pause of the whole process everything has a tick of grace: what came meanwhile is read first.
            if record.unheard and record.outcome in ("TIMED_OUT", "CUT_SHORT") and not brief:
                self.complain(f"{record.name} ended with {record.outcome}, and what its backend had said was not read")
        for name, attempts in self._oracle.backends.attempts.items():
            ask = self._oracle.asks[name][1]
            for attempt in attempts:
                self._judge_connect(name, attempt)
                self._judge_use(name, attempt)
                self._judge_stall(name, attempt)
                if len(ask.wire) == ask.head_bytes:  # each piece of a body moves the end
                    self._judge_wait(name, attempt, begun(attempts).when)

    def _judge_connect(self, name: str, attempt: Attempt) -> None:
        if attempt.dialled is None:
            return
        generations = self._town.generations
        in_force = list(generations.between(attempt.at, attempt.at))
        if self._town.naming.on:  # it was begun a moment before
            in_force = generations.since(attempt.dialled.claimed_at, attempt.at)
        most = max(settings.timeouts.connect_s for settings in in_force)
        if attempt.dialled.timeout_s > most + ROUNDED_S:
            self.complain(f"{name}: a connect may take {attempt.dialled.timeout_s} s, {most} is set")

    def _judge_use(self, name: str, attempt: Attempt) -> None:
        """Whether a connection is used again as often as it may be, and only where any are kept."""
        if attempt.tape is None or not attempt.index:
            return
        bound = bound_from(*self._oracle.backends.readers[attempt.tape])
        if bound is not None and bound < attempt.index:
            return  # its client is logged in there: that has no bounds
        kept_by = list(self._town.generations.between(attempt.tape.began, attempt.at))
        if attempt.index >= max(settings.upstream.max_requests for settings in kept_by):
            self.complain(f"{name} is request {attempt.index + 1} on {attempt.tape}")
        if not any(settings.upstream.max_idle for settings in kept_by):
            self.complain(f"{name} uses {attempt.tape} again, none was to be kept")

    def _judge_stall(self, name: str, attempt: Attempt) -> None:
        """A body that does not go on has its time, unless it is its client that takes none."""
        tape, answer = attempt.tape, attempt.answer
        if tape is None or answer is None or answer.head_ends_at is None or answer.complete:
            return
        if self._relayed(name) > NEVER_FULL_BYTES:
            return
        over = tape.first(*ENDS)
        took = [entry for entry in tape.entries if entry.what == TOOK]
        # What comes when the backend was left is thrown away; over TLS an end is on the tape before what was decrypted together with it.
        last = ([entry for entry in took if over is None or entry.when <= over.when] or took)[-1]
        until = self._town.clock.seconds() if over is None else over.when
        record = self._oracle.records.get(name)
        if record is not None:
            until = min(until, record.when)  # the FIN may be late: what TLS says before it waits for room
        waited = until - last.when - self._town.process.lost_s(last.when, until)
        most = max(settings.timeouts.response_idle_s for settings in self._oracle.settings(name))
        if waited > most + LATE_S:
            self.complain(f"{name}: {attempt.backend} was waited for {waited} s within its answer, {most} are set")

    def _relayed(self, name: str) -> int:
        """How much the client of this request may have been sent at the most."""
        client, _ = self._oracle.asks[name]
        attempts = [one for ask in client.asks for one in self._oracle.backends.attempts.get(ask.name, [])]
        return sum(len(attempt.tape.all(TOOK)) for attempt in attempts if attempt.tape is not None)

    def _judge_wait(self, name: str, attempt: Attempt, began: float) -> None:
        """A request without a body has one end for the heads of all its answers, whatever is set later."""
        tape, answer = attempt.tape, attempt.answer
        if tape is None:
            return
        over = tape.first(*ENDS)
        if answer is not None and answer.head_ends_at is not None:
            over = tape.entry_of(TOOK, answer.head_ends_at - 1)
        until = self._town.clock.seconds() if over is None else over.when
        record = self._oracle.records.get(name)
        if record is not None:
            until = min(until, record.when)  # the FIN may be late: what TLS says before it waits for room
        waited = until - began - self._town.process.lost_s(began, until)
        most = max(settings.timeouts.response_head_s for settings in self._oracle.settings(name))
        if waited > most + LATE_S:
            self.complain(f"{name}: {attempt.backend} was waited for {waited} s, {most} are set")
