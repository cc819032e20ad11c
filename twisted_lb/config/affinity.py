"""Affinity (sticky sessions): by what the requests of one client or session are bound to the backend that they went to."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from twisted_lb.config.base import SEVERAL, TOKEN, Model, Token, error_at
from twisted_lb.config.keys import KeyTable
from twisted_lb.config.secret import Secret

# RFC 2104 3: what is shorter than its output weakens an HMAC; of text so much is enough that nobody guesses it.
_LEAST_SECRET: Final = 16
# RFC 6265 4.1.1, less what would end the attribute.
_VALUE: Final = frozenset(chr(code) for code in range(0x21, 0x7F) if chr(code) not in ";,")
_HOST_PREFIX: Final = "__host-"
_SECURE_PREFIX: Final = "__secure-"


class AffinityCookieConfig(Model):
    """The cookie by which affinity binds clients. It is signed, says nothing of any backend, and is `HttpOnly`."""

    name: Token | None = Field(
        default=None,
        description="Its name; left out: `lb_` and eight digits that are the pool's own, so that pools of one host do not overwrite one "
        "another's. Danger: balancers behind one another need names of their own.",
    )
    domain: str | None = Field(
        default=None,
        description="`Domain`: who gets it beside the host itself; left out: nobody. Danger: a domain's other hosts see it too.",
    )
    path: str = Field(default="/", description="`Path`: where it is sent.")
    same_site: Literal["auto", "lax", "strict", "none"] = Field(
        default="auto",
        description="`SameSite`. `auto`: `None` where it is `Secure`, `Lax` elsewhere. Danger: with `lax` and `strict` who comes from "
        "another site, or is framed by one, has another backend there.",
    )
    secure: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether it is `Secure`. `auto`: where the client came by https, to the listener or to its trusted proxy. Danger: "
        "`always` is no cookie to a client that comes by http.",
    )

    @field_validator("domain", "path")
    @classmethod
    def _is_a_value(cls, value: str | None) -> str | None:
        if value is not None and (not value or not set(value) <= _VALUE):
            raise ValueError("should be printable ASCII without spaces, commas and semicolons")
        return value

    @field_validator("path")
    @classmethod
    def _begins_with_a_slash(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError("should begin with a slash")
        return value

    @model_validator(mode="after")
    def _is_what_its_name_promises(self) -> Self:
        name = (self.name or "").lower()
        if name.startswith(_HOST_PREFIX) and (self.domain is not None or self.path != "/"):
            raise ValueError(
                f'{self.name}: browsers take a cookie of this name only with path = "/" and without domain'
            )
        if name.startswith((_HOST_PREFIX, _SECURE_PREFIX)) and self.secure == "never":
            raise ValueError(f'{self.name}: browsers take a cookie of this name only where it is secure, not "never"')
        return self


_COOKIE_SHAPE: Final = 'should be true, a name, or a table, as { name = "lb", domain = "example.com" }'
_LEARN_SHAPE: Final = 'should be a table with one of header and cookie, as { header = "Mcp-Session-Id" }'


def _read_cookie(value: object) -> object:
    if value is True:
        return {}
    if value is False:
        return None
    if isinstance(value, str):
        if not TOKEN.fullmatch(value):
            raise ValueError(f"{value!r} should be the name of a cookie: letters, digits and !#$%&'*+-.^_`|~")
        return {"name": value}
    if value is None or isinstance(value, Mapping | AffinityCookieConfig):
        return value
    raise ValueError(_COOKIE_SHAPE)


def _read_learn(value: object) -> object:
    if value is None or isinstance(value, KeyTable):
        return value
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(_LEARN_SHAPE)
    [(source, name)] = value.items()
    if source not in ("header", "cookie") or not isinstance(name, str):
        raise ValueError(_LEARN_SHAPE)
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} should be the name of a {source}: letters, digits and !#$%&'*+-.^_`|~")
    return KeyTable(source, name)


_LEARN_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {source: {"type": "string", "minLength": 1}},
            "required": [source],
            "additionalProperties": False,
        }
        for source in ("header", "cookie")
    ]
}


class _Short:
    """The cookie as a table, or, in short, as `true` or a name."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(_read_cookie, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "boolean"}, {"type": "string", "minLength": 1}, *handler(schema)["anyOf"]]}


