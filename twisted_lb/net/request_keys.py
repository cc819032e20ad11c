"""Keys of requests: by what of it a request is told from others, for rate limits and for splits that are to stay the same."""

from typing import Final

from twisted_lb.core.rate_limits import RateKey
from twisted_lb.core.routing import parameters
from twisted_lb.wire.grammar import CRLF


class RequestKey:
    """A key: the client, the route as a whole, or the value of a header field (its name in lower case), of a cookie or of a
    parameter of the query.
    """

    __slots__ = ("kind", "name")

    def __init__(self, kind: RateKey, name: bytes = b"") -> None:
        self.kind: Final = kind
        self.name: Final = name

    def value(self, target: bytes, lines: bytes) -> bytes | None:
        """What a request with this target and these field lines has there; None where it has nothing, or the key is none of a
        name. Of several the first; the lines of one field are a list.
        """
        if self.kind is RateKey.HEADER:
            return _field(lines, self.name, b", ")
        if self.kind is RateKey.COOKIE:
            # RFC 9113 8.2.3: several lines of Cookie are one.
            return _cookie(_field(lines, b"cookie", b"; "), self.name)
        if self.kind is RateKey.QUERY:
            found = parameters(target.partition(b"?")[2])
            return next((value for name, value in found if name == self.name), None)
        return None


def _field(lines: bytes, name: bytes, between: bytes) -> bytes | None:
    """The value of a field by its lower-case name; those of several lines as one (RFC 9110 5.2). O(lines)."""
    values = []
    for line in lines.split(CRLF):
        said, _, value = line.partition(b":")
        if said.lower() == name:
            values.append(value.strip(b" \t"))
    return between.join(values) if values else None


def _cookie(value: bytes | None, name: bytes) -> bytes | None:
    """The cookie of that name (RFC 6265 4.2.1) in the value of a Cookie field."""
    if value is None:
        return None
    for part in value.split(b";"):
        said, equals, cookie = part.strip(b" \t").partition(b"=")
        if equals and said == name:
            return cookie
    return None
