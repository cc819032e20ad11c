"""The PROXY protocol, versions 1 and 2, both ways: a balancer tells the server behind it who the client is, in a header before all else.

The specification is HAProxy's `proxy-protocol.txt`. What is read decides about access and logs, so the grammar is taken to the
letter: a header that two readers could take for two is none. Whether one has to come is never guessed from bytes; that is the
caller's to know.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.grammar import CRLF

# Types of TLVs: type, length in two bytes, value.
ALPN: Final = 0x01
AUTHORITY: Final = 0x02
CRC32C: Final = 0x03
NOOP: Final = 0x04
UNIQUE_ID: Final = 0x05
SSL: Final = 0x20
# Of clouds: Google's Private Service Connect has a number there.
GCP: Final = 0xE0
# AWS's network load balancer and Azure's private link: a byte that says what follows, and that.
AWS: Final = 0xEA
AZURE: Final = 0xEE
_ENDPOINT: Final = 0x01  # of both: the private endpoint that the client has come by
# Types of those within the value of SSL.
SSL_VERSION: Final = 0x21
SSL_CN: Final = 0x22
SSL_CIPHER: Final = 0x23
# Flags of the client within the value of SSL: it came over TLS; it gave a certificate on this connection; in this session.
CLIENT_SSL: Final = 0x01
CLIENT_CERT_CONN: Final = 0x02
CLIENT_CERT_SESS: Final = 0x04

# What the specification calls the worst case, with its CRLF.
V1_MOST_BYTES: Final = 107
# The whole of a header of version 2. Its length could say 64 KiB; with all registered TLVs it stays below 1 KiB, and a client's
# certificate in a TLV of its own below this.
V2_MOST_BYTES: Final = 4096
UNIQUE_ID_MOST_BYTES: Final = 128

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16  # signature, version and command, family and protocol, length
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPEC: Final = 0x00
_TCP4: Final = 0x11
_TCP6: Final = 0x21
# How many bytes the addresses take, by family and protocol. Datagrams (0x12, 0x22, 0x32) do not come over a stream.
_ADDRESS_BYTES: Final[dict[int, int]] = {_UNSPEC: 0, _TCP4: 12, _TCP6: 36, 0x31: 216}

# A connection that the proxy opened for itself, to check: version 2, then what version 1 has in its place.
LOCAL_V2: Final = SIGNATURE + b"\x20\x00\x00\x00"
UNKNOWN_V1: Final = b"PROXY UNKNOWN\r\n"

_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_PORT: Final = "(0|[1-9][0-9]{0,4})"
_LINE4: Final = re.compile(f"PROXY TCP4 ({_IPV4}) ({_IPV4}) {_PORT} {_PORT}".encode("ascii"))
# What of it is no address of RFC 4291 the standard library says; a zone has no place in these characters.
_LINE6: Final = re.compile(f"PROXY TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) {_PORT} {_PORT}".encode("ascii"))
_LINE_UNKNOWN: Final = re.compile(rb"(?s)PROXY UNKNOWN(?: .*)?")
# A line whose end has not come. 43: two IPv4 addresses, two ports, and what stands between.
_V1_BEGINNINGS: Final = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN")
_V1_SO_FAR: Final = re.compile(rb"(?s)PROXY (?:TCP4 [0-9. ]{0,43}\r?|TCP6 [0-9A-Fa-f:. ]*\r?|UNKNOWN(?:\r|(?: .*))?)")

# What a header may say once. Of other types a second one may mean something to somebody.
_SINGLE: Final = frozenset((ALPN, AUTHORITY, CRC32C, UNIQUE_ID, SSL))
_SINGLE_IN_SSL: Final = frozenset((SSL_VERSION, SSL_CN, SSL_CIPHER))


class BadProxy(Exception):
    """Bytes that are no header of the PROXY protocol, and will not become one. `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason


@mypyc_attr(acyclic=True)
class ProxySsl:
    """What the TLV `SSL` says of a client's TLS. `version`, `cipher` and `common_name` (of its certificate) are empty where it
    does not say them; `client` are its flags. `verified`: there is a certificate, and it was found to be good.
    """

    __slots__ = ("cipher", "client", "common_name", "verified", "version")

    def __init__(self, value: bytes) -> None:
        client, failure = value[0], value[1:5]
        inner = _tlvs(value[5:], _SINGLE_IN_SSL)
        self.client: Final[int] = client
        # Senders leave 0 in the place of the failure where there was no certificate at all.
        self.verified: Final[bool] = failure == b"\0\0\0\0" and client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) != 0
        self.version: Final[str] = _text(_value(inner, SSL_VERSION))
        self.common_name: Final[str] = _text(_value(inner, SSL_CN))
        self.cipher: Final[str] = _text(_value(inner, SSL_CIPHER))


@mypyc_attr(acyclic=True)
class ProxyHeader:
    """A header that was read.

    `local`: the proxy speaks for itself, as when it checks; or it says nothing of a client of a unix socket (HAProxy). `source` and `destination` are IP addresses, each in one spelling,
    an IPv4-mapped one as IPv4; empty where the header has none (LOCAL, UNKNOWN, UNSPEC, AF_UNIX): then the connection's own hold.
    `tlvs` in their order, as bytes, without NOOP. `size`: how many bytes the header took; behind them the client speaks.
    """

    __slots__ = ("destination", "destination_port", "local", "size", "source", "source_port", "tlvs", "version")

    def __init__(
        self,
        version: int,
        size: int,
        source: str = "",
        source_port: int = 0,
        destination: str = "",
        destination_port: int = 0,
        tlvs: tuple[tuple[int, bytes], ...] = (),
        *,
        local: bool = False,
    ) -> None:
        self.version: Final[int] = version
        self.local: Final[bool] = local
        self.source: Final[str] = source
        self.source_port: Final[int] = source_port
        self.destination: Final[str] = destination
        self.destination_port: Final[int] = destination_port
        self.tlvs: Final[tuple[tuple[int, bytes], ...]] = tlvs
        self.size: Final[int] = size

    @property
    def alpn(self) -> str:
        """The protocol that the client and the proxy agreed upon (ALPN); empty where it is not said."""
        return _value(self.tlvs, ALPN).decode("latin-1")

    @property
    def authority(self) -> str:
        """The host that the client named, by SNI as a rule; empty where it is not said. It is whatever a client wrote."""
        return _text(_value(self.tlvs, AUTHORITY))

    @property
    def unique_id(self) -> bytes:
        """The name that the proxy gave to the connection, opaque; empty where there is none."""
        return _value(self.tlvs, UNIQUE_ID)

    @property
    def aws_vpce_id(self) -> bytes:
        """The VPC endpoint that the client has come by, as AWS calls it (`vpce-08d2bf15fac5001c9`); empty where it is not said."""
        value = _value(self.tlvs, AWS)
        return value[1:] if value[:1] == bytes((_ENDPOINT,)) else b""

    @property
    def azure_pel_id(self) -> int:
        """The number of the private endpoint that the client has come by (LinkID of Azure's private link); -1 where it is not said."""
        value = _value(self.tlvs, AZURE)
        return int.from_bytes(value[1:], "little") if len(value) == 5 and value[0] == _ENDPOINT else -1

    @property
    def gcp_conn_id(self) -> int:
        """The number of the connection of Google's Private Service Connect that the client has come by (pscConnectionId); -1 where it is
        not said.
        """
        value = _value(self.tlvs, GCP)
        return int.from_bytes(value, "big") if len(value) == 8 else -1

    @property
    def ssl(self) -> ProxySsl | None:
        """The client's TLS, as the proxy saw it; None where that is not said."""
        value = _value(self.tlvs, SSL)
        return ProxySsl(value) if value else None

    def __repr__(self) -> str:
        what = "LOCAL" if self.local else f"{self.source} {self.source_port}" if self.source else "UNKNOWN"
        return f"<ProxyHeader v{self.version} {what}, {self.size} bytes>"


def read_proxy(data: bytes) -> ProxyHeader | None:
    """The header with which a connection begins; None while it is not complete. What stands behind it is not looked at.

    BadProxy as soon as no header can become of these bytes: more is never waited for then.
    """
    if data[:12] == SIGNATURE:
        return _read_v2(data)
    if data[:6] == b"PROXY ":
        return _read_v1(data)
    if SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise BadProxy("no PROXY header")


def _read_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(CRLF, 0, V1_MOST_BYTES)
    if end < 0:
        if len(data) >= V1_MOST_BYTES:
            raise BadProxy(f"PROXY line of more than {V1_MOST_BYTES} bytes")
        if _V1_SO_FAR.fullmatch(data) is None and not any(begin.startswith(data) for begin in _V1_BEGINNINGS):
            raise BadProxy("PROXY line that is broken")
        return None
    line = data[:end]
    found = _LINE4.fullmatch(line)
    if found is not None:
        source, destination = found[1].decode("ascii"), found[2].decode("ascii")
    elif (found := _LINE6.fullmatch(line)) is not None:
        source, destination = _ipv6(found[1]), _ipv6(found[2])
    elif _LINE_UNKNOWN.fullmatch(line) is not None:
        return ProxyHeader(1, end + 2)
    else:
        raise BadProxy("PROXY line that is broken")
    source_port, destination_port = int(found[3]), int(found[4])
    if source_port > 65535 or destination_port > 65535:
        raise BadProxy("PROXY line with a port above 65535")
    return ProxyHeader(1, end + 2, source, source_port, destination, destination_port)


def _ipv6(text: bytes) -> str:
    """The address that a line of version 1 names, in the one spelling."""
    try:
        return _spelt(IPv6Address(text.decode("ascii")))
    except AddressValueError:
        raise BadProxy("PROXY line with what is no IPv6 address") from None


def _spelt(ip: IPv6Address) -> str:
    """An IPv6 address in its one spelling; an IPv4-mapped one is IPv4, as everywhere: on a dual-stack socket every client is one."""
    mapped = ip.ipv4_mapped
    return str(ip) if mapped is None else str(mapped)


def _read_v2(data: bytes) -> ProxyHeader | None:
    have = len(data)
    if have < 13:
        return None
    command = data[12]
    if command not in (_LOCAL, _PROXY):
        raise BadProxy(f"PROXY header of version {command >> 4}, command {command & 15}")
    if have < 14:
        return None
    family = data[13]
    # Of LOCAL the specification wants the rest discarded, whatever it is.
    addressed = _ADDRESS_BYTES.get(family, -1) if command == _PROXY else 0
    if addressed < 0:
        raise BadProxy(f"PROXY header of family {family >> 4}, protocol {family & 15}")
    if have < _FIXED:
        return None
    size = _FIXED + (data[14] << 8 | data[15])
    if size > V2_MOST_BYTES:
        raise BadProxy(f"PROXY header of more than {V2_MOST_BYTES} bytes")
    if size < _FIXED + addressed:
        raise BadProxy("PROXY header that is too short for its addresses")
    if have < size:
        return None
    if not addressed:
        # LOCAL, and UNSPEC: nobody knows where in it TLVs would begin.
        return ProxyHeader(2, size, local=command == _LOCAL)
    return _header_of(data[:size], family, _FIXED + addressed)


def _header_of(header: bytes, family: int, behind: int) -> ProxyHeader:
    """A whole header of version 2 with addresses, which end at `behind`."""
    tlvs = _tlvs(header[behind:], _SINGLE)
    _check(header, behind, tlvs)
    if family == _TCP4:
        source, destination = ".".join(map(str, header[16:20])), ".".join(map(str, header[20:24]))
    elif family == _TCP6:
        source, destination = _spelt(IPv6Address(header[16:32])), _spelt(IPv6Address(header[32:48]))
    else:
        return ProxyHeader(2, len(header), tlvs=tlvs)
    ports = header[behind - 4 : behind]
    return ProxyHeader(2, len(header), source, ports[0] << 8 | ports[1], destination, ports[2] << 8 | ports[3], tlvs)


def _tlvs(block: bytes, single: frozenset[int]) -> tuple[tuple[int, bytes], ...]:
    """The TLVs that a block is made of, to its last byte, less NOOP; BadProxy where it is not, or one of `single` is there twice."""
    found: list[tuple[int, bytes]] = []
    seen: set[int] = set()
    at, size = 0, len(block)
    while at < size:
        if at + 3 > size:
            raise BadProxy("TLV that is cut off")
        kind = block[at]
        end = at + 3 + (block[at + 1] << 8 | block[at + 2])
        if end > size:
            raise BadProxy("TLV that is longer than what it is in")
        if kind in seen and kind in single:
            raise BadProxy(f"TLV 0x{kind:02x} twice")
        seen.add(kind)
        if kind != NOOP:
            found.append((kind, block[at + 3 : end]))
        at = end
    return tuple(found)


def _check(header: bytes, at: int, tlvs: Sequence[tuple[int, bytes]]) -> None:
    """BadProxy unless the values of the TLVs, which begin at `at`, are what their types ask for."""
    for kind, value in tlvs:
        if kind == CRC32C:
            if len(value) != 4:
                raise BadProxy("TLV CRC32C that is not of four bytes")
            _check_sum(header, at, value)
        elif kind == UNIQUE_ID and len(value) > UNIQUE_ID_MOST_BYTES:
            raise BadProxy(f"TLV UNIQUE_ID of more than {UNIQUE_ID_MOST_BYTES} bytes")
        elif kind == SSL:
            if len(value) < 5:
                raise BadProxy("TLV SSL that is cut off")
            _tlvs(value[5:], _SINGLE_IN_SSL)


def _check_sum(header: bytes, at: int, told: bytes) -> None:
    """BadProxy unless the checksum among the TLVs that begin at `at` is that of the header with zeros in its place."""
    while header[at] != CRC32C:
        at += 3 + (header[at + 1] << 8 | header[at + 2])
    if crc32c(header[: at + 3] + b"\0\0\0\0" + header[at + 7 :]) != int.from_bytes(told, "big"):
        raise BadProxy("PROXY header whose checksum is wrong")


def _value(tlvs: Iterable[tuple[int, bytes]], kind: int) -> bytes:
    """The value of the first TLV of a type; empty where there is none."""
    for each, value in tlvs:
        if each == kind:
            return value
    return b""


def _text(value: bytes) -> str:
    """A value that should be UTF-8, with escapes where it is not: a client may have written it."""
    return value.decode("utf-8", "backslashreplace")


def proxy_v1(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """A header of version 1. Where one of the two is no IP address (a unix socket), or they are of two families: UNKNOWN."""
    source_ip, destination_ip = _ip(source), _ip(destination)
    if isinstance(source_ip, IPv4Address) and isinstance(destination_ip, IPv4Address):
        word = "TCP4"
    elif isinstance(source_ip, IPv6Address) and isinstance(destination_ip, IPv6Address):
        word = "TCP6"
    else:
        return UNKNOWN_V1
    return f"PROXY {word} {source_ip} {destination_ip} {source_port} {destination_port}\r\n".encode("ascii")


def proxy_v2(
    source: str,
    source_port: int,
    destination: str,
    destination_port: int,
    tlvs: Iterable[tuple[int, bytes]] = (),
    *,
    checksum: bool = False,
) -> bytes:
    """A header of version 2 with these TLVs. Where one of the two is no IP address, or they are of two families: LOCAL and UNSPEC.

    `checksum` adds the TLV CRC32C. OverflowError for what is longer than its length can say, 65,535 bytes.
    """
    source_ip, destination_ip = _ip(source), _ip(destination)
    if source_ip is None or destination_ip is None or source_ip.version != destination_ip.version:
        # As HAProxy writes it. PROXY with UNSPEC is as good to the specification, and its version 2.6 refuses that.
        beginning, block = b"\x20\x00", b""
    else:
        beginning = b"\x21\x11" if source_ip.version == 4 else b"\x21\x21"
        block = source_ip.packed + destination_ip.packed
        block += source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    block += b"".join([tlv(kind, value) for kind, value in tlvs])
    if checksum:
        block += tlv(CRC32C, b"\0\0\0\0")
    header = SIGNATURE + beginning + len(block).to_bytes(2, "big") + block
    return header[:-4] + crc32c(header).to_bytes(4, "big") if checksum else header


def tlv(kind: int, value: bytes) -> bytes:
    """A TLV as it is written; OverflowError for a value of more than 65,535 bytes."""
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def ssl_value(
    version: str, cipher: str, common_name: str = "", client: int = CLIENT_SSL, *, verified: bool = False
) -> bytes:
    """The value of the TLV `SSL` for a client of ours that came over TLS: `version` as in `TLSv1.3`, `client` its flags."""
    inner = tlv(SSL_VERSION, version.encode("ascii"))
    if common_name:
        inner += tlv(SSL_CN, common_name.encode("utf-8"))
    return bytes((client, 0, 0, 0, 0 if verified else 1)) + inner + tlv(SSL_CIPHER, cipher.encode("ascii"))


def _ip(address: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a text is, as IPv4 if it is mapped, and without its zone, which means nothing to others."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _crc_table() -> list[int]:
    """What each byte makes of a CRC-32C (Castagnoli; RFC 4960 appendix B), by its reflected polynomial."""
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC_TABLE: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of these bytes."""
    table = _CRC_TABLE
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
