"""Routes: which requests go where, what is changed on the way, and what backends are told about clients."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Tag, WithJsonSchema, field_validator, model_validator

from twisted_lb.config.access import AccessConfig, Network
from twisted_lb.config.base import SEVERAL, ErrorPages, Method, Model, Name, TextOrTable, Token, either
from twisted_lb.config.costs import ORDINARY, Cost
from twisted_lb.config.keys import CLIENT, Key, PolicyKey
from twisted_lb.config.limits import BodyLimitsConfig, RouteTimeoutsConfig
from twisted_lb.config.log_format import OwnLog
from twisted_lb.config.secret import HIDDEN
from twisted_lb.config.trust import TrustConfig
from twisted_lb.config.urgency import LEAST_URGENT
from twisted_lb.core.ask import USUAL

# What a value of a header field may name, and is put in for each request.
PLACEHOLDERS = ("client", "host", "request_id", "backend", "pool")

# What frames a message, belongs to a connection, or is written by the balancer itself.
_OURS = frozenset(
    (
        "host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer", "date",
        "keep-alive", "proxy-connection", "forwarded", "via",
    )
)  # fmt: skip

# What belongs to a connection, and what is told in other words.
_OF_A_CONNECTION = frozenset(
    (
        "connection", "keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "te",
        "transfer-encoding", "http2-settings", "forwarded",
    )
)  # fmt: skip

_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_HOST = re.compile(r"(?:\*\.)?(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?|\[[0-9A-Fa-f:.]+\]")


def _yes_or_a_port(value: object) -> object:
    if not isinstance(value, int) or not (isinstance(value, bool) or 0 < value < 65536):
        raise ValueError("should be true, false, or the port at which clients find https, such as 8443")
    return value


# Whether, or where.
HttpsOnly = Annotated[
    bool | int,
    BeforeValidator(_yes_or_a_port),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}),
]


class ToldConfig(Model):
    """What backends are told about a request and its client."""

    forwarded: bool = Field(default=False, description="Send RFC 7239 `Forwarded` beside X-Forwarded-*.")
    real_ip: bool = Field(
        default=False,
        description="Send `X-Real-IP`: the client's address, after `trusted_proxies`; what anybody sent of it is removed.",
    )
    via: str = Field(
        default="",
        description="Name under which `Via` is added to requests and answers; empty: it is not.",
    )
    request_id: Literal["pass", "make"] = Field(
        default="pass",
        description="`make` gives requests that come without X-Request-ID one; those that have one keep it.",
    )
    traceparent: Literal["pass", "make"] = Field(
        default="pass",
        description="`make` gives requests that come without W3C `traceparent` one, not sampled.",
    )
    host: str = Field(
        default="keep",
        description="The `Host` that backends get: `keep`, the client's; `backend`, the backend's own name as it is configured; "
        "any other is sent as it is. X-Forwarded-Host is the client's in any case.",
    )

    @field_validator("via")
    @classmethod
    def _is_a_pseudonym(cls, value: str) -> str:
        # RFC 9110 7.6.3: a token.
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{0,100}", value):
            raise ValueError("should be at most 100 letters, digits and !#$%&'*+-.^_`|~, without spaces")
        return value

    @field_validator("host")
    @classmethod
    def _is_an_authority(cls, value: str) -> str:
        if not _AUTHORITY.fullmatch(value):
            raise ValueError('should be "keep", "backend", or a name such as app.internal or app.internal:8000')
        return value


class ForwardingConfig(TrustConfig, ToldConfig):
    """Forwarding: what backends are told about clients, and which clients' own claims count."""


