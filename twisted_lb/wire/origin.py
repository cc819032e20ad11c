"""The origin of a request: its client after the trusted proxies, and the scheme, host and port by which it came.

Proxies tell it in two families of fields, X-Forwarded-* and Forwarded (RFC 7239). Of a trusted proxy one of them is believed,
and both are written anew of what that one says, so that a backend hears the same whichever it reads.
"""

import re
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from twisted_lb.wire.grammar import AUTHORITY, CRLF, DIGITS, TOKEN

# RFC 7239 4: forwarded-pair = token "=" ( token / quoted-string ). Some write addresses without their quotes.
_PAIR: Final = re.compile(
    rb"[ \t]*+([!#$%&'*+\-.^_`|~0-9A-Za-z]++)="
    rb'(?:([!#$%&\'*+\-.^_`|~0-9A-Za-z:\[\]]++)|"((?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+)")[ \t]*+'
)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
# RFC 7239 6: a node with its port; IPv6 without brackets is not of this form.
_WITH_PORT: Final = re.compile(rb"(?:\[([^\[\]]++)\]|([^:\[\]]++))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]++))?")
# RFC 7239 6.3: an identifier that hides an address.
_OBFUSCATED: Final = re.compile(rb"_[A-Za-z0-9._-]++")
_UNKNOWN: Final = b"unknown"
_DEFAULT_PORTS: Final = {b"http": b"80", b"https": b"443"}
# Fields of the first family, in which some proxies tell the scheme by another name, as they are written.
_OTHER_SCHEMES: Final = {
    b"x-forwarded-protocol": b"X-Forwarded-Protocol",
    b"x-forwarded-scheme": b"X-Forwarded-Scheme",
    b"x-forwarded-ssl": b"X-Forwarded-Ssl",
}


class AddressSet(Protocol):
    """Some addresses, such as those of `core/networks.Networks`."""

    def covers(self, address: str) -> bool:
        """Whether this is one of them. Text that is no address never is."""


class Trust:
    """Whose claims about their clients count: trusted proxies, None for nobody, and which family of fields they send.

    `family` is "x-forwarded", "forwarded", or "any": X-Forwarded-* where a proxy sends one, else Forwarded.
    """

    def __init__(self, proxies: AddressSet | None = None, family: str = "any") -> None:
        self.proxies: Final = proxies
        self.family: Final = family

    def covers(self, address: str) -> bool:
        """Whether a trusted proxy has this address. Text that is no address is never trusted."""
        return self.proxies is not None and self.proxies.covers(address)


_NOBODY: Final = Trust()


@mypyc_attr(acyclic=True, free_list_len=1)
class Client:
    """The client of a connection, as backends are told: its address, which is its `name` too, over which scheme and port it came, and whether it
    is a trusted proxy, whose claims about its own clients count; `trust` says who else is. `certificate` are lines about the certificate
    that it has shown, of a client that was asked for one.
    """

    def __init__(
        self,
        address: bytes,
        scheme: bytes = b"http",
        port: bytes = b"",
        *,
        trusted: bool = False,
        trust: Trust = _NOBODY,
        certificate: bytes = b"",
    ) -> None:
        self.certificate: Final = certificate
        self.address: Final = address
        self.name: Final = address.decode("ascii")
        self.scheme: Final = scheme
        self.port: Final = port
        self.trusted: Final = trusted
        self.trust: Final = trust
        self._host: bytes = b""
        self._lines: bytes = b""

    def with_certificate(self, lines: bytes) -> "Client":
        """The same client, of which its certificate says this."""
        return Client(self.address, self.scheme, self.port, trusted=self.trusted, trust=self.trust, certificate=lines)

    def lines(self, host: bytes) -> bytes:
        """The X-Forwarded-* lines of a request to this host; kept, since the next one is mostly to the same host."""
        if not self._lines or host != self._host:
            self._host = host
            self._lines = _lines(self.address, self.scheme, host, self.port)
        return self._lines


