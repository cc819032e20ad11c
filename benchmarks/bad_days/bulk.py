"""Bodies that are larger than memory ought to be."""

import contextlib
import functools
import http.client
import time
import zlib
from collections.abc import Iterable

from bad_days.backend import pattern
from bad_days.load import FORGOTTEN_S
from bad_days.proxies import Contender
from bad_days.recipes import Patience
from bad_days.results import Result
from bad_days.stage import Peak, Stage

MIB = 1 << 20


def streamed(stage: Stage, contender: Contender, patience: Patience, *, size: int) -> Result:
    """One body down and one up, each byte checked, and how much memory that took at its worst."""
    proxy = contender.start(stage, [[stage.backend("a").address]], patience)
    _down(proxy.port, MIB)
    _up(proxy.port, MIB)
    before_kib = proxy.memory_kib()
    began = time.monotonic()
    with Peak(proxy.memory_kib) as peak:
        errors = [_down(proxy.port, size), _up(proxy.port, size)]
    took_s = time.monotonic() - began
    counted = {error: errors.count(error) for error in errors if error}
    note = f"{2 * size / MIB / took_s:,.0f} MiB/s"
    return Result(2, counted, round(took_s, 1), memory_kib=peak.most_kib - before_kib, note=note)


def _down(port: int, size: int) -> str:
    """What was wrong with an answer of that size; nothing: it was exact."""
    got = _Sum()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=FORGOTTEN_S)) as connection:
        connection.request("GET", f"/?size={size}")
        response = connection.getresponse()
        if response.status != 200:
            return str(response.status)
        while piece := response.read(MIB):
            got.add([piece])
    return "" if got == _expected(size) else "wrong bytes"


def _up(port: int, size: int) -> str:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=FORGOTTEN_S)) as connection:
        connection.request("POST", "/", body=pattern(size), headers={"Content-Length": str(size)})
        response = connection.getresponse()
        answer = response.read().decode()
    if response.status != 200:
        return str(response.status)
    return "" if answer == f"{_expected(size)}\n" else "wrong bytes"


class _Sum:
    """Length and CRC-32 of a body, as the backend says them."""

    def __init__(self) -> None:
        self._length = 0
        self._sum = 0

    def add(self, pieces: Iterable[bytes]) -> "_Sum":
        for piece in pieces:
            self._length += len(piece)
            self._sum = zlib.crc32(piece, self._sum)
        return self

    def __str__(self) -> str:
        return f"{self._length} {self._sum}"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other)

    __hash__ = None


@functools.cache
def _expected(size: int) -> _Sum:
    return _Sum().add(pattern(size))
