"""A `ReverseProxyResource` that picks a backend for each request: the balancer inside any twisted.web tree."""

from collections.abc import Sequence
from typing import IO, Any, Final, cast
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.proxy import ReverseProxyResource
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Note
from twisted_lb.core.outcome import Refusal, refusal_of
from twisted_lb.core.running import Running
from twisted_lb.net.client_side import ClientSide
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.local_reply import Claim, claim_of
from twisted_lb.net.proxied import proxy_header
from twisted_lb.net.relay import Leg
from twisted_lb.net.route import Route, client_name
from twisted_lb.wire.grammar import CRLF, BadMessage
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import RequestHead, parse_request_fields, parse_request_line, resolve_target
from twisted_lb.wire.response import ResponseHead

_READ_BYTES: Final = 65536
# What twisted.web has resolved before we see the request: it delivers a body, not a framing.
_FRAMING_FIELDS: Final = frozenset((b"content-length", b"transfer-encoding"))
# HTTP/2 has the rules of 1.1 for what we see of it.
_VERSION_LINE: Final = {b"HTTP/1.0": b"HTTP/1.0"}


class BalancedReverseProxyResource(ReverseProxyResource):
    """A reverse proxy resource: relays what is asked below its place in the tree to a backend, each request anew, as if
    it had come to the listener of `engine`, a Frontend (`LoadBalancerService.engine`).

    The bytes of the target behind the mount point go on unchanged, behind `path`; routes see the target so. It is a leaf. Two limits are those of
    twisted.web: an upload arrives here whole (it spools the body, on disk from 100 kB), and interim responses, trailers
    and switches of protocol cannot be passed to the client.
    """

    isLeaf = True

    def __init__(self, engine: Frontend, path: bytes = b"") -> None:
        """`engine` is a service's, of the listener whose rules hold here. A backend is asked for `path` and what follows
        the resource's own place in the tree.
        """
        super().__init__("", 0, path)
        self.engine: Final = engine
        # The connections of clients that have asked here; twisted.web does not count their requests.
        self._known: Final[WeakKeyDictionary[Any, _Life]] = WeakKeyDictionary()

    def getChild(self, path: bytes, request: Request) -> IResource:
        """The resource itself: everything below its place is its own."""
        return self

    def render(self, request: Request) -> int:
        """Begin an exchange for the request; the response comes when it comes."""
        self.engine.clock.read()
        life = self._known.get(request.channel)
        if life is None:
            life = self._known[request.channel] = _Life(self.engine)
        life.requests += 1
        client = _RequestClient(self.engine, request, life)
        try:
            head = self._head(request)
        except BadMessage as bad:
            client.refuse(refusal_of(bad.status), bad.reason)
            return NOT_DONE_YET
        route = self.engine.straight or client.find_route(head)
        if route is None:
            return NOT_DONE_YET
        if head.goes_no_further:
            client.answer_finally(head, route)
        elif route.takes(head.fields.framing):
            client.begin(head, route)
        else:
            client.refuse(Refusal.BODY_TOO_LARGE, "the body is beyond the limit", head, route)
        return NOT_DONE_YET

    def _head(self, request: Request) -> RequestHead:
        """The request as a head of our own, judged by the same rules as one from a socket."""
        limits = self.engine.client_rules.limits
        method, target, version = parse_request_line(
            b"%b %b %b" % (request.method, request.uri, _VERSION_LINE.get(request.clientproto, b"HTTP/1.1")), limits
        )
        body = cast(IO[bytes], request.content)
        length = body.seek(0, 2)
        body.seek(0)
        lines: list[bytes] = []
        framing: list[bytes] = []
        for name, values in request.requestHeaders.getAllRawHeaders():
            chosen = framing if name.lower() in _FRAMING_FIELDS else lines
            chosen += [b"%b: %b" % (name, value) for value in values]
        if framing:
            parse_request_fields(version, CRLF.join([*lines, *framing]), limits)  # just whether it could be misread
        if framing or length:
            lines.append(b"Content-Length: %d" % length)
        fields, kept = parse_request_fields(version, CRLF.join(lines), limits)
        target, authority = resolve_target(method, target, fields)
        return RequestHead(method, self._place_of(target, len(request.prepath or ())), fields, kept, authority)

    def _place_of(self, target: bytes, segments: int) -> bytes:
        """The target for the backend: without the first `segments` path segments, which lead to this resource."""
        if target == b"*" and not self.path and not segments:
            return target
        return cast(bytes, self.path) + _below(target, segments)


