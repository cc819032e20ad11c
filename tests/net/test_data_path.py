"""The path of a request, byte for byte, over both client sides: what the backend received, what the client received.

The engine passes heads on untouched; twisted.web, the other side, has its own spelling and order of fields, so what is
compared there is what they mean.
"""

import contextlib

import pytest
from world import World

from twisted_lb.core.outcome import Outcome

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
OURS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
GET = b"GET /x?y=%20z HTTP/1.1\r\nHost: example.org\r\n\r\n"


@pytest.fixture(params=["engine", "resource", "fallback", "tls"])
def side(request):
    return request.param


@pytest.fixture
def make(side):
    worlds = []

    def one(*names: str, **rules):
        world = World(names or ("a:80",), side=side, **rules)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


@pytest.fixture(params=["engine", "fallback"])
def engine_world(request):
    """For what only the engine can do."""
    worlds = []

    def one(*names: str, **rules):
        world = World(names or ("a:80",), side=request.param, **rules)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


def head_of(message: bytes) -> tuple[bytes, dict[bytes, list[bytes]]]:
    """First line and fields (lower case) of a message."""
    head, _, _ = message.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    fields: dict[bytes, list[bytes]] = {}
    for one in lines:
        name, _, value = one.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip())
    return line, fields


def body_of(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def unchunked(body: bytes) -> bytes:
    """A chunked body read by the plain rule; fails if it is not complete."""
    payload = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert body.endswith(b"\r\n")
            return payload
        payload += body[:length]
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]


# Plain requests.


def test_a_request_reaches_the_backend_and_its_answer_the_client(make):
    world = make()
    client = world.client().send(GET)
    backend = world.backend()
    line, fields = head_of(backend.read())
    assert line == b"GET /x?y=%20z HTTP/1.1"
    assert fields[b"host"] == [b"example.org"]
    backend.send(OK)
    line, fields = head_of(answer := client.read())
    assert line == b"HTTP/1.1 200 OK"
    assert fields[b"date"] == [b"now"]
    assert body_of(answer) == b"hello"
    assert world.outcomes() == {"OK": 1}


def test_the_engine_passes_every_field_in_order_case_and_repetition(engine_world):
    world = engine_world()
    client = world.client()
    client.send(b"GET / HTTP/1.1\r\nhOST: x\r\nB: 2\r\na:1\r\nB:  3 \r\nEmpty:\r\nObs: \xe9\r\n\r\n")
    port = b"%d" % client.sock.getpeername()[1]
    assert world.backend().read() == (
        b"GET / HTTP/1.1\r\nhOST: x\r\nB: 2\r\na:1\r\nB:  3 \r\nEmpty:\r\nObs: \xe9\r\n"
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: x\r\n"
        b"X-Forwarded-Port: " + port + b"\r\n\r\n"
    )
    world.backend().send(b"HTTP/1.1 200 Fine\r\nDATE: d\r\nset-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n")
    assert client.read() == (
        b"HTTP/1.1 200 Fine\r\nDATE: d\r\nset-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
    )


def test_repeated_fields_reach_the_other_side_both_ways(make):
    world = make()
    client = world.client().send(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\n\r\n")
    backend = world.backend()
    assert head_of(backend.read())[1][b"accept"] == [b"a", b"b"]
    backend.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n")
    assert head_of(client.read())[1][b"set-cookie"] == [b"a", b"b"]


def test_connections_are_kept_on_both_sides(make):
    world = make()
    client = world.client()
    for _ in range(3):
        client.send(GET)
        assert world.backend().read().startswith(b"GET ")
        world.backend().send(OK)
        assert body_of(client.read()) == b"hello"
    assert len(world.backend_connections) == 1


def test_requests_take_turns_over_the_backends(make):
    world = make("a:80", "b:80")
    client = world.client()
    for _ in range(4):
        client.send(GET)
        for backend in world.backend_connections:
            if backend.read():
                backend.send(OK)
        client.read()
    assert [backend.requests for backend in world.record] == [2, 2]


def test_pipelined_requests_are_answered_in_order(make):
    world = make()
    client = world.client().send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    backend = world.backend()
    assert backend.read().startswith(b"GET /1 ")
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
    assert backend.read().startswith(b"GET /2 ")
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")
    both = client.read()
    assert both.index(b"\r\n\r\n1") < both.index(b"\r\n\r\n2")


def test_a_head_may_come_byte_by_byte(make):
    world = make()
    client = world.client()
    for at in range(len(GET)):
        client.send(GET[at : at + 1])
    assert world.backend().read().startswith(b"GET /x?y=%20z HTTP/1.1\r\n")
    for at in range(len(OK)):
        world.backend().send(OK[at : at + 1])
    assert body_of(client.read()) == b"hello"


def test_methods_never_heard_of_pass(make):
    world = make()
    world.client().send(b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n")
    assert world.backend().read().startswith(b"BREW /pot HTTP/1.1\r\n")


# Bodies.


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_request_body_arrives_whole(make, chunked):
    world = make()
    if chunked:
        body = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
    else:
        body = b"Content-Length: 7\r\n\r\nabcdefg"
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\n" + body)
    backend = world.backend()
    _, fields = head_of(request := backend.read())
    if b"content-length" in fields:
        assert fields[b"content-length"] == [b"7"]
        assert body_of(request) == b"abcdefg"
    else:
        assert fields[b"transfer-encoding"] == [b"chunked"]
        assert unchunked(body_of(request)) == b"abcdefg"
    backend.send(OK)
    assert body_of(client.read()) == b"hello"


def test_the_engine_streams_a_request_body_before_it_is_complete(engine_world):
    world = engine_world()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
    assert body_of(world.backend().read()) == b"abc"
    client.send(b"def")
    assert world.backend().read() == b"def"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    ],
    ids=["length", "chunked"],
)
def test_an_answer_of_any_framing_arrives_whole(make, answer, expected):
    world = make()
    client = world.client().send(GET)
    world.backend().send(b"HTTP/1.1 200 OK\r\n" + answer)
    _, fields = head_of(got := client.read())
    body = body_of(got) if b"content-length" in fields else unchunked(body_of(got))
    assert body == expected
    assert not client.closed


