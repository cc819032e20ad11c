"""One client's connection, judged: what was asked on it, and what was answered."""

from typing import TYPE_CHECKING

from faults.attempts import Attempt, name_of
from faults.clients import Client
from faults.reader import UNTIL_CLOSE, Message, read_both, second_opinion
from faults.tape import HEARD_FIN, HEARD_RST, PUT, SAID_FIN, SAID_RST, TOOK, Tape
from faults.town import Record

if TYPE_CHECKING:
    from faults.oracle import Oracle

# What a client is told when an attempt that ended so was the last.
STATUS = {
    "REFUSED": 502,
    "CONNECT_TIMEOUT": 504,
    "LOCAL_FAILURE": 503,
    "STALE_REUSE": 502,
    "NO_RESPONSE": 502,
    "BAD_RESPONSE": 502,
    "TIMED_OUT": 504,
}


class Conversation:
    """One client's connection: what was asked, and what was answered."""

    def __init__(self, oracle: "Oracle", client: Client, tape: Tape) -> None:
        self._oracle = oracle
        self._town = oracle.town
        self._client = client
        self._tape = tape
        self._raw = tape.all(PUT)
        self._said = tape.first(SAID_FIN, SAID_RST)
        self._asked, self._answers = read_both(tape.all(TOOK), self._raw)
        if self._said is not None:
            self._answers.end(reset=self._said.what == SAID_RST)

    def complain(self, text: str) -> None:
        self._oracle.complain(f"{self._client.name}: {text}")

    def judge(self) -> None:
        answers, asked = self._answers, self._asked
        if answers.broken:
            self.complain(f"what was answered is not HTTP: {answers.broken}")
        if len(answers.messages) > len(asked.messages):
            self.complain(f"{len(answers.messages)} answers to {len(asked.messages)} requests")
        if answers.unread and not answers.broken and (not answers.messages or answers.messages[-1].complete):
            self.complain(f"bytes behind the last answer: {answers.unread[:60]!r}")
        for index, request in enumerate(asked.messages):
            answer = answers.messages[index] if index < len(answers.messages) else None
            self._judge_one(index, request, answer)
        if asked.messages and asked.messages[-1].head_ends_at is not None:
            self._judge_tunnel(asked.messages[-1])

    # Excuses.

    @property
    def _gone(self) -> bool:
        """Whether the client left, or stopped reading for too long, or the network made it seem so."""
        return (
            self._tape.left_by_peer is not None
            or self._client.left == "stop reading"
            or any(f.what == "stalled" and f.where == self._client.host for f in self._town.faults.happened)
        )

    def _excused(self, index: int, request: Message) -> bool:
        """Whether a request may stay without an answer."""
        if self._gone and not self._must_finish(request):
            return True
        for answer in self._answers.messages[:index]:
            if answer.closes or not answer.complete or answer.framing == UNTIL_CLOSE:
                return True
        for earlier in self._asked.messages[:index]:
            record = self._oracle.records.get(name_of(earlier))
            if record is not None and record.outcome == "CUT_SHORT":
                return True
        began = self._tape.entry_of(TOOK, request.begins_at)
        assert began is not None
        return self._said is not None and self._said.at < began.at  # it crossed our close

    def _must_finish(self, request: Message) -> bool:
        """A client that only half-closed is answered where the configuration believes it."""
        return (
            self._town.finish_half_closed
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
        return any(record is not None and record.outcome == "CUT_SHORT" for record in records)

    # One request.

    def _judge_one(self, index: int, request: Message, answer: Message | None) -> None:
        if request.head_ends_at is None:
            if answer is not None and answer.head_ends_at is not None and answer.status not in (400, 408):
                self.complain(f"{answer} to a request without an end")
            return
        name = name_of(request)
        record = self._oracle.records.get(name)
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

    def _judge_unanswered(self, index: int, request: Message, name: str, record: Record | None) -> None:
        # Cut so early that not even the head had left.
        if record is not None and record.outcome == "CUT_SHORT" and self._said is not None:
            return
        if not self._excused(index, request):
            self.complain(f"{name} got no answer")
        if record is not None and record.outcome not in ("CLIENT_GONE", "CLIENT_FAULT") and not self._gone:
            self.complain(f"{name} ended with {record.outcome} and got no answer")

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
        if not attempts or attempts[-1].backend != server.address or record.backend != server.address:
            self.complain(f"{name} got {nonce}, which is not from who was asked last")
            return
        if record.status != answer.status:
            self.complain(f"{name} got {answer.status}, logged is {record.status}")
        self._judge_end(name, request, answer, record, attempts)

    def _judge_end(self, name: str, request: Message, answer: Message, record: Record, attempts: list[Attempt]) -> None:
        allowed = self._oracle.allowed(attempts[-1], attempts[0].when)
        # Of a tunnel one direction may have ended before.
        gone = self._gone or (answer.status == 101 and self._tape.first(HEARD_FIN, HEARD_RST) is not None)
        if gone:
            allowed |= {"CLIENT_GONE"}
        if not request.complete:
            allowed |= {"CLIENT_FAULT"}
        if record.outcome not in allowed:
            self.complain(f"{name} ended with {record.outcome}, allowed are {allowed}")
        # A foreign transport cannot linger: where the client has sent more, it is reset behind a last answer.
        reset_behind = (answer.cut and self._town.foreign) or self._cut_later(request)
        if record.outcome == "OK" and not answer.complete and not self._gone and not reset_behind:
            self.complain(f"{name}: {answer} was complete at the backend")
        tunnel_left = answer.status == 101 and gone  # a tunnel ends well only by a FIN
        if answer.complete and record.outcome != "OK" and not tunnel_left:
            self.complain(f"{name} got a complete answer, and ended with {record.outcome}")
        said = attempts[-1].answer
        if said is None or said.status != answer.status:
            self.complain(f"{name} got {answer}, the backend said {said}")
        elif answer.complete and (not said.complete or said.body != answer.body):
            self.complain(f"{name} got {answer} as a whole, the backend said {said}")

    def _judge_own(self, name: str, request: Message, answer: Message, record: Record | None) -> None:
        broken = not self._complete_before(request, answer)
        stalled = record is not None and (
            record.outcome == "TIMED_OUT" or (record.outcome == "CLIENT_FAULT" and answer.status == 408)
        )
        if broken and stalled and record is not None and record.unread:
            self.complain(f"{name} got {answer.status}, and its client was not read")
        if record is not None and record.status not in (0, answer.status):
            self.complain(f"{name} got {answer.status}, logged is {record.status}")
        # Without an attempt it was the client's fault as well, if it was not that nobody was usable.
        if record is None or not record.status or record.outcome == "CLIENT_FAULT" or record.status in (400, 408):
            # What waits behind a client that does not read was decided earlier than it was put.
            if answer.status not in (400, 408) or not (broken or self._gone):
                self.complain(f"{name} got {answer.status} of our own")
            return
        attempts = self._oracle.backends.attempts.get(name, [])
        if not record.outcome:
            if answer.status != 503 or attempts:
                self.complain(f"{name} got {answer.status} without an attempt")
            elif self._oracle.usable(record.at):
                self.complain(f"{name} got 503, usable were {set(self._oracle.usable(record.at))}")
            return
        if STATUS.get(record.outcome) != answer.status:
            self.complain(f"{name} got {answer.status} for {record.outcome}")
        if attempts and record.attempts == len(attempts):
            allowed = self._oracle.allowed(attempts[-1], attempts[0].when)
            if record.outcome not in allowed:
                self.complain(f"{name} ended with {record.outcome}, allowed are {allowed}")
            others = self._oracle.might_have_retried(record, attempts, len(request.body))
            if others:
                self.complain(f"{name} ended with {record.outcome}, {set(others)} might have been asked")

    def _judge_tunnel(self, request: Message) -> None:
        """What came out of a tunnel went in on the other side."""
        if self._answers.tunnel is None:
            return
        name = name_of(request)
        _, ask = self._oracle.asks[name]
        answer = self._answers.messages[-1]
        _, whole = self._oracle.answers[answer.get("x-nonce")]
        out = bytes(self._answers.tunnel)
        if out != whole.body[: len(out)]:
            self.complain(f"{name}: other bytes come out of its tunnel than went in")
        attempt = self._oracle.backends.attempts[name][-1]
        assert attempt.tape is not None
        assert attempt.request is not None
        inwards = attempt.tape.all(PUT)[attempt.request.head_ends_at :]
        if inwards != (ask.tunnel or b"")[: len(inwards)]:
            self.complain(f"{name}: the backend gets other bytes out of its tunnel")
