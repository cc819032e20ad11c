"""Keys of requests: by what of it a request is told from others, for rate limits, splits that are to stay the same, and policies
by key.
"""

from typing import Final

from twisted_lb.core.ask import Ask, key_of
from twisted_lb.core.gate import client_key
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.core.routing import parameters
from twisted_lb.wire.grammar import CRLF


class RequestKey:
    """A key: the client, the route as a whole, the path without query, or the value of a header field (its name in lower case), of
    a cookie or of a parameter of the query.

    `label` is what explanations call it, and what a request has instead that lacks it; neither has a value in it.
    """

    __slots__ = ("instead", "kind", "label", "name")

    def __init__(self, kind: RateKey, name: bytes = b"") -> None:
        self.kind: Final = kind
        self.name: Final = name
        self.label: Final = f"{kind.value} {name.decode('utf-8', 'replace')}".rstrip()
        self.instead: Final = "client" if kind is RateKey.CLIENT else f"client, without {self.label}"

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
        return target.partition(b"?")[0] if self.kind is RateKey.PATH else None

    def ask(self, target: bytes, lines: bytes, address: str) -> Ask:
        """What a request of the client at this address asks of a policy by key: the key's hash, the client's where it has no
        value, or an empty one. Of an IPv6 client it is the /64, since its address may be another one every day.
        """
        value = self.value(target, lines)
        if value:
            return Ask(key_of(value), by=self.label)
        client = client_key(address) if ":" in address else address
        return Ask(key_of(client.encode("utf-8", "replace")), by=self.instead)


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
