"""Text for people: numbers with units, durations, and words whose style costs no width."""

import re
import time
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

# What an answer has no number for.
NONE: Final = "–"

# SGR parameters: of 16 colours only, so that the terminal's own theme decides.
PLAIN: Final = ""
BOLD: Final = "1"
DIM: Final = "2"
RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
BLUE: Final = "34"
MAGENTA: Final = "35"
BLUE_BOLD: Final = "1;34"
REVERSE: Final = "7"

# State -> its glyph, the style of that, and the style of the word.
STATES: Final[dict[str, tuple[str, str, str]]] = {
    "ready": ("●", GREEN, PLAIN),
    "slow start": ("◔", YELLOW, BOLD),
    "full": ("≡", YELLOW, BOLD),
    "drained": ("◐", BLUE, BOLD),
    "maint": ("■", PLAIN, BOLD),
    "ejected": ("⊘", MAGENTA, BOLD),
    "down": ("✕", RED, BOLD),
    "unknown": ("◌", DIM, BOLD),
    "weight 0": ("◐", BLUE, BOLD),
    "drained by its agent": ("◐", BLUE, BOLD),
    "in maintenance by its agent": ("■", PLAIN, BOLD),
    "down by its agent": ("✕", RED, BOLD),
    "busy": ("≡", YELLOW, BOLD),
    "standby": ("◌", DIM, PLAIN),
}
_OTHER: Final = ("◌", DIM, BOLD)

# Level of the verdict -> its glyph, in ASCII, and the style of it.
LEVELS: Final[dict[str, tuple[str, str, str]]] = {
    "well": ("●", "OK", GREEN),
    "partly": ("△", "WARN", YELLOW),
    "failing": ("✕", "FAIL", RED),
}

# Where the locale is not UTF-8, or one whose terminals draw some of these two columns wide.
ASCII: Final = str.maketrans(
    {
        "●": "*",
        "◔": "~",
        "◐": "d",
        "■": "m",
        "⊘": "!",
        "✕": "X",
        "◌": "?",
        "≡": "=",
        "△": "^",
        "✓": "+",
        "✗": "x",
        "‼": "!",
        "▲": "^",
        "▼": "v",
        "▸": ">",
        "→": "->",
        "…": "...",
        "–": "-",
        "·": "-",
        "“": '"',
        "”": '"',
        "’": "'",
        "█": "#",
        "⏎": "Enter",
    }
)

_DAY_S: Final = 86_400


def printable(text: str) -> str:
    """The text with every character escaped that a terminal could act upon."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def width_of(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    wide = unicodedata.east_asian_width
    return sum(0 if unicodedata.combining(one) else 2 if wide(one) in "WF" else 1 for one in text)


class Words:
    """One line of text in spans of (text, style); whatever stands in it is printable."""

    __slots__ = ("spans",)

    def __init__(self, *spans: "str | tuple[str, str]") -> None:
        pairs = ((span, PLAIN) if isinstance(span, str) else span for span in spans)
        self.spans: Final = tuple((printable(text), style) for text, style in pairs)

    def __add__(self, other: "Words | str") -> "Words":
        return Words(*self.spans, *words(other).spans)

    def __str__(self) -> str:
        return "".join(text for text, _ in self.spans)

    @property
    def width(self) -> int:
        """How many columns of a terminal it takes."""
        return width_of(str(self))

    def ascii(self) -> "Words":
        """The same without a character that ASCII lacks a stand-in for, where there is one."""
        return Words(*((text.translate(ASCII), style) for text, style in self.spans))

    def cut(self, columns: int, mark: str = "…") -> "Words":
        """At most so many columns of it; the last one is then `…`."""
        if self.width <= columns:
            return self
        room, spans = max(0, columns - len(mark)), []
        for text, style in self.spans:
            kept = _first(text, room)
            spans.append((kept, style))
            room -= width_of(kept)
            if kept != text:
                break
        return Words(*spans, mark[:columns])

    def rendered(self, *, styled: bool) -> str:
        """As a terminal shows it, or without any styles."""
        if not styled:
            return str(self)
        return "".join(f"\x1b[{style}m{text}\x1b[0m" if style and text else text for text, style in self.spans)


def _first(text: str, columns: int) -> str:
    while width_of(text) > columns:
        text = text[:-1]
    return text


def words(text: Words | str) -> Words:
    """A text as words, in no style."""
    return text if isinstance(text, Words) else Words(text)


def join(parts: Iterable[Words | str], between: str) -> Words:
    """Words in a row."""
    spans: list[str | tuple[str, str]] = []
    for part in parts:
        spans += [between] if spans else []
        spans += words(part).spans
    return Words(*spans)


def state_words(state: str, *, spoken: str = "") -> Words:
    """Glyph and word of a backend's state."""
    glyph, colour, style = STATES.get(state, _OTHER)
    return Words((glyph, colour), " ", (spoken or state, style))


