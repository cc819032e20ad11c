"""Moments as logs write them: records count in monotonic seconds, and their readers by the clock on the wall."""

import time
from collections.abc import Callable
from typing import Final

from twisted_lb.core.record import Record

# The wall's clock may be set: it is asked anew so often.
_ASK_EVERY_S: Final = 1.0

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Moments:
    """When requests began, by this wall clock."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall: Final = wall
        self._ahead_s: float = 0.0  # of the monotonic clock
        self._ask_at: float = float("-inf")

    def began(self, record: Record) -> float:
        """When a request began that has ended just now, in seconds since 1970."""
        now = record.ended_at
        if now >= self._ask_at:
            self._ask_at = now + _ASK_EVERY_S
            self._ahead_s = self._wall() - now
        return record.began + self._ahead_s


class Stamps:
    """A text for each second, made once in it: many requests begin in the same one."""

    def __init__(self, made: Callable[[int], str]) -> None:
        self._made: Final = made
        self._second: int = -1
        self._text: bytes = b""

    def at(self, second: int) -> bytes:
        """The text for this second since 1970."""
        if second != self._second:
            self._second = second
            self._text = self._made(second).encode("ascii")
        return self._text


def day_and_time(second: int) -> str:
    """`06/Nov/1994:08:49:37`, in local time, as HAProxy's and Apache's logs have it, whatever the locale is."""
    at = time.localtime(second)
    day = f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
    return f"{day}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"


def day_and_time_with_zone(second: int) -> str:
    """The same with the distance to UTC: `06/Nov/1994:08:49:37 +0000`."""
    east = time.localtime(second).tm_gmtoff // 60
    return f"{day_and_time(second)} {'-' if east < 0 else '+'}{abs(east) // 60:02}{abs(east) % 60:02}"


def iso(second: int) -> str:
    """`1994-11-06T08:49:37`, in UTC (RFC 3339), without a zone: a fraction may follow."""
    at = time.gmtime(second)
    return f"{at.tm_year}-{at.tm_mon:02}-{at.tm_mday:02}T{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"


def syslog_time(second: int) -> str:
    """`Nov  6 08:49:37`, in local time (RFC 3164 4.1.2)."""
    at = time.localtime(second)
    return f"{_MONTHS[at.tm_mon - 1]} {at.tm_mday:2} {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
