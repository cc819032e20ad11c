"""Request heads: what passes, what is refused and as what."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import head_for_backend

from twisted_lb.wire.grammar import CHUNKED, BadMessage, Limits
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import (
    RequestHead,
    origin_form,
    parse_request,
    parse_request_fields,
    parse_request_line,
    target_authority,
)
from twisted_lb.wire.rewrite import with_host

LIMITS = Limits()


def parse(*lines: bytes) -> RequestHead:
    return parse_request(b"\r\n".join(lines), LIMITS)


def status_of(head: bytes, limits: Limits = LIMITS) -> int:
    """200, or the status a refused head is answered with."""
    try:
        parse_request(head, limits)
    except BadMessage as bad:
        return bad.status
    return 200


# (what it is, request line, fields, status)
HEADS = [
    ("plain", b"GET / HTTP/1.1", b"Host: a", 200),
    ("1.0 needs no Host", b"GET / HTTP/1.0", b"", 200),
    ("unknown method", b"BREW / HTTP/1.1", b"Host: a", 200),
    ("lower-case method is another method", b"get / HTTP/1.1", b"Host: a", 200),
    ("query untouched", b"GET /?a=%zz&b=|{}^` HTTP/1.1", b"Host: a", 200),
    ("options *", b"OPTIONS * HTTP/1.1", b"Host: a", 200),
    ("* is for OPTIONS", b"GET * HTTP/1.1", b"Host: a", 400),
    ("absolute form", b"GET http://a/b HTTP/1.1", b"Host: a", 200),
    ("other scheme", b"GET ftp://a/b HTTP/1.1", b"Host: a", 400),
    ("relative target", b"GET b HTTP/1.1", b"Host: a", 400),
    ("connect", b"CONNECT a:443 HTTP/1.1", b"Host: a:443", 501),
    ("connect with a path", b"CONNECT /a HTTP/1.1", b"Host: a", 501),
    ("connect in absolute form", b"CONNECT http://a/ HTTP/1.1", b"Host: a", 501),
    ("absolute form without a host", b"GET http:///b HTTP/1.1", b"Host: a", 400),
    ("absolute form with just a query", b"GET http://?b HTTP/1.1", b"Host: a", 400),
    ("just a scheme", b"GET https:// HTTP/1.1", b"Host: a", 400),
    ("fragment", b"GET /#x HTTP/1.1", b"Host: a", 400),
    ("quote in target", b'GET /" HTTP/1.1', b"Host: a", 400),
    ("control in target", b"GET /\x01 HTTP/1.1", b"Host: a", 400),
    ("non-ASCII in target", b"GET /\xe9 HTTP/1.1", b"Host: a", 400),
    ("empty target", b"GET  HTTP/1.1", b"Host: a", 400),
    ("two spaces", b"GET  / HTTP/1.1", b"Host: a", 400),
    ("tab as separator", b"GET\t/ HTTP/1.1", b"Host: a", 400),
    ("space at the end", b"GET / HTTP/1.1 ", b"Host: a", 400),
    ("space at the start", b" GET / HTTP/1.1", b"Host: a", 400),
    ("empty method", b" / HTTP/1.1", b"Host: a", 400),
    ("illegal method", b"G(T / HTTP/1.1", b"Host: a", 400),
    ("0.9", b"GET /", b"Host: a", 400),
    ("version 2.0", b"GET / HTTP/2.0", b"Host: a", 505),
    ("version 1.2", b"GET / HTTP/1.2", b"Host: a", 505),
    ("version 0.9", b"GET / HTTP/0.9", b"Host: a", 505),
    ("version 1.10", b"GET / HTTP/1.10", b"Host: a", 400),
    ("version 11", b"GET / HTTP/11", b"Host: a", 400),
    ("lower-case version", b"GET / http/1.1", b"Host: a", 400),
    ("no Host", b"GET / HTTP/1.1", b"", 400),
    ("two Hosts", b"GET / HTTP/1.1", b"Host: a\r\nHost: a", 400),
    ("two Hosts on 1.0", b"GET / HTTP/1.0", b"Host: a\r\nHost: b", 400),
    ("empty Host", b"GET / HTTP/1.1", b"Host:", 400),
    ("Host with a comma", b"GET / HTTP/1.1", b"Host: a,b", 400),
    ("Host with a long port", b"GET / HTTP/1.1", b"Host: a:123456", 400),
    ("Host with the last port", b"GET / HTTP/1.1", b"Host: a:65535", 200),
    ("Host with a port beyond the last", b"GET / HTTP/1.1", b"Host: a:65536", 400),
    ("Host with a port and nothing", b"GET / HTTP/1.1", b"Host: a:", 200),
    ("Host with a word as port", b"GET / HTTP/1.1", b"Host: a:http", 400),
    ("Host that is half a literal", b"GET / HTTP/1.1", b"Host: [::1", 400),
    ("Host with a space", b"GET / HTTP/1.1", b"Host: a b", 400),
    ("Host with a slash", b"GET / HTTP/1.1", b"Host: a/b", 400),
    ("Host with userinfo", b"GET / HTTP/1.1", b"Host: u@a", 400),
    ("two Hosts in one", b"GET / HTTP/1.1", b"Host: a, b", 400),
    ("Host with a port", b"GET / HTTP/1.1", b"Host: a:80", 200),
    ("Host IPv6", b"GET / HTTP/1.1", b"Host: [::1]:80", 200),
    ("empty value", b"GET / HTTP/1.1", b"Host: a\r\nX:", 200),
    ("obs-text", b"GET / HTTP/1.1", b"Host: a\r\nX: \xff\x80", 200),
    ("tab in value", b"GET / HTTP/1.1", b"Host: a\r\nX: a\tb", 200),
    ("folded", b"GET / HTTP/1.1", b"Host: a\r\nX: a\r\n b", 400),
    ("folded with tab", b"GET / HTTP/1.1", b"Host: a\r\nX: a\r\n\tb: c", 400),
    ("folded first", b"GET / HTTP/1.1", b" Host: a", 400),
    ("space before colon", b"GET / HTTP/1.1", b"Host : a", 400),
    ("tab before colon", b"GET / HTTP/1.1", b"Host: a\r\nX\t: a", 400),
    ("no colon", b"GET / HTTP/1.1", b"Host: a\r\nX", 400),
    ("empty name", b"GET / HTTP/1.1", b"Host: a\r\n: x", 400),
    ("illegal name", b"GET / HTTP/1.1", b"Host: a\r\nX(: x", 400),
    ("obs-text name", b"GET / HTTP/1.1", b"Host: a\r\nX\xe9: x", 400),
    ("bare LF", b"GET / HTTP/1.1", b"Host: a\nX: y", 400),
    ("bare CR", b"GET / HTTP/1.1", b"Host: a\rX: y", 400),
    ("bare CR and LF apart", b"GET / HTTP/1.1", b"Host: a\rb\nX: y", 400),
    ("CR CR LF", b"GET / HTTP/1.1", b"Host: a\r\r\nX: y", 400),
    ("LF in the line", b"GET /\n HTTP/1.1", b"Host: a", 400),
    ("NUL", b"GET / HTTP/1.1", b"Host: a\r\nX: \x00", 400),
    ("DEL", b"GET / HTTP/1.1", b"Host: a\r\nX: \x7f", 400),
    ("vertical tab", b"GET / HTTP/1.1", b"Host: a\r\nX: \x0b", 400),
    ("length", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 10", 200),
    ("length 0", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 0", 200),
    ("length with zeros", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 007", 200),
    ("length twice", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 1\r\nContent-Length: 1", 400),
    ("lengths differ", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 1\r\ncontent-length: 2", 400),
    ("length list", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 4, 4", 400),
    ("length with sign", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: +4", 400),
    ("negative length", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: -4", 400),
    ("length hex", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 0x4", 400),
    ("length with underscore", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 1_0", 400),
    ("length empty", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length:", 400),
    ("length with space", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 1 1", 400),
    ("length of 20 digits", b"GET / HTTP/1.1", b"Host: a\r\nContent-Length: 10000000000000000000", 400),
    ("chunked", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: chunked", 200),
    ("chunked in capitals", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: CHUNKED", 200),
    ("both framings", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", 400),
    (
        "both framings, other order",
        b"GET / HTTP/1.1",
        b"Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        400,
    ),
    ("chunked on 1.0", b"GET / HTTP/1.0", b"Host: a\r\nTransfer-Encoding: chunked", 400),
    ("unknown coding", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: gzip", 400),
    ("gzip, chunked", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: gzip, chunked", 501),
    ("gzip, deflate, chunked", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: gzip,deflate, chunked", 501),
    ("chunked, gzip", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: chunked, gzip", 400),
    ("chunked, gzip, chunked", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: chunked, gzip, chunked", 400),
    ("identity", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: identity", 400),
    ("chunked twice", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: chunked, chunked", 400),
    (
        "chunked on two lines",
        b"GET / HTTP/1.1",
        b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        400,
    ),
    (
        "chunked and identity",
        b"GET / HTTP/1.1",
        b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        400,
    ),
    ("xchunked", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: xchunked", 400),
    ("chunked with parameter", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: chunked;q=1", 400),
    ("vertical tab chunked", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding: \x0bchunked", 400),
    ("empty coding", b"GET / HTTP/1.1", b"Host: a\r\nTransfer-Encoding:", 400),
    (
        "empty coding and chunked",
        b"GET / HTTP/1.1",
        b"Host: a\r\nTransfer-Encoding:\r\nTransfer-Encoding: chunked",
        400,
    ),
    ("127 fields", b"GET / HTTP/1.1", b"Host: a" + b"\r\nX: y" * 127, 200),
    ("129 fields", b"GET / HTTP/1.1", b"Host: a" + b"\r\nX: y" * 128, 431),
]


@pytest.mark.parametrize(("line", "fields", "status"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
def test_a_head_is_taken_or_refused_as_the_grammar_says(line, fields, status):
    assert status_of(line + b"\r\n" + fields if fields else line) == status


def test_a_request_line_over_its_limit_is_414():
    assert status_of(b"GET /" + b"x" * 100 + b" HTTP/1.1\r\nHost: a", Limits(line_bytes=100)) == 414


def test_what_a_head_says_is_understood():
    head = parse(
        b"PUT /x?y HTTP/1.1", b"HOST: h:1", b"Content-Length: 12", b"Expect: 100-Continue", b"Connection: close"
    )
    assert (head.method, head.target, head.fields.host) == (b"PUT", b"/x?y", b"h:1")
    assert (head.fields.framing, head.fields.expects, head.fields.keep_alive) == (12, True, False)


@pytest.mark.parametrize(
    ("version", "connection", "keep"),
    [
        (b"1.1", None, True),
        (b"1.1", b"close", False),
        (b"1.1", b"Keep-Alive, CLOSE", False),
        (b"1.1", b"closed", True),
        (b"1.0", None, False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"keep-alive, close", False),
        (b"1.1", b", ,x,", True),
    ],
)
def test_persistence_follows_version_and_connection(version, connection, keep):
    lines = [b"GET / HTTP/" + version, b"Host: a"]
    if connection is not None:
        lines.append(b"Connection: " + connection)
    assert parse(*lines).fields.keep_alive is keep


def test_all_connection_lines_count():
    head = parse(b"GET / HTTP/1.1", b"Host: a", b"X: 1", b"Connection: x", b"Connection: close")
    assert head.lines == b"Host: a\r\n"
    assert not head.fields.keep_alive


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: x",
        b"Keep-Alive: 1",
        b"Proxy-Connection: x",
        b"TE: gzip",
        b"Upgrade: h2c",
        b"HTTP2-Settings: x",
        b"Transfer-Encoding: chunked",
        b"Forwarded: for=x",
        b"X-Forwarded-For: 1",
        b"x-forwarded-PORT: 1",
        b"Proxy-Authorization: x",
    ],
)
def test_a_hop_by_hop_field_is_left_out(line):
    assert parse(b"GET / HTTP/1.1", b"Host: a", line, b"Y: 1").lines == b"Host: a\r\nY: 1\r\n"


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Authorization", b"Cookie", b"Cache-Control"])
def test_connection_cannot_take_away_what_frames_or_identifies_a_message(name):
    value = b"1" if name == b"Content-Length" else b"a"
    head = (
        parse(b"GET / HTTP/1.1", b"Connection: " + name, b"Host: a", name + b": " + value)
        if name != b"Host"
        else parse(b"GET / HTTP/1.1", b"Connection: host", b"Host: a")
    )
    assert name + b": " + value + b"\r\n" in head.lines


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ((b"TE: trailers", b"Connection: TE"), True),
        ((b"TE: gzip, Trailers", b"Connection: te"), True),
        ((b"TE: trailers",), False),
        ((b"TE: gzip", b"Connection: TE"), False),
    ],
)
def test_te_counts_only_with_its_connection_option(lines, wanted):
    assert parse(b"GET / HTTP/1.1", b"Host: a", *lines).fields.te_trailers is wanted


@pytest.mark.parametrize(
    ("target", "origin", "authority"),
    [
        (b"/a?b", b"/a?b", b""),
        (b"*", b"*", b""),
        (b"http://h/a?b", b"/a?b", b"h"),
        (b"HTTP://h:80", b"/", b"h:80"),
        (b"http://h?q", b"/?q", b"h"),
        (b"http://h/?q=http://x/", b"/?q=http://x/", b"h"),
    ],
)
def test_targets_become_origin_form(target, origin, authority):
    assert origin_form(target) == origin
    assert origin_form(target, b"GET") == origin
    assert target_authority(target) == authority


@pytest.mark.parametrize(
    ("target", "origin"), [(b"http://h:80", b"*"), (b"http://h/", b"/"), (b"http://h?q", b"/?q"), (b"*", b"*")]
)
def test_options_without_a_path_means_the_server(target, origin):
    assert origin_form(target, b"OPTIONS") == origin


def test_the_head_for_the_backend_says_who_the_client_is():
    parsed = parse_request_fields(
        11, b"Host: h\r\nX: y\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: te", LIMITS
    )
    assert parsed[0].framing == CHUNKED
    assert head_for_backend(parsed, Client(b"1.2.3.4")) == (
        b"Host: h\r\nX: y\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
        b"Transfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    )


def test_a_head_without_a_host_gets_the_backends():
    tail = head_for_backend(parse_request_fields(10, b"", LIMITS), Client(b"::1"))
    assert with_host(tail, b"be:80").startswith(b"Host: be:80\r\nX-Forwarded-For: ::1\r\n")


@given(st.binary(max_size=200))
def test_whatever_the_bytes_only_a_bad_message_is_raised(data):
    status_of(data)
    status_of(b"GET / HTTP/1.1\r\nHost: a\r\n" + data)


TOKENS = st.text(alphabet="!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=10).map(str.encode)
VALUES = st.binary(max_size=20).map(lambda b: bytes(c for c in b if c == 9 or 32 <= c != 127).strip(b" \t"))


@given(TOKENS, st.lists(st.tuples(TOKENS, VALUES), max_size=8))
def test_a_forwarded_head_means_the_same_when_it_is_read_again(method, fields):
    """Reading what we write gives the same message, by our reader and by h11."""
    block = b"Host: a\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields)
    try:
        head = parse_request(b"%b /x HTTP/1.1\r\n%b" % (method, block[:-2]), LIMITS)
    except BadMessage:
        return
    written = head.line + head_for_backend((head.fields, head.lines), Client(b"1.1.1.1"))
    again = parse_request(written[:-4], LIMITS)
    assert (again.method, again.target, again.fields.framing) == (head.method, head.target, head.fields.framing)
    assert again.lines == head.lines
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(written)
    event = reader.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (head.method, head.target)


def test_known_names_are_known_in_any_spelling():
    for name in (b"content-length", b"Content-Length", b"CONTENT-LENGTH", b"cOnTeNt-LeNgTh"):
        assert parse_request_fields(11, b"Host: a\r\n" + name + b": 7", LIMITS)[0].framing == 7


def test_the_line_alone_is_parsed_as_in_the_whole():
    assert parse_request_line(b"GET /x HTTP/1.0", LIMITS) == (b"GET", b"/x", 10)
