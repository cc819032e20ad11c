"""Scripts of health checks: what is sent, and what has to come; by the name of a preset, or step by step."""

import re
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from twisted_lb.config.base import Model, error_at
from twisted_lb.config.secret import HIDDEN, Secret, TextOrSecret
from twisted_lb.core.script import PRESETS, Script, Step

# What is sent is with the kernel at once, as the head of an HTTP check is.
_SENT_BYTES = 4096
_MOST_STEPS = 32
_LONGEST = 1000
_SHAPE = 'should be the name of a preset, such as "redis", a list of steps, or a table such as { preset = "redis", password = { env = "REDIS" } }'
_KINDS = ("send", "expect", "matches")
# What is said of a preset, beside which one.
_OF_PRESETS = ("user", "password", "database", "hello")


def _as_bytes(text: str | Secret) -> bytes:
    """What a text sends: its characters are bytes, up to U+00FF; a secret's are those that were read, in UTF-8."""
    if isinstance(text, Secret):
        return text.reveal().encode()
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            "has a character above U+00FF: each stands for the byte of its number, and UTF-8 has to be written so"
        ) from None


class StepConfig(Model):
    """One step of a script: what is sent, or what has to come before the next one. One of `send`, `expect` and `matches`; their texts are
    bytes, each character the one of its number, up to U+00FF.
    """

    send: Annotated[TextOrSecret, HIDDEN] = Field(
        default="",
        description='What is sent: `"PING\\r\\n"`. It is never shown; in place of the text a table says where it is kept, as of `headers`: '
        '`{ file = "PATH" }`, `{ env = NAME }`, `{ credential = NAME }`, without the end of its last line. What came before it is not '
        "looked at any more.",
    )
    expect: str = Field(
        default="",
        max_length=_LONGEST,
        description="Text that has to be in what comes, within 64 KiB; what stands behind it is left to the next step. Danger: before a "
        "`send` wait for the end of the line (`\\r\\n`), or the rest of it is taken for the answer.",
    )
    matches: str = Field(
        default="",
        max_length=_LONGEST,
        description="The same by a regular expression (Python's, over bytes; `^` and `$` are those of lines, `.` is no line end): "
        "`'^220 .*\\n'`. It is over at the first byte with which there is a match. Danger: one with repetitions in repetitions may take for ever.",
    )
    unless: str = Field(
        default="",
        max_length=_LONGEST,
        description="Beside `expect` or `matches`: the regular expression of an answer that has failed, so that nobody waits for another one: "
        "`'^-.*\\n'`.",
    )

    @field_validator("send", "expect", "matches", "unless")
    @classmethod
    def _are_bytes(cls, value: str | Secret) -> str | Secret:
        _as_bytes(value)
        return value

    @field_validator("matches", "unless")
    @classmethod
    def _are_patterns(cls, value: str) -> str:
        if not value:
            return value
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                pattern = re.compile(_as_bytes(value), re.MULTILINE)
        except (re.error, FutureWarning, DeprecationWarning, OverflowError, RecursionError) as error:
            raise ValueError(f"should be a regular expression: {error}") from None
        if pattern.search(b"") is not None:
            raise ValueError("should not match what is empty: it would before anything came")
        return value

    @model_validator(mode="after")
    def _is_one_step(self) -> Self:
        given = [key for key in _KINDS if key in self.model_fields_set]
        if len(given) > 1:
            raise error_at(f"{' and '.join(given)} are a step each", given[1])
        if not given:
            raise ValueError("should have one of send, expect and matches")
        if not getattr(self, given[0]):
            raise error_at("should not be empty", given[0])
        if self.unless and given == ["send"]:
            raise error_at("unless goes with expect or matches: a step that sends waits for nothing", "unless")
        return self

    @property
    def sent(self) -> bytes:
        """The bytes that it sends."""
        return _as_bytes(self.send)

    @property
    def step(self) -> Step:
        """The step, in bytes."""
        return Step(self.sent, _as_bytes(self.expect), _as_bytes(self.matches), _as_bytes(self.unless))


