"""What answers say of when to come again."""

import math
from email.utils import formatdate

import pytest

from twisted_lb.wire.retry_after import retry_after_s

NOW = 784_111_777.0  # the example of RFC 9110 5.6.7


@pytest.mark.parametrize(
    "date", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_a_date_is_said_in_any_of_three_forms(date):
    lines = b"Retry-After: %b\r\n" % date.encode()
    assert retry_after_s(lines, NOW - 4.0) == 4.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120.0),
        (b" 0 ", 0.0),
        (b"999999999", 999_999_999.0),
        (b"1000000000", math.inf),
        (b"9" * 400, math.inf),
        (b"", -1.0),
        (b"-1", -1.0),
        (b"1.5", -1.0),
        (b"soon", -1.0),
        (b"\xb2", -1.0),
        (b"Sun, 06 Nov 1994", -1.0),
        (b"Sun, 99 Nov 1994 08:49:37 GMT", -1.0),
        (b"Sun, 06 Nov 99999999 08:49:37 GMT", -1.0),
        (b"\xff", -1.0),
    ],
)
def test_seconds_are_digits_and_what_is_no_wait_asks_for_none(value, seconds):
    assert retry_after_s(b"Server: x\r\nretry-after:%b\r\n" % value, NOW) == seconds


def test_an_answer_without_it_asks_for_none():
    assert retry_after_s(b"", NOW) == -1.0
    assert retry_after_s(b"X-Retry-After: 3\r\nno colon\r\n", NOW) == -1.0


def test_a_date_counts_from_that_of_the_answer():
    """Whose clock is an hour ahead of ours."""
    lines = f"Date: {formatdate(NOW + 3600, usegmt=True)}\r\nRetry-After: {formatdate(NOW + 3607, usegmt=True)}\r\n"
    assert retry_after_s(lines.encode(), NOW) == 7.0


def test_a_date_that_has_passed_is_no_wait():
    assert retry_after_s(b"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", NOW + 9) == 0.0


def test_the_first_one_counts():
    assert retry_after_s(b"Retry-After: 3\r\nRetry-After: 9\r\n", NOW) == 3.0
