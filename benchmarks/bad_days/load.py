"""Clients that behave well: they ask, one answer after the other, and write down what they got and when."""

import contextlib
import dataclasses
import http.client
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bad_days.stage import until

# Longer than any patience of a proxy: who hits this was forgotten.
FORGOTTEN_S = 60.0


class Answer(NamedTuple):
    """What became of one request; `error` is empty when a whole answer with status 200 came."""

    ended_at: float
    took_s: float
    backend: str
    error: str


class Ask(NamedTuple):
    """What is asked."""

    method: str = "GET"
    path: str = "/"
    body: bytes | None = None


ONE = Ask()
Pause = Callable[[random.Random], float]
NO_END = 10**9


def a_moment(_: random.Random) -> float:
    """Clients that are busy, on a machine that is to have time for everybody."""
    return 0.01


class Asker:
    """One client: a connection that it keeps for as long as it may, and asks on."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=FORGOTTEN_S)

    def ask(self, what: Ask) -> Answer:
        return self.ask_for_body(what)[0]

    def ask_for_body(self, what: Ask) -> tuple[Answer, bytes]:
        """The answer, and its body as far as it came."""
        began = time.monotonic()
        backend, error, body = "", "", b""
        try:
            self._connection.request(what.method, what.path, body=what.body)
            response = self._connection.getresponse()
            body = response.read()
            backend = response.headers.get("X-Backend", "")
            error = "" if response.status == 200 else str(response.status)
        except (OSError, http.client.HTTPException) as failure:
            error = named(failure)
            self.close()
        now = time.monotonic()
        return Answer(now, now - began, backend, error), body

    def close(self) -> None:
        self._connection.close()


def named(failure: Exception) -> str:
    """A failure of a connection in a client's words."""
    if isinstance(failure, ConnectionRefusedError):
        return "refused"
    if isinstance(failure, TimeoutError):
        return "forgotten"
    if isinstance(failure, http.client.IncompleteRead):
        return "cut short"
    if isinstance(failure, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "closed without an answer"
    return type(failure).__name__


class Load:
    """Clients in threads, one for each port, each asking again `pause_s` after its answer, `times` or until `stop`."""

    def __init__(self, ports: list[int], what: Ask = ONE, pause_s: Pause = a_moment, times: int = NO_END) -> None:
        self.answers: list[Answer] = []
        self.began_at = time.monotonic()
        self._what = what
        self._pause_s = pause_s
        self._times = times
        self._over = threading.Event()
        # Seeded by its place: the same pauses in every run.
        self._threads = [
            threading.Thread(target=self._run, args=(port, random.Random(n)), daemon=True)
            for n, port in enumerate(ports)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, rng: random.Random) -> None:
        asker = Asker(port)
        for _ in range(self._times):
            self.answers.append(asker.ask(self._what))
            if self._over.wait(self._pause_s(rng)):
                break
        asker.close()

    def wait_for(self, what: str, seen: Callable[[Answer], bool], count: int = 1) -> Answer:
        """The `count`th answer from now on that is so."""
        looked_at = len(self.answers)
        found: list[Answer] = []

        def look() -> bool:
            nonlocal looked_at
            new = self.answers[looked_at:]
            looked_at += len(new)
            found.extend(answer for answer in new if seen(answer))
            return len(found) >= count

        until(look, what)
        return found[count - 1]

    def wait_for_answers(self, count: int) -> None:
        """So many good answers from now on."""
        self.wait_for(f"{count} good answers", lambda answer: not answer.error, count)

    def stop(self) -> None:
        """Every request that is under way is still answered, or fails."""
        self._over.set()
        self.join()

    def join(self) -> None:
        """Wait until each client has asked as often as it was to."""
        for thread in self._threads:
            thread.join()

    @property
    def errors(self) -> dict[str, int]:
        return dict(sorted(Counter(answer.error for answer in self.answers if answer.error).items()))

    @property
    def gap_s(self) -> float:
        """The longest time in which no client got a good answer."""
        times = sorted(answer.ended_at for answer in self.answers if not answer.error)
        return max((after - before for before, after in itertools.pairwise([self.began_at, *times])), default=0.0)

    @property
    def slowest_s(self) -> float:
        """The longest that one client waited for its answer, good or bad."""
        return max((answer.took_s for answer in self.answers), default=0.0)


@contextlib.contextmanager
def load(ports: list[int], what: Ask = ONE, pause_s: Pause = a_moment, times: int = NO_END) -> Iterator[Load]:
    """A load for as long as it lasts."""
    one = Load(ports, what, pause_s, times)
    try:
        yield one
    finally:
        one.stop()


@dataclasses.dataclass(frozen=True)
class Result:
    """What a scenario did to its clients, as docs/reliability.json holds it."""

    requests: int
    errors: dict[str, int]
    slowest_s: float
    gap_s: float | None = None
    back_s: list[float] | None = None
    memory_kib: float | None = None
    note: str = ""


def result(seen: Load, **more: object) -> Result:
    """Of a load that is over, and what else the scenario measured."""
    return Result(len(seen.answers), seen.errors, round(seen.slowest_s, 3), **more)
