"""Active health checks: what backends are asked, how often, and which answers pass."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from twisted_lb.config.base import Model, Seconds, error_at
from twisted_lb.config.scripts import ScriptConfig
from twisted_lb.config.secret import HIDDEN, Secret, TextOrSecret, revealed
from twisted_lb.core.address import TcpAddress, parse_address

# Probes closer together than this measure the balancer and not the backend.
SHORTEST_INTERVAL_S = 0.05

# What frames a check's request or ends its connection is not for anybody to set.
_OURS = {
    "connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
}  # fmt: skip
# All lines of a check's head are with the kernel at once: a backend that reads nothing holds none of them up.
_HEADERS_BYTES = 4096
_FIELD_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Why a check of a kind has no use for what is said to another one.
_ASKS = {
    "http": "an http check sends a request",
    "tcp": "a tcp check only connects",
    "script": "a script sends what it says itself",
    "grpc": "a grpc check asks the health service",
}


def _statuses(one: object) -> range:
    """The statuses that a number or a range (`200-399`) names; ValueError for anything else."""
    low = high = 0
    if isinstance(one, int):
        low = high = one
    elif isinstance(one, str) and (bounds := re.fullmatch("([0-9]{3})-([0-9]{3})", one)):
        low, high = int(bounds[1]), int(bounds[2])
    if not 200 <= low <= high <= 599:
        raise ValueError('should be a status from 200 to 599, such as 401, or a range of them, such as "200-299"')
    return range(low, high + 1)


def _checked_status(one: object) -> object:
    _statuses(one)
    return one


Statuses = Annotated[int | str, BeforeValidator(_checked_status)]


def _is_authority(text: str) -> bool:
    """Whether a text is a host that a Host field can have, with a port or without."""
    for where in (text, f"{text}:80"):
        try:
            return isinstance(parse_address(where), TcpAddress)
        except ValueError:
            continue
    return False


class HealthCheckConfig(Model):
    """Active health checks: the probe that each backend gets again and again, and when its results count."""

    # The keys that speak of a request and its answer.
    OF_HTTP: ClassVar[frozenset[str]] = frozenset(
        ("path", "method", "host", "headers", "expect_statuses", "expect_text", "busy_statuses")
    )

    interval_s: float = Field(
        default=2.0,
        ge=0,
        le=86400,
        description="Seconds from one probe of a backend to its next; 0 turns checks off. "
        "Danger: without checks a dead backend is only found by the requests it fails.",
    )
    down_interval_s: Seconds | None = Field(
        default=None,
        description="The same for a backend that is out; left out: the interval, at most 1. While requests wait for a "
        "backend (`queue.no_backend_s`) it is at most 0.2.",
    )
    kind: Literal["http", "tcp", "script", "grpc"] = Field(
        default="http",
        description="`http` sends a request and judges its answer by the keys below; `tcp` only connects, which is what is done where "
        "nobody says it and no listener and no route leads requests of HTTP to the pool; `script`, which a `script` says by itself, "
        "sends and expects what that has; `grpc` asks the health service of gRPC (`grpc.health.v1`), of a pool whose `protocol` is `h2`. "
        "Danger: a hung application still accepts connections, so `tcp` calls it healthy.",
    )
    script: ScriptConfig | None = Field(
        default=None,
        description='What is sent to a backend that speaks no HTTP, and what has to come: the name of a preset, `"redis"`, or a list of steps, '
        '`[{ send = "PING\\r\\n" }, { expect = "+PONG" }]`, or a table with more to say of it ([health-checks.md](health-checks.md#what-speaks-no-http)). '
        "It passes with the last of what it waits for, and `timeout_s` is for all of it. Danger: it is for what answers there, and `http` for what "
        "answers requests.",
    )
    grpc_service: str = Field(
        default="",
        max_length=100,
        description="The service that `grpc` asks for, as `pkg.Service`; empty: the server as a whole. Danger: one that the server has "
        "not registered at its health service is never well.",
    )
    path: str = Field(
        default="/",
        description="Path, with query if any, that `http` asks for. The answer is read to its end, 64 KiB of it at most. "
        "Danger: a dear page is paid for by every balancer at every interval, and a longer one is broken off, of which "
        "some servers complain.",
    )
    method: str = Field(
        default="GET",
        max_length=32,
        description="Method that `http` asks with, such as `HEAD` or `OPTIONS`; no body is sent. "
        "Danger: one that changes things changes them at every interval.",
    )
    host: str | None = Field(
        default=None,
        max_length=255,
        description="`Host` that `http` sends, a name or an address, with a port if wanted; left out: the backend's "
        "host as it is configured, with the port that is asked; `localhost` for a unix socket. Applications that know their names (Django's `ALLOWED_HOSTS`, Rails' "
        "`config.hosts`) answer an unknown one with 400 or 403.",
    )
    headers: Annotated[dict[str, TextOrSecret], HIDDEN] = Field(
        default={},
        description='Header fields that `http` sends besides, by name: `Authorization = "Bearer ..."`; `User-Agent` and '
        '`Accept` in place of ours. In place of a text, which is never shown, a table says where it is kept: `{ file = "PATH" }`, '
        "`{ env = NAME }` or `{ credential = NAME }` (systemd's), read at the start and at each reload. Danger: whoever answers "
        "at that address learns what they say.",
    )
    expect_statuses: tuple[Statuses, ...] = Field(
        default=("200-399",),
        strict=False,
        description='Statuses of a healthy answer, each a number or a range: `["200-299", 401]`. Danger: an error page in '
        "the list keeps a broken backend in.",
    )
    expect_text: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="Text, in UTF-8, that the body of a healthy answer has in its first 64 KiB; left out: its status is "
        "enough. Danger: a page that is worded anew takes all backends out.",
    )
    busy_statuses: tuple[Statuses, ...] = Field(
        default=(),
        strict=False,
        description="Statuses by which a backend says that it is well, and wants no new requests until a check is answered by another "
        'one: `[429, "502-503"]`, as above; they pass, whatever `expect_statuses` and `expect_text` say. What runs there goes on. '
        "Danger: a status that an overloaded proxy in front of it says keeps a dead backend from being found.",
    )
    agent: Literal["off", "header", "body"] = Field(
        default="off",
        description="Where the answer to `http` says what the backend wants, in the words of HAProxy's agent-check: `header`, in the field "
        "`agent_header`, or `body`, in its first line, of 1,024 bytes at most. `up`, `down`, `fail`, `stopped`; `ready`, `drain`, `maint`; "
        "`75%` of its weight, or a weight from 0 to 256 in its place; `maxconn:20` ([health-checks.md](health-checks.md#what-a-backend-says-of-itself)). "
        "Danger: whoever answers the check steers how much it gets.",
    )
    agent_header: str = Field(
        default="Agent-Check",
        max_length=100,
        description="Name of the field that `agent` = `header` reads.",
    )
    agent_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the backend's host where an agent says the same, in one line, to whoever connects, asked as often as checks ask, "
        "and beside them; a unix socket has none, and no agent there. Danger: an agent that says `down`, and is wrong, takes a "
        "backend out that is well; one that is not heard `fall` times in a row is as if it had said nothing.",
    )
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the backend's host that is asked instead of the one that traffic goes to; a unix socket has none "
        "and is asked itself. Danger: whoever answers there may be well while the application is not.",
    )
    timeout_s: Seconds | None = Field(
        default=None,
        description="Seconds to wait for the answer; left out: 0.8 of the interval, at most 5. Danger: shorter than the "
        "slowest healthy answer takes good backends out, and longer than the interval leaves those that hang in for longer.",
    )
    rise: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Probes that must pass in a row before a backend that is down is used again; "
        "the very first probe decides alone. Danger: 1 lets a flapping backend flap.",
    )
    fall: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Probes that must fail in a row before a backend is taken out. "
        "Danger: 1 takes a backend out for one lost packet.",
    )

    move: bool = Field(
        default=True,
        description="Whether requests leave a backend that its probes found silent (frozen: no answer in time, refused or "
        "reset; not one that answers that it is not well) for another one: those that may be sent twice, of whose answer "
        "not one byte came, and that were sent before `fall` probes failed in a row; the oldest first, each once, in each "
        "second one, or a tenth of what the pool has under way, within the retry budget. Danger: what froze one backend may be one of them.",
    )
    initial: Literal["up", "down"] = Field(
        default="up",
        description="What a backend is taken for before its first probe, which comes within a second of its start or "
        "addition. Danger: until then requests wait under `down`, or get 503 (`queue.no_backend_s`), where no backend is "
        "known to be well; `up` sends requests to whoever may not be.",
    )

    @property
    def enabled(self) -> bool:
        """Whether backends are checked at all."""
        return self.interval_s > 0

    @property
    def out_interval_s(self) -> float:
        """Seconds between probes of a backend that is out: `down_interval_s`, or what follows from the interval."""
        return min(self.interval_s, 1.0) if self.down_interval_s is None else self.down_interval_s

    @property
    def answer_timeout_s(self) -> float:
        """How long one probe waits for an answer: `timeout_s`, or what follows from the interval."""
        return min(0.8 * self.interval_s, 5.0) if self.timeout_s is None else self.timeout_s

    @property
    def statuses(self) -> frozenset[int]:
        """`expect_statuses`, one by one."""
        return frozenset(status for one in self.expect_statuses for status in _statuses(one))

    @property
    def busy(self) -> frozenset[int]:
        """`busy_statuses`, one by one."""
        return frozenset(status for one in self.busy_statuses for status in _statuses(one))

    @field_validator("agent_header")
    @classmethod
    def _is_a_field_name(cls, value: str) -> str:
        if not re.fullmatch(_FIELD_NAME, value):
            raise ValueError("should be the name of a header field, such as Agent-Check")
        return value

    @field_validator("interval_s")
    @classmethod
    def _is_off_or_sane(cls, value: float) -> float:
        if 0 < value < SHORTEST_INTERVAL_S:
            raise ValueError(f"should be 0 (off) or at least {SHORTEST_INTERVAL_S}")
        return value

    @field_validator("path")
    @classmethod
    def _is_a_request_target(cls, value: str) -> str:
        # RFC 9112 3.2.1: origin-form; a fragment is never sent.
        if not re.fullmatch(r"/[!\"$-~]*", value):
            raise ValueError("should begin with / and hold no space, # or non-ASCII character")
        return value

    @field_validator("grpc_service")
    @classmethod
    def _is_a_service(cls, value: str) -> str:
        if not re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)?", value):
            raise ValueError("should be the name of a service, such as pkg.Service")
        return value

    @field_validator("method")
    @classmethod
    def _is_a_method(cls, value: str) -> str:
        if not re.fullmatch("[A-Z]+(-[A-Z]+)*", value):
            raise ValueError("should be a method in capitals, such as HEAD")
        if value == "CONNECT":
            raise ValueError("should ask for a page, which CONNECT does not")
        return value

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str | None) -> str | None:
        if value is not None and not _is_authority(value):
            raise ValueError("should be a name or an address, such as app.example.org or [::1]:8000")
        return value

    @field_validator("headers")
    @classmethod
    def _are_fields(cls, value: dict[str, str | Secret]) -> dict[str, str | Secret]:
        seen: set[str] = set()
        for name, text in ((name, revealed(one)) for name, one in value.items()):
            # The value may be a secret, and is not shown.
            if not re.fullmatch(_FIELD_NAME, name):
                raise error_at(f"{name!r} should be the name of a header field", name)
            if not re.fullmatch("[!-~]([ -~\t]*[!-~])?|", text):
                raise error_at(f"{name} should have a value in ASCII, on one line, without space around it", name)
            if name.lower() == "host":
                raise error_at(f"{name} is set by health_check.host", name)
            if name.lower() in _OURS:
                raise error_at(f"{name} cannot be set: it is ours to say how a check is framed and ends", name)
            if name.lower() in seen:
                raise error_at(f"{name} is there twice", name)
            seen.add(name.lower())
        if sum(len(name) + len(revealed(one)) + 4 for name, one in value.items()) > _HEADERS_BYTES:
            raise ValueError(f"should be at most {_HEADERS_BYTES} bytes together")
        return value

    @field_validator("expect_statuses")
    @classmethod
    def _are_some_statuses(cls, value: tuple[int | str, ...]) -> tuple[int | str, ...]:
        if not value:
            raise ValueError("should hold at least one status, or nothing would pass")
        return value

    @model_validator(mode="before")
    @classmethod
    def _a_script_is_a_kind(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("script") is not None and "kind" not in values:
            return {**values, "kind": "script"}
        return values

    @model_validator(mode="after")
    def _is_one_question(self) -> Self:
        if self.kind == "script" and self.script is None:
            raise error_at('kind = "script" needs a script', "kind")
        if self.kind != "script" and self.script is not None:
            raise error_at(f'script needs kind = "script", or none: {_ASKS[self.kind]}', "script", beside=("kind",))
        if self.kind != "http":
            for key in ("method", "host", "headers", "expect_statuses", "expect_text", "busy_statuses", "agent"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise error_at(f'{key} needs kind = "http": {_ASKS[self.kind]}', key)
        if self.expect_text is not None and self.method == "HEAD":
            raise error_at("expect_text needs another method: an answer to HEAD has no body", "expect_text")
        if self.agent == "body" and self.method == "HEAD":
            raise error_at('agent = "body" needs another method: an answer to HEAD has no body', "agent")
        if self.agent != "off" and self.agent_port is not None:
            raise error_at(
                f'agent_port asks agents at a port of their own, and agent = "{self.agent}" does not: say one',
                "agent_port",
            )
        return self
