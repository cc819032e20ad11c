"""What is refused, how, and that the answer does not depend on how the bytes were cut: on the engine."""

import json

import pytest
from world import World

from twisted_lb.net.local_reply import accept_of

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
WISHES = b"Host: x\r\nAccept: application/json\r\nX-Request-ID: mine\r\n"


@pytest.fixture
def make():
    worlds = []

    def one(**rules):
        world = World(**rules)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


def told(answer: bytes) -> dict:
    """The JSON that a client was told at the end of an answer."""
    head, _, body = answer.rpartition(b"\r\n\r\n")
    assert b"\r\nX-Request-ID: mine\r\n" in head
    return json.loads(body)


@pytest.mark.parametrize(
    ("upload", "status"),
    [
        (b"Content-Length: 11\r\n\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_a_broken_body_is_refused_in_the_form_the_client_prefers_with_its_id(make, upload, status):
    client = make(limits={"body_bytes": 10}).client().send(b"POST / HTTP/1.1\r\n" + WISHES + upload)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (told(answer)["status"], told(answer)["request_id"]) == (status, "mine")
    assert client.closed


def test_a_body_that_stalls_is_refused_in_the_form_the_client_prefers_with_its_id(make):
    world = make()
    client = world.client().send(b"POST / HTTP/1.1\r\n" + WISHES + b"Content-Length: 9\r\n\r\nab")
    world.advance(31)
    assert told(client.read())["status"] == 408


def test_an_id_that_we_made_is_the_one_the_client_is_told(make):
    world = make(forwarding={"request_id": "make"})
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    [made] = [line for line in world.backend().read().split(b"\r\n") if line.startswith(b"X-Request-ID: ")]
    client.send(b"0x3\r\n")
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert made in answer


def test_a_refused_length_of_a_head_request_has_no_body(make):
    client = (
        make(limits={"body_bytes": 10}).client().send(b"HEAD / HTTP/1.1\r\n" + WISHES + b"Content-Length: 11\r\n\r\n")
    )
    assert client.read().startswith(b"HTTP/1.1 413 ")
    assert client.received.endswith(b"\r\n\r\n")


def test_all_accept_lines_are_one_list():
    assert accept_of(b"Accept: text/html;q=0.1\r\nX: y\r\naccept: application/json\r\n") == (
        b"text/html;q=0.1, application/json"
    )


@pytest.mark.parametrize("cuts", [(), (100,), (8192,), (8300,), (33000,), (5000, 20000)])
def test_a_line_too_long_is_414_however_it_is_cut(make, cuts):
    data = b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    client = make().client()
    for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        client.send(data[start:end])
    assert client.read().startswith(b"HTTP/1.1 414 ")


def test_an_empty_line_between_requests_begins_none(make):
    """RFC 9112 2.2: it is ignored, and so nobody waits for what should follow it."""
    world = make(head_s=5)
    client = world.client()
    for piece in (b"\r", b"\n"):
        client.send(piece)
    world.advance(9)
    assert client.read() == b""
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    world.backend().send(OK)
    assert client.read().endswith(b"hello")


@pytest.mark.parametrize("part", [b"\r", b"\r\n"])
def test_an_empty_line_between_requests_is_no_beginning_of_one(make, part):
    world = make()
    get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    client = world.client().send(get + part)
    world.backend().send(OK)
    assert client.read().endswith(b"hello")
    world.advance(30)  # head_s is 10 s, client_idle_s 75 s
    assert (client.read(), client.closed) == (b"", False)
    client.send(b"\r\n"[len(part) :] + get)
    world.backend().send(OK)
    assert client.read().endswith(b"hello")


def padded(start: bytes, size: int) -> bytes:
    """A head of this size that begins so, without its blank line."""
    return start + b"x" * (size - len(start))


@pytest.mark.parametrize("more", [0, 1])
def test_a_limit_is_the_same_however_the_end_is_cut(make, more):
    """The longest line and the longest head are taken, one byte more is not; no line end counts."""
    world = make(limits={"request_line_bytes": 64, "head_bytes": 256})
    line = padded(b"GET /", 64 + more - 9) + b" HTTP/1.1"
    head = padded(b"GET / HTTP/1.1\r\nHost: x\r\nX: ", 256 + more)
    for data in (line + b"\r\nHost: x\r\n\r\n", head + b"\r\n\r\n"):
        for cut in range(60, len(data)):
            before = len(world.backend_connections)
            client = world.client().send(data[:cut])
            if not client.read():
                client.send(data[cut:])
            client.read()
            assert client.received[9:12] in ((b"",), (b"414", b"431"))[more], cut
            assert len(world.backend_connections) == before + 1 - more, cut
            client.close()


@pytest.mark.parametrize("more", [0, 1])
def test_a_limit_of_an_answer_is_the_same_however_the_end_is_cut(make, more):
    world = make(limits={"request_line_bytes": 64, "head_bytes": 256})
    answer = padded(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ", 256 + more) + b"\r\n\r\n"
    for cut in range(248, len(answer)):
        client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        backend = world.backend()
        backend.read()
        backend.send(answer[:cut])
        if not client.read():
            backend.send(answer[cut:])
        client.read()
        assert client.received[9:12] == (b"200", b"502")[more], cut
        client.close()
        backend.close()


def test_trailers_that_end_in_a_bare_lf_are_refused_at_once_and_the_upload_is_taken_back(make):
    world = make()
    client = world.client().send(b"POST / HTTP/1.1\r\n" + WISHES + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert world.backend().read().endswith(b"5\r\nhello\r\n")
    answer = client.send(b"0\r\n\n").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert client.closed
    world.backend().read()
    assert world.backend().was_reset or world.backend().closed
    assert world.outcomes() == {"CLIENT_FAULT": 1}


FORM = (
    b"Host: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 4\r\nConnection: close\r\n\r\nq=42"
)


@pytest.mark.parametrize(
    "sent",
    [
        b"PUT /url HTTP/1.0\r\nHost: a\r\n\r\nPUT /url HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + FORM + b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + FORM + b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"ANNOUNCE /music HTTP/1.0\r\nHost: a\r\n\r\n",
        b"MKCOLA / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
    ids=["HTTP/1.0", "Connection: close", "Connection: close, and half a head", "ANNOUNCE", "MKCOLA"],
)
def test_what_stands_behind_the_last_request_is_never_forwarded_and_any_token_is_a_method(make, sent):
    """RFC 9112 9.6 and RFC 9110 9.1: legal, and taken by both peers, whatever a parser of known methods says."""
    world = make()
    client = world.client().send(sent)
    heard = world.backend().read()
    world.backend().send(OK)
    heard += world.backend().read()
    assert heard.count(b"HTTP/1.1\r\n") == 1
    assert heard.startswith(sent.partition(b" ")[0] + b" ")
    assert client.read().count(b"HTTP/1.1 ") == 1
    assert client.closed
    assert len(world.backend_connections) == 1


def test_a_length_with_zeros_reaches_the_backend_as_the_number_it_is_and_so_does_an_answers(make):
    world = make()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000010\r\n\r\n0123456789")
    assert b"\r\nContent-Length: 10\r\n" in world.backend().read()
    world.backend().send(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 005\r\n\r\nhello")
    assert b"\r\nContent-Length: 5\r\n" in client.read()
