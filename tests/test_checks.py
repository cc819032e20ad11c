"""Active checks: when they come, and that nothing ends them."""

import itertools
import random
from collections.abc import Iterator

import pytest
from builders import claim, make_pool
from probing import START, ProbeBench, probe_bench
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.checks import JITTER, Checks
from twisted_lb.core.address import TcpAddress, parse_address
from twisted_lb.core.events import BackendEjected
from twisted_lb.core.outcome import Outcome
from twisted_lb.probes import ProbeResult
from twisted_lb.testing import NEVER_ANSWER, HeapClock

GOOD = ProbeResult(True, "fine")


class FakeProbe:
    """Answers as it is told; notes when it was asked."""

    def __init__(self, clock: HeapClock) -> None:
        self.clock = clock
        self.asked: dict[str, list[float]] = {}
        self.answers: dict[str, object] = {}

    def ask(self, address, timeout_s):
        host = address.host
        self.asked.setdefault(host, []).append(self.clock.seconds() - START)
        answer = self.answers.get(host, GOOD)
        if callable(answer):
            answer = answer()
        return answer if isinstance(answer, Deferred) else succeed(answer)


class Round:
    """Checks over a fake probe, on virtual time."""

    def __init__(self, *names: str, interval_s: float = 2.0, seed: int = 1) -> None:
        self.clock = HeapClock(START)
        self.probe = FakeProbe(self.clock)
        self.heard: list[tuple[str, bool, str]] = []
        self.checks = Checks(
            self.probe,
            self.clock,
            self._hear,
            random.Random(seed),
            interval_s=interval_s,
            timeout_s=1.0,
        )
        self.when_heard = lambda: None
        self.update(*names)

    def _hear(self, name, result):
        self.heard.append((name, result.passed, result.reason))
        self.when_heard()

    def update(self, *names: str, port: int = 80) -> None:
        self.checks.update((name, TcpAddress(name, port)) for name in names)

    def gaps(self, name: str) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.probe.asked[name])]


# When they come.


@pytest.mark.parametrize(("interval_s", "within"), [(2.0, 1.0), (0.4, 0.4), (60.0, 1.0)])
@pytest.mark.parametrize("count", [1, 3, 10, 100])
def test_first_checks_come_within_a_second_or_the_interval_and_spread(interval_s, within, count):
    round_ = Round(*(f"h{index}" for index in range(count)), interval_s=interval_s)
    round_.clock.advance(within)
    firsts = sorted(times[0] for times in round_.probe.asked.values())
    # One in each slice.
    assert [int(first / within * count + 1e-6) for first in firsts] == list(range(count))


def test_the_first_check_of_one_who_comes_later_is_as_soon():
    round_ = Round("a", interval_s=60.0)
    round_.clock.advance(100)
    round_.update("a", "b")
    round_.clock.advance(1)
    assert len(round_.probe.asked["b"]) == 1


def test_later_checks_keep_the_interval_within_its_jitter_and_are_not_in_step():
    round_ = Round("a", "b", interval_s=2.0)
    round_.clock.advance(2000)
    for name in ("a", "b"):
        gaps = round_.gaps(name)
        assert all(2 * (1 - JITTER) - 1e-6 <= gap <= 2 * (1 + JITTER) + 1e-6 for gap in gaps)
        assert max(gaps) - min(gaps) > 0.35  # of 0.4
        # Uniform: the mean of 1,000 gaps has a standard deviation of 0.4 / sqrt(12) / sqrt(1000) = 0.0037; five of them.
        assert abs(sum(gaps) / len(gaps) - 2) < 0.019
    assert round_.probe.asked["a"][-3:] != round_.probe.asked["b"][-3:]
    assert {name for name, _, _ in round_.heard} == {"a", "b"}


@pytest.mark.parametrize("took_s", [0.3, 1.0, 1.7])
def test_the_time_a_check_takes_is_part_of_its_interval(took_s):
    round_ = Round("slow", interval_s=2.0)

    def slowly():
        answer: Deferred = Deferred()
        round_.clock.callLater(took_s, answer.callback, GOOD)
        return answer

    round_.probe.answers["slow"] = slowly
    round_.clock.advance(200)
    assert all(1.8 - 1e-6 <= gap <= 2.2 + 1e-6 for gap in round_.gaps("slow"))


