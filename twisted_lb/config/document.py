"""The document: a configuration file together with everything that it includes, as one tree of values with their places.

`include = ["conf.d/*.toml", "local.toml"]` at the top of a file names others, relative to the folder of that file; these may
include more. Names that a pattern (`*`, `?`, `[abc]`, `**`) matches come sorted, and none at all is fine; a plain name has to
be there. Each file is read once. Tables merge; a key may be set in one file only. `[[routes]]` alone are joined, as their
order matters: first those of the included files, in the order of the includes, then the including file's own.
"""

import contextlib
import copy
import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from twisted_lb.config.base import KeyPath
from twisted_lb.config.files import Hides, TomlFile, bytes_of, digest_of, toml_of
from twisted_lb.config.interpolation import interpolated
from twisted_lb.config.problems import Code, Place, Problem
from twisted_lb.errors import ConfigError

# The arrays that files add to; any other one is set by one file.
_JOINED = "routes"
# A chain of includes longer than this is a mistake, or somebody's generator gone wild.
_MOST_INCLUDES_DEEP = 10
_PATTERN = re.compile("[*?[]")


def read_document(
    path: Path, environment: Mapping[str, str] = os.environ, hides: Hides = lambda _: False
) -> "Document":
    """Read a file and what it includes, with each `${NAME}` replaced by what the `environment` has. The line of a place does
    not show what is at a path that `hides`.

    ConfigError, with all of them, for files that cannot be read and includes that cannot be followed: what the others say
    means little without those. What is wrong with single values is in `Document.problems`.
    """
    return Reading(path, environment, hides).document()


class Reading:
    """One reading of a file and what it includes, whatever comes of it. The file itself may be a pipe (`--config <(...)`) if it
    is the `first` one.
    """

    def __init__(self, path: Path, environment: Mapping[str, str], hides: Hides, *, first: bool = True) -> None:
        self._reader = _Reader(environment, hides, may_be_pipe=first)
        self._reader.read(path, [], Place(str(path)))

    def document(self) -> "Document":
        """See `read_document`."""
        reader = self._reader
        if reader.unread:
            raise ConfigError([*reader.unread, *reader.problems])
        return Document(reader.files, reader.values, reader.problems, reader.first_routes)

    def files(self) -> dict[Path, str]:
        """The SHA-256 of each file that was read, by path, the main one first: as long as they are the same, so is the
        document. Empty for what could not be read, and for what an include matches by now.
        """
        found = dict(self._reader.digests)
        for folder, pattern in self._reader.patterns:
            with contextlib.suppress(OSError, ValueError):
                for path in _matches(folder, pattern):
                    found.setdefault(path, "")
        return found


