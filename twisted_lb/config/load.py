"""Loading: configuration out of a TOML file and a command line, with errors that a person can use."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from twisted_lb.config import LoadBalancerConfig, Model, SiblingConfig
from twisted_lb.config.base import KeyPath, names_of
from twisted_lb.config.document import Document, Reading
from twisted_lb.config.doubts import older_names
from twisted_lb.config.files import Home
from twisted_lb.config.flags import FLAGS, Flagged, Flags, value_of
from twisted_lb.config.origins import Origins
from twisted_lb.config.problems import Problem, in_order
from twisted_lb.config.reasons import problems
from twisted_lb.config.secret import Sources, exposed, hides
from twisted_lb.config.tls import WORDS
from twisted_lb.errors import ConfigError

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Loaded:
    """A configuration that was accepted, the document that it stands in, if any, what is doubtful about how that is written,
    and where each value comes from.
    """

    config: LoadBalancerConfig
    document: Document | None
    warnings: tuple[Problem, ...]
    origins: Origins

    def placed(self, found: Iterable[Problem]) -> list[Problem]:
        """Problems with their places, or the flags that were typed, in their order."""
        flagged = [self.origins.flagged(one) for one in found]
        return in_order(self.document.placed(one) if self.document else one for one in flagged)


def load_toml(path: Path | str, environment: Mapping[str, str] = os.environ) -> LoadBalancerConfig:
    """Load the configuration in a TOML file and what it includes; ConfigError with everything that is wrong in it."""
    return Source({}, Path(path), environment).load()


def from_flags(flags: Flags, file: Path | None, environment: Mapping[str, str] = os.environ) -> LoadBalancerConfig:
    """The configuration of a command line, see `Source`."""
    return Source(flags, file, environment).load()


class Source:
    """A command line that can be loaded again and again (reload): the file's values, each flag instead of its value.

    `flags` holds the texts of the FLAGS that were typed, only those; the list of a `--backend` replaces all of the file's
    backends of the pool `default`. `loaded` is what came of it last.
    """

    def __init__(self, flags: Flags, file: Path | None, environment: Mapping[str, str] = os.environ) -> None:
        self.flags: Final = {flag: _absolute(flag, text) for flag, text in flags.items()}
        self.file: Final = file
        self.loaded: Loaded | None = None
        self._reading: Reading | None = None  # the last one, whatever came of it
        self._environment: Final = environment
        self._home: Final = Home()

    def load(self) -> LoadBalancerConfig:
        """The configuration as it is now; ConfigError with everything that is wrong, and `loaded` is what it was."""
        document = None if self.file is None else self._read(self.file)
        given = document.values if document else {}
        flagged = Flagged(document.values if document else {}, self.flags, str(self.file or "the command line"))
        sources = Sources(self._environment, document.path.parent if document else self._home.at(Path()))
        config = _validated(LoadBalancerConfig, flagged.values, flagged, document, sources)
        warnings = [*exposed(config), *(one.problem() for one in older_names(given))]
        origins = Origins(config, given, flagged.typed, lambda path: _short_place(document, path))
        self.loaded = Loaded(
            config, document, tuple(document.placed(one) if document else one for one in warnings), origins
        )
        return config

    __call__ = load

    def _read(self, file: Path) -> Document:
        first = self._reading is None
        self._reading = Reading(self._home.at(file), self._environment, _hides, first=first)
        return self._reading.document()

    def files(self) -> Mapping[Path, str]:
        """The configuration files that were read last, see `Reading.files`; none before the first load, or without one."""
        found = {} if self._reading is None else self._reading.files()
        return {self._home.at(path): digest for path, digest in found.items()}

    def placed(self, config: LoadBalancerConfig, found: Iterable[Problem]) -> list[Problem]:
        """Problems of a configuration with their places in the file, if it is the one that was loaded last."""
        loaded = self.loaded
        return list(found) if loaded is None or config is not loaded.config else loaded.placed(found)

    def origins(self, config: LoadBalancerConfig) -> Origins | None:
        """Where each value of a configuration comes from, if it is the one that was loaded last."""
        loaded = self.loaded
        return None if loaded is None or config is not loaded.config else loaded.origins

    def warnings(self, config: LoadBalancerConfig) -> tuple[Problem, ...]:
        """What is doubtful about how a configuration is written, if it is the one that was loaded last."""
        loaded = self.loaded
        return () if loaded is None or config is not loaded.config else loaded.warnings


def _absolute(flag: str, text: str | list[str]) -> str | list[str]:
    """Where a flag names certificates, they are meant where it was typed; what a file names is beside that."""
    return os.path.abspath(text) if flag == "--tls" and isinstance(text, str) and text not in (*WORDS, "") else text


def _short_place(document: Document | None, path: KeyPath) -> str:
    return "" if document is None else document.short(path)


def _hides(path: KeyPath) -> bool:
    # What the document itself is made of is no key of the model, and no secret.
    return path[:1] != ("include",) and hides(LoadBalancerConfig, path)


def sibling_from_flags(flags: Mapping[str, str]) -> SiblingConfig:
    """The sibling backend of a command line; each flag is the field of that name."""
    values = {flag[2:]: value_of(flag, text) for flag, text in flags.items()}
    try:
        return SiblingConfig.model_validate(values)
    except ValidationError as error:
        typed: dict[KeyPath, str] = {(flag[2:],): flag for flag in flags}
        raise ConfigError(in_order(problems(SiblingConfig, error.errors(), values, typed))) from None


def keys_of_the_file() -> dict[str, str]:
    """The keys of the file that no flag sets, such as `queue.length`: by `length`, where the first one of that name is meant, and
    by `queue_length`; and by their older names, such as `queue_most`, where nothing else is called so.
    """
    found: dict[str, str] = {}
    keys = {key: names for key, *names in _dotted(LoadBalancerConfig) if key not in FLAGS.values()}
    called = [(key, key) for key in keys] + [(older, key) for key, names in keys.items() for older in names]
    for name, key in called:
        found.setdefault(name.replace(".", "_"), key)
        found.setdefault(name.rpartition(".")[2], key)
    return found


def _dotted(model: type[Model], prefix: str = "") -> Iterator[list[str]]:
    """The keys of a model and of its tables, each with its older names behind it."""
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Model):
            if key != "defaults":
                yield from _dotted(kind, f"{prefix}{key}.")
        else:
            yield [prefix + name for name in names_of(model, key)]


def _validated(
    model: type[M], values: dict[str, Any], flagged: Flagged, document: Document | None, sources: Sources
) -> M:
    before = document.problems if document else ()
    every = [*before, *flagged.problems]
    try:
        config = model.model_validate(values, context=sources)
    except ValidationError as error:
        found = problems(model, error.errors(), values, flagged.typed)
        every += [problem for problem in found if not _follows(problem, before)]
    else:
        every += _written_over(config, document)
    if every:
        raise ConfigError(in_order(document.placed(problem) if document else problem for problem in every)) from None
    return config


def _written_over(config: Model, document: Document | None) -> Iterator[Problem]:
    """A state file that is one of the files of the configuration."""
    state_file = getattr(config, "state_file", None)
    if state_file is not None and document is not None:
        for path in document.paths:
            if os.path.realpath(path) == os.path.realpath(state_file):
                text = f"{state_file} is the configuration file {path}, which it would be written over"
                yield Problem(("state_file",), text)


def _follows(problem: Problem, others: Iterable[Problem]) -> bool:
    """Whether a problem is about a value that others have found to be none."""
    return any(problem.path[: len(other.path)] == other.path for other in others)