def test_an_answer_that_ends_with_its_connection_is_chunked_for_the_client(make):
    world = make()
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\n\r\nhel")
    backend.send(b"lo")
    backend.close()
    assert unchunked(body_of(client.read())) == b"hello"
    assert world.outcomes() == {"OK": 1}


def test_the_first_bytes_of_an_answer_come_before_its_last(make):
    world = make()
    client = world.client().send(GET)
    backend = world.backend().send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert client.read().startswith(b"HTTP/1.1 200 OK\r\n")
    backend.send(b"3\r\nabc\r\n")
    assert b"abc" in client.read()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_statuses_without_a_body_have_none(make, status):
    world = make()
    client = world.client().send(GET)
    world.backend().send(b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n")
    assert client.read().endswith(b"\r\n\r\n")
    client.send(GET)
    assert len(world.backend_connections) == 1
    world.backend().send(OK)
    assert body_of(client.read()) == b"hello"


def test_the_answer_to_head_has_a_length_and_no_body(make):
    world = make()
    client = world.client().send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    world.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    _, fields = head_of(answer := client.read())
    assert fields[b"content-length"] == [b"1000"]
    assert body_of(answer) == b""
    client.send(GET)
    world.backend().send(OK)
    assert body_of(client.read()) == b"hello"


def test_trailers_pass_through_the_engine_both_ways(engine_world):
    world = engine_world()
    client = world.client().send(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nSum: 1\r\n\r\n"
    )
    assert world.backend().read().endswith(b"0\r\nSum: 1\r\n\r\n")
    world.backend().send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nSum: 2\r\n\r\n")
    assert client.read().endswith(b"1\r\nb\r\n0\r\nSum: 2\r\n\r\n")


def test_interim_answers_are_relayed_by_the_engine(engine_world):
    world = engine_world()
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    backend = world.backend()
    assert b"Expect: 100-continue\r\n" in backend.read()
    backend.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert backend.read() == b"abc"
    backend.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
    got = client.read()
    assert got.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n")


PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def test_any_number_of_interim_answers_passes_while_the_upload_goes_on(make):
    """Resumable uploads: progress is told again and again, for as long as it takes."""
    world = make()
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
    backend = None
    for _ in range(300):
        client.send(b"x" * 1000)
        if world.backend_connections:
            backend = world.backend()
            backend.read()
            backend.send(PROCESSING * 10)
        client.read()
    backend = backend or world.backend()
    backend.read()
    backend.send(OK)
    assert client.read().endswith(b"hello")
    if world.side == "engine":
        assert client.received.count(PROCESSING) == 3000
    assert world.outcomes() == {"OK": 1}


@pytest.mark.parametrize(("count", "status"), [(100, b"200"), (101, b"502")])
def test_without_progress_interim_answers_together_are_as_long_as_one_head(make, count, status):
    world = make(limits={"head_bytes": 100 * len(PROCESSING)})
    client = world.client().send(GET)
    world.backend().read()
    for _ in range(count):
        world.backend().send(PROCESSING)
    if status == b"200":
        world.backend().send(OK)
    assert b"HTTP/1.1 " + status + b" " in client.read()


def test_what_broke_off_behind_an_interim_answer_was_no_race_of_keep_alive(engine_world):
    """The backend has read the request, however much of the upload came behind that; it is not sent again."""
    world = engine_world()
    client = world.client().send(GET)
    world.backend().read()
    world.backend().send(OK)
    client.read()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
    world.backend().read()
    world.backend().send(PROCESSING)
    client.send(b"b")
    world.backend().read()
    world.backend().close()
    assert b"HTTP/1.1 502 " in client.read()
    assert world.outcomes() == {"OK": 1, "NO_RESPONSE": 1}


def test_a_client_that_does_not_read_gets_no_more_interim_answers(engine_world):
    """It uploads and does not read: what is told to it meanwhile would be held, without a bound."""
    world = engine_world()
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    note = b"HTTP/1.1 102 Processing\r\nNote: " + b"x" * 8000 + b"\r\n\r\n"
    [connection] = world.engine.clients

    def a_piece_and_a_note():
        client.send(b"x")
        world.backend().read()
        world.backend().send(note)

    for _ in range(5000):
        if connection.full:
            break
        a_piece_and_a_note()
    held = connection.transport.unsent
    assert connection.full
    for _ in range(20):
        a_piece_and_a_note()
    assert connection.transport.unsent <= held
    client.reset()


# Old clients.


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"Content-Length: 5\r\n\r\nhello"]
)
def test_a_client_of_http_1_0_gets_no_chunks_and_a_close(make, framing):
    world = make()
    client = world.client().send(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    world.backend().send(b"HTTP/1.1 200 OK\r\n" + framing)
    answer = client.read()
    assert body_of(answer) == b"hello"
    assert b"chunked" not in answer
    assert client.closed


def test_a_client_of_http_1_0_may_ask_to_keep_its_connection(engine_world):
    world = engine_world()
    client = world.client().send(b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
    world.backend().send(OK)
    assert b"\r\nConnection: keep-alive\r\n" in client.read()
    assert not client.closed


def test_a_request_of_http_1_0_without_a_host_gets_the_backends_own(make):
    world = make()
    world.client().send(b"GET / HTTP/1.0\r\n\r\n")
    line, fields = head_of(world.backend().read())
    assert line == b"GET / HTTP/1.1"
    assert fields[b"host"] == [b"a:80"]


# Hop by hop, and who the client is.


def test_hop_by_hop_fields_stay_on_their_hop_both_ways(make):
    world = make()
    client = world.client().send(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Private, Host, X-Forwarded-For\r\nKeep-Alive: 5\r\n"
        b"Proxy-Connection: x\r\nX-Private: 1\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Public: 2\r\n\r\n"
    )
    backend = world.backend()
    _, fields = head_of(backend.read())
    assert set(fields) == {b"host", b"x-public", *OURS}
    backend.send(
        b"HTTP/1.1 200 OK\r\nDate: d\r\nConnection: X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=9\r\nX-Public: 2\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    _, fields = head_of(client.read())
    assert set(fields) - {b"server"} == {b"date", b"x-public", b"content-length"}


def test_what_a_client_says_about_itself_is_replaced(make):
    world = make()
    world.client().send(
        b"GET / HTTP/1.1\r\nHost: real\r\nX-Forwarded-For: 6.6.6.6\r\nX-FORWARDED-PROTO: https\r\n"
        b"x-forwarded-host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\n\r\n"
    )
    _, fields = head_of(world.backend().read())
    assert fields[b"x-forwarded-for"] == [b"127.0.0.1"]
    assert fields[b"x-forwarded-proto"] == [world.scheme]
    assert fields[b"x-forwarded-host"] == [b"real"]
    assert fields[b"x-forwarded-port"] != [b"1"]
    assert b"forwarded" not in fields


# Failures, by the outcome table.


def test_a_refused_connection_goes_to_another_backend_and_ejects(make):
    world = make("a:80", "b:80")
    world.dial.refuse.add("a:80")
    for _ in range(3):
        client = world.client().send(GET)
        world.backend().read()
        world.backend().send(OK)
        assert body_of(client.read()) == b"hello"
        client.close()
    assert world.outcomes() == {"REFUSED": 1, "OK": 3}
    assert not world.record[0].usable


def test_with_nobody_left_a_refused_connection_is_502_and_the_next_request_503(make):
    world = make()
    world.dial.refuse.add("a:80")
    client = world.client().send(GET)
    assert client.read().startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    client.send(GET)
    line, fields = head_of(client.read())
    assert line == b"HTTP/1.1 503 Service Unavailable"
    assert fields[b"retry-after"] == [b"1"]


def test_a_connect_that_hangs_is_504_in_the_end(make):
    world = make()
    world.dial.hang.add("a:80")
    client = world.client().send(GET)
    world.advance(4)
    assert client.read() == b""
    world.advance(20)
    assert client.read().startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert world.outcomes() == {"CONNECT_TIMEOUT": 1}


def test_a_local_failure_blames_nobody_and_is_503(make):
    world = make("a:80", "b:80")
    world.dial.fail = {"a:80": Outcome.LOCAL_FAILURE, "b:80": Outcome.LOCAL_FAILURE}
    client = world.client().send(GET)
    assert client.read().startswith(b"HTTP/1.1 503 ")
    assert world.outcomes() == {"LOCAL_FAILURE": 1}
    assert all(backend.usable for backend in world.record)


def test_where_no_port_is_left_for_a_backend_another_one_is_asked(make):
    world = make("a:80", "b:80")
    world.dial.fail["a:80"] = Outcome.NO_PORT
    for _ in range(2):  # one of them begins at a
        client = world.client().send(GET)
        world.backend(0).send(OK)
        assert body_of(client.read()) == b"hello"
    assert world.outcomes() == {"NO_PORT": 1, "OK": 2}
    assert all(backend.usable for backend in world.record)


def test_where_no_port_is_left_for_any_backend_it_is_503_and_blames_nobody(make):
    world = make("a:80", "b:80")
    world.dial.fail = {"a:80": Outcome.NO_PORT, "b:80": Outcome.NO_PORT}
    client = world.client().send(GET)
    assert client.read().startswith(b"HTTP/1.1 503 ")
    assert world.outcomes() == {"NO_PORT": 2}
    assert all(backend.usable for backend in world.record)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_idempotent_request_without_a_response_is_tried_elsewhere(make, how):
    world = make("a:80", "b:80")
    client = world.client().send(GET)
    first = world.backend()
    getattr(first, how)()
    second = world.backend()
    assert second.backend != first.backend
    assert second.read().startswith(b"GET /x?y=%20z ")
    second.send(OK)
    assert body_of(client.read()) == b"hello"
    assert world.outcomes() == {"NO_RESPONSE": 1, "OK": 1}


def test_a_post_without_a_response_is_not_sent_again(make):
    world = make("a:80", "b:80")
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab")
    world.backend().read()
    world.backend().close()
    assert client.read().startswith(b"HTTP/1.1 502 ")
    assert len(world.backend_connections) == 1


def test_a_put_is_sent_again_with_its_whole_body(make):
    world = make("a:80", "b:80")
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
    client.send(b"def")
    first = world.backend()
    assert body_of(first.read()) == b"abcdef"
    first.close()
    assert body_of(world.backend().read()) == b"abcdef"
    world.backend().send(OK)
    assert body_of(client.read()) == b"hello"


SORRY = b"HTTP/1.1 503 Sorry\r\nDate: now\r\nContent-Length: 4\r\n\r\nbusy"


def test_a_status_that_counts_as_a_failure_is_tried_elsewhere(make):
    world = make("a:80", "b:80", retry={"bad_statuses": [503]})
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    first = world.backend()
    assert body_of(first.read()) == b"abc"
    first.send(SORRY)
    second = world.backend()
    assert second is not first
    assert body_of(second.read()) == b"abc"
    second.send(OK)
    assert body_of(client.read()) == b"hello"
    assert world.outcomes() == {"BAD_STATUS": 1, "OK": 1}
    assert world.events[2:] == []  # it is blamed, and nobody is taken out for it


def test_a_status_that_counts_as_a_failure_reaches_the_client_where_nobody_is_left(make):
    world = make("a:80", retry={"bad_statuses": [503]})
    client = world.client()
    for _ in range(2):  # its connection is kept: the answer was a whole one
        client.send(GET)
        world.backend().read()
        world.backend().send(SORRY)
        answer = client.read()
        assert (head_of(answer)[0], body_of(answer)) == (b"HTTP/1.1 503 Sorry", b"busy")
    assert len(world.backend_connections) == 1
    assert world.outcomes() == {"BAD_STATUS": 2}


def test_a_status_that_counts_as_a_failure_does_not_send_a_post_again(make):
    world = make("a:80", "b:80", retry={"bad_statuses": [503]})
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    world.backend().read()
    world.backend().send(SORRY)
    assert body_of(client.read()) == b"busy"
    assert world.outcomes() == {"BAD_STATUS": 1}


def test_a_status_that_counts_as_a_failure_and_is_cut_is_cut_short(make):
    world = make("a:80", retry={"bad_statuses": [503]})
    client = world.client().send(GET)
    world.backend().read()
    world.backend().send(SORRY[:-1])
    world.backend().close()
    assert client.read().endswith(b"bus")
    assert client.closed
    assert world.outcomes() == {"CUT_SHORT": 1}


def test_a_status_of_a_backend_is_its_own_business_unless_it_is_configured(make):
    world = make("a:80", "b:80", retry={"bad_statuses": [500, 502]})
    client = world.client().send(GET)
    world.backend().read()
    world.backend().send(SORRY)
    assert body_of(client.read()) == b"busy"
    assert world.outcomes() == {"OK": 1}


def test_a_body_longer_than_the_hold_is_not_sent_again(make):
    world = make("a:80", "b:80", limits={"replay_body_bytes": 4})
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabcdef")
    world.backend().read()
    world.backend().close()
    assert client.read().startswith(b"HTTP/1.1 502 ")
    assert len(world.backend_connections) == 1


def test_a_body_longer_than_the_hold_finds_another_backend_when_the_first_one_refuses(engine_world):
    """Nothing was sent yet, and reading stopped at the cap: everything is still held."""
    world = engine_world("a:80", "b:80", limits={"replay_body_bytes": 4})
    world.dial.refuse.add("a:80")
    for _ in range(2):  # one of the two begins with a
        client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nabcdef")
        client.send(b"ghijkl")
        assert body_of(world.backend().read()) == b"abcdefghijkl"
        world.backend().send(OK)
        assert body_of(client.read()) == b"hello"
    assert world.outcomes() == {"REFUSED": 1, "OK": 2}


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(make):
    world = make()
    client = world.client().send(GET)
    world.backend().send(OK)
    client.read()
    stale = world.backend()
    # Request and close cross: the balancer sends before it sees the FIN.
    stale.sock.close()
    client.offer(GET)
    world.run()
    assert world.backend() is not stale
    world.backend().send(OK)
    assert body_of(client.read()) == b"hello"


def test_a_post_takes_no_kept_connection_that_is_a_second_old(make):
    world = make(upstream={"reuse": "always"})
    client = world.client().send(GET)
    world.backend().send(OK)
    client.read()
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    world.advance(0.5)
    client.send(post)
    world.backend().send(OK)
    client.read()
    assert len(world.backend_connections) == 1
    world.advance(1.0)
    client.send(post)
    assert len(world.backend_connections) == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_an_answer_that_is_unsafe_is_502(make, garbage):
    world = make()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    world.backend().send(garbage)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert world.outcomes() == {"BAD_RESPONSE": 1}
    world.backend().read()
    assert world.backend().closed or world.backend().was_reset


def test_no_response_head_in_time_is_504_over_all_attempts_together(make):
    world = make("a:80", "b:80", response_head_s=10)
    client = world.client().send(GET)
    world.advance(10.2)
    assert client.read().startswith(b"HTTP/1.1 504 ")
    # No time was left: the other backend is not asked in vain, and not blamed.
    assert (len(world.backend_connections), world.outcomes()) == (1, {"TIMED_OUT": 1})


def test_a_single_attempt_may_have_less_time_so_that_another_backend_can_be_asked(make):
    world = make("a:80", "b:80", response_head_s=10, attempt_s=4)
    client = world.client().send(GET)
    world.advance(4.2)
    world.backend().send(OK)
    assert client.read().startswith(b"HTTP/1.1 200 ")
    assert world.outcomes() == {"TIMED_OUT": 1, "OK": 1}


def test_connecting_takes_no_longer_than_all_attempts_together(make):
    world = make("a:80", "b:80", "c:80", response_head_s=7)
    world.dial.hang.update(("a:80", "b:80", "c:80"))
    client = world.client().send(GET)
    world.advance(6.9)
    assert client.read() == b""
    world.advance(0.3)
    assert client.read().startswith(b"HTTP/1.1 504 ")
    assert world.outcomes() == {"CONNECT_TIMEOUT": 2}


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 10\r\n\r\nhel", b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"],
    ids=["length", "chunked"],
)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_answer_cut_short_is_seen_to_be_cut(make, framing, how):
    world = make("a:80", "b:80")
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\n" + framing)
    before = client.read()
    getattr(backend, how)()
    client.read()
    assert client.closed or client.was_reset
    assert not client.received.endswith(b"0\r\n\r\n")
    assert before.startswith(b"HTTP/1.1 200 OK")
    assert world.outcomes() == {"CUT_SHORT": 1}


def test_an_answer_cut_short_for_a_client_of_http_1_0_is_a_reset(make):
    world = make()
    client = world.client().send(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    world.backend().read()
    world.backend().send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n")
    world.backend().close()
    client.read()
    assert client.was_reset


def test_bytes_behind_an_answer_reach_nobody(make):
    world = make()
    client = world.client().send(GET)
    world.backend().send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!")
    assert body_of(client.read()) == b"hello"
    client.send(GET)
    assert len(world.backend_connections) == 2
    world.backend().send(OK)
    assert body_of(client.read()) == b"hello"


def test_bytes_on_an_idle_connection_close_it(make):
    world = make()
    client = world.client().send(GET)
    world.backend().send(OK)
    client.read()
    world.backend().send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    client.send(GET)
    assert len(world.backend_connections) == 2


def test_a_backend_that_answers_and_leaves_the_upload_unread_keeps_no_connection(engine_world):
    """It was to get the rest first, and nobody waited for that any more."""
    world = engine_world()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
    push(world, client, 100_000_000)
    world.backend().send(b"HTTP/1.1 413 Too much\r\nContent-Length: 0\r\n\r\n")
    client.read()
    client.close()
    world.advance(15)
    assert world.poller.watched == 0


def test_a_client_that_leaves_takes_its_request_back(make):
    world = make()
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    client.close()
    backend.read()
    assert backend.closed or backend.was_reset
    assert world.outcomes() == {"CLIENT_GONE": 1}


def test_a_client_that_leaves_before_the_connect_takes_its_request_back(make):
    world = make()
    world.dial.hang.add("a:80")
    client = world.client().send(GET)
    client.close()
    assert world.outcomes() == {"CLIENT_GONE": 1}
    assert world.engine.exchanges == 0


def test_a_final_answer_before_the_end_of_the_upload_arrives_and_closes(engine_world):
    world = engine_world()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
    world.backend().read()
    world.backend().send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert client.closed
    world.backend().read()
    assert world.backend().closed or world.backend().was_reset


# Limits and time, on the engine.


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", b"400"),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", b"501"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", b"400"),
    ],
)
def test_what_is_not_one_request_is_refused_and_closed(engine_world, request_bytes, status):
    world = engine_world()
    client = world.client().send(request_bytes)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert b"\r\nConnection: close\r\n" in answer
    assert client.closed
    assert world.backend_connections == []