def test_one_that_takes_longer_than_its_interval_is_asked_again_at_once_and_never_twice_at_a_time():
    round_ = Round("slow", interval_s=1.0)

    def slowly():
        answer: Deferred = Deferred()
        round_.clock.callLater(3.0, answer.callback, GOOD)
        return answer

    round_.probe.answers["slow"] = slowly
    round_.clock.advance(61)
    assert all(gap == pytest.approx(3.0) for gap in round_.gaps("slow"))
    assert len(round_.probe.asked["slow"]) == 21


def test_a_hanging_backend_delays_only_its_own_checks():
    alone, round_ = Round("stuck", "quick", interval_s=1.0), Round("stuck", "quick", interval_s=1.0)
    round_.probe.answers["stuck"] = Deferred()
    for one in (alone, round_):
        one.clock.advance(100)
    assert len(round_.probe.asked["stuck"]) == 1
    assert len(round_.probe.asked["quick"]) == pytest.approx(100, abs=10)
    assert all(0.9 - 1e-6 <= gap <= 1.1 + 1e-6 for gap in round_.gaps("quick"))


# That nothing ends them.


@pytest.mark.parametrize("how", ["raises", "fails", "fails later"])
def test_a_probe_that_blows_up_is_a_failed_probe_and_the_loop_goes_on(how, logged_errors):
    round_ = Round("a", "b", interval_s=1.0)

    def blow_up():
        if how == "raises":
            raise ZeroDivisionError
        if how == "fails":
            return fail(ZeroDivisionError())
        answer: Deferred = Deferred()
        round_.clock.callLater(0.3, answer.errback, ZeroDivisionError())
        return answer

    round_.probe.answers["a"] = blow_up
    round_.clock.advance(5)
    of_a = [(passed, reason) for name, passed, reason in round_.heard if name == "a"]
    assert len(of_a) >= 4
    assert set(of_a) == {(False, "the probe itself failed")}
    assert len(logged_errors.take()) == len(of_a)
    round_.probe.answers["a"] = GOOD
    round_.clock.advance(5)
    assert round_.heard[-1][1:] == (True, "fine")
    assert all(0.9 - 1e-6 <= gap <= 1.1 + 1e-6 for gap in round_.gaps("a"))
    assert {passed for name, passed, _ in round_.heard if name == "b"} == {True}


@pytest.mark.parametrize("answer", [None, "up"])
def test_a_probe_that_answers_nonsense_does_not_end_the_loop(answer, logged_errors):
    round_ = Round("a", interval_s=1.0)
    round_.probe.answers["a"] = lambda: succeed(answer)
    round_.clock.advance(5)
    assert len(logged_errors.take()) >= 4
    round_.probe.answers["a"] = GOOD
    round_.clock.advance(2)
    assert round_.heard[-1] == ("a", True, "fine")


def test_a_probe_that_returns_no_deferred_does_not_end_the_loop(logged_errors):
    round_ = Round("a", interval_s=1.0)
    usual, round_.probe.ask = round_.probe.ask, lambda address, timeout_s: True
    round_.clock.advance(5)
    assert len(logged_errors.take()) >= 4
    round_.probe.ask = usual
    round_.clock.advance(2)
    assert round_.heard[-1] == ("a", True, "fine")


def test_a_listener_that_raises_does_not_end_the_loop(logged_errors):
    round_ = Round("a", interval_s=1.0)
    round_.when_heard = lambda: 1 / 0
    round_.clock.advance(5)
    assert len(round_.probe.asked["a"]) >= 4
    assert len(logged_errors.take()) == len(round_.probe.asked["a"])
    assert all(0.9 - 1e-6 <= gap <= 1.1 + 1e-6 for gap in round_.gaps("a"))


def test_a_listener_may_change_the_checks_it_hears_of():
    round_ = Round("a", interval_s=1.0)
    wishes = [
        lambda: round_.checks.check_soon("a"),
        lambda: round_.update("a", "b"),
        lambda: round_.update("a", "b", port=81),
        round_.checks.stop,
    ]

    def wish():
        wishes.pop(0)()

    round_.when_heard = wish
    round_.clock.advance(20)
    assert wishes == []
    assert round_.clock.getDelayedCalls() == []


# Sooner, other ones, and the end.


