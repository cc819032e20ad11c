"""Servers of a simulated world: workers with a backlog (FIFO), processor sharing, and mere delay. Each may be slow, and die."""

import math
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

from twisted_lb.core.never import NEVER

J = TypeVar("J")


class Server(Generic[J]):
    """A server: jobs come with a demand, in seconds of a server of speed 1, and are `done`, in the order of their ends.

    `speed` multiplies what it does in a second. `wake(server, at)` asks to be looked at then: `turn` is to be called at that
    moment, and does what is due. A server that is not `up` takes nobody.
    """

    def __init__(self, name: str, *, speed: float = 1.0) -> None:
        if not (speed > 0 and math.isfinite(speed)):
            raise ValueError(f"{name}: speed should be more than 0, not {speed:g}")
        self.name: Final = name
        self.up: bool = True
        self.speed: float = speed
        self.asked: int = 0  # how many requests have come to it, also those that it did not take
        self.work_s: float = 0.0  # what was taken, in seconds of its own
        self.last_end: float = 0.0
        self._done: Callable[[J, float], None] = _nobody
        self._wake: Callable[[Server[J], float], None] = _never

    def begin(self, done: Callable[[J, float], None], wake: "Callable[[Server[J], float], None]") -> None:
        """Tell `done` of each job that ends, and when; have `wake` call back."""
        self._done, self._wake = done, wake

    @property
    def capacity(self) -> float:
        """How many seconds of work it can do in a second, at its speed; infinite for a mere delay."""
        raise NotImplementedError

    def take(self, job: J, demand: float, now: float) -> bool:
        """Take a job; False where its backlog is full, and nothing is taken."""
        raise NotImplementedError

    def leave(self, job: J, now: float) -> None:
        """Nobody waits for a job any more, and it stops, queued or running (ASGI). A server that goes on with it (WSGI) is not told."""
        raise NotImplementedError

    def turn(self, now: float) -> None:
        """Do what is due. Harmless where nothing is."""
        raise NotImplementedError

    def set_speed(self, speed: float, now: float) -> None:
        """Go on at another speed: what runs, too, where the server is shared; else what begins from now on."""
        self.speed = speed

    def kill(self, now: float) -> list[J]:
        """Die: the jobs that were there, in the order in which they came."""
        self.up = False
        return self._emptied()

    def start(self, now: float) -> None:
        """Come back, with nothing to do."""
        self.up = True

    def _emptied(self) -> list[J]:
        raise NotImplementedError

    def _took(self, demand: float) -> float:
        took = demand / self.speed
        self.work_s += took
        return took

    def _ends(self, job: J, now: float) -> None:
        self.last_end = now
        self._done(job, now)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {'up' if self.up else 'down'}, {self.asked} asked>"


def _nobody(_job: object, _now: float) -> None:
    """Nobody hears of ends before `begin`."""


def _never(_server: object, _at: float) -> None:
    """Nobody wakes a server before `begin`."""


class Workers(Server[J]):
    """Workers that each serve a job at a time, in the order of arrival (FIFO), with a backlog for those who wait: gunicorn's sync
    workers, a pool of threads.
    """

    def __init__(self, name: str, count: int = 1, *, speed: float = 1.0, backlog: int = 2048) -> None:
        super().__init__(name, speed=speed)
        if count < 1:
            raise ValueError(f"{name}: workers should be 1 or more, not {count}")
        self.count: Final = count
        self.backlog: Final = backlog
        self._queue: deque[tuple[J, float]] = deque()
        self._running: list[tuple[float, int, J]] = []
        self._number = 0

    @property
    def capacity(self) -> float:
        """A second of each worker."""
        return float(self.count)

    def take(self, job: J, demand: float, now: float) -> bool:
        """See Server."""
        if len(self._running) < self.count:
            self._run(job, demand, now)
        elif len(self._queue) < self.backlog:
            self._queue.append((job, demand))
        else:
            return False
        return True

    def _run(self, job: J, demand: float, now: float) -> None:
        self._number += 1
        end = now + self._took(demand)
        heappush(self._running, (end, self._number, job))
        self._wake(self, end)

    def turn(self, now: float) -> None:
        """See Server."""
        while self._running and self._running[0][0] <= now:
            _, _, job = heappop(self._running)
            if self._queue:
                self._run(*self._queue.popleft(), now)
            self._ends(job, now)

    def leave(self, job: J, now: float) -> None:
        """See Server."""
        for waiting in self._queue:
            if waiting[0] == job:
                self._queue.remove(waiting)
                return
        kept = [one for one in self._running if one[2] != job]
        if len(kept) < len(self._running):
            self._running = kept
            heapify(kept)
            if self._queue:
                self._run(*self._queue.popleft(), now)

    def _emptied(self) -> list[J]:
        running = sorted(self._running, key=lambda one: one[1])
        jobs = [job for _, _, job in running] + [job for job, _ in self._queue]
        self._running.clear()
        self._queue.clear()
        return jobs


