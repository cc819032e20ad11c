"""Several workers before the same backends, on virtual time: what they share makes them as good as one process."""

from heapq import heappop, heappush
from itertools import count

import pytest

from twisted_lb.config.policies import policy_meant
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.settings import PoolSettings
from twisted_lb.sim.farm import Farm
from twisted_lb.sim.laws import Exponential, stream
from twisted_lb.sim.stats import replicate
from twisted_lb.sim.table import Table
from twisted_lb.workers import worker

WORKERS = 4
SERVICE_S = 0.005


def p99(policy, load, requests=8_000, runs=3, **options):
    """In seconds, over 10 backends. All farms meet the same requests: what differs is what is known."""
    farm = Farm(policy, 10, load, requests, Exponential(SERVICE_S), **options)
    return replicate(farm.run, range(1, runs + 1)).quantile(0.99).value


def test_of_least_one_request_in_a_hundred_waits_as_long_as_in_one_process():
    """With exact counts, as workers read them: 1.00 of one process, and 1.10 are asked."""
    assert p99("least", 0.8, balancers=WORKERS, seen_s=0.0) < 1.05 * p99("least", 0.8)


def test_counts_of_some_time_ago_are_worse_than_none():
    """Why nobody keeps a copy: of 20 ms ago (four services) 1.9 of one process, without any 1.35."""
    one = p99("least", 0.8)
    old = p99("least", 0.8, balancers=WORKERS, seen_s=0.02)
    none = p99("least", 0.8, balancers=WORKERS)
    assert 1.2 * one < none < old


@pytest.mark.long
@pytest.mark.parametrize("load", [0.7, 0.8])
@pytest.mark.parametrize("policy", ["least", "p2c"])
def test_counts_that_are_a_millisecond_old_are_nearly_as_good_as_those_of_now(policy, load):
    """20 runs of 50,000 requests: 0.99 to 1.00, and 1.01 to 1.09."""
    one, now, then = (
        p99(policy, load, 50_000, 20, **known)
        for known in ({}, {"balancers": WORKERS, "seen_s": 0.0}, {"balancers": WORKERS, "seen_s": 0.001})
    )
    assert now < 1.02 * one
    assert then < 1.10 * one


# A bound over all workers, with a queue in each of them.

MOST = 8
LOOK_S = worker._LOOK_S  # how often a worker looks whether others have left places free


class Crowd:
    """Workers before one backend, which may have `MOST` requests at a time and serves all that it has at once; `shares` are those of
    the requests that come to each. What they do is told by the backend: `most` that it had at work, `busy_s` of its places, for how
    long a place was free while somebody waited, and in `waits`, by worker, for how long each request did.
    """

    def __init__(self, shares, load, requests, seed=1):
        self.chance, self.arrivals, self.work = (stream(seed, name) for name in ("workers", "arrivals", "service"))
        self.shares, self.left = shares, requests
        self.every_s = SERVICE_S / (load * MOST)
        table = Table(len(shares), 1, at_once=True)
        settings = PoolSettings(checked=False, max_in_flight=MOST, max_queued=requests, queue_timeout_s=3600.0)
        self.pools = []
        for number in range(len(shares)):
            rng = stream(seed, f"pool {number}")
            pool = Pool("crowd", policy_meant("least"), settings, rng, lambda _: None, table.counts(number))
            pool.update([BackendSpec("b", TcpAddress("b", 80))], 0.0)
            table.place(pool)
            self.pools.append(pool)
        self.heap, self.order = [], count()
        self.tickets: list[dict[Ticket, float]] = [{} for _ in shares]
        self.waits: list[list[float]] = [[] for _ in shares]
        self.at_work = self.most = 0
        self.now = self.busy_s = self.vain_s = self.longest_vain_s = self.comes_until = 0.0

    def run(self):
        self.at(0.0, self.come)
        for number in range(len(self.pools)):
            # They do not look at the same moment.
            self.at(LOOK_S * number / len(self.pools), self.look, number)
        while self.heap:
            when, _, what, arguments = heappop(self.heap)
            self.pass_time(when)
            what(*arguments)
        return self

    def at(self, when, what, *arguments):
        heappush(self.heap, (when, next(self.order), what, arguments))

    def pass_time(self, now):
        self.busy_s += self.at_work * (now - self.now)
        if self.at_work < MOST and any(self.tickets):
            self.vain_s += now - self.now
            self.longest_vain_s = max(self.longest_vain_s, self.vain_s)
        else:
            self.vain_s = 0.0
        self.now = now

    def come(self):
        which = self.chance.choices(range(len(self.shares)), self.shares)[0]
        verdict = self.pools[which].claim(ANY, self.now)
        if isinstance(verdict, Ticket):
            self.tickets[which][verdict] = self.now
        else:
            self.begin(which, verdict, self.now)
        self.left -= 1
        self.comes_until = self.now
        if self.left:
            self.at(self.now + self.arrivals.expovariate(1 / self.every_s), self.come)

    def begin(self, which, lease, came_at):
        assert isinstance(lease, Lease), lease
        self.waits[which].append(self.now - came_at)
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.at(self.now + self.work.expovariate(1 / SERVICE_S), self.end, which, lease)

    def end(self, which, lease):
        self.at_work -= 1
        self.pools[which].settle(lease, Outcome.OK, self.now)
        self.grant(which)

    def look(self, which):
        self.pools[which].look_elsewhere()
        self.grant(which)
        if self.left or any(self.tickets):
            self.at(self.now + LOOK_S, self.look, which)

    def grant(self, which):
        for ticket, lease in self.pools[which].grants(self.now):
            self.begin(which, lease, self.tickets[which].pop(ticket))


SKEWED = (0.6, 0.2, 0.1, 0.1)


def test_a_bound_over_workers_is_never_exceeded_and_costs_no_throughput():
    """70 % of the places, arrivals skewed over four workers: they do what one process does in the same time (95 % are asked)."""
    one = Crowd((1.0,), 0.7, 8_000).run()
    four = Crowd(SKEWED, 0.7, 8_000).run()
    assert (one.most, four.most) == (MOST, MOST)
    assert sum(map(len, four.waits)) == sum(map(len, one.waits)) == 8_000
    assert four.now < one.now / 0.95
    assert four.busy_s / four.now > 0.95 * one.busy_s / one.now


def test_nobody_waits_long_beside_a_free_place():
    """A worker looks every 5 ms: so long at most is a place free while another one's request waits (20 ms are allowed)."""
    four = Crowd(SKEWED, 0.7, 8_000).run()
    assert 0 < four.longest_vain_s <= LOOK_S + 1e-9


def test_where_more_is_asked_than_there_are_places_few_of_them_are_left_empty():
    """120 %: a place that is left is taken by the worker's own next one, or within 5 ms by another one's."""
    four = Crowd(SKEWED, 1.2, 8_000).run()
    assert four.most == MOST
    assert four.busy_s / four.now > 0.95 * MOST
