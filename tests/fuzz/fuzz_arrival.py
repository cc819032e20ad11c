"""A coverage-guided fuzz target for what a connection begins with: PROXY headers and ClientHellos; run by scripts/fuzz.

Laws: no exception but BadProxy and BadHello; what was refused, or read, is so too when more bytes come, and what was awaited is
told by no byte behind it; a header means what a plain reader of the specification makes of it, and what is written of it is
read alike; a hello means the same in other records, and names the host that OpenSSL is told, or none where that is no name.

The first byte of an input says what it is, the second chooses among what is done to it.
"""

import re
import ssl
import struct
import sys
from contextlib import nullcontext, suppress
from importlib import import_module
from ipaddress import IPv4Address, IPv6Address, ip_address

# In the suite nothing is instrumented.
atheris = import_module("atheris") if __name__ == "__main__" else None

with nullcontext() if atheris is None else atheris.instrument_imports(include=["twisted_lb.wire"]):
    from twisted_lb.wire.client_hello import BadHello, ClientHello, looks_like_http, read_hello
    from twisted_lb.wire.proxy_protocol import (
        CRC32C,
        SIGNATURE,
        UNIQUE_ID,
        UNKNOWN_V1,
        BadProxy,
        ProxyHeader,
        crc32c,
        proxy_v1,
        proxy_v2,
        read_proxy,
    )

MOST = 4096
# Of longer inputs only so many beginnings are tried, at the end.
BEGINNINGS = 64


def proxy_told(header: ProxyHeader) -> tuple:
    addresses = header.source, header.source_port, header.destination, header.destination_port
    ssl_told = header.ssl and (header.ssl.version, header.ssl.common_name, header.ssl.cipher, header.ssl.verified)
    known = header.alpn, header.authority, header.unique_id, ssl_told
    return header.version, header.local, addresses, header.tlvs, header.size, known


def hello_told(hello: ClientHello) -> tuple:
    return hello.server_name, hello.alpn, hello.versions, hello.size


def proxy_judged(data: bytes) -> object:
    try:
        header = read_proxy(data)
    except BadProxy:
        return "refused"
    return None if header is None else proxy_told(header)


def hello_judged(data: bytes) -> object:
    try:
        hello = read_hello(data)
    except BadHello:
        return "refused"
    return None if hello is None else hello_told(hello)


def check_beginnings(judged, data: bytes) -> None:
    """What is said of a beginning is said of all that begins so."""
    last = judged(data)
    for end in range(max(0, len(data) - BEGINNINGS), len(data)):
        assert judged(data[:end]) in (None, last), (end, data)
    for end in range(min(20, len(data))):
        assert judged(data[:end]) in (None, last), (end, data)


# The plain twin of the PROXY reader, for bytes that are a whole header: None for what it does not know.


def plainly_read(header: bytes) -> tuple | None:
    if header.startswith(b"PROXY "):
        assert header.index(b"\r\n") == len(header) - 2 <= 105, header
        word, *parts = header[6:-2].split(b" ")
        if word == b"UNKNOWN":
            return "", 0, "", 0
        source, destination, *ports = [part.decode("ascii") for part in parts]
        kind = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}[word]
        assert all(re.fullmatch("[0-9]+", port) and str(int(port)) == port for port in ports), header
        source_port, destination_port = map(int, ports)
        return plain(kind(source)), source_port, plain(kind(destination)), destination_port
    assert header.startswith(SIGNATURE), header
    command, family, length = struct.unpack_from("!BBH", header, 12)
    assert (command >> 4, length) == (2, len(header) - 16), header
    if command == 0x21 and family == 0x11:
        source, destination, *ports = struct.unpack_from("!4s4sHH", header, 16)
        return plain(IPv4Address(source)), ports[0], plain(IPv4Address(destination)), ports[1]
    if command == 0x21 and family == 0x21:
        source, destination, *ports = struct.unpack_from("!16s16sHH", header, 16)
        return plain(IPv6Address(source)), ports[0], plain(IPv6Address(destination)), ports[1]
    assert command == 0x20 or family in (0, 0x31), header
    return "", 0, "", 0