class Document:
    """What a configuration file says with all that it includes.

    `values`: all of it, as plain dicts and lists; a program may change its copy. `problems`: keys that are set twice
    (the first one counts) and references that cannot be replaced (they stand as they are).
    """

    def __init__(
        self, files: list[TomlFile], values: dict[str, Any], problems: list[Problem], first_routes: dict[Path, int]
    ) -> None:
        self.problems = tuple(problems)
        self._files = files
        self._values = values
        self._first_routes = first_routes

    def __repr__(self) -> str:
        return f"<Document {self._files[0].path}: {len(self._files)} files, {len(self.problems)} problems>"

    @property
    def path(self) -> Path:
        """The main file."""
        return self._files[0].path

    @property
    def paths(self) -> tuple[Path, ...]:
        """All its files."""
        return tuple(file.path for file in self._files)

    @property
    def values(self) -> dict[str, Any]:
        """A copy of everything that the files say, without `include`."""
        return copy.deepcopy(self._values)

    def place(self, path: KeyPath, *, of_value: bool = False) -> Place:
        """Where the key at a path of the merged document stands, or its value; of an item of an array, the item.

        Of a path that is not there, as that of a missing key, it is the nearest table that is: its header, or the key that
        it is the value of; of the top level the beginning of the main file, with a length of 0. A table with several
        headers is where it is named by itself first.
        """
        file, local = self._origin(path)
        if not local:
            return Place(str(self.path), 1, 1)
        spot = file.spots[local]
        by_value = of_value and len(local) == len(path) and spot.value.start < spot.value.end
        return file.place(spot.value if by_value else spot.key)

    def short(self, path: KeyPath) -> str:
        """`place` in short, for whoever asks for many: nothing of the text is shown, so that nothing is looked for to hide."""
        file, local = self._origin(path)
        return file.short(file.spots[local].key) if local else Place(str(self.path), 1, 1).short

    def placed(self, problem: Problem) -> Problem:
        """A problem with its place; one of a flag has none."""
        if problem.place is not None or problem.flag:
            return problem
        other = f" ({self.place(problem.other).short})" if problem.other else ""
        place = self.place(problem.path, of_value=not problem.about_key)
        return replace(problem, place=place, message=f"{problem.message}{other}")

    def _origin(self, path: KeyPath) -> tuple[TomlFile, KeyPath]:
        """The file that has most of a path, and as much of it as is there, by that file's own numbers."""
        found = [(file, _known(file.values, self._local(file, path))) for file in self._files]
        longest = max(len(local) for _, local in found)
        deepest = [(file, local) for file, local in found if len(local) == longest]
        if len(deepest) > 1 and longest:
            deepest.sort(key=lambda one: one[0].spots[one[1]].implied)
        return deepest[0]

    def _local(self, file: TomlFile, path: KeyPath) -> KeyPath:
        """A path of the document by the numbers that routes have in one file; below 0 is another file's."""
        return _renumbered(path, -self._first_routes.get(file.path, 0))


def _known(values: Any, path: KeyPath) -> KeyPath:
    """As much of a path as there is in some values."""
    for length, part in enumerate(path):
        if isinstance(values, list) and isinstance(part, int):
            there = 0 <= part < len(values)
        else:
            there = isinstance(values, dict) and part in values
        if not there:
            return path[:length]
        values = values[part]
    return path


