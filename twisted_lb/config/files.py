"""Configuration files: one TOML file as text and values; an error names file, line, column and key."""

import codecs
import hashlib
import os
import re
import stat
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from twisted_lb.config.base import KeyPath
from twisted_lb.config.locator import Span, Spot, locate, locate_partly
from twisted_lb.config.problems import Code, Place, Problem, dotted
from twisted_lb.errors import ConfigError

# Longest first: UTF-32's mark begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: "is UTF-32, should be UTF-8",
    codecs.BOM_UTF32_BE: "is UTF-32, should be UTF-8",
    codecs.BOM_UTF16_LE: "is UTF-16, should be UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16, should be UTF-8",
    codecs.BOM_UTF8: "begins with a byte order mark (BOM), should be UTF-8 without",
}
# Each of tomllib's words for a key or a table that stands there already.
_TWICE = ("Cannot declare ", "Cannot mutate ", "Cannot overwrite ", "Cannot redefine ", "Duplicate ")
_PLACE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)
# What is mostly the matter, by how tomllib's words for it begin.
_HINTS = {
    "Invalid value": "a text needs quotes",
    "Expected newline or end of document": "a text needs quotes, and each key a line of its own",
    "Unclosed array": "a comma or a ] is missing before this, or the quotes of a text",
    "Unclosed inline table": "a comma or a } is missing before this, or the quotes of a text",
    "Expected '=' after a key": "TOML is written key = value, and tables [so]",
    "Illegal character '\\n'": "the quote at the end of a text is missing",
}
# The rest of a word at which a parser gave up.
_WORD = re.compile(r"""[^\s"'=,]*""")
# tomllib gives up at some depth that depends on who calls; nothing in a configuration is half as deep.
_DEEPEST = 50
_HIDDEN = "***"
# Of any file: a page, a list of networks.
_MOST_BYTES = 2**24

# Says of a path whether what stands there is not to be shown.
Hides = Callable[[KeyPath], bool]


@dataclass(frozen=True)
class TomlFile:
    """A TOML file that was read: its text with plain line ends, its values, and what it `hides`."""

    path: Path
    text: str
    values: dict[str, Any]
    hides: Hides

    @cached_property
    def spots(self) -> Mapping[KeyPath, Spot]:
        """Where everything in it stands; worked out when it is asked for."""
        return locate(self.text)

    def place(self, span: Span) -> Place:
        """A part of its text by line and column, up to the end of its first line; what is hidden in that line is `***`."""
        place = _place(self.path, self.text, span)
        begin, end = _line_around(self.text, span.start)
        hidden = [span for span, path in self._scalars_in(begin, end) if self.hides(path)]
        for secret in sorted(hidden, reverse=True):
            place = _without(place, Span(max(secret.start, begin) - begin, min(secret.end, end) - begin))
        return place

    def short(self, span: Span) -> str:
        """Where a part of its text begins, `lb.toml:14`."""
        return Place(str(self.path), bisect_right(self._lines, span.start), 1).short

    @cached_property
    def _lines(self) -> list[int]:
        """Where each line of its text begins."""
        return [0, *(found.end() for found in re.finditer("\n", self.text))]

    @cached_property
    def _scalars(self) -> list[tuple[Span, KeyPath]]:
        """All values that are neither tables nor lists, in the order of the text."""
        found = [(spot.value, path) for path, spot in self.spots.items() if spot.value.start < spot.value.end]
        return sorted(
            (one for one in found if not isinstance(at(self.values, one[1]), dict | list)), key=lambda one: one[0]
        )

    def _scalars_in(self, begin: int, end: int) -> Iterator[tuple[Span, KeyPath]]:
        """Those that have a part between two offsets; none is in another one."""
        first = bisect_right(self._scalars, begin, key=lambda one: one[0].end)
        yield from takewhile(lambda one: one[0].start < end, islice(self._scalars, first, None))


