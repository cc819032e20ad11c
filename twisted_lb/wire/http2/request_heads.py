"""Request heads for backends as field blocks of HTTP/2 (RFC 9113 8.3.1): what an upstream head of HTTP/1.1 says, said again."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.grammar import CRLF
from twisted_lb.wire.http2.hpack import NO_TABLE, encode_lines, literal

_METHODS: Final[dict[bytes, bytes]] = {b"GET": b"\x82", b"POST": b"\x83"}
_HTTP: Final = b"\x86"
_HTTPS: Final = b"\x87"
# " HTTP/1.1"
_VERSION_BYTES: Final = 9
_LITERAL_MOST: Final = 127


@mypyc_attr(acyclic=True)
class RequestEncoder:
    """What makes field blocks of the heads for one connection, in their order. It leaves nothing in the backend's table, and what
    stands behind method and path is encoded once for as long as it stays the same.
    """

    __slots__ = ("_before", "_block", "_lines", "_scheme")

    def __init__(self, *, secure: bool) -> None:
        self._scheme: Final = _HTTPS if secure else _HTTP
        self._before: bytes = NO_TABLE
        # The lines of the last head, its blank line included, and what they are in HPACK.
        self._lines: bytes = b""
        self._block: bytes = b""

    def encode(self, method: bytes, head: bytes) -> bytes:
        """The field block of a whole head of HTTP/1.1, first line and blank line included, with this method."""
        end = head.find(CRLF)
        lines = head[end + 2 :]
        if lines != self._lines:
            self._block = _encoded(lines)
            self._lines = lines
        path = head[len(method) + 1 : end - _VERSION_BYTES]
        size = len(path)
        where = b"\x04" + bytes((size,)) + path if size < _LITERAL_MOST else literal(b":path", path)
        block = (_METHODS.get(method) or literal(b":method", method)) + self._scheme + where + self._block
        if self._before:
            block = self._before + block
            self._before = b""
        return block


def _encoded(lines: bytes) -> bytes:
    """Field lines as the part of a block behind method, scheme and path; Host is :authority (RFC 9113 8.3.1)."""
    authority = b""
    kept: list[bytes] = []
    for line in lines.split(CRLF):
        if line[:5].lower() == b"host:" and not authority:
            authority = literal(b":authority", line[5:].strip(b" \t"))
        elif line:
            kept.append(line)
    return authority + encode_lines(CRLF.join(kept))
