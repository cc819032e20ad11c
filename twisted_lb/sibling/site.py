"""The sibling backend's site: pages that say who it is, how it is, and what it was told to do."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from typing import IO, NamedTuple, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, HTTPChannel, combinedLogFormatter, datetimeToLogString
from twisted.web.http import Request as HTTPRequest
from twisted.web.iweb import IAccessLogFormatter, IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer, provider

from twisted_lb.sibling.behaviour import (
    BLOCK,
    BadParameterError,
    Behaviour,
    behaviour,
    pattern,
    seconds,
    up_to,
    words,
)
from twisted_lb.sibling.page import done_page, facts_page

# Keep-alive: longer than balancers keep idle connections, so that they close them and not we (keep-alive race).
IDLE_S = 120
# After this the connections that are still open are cut off.
CLOSE_GRACE_S = 1.0

LONGEST_DOWN_S = 3600.0

# Answers without a body, whatever else was asked for (RFC 9110 6.4.1).
BODILESS = frozenset({204, 205, 304})

# How the balancer's probes call themselves (User-Agent); data_plane.py names them so.
CHECK_USER_AGENT = b"twisted_lb-check/"


TEXT = "{name} on port {port}, process {process}: {requests} requests, {checks} checks\n"


class Answer(NamedTuple):
    """An answer to a request; `blocks` add up to `length`, `then` runs once it is written."""

    kind: str
    length: int
    blocks: Iterable[bytes]
    status: int = 200
    then: Callable[[], None] | None = None


@implementer(IPushProducer)
class _Streamer:
    """A producer of blocks, written into a request as fast as its client takes them; then it calls `done`."""

    def __init__(self, request: Request, blocks: Iterable[bytes], done: Callable[[], None]) -> None:
        self.request = request
        self.blocks = iter(blocks)
        self.done = done
        self.paused = False

    def start(self) -> None:
        self.request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        # Writing pauses us as soon as the transport holds enough.
        while not self.paused:
            block = next(self.blocks, None)
            if block is None:
                self.request.unregisterProducer()
                self.done()
                return
            self.request.write(block)

    def pauseProducing(self) -> None:
        self.paused = True

    def stopProducing(self) -> None:
        self.paused = True
        self.blocks = iter(())


class Pages(Resource):
    """Every page of a sibling backend; it is a leaf, so that any path is answered."""

    isLeaf = True

    def __init__(self, site: "BackendSite") -> None:
        super().__init__()
        self.site = site
        self.pages: dict[bytes, Callable[[Request], Answer]] = {
            b"/health": self.health,
            b"/echo": self.echo,
            b"/upload": self.upload,
            b"/headers": self.headers,
            b"/down": self.down,
            b"/sick": self.sick,
            b"/agent": self.agent,
        }

    def render(self, request: Request) -> int:
        """Answer any method; everything is written later, so always NOT_DONE_YET."""
        site = self.site
        request.setHeader(b"X-Backend", site.name.encode())
        request.setHeader(b"Cache-Control", b"no-store")
        is_check = self.is_check(request)
        site.checks += is_check
        site.requests += not is_check
        try:
            asked = behaviour(request.args or {})
            answer = self.pages.get(request.path, self.who)(request)
        except BadParameterError as error:
            asked = Behaviour()
            answer = _text(f"{error}\n", 400)
        if is_check and site.agent_says:
            request.setHeader(b"Agent-Check", site.agent_says.encode("ascii"))
        if is_check and site.sick and answer.status == 200:
            answer = _text("told to be sick\n", 503)
        if asked.delay_s:
            self.later(request, asked, answer)
        else:
            send(request, asked, answer)
        return NOT_DONE_YET

    def is_check(self, request: Request) -> bool:
        """Whether a request is a balancer's probe, and not a client's."""
        agent = request.getHeader(b"user-agent") or b""
        return request.path == b"/health" or agent.startswith(CHECK_USER_AGENT)

    def later(self, request: Request, asked: Behaviour, answer: Answer) -> None:
        """Send the answer after the delay, unless the client has left by then."""
        call = self.site.reactor.callLater(asked.delay_s, send, request, asked, answer)

        def gone(_: Failure) -> None:
            if call.active():
                call.cancel()

        request.notifyFinish().addErrback(gone)

    def who(self, request: Request) -> Answer:
        """The page about the backend itself, in the form that the client reads best."""
        accept = request.getHeader(b"accept") or b""
        if request.path == b"/whoami.json" or b"application/json" in accept:
            return _json(self.site.facts())
        if b"text/html" in accept:
            return _html(facts_page(self.site.facts(), _field(request, b"host")))
        return _text(TEXT.format(**self.site.facts()))

    def health(self, _: Request) -> Answer:
        """The health page, `ok`; `render` makes it a 503 when told to."""
        return _text("ok\n")

    def echo(self, request: Request) -> Answer:
        """The echo of the request's body."""
        content = cast(IO[bytes], request.content)
        length = content.seek(0, os.SEEK_END)
        content.seek(0)
        # Never as HTML: the body is the sender's, not ours.
        return Answer("application/octet-stream", length, iter(lambda: content.read(BLOCK), b""))

    def upload(self, request: Request) -> Answer:
        """The proof that the request's body arrived whole: its size and digest."""
        content = cast(IO[bytes], request.content)
        digest, length = hashlib.sha256(), 0
        for block in iter(lambda: content.read(BLOCK), b""):
            digest.update(block)
            length += len(block)
        return _json({"bytes": length, "sha256": digest.hexdigest()})

    def headers(self, request: Request) -> Answer:
        """The header fields of the request, in their order and case."""
        head = cast(_Channel, request.channel).head
        fields = (line.decode("latin-1").partition(":") for line in head)
        return _json([[name, value.strip(" \t")] for name, _, value in fields])

    def down(self, request: Request) -> Answer:
        """Close port and connections for `seconds`, once this answer is out."""
        pause_s = seconds(request.args or {}, "seconds", LONGEST_DOWN_S, 20.0)
        take_down = self.site.take_down
        if take_down is None:
            return _text("this backend cannot close its port\n", 501)
        done = self.done(request, f"{self.site.name} closes its port and connections for {pause_s:g} s")
        return done._replace(then=lambda: take_down(pause_s))

    def sick(self, request: Request) -> Answer:
        """Fail all probes for `seconds`, and serve everything else."""
        pause_s = seconds(request.args or {}, "seconds", LONGEST_DOWN_S, 20.0)
        self.site.fail_checks(pause_s)
        return self.done(request, f"{self.site.name} fails its checks for {pause_s:g} s")

    def agent(self, request: Request) -> Answer:
        """Have checks told these words of agents from now on (`says=drain`), in the header that the balancer reads by default; without
        `says` none.
        """
        self.site.agent_says = words(request.args or {}, "says", 200)
        said = f"says {self.site.agent_says!r} to its checks" if self.site.agent_says else "says nothing to its checks"
        return self.done(request, f"{self.site.name} {said}")

    def done(self, request: Request, message: str) -> Answer:
        """What was done: for a browser as a page with a way back."""
        if b"text/html" in (request.getHeader(b"accept") or b""):
            return _html(done_page(self.site.facts(), message, _field(request, b"referer")))
        return _text(f"{message}\n")


