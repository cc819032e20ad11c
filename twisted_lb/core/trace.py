"""Traces (distributed tracing): which trace a request belongs to, whether its spans are wanted, and what they are called."""

from typing import Final

from twisted_lb.core.attempts import Attempt

# A share of all trace ids, by the random part of each: whoever decides by the same share decides alike.
_RANDOM_DIGITS: Final = 14
_RANDOM_MOST: Final = float(1 << 56)


class Trace:
    """The trace of one request. Ids are in hexadecimal: that of the trace, empty where it belongs to none; `parent`, that of the
    caller's span, empty where the trace begins here; `span`, that of the request's own, and `spans` those of its attempts
    that were sent.
    """

    __slots__ = ("parent", "sampled", "span", "spans", "trace_id")

    def __init__(self, trace_id: bytes, parent: bytes, span: bytes, *, sampled: bool) -> None:
        self.trace_id: Final = trace_id
        self.parent: Final = parent
        self.span: Final = span
        self.sampled: Final = sampled
        self.spans: Final[dict[Attempt, bytes]] = {}

    def __repr__(self) -> str:
        return f"<Trace {self.trace_id.decode('ascii')}, {'sampled' if self.sampled else 'not sampled'}>"


def chosen(trace_id: bytes, ratio: float) -> bool:
    """Whether a trace is among the share `ratio` of all of them."""
    return int(trace_id[-_RANDOM_DIGITS:], 16) < ratio * _RANDOM_MOST
