"""Retry-After (RFC 9110 10.2.3): how long a server asks to wait before it is asked again, as seconds or as a date."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from twisted_lb.wire.grammar import CRLF

# As many digits as a number of seconds may sensibly have; what is longer is as good as for ever.
_MOST_DIGITS: Final = 9


def retry_after_s(lines: bytes, now: float) -> float:
    """The wait that these field lines of an answer ask for, in seconds; -1 where they ask for none, or for what is no wait. A date counts
    from that of the answer, so that the clocks of two machines need not agree; `now`, in seconds since 1970, where it has none.
    """
    value = _value(lines, b"retry-after")
    if not value:
        return -1.0
    if value.isdigit():
        return float(value) if len(value) <= _MOST_DIGITS else float("inf")
    until = _seconds(value)
    if until is None:
        return -1.0
    since = _seconds(_value(lines, b"date"))
    return max(until - (now if since is None else since), 0.0)


def _value(lines: bytes, name: bytes) -> bytes:
    """The value of a field, the first one of this name; empty where there is none."""
    for line in lines.split(CRLF):
        said, colon, value = line.partition(b":")
        if colon and said.lower() == name:
            return value.strip(b" \t")
    return b""


def _seconds(date: bytes) -> float | None:
    """The moment of a date in any of the three forms of RFC 9110 5.6.7, in seconds since 1970; None for what is none."""
    try:
        found = parsedate_to_datetime(date.decode("ascii"))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # The form of asctime names no zone: all of them are GMT.
    return (found.replace(tzinfo=UTC) if found.tzinfo is None else found).timestamp()