class Sharing(Server[J]):
    """Processor sharing over so many cores: all jobs run at once, each at the speed that is left for it (an asyncio program, a GPU)."""

    def __init__(self, name: str, cores: int = 1, *, speed: float = 1.0) -> None:
        super().__init__(name, speed=speed)
        if cores < 1:
            raise ValueError(f"{name}: cores should be 1 or more, not {cores}")
        self.cores: Final = cores
        # Virtual time: the seconds of work that a job has had which was there all along.
        self._virtual = 0.0
        self._at = 0.0
        self._asked = NEVER  # the moment that was asked for last: those before it are stale
        self._running: list[tuple[float, int, J]] = []
        self._number = 0

    @property
    def capacity(self) -> float:
        """A second of each core."""
        return float(self.cores)

    @property
    def _rate(self) -> float:
        running = len(self._running)
        return self.speed * (1.0 if running <= self.cores else self.cores / running)

    def _to(self, now: float) -> None:
        self._virtual += (now - self._at) * self._rate
        self._at = now

    def _ask(self) -> None:
        if self._running:
            left = max(self._running[0][0] - self._virtual, 0.0)
            self._asked = self._at + left / self._rate
            self._wake(self, self._asked)

    def take(self, job: J, demand: float, now: float) -> bool:
        """See Server: there is always room."""
        self._to(now)
        self._took(demand)
        self._number += 1
        heappush(self._running, (self._virtual + demand, self._number, job))
        self._ask()
        return True

    def turn(self, now: float) -> None:
        """See Server."""
        self._to(now)
        # What rounding leaves of a job is no work: nobody would come back for it.
        due = self._virtual + 4.0 * (math.ulp(now) * self.speed + math.ulp(self._virtual))
        ended = []
        while self._running and self._running[0][0] <= due:
            ended.append(heappop(self._running)[2])
        if ended or now >= self._asked:
            # Stale moments round too: where many of them were, the job is not due yet at its own.
            self._ask()
        for job in ended:
            self._ends(job, now)

    def leave(self, job: J, now: float) -> None:
        """See Server."""
        self._to(now)
        self._running = [one for one in self._running if one[2] != job]
        heapify(self._running)
        self._ask()

    def set_speed(self, speed: float, now: float) -> None:
        """See Server: also of what runs."""
        self._to(now)
        self.speed = speed
        self._ask()

    def start(self, now: float) -> None:
        """See Server."""
        super().start(now)
        self._at = now

    def _emptied(self) -> list[J]:
        jobs = [job for _, _, job in sorted(self._running, key=lambda one: one[1])]
        self._running.clear()
        return jobs


class Batches(Sharing[J]):
    """A GPU that runs a batch: each job more makes all of it slower by `slower` of a job alone, up to `size` of them; more than that
    share what there is.
    """

    def __init__(self, name: str, size: int = 32, *, slower: float = 0.01, speed: float = 1.0) -> None:
        super().__init__(name, size, speed=speed)
        if slower < 0:
            raise ValueError(f"{name}: slower should not be less than 0, not {slower:g}")
        self.slower: Final = slower

    @property
    def capacity(self) -> float:
        """What a whole batch does in a second."""
        return self.cores / (1.0 + self.slower * (self.cores - 1))

    @property
    def _rate(self) -> float:
        jobs = len(self._running)
        return (
            self.speed / (1.0 + self.slower * (jobs - 1)) if jobs <= self.cores else self.speed * self.capacity / jobs
        )


class Delay(Server[J]):
    """A mere delay: every job takes its demand, however many there are (another service on the network)."""

    def __init__(self, name: str, *, speed: float = 1.0) -> None:
        super().__init__(name, speed=speed)
        self._running: list[tuple[float, int, J]] = []
        self._number = 0

    @property
    def capacity(self) -> float:
        """No bound."""
        return NEVER

    def take(self, job: J, demand: float, now: float) -> bool:
        """See Server: there is always room."""
        self._number += 1
        end = now + self._took(demand)
        heappush(self._running, (end, self._number, job))
        self._wake(self, end)
        return True

    def turn(self, now: float) -> None:
        """See Server."""
        while self._running and self._running[0][0] <= now:
            self._ends(heappop(self._running)[2], now)

    def leave(self, job: J, now: float) -> None:
        """See Server."""
        self._running = [one for one in self._running if one[2] != job]
        heapify(self._running)

    def _emptied(self) -> list[J]:
        jobs = [job for _, _, job in sorted(self._running, key=lambda one: one[1])]
        self._running.clear()
        return jobs
