"""Keys: by what requests are told apart, for limits and for choices that are to stay the same."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from twisted_lb.config.base import Model, Token


class KeyTable(Model):
    """A key: `client`, `route`, or a header field, a cookie, a parameter of the query by its name."""

    source: Literal["client", "route", "header", "cookie", "query"]
    name: str = ""


class _Named(Model):
    """A key of a request by its name: `{ header = "X-User" }`."""

    header: Token | None = Field(default=None, description="A header field.")
    cookie: Token | None = Field(default=None, description="A cookie.")
    query: str | None = Field(default=None, min_length=1, description="A parameter of the query.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("should be one of header, cookie and query")
        return self

    @property
    def key(self) -> KeyTable:
        if self.header is not None:
            return KeyTable(source="header", name=self.header)
        if self.cookie is not None:
            return KeyTable(source="cookie", name=self.cookie)
        return KeyTable(source="query", name=self.query or "")


def _read(value: object) -> object:
    if isinstance(value, KeyTable):
        return value
    if value in ("client", "route"):
        return KeyTable(source=value)
    if isinstance(value, str):
        raise ValueError('should be "client", "route", or a table such as { header = "X-User" }')  # noqa: TRY004, pydantic takes no other error
    return _Named.model_validate(value).key


Key = Annotated[KeyTable, BeforeValidator(_read)]

CLIENT = KeyTable(source="client")
