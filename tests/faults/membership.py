"""Judges what a change of members makes of connections, requests and checks: nothing new goes to whoever is gone."""

from itertools import pairwise
from typing import TYPE_CHECKING

from faults.attempts import Attempt
from faults.climate import CHECK_INTERVAL_S, CHECK_TIMEOUT_S
from faults.ledger import Member, Record
from faults.naming import LONGEST_ANSWER_S
from faults.reader import UNTIL_CLOSE
from faults.tape import ENDS, PUT, TOOK, Tape
from faults.timing import LONG_S

if TYPE_CHECKING:
    from faults.oracle import Oracle

# From the end of a request to the close of its connection no time passes.
AT_ONCE_S = 0.001
# The first check of a backend comes within a second, the next ones after the interval and a tenth of it at most, and a
# deadline may be a tick late.
FIRST_CHECK_S = 1.0 + AT_ONCE_S
# It is looked a few times a second whose time is over.
CUT_S = 0.25 + AT_ONCE_S
LOOKED_UP_S = 5.0 + LONGEST_ANSWER_S + 0.5
NEXT_CHECK_S = max(CHECK_INTERVAL_S * 1.1, CHECK_TIMEOUT_S) + 0.11


class Membership:
    """Who was asked, and checked, while being in the pool."""

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain
        self._lost_s = oracle.town.process.lost_s

    def judge(self) -> None:
        for text in self._town.members.complaints:
            self.complain(text)
        for name, attempts in self._oracle.backends.attempts.items():
            for attempt in attempts:
                self._judge_attempt(name, attempt)
        for dialled in self._town.network.dials:
            member = self._town.members.asked(dialled)
            if member is not None and member.until is not None and dialled.tape is not None:
                self._judge_left(member, dialled.tape)
        for record in self._town.records:
            self._judge_time(record)
        self._judge_checks()
        if self._town.naming.on:
            self._judge_names()

    # Requests.

    def _judge_attempt(self, name: str, attempt: Attempt) -> None:
        member = attempt.member
        if member is None:
            self.complain(f"{name}: {attempt.backend} was asked, and is no member")
            return
        # What was given to a connection before may leave later.
        begun = member.begun.get(attempt.tape, 1) if attempt.tape is not None else 1
        if self._town.naming.on and attempt.dialled is not None and member.until is not None:
            begun += attempt.dialled.claimed_at <= member.until.when  # it is dialled a moment after the claim
        if member.until is not None and attempt.at > member.until.at and attempt.index >= begun:
            self.complain(f"{name}: {member} was asked when it was gone")

    def _judge_time(self, record: Record) -> None:
        """What runs at whoever goes has its time, and then is cut; a tunnel has more of it than a story is long."""
        member, attempts = record.member, self._oracle.backends.attempts.get(record.name, [])
        if member is None or member.until is None or member.rests:
            return
        tape = attempts[-1].tape if attempts else None
        if tape is not None and self._oracle.backends.readers[tape][1].tunnel is not None:
            return
        due = member.until.when + max(one.timeouts.drain_s for _, one in self._town.generations.all) + CUT_S
        if record.when > due + self._lost_s(member.until.when, record.when):
            self.complain(f"{record.name} ran until {record.when} at {member}, which had gone at {member.until.when}")
        stop = self._town.operator.stop
        if stop is not None and stop.hurried is not None and stop.hurried.at < record.at:
            return  # who is in a hurry cuts it himself
        # Its answer may have come meanwhile, and is read first.
        went_on = any(begins + LONG_S <= ends == record.when for begins, ends in self._town.process.held)
        if record.ended_by == "CANCELLED" and went_on and self._oracle.left_behind(record):
            self.complain(f"{record.name} at {member}, which had gone, is cut as soon as the process goes on")

    # Connections.

    def _judge_left(self, member: Member, tape: Tape) -> None:
        """Whoever goes is left alone: idle connections are closed at once, the others when they are done."""
        assert member.until is not None
        end = tape.first(*ENDS)
        if end is not None and end.at < member.until.at:
            return
        idle = (
            tape in member.begun and tape not in member.busy and self._oracle.backends.readers[tape][1].tunnel is None
        )
        due = member.until.when if idle else self._done_at(tape)
        if due is not None and tape.good_bye_waited(due):
            return
        if due is not None and (end is None or end.when > due + self._lost_s(due, end.when) + AT_ONCE_S):
            self.complain(f"{tape} to {member}, which is gone, is kept until {None if end is None else end.when}")

    def _done_at(self, tape: Tape) -> float | None:
        """When the last exchange on it was complete in both directions, None when it never was."""
        asked, answered = self._oracle.backends.readers[tape]
        if not asked.messages or len(asked.messages) != len(answered.messages):
            return None
        request, answer = asked.messages[-1], answered.messages[-1]
        if (
            request.ends_at is None
            or answer.ends_at is None
            or answered.tunnel is not None
            or answer.framing == UNTIL_CLOSE
        ):
            return None
        sent, heard = tape.entry_of(PUT, request.ends_at - 1), tape.entry_of(TOOK, answer.ends_at - 1)
        assert sent is not None
        assert heard is not None
        return max(sent.when, heard.when)

    # Names, and checks.

    def _judge_names(self) -> None:
        """A name is looked up every five seconds, whether anybody connects or not."""
        assert self._town.closed is not None
        for before, after in pairwise([*self._town.network.resolver.asked_at, self._town.closed.when]):
            if after - before - self._town.process.lost_s(before, after) > LOOKED_UP_S:
                self.complain(f"the name was not looked up between {before} and {after}")

    def _judge_checks(self) -> None:
        if not self._town.checked:
            return
        checks: dict[Member, list[float]] = {member: [] for member in self._town.members.all}
        for check in self._town.network.checked:
            member = self._town.members.at(check.address, check.at)
            if member is None:
                self.complain(f"{check.address} was checked, and is no member")
            else:
                checks[member].append(check.when)
        for member, moments in checks.items():
            assert member.until is not None
            ends_at = member.until.when
            first = moments[0] if moments else ends_at
            since = self._maintained_until(member, member.since.when, first)
            if first - since > FIRST_CHECK_S + self._lost_s(since, first):
                self.complain(f"{member} came at {member.since.when}, was checked first at {moments[:1]}")
            for before, after in pairwise([*moments, ends_at]):
                since = self._maintained_until(member, before, after)
                if after - since > NEXT_CHECK_S + self._lost_s(since, after):
                    self.complain(f"{member} was not checked between {since} and {after}")
            for begins, ends in member.maintained:
                if any(begins < moment < ends for moment in moments):
                    self.complain(f"{member} was checked in maintenance, from {begins} to {ends}")

    def _maintained_until(self, member: Member, before: float, after: float) -> float:
        """Until when nobody was to check it in this time; the beginning of it where nobody said so."""
        ends = [min(end, after) for begin, end in member.maintained if begin <= after and end >= before]
        return max([before, *ends])