@pytest.mark.parametrize(
    "start",
    [
        b"GET /x\r\n",
        b"GET / HTTP/2.0\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX",
        b"GET / HTTP/1.1\rHost: a\r\r",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",  # a TLS hello
    ],
)
def test_what_can_no_longer_become_a_request_is_refused_at_once(engine_world, start):
    world = engine_world()
    client = world.client()
    for byte in start:
        if not client.read():
            client.send(bytes([byte]))
    client.read()
    assert client.received.startswith(b"HTTP/1.1 4") or client.received.startswith(b"HTTP/1.1 505")


def test_a_refused_head_request_gets_no_body(engine_world):
    world = engine_world()
    client = world.client().send(b"HEAD / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n")
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert client.received.endswith(b"\r\n\r\n")
    client = world.client().send(b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx")
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert client.received.endswith(b"\r\n\r\n")


def test_a_body_that_is_broken_from_the_start_reaches_no_backend(engine_world):
    world = engine_world()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n")
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert world.backend_connections == []
    assert world.outcomes() == {}


def test_an_answer_with_bare_lf_is_502_at_once(make):
    world = make()
    client = world.client().send(GET)
    world.backend().read()
    world.backend().send(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert client.read().startswith(b"HTTP/1.1 502 ")


def test_a_refused_request_is_followed_by_no_other(engine_world):
    world = engine_world()
    client = world.client().send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + GET)
    assert client.read().count(b"HTTP/1.1 ") == 1
    assert world.backend_connections == []


def test_a_bad_chunk_in_the_middle_of_an_upload_is_400_and_blames_nobody(engine_world):
    world = engine_world()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client.send(b"0x3\r\n")
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert world.outcomes() == {"CLIENT_FAULT": 1}
    world.backend().read()
    assert world.backend().closed or world.backend().was_reset


@pytest.mark.parametrize(
    "upload",
    [b"Content-Length: 11\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n"],
    ids=["length", "chunked"],
)
def test_a_body_over_the_limit_is_413(engine_world, upload):
    world = engine_world(limits={"body_bytes": 10})
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\n" + upload)
    assert client.read().startswith(b"HTTP/1.1 413 ")


def test_a_dribbled_head_ends_in_408(engine_world):
    world = engine_world()
    client = world.client().send(b"GET / HTTP/1.1\r\n")
    for _ in range(9):
        client.send(b"X: y\r\n")
        world.advance(1)
        assert client.read() == b""
    world.advance(1.2)
    assert client.read().startswith(b"HTTP/1.1 408 ")


def test_a_body_that_stalls_ends_in_408(engine_world):
    world = engine_world()
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
    world.advance(29)
    client.send(b"c")
    world.advance(29)
    assert client.read() == b""
    world.advance(1.2)
    assert client.read().startswith(b"HTTP/1.1 408 ")
    assert world.outcomes() == {"CLIENT_FAULT": 1}


def test_an_idle_client_is_closed_in_silence(engine_world):
    world = engine_world()
    client = world.client().send(GET)
    world.backend().send(OK)
    assert client.read()
    world.advance(74)
    client.read()
    assert not client.closed
    world.advance(1.2)
    assert client.read() == b""
    assert client.closed


@pytest.mark.parametrize("empty", [b"", b"\r", b"\r\n"])
def test_a_new_client_that_says_nothing_is_closed_in_silence_and_sooner(engine_world, empty):
    """It holds a place that another one could have; an empty line is nothing."""
    world = engine_world()
    client = world.client()
    world.advance(5)
    client.send(empty)
    world.advance(4.9)
    assert (client.read(), client.closed) == (b"", False)
    world.advance(0.3)
    assert (client.read(), client.closed) == (b"", True)
    assert not client.was_reset


def test_a_new_client_that_says_nothing_gives_its_place_at_once_also_where_it_does_not_close(engine_world):
    world = engine_world()
    client = world.client()
    world.advance(9.9)
    assert world.engine.gate.open == 1
    world.advance(0.3)
    assert (world.engine.gate.open, client.was_reset) == (0, False)


def test_a_new_client_that_says_nothing_has_no_longer_than_one_that_is_kept(engine_world):
    world = engine_world(client_idle_s=3)
    world.client()
    world.advance(2.9)
    assert world.engine.gate.open == 1
    world.advance(0.3)
    assert world.engine.gate.open == 0


def test_a_new_client_that_says_something_has_the_time_of_a_head(engine_world):
    world = engine_world(first_byte_s=2, head_s=5)
    client = world.client()
    world.advance(1.9)
    client.send(b"G")
    world.advance(4.9)
    assert (client.read(), client.closed) == (b"", False)
    world.advance(0.3)
    assert client.read().startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_to_a_backend_is_closed(engine_world):
    world = engine_world()
    client = world.client().send(GET)
    world.backend().send(OK)
    client.read()
    world.advance(60.2)
    world.backend().read()
    assert world.backend().closed


def test_a_response_that_stalls_is_cut(engine_world):
    world = engine_world()
    client = world.client().send(GET)
    world.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    world.advance(59)
    world.backend().send(b"d")
    world.advance(59)
    client.read()
    assert not client.closed
    world.advance(1.2)
    client.read()
    assert client.closed
    assert world.outcomes() == {"CUT_SHORT": 1}


# Back-pressure, on both client sides.

PIECE = bytes(range(256)) * 256


def test_a_client_that_does_not_read_stops_the_backend(make):
    world = make()
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * 400))
    sent = push(world, backend, len(PIECE) * 400)
    assert sent < len(PIECE) * 400, "the backend could send everything to a client that reads nothing"
    got = len(body_of(client.read()))
    while sent < len(PIECE) * 400:
        sent += push(world, backend, len(PIECE) * 400 - sent, sent)
        got += len(client.read())
    got += len(client.read())
    assert got == len(PIECE) * 400
    assert world.outcomes() == {"OK": 1}