def at(values: Any, path: KeyPath) -> Any:
    """What there is at a path."""
    for part in path:
        values = values[part]
    return values


class Home:
    """The folder that a program was in when it began to read its files: names that are relative are meant there for good,
    also after it has gone elsewhere (`twistd --rundir`).
    """

    def __init__(self) -> None:
        self._folder = _here()

    def at(self, name: Path) -> Path:
        """A file by a name that leads there now: the same one where nothing has changed."""
        return name if _here() == self._folder else self._folder / name


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError:
        return Path()  # it is gone


def contents(path: Path) -> bytes:
    """What is in a file, without ever waiting for it: OSError for one that cannot be read, ValueError for a pipe, which has
    nothing to be read a second time, and for what is far too long, as a device may be.
    """
    with open(path, "rb", opener=_at_once) as file:
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            raise ValueError("is a pipe, which cannot be read again and again")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"should be at most {_MOST_BYTES} bytes")
    return data


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def entries_of(path: Path) -> tuple[str, ...] | None:
    """The names in a folder, sorted; None where there is none, or none that can be read."""
    try:
        return tuple(sorted(one.name for one in path.iterdir()))
    except (NotADirectoryError, FileNotFoundError, ValueError):
        # ValueError: a NUL in the path, as whoever reads a file there will say.
        return None


def digest_at(path: Path) -> str:
    """The SHA-256 of what is in a file, or of the names in a folder, in hexadecimal; empty for what cannot be read."""
    try:
        names = entries_of(path)
        return digest_of(contents(path)) if names is None else digest_of_names(names)
    except (OSError, ValueError):
        # ValueError: no path, or a pipe.
        return ""


def digest_of_names(names: Iterable[str]) -> str:
    """The SHA-256 of the names in a folder."""
    return digest_of("\0".join(names).encode("utf-8", "surrogateescape"))


def readers_of(path: Path) -> str:
    """Who may read a file beside its owner: `others`, where each folder above lets them through; else `group`, or nobody."""
    real = Path(os.path.realpath(path))
    mode = real.stat().st_mode
    if mode & stat.S_IROTH and all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents):
        return "others"
    return "group" if mode & stat.S_IRGRP and all(one.stat().st_mode & stat.S_IXGRP for one in real.parents) else ""


def bytes_of(path: Path, *, pipe: bool = False) -> bytes:
    """What is in a file, or in a `pipe` where that may be one; ConfigError for one that cannot be read."""
    try:
        return path.read_bytes() if pipe else contents(path)
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        what = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem((), what, Code.UNREADABLE, place=Place(str(path)))]) from None


