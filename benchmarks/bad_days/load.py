"""Clients that behave well: they ask, one answer after the other, and write down what they got and when."""

import contextlib
import http.client
import itertools
import random
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from bad_days.stage import until

# Longer than any patience of a proxy, of those they come with too: who hits this was forgotten.
FORGOTTEN_S = 90.0


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
        if self._was_closed():
            self.close()
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

    def _was_closed(self) -> bool:
        """Whether the other end closed the connection since the last answer: a pool of connections looks before it uses one."""
        sock = self._connection.sock
        if sock is None:
            return False
        poll = select.poll()  # a crowd has more descriptors than select knows
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

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


def errors_of(answers: Iterable[Answer]) -> dict[str, int]:
    """How often each kind came."""
    return dict(sorted(Counter(answer.error for answer in answers if answer.error).items()))


class Seen:
    """The answers that clients got, while they ask and afterwards."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.began_at = time.monotonic()

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

    @property
    def errors(self) -> dict[str, int]:
        return errors_of(self.answers)

    @property
    def gap_s(self) -> float:
        """The longest time in which no client got a good answer, up to the last answer of all."""
        good = sorted(answer.ended_at for answer in self.answers if not answer.error)
        ended_at = max((answer.ended_at for answer in self.answers), default=self.began_at)
        return max(after - before for before, after in itertools.pairwise([self.began_at, *good, ended_at]))

    @property
    def slowest_s(self) -> float:
        """The longest that one client waited for its answer, good or bad."""
        return max((answer.took_s for answer in self.answers), default=0.0)


class Load(Seen):
    """Clients in threads, one for each port, each asking again `pause_s` after its answer, `times` or until `stop`.

    Each keeps its connection, unless it is one of the first `anew`.
    """

    def __init__(
        self, ports: list[int], what: Ask = ONE, pause_s: Pause = a_moment, times: int = NO_END, *, anew: int = 0
    ) -> None:
        super().__init__()
        self._what = what
        self._pause_s = pause_s
        self._times = times
        self._anew = anew
        self._over = threading.Event()
        # Seeded by its place: the same pauses in every run.
        self._threads = [
            threading.Thread(target=self._run, args=(port, n), daemon=True) for n, port in enumerate(ports)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, number: int) -> None:
        asker, rng = Asker(port), random.Random(number)
        for _ in range(self._times):
            self.answers.append(asker.ask(self._what))
            if number < self._anew:
                asker.close()
            if self._over.wait(self._pause_s(rng)):
                break
        asker.close()

    def stop(self) -> None:
        """Every request that is under way is still answered, or fails."""
        self._over.set()
        self.join()

    def join(self) -> None:
        """Wait until each client has asked as often as it was to."""
        for thread in self._threads:
            thread.join()


class Steady(Seen):
    """Requests one after the other every so many seconds, each on a new connection, whatever became of those before it."""

    def __init__(self, port: int, every_s: float) -> None:
        super().__init__()
        self._port = port
        self._every_s = every_s
        self._over = threading.Event()
        self._asking: list[threading.Thread] = []
        self._clock = threading.Thread(target=self._run, daemon=True)
        self._clock.start()

    def _run(self) -> None:
        for n in itertools.count(1):
            self._asking.append(threading.Thread(target=self._ask, daemon=True))
            self._asking[-1].start()
            if self._over.wait(max(0.0, self.began_at + n * self._every_s - time.monotonic())):
                return

    def _ask(self) -> None:
        self.answers.append(asked_anew(self._port))

    def no_more(self) -> None:
        """No request is begun any more; those under way go on."""
        self._over.set()
        self._clock.join()

    def stop(self) -> None:
        """Every request that is under way is still answered, or fails."""
        self.no_more()
        for thread in self._asking:
            thread.join()


def asked_anew(port: int, what: Ask = ONE) -> Answer:
    """One request on a connection of its own."""
    with contextlib.closing(Asker(port)) as asker:
        return asker.ask(what)


@contextlib.contextmanager
def load(
    ports: list[int], what: Ask = ONE, pause_s: Pause = a_moment, times: int = NO_END, *, anew: int = 0
) -> Iterator[Load]:
    """A load for as long as it lasts."""
    one = Load(ports, what, pause_s, times, anew=anew)
    try:
        yield one
    finally:
        one.stop()


@contextlib.contextmanager
def steady(port: int, every_s: float) -> Iterator[Steady]:
    """Requests at even times for as long as it lasts."""
    one = Steady(port, every_s)
    try:
        yield one
    finally:
        one.stop()
