"""What access logs want of a request's header block: who says to ask, from where, and which trace it belongs to."""

from typing import Final

from twisted_lb.core.record import Record
from twisted_lb.wire.trace_context import trace_parent

# Header blocks repeat, on a connection and over many: what was found is kept for so many of them.
_MOST: Final = 256


class Head:
    """What a header block says: User-Agent, Referer and the trace; empty where it says nothing.

    A form keeps here what it has made of the last request with this block (`asked`), and may keep what it has made of the block
    alone (`words`): most clients ask with the same block again, and often for the same.
    """

    __slots__ = (
        "_host",
        "_method",
        "_scheme",
        "_target",
        "_version",
        "asked",
        "referer",
        "trace_id",
        "user_agent",
        "words",
    )

    def __init__(self, lines: bytes) -> None:
        folded = b"\n" + lines.lower()
        self.user_agent: Final = _value(lines, folded, b"\nuser-agent:")
        self.referer: Final = _value(lines, folded, b"\nreferer:")
        # By the rule that also says whether a trace of our own begins: a line has one of the two.
        traced = trace_parent(lines) if b"\ntraceparent:" in folded else None
        self.trace_id: Final[bytes] = b"" if traced is None else traced.trace_id
        self.words: bytes | None = None
        self.asked: bytes = b""
        self._method: bytes = b""
        self._target: bytes | None = None
        self._host: bytes = b""
        self._scheme: bytes = b""
        self._version: int = 0

    def repeats(self, record: Record) -> bool:
        """Whether a request asks the same as the last one with this block, so that `asked` is true of it too."""
        return (
            record.target == self._target
            and record.method == self._method
            and record.host == self._host
            and record.scheme == self._scheme
            and record.version == self._version
        )

    def keep(self, record: Record, asked: bytes) -> None:
        """Keep what was made of a request with this block."""
        self._target, self._method, self._host = record.target, record.method, record.host
        self._scheme, self._version = record.scheme, record.version
        self.asked = asked


class Heads:
    """What header blocks say, each read once while it is known: a bounded memory of a pure function. A form that keeps
    something there has one of its own.
    """

    def __init__(self) -> None:
        self._known: Final[dict[bytes, Head]] = {}

    def of(self, lines: bytes) -> Head:
        """What these field lines say, each ended by CRLF."""
        head = self._known.get(lines)
        if head is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            head = self._known[lines] = Head(lines)
        return head


def _value(lines: bytes, folded: bytes, name: bytes) -> bytes:
    """The value of the first field of this name; `folded` is one byte longer than the lines, at its beginning."""
    at = folded.find(name)
    if at < 0:
        return b""
    begins = at + len(name) - 1
    ends = lines.find(b"\r", begins)
    return lines[begins : ends if ends >= 0 else len(lines)].strip(b" \t")