def test_a_backend_that_does_not_read_stops_the_client(engine_world):
    world = engine_world()
    total = len(PIECE) * 400
    client = world.client().send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % total)
    backend = world.backend()
    sent = push(world, client, total)
    assert sent < total, "the client could send everything to a backend that reads nothing"
    got = len(body_of(backend.read()))
    while sent < total:
        sent += push(world, client, total - sent, sent)
        got += len(backend.read())
    got += len(backend.read())
    assert got == total
    backend.send(OK)
    assert body_of(client.read()) == b"hello"


def push(world: World, peer, most: int, offset: int = 0) -> int:
    """Send as much as the other end takes without anybody reading."""
    sent = 0
    while sent < most:
        at = (offset + sent) % len(PIECE)
        try:
            sent += peer.offer(PIECE[at : at + most - sent])
        except BlockingIOError:
            if not world.run():
                return sent
    world.run()
    return sent


def test_requests_sent_far_ahead_wait_in_the_kernel(engine_world):
    world = engine_world()
    client = world.client().send(GET)
    sent = 0
    try:
        while sent < 1 << 26:
            sent += client.offer(GET * 1000)
            world.run()
    except BlockingIOError:
        pass
    assert sent < 1 << 26


# Draining, on the engine.


def test_while_draining_an_answer_ends_its_connection(engine_world):
    world = engine_world()
    client = world.client().send(GET)
    world.engine.draining = True
    for downstream in list(world.engine.clients):
        downstream.drain()
    world.backend().send(OK)
    answer = client.read()
    assert b"\r\nConnection: close\r\n" in answer
    assert client.closed


