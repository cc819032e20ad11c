"""Locator: where each key and each value of a TOML file stands, by line and column.

tomllib keeps no positions. This walks a text that is known to be valid, once, and only when somebody asks.
"""

import re
import tomllib
from typing import NamedTuple

from twisted_lb.config.base import KeyPath

# What may stand between statements, and between the items of an array.
_GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
# A part of a key: bare, or in either kind of quotes.
_PART = re.compile(r"""[ \t]*(?:([\w-]+)|("(?:[^"\\\n]|\\.)*")|('[^'\n]*'))[ \t]*""", re.ASCII)
# A string of several lines may have two quotes of its own right before the three that end it.
_STRING = re.compile(
    r""""{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?!"")(?:[^"\\\n]|\\.)*"|'(?!'')[^'\n]*\'""",
    re.DOTALL,
)
# Numbers, dates with a space in them, true and false: up to what ends a value.
_PLAIN = re.compile(r"[^\s,\]}#](?:[^,\]}#\r\n]*[^\s,\]}#])?")


class Span(NamedTuple):
    """A part of a text: its first character, and the one behind its last."""

    start: int
    end: int


class Spot(NamedTuple):
    """Where something is named and what it is set to. An item of an array is its own name; of a table that is no inline table
    the value is empty.

    `implied`: it is only a part of a longer key, as `pools` in `[pools.app]`.
    """

    key: Span
    value: Span
    implied: bool = False


class Twice(NamedTuple):
    """A key that is there twice, or contradicts an earlier one: where, and which one came first."""

    path: KeyPath
    key: Span
    first_path: KeyPath
    first: Span


class Partly(NamedTuple):
    """What a text has up to a mistake: its spots, the last key that is no header, if there is none behind it, and what the
    last key sets again, if anything.
    """

    spots: dict[KeyPath, Spot]
    last: KeyPath
    twice: Twice | None


def locate(text: str) -> dict[KeyPath, Spot]:
    """All keys, values and items of a valid TOML text, by their paths."""
    walk = _Walk(text)
    walk.statements()
    return walk.spots


def locate_partly(text: str) -> Partly:
    """What there is in a text that ends where a parser refused it."""
    walk = _Walk(text)
    try:
        walk.statements()
    except (_CutShort, RecursionError):
        # What comes before that is known.
        pass
    return Partly(walk.spots, walk.last, walk.twice)


class _CutShort(Exception):
    """The text ends, or is no TOML, in the middle of something."""


class _Walk:
    """One way through a text; `at` is the next character, `last` and `twice` are those of `Partly`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.spots: dict[KeyPath, Spot] = {}
        self.last: KeyPath = ()
        self.twice: Twice | None = None
        # The number of the newest table of each array of tables.
        self._numbers: dict[KeyPath, int] = {}

    def statements(self) -> None:
        table: KeyPath = ()
        while True:
            self._take(_GAP)
            if self.at == len(self.text):
                return
            if self._passed("["):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        """The table that begins here, behind its first bracket."""
        repeated = self._passed("[")
        path: KeyPath = ()
        parts = self._key()
        *parents, (name, span) = parts
        for parent, its_span in parents:
            path = self._newest((*path, parent), its_span)
        path = (*path, name)
        self._look_back(path, parts, 0)
        self.last = ()
        if path not in self.spots or self.spots[path].implied:
            self.spots[path] = Spot(span, Span(span.end, span.end))
        if repeated:
            self._numbers[path] = self._numbers.get(path, -1) + 1
            path = (*path, self._numbers[path])
            self.spots[path] = Spot(span, Span(span.end, span.end))
        if not self._passed("]]" if repeated else "]"):
            raise _CutShort
        return path

    def _newest(self, path: KeyPath, span: Span) -> KeyPath:
        """A table on the way of a header; of an array of tables the last one."""
        self.spots.setdefault(path, Spot(span, Span(span.end, span.end), implied=True))
        return (*path, self._numbers[path]) if path in self._numbers else path

    def _pair(self, table: KeyPath) -> None:
        path = table
        parts = self._key()
        *parents, (name, span) = parts
        for parent, its_span in parents:
            path = (*path, parent)
            self.spots.setdefault(path, Spot(its_span, Span(its_span.end, its_span.end), implied=True))
        path = (*path, name)
        self._look_back(path, parts, len(table))
        self.last = path
        if not self._passed("="):
            raise _CutShort
        self._value(path, span)

    def _look_back(self, path: KeyPath, parts: list[tuple[str, Span]], known: int) -> None:
        """Note what a key sets again: its path, or one on the way to it beyond the table of this many parts."""
        self.twice = None
        began = parts[0][1].start
        for length in range(len(path), known, -1):
            spot = self.spots.get(path[:length])
            if spot is not None and spot.key.start < began:
                self.twice = Twice(path, parts[-1][1], path[:length], spot.key)
                return

    def _key(self) -> list[tuple[str, Span]]:
        """The parts of a key with or without dots, each with its place."""
        parts = []
        while True:
            part = self._take(_PART)
            parts.append((_name(part), Span(*part.span(part.lastindex or 0))))
            if not self._passed("."):
                return parts

    def _value(self, path: KeyPath, key: Span | None = None) -> None:
        self._take(_BLANK)
        start = self.at
        if self._passed("["):
            self._array(path)
        elif self._passed("{"):
            self._inline_table(path)
        else:
            self._take(_STRING if self.text[start : start + 1] in ("'", '"') else _PLAIN)
        value = Span(start, self.at)
        self.spots[path] = Spot(key or value, value)

    def _array(self, path: KeyPath) -> None:
        number = 0
        while not self._ended("]"):
            self._value((*path, number))
            number += 1

    def _inline_table(self, path: KeyPath) -> None:
        while not self._ended("}"):
            self._pair(path)

    def _ended(self, bracket: str) -> bool:
        """Whether an array or inline table ends here; commas are passed on the way."""
        self._take(_GAP)
        if self._passed(","):
            self._take(_GAP)
        return self._passed(bracket)

    def _passed(self, sign: str) -> bool:
        found = self.text.startswith(sign, self.at)
        self.at += len(sign) * found
        return found

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        if found is None:
            raise _CutShort
        self.at = found.end()
        return found


def _name(part: re.Match[str]) -> str:
    bare, escaped, literal = part.groups()
    if escaped is not None:
        return str(tomllib.loads(f"key = {escaped}")["key"])
    return str(bare or literal[1:-1])