def plain(ip: IPv4Address | IPv6Address) -> str:
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def check_proxy(data: bytes) -> None:
    check_beginnings(proxy_judged, data)
    try:
        header = read_proxy(data)
    except BadProxy:
        return
    if header is None:
        assert len(data) < MOST, data
        return
    assert 15 <= header.size <= min(len(data), MOST), data
    assert proxy_judged(data[: header.size]) == proxy_judged(data + b"\r\n") == proxy_told(header), data
    addresses = header.source, header.source_port, header.destination, header.destination_port
    assert addresses == plainly_read(data[: header.size]), data
    assert not header.source or str(ip_address(header.source)) == header.source, data
    if header.source and (":" in header.source) == (":" in header.destination):
        one, two = read_proxy(proxy_v1(*addresses)), read_proxy(proxy_v2(*addresses, header.tlvs[:0]))
        assert proxy_told(one)[2] == proxy_told(two)[2] == addresses, data
    else:
        assert proxy_v1(*addresses) == UNKNOWN_V1, data


def check_written(data: bytes, at: int) -> None:
    """TLVs made of these bytes, each twice as long as its first byte says, are read as they were written; broken they are not."""
    tlvs: list[tuple[int, bytes]] = []
    rest = data
    while len(rest) >= 2:
        kind, size = rest[0], rest[1] * 2
        tlvs.append((kind, rest[2 : 2 + size]))
        rest = rest[2 + size :]
    written = proxy_v2("192.0.2.1", 1, "192.0.2.2", 2, tlvs, checksum=True)
    check_proxy(written)
    judged = proxy_judged(written)
    kinds = [kind for kind, _ in tlvs]
    if CRC32C in kinds:
        assert judged == "refused", written
    if judged == "refused":
        return
    assert judged[3][:-1] == tuple(one for one in tlvs if one[0] != 4), written
    assert all(len(value) <= 128 for kind, value in tlvs if kind == UNIQUE_ID), written
    broken_at = 16 + at % (len(written) - 16)
    broken = written[:broken_at] + bytes((written[broken_at] ^ 0x55,)) + written[broken_at + 1 :]
    again = proxy_judged(broken)
    # Only where the checksum itself became something else is anything read.
    assert again == "refused" or CRC32C not in [kind for kind, _ in again[3]], broken
    assert crc32c(written[:-4] + bytes(4)) == int.from_bytes(written[-4:], "big"), written


NAMES: list[str | None] = []
SERVER = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
SERVER.sni_callback = lambda connection, name, context: NAMES.append(name)
DNS_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}")


def openssl_is_told(hello: bytes) -> list[str | None]:
    """The name that OpenSSL tells a server, if it tells one at all."""
    NAMES.clear()
    inbound = ssl.MemoryBIO()
    connection = SERVER.wrap_bio(inbound, ssl.MemoryBIO(), server_side=True)
    inbound.write(hello)
    # A name that is not ASCII never arrives, and the standard library complains of it where nobody can catch it.
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    with suppress(ssl.SSLError):
        connection.do_handshake()
    sys.unraisablehook = hook
    return list(NAMES)


def check_hello(data: bytes, size: int) -> None:
    check_beginnings(hello_judged, data)
    try:
        hello = read_hello(data)
    except BadHello:
        return
    assert not looks_like_http(data), data
    if hello is None:
        assert len(data) < 1 << 14, data
        return
    assert 9 <= hello.size <= min(len(data), 1 << 14), data
    records = data[: hello.size]
    message = b""
    at = 0
    while at < len(records):
        kind, major, _, length = struct.unpack_from("!BBBH", records, at)
        assert (kind, major) == (22, 3), data
        message += records[at + 5 : at + 5 + length]
        at += 5 + length
    assert at == len(records) and len(message) == 4 + int.from_bytes(message[1:4], "big"), data
    size = max(size, len(message) // 250 + 1)
    others = b"".join(
        b"\x16\x03\x03" + struct.pack("!H", len(piece)) + piece
        for piece in (message[at : at + size] for at in range(0, len(message), size))
    )
    if len(others) <= 1 << 14:
        assert hello_judged(others)[:3] == hello_told(hello)[:3], data
    check_name(records, hello.server_name)


def check_name(records: bytes, name: str) -> None:
    assert not name or DNS_NAME.fullmatch(name), records
    for seen in openssl_is_told(records):
        lower = (seen or "").lower().removesuffix(".")
        if DNS_NAME.fullmatch(lower) and not lower.rpartition(".")[2].isdigit():
            assert name == lower, (seen, records)
        else:
            assert not name, (seen, records)


def one(data: bytes) -> None:
    if len(data) < 3:
        return
    kind, choice, rest = data[0], data[1], data[2:]
    if kind % 3 == 0:
        check_proxy(rest)
    elif kind % 3 == 1:
        check_written(rest[:2000], choice)
    else:
        check_hello(rest, choice + 1)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
