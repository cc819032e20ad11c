"""What access logs want of a request's header block: who says to ask, from where, and which trace it belongs to."""

import re
from typing import Final

# Header blocks repeat, on a connection and over many: what was found is kept for so many of them.
_MOST: Final = 256
# W3C trace context: version, trace, parent, flags.
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


class Head:
    """What a header block says: User-Agent, Referer and the trace; empty where it says nothing. `json` is for whoever wants
    to keep what was made of it.
    """

    __slots__ = ("json", "referer", "trace_id", "user_agent")

    def __init__(self, lines: bytes) -> None:
        folded = b"\n" + lines.lower()
        self.user_agent: Final = _value(lines, folded, b"\nuser-agent:")
        self.referer: Final = _value(lines, folded, b"\nreferer:")
        traced = _TRACEPARENT.fullmatch(_value(lines, folded, b"\ntraceparent:"))
        self.trace_id: Final = b"" if traced is None else traced[1]
        self.json: str | None = None


class Heads:
    """What header blocks say, each read once while it is known: a bounded memory of a pure function."""

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