def test_a_check_can_be_wanted_at_once():
    round_ = Round("a", "b", interval_s=60.0)
    round_.clock.advance(10)
    round_.checks.check_soon("a")
    round_.checks.check_soon("nobody")
    round_.clock.advance(0.1)
    assert [len(round_.probe.asked[name]) for name in "ab"] == [2, 1]
    # And from there on as usual.
    round_.clock.advance(53)
    assert len(round_.probe.asked["a"]) == 2
    round_.clock.advance(14)
    assert len(round_.probe.asked["a"]) == 3


def test_wanted_again_and_again_it_is_not_put_off():
    round_ = Round("a", interval_s=60.0)
    round_.clock.advance(10)
    for _ in range(20):
        round_.checks.check_soon("a")
        round_.clock.advance(0.005)
    assert 5 <= len(round_.probe.asked["a"]) <= 12  # one in 10 ms at most
    round_.clock.advance(1)
    assert len(round_.clock.getDelayedCalls()) == 1


def test_a_first_check_can_be_wanted_sooner():
    round_ = Round("a", interval_s=60.0, seed=3)
    round_.checks.check_soon("a")
    round_.clock.advance(0.011)
    assert len(round_.probe.asked["a"]) == 1


def test_one_that_is_being_asked_is_not_asked_twice():
    round_ = Round("a", interval_s=1.0)
    answer: Deferred = Deferred()
    round_.probe.answers["a"] = answer
    round_.clock.advance(1)
    round_.checks.check_soon("a")
    round_.clock.advance(1)
    assert len(round_.probe.asked["a"]) == 1
    round_.probe.answers["a"] = GOOD
    answer.callback(GOOD)
    # It took longer than its interval: the next one is due at once.
    round_.clock.advance(0.5)
    assert len(round_.probe.asked["a"]) == 2


def test_an_update_leaves_the_others_alone():
    """No chance is drawn for them, no pause of theirs begins again."""
    round_ = Round("a", "b", interval_s=2.0)
    round_.clock.advance(3)
    coming = {call.getTime() for call in round_.clock.getDelayedCalls()}
    round_.update("b", "c", "a")
    assert coming < {call.getTime() for call in round_.clock.getDelayedCalls()}
    round_.update("a", "b")
    assert coming == {call.getTime() for call in round_.clock.getDelayedCalls()}


def test_who_is_gone_is_not_asked_and_not_heard_of_any_more():
    round_ = Round("a", "b", interval_s=1.0)
    answer: Deferred = Deferred()
    round_.probe.answers["b"] = answer
    round_.clock.advance(2)
    round_.update("a")
    answer.callback(GOOD)
    round_.clock.advance(10)
    assert len(round_.probe.asked["b"]) == 1
    assert {name for name, _, _ in round_.heard} == {"a"}


def test_a_new_address_is_asked_instead_and_what_the_old_one_says_is_not_heard():
    round_ = Round("a", interval_s=1.0)
    answer: Deferred = Deferred()
    round_.probe.answers["a"] = answer
    round_.clock.advance(1)
    addresses: list[TcpAddress] = []
    round_.probe.ask = lambda address, timeout_s: addresses.append(address) or succeed(GOOD)
    round_.update("a", port=81)
    answer.callback(ProbeResult(False, "old"))
    round_.clock.advance(3)
    assert set(addresses) == {TcpAddress("a", 81)}
    assert set(round_.heard) == {("a", True, "fine")}


def test_who_is_another_server_now_is_asked_at_once_and_what_the_old_one_says_is_not_heard():
    round_ = Round("a", interval_s=60.0)
    answer: Deferred = Deferred()
    round_.probe.answers["a"] = answer
    round_.clock.advance(1)
    round_.probe.answers["a"] = GOOD
    round_.checks.check_anew("a")
    round_.checks.check_anew("nobody")
    round_.clock.advance(0.1)
    answer.callback(ProbeResult(False, "old"))
    assert round_.heard == [("a", True, "fine")]
    round_.clock.advance(100)
    assert len(round_.probe.asked["a"]) in (3, 4)
    round_.checks.stop()


