"""Cookies (RFC 6265) in field lines: those that a client sends, and those that an answer sets."""

import re
from typing import Final

from twisted_lb.wire.grammar import CRLF

_COOKIE: Final = b"cookie"
_SET_COOKIE: Final = b"set-cookie"
# What ends a cookie at once (RFC 6265 5.2.2: a Max-Age of zero or less).
_ENDS: Final = re.compile(rb";[ \t]*max-age[ \t]*=[ \t]*(?:0+|-[0-9]+)[ \t]*(?:;|$)", re.IGNORECASE)


def cookies_in(lines: bytes, name: bytes) -> list[bytes]:
    """The values of a client's cookies of this name, in their order: of one name there may be several, by domain and path. O(lines)."""
    found: list[bytes] = []
    if name not in lines:
        return found
    for line in lines.split(CRLF):
        said, _, value = line.partition(b":")
        if said.lower() == _COOKIE:
            found += [cookie for one, cookie in map(_pair, value.split(b";")) if one == name]
    return found


def without_cookie(lines: bytes, name: bytes) -> bytes:
    """Field lines, each ended by CRLF, in which a client's cookies of this name are left out; all others stay as they are."""
    if name not in lines:
        return lines
    kept: list[bytes] = []
    for line in lines.split(CRLF):
        said, _, value = line.partition(b":")
        parts = value.split(b";") if said.lower() == _COOKIE else []
        rest = [part for part in parts if _pair(part)[0] != name]
        if len(rest) == len(parts):
            kept.append(line)
        elif any(part.strip(b" \t") for part in rest):
            kept.append(said + b": " + b";".join(rest).strip(b" \t"))
    return CRLF.join(kept)


def cookie_set(lines: bytes, name: bytes) -> bytes | None:
    """The value to which an answer with these field lines sets a cookie of this name; empty where it ends it, None where it does not
    speak of it. Of several the last one counts. O(lines).
    """
    found: bytes | None = None
    if name not in lines:
        return found
    for line in lines.split(CRLF):
        said, _, value = line.partition(b":")
        if said.lower() == _SET_COOKIE:
            pair, _, _ = value.partition(b";")
            one, cookie = _pair(pair)
            if one == name:
                found = b"" if _ENDS.search(value) else cookie
    return found


def _pair(text: bytes) -> tuple[bytes, bytes]:
    """The name and the value of a cookie, without quotes; no name for what is none."""
    name, equals, value = text.strip(b" \t").partition(b"=")
    if not equals:
        return b"", b""
    value = value.strip(b" \t")
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    return name.rstrip(b" \t"), value