Cookie = Annotated[AffinityCookieConfig | None, _Short()]
Learned = Annotated[KeyTable | None, BeforeValidator(_read_learn), WithJsonSchema(_LEARN_SCHEMA)]


class AffinityConfig(Model):
    """Affinity (sticky sessions): the requests of a client, or of a session, go to the backend that they went to before. At most one of
    `cookie`, `header`, `client` and `learn`; without any there is none.
    """

    cookie: Cookie = Field(
        default=None,
        description='By a signed cookie of the balancer\'s own: `true`, its name, or a table, as `{ domain = "example.com" }`. It holds over '
        "restarts, and for every balancer with the same `secret`. Backends are not told of it.",
    )
    header: Token | None = Field(
        default=None,
        description="By the value of a header field that clients send, as `X-User`; requests without it are bound by nothing. Danger: "
        "who makes values up has others forgotten, see `most`.",
    )
    client: bool = Field(
        default=False,
        description="By the client's address, behind `trusted_proxies` the one that they name; of IPv6 the /64. Danger: all behind one "
        "address, as of a company, are one client.",
    )
    learn: Learned = Field(
        default=None,
        description='By what an answer gives and later requests bring back: `{ header = "Mcp-Session-Id" }` or `{ cookie = "JSESSIONID" }`.',
    )
    secret: Annotated[tuple[Secret, ...], SEVERAL] = Field(
        default=(),
        description="What `cookie` is signed with, of 16 characters at least: a text or, rather, a table such as "
        '`{ file = "/etc/lb/affinity" }`. Of a list the first one signs, and cookies of all others hold (rotation). Left out: one that is '
        "made up, so that cookies end with the process.",
    )
    max_age_s: float = Field(
        default=3600.0,
        ge=1,
        le=31 * 86400,
        description="A client that sends no request for so long is bound no more; by `cookie` for nine tenths of it. Danger: the longer, "
        "the longer it takes until new backends have their share.",
    )
    most: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="How many bindings a process keeps by `header`, `client` and `learn`; beyond that the one that was used least recently is "
        "forgotten. Each takes about 200 bytes. Workers have one table for all pools, with room for 262,144.",
    )
    when_full: Literal["rebind", "wait"] = Field(
        default="rebind",
        description="What becomes of a request whose backend has as many in flight as it may: another one serves it, and it stays bound "
        "(`rebind`), or it waits for its own in the queue, while others overtake it (`wait`).",
    )
    drain_s: float = Field(
        default=300.0,
        ge=0,
        le=31 * 86400,
        description="For how long a backend that is drained, or has weight 0, still gets the requests that are bound to it; it gets no "
        "others. 0: none from the first moment on. Danger: a deploy has to wait for as long before it stops the backend.",
    )

    @field_validator("secret")
    @classmethod
    def _are_long_enough(cls, value: tuple[Secret, ...]) -> tuple[Secret, ...]:
        for number, one in enumerate(value):
            if len(one.reveal()) < _LEAST_SECRET:
                text = f"should have {_LEAST_SECRET} characters at least: who guesses it signs cookies"
                raise error_at(text, *([number] if len(value) > 1 else []))
        return value

    @model_validator(mode="after")
    def _goes_by_one_thing(self) -> Self:
        said = self.said
        if len(said) > 1:
            raise error_at(f"{' and '.join(said)}: requests are bound by one of them alone", said[1], beside=(said[0],))
        return self

    @property
    def said(self) -> list[str]:
        """By what requests are bound: the names of the keys that say so, one as a rule, none where there is no affinity."""
        there = {
            "cookie": self.cookie is not None,
            "header": self.header is not None,
            "client": self.client,
            "learn": self.learn is not None,
        }
        return [key for key, is_there in there.items() if is_there]