class Origin:
    """The origin of one request of a client: by its claims if it is a trusted proxy, else by its connection.

    `address` is the client's, after trusted proxies: the last one named that is not trusted, or whoever named what is no
    address. `seen` are the nodes before the proxy, as X-Forwarded-For has them, the first client first.
    """

    def __init__(self, client: Client, host: bytes, claims: dict[bytes, bytes] | None) -> None:
        self._client: Final = client
        self._claims: Final = claims if claims is not None and client.trusted else {}
        self.seen: list[bytes] = []
        self.scheme: bytes = client.scheme
        self.host: bytes = host
        self.port: bytes = client.port
        self._chain: bytes = b""  # the value of Forwarded that is believed
        if self._claims:
            self._believe()

    def _believe(self) -> None:
        claims = self._claims
        family = self._client.trust.family
        forwarded = claims.get(b"forwarded", b"")
        others = len(claims) > (1 if forwarded else 0)
        ports: list[bytes] = []
        if family == "forwarded" or (family == "any" and not others):
            elements = _elements(forwarded)
            if not elements:
                return
            self._chain = forwarded
            self.seen = [_member_for(element.get(b"for", b"")) for element in elements]
            schemes = [element.get(b"proto", b"") for element in elements]
            hosts = [element.get(b"host", b"") for element in elements]
        elif others:
            self.seen = _members(claims.get(b"x-forwarded-for", b""))
            schemes = _members(claims.get(b"x-forwarded-proto", b"")) or self._other_schemes()
            hosts = _members(claims.get(b"x-forwarded-host", b""))
            ports = _members(claims.get(b"x-forwarded-port", b""))
        else:
            return
        # What a proxy says of a client stands where it says who that is; most say it once, for all.
        behind = max(len(self.seen) - 1 - self._client_at(), 0) if max(len(schemes), len(hosts), len(ports)) > 1 else 0
        scheme = _said(schemes, behind).lower()
        if scheme and scheme.translate(TOKEN) == scheme:
            self.scheme = scheme
        said_host = _said(hosts, behind)
        if AUTHORITY.fullmatch(said_host):
            self.host = said_host
        port = _said(ports, behind)
        if not port or port.translate(DIGITS) != port:
            # Ours is not the port that the proxy's client came to.
            port = _port_in(self.host) or _DEFAULT_PORTS.get(self.scheme, b"")
        self.port = port

    def _other_schemes(self) -> list[bytes]:
        said = (self._claims.get(name, b"") for name in _OTHER_SCHEMES)
        return next(([_scheme_by(value)] for value in said if value), [])

    def _client_at(self) -> int:
        """The index in `seen` of the client; the length of it where the client is the trusted proxy itself."""
        seen = self.seen
        trust = self._client.trust
        at = len(seen)
        while at > 0:
            address = _address_in(seen[at - 1])
            if not address:
                break  # whoever says that knows no more
            at -= 1
            if not trust.covers(address.decode("ascii")):
                break
        return at

    @property
    def address(self) -> bytes:
        """The client's address, after trusted proxies."""
        at = self._client_at()
        return _address_in(self.seen[at]) if at < len(self.seen) else self._client.address

    def lines(self) -> bytes:
        """The X-Forwarded-* lines."""
        lines = _lines(b", ".join([*self.seen, self._client.address]), self.scheme, self.host, self.port)
        for name, written in _OTHER_SCHEMES.items():
            value = self._claims.get(name, b"")
            if value and _scheme_by(value) == self.scheme:
                lines += written + b": " + value + CRLF
        return lines

    def forwarded(self) -> bytes:
        """The value of Forwarded: whoever was seen, and the client of our connection. Scheme and host stand beside the client
        and beside that one, as X-Forwarded-* say them, also of the connection to us: a backend may read either.
        """
        rest = b";proto=" + self.scheme
        if self.host:
            rest += b";host=" + _quoted(self.host)
        ours = b"for=" + _quoted(_node_of(self._client.address)) + rest
        if self._chain:
            return self._chain + b", " + ours
        # Not beside all: that of a long list would be many times as long as what came.
        elements = [b"for=" + _quoted(_node_of(one)) for one in self.seen]
        at = self._client_at()
        if at < len(elements):
            elements[at] += rest
        return b", ".join([*elements, ours])