def test_while_draining_an_idle_connection_still_answers_what_is_on_its_way(engine_world):
    world = engine_world()
    idle, late = world.client(), world.client()
    world.engine.draining = True
    for downstream in list(world.engine.clients):
        downstream.drain()
    world.advance(0.2)
    late.send(GET)
    world.backend().send(OK)
    assert body_of(late.read()) == b"hello"
    world.advance(0.5)
    idle.read()
    assert idle.closed


def test_a_close_of_ours_waits_for_what_the_client_has_still_sent(engine_world):
    """Closing with bytes unread would reset the connection and could take the answer away (RFC 9112 9.6)."""
    world = engine_world()
    client = world.client().send(GET)
    world.engine.draining = True
    world.backend().read()
    client.offer(GET)
    world.backend().send(OK)
    assert body_of(client.read()) == b"hello"
    assert client.closed
    assert not client.was_reset
    client.send(b"and more")
    assert not client.was_reset
    world.advance(2.2)
    assert len(world.engine.clients) == 0


def test_lingering_lasts_as_long_after_a_long_silence(engine_world):
    """The clock of the hot path is that of the last batch; deadlines bring their own."""
    world = engine_world()
    client = world.client().send(GET)
    world.backend().send(OK)
    client.read()
    world.advance(75.2)
    client.read()
    assert client.closed
    world.advance(1.5)
    assert len(world.engine.clients) == 1
    world.advance(0.8)
    assert len(world.engine.clients) == 0


