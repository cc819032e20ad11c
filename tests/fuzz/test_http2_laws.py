"""The laws of HTTP/2's bytes: on what is known, on bytes changed by chance, on a thousand hostile heads, and with atheris where it is."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from fuzz import fuzz_http2
from fuzz.fuzz_http2 import FIELD, VALUE, one
from fuzz.known_http2 import KNOWN, POST, text

HERE = Path(__file__).parent
RUNS = 20_000


known = pytest.mark.parametrize("data", KNOWN.values(), ids=KNOWN)


@known
def test_the_laws_hold_for_what_is_known(data):
    one(data)


def changed(data: bytes, rng: Random) -> bytes:
    """An input with a few bytes changed, taken away, doubled, or with a piece of another one."""
    kept = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(1, len(kept))
        end = min(len(kept), at + rng.choice((1, 1, 2, 4, 16)))
        match rng.randrange(6):
            case 0:
                kept[at] = rng.randrange(256)
            case 1:
                kept[at] ^= 1 << rng.randrange(8)
            case 2:
                del kept[at:end]
            case 3:
                kept[at:at] = kept[at:end]
            case 4:
                kept[at:at] = rng.choice(
                    [b"\r\n", b"\0", b" ", b"\n", b"\r\nhost: b\r\n", b"transfer-encoding", b":", FIELD, VALUE]
                )
            case _:
                other = rng.choice(list(KNOWN.values()))
                begin = rng.randrange(2, len(other))
                kept[at:end] = other[begin : begin + rng.choice((1, 4, 16, 64))]
        if len(kept) < 4:
            break
    return bytes(kept)


@known
@pytest.mark.parametrize("seed", range(3))
def test_the_laws_hold_for_what_is_known_with_bytes_changed(data, seed):
    rng = Random(seed)
    for _ in range(40):
        one(changed(data, rng))


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
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="no atheris for this Python")
def test_a_fuzzer_breaks_no_law(tmp_path):
    """From the same seed: it finds its way by the branches that are taken, which only the pure build shows."""
    found, begun = tmp_path / "corpus", tmp_path / "begun"
    found.mkdir()
    begun.mkdir()
    for number, data in enumerate(KNOWN.values()):
        (begun / str(number)).write_bytes(data)
    words = [f"-runs={RUNS}", "-seed=17", "-max_len=2048", "-timeout=10", f"-artifact_prefix={tmp_path}/"]
    words += [f"-dict={HERE / 'http2.dict'}", str(found), str(begun)]
    paths = [str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, HERE / "fuzz_http2.py", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {RUNS} runs" in done.stderr
    assert any(found.iterdir())  # new branches were taken
