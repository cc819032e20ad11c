"""Whole messages that were trouble somewhere, for ever: each is taken as one request, or as none, however it is cut.

`accepted` are one, `refused` none from the head on, `broken` none because of their body.
"""

from pathlib import Path

import pytest
from world import World

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.rglob("*.http"))


def requests_made(pieces: list[bytes]) -> tuple[int, bytes, dict[str, int]]:
    """How many requests were begun at a backend, what the client was told at first, and how attempts ended."""
    world = World()
    client = world.client()
    for piece in pieces:
        try:
            client.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            break  # it was told already
    world.run()
    made = len(world.backend_connections)
    told = client.read()[:12]
    outcomes = world.outcomes()
    world.close()
    return made, told, outcomes


def at_ends_of_lines(data: bytes) -> list[int]:
    """Where a line ends, before, between and behind its two bytes; and here and there."""
    ends = {cut for at, byte in enumerate(data) if byte in b"\r\n" for cut in (at, at + 1)}
    return sorted((ends | {*range(7, len(data), 29)}) & {*range(1, len(data))})


def everywhere(data: bytes) -> list[int]:
    return [*range(1, len(data))]


@pytest.mark.parametrize("cuts", [at_ends_of_lines, pytest.param(everywhere, marks=pytest.mark.long)])
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_message_of_the_corpus_is_one_request_or_none(file, cuts):
    data = file.read_bytes()
    whole = requests_made([data])
    if file.parent.name == "accepted":
        assert whole == (1, b"", {})
    else:
        assert whole[0] == 0
        assert whole[1][:9] == b"HTTP/1.1 "
        assert whole[1][9:] in (b"400", b"501", b"505")
    for cut in cuts(data):
        made = requests_made([data[:cut], data[cut:]])
        if file.parent.name == "broken" and made[0]:
            # Its head was fine: what was begun is taken back, and nothing behind it is a request.
            assert made == (1, whole[1], {"CLIENT_FAULT": 1}), cut
        else:
            assert made == whole, cut


def test_the_corpus_is_there():
    assert len(FILES) > 20
