"""The hot loop of a simulation: requests, real pools, and servers that serve in order of arrival (FIFO), on virtual time.

The end of a request is known when it arrives (Lindley's recursion: it begins at `max(now, free)` and takes what it takes), so
that the heap has one entry for each request in flight; arrivals, which come sorted, never enter it.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from random import Random
from typing import Final

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.lease import Lease, LoadLease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pool import Pool

_OK: Final = Outcome.OK


class Kernel:
    """One run of the hot case: nothing fails, and nobody joins or leaves.

    `pools` are those of as many balancers over the same servers, each of which counts for itself; a request comes to one of them by
    chance, drawn from `rng`. A server is the backend of the same slot. `workers` and `speeds` are those of the servers.

    `latencies` are those of the requests behind the warm-up, in the order of their arrival. By server: how many it `served`, and
    the work that it was `offered` in seconds of its own, both behind the warm-up. `refused`: requests for which a pool had nobody.
    """

    def __init__(self, pools: Sequence[Pool], workers: Sequence[int], speeds: Sequence[float], rng: Random) -> None:
        self.pools: Final = list(pools)
        self.speeds: Final = list(speeds)
        self.latencies: Final = array("d")
        self.served: Final = [0] * len(speeds)
        self.offered: Final = [0.0] * len(speeds)
        self.refused: int = 0
        self.warm_at: float = 0.0
        self.ended_at: float = 0.0
        self._rng: Final = rng
        self._look: Callable[[], None] | None = None
        self._look_s: float = NEVER
        # When each worker of a server is free, a heap each.
        self._free: Final = [[0.0] * count for count in workers]

    def look_every(self, seconds: float, look: Callable[[], None]) -> None:
        """Have this called so often from the beginning of `run`, as it is at just that moment: balancers see one another."""
        self._look, self._look_s = look, seconds

    def run(
        self,
        arrivals: Iterator[list[float]],
        demands: Iterator[list[float]],
        asks: Iterator[list[Ask]] | None,
        requests: int,
        warm_up: int,
    ) -> None:
        """Let so many requests come, and all of them end; the first `warm_up` of them are not counted. Each has a demand, and what it
        asks, before a backend is picked: another policy meets the same requests. Fewer come where the arrivals end.
        """
        heap: list[tuple[float, int, int, Lease]] = []
        moments: list[float] = []
        work: list[float] = []
        told: list[Ask] = []
        index = 0
        which = 0
        balancers = len(self.pools)
        pool = self.pools[0]
        look_at = NEVER if self._look is None else 0.0
        for number in range(requests):
            if index == len(moments):
                index = 0
                moments = next(arrivals, [])
                if not moments:
                    break
                work = next(demands)
                if asks is not None:
                    told = next(asks)
            now = moments[index]
            while heap and heap[0][0] <= now:
                if heap[0][0] >= look_at:
                    look_at = self._looked(look_at, heap[0][0])
                self._settle(heappop(heap))
            if now >= look_at:
                look_at = self._looked(look_at, now)
            if balancers > 1:
                which = int(self._rng.random() * balancers)
                pool = self.pools[which]
            verdict = pool.claim(ANY if asks is None else told[index], now)
            if number == warm_up:
                self.warm_at = now
            if isinstance(verdict, Lease):
                end = self._serve(verdict.backend.slot, now, work[index], number >= warm_up)
                heappush(heap, (end, number, which, verdict))
            elif number >= warm_up:
                self.refused += 1
            self.ended_at = now
            index += 1
        while heap:
            self._settle(heappop(heap))

    def _looked(self, at: float, now: float) -> float:
        """Look as it was at that moment, since when nothing has changed; when to look again, behind now."""
        assert self._look is not None
        self._look()
        return at + self._look_s * (int((now - at) / self._look_s) + 1)

    def _serve(self, server: int, now: float, demand: float, counted: bool) -> float:
        """Put a request into a server's queue; when it will have been served."""
        free = self._free[server]
        took = demand / self.speeds[server]
        end = took + (free[0] if free[0] > now else now)  # noqa: FURB136, a call for each request
        if len(free) == 1:
            free[0] = end
        else:
            heapreplace(free, end)
        if counted:
            self.latencies.append(end - now)
            self.served[server] += 1
            self.offered[server] += took
        return end

    def _settle(self, ended: tuple[float, int, int, Lease]) -> None:
        at, _, which, lease = ended
        pool = self.pools[which]
        if isinstance(lease, LoadLease):
            pool.responded(lease, at)
        pool.settle(lease, _OK, at)

    def behind(self, server: int) -> float:
        """For how long a server goes on serving after the last arrival, on an average of its workers."""
        free = self._free[server]
        return sum([max(at - self.ended_at, 0.0) for at in free]) / len(free)
