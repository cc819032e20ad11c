"""Escapes: what clients send becomes a part of one line, in the way of each form. Nothing of it can end a field or a line."""

import re
from json.encoder import encode_basestring_ascii
from typing import Final

# Visible ASCII, without what means something in any of the forms: with these alone nothing is to be done.
CLEAN: Final = bytes(one for one in range(0x21, 0x7F) if one not in b'"\\#')
_CLEAN_OR_SPACE: Final = CLEAN + b" "

_NOT_IN_URI: Final = re.compile(rb"[^ !$-~]")
_NOT_IN_QUOTES: Final = re.compile(rb"[^ !#-\[\]-~]")
_NOT_IN_WORD: Final = re.compile(rb"[^!#-\[\]-~]")


def hashed(data: bytes) -> str:
    """As HAProxy writes a request line: `#` and two digits for a quote, for `#` itself, and for what is not printable ASCII."""
    if data.translate(None, _CLEAN_OR_SPACE):
        data = _NOT_IN_URI.sub(lambda found: b"#%02X" % ord(found[0]), data)
    return data.decode("ascii")


def in_quotes(data: bytes) -> str:
    r"""As NGINX and Apache write what stands in quotes: `\xHH` for a quote, a backslash, and what is not printable ASCII."""
    if data.translate(None, _CLEAN_OR_SPACE):
        data = _NOT_IN_QUOTES.sub(_hexed, data)
    return data.decode("ascii")


def as_word(data: bytes) -> str:
    """The same for what does not stand in quotes: a space is escaped too, and of nothing there is a `-`."""
    if data.translate(None, CLEAN):
        data = _NOT_IN_WORD.sub(_hexed, data)
    return data.decode("ascii") or "-"


def as_json(data: bytes) -> str:
    """A string of JSON, quotes included, in ASCII; what is no UTF-8 becomes U+FFFD."""
    return encode_basestring_ascii(data.decode("utf-8", "replace"))


def _hexed(found: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % ord(found[0])
