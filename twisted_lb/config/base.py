"""The base of all tables of the configuration."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema

# What the flat keys are a short form of: the listener, the pool, the checks and the route of this name.
DEFAULT = "default"

# Where something is in a configuration: keys of tables, numbers of items of lists.
KeyPath = tuple[str | int, ...]

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


def _is_a_name(value: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", value):
        raise ValueError("should be 1 to 100 letters, digits and -_., a letter or digit first")
    return value


# What an object of the configuration is called: it stands in keys, in `POOL/BACKEND`, and where sockets are handed on.
Name = Annotated[str, AfterValidator(_is_a_name)]


def _is_a_status(value: str) -> str:
    if not re.fullmatch("[45][0-9][0-9]", value):
        raise ValueError("should be a status from 400 to 599")
    return value


# Files in place of local replies, by status.
ErrorPages = dict[Annotated[str, AfterValidator(_is_a_status)], str]

# RFC 9110 5.6.2: methods, names of fields and cookies.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _is_a_token(value: str) -> str:
    if not TOKEN.fullmatch(value):
        raise ValueError("should be letters, digits and !#$%&'*+-.^_`|~")
    return value


Token = Annotated[str, AfterValidator(_is_a_token)]

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


def _is_as_clients_write_it(value: str) -> str:
    """Methods are told apart by case (RFC 9110 9.1): no client ever sends `get`, and what speaks of it would speak of nobody."""
    if value not in _METHODS and value.upper() in _METHODS:
        raise ValueError(f"should be in capitals, {value.upper()}")
    return value


# A request's method.
Method = Annotated[Token, AfterValidator(_is_as_clients_write_it)]


def either(should: str) -> Discriminator:
    """What tells a text (tag `text`) from a table (`table`), so that only the errors of the one that it is are told; and of
    anything else what it `should` be.
    """

    def kind(value: object) -> str | None:
        return "text" if isinstance(value, str) else "table" if isinstance(value, Mapping | BaseModel) else None

    return Discriminator(kind, custom_error_type="either", custom_error_message=f"should be {should}")


class _Several:
    """One value, or several, as a list."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        several = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [several["items"], several]}


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


# The mark of a field that takes one value in place of a list of them.
SEVERAL = _Several()


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


class TextOrTable(Model):
    """A table that may be a text in a file, which is its most important key: `_key`."""

    _key: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            return {cls._key: value}
        if not isinstance(value, Mapping | cls):
            raise ValueError("should be a string or a table")  # noqa: TRY004, pydantic takes no other error
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler(schema)
        table = handler.resolve_ref_schema(found)
        inner = dict(table)
        table.clear()
        table["anyOf"] = [{"type": "string"}, inner]
        return found


def error_at(message: str, *path: str | int, beside: KeyPath = ()) -> PydanticCustomError:
    """The error of a validator that looks at a whole table or list: what is wrong is at a path in that, by the names typed;
    it does not go together with what is `beside` it.
    """
    return PydanticCustomError("error_at", "{message}", {"message": message, "path": path, "beside": beside})


def names_of(model: type[Model], key: str) -> list[str]:
    """The names under which a key may be given: its own, then its older ones."""
    alias = model.model_fields[key].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [key]


# What an error knows of places, beside its own.
_PLACES = ("path", "other", "beside")


def error_of(kind: str, loc: KeyPath, text: str, *, given: object = None, **context: object) -> InitErrorDetails:
    """An error at a path, to be raised together with others."""
    error = PydanticCustomError(kind, "{text}", {"text": text, **context})
    return {"type": error, "loc": loc, "input": given}


def again(error: ErrorDetails, place: KeyPath = ()) -> InitErrorDetails:
    """An error that was raised already, and the place of the table that it is in, to be raised together with others."""
    context = {key: value for key, value in error.get("ctx", {}).items() if key in _PLACES}
    return error_of(error["type"], (*place, *error["loc"]), error["msg"], given=error["input"], **context)