def _lines(seen: bytes, scheme: bytes, host: bytes, port: bytes) -> bytes:
    lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (seen, scheme)
    if host:
        lines += b"X-Forwarded-Host: " + host + CRLF
    if port:
        lines += b"X-Forwarded-Port: " + port + CRLF
    return lines


def _members(value: bytes) -> list[bytes]:
    """The members of a list, as they are (RFC 9110 5.6.1: empty ones do not count)."""
    return [member for part in value.split(b",") if (member := part.strip(b" \t"))]


def _said(values: list[bytes], behind: int) -> bytes:
    """The value that stands so many places before the last one, or the first; nothing where there is none."""
    return b"" if not values else values[-1 - behind] if behind < len(values) else values[0]


def _scheme_by(value: bytes) -> bytes:
    """The scheme that X-Forwarded-Ssl and its like mean: `on`, `ssl` and `https` are one."""
    return b"https" if value.lower() in (b"on", b"ssl", b"https", b"1", b"true", b"yes") else b"http"


def _port_in(host: bytes) -> bytes:
    """The port in a Host, if there is one."""
    port = host.rpartition(b":")[2]
    return port if port != host and port.translate(DIGITS) == port else b""


def _address_in(node: bytes) -> bytes:
    """The IP address in a node, without brackets, port and zone; nothing where it is none."""
    match = _WITH_PORT.fullmatch(node)
    text = (node if match is None else match[1] or match[2]).decode("latin-1")
    try:
        ip = ip_address(text)
    except ValueError:
        return b""
    if isinstance(ip, IPv6Address):
        # What follows a `%` is of use to that proxy alone, and may be any text.
        ip = ip.ipv4_mapped or IPv6Address(int(ip))
    return str(ip).encode("ascii")


def _member_for(node: bytes) -> bytes:
    """A member of X-Forwarded-For for a node of Forwarded: without brackets and port, `unknown` for what is none."""
    return _address_in(node) or (node if _OBFUSCATED.fullmatch(node) else _UNKNOWN)


def _node_of(member: bytes) -> bytes:
    """A node of Forwarded for a member of X-Forwarded-For (RFC 7239 6): IPv6 in brackets, `unknown` for what is no address."""
    plain = _address_in(member)
    if not plain:
        # So comes a client of a unix socket, too.
        return member if _OBFUSCATED.fullmatch(member) else _UNKNOWN
    if b"%" not in member and (member[:1] == b"[" or member.count(b":") <= 1):
        return member
    return b"[%b]" % plain if b":" in plain else plain


def _quoted(value: bytes) -> bytes:
    """A value of Forwarded, quoted where it is no token: a host may hold semicolons."""
    return b'"%b"' % value if value.translate(TOKEN) != value else value


def _elements(value: bytes) -> list[dict[bytes, bytes]]:
    """The elements of a Forwarded value; none at all where it is not one by RFC 7239 section 4."""
    elements: list[dict[bytes, bytes]] = []
    element: dict[bytes, bytes] = {}
    at = 0
    while at < len(value):
        pair = _PAIR.match(value, at)
        if pair is not None:
            name, plain, quoted = pair[1].lower(), pair[2], pair[3]
            if name in element:
                return []
            element[name] = plain if plain is not None else _QUOTED_PAIR.sub(rb"\1", quoted)
            at = pair.end()
        elif value[at : at + 1] in (b" ", b"\t"):
            at += 1
            continue
        if at == len(value):
            break
        if value[at : at + 1] == b",":
            if element:
                elements.append(element)
            element = {}
        elif value[at : at + 1] != b";":
            return []
        at += 1
    if element:
        elements.append(element)
    return elements