def glyph(state: str) -> Words:
    """The glyph of a state alone."""
    sign, colour, _ = STATES.get(state, _OTHER)
    return Words((sign, colour))


def count(value: Any) -> str:
    """`8,112`; a dash where there is no number."""
    return f"{value:,}" if _is_number(value) else NONE


def decimal(value: Any) -> str:
    """`646.8`; a dash where there is no number."""
    return f"{value:,.1f}" if _is_number(value) else NONE


def percent(fraction: Any) -> str:
    """A fraction as `99 %`."""
    return f"{fraction * 100:.0f} %" if _is_number(fraction) else NONE


def weight(value: Any) -> str:
    """`2`, `0.4`, `0.32`: of one that is on its way two digits are enough."""
    if not _is_number(value):
        return NONE
    return f"{value:.0f}" if value == int(value) or value >= 10 else f"{value:.2g}"


def milliseconds(value: Any) -> str:
    """`2.4 ms`, `118 ms`, `1.24 s`."""
    if not _is_number(value):
        return NONE
    if value < 1000:
        return f"{value:.1f} ms" if value < 9.95 else f"{value:.0f} ms"
    return seconds(value / 1000)


def seconds(value: Any) -> str:
    """What something took: `31 ms`, `1.24 s`, `12.4 s`, `3 min`."""
    if not _is_number(value):
        return NONE
    if value < 1:
        return milliseconds(value * 1000) if value else "0"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s" if value < 99.95 else duration(value)


def duration(value: Any) -> str:
    """For how long something is so: `41 s`, `5 min`, `30 h`, `6 d`."""
    if not _is_number(value):
        return NONE
    if value < 100:
        return f"{value:.0f} s"
    if value < 100 * 60:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h" if value < 2 * _DAY_S else f"{value / _DAY_S:.0f} d"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e15  # noqa: PLR0124  # NaN


def plural(number: int, noun: str) -> str:
    """`1 request`, `2 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def both(requests: int, tunnels: int) -> str:
    """`4 requests and 2 tunnels`; empty where there are none."""
    named = ((requests, "request"), (tunnels, "tunnel"))
    return " and ".join(plural(number, noun) for number, noun in named if number)


def of_limit(value: Any, limit: Any) -> str:
    """`22 / 256`; without a bound only the number."""
    return f"{count(value)} / {count(limit)}" if limit else count(value)


def time_of_day(at: Any, *, now: Any = None, precise: bool = False) -> str:
    """Local time as `14:05` or `14:05:31`, with its date where that is another one than that of `now`."""
    if not _is_number(at):
        return NONE
    then = time.localtime(at)
    form = "%H:%M:%S" if precise else "%H:%M"
    if _is_number(now) and time.localtime(now)[:3] != then[:3]:
        form = f"%Y-%m-%d {form}"
    return time.strftime(form, then)


def short_actor(actor: Any) -> str:
    """`alice` of `alice (uid 1004)`."""
    return str(actor or "").partition(" (")[0]


_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds_typed(typed: str) -> float:
    """Seconds of `30s`, `500ms`, `5m`, `1h`, `30`; ValueError else."""
    match = _DURATION.fullmatch(typed.strip())
    if match is None:
        raise ValueError(f"a duration is like 30s, 500ms, 5m or 1h, not {typed!r}")
    return float(match[1]) * _UNITS[match[2] or "s"]


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """What was probably meant, as the end of a sentence: `; did you mean "app/b3"?`, or nothing."""
    near = get_close_matches(typed, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
