"""Graphs of characters: Braille, else blocks, else ASCII."""

from collections.abc import Sequence
from enum import Enum
from typing import Final

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = " .:|#"
# Dots of a Braille character from the bottom up, of its left and its right column.
_DOTS: Final = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
_BRAILLE: Final = 0x2800


class Ramp(Enum):
    """What graphs are drawn with."""

    BRAILLE = "braille"
    BLOCKS = "blocks"
    ASCII = "ascii"

    @property
    def samples(self) -> int:
        """How many samples stand in a column."""
        return 2 if self is Ramp.BRAILLE else 1


def graph(values: Sequence[float | None], width: int, height: int, ramp: Ramp, top: float = 0.0) -> list[str]:
    """The last values as lines, the newest at the right, filled from the bottom; `top` is the least upper end of the scale."""
    room = width * ramp.samples
    shown = [0.0 if one is None else max(one, 0.0) for one in values[-room:]]
    shown = [0.0] * (room - len(shown)) + shown
    most = max([*shown, top])
    steps = height * {Ramp.BRAILLE: 4, Ramp.BLOCKS: 8, Ramp.ASCII: 4}[ramp]
    levels = [_level(one, most, steps) for one in shown]
    draw = _braille if ramp is Ramp.BRAILLE else _columns
    return [draw(levels, row, ramp) for row in reversed(range(height))]


def _level(value: float, most: float, steps: int) -> int:
    """How many steps high a value is; what is not zero is seen."""
    return 0 if not value or not most else max(1, round(value / most * steps))


def _braille(levels: Sequence[int], row: int, _: Ramp) -> str:
    cells = []
    for at in range(0, len(levels), 2):
        dots = 0
        for side in (0, 1):
            for dot in range(min(4, max(0, levels[at + side] - row * 4))):
                dots |= _DOTS[side][dot]
        cells.append(chr(_BRAILLE + dots) if dots else " ")
    return "".join(cells)


def _columns(levels: Sequence[int], row: int, ramp: Ramp) -> str:
    signs = _BLOCKS if ramp is Ramp.BLOCKS else _ASCII
    steps = len(signs) - 1
    return "".join(signs[min(steps, max(0, level - row * steps))] for level in levels)


def bar(number: float, limit: float, width: int, ramp: Ramp) -> str:
    """How much of a limit is used, as a bar; empty without one."""
    if not limit:
        return " " * width
    filled = min(1.0, number / limit) * width
    if ramp is Ramp.ASCII:
        return ("#" * round(filled)).ljust(width, ".")
    eighths = min(width * 8, max(round(filled * 8), 1 if number else 0))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()).ljust(width, "·")


def trend(values: Sequence[float | None]) -> str:
    """Where a number goes: the last one beside the mean of those before; `●` for neither up nor down."""
    known = [one for one in values if one is not None]
    if len(known) < 2:
        return "●"
    mean = sum(known[:-1]) / len(known[:-1])
    return "▲" if known[-1] > mean * 1.1 else "▼" if known[-1] < mean * 0.9 else "●"
