"""The base of all tables of the configuration."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]

# 0 where no waiting is meant.
SecondsOrNone = Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)]

Bytes = Annotated[int, Field(ge=0, le=2**40)]


def _is_a_label(value: str) -> str:
    if not re.fullmatch("[!-~]{1,100}", value):
        raise ValueError("should be 1 to 100 printable ASCII characters without spaces")
    return value


# What something is called in logs, metrics and header fields.
Label = Annotated[str, AfterValidator(_is_a_label)]


class Model(BaseModel):
    """A table of the configuration: frozen, unknown keys refused, nothing converted silently.

    A key that was renamed is still accepted under its older name: the field has both in its `validation_alias`, as
    `AliasChoices(NAME, OLDER_NAME)`. An error names the one that was typed.
    """

    # A table may have secrets: pydantic's own errors would show the whole of it.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _no_key_has_two_names(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in cls.model_fields:
                given = [name for name in names_of(cls, key) if name in values]
                if len(given) > 1:
                    raise error_at(f"{' and '.join(given)} are the same key: give {given[0]} alone", given[1])
        return values


def error_at(message: str, *path: str | int) -> PydanticCustomError:
    """The error of a validator that looks at a whole table: what is wrong is at a path in that table, by the names typed."""
    return PydanticCustomError("error_at", "{message}", {"message": message, "path": path})


def names_of(model: type[Model], key: str) -> list[str]:
    """The names under which a key may be given: its own, then its older ones."""
    alias = model.model_fields[key].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [key]
