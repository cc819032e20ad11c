"""Judges whom the balancer leaves out and asks again: after a refused connect, by checks or by trials, and who waits for it."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from faults.agents import BUSY
from faults.attempts import begun
from faults.ledger import Member, Record
from faults.reader import Reader
from faults.tape import HEARD, SAID, TOOK, Check, Dialled

if TYPE_CHECKING:
    from faults.oracle import Oracle

# From the return of a backend to a request that waited for it no time passes.
AT_ONCE_S = 0.001
# While there is panic, and nobody usable, whoever was refused by all is tried again with a tick of the pool.
AGAIN_IN_PANIC_S = 0.25 + AT_ONCE_S
ROUNDED_S = 1e-6
# Where time is running out a request is given up, be it as soon as it may.
NEARLY_S = 0.5
# Without checks whoever was refused is tried so often at most.
TRIAL_EVERY_S = 0.25
# With checks whoever is out and waited for is checked so often, and a tenth of that later at most.
AWAITED_S = 0.2 * 1.1 + AT_ONCE_S
# What may eject: nobody listens there, or does not say so in time to the one request that tries.
EJECTS = {"REFUSED", "CONNECT_TIMEOUT"}


class Returning:
    """Nobody is blamed for a connect that failed on our side. Whoever refused is asked again after a good check, or, without
    checks, by one request at a time; whoever failed all checks is asked for nothing; and who waits goes on at once.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain
        changes = self._town.changes
        moments = [*(change.when for change in changes), math.inf]
        # From when until when who was usable, or asked in panic.
        self._usable = [
            (*span, change.open, not change.usable) for span, change in zip(pairwise(moments), changes, strict=True)
        ]
        self._dials: dict[Member, list[Dialled]] = {}
        for dialled in self._town.network.dials:
            # What is learned by a connect is learned of the backend that was claimed, be it gone by then.
            member = self._town.members.asked(dialled)
            if member is not None:
                self._dials.setdefault(member, []).append(dialled)

    def judge(self) -> None:
        for dialled in (*self._town.network.dials, *self._town.network.checked):
            given_up = not dialled.failed and dialled.dial is not None and dialled.dial._cancelled
            if dialled.failed != dialled.meant and not given_up:
                self.complain(f"{dialled.address}: a connect that is {dialled.meant} is taken for {dialled.failed}")
        for moment, places, outcome in self._town.ejections:
            if outcome not in EJECTS or not any(self._failed_then(moment.when, place) for place in places):
                self.complain(f"{', '.join(sorted(places))} is ejected for {outcome} at {moment.when}")
        for member, dials in self._dials.items():
            if self._town.checked:
                self._judge_checked(member, dials)
            else:
                self._judge_trials(member, dials)
        for record in self._town.records:
            self._judge_wait(record)
            if self._town.checked and not self._town.commanded:
                self._judge_awaited(record)

    def _failed_then(self, when: float, address: str) -> bool:
        dials = self._town.network.dials
        return any(one.address == address and one.failed_when == when and one.meant in EJECTS for one in dials)

    # Checks.

    def _judge_checked(self, member: Member, dials: list[Dialled]) -> None:
        results = sorted(
            result
            for check in self._town.network.checked
            if check.address == member.address
            and member.there(check.at)
            and (result := _result(check)) is not None
            # One that waited for the name when it moved is of the old server's checks, which are not heard any more.
            and check.when > member.since.when
            # Maintenance ends the checks: of one that was under way nothing is heard.
            and not any(begun <= result[1] and check.when <= ended for begun, ended in member.maintained)
        )
        fall = max(settings.health_check.fall for _, settings in self._town.generations.all)
        refused = [one for one in dials if one.failed == "REFUSED"]
        for dialled in dials:
            if self._panics(member, dialled):
                continue
            # A check that fails in this moment may be told a little later.
            heard = [passed for at, when, passed in results if at < dialled.at and (passed or when < dialled.when)]
            if len(heard) >= fall and not any(heard[-fall:]):
                self.complain(f"{dialled.wanted_by}: {member} was asked, though {fall} checks in a row had failed")
            for one in refused:
                gone = one.failed_at is not None and one.failed_at < dialled.at
                if gone and not any(passed and one.at < at < dialled.at for at, _, passed in results):
                    self.complain(
                        f"{dialled.wanted_by}: {member} was asked, which refused, and no check has passed since"
                    )

    # Trials.

    def _judge_trials(self, member: Member, dials: list[Dialled]) -> None:
        out = False  # nobody was there
        last = 0.0  # when that was seen last
        trial: Dialled | None = None
        moments = [(one.at, "begins", one) for one in dials]
        moments += [(one.failed_at, "fails", one) for one in dials if one.failed_at is not None]
        moments += [(one.tape.began, "connects", one) for one in dials if one.tape is not None]
        for at, what, dialled in sorted(moments, key=lambda moment: moment[0]):
            if out and self._used_again(member, at):
                out = False
            if what in ("begins", "connects") and out and self._panics(member, dialled):
                # Whether it is the trial too is not seen; who listens may end it.
                out, trial = what == "begins", None
                continue
            if what == "begins" and out:
                if dialled.when < last + TRIAL_EVERY_S - ROUNDED_S:
                    self.complain(f"{member} is tried again {dialled.when - last} s after it was found gone")
                if trial is not None:
                    self.complain(f"{dialled.wanted_by}: {member} is tried by two requests at once")
                trial = dialled
            elif what == "fails" and (dialled is trial or not out):
                if dialled.failed == "REFUSED" or (dialled is trial and dialled.failed == "CONNECT_TIMEOUT"):
                    out, last = True, dialled.failed_when
                elif dialled is trial and dialled.failed == "BACKLOG_FULL":
                    out = False  # somebody is there, and busy
                elif dialled is trial:
                    last = 0.0  # it has told nothing, and is repeated
                trial = None
            elif what == "connects" and dialled is trial:
                out, trial = False, None
            if trial is not None and trial.failed_at is None and trial.tape is None:
                trial = None  # its client has left, and another one tries

    def _panics(self, member: Member, dialled: Dialled) -> bool:
        """Whether it may have been asked because there was panic."""
        changes = self._town.changes
        return any(
            member.address in change.panicked and change.at <= dialled.at and dialled.claimed_at <= ends
            for change, ends in zip(changes, [*(later.when for later in changes[1:]), math.inf], strict=True)
        )

    def _used_again(self, member: Member, before: int) -> bool:
        """Whether a kept connection has served as a trial."""
        return any(
            attempt.index and attempt.member is member and attempt.at < before
            for attempts in self._oracle.backends.attempts.values()
            for attempt in attempts
        )

    # Who waits.

    def _judge_awaited(self, record: Record) -> None:
        """While somebody waits, whoever is out is checked several times a second."""
        for since, until in record.waits:
            for member in self._town.members.all:
                away = any(begin <= until and end >= since for begin, end in member.maintained) or self._in_between(
                    member, since, until
                )
                if member.since.when < since and not away:
                    self._judge_pace(member, since, until)

    def _in_between(self, member: Member, since: float, until: float) -> bool:
        """Whether it was usable, or left, at some moment between these."""
        gone = member.until is not None and member.until.when < until
        return gone or any(
            member.address in usable and begins <= until and since <= ends for begins, ends, usable, _ in self._usable
        )

    def _judge_pace(self, member: Member, since: float, until: float) -> None:
        due, lost_s = since + AWAITED_S, self._town.process.lost_s
        for check in self._town.network.checked:
            if check.address == member.address and member.there(check.at) and check.when < until:
                if check.when > due + lost_s(since, check.when):
                    break
                due = max(due if check.when <= since else check.when + AWAITED_S, check.ended_when)
        if until > due + lost_s(since, until):
            self.complain(f"{member} is waited for from {since} to {until}, and was not checked by {due}")

    def _judge_wait(self, record: Record) -> None:
        if self._oracle.bounded:
            return  # who is usable may be full
        for since, until in record.waits:
            for begins, ends, usable, panics in self._usable:
                first, last = max(begins, since), min(ends, until)
                served_late = last - first - self._town.process.lost_s(first, last)
                if usable and served_late > (AGAIN_IN_PANIC_S if panics else AT_ONCE_S):
                    self.complain(f"{record.name} waited {served_late} s more while {set(usable)} were usable")
        queues = [settings.queue for _, settings in self._town.generations.all]
        if record.somebody_ready and record.waiting < min(queue.length for queue in queues) and self._gave_up(record):
            waited = record.when - record.waits[0][0] if record.waits else 0.0
            if waited < min(queue.no_backend_s for queue in queues) - ROUNDED_S:
                self.complain(f"{record.name} was refused after {waited} s, and might have waited")

    def _gave_up(self, record: Record) -> bool:
        """Whether it ended because nobody was usable: before its first attempt, or behind one that nobody has listened to."""
        if record.refused_by_pool:
            return True
        attempts = self._oracle.backends.attempts.get(record.name, [])
        if record.outcome not in EJECTS or record.status not in (502, 504) or self._oracle.open(record.at):
            return False
        if any(attempt.reached for attempt in attempts):
            return False  # it may have waited behind that one already, and has no other time for that
        ask = self._oracle.asks[record.name][1]
        return all(
            settings.retry.more_attempts > 0
            and len(ask.body) <= settings.limits.replay_body_bytes
            and record.when - begun(attempts).when < settings.timeouts.response_head_s - NEARLY_S
            for settings in self._oracle.settings(record.name)
        )


def _result(check: Check) -> tuple[int, float, bool] | None:
    """When what was known of a backend by a check, None when nothing was."""
    if check.failed_at is not None:
        return (check.failed_at, check.failed_when, False) if check.failed in EJECTS else None
    tape = check.tape
    if tape is None:
        return None
    (answer, *_) = [*Reader(lambda index: b"GET").feed(tape.all(TOOK)).messages, None]
    if answer is not None and answer.head_ends_at is not None:
        head = tape.entry_of(TOOK, answer.head_ends_at - 1)
        assert head is not None
        return head.at, head.when, 200 <= answer.status < 400 or answer.status == BUSY
    # What is heard is not known before it is looked at.
    over = tape.first(*SAID) or tape.first(*HEARD)
    return None if over is None else (over.at, over.when, False)
