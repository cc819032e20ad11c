"""The site of the admin door: requests become calls of the API, and what it says becomes JSON or a stream of events."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.task import Cooperator, TaskStopped
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from twisted_lb.admin.api import Api, BadConfiguration
from twisted_lb.admin.as_json import as_json
from twisted_lb.admin.endpoints import (
    ENDPOINTS,
    MOST_BODY,
    MOST_REASON,
    Call,
    Endpoint,
    called,
    checked_body,
    checked_query,
    endpoint_of,
    methods_at,
)
from twisted_lb.admin.feed import Feed, Viewer
from twisted_lb.admin.metrics import OPENMETRICS, TEXT, metrics_pieces, wants_openmetrics
from twisted_lb.admin.operator import Actor, EventView, Operator, Refused
from twisted_lb.admin.scopes import CHANGE, READ, Visitor, refuse_stranger
from twisted_lb.admin.status import Channel, NamelessRequest
from twisted_lb.admin.streams import EventStream
from twisted_lb.core.measures import Measures, ProcessMeasures
from twisted_lb.portions import Portions

# So many connections a door has at most, and so many of them listen to events, or look at the page.
_MOST_CONNECTIONS: Final = 100
_MOST_LISTENING: Final = 20
_IDLE_S: Final = 60

# The status of each code of a refusal.
STATUS_OF: Final = {
    "bad_request": 400,
    "no_token": 401,
    "read_only": 403,
    "bad_host": 403,
    "cross_site": 403,
    "no_such_backend": 404,
    "no_such_pool": 404,
    "no_such_path": 404,
    "no_such_listener": 404,
    "not_held": 404,
    "no_such_method": 405,
    "last_usable": 409,
    "exists": 409,
    "busy": 409,
    "bad_program": 409,
    "changed_meanwhile": 412,
    "too_large": 413,
    "no_json": 415,
    "bad_value": 422,
    "bad_configuration": 422,
    "too_many": 503,
    "stopping": 503,
}

_log = Logger()

# Who asks with this request; Refused for who may not.
Admit = Callable[[Request], Visitor]


class AdminRequest(NamelessRequest):
    """A request whose body is no longer than it may be."""

    too_large = False

    def gotLength(self, length: int | None) -> None:
        """See http.Request."""
        self.too_large = length is not None and length > MOST_BODY
        super().gotLength(0 if self.too_large else length)

    def handleContentChunk(self, data: bytes) -> None:
        """See http.Request: what is too long is not kept."""
        if self.too_large or (self.content is not None and self.content.tell() + len(data) > MOST_BODY):
            self.too_large = True
            return
        super().handleContentChunk(data)

    def parseCookies(self) -> None:
        """See http.Request: there are none."""


class ApiResource(Resource):
    """The API under `/v1`. `admit` says who asks."""

    isLeaf = True

    def __init__(self, api: Api, operator: Operator, admit: Admit, time: Any, feed: Feed) -> None:
        super().__init__()
        self._feed: Final = feed
        self._api: Final = api
        self._operator: Final = operator
        self._admit: Final = admit
        self._time: Final = time
        self._portions: Final = Portions(time)
        self._streams: Final[dict[EventStream, None]] = {}

    def render(self, request: Request) -> Any:
        """Answer a request, now or later."""
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        try:
            endpoint, names = self._endpoint(request)
            visitor = self._admit(request)
            call = self._call(request, endpoint, names, visitor)
            self._refuse_others(request, endpoint)
            if endpoint.streams and _wants_stream(request):
                return self._stream(request, endpoint, call)
        except Refused as refused:
            return problem(request, refused)
        self._answer(request, endpoint, call)
        return NOT_DONE_YET

    def _answer(self, request: Request, endpoint: Endpoint, call: Call) -> None:
        """Answer when the answer is there; nobody waits for one whose asker is gone."""
        gone: list[bool] = []
        answer = self._api.answer(endpoint.call, call)

        def lost(_: object) -> None:
            gone.append(True)
            if "wait" in endpoint.query:
                answer.cancel()

        request.notifyFinish().addErrback(lost)
        answer.addCallback(lambda said: None if gone else self._tell(request, endpoint, call, said, gone))
        answer.addErrback(lambda failure: None if gone else finish(request, _refused(failure, endpoint)))

    def _endpoint(self, request: Request) -> tuple[Endpoint, Mapping[str, str]]:
        segments = _segments(request.path)
        method = (request.method or b"").decode("latin-1")
        found = None if segments is None else endpoint_of("GET" if method == "HEAD" else method, segments)
        if found is None:
            allowed = [] if segments is None else methods_at(segments)
            if allowed:
                request.setHeader(b"allow", ", ".join(allowed).encode("ascii"))
                raise Refused("no_such_method", f"this path has {', '.join(allowed)}")
            raise Refused("no_such_path", "there is no such path", "all paths: /v1/openapi.json")
        return found

    def _call(self, request: Request, endpoint: Endpoint, names: Mapping[str, str], visitor: Visitor) -> Call:
        query = checked_query(endpoint, _query(request.uri))
        if endpoint.scope == CHANGE and visitor.scope == READ and query.get("dry_run") not in ("1", "true"):
            raise Refused("read_only", "this changes something, and the scope is: read", "a token of [admin] tokens")
        body = checked_body(endpoint, _body(request)) if endpoint.body is not None else {}
        reason = " ".join(str(body.get("reason") or query.get("reason") or "").split())[:MOST_REASON]
        return Call(names, query, body, Actor(visitor.name, reason, visitor.where), visitor.scope)

    def _refuse_others(self, request: Request, endpoint: Endpoint) -> None:
        """Refuse a change by somebody who has seen another state."""
        wanted = request.getHeader(b"if-match")
        if endpoint.scope != CHANGE or wanted is None or wanted.strip() == b"*":
            return
        tags = [tag.strip().removeprefix(b"W/").strip(b'"').decode("latin-1") for tag in wanted.split(b",")]
        if self._api.etag not in tags:
            raise Refused("changed_meanwhile", f"it is {self._api.etag} by now", "look again, and then decide")

    def _tell(
        self, request: Request, endpoint: Endpoint, call: Call, answer: Mapping[str, Any], gone: list[bool]
    ) -> "Deferred[None]":
        request.setResponseCode(endpoint.status)
        if endpoint.status == http.CREATED:
            parts = ("v1", "backends", call.names["pool"], str(answer["name"]))
            request.setHeader(b"location", "".join(f"/{quote(part, safe='')}" for part in parts).encode("ascii"))
        request.setHeader(b"content-type", b"application/json")
        # That of what is told: by the time that it is made the state may be another one.
        request.setHeader(b"etag", f'"{answer.get("etag", self._api.etag)}"'.encode("ascii"))
        made = self._portions.make(as_json(answer))
        return made.addCallback(lambda body: None if gone else finish(request, body + b"\n"))

    def _stream(self, request: Request, endpoint: Endpoint, call: Call) -> Any:
        alike = _Events if endpoint.call == "events" else Viewer
        if sum(isinstance(one, alike) for one in self._streams) >= _MOST_LISTENING:
            raise Refused("too_many", f"{_MOST_LISTENING} listen already")
        stream = self._listener(request, call) if alike is _Events else Viewer(request, self._feed, call, self._time)
        self._streams[stream] = None
        request.notifyFinish().addBoth(lambda _: self._over(stream))
        if alike is _Events:
            stream.begin()
        else:
            self._feed.look().addCallback(lambda _: self._begin(stream)).addErrback(
                lambda failure: self._not_begun(request, endpoint, stream, failure)
            )
        return NOT_DONE_YET

    def _begin(self, stream: EventStream) -> None:
        if stream in self._streams:  # else he has left meanwhile
            stream.begin()

    def _not_begun(self, request: Request, endpoint: Endpoint, stream: EventStream, failure: Any) -> None:
        if stream in self._streams:
            finish(request, _refused(failure, endpoint))

    def _listener(self, request: Request, call: Call) -> "_Events":
        last = (request.getHeader(b"last-event-id") or b"").decode("latin-1")
        after = int(last) if last.isdecimal() and len(last) < 16 else int(call.query.get("after", "0"))
        return _Events(request, self._operator, after, call.query.get("kind"), self._time)

    def _over(self, stream: EventStream) -> None:
        self._streams.pop(stream, None)
        stream.end()

    def close(self) -> None:
        """End all streams, and answer whoever waits."""
        for stream in list(self._streams):
            stream.close()
        self._api.close()


class ReadOnly(Resource):
    """What can only be read."""

    def render(self, request: Request) -> Any:
        """See IResource."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return problem(request, Refused("no_such_method", "this path has GET"))
        body = super().render(request)
        if request.method == b"GET" or not body or body is NOT_DONE_YET:
            return body
        # Else Twisted says in the log that it leaves it out.
        request.setHeader(b"content-length", b"%d" % len(body))
        return b""


