"""TLS clients that do anything at any moment, over real sockets: nothing is left behind, and every complete answer is whole."""

import contextlib
import socket
import ssl
import struct
from functools import cache
from random import Random

import pytest
from arriving import GET, Gateway
from some import some
from tls_peers import authority
from world import TlsPeer

SEEDS = 200
# A test of its own for so many of them: what failed is found by its seed.
TOGETHER = 10
SIZES = (0, 5, 1000, 16_384, 70_000, 300_000)
OVER = {"done", "gone"}


@cache
def client_context(version: ssl.TLSVersion, *, trusts: bool) -> ssl.SSLContext:
    """A client of a version, which may not trust the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    if trusts:
        authority().configure_trust(context)
    return context


def body_of(size: int) -> bytes:
    """A body that is none of another size."""
    return (b"%06d" % size * (size // 6 + 1))[:size]


class Wild:
    """A client that asks for bodies of a known size, one after the other, and does whatever comes to its mind."""

    def __init__(self, gateway: Gateway, random: Random, number: int, backends: "Backends") -> None:
        self.random = random
        self.backends = backends
        version = random.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
        context = client_context(version, trusts=random.random() < 0.9)
        self.peer: TlsPeer = gateway.knock(context=context, peer=("203.0.113.7", number))
        self.end = self.peer.end
        self.state = "shaking"
        self.outgoing = b""  # records that are still to be sent
        self.plain = b""
        self.asked: list[int] = []
        self.answered = 0  # by whomever
        self.answers = 0  # by a backend
        self.broke = False  # it has sent what no client should, or left
        self.good_bye = False

    @property
    def over(self) -> bool:
        return self.state in OVER

    def step(self) -> None:
        """One thing."""
        with contextlib.suppress(OSError):
            self._hear()
        if self.over:
            return
        random = self.random
        try:
            if self.state == "shaking":
                self._shake()
            elif random.random() < 0.3 and len(self.asked) < 6 and not self.good_bye:
                self._ask()
            if random.random() < 0.04:
                random.choice((self._close, self._reset, self._garble, self._half_close, self._cut_record))()
            else:
                self._send(random.choice((1, 7, 100, 5000, 1 << 20)))
        except (BrokenPipeError, ConnectionError):
            self.state = "gone"

    def _shake(self) -> None:
        try:
            if self.end.shake():
                self.state = "up"
        except ssl.SSLError:
            self.broke = True
            self.state = "refusing"
        self.outgoing += self.end.outbound.read()

    def _ask(self) -> None:
        if self.state != "up":
            return
        size = self.random.choice(SIZES)
        self.asked.append(size)
        request = GET.replace(b"/ ", b"/%d " % size)
        if self.random.random() < 0.3:
            body = b"u" * self.random.choice(SIZES)
            request = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (size, len(body)) + body
        for at in range(0, len(request), 16_384):
            self.end.tls.write(request[at : at + 16_384])
        self.outgoing += self.end.outbound.read()

    def _send(self, most: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self.outgoing = self.outgoing[self.peer.sock.send(self.outgoing[:most]) :]

    def _hear(self) -> None:
        try:
            data = self.peer.sock.recv(self.random.choice((10, 1000, 1 << 20)))
        except BlockingIOError:
            return
        except ConnectionError:
            self.state = "gone"
            return
        if not data:
            self._judge_end()
            return
        self.end.inbound.write(data)
        if self.state == "up":
            try:
                self.plain += self.end.read()
            except ssl.SSLError:
                assert self.broke
                self.state = "refusing"
            self._count()

    def _count(self) -> None:
        """Take complete answers off what has come: they are what was asked for, in its order."""
        while b"\r\n\r\n" in self.plain:
            head, _, rest = self.plain.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 "), head
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(rest) < length:
                return
            if head.startswith(b"HTTP/1.1 200 "):
                assert length == self.asked[self.answered]
                assert rest[:length] == body_of(length)
                self.answers += 1
            self.answered += 1
            self.plain = rest[length:]

    def _judge_end(self) -> None:
        """The FIN has come: answers are whole before it, and close_notify too, unless the client has broken its own requests or a
        backend left in the middle; then there is less than the head has said.
        """
        if self.state == "up" and not self.broke and not self.backends.left:
            assert self.end.ended, "a FIN without close_notify"
            assert not self.plain, "close_notify behind half an answer"
        self.state = "done"

    # What clients should not do.

    def _close(self) -> None:
        self.broke = True
        self.peer.sock.close()
        self.state = "gone"

    def _reset(self) -> None:
        self.broke = True
        self.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.sock.close()
        self.state = "gone"

    def _garble(self) -> None:
        self.broke = True
        kind = self.random.choice((b"\x14", b"\x15", b"\x16", b"\x17", b"\x99", b"GET / HTTP/1.1\r\n"))
        size = self.random.choice((0, 1, 32, 20_000))
        self.outgoing += kind + b"\x03\x03" + size.to_bytes(2, "big") + self.random.randbytes(size)

    def _cut_record(self) -> None:
        """Leave out some bytes in the middle of records."""
        if len(self.outgoing) > 20:
            self.broke = True
            at = self.random.randrange(len(self.outgoing) - 10)
            self.outgoing = self.outgoing[:at] + self.outgoing[at + 5 :]

    def _half_close(self) -> None:
        """Say close_notify, with a FIN or without."""
        if self.state != "up" or self.good_bye:
            return
        self.broke = self.good_bye = True
        self.end.say_good_bye()
        self.outgoing += self.end.outbound.read()
        if self.random.random() < 0.5:
            self._send(1 << 20)
            with contextlib.suppress(OSError):
                self.peer.sock.shutdown(socket.SHUT_WR)


class Backends:
    """Backends that answer each request by the size in its path, a piece at a time, and sometimes leave."""

    def __init__(self, gateway: Gateway, random: Random) -> None:
        self.connections = gateway.world.backend_connections
        self.random = random
        self.left = False  # one has, whatever was under way
        self.heard: dict[int, bytes] = {}
        self.owed: dict[int, bytes] = {}

    def step(self) -> None:
        for index, peer in enumerate(self.connections):
            if peer.sock.fileno() < 0:
                continue
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self.heard[index] = self.heard.get(index, b"") + peer.sock.recv(1 << 20)
            self._answer(index)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                owed = self.owed.get(index, b"")
                most = self.random.choice((100, 10_000, 1 << 20))
                self.owed[index] = owed[peer.sock.send(owed[:most]) :] if owed else b""
            if self.random.random() < 0.005:
                peer.sock.close()
                self.left = True

    def _answer(self, index: int) -> None:
        while b"\r\n\r\n" in self.heard.get(index, b""):
            head, _, rest = self.heard[index].partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            size = int(head.split(b" ")[1][1:])
            self.heard[index] = rest[length:]
            self.owed[index] = self.owed.get(index, b"") + (
                b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: %d\r\n\r\n%b" % (size, body_of(size))
            )


def turn(gateway: Gateway) -> None:
    """One turn of a reactor. Nothing that is under way is waited for: that what comes is late is a part of it."""
    world = gateway.world
    world.time.run_due()
    if world.side == "tls":
        world.poller.doRead()
    else:
        world.reactor.turn()


def live(seed: int) -> tuple[int, int]:
    """One life of a listener: how many handshakes and whole answers there were in it."""
    random = Random(seed)
    limits = {"handshakes": random.choice((1, 2, 1000)), "connections_per_client": 0}
    gateway = Gateway(random.choice(("tls", "tls fallback")), limits=limits, handshake_s=5)
    backends = Backends(gateway, random)
    clients = [Wild(gateway, random, number, backends) for number in range(random.randrange(1, 7))]
    drains = random.random() < 0.2
    for number in range(250):
        for client in clients:
            if random.random() < 0.8:
                client.step()
        backends.step()
        turn(gateway)
        if random.random() < 0.05:
            gateway.world.time.now += random.choice((0.01, 0.5, 3.0))
        if drains and number == 60:
            gateway.world.plane.drain(20)
        if all(client.over for client in clients):
            break
    answers = sum(client.answers for client in clients)
    done = gateway.done
    assert done + sum(gateway.failures.values()) <= len(clients)
    for client in clients:
        client.peer.sock.close()
    gateway.close()
    assert gateway.empty
    return done, answers


@pytest.mark.parametrize("first", some(5, range(0, SEEDS, TOGETHER)))
def test_whatever_clients_do_nothing_is_left_and_complete_answers_are_whole(first):
    lives = [live(seed) for seed in range(first, first + TOGETHER)]
    assert sum(done for done, _ in lives) > 0
    assert sum(answers for _, answers in lives) > 0
