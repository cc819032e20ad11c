"""Modelled servers: workers, processor sharing and mere delay, by hand."""

from heapq import heappop, heappush

import pytest

from twisted_lb.sim.servers import Batches, Delay, Sharing, Workers


class Clock:
    """Wakes servers when they want it, and writes down who was done when."""

    def __init__(self, server):
        self.server = server
        self.wakes = []
        self.done = []
        server.begin(lambda job, now: self.done.append((job, now)), lambda one, at: heappush(self.wakes, at))

    def to(self, now):
        while self.wakes and self.wakes[0] <= now:
            self.server.turn(heappop(self.wakes))

    def take(self, job, demand, now):
        self.to(now)
        return self.server.take(job, demand, now)


def ends(server, *jobs):
    clock = Clock(server)
    for name, demand, at in jobs:
        clock.take(name, demand, at)
    clock.to(1e9)
    return clock.done


def test_workers_serve_in_the_order_of_arrival():
    assert ends(Workers("s"), ("a", 2.0, 0.0), ("b", 1.0, 0.5), ("c", 1.0, 9.0)) == [
        ("a", 2.0),
        ("b", 3.0),
        ("c", 10.0),
    ]


def test_the_first_worker_that_is_free_takes_the_next():
    assert ends(Workers("s", 2), ("a", 2.0, 0.0), ("b", 1.0, 0.0), ("c", 1.0, 0.5)) == [
        ("b", 1.0),
        ("a", 2.0),
        ("c", 2.0),
    ]


def test_a_backlog_that_is_full_takes_nobody():
    clock = Clock(Workers("s", backlog=1))
    assert [clock.take(name, 1.0, 0.0) for name in "abc"] == [True, True, False]


def test_shared_cores_serve_all_at_once():
    """Two share one core until the shorter one is done: 2 s for 1 s of work; the other then has 1 s left."""
    assert ends(Sharing("s"), ("a", 2.0, 0.0), ("b", 1.0, 0.0)) == [("b", 2.0), ("a", 3.0)]


def test_as_many_as_there_are_cores_do_not_feel_one_another():
    assert ends(Sharing("s", 2), ("a", 2.0, 0.0), ("b", 1.0, 0.5)) == [("b", 1.5), ("a", 2.0)]


def test_a_delay_knows_no_queue():
    assert ends(Delay("s"), *((name, 1.0, 0.0) for name in "abc")) == [("a", 1.0), ("b", 1.0), ("c", 1.0)]


def test_what_is_shared_goes_on_at_another_speed():
    clock = Clock(Sharing("s"))
    clock.take("a", 2.0, 0.0)
    clock.to(1.0)
    clock.server.set_speed(0.5, 1.0)
    clock.to(10.0)
    assert clock.done == [("a", 3.0)]


def test_a_worker_goes_on_at_its_speed_until_the_next():
    clock = Clock(Workers("s"))
    clock.take("a", 2.0, 0.0)
    clock.take("b", 1.0, 0.0)
    clock.server.set_speed(0.5, 1.0)
    clock.to(10.0)
    assert clock.done == [("a", 2.0), ("b", 4.0)]


@pytest.mark.parametrize("server", [Workers("s"), Sharing("s"), Delay("s")], ids=repr)
def test_who_dies_does_nothing_any_more_and_comes_back_idle(server):
    clock = Clock(server)
    clock.take("a", 2.0, 0.0)
    clock.take("b", 2.0, 0.0)
    assert server.kill(1.0) == ["a", "b"]
    assert not server.up
    server.start(5.0)
    clock.take("c", 1.0, 5.0)
    clock.to(100.0)
    assert clock.done == [("c", 6.0)]


def test_who_leaves_makes_room():
    clock = Clock(Workers("s"))
    for name in "abc":
        clock.take(name, 1.0, 0.0)
    clock.server.leave("b", 0.0)  # queued
    clock.server.leave("a", 0.5)  # running
    clock.to(10.0)
    assert clock.done == [("c", 1.5)]


def test_who_leaves_a_shared_server_leaves_its_share_to_the_others():
    clock = Clock(Sharing("s"))
    clock.take("a", 2.0, 0.0)
    clock.take("b", 2.0, 0.0)
    clock.server.leave("a", 1.0)  # b has had half a second
    clock.to(10.0)
    assert clock.done == [("b", 2.5)]


def test_late_in_a_long_run_a_shared_server_forgets_nobody():
    """A clock at a million seconds has steps of 1e-10: what is left of a job then is no work."""
    clock = Clock(Sharing("s", speed=0.3))
    now = 1e6
    for number in range(200):
        now += 0.37
        clock.take(number, 0.1, now)
    clock.to(2e6)
    assert [job for job, _ in clock.done] == list(range(200))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Workers("s", 0), "s: workers should be 1 or more, not 0"),
        (lambda: Workers("s", speed=0.0), "s: speed should be more than 0, not 0"),
        (lambda: Sharing("s", 0), "s: cores should be 1 or more, not 0"),
    ],
)
def test_what_is_no_server_is_refused(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()


def test_a_batch_slows_down_with_each_job_and_is_shared_beyond_its_size():
    """Alone 1 s; two of them, each job more 50 %: 1.5 s; four in a batch of two: 3 s."""
    batches = lambda: Batches("s", 2, slower=0.5)  # noqa: E731, a server each
    assert ends(batches(), ("a", 1.0, 0.0)) == [("a", 1.0)]
    assert ends(batches(), ("a", 1.0, 0.0), ("b", 1.0, 0.0)) == [("a", 1.5), ("b", 1.5)]
    assert [at for _, at in ends(batches(), *((name, 1.0, 0.0) for name in "abcd"))] == pytest.approx([3.0] * 4)
    assert batches().capacity == pytest.approx(4 / 3)


@pytest.mark.parametrize("slower", [-0.1, -1.0])
def test_a_batch_is_not_faster_than_a_job_alone(slower):
    with pytest.raises(ValueError, match="s: slower should not be less than 0"):
        Batches("s", 2, slower=slower)


def test_no_job_is_forgotten_however_many_moments_were_asked_for_in_vain():
    """Each job that comes makes the moment stale that was asked for; all of them round."""
    clock = Clock(Batches("s", 32))
    begun, now = 0, 0.0
    while len(clock.done) < 1000:
        while begun < len(clock.done) + 32:
            clock.take(begun, 0.1, now)
            begun += 1
        assert clock.wakes, f"{len(clock.done)} done, and nobody is going to look"
        now = clock.wakes[0]
        clock.to(now)