def digest_of(data: bytes) -> str:
    """The SHA-256 of what is in a file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def toml_of(path: Path, data: bytes, hides: Hides) -> TomlFile:
    """What was read in a file, as TOML; ConfigError for what is none."""
    text = _decoded(path, data, hides)
    return TomlFile(path, text, _parsed(path, text, hides), hides)


def _decoded(path: Path, data: bytes, hides: Hides) -> str:
    for mark, reason in _MARKS.items():
        if data.startswith(mark):
            raise ConfigError([Problem((), reason, Code.NOT_TOML, place=Place(str(path), 1, 1))])
    try:
        return _lines(data.decode())
    except UnicodeDecodeError as error:
        start = len(_lines(data[: error.start].decode()))
        text = _lines(data.decode(errors="replace"))
        place = _place_in_part(path, text, Span(start, start + 1), start, hides)
        raise ConfigError([Problem((), f"not UTF-8 at byte {error.start}", Code.NOT_TOML, place=place)]) from None


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _parsed(path: Path, text: str, hides: Hides) -> dict[str, Any]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax(path, text, str(error), hides)]) from None
    except RecursionError:
        values = None
    if values is None or _is_deeper(values, _DEEPEST):
        raise ConfigError([Problem((), "nested too deeply", Code.NOT_TOML, place=Place(str(path), 1, 1))])
    return values


def _is_deeper(values: Any, levels: int) -> bool:
    layer = [values]
    for _ in range(levels):
        inner = [one for outer in layer for one in (outer.values() if isinstance(outer, dict) else outer)]
        layer = [one for one in inner if isinstance(one, dict | list)]
    return bool(layer)


def _syntax(path: Path, text: str, reason: str, hides: Hides) -> Problem:
    """What tomllib says, at its place; of a key or table that is there twice also the place of the first."""
    found = _PLACE.fullmatch(reason)
    if found is None:
        return Problem((), reason, Code.NOT_TOML, place=Place(str(path), 1, 1))
    what, line, column = found.groups()
    end = _offset(text, int(line), int(column)) if line else len(text)
    twice = locate_partly(text[:end]).twice if what.startswith(_TWICE) else None
    if twice is None:
        end = min(end, len(text.rstrip()))
        hint = next((hint for words, hint in _HINTS.items() if what.startswith(words)), "")
        if not line:
            hint = "the file ends before that is complete"
        place = _place_in_part(path, text, Span(end, end + 1), end, hides)
        return Problem((), what, Code.NOT_TOML, hint=hint, place=place)
    first = _place(path, text, twice.first)
    name = "" if twice.first_path == twice.path else f"{dotted(twice.first_path)} is "
    place = _place_in_part(path, text, twice.key, end, hides)
    return Problem(twice.path, f"{name}already set in {first.short}", Code.TWICE, about_key=True, place=place)


def _offset(text: str, line: int, column: int) -> int:
    begin = 0
    for _ in range(line - 1):
        begin = text.index("\n", begin) + 1
    return begin + column - 1


def _place_in_part(path: Path, text: str, span: Span, known: int, hides: Hides) -> Place:
    """A place in a text that is no TOML beyond what is `known`. Its line ends with the word there, as nobody can tell whether
    to hide what follows; and it is left out where something before that is hidden.
    """
    place = _place(path, text, span)
    begin, end = _line_around(text, span.start)
    part = locate_partly(text[:known])
    if (part.last and hides(part.last)) or _any_hidden(part.spots, begin, hides):
        return Place(place.file, place.line, place.column)
    word = _WORD.match(text, known)
    shown = word.end() if word else known
    return place._replace(text_of_the_line=f"{text[begin:shown]}…") if text[shown:end].strip() else place


def _any_hidden(spots: Mapping[KeyPath, Spot], begin: int, hides: Hides) -> bool:
    """Whether a value that ends behind a character is hidden."""
    return any(hides(path) for path, spot in spots.items() if max(begin, spot.value.start) < spot.value.end)


def _place(path: Path, text: str, span: Span) -> Place:
    """A part of a text by line and column, up to the end of its first line; one character at least, which may be that end."""
    begin, end = _line_around(text, span.start)
    line = text.count("\n", 0, span.start) + 1
    return Place(str(path), line, span.start - begin + 1, max(1, min(span.end, end) - span.start), text[begin:end])


def _line_around(text: str, offset: int) -> Span:
    """The line that a character is in, without its end."""
    end = text.find("\n", offset)
    return Span(text.rfind("\n", 0, offset) + 1, len(text) if end < 0 else end)


def _without(place: Place, span: Span) -> Place:
    """A place with a part of its line hidden; what points into that part points at all of it."""
    start, end = place.column - 1, place.column - 1 + place.length
    longer = len(_HIDDEN) - (span.end - span.start)
    if start >= span.end:
        start += longer
    elif start > span.start:
        start = span.start
    if end >= span.end:
        end += longer
    elif end > span.start:
        end = span.start + len(_HIDDEN)
    text = place.text_of_the_line[: span.start] + _HIDDEN + place.text_of_the_line[span.end :]
    return Place(place.file, place.line, start + 1, end - start, text)
