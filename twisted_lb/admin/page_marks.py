"""What stands on the page again and again: times, numbers, and the signs of states."""

import time
from typing import Final

# What the page calls the signs of states; the others are called as the states are.
_GLYPHS: Final = {
    "slow start": "slow",
    "drained": "drain",
    "full": "limit",
    "weight 0": "weight",
    "standby": "unknown",
    "drained by its agent": "drain",
    "in maintenance by its agent": "maint",
    "down by its agent": "down",
    "busy": "limit",
}
TONES: Final = {"limit": "s-slow", "weight": "s-drain", "reload": "", "file": ""}
# The signs that there are.
_SIGNS: Final = frozenset(
    ("ready", "slow", "drain", "ejected", "down", "maint", "unknown", "reload", "weight", "limit", "file", "warn")
)
NOBODY_KNOWS: Final = "\u2013"


def clock(at: float) -> str:
    """`14:17:00`, UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(at))


def number(value: float | None, digits: int = 0) -> str:
    """`1,234.5`; a dash for what nobody knows."""
    return NOBODY_KNOWS if value is None else f"{value:,.{digits}f}"


def milliseconds(value: float | None) -> str:
    """`9.0 ms`, `118 ms`, `1.20 s`."""
    if value is None:
        return NOBODY_KNOWS
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.{1 if value < 10 else 0}f} ms"


def glyph_of(state: str) -> str:
    """The sign of a state."""
    return _GLYPHS.get(state, state)


def glyph(kind: str, tone: str | None = None) -> str:
    """A sign, beside which its word stands."""
    tone = TONES.get(kind, f"s-{kind}") if tone is None else tone
    sign = kind if kind in _SIGNS else "unknown"
    return f'<svg aria-hidden="true" class="g {tone}"><use href="#g-{sign}"></use></svg>'
