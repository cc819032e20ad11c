"""The PROXY protocol: what is a header, what is none and from which byte on, and what is written is read alike."""

import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.proxy_protocol import (
    ALPN,
    AUTHORITY,
    CLIENT_CERT_CONN,
    CLIENT_CERT_SESS,
    CLIENT_SSL,
    CRC32C,
    LOCAL_V2,
    NOOP,
    SIGNATURE,
    SSL,
    SSL_CN,
    SSL_VERSION,
    UNIQUE_ID,
    UNKNOWN_V1,
    BadProxy,
    ProxyHeader,
    crc32c,
    proxy_v1,
    proxy_v2,
    read_proxy,
    ssl_value,
    tlv,
)

# What the specification shows (2.1), with the request that follows.
EXAMPLE = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
BEHIND = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"
LONGEST_IPV6 = "ffff:" * 7 + "ffff"
NETNS, CUSTOM = 0x30, 0xE0


def told(header: ProxyHeader) -> tuple:
    return header.source, header.source_port, header.destination, header.destination_port


def v2(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """A header of version 2, made by hand."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


TCP4 = bytes((192, 168, 0, 1, 192, 168, 0, 11)) + struct.pack("!HH", 56324, 443)
TCP6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + struct.pack("!HH", 56324, 443)
UNIX = b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0")
ALL_TLVS = (
    (ALPN, b"h2"),
    (AUTHORITY, b"shop.example"),
    (UNIQUE_ID, b"u" * 128),
    (SSL, ssl_value("TLSv1.3", "TLS_AES_128_GCM_SHA256", "alice", CLIENT_SSL | CLIENT_CERT_CONN, verified=True)),
    (NETNS, b"blue"),
    (CUSTOM, b""),
    (CUSTOM, b"again"),
)
VALID = {
    "v1 TCP4": EXAMPLE,
    "v1 TCP4, longest": b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
    "v1 TCP4, shortest": b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
    "v1 TCP6": b"PROXY TCP6 2001:DB8::1 ::1 56324 443\r\n",
    "v1 TCP6, longest": f"PROXY TCP6 {LONGEST_IPV6} {LONGEST_IPV6} 65535 65535\r\n".encode(),
    "v1 TCP6, IPv4 in it": b"PROXY TCP6 ::ffff:192.168.0.1 64:ff9b::192.0.2.33 1 2\r\n",
    "v1 UNKNOWN": UNKNOWN_V1,
    "v1 UNKNOWN, longest": f"PROXY UNKNOWN {LONGEST_IPV6} {LONGEST_IPV6} 65535 65535\r\n".encode(),
    "v1 UNKNOWN and anything": b"PROXY UNKNOWN \0\xff \r \n PROXY TCP4\r\n",
    "v2 LOCAL": LOCAL_V2,
    "v2 LOCAL with a block": v2(0x20, 0xFF, b"\1\2\3"),
    "v2 UNSPEC": v2(0x21, 0, b""),
    "v2 UNSPEC with a block": v2(0x21, 0, b"\1\2\3"),
    "v2 TCP4": v2(0x21, 0x11, TCP4),
    "v2 TCP6": v2(0x21, 0x21, TCP6),
    "v2 unix": v2(0x21, 0x31, UNIX + tlv(AUTHORITY, b"a")),
    "v2 with TLVs": proxy_v2("192.168.0.1", 56324, "192.168.0.11", 443, ALL_TLVS),
    "v2 with a checksum": proxy_v2("2001:db8::1", 1, "2001:db8::2", 2, ALL_TLVS, checksum=True),
    "v2, longest": v2(0x21, 0x11, TCP4 + tlv(CUSTOM, b"x" * (4096 - 16 - 12 - 3))),
}
valid = pytest.mark.parametrize("header", VALID.values(), ids=VALID)


@valid
@pytest.mark.parametrize("behind", [b"", BEHIND, b"\r\n", EXAMPLE], ids=["nothing", "a request", "CRLF", "another"])
def test_a_header_is_as_long_as_it_is_whatever_comes_behind_it(header, behind):
    assert read_proxy(header + behind).size == len(header)


@valid
def test_of_a_header_that_has_not_come_wholly_more_is_awaited(header):
    assert [read_proxy(header[:end]) for end in range(len(header))] == [None] * len(header)


@valid
def test_one_byte_changed_is_another_header_or_refused(header):
    rng = Random(7)
    for at in range(len(header)):
        for byte in {rng.randrange(256) for _ in range(8)} | {header[at] ^ 1, header[at] ^ 0x20, 0, 255}:
            changed = header[:at] + bytes((byte,)) + header[at + 1 :]
            with suppress(BadProxy):
                found = read_proxy(changed + BEHIND)
                assert found is None or 15 <= found.size <= len(changed + BEHIND), changed


def test_the_example_of_the_specification():
    header = read_proxy(EXAMPLE + BEHIND)
    assert told(header) == ("192.168.0.1", 56324, "192.168.0.11", 443)
    assert (header.version, header.local, header.tlvs, header.size) == (1, False, (), 47)
    assert proxy_v1(*told(header)) == EXAMPLE
    assert repr(header) == "<ProxyHeader v1 192.168.0.1 56324, 47 bytes>"


def test_the_lengths_are_those_that_the_specification_counts():
    lengths = [
        len(VALID[name]) for name in ("v1 TCP4, longest", "v1 TCP6, longest", "v1 UNKNOWN", "v1 UNKNOWN, longest")
    ]
    assert lengths == [56, 104, 15, 107]


def test_an_ipv6_address_has_one_spelling():
    header = read_proxy(b"PROXY TCP6 2001:0DB8:0:0::00A1 0:0:0:0:0:0:0:1 0 65535\r\n")
    assert told(header) == ("2001:db8::a1", 0, "::1", 65535)


@pytest.mark.parametrize("make", [proxy_v1, proxy_v2])
@pytest.mark.parametrize(
    ("source", "destination", "read"),
    [
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", ("192.0.2.1", "192.0.2.2")),
        ("::ffff:192.0.2.1", "192.0.2.2", ("192.0.2.1", "192.0.2.2")),
        ("fe80::1%eth0", "fe80::2%eth0", ("fe80::1", "fe80::2")),
        ("192.0.2.1", "2001:db8::1", ("", "")),
        ("2001:db8::1", "192.0.2.1", ("", "")),
        ("", "192.0.2.1", ("", "")),
        ("unix:/run/a.sock", "unix:/run/b.sock", ("", "")),
        ("localhost", "127.0.0.1", ("", "")),
        ("010.0.0.1", "127.0.0.1", ("", "")),
    ],
)
def test_what_is_no_pair_of_addresses_of_one_family_is_written_as_unknown(make, source, destination, read):
    header = read_proxy(make(source, 1, destination, 2))
    assert (header.source, header.destination) == read
    # In version 2 nobody is said to be there by what every receiver has to take.
    assert header.local == (header.version == 2 and not read[0])
    assert (header.source_port, header.destination_port) == ((1, 2) if read[0] else (0, 0))


def test_an_ipv4_mapped_address_is_read_as_the_ipv4_one():
    line = read_proxy(b"PROXY TCP6 ::ffff:192.0.2.1 ::FFFF:C000:0202 1 2\r\n")
    mapped = IPv6Address("::ffff:192.0.2.1").packed + IPv6Address("::ffff:192.0.2.2").packed
    binary = read_proxy(v2(0x21, 0x21, mapped + b"\0\1\0\2"))
    assert told(line) == told(binary) == ("192.0.2.1", 1, "192.0.2.2", 2)


@pytest.mark.parametrize("name", [name for name in VALID if "UNKNOWN" in name or "LOCAL" in name or "UNSPEC" in name])
def test_where_nothing_is_said_the_connection_speaks_for_itself(name):
    header = read_proxy(VALID[name])
    assert told(header) == ("", 0, "", 0)
    assert header.tlvs == ()
    assert header.local == ("LOCAL" in name)


def test_of_a_unix_socket_the_addresses_are_not_told_but_what_stands_behind_them_is():
    header = read_proxy(VALID["v2 unix"])
    assert (told(header), header.authority, header.local) == (("", 0, "", 0), "a", False)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11  56324 443\r\n",
        b"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY  TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY\tTCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4\t192.168.0.1 192.168.0.11 56324 443\r\n",
        b" PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"proxy TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY tcp4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP5 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 2001:db8::2 56324 443\r\n",
        b"PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.256 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1. 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 0xc0.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 99999\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 00 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 5_6324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 +56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 \xd9\xa1\r\n",
        b"PROXY TCP4 \xd9\xa1.168.0.1 192.168.0.11 56324 443\r\n",
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\0\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 56324 443\r\n",
        b"PROXY TCP6 [2001:db8::1] 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 2001:db8::1::2 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 2001:db8:1 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 1:2:3:4:5:6:7:8:9 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 20010:db8::1 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 ::192.168.0.256 2001:db8::2 56324 443\r\n",
        b"PROXY TCP6 2001:db8::/32 2001:db8::2 56324 443\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN\t\r\n",
        b"PROXY UNKNOWN" + b" " * 93 + b"\r\n",
        b"PROXY \r\n",
        b"PROXY\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\0\1\0",
        b"\r\n\r\n\r\n",
    ],
)
def test_what_is_no_line_of_version_1_is_refused(line):
    with pytest.raises(BadProxy):
        read_proxy(line + b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("bytes_", "refused_at"),
    [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"\x16\x03\x01", 1),
        (b"\n", 1),
        (b"PUT / HTTP/1.1\r\n", 2),
        (b"PRI * HTTP/2.0\r\n", 3),
        (b"\r\nGET /", 3),
        (b"PROXY UDP4 ", 8),
        (b"PROXY TCP5 ", 10),
        (b"PROXY TCP4 a", 12),
        (b"PROXY TCP4 ::1 ", 12),
        (b"PROXY TCP6 ::1%", 15),
        (b"PROXY TCP4 1.2.3.4\r ", 20),
        (b"PROXY TCP4 " + b"1" * 200, 55),
        (b"PROXY UNKNOWNS", 14),
        (b"PROXY TCP6 " + b"f" * 200, 107),
        (b"PROXY UNKNOWN " + b"f" * 200, 107),
        (SIGNATURE + b"\x11", 13),
        (SIGNATURE + b"\x22", 13),
        (SIGNATURE + b"\x21\x41", 14),
        (SIGNATURE + b"\x21\x12", 14),
        (SIGNATURE + b"\x21\x11\0\x0b", 16),
        (SIGNATURE + b"\x21\x11\x0f\xf1", 16),
        (SIGNATURE + b"\x20\x00\xff\xff", 16),
    ],
)
def test_it_is_refused_with_the_first_byte_that_cannot_belong_to_a_header(bytes_, refused_at):
    assert [read_proxy(bytes_[:end]) for end in range(refused_at)] == [None] * refused_at
    for end in range(refused_at, len(bytes_) + 1):
        with pytest.raises(BadProxy):
            read_proxy(bytes_[:end])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (v2(0x11, 0x11, TCP4), "version 1, command 1"),
        (v2(0x31, 0x11, TCP4), "version 3"),
        (v2(0x22, 0x11, TCP4), "command 2"),
        (v2(0x21, 0x10, TCP4), "protocol 0"),
        (v2(0x21, 0x01, b""), "family 0, protocol 1"),
        (v2(0x21, 0x12, TCP4), "protocol 2"),
        (v2(0x21, 0x22, TCP6), "protocol 2"),
        (v2(0x21, 0x32, UNIX), "protocol 2"),
        (v2(0x21, 0x13, TCP4), "protocol 3"),
        (v2(0x21, 0x41, TCP4), "family 4"),
        (v2(0x21, 0x11, TCP4[:-1]), "too short for its addresses"),
        (v2(0x21, 0x21, TCP6[:-1]), "too short for its addresses"),
        (v2(0x21, 0x31, UNIX[:-1]), "too short for its addresses"),
        (v2(0x21, 0x11, b""), "too short for its addresses"),
        (v2(0x21, 0x11, TCP4 + b"\xe0"), "cut off"),
        (v2(0x21, 0x11, TCP4 + b"\xe0\0"), "cut off"),
        (v2(0x21, 0x11, TCP4 + b"\xe0\0\2x"), "longer than what it is in"),
        (v2(0x21, 0x11, TCP4 + tlv(NOOP, b"") + b"\0"), "cut off"),
        (v2(0x21, 0x11, TCP4 + tlv(ALPN, b"a") * 2), "TLV 0x01 twice"),
        (v2(0x21, 0x11, TCP4 + tlv(AUTHORITY, b"a") + tlv(AUTHORITY, b"b")), "TLV 0x02 twice"),
        (v2(0x21, 0x11, TCP4 + tlv(UNIQUE_ID, b"a") + tlv(NOOP, b"") + tlv(UNIQUE_ID, b"a")), "TLV 0x05 twice"),
        (v2(0x21, 0x11, TCP4 + tlv(SSL, b"\1\0\0\0\0") * 2), "TLV 0x20 twice"),
        (v2(0x21, 0x11, TCP4 + tlv(CRC32C, b"\0\0\0\0") * 2), "TLV 0x03 twice"),
        (v2(0x21, 0x11, TCP4 + tlv(UNIQUE_ID, b"a" * 129)), "more than 128"),
        (v2(0x21, 0x11, TCP4 + tlv(SSL, b"")), "SSL that is cut off"),
        (v2(0x21, 0x11, TCP4 + tlv(SSL, b"\1\0\0\0")), "SSL that is cut off"),
        (v2(0x21, 0x11, TCP4 + tlv(SSL, b"\1\0\0\0\0" + tlv(SSL_VERSION, b"TLSv1.3")[:-1])), "longer than what"),
        (v2(0x21, 0x11, TCP4 + tlv(SSL, b"\1\0\0\0\0" + tlv(SSL_CN, b"a") + tlv(SSL_CN, b"b"))), "TLV 0x22 twice"),
        (v2(0x21, 0x11, TCP4 + tlv(CRC32C, b"\0\0\0")), "four bytes"),
        (v2(0x21, 0x11, TCP4 + tlv(CRC32C, b"\0\0\0\0\0")), "four bytes"),
        (v2(0x21, 0x11, TCP4 + tlv(CRC32C, b"\0\0\0\0")), "checksum"),
        (v2(0x21, 0x11, TCP4 + tlv(CUSTOM, b"x" * 4066)), "more than 4096"),
    ],
)
def test_what_is_no_header_of_version_2_is_refused(header, reason):
    with pytest.raises(BadProxy, match=reason):
        read_proxy(header)


def test_the_tlvs_are_told_in_their_order_without_padding():
    padded = v2(
        0x21, 0x11, TCP4 + tlv(NOOP, b"xx") + tlv(CUSTOM, b"1") + tlv(NOOP, b"") + tlv(ALPN, b"h2") + tlv(CUSTOM, b"")
    )
    assert read_proxy(padded).tlvs == ((CUSTOM, b"1"), (ALPN, b"h2"), (CUSTOM, b""))


def test_what_has_a_meaning_has_a_name():
    header = read_proxy(VALID["v2 with TLVs"])
    assert header.tlvs == ALL_TLVS
    assert (header.alpn, header.authority, header.unique_id) == ("h2", "shop.example", b"u" * 128)
    ssl = header.ssl
    assert (ssl.version, ssl.cipher, ssl.common_name) == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "alice")
    assert (ssl.client, ssl.verified) == (CLIENT_SSL | CLIENT_CERT_CONN, True)


def test_where_nothing_is_said_of_it_there_is_nothing():
    header = read_proxy(VALID["v2 TCP4"])
    assert (header.alpn, header.authority, header.unique_id, header.ssl) == ("", "", b"", None)


@pytest.mark.parametrize(
    ("client", "failure", "verified"),
    [
        (CLIENT_SSL, 0, False),  # so senders do that had no certificate to verify
        (CLIENT_SSL, 1, False),
        (CLIENT_SSL | CLIENT_CERT_CONN, 0, True),
        (CLIENT_SSL | CLIENT_CERT_SESS, 0, True),
        (CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS, 18, False),
        (CLIENT_SSL | CLIENT_CERT_CONN, 1 << 24, False),
    ],
)
def test_a_client_is_verified_only_by_a_certificate_that_is_good(client, failure, verified):
    value = struct.pack("!BI", client, failure) + tlv(SSL_VERSION, b"TLSv1.2")
    ssl = read_proxy(v2(0x21, 0x11, TCP4 + tlv(SSL, value))).ssl
    assert (ssl.verified, ssl.version, ssl.common_name, ssl.cipher) == (verified, "TLSv1.2", "", "")


def test_what_a_client_wrote_is_a_text_whatever_it_is():
    names = v2(0x21, 0x11, TCP4 + tlv(AUTHORITY, "bücher.example".encode()))
    assert read_proxy(names).authority == "bücher.example"
    broken = v2(0x21, 0x11, TCP4 + tlv(AUTHORITY, b"a\xff\xfe") + tlv(SSL, b"\1\0\0\0\0" + tlv(SSL_CN, b"\xc3")))
    assert (read_proxy(broken).authority, read_proxy(broken).ssl.common_name) == (r"a\xff\xfe", r"\xc3")


@pytest.mark.parametrize(
    ("data", "sum_"),
    [
        # RFC 3720 B.4, which has the bytes in the other order.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_the_checksum_is_castagnolis(data, sum_):
    assert crc32c(data) == sum_


def test_a_checksum_is_that_of_all_bytes_of_its_header_and_of_none_behind_it():
    header = VALID["v2 with a checksum"]
    assert read_proxy(header + BEHIND).tlvs[:-1] == ALL_TLVS
    type_of_it = len(header) - 7  # by which it is a checksum at all
    for at in {*range(16, len(header))} - {type_of_it}:
        with pytest.raises(BadProxy):
            read_proxy(header[:at] + bytes((header[at] ^ 4,)) + header[at + 1 :])


def test_a_checksum_may_stand_anywhere_among_the_others():
    block = TCP4 + tlv(NOOP, b"\3\0\4\3") + tlv(CRC32C, b"\0\0\0\0") + tlv(AUTHORITY, b"a")
    bare = v2(0x21, 0x11, block)
    at = bare.index(tlv(CRC32C, b"\0\0\0\0"))
    header = bare[: at + 3] + crc32c(bare).to_bytes(4, "big") + bare[at + 7 :]
    assert read_proxy(header).authority == "a"


ports = st.integers(0, 65535)
pairs = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
tlvs = st.lists(
    st.tuples(st.integers(0xE0, 0xEF) | st.just(NETNS), st.binary(max_size=40))
    | st.tuples(st.just(SSL), st.builds(ssl_value, st.just("TLSv1.3"), st.just("X"), st.text(max_size=9)))
    | st.tuples(st.sampled_from([ALPN, AUTHORITY, UNIQUE_ID]), st.binary(max_size=128)),
    max_size=6,
    unique_by=lambda one: one[0],
)


def plain(ip: IPv4Address | IPv6Address) -> str:
    return str(getattr(ip, "ipv4_mapped", None) or ip)


@given(pairs, ports, ports, st.binary(max_size=20))
def test_what_is_written_in_version_1_is_read_alike(pair, source_port, destination_port, behind):
    source, destination = map(plain, pair)
    written = proxy_v1(source, source_port, destination, destination_port)
    assert len(written) <= 107
    if (":" in source) == (":" in destination):
        assert told(read_proxy(written + behind)) == (source, source_port, destination, destination_port)
    else:
        assert written == UNKNOWN_V1


@given(pairs, ports, ports, tlvs, st.booleans(), st.binary(max_size=20))
def test_what_is_written_in_version_2_is_read_alike(pair, source_port, destination_port, more, checksum, behind):
    source, destination = map(plain, pair)
    written = proxy_v2(source, source_port, destination, destination_port, more, checksum=checksum)
    header = read_proxy(written + behind)
    assert header.size == len(written)
    if (":" in source) == (":" in destination):
        assert told(header) == (source, source_port, destination, destination_port)
        assert [one for one in header.tlvs if one[0] != CRC32C] == more
        assert len(header.tlvs) == len(more) + checksum
    else:
        assert (told(header), header.tlvs) == (("", 0, "", 0), ())


@given(
    st.binary(max_size=80)
    | st.binary(max_size=80).map(SIGNATURE.__add__)
    | st.binary(max_size=80).map(b"PROXY ".__add__)
)
def test_whatever_comes_is_a_header_or_none_and_more_bytes_do_not_change_that(data):
    judged = ""
    for end in range(len(data) + 1):
        try:
            header = read_proxy(data[:end])
        except BadProxy:
            now = "refused"
        else:
            now = "" if header is None else f"{header!r} {told(header)}"
        assert judged in ("", now), data
        judged = now


def test_a_value_too_long_to_be_written_is_an_error():
    with pytest.raises(OverflowError):
        tlv(CUSTOM, bytes(65536))
    with pytest.raises(OverflowError):
        proxy_v2("192.0.2.1", 1, "192.0.2.2", 2, [(CUSTOM, bytes(65535))])
