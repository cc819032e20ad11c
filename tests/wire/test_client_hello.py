"""The ClientHello: what real clients say is read as real servers read it, however it is cut, and what is broken is refused."""

import ssl
import struct
from collections.abc import Iterable
from contextlib import suppress
from random import Random

import pytest
from hellos import (
    GREASE,
    LIKE_A_BROWSERS,
    alpn_of,
    body,
    hello,
    message,
    records,
    server_name,
    vector,
    versions_of,
)
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.client_hello import (
    DECODE_ERROR,
    HANDSHAKE_FAILURE,
    INTERNAL_ERROR,
    PROTOCOL_VERSION,
    RECORDS_MOST,
    UNRECOGNIZED_NAME,
    BadHello,
    ClientHello,
    alert,
    looks_like_http,
    read_hello,
)

BEHIND = b"\x17\x03\x03\0\2hi"  # early data


def client(name: str | None = "shop.example", alpn: Iterable[str] = (), newest: ssl.TLSVersion | None = None):
    """A client of the standard library that has said hello: itself, what it reads, what it has written."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Anonymous key exchange: whoever agrees to it needs no certificate.
    context.set_ciphers("ALL:aNULL:@SECLEVEL=0")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if newest is not None:
        context.maximum_version = newest
    inbound, outbound = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(inbound, outbound, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return connection, inbound, outbound


def real_hello(*args, **more) -> bytes:
    return client(*args, **more)[2].read()


def seen_by_a_server(hello: bytes, alpn: Iterable[str] = ()) -> tuple[str | None, str | None]:
    """The name that a server of the standard library is told, and the protocol that it agrees to, after this hello."""
    names = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    context.sni_callback = lambda connection, name, of: names.append(name)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    inbound = ssl.MemoryBIO()
    connection = context.wrap_bio(inbound, ssl.MemoryBIO(), server_side=True)
    inbound.write(hello)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    (name,) = names
    return name, connection.selected_alpn_protocol()


REAL = {
    "TLS 1.3": real_hello(),
    "with ALPN": real_hello(alpn=("h2", "http/1.1")),
    "without a name": real_hello(None, ("http/1.1",)),
    "TLS 1.2": real_hello(newest=ssl.TLSVersion.TLSv1_2, alpn=("h2",)),
    "TLS 1.2 without a name": real_hello(None, newest=ssl.TLSVersion.TLSv1_2),
    "like a browser's": LIKE_A_BROWSERS,
}
real = pytest.mark.parametrize("data", REAL.values(), ids=REAL)


def told(found: ClientHello) -> tuple:
    return found.server_name, found.alpn, found.versions


@real
def test_of_a_hello_that_has_not_come_wholly_more_is_awaited(data):
    assert [read_hello(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert read_hello(data).size == read_hello(data + BEHIND).size == len(data)


@real
@pytest.mark.parametrize("size", [7, 50, 1000])
def test_a_hello_is_the_same_in_several_records(data, size):
    many = records(data[5:], size)
    assert told(read_hello(many + BEHIND)) == told(read_hello(data))
    assert read_hello(many).size == len(many)
    assert all(read_hello(many[:end]) is None for end in range(len(many)))


def test_a_hello_is_the_same_in_two_records_wherever_it_is_cut():
    whole = REAL["with ALPN"]
    for at in range(1, len(whole) - 5):
        halves = records(whole[5 : 5 + at]) + records(whole[5 + at :])
        assert told(read_hello(halves)) == told(read_hello(whole)), at


@real
def test_one_byte_changed_is_another_hello_or_refused(data):
    rng = Random(16)
    for at in range(len(data)):
        for byte in {rng.randrange(256), data[at] ^ 1, data[at] ^ 0x80, 0, 255}:
            with suppress(BadHello):
                found = read_hello(data[:at] + bytes((byte,)) + data[at + 1 :] + BEHIND)
                assert found is None or found.size <= len(data) + len(BEHIND)


def test_what_a_client_says_is_what_is_read():
    assert told(read_hello(REAL["TLS 1.3"])) == ("shop.example", (), (0x0304, 0x0303))
    assert told(read_hello(REAL["with ALPN"])) == ("shop.example", ("h2", "http/1.1"), (0x0304, 0x0303))
    assert told(read_hello(REAL["without a name"])) == ("", ("http/1.1",), (0x0304, 0x0303))
    assert told(read_hello(REAL["TLS 1.2"])) == ("shop.example", ("h2",), (0x0303,))
    assert repr(read_hello(REAL["TLS 1.2 without a name"])).startswith("<ClientHello without a name, ")


def test_what_browsers_put_between_is_passed_over():
    found = read_hello(LIKE_A_BROWSERS)
    assert told(found) == ("www.shop.example", ("h2", "http/1.1"), (0x0304, 0x0303))
    assert found.size > 1500  # two segments


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "name", ["shop.example", "SHOP.Example", "a_b.example", "xn--bcher-kva.example", "x" * 63 + ".example"]
)
@pytest.mark.parametrize("offered", [(), ("h2", "http/1.1"), ("http/1.1", "h2"), ("acme-tls/1",)])
def test_a_server_sees_the_same_name_and_agrees_to_a_protocol_of_those(version, name, offered):
    data = real_hello(name, offered, version)
    found = read_hello(data)
    ours = ("h2", "http/1.1")
    # The server's order counts.
    agreed = next((one for one in ours if one in found.alpn), None)
    seen, selected = seen_by_a_server(data, ours)
    assert (found.server_name, found.alpn) == (seen.lower(), offered)
    assert selected == agreed


def test_a_server_is_told_no_name_where_none_is_read():
    assert seen_by_a_server(REAL["TLS 1.2 without a name"])[0] is None


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b"shop.example", "shop.example"),
        (b"Shop.EXAMPLE", "shop.example"),
        (b"shop.example.", "shop.example"),
        (b"localhost", "localhost"),
        (b"_dmarc.shop.example", "_dmarc.shop.example"),
        (b"3com.example", "3com.example"),
        (b"1.2.3.4.example", "1.2.3.4.example"),
        (b"a" * 63 + b".b", "a" * 63 + ".b"),
        ((b"a" * 49 + b".") * 5 + b"abc", ("a" * 49 + ".") * 5 + "abc"),
        ((b"a" * 49 + b".") * 5 + b"abcd", ""),
        (b"a" * 64 + b".b", ""),
        (b"192.0.2.1", ""),
        (b"192.0.2.1.", ""),
        (b"127.1", ""),
        (b"2130706433", ""),
        (b"2001:db8::1", ""),
        (b"[2001:db8::1]", ""),
        (b"shop.example..", ""),
        (b".shop.example", ""),
        (b"shop..example", ""),
        (b".", ""),
        (b"*.example", ""),
        (b"shop.example\0", ""),
        (b"shop.example\n", ""),
        (b"shop example", ""),
        (b"shop.example/..", ""),
        (b"shop.example:443", ""),
        (b"x" * 3000, ""),
    ],
)
def test_a_name_is_one_of_dns_or_none(sent, read):
    assert read_hello(hello(server_name(sent))).server_name == read


@pytest.mark.parametrize("sent", [b"b\xc3\xbccher.example", b"\xff", b"a\x80"])
def test_a_name_that_is_no_ascii_is_refused_since_nobody_could_be_told_of_it(sent):
    with pytest.raises(BadHello, match="no ASCII"):
        read_hello(hello(server_name(sent)))


@pytest.mark.parametrize(
    ("extensions", "legacy", "versions"),
    [
        ([], 0x0301, (0x0301,)),
        ([], 0x0300, (0x0300,)),
        ([server_name(b"a")], 0x0303, (0x0303,)),
        ([versions_of(0x0304)], 0x0303, (0x0304,)),
        ([versions_of(0x0303, 0x0304, 0x0301)], 0x0303, (0x0303, 0x0304, 0x0301)),
        ([versions_of(*GREASE, 0x0304)], 0x0303, (0x0304,)),
        ([versions_of(0x0A1A, 0x7F1C)], 0x0303, (0x0A1A, 0x7F1C)),
        # RFC 8446 4.2.1: only what it lists counts.
        ([versions_of(0x2A2A)], 0x0303, ()),
    ],
)
def test_the_versions_are_those_that_it_lists_else_its_own(extensions, legacy, versions):
    assert read_hello(hello(*extensions, legacy=legacy)).versions == versions


def test_names_of_protocols_are_any_bytes():
    assert read_hello(hello(alpn_of(b"h2", b"\xfa\xfa", b"\0", b"x" * 255))).alpn == ("h2", "\xfa\xfa", "\0", "x" * 255)


CUT_LIST = vector(2, b"\0" + vector(2, b"shop.example"))
BROKEN_BODIES = {
    "nothing": b"",
    "no session": body()[:34],
    "a session that is cut off": body()[:40],
    "a long session": body(session=b"s" * 33),
    "no suites": body()[: 35 + 32],
    "a list of no suites": body(suites=b""),
    "half a suite": body(suites=b"\x13\x01\xc0"),
    "no list of compressions": body()[:-2],
    "a list of no compressions": body(compressions=b""),
    "one byte of extensions": body() + b"\0",
    "extensions that are cut off": body(server_name(b"a"))[:-1],
    "something behind the extensions": body(server_name(b"a")) + b"\0",
    "half an extension": body() + vector(2, b"\0\x15\0"),
    "an extension that is too long": body() + vector(2, b"\0\x15\0\1"),
    "server_name twice": body(server_name(b"a"), server_name(b"a")),
    "two server_names": body(server_name(b"a"), (21, b""), server_name(b"b")),
    "any extension twice": body((0x1A1A, b""), (0x1A1A, b"")),
    "no names": body(server_name()),
    "two names": body(server_name(b"a", b"b")),
    "an empty name": body(server_name(b"")),
    "a name of another kind": body(server_name(b"a", kind=1)),
    "an empty server_name": body((0, b"")),
    "server_name cut off": body((0, CUT_LIST[:-1])),
    "server_name with more": body((0, CUT_LIST + b"x")),
    "a list of names that is too short": body((0, vector(2, b"\0" + vector(2, b"a")[:-1]))),
    "a name that is too long": body((0, vector(2, b"\0\0\5abc"))),
    "a name that is too short": body((0, vector(2, b"\0\0\1abc"))),
    "empty ALPN": body((16, b"")),
    "ALPN without protocols": body(alpn_of()),
    "a protocol without a name": body(alpn_of(b"h2", b"")),
    "a protocol cut off": body((16, vector(2, b"\3h2"))),
    "ALPN with more": body((16, vector(2, b"\2h2") + b"x")),
    "no versions": body(versions_of()),
    "empty supported_versions": body((43, b"")),
    "half a version": body((43, b"\3\3\4\3")),
    "supported_versions with more": body((43, b"\2\3\4\3")),
    "supported_versions cut off": body((43, b"\4\3\4\3")),
}


@pytest.mark.parametrize("content", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
def test_a_hello_that_is_broken_is_refused(content):
    for data in (records(message(content)), records(message(content), 30) + BEHIND):
        with pytest.raises(BadHello) as refused:
            read_hello(data)
        assert refused.value.reason == str(refused.value)


def test_what_the_broken_ones_are_made_of_is_not():
    assert told(read_hello(records(message(body(server_name(b"a"), alpn_of(b"h2"), versions_of(0x0304)))))) == (
        "a",
        ("h2",),
        (0x0304,),
    )


RECORD = b"\x16\x03\x01"


@pytest.mark.parametrize(
    ("data", "refused_at"),
    [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"\x80\x2e\x01\x03\x01", 1),  # SSL 2
        (b"\x15\x03\x01\0\2\2\x28", 1),
        (b"\x17\x03\x03\0\2hi", 1),
        (b"\x16\x02\0\0\5", 2),
        (b"\x16\x04\0\0\5", 2),
        (b"\x16\xfe\xff\0\0", 2),  # DTLS
        (RECORD + b"\0\0" + RECORD, 5),
        (RECORD + b"\x40\x01", 5),
        (RECORD + b"\xff\xff", 5),
        (RECORD + b"\x40\0\1", 5),  # the record's own head is a part of what is kept
        (RECORD + b"\x01\0\2", 6),  # ServerHello
        (RECORD + b"\x01\0\0", 6),  # HelloRequest
        (RECORD + b"\0\4\1\0\x40\0", 9),
        (RECORD + b"\0\4\1\xff\xff\xff", 9),
        (RECORD + b"\0\1\1" + RECORD + b"\0\3\x01\0\0", 14),
        (RECORD + b"\0\x20\1\0\0\x1b" + bytes(40), 9),  # more than the message in its record
        (RECORD + b"\0\1\1\x15\x03\x01\0\2\2\x28", 7),
        (RECORD + b"\0\1\1\x16\x02", 8),
        (RECORD + b"\0\1\1" + RECORD + b"\0\0", 11),
    ],
)
def test_it_is_refused_with_the_first_byte_that_cannot_belong_to_a_hello(data, refused_at):
    assert [read_hello(data[:end]) for end in range(refused_at)] == [None] * refused_at
    for end in range(refused_at, len(data) + 1):
        with pytest.raises(BadHello):
            read_hello(data[:end])


def test_a_hello_takes_at_most_16_kib():
    padding = (1 << 14) - len(hello((21, b"")))
    longest = hello((21, bytes(padding)))
    assert len(longest) == read_hello(longest).size == 1 << 14
    with pytest.raises(BadHello, match="more than 16384"):
        read_hello(hello((21, bytes(padding + 1)))[:9])
    with pytest.raises(BadHello, match="more than 16384"):
        read_hello(hello((21, bytes(padding - 4)), size=8000))


def test_a_hello_comes_in_a_bounded_number_of_records():
    content = message(body((21, bytes(RECORDS_MOST))))
    size = -(-len(content) // RECORDS_MOST)
    assert read_hello(records(content, size)).size > len(content)
    assert read_hello(records(content, 1)[: RECORDS_MOST * 6 + 4]) is None
    with pytest.raises(BadHello, match=f"more than {RECORDS_MOST} records"):
        read_hello(records(content, 1)[: RECORDS_MOST * 6 + 5])


names = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z][a-z0-9]{0,10}){0,4}", fullmatch=True).filter(
    lambda name: not name.rpartition(".")[2].isdigit()
)
protocols = st.lists(st.binary(min_size=1, max_size=12), max_size=4)
others = st.lists(st.tuples(st.integers(50, 65535), st.binary(max_size=60)), max_size=5, unique_by=lambda one: one[0])
cuts = st.integers(60, 1 << 14)


@given(names, protocols, st.lists(st.sampled_from([0x0303, 0x0304, *GREASE]), max_size=4), others, cuts, st.randoms())
def test_what_is_said_in_whatever_order_and_records_is_read_alike(name, offered, versions, more, size, rng):
    extensions = [server_name(name.upper().encode()), *more]
    extensions += [alpn_of(*offered)] * bool(offered) + [versions_of(*versions)] * bool(versions)
    rng.shuffle(extensions)
    data = hello(*extensions, size=size)
    expected = tuple(version for version in versions if version not in GREASE) if versions else (0x0303,)
    assert told(read_hello(data + BEHIND)) == (name, tuple(one.decode("latin-1") for one in offered), expected)


@given(st.binary(max_size=120) | st.binary(max_size=120).map(lambda data: records(message(data), 16)))
def test_whatever_comes_is_a_hello_or_none_and_more_bytes_do_not_change_that(data):
    judged = ""
    for end in range(len(data) + 1):
        try:
            found = read_hello(data[:end])
        except BadHello:
            now = "refused"
        else:
            now = "" if found is None else repr(told(found))
        assert judged in ("", now), data
        judged = now


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET /",
        b"GET ",
        b"GET",
        b"HEAD /x HTTP/1.0\r\n",
        b"POST ",
        b"PUT /",
        b"OPTI",
        b"CONNECT a:443 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROPFIND /dav HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_plain_http_is_known_by_its_request_line(data):
    assert looks_like_http(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"G",
        b"PO",
        b"get / http/1.1\r\n",
        b"GETS / H",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PING\r\n",
        b"EHLO mail.example\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"PROPFIND /dav HTTP/1.1",
        b"A" * 33 + b" / HTTP/1.1\r\n",
        LIKE_A_BROWSERS,
    ],
)
def test_what_is_not_plain_http_is_not_taken_for_it(data):
    assert not looks_like_http(data)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("description", "told_as"),
    [
        (HANDSHAKE_FAILURE, "HANDSHAKE_FAILURE"),
        (DECODE_ERROR, "DECODE_ERROR"),
        (PROTOCOL_VERSION, "PROTOCOL_VERSION"),
        (INTERNAL_ERROR, "INTERNAL_ERROR"),
        (UNRECOGNIZED_NAME, "UNRECOGNIZED_NAME"),
    ],
)
def test_a_client_understands_an_alert(newest, description, told_as):
    connection, inbound, _ = client(newest=newest)
    inbound.write(alert(description))
    with pytest.raises(ssl.SSLError) as refused:
        connection.do_handshake()
    assert refused.value.reason.endswith(told_as)


def test_alerts_have_the_numbers_of_rfc_8446():
    numbers = [HANDSHAKE_FAILURE, DECODE_ERROR, PROTOCOL_VERSION, INTERNAL_ERROR, UNRECOGNIZED_NAME]
    assert numbers == [40, 50, 70, 80, 112]
    assert struct.unpack("!BHHBB", alert(112)) == (21, 0x0303, 2, 2, 112)