def test_after_a_stop_nothing_is_left_and_late_results_are_not_told():
    round_ = Round("a", "b", "c", interval_s=1.0)
    answer: Deferred = Deferred()
    round_.probe.answers["a"] = answer
    round_.clock.advance(2)
    round_.checks.stop()
    assert round_.clock.getDelayedCalls() == []
    heard = len(round_.heard)
    answer.callback(GOOD)
    round_.checks.check_soon("b")
    round_.checks.stop()
    assert round_.clock.getDelayedCalls() == []
    assert len(round_.heard) == heard


def test_a_stop_before_the_first_check_leaves_nothing():
    round_ = Round("a", "b")
    round_.checks.stop()
    assert round_.clock.getDelayedCalls() == []


# All of it together, over a network in memory.


@pytest.fixture
def bench() -> Iterator[ProbeBench]:
    with probe_bench() as one:
        yield one


def checks_in(bench: ProbeBench, hear, *names: str) -> Checks:
    checks = Checks(bench.http(), bench.clock, hear, random.Random(1), interval_s=1.0, timeout_s=0.5)
    checks.update((name, parse_address(name)) for name in names)
    return checks


def test_real_probes_of_a_hanging_backend_fail_by_their_timeout_and_delay_nobody(bench):
    bench.backend(address="quick:80")
    stuck = bench.backend_that(lambda request: [NEVER_ANSWER], "stuck:80")
    heard: dict[str, list[tuple[bool, str]]] = {"quick:80": [], "stuck:80": []}
    checks = checks_in(bench, lambda name, result: heard[name].append((result.passed, result.reason)), *heard)
    bench.clock.advance(60)
    assert set(heard["quick:80"]) == {(True, "status 200")}
    assert set(heard["stuck:80"]) == {(False, "no answer in time")}
    # 60 s, and the last answer may be out; jitter takes or gives 10 % at the very most.
    assert all(54 <= len(results) <= 66 for results in heard.values())
    assert len(stuck.connections) - len(heard["stuck:80"]) in (0, 1)
    checks.stop()
    for probe in bench.probes:
        probe.close()


def test_a_backend_that_dies_and_comes_back_is_out_and_in_again(bench):
    """From the refusal of one request to the second good check: traffic, core, checks and network."""
    pool, told = make_pool("a:80", "b:80")
    for name in pool.backends:
        bench.backend(address=name)
    passed: list[str] = []

    def hear(name, result):
        pool.observe_probe(pool.backends[name], result.passed, result.reason, bench.clock.seconds())
        if result.passed:
            passed.append(name)

    checks = checks_in(bench, hear, *pool.backends)
    bench.clock.advance(5)
    assert told == []
    bench.network.refuse("a:80")
    pool.settle(
        claim(pool, tried=(pool.backends["b:80"],)), Outcome.REFUSED, bench.clock.seconds(), "connection refused"
    )
    assert isinstance(told[0], BackendEjected)
    assert told[0].check_wanted
    asked = len(bench.network.dialled)
    checks.check_soon("a:80")
    bench.clock.advance(0.02)
    assert bench.network.dialled[asked:] == [TcpAddress("a", 80)]
    bench.clock.advance(4)
    assert claim(pool).backend.name == claim(pool).backend.name == "b:80"
    bench.network.heal("a:80")
    passed.clear()
    bench.clock.run_until(lambda: passed.count("a:80") == 1)
    assert not pool.backends["a:80"].usable
    bench.clock.run_until(lambda: passed.count("a:80") == 2)
    assert pool.backends["a:80"].usable
    assert [str(event) for event in told] == [
        "p/a:80 is ejected until checks pass: connection refused",
        "p/a:80 is down: connection refused",
        "p/a:80 is up: status 200",
        "p/a:80 is used again: checks pass",
    ]
    checks.stop()


def test_a_check_that_we_could_not_make_says_nothing_about_the_backend():
    said: list = []
    round_ = Round("a", interval_s=2.0)
    round_.probe.answers["a"] = ProbeResult(False, "too many open files", conclusive=False)

    def observe(event):
        if event["log_namespace"] == "twisted_lb.checks":
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    round_.clock.advance(10)
    globalLogPublisher.removeObserver(observe)
    assert round_.heard == []
    assert len(said) >= 4
    assert said[0] == "a check of a could not be made: too many open files"
    round_.probe.answers["a"] = GOOD
    round_.clock.advance(3)
    assert round_.heard[0] == ("a", True, "fine")
