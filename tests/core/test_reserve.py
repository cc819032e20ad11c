"""The reserve of retries: of one process, and of several that spend it together."""

import random

import pytest

from twisted_lb.core.rate import Rates
from twisted_lb.core.reserve import Reserve, SharedReserve
from twisted_lb.core.retry import RetryBudget

SECRET = bytes(32)
CELLS = 64


def shared(count: int, name: str = "api") -> list[SharedReserve]:
    memory = memoryview(bytearray(16 * CELLS))
    return [SharedReserve(Rates(CELLS, memory), name, SECRET) for _ in range(count)]


def budgets(count: int, percent: int, per_s: int) -> list[RetryBudget]:
    return [RetryBudget(percent, per_s, one) for one in shared(count)]


def test_several_processes_spend_what_one_would():
    crew = budgets(4, 0, 10)
    assert sum(one.withdraw(50.0) for one in crew for _ in range(200)) == 100
    assert sum(one.withdraw(51.0) for _ in range(200) for one in crew) == 10
    assert sum(one.withdraw(1000.0) for one in reversed(crew) for _ in range(500)) == 100


def test_one_process_may_spend_all_of_it():
    one, other = budgets(2, 0, 1)
    assert sum(one.withdraw(5.0) for _ in range(20)) == 10
    assert not other.withdraw(5.0)
    assert other.withdraw(6.0)
    assert not one.withdraw(6.0)


def test_the_share_of_requests_is_each_process_s_own():
    one, other = budgets(2, 50, 0)
    for _ in range(10):
        one.deposit(1.0)
    assert sum(one.withdraw(1.0) for _ in range(10)) == 5
    assert not other.withdraw(1.0)


def test_what_is_left_is_told():
    one, other = budgets(2, 0, 1)
    assert one.left == 10
    assert one.withdraw(5.0)
    assert one.left == 9
    assert other.withdraw(5.0)
    assert other.left == 8


def test_pools_do_not_share_and_without_a_rate_there_is_none():
    memory = memoryview(bytearray(16 * CELLS))
    api, web = (RetryBudget(0, 1, SharedReserve(Rates(CELLS, memory), name, SECRET)) for name in ("api", "web"))
    assert sum(api.withdraw(5.0) for _ in range(20)) == 10
    assert sum(web.withdraw(5.0) for _ in range(20)) == 10
    web.configure(0, 0)
    assert not web.withdraw(500.0)
    assert web.left == 0


def test_another_rate_holds_from_now_on_and_gives_nothing_back():
    one, other = budgets(2, 0, 10)
    assert sum(one.withdraw(5.0) for _ in range(200)) == 100
    for budget in (one, other):
        budget.configure(0, 1)
    assert not other.withdraw(5.0)
    assert sum(other.withdraw(8.0) for _ in range(20)) == 3


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_all_together_spend_what_one_does(seed):
    rng = random.Random(seed)
    alone, crew = Reserve(), shared(3)
    for one in (alone, *crew):
        one.configure(5)
    now, spent = 100.0, [0, 0]
    for _ in range(500):
        now += rng.random() * 0.2
        spent[0] += alone.withdraw(now)
        spent[1] += rng.choice(crew).withdraw(now)
    # One counts in thousandths of a retry, the other in nanoseconds.
    assert abs(spent[0] - spent[1]) <= 1
