"""The dashboard: the page at `/`, with the files that it needs. Nothing comes from anywhere else, and nothing is inline."""

from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from twisted_lb.admin.endpoints import Call
from twisted_lb.admin.feed import Feed
from twisted_lb.admin.operator import Actor, Refused
from twisted_lb.admin.page_tables import filled, nothing_known, parts
from twisted_lb.admin.site import Admit, ReadOnly, finish, problem

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    "": "text/plain; charset=utf-8",
}
FILES: Final = ("style.css", "app.js", "uPlot.iife.min.js", "uPlot.min.css", "NOTICE")
# Read at once: the user that a daemon becomes may not be allowed to.
_CONTENT: Final = {name: (Path(__file__).parent / "page" / name).read_bytes() for name in ("index.html", *FILES)}
# Who may not read gets the page without anything in it: a browser has no token until one was typed there. Nor has somebody
# else's page led here for nothing: what it then shows is its own, asked for from here.
_WITHOUT: Final = {
    "no_token": "A token is needed to see this balancer.",
    "cross_site": "Another page has led here: load this one once more to see the balancer.",
}


_log = Logger()


class Dashboard(ReadOnly):
    """The page, and the files beside it. `admit` says who asks, `feed` what there is to see."""

    def __init__(self, feed: Feed, admit: Admit) -> None:
        super().__init__()
        self._feed: Final = feed
        self._admit: Final = admit
        self._text: Final = _CONTENT["index.html"].decode()
        self.putChild(b"", self)
        for name in FILES:
            self.putChild(name.encode("ascii"), _File(name, _CONTENT[name], admit))

    def render_GET(self, request: Request) -> Any:
        """The page, with tables of what is."""
        gone: list[bool] = []
        made: list[bytes] = []
        done = self._body(request).addErrback(self._failed, request).addCallback(made.append)
        if made:
            return made[0]
        request.notifyFinish().addErrback(lambda _: gone.append(True))
        done.addCallback(lambda _: None if gone else finish(request, made[0]))
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request) -> bytes:
        _log.failure("admin: the page failed, a bug", failure=failure)
        return problem(request, Refused("bug", "the balancer has made a mistake; its log says which"))

    @inlineCallbacks
    def _body(self, request: Request) -> Any:
        try:
            values = yield self._values(request)
        except Refused as refused:
            return problem(request, refused)
        _guard(request, "text/html; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return filled(self._text, values).encode()

    @inlineCallbacks
    def _values(self, request: Request) -> Any:
        try:
            visitor = self._admit(request)
        except Refused as refused:
            if refused.code not in _WITHOUT:
                raise
            return nothing_known(_WITHOUT[refused.code])
        call = Call({}, {}, {}, Actor(visitor.name, "", visitor.where), visitor.scope)
        yield self._feed.refresh()
        requests = yield self._feed.requests()
        values = yield self._feed.portions.make(parts({**self._feed.whole(call), "requests": requests}))
        return values


class _File(ReadOnly):
    """A file of the page. It holds nothing of this balancer."""

    isLeaf = True

    def __init__(self, name: str, content: bytes, admit: Admit) -> None:
        super().__init__()
        self._kind: Final = next(kind for end, kind in _KINDS.items() if name.endswith(end))
        self._content: Final = content
        self._tag: Final = f'"{sha256(content).hexdigest()[:32]}"'.encode("ascii")
        self._admit: Final = admit

    def render_GET(self, request: Request) -> Any:
        """The file; nothing for who has it."""
        try:
            self._admit(request)
        except Refused as refused:
            if refused.code not in _WITHOUT:
                return problem(request, refused)
        _guard(request, self._kind)
        request.setHeader(b"cache-control", b"no-cache")
        if request.setETag(self._tag):
            return b""
        return self._content


def _guard(request: Request, kind: str) -> None:
    request.setHeader(b"content-type", kind.encode("ascii"))
    request.setHeader(b"content-security-policy", POLICY.encode("ascii"))
    request.setHeader(b"x-content-type-options", b"nosniff")
    request.setHeader(b"referrer-policy", b"no-referrer")
    request.setHeader(b"cross-origin-opener-policy", b"same-origin")
    request.setHeader(b"cross-origin-resource-policy", b"same-origin")
