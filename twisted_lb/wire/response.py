"""Response heads: what a backend answers, held to the same rigour as a request."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.fields import parse_fields, unsafe_framing, without
from twisted_lb.wire.grammar import CHUNKED, CRLF, DIGITS, FIELD, UNTIL_CLOSE, BadMessage, Limits
from twisted_lb.wire.http2.hpack import encode_lines, encode_status


@mypyc_attr(acyclic=True, free_list_len=1)
class ResponseHead:
    """The head of one response: a pure function of its bytes.

    `lines` are those for the client, each ended by CRLF, without framing of a chunked body. `framing` is the length of
    the body in bytes, CHUNKED or UNTIL_CLOSE, before method and status are considered (`body_of`). `keep_s` is the idle
    timeout that the backend announces (Keep-Alive: timeout), in seconds, -1 when it does not. `binds`: it asks the client to
    authenticate the connection (401 or 407, NTLM or Negotiate), which is that client's alone from then on. `load_report` is what
    it says of its load (ORCA), which is not among the lines. `empty`: it has no body, and no line says so (HTTP/2).
    """

    def __init__(
        self,
        status: int,
        line: bytes,
        lines: bytes,
        framing: int,
        *,
        persistent: bool,
        dated: bool = True,
        upgrade: bytes = b"",
        keep_s: int = -1,
        binds: bool = False,
        load_report: bytes = b"",
        empty: bool = False,
    ) -> None:
        self.status: Final = status
        self.line: Final = line
        self.lines: Final = lines
        self.framing: Final = framing
        self.persistent: Final = persistent
        self.dated: Final = dated
        self.upgrade: Final = upgrade
        self.keep_s: Final = keep_s
        self.binds: Final = binds
        self.load_report: Final = load_report
        # The field line that frames a body without a length, for a client of HTTP/1.1.
        self.empty: Final = empty
        chunked = framing < 0 and status not in (204, 304) and status >= 200
        self.framed: Final = (
            b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: 0\r\n" if empty else b""
        )
        self._block: bytes = b""
        # The head for a client of a persistent HTTP/1.1 connection, ready made: the hot case is one concatenation.
        self.wire: Final = b"HTTP/1.1 " + line + CRLF + lines + self.framed

    @property
    def block(self) -> bytes:
        """The head for a client of HTTP/2, as a field block that means the same wherever it is sent."""
        block = self._block
        if not block:
            block = self._block = encode_status(self.status) + encode_lines(self.lines)
        return block

    def body_of(self, method: bytes) -> int:
        """The framing of the body that follows this head in answer to `method` (RFC 9112 6.3, first two rules)."""
        if self.status in (204, 304) or self.status < 200 or method == b"HEAD":
            return 0
        return self.framing

    def with_lines(self, lines: bytes) -> "ResponseHead":
        """The same head with other lines, each ended by CRLF; its framing is not among what they may change."""
        return ResponseHead(
            self.status,
            self.line,
            lines,
            self.framing,
            persistent=self.persistent,
            dated=self.dated,
            upgrade=self.upgrade,
            keep_s=self.keep_s,
            binds=self.binds,
            load_report=self.load_report,
            empty=self.empty,
        )

    def __repr__(self) -> str:
        return f"<ResponseHead {self.line.decode('latin-1')} framing={self.framing}>"


def parse_status_line(line: bytes) -> tuple[int, int]:
    """Parse a status line: (version 10 or 11, status); BadMessage unless it is one of HTTP/1.0 or 1.1."""
    version = 11 if line[:9] == b"HTTP/1.1 " else 10 if line[:9] == b"HTTP/1.0 " else 0
    digits = line[9:12]
    # RFC 9112 4 wants a space after the status even without a reason; many servers leave it out, nobody misreads that.
    if not version or len(digits) != 3 or digits.translate(DIGITS) != digits or line[12:13] not in (b" ", b""):
        raise BadMessage(502, "illegal status line")
    if line.translate(FIELD) != line:
        raise BadMessage(502, "illegal character in the status line")
    status = int(digits)
    if not 100 <= status <= 599:
        raise BadMessage(502, "illegal status")
    return version, status


def parse_response(head: bytes, limits: Limits) -> ResponseHead:
    """Parse a response head, given without its blank line; BadMessage when it or its framing is not beyond doubt."""
    line, _, block = head.partition(CRLF)
    version, status = parse_status_line(line)
    fields = parse_fields(block, limits)
    framing = UNTIL_CLOSE
    if fields.codings:
        if fields.length >= 0 or version == 10 or fields.codings.lower() != b"chunked":
            raise BadMessage(502, unsafe_framing(version, fields) or "unknown transfer coding")
        framing = CHUNKED
    elif fields.length >= 0:
        framing = fields.length
    persistent = not fields.close and (version == 11 or fields.keep_alive)
    lines = fields.lines
    if status < 200 or status in (204, 304):
        # RFC 9112 6.3: there is no body, whatever is announced. A backend that announces one may send it all the same.
        persistent = persistent and not fields.codings and (fields.length <= 0 or status == 304)
        if status != 304:
            lines = without(lines, b"content-length")  # RFC 9110 8.6
    return ResponseHead(
        status,
        # RFC 9112 4: the space belongs there also without a reason.
        line[9:] if len(line) > 12 else line[9:] + b" ",
        lines,
        framing,
        persistent=persistent,
        dated=fields.dated,
        upgrade=fields.upgrade,
        keep_s=fields.keep_s,
        binds=fields.binds and status in (401, 407),
        load_report=fields.load_report,
    )
