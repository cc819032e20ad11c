"""The laws of what a connection begins with: on what is known, on bytes changed by chance, and with atheris where it is."""

from pathlib import Path
from random import Random

import pytest
from fuzz import fuzz_arrival
from fuzz.bending import NO_ATHERIS, bent, check_by_atheris
from fuzz.fuzz_arrival import one, openssl_is_told

HERE = Path(__file__).parent
KNOWN = {file.name: file.read_bytes() for file in sorted((HERE / "corpus_arrival").iterdir())}
known = pytest.mark.parametrize("data", KNOWN.values(), ids=KNOWN)


@known
def test_the_laws_hold_for_what_is_known(data):
    one(data)


@known
@pytest.mark.parametrize("seed", range(3))
def test_the_laws_hold_for_what_is_known_with_bytes_changed(data, seed):
    rng = Random(seed)
    for _ in range(20):
        one(bent(data, rng, KNOWN.values(), spared=2))


def test_the_laws_hold_for_chance():
    rng = Random(16)
    for _ in range(300):
        kind, begin = rng.choice(
            [(0, b""), (0, b"PROXY TCP4 "), (0, b"\r\n\r\n\0\r\nQUIT\n"), (1, b""), (2, b"\x16\3\1\0")]
        )
        one(bytes((kind, rng.randrange(256))) + begin + rng.randbytes(rng.randrange(120)))


def test_openssl_is_asked_for_the_name_and_says_it():
    told = {name: openssl_is_told(data[2:]) for name, data in KNOWN.items() if name.startswith("hello")}
    assert told["hello-TLS-1.3"] == told["hello-with-ALPN"] == told["hello-records"] == ["shop.example"]
    assert told["hello-like-a-browser"] == ["www.shop.example"]
    assert told["hello-without-a-name"] == [None]


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith("hello") and name != "hello-small"])
def test_another_name_than_openssls_is_noticed(monkeypatch, name):
    """A name that a server would be told and routes would not, or the other way round, chooses another policy than it gets."""
    monkeypatch.setattr(fuzz_arrival, "openssl_is_told", lambda hello: ["other.example"])
    with pytest.raises(AssertionError, match=r"other\.example"):
        one(KNOWN[name])


def test_a_header_that_means_something_else_is_noticed(monkeypatch):
    monkeypatch.setattr(fuzz_arrival, "plainly_read", lambda header: ("192.0.2.9", 1, "192.0.2.2", 2))
    with pytest.raises(AssertionError):
        one(KNOWN["proxy-v2-TCP4"])


@pytest.mark.long
@pytest.mark.skipif(NO_ATHERIS, reason="no atheris for this Python")
def test_a_fuzzer_breaks_no_law(tmp_path):
    check_by_atheris("arrival", tmp_path, HERE / "corpus_arrival", seed=16, longest=4096)
