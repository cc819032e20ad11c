"""Active checks: when they come, what they ask, what an answer means, and that nothing ends them."""

import itertools
import random
from collections.abc import Iterator

import pytest
from builders import claim, make_pool
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.checks import JITTER, Checks, HttpProbe, NetworkProbe, ProbeResult, TcpProbe
from twisted_lb.core.address import TcpAddress, parse_address
from twisted_lb.core.events import BackendEjected
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import TICK_S, Deadlines
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, HeapClock, MemoryNetwork, ScriptedBackend, Wait, response

GOOD = ProbeResult(True, "fine")
START = 1000.0


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


# What a probe says and hears, over a network in memory.


class Town:
    """A network, and probes in it."""

    def __init__(self) -> None:
        self.clock = HeapClock(START)
        self.network = MemoryNetwork(self.clock)
        self.deadlines = Deadlines(Clock(self.clock.seconds), self.clock.callLater)
        self.probes: list[NetworkProbe] = []

    def backend(self, *script, address="a:80", **named) -> ScriptedBackend:
        return ScriptedBackend(self.network, address, [script] if script else (), **named)

    def http(self) -> HttpProbe:
        probe = HttpProbe(self.network, self.deadlines, self.clock.seconds, "/health?x", "agent/1")
        self.probes.append(probe)
        return probe

    def tcp(self) -> TcpProbe:
        probe = TcpProbe(self.network, self.deadlines, self.clock.seconds)
        self.probes.append(probe)
        return probe

    def ask(self, probe: NetworkProbe, address="a:80", timeout_s: float = 1.0) -> list[tuple[bool, str]]:
        """What it comes to, once it does."""
        results: list[tuple[bool, str]] = []
        asked = probe.ask(parse_address(address), timeout_s)
        assert not asked.called, "it was told before ask returned"
        asked.addCallback(lambda result: results.append((result.passed, result.reason)))
        self.clock.settle()
        return results

    def nothing_is_left(self) -> None:
        self.clock.advance(2 * TICK_S)
        assert self.network.open_connections == []
        assert all(not probe._open for probe in self.probes)