# Kept connections wear out.


def exchange_one(world: World, client) -> None:
    client.send(GET)
    world.backend().read()
    for backend in world.backend_connections:
        if (
            not backend.closed
            and not backend.was_reset
            and backend.received
            and backend is world.backend_connections[-1]
        ):
            backend.send(OK)
    client.read()


def test_a_connection_is_replaced_after_its_requests(engine_world):
    world = engine_world(upstream={"max_requests": 2})
    client = world.client()
    for _ in range(5):
        exchange_one(world, client)
    assert len(world.backend_connections) == 3


def test_a_connection_is_replaced_at_its_age(engine_world):
    world = engine_world(upstream={"max_age_s": 100.0})
    client = world.client()
    for _ in range(5):
        exchange_one(world, client)
        world.advance(40)
    # It is 120 s old after its fourth request.
    assert len(world.backend_connections) == 2


def test_no_more_connections_are_kept_than_allowed(engine_world):
    world = engine_world(upstream={"max_idle": 2})
    clients = [world.client().send(GET) for _ in range(5)]
    for backend in list(world.backend_connections):
        backend.read()
        backend.send(OK)
    for client in clients:
        client.read()
    assert (world.cluster.idle, world.cluster.open) == (2, 2)


def test_with_none_kept_each_request_has_its_own(engine_world):
    world = engine_world(upstream={"max_idle": 0})
    client = world.client()
    for _ in range(3):
        exchange_one(world, client)
    assert len(world.backend_connections) == 3


