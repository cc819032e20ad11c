"""Costs: how much work a request is, an ordinary one being 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from twisted_lb.config.base import TOKEN
from twisted_lb.core.ask import MOST_COST

_SHAPE: Final = f'should be a whole number from 1 to {MOST_COST}, "bytes", or a table as {{ header = "X-Cost" }}'


@dataclass(frozen=True)
class CostOf:
    """A cost: a `number`, that of the body's bytes, or what a `header` says."""

    number: int = 1
    by_bytes: bool = False
    header: str = ""

    def __str__(self) -> str:
        return f"{{ header = {self.header} }}" if self.header else "bytes" if self.by_bytes else str(self.number)


def _read(value: object) -> object:
    if isinstance(value, CostOf):
        return value
    if value == "bytes":
        return CostOf(by_bytes=True)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_COST:
        return CostOf(value)
    if not isinstance(value, Mapping) or list(value) != ["header"] or not isinstance(value["header"], str):
        raise ValueError(_SHAPE)
    name = value["header"]
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} should be the name of a header: letters, digits and !#$%&'*+-.^_`|~")
    return CostOf(header=name)


_SCHEMA: Final = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MOST_COST},
        {"enum": ["bytes"]},
        {
            "type": "object",
            "properties": {"header": {"type": "string", "minLength": 1}},
            "required": ["header"],
            "additionalProperties": False,
        },
    ]
}

Cost = Annotated[CostOf, BeforeValidator(_read), WithJsonSchema(_SCHEMA)]
ORDINARY: Final = CostOf()
