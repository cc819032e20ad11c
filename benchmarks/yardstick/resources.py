"""What a contender takes beside CPU: memory for each connection, and time to start."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

from yardstick import http2
from yardstick.contenders import Contender, Relay
from yardstick.loads import Running
from yardstick.machine import PATIENCE_S
from yardstick.place import Backends, Place
from yardstick.rounds import started_one
from yardstick.scenarios import OVER_HTTP2, SCENARIOS, SLOW
from yardstick.talk import fault, listening, until

IDLE = 10_000
ACTIVE = 1_000
AT_ONCE = 100
"""So many ask at the same time: an answer that never ends takes its time to begin."""
PORT = 18900
SMALL = SCENARIOS["small-64"]
SMALL_HTTP2 = OVER_HTTP2["h2-small"]
BARE = "bare listener"


class Bare(Relay):
    """Somebody who only accepts."""

    def words(self, place: Place) -> list[object]:
        """No backend: no word is ever passed on."""
        return super().words(place)[:3]


def memory(contenders: list[Contender], backends: Backends, rounds: int) -> dict[str, dict[str, object]]:
    """Bytes for an idle connection, for an active one, and for an idle one of HTTP/2, by contender, round by round; or why not."""
    found: dict[str, dict[str, object]] = {BARE: {"idle_bytes": [bare_idle(backends) for _ in range(rounds)]}}
    for _ in range(rounds):
        for contender in contenders:
            so_far = found.setdefault(contender.name, {"idle_bytes": [], "active_bytes": [], "http2_idle_bytes": []})
            try:
                so_far["idle_bytes"].append(of_connections(contender, backends, IDLE, "/"))
                so_far["active_bytes"].append(of_connections(contender, backends, ACTIVE, SLOW.path))
                if contender.http2:
                    so_far["http2_idle_bytes"].append(of_connections(contender, backends, IDLE, "/", http2=True))
            except (OSError, RuntimeError) as error:
                so_far["void"] = str(error)
    return found


def of_connections(contender: Contender, backends: Backends, number: int, path: str, *, http2: bool = False) -> float:
    """Bytes for each of so many connections that have asked for that path once, and stay."""
    ask = asked_in_http2 if http2 else asked
    with started_one(contender, backends, SMALL_HTTP2 if http2 else SMALL, PORT) as one:
        with ask(one, 100, "/"):
            pass  # what is made once is there
        time.sleep(0.5)
        before = one.process.memory()
        with ask(one, number, path):
            time.sleep(0.5)
            return (one.process.memory() - before) / number


def bare_idle(backends: Backends) -> float:
    """The same for somebody who only accepts."""
    place = backends.place(PORT, SCENARIOS["small-1"])
    process = Bare().start(place)
    try:
        until(lambda: listening(place.address, PORT), PATIENCE_S, process.said)
        before = process.memory()
        with connected(place.address, PORT, IDLE):
            return (process.memory() - before) / IDLE
    finally:
        process.stop()


@contextlib.contextmanager
def connected(address: str, port: int, number: int) -> Iterator[list[socket.socket]]:
    """So many connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((address, port), timeout=20)) for _ in range(number)]


@contextlib.contextmanager
def asked(one: Running, number: int, path: str) -> Iterator[None]:
    """So many connections, each of which has asked once and read the beginning of the answer; all of it if it is small."""
    words = f"GET {path} HTTP/1.1\r\nHost: {one.address}:{one.port}\r\n\r\n".encode()
    end = b"hello\n" if path == "/" else b"\r\n\r\n"
    with connected(one.address, one.port, number) as connections:
        in_portions(connections, words, lambda connection: read_begun(connection, end))
        yield


@contextlib.contextmanager
def asked_in_http2(one: Running, number: int, path: str) -> Iterator[None]:
    """So many connections of HTTP/2, on each of which one request was answered."""
    words = http2.begun() + http2.frame(
        http2.HEADERS,
        http2.END_HEADERS | http2.END_STREAM,
        1,
        http2.block(f"{one.address}:{one.port}".encode(), path.encode()),
    )
    with connected(one.address, one.port, number) as connections:
        in_portions(connections, words, lambda connection: http2.ended(connection, 1))
        yield


def in_portions(connections: list[socket.socket], words: bytes, read: Callable[[socket.socket], object]) -> None:
    """Send these words on each connection and read what comes back, `AT_ONCE` of them at a time."""
    for at in range(0, len(connections), AT_ONCE):
        some = connections[at : at + AT_ONCE]
        for connection in some:
            connection.sendall(words)
        for connection in some:
            read(connection)


def read_begun(connection: socket.socket, until_seen: bytes) -> None:
    """An answer, up to there."""
    answer = b""
    while until_seen not in answer:
        got = connection.recv(65536)
        if not got:
            raise RuntimeError(f"a connection was closed after {answer[:80]!r}")
        answer += got


def starts(contenders: list[Contender], backends: Backends, rounds: int) -> dict[str, list[float]]:
    """Seconds from the start of the program to its first answer, by contender, round by round."""
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            place = backends.place(PORT, SCENARIOS["small-1"])
            began = time.monotonic()
            process = contender.start(place)
            try:
                while time.monotonic() < began + PATIENCE_S and not process.ended:
                    if listening(place.address, PORT) and fault(place.address, PORT, SMALL) is None:
                        found[contender.name].append(time.monotonic() - began)
                        break
                    time.sleep(0.001)
            finally:
                process.stop()
    return found
