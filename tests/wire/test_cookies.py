"""Cookies in field lines: read, left out, and set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.cookies import cookie_set, cookies_in, without_cookie


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"Host: x\r\n", []),
        (b"Cookie: lb=1\r\n", [b"1"]),
        (b"cookie:lb=1;a=2\r\n", [b"1"]),
        (b'COOKIE: a=2; lb = "1" ;b\r\n', [b"1"]),
        (b"Cookie: lb=1; lb=2\r\nCookie: a=1\r\nCookie: lb=3\r\n", [b"1", b"2", b"3"]),
        (b"Cookie: xlb=1; lbx=2; LB=3; a=lb=4\r\n", []),
        (b"Cookie: lb\r\nX-Cookie: lb=1\r\n", []),
        (b"Cookie: lb=\r\n", [b""]),
    ],
)
def test_the_cookies_of_a_name_are_found(lines, found):
    assert cookies_in(lines, b"lb") == found


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (b"Host: x\r\n", b"Host: x\r\n"),
        (b"Cookie: lb=1\r\nHost: x\r\n", b"Host: x\r\n"),
        (b"Cookie: a=1; lb=1; b=2\r\n", b"Cookie: a=1; b=2\r\n"),
        (b"Cookie: lb=1; a=1\r\n", b"Cookie: a=1\r\n"),
        (b"Cookie: a=1; lb=1\r\n", b"Cookie: a=1\r\n"),
        (b"cookie: lb=1; lb=2; \r\nA: b\r\n", b"A: b\r\n"),
        (b"Cookie:  a=1;lbx=2 ; c=lb=4\r\n", b"Cookie:  a=1;lbx=2 ; c=lb=4\r\n"),
        (b"X-Cookie: lb=1\r\nCookie: lb\r\n", b"X-Cookie: lb=1\r\nCookie: lb\r\n"),
    ],
)
def test_a_cookie_is_left_out_and_all_others_stay(lines, kept):
    assert without_cookie(lines, b"lb") == kept


_NAMES = st.sampled_from([b"lb", b"a", b"lbx", b"b"])
_PAIRS = st.lists(st.tuples(_NAMES, st.binary(max_size=6).map(lambda value: value.hex().encode())), max_size=6)


@given(st.lists(_PAIRS, max_size=3))
def test_what_is_left_is_what_was_there_less_that_cookie(fields):
    lines = b"".join(b"Cookie: " + b"; ".join(b"%b=%b" % pair for pair in pairs) + b"\r\n" for pairs in fields if pairs)
    left = without_cookie(lines, b"lb")
    assert cookies_in(left, b"lb") == []
    for name in (b"a", b"lbx", b"b"):
        assert cookies_in(left, name) == cookies_in(lines, name)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"A: b\r\n", None),
        (b"Set-Cookie: SID=1; Path=/\r\n", b"1"),
        (b'set-cookie:SID="1"\r\nSet-Cookie: other=2\r\n', b"1"),
        (b"Set-Cookie: SID=1\r\nSet-Cookie: SID=2\r\n", b"2"),
        (b"Set-Cookie: other=SID=1; SID=2\r\n", None),
        (b"Set-Cookie: SID=; Path=/\r\n", b""),
        (b"Set-Cookie: SID=1; Max-Age=0\r\n", b""),
        (b"Set-Cookie: SID=1;max-age=-1; Path=/\r\n", b""),
        (b"Set-Cookie: SID=1; Max-Age=010\r\n", b"1"),
        (b"Cookie: SID=1\r\n", None),
    ],
)
def test_what_an_answer_sets_a_cookie_to_is_found(lines, value):
    assert cookie_set(lines, b"SID") == value