class ScriptConfig(Model):
    """The script of checks, for what speaks no HTTP: a `preset`, which may also be its name alone, or `steps`, which may also be their list."""

    preset: Literal["memcached", "mysql", "postgresql", "redis", "smtp"] | None = Field(
        default=None,
        description="A script that is here already; below is what it sends and waits for.",
    )
    steps: tuple[StepConfig, ...] = Field(
        default=(),
        strict=False,
        description='What is sent and waited for, in this order: `[{ send = "PING\\r\\n" }, { expect = "+PONG" }]`. What is sent at the end is a '
        "good-bye, so that no server complains of connections that are cut.",
    )
    user: str = Field(
        default="",
        max_length=255,
        description="Of `redis`, `postgresql` (left out: `postgres`) and `mysql` (left out: nobody logs in): who asks.",
    )
    password: Secret | None = Field(
        default=None,
        description="Of `redis`: its password, or that of `user`; a text, or a table as of `send`.",
    )
    database: str = Field(
        default="",
        max_length=255,
        description="Of `postgresql`: the database that is asked for; left out: one that is called as `user` is.",
    )
    hello: str = Field(
        default="",
        max_length=255,
        description="Of `smtp`: by which name it is greeted (`EHLO`); left out: `localhost`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"preset": value}
        if isinstance(value, list | tuple):
            return {"steps": value}
        if not isinstance(value, Mapping | cls):
            raise ValueError(_SHAPE)  # noqa: TRY004, pydantic takes no other error
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler(schema)
        table = handler.resolve_ref_schema(found)
        inner: dict[str, Any] = dict(table)
        steps = {key: value for key, value in inner["properties"]["steps"].items() if key in ("type", "items")}
        table.clear()
        table["anyOf"] = [{"enum": list(PRESETS)}, steps, inner]
        return found

    @field_validator("user", "database")
    @classmethod
    def _has_no_end_in_it(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("should have no NUL in it")
        return value

    @field_validator("hello")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        # RFC 5321 4.1.1.1: a name, or an address in brackets.
        if value and not re.fullmatch(r"[A-Za-z0-9.-]+|\[[A-Za-z0-9.:]+\]", value):
            raise ValueError("should be the name of a host, such as lb.example.org")
        return value

    @model_validator(mode="after")
    def _is_one_script(self) -> Self:
        said = [key for key in _OF_PRESETS if key in self.model_fields_set]
        if self.preset is None:
            if said:
                raise error_at(f"{said[0]} goes with a preset", said[0])
            self._check_steps()
            return self
        if "steps" in self.model_fields_set:
            raise error_at("preset and steps are a script each", "steps", beside=("preset",))
        taken = PRESETS[self.preset].keys
        for key in said:
            if key not in taken:
                raise error_at(f"{self.preset} has no {key}; it takes {' and '.join(taken) or 'no other key'}", key)
        if self.preset == "redis" and self.user and self.password is None:
            raise error_at("user needs a password: Redis asks for both", "user")
        return self

    def _check_steps(self) -> None:
        if not self.steps:
            raise ValueError("should have a preset, or steps")
        if len(self.steps) > _MOST_STEPS:
            raise ValueError(f"should have at most {_MOST_STEPS} steps")
        if not any(one.step.waits for one in self.steps):
            raise ValueError("should expect something, or whoever accepts connections would pass")
        if sum(len(one.sent) for one in self.steps) > _SENT_BYTES:
            raise ValueError(f"should send at most {_SENT_BYTES} bytes together")

    @property
    def script(self) -> Script:
        """The script, in bytes."""
        if self.preset is None:
            secrets = tuple(one.sent for one in self.steps if isinstance(one.send, Secret))
            return Script(tuple(one.step for one in self.steps), secrets=secrets)
        said = {key: _utf8(getattr(self, key)) for key in _OF_PRESETS if getattr(self, key)}
        steps = tuple(PRESETS[self.preset].steps(said))
        return Script(steps, self.preset, (said["password"],) if "password" in said else ())


def _utf8(value: str | Secret) -> bytes:
    return value.reveal().encode() if isinstance(value, Secret) else value.encode()
