"""The adaptive limit: Envoy's published steps, and what it comes to in front of servers whose capacity is known."""

from collections.abc import Callable

import pytest

from twisted_lb.core.gradient import SAMPLES, START, AdaptiveRules, Gradient, gradient_step
from twisted_lb.sim.laws import BLOCK, Exponential, Fixed, Law, Lognormal, stream
from twisted_lb.sim.servers import Server, Sharing, Workers

S = 0.1  # seconds of service
RULES = AdaptiveRules()


@pytest.mark.parametrize(("sample_ms", "limit"), [(10, 136), (12.5, 110), (25, 57), (5, 214)])
def test_a_step_is_envoys(sample_ms, limit):
    """A limit of 100, an unloaded latency of 10 ms and Envoy's buffer of 25 %: what its controller makes of these windows."""
    assert int(gradient_step(100, 10.0, sample_ms)) == limit


def test_no_window_moves_the_limit_by_more_than_a_gradient_of_a_half_or_two():
    assert gradient_step(100, 10.0, 1e9) == gradient_step(100, 10.0, 25.0)
    assert gradient_step(100, 10.0, 1e-9) == gradient_step(100, 10.0, 6.25)


def test_the_tolerance_is_what_a_backend_may_take_more_than_unloaded():
    assert gradient_step(100, 10.0, 20.0, tolerance_percent=100) == 110


def window(one, latency_s, in_flight, begin, count=None):
    """Answers that fill a window, all sent after `begin`; whether the limit moved, at the last of them."""
    for _ in range(count or max(SAMPLES, 2 * one.limit)):
        one.leased(in_flight)
        moved = one.observe(latency_s, in_flight, begin + latency_s)
    return moved


def learnt(rules=RULES, latency_s=S):
    """A limit that has measured its unloaded latency, at the moment 1."""
    one = Gradient(rules)
    one.observe(latency_s, one.limit, 0.0)
    window(one, latency_s, one.limit, 1.0)
    if one.why.endswith("is measured"):
        one.observe(latency_s, one.limit, 1.0)
        window(one, latency_s, one.limit, 1.0 + latency_s, SAMPLES)
    return one


