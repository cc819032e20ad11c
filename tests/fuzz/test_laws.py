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


def test_a_law_that_is_broken_is_noticed(monkeypatch):
    """What the exchange writes is judged: here it would forward a second Host."""
    monkeypatch.setattr("fuzz.fuzz_http1.with_lines", lambda head, lines: head[:-2] + b"Host: b\r\n\r\n")
    with pytest.raises(AssertionError):
        one(b"\0\0\0GET / HTTP/1.1\r\nHost: a\r\n\r\n")
