"""The attempts at each request, as the tapes of the connections to the backends show them."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from faults.ledger import Member, Record
from faults.reader import UNTIL_CLOSE, Message, Reader, read_both
from faults.tape import HEARD_FIN, PUT, SAID_FIN, TOOK, Dialled, Entry, Tape
from faults.town import Town

from twisted_lb.core.backend import Backend


@dataclass
class Attempt:
    """One attempt at a request, as the tapes show it."""

    at: int
    when: float
    backend: str
    member: Member | None  # who was there when the connection was asked for
    dialled: Dialled | None
    tape: Tape | None
    index: int  # of the request on its tape
    request: Message | None
    answer: Message | None
    hedge: bool = False  # it was made beside another one

    @property
    def reached(self) -> bool:
        """Whether a byte of it was on its way to the backend."""
        return self.request is not None


class Backends:
    """What the tapes of the connections to the backends say: attempts by the name of their request."""

    def __init__(self, town: Town, complain: Callable[[str], None]) -> None:
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        self.readers: dict[Tape, tuple[Reader, Reader]] = {}
        self.unnamed = 0
        self._complain = complain
        self._members = town.members
        self._holds = town.line.abandoned_s > 0
        self._half_closes = town.network.kernel is not None
        self._records = {record.name: record for record in town.records}
        for dialled in town.network.dials:
            if dialled.tape is None:
                member = self._members.asked(dialled)
                attempt = Attempt(dialled.at, dialled.when, dialled.address, member, dialled, None, 0, None, None)
                self._add(dialled.wanted_by, attempt)
            else:
                self._read(dialled)
        for attempts in self.attempts.values():
            attempts.sort(key=lambda attempt: attempt.at)

    def arrange(self, record: Record) -> None:
        """Find the hedge of a request, and have the attempt whose answer was waited for in the end as the last one."""
        attempts = self.attempts.get(record.name, [])
        there = (
            [one for one in attempts if one.member is not None and one.member.record is record.hedge.record]
            if record.hedge
            else []
        )
        if there:
            # That backend may have been asked once more behind it: the hedge is the one that began while another was under way.
            beside = [one for one in there if any(other.began < one.when < other.ended for other in record.tries)]
            hedge = (beside or there)[-1]
            hedge.hedge = True
            if hedge is attempts[-1] and not record.hedge_heard and record.attempts > 1:
                attempts[-2:] = [hedge, *attempts[-2:-1]]

    def _add(self, name: str, attempt: Attempt) -> None:
        self.attempts[name].append(attempt)

    def _read(self, dialled: Dialled) -> None:
        tape = dialled.tape
        assert tape is not None
        asked, answered = read_both(tape.all(PUT), tape.all(TOOK))
        end, given_up = tape.left_by_peer, self._given_up(dialled, tape, asked)
        if given_up is not None:
            # What comes afterwards is thrown away; the FIN of a tunnel is another matter.
            before = read_both(tape.all(PUT), tape.all(TOOK)[: tape.count(TOOK, given_up.at)])
            if any(message.status == 101 for message in before[1].messages):
                given_up = None
            else:
                asked, answered = before
        if end is not None and (given_up is None or end.at < given_up.at):
            answered.end(reset=end.what != HEARD_FIN)
        self.readers[tape] = asked, answered
        if asked.broken:
            self._complain(f"{tape} was sent what is no request: {asked.broken}")
        self._add(dialled.wanted_by, self._attempt(dialled, asked, answered, 0))
        for index in range(1, len(asked.messages)):
            attempt = self._attempt(dialled, asked, answered, index)
            self._check_reuse(tape, asked.messages[index - 1], answered, index, attempt)
            if asked.messages[index].head_ends_at is None:
                self.unnamed += 1
            else:
                self._add(name_of(asked.messages[index]), attempt)

    def _given_up(self, dialled: Dialled, tape: Tape, asked: Reader) -> Entry | None:
        """When a backend was told that nobody waits any more for what it may be at work on: by a FIN, where its place is held."""
        if self._holds and not self._half_closes:
            self._give_up(tape, dialled.upstream.backend, asked.messages[-1] if asked.messages else None)
        return tape.first(SAID_FIN) if self._holds else None

    def _give_up(self, tape: Tape, backend: Backend, last: Message | None) -> None:
        """Note when a backend would have been told, where transports cannot half-close: what comes later is thrown away too. Beside
        its attempt another one may have begun and ended elsewhere (hedging).
        """
        record = None if last is None or last.head_ends_at is None else self._records.get(name_of(last))
        begun = None if last is None else tape.entry_of(PUT, last.begins_at)
        if record is None or begun is None:
            return
        ended = [one.ended for one in record.tries if one.record is backend and one.began <= begun.when]
        later = [place for place, entry in enumerate(tape.entries) if ended and entry.when > ended[-1]]
        if later and begun.when <= ended[-1]:
            place = later[0]
            # Behind what came in that moment, and before all that came then.
            tape.entries.insert(place, Entry(tape.entries[place - 1].at + 1, ended[-1], SAID_FIN, b""))

    def _attempt(self, dialled: Dialled, asked: Reader, answered: Reader, index: int) -> Attempt:
        request = asked.messages[index] if index < len(asked.messages) else None
        answer = answered.messages[index] if index < len(answered.messages) else None
        at, when = dialled.at, dialled.when
        if index:
            assert request is not None
            assert dialled.tape is not None
            entry = dialled.tape.entry_of(PUT, request.begins_at)
            assert entry is not None
            at, when = entry.at, entry.when
        member = self._members.asked(dialled)
        first = dialled if not index else None
        return Attempt(at, when, dialled.address, member, first, dialled.tape, index, request, answer)

    def _check_reuse(self, tape: Tape, before: Message, answered: Reader, index: int, attempt: Attempt) -> None:
        """A connection is used again only after a complete exchange, with nothing left on it."""
        name = attempt.request
        if not before.complete:
            self._complain(f"{tape} is used for {name} in the middle of {before}")
        last = answered.messages[index - 1] if index <= len(answered.messages) else None
        if last is None or not last.complete:
            self._complain(f"{tape} is used for {name} before its last answer was complete")
            return
        if last.closes or (last.framing == UNTIL_CLOSE):
            self._complain(f"{tape} is used for {name} although the backend said that it closes")
        if tape.count(TOOK, attempt.at) > (last.ends_at or 0):
            self._complain(f"{tape} is used for {name} with bytes on it that nobody asked for")


def begun(attempts: list[Attempt]) -> Attempt:
    """The one that began first."""
    return min(attempts, key=lambda attempt: attempt.at)


def stale(attempt: Attempt) -> bool:
    """Whether it was on a connection that had served others, and got no answer: that may have been closed before."""
    return attempt.index > 0 and attempt.answer is None


def name_of(message: Message) -> str:
    return message.target.decode().removeprefix("/r/")
