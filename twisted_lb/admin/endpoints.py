"""The endpoints of the API: what may be asked at which path, with what, and by whom. The one table that requests are led by, and
that the OpenAPI document is made of.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twisted_lb.admin.operator import Actor, Refused
from twisted_lb.admin.scopes import CHANGE, READ
from twisted_lb.core.backend import MOST_LIMIT

MOST_BODY: Final = 65536
MOST_REASON: Final = 200
# So long an answer may be waited for.
MOST_WAIT_S: Final = 3600.0


@dataclass(frozen=True)
class Value:
    """A parameter of the query or a key of the body: its JSON type, what it means, and which values are allowed."""

    kind: str
    meaning: str
    choices: Sequence[str] = ()
    least: int | None = None
    most: int | None = None
    pattern: str = ""
    needed: bool = False
    several: bool = False  # may be there several times
    words: Sequence[str] = ()  # such as may stand in the place of a number

    def schema(self) -> dict[str, Any]:
        """It as JSON Schema."""
        found: dict[str, Any] = {"type": self.kind, "description": self.meaning}
        if self.choices:
            found["enum"] = list(self.choices)
        if self.pattern:
            found["pattern"] = self.pattern
        if self.kind == "string" and not self.choices:
            found["maxLength"] = self.most or 8192
        elif self.kind == "integer":
            found |= {key: one for key, one in (("minimum", self.least), ("maximum", self.most)) if one is not None}
        if self.words:
            meaning = found.pop("description")
            return {"description": meaning, "anyOf": [found, {"type": "string", "enum": list(self.words)}]}
        return found

    def refuse(self, name: str, value: object) -> None:
        """Refuse what is no such value."""
        if self.words and isinstance(value, str):
            if value not in self.words:
                raise Refused("bad_value", f"{name}: should be an {self.kind} or {' or '.join(self.words)}")
            return
        kinds: dict[str, type | tuple[type, ...]] = {"string": str, "integer": int, "boolean": bool, "object": dict}
        if not isinstance(value, kinds[self.kind]) or (self.kind == "integer" and isinstance(value, bool)):
            article = "an" if self.kind[0] in "aeio" else "a"
            raise Refused("bad_value", f"{name}: should be {article} {self.kind}")
        if self.choices and value not in self.choices:
            raise Refused("bad_value", f"{name}: should be one of {', '.join(self.choices)}")
        if isinstance(value, int) and not (self.least or 0) <= value <= (value if self.most is None else self.most):
            raise Refused("bad_value", f"{name}: should be from {self.least} to {self.most}")
        if isinstance(value, str):
            if len(value) > (self.most or 8192):
                raise Refused("bad_value", f"{name}: should have at most {self.most or 8192} characters")
            if self.pattern and not re.fullmatch(self.pattern.strip("^$"), value):
                raise Refused("bad_value", f"{name}: {self.meaning}")


_REASON: Final = Value("string", "Why, for the audit log.", most=MOST_REASON)
_FORCE: Final = Value("boolean", "Also if it is the last usable backend of its pool.")
WAIT: Final = r"^[0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m)$"
_WAIT: Final = Value("string", "Answer when it is empty, or that time is over: 500ms, 30s, 5m.", pattern=WAIT, most=12)
_ONCE: Final = r"^(0|1|true|false)$"
_FORCED: Final = Value("string", "1: also the last usable one.", pattern=_ONCE, most=5)
_DRY: Final = Value("string", "1: say what would follow, and change nothing.", pattern=_ONCE, most=5)
_AFTER: Final = Value(
    "string", "The number of the last event that is known already.", pattern=r"^[0-9]{1,15}$", most=15
)
# Kinds of requests that are remembered, by the parameter that asks for them.
KINDS: Final = ("last", "failed", "refused", "slowest", "running")
_MANY: Final = Value("string", "How many, 1,000 at most.", pattern=r"^[0-9]{1,4}$", most=4)
_DECISIONS: Final = Value(
    "string", "0: without decisions and candidates, of which there may be thousands.", pattern=_ONCE, most=5
)
_POOL: Final = Value("string", "The name of a pool.", most=100)
_METHOD: Final = Value(
    "string", "The method of the request; left out: GET.", pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$", most=32
)
_URL: Final = Value("string", "Its URL, absolute, or a path.", pattern=r"^[!-~]{1,1000}$", most=1000)
_HEADER: Final = Value(
    "string",
    "A field of it, NAME:VALUE; may be there several times.",
    pattern=r"^[^\r\n]{1,1000}$",
    most=1000,
    several=True,
)
_CLIENT: Final = Value("string", "The address of its client.", pattern=r"^[0-9A-Fa-f:.]{2,45}$", most=45)
_LISTENER: Final = Value("string", "The listener that it comes to; left out: the first one.", most=100)
_WINDOW: Final = Value("string", "So many seconds; left out: 900.", pattern=r"^[1-9][0-9]{0,4}$", most=5)
_KIND: Final = Value("string", "Only events of this kind.", most=32)


@dataclass(frozen=True)
class Endpoint:
    """A method at a path, `{pool}` and `{backend}` standing for names. `call` names the method of the API that answers;
    `status` is that of an answer.
    """

    method: str
    path: str
    call: str
    summary: str
    scope: str = READ
    query: Mapping[str, Value] = field(default_factory=dict)
    body: Mapping[str, Value] | None = None
    # Whether the body may have keys beside those.
    open_body: bool = False
    status: int = 200
    refusals: Sequence[int] = ()
    # Whether it is a stream of events for whoever accepts one.
    streams: bool = False

    @property
    def parts(self) -> list[str]:
        """The segments of the path."""
        return self.path.strip("/").split("/")

    @property
    def names(self) -> list[str]:
        """The names in the path."""
        return re.findall(r"{(\w+)}", self.path)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint("GET", "/v1/status", "status", "The state of everything, in numbers and in words."),
    Endpoint("GET", "/v1/backends", "backends", "All backends."),
    Endpoint("GET", "/v1/backends/{pool}/{backend}", "backend", "One backend.", refusals=(404,)),
    Endpoint(
        "PATCH",
        "/v1/backends/{pool}/{backend}",
        "change",
        "Take a backend out, back in, or set its weight or its limit. Answers when no new request can arrive there any more.",
        CHANGE,
        query={"wait": _WAIT, "dry_run": _DRY},
        body={
            "admin": Value("string", "What is wanted of it.", choices=("ready", "drain", "maint")),
            "weight": Value("integer", "Its share of requests; 0: none.", least=0, most=256),
            "limit": Value(
                "integer",
                "How many requests it may have in flight; 0: no bound; adaptive: it is learnt.",
                least=0,
                most=MOST_LIMIT,
                words=("adaptive",),
            ),
            "force": _FORCE,
            "reason": _REASON,
        },
        refusals=(404, 409, 412, 422),
    ),
    Endpoint(
        "DELETE",
        "/v1/backends/{pool}/{backend}",
        "remove",
        "Remove a backend; what it has under way goes on.",
        CHANGE,
        query={
            "wait": _WAIT,
            "force": _FORCED,
            "reason": _REASON,
        },
        refusals=(404, 409, 412, 422),
    ),
    Endpoint(
        "DELETE",
        "/v1/backends/{pool}/{backend}/changes",
        "reset_one",
        "Drop the runtime changes of a backend: it is what the file says.",
        CHANGE,
        query={"force": _FORCED, "reason": _REASON},
        refusals=(404, 409, 412, 422),
    ),
    Endpoint(
        "POST",
        "/v1/pools/{pool}/backends",
        "add",
        "Add a backend, a table as in the file.",
        CHANGE,
        body={
            "address": Value("string", "Where it is: HOST:PORT, [IPv6]:PORT or unix:/path.", needed=True),
            "name": Value("string", "What it is called; left out: its address.", most=100),
            "weight": Value("integer", "Its share of requests.", least=0, most=256),
            "priority": Value("integer", "Its level; 0 is the first.", least=0, most=128),
            "backup": Value("boolean", "Whether it is used only while no other one is usable."),
            "labels": Value("object", "What tells it from others, a text for each name."),
            "reason": _REASON,
        },
        open_body=True,
        status=201,
        refusals=(404, 409, 412, 422),
    ),
    Endpoint(
        "DELETE",
        "/v1/changes",
        "reset",
        "Drop all runtime changes.",
        CHANGE,
        query={"force": _FORCED, "reason": _REASON},
        refusals=(409, 412, 422),
    ),
    Endpoint(
        "POST",
        "/v1/reload",
        "reload",
        "Read the configuration anew, and go by it; where it is wrong nothing is changed.",
        CHANGE,
        body={"dry_run": Value("boolean", "Say what it would do, and change nothing."), "reason": _REASON},
        refusals=(409, 412, 422),
    ),
    Endpoint(
        "POST",
        "/v1/upgrade",
        "upgrade",
        "Become the program that stands where this one was started from, once it has shown that it can start; workers follow.",
        CHANGE,
        body={"reason": _REASON},
        refusals=(409, 412, 422),
    ),
    Endpoint("GET", "/v1/plan", "plan", "What a reload would do.", refusals=(409, 422)),
    Endpoint("GET", "/v1/config", "config", "The configuration in force, each value with its source."),
    Endpoint(
        "GET",
        "/v1/events",
        "events",
        "What has happened; as text/event-stream for whoever accepts that.",
        query={"after": _AFTER, "kind": _KIND},
        refusals=(422, 503),
        streams=True,
    ),
    Endpoint(
        "GET",
        "/v1/history",
        "history",
        "What the charts show: each second of a quarter of an hour, ten seconds each of six hours.",
        query={"window": _WINDOW},
    ),
    Endpoint(
        "GET",
        "/v1/stream",
        "stream",
        "All that the page shows; as text/event-stream for whoever accepts that: it once, then what changes, each second.",
        streams=True,
    ),
    Endpoint(
        "GET",
        "/v1/explain",
        "explained",
        "Why those backends, why those answers: the last requests of a kind. One of the parameters says which, and how many.",
        query={**dict.fromkeys(KINDS, _MANY), "decisions": _DECISIONS},
        refusals=(422,),
    ),
    Endpoint(
        "GET",
        "/v1/explain/next",
        "explain_next",
        "Which backend the next request would get, in a pool, or with a URL; nothing is sent.",
        query={
            "pool": _POOL,
            "method": _METHOD,
            "url": _URL,
            "header": _HEADER,
            "client": _CLIENT,
            "listener": _LISTENER,
        },
        refusals=(404, 422),
    ),
    Endpoint("GET", "/v1/explain/{id}", "explain", "One request, by its id.", refusals=(404,)),
    Endpoint(
        "GET",
        "/v1/route",
        "route",
        "Which route and backends a request would get; nothing is sent, counted or charged.",
        query={
            "method": _METHOD,
            "url": replace(_URL, needed=True),
            "header": _HEADER,
            "client": _CLIENT,
            "listener": _LISTENER,
        },
        refusals=(404, 422),
    ),
    Endpoint("GET", "/v1/openapi.json", "openapi", "This document."),
)


def endpoint_of(method: str, segments: Sequence[str]) -> tuple[Endpoint, dict[str, str]] | None:
    """The endpoint at a path, and the names in it; None where there is none of this method."""
    for one in ENDPOINTS:
        names = _matched(one, segments)
        if one.method == method and names is not None:
            return one, names
    return None


def methods_at(segments: Sequence[str]) -> list[str]:
    """The methods of a path."""
    return [one.method for one in ENDPOINTS if _matched(one, segments) is not None]


def _matched(endpoint: Endpoint, segments: Sequence[str]) -> dict[str, str] | None:
    parts = endpoint.parts
    if len(parts) != len(segments):
        return None
    names = {}
    for part, segment in zip(parts, segments, strict=True):
        if part.startswith("{"):
            names[part[1:-1]] = segment
        elif part != segment:
            return None
    return names


@dataclass(frozen=True)
class Call:
    """One request: the names in its path, its query and body, checked, and who asks."""

    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    actor: Actor
    scope: str

    def flag(self, name: str) -> bool:
        """Whether a parameter of the query says yes."""
        return self.query.get(name, "") in ("1", "true")

    @property
    def wait_s(self) -> float | None:
        """For how long the answer may be waited for; None: not at all."""
        text = self.query.get("wait")
        if text is None:
            return None
        for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0)):
            if text.endswith(unit):
                return min(float(text.removesuffix(unit)) * factor, MOST_WAIT_S)
        return None


def checked_body(endpoint: Endpoint, body: object) -> dict[str, Any]:
    """The body of a request; Refused where it is not as it should be."""
    if endpoint.body is None:
        return {}
    if not isinstance(body, dict):
        raise Refused("bad_value", "the body should be a JSON object")
    for name in body:
        if name not in endpoint.body and not endpoint.open_body:
            raise Refused("bad_value", f"{called(name)}: unknown key", f"keys: {', '.join(endpoint.body)}")
    for name, value in endpoint.body.items():
        if name in body:
            value.refuse(name, body[name])
        elif value.needed:
            raise Refused("bad_value", f"{name} is missing")
    return body


def checked_query(endpoint: Endpoint, query: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The query of a request; Refused where it is not as it should be."""
    found = {}
    for name, values in query.items():
        if name not in endpoint.query:
            known = f"parameters: {', '.join(endpoint.query)}" if endpoint.query else "there are none here"
            raise Refused("bad_value", f"{called(name)}: unknown parameter", known)
        known_as = endpoint.query[name]
        if len(values) > 1 and not known_as.several:
            raise Refused("bad_value", f"{name}: given {len(values)} times")
        for value in values:
            known_as.refuse(name, value)
        found[name] = "\n".join(values)
    for name, wanted in endpoint.query.items():
        if wanted.needed and name not in found:
            raise Refused("bad_value", f"{name} is missing")
    return found


def called(name: object) -> str:
    """A name from outside as messages have it."""
    return "".join(c if c.isprintable() else "?" for c in str(name))[:100]
