"""One client's connection, judged: what was asked on it, and what was answered."""

from typing import TYPE_CHECKING

from faults.attempts import Attempt, begun, name_of
from faults.clients import Client
from faults.ledger import Record
from faults.reader import UNTIL_CLOSE, Message, Reader, read_both, second_opinion
from faults.tape import HEARD, HEARD_RST, PUT, SAID, SAID_FIN, SAID_RST, TOOK, Entry, Tape
from faults.tunnel import judge_tunnel, said_good_bye

if TYPE_CHECKING:
    from faults.oracle import Oracle

# What a client is told when an attempt that ended so was the last.
STATUS = {
    "REFUSED": 502,
    "CONNECT_TIMEOUT": 504,
    "LOCAL_FAILURE": 503,
    "NO_PORT": 503,
    "BACKLOG_FULL": 504,
    "STALE_REUSE": 502,
    "NO_RESPONSE": 502,
    "BAD_RESPONSE": 502,
    "TIMED_OUT": 504,
    "LATE": 504,
}


class Conversation:
    """One client's connection: what was asked, and what was answered.

    `own_statuses` are those of refusals of what is no request, and `follows` says that a client's FIN is always answered by one, also in the middle of an answer.
    """

    follows = False
    own_statuses = frozenset({400, 408})

    def __init__(self, oracle: "Oracle", client: Client, tape: Tape) -> None:
        self._oracle = oracle
        self._town = oracle.town
        self._client = client
        self._tape = tape
        self._raw = tape.all(PUT)
        self._said = tape.first(*SAID)
        self._asked, self._answers = read_both(tape.all(TOOK), self._raw)
        if self._said is not None:
            self._answers.end(reset=self._said.what != SAID_FIN or (self.follows and tape.left_by_peer is not None))

    @property
    def both(self) -> tuple[Tape, Reader, Reader]:
        """The connection, what was asked on it, and what was answered."""
        return self._tape, self._asked, self._answers

    def complain(self, text: str) -> None:
        self._oracle.complain(f"{self._client.name}: {text}")

    def judge(self) -> None:
        answers, asked = self._answers, self._asked
        mistaken = self._was_hardly_a_head()
        if answers.broken and not mistaken:
            self.complain(f"what was answered is not HTTP: {answers.broken}")
        if len(answers.messages) - mistaken > len(asked.messages):
            self.complain(f"{len(answers.messages)} answers to {len(asked.messages)} requests")
        if answers.unread and not answers.broken and (not answers.messages or answers.messages[-1].complete):
            self.complain(f"bytes behind the last answer: {answers.unread[:60]!r}")
        for index, request in enumerate(asked.messages):
            answer = answers.messages[index] if index < len(answers.messages) else None
            self._judge_one(index, request, answer)
        if answers.tunnel is not None:
            judge_tunnel(self._oracle, name_of(asked.messages[-1]), answers)

    def spans(self) -> dict[str, tuple[int, float]]:
        """The moments between which each request began: it is led by the settings of one of them."""
        spans = {}
        before = 0
        for request in self._asked.messages:
            if request.head_ends_at is None:
                break
            name = name_of(request)
            here = self._tape.entry_of(TOOK, request.head_ends_at - 1)
            assert here is not None
            attempts, record = self._oracle.backends.attempts.get(name), self._oracle.records.get(name)
            told = self._told_at(len(spans))
            by = begun(attempts).at if attempts else record.at if record else told.at if told else self._oracle.end
            # What TLS has decrypted at once is on the tape behind what its first bytes have led to.
            spans[name] = min(max(here.at, before), by), by
            before = record.at if record else before
        return spans

    def _told_at(self, index: int) -> Entry | None:
        """When the first byte of an answer left, None when there is none."""
        answers = self._answers.messages
        return self._tape.entry_of(PUT, answers[index].final_at) if index < len(answers) else None

    def _too_large(self, name: str, request: Message) -> set[bool]:
        """Whether the body is larger than may be, as far as that can be known."""
        size = request.framing if request.framing >= 0 else len(request.body)
        limits = [settings.limits.body_bytes for settings in self._oracle.settings(name)]
        return {limit is not None and size > limit for limit in limits}

    # Excuses.

    def _was_hardly_a_head(self) -> bool:
        """Whether the last answer but one is one with a body to a HEAD, refused before it could be known as one: its body is
        read as the last answer.
        """
        index = len(self._answers.messages) - 2
        told = self._told_at(index) if index >= 0 and self._answers.broken else None
        if told is None or index >= len(self._asked.messages):
            return False
        refused = self._asked.messages[index]
        return refused.method == b"HEAD" and self._tape.count(TOOK, told.at) - refused.begins_at < len(b"HEAD ")

    @property
    def _gone(self) -> bool:
        """Whether the client left, or stopped reading for too long, or the network made it seem so. One that has closed reads
        nothing more, and nobody hears of it who does not read what it had sent before.
        """
        return (
            self._tape.left_by_peer is not None
            or self._client.left == "stop reading"
            or any(f.what in ("stalled", "closed") and f.where == self._client.host for f in self._town.faults.happened)
        )

    @property
    def _cut(self) -> bool:
        """Whether a stop has ended it, at its own end, or the end of the time that a request had at a backend which is gone."""
        ended = None if self._town.operator.stop is None else self._town.operator.stop.ended
        ends = [(record.at, record.when) for record in self._records if self._taken_back(record)]
        ends += [] if ended is None else [(ended.at, ended.when)]
        return any(
            entry.what in SAID and entry.at > at and entry.when == when
            for entry in self._tape.entries
            for at, when in ends
        )

    @property
    def _records(self) -> list[Record]:
        """What the balancer says of the requests on it."""
        names = [name_of(request) for request in self._asked.messages if request.target]
        return [self._oracle.records[name] for name in names if name in self._oracle.records]

    def _taken_back(self, record: Record) -> bool:
        """Whether its backend was gone and its time over, which its client may hear of later."""
        return record.ended_by == "CANCELLED" and self._oracle.left_behind(record)

    def _last(self, record: Record) -> bool:
        """Whether it was ended at the end of a stop, or of its time, which its client may hear of later."""
        ended = None if self._town.operator.stop is None else self._town.operator.stop.ended
        return (ended is not None and record.when == ended.when) or self._taken_back(record)

    def _excused(self, index: int, request: Message) -> bool:
        """Whether a request may stay without an answer."""
        if self._cut or self._cut_later(request):
            return True
        if self._gone and not self._must_finish(request):
            return True
        for answer in self._answers.messages[:index]:
            if answer.closes or not answer.complete or answer.framing == UNTIL_CLOSE:
                return True
        for earlier in self._asked.messages[:index]:
            record = self._oracle.records.get(name_of(earlier))
            if record is not None and record.ended_by == "CUT_SHORT":
                return True
        began = self._tape.entry_of(TOOK, request.begins_at)
        assert began is not None
        if self._said is None:
            return False
        return self._said.at < began.at or self._was_idle_for_long(index, began)  # it crossed our close

    def _was_idle_for_long(self, index: int, began: Entry) -> bool:
        """Whether a connection over TLS was idle, before a request, for as long as it may be: then its close was begun, and what TLS says
        of that waits for room as all else does.
        """
        if self._tape.outgoing.way is None or not index:
            return False
        before = self._tape.entry_of(PUT, (self._answers.messages[index - 1].ends_at or 1) - 1)
        if before is None:
            return False
        idle_s = min(one.timeouts.client_idle_s for one in self._town.generations.between(before.at, began.at))
        return began.when - before.when >= idle_s

    def _must_finish(self, request: Message) -> bool:
        """A client that only half-closed is answered where the configuration believes it."""
        began, now = self._tape.began, self._oracle.end
        return (
            all(one.client_half_close == "finish" for one in self._town.generations.between(began, now))
            and request.complete
            and self._tape.first(HEARD_RST, SAID_RST) is None
            and self._client.left != "stop reading"
            and not any(f.where == self._client.host for f in self._town.faults.happened)
        )

    def _complete_before(self, request: Message, answer: Message) -> bool:
        """Whether the request had come to its end when it was answered."""
        if request.ends_at is None:
            return False
        ended, answered = self._tape.entry_of(TOOK, request.ends_at - 1), self._tape.entry_of(PUT, answer.final_at)
        assert ended is not None
        assert answered is not None
        return ended.at < answered.at

    def _cut_later(self, request: Message) -> bool:
        """Whether the answer to a later request was cut by a reset, which takes away what has not left before it."""
        if self._said is None or self._said.what != SAID_RST:
            return False
        later = [name_of(one) for one in self._asked.messages if one.begins_at > request.begins_at and one.target]
        records = [self._oracle.records.get(name) for name in later]
        return any(record is not None and record.ended_by == "CUT_SHORT" for record in records)

    # One request.

    def _judge_one(self, index: int, request: Message, answer: Message | None) -> None:
        if request.head_ends_at is None:
            if answer is not None and answer.head_ends_at is not None and answer.status not in self.own_statuses:
                self.complain(f"{answer} to a request without an end")
            if answer is not None and answer.status == 408:
                self._judge_slow_head(index, request)
            return
        name = name_of(request)
        record = self._oracle.records.get(name)
        if answer is not None and answer.status == 408 and record is not None:
            self._judge_slow_body(name, record)
        if answer is None or (answer.head_ends_at is None):
            self._judge_unanswered(index, request, name, record)
            return
        if not answer.complete and self._said is None and self._tape.left_by_peer is None:
            self.complain(f"{answer} to {name} is cut, and the connection stands")
        if answer.complete:
            raw = self._raw[answer.begins_at : answer.ends_at]
            trouble = second_opinion(answer, raw, request.method) if answer.status != 101 else ""
            if trouble:
                self.complain(f"{answer} to {name}: {trouble}")
        if answer.get("x-nonce"):
            self._judge_relayed(name, request, answer, record)
        else:
            self._judge_own(name, request, answer, record)
        self._judge_goodbye(name, answer, record)

    def _judge_slow_head(self, index: int, request: Message) -> None:
        """The time for a head is that of the settings when it began."""
        began, said = self._tape.entry_of(TOOK, request.begins_at), self._told_at(index)
        assert began is not None
        assert said is not None
        patience_s = min(one.timeouts.head_s for one in self._town.generations.between(self._tape.began, said.at))
        if said.when - began.when < patience_s:
            self.complain(f"a head got 408 after {said.when - began.when} s, {patience_s} are set")

    def _judge_slow_body(self, name: str, record: Record) -> None:
        """The time for the next piece of a body is that of the settings with which its request began."""
        last = [entry for entry in self._tape.entries if entry.what == TOOK and entry.at < record.at][-1]
        patience_s = min(settings.timeouts.body_idle_s for settings in self._oracle.settings(name))
        if record.when - last.when < patience_s:
            self.complain(f"{name} got 408 after {record.when - last.when} s, {patience_s} are set")

    def _judge_goodbye(self, name: str, answer: Message, record: Record | None) -> None:
        """From the beginning of a stop on each answer says that it is the last one."""
        began = None if self._town.operator.stop is None else self._town.operator.stop.began
        if began is None or record is None or answer.closes or answer.status == 101:
            return
        decided = record.at
        if answer.get("x-nonce"):
            last = self._oracle.backends.attempts[name][-1]
            assert last.tape is not None
            assert last.answer is not None
            head = last.tape.entry_of(TOOK, (last.answer.head_ends_at or 1) - 1)
            assert head is not None
            decided = head.at
        if decided > began.at:
            self.complain(f"{name} got {answer} during a stop, and the connection stays")

    def _judge_unanswered(self, index: int, request: Message, name: str, record: Record | None) -> None:
        # Cut so early that not even the head had left.
        if record is not None and record.ended_by == "CUT_SHORT" and self._said is not None:
            return
        if not self._excused(index, request):
            self.complain(f"{name} got no answer")
        # Behind an earlier answer it may be that its client had not taken that one; and of this one the kernel may have
        # taken the beginning alone, over TLS of a record.
        silent = not self._raw and not (self._tape.outgoing.way is not None and self._tape.outgoing.way.in_a_record)
        if record is not None and record.ended_by == "CANCELLED" and not index and not self._gone and silent:
            self.complain(f"{name} was taken back without a word")
        excused = self._gone or self._cut or self._cut_later(request)
        if record is not None and record.ended_by not in ("CLIENT_GONE", "CLIENT_FAULT") and not excused:
            self.complain(f"{name} ended with {record.ended_by} and got no answer")

    def _judge_relayed(self, name: str, request: Message, answer: Message, record: Record | None) -> None:
        nonce = answer.get("x-nonce")
        server, whole = self._oracle.answers[nonce]
        if answer.get("x-name") != name:
            self.complain(f"{name} got the answer to {answer.get('x-name')}")
        if bytes(answer.body) != whole.body[: len(answer.body)]:
            self.complain(f"{name} got another body than {nonce}")
        if answer.complete and answer.status != 101 and not whole.until_close and len(answer.body) != len(whole.body):
            self.complain(f"{name} got {len(answer.body)} bytes of {len(whole.body)} as the whole body of {nonce}")
        if record is None:
            self.complain(f"{name} was answered and never ended")
            return
        attempts = self._oracle.backends.attempts.get(name, [])
        asked_last = {attempts[-1].backend if attempts else "", record.member.address if record.member else ""}
        if attempts and self._town.naming.on:
            asked_last = {attempts[-1].backend}  # the same backend may be somewhere else by now
        if asked_last != {server.address}:
            self.complain(f"{name} got {nonce}, which is not from who was asked last")
            return
        if record.status != answer.status:
            self.complain(f"{name} got {answer.status}, logged is {record.status}")
        self._judge_end(name, request, answer, record, attempts)

    def _judge_end(self, name: str, request: Message, answer: Message, record: Record, attempts: list[Attempt]) -> None:
        allowed = self._oracle.allowed(name, attempts[-1], begun(attempts).when)
        # Of a tunnel one direction may have ended before.
        gone = self._gone or (answer.status == 101 and self._tape.first(*HEARD) is not None)
        if gone:
            allowed |= {"CLIENT_GONE"}
        tape = attempts[-1].tape
        if answer.status == 101 and tape is not None and tape.first(HEARD_RST) is not None:
            allowed |= {"CUT_SHORT"}
        closed = self._town.closed
        if self._cut and closed is not None and record.when == closed.when:
            allowed |= {"CANCELLED"}
        # Tunnels have more time at a backend that is gone.
        if said_good_bye(self._town) if answer.status == 101 else self._oracle.left_behind(record):
            allowed |= {"CANCELLED"}
        if not request.complete or True in self._too_large(name, request):
            allowed |= {"CLIENT_FAULT"}
        if request.framing >= 0 and self._too_large(name, request) == {True}:
            self.complain(f"{name} was let through with {request.framing} bytes")
        if record.ended_by not in allowed:
            self.complain(f"{name} ended with {record.ended_by}, allowed are {allowed}")
        # A foreign transport cannot linger: where the client has sent more, it is reset behind a last answer.
        reset_behind = (answer.cut and self._town.foreign) or self._cut_later(request)
        if record.ended_by == "OK" and not answer.complete and not (gone or self._cut or reset_behind):
            self.complain(f"{name}: {answer} was complete at the backend")
        # A tunnel ends well only by a FIN.
        tunnel_left = answer.status == 101 and (gone or self._cut or said_good_bye(self._town))
        if answer.complete and record.ended_by != "OK" and not tunnel_left:
            self.complain(f"{name} got a complete answer, and ended with {record.ended_by}")
        said = attempts[-1].answer
        if said is None or said.status != answer.status:
            self.complain(f"{name} got {answer}, the backend said {said}")
        elif answer.complete and (not said.complete or said.body != answer.body):
            self.complain(f"{name} got {answer} as a whole, the backend said {said}")

    def _judge_id(self, name: str, answer: Message, record: Record | None) -> None:
        """Whoever complains of an error page names its id: the log has it."""
        shown = answer.get("x-request-id")
        known = self._town.refused.get(shown) == answer.status
        if not known and (record is None or (record.request_id, record.status) != (shown, answer.status)):
            self.complain(f"{name} got {answer.status} with the id {shown}, which is not in the log")

    def _judge_own(self, name: str, request: Message, answer: Message, record: Record | None) -> None:
        if answer.fields:  # twisted.web's own refusals have none
            self._judge_id(name, answer, record)
        broken = not self._complete_before(request, answer)
        stalled = record is not None and (
            record.ended_by == "TIMED_OUT" or (record.ended_by == "CLIENT_FAULT" and answer.status == 408)
        )
        if broken and stalled and record is not None and record.unread:
            self.complain(f"{name} got {answer.status}, and its client was not read")
        if record is not None and record.status not in (0, answer.status):
            self.complain(f"{name} got {answer.status}, logged is {record.status}")
        # Without an attempt it was the client's fault as well, if it was not that nobody was usable.
        untold = record is None or not record.status or record.ended_by in ("CLIENT_FAULT", "CANCELLED")
        if untold or record is None or record.status in (400, 408, 413):
            # What waits behind a client that does not read was decided earlier than it was put.
            if answer.status == 413 and True in self._too_large(name, request):
                return
            if record is not None and record.ended_by == "CANCELLED" and answer.status == 503 and self._last(record):
                return
            if answer.status not in self.own_statuses or not (broken or self._gone):
                self.complain(f"{name} got {answer.status} of our own")
            return
        attempts = self._oracle.backends.attempts.get(name, [])
        if not record.attempts:
            if answer.status != (504 if record.ended_by == "LATE" else 503) or attempts:
                self.complain(f"{name} got {answer.status} without an attempt")
            elif self._oracle.open(record.at) and not self._oracle.bounded:
                self.complain(f"{name} got 503, open were {set(self._oracle.open(record.at))}")
            return
        if STATUS.get(record.ended_by) != answer.status:
            self.complain(f"{name} got {answer.status} for {record.ended_by}")
        if attempts and record.attempts == len(attempts):
            allowed = self._oracle.allowed(name, attempts[-1], begun(attempts).when)
            if record.ended_by not in allowed:
                self.complain(f"{name} ended with {record.ended_by}, allowed are {allowed}")
            others = self._oracle.might_have_retried(record, attempts, len(request.body))
            if others:
                self.complain(f"{name} ended with {record.ended_by}, {set(others)} might have been asked")
