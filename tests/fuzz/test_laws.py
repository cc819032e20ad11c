"""The laws of the fuzz target, on its corpus and on the messages that were trouble: what never runs is soon broken."""

from pathlib import Path

import pytest
from fuzz.fuzz_http1 import one

HERE = Path(__file__).parent
KNOWN = [
    *(pytest.param(file.read_bytes(), id=file.name) for file in sorted((HERE / "corpus").iterdir())),
    *(
        pytest.param(bytes((kind, 0, 40)) + file.read_bytes(), id=f"{file.stem}, {name}")
        for file in sorted((HERE.parent / "wire" / "corpus").glob("*/*.http"))
        for kind, name in enumerate(("request", "response", "chunks"))
    ),
]


@pytest.mark.parametrize("data", KNOWN)
def test_the_laws_hold_for_what_is_known(data):
    one(data)


SPOOFED = (
    b"X-Forwarded-For: 6.6.6.6, [::1]:80|X_Forwarded_For: 6.6.6.6|x.forwarded.proto: https|X-Forwarded-Host: a, b|X-Real-IP: 6|"
    b'X_Real.IP: 6|Forwarded: for="a\\"b";proto=https, for=_x;host="c:1"|Forwarded: for=1.2.3.4;proto=https|'
    b"X-Forwarded-Ssl: on|X-Forwarded-User: me|x-forwarded_user: me|Content_Length: 3|Content-Length: 0003|X.Request-Id: 1"
).split(b"|")


@pytest.mark.parametrize("first", SPOOFED)
def test_the_laws_hold_for_whoever_tells_who_it_is(first):
    for second in SPOOFED:
        one(b"\0\0\0POST / HTTP/1.1\r\nHost: a\r\n" + first + b"\r\n" + second + b"\r\n\r\nabc")


@pytest.mark.parametrize(
    "line", [b"Max-Forwards: 007", b"max-forwards:0", b"Max-Forwards: " + b"9" * 40, b"Max_Forwards: 1"]
)
@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE", b"GET"])
def test_the_laws_hold_for_whoever_counts_hops(method, line):
    one(b"\0\0\0" + method + b" / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")


def test_a_name_that_slips_through_is_noticed(monkeypatch):
    monkeypatch.setattr("fuzz.fuzz_http1.with_lines", lambda head, lines: head[:-2] + b"X.Forwarded_For: b\r\n\r\n")
    with pytest.raises(AssertionError):
        one(b"\0\0\0GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_a_law_that_is_broken_is_noticed(monkeypatch):
    """What the exchange writes is judged: here it would forward a second Host."""
    monkeypatch.setattr("fuzz.fuzz_http1.with_lines", lambda head, lines: head[:-2] + b"Host: b\r\n\r\n")
    with pytest.raises(AssertionError):
        one(b"\0\0\0GET / HTTP/1.1\r\nHost: a\r\n\r\n")