class MetricsResource(ReadOnly):
    """`/metrics`, for Prometheus: whoever may read. Those of thousands of backends take a second to render, and are made a bit at a
    turn of the reactor (`time`, IReactorTime).
    """

    isLeaf = True

    def __init__(self, operator: Operator, admit: Admit, time: Any) -> None:
        super().__init__()
        self._operator: Final = operator
        self._admit: Final = admit
        self._cooperator: Final = Cooperator(scheduler=lambda go_on: time.callLater(0, go_on))

    def render_GET(self, request: Request) -> Any:
        """Render all metrics of this moment, in the format that is asked for."""
        request.setHeader(b"cache-control", b"no-store")
        openmetrics = wants_openmetrics((request.getHeader(b"accept") or b"").decode("latin-1"))
        try:
            self._admit(request)
        except Refused as refused:
            return problem(request, refused)
        left: list[bool] = []
        request.notifyFinish().addErrback(lambda _: left.append(True))
        made = self._operator.refresh(exemplars=openmetrics).addCallback(
            lambda _: self._operator.measure(exemplars=openmetrics)
        )
        made.addCallback(lambda found: None if left else self._make(request, *found, openmetrics=openmetrics))
        made.addErrback(lambda failure: None if left else self._refuse(request, failure))
        made.addErrback(_not_made)
        return NOT_DONE_YET

    def _refuse(self, request: Request, failure: Failure) -> None:
        failure.trap(Refused)
        finish(request, failure.value)

    def _make(self, request: Request, measures: Measures, process: ProcessMeasures, *, openmetrics: bool) -> None:
        request.setHeader(b"content-type", (OPENMETRICS if openmetrics else TEXT).encode("ascii"))
        made: list[bytes] = []
        making = self._cooperator.cooperate(
            map(made.append, metrics_pieces(measures, process, openmetrics=openmetrics))
        )
        gone = request.notifyFinish()
        gone.addErrback(lambda _: making.stop())
        making.whenDone().addCallbacks(lambda _: finish(request, b"".join(made)), _not_made)