def _below(target: bytes, segments: int) -> bytes:
    """The target without its first `segments` path segments, byte for byte."""
    path, mark, query = target.partition(b"?")
    parts = path.split(b"/")
    return b"/" + b"/".join(parts[1 + segments :]) + mark + query


class _Life:
    """The life of a client's connection, from its first request here on."""

    def __init__(self, frontend: Frontend) -> None:
        self.requests = 0
        self._frontend: Final = frontend
        self._began_at: Final = frontend.clock.now
        self._spread = 0.0

    @property
    def over(self) -> bool:
        """Whether the answer to its present request is its last one (`client_requests`, `client_max_age_s`)."""
        rules = self._frontend.client_rules
        if rules.lasting:
            return False
        self._spread = self._spread or self._frontend.spread()
        return rules.last(self.requests, self._frontend.clock.now - self._began_at, self._spread)


@implementer(IPushProducer)
class _RequestClient(ClientSide):
    """A twisted.web request as the client side of an exchange, on a connection with this life."""

    def __init__(self, frontend: Frontend, request: Request, life: _Life) -> None:
        self._life: Final = life
        self._frontend: Final = frontend
        self._request: Final = request
        self._exchange: Exchange | None = None
        self._running: Sequence[Running] = ()
        self._running_for = ""
        self._paused = False
        self._pumping = False
        self._body_ended = False
        self._over = False
        # twisted.web has no time limit while a request is answered.
        self._deadline: Final = Deadline(self._too_slow)

    def find_route(self, head: RequestHead) -> Route | None:
        """The route of a request that is admitted to one; None when it was answered."""
        frontend = self._frontend
        try:
            found = frontend.table.find(head, self._client())
        except BadMessage as bad:
            self.refuse(refusal_of(bad.status), bad.reason, head)
            return None
        reply = frontend.turn_away(found, self._client(), self.peer_port)
        if reply is not None:
            if found.flaw is None:
                self.answer(reply, heading=head.method == b"HEAD")
            else:
                self._answer_and_close(*reply)
            return None
        action, admission = found.action, found.admission
        assert action is not None
        if admission is not None:
            for one in admission.running:
                one.hold(found.client_key)
            self._running, self._running_for = admission.running, found.client_key
        return action.route(found.split_key)

    def _client(self) -> Client:
        """Who asks, as listeners know it."""
        request = self._request
        address = str(getattr(request.getClientAddress(), "host", "unknown"))
        port = str(getattr(request.getHost(), "port", ""))
        return self._frontend.client_at(address, b"https" if request.isSecure() else b"http", port)

    def begin(self, head: RequestHead, route: Route) -> None:
        """Begin the exchange with the request's body, as far as it is taken."""
        request = self._request
        frontend = self._frontend
        request.notifyFinish().addErrback(self._left)
        request.registerProducer(self, True)
        client = self._client()
        # twisted.web cannot switch protocols.
        self._exchange = Exchange(frontend, self, head, frontend.lead_unswitched(head.fields, client, route))
        self._body_ended = head.fields.framing == 0
        # Sent ahead (pipelining) it may begin while the answer before it has not left: only whoever produced that was told.
        if getattr(request.channel, "_waitingForTransport", False):
            self.pauseProducing()
        frontend.clients[self] = None
        self._exchange.begin()
        self._pump()

    def _pump(self) -> None:
        """Give the exchange as much of the request body as it takes."""
        if self._pumping:
            return
        self._pumping = True
        body = cast(IO[bytes], self._request.content)
        while not (self._paused or self._body_ended or self._over) and self._exchange is not None:
            payload = body.read(_READ_BYTES)
            if payload:
                self._exchange.receive(payload)
            else:
                self._body_ended = True
                self._exchange.end_request(b"")
        self._pumping = False

    def refuse(
        self, refusal: Refusal, detail: str, head: RequestHead | None = None, route: Route | None = None
    ) -> None:
        """Refuse the request before there is an exchange, and read no more of this client; `head` where it is one."""
        self._answer_and_close(*self._frontend.refuse(refusal, detail, self._claim(head), route))
        self._release()

    def _claim(self, head: RequestHead | None) -> Claim:
        """What is known of a request that gets no exchange."""
        if head is not None:
            client = self._client()
            return claim_of(head, client_name(client, head.fields), client, self.peer_port)
        request = self._request
        fields = request.requestHeaders
        return Claim(
            self.who(),
            b"%b %b" % (request.method, request.uri),
            b"Accept: %b\r\n" % b", ".join(fields.getRawHeaders(b"accept", ())),
            b", ".join(fields.getRawHeaders(b"x-request-id", ())),
        ).over(self._client(), self.peer_port)

    def _answer_and_close(self, head: ResponseHead, body: bytes) -> None:
        """Send a local reply, and close."""
        self.start(head, len(body), b"")
        self._close_behind()
        self.write(body)
        self.finish(b"")

    def answer_finally(self, head: RequestHead, route: Route) -> None:
        """Answer a request whose hops are used up."""
        self.answer(self._frontend.answer_finally(head, self._claim(head), route))

    def answer(self, reply: tuple[ResponseHead, bytes], *, heading: bool = False) -> None:
        """Send a local reply to a request that goes nowhere; without its body to a HEAD."""
        head, body = reply
        self.start(head, len(body), b"")
        if body and not heading:
            self.write(body)
        self.finish(b"")

    def _release(self) -> None:
        """The request is counted for its client no more."""
        for one in self._running:
            one.release(self._running_for)
        self._running = ()

    def _close_behind(self) -> None:
        """Let the answer end its connection; in other versions than 1.1 it does so anyway, or cannot."""
        request = self._request
        if request.clientproto == b"HTTP/1.1":
            request.setHeader(b"connection", b"close")
            request.channel.persistent = False

    # ClientSide.

    @property
    def first(self) -> bool:
        """See ClientSide: what the client asked other resources for is not known, nor which streams of HTTP/2 are one's."""
        return self._life.requests == 1

    def who(self) -> str:
        """See ClientSide."""
        return str(getattr(self._request.getClientAddress(), "host", "unknown"))

    @property
    def peer_port(self) -> int:
        """See ClientSide."""
        return int(getattr(self._request.getClientAddress(), "port", 0) or 0)

    def proxy_header(self, version: int) -> bytes:
        """See ClientSide."""
        host = self._request.getHost()
        destination = str(getattr(host, "host", "unknown")), int(getattr(host, "port", 0) or 0)
        return proxy_header(version, (self._client().name, self.peer_port), destination, None)

    def inform(self, head: ResponseHead, extra: bytes) -> None:
        """See ClientSide; twisted.web cannot send an interim response."""

    def start(self, head: ResponseHead, framing: int, extra: bytes) -> None:
        """See ClientSide."""
        request = self._request
        reason = head.line[4:]
        request.setResponseCode(head.status, reason or None)
        request.defaultContentType = None  # the origin's silence is passed on too
        headers = request.responseHeaders
        headers.removeHeader(b"server")
        if head.dated:
            headers.removeHeader(b"date")
        for line in (head.lines + extra).split(CRLF)[:-1]:
            name, _, value = line.partition(b":")
            headers.addRawHeader(name, value.strip(b" \t"))
        if self._frontend.draining or self._life.over:
            self._close_behind()

    def write(self, payload: bytes) -> None:
        """See ClientSide."""
        if not self._over:
            self._request.write(payload)

    def flush(self) -> None:
        """See ClientSide: twisted.web sends a head with the first piece of the body, or at last now."""
        if not self._over and not self._request.startedWriting and self._exchange is not None and self._answering:
            self._request.write(b"")

    @property
    def _answering(self) -> bool:
        return self._exchange is not None and self._exchange.started

    def finish(self, trailers: bytes) -> None:
        """See ClientSide."""
        if not self._over:
            self._end()
            self._request.finish()

    def abort(self) -> None:
        """See ClientSide: no last chunk, fewer bytes than announced, or, where the end is the end, a reset."""
        if self._over:
            return
        self._end()
        request = self._request
        until_close = request.clientproto == b"HTTP/1.0" and not request.responseHeaders.hasHeader(b"content-length")
        # What twisted.web has of an answer that the backend has said whole would be sent to its end, as if nothing were missing.
        said = self._exchange is not None and self._exchange.said
        if (until_close or said) and hasattr(request.channel, "forceAbortClient"):
            request.channel.forceAbortClient()
        else:
            request.loseConnection()

    def release(self) -> Leg:
        """See ClientSide; twisted.web cannot, so none of its requests may switch protocols."""
        raise AssertionError("a twisted.web request never offers an upgrade")

    def pause(self) -> None:
        """See ClientSide."""
        self._paused = True

    def resume(self) -> None:
        """See ClientSide."""
        self._paused = False
        self._pump()

    def _end(self) -> None:
        self._over = True
        self._deadline.end()
        self._release()
        self._frontend.clients.pop(self, None)
        if self._exchange is not None:
            self._request.unregisterProducer()

    def drain(self) -> None:
        """See FrontendClient: nothing to do, since a request has begun, or is not here."""

    def tell_good_bye(self) -> None:
        """See FrontendClient: nothing to do, since twisted.web has no tunnels."""

    def at(self) -> Backend | None:
        """See FrontendClient."""
        return None if self._exchange is None else self._exchange.backend

    def unsent(self) -> bool:
        """See FrontendClient."""
        return self._exchange is not None and self._exchange.unsent

    def note(self) -> Note | None:
        """See FrontendClient."""
        return None if self._exchange is None else self._exchange.note()

    def relayed(self) -> bool:
        """See FrontendClient: twisted.web has no tunnels."""
        return False

    def kill(self, why: str = STOPS) -> None:
        """See FrontendClient: a local reply where nothing was said, a cut where something was."""
        exchange = self._exchange
        if exchange is None or self._over:
            return
        reply = exchange.refuse(why)
        if reply is None:
            self.abort()
        else:
            self._answer_and_close(*reply)

    def client_key(self) -> str:
        """See FrontendClient: the connection is twisted.web's."""
        return ""

    def idle_since(self) -> float:
        """See FrontendClient: a request is under way."""
        return NEVER

    def retire(self) -> None:
        """See FrontendClient: never asked to."""

    # IPushProducer, and the client leaving.

    def pauseProducing(self) -> None:
        """The client takes no more for now (back-pressure): slow-read protection begins."""
        frontend = self._frontend
        if self._exchange is not None and not self._over:
            frontend.deadlines.arm(self._deadline, frontend.clock.now + frontend.client_rules.taking_idle_s)
            self._exchange.client_full()

    def resumeProducing(self) -> None:
        """The client takes more of the response."""
        self._frontend.clock.read()
        self._deadline.disarm()
        if self._exchange is not None:
            self._exchange.client_drained()

    def stopProducing(self) -> None:
        """The connection is lost; `notifyFinish` tells it too."""

    def _too_slow(self) -> None:
        """The client took nothing for `taking_idle_s`: its connection is cut, and `_left` hears of it."""
        if self._exchange is not None:
            self._exchange.client_gone("it does not take its answer")
        channel = self._request.channel
        if hasattr(channel, "forceAbortClient"):
            channel.forceAbortClient()
        else:  # a stream of HTTP/2
            self._request.loseConnection()

    def _left(self, reason: Failure) -> None:
        """The client is gone."""
        self._frontend.clock.read()
        exchange = self._exchange
        self._deadline.end()
        if exchange is not None and not self._over:
            self._over = True
            self._release()
            self._frontend.clients.pop(self, None)
            exchange.client_gone()
