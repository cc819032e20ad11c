"""Configuration out of a TOML file and the flags of a command line, with errors a person can use."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from twisted_lb.config import NO_BACKEND, LoadBalancerConfig
from twisted_lb.errors import ConfigError

# Where the flags of the command line go; errors name the flag the person has typed.
FLAGS = {
    "--backend": "backends",
    "--healthcheck": "health_check.interval_s",
    "--strategy": "strategy",
    "--port": "listen.port",
    "--interface": "listen.interface",
    "--status": "status",
}


def load_toml(path: Path | str) -> LoadBalancerConfig:
    """The configuration in a TOML file; ConfigError with everything that is wrong in it."""
    return _validated(_read_toml(Path(path)), {}, f"{path}: ")


def from_flags(flags: Mapping[str, str | list[str]], file: Path | None) -> LoadBalancerConfig:
    """The configuration of a command line: the file's values, each flag instead of its value.

    `flags` holds the texts of the FLAGS that were typed, only those; the list of a `--backend`
    replaces all of the file's backends. ConfigError with everything that is wrong.
    """
    values = _read_toml(file) if file is not None else {}
    for flag, text in flags.items():
        _put(values, FLAGS[flag], text)
    typed = {FLAGS[flag]: flag for flag in flags}
    return _validated(values, typed, f"{file}: " if file else "")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
    except RecursionError:
        reason = "nested too deeply"
    raise ConfigError([f"{path}: {reason}"])


def _put(values: dict[str, Any], dotted: str, text: str | list[str]) -> None:
    *tables, key = dotted.split(".")
    for table in tables:
        # A file in which this is no table is refused by validation, with its own value.
        inner = values.setdefault(table, {})
        if not isinstance(inner, dict):
            return
        values = inner
    numeric = isinstance(text, str) and dotted in _NUMBERS
    values[key] = _number(text) if numeric else text


_NUMBERS = {"listen.port", "health_check.interval_s"}


def _number(text: str | list[str]) -> object:
    """The number a flag's text stands for; the text itself where it is none."""
    if re.fullmatch("[+-]?[0-9]{1,18}", str(text)):
        return int(str(text))
    try:
        return float(str(text))
    except ValueError:
        return text


def _validated(values: dict[str, Any], typed: Mapping[str, str], source: str) -> LoadBalancerConfig:
    try:
        return LoadBalancerConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_problems(error.errors(), typed, source)) from None


def _problems(
    errors: Iterable[ErrorDetails], typed: Mapping[str, str], source: str
) -> Iterator[str]:
    """What is wrong with the flags, then with the file, which is named once."""
    in_file = []
    for error in errors:
        dotted = ".".join(str(part) for part in error["loc"])
        reason = _reason(error)
        flag = typed.get(dotted) or typed.get(dotted.partition(".")[0])
        if flag is not None:
            yield f"{flag}: {reason}"
        else:
            in_file.append(f"{dotted}: {reason}" if dotted and reason != NO_BACKEND else reason)
    yield from (source + problem if i == 0 else problem for i, problem in enumerate(in_file))


# Pydantic's texts speak of Python; these speak of the file.
REASONS = {
    "extra_forbidden": "unknown key",
    "tuple_type": "should be a list",
    "model_type": "should be a table",
    "missing": "is missing",
}


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "missing" and error["loc"] == ("backends",):
        return NO_BACKEND
    if error["type"] in REASONS:
        return REASONS[error["type"]]
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    got = error["input"]
    if isinstance(got, str | int | float) and str(got) not in text:
        text += f", not {_short(got)}"
    return text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
