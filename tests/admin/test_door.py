"""The admin door of a service: guests over real sockets who do not read, do not leave, or are too many."""

import re
import socket
from contextlib import ExitStack, closing

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.test.requesthelper import DummyRequest

from twisted_lb.admin.door import AdminDoor, Doors, Root
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.errors import StartError
from twisted_lb.service import LoadBalancerService

ASKS = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
LISTENS = b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"


def configured(path, **admin):
    return LoadBalancerConfig(
        backends=["127.0.0.1:9"],
        listen={"port": 0, "interface": "127.0.0.1"},
        health_check={"interval_s": 0.0},
        admin={"socket": path, **admin},
    )


@pytest_twisted.async_yield_fixture
async def service(tmp_path):
    one = LoadBalancerService(configured(str(tmp_path / "admin.sock")))
    one.privilegedStartService()
    one.startService()
    yield one
    await one.stopService()


@pytest.fixture
def guests():
    with ExitStack() as stack:
        yield stack


def guest(guests, service, says=b""):
    """Somebody who has come in, and said this."""
    sock = guests.enter_context(closing(socket.socket(socket.AF_UNIX)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(service.config.admin.socket)
    sock.setblocking(False)
    sock.sendall(says)
    return sock


async def heard(sock, enough=b"\r\n\r\n"):
    """What a guest hears, until this is in it, or until it is over."""
    found = b""
    while enough not in found:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            await deferLater(reactor, 0.005)
            continue
        except ConnectionResetError:
            break
        if not data:
            break
        found += data
    return found


async def so(condition):
    while not condition():
        await deferLater(reactor, 0.005)


@pytest_twisted.ensureDeferred
async def test_a_listener_that_does_not_read_is_dropped_and_others_go_on(service, guests):
    events = service.operator._events
    before = len(events._hearing)  # the charts
    slow, other = (guest(guests, service, LISTENS) for _ in range(2))
    await so(lambda: len(events._hearing) == before + 2)
    for _ in range(40):
        events.add("reload", "", "x" * 100_000)
        await heard(other, b'x", "actor": ""}\n\n')
    await so(lambda: len(events._hearing) == before + 1)
    events.add("up", "", "")
    assert b"event: up" in await heard(other, b"event: up")
    assert len(await heard(slow, b"event: up")) < 2_000_000


@pytest_twisted.ensureDeferred
async def test_a_crowd_has_so_many_connections_and_then_there_is_room_again(service, guests):
    crowd = [guest(guests, service) for _ in range(100)]
    crowd[-1].sendall(ASKS)
    assert (await heard(crowd[-1])).startswith(b"HTTP/1.1 200 ")
    assert await heard(guest(guests, service)) == b""
    crowd[0].close()
    answer = b""
    while not answer:
        answer = await heard(guest(guests, service, ASKS))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/v1/openapi.json", "/v1/status", "/metrics", "/", "/app.js", "/none"])
@pytest_twisted.ensureDeferred
async def test_a_segment_full_of_requests_is_one_answer(service, guests, path):
    asks = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    heap = guest(guests, service, asks * 1000)
    answers = await heard(heap, b"nothing of the kind")
    assert answers.startswith(b"HTTP/1.1 ")
    assert len(re.findall(rb"HTTP/1\.1 [0-9]{3} ", answers)) == 1  # a description may name the protocol
    patient = guest(guests, service, ASKS)
    assert (await heard(patient, b"}\n")).startswith(b"HTTP/1.1 200 ")
    patient.sendall(ASKS)
    assert (await heard(patient, b"}\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["//v1/status", "/app.js/x", "//", "/style.css/", "/metrics/x"])
@pytest_twisted.ensureDeferred
async def test_what_is_not_there_is_said_as_json_also_where_a_page_is_near(service, guests, path):
    answer = await heard(guest(guests, service, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()), b"}\n")
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b'"code": "no_such_path"' in answer


@pytest.mark.parametrize("path", ["/", "/metrics", "/app.js"])
@pytest_twisted.ensureDeferred
async def test_what_can_only_be_read_says_so_and_its_head_alone_writes_no_line(service, guests, path):
    answer = await heard(guest(guests, service, f"PUT {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()), b"}\n")
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b'"code": "no_such_method"' in answer
    said = []
    globalLogPublisher.addObserver(said.append)
    asks = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    answer = await heard(guest(guests, service, asks), b"nothing of the kind")
    globalLogPublisher.removeObserver(said.append)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert int(re.search(rb"(?i)content-length: (\d+)", head)[1]) > 1000
    assert body == b""
    assert [formatEvent(one) for one in said if one["log_namespace"].startswith(("twisted_lb", "twisted.web"))] == []


@pytest_twisted.ensureDeferred
async def test_the_user_of_a_unix_connection_may_change_things(service, guests):
    body = b'{"weight": 3}'
    head = b"PATCH /v1/backends/default/127.0.0.1%%3A9 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    answer = await heard(guest(guests, service, head.replace(b"%%", b"%") + b"Content-Length: 13\r\n\r\n" + body))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest_twisted.ensureDeferred
async def test_a_door_that_leaves_takes_nobody_in_and_closing_twice_is_fine(service, guests):
    one = guest(guests, service, ASKS)
    await heard(one)
    door = service._admin
    assert door.places
    door.leave()
    assert await heard(one, b"nothing of the kind") is not None
    with pytest.raises(FileNotFoundError):
        guest(guests, service)
    door.close()
    door.close()
    assert door.places == []


def test_a_socket_that_cannot_be_had_ends_the_start_and_leaves_nothing(tmp_path):
    service = LoadBalancerService(configured(str(tmp_path / "none" / "admin.sock")))
    with pytest.raises(StartError, match=r"^admin\.socket .*: No such file or directory$"):
        service.privilegedStartService()
    assert service._openings is None


def test_a_door_that_nobody_wants_is_none():
    door = AdminDoor(Doors(), reactor)
    assert not door.wanted
    door.bind()
    door.accept()
    door.close()


@pytest_twisted.ensureDeferred
async def test_a_programs_configuration_is_not_read_anew(service, guests):
    head = b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    answer = await heard(guest(guests, service, head), b"}\n")
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b'"busy"' in answer


@pytest_twisted.ensureDeferred
async def test_a_port_has_the_api_by_tokens_and_goes_with_the_service(guests):
    lines = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.admin.door":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    service = LoadBalancerService(configured("", address="127.0.0.1:0"))
    service.privilegedStartService()
    service.startService()
    globalLogPublisher.removeObserver(observe)
    (place,) = service._admin.places
    assert lines[0] == f"admin page on http://{place}/"
    token = lines[1].rpartition(" ")[2]
    assert lines[1:] == [f"admin: to change something there, the token of this start is {token}"]
    sock = guests.enter_context(closing(socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2])))))
    sock.setblocking(False)
    sock.sendall(ASKS.replace(b"Host: x", b"Host: localhost"))
    assert b'"scope": "read"' in await heard(sock, b"}\n")
    sock.sendall(ASKS.replace(b"Host: x", f"Host: localhost\r\nAuthorization: Bearer {token}".encode()))
    assert b'"scope": "change"' in await heard(sock, b"}\n")
    await service.stopService()
    assert await heard(sock) == b""


@pytest_twisted.ensureDeferred
async def test_who_takes_over_and_cannot_have_the_socket_says_so(service, tmp_path, monkeypatch, logged_errors):
    runtime = service.data_plane.runtime
    door = AdminDoor(Doors(path=str(tmp_path / "none" / "x.sock"), explicit=True), reactor)
    door.begin(service.operator, runtime)
    said = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.admin.door":
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    door.accept(instead=True)
    globalLogPublisher.removeObserver(observe)
    assert said == [f"admin.socket {tmp_path}/none/x.sock: No such file or directory"]
    door.begin(service.operator, runtime)
    with pytest.raises(StartError, match="No such file or directory"):
        door.accept()
    door.close()


def test_a_page_stands_beside_the_api():
    page, api = Resource(), Resource()
    page.putChild(b"", page)
    root = Root(api, page)
    assert root.getChild(b"v1", DummyRequest([])) is api
    assert root.getChild(b"", DummyRequest([])) is page
