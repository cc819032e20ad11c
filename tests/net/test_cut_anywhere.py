"""Whole conversations, cut up anywhere on their way in: what backend and client receive is the same."""

import contextlib
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Peer, World

GET = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 2\r\n\r\nok"


class Conversation(NamedTuple):
    """What a client sends, and what the backend says to one request after the other; how many answers the client gets."""

    requests: bytes
    answers: list[bytes]
    told: int
    sides: tuple[str, ...] = ("engine", "resource")


CONVERSATIONS = {
    "pipelined, of every framing": Conversation(
        b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e=f\r\nabc\r\n0\r\nT: 1\r\n\r\n"
        + GET
        + b"PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nwxyz",
        [
            b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nS: 2\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nDate: d\r\nETag: x\r\n\r\n",
            b"HTTP/1.1 201 Created\r\nDate: d\r\nContent-Length: 2\r\n\r\nok",
        ],
        3,
    ),
    "interim answers": Conversation(
        GET, [b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 102 Busy\r\n\r\n" + OK], 3, ("engine",)
    ),
    "an expectation that is met": Conversation(
        b"PUT /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nwxyz",
        [b"HTTP/1.1 100 Continue\r\n\r\n" + OK],
        2,
    ),
    "HTTP/1.0": Conversation(
        b"\r\nGET /a HTTP/1.0\r\n\r\n",
        [b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n"],
        1,
    ),
    "until the close": Conversation(
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        [b"HTTP/1.0 200 OK\r\nDate: d\r\nConnection: X\r\nX: y\r\n\r\nhello", b""],
        1,
    ),
    "an answer cut short": Conversation(
        GET, [b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\nyo", b""], 1
    ),
    "a request behind a refused one": Conversation(GET + b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n" + GET, [OK], 2),
    "both framings": Conversation(
        GET + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET,
        [OK],
        2,
    ),
    "an answer that is unsafe": Conversation(
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na",
        [b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"],
        1,
    ),
    "a tunnel": Conversation(
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\r\n\r\nGET / early",
        [b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x82\r\n\r\nHTTP/1.1 200 first"],
        2,
        ("engine",),
    ),
    "a tunnel that is refused": Conversation(
        b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET, [OK], 1, ("engine",)
    ),
}
CASES = [(name, side) for name, one in CONVERSATIONS.items() for side in one.sides]


def spoken(peer: Peer, data: bytes, cuts: tuple[int, ...]) -> None:
    """Send it in pieces; who was told off and closed upon stops."""
    places = sorted({cut for cut in cuts if 0 < cut < len(data)})
    with contextlib.suppress(ConnectionError):
        for start, end in zip((0, *places), (*places, len(data)), strict=True):
            peer.send(data[start:end])


def held(name: str, side: str, request_cuts: tuple[int, ...] = (), answer_cuts: tuple[int, ...] = ()):
    """What backend and client received, chunk boundaries aside, and whether the client's connection was closed."""
    conversation = CONVERSATIONS[name]
    world = World(side=side)
    client = world.client()
    port = b"%d" % client.sock.getpeername()[1]
    spoken(client, conversation.requests, request_cuts)
    for answer in conversation.answers:
        world.backend().read()
        if answer:
            spoken(world.backend(), answer, answer_cuts)
        else:
            world.backend().close()
    client.read()
    for backend in world.backend_connections:
        if backend.sock.fileno() >= 0:
            backend.read()
    heard = b"".join(backend.received for backend in world.backend_connections).replace(b": " + port, b": PORT")
    told = client.received
    ended = client.closed or client.was_reset
    world.close()
    assert told.count(b"HTTP/1.") == conversation.told
    return without_chunks(heard), without_ids(without_chunks(told)), ended


def without_ids(stream: bytes) -> bytes:
    """What we add to our own answers, and twisted.web to its own, is another one each time."""
    return b"\r\n".join(
        line for line in stream.split(b"\r\n") if not line.lower().startswith((b"x-request-id", b"date"))
    )


def without_chunks(stream: bytes) -> bytes:
    """A stream of messages in which each chunked body is one chunk, whose size is not told."""
    plain = b""
    while True:
        head, blank, stream = stream.partition(b"\r\n\r\n")
        plain += head + blank
        if not blank:
            return plain
        if b"\r\ntransfer-encoding: chunked" not in head.lower():
            continue
        while (line := stream.partition(b"\r\n"))[1] and (size := int(line[0], 16)):
            plain += line[2][:size]
            stream = line[2][size + 2 :]
        plain += b"*"  # what follows is the last chunk, or nothing


# At each run in some places, in the long tests in all.
@pytest.mark.parametrize("here_and_there", [7, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(("name", "side"), CASES)
def test_a_conversation_is_the_same_wherever_it_is_cut(name, side, here_and_there):
    whole = held(name, side)
    assert whole[0]
    # twisted.web reads the heads there; the other two tests cut it everywhere too
    step = here_and_there * (1 if side == "engine" else 3)
    for cut in range(1, len(CONVERSATIONS[name].requests), step):
        assert held(name, side, (cut,)) == whole, cut
    for cut in range(1, max(map(len, CONVERSATIONS[name].answers)), step):
        assert held(name, side, (), (cut,)) == whole, cut


CUTS = st.lists(st.integers(1, 200), max_size=8).map(tuple)


@settings(max_examples=100)
@given(st.sampled_from(CASES), CUTS, CUTS)
def test_and_however_often(case, request_cuts, answer_cuts):
    assert held(*case, request_cuts, answer_cuts) == held(*case)


@pytest.mark.parametrize(("name", "side"), CASES)
def test_and_byte_by_byte(name, side):
    everywhere = tuple(range(1, 500))
    assert held(name, side, everywhere, everywhere) == held(name, side)