def _not_made(failure: Any) -> None:
    if not failure.check(TaskStopped):
        _log.failure("admin: metrics failed, a bug", failure=failure)


class _Events(EventStream):
    """One listener of the events."""

    def __init__(self, request: Request, operator: Operator, after: int, kind: str | None, time: Any) -> None:
        super().__init__(request, time)
        self._operator: Final = operator
        self._after: Final = after
        self._kind: Final = kind

    def begin(self) -> None:
        """Tell what has happened, and what happens from now on."""
        super().begin()
        for event in self._operator.events(self._after):
            self.hear(event)
        self._operator.listen(self.hear)

    def hear(self, event: EventView) -> None:
        """Pass an event on."""
        if self._kind in (None, event.kind):
            self.tell(event.kind, asdict(event), event.id)

    def end(self) -> None:
        """The listener is gone."""
        super().end()
        self._operator.unlisten(self.hear)


class AdminSite:
    """The door's site on one kind of socket. `build` makes a protocol for a connection."""

    def __init__(self, root: Resource, reactor: Any) -> None:
        site = _Quiet(root, requestFactory=AdminRequest, timeout=_IDLE_S, reactor=reactor)
        self.factory: Final = _Bounded(site)

    def leave(self) -> None:
        """Close the connections, each after what it is being answered."""
        for protocol in list(self.factory.protocols):
            protocol.transport.loseConnection()

    def close(self) -> None:
        """Cut all connections."""
        for protocol in list(self.factory.protocols):
            protocol.transport.abortConnection()