class _Reader:
    """One reading: a file, then the files of each of its includes, then what it says itself."""

    def __init__(self, environment: Mapping[str, str], hides: Hides, *, may_be_pipe: bool) -> None:
        self.files: list[TomlFile] = []
        self.values: dict[str, Any] = {}
        self.first_routes: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self.digests: dict[Path, str] = {}
        # What includes name, each with the folder that it is relative to.
        self.patterns: list[tuple[Path, str]] = []
        # Those of whole files.
        self.unread: list[Problem] = []
        self._environment = environment
        self._hides = hides
        self._may_be_pipe = may_be_pipe
        self._merged: list[TomlFile] = []
        # Where each file was asked for, by what the kernel calls it.
        self._asked: dict[str, Place] = {}

    def read(self, path: Path, chain: list[Path], asked: Place) -> None:
        """Read a file, and merge what it includes and says. `chain`: the files that led here, by the include at a place."""
        real = _real(path)
        refusal = self._refusal(path, real, chain)
        if refusal:
            self.unread.append(Problem((), refusal, Code.INCLUDE, place=asked))
            with contextlib.suppress(ConfigError):
                self.digests.setdefault(path, digest_of(bytes_of(path)))
            return
        self._asked[real] = asked
        self.digests[path] = ""
        try:
            data = bytes_of(path, pipe=self._may_be_pipe and not chain)
            self.digests[path] = digest_of(data)
            file = toml_of(path, data, self._hides)
        except ConfigError as error:
            self.unread += [_told(problem, chain, asked) for problem in error.problems]
            return
        self.files.append(file)
        for place, included in self._includes(file):
            self.read(included, [*chain, path], place)
        self._merge(file)

    def _refusal(self, path: Path, real: str, chain: list[Path]) -> str:
        """Why a file cannot be included; empty if it can."""
        names = [str(one) for one in (*chain, path)]
        for number, one in enumerate(chain):
            if _real(one) == real:
                return f"{path} includes itself: {' -> '.join(names[number:])}"
        if len(chain) > _MOST_INCLUDES_DEEP:
            return f"more than {_MOST_INCLUDES_DEEP} includes, one in the other: {' -> '.join(names)}"
        first = self._asked.get(real)
        return f"{path} is included already, in {first.short}" if first else ""

    def _includes(self, file: TomlFile) -> Iterator[tuple[Place, Path]]:
        """The files that a file includes, each with the place of its include."""
        wanted, problems = interpolated(file.values.get("include", []), self._environment, ("include",))
        self.unread += [replace(problem, place=_place(file, problem.path)) for problem in problems]
        unset = {problem.path for problem in problems}
        if not isinstance(wanted, list):
            self._refuse(file, ("include",), 'should be a list, such as ["conf.d/*.toml"]')
            return
        for number, pattern in enumerate(wanted):
            path: KeyPath = ("include", number)
            if not isinstance(pattern, str):
                self._refuse(file, path, "should be the name of a file, or a pattern")
            elif path not in unset:
                self.patterns.append((file.path.parent, pattern))
                try:
                    names = _matches(file.path.parent, pattern)
                except (OSError, ValueError) as error:
                    # ValueError: a NUL in the pattern.
                    self._refuse(file, path, f"{pattern}: {getattr(error, 'strerror', None) or error}")
                else:
                    yield from ((_place(file, path), name) for name in names)

    def _refuse(self, file: TomlFile, path: KeyPath, message: str) -> None:
        self.unread.append(Problem(path, message, Code.INCLUDE, place=_place(file, path)))

    def _merge(self, file: TomlFile) -> None:
        """Add what a file says to what those before it say."""
        own = {key: value for key, value in file.values.items() if key != "include"}
        values, problems = interpolated(own, self._environment)
        before, routes = self.values.get(_JOINED), values.get(_JOINED)
        if isinstance(before, list) and isinstance(routes, list):
            self.first_routes[file.path] = len(before)
            before += values.pop(_JOINED)
        first = self.first_routes.get(file.path, 0)
        for problem in problems:
            path = _renumbered(problem.path, first)
            self.problems.append(replace(problem, path=path, place=_place(file, problem.path)))
        self._merge_table(file, self.values, values, ())
        self._merged.append(file)

    def _merge_table(self, file: TomlFile, into: dict[str, Any], values: dict[str, Any], path: KeyPath) -> None:
        for key, value in values.items():
            here = (*path, key)
            if key not in into:
                into[key] = value
            elif isinstance(into[key], dict) and isinstance(value, dict):
                self._merge_table(file, into[key], value, here)
            else:
                first = next(one for one in self._merged if _known(one.values, here) == here)
                message = f"already set in {first.place(first.spots[here].key).short}"
                place = file.place(file.spots[here].key)
                self.problems.append(Problem(here, message, Code.TWICE, about_key=True, place=place))


def _real(path: Path) -> str:
    """What the kernel calls a file."""
    try:
        return os.path.realpath(path)
    except ValueError:
        # A NUL in the path, as whoever reads the file will say.
        return str(path)


def _matches(folder: Path, pattern: str) -> list[Path]:
    """The files that an include names; OSError if that cannot be told."""
    plain = list(takewhile(lambda part: not _PATTERN.search(part), Path(pattern).parts))
    if plain == list(Path(pattern).parts):
        return [folder / pattern]
    # glob finds nothing, and says nothing, where it may not look.
    with contextlib.suppress(FileNotFoundError):
        os.scandir(folder.joinpath(*plain)).close()
    # Not Path.glob: that takes no absolute patterns.
    found = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207
    return sorted(folder / name for name in found)


def _told(problem: Problem, chain: list[Path], asked: Place) -> Problem:
    """The problem of a file that cannot be read, at the include that asks for it."""
    if not chain or problem.code != Code.UNREADABLE:
        return problem
    return replace(problem, message=f"{problem.place}: {problem.message}", place=asked)


def _place(file: TomlFile, path: KeyPath) -> Place:
    """The value at a path of one file."""
    return file.place(file.spots[path].value)


def _renumbered(path: KeyPath, more: int) -> KeyPath:
    """A path whose route has another number in the document than in its file."""
    if path[:1] == (_JOINED,) and len(path) > 1 and isinstance(path[1], int):
        return (_JOINED, path[1] + more, *path[2:])
    return path