def send(request: Request, asked: Behaviour, answer: Answer) -> None:
    """Write the answer, bent as asked; nothing is left to do for the caller."""
    channel = request.channel
    if asked.close_at_head:
        channel.loseConnection()
        return
    answer = _bent(answer, asked)
    request.setResponseCode(answer.status)
    if answer.status not in NO_BODY_CODES:
        request.setHeader(b"Content-Type", answer.kind.encode())
        if not asked.chunked:
            request.setHeader(b"Content-Length", b"%d" % answer.length)
    blocks = () if request.method == b"HEAD" else answer.blocks
    cut = asked.close is not None and asked.close < answer.length
    if cut:
        blocks = up_to(cast(int, asked.close), blocks)

    def done() -> None:
        if not cut:
            request.finish()
        if asked.close is not None:
            channel.loseConnection()
        if answer.then is not None:
            answer.then()

    _Streamer(request, blocks, done).start()


def _bent(answer: Answer, asked: Behaviour) -> Answer:
    """The answer with the status and the size that were asked for."""
    if asked.status is not None:
        answer = answer._replace(status=asked.status)
    if answer.status in BODILESS:
        return answer._replace(length=0, blocks=())
    if asked.size is None:
        return answer
    return answer._replace(kind="application/octet-stream", length=asked.size, blocks=pattern(0, asked.size))


