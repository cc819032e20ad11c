"""Which credentials and challenges authenticate a connection, and not each request on it."""

import pytest

from twisted_lb.wire.authentication import challenges_bind, credentials_bind
from twisted_lb.wire.fields import Memory, parse_fields
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.request import parse_request
from twisted_lb.wire.response import parse_response

LIMITS = Limits()


@pytest.mark.parametrize(
    "value",
    [
        b"NTLM",
        b"Negotiate",
        b"nTlM TlRMTVNTUAACAAAA==",
        b"NEGOTIATE YIIJvwYGKwYBBQUCoIIJsz==",
        b"Nego2",
        b'Basic realm="a", NTLM',
        b'Digest realm="a, b", nonce="x\\"y", qop=auth ,\tNegotiate',
        b"Negotiate, NTLM, Basic realm=a",
        b", ,NTLM",
        b"NTLM  \t",
    ],
)
def test_a_challenge_of_such_a_scheme_is_found_among_others(value):
    assert challenges_bind(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b'Basic realm="NTLM"',
        b'Basic realm="a, NTLM"',
        b'Basic realm="a\\", NTLM"',
        b'Basic realm="never ended, NTLM',
        b'Basic realm="ended by a backslash, NTLM\\',
        b"Basic ntlm=1",
        b"Basic realm=a, ntlm=1",
        b"Basic realm=a, ntlm =1",
        b"Basic realm=a, negotiate\t= 1",
        b"Bearer NTLM",
        b"NTLMv2",
        b"X-NTLM",
        b"Negotiated x",
        b"Nego",
        b"@NTLM",
    ],
)
def test_the_word_elsewhere_is_no_challenge(value):
    assert not challenges_bind(value)


@pytest.mark.parametrize(
    ("value", "bind"),
    [
        (b"NTLM TlRMTVNTUAABAAAA", True),
        (b"ntlm", True),
        (b"Negotiate YII=", True),
        (b"NEGOTIATE\tYII=", True),
        (b"Nego2 YII=", True),
        (b"Basic bnRsbTpudGxt", False),
        (b"Bearer ntlm", False),
        (b"Digest username=ntlm", False),
        (b"", False),
    ],
)
def test_credentials_are_known_by_their_beginning(value, bind):
    assert credentials_bind(value) == bind
    head = b"GET / HTTP/1.1\r\nHost: x\r\naUTHORIZATION:  " + value
    parsed = parse_request(head, LIMITS)
    assert parsed.fields.binds == bind
    assert parsed.lines == head[16:] + b"\r\n"


def test_one_of_several_fields_is_enough():
    lines = (b"Authorization: Basic YTpi", b"Authorization: NTLM a", b"Authorization: Bearer c")
    assert parse_fields(b"\r\n".join(lines), LIMITS).binds
    head = b"HTTP/1.1 401 no\r\nContent-Length: 0\r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: Basic realm=a"
    response = parse_response(head, LIMITS)
    assert response.binds
    assert response.lines == head.partition(b"\r\n")[2] + b"\r\n"


def test_credentials_that_bind_are_understood_each_time_and_others_once():
    memory = Memory()
    for value, bind in [
        (b"NTLM a", True),
        (b"NTLM a", True),
        (b"Basic a", False),
        (b"Basic a", False),
        (b"NTLM a", True),
    ]:
        assert parse_fields(b"Authorization: " + value, LIMITS, memory).binds == bind
        assert memory.lines == [b"" if bind else b"Authorization: " + value]


@pytest.mark.parametrize(
    ("status", "field", "binds"),
    [
        (401, b"WWW-Authenticate", True),
        (401, b"www-authenticate", True),
        (407, b"Proxy-Authenticate", True),
        (200, b"WWW-Authenticate", False),
        (403, b"WWW-Authenticate", False),
        (401, b"X-Authenticate", False),
        (401, b"Authentication-Info", False),
    ],
)
def test_only_a_401_or_407_asks_for_it(status, field, binds):
    assert parse_response(b"HTTP/1.1 %d x\r\n%b: NTLM" % (status, field), LIMITS).binds == binds


def test_the_challenge_of_a_proxy_is_not_passed_on():
    assert parse_response(b"HTTP/1.1 407 x\r\nProxy-Authenticate: NTLM\r\nA: b", LIMITS).lines == b"A: b\r\n"


def test_credentials_that_only_proxies_may_send_bind_as_well():
    fields = parse_fields(b"Authorization: NTLM a", Limits(claims=(b"authorization",)))
    assert fields.binds
    assert fields.claimed == b"Authorization: NTLM a\r\n"
