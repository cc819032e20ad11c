"""The head that a backend gets: byte for byte what the client sent, less what ends here, plus who the client is."""

import pytest
from messages import head_for_backend

from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import parse_request_fields
from twisted_lb.wire.rewrite import Forwarding, with_host, with_lines

PLAIN = Client(b"192.0.2.1")
TRUSTED = Client(b"192.0.2.1", b"https", b"8443", trusted=True)


def lines_of(tail: bytes) -> list[bytes]:
    """The field lines of a tail, which ends with the blank line."""
    assert tail.endswith(b"\r\n\r\n")
    return tail[:-4].split(b"\r\n")


def rewritten(*lines: bytes, client: Client = PLAIN, version: int = 11, upgrade: bytes = b"", **told) -> list[bytes]:
    parsed = parse_request_fields(version, b"\r\n".join(lines), Limits())
    return lines_of(head_for_backend(parsed, client, Forwarding(**told), upgrade))


def test_order_case_and_repetition_are_kept():
    lines = [b"X-B: 2", b"Host: h", b"x-a:1", b"X-B:\t 3 ", b"cookie: \xff", b"Empty:"]
    assert rewritten(*lines)[:6] == lines


def test_who_the_client_is_comes_last():
    client = Client(b"::1", b"https", b"443")
    assert rewritten(b"Host: h:8", client=client) == [
        b"Host: h:8",
        b"X-Forwarded-For: ::1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: h:8",
        b"X-Forwarded-Port: 443",
    ]


CLAIMS = [
    b"X-Forwarded-For: 198.51.100.7",
    b"x-forwarded-for: 198.51.100.8",
    b"X-Forwarded-Proto: gopher",
    b"X-Forwarded-Host: inside",
    b"X-Forwarded-Port: 1",
    b"Forwarded: for=198.51.100.7",
]


def test_what_a_stranger_says_about_itself_does_not_count():
    assert rewritten(b"Host: h", *CLAIMS) == rewritten(b"Host: h")


def test_what_a_trusted_one_says_does():
    assert rewritten(b"Host: h", *CLAIMS, client=TRUSTED) == [
        b"Host: h",
        b"X-Forwarded-For: 198.51.100.7, 198.51.100.8, 192.0.2.1",
        b"X-Forwarded-Proto: gopher",
        b"X-Forwarded-Host: inside",
        b"X-Forwarded-Port: 1",
        b"Forwarded: for=198.51.100.7, for=198.51.100.8%b, for=192.0.2.1%b" % ((b";proto=gopher;host=inside",) * 2),
    ]


def test_a_trusted_one_that_says_nothing_is_described_as_anybody():
    assert rewritten(b"Host: h", client=TRUSTED) == [
        b"Host: h",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: h",
        b"X-Forwarded-Port: 8443",
    ]


def test_a_connection_option_takes_away_no_word_of_ours():
    said = rewritten(
        b"Host: h", b"Connection: x-forwarded-for, forwarded, via, x-forwarded-proto", forwarded=True, via=b"lb"
    )
    assert said == rewritten(b"Host: h", forwarded=True, via=b"lb")


@pytest.mark.parametrize(
    ("address", "host", "element"),
    [
        (b"192.0.2.1", b"h", b"for=192.0.2.1;proto=http;host=h"),
        (b"2001:db8::1", b"h", b'for="[2001:db8::1]";proto=http;host=h'),
        (b"192.0.2.1", b"h:80", b'for=192.0.2.1;proto=http;host="h:80"'),
        (b"192.0.2.1", b"[::1]", b'for=192.0.2.1;proto=http;host="[::1]"'),
        # RFC 3986 lets a host hold semicolons and equals signs; unquoted it would speak for us.
        (b"192.0.2.1", b"h;for=10.0.0.1", b'for=192.0.2.1;proto=http;host="h;for=10.0.0.1"'),
        (b"192.0.2.1", b"h(x)", b'for=192.0.2.1;proto=http;host="h(x)"'),
        (b"unix", b"h", b"for=unknown;proto=http;host=h"),
        (b"unknown", b"h", b"for=unknown;proto=http;host=h"),
    ],
)
def test_forwarded_is_one_element_whatever_the_host(address, host, element):
    said = rewritten(b"Host: " + host, client=Client(address), forwarded=True)
    assert said[-1] == b"Forwarded: " + element


def test_forwarded_grows_behind_a_trusted_one():
    said = rewritten(b"Host: h", b"Forwarded: for=a", b"Forwarded: for=b", client=TRUSTED, forwarded=True)
    assert said[-1] == b"Forwarded: for=a, for=b, for=192.0.2.1;proto=https;host=h"


@pytest.mark.parametrize(("version", "line"), [(11, b"Via: 1.1 lb"), (10, b"Via: 1.0 lb")])
def test_via_says_what_version_came_in_and_is_added_to_those_there(version, line):
    said = rewritten(b"Host: h", b"Via: 1.1 other", version=version, via=b"lb")
    assert said[1] == b"Via: 1.1 other"
    assert said[-1] == line


def test_a_chunked_body_is_said_once_and_in_our_words():
    said = rewritten(b"Host: h", b"transfer-encoding:\tCHUNKED")
    assert [line for line in said if line.lower().startswith(b"transfer-encoding")] == [b"Transfer-Encoding: chunked"]


@pytest.mark.parametrize("value", [b"  010", b"10\t", b"10", b"0000000010", b" 10"])
def test_a_length_is_said_as_the_number_that_we_understood(value):
    """There are readers that take 010 for 8, and would find a request in what is left of the body."""
    assert rewritten(b"A: b", b"content-length:" + value, b"Host: h")[:3] == [
        b"A: b",
        b"content-length: 10",
        b"Host: h",
    ]


def test_te_and_upgrade_are_said_again_with_their_connection_options():
    te = (b"TE: gzip, trailers", b"Connection: TE, keep-alive")
    assert rewritten(b"Host: h", *te)[-2:] == [b"TE: trailers", b"Connection: TE"]
    offer = (b"Upgrade: websocket, h2c", b"Connection: upgrade")
    assert rewritten(b"Host: h", *offer, upgrade=b"websocket")[-2:] == [b"Upgrade: websocket", b"Connection: Upgrade"]
    assert not any(b"pgrade" in line for line in rewritten(b"Host: h", *offer))


def test_a_backends_own_name_stands_in_for_a_host_that_is_missing():
    tail = head_for_backend(parse_request_fields(10, b"X: y", Limits()), PLAIN)
    assert lines_of(with_host(tail, b"be:80")) == [
        b"Host: be:80",
        b"X: y",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: http",
    ]


def test_lines_can_be_added():
    tail = head_for_backend(parse_request_fields(11, b"Host: h", Limits()), PLAIN)
    assert lines_of(with_lines(tail, b"A: 1\r\nB: 2\r\n"))[-2:] == [b"A: 1", b"B: 2"]
    assert with_lines(tail, b"") == tail
