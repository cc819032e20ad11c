"""Adaptive limits at the parent: learnt from what workers tell in the table, for as long as there are any."""

import os

import pytest
from builders import make_pool
from twisted.internet.task import Clock

from twisted_lb.core.gradient import SAMPLES, START, AdaptiveRules
from twisted_lb.core.shared_counts import SharedCounts
from twisted_lb.workers.learning import Learning
from twisted_lb.workers.table import Table, make_table

S = 0.1
RULES = AdaptiveRules()
COLUMNS = {("p", "a:1"): 4}


class Plane:
    """What is known of pools."""

    def __init__(self, pool) -> None:
        self.pool = pool

    @property
    def clusters(self):
        return {"p": self}


@pytest.fixture
def table():
    fd = make_table(2, 4)
    yield Table(fd, 2, 4)
    os.close(fd)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def learning(table, clock):
    one = Learning(table, clock)
    yield one
    one.stop()
    assert not clock.getDelayedCalls()


def adaptive():
    return make_pool("a:1", checked=False, adaptive=RULES, max_queued=10)[0]


def the(pool):
    return pool.backends["a:1"]


def worker(table, life: int):
    """The backend's limit at a worker."""
    counts = SharedCounts(table.lives, life, table.in_use, table.learnt(life))
    slot = counts.open()
    counts.place(slot, 4)
    return counts.gradient(slot, RULES)


def answer(one, now: float, count: int) -> None:
    for _ in range(count):
        one.leased(START)
        one.observe(S, START, now)


def test_the_limit_of_the_parent_is_what_workers_go_by(table, clock, learning):
    pool = adaptive()
    learning.follow(Plane(pool), COLUMNS)
    crew = [worker(table, life) for life in range(2)]
    answer(crew[0], 0.0, 1)
    clock.advance(1.0)
    answer(crew[0], 1.5, SAMPLES // 2)
    answer(crew[1], 1.5, SAMPLES // 2)
    clock.advance(1.0)
    assert the(pool).limit == START // 2
    assert the(pool).limit_why.startswith("the unloaded latency is measured")
    assert [one.follow() and one.limit for one in crew] == [START // 2] * 2


def test_a_number_in_its_place_stays(table, clock, learning):
    pool = adaptive()
    backend = the(pool)
    backend.bound(3, 0)
    learning.follow(Plane(pool), COLUMNS)
    one = worker(table, 0)
    answer(one, 0.0, 1)
    clock.advance(1.0)
    answer(one, 1.5, SAMPLES)
    clock.advance(1.0)
    assert (backend.limit, backend.limit_why) == (3, "")


def test_who_takes_the_place_of_another_parent_begins_where_that_was(table, clock, learning):
    before, pool = Learning(table, clock), adaptive()
    the(pool).gradient.begin_at(37)
    before.follow(Plane(pool), COLUMNS)
    before.stop()
    after = adaptive()
    learning.follow(Plane(after), COLUMNS)
    assert (the(after).limit, worker(table, 0).follow()) == (37, True)
    # But what another backend had in this column is nothing to the next one there.
    learning.follow(Plane(after), {})
    third = adaptive()
    learning.follow(Plane(third), COLUMNS)
    assert the(third).limit == START


def test_where_no_limit_is_adaptive_nobody_looks(clock, learning):
    pool, _ = make_pool("a:1", checked=False, max_in_flight=5)
    learning.follow(Plane(pool), COLUMNS)
    assert not clock.getDelayedCalls()
    learning.follow(Plane(adaptive()), COLUMNS)
    assert clock.getDelayedCalls()
    learning.follow(Plane(pool), COLUMNS)
    clock.advance(1.0)
    assert not clock.getDelayedCalls()


def test_a_backend_without_a_column_is_left_to_each_worker(clock, learning):
    learning.follow(Plane(adaptive()), {})
    assert not clock.getDelayedCalls()
