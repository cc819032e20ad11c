"""The characters and limits of HTTP/1.1 (RFC 9110 section 5, RFC 9112), and how a broken message is named.

A class of characters is a table for `bytes.translate` that changes every other character: text is of the class when it
stays what it is. That is the fastest such check CPython has, which even gives back the same object then.
"""

import re
from typing import Final


def _only(allowed: bytes) -> bytes:
    """The table of a class of characters."""
    return bytes(code if code in allowed else code ^ 0xFF for code in range(256))


CRLF: Final = b"\r\n"
BLANK_LINE: Final = b"\r\n\r\n"

# RFC 9110 5.6.2: token = 1*tchar.
TOKEN: Final = _only(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
# RFC 9113 8.2: the same without upper case.
LOWER_TOKEN: Final = _only(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
# RFC 9110 5.5: field-vchar, SP and HTAB; obs-text passes untouched, as HAProxy and NGINX do.
FIELD: Final = _only(b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)))
# RFC 3986 plus what browsers leave unencoded (WHATWG URL: all of VCHAR but these four).
TARGET: Final = _only(bytes(c for c in range(0x21, 0x7F) if c not in b'"<>#'))
# RFC 3986 3.2: host or IP literal, and port. No userinfo (RFC 9110 4.2.4 asks a recipient to beware of it), no comma
# (two readers of a list would take different members), not empty (an http URI always has a host).
AUTHORITY: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]++\]|[-._~!$&'()*+;=%0-9A-Za-z]++)"
    rb"(?::(?:[0-9]{0,4}|[0-5][0-9]{4}|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5])))))?"
)
DIGITS: Final = _only(b"0123456789")
# What no head may hold, wherever in it: controls, and a CR or LF that is not half of a line end. A CR at the very end may
# become one when more arrives.
ILLEGAL_IN_HEAD: Final = re.compile(rb"[\0-\x08\x0B\x0C\x0E-\x1F\x7F]|\r(?!\n|\Z)|(?<!\r)\n")
HEX_DIGITS: Final = _only(b"0123456789ABCDEFabcdef")

# 18 digits stay below 2**63 whatever they are, and no body is an exabyte.
LENGTH_DIGITS: Final = 18

# How a body ends when it has no Content-Length; every other framing is its length in bytes, 0 for none.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2


class BadMessage(Exception):
    """Bytes that are not one unambiguous message: broken, or request smuggling. `status` is what a client would be
    told, `reason` goes to the log.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status: Final = status
        self.reason: Final = reason


class Limits:
    """Limits of a head's parts, in bytes and fields; a message past them is refused, never cut.

    `claims` are the lower-case names, `*` at the end for any rest, of fields that pass from trusted proxies alone, beside
    X-Forwarded-For and its like. `kinds` is a memory of field names, in any spelling, for whoever parses by these limits.
    """

    def __init__(
        self,
        line_bytes: int = 8192,
        head_bytes: int = 32768,
        fields: int = 128,
        trailer_bytes: int = 8192,
        claims: tuple[bytes, ...] = (),
    ) -> None:
        self.line_bytes: Final = line_bytes
        self.head_bytes: Final = head_bytes
        self.fields: Final = fields
        self.trailer_bytes: Final = trailer_bytes
        self.claims: Final = claims
        self.kinds: Final[dict[bytes, int]] = {}


def content_length(value: bytes) -> int:
    """The length of a body by one Content-Length value, in bytes; BadMessage for anything but plain digits."""
    if not value or len(value) > LENGTH_DIGITS or value.translate(DIGITS) != value:
        raise BadMessage(400, _no_length(value))
    return int(value)


def _no_length(value: bytes) -> str:
    """What is wrong with a Content-Length."""
    if not value:
        return "Content-Length is empty"
    if b"," in value:
        return "Content-Length is a list"
    if value.translate(DIGITS) != value:
        return "Content-Length is not a plain number"
    return "Content-Length is too large"
