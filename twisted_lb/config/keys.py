"""Keys: by what requests are told apart, for limits and for choices that are to stay the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, WithJsonSchema

from twisted_lb.config.base import TOKEN

_WORDS: Final = ("client", "route")
_TABLES: Final = ("header", "cookie", "query")
_SHAPE: Final = 'should be "client", "route", or a table with one of header, cookie and query, as { header = "X-User" }'


@dataclass(frozen=True)
class KeyTable:
    """A key: `client`, `route`, or a header field, a cookie, a parameter of the query by its `name`."""

    source: Literal["client", "route", "header", "cookie", "query"]
    name: str = ""

    def __str__(self) -> str:
        return f"{{ {self.source} = {self.name} }}" if self.name else self.source


def _read(value: object) -> object:
    if isinstance(value, KeyTable):
        return value
    if isinstance(value, str) and value in _WORDS:
        return KeyTable("client" if value == "client" else "route")
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(_SHAPE)
    [(source, name)] = value.items()
    if source not in _TABLES or not isinstance(name, str) or not name:
        raise ValueError(_SHAPE)
    if source != "query" and not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} should be the name of a {source}: letters, digits and !#$%&'*+-.^_`|~")
    return KeyTable(source, name)


_SCHEMA: Final = {
    "anyOf": [
        {"enum": list(_WORDS)},
        *(
            {
                "type": "object",
                "properties": {table: {"type": "string", "minLength": 1}},
                "required": [table],
                "additionalProperties": False,
            }
            for table in _TABLES
        ),
    ]
}

Key = Annotated[KeyTable, BeforeValidator(_read), WithJsonSchema(_SCHEMA)]
CLIENT: Final = KeyTable("client")