@pytest.fixture
def town() -> Iterator[Town]:
    one = Town()
    yield one
    one.nothing_is_left()
    one.clock.advance(100)
    assert one.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("address", "host"), [("a:80", b"a:80"), ("[::1]:8080", b"[::1]:8080"), ("unix:/run/x", b"localhost")]
)
def test_the_question_is_a_get_of_the_path(town, address, host):
    backend = town.backend(address=address)
    assert town.ask(town.http(), address) == [(True, "status 200")]
    assert backend.requests == [
        b"GET /health?x HTTP/1.1\r\nHost: " + host + b"\r\n"
        b"User-Agent: agent/1\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ]
    assert town.network.dialled == [parse_address(address)]


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
    (b"HTTP/1.0 204 No Content\r\n\r\n", True, "status 204"),
    (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", True, "status 302"),
    (b"HTTP/1.1 399 Other\r\n\r\n", True, "status 399"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx", True, "status 200"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 100_000, True, "status 200"),
    (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 503 No\r\n\r\n", False, "status 503"),
    (b"HTTP/1.1 400 Bad\r\n\r\n", False, "status 400"),
    (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "status 404"),
    (b"HTTP/1.1 500 Oops\r\n\r\n", False, "status 500"),
    (b"HTTP/1.1 599 Oops\r\n\r\n", False, "status 599"),
    (b"SSH-2.0-x\r\n\r\n", False, "illegal status line"),
    (b"HTTP/1.1 600 Oops\r\n\r\n", False, "illegal status"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000, False, "the head of the answer is too long"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, False, "the head of the answer is too long"),
]


@pytest.mark.parametrize(("answer", "passed", "reason"), ANSWERS, ids=lambda one: repr(one)[:30])
def test_an_answer_is_judged_by_its_status(town, answer, passed, reason):
    """At once, without the end of its body or of the connection."""
    town.backend(answer, NEVER_ANSWER)
    assert town.ask(town.http()) == [(passed, reason)]
    town.nothing_is_left()


@pytest.mark.parametrize("status", range(200, 600, 7))
def test_two_and_three_hundreds_pass_and_nothing_else(town, status):
    town.backend(response(b"", status))
    assert town.ask(town.http()) == [(status < 400, f"status {status}")]


def test_an_answer_may_come_byte_by_byte(town):
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    pieces = itertools.chain.from_iterable((bytes([byte]), Wait(0.001)) for byte in answer)
    town.backend(*pieces, NEVER_ANSWER)
    results = town.ask(town.http())
    town.clock.advance(0.001 * (len(answer) - 1) - 0.0005)
    assert results == []
    town.clock.advance(0.001)
    assert results == [(True, "status 200")]


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize(("end", "reason"), [(CLOSE, "closed without an answer"), (RESET, "")], ids=["closed", "reset"])
def test_an_answer_that_ends_early_is_a_failure(town, said, end, reason):
    town.backend(*([said] if said else []), end)
    [(passed, why)] = town.ask(town.http())
    assert not passed
    assert why == reason or (not reason and "lost" in why)


def test_a_refused_connection_is_a_failure_with_its_reason(town):
    assert town.ask(town.http()) == [(False, "connection refused")]
    assert town.ask(town.tcp()) == [(False, "connection refused")]
    town.network.fail("a:80", Outcome.REFUSED, "no route to host")
    assert town.ask(town.http()) == [(False, "no route to host")]
    town.network.fail("a:80", Outcome.LOCAL_FAILURE, "")
    assert town.ask(town.http()) == [(False, "local_failure")]


@pytest.mark.parametrize("hang", ["connect", "answer", "in the head"])
def test_silence_is_a_failure_after_the_timeout(town, hang):
    town.backend(*([b"HTTP/1.1 2"] if hang == "in the head" else []), NEVER_ANSWER)
    if hang == "connect":
        town.network.hang("a:80")
    results = town.ask(town.http(), timeout_s=1.0)
    town.clock.advance(0.99)
    assert results == []
    town.clock.advance(2 * TICK_S)
    assert results == [(False, "no answer in time")]
    town.clock.advance(10)
    assert len(results) == 1


def test_a_backend_that_dribbles_is_not_waited_for_longer(town):
    """The timeout is of the whole answer, not of its next byte."""
    town.backend(*itertools.chain.from_iterable((b"x", Wait(0.3)) for _ in range(20)))
    results = town.ask(town.http(), timeout_s=1.0)
    town.clock.advance(1 + TICK_S)
    assert results == [(False, "no answer in time")]


def test_the_tcp_form_passes_on_a_connection_and_says_nothing(town):
    backend = town.backend(NEVER_ANSWER)
    assert town.ask(town.tcp()) == [(True, "connected")]
    assert [connection.received for connection in backend.connections] == [b""]


def test_the_tcp_form_gives_up_on_a_connect_that_hangs(town):
    town.backend()
    town.network.hang("a:80")
    results = town.ask(town.tcp(), timeout_s=0.5)
    town.clock.advance(0.5 + TICK_S)
    assert results == [(False, "no answer in time")]


@pytest.mark.parametrize("hang", ["connect", "answer"])
def test_a_probe_that_is_closed_lets_go_of_everything(town, hang):
    town.backend(NEVER_ANSWER)
    if hang == "connect":
        town.network.hang("a:80")
    probe = town.http()
    results = town.ask(probe)
    probe.close()
    assert results == [(False, "the checks have ended")]
    town.nothing_is_left()
    probe.close()
    assert len(results) == 1


# All of it together.


def checks_in(town: Town, hear, *names: str) -> Checks:
    checks = Checks(town.http(), town.clock, hear, random.Random(1), interval_s=1.0, timeout_s=0.5)
    checks.update((name, parse_address(name)) for name in names)
    return checks


def test_real_probes_of_a_hanging_backend_fail_by_their_timeout_and_delay_nobody(town):
    town.backend(address="quick:80")
    stuck = ScriptedBackend(town.network, "stuck:80", lambda request: [NEVER_ANSWER])
    heard: dict[str, list[tuple[bool, str]]] = {"quick:80": [], "stuck:80": []}
    checks = checks_in(town, lambda name, result: heard[name].append((result.passed, result.reason)), *heard)
    town.clock.advance(60)
    assert set(heard["quick:80"]) == {(True, "status 200")}
    assert set(heard["stuck:80"]) == {(False, "no answer in time")}
    # 60 s, and the last answer may be out; jitter takes or gives 10 % at the very most.
    assert all(54 <= len(results) <= 66 for results in heard.values())
    assert len(stuck.connections) - len(heard["stuck:80"]) in (0, 1)
    checks.stop()
    for probe in town.probes:
        probe.close()


def test_a_backend_that_dies_and_comes_back_is_out_and_in_again(town):
    """From the refusal of one request to the second good check: traffic, core, checks and network."""
    pool, told = make_pool("a:80", "b:80")
    for name in pool.backends:
        town.backend(address=name)
    passed: list[str] = []

    def hear(name, result):
        pool.observe_probe(pool.backends[name], result.passed, result.reason, town.clock.seconds())
        if result.passed:
            passed.append(name)

    checks = checks_in(town, hear, *pool.backends)
    town.clock.advance(5)
    assert told == []
    town.network.refuse("a:80")
    pool.settle(
        claim(pool, tried=(pool.backends["b:80"],)), Outcome.REFUSED, town.clock.seconds(), "connection refused"
    )
    assert isinstance(told[0], BackendEjected)
    assert told[0].check_wanted
    asked = len(town.network.dialled)
    checks.check_soon("a:80")
    town.clock.advance(0.02)
    assert town.network.dialled[asked:] == [TcpAddress("a", 80)]
    town.clock.advance(4)
    assert claim(pool).backend.name == claim(pool).backend.name == "b:80"
    town.network.heal("a:80")
    passed.clear()
    town.clock.run_until(lambda: passed.count("a:80") == 1)
    assert not pool.backends["a:80"].usable
    town.clock.run_until(lambda: passed.count("a:80") == 2)
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


@pytest.mark.parametrize(("outcome", "conclusive"), [(Outcome.LOCAL_FAILURE, False), (Outcome.REFUSED, True)])
def test_only_a_failure_of_our_own_is_inconclusive(town, outcome, conclusive):
    town.network.fail("a:80", outcome, "made to fail")
    results: list[ProbeResult] = []
    town.tcp().ask(parse_address("a:80"), 1.0).addCallback(results.append)
    town.clock.advance(0)
    assert [(one.passed, one.conclusive) for one in results] == [(False, conclusive)]
