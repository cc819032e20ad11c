"""Keys: by what requests are told apart, for limits, for splits that are to stay the same, and for policies by key."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, WithJsonSchema

from twisted_lb.config.base import TOKEN

_WORDS: Final = ("client", "route")
_POLICY_WORDS: Final = ("client", "path")
_TABLES: Final = ("header", "cookie", "query")


def _shape(words: tuple[str, ...]) -> str:
    said = ", ".join(f'"{word}"' for word in words)
    return f'should be {said}, or a table with one of header, cookie and query, as {{ header = "X-User" }}'


@dataclass(frozen=True)
class KeyTable:
    """A key: `client`, `route`, `path`, or a header field, a cookie, a parameter of the query by its `name`."""

    source: Literal["client", "route", "path", "header", "cookie", "query"]
    name: str = ""

    def __str__(self) -> str:
        return f"{{ {self.source} = {self.name} }}" if self.name else self.source


def _read(value: object, words: tuple[str, ...] = _WORDS) -> object:
    if isinstance(value, KeyTable):
        return value
    if isinstance(value, str) and value in words:
        return KeyTable("client" if value == "client" else "path" if value == "path" else "route")
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(_shape(words))
    [(source, name)] = value.items()
    if source not in _TABLES or not isinstance(name, str) or not name:
        raise ValueError(_shape(words))
    if source != "query" and not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} should be the name of a {source}: letters, digits and !#$%&'*+-.^_`|~")
    return KeyTable(source, name)


def _read_for_policy(value: object) -> object:
    return _read(value, _POLICY_WORDS)


def _schema(words: tuple[str, ...]) -> dict[str, Any]:
    tables = [
        {
            "type": "object",
            "properties": {table: {"type": "string", "minLength": 1}},
            "required": [table],
            "additionalProperties": False,
        }
        for table in _TABLES
    ]
    return {"anyOf": [{"enum": list(words)}, *tables]}


Key = Annotated[KeyTable, BeforeValidator(_read), WithJsonSchema(_schema(_WORDS))]
# What policies by key go by.
PolicyKey = Annotated[KeyTable, BeforeValidator(_read_for_policy), WithJsonSchema(_schema(_POLICY_WORDS))]
CLIENT: Final = KeyTable("client")
