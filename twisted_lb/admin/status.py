"""The status listener: `/-/live` says that the process runs, `/-/ready` whether it wants traffic."""

from collections.abc import Callable, Mapping
from typing import Any, AnyStr, Final

from twisted.protocols.policies import WrappingFactory
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from twisted_lb.admin.readiness import Verdict

_LIVE: Final = Verdict(True, "live\n")


class _Answers(Resource):
    isLeaf = True

    def __init__(self, answers: Mapping[bytes, Callable[[], Verdict]]) -> None:
        super().__init__()
        self._answers: Final = answers

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        verdict = self._answers.get(request.path)
        if verdict is None:
            request.setResponseCode(404)
            return b"there is /-/ready and /-/live\n"
        good, text = verdict()
        request.setResponseCode(200 if good else 503)
        return text.encode()


class NamelessRequest(Request):
    """A request whose answer does not say what program, and which version of it, has answered."""

    def setHeader(self, name: AnyStr, value: AnyStr) -> None:
        """See http.Request."""
        if name.lower() not in (b"server", "server"):
            super().setHeader(name, value)


class Channel(http.HTTPChannel):
    """A connection on which one request comes after the other. Who sends the next one before he has his answer (pipelining) gets
    this one only: else a segment full of requests is a thousand answers, made in one turn of the reactor and kept for him.
    """

    _answering = False

    def allContentReceived(self) -> None:
        """See HTTPChannel."""
        self._answering = True
        super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """See LineReceiver: what comes before the answer is not kept."""
        if self._answering:
            self.persistent = False
        else:
            super().rawDataReceived(data)

    def requestDone(self, request: http.Request) -> None:
        """See HTTPChannel."""
        self._answering = False
        if self.clearLineBuffer():
            self.persistent = False
        super().requestDone(request)


class _Quiet(Site):
    """A site without an access log: probes come every few seconds."""

    protocol: Any = Channel

    def log(self, request: http.Request) -> None:
        """See HTTPFactory."""


class StatusSite:
    """The two answers, liveness and readiness, for whoever connects. `readiness` is asked each time."""

    def __init__(self, readiness: Callable[[], Verdict], reactor: Any) -> None:
        root = _Answers({b"/-/live": lambda: _LIVE, b"/-/ready": readiness})
        self._factory: Final = WrappingFactory(_Quiet(root, requestFactory=NamelessRequest, reactor=reactor))

    def build(self) -> Any:
        """A protocol for one connection."""
        return self._factory.buildProtocol(None)

    def leave(self) -> None:
        """Close all connections, each after what it was answered: another instance answers from now on."""
        for protocol in list(self._factory.protocols):
            protocol.transport.loseConnection()

    def close(self) -> None:
        """Cut all connections."""
        for protocol in list(self._factory.protocols):
            protocol.transport.abortConnection()
