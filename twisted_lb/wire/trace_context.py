"""Trace context (W3C): what the field `traceparent` says of the trace that a request belongs to."""

import re
from typing import Final

from twisted_lb.wire.grammar import CRLF

# version, trace, parent, flags. W3C trace context 3.2.2: zeros alone are no id, and ff is no version; one that is newer may say more.
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
SAMPLED: Final = 1


class TraceParent:
    """Which trace a request belongs to, which span of the caller's it is a part of, and the caller's flags."""

    __slots__ = ("flags", "span_id", "trace_id")

    def __init__(self, trace_id: bytes, span_id: bytes, flags: int) -> None:
        self.trace_id: Final = trace_id
        self.span_id: Final = span_id
        self.flags: Final = flags

    @property
    def sampled(self) -> bool:
        """Whether the caller keeps the spans of this trace."""
        return bool(self.flags & SAMPLED)


def trace_parent(lines: bytes) -> TraceParent | None:
    """What these field lines, each ended by CRLF, say; None for nothing, or for what is not right: then a trace begins here."""
    values = [line.partition(b":")[2] for line in lines.split(CRLF) if line[:12].lower() == b"traceparent:"]
    found = _TRACEPARENT.fullmatch(values[0].strip(b" \t")) if len(values) == 1 else None
    if found is None or (found[1] == b"00" and found[5] is not None):
        return None
    return TraceParent(found[2], found[3], int(found[4], 16))


def trace_line(trace_id: bytes, span_id: bytes, flags: int) -> bytes:
    """The field line for a request that is a part of this span."""
    return b"traceparent: 00-%b-%b-%02x\r\n" % (trace_id, span_id, flags)
