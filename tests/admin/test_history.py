"""What operators are told of the past: events, since when and why, and counts of the last minute."""

import random

import pytest

from twisted_lb.admin.history import MOST_CHECKS, MOST_EVENTS, WINDOW_S, Events, Rates, States
from twisted_lb.admin.operator import By
from twisted_lb.core.backend import AdminState
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import (
    AdminChanged,
    BackendAdded,
    BackendChanged,
    BackendDown,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    BackendUp,
    EjectionWithheld,
    LimitSpared,
    PolicyFailed,
    PolicyTakenBack,
    PoolExhausted,
    PoolRecovered,
)
from twisted_lb.core.outcome import Outcome


class Wall:
    """Epoch seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def events(wall):
    return Events(wall)


@pytest.fixture
def states(wall):
    return States(wall)


class Listener:
    """Hears in a method: each look at it is another object, equal to the one before."""

    def __init__(self) -> None:
        self.heard = []

    def hear(self, event):
        self.heard.append(event.id)


def test_events_are_numbered_from_one_with_their_moment(events, wall):
    wall.now = 5001.5
    one = events.add("down", "app/b1", "status 500", "alice")
    assert (one.id, one.at, one.kind, one.subject, one.text, one.actor) == (
        1,
        5001.5,
        "down",
        "app/b1",
        "status 500",
        "alice",
    )
    assert events.add("up", "app/b1", "").id == events.last == 2


def test_those_behind_a_number_are_told_oldest_first(events):
    for _ in range(4):
        events.add("up", "", "")
    assert [one.id for one in events.after(2)] == [3, 4]
    assert events.after(4) == []


def test_only_the_newest_are_remembered(events):
    for _ in range(MOST_EVENTS + 3):
        events.add("up", "", "")
    assert [one.id for one in events.after(0)] == list(range(4, MOST_EVENTS + 4))


def test_a_number_of_an_earlier_start_tells_everything_anew(events):
    events.add("up", "", "")
    assert [one.id for one in events.after(812)] == [1]


def test_whoever_has_stopped_listening_is_told_nothing_and_not_kept(events):
    listener = Listener()
    events.listen(listener.hear)
    events.add("up", "", "")
    events.unlisten(listener.hear)
    events.unlisten(listener.hear)
    events.add("up", "", "")
    assert listener.heard == [1]
    assert not events._hearing


def test_a_listener_that_fails_is_told_no_more_and_the_others_are(events, logged_errors):
    def fails(event):
        raise RuntimeError("no")

    listener = Listener()
    events.listen(fails)
    events.listen(listener.hear)
    events.add("up", "", "")
    events.add("up", "", "")
    assert listener.heard == [1, 2]
    assert len(logged_errors.take()) == 1


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (BackendDown("app", "b1", "status 500", 7.0), ("down", "app/b1", "down: status 500")),
        (BackendUp("app", "b1", "status 200", 7.0), ("up", "app/b1", "up: status 200")),
        (BackendAdded("app", "b1", 7.0), ("added", "app/b1", "added")),
        (BackendRemoved("app", "b1", 7.0, "gone"), ("removed", "app/b1", "removed: gone")),
        (BackendChanged("app", "b1", "weight 1 -> 2", 7.0), ("changed", "app/b1", "weight 1 → 2")),
        (BackendReturned("default", "b1", "checks pass", 7.0), ("returned", "default/b1", "used again: checks pass")),
        (AdminChanged("app", "b1", AdminState.READY, AdminState.MAINT, 7.0), ("admin", "app/b1", "ready → maint")),
        (
            EjectionWithheld(
                "app", "b1", EjectionRule.CONSECUTIVE_FAILURES, "5 failures", "nobody else is usable", 7.0
            ),
            ("withheld", "app/b1", "not ejected, since nobody else is usable: 5 failures"),
        ),
        (PoolExhausted("app", 7.0), ("exhausted", "app", "pool app has no usable backend")),
        (PoolRecovered("app", 7.0), ("recovered", "app", "pool app has a usable backend again")),
        (PolicyFailed("app", "x:X", "is wrong", 0, 7.0), ("policy_failed", "app", "pool app: policy x:X is wrong")),
        (PolicyTakenBack("app", "x:X", 7.0), ("policy_taken_back", "app", "pool app: policy x:X picks again")),
    ],
)
def test_each_event_has_its_kind_its_subject_and_its_words(states, event, told):
    assert states.hear(event) == told


def test_a_limit_that_spared_somebody_is_about_the_limit(states):
    event = LimitSpared("by-client", 3, 7.0)
    assert states.hear(event) == ("limit_spared", "by-client", str(event))


def test_since_when_a_backend_is_as_it_is(states, wall):
    wall.now += 10
    assert states.since_s("app", "b1") == 10.0
    states.hear(BackendDown("app", "b1", "no", 7.0))
    wall.now += 4
    assert (states.since_s("app", "b1"), states.since_s("app", "b2")) == (4.0, 14.0)


def test_a_wall_clock_that_goes_back_makes_no_negative_time(states, wall):
    wall.now -= 100
    assert states.since_s("app", "b1") == 0.0


def failed(states, times):
    for _ in range(times):
        states.checked("app", "b1", passed=False, what="500", ms=1.0)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (0, "check: no"),
        (1, "check: no"),
        (2, "check: no, 2 times"),
        (MOST_CHECKS - 1, f"check: no, {MOST_CHECKS - 1} times"),
        (MOST_CHECKS, f"check: no, over {MOST_CHECKS - 1} times"),
        (MOST_CHECKS + 5, f"check: no, over {MOST_CHECKS - 1} times"),
    ],
)
def test_why_checks_took_it_out_and_after_how_many_failures(states, times, said):
    states.checked("app", "b1", passed=True, what="200", ms=1.0)
    failed(states, times)
    states.hear(BackendDown("app", "b1", "no", 7.0))
    assert states.down("app", "b1") == said


def test_back_up_there_is_no_reason_left(states):
    states.hear(BackendDown("app", "b1", "no", 7.0))
    states.hear(BackendUp("app", "b1", "yes", 8.0))
    assert states.down("app", "b1") == ""


def test_checks_are_remembered_the_newest_first_and_not_all_of_them(states, wall):
    for n in range(MOST_CHECKS + 2):
        states.checked("app", "b1", passed=True, what=str(n), ms=None)
    seen = states.checks("app", "b1")
    assert [one.what for one in seen][:2] == [str(MOST_CHECKS + 1), str(MOST_CHECKS)]
    assert len(seen) == MOST_CHECKS
    assert states.checks("app", "b2") == ()


@pytest.mark.parametrize(
    ("until", "later", "said"),
    [(11.0, 0.0, "refused; back in 4 s"), (11.0, 3.5, "refused; on trial"), (None, 9.0, "refused; until checks pass")],
)
def test_why_traffic_took_it_out_and_for_how_long_still(states, wall, until, later, said):
    states.hear(BackendEjected("app", "b1", Outcome.REFUSED, "refused", until, False, 7.0))
    wall.now += later
    assert states.ejected("app", "b1") == said
    states.hear(BackendReturned("app", "b1", "", 9.0))
    assert states.ejected("app", "b1") == ""


def test_an_ejection_without_detail_has_its_outcome_for_a_reason(states):
    states.hear(BackendEjected("app", "b1", Outcome.REFUSED, "", None, False, 7.0))
    assert states.ejected("app", "b1") == "REFUSED; until checks pass"


def test_who_has_changed_a_backend_is_known_until_that_is_forgotten(states):
    by = By("alice", 5000.0, "deploy")
    states.changed("app", "b1", by)
    assert states.by("app", "b1") == by
    states.forget("app", "b1")
    states.forget("app", "b1")
    assert states.by("app", "b1") is None


def test_nothing_is_kept_of_a_backend_that_is_gone(states):
    states.hear(BackendDown("app", "b1", "no", 7.0))
    states.hear(BackendEjected("app", "b1", Outcome.REFUSED, "", None, False, 7.0))
    failed(states, 1)
    states.changed("app", "b1", By("alice", 1.0))
    states.hear(BackendRemoved("app", "b1", 8.0))
    kept = (states._since, states._down, states._ejected, states._by, states._checks)
    assert not any(kept)


class Counting:
    """Counts by name, and their rates."""

    def __init__(self) -> None:
        self.counts = {"a": 0}
        self.now = 0.0
        self.rates = Rates(lambda: dict(self.counts), lambda: self.now)

    def sample(self) -> None:
        self.rates.sample()
        self.now += 1.0

    def seconds(self, *values: int, what: str = "a") -> None:
        for value in values:
            self.counts[what] = value
            self.sample()


def test_a_rate_is_known_from_the_second_sample_on():
    one = Counting()
    assert one.rates.per_s("a") is None
    one.seconds(5)
    assert one.rates.within("a") is None
    one.seconds(9)
    assert (one.rates.within("a"), one.rates.per_s("a")) == ((4, 1), 4.0)


def test_only_the_last_minute_counts():
    one = Counting()
    one.seconds(*range(0, 1000, 2))
    assert one.rates.within("a") == (2 * WINDOW_S, WINDOW_S)


def test_a_count_that_begins_anew_is_another_one():
    one = Counting()
    one.seconds(100, 200, 0)
    assert one.rates.within("a") is None
    one.seconds(3, 7)
    assert one.rates.within("a") == (7, 2)


def test_a_count_that_is_gone_is_not_known_and_back_it_begins():
    one = Counting()
    one.seconds(1, 2)
    del one.counts["a"]
    one.sample()
    assert one.rates.within("a") is None
    one.seconds(10, 11)
    assert one.rates.within("a") == (1, 1)


def test_what_stands_still_has_a_rate_of_zero():
    one = Counting()
    one.seconds(4, 4, 4)
    assert one.rates.per_s("a") == 0.0


def plainly_within(samples, what):
    """As `Rates.within`, by a look at all samples."""
    newest = oldest = None
    for at, sample in reversed(samples):
        count = sample.get(what)
        if count is None or at < samples[-1][0] - WINDOW_S - 1 or (oldest is not None and count > oldest[1]):
            break
        oldest = (at, count)
        newest = newest or oldest
    return None if newest is None or newest[0] <= oldest[0] else (newest[1] - oldest[1], newest[0] - oldest[0])


@pytest.mark.parametrize("seed", range(6))
def test_rates_are_those_of_a_look_at_all_samples_whatever_comes_goes_and_begins_anew(seed):
    rng, one, samples = random.Random(seed), Counting(), []
    for _ in range(4 * WINDOW_S):
        one.counts = {
            what: 0 if rng.random() < 0.02 else one.counts.get(what, 0) + rng.randrange(3)
            for what in "abcde"
            if (what in one.counts) != (rng.random() < 0.02)
        }
        samples = [*samples, (one.now, dict(one.counts))][-WINDOW_S - 1 :]
        one.rates.sample()
        one.now += rng.choice((1.0, 1.0, 1.0, 0.5, 4.0))
        for what in "abcde":
            assert one.rates.within(what) == plainly_within(samples, what), (samples[-1], what)
