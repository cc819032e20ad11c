"""Responses of HTTP/2 as HTTP/1.1 has them (RFC 9113 section 8): what backends answer, held to the same rigour as in HTTP/1.1."""

from http import HTTPStatus
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.fields import parse_trailers
from twisted_lb.wire.grammar import DIGITS, BadMessage, Limits
from twisted_lb.wire.http2.hpack import LENGTH, STATUS, Entry, HpackDecoder
from twisted_lb.wire.response import ResponseHead, parse_response

_PHRASES: Final[dict[int, bytes]] = {int(one): one.phrase.encode("ascii") for one in HTTPStatus}
_CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"
_EMPTY_LINE: Final = b"content-length: 0\r\n"


@mypyc_attr(acyclic=True)
class ResponseReader:
    """A reader of the responses of one backend, which was told that there is no table (SETTINGS_HEADER_TABLE_SIZE 0): then a field block
    means the same whenever it comes, and one that comes again is recognized by its bytes.
    """

    __slots__ = ("_block", "_decoder", "_empty", "_head", "_limits")

    def __init__(self) -> None:
        self._decoder: Final = HpackDecoder(0)
        # The last final head, and what it was made of.
        self._head: ResponseHead | None = None
        self._block: bytes = b""
        self._empty: bool = False
        self._limits: Limits | None = None

    def read(self, block: bytes, limits: Limits, *, empty: bool) -> ResponseHead:
        """The head that a field block says; `empty`: nothing comes behind it, and the request was no HEAD.

        BadMessage where it is none; Http2Error where it cannot be decoded, which ends the connection.
        """
        head = self._head
        if head is not None and block == self._block and empty is self._empty and limits is self._limits:
            return head
        head = self._parse(block, limits, empty=empty)
        if head.status >= 200:
            self._head = head
            self._block = block
            self._empty = empty
            self._limits = limits
        return head

    def _parse(self, block: bytes, limits: Limits, *, empty: bool) -> ResponseHead:
        decoder = self._decoder
        entries = decoder.decode(block, limits.head_bytes, limits.fields)
        if decoder.excess:
            raise BadMessage(502, decoder.excess)
        status, has_length, lines = b"", False, []
        for entry in entries:
            if entry.line:
                has_length = has_length or entry.kind == LENGTH
                lines.append(entry.line)
            elif entry.kind == STATUS and not status and not lines:
                status = entry.value
            else:
                raise BadMessage(502, _why(entry))
        number = _number(status)
        bodiless = number < 200 or number in (204, 304)
        bare = empty and not has_length and not bodiless
        if bare:
            lines.append(_EMPTY_LINE)
        elif not has_length and not bodiless:
            lines.append(_CHUNKED_LINE)
        line = b"HTTP/1.1 %b %b\r\n" % (status, _PHRASES.get(number, b""))
        head = parse_response((line + b"".join(lines))[:-2], limits)
        if empty and head.framing > 0 and not bodiless:
            raise BadMessage(502, "content-length without a body")
        return _bare(head) if bare else head

    def trailers(self, block: bytes, limits: Limits) -> bytes:
        """The trailers that a field block says, as lines of HTTP/1.1 that go on, each ended by CRLF. Raises what `read` raises."""
        decoder = self._decoder
        entries = decoder.decode(block, limits.head_bytes, limits.fields)
        if decoder.excess:
            raise BadMessage(502, decoder.excess)
        lines: list[bytes] = []
        for entry in entries:
            if not entry.line:
                raise BadMessage(502, _why(entry))
            lines.append(entry.line)
        text = b"".join(lines)
        if len(text) > limits.trailer_bytes:
            raise BadMessage(502, "trailers too long")
        return parse_trailers(text[:-2], limits) if text else b""


def _number(status: bytes) -> int:
    """The status by a :status; RFC 9113 8.6: there is no 101 in HTTP/2."""
    if len(status) != 3 or status.translate(DIGITS) != status:
        raise BadMessage(502, "no :status" if not status else "illegal :status")
    number = int(status)
    if number == 101:
        raise BadMessage(502, "a switch of protocols, which HTTP/2 has not")
    return number


def _bare(head: ResponseHead) -> ResponseHead:
    """A head of a response without a body, less the line that says so: it is for clients of HTTP/1.1 alone."""
    return ResponseHead(
        head.status,
        head.line,
        head.lines[: -len(_EMPTY_LINE)],
        0,
        persistent=True,
        dated=head.dated,
        upgrade=head.upgrade,
        keep_s=head.keep_s,
        binds=head.binds,
        load_report=head.load_report,
        empty=True,
    )


def _why(entry: Entry) -> str:
    """What is wrong with a field that makes its message malformed."""
    if entry.name[:1] == b":":
        return "pseudo-field behind a field, twice, or of no response"
    return "field that no message of HTTP/2 may have"
