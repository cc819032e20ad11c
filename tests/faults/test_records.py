"""What the fault network reads of a connection over TLS: all that was said, by the secrets of its ends, and what is none."""

import struct

import pytest
from faults.certificates import APP, BACKENDS, RIGHT, backend_context, client_context
from faults.records import ALERT, DATA, GOOD_BYE, HEADER, NO_TLS, SHAKEN, Wire
from faults.securing import header_of, source_of
from tls_peers import TlsEnd


class Pair:
    """Two ends in memory, and what is read of the wire between them, piece by piece of `size` bytes."""

    def __init__(self, *, old: bool = False, shows: str = RIGHT, name: str = BACKENDS[0], size: int = 1 << 20) -> None:
        self.client = TlsEnd(client_context(old=old), name=name)
        self.server = TlsEnd(backend_context(shows), server_side=True)
        self.wire = Wire(tls=True, proxy_from_client=False)
        self.seen: list[tuple[str, str, bytes]] = []
        self._size = size

    def pump(self) -> None:
        """Carry what both have to say."""
        for way, from_, to in (
            (self.wire.from_client, self.client, self.server),
            (self.wire.from_server, self.server, self.client),
        ):
            data = from_.outbound.read()
            to.inbound.write(data)
            side = "client" if from_ is self.client else "server"
            for at in range(0, len(data), self._size):
                for one in way.feed(data[at : at + self._size]):
                    self.seen.append((side, one.what, one.data))

    def shake(self) -> "Pair":
        while True:
            up = self.client.shake(), self.server.shake()
            self.pump()
            if all(up):
                return self


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("old", [False, True])
def test_all_that_is_said_is_read_in_its_order(old, size):
    pair = Pair(old=old, size=size).shake()
    assert pair.wire.up
    assert pair.wire.modern is not old
    assert {(side, what) for side, what, _ in pair.seen} == {("client", SHAKEN), ("server", SHAKEN)}
    pair.seen.clear()
    pair.client.tls.write(b"x" * 16384)
    pair.client.tls.write(b"more")
    pair.server.tls.write(b"an answer")
    pair.server.say_good_bye()
    pair.pump()
    assert pair.seen == [
        ("client", DATA, b"x" * 16384),
        ("client", DATA, b"more"),
        ("server", DATA, b"an answer"),
        ("server", GOOD_BYE, b""),
    ]


@pytest.mark.parametrize("shows", ["another name", "another authority", "expired"])
def test_a_refused_certificate_is_an_alert_and_no_handshake_is_over(shows):
    pair = Pair(shows=shows)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        pair.shake()
    pair.pump()
    assert ("client", SHAKEN, b"") not in pair.seen
    assert pair.seen[-1][:2] == ("client", ALERT)


def test_plain_text_where_tls_is_spoken_is_seen():
    pair = Pair().shake()
    (seen,) = pair.wire.from_client.feed(b"GET / HTTP/1.1\r\n\r\n")
    assert seen.what == NO_TLS
    assert pair.wire.from_client.broken


def test_a_record_that_was_changed_on_the_way_is_seen():
    pair = Pair().shake()
    pair.client.tls.write(b"hello")
    record = bytearray(pair.client.outbound.read())
    record[-1] ^= 1
    (seen,) = pair.wire.from_client.feed(bytes(record))
    assert seen.what == NO_TLS


def test_data_before_the_end_of_a_handshake_is_none():
    wire = Wire(tls=True, proxy_from_client=False)
    (seen,) = wire.from_client.feed(b"\x17" + struct.pack("!HH", 0x0303, 5) + b"hello")
    assert seen.what == NO_TLS


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_is_read_before_all_else_and_names_its_client(version):
    header = header_of(version, "10.7.0.3", "10.8.0.1", 40000, 8080)
    way = Wire(tls=False, proxy_from_client=True).from_client
    seen = [one for at in range(len(header)) for one in way.feed(header[at : at + 1])]
    assert [(one.what, one.data) for one in seen] == [(HEADER, header)]
    assert [one.data for one in way.feed(b"GET ")] == [b"GET "]
    assert source_of(way.header) == "10.7.0.3"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"])
def test_a_header_that_names_nobody_has_no_client(header):
    assert source_of(header) == ""


@pytest.mark.parametrize("old", [False, True])
def test_handshakes_are_of_one_length_whatever_chance_says(old):
    """Else a seed would be another story each time: pieces are cut by lengths."""
    lengths = set()
    for _ in range(60):
        client, server = TlsEnd(client_context(old=old), name="a"), TlsEnd(backend_context(RIGHT), server_side=True)
        said = []
        while not (client.shake() and server.shake()):
            for one, other in ((client, server), (server, client)):
                data = one.outbound.read()
                said.append(len(data))
                other.inbound.write(data)
                other.shake()
        said += [len(client.outbound.read()), len(server.outbound.read())]
        lengths.add(tuple(said))
    assert len(lengths) == 1
    assert len(APP) == 11, "the block of a ticket that it stands in is full or empty by four bytes and more"
