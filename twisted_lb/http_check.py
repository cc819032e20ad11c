"""HTTP checks: what they ask a backend, which answers pass, and what a usual mistake looks like."""

from dataclasses import dataclass
from typing import Final

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.agent import MOST_BYTES, line_in
from twisted_lb.probes import Hearing, ProbeResult
from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, UNTIL_CLOSE, BadMessage, Limits
from twisted_lb.wire.response import ResponseHead, parse_response

# So much of an answer is read, and looked through for the expected text; the same bound as that of what is held of a
# request for a retry. A page is shorter than that, and what is not should not be asked for every other second.
ANSWER_BYTES: Final = 65536
_EMPTY: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_HTTP: Final = b"HTTP/1."
# The first byte of what a TLS server says to somebody who does not speak TLS: an alert, or a handshake (RFC 8446 5.1).
_TLS: Final = (b"\x15", b"\x16")
# Django, Rails and ASP.NET refuse a Host that they were not told of; so does who serves many names.
_UNKNOWN_HOST: Final = frozenset((400, 403, 421))


@dataclass(frozen=True)
class HttpQuestion:
    """What an HTTP check asks, and what passes: an answer with one of these statuses whose body has the text in it.

    `host` empty: the address that is asked. `fields` are more lines of the head, each without its end, and in place of
    ours where they have the same name. `text` empty: any body. `busy`: statuses that pass and mean that it wants no new requests,
    whatever the body is. `agent_header`: the field whose value an agent says, in lower case; `agent_body`: the first line of the body
    is what it says.
    """

    method: bytes
    path: bytes
    host: bytes
    fields: tuple[bytes, ...]
    statuses: frozenset[int]
    text: bytes
    busy: frozenset[int] = frozenset()
    agent_header: bytes = b""
    agent_body: bool = False


class HttpCheck:
    """The question of an HTTP probe, as it is sent and heard. A head passes that traffic would take too: `limits` are those
    of traffic.
    """

    def __init__(self, question: HttpQuestion, agent: str, limits: Limits) -> None:
        self._question: Final = question
        self._limits: Final = limits
        self._line: Final = b"%b %b HTTP/1.1" % (question.method, question.path)
        self._lines: Final = _lines(question, agent)

    @property
    def method(self) -> bytes:
        """The method of its request."""
        return self._question.method

    def request(self, address: Address) -> bytes:
        """See Question."""
        return b"\r\n".join([self._line, b"Host: " + self._host(address), *self._lines]) + BLANK_LINE

    def hear(self, address: Address) -> Hearing:
        """See Question."""
        return _Answer(self._question, self._host(address).decode("ascii"), self._limits)

    def _host(self, address: Address) -> bytes:
        if self._question.host:
            return self._question.host
        return address.authority.encode("ascii") if isinstance(address, TcpAddress) else b"localhost"


def _lines(question: HttpQuestion, agent: str) -> list[bytes]:
    """The lines of the head behind Host."""
    ours = [b"User-Agent: " + agent.encode("ascii"), b"Accept: */*"]
    if question.text:
        # RFC 9110 12.5.3: who asks without it may be given any coding, in which the text cannot be found.
        ours.append(b"Accept-Encoding: identity")
    if question.method in _EMPTY:
        ours.append(b"Content-Length: 0")  # RFC 9110 8.6
    given = {_name(line) for line in question.fields}
    return [*[line for line in ours if _name(line) not in given], *question.fields, b"Connection: close"]


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


