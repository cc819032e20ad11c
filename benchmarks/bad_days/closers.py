"""Keep-alive races: a backend that closes a kept connection, without having said so, just after an answer."""

import asyncio
import contextlib
import dataclasses
import re
from collections import Counter

from bad_days.proxies import Contender
from bad_days.recipes import Patience
from bad_days.results import Case, Result, result_of
from bad_days.stage import Stage

# A client that keeps its connection makes a new one after so many requests.
ASKED_ON_ONE = 10
REQUESTS = {
    "POST": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    "GET": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@dataclasses.dataclass(frozen=True)
class Habit:
    """After which part of its answers the backend closes, how many seconds later, and what the clients do."""

    title: str
    share: float
    later_s: float
    method: str = "POST"
    kept: bool = False


POSTS = (
    Habit("15 %, at once", 0.15, 0),
    Habit("15 %, 1 ms later", 0.15, 0.001),
    Habit("15 %, 10 ms later", 0.15, 0.01),
    Habit("each, at once", 1, 0),
    Habit("each, 1 ms later", 1, 0.001),
    Habit("15 %, 1 ms later, clients keep their connections", 0.15, 0.001, kept=True),
    Habit("each, 1 ms later, clients keep their connections", 1, 0.001, kept=True),
)
GETS = (Habit("each, 1 ms later, clients keep their connections", 1, 0.001, "GET", kept=True),)


def closers(
    stage: Stage,
    contender: Contender,
    patience: Patience,
    *,
    habits: tuple[Habit, ...],
    requests: int,
    at_a_time: int,
    runs: int,
) -> Result:
    """So many requests for each habit, each run on processes of its own; the errors are the mean of the runs."""
    cases = {}
    for habit in habits:
        volleys = []
        for _ in range(runs):
            wing = stage.wing()
            options = ["--close-share", str(habit.share), "--close-later-s", str(habit.later_s)]
            backend = wing.backend("a", *options)
            proxy = contender.start(wing, [[backend.address]], patience)
            volleys.append(asyncio.run(Volley(proxy.port, habit, requests).fire(at_a_time)))
            wing.ends.close()
        cases[habit.title] = mean(requests, volleys)
    return result_of(cases)


def mean(requests: int, volleys: list[Counter[str]]) -> Case:
    """Of several runs; an error that came in one of them is an error."""
    counted = sum(volleys, Counter())
    errors = {error: round(count / len(volleys), 1) for error, count in sorted(counted.items()) if error}
    return Case(requests * len(volleys), errors)


class Volley:
    """Clients that ask as fast as they are answered, until all together have asked so often."""

    def __init__(self, port: int, habit: Habit, requests: int) -> None:
        self._port = port
        self._request = REQUESTS[habit.method]
        self._on_one = ASKED_ON_ONE if habit.kept else 1
        self._left = requests
        self._answers: Counter[str] = Counter()

    async def fire(self, at_a_time: int) -> Counter[str]:
        """How often each error came; "" is a good answer."""
        await asyncio.gather(*(self._client() for _ in range(at_a_time)))
        return self._answers

    async def _client(self) -> None:
        while self._left > 0:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            await self._ask_on(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _ask_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._on_one):
            if self._left <= 0:
                return
            self._left -= 1
            writer.write(self._request)
            try:
                status, stays = await _answer(reader)
            except (asyncio.IncompleteReadError, OSError):
                self._answers["closed without an answer"] += 1
                return
            self._answers["" if status == "200" else status] += 1
            if not stays:
                return


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    """The status of an answer that is read to its end, and whether its connection stays."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"\r\ncontent-length: *(\d+)", head)
    if length is None:
        await reader.read(-1)
    else:
        await reader.readexactly(int(length[1]))
    return head[9:12].decode(), length is not None and b"\r\nconnection: close" not in head
