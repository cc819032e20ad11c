"""Header blocks: the fast pass beside a plain one that does as the RFC's sentences say, one after the other."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some import examples

from twisted_lb.wire import fields as fields_module
from twisted_lb.wire.fields import Fields, Memory, parse_fields, tokens
from twisted_lb.wire.grammar import BadMessage, Limits

MOST = 6
LIMITS = Limits()
FEW = Limits(fields=MOST)

# RFC 9112 5: field-line = field-name ":" OWS field-value OWS; RFC 9110 5.5 and 5.6.2.
FIELD_LINE = re.compile(
    rb"(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*"
    rb"(?P<value>(?:[\x21-\x7e\x80-\xff](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[ \t]*"
)
HOP_BY_HOP = (
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization proxy-authentication-info "
    b"http2-settings upgrade te transfer-encoding"
).split()
ABOUT_THE_CLIENT = (
    b"forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-forwarded-ssl x-forwarded-protocol "
    b"x-forwarded-scheme"
).split()
IMITABLE = {*ABOUT_THE_CLIENT, b"content-length", b"transfer-encoding", b"x-request-id", b"max-forwards"}


def members(values: list[bytes]) -> list[bytes]:
    return [word for value in values for part in value.split(b",") if (word := part.strip(b" \t").lower())]


def plainly(block: bytes) -> dict | None:
    """What parse_fields finds, or None where it refuses."""
    lines = block.split(b"\r\n") if block else []
    found: list[tuple[bytes, bytes, bytes]] = []
    for line in lines:
        match = FIELD_LINE.fullmatch(line)
        if match is None or len(lines) > MOST:
            return None
        found.append((match["name"].lower(), match["value"], line))

    def values(name: bytes) -> list[bytes]:
        return [value for known, value, _ in found if known == name]

    lengths = values(b"content-length")
    if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]{1,18}", length) for length in lengths):
        return None
    options = members(values(b"connection"))
    named = {option for option in options if option not in fields_module._NOT_REMOVABLE}
    named -= {b"close", b"keep-alive", b"upgrade"}
    dropped = {*HOP_BY_HOP, *ABOUT_THE_CLIENT, *named}
    kept = [
        line.partition(b":")[0] + b": " + str(int(value)).encode() if name == b"content-length" else line
        for name, value, line in found
        if name not in dropped and not (name not in IMITABLE and re.sub(rb"[^a-z0-9]", b"-", name) in IMITABLE)
    ]
    return {
        "lines": b"".join(line + b"\r\n" for line in kept),
        "hosts": len(values(b"host")),
        "host": (values(b"host") or [b""])[-1],
        "length": int(lengths[0]) if lengths else -1,
        "chunked": [value.lower() for value in values(b"transfer-encoding")] == [b"chunked"],
        "coded": bool(values(b"transfer-encoding")),
        "close": b"close" in options,
        "keep_alive": b"keep-alive" in options,
        "upgrade": members(values(b"upgrade")) if b"upgrade" in options else [],
        "te_trailers": b"te" in options and b"trailers" in members(values(b"te")),
        "expects": bool(values(b"expect")),
        "claims": {
            name: b", ".join(values(name)) for name in ABOUT_THE_CLIENT if any(known == name for known, _, _ in found)
        },
    }


def fast(block: bytes) -> dict | None:
    try:
        fields = parse_fields(block, FEW)
    except BadMessage:
        return None
    return {
        "lines": fields.lines,
        "hosts": fields.hosts,
        "host": fields.host,
        "length": fields.length,
        "chunked": fields.codings.lower() == b"chunked",
        "coded": bool(fields.codings),
        "close": fields.close,
        "keep_alive": fields.keep_alive,
        "upgrade": tokens(fields.upgrade),
        "te_trailers": fields.te_trailers,
        "expects": fields.expects,
        "claims": fields.claims or {},
    }


NAMES = st.sampled_from(
    b"Host host Content-Length Content_Length content-length Transfer-Encoding Transfer_Encoding Connection Upgrade TE te "
    b"Expect Keep-Alive X-Forwarded-For X_Forwarded-For x-forwarded-proto Forwarded X Y Cookie Date X-Request-ID "
    b"traceparent Proxy-Authorization".split()
) | st.from_regex(rb"[!-~]{0,4}", fullmatch=True)
VALUES = st.sampled_from(
    [
        *[b"", b"a", b"5", b"05", b"+5", b"5, 5", b"chunked", b"Chunked", b"gzip, chunked", b"close", b"Keep-Alive"],
        *[b"te, x", b"TE", b"upgrade, close", b"x,,y", b", cookie", b"trailers", b"gzip, Trailers", b"websocket, h2c"],
        *[b"100-Continue", b"\tpadded ", b"\xff\x80", b"host, content-length", b"x-forwarded-for, x"],
    ]
) | st.binary(max_size=5)
LINES = st.lists(st.tuples(NAMES, st.sampled_from([b": ", b":", b" :", b":\t", b""]), VALUES).map(b"".join), max_size=7)
EDITS = st.lists(
    st.tuples(st.integers(0, 99), st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\x00", b":"])), max_size=2
)


@examples(1500)
@given(LINES, EDITS)
def test_the_fast_pass_and_the_plain_one_agree(lines, edits):
    block = b"\r\n".join(lines)
    for place, put in edits:
        at = place % (len(block) + 1)
        block = block[:at] + put + block[at:]
    assert fast(block) == plainly(block)


@pytest.mark.parametrize("place", [b"%c: b", b"a%c: b", b"a:%cb", b"a: b%c", b"a: b%cc", b"a: b\r%c", b"a: b%c\nc: d"])
def test_every_byte_in_every_place(place):
    for byte in range(256):
        block = b"Host: a\r\n" + place % byte + b"\r\nz: z"
        assert fast(block) == plainly(block), byte


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"x-forwarded_PROTO", b"Content_Length", b"TRANSFER_encoding"])
def test_a_name_that_some_backends_would_take_for_ours_is_left_out(name):
    """CGI, WSGI and PHP know no difference between `-` and `_`."""
    fields = parse_fields(b"A_b: 1\r\n" + name + b": 5", FEW)
    assert fields.lines == b"A_b: 1\r\n"
    assert fields.length == -1
    assert not fields.codings
    assert fields.claims is None


def test_names_made_up_to_fill_the_memory_do_not():
    limits = Limits()
    seen = limits.kinds
    parse_fields(b"Usual-Name: 1", limits)
    for number in range(3 * fields_module._SEEN_MOST):
        parse_fields(b"Made-Up-%d: 1" % number, limits)
        assert len(seen) <= fields_module._SEEN_MOST
    parse_fields(b"x" * 10_000 + b": 1", limits)
    assert sum(len(name) for name in seen) < fields_module._SEEN_MOST * fields_module._SEEN_BYTES
    assert parse_fields(b"Usual-Name: 1", limits).lines == b"Usual-Name: 1\r\n"
    assert b"Usual-Name" in seen


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"A , b", [b"a", b"b"]),
        (b",,\t, a,", [b"a"]),
        (b"a b,c", [b"a b", b"c"]),
    ],
)
def test_a_list_has_members(value, members):
    assert tokens(value) == members


LINES = [
    b"Host: a",
    b"host: b:80",
    b"Accept: */*",
    b"Cookie: a=1",
    b"Cookie: a=2",
    b"Connection: close",
    b"Connection: X-Hop, te",
    b"X-Hop: 1",
    b"TE: trailers",
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"X-Forwarded-For: 1.2.3.4",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Date: now",
    b"Bad\x00: x",
    b"X: bad\x07",
    b"X: bare\rreturn",
    b" folded: line",
    b"no colon",
]


def understood(block: bytes, memory: Memory | None) -> object:
    try:
        fields = parse_fields(block, LIMITS, memory)
    except BadMessage as bad:
        return bad.status
    return [getattr(fields, name) for name in dir(Fields()) if not name.startswith("_")]


@given(st.lists(st.lists(st.sampled_from(LINES), max_size=7).map(b"\r\n".join), min_size=1, max_size=5))
def test_what_a_connection_remembers_changes_nothing(blocks):
    memory = Memory()
    for block in blocks:
        expected = understood(block, None)
        assert understood(block, memory) == expected
        if isinstance(expected, int):
            assert memory.lines == [], "lines of a broken block are remembered"


def test_a_line_is_remembered_only_where_it_stood_and_was_plain():
    memory = Memory()
    parse_fields(b"Host: a\r\nAccept: x\r\nCookie: 1", LIMITS, memory)
    assert memory.lines == [b"", b"Accept: x", b"Cookie: 1"]
    parse_fields(b"Accept: x\r\nHost: a", LIMITS, memory)
    assert memory.lines == [b"Accept: x", b""]