def test_the_connection_used_last_is_used_next(engine_world):
    world = engine_world()
    clients = [world.client().send(GET) for _ in range(3)]
    for backend in list(world.backend_connections):
        backend.read()
    for index in (0, 2, 1):
        world.backend_connections[index].send(OK)
    for client in clients:
        client.read()
    clients[0].send(GET)
    assert [bool(backend.read()) for backend in world.backend_connections] == [False, True, False]
    world.backend_connections[1].send(OK)


# Slow readers.


def test_a_client_that_reads_nothing_at_all_is_cut_off_in_the_end(engine_world):
    world = engine_world()
    world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 27))
    push(world, backend, 1 << 27)
    world.advance(59)
    assert len(world.engine.clients) == 1
    world.advance(2)
    if world.engine.clients:
        # A busy kernel went on moving bytes into the client's buffer after the pause: that counts as taking them, once.
        world.advance(60)
    assert len(world.engine.clients) == 0
    assert world.outcomes() == {"CLIENT_GONE": 1}


def test_a_client_that_reads_slowly_is_served_to_the_end(engine_world):
    world = engine_world()
    total = 1 << 23
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    sent = got = 0
    for _ in range(2000):
        sent += push(world, backend, min(total - sent, 1 << 20), sent)
        world.advance(20)
        with contextlib.suppress(BlockingIOError):
            got += client.sip(1 << 18)
        if got >= total:
            break
    assert got >= total
    assert world.outcomes() == {"OK": 1}


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40000, b"HTTP/1.1 103 Early\r\n\r\n" * 2000],
    ids=["endless head", "endless interim answers"],
)
def test_an_answer_without_an_end_to_its_head_is_502(make, head):
    world = make()
    client = world.client().send(GET)
    backend = world.backend()
    backend.read()
    with contextlib.suppress(OSError):
        for at in range(0, len(head), 1000):
            backend.sock.send(head[at : at + 1000])
            world.run()
    world.run()
    answer = client.read()
    assert b"HTTP/1.1 502 " in answer
    assert world.outcomes() == {"BAD_RESPONSE": 1}


