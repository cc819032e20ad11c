"""What requests are served by in a queue: how urgent they are, and who says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from twisted_lb.config.base import TOKEN

# RFC 9218, 4.1.
LEAST_URGENT: Final = 7

_SHAPE: Final = (
    'should be "route", or a table as { header = "Priority" } or '
    '{ header = "X-Class", classes = { interactive = 1, batch = 6 } }'
)


@dataclass(frozen=True)
class UrgencyOf:
    """Who says how urgent a request is: its route, or a `header`, by the words of `classes` or as RFC 9218 has it."""

    header: str = ""
    classes: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        if not self.header:
            return "route"
        if not self.classes:
            return f"{{ header = {self.header} }}"
        words = ", ".join(f"{word} = {urgency}" for word, urgency in self.classes)
        return f"{{ header = {self.header}, classes = {{ {words} }} }}"


def _read(value: object) -> object:
    if isinstance(value, UrgencyOf):
        return value
    if value == "route":
        return UrgencyOf()
    if not isinstance(value, Mapping) or "header" not in value or set(value) - {"header", "classes"}:
        raise ValueError(_SHAPE)
    name, classes = value["header"], value.get("classes", {})
    if not isinstance(name, str) or not isinstance(classes, Mapping):
        raise ValueError(_SHAPE)  # noqa: TRY004, as for any bad value
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} should be the name of a header: letters, digits and !#$%&'*+-.^_`|~")
    for word, urgency in classes.items():
        if not isinstance(urgency, int) or isinstance(urgency, bool) or not 0 <= urgency <= LEAST_URGENT:
            raise ValueError(f"classes: {word} should be a whole number from 0, served first, to {LEAST_URGENT}")
        if not word.isascii() or not word.isprintable() or word != word.strip():
            raise ValueError(f"classes: {word!r} should be printable ASCII without spaces around it")
    folded = [word.lower() for word in classes]
    if len(set(folded)) != len(folded):
        raise ValueError("classes: words differ in more than their case, since case does not count")
    return UrgencyOf(name, tuple(classes.items()))


_URGENCY: Final = {"type": "integer", "minimum": 0, "maximum": LEAST_URGENT}
_SCHEMA: Final = {
    "anyOf": [
        {"enum": ["route"]},
        {
            "type": "object",
            "properties": {
                "header": {"type": "string", "minLength": 1},
                "classes": {"type": "object", "additionalProperties": _URGENCY},
            },
            "required": ["header"],
            "additionalProperties": False,
        },
    ]
}

Urgency = Annotated[UrgencyOf, BeforeValidator(_read), WithJsonSchema(_SCHEMA)]
BY_ROUTE: Final = UrgencyOf()