def _held(kind: str, text: str, status: int = 200) -> Answer:
    body = text.encode()
    return Answer(kind, len(body), (body,), status)


def _text(text: str, status: int = 200) -> Answer:
    return _held("text/plain; charset=utf-8", text, status)


def _html(text: str) -> Answer:
    return _held("text/html; charset=utf-8", text)


def _field(request: Request, name: bytes) -> str:
    """A header field of a request, empty if there is none."""
    return (request.getHeader(name) or b"").decode("latin-1")


def _json(value: object) -> Answer:
    return _held("application/json", json.dumps(value) + "\n")


class _Channel(HTTPChannel):
    """A connection that the site can find again, and that keeps the head as it came."""

    site: "BackendSite"

    # As patient as any balancer in front of it may be.
    totalHeadersSize = 2**17
    MAX_LENGTH = 2**17

    def connectionMade(self) -> None:
        super().connectionMade()
        self.fields: list[bytes] = []
        self.head: tuple[bytes, ...] = ()
        self.site.channels.add(self)

    def headerReceived(self, line: bytes) -> bool:
        self.fields.append(line)
        return cast(bool, super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        self.head, self.fields = tuple(self.fields), []
        super().allHeadersReceived()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.site.channels.discard(self)
        self.site.channel_closed()


@provider(IAccessLogFormatter)
def wall_clock_line(_timestamp: str, request: IRequest) -> str:
    """A line of the access log with the time of day: `_timestamp` is made of the reactor's seconds, which need not be
    those of a wall clock.
    """
    return str(combinedLogFormatter(datetimeToLogString(time.time()), request))


class BackendSite(Site):
    """A sibling backend as a `twisted.web` site; its service sets `port` and `take_down`."""

    protocol = _Channel  # type: ignore[assignment]  # Twisted declares its HTTP/2 switch only.
    noisy = False

    def __init__(self, name: str, reactor: IReactorTime) -> None:
        super().__init__(
            Pages(self), reactor=reactor, timeout=IDLE_S, parsePOSTFormSubmission=False, logFormatter=wall_clock_line
        )
        self.name = name
        self.port = 0
        self.take_down: Callable[[float], None] | None = None
        self.requests = 0
        self.checks = 0
        self.channels: set[_Channel] = set()
        self.agent_says = ""
        self._sick_until = 0.0
        self._waiting: list[Deferred[None]] = []
        self._abort: IDelayedCall | None = None

    def log(self, request: HTTPRequest) -> None:
        """Log nothing: an access log would cost more than the answers."""

    def facts(self) -> dict[str, str | int]:
        """The facts that its pages say of it."""
        return {
            "name": self.name,
            "port": self.port,
            "process": os.getpid(),
            "requests": self.requests,
            "checks": self.checks,
        }

    @property
    def sick(self) -> bool:
        """Whether probes are to fail now."""
        return self.reactor.seconds() < self._sick_until

    def fail_checks(self, seconds: float) -> None:
        """Fail probes for that long from now on."""
        self._sick_until = self.reactor.seconds() + seconds

    def close_connections(self) -> Deferred[None]:
        """Close every connection, after what was written is sent; fires when all are gone."""
        for channel in tuple(self.channels):
            channel.loseConnection()
        if not self.channels:
            return succeed(None)
        if self._abort is None:
            self._abort = self.reactor.callLater(CLOSE_GRACE_S, self._abort_connections)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def _abort_connections(self) -> None:
        self._abort = None
        for channel in tuple(self.channels):
            cast(ITCPTransport, channel.transport).abortConnection()

    def channel_closed(self) -> None:
        """A connection has gone; the last one ends what `close_connections` waits for."""
        if self.channels or not self._waiting:
            return
        if self._abort is not None:
            self._abort.cancel()
            self._abort = None
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)