class ValueRule(TextOrTable):
    """A rule about a value: `"x"` or `{ exact = "x" }`, `{ prefix = "x" }`, or `{ present = true }`."""

    _key = "exact"

    exact: str | None = Field(default=None, description="The whole value.")
    prefix: str | None = Field(default=None, min_length=1, description="What the value begins with.")
    present: Literal[True] | None = Field(default=None, description="There is one, whatever it says.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("should be one of exact, prefix and present")
        return self


def _is_a_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError("should be a host name without port, such as api.example.com or *.example.com")
    return text.lower().removesuffix(".")


def _is_a_path(text: str) -> str:
    if not text.startswith("/") or "?" in text or "#" in text or "%" in text or "\\" in text:
        raise ValueError("should be a path, as it is without percent-encoding, such as /v1")
    parts = text[1:].split("/")
    if "." in parts or ".." in parts or "" in parts[:-1]:
        raise ValueError("should be a path without empty and dot segments")
    if any(one < " " or one == "\x7f" for one in text):
        raise ValueError("should be a path without control characters: a request with one is refused")
    return text


Host = Annotated[str, AfterValidator(_is_a_host)]
PathText = Annotated[str, AfterValidator(_is_a_path)]


class NetworksFile(Model):
    """Networks in a file, one a line; `#` begins a comment."""

    file: str = Field(min_length=1, description="Path of the file; read at the start and at each reload.")


NetworkOrFile = Annotated[
    Annotated[Network, Tag("text")] | Annotated[NetworksFile, Tag("table")],
    either('a network, or a table such as { file = "office.txt" }'),
]


def _is_of_the_request(name: str) -> str:
    if name.lower() in _OF_A_CONNECTION:
        raise ValueError("should be the name of a field that is passed on")
    return name


Matched = Annotated[Token, AfterValidator(_is_of_the_request)]


class MatchConfig(Model):
    """Which requests a route takes: those for which all of it holds; what is left out holds for all."""

    listeners: Annotated[tuple[Name, ...], SEVERAL] = Field(
        default=(), strict=False, description="Listeners, by name; left out: all."
    )
    host: Annotated[tuple[Host, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Host names, without port, in any case; `*.example.com` is any name below example.com.",
    )
    path: Annotated[tuple[PathText, ...], SEVERAL] = Field(
        default=(), strict=False, description="Whole paths, without query, as they are when nothing is percent-encoded."
    )
    path_prefix: Annotated[tuple[PathText, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="What paths begin with, by whole segments: `/v1` takes `/v1` and `/v1/x`, and not `/v1x`.",
    )
    method: Annotated[tuple[Method, ...], SEVERAL] = Field(
        default=(), strict=False, description="Methods, such as `POST`; left out: all."
    )
    headers: dict[Matched, ValueRule] = Field(
        default={},
        description='Header fields: `{ X-Beta = "1" }`, or `{ prefix = "1" }`, or `{ present = true }` in place of the text. '
        "X-Forwarded-* are those that a backend would be told, after `trusted_proxies`; `Upgrade` is what the client offers, in "
        "lower case.",
    )
    query: dict[str, ValueRule] = Field(
        default={}, description="Parameters of the query, decoded, by the same rules as headers."
    )
    clients: Annotated[tuple[NetworkOrFile, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description='Addresses and networks of clients, or `{ file = "PATH" }` with one a line. The client is the one that '
        "`trusted_proxies` name.",
    )
    sni: Annotated[tuple[Host, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Names that clients ask for in the ClientHello of TLS (SNI), as `host` has them: those connections are carried as they "
        "are, with their TLS, to a backend that has the certificate (passthrough), from listeners with `tls` or "
        '`protocol = "tcp"`. Nothing of HTTP is looked at.',
    )


class RedirectConfig(Model):
    """A redirect: the client is sent elsewhere."""

    status: Literal[301, 302, 303, 307, 308] = Field(default=308, description="Status of the answer.")
    to: str = Field(
        description="Where to: `https://new.example.com` keeps path and query, a target with a path does not; `/path` is on the "
        "same host. `{host}` stands for the host that was asked.",
    )

    @field_validator("to")
    @classmethod
    def _is_a_target(cls, value: str) -> str:
        if (
            not re.fullmatch(
                r"(?:https?://(?:\{host\}|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)?(?:/[!-~]*)?", value
            )
            or not value
        ):
            raise ValueError("should be http://HOST, https://HOST, with a path if wanted, or a path")
        return value


class AnswerConfig(Model):
    """An answer of our own."""

    status: int = Field(default=200, ge=200, le=599, description="Status of the answer.")
    text: str | None = Field(default=None, max_length=65536, description="Its text; left out: that of its status.")
    file: str | None = Field(
        default=None,
        min_length=1,
        description="Path of a file in place of `text`, read at the start and at each reload.",
    )
    content_type: str | None = Field(
        default=None,
        pattern=r"^[!-~]+/[ -~]+$",
        description="Content-Type; left out: text/plain, or by the ending of the file.",
    )
    retry_after_s: int = Field(default=0, ge=0, le=2**31, description="Retry-After in seconds; 0: none.")

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        if self.text is not None and self.file is not None:
            raise ValueError("text and file are both given")
        # RFC 9110 6.4.1.
        if self.status in (204, 205, 304) and (self.text or self.file is not None):
            raise ValueError(f"an answer of {self.status} has no body")
        return self


PoolOrAnswer = Annotated[
    Annotated[Name, Tag("text")] | Annotated[AnswerConfig, Tag("table")],
    either("the name of a pool, or an answer such as { status = 503 }"),
]


def _is_a_value(value: str) -> str:
    if not all(" " <= one <= "~" or one == "\t" for one in value):
        raise ValueError("should be printable ASCII")
    for name in re.findall(r"\{([^{}]*)\}", value):
        if name not in PLACEHOLDERS:
            raise ValueError(f"{{{name}}} is none of {', '.join(f'{{{one}}}' for one in PLACEHOLDERS)}")
    return value


def _as_backends_read(name: str) -> str:
    """`Content_Length` is Content-Length to many."""
    return re.sub("[^a-z0-9]", "-", name.lower())


def _is_settable(name: str) -> str:
    plain = _as_backends_read(name)
    if plain in _OURS or plain.startswith("x-forwarded-"):
        raise ValueError("is not for anybody to set: the balancer writes it itself")
    return name


Value = Annotated[str, AfterValidator(_is_a_value)]
Settable = Annotated[Token, AfterValidator(_is_settable)]


def _are_each_once(fields: dict[str, str]) -> dict[str, str]:
    """Defaults and a route's own may spell a field in two ways, and both would be sent."""
    seen: dict[str, str] = {}
    for name in fields:
        other = seen.setdefault(_as_backends_read(name), name)
        if other != name:
            raise ValueError(f"{other} and {name} are the same field")
    return fields


SetFields = Annotated[dict[Settable, Value], AfterValidator(_are_each_once)]


# What a route does with its requests.
ACTIONS = ("pool", "split", "redirect", "answer", "deny")


def protocols(value: tuple[str, ...]) -> tuple[str, ...]:
    """Names of protocols, in lower case; ValueError for one that is none, or that carries requests of its own."""
    for token in value:
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z/-]+", token):
            raise ValueError(f"{token!r} should be a protocol name, such as websocket")
        if token.lower() in ("h2c", "h2") or token.lower().startswith(("http/", "tls/")):
            # Such a switch carries requests, which would pass unseen (request smuggling).
            raise ValueError(f"{token} cannot be allowed: requests inside it would bypass every rule")
    return tuple(token.lower() for token in value)


class AskConfig(Model):
    """What policies know of a request: by which key they find a backend, and how much work it is."""

    key: PolicyKey = Field(
        default=CLIENT,
        description='By what the policies `ring`, `maglev` and `rendezvous` find a backend: `"client"`, the address of the client (of '
        'an IPv6 one its /64); `"path"`, without query; `{ header = NAME }`, `{ cookie = NAME }` or `{ query = NAME }`, and the '
        "client where a request has none, or an empty one. A pool has no key of its own: what a request is about is known to the "
        "route that took it, and `[defaults.route]` says it for all. Danger: where all clients come through one proxy that is "
        "not in `trusted_proxies`, they are one client, and meet one backend.",
    )
    cost: Cost = Field(
        default=ORDINARY,
        description="How much work a request is, for policies whose `load` is `cost`; an ordinary one is 1, and none more than 1000: a "
        'number; `"bytes"`: one more for each 4096 bytes of its body, as far as its length is announced; `{ header = NAME }`: what '
        "that field says. Danger: whoever sends the field says it; `forwarding.only_from_proxies` takes it from proxies alone.",
    )


class RouteRulesConfig(AccessConfig, AskConfig):
    """What holds for the requests of a route, wherever they go."""

    strip_prefix: PathText | None = Field(
        default=None,
        description="What is cut from the beginning of the path, by whole segments; backends are told it as "
        "`X-Forwarded-Prefix`. Paths with empty or dot segments in that part get 400.",
    )
    add_prefix: PathText | None = Field(default=None, description="What is put before the path.")
    replace_prefix: Annotated[dict[PathText, PathText], Field(min_length=1, max_length=1)] | None = Field(
        default=None, description='What is put in the place of a prefix: `{ "/old" = "/new" }`.'
    )
    set_request_headers: Annotated[SetFields, HIDDEN] = Field(
        default={},
        description="Header fields that backends get, in place of the client's in every spelling; in a value `{client}`, "
        "`{host}`, `{request_id}`, `{backend}` and `{pool}` are put in.",
    )
    remove_request_headers: Annotated[tuple[Settable, ...], SEVERAL] = Field(
        default=(), strict=False, description="Header fields that backends do not get."
    )
    set_response_headers: SetFields = Field(
        default={}, description="Header fields that clients get, in place of the backend's, with the same placeholders."
    )
    remove_response_headers: Annotated[tuple[Settable, ...], SEVERAL] = Field(
        default=(), strict=False, description="Header fields that clients do not get."
    )
    https_only: HttpsOnly = Field(
        default=False,
        description="Requests that did not come by https, to this balancer or to the trusted proxy in front, are redirected there (308), "
        "to the same host at port 443, or, where this is a number, at that port. `acme_webroot` comes before.",
    )
    hsts: str = Field(
        default="",
        description="Strict-Transport-Security of answers over https (RFC 6797), in place of the backend's: "
        '`"max-age=31536000; includeSubDomains"`. Danger: browsers that have seen it refuse this host without TLS for so many seconds.',
    )
    urgency: int = Field(
        default=USUAL,
        ge=0,
        le=LEAST_URGENT,
        description="How urgent its requests are where they wait for a backend, 0 for those that are served first, to 7 (RFC 9218), "
        "unless the pool goes by a header (`queue.priority_by`).",
    )
    stream: bool = Field(
        default=False,
        description="Whether its bodies go on as they come, whatever its pools hold for slow clients (`buffer_request_bytes`, "
        "`buffer_response_bytes`). Danger: a slow client holds a worker.",
    )
    repeatable: Annotated[tuple[Method, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Methods that may be sent twice here, beside those that always may (RFC 9110 9.2.2). Danger: what such a "
        "request does may be done twice.",
    )
    upgrades: tuple[str, ...] = Field(
        default=("websocket",),
        strict=False,
        description="Protocols that a client may switch its connection to (`Upgrade`); other offers "
        "are removed and the request goes on as plain HTTP. Danger: what a tunnel carries is not looked at.",
    )
    encoded_slash: Literal["keep", "refuse"] = Field(
        default="keep",
        description="What is made of `%2F` in a path: it is kept as it is and never separates segments, or the request gets 400.",
    )
    error_pages: ErrorPages = Field(default={}, description="Files that replace local replies, by status.")
    log: OwnLog | None = Field(
        default=None,
        description="Whether its requests are in the access log (`log.file`), or the format that they have there; left out: as the "
        "listener says.",
    )
    timeouts: RouteTimeoutsConfig = RouteTimeoutsConfig()
    limits: BodyLimitsConfig = BodyLimitsConfig()
    forwarding: ToldConfig = ToldConfig()

    @field_validator("hsts")
    @classmethod
    def _is_a_policy(cls, value: str) -> str:
        if value and not re.fullmatch("max-age=[0-9]{1,10}(; ?includeSubDomains)?(; ?preload)?", value):
            raise ValueError('should be such as "max-age=31536000; includeSubDomains", with "; preload" or without')
        return value

    @field_validator("upgrades")
    @classmethod
    def _are_protocols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return protocols(value)

    @model_validator(mode="after")
    def _cuts_once(self) -> Self:
        if self.strip_prefix is not None and self.replace_prefix is not None:
            raise ValueError("strip_prefix and replace_prefix are both given")
        return self


class RouteConfig(MatchConfig, RouteRulesConfig):
    """A route: which requests it takes, where they go, and what holds for them. The first route that takes a request has it."""

    name: Name | None = Field(
        default=None,
        description="What logs call it; left out: `routes[0]` and so on, as errors do, by its place in the file.",
    )
    pool: Name | None = Field(default=None, description="The pool that has the requests.")
    split: dict[Name, Annotated[int, Field(ge=0, le=1_000_000)]] | None = Field(
        default=None, description="Pools that share the requests, with their weights: `{ api = 90, canary = 10 }`."
    )
    split_by: Key | None = Field(
        default=None,
        description='What always goes to the same pool of `split`: `"client"` (of an IPv6 one its /64), `{ header = NAME }`, `{ cookie = NAME }` or '
        "`{ query = NAME }`; left out: each request is counted for itself, exactly by the weights.",
    )
    fallback: PoolOrAnswer | None = Field(
        default=None, description="Another pool, or an answer, while the pool has no usable backend."
    )
    redirect: RedirectConfig | None = Field(
        default=None, description='The client is sent elsewhere: `{ to = "https://new.example.com" }`, see below.'
    )
    answer: AnswerConfig | None = Field(
        default=None, description='An answer of our own: `{ status = 503, text = "closed for repairs" }`, see below.'
    )
    deny: bool = Field(default=False, description="All of these requests get 403.")
    terminate_tls: bool = Field(
        default=False,
        description="Connections to the names of `sni` end their TLS here, by the certificates of their listener, and what is in it is "
        "carried on.",
    )

    @model_validator(mode="after")
    def _has_one_action(self) -> Self:
        given = [name for name in ACTIONS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given: a route has one of {', '.join(ACTIONS)}")
        if not given:
            raise ValueError(f"leads nowhere: it needs one of {', '.join(ACTIONS)}")
        if self.split is not None and not any(self.split.values()):
            raise ValueError("split: all weights are 0")
        if self.split_by is not None and self.split is None:
            raise ValueError("split_by is for a split")
        if self.split_by is not None and self.split_by.source == "route":
            raise ValueError("split_by: by route all requests would go to the same pool")
        if self.fallback is not None and self.pool is None and self.split is None:
            raise ValueError("fallback is for a pool or a split")
        return self

    @property
    def pools(self) -> dict[str, int]:
        """The pools that it leads to, with their weights; the fallback is not among them."""
        if self.pool is not None:
            return {self.pool: 1}
        return dict(self.split or {})
