"""Backends that break HTTP/2, or flood us with it: the connection ends, each call has an outcome, and nothing is held without a bound."""

from collections.abc import Iterator

import pytest
from h2.settings import SettingCodes
from http2_house import Http2House

from twisted_lb.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame_head,
)
from twisted_lb.wire.http2.hpack import literal

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_head(len(payload), kind, flags, stream) + payload


SETTINGS_FRAME = frame(SETTINGS, 0, 0)
OK = frame(HEADERS, END_HEADERS, 1, b"\x88")
OK_ENDED = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88")


class RawBackend:
    """A backend that sends these bytes once a request is here, whatever it is."""

    def __init__(self, house: Http2House, said: bytes, *, settings: bytes = SETTINGS_FRAME) -> None:
        self.connections: list[RawConnection] = []
        self._said = said
        self._settings = settings
        house.network.listen("a:80", self._connected)

    def _connected(self) -> "RawConnection":
        self.connections.append(RawConnection(self._settings, self._said))
        return self.connections[-1]

    @property
    def codes(self) -> list[int]:
        """With which codes the balancer has said good bye."""
        return [one.goaway for one in self.connections]


class RawConnection:
    def __init__(self, settings: bytes, said: bytes) -> None:
        self._settings = settings
        self._said = said
        self.received = b""
        self.lost = False

    def makeConnection(self, transport):
        self.transport = transport
        transport.write(self._settings)

    def dataReceived(self, data):
        before, self.received = self.received, self.received + data
        if (b"\x82\x86\x04" in self.received + b"" and b"\x82\x86\x04" not in before) or (
            b"\x83\x86\x04" in self.received and b"\x83\x86\x04" not in before
        ):
            self.transport.write(self._said)

    def readConnectionLost(self):
        self.transport.loseConnection()

    def connectionLost(self, reason):
        self.lost = True

    @property
    def frames(self) -> list[tuple[int, int, bytes]]:
        """What the balancer has sent: kind, stream, payload."""
        data, found = self.received[24:], []
        while data:
            size = int.from_bytes(data[:3], "big")
            found.append((data[3], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
            data = data[9 + size :]
        return found

    @property
    def goaway(self) -> int:
        codes = [int.from_bytes(payload[4:8], "big") for kind, _, payload in self.frames if kind == GOAWAY]
        return codes[-1] if codes else -1

    @property
    def resets(self) -> list[tuple[int, int]]:
        return [(stream, int.from_bytes(payload, "big")) for kind, stream, payload in self.frames if kind == RST_STREAM]


@pytest.fixture
def house() -> Iterator[Http2House]:
    one = Http2House(retry={"more_attempts": 0})
    yield one
    one.close()


def block(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join(literal(name, value) for name, value in fields)


# What ends the whole connection: what is sent behind the head of a request, the code that it is told, and the outcome of the call.
BROKEN = {
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82"), 1, "BAD_RESPONSE"),
    "a frame that is too long": (frame_head(16385, DATA, 0, 1), 6, "BAD_RESPONSE"),
    "HEADERS on a stream of its own": (frame(HEADERS, END_HEADERS, 2, b"\x88"), 1, "BAD_RESPONSE"),
    "HEADERS on a stream that is idle": (frame(HEADERS, END_HEADERS, 9, b"\x88"), 1, "BAD_RESPONSE"),
    "DATA on a stream that is idle": (frame(DATA, 0, 9, b"x"), 1, "BAD_RESPONSE"),
    "RST_STREAM on a stream that is idle": (frame(RST_STREAM, 0, 9, b"\0\0\0\2"), 1, "BAD_RESPONSE"),
    "a window of 0 of the connection": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), 1, "BAD_RESPONSE"),
    "a window of the connection that is too large": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), 3, "BAD_RESPONSE"),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, b"\x88"), 1, "BAD_RESPONSE"),
    "a frame within a field block": (frame(HEADERS, 0, 1, b"\x88") + frame(PING, 0, 0, b"x" * 8), 1, "BAD_RESPONSE"),
    "CONTINUATIONs without end": (
        frame(HEADERS, 0, 1, b"\x88") + frame(CONTINUATION, 0, 1) * 100, 11, "BAD_RESPONSE",
    ),
    "an index of no field": (frame(HEADERS, END_HEADERS, 1, b"\xff\x20"), 9, "BAD_RESPONSE"),
    "a table where there is none": (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\x1f\x88"), 9, "BAD_RESPONSE"),
    "settings that may not be": (frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"), 3, "BAD_RESPONSE"),
    "a server that asks for pushes": (frame(SETTINGS, 0, 0, b"\0\2\0\0\0\1"), 1, "BAD_RESPONSE"),
    "padding longer than its frame": (frame(DATA, PADDED, 1, b"\x09abc"), 1, "BAD_RESPONSE"),
    "more than the window of the connection": (OK + frame(DATA, 0, 3, b"x" * 16384) * 1100, 1, "CUT_SHORT"),
    # Floods: each frame is allowed, so many bring nothing.
    "pings": (frame(PING, 0, 0, b"12345678") * 1200, 11, "BAD_RESPONSE"),
    "settings": (SETTINGS_FRAME * 1200, 11, "BAD_RESPONSE"),
    "priorities": (frame(PRIORITY, 0, 1, b"\0\0\0\0\x10") * 1200, 11, "BAD_RESPONSE"),
    "unknown frames": (frame(99, 0, 1, b"?") * 1200, 11, "BAD_RESPONSE"),
    "DATA that is empty": (OK + frame(DATA, 0, 1) * 1200, 11, "CUT_SHORT"),
    "fields on a stream that is closed": (OK_ENDED + frame(HEADERS, END_HEADERS, 1, b"\x88") * 1200, 11, "OK"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_who_breaks_the_protocol_is_told_so_and_each_call_has_its_outcome(house, what):
    said, code, outcome = BROKEN[what]
    backend = RawBackend(house, said)
    client = house.ask(POST)
    assert house.outcomes == [outcome]
    assert client.ended or client.take().startswith(b"HTTP/1.1 ")
    assert backend.codes == [code]
    house.wait(11)
    assert (backend.connections[0].lost, house.cluster.open) == (True, 0)


def test_the_answers_to_a_flood_of_pings_are_bounded(house):
    backend = RawBackend(house, frame(PING, 0, 0, b"12345678") * 5000)
    house.ask(POST)
    pongs = [one for one in backend.connections[0].frames if one[0] == PING]
    assert len(pongs) <= 1000


def test_a_backend_that_pings_now_and_then_may_do_so_for_ever(house):
    backend = house.http2("a:80", otherwise=lambda request: request.head())
    house.ask()
    request = backend.requests[-1]
    for _ in range(250):
        request.connection.raw(frame(PING, 0, 0, b"12345678") * 5 + frame(DATA, 0, request.stream, b"x"))
        house.wait(1)
    assert (house.records, backend.connection.open) == ([], True)


# What ends a call, and not the connection: what comes for the call, and its outcome.
MALFORMED = {
    "no status": (frame(HEADERS, END_HEADERS, 1, block((b"server", b"x"))), "BAD_RESPONSE"),
    "a status of two digits": (frame(HEADERS, END_HEADERS, 1, block((b":status", b"20"))), "BAD_RESPONSE"),
    "a status that is no number": (frame(HEADERS, END_HEADERS, 1, block((b":status", b"2x0"))), "BAD_RESPONSE"),
    "a status beyond all": (frame(HEADERS, END_HEADERS, 1, block((b":status", b"600"))), "BAD_RESPONSE"),
    "two statuses": (frame(HEADERS, END_HEADERS, 1, b"\x88\x88"), "BAD_RESPONSE"),
    "a status behind a field": (frame(HEADERS, END_HEADERS, 1, block((b"a", b"b")) + b"\x88"), "BAD_RESPONSE"),
    "a pseudo-field of requests": (frame(HEADERS, END_HEADERS, 1, b"\x88\x82"), "BAD_RESPONSE"),
    "an upper case name": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"Server", b"x"))), "BAD_RESPONSE"),
    "a line end in a value": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"a", b"b\r\nc: d"))), "BAD_RESPONSE"),
    "a line end in a name": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"a\r\nb", b"c"))), "BAD_RESPONSE"),
    "connection": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"connection", b"close"))), "BAD_RESPONSE"),
    "transfer-encoding": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"transfer-encoding", b"chunked"))), "BAD_RESPONSE"),
    "two lengths": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"content-length", b"1")) * 2), "BAD_RESPONSE"),
    "a length that is none": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"content-length", b"+1"))), "BAD_RESPONSE"),
    "a length without a body": (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88" + block((b"content-length", b"1"))), "BAD_RESPONSE"),
    "a switch of protocols": (frame(HEADERS, END_HEADERS, 1, block((b":status", b"101"))), "BAD_RESPONSE"),
    "an interim answer that ends it": (frame(HEADERS, END_HEADERS | END_STREAM, 1, block((b":status", b"103"))), "BAD_RESPONSE"),
    "interim answers without end": (frame(HEADERS, END_HEADERS, 1, block((b":status", b"103"), (b"a", b"b" * 1000))) * 50, "BAD_RESPONSE"),
    "DATA before a head": (frame(DATA, 0, 1, b"x"), "BAD_RESPONSE"),
    "more fields than may be": (frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"a", b"b")) * 200), "BAD_RESPONSE"),
    "a body that is too short": (
        frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"content-length", b"5"))) + frame(DATA, END_STREAM, 1, b"four"), "CUT_SHORT",
    ),
    "a body that is too long": (
        frame(HEADERS, END_HEADERS, 1, b"\x88" + block((b"content-length", b"3"))) + frame(DATA, 0, 1, b"four"), "CUT_SHORT",
    ),
    "a body of a bodiless answer": (frame(HEADERS, END_HEADERS, 1, b"\x89") + frame(DATA, END_STREAM, 1, b"x"), "CUT_SHORT"),
    "a block within the body": (OK + frame(DATA, 0, 1, b"x") + frame(HEADERS, END_HEADERS, 1, block((b"a", b"b"))), "CUT_SHORT"),
    "a pseudo-field among the trailers": (OK + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88"), "CUT_SHORT"),
    "a length among the trailers": (OK + frame(HEADERS, END_HEADERS | END_STREAM, 1, block((b"content-length", b"1"))), "CUT_SHORT"),
    "a window of 0": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"), "BAD_RESPONSE"),
    "a window that is too large": (frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"), "BAD_RESPONSE"),
}  # fmt: skip


@pytest.mark.parametrize("what", MALFORMED)
def test_an_answer_that_is_none_ends_its_call_alone(house, what):
    said, outcome = MALFORMED[what]
    backend = RawBackend(house, said)
    client = house.ask(POST)
    assert house.outcomes == [outcome]
    heard = client.take()
    assert b"HTTP/1.1 502 " in heard or (outcome == "CUT_SHORT" and client.ended)
    connection = backend.connections[0]
    assert [(stream, code) for stream, code in connection.resets] in ([(1, 1)], [(1, 3)])
    assert (connection.lost, connection.goaway) == (False, -1)


def test_a_backend_cannot_make_us_hold_more_than_a_window_for_a_client_that_does_not_read(house):
    RawBackend(house, OK + frame(DATA, 0, 1, b"x" * 16384) * 200)
    client = house.client()
    client.stop_reading()
    house.ask(POST, client)
    assert house.outcomes == ["CUT_SHORT"]
    assert house.records[-1].detail == "more than the window of a stream takes"


def test_what_is_on_its_way_of_answers_that_were_taken_back_is_no_glitch(house):
    backend = house.http2("a:80", otherwise=lambda request: request.head())
    house.ask()
    for _ in range(40):
        client = house.ask()
        client.close()
        backend.requests[-1].connection.raw(frame(DATA, 0, backend.requests[-1].stream, b"x" * 1000) * 50)
        house.clock.settle()
    assert (len(backend.connections), backend.connection.open) == (1, True)


def test_a_backend_that_opens_no_window_holds_its_client_until_the_time_is_over(house):
    backend = house.http2("a:80", settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    house.ask()
    client = house.ask(POST)
    assert (backend.requests[1].body, client.take()) == (b"", b"")
    house.wait(600)
    assert client.take().startswith(b"HTTP/1.1 504 ")
    assert (backend.requests[1].reset, house.outcomes) == (8, ["TIMED_OUT"])


def test_an_acknowledgement_that_nobody_waits_for_is_harmless(house):
    RawBackend(house, frame(SETTINGS, ACK, 0) + frame(PING, ACK, 0, b"xxxxxxxx") + OK_ENDED)
    house.ask(POST)
    assert house.outcomes == ["OK"]
