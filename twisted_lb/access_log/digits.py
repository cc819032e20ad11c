"""Digits: numbers as ASCII, without the machinery of formats. A line has a dozen of them."""

# In the modules of a line bytes are put together by `b"%b…" % (…)`: compiled, that is one allocation, and no list is made for it.

from typing import Final

from mypy_extensions import i64

# 0 to 999, as numbers, and as three digits behind others.
_SMALL: Final[list[bytes]] = [b"%d" % number for number in range(1000)]
THREE: Final[list[bytes]] = [b"%03d" % number for number in range(1000)]
_NO_SECOND: Final = b"0."
NO_TIME: Final = b"0.000000"


def number(value: i64) -> bytes:
    """A number."""
    if 0 <= value < 1000:
        return _SMALL[value]
    if 0 <= value < 1_000_000:
        return _SMALL[value // 1000] + THREE[value % 1000]
    return b"%d" % value


def micros(seconds: float) -> i64:
    """Whole microseconds, rounded. A moment before its beginning is at it: clocks are not that exact."""
    return i64(seconds * 1_000_000.0 + 0.5) if seconds > 0.0 else 0


def millis(seconds: float) -> i64:
    """Whole milliseconds, likewise."""
    return i64(seconds * 1000.0 + 0.5) if seconds > 0.0 else 0


def whole_of(micros: i64) -> bytes:
    """The whole seconds of so many microseconds, and the point behind them."""
    return _NO_SECOND if micros < 1_000_000 else number(micros // 1_000_000) + b"."


def seconds_of(seconds: float) -> bytes:
    """Seconds with six digits behind the point: `0.250000`."""
    if seconds == 0.0:
        return NO_TIME
    all_: i64 = micros(seconds)
    rest: i64 = all_ % 1_000_000
    return b"%b%b%b" % (whole_of(all_), THREE[rest // 1000], THREE[rest % 1000])
