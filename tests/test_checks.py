"""Active checks: when they come, what they ask, what an answer means, and that nothing ends them."""

import contextlib
import itertools
import random

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from world import Time, World

from twisted_lb.checks import JITTER, Checks, HttpProbe, ProbeResult, TcpProbe
from twisted_lb.core.backend import TcpAddress, UnixAddress

GOOD = ProbeResult(True, "fine")


class FakeProbe:
    """Answers as it is told; notes when it was asked."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.asked: dict[str, list[float]] = {}
        self.answers: dict[str, object] = {}

    def ask(self, address, timeout_s):
        host = address.host
        self.asked.setdefault(host, []).append(self.time.now)
        answer = self.answers.get(host, GOOD)
        if callable(answer):
            answer = answer()
        return answer if isinstance(answer, Deferred) else succeed(answer)


class Round:
    """Checks over a fake probe, on virtual time."""

    def __init__(self, *names: str, interval_s: float = 2.0, seed: int = 1) -> None:
        self.time = Time()
        self.probe = FakeProbe(self.time)
        self.heard: list[tuple[str, bool, str]] = []
        self.checks = Checks(
            self.probe,
            self.time,
            lambda name, result: self.heard.append((name, result.passed, result.reason)),
            random.Random(seed),
            interval_s=interval_s,
            timeout_s=1.0,
        )
        self.began_at = self.time.now
        self.update(*names)

    def update(self, *names: str) -> None:
        self.checks.update((name, TcpAddress(name, 80)) for name in names)

    def advance(self, seconds: float) -> None:
        ends_at = self.time.now + seconds
        while (at := self.time.next_at()) is not None and at <= ends_at:
            self.time.now = max(at, self.time.now)
            self.time.run_due()
        self.time.now = ends_at


@pytest.mark.parametrize(("interval_s", "within"), [(2.0, 1.0), (0.4, 0.4), (60.0, 1.0)])
def test_first_checks_come_within_a_second_or_the_interval_and_spread(interval_s, within):
    names = [f"h{index}" for index in range(10)]
    round_ = Round(*names, interval_s=interval_s)
    round_.advance(within)
    firsts = sorted(times[0] - round_.began_at for times in round_.probe.asked.values())
    assert len(firsts) == 10
    # One in each tenth.
    assert [int(first / within * 10) for first in firsts] == list(range(10))


def test_later_checks_keep_the_interval_within_its_jitter_and_are_not_in_step():
    round_ = Round("a", "b", interval_s=2.0)
    round_.advance(2000)
    for times in round_.probe.asked.values():
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert all(2 * (1 - JITTER) - 1e-6 <= gap <= 2 * (1 + JITTER) + 1e-6 for gap in gaps)
        assert max(gaps) - min(gaps) > 0.3
        # Uniform: the mean of 1,000 gaps has a standard deviation of 0.2 / sqrt(3) / sqrt(1000) = 0.0037.
        assert abs(sum(gaps) / len(gaps) - 2) < 0.02
    assert {name for name, _, _ in round_.heard} == {"a", "b"}


def test_a_hanging_backend_delays_only_its_own_checks():
    round_ = Round("stuck", "quick", interval_s=1.0)
    round_.probe.answers["stuck"] = Deferred()
    round_.advance(100)
    assert len(round_.probe.asked["stuck"]) == 1
    assert 90 <= len(round_.probe.asked["quick"]) <= 112


def test_the_time_a_check_takes_is_part_of_its_interval():
    round_ = Round("slow", interval_s=2.0)

    def slowly():
        answer: Deferred = Deferred()
        round_.time.callLater(1.0, answer.callback, GOOD)
        return answer

    round_.probe.answers["slow"] = slowly
    round_.advance(200)
    assert 90 <= len(round_.probe.asked["slow"]) <= 112


@pytest.mark.parametrize("how", ["raises", "fails"])
def test_a_probe_that_blows_up_is_a_failed_probe_and_the_loop_goes_on(how, logged_errors):
    round_ = Round("a", interval_s=1.0)

    def blow_up():
        if how == "raises":
            raise ZeroDivisionError
        return fail(ZeroDivisionError())

    round_.probe.answers["a"] = blow_up
    round_.advance(5)
    count = len(round_.heard)
    assert count >= 4
    assert set(round_.heard) == {("a", False, "the probe itself failed")}
    assert len(logged_errors.take()) == count
    round_.probe.answers["a"] = GOOD
    round_.advance(5)
    assert round_.heard[-1] == ("a", True, "fine")


def test_a_listener_that_raises_does_not_end_the_loop(logged_errors):
    round_ = Round("a", interval_s=1.0)
    round_.checks._heard = lambda name, result: 1 / 0
    round_.advance(5)
    assert len(round_.probe.asked["a"]) >= 4
    assert len(logged_errors.take()) >= 4


def test_a_check_can_be_wanted_at_once():
    round_ = Round("a", interval_s=60.0)
    round_.advance(10)
    before = len(round_.probe.asked["a"])
    round_.checks.check_soon("a")
    round_.checks.check_soon("nobody")
    round_.advance(0.1)
    assert len(round_.probe.asked["a"]) == before + 1
    round_.advance(50)
    assert len(round_.probe.asked["a"]) == before + 1
    round_.advance(20)
    assert len(round_.probe.asked["a"]) == before + 2


def test_one_that_is_being_asked_is_not_asked_twice():
    round_ = Round("a", interval_s=1.0)
    answer: Deferred = Deferred()
    round_.probe.answers["a"] = answer
    round_.advance(1)
    round_.checks.check_soon("a")
    round_.advance(1)
    assert len(round_.probe.asked["a"]) == 1
    round_.probe.answers["a"] = GOOD
    answer.callback(GOOD)
    # It took longer than its interval: the next one is due at once.
    round_.advance(0.5)
    assert len(round_.probe.asked["a"]) == 2


def test_an_update_leaves_the_others_alone():
    undisturbed, round_ = Round("a", "b"), Round("a", "b")
    for one in (undisturbed, round_):
        one.advance(3)
    round_.update("a", "c")
    for one in (undisturbed, round_):
        one.advance(2)
    assert round_.probe.asked["a"] == undisturbed.probe.asked["a"][: len(round_.probe.asked["a"])]
    assert round_.probe.asked["b"] == [at for at in undisturbed.probe.asked["b"] if at <= 1003]
    assert "c" in round_.probe.asked


def test_after_a_stop_nothing_is_left_and_late_results_are_not_told():
    round_ = Round("a", "b", interval_s=1.0)
    answer: Deferred = Deferred()
    round_.probe.answers["a"] = answer
    round_.advance(2)
    round_.checks.stop()
    heard = len(round_.heard)
    answer.callback(GOOD)
    assert round_.time.next_at() is None
    assert len(round_.heard) == heard


# What a probe says and hears, over a real connection.


@pytest.fixture
def world():
    one = World()
    yield one
    one.close()


def ask(world: World, probe, address=None) -> list[ProbeResult]:
    results: list[ProbeResult] = []
    probe.ask(address or TcpAddress("a", 80), 1.0).addCallback(results.append)
    world.run()
    return results


def http(world: World) -> HttpProbe:
    return HttpProbe(world.dial, world.deadlines, world.time.seconds, "/health?x", "agent/1")


def test_the_question_is_a_get_of_the_path(world):
    ask(world, http(world))
    assert world.backend().read() == (
        b"GET /health?x HTTP/1.1\r\nHost: a:80\r\nUser-Agent: agent/1\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    ask(world, http(world), UnixAddress("/run/x"))
    assert b"\r\nHost: localhost\r\n" in world.backend().read()


@pytest.mark.parametrize(
    ("answer", "passed", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
        (b"HTTP/1.0 204 No Content\r\n\r\n", True, "status 204"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", True, "status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx", True, "status 200"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "status 404"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", False, "status 500"),
        (b"SSH-2.0-x\r\n\r\n", False, "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40000, False, "the head of the answer is too long"),
    ],
)
def test_an_answer_is_judged_by_its_status(world, answer, passed, reason):
    results = ask(world, http(world))
    assert results == []
    world.backend().read()
    for at in range(0, len(answer), 1000):
        with contextlib.suppress(OSError):  # it need not hear a head that is too long to its end
            world.backend().sock.send(answer[at : at + 1000])
        world.run()
    assert [(result.passed, result.reason) for result in results] == [(passed, reason)]
    world.backend().read()
    assert world.backend().closed or world.backend().was_reset


def test_an_answer_may_come_byte_by_byte(world):
    results = ask(world, http(world))
    for byte in b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n":
        assert results == []
        world.backend().send(bytes([byte]))
    assert results[0].passed


def test_closing_without_an_answer_is_a_failure(world):
    results = ask(world, http(world))
    world.backend().read()
    world.backend().close()
    assert (results[0].passed, results[0].reason) == (False, "closed without an answer")


def test_a_refused_connection_is_a_failure_with_its_reason(world):
    world.dial.refuse.add("a:80")
    results = ask(world, http(world))
    assert (results[0].passed, results[0].reason) == (False, "connection refused")


@pytest.mark.parametrize("hang", [True, False], ids=["connect", "answer"])
def test_silence_is_a_failure_after_the_timeout(world, hang):
    if hang:
        world.dial.hang.add("a:80")
    results = ask(world, http(world))
    world.advance(0.9)
    assert results == []
    world.advance(0.4)
    assert [result.passed for result in results] == [False]
    world.advance(10)
    assert len(results) == 1


def test_the_tcp_form_passes_on_a_connection(world):
    probe = TcpProbe(world.dial, world.deadlines, world.time.seconds)
    assert [(result.passed, result.reason) for result in ask(world, probe)] == [(True, "connected")]
    assert world.backend().read() == b""
    world.dial.refuse.add("a:80")
    assert [result.passed for result in ask(world, probe)] == [False]


@pytest.mark.parametrize("hang", [True, False], ids=["connect", "answer"])
def test_a_probe_that_is_closed_lets_go_of_everything(world, hang):
    if hang:
        world.dial.hang.add("a:80")
    probe = http(world)
    results = ask(world, probe)
    probe.close()
    world.run()
    assert [result.reason for result in results] == ["the checks have ended"]
    if not hang:
        world.backend().read()
        assert world.backend().closed or world.backend().was_reset
