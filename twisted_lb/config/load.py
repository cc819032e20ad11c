"""Loading: configuration out of a TOML file and a command line, with errors that a person can use."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from twisted_lb.config import LoadBalancerConfig, Model, SiblingConfig
from twisted_lb.config.base import names_of
from twisted_lb.config.document import Document, read_document
from twisted_lb.config.locator import KeyPath
from twisted_lb.config.problems import Problem, in_order
from twisted_lb.config.reasons import problems
from twisted_lb.config.secret import Sources, exposed, hides
from twisted_lb.errors import ConfigError

# The keys that the flags of `twistd lb` set; errors name the flag that was typed.
FLAGS = {
    "--backend": "backends",
    "--healthcheck": "health_check.interval_s",
    "--strategy": "policy",
    "--port": "listen.port",
    "--interface": "listen.interface",
    "--status": "status",
    "--takeover": "takeover",
}

NUMERIC_FLAGS = {"--healthcheck", "--port"}

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Loaded:
    """A configuration that was accepted, the document that it stands in, if any, and what is doubtful about that."""

    config: LoadBalancerConfig
    document: Document | None
    warnings: tuple[Problem, ...]


def load_toml(path: Path | str, environment: Mapping[str, str] = os.environ) -> LoadBalancerConfig:
    """Load the configuration in a TOML file and what it includes; ConfigError with everything that is wrong in it."""
    return load({}, Path(path), environment).config


def from_flags(
    flags: Mapping[str, str | list[str]], file: Path | None, environment: Mapping[str, str] = os.environ
) -> LoadBalancerConfig:
    """The configuration of a command line, as of `load`."""
    return load(flags, file, environment).config


def load(
    flags: Mapping[str, str | list[str]], file: Path | None, environment: Mapping[str, str] = os.environ
) -> Loaded:
    """The configuration of a command line: the file's values, each flag instead of its value.

    `flags` holds the texts of the FLAGS that were typed, only those; the list of a `--backend`
    replaces all of the file's backends. ConfigError with everything that is wrong.
    """
    document = read_document(file, environment, _hides) if file is not None else None
    values = document.values if document else {}
    for flag, text in flags.items():
        _put(LoadBalancerConfig, values, FLAGS[flag], _value(flag, text))
    typed = {FLAGS[flag]: flag for flag in flags}
    sources = Sources(environment, file.parent if file is not None else Path())
    config = _validated(LoadBalancerConfig, values, typed, document, sources)
    warnings = tuple(document.placed(problem) if document else problem for problem in exposed(config))
    return Loaded(config, document, warnings)


def _hides(path: KeyPath) -> bool:
    return hides(LoadBalancerConfig, path)


def sibling_from_flags(flags: Mapping[str, str]) -> SiblingConfig:
    """The sibling backend of a command line; each flag is the field of that name."""
    values = {flag[2:]: _value(flag, text) for flag, text in flags.items()}
    return _validated(SiblingConfig, values, {flag[2:]: flag for flag in flags})


def keys_of_the_file() -> dict[str, str]:
    """The keys of the file that no flag sets, such as `queue.most`: by `most`, where the first one of that name is meant, and
    by `queue_most`.
    """
    found: dict[str, str] = {}
    for dotted in _dotted(LoadBalancerConfig):
        if dotted not in FLAGS.values():
            found.setdefault(dotted.replace(".", "_"), dotted)
            found.setdefault(dotted.rpartition(".")[2], dotted)
    return found


def _dotted(model: type[Model], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Model):
            yield from _dotted(kind, f"{prefix}{key}.")
        else:
            yield prefix + key


def _put(model: Any, values: dict[str, Any], dotted: str, value: object) -> None:
    """Set a key of a model's table, given as `key` or `table.key`, in place of what is there under any of its names."""
    key, _, rest = dotted.partition(".")
    if rest:
        inner = values.setdefault(key, {})
        # Anything but a table is left there: validation refuses the file for it, and names it.
        if isinstance(inner, dict):
            _put(model.model_fields[key].annotation, inner, rest, value)
        return
    for name in names_of(model, key):
        values.pop(name, None)
    values[key] = value


def _value(flag: str, text: str | list[str]) -> object:
    """The value of a flag's text; the text itself where it is no number but should be."""
    if flag not in NUMERIC_FLAGS or not isinstance(text, str):
        return text
    if re.fullmatch("[+-]?[0-9]{1,18}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _validated(
    model: type[M],
    values: dict[str, Any],
    typed: Mapping[str, str],
    document: Document | None = None,
    sources: Sources | None = None,
) -> M:
    before = document.problems if document else ()
    try:
        config = model.model_validate(values, context=sources)
    except ValidationError as error:
        found = problems(model, error.errors(), values, typed)
        every = [*before, *(problem for problem in found if not _follows(problem, before))]
    else:
        if not before:
            return config
        every = [*before]
    raise ConfigError(in_order(document.placed(problem) if document else problem for problem in every)) from None


def _follows(problem: Problem, others: Iterable[Problem]) -> bool:
    """Whether a problem is about a value that others have found to be none."""
    return any(problem.path[: len(other.path)] == other.path for other in others)
