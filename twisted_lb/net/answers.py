"""The answers that the balancer gives itself: short, and nothing about the inside."""

from typing import Final

from twisted_lb.wire.response import ResponseHead

_REASONS: Final = {
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def own_answer(status: int, retry_after_s: int = 0) -> tuple[ResponseHead, bytes]:
    """Head and body of our own answer; Retry-After only when a number of seconds is given."""
    reason = _REASONS.get(status, b"Error")
    body = b"%d %b\n" % (status, reason)
    lines = b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nCache-Control: no-store\r\n" % len(body)
    if retry_after_s > 0:
        lines += b"Retry-After: %d\r\n" % retry_after_s
    head = ResponseHead(status, b"%d %b" % (status, reason), lines, len(body), persistent=True, dated=False)
    return head, body
