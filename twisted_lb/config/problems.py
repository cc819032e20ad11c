"""Problems: what is wrong with a configuration, each with its place; many as text for a terminal, or as JSON."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from twisted_lb.config.base import KeyPath
from twisted_lb.errors import one_line

# Who has more to repair begins with these.
_MOST = 20
# A longer line is shown around what is wrong in it.
_LONGEST_LINE = 120
_BEFORE = 40


class Severity(StrEnum):
    """Whether a configuration is refused for it."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """What kind of problem it is, for programs and for whoever silences one: a code keeps its meaning for ever."""

    UNREADABLE = "E01"
    NOT_TOML = "E02"
    INCLUDE = "E03"
    TWICE = "E04"
    INTERPOLATION = "E05"
    UNKNOWN_KEY = "E06"
    MISSING = "E07"
    VALUE = "E08"
    EXPOSED = "W01"


class Place(NamedTuple):
    """Where something stands: line and column count from 1, in characters; `length` stops at the end of the line.

    Of a file that cannot be read the line is 0: it has none.
    """

    file: str
    line: int = 0
    column: int = 0
    length: int = 0
    text_of_the_line: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def short(self) -> str:
        """File and line, for one problem that names another place."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: at which path of the configuration, or with which flag, and where in which file.

    `about_key`: it is the key that is wrong, as one that nobody knows; else its value. `other`: the path of what it does not go
    together with, whose place is said behind the message.
    """

    path: KeyPath
    message: str
    code: str = Code.VALUE
    severity: Severity = Severity.ERROR
    hint: str = ""
    flag: str = ""
    about_key: bool = False
    place: Place | None = None
    other: KeyPath = ()

    def __str__(self) -> str:
        """In one line: `lb.toml:14:1: pools.app.wieght: unknown key; did you mean "weight"?`."""
        where = str(self.place) if self.place else ""
        code = f"   [{self.code}]" if self.severity is Severity.WARNING else ""
        said = "; ".join(filter(None, [self.message, self.hint]))
        return one_line(": ".join(filter(None, [where, self.flag or dotted(self.path), said]))) + code


def dotted(path: KeyPath) -> str:
    """A path as people write it: `pools.app.backends[1].weight`; quotes where a key needs them."""
    words = ""
    for part in path:
        if isinstance(part, int):
            words += f"[{part}]"
        else:
            bare = part.replace("-", "").replace("_", "")
            words += "." * bool(words) + (part if bare.isascii() and bare.isalnum() else json.dumps(part))
    return words


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Errors first, then warnings; in each the flags' first, then those of the files by file, line and column."""

    def rank(problem: Problem) -> tuple[bool, str, int, int]:
        file, line, column, *_ = problem.place or Place("")
        return problem.severity is not Severity.ERROR, file, line, column

    return sorted(problems, key=rank)


def report(problems: Iterable[Problem], ending: str) -> str:
    """Many problems as text: each with its line, and a last line that counts them and says what came of it (`ending`)."""
    every = in_order(problems)
    lines = [line for problem in every[:_MOST] for line in (str(problem), *excerpt(problem.place))]
    if len(every) > _MOST:
        lines.append(f"… and {len(every) - _MOST} more")
    return "\n".join([*lines, f"{count(every)}; {ending}"]) + "\n"


def count(problems: Sequence[Problem]) -> str:
    """How many they are: `3 errors, 1 warning`; `no problem` of none."""
    numbers = [(kind, sum(problem.severity is kind for problem in problems)) for kind in Severity]
    said = [f"{number} {kind}{'s' * (number != 1)}" for kind, number in numbers if number]
    return ", ".join(said) or "no problem"


def excerpt(place: Place | None) -> list[str]:
    """The line of a place, and carets under what is meant; nothing where there is nothing to point at."""
    if place is None or not place.length:
        return []
    text, before = place.text_of_the_line, place.column - 1
    if len(text) > _LONGEST_LINE:
        cut = max(0, min(before - _BEFORE, len(text) - _LONGEST_LINE))
        text, before = text[cut : cut + _LONGEST_LINE], before - cut
        text, before = (f"…{text}", before + 1) if cut else (f"{text}…", before)
    # What a terminal could act upon, tabs included, is one character wide.
    text = "".join(one if one.isprintable() else " " if one == "\t" else "�" for one in text)
    meant = text[before : before + place.length]
    carets = " " * _width(text[:before]) + "^" * max(1, _width(meant))
    return [f"{place.line:>5} | {text}", f"      | {carets}"]


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text
    )


def as_json(problems: Iterable[Problem]) -> str:
    """Many problems for a program: a list of objects, in the order of the text, all of them."""
    rows = []
    for problem in in_order(problems):
        file, line, column, *_ = problem.place or Place("")
        rows.append(
            {
                "file": file or None,
                "line": line or None,
                "column": column or None,
                "path": problem.flag or dotted(problem.path),
                "code": problem.code,
                "severity": problem.severity,
                "message": problem.message,
                "hint": problem.hint or None,
            }
        )
    return json.dumps(rows, indent=2) + "\n"
