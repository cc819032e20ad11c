"""Whole messages that were trouble somewhere, for ever: each is taken as one request, or as none, however it is cut."""

from pathlib import Path

import pytest
from world import World

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.rglob("*.http"))


def requests_made(pieces: list[bytes]) -> tuple[int, bytes]:
    """How many requests reached a backend, and what the client was told at first."""
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
    world.close()
    return made, told


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_message_of_the_corpus_is_one_request_or_none(file):
    data = file.read_bytes()
    whole = requests_made([data])
    if file.parent.name == "accepted":
        assert whole == (1, b"")
    else:
        assert whole[0] == 0
        assert whole[1][:9] == b"HTTP/1.1 "
        assert whole[1][9:] in (b"400", b"501", b"505")
    for cut in range(1, len(data)):
        assert requests_made([data[:cut], data[cut:]]) == whole, cut


def test_the_corpus_is_there():
    assert len(FILES) > 20
