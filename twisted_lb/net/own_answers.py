"""Answers that a route gives itself: redirects, and fixed answers such as a maintenance page."""

from collections.abc import Mapping
from typing import Final

from twisted_lb.core.outcome import Reply
from twisted_lb.net.local_reply import ErrorPage, accept_of, local_reply, reason_of
from twisted_lb.net.settings import RouteRules
from twisted_lb.wire.edits import HSTS, Words
from twisted_lb.wire.fields import without
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.paths import matching_host
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

# What a request to a route for https alone gets that came without: the method stays.
_TO_HTTPS: Final = 308
# Where https is, unless an address says otherwise (RFC 9110 4.2.2).
HTTPS_PORT: Final = 443
# RFC 9110 6.4.1 and 15.3.6: these have no content.
_EMPTY: Final = (204, 205, 304)


class OwnAnswer:
    """An answer that is what its route is for; `kind` is what a record calls it."""

    __slots__ = ("kind", "status")

    def __init__(self, kind: Reply, status: int) -> None:
        self.kind: Final = kind
        self.status: Final = status

    def make(
        self, head: RequestHead, target: bytes, request_id: bytes, pages: Mapping[int, ErrorPage]
    ) -> tuple[ResponseHead, bytes]:
        """Head and body of the answer to this request; `target` is what a backend would be asked. BadMessage where the
        request lacks what the answer needs.
        """
        raise NotImplementedError


class Redirect(OwnAnswer):
    """A redirect. `to` is the Location: an origin (`https://example.com`), to which path and query of the request are added, or
    one with a path, or a path alone; `{host}` stands for the host that was asked, without its port.
    """

    __slots__ = ("_keeps_target", "_to", "_wants_host")

    def __init__(self, status: int, to: bytes) -> None:
        super().__init__(Reply.REDIRECT, status)
        self._to: Final = to
        self._wants_host: Final = b"{host}" in to
        origin, _, rest = to.partition(b"://")
        self._keeps_target: Final = b"/" not in rest and origin != to

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {"status": self.status, "to": self._to}

    def make(
        self, head: RequestHead, target: bytes, request_id: bytes, pages: Mapping[int, ErrorPage]
    ) -> tuple[ResponseHead, bytes]:
        """See OwnAnswer. Target and host were checked with the head, so that neither can begin another line."""
        location = self._to
        if self._wants_host:
            host = asked_host(head)
            if not host:
                raise BadMessage(400, "no Host to redirect to")
            location = location.replace(b"{host}", host)
        if self._keeps_target and target != b"*":
            location += target
        body = b"%b\n" % location
        line = _status_line(self.status)
        lines = b"Location: %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % (location, len(body))
        return ResponseHead(self.status, line, lines, len(body), persistent=True, dated=False), body


def to_https(port: int) -> Redirect:
    """The redirect to where clients find the same host by https."""
    return Redirect(_TO_HTTPS, b"https://{host}" + (b"" if port == HTTPS_PORT else b":%d" % port))


class Answer(OwnAnswer):
    """A fixed answer. With `body` None it is the one that the status has by itself, or an error page of the route."""

    __slots__ = ("_body", "_content_type", "_lines", "_retry_after_s")

    def __init__(self, status: int, body: bytes | None, content_type: bytes, retry_after_s: int) -> None:
        super().__init__(Reply.ANSWER, status)
        if status in _EMPTY:
            body = b""
        lines = b"" if not body else b"Content-Type: %b\r\n" % content_type
        if body is not None and status not in (204, 304):
            lines += b"Content-Length: %d\r\n" % len(body)
        if retry_after_s:
            lines += b"Retry-After: %d\r\n" % retry_after_s
        self._body: Final = body
        self._lines: Final = lines
        self._retry_after_s: Final = retry_after_s
        self._content_type: Final = content_type

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {
            "status": self.status,
            "body": self._body,
            "content_type": self._content_type,
            "retry_after_s": self._retry_after_s,
        }

    def make(
        self, head: RequestHead, target: bytes, request_id: bytes, pages: Mapping[int, ErrorPage]
    ) -> tuple[ResponseHead, bytes]:
        """See OwnAnswer."""
        body = self._body
        status = self.status
        if body is None:
            return local_reply(status, request_id, accept_of(head.lines), pages.get(status), self._retry_after_s)
        return ResponseHead(status, _status_line(status), self._lines, len(body), persistent=True, dated=False), body


def answer_for(
    own: OwnAnswer, head: RequestHead, rules: RouteRules, client: str, request_id: bytes, *, https: bool
) -> tuple[ResponseHead, bytes]:
    """Head and body of a route's own answer to this request, with what the route edits in answers; `client` is whose request
    it is, and `https` whether it came so. BadMessage as of `OwnAnswer.make`.
    """
    edit = rules.path_edit
    target = head.target if edit is None else edit.target(head.target)
    made, body = own.make(head, target, request_id, rules.pages)
    if not rules.edits_answers:
        return made, body
    edits = rules.response_edits
    words = Words(client=client.encode("ascii", "replace"), host=asked_host(head), request_id=request_id)
    lines = edits.kept(made.lines) + edits.constant(words) + edits.varying(words)
    return made.with_lines(without(lines, HSTS) + rules.hsts if rules.hsts and https else lines), body


def asked_host(head: RequestHead) -> bytes:
    """The host that a request asks, as routes match it; empty where HTTP/1.0 names none."""
    return matching_host(head.authority or head.fields.host)


def _status_line(status: int) -> bytes:
    return b"%d %b" % (status, reason_of(status))