class _Answer:
    """The answer to an HttpCheck. Its first final head decides, and the body where a text is expected in it; the same
    however it is cut into pieces.
    """

    def __init__(self, question: HttpQuestion, host: str, limits: Limits) -> None:
        self.result: ProbeResult | None = None
        self.over = False
        self.reply = b""
        self._question: Final = question
        self._host: Final = host  # that was sent
        self._limits: Final = limits
        self._received = b""
        self._begin = 0  # of the head that is looked for
        self._body: _Body | None = None
        self._status = 0
        self._verdict: ProbeResult | None = None  # told with the agent's line, where that is listened for
        self._said: bytes | None = None

    def feed(self, data: bytes) -> None:
        """See Hearing."""
        try:
            if self._body is None:
                self._received += data
                self._look_for_head()
            else:
                self._read(self._body, data)
        except BadMessage as bad:
            self._end(self._named(bad.reason))

    def end(self) -> None:
        """See Hearing."""
        if self._body is None:
            self.cut("closed without an answer")
        elif self._body.until_close or self._body.complete:
            self._body.end()
            self._end(self._without_text)
        else:
            self.cut("the answer is cut short")

    def cut(self, reason: str) -> None:
        """See Hearing."""
        if self._body is None:
            self._conclude(ProbeResult(False, reason, silent=True))
        else:
            self._end(f"{self._without_text}: {reason}")

    def _look_for_head(self) -> None:
        """Look for the final head. Interim heads count as a part of it, since they might never end."""
        limit = self._limits.head_bytes
        while self._body is None:
            received, begin = self._received, self._begin
            if received[begin : begin + len(_HTTP)] != _HTTP[: len(received) - begin]:
                raise BadMessage(502, "illegal status line")  # also of a server that speaks first and then waits
            end = received.find(BLANK_LINE, begin)
            lines = received[begin : limit + 3 if end < 0 else min(end, limit + 3)]
            if lines.count(b"\n") != lines.count(b"\r\n"):
                raise BadMessage(502, "bare LF")  # and perhaps no blank line ever
            # From the first byte on. Of a blank line 3 bytes may be here.
            if end > limit or (end < 0 and len(received) > limit + 3):
                raise BadMessage(502, "the head of the answer is too long")
            if end < 0:
                return
            head = parse_response(received[begin:end], self._limits)
            self._begin = end + len(BLANK_LINE)
            if head.status >= 200 or head.status == 101:
                if self._question.agent_header:
                    self._said = _value_of(self._question.agent_header, received[begin:end])
                self._decide(head)

    def _decide(self, head: ResponseHead) -> None:
        question = self._question
        self._status = head.status
        if head.status in question.busy:
            self._verdict = ProbeResult(True, f"status {head.status}, which means busy", busy=True)
        elif head.status not in question.statuses:
            self._verdict = ProbeResult(False, f"status {head.status}{self._hint(head.status)}")
        elif not question.text:
            self._verdict = ProbeResult(True, f"status {head.status}")
        self._body = _Body(head.body_of(question.method), question.text, self._limits, lines=question.agent_body)
        rest, self._received = self._received[self._begin :], b""
        self._read(self._body, rest)

    def _read(self, body: "_Body", data: bytes) -> None:
        body.feed(data)
        if body.found and self._verdict is None:
            self._verdict = ProbeResult(True, f"status {self._status}, with the expected text")
        if self._verdict is not None and (body.line is not None or not self._question.agent_body):
            self._tell(self._verdict)
        if body.complete:
            self._end(self._without_text)

    @property
    def _without_text(self) -> str:
        return f"status {self._status}, without the expected text"

    def _named(self, reason: str) -> str:
        """What is wrong with the answer, by the name of what it is instead, if that is known."""
        if self._body is None and self._received.startswith(_TLS):
            return "an answer in TLS, and its pool speaks plain HTTP: [pools.X.tls] is missing"
        return reason

    def _hint(self, status: int) -> str:
        """What usually helps where this status was not expected, if that was not done yet."""
        question = self._question
        if status in _UNKNOWN_HOST and not question.host:
            return f"; if it does not know the Host {self._host}: health_check.host"
        if status == 401 and not question.fields:
            return "; if it is well all the same: health_check.expect_statuses"
        if status == 404 and question.path == b"/":
            return "; if it has no page /: health_check.path"
        if status in (405, 501):
            return f"; if it takes no {question.method.decode('ascii')} there: health_check.method"
        return ""

    def _end(self, reason: str) -> None:
        self._conclude(ProbeResult(False, reason))

    def _conclude(self, result: ProbeResult) -> None:
        """It is over; with this result, unless there is one."""
        self.over = True
        self._tell(self._verdict or result)

    def _tell(self, result: ProbeResult) -> None:
        if self.result is None:
            result.said = self._said
            if self._question.agent_body and self._body is not None:
                result.said = self._body.line
            self.result = result


def _value_of(name: bytes, head: bytes) -> bytes | None:
    """What the field of this name, in lower case, says in a head; None where it has none. Several are one list (RFC 9110 5.3)."""
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    values = [value.strip(b" \t") for field, _, value in lines if field.lower() == name]
    return b", ".join(values) if values else None


class _Body:
    """The body of an answer, up to ANSWER_BYTES of it: `found` says whether the text was in that much, `complete` that it
    has ended, or that more than so much came. `line` is its first line, once it is known, where `lines` are wanted; None where it
    is longer than an agent's, or was cut off.
    """

    def __init__(self, framing: int, text: bytes, limits: Limits, *, lines: bool) -> None:
        self.until_close: Final = framing == UNTIL_CLOSE
        self.line: bytes | None = b"" if lines and framing == 0 else None
        self._begun: bytes | None = b"" if lines else None  # of the line
        self.found = False
        self.complete = framing == 0
        self._text: Final = text
        self._decoder: Final = ChunkDecoder(limits) if framing == CHUNKED else None
        self._length: Final = framing
        self._bytes = 0
        self._tail = b""  # of what was looked through: the text may be cut in two

    def feed(self, data: bytes) -> None:
        """Take more of the body; BadMessage for a broken chunk, in place of all that came in one piece with it. Bytes behind
        its end are not looked at.
        """
        if self.complete or not data:
            return
        payload = data if self._decoder is None else self._decoder.feed(data)
        if self._length > 0:
            payload = payload[: self._length - self._bytes]
        if self._begun is not None and self.line is None:
            self._begun = (self._begun + payload)[: MOST_BYTES + 1]
            self.line = line_in(self._begun)
        self._look_through(payload[: ANSWER_BYTES - self._bytes])
        self._bytes += len(payload)
        ended = self._bytes == self._length if self._decoder is None else self._decoder.done
        self.complete = ended or self._bytes > ANSWER_BYTES
        if ended:
            self.end()

    def end(self) -> None:
        """The body has ended, and its first line with it."""
        if self._begun is not None and self.line is None and len(self._begun) <= MOST_BYTES:
            self.line = self._begun

    def _look_through(self, payload: bytes) -> None:
        text = self._text
        if not text or self.found:
            return
        window = self._tail + payload
        self.found = text in window
        self._tail = window[max(len(window) - len(text) + 1, 0) :]
