"""Reasons: what is wrong with a configuration, in words that speak of the file and the flags and not of pydantic."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic_core import ErrorDetails

from twisted_lb.config.base import Model, names_of
from twisted_lb.config.locator import KeyPath
from twisted_lb.config.pools import NO_BACKEND
from twisted_lb.config.problems import Code, Problem, dotted
from twisted_lb.config.secret import hides

# Pydantic's texts speak of Python; these speak of the file.
REASONS = {
    "bool_type": "should be true or false",
    "dict_type": "should be a table",
    "missing": "is missing",
    "model_type": "should be a table",
    "string_type": "should be a string",
    "tuple_type": "should be a list",
}

# What to say of a value is said when it is at most as long.
_LONGEST = 60

# What a problem is called by what pydantic calls it.
CODES = {"extra_forbidden": Code.UNKNOWN_KEY, "missing": Code.MISSING}


def problems(
    model: type[Model], errors: Sequence[ErrorDetails], values: Mapping[str, Any], typed: Mapping[str, str]
) -> Iterator[Problem]:
    """The problems that pydantic has with some values. `typed`: the flag, by the key that it set."""
    for error in _telling(errors):
        kind = error["type"]
        loc = (*error["loc"], *error.get("ctx", {}).get("path", ()))
        message, hint = _reason(model, error)
        flag = typed.get(dotted(loc)) or typed.get(str(loc[0]) if loc else "", "")
        yield Problem(
            () if _is_without_backends(error) else _path(loc, values, kind),
            message,
            CODES.get(kind, Code.VALUE),
            hint=hint,
            flag=flag,
            about_key=kind in (*CODES, "error_at"),
        )


def _path(loc: KeyPath, values: Any, kind: str) -> KeyPath:
    """The path of an error in the file: pydantic's, without what names a kind of a union, or a key as such."""
    path: KeyPath = ()
    for number, part in enumerate(loc):
        is_list = isinstance(values, list)
        there = (
            isinstance(part, int) and part < len(values) if is_list else isinstance(values, Mapping) and part in values
        )
        if there:
            path, values = (*path, part), values[part]
        elif kind == "missing" and number == len(loc) - 1:
            path = (*path, part)
    return path


def similar(name: str, names: Iterable[str]) -> str | None:
    """The one of some names that was probably meant, if any was."""
    by_letters = {one.strip("-").replace("-", "_"): one for one in names}
    found = get_close_matches(name.strip("-").replace("-", "_").lower(), by_letters, n=1)
    return by_letters[found[0]] if found else None


def _telling(errors: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """The errors, but for backends that are missing only because their key is mistyped or misplaced."""
    strangers = [str(error["loc"][-1]) for error in errors if error["type"] == "extra_forbidden"]
    mistyped = any(similar(name, ["backends"]) for name in strangers)
    return (error for error in errors if not (mistyped and _is_without_backends(error)))


def _is_without_backends(error: ErrorDetails) -> bool:
    return error["type"] == "missing" and error["loc"] == ("backends",)


def _reason(model: type[Model], error: ErrorDetails) -> tuple[str, str]:
    """What is wrong, and what to do about it, if that can be told."""
    if _is_without_backends(error):
        return NO_BACKEND, ""
    if error["type"] == "extra_forbidden":
        return "unknown key", _advice(model, error["loc"])
    # "Input should be", "String should have": the key is named already.
    text = REASONS.get(error["type"]) or re.sub(r"^(Value error, |\w+ (?=should ))", "", error["msg"])
    got = error["input"]
    if error["type"] == "tuple_type" and error["loc"] == ("backends",) and isinstance(got, Mapping):
        return f"{text}: of tables [[backends]], in double brackets", ""
    if isinstance(got, str | int | float) and not hides(model, error["loc"]) and not _is_said(got, text):
        text += f", not {_short(got)}"
    return text, ""


def _is_said(got: str | float, text: str) -> bool:
    """Whether a text has a value in it, as a word of its own: 4 is none of `'ipv4'`. Nothing to say of an empty one."""
    word = re.escape(_written(got).strip("'\""))
    return re.search(rf"(?<!\w){word}(?!\w)", text) is not None or not word


def _written(value: str | float) -> str:
    """A value as it stands in a file."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _short(value: str | float) -> str:
    text = _written(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _advice(model: type[Model], place: Sequence[int | str]) -> str:
    """What to do about an unknown key: the name or the table that was probably meant."""
    *parents, key = (str(part) for part in place if isinstance(part, str))
    tables = _tables(model)
    if parents and key in _keys(model):
        return "it belongs above the first [table]"
    # A backend's `port` is no listener's. Where two keys are the same table, the last one is its own name.
    homes = {one: name for name, one in tables.items() if key in _keys(one)} if parents != ["backends"] else {}
    if homes:
        return f"it belongs into {' or '.join(map(_header, homes.values()))}"
    meant = similar(key, _keys(tables.get(".".join(parents), model)))
    return f'did you mean "{meant}"?' if meant else ""


def _header(table: str) -> str:
    return "[[backends]]" if table == "backends" else f"[{table}]"


def _keys(model: type[Model]) -> list[str]:
    return [name for key in model.model_fields for name in names_of(model, key)]


def _tables(model: type[Model]) -> dict[str, type[Model]]:
    """The tables in a table, by their keys."""
    found = {}
    for key, field in model.model_fields.items():
        for table in _tables_in(field.annotation):
            found[key] = table
    return found


def _tables_in(annotation: Any) -> Iterator[type[Model]]:
    """The tables that an annotation speaks of, whatever is around them."""
    kind = getattr(annotation, "table", annotation)
    if isinstance(kind, type) and issubclass(kind, Model):
        yield kind
    for part in get_args(annotation):
        yield from _tables_in(part)
