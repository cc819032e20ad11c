"""The laws of HTTP/2's bytes: on what is known, on bytes changed by chance, on a thousand hostile heads, and with atheris where it is."""

from random import Random

import pytest
from fuzz import fuzz_http2
from fuzz.bending import NO_ATHERIS, bent, check_by_atheris
from fuzz.fuzz_http2 import FIELD, VALUE, one
from fuzz.known_http2 import KNOWN, POST, text

known = pytest.mark.parametrize("data", KNOWN.values(), ids=KNOWN)


@known
def test_the_laws_hold_for_what_is_known(data):
    one(data)


# What has a meaning in a head, or in a field block.
WORDS = [b"\r\n", b"\0", b" ", b"\n", b"\r\nhost: b\r\n", b"transfer-encoding", b":", FIELD, VALUE]


@known
@pytest.mark.parametrize("seed", range(3))
def test_the_laws_hold_for_what_is_known_with_bytes_changed(data, seed):
    rng = Random(seed)
    for _ in range(40):
        one(bent(data, rng, KNOWN.values(), spared=1, words=WORDS))


@pytest.mark.parametrize("kind", range(8))
def test_the_laws_hold_for_chance(kind):
    rng = Random(kind)
    for _ in range(200):
        one(bytes((kind, rng.randrange(256), rng.randrange(256))) + rng.randbytes(rng.randrange(1, 120)))


HOSTILE = [
    ("x-a", "b\r\ncontent-length: 3"), ("x-a", "b\r\n\r\nGET /admin HTTP/1.1"), ("x-a", "b\n"), ("x-a", "b\0"), ("x-a", " b"),
    ("x-a", "b\t"), ("x-a\r\nx-b", "c"), ("x-a: b\r\nx-c", "d"), ("x a", "b"), ("x-a:", "b"), ("", "b"), ("X-A", "b"), ("\xe9", "b"),
    ("content-length", "3"), ("content-length", "03"), ("content-length", "+3"), ("content-length", "3, 3"), ("content-length", ""),
    ("content-length", "-1"), ("content-length", "1" * 30), ("transfer-encoding", "chunked"), ("transfer-encoding", "identity"),
    ("te", "trailers"), ("te", "gzip"), ("connection", "close"), ("connection", "x-a"), ("keep-alive", "1"), ("upgrade", "h2c"),
    ("proxy-connection", "close"), ("http2-settings", "AAA"), ("host", "b"), ("host", "app"), ("host", "app\r\nx: y"), ("host", ""),
    (":authority", "b"), (":authority", "app@b"), (":authority", "app/"), (":path", "http://b/"), (":path", "a"), (":path", ""),
    (":path", "/ HTTP/1.1\r\nhost: b\r\n\r\n"), (":path", "/a b"), (":path", "//b"), (":path", "*"), (":method", "GET / HTTP/1.1\r\n"),
    (":method", "CONNECT"), (":scheme", "file"), (":status", "200"), (":protocol", "websocket"), (":unknown", "x"),
    ("cookie", "a=b\r\nx: y"), ("cookie", ""), ("expect", "100-continue"), ("x_forwarded_for", "6.6.6.6"), ("forwarded", "for=6"),
]  # fmt: skip


@pytest.mark.parametrize("first", HOSTILE)
def test_hostile_heads_never_make_another_request(first):
    """Each with each of the others, behind what is right, in front of it or within, with a body and without: thousands of them."""
    for place, second in enumerate(HOSTILE):
        ways = (*POST, first, second), (first, *POST, second), (*POST[:2], first, *POST[2:], second)
        one(b"\4\0\0" + text(*ways[0]) + b"\xff\xffabc")
        one(b"\4" + bytes((place & 1,)) + b"\0" + text(*ways[1 + place % 2]) + b"\xff\xffabc")


def test_a_field_that_slips_through_is_noticed(monkeypatch):
    """What becomes of a request is judged: here it would gain a field that nobody has said."""
    reader = fuzz_http2.RequestReader

    class Wrong:
        protocol = b""

        def read(self, *words, **named):
            head = reader().read(*words, **named)
            return type(head)(head.method, head.target, head.fields, head.lines + b"x-b: c\r\n")

    monkeypatch.setattr(fuzz_http2, "RequestReader", Wrong)
    with pytest.raises(AssertionError):
        one(KNOWN["a request"])


def test_frames_that_are_told_otherwise_are_noticed(monkeypatch):
    told = fuzz_http2.frames_of
    monkeypatch.setattr(fuzz_http2, "frames_of", lambda pieces, **named: told(pieces, **named)[len(pieces) - 1 :])
    with pytest.raises(AssertionError):
        one(KNOWN["frames of a client"])


@pytest.mark.long
@pytest.mark.skipif(NO_ATHERIS, reason="no atheris for this Python")
def test_a_fuzzer_breaks_no_law(tmp_path):
    begun = tmp_path / "begun"
    begun.mkdir()
    for number, data in enumerate(KNOWN.values()):
        (begun / str(number)).write_bytes(data)
    check_by_atheris("http2", tmp_path, begun, seed=17, longest=2048)