def test_it_begins_by_measuring_with_half_as_many():
    one = Gradient(AdaptiveRules())
    assert (one.limit, one.because) == (START, "nothing is known yet")
    one.observe(S, START, 0.0)  # sent to an idle server
    assert window(one, S, START, 1.0)
    assert one.limit == START // 2
    assert window(one, S, START // 2, 1.1)
    assert (one.limit, one.unloaded_s) == (START, pytest.approx(S))
    assert one.because == "the unloaded latency was measured: 100 ms, unloaded 100 ms"


def test_a_measurement_goes_on_while_halving_brings_the_latency_down():
    one = Gradient(AdaptiveRules())
    one.observe(8 * S, 8, 0.0)
    for in_flight in (8, 4, 2, 1):  # one worker
        assert one.limit == in_flight
        window(one, in_flight * S, in_flight, 10.0 * (9 - in_flight))
    assert (one.unloaded_s, one.measurements) == (pytest.approx(S), 1)


def test_requests_that_were_sent_before_a_measurement_are_no_part_of_it():
    one = Gradient(AdaptiveRules())
    one.observe(S, START, 0.0)
    window(one, S, START, 1.0)
    for _ in range(SAMPLES):
        assert not one.observe(9.0, START, 1.2)
    assert one.limit == START // 2
    window(one, S, 4, 1.3)
    assert one.unloaded_s == pytest.approx(S)


def test_it_grows_only_where_it_was_reached():
    one = learnt()
    assert not window(one, S, one.limit - 1, 2.0)
    assert one.because.startswith("it is not used up")
    assert window(one, S, one.limit, 2.0)
    assert one.limit == int((START + gradient_step(START, S, S)) / 2)


def test_it_does_not_fall_while_less_than_half_of_it_is_in_use():
    assert not window(learnt(), 3 * S, START // 2 - 1, 2.0)
    one = learnt()
    assert window(one, 3 * S, START // 2 + 1, 2.0)
    assert one.limit < START


def test_a_backend_that_has_little_to_do_is_measured_without_being_held_back():
    one = learnt()
    for moment in range(2, 20):
        window(one, 2 * S, START // 2 - 1, 60.0 * moment)
        assert one.limit == START
    assert (one.unloaded_s, one.measurements) == (pytest.approx(2 * S, rel=1e-3), 1)


def test_it_is_measured_anew_from_time_to_time():
    one = learnt(AdaptiveRules(measure_s=30))
    window(one, S, one.limit, 20.0)
    assert one.limit > START
    before = one.limit
    window(one, S, one.limit, 40.0)
    assert one.limit == before // 2


def test_other_rules_keep_what_was_learnt_within_their_bounds():
    one = learnt()
    one.configure(AdaptiveRules(most=5))
    assert (one.limit, one.unloaded_s) == (5, pytest.approx(S))
    one.configure(AdaptiveRules(least=7))
    assert one.limit == 7


def test_other_rules_hold_during_a_measurement_too():
    one = Gradient(RULES)
    one.observe(S, START, 0.0)
    window(one, S, START, 1.0)
    assert one.limit == START // 2
    one.configure(AdaptiveRules(least=6))
    assert one.limit == 6
    one.configure(AdaptiveRules(most=2))
    assert one.limit == 2


def test_bounds_of_one_number_leave_nothing_to_measure():
    one = learnt(AdaptiveRules(least=3, most=3))
    for moment in range(2, 9):
        window(one, moment * S, 3, 10.0 * moment)
        assert one.limit == 3


# In front of servers.


class Saturated:
    """A server with as many requests in flight as the limit lets it have, always: those that wait in a queue are at hand."""

    def __init__(self, server: Server[float], law: Law, one: Gradient, seed: int = 1) -> None:
        self.server, self.one, self.now = server, one, 0.0
        self.in_flight = self.answered = 0
        self.most_in_flight = 0
        self.limits: list[int] = []
        self._law, self._rng, self._demands = law, stream(seed, "service"), iter(())
        self._due: list[float] = []
        server.begin(self._done, lambda _, at: self._due.append(at))

    def _demand(self) -> float:
        for demand in self._demands:
            return demand
        self._demands = iter(self._law.block(self._rng, BLOCK))
        return next(self._demands)

    def _done(self, began: float, now: float) -> None:
        self.one.observe(now - began, self.in_flight, now)
        self.in_flight -= 1
        self.answered += 1
        self.limits.append(self.one.limit)

    def run(self, requests: int, until: Callable[[], bool] = lambda: False) -> "Saturated":
        ends = self.answered + requests
        while self.answered < ends and not until():
            while self.in_flight < self.one.limit:
                self.in_flight += 1
                self.server.take(self.now, self._demand(), self.now)
                self.one.leased(self.in_flight)
            self.now = min(self._due)
            self._due = [at for at in self._due if at > self.now]
            self.server.turn(self.now)
        return self

    def settled(self, requests: int = 4000) -> float:
        """The mean limit over the next requests."""
        before = len(self.limits)
        self.run(requests)
        return sum(self.limits[before:]) / requests


def begun(limit: int, rules=RULES) -> Gradient:
    """A limit that has come to this number elsewhere."""
    one = Gradient(AdaptiveRules(least=limit, most=limit))
    one.configure(rules)
    return one


# Envoy's fixed point: 1.25 * n + sqrt(1.25 * n).
@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("start", [1, 100])
def test_it_finds_the_number_of_workers_from_below_and_from_above(workers, start):
    over = Saturated(Workers("w", workers), Fixed(S), begun(start)).run(4000)
    point = 1.25 * workers + (1.25 * workers) ** 0.5
    assert workers <= over.settled() <= 1.1 * point + 1
    assert over.one.unloaded_s == pytest.approx(S, rel=0.1)


@pytest.mark.parametrize("cores", [2, 4, 8])
def test_it_finds_the_number_of_cores_that_requests_share(cores):
    over = Saturated(Sharing("w", cores), Fixed(S), begun(1)).run(4000)
    assert cores <= over.settled() <= 1.25 * cores + (1.25 * cores) ** 0.5 + 1


@pytest.mark.parametrize("law", [Exponential(S), Lognormal(S, 1.0), Lognormal(S, 2.0)], ids=repr)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_stable_where_requests_are_of_different_lengths(law, seed):
    """Eight workers: never idle for want of a place but while something is measured, and no more than they need twice."""
    over = Saturated(Workers("w", 8), law, Gradient(AdaptiveRules()), seed).run(2000)
    before = over.now, over.answered
    mean = over.settled(20_000)
    assert 7 <= mean <= 16
    served = (over.answered - before[1]) * S
    assert served / (over.now - before[0]) > 0.92 * 8


def test_it_follows_workers_that_die_within_so_many_answers():
    over = Saturated(Workers("w", 8), Fixed(S), Gradient(AdaptiveRules())).run(4000)
    found = over.one.limit
    over.server.count = 4
    over.run(10 * SAMPLES)
    assert over.one.limit <= found * 0.6
    assert over.settled() == pytest.approx(1.25 * 4 + 5**0.5, abs=1)


def test_it_follows_workers_that_are_added_within_so_many_answers():
    over = Saturated(Workers("w", 4), Fixed(S), Gradient(AdaptiveRules())).run(4000)
    over.server.count = 16
    over.run(16 * SAMPLES)
    assert over.one.limit >= 16


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_it_follows_a_server_that_has_become_slower_or_faster(factor):
    """That is no queueing: another unloaded latency, which is found when the limit has fallen, or latency has."""
    over = Saturated(Workers("w", 8), Fixed(S), Gradient(AdaptiveRules())).run(4000)
    over.server.set_speed(factor, over.now)
    over.run(4000)
    assert over.one.unloaded_s == pytest.approx(S / factor, rel=0.1)
    assert 8 <= over.settled() <= 15