def test_the_resource_refuses_what_our_grammar_refuses():
    """twisted.web lets two Hosts and a bad one through; both client sides have one grammar."""
    for request, status in [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world", b"413"),
    ]:
        world = World(side="resource", limits={"body_bytes": 10})
        client = world.client().send(request)
        assert client.read().startswith(b"HTTP/1.1 " + status)
        assert world.backend_connections == []
        world.close()


def test_the_resource_sends_on_the_bytes_behind_its_place_unchanged():
    from twisted_lb.net.resource import _below

    assert _below(b"/api/a%2Fb//c/?q=/x", 1) == b"/a%2Fb//c/?q=/x"
    assert _below(b"/api", 1) == b"/"
    assert _below(b"/a/b/c", 0) == b"/a/b/c"
    assert _below(b"/?x", 0) == b"/?x"


@pytest.mark.parametrize(
    ("request_bytes", "line", "host"),
    [
        (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS * HTTP/1.1", b"a"),
        (b"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"OPTIONS / HTTP/1.1", b"a"),
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1", b"a"),
        (b"GET http://outer:8/x HTTP/1.0\r\n\r\n", b"GET /x HTTP/1.1", b"outer:8"),
    ],
)
def test_an_absolute_target_becomes_what_the_rfc_makes_of_it(engine_world, request_bytes, line, host):
    world = engine_world()
    world.client().send(request_bytes)
    got, fields = head_of(world.backend().read())
    assert (got, fields[b"host"]) == (line, [host])


@pytest.mark.parametrize(
    "target", [b"http://", b"http:///x", b"http://u@a/", b"http://a|b/", b"http://?x", b"http://a:x/"]
)
def test_an_absolute_target_without_a_plain_host_is_refused(engine_world, target):
    world = engine_world()
    for version in (b"1.0\r\n\r\n", b"1.1\r\nHost: a\r\n\r\n"):
        assert world.client().send(b"GET " + target + b" HTTP/" + version).read().startswith(b"HTTP/1.1 400 ")
    assert world.backend_connections == []


@pytest.mark.parametrize(
    ("target", "host", "same"),
    [
        (b"http://a:80/", b"a", True),
        (b"http://a/", b"A:80", True),
        (b"https://a:443/", b"a", True),
        (b"http://a:443/", b"a", False),
        (b"http://a:8080/", b"a", False),
    ],
)
def test_a_default_port_says_nothing(engine_world, target, host, same):
    world = engine_world()
    client = world.client().send(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert client.read().startswith(b"" if same else b"HTTP/1.1 400 ")
    assert len(world.backend_connections) == same


def test_a_unix_backend_is_called_localhost_where_the_client_named_nobody(engine_world):
    world = engine_world("unix:/run/app.sock")
    world.client().send(b"GET / HTTP/1.0\r\n\r\n")
    assert head_of(world.backend().read())[1][b"host"] == [b"localhost"]