class _Full(Protocol):
    """A connection too many: it is closed at once."""

    def connectionMade(self) -> None:
        """See IProtocol."""
        assert self.transport is not None
        self.transport.loseConnection()


class _Bounded(WrappingFactory):
    """So many connections, and no more."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See IProtocolFactory."""
        return _Full() if len(self.protocols) >= _MOST_CONNECTIONS else super().buildProtocol(addr)


class _Quiet(Site):
    """A site without an access log: changes are in the audit log."""

    noisy = False
    protocol: Any = Channel

    def log(self, request: http.Request) -> None:
        """See HTTPFactory."""


def admit_to(visitor: Callable[[Request], Visitor], hosts: frozenset[str] | None) -> Admit:
    """Admit requests; with `hosts` only those for one of them, and from no other site."""

    def admit(request: Request) -> Visitor:
        if hosts is not None:
            host, origin, site = (
                (request.getHeader(name) or b"").decode("latin-1") for name in (b"host", b"origin", b"sec-fetch-site")
            )
            refuse_stranger(host, origin or None, site or None, hosts)
        return visitor(request)

    return admit


def paths() -> list[str]:
    """All paths, for who looks for one."""
    return sorted({one.path for one in ENDPOINTS})


def _segments(path: bytes | None) -> list[str] | None:
    """The segments of a path, each unescaped once; None for what is none."""
    try:
        return [unquote(part, errors="strict") for part in (path or b"/").decode("ascii").removeprefix("/").split("/")]
    except UnicodeDecodeError:
        return None


def _query(uri: bytes | None) -> dict[str, list[str]]:
    text = (uri or b"").partition(b"?")[2].decode("latin-1")
    try:
        return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise Refused("bad_request", "the query is none") from None


def _body(request: Request) -> object:
    if getattr(request, "too_large", False):
        raise Refused("too_large", f"a body may have {MOST_BODY} bytes")
    kind = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise Refused("no_json", "the body should be application/json")
    content: Any = request.content
    try:
        found = json.loads(content.read() or b"{}", parse_constant=_no_json, object_pairs_hook=_each_once)
        json.dumps(found, ensure_ascii=False).encode()  # halves of surrogate pairs are no text
    except (ValueError, RecursionError):
        raise Refused("bad_request", "the body is no JSON") from None
    return found


def _no_json(constant: str) -> None:
    """NaN and the infinities, which Python would take."""
    raise ValueError(constant)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once (RFC 8259 4: else each reader takes another one)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused("bad_request", f"{called(twice)}: is there twice")
    return found


def _wants_stream(request: Request) -> bool:
    return request.method == b"GET" and b"text/event-stream" in (request.getHeader(b"accept") or b"")


def _refused(failure: Any, endpoint: Endpoint) -> Any:
    if failure.check(Refused):
        return failure.value
    _log.failure("admin: {call} failed, a bug", failure=failure, call=endpoint.call)
    return Refused("bug", "the balancer has made a mistake; its log says which")


def problem(request: Request, refused: Refused) -> bytes:
    """What is wrong (RFC 9457)."""
    status = STATUS_OF.get(refused.code, 500)
    phrase = HTTPStatus(status).phrase
    request.setResponseCode(status, phrase.encode("ascii"))  # Twisted has none for 422
    request.setHeader(b"content-type", b"application/problem+json")
    if status == 401:
        request.setHeader(b"www-authenticate", b'Bearer realm="twisted_lb"')
    said: dict[str, Any] = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "detail": refused.detail,
        "code": refused.code,
        "hint": refused.hint,
    }
    if isinstance(refused, BadConfiguration):
        said |= {"problems": refused.problems, "report": refused.report}
    body = json.dumps(said, ensure_ascii=False).encode() + b"\n"
    request.setHeader(b"content-length", b"%d" % len(body))
    return b"" if request.method == b"HEAD" else body


def finish(request: Request, said: Any) -> None:
    """Answer with these bytes, or with what is wrong."""
    body = problem(request, said) if isinstance(said, Refused) else said
    if not isinstance(said, Refused):
        request.setHeader(b"content-length", b"%d" % len(body))
    if request.method != b"HEAD":
        request.write(body)
    request.finish()
