"""Adaptive limits of several processes: what they tell comes to one limit, which is what one process would have found."""

from array import array

import pytest

from twisted_lb.core.gradient import SAMPLES, START, AdaptiveRules, Gradient
from twisted_lb.core.never import NEVER
from twisted_lb.core.shared_counts import SharedCounts
from twisted_lb.core.shared_gradient import GRACE_S, WORDS, Learner, Learnt, SharedGradient
from twisted_lb.sim.laws import BLOCK, Exponential, Fixed, Law, Lognormal, stream
from twisted_lb.sim.servers import Server, Sharing, Workers

S = 0.1
RULES = AdaptiveRules()
COLUMN = 3


def row(columns: int = 8, words: int = 1) -> memoryview:
    return memoryview(array("q", [0] * columns * words))


class Crew:
    """Processes that have one backend, and who learns for them."""

    def __init__(self, count: int, rules: AdaptiveRules = RULES, *, placed: bool = True) -> None:
        self.said, self.told, self.rows = row(words=WORDS), [row(words=WORDS) for _ in range(count)], []
        self.rows = [row() for _ in range(count)]
        self.counts = [
            SharedCounts(self.rows, number, memoryview(array("q", [count])), Learnt(self.said, self.told[number]))
            for number in range(count)
        ]
        self.gradients = []
        for counts in self.counts:
            slot = counts.open()
            if placed:
                counts.place(slot, COLUMN)
            one = counts.gradient(slot, rules)
            assert isinstance(one, SharedGradient)
            self.gradients.append(one)
        self.learner = Learner(self.told, self.said)
        self.parent = Gradient(rules)
        self.learner.follow({COLUMN: self.parent})

    @property
    def in_flight(self) -> int:
        return sum(row[COLUMN] for row in self.rows)

    def learn(self, now: float) -> bool:
        return self.learner.learn(COLUMN, self.parent, self.in_flight, now)


def test_all_begin_with_what_who_learns_begins_with():
    crew = Crew(2, AdaptiveRules(least=20))
    crew.said[COLUMN * WORDS] = 0
    assert [one.limit for one in crew.gradients] == [20, 20]
    crew.learner.say(COLUMN, crew.parent)
    assert not any(one.follow() for one in crew.gradients)


def test_a_limit_that_has_moved_is_followed_by_all_of_them():
    crew = Crew(2)
    crew.parent.configure(AdaptiveRules(most=5))
    crew.learner.say(COLUMN, crew.parent)
    assert [one.follow() for one in crew.gradients] == [True, True]
    assert not any(one.follow() for one in crew.gradients)
    assert [one.limit for one in crew.gradients] == [5, 5]


def answer(one: SharedGradient, latency_s: float, in_flight: int, now: float, count: int = 1) -> None:
    for _ in range(count):
        one.leased(in_flight)
        one.observe(latency_s, in_flight, now)


def test_a_window_ends_by_what_all_have_seen_together():
    crew = Crew(3)
    for one in crew.gradients:
        answer(one, S, START, 1.0)  # of an idle server
    crew.learn(1.0)
    assert crew.parent.counted_from == 1.0
    for one, latency_s in zip(crew.gradients, (S, 2 * S, 4 * S), strict=True):
        answer(one, latency_s, START, 2.0, SAMPLES // 3)
    assert not crew.learn(2.0)
    assert crew.parent.windows == 0
    answer(crew.gradients[0], 2 * S, START, 2.0, SAMPLES - SAMPLES // 3 * 3)
    assert crew.learn(2.0)
    # The mean of the logarithms of them all; and now it is measured, with half as many.
    assert (crew.parent.windows, crew.parent.sample_s) == (1, pytest.approx(2 * S, rel=1e-4))
    assert [one.follow() and one.limit for one in crew.gradients] == [START // 2] * 3


def measuring(count: int = 2) -> Crew:
    """A crew whose parent has just begun to measure, at the moment 2."""
    crew = Crew(count)
    answer(crew.gradients[0], S, START, 1.0)
    crew.learn(1.0)
    answer(crew.gradients[1], S, START, 2.0, SAMPLES)
    assert crew.learn(2.0)
    assert crew.parent.measures
    return crew


def test_what_began_before_all_have_followed_is_no_part_of_a_measurement():
    crew = measuring()
    answer(crew.gradients[0], S, 4, 2.0 + S + GRACE_S / 2, SAMPLES)
    assert not crew.learn(2.2)
    assert crew.parent.measures
    answer(crew.gradients[0], S, 4, 2.0 + S + 2 * GRACE_S, SAMPLES)
    crew.learn(2.3)
    assert (crew.parent.measures, crew.parent.unloaded_s) == (False, pytest.approx(S, rel=1e-4))


def test_a_measurement_begins_when_what_was_in_flight_beyond_it_has_ended():
    crew = measuring()
    crew.rows[0][COLUMN] = START  # still
    answer(crew.gradients[0], S, START, 2.0)
    crew.learn(2.5)
    assert crew.parent.counted_from == 2.5
    crew.rows[0][COLUMN] = START // 2
    answer(crew.gradients[0], S, START, 2.5)
    crew.learn(3.0)
    assert crew.parent.counted_from == 2.5


def test_what_was_not_answered_measures_no_unloaded_latency():
    crew = measuring()
    for _ in range(SAMPLES):
        crew.gradients[0].observe(9.0, 4, 20.0, answered=False)
    assert not crew.learn(20.0)
    assert crew.parent.measures


def test_the_most_in_flight_is_that_of_the_window():
    crew = measuring()
    answer(crew.gradients[0], S, 4, 3.0, SAMPLES)
    crew.learn(3.0)
    assert crew.parent.limit == START
    # That there were many before says nothing of now.
    answer(crew.gradients[1], S, START - 1, 4.0, SAMPLES)
    crew.learn(4.0)
    assert (crew.parent.limit, crew.parent.why) == (START, "it is not used up")
    answer(crew.gradients[0], S, START, 5.0, SAMPLES // 2)
    answer(crew.gradients[1], S, 1, 5.0, SAMPLES // 2)
    assert crew.learn(5.0)
    assert crew.parent.limit > START


def test_what_a_process_has_told_that_has_ended_is_not_told_again_by_the_next_one():
    crew = Crew(2)
    answer(crew.gradients[0], S, START, 1.0, 30)
    crew.learn(1.0)
    answer(crew.gradients[0], S, START, 2.0, 40)
    crew.learn(2.0)
    crew.told[0][:] = row(words=WORDS)
    answer(crew.gradients[0], S, START, 3.0, 9)
    assert not crew.learn(3.0)
    answer(crew.gradients[1], S, START, 3.0, 1)
    assert crew.learn(3.0)


def test_what_was_told_of_another_backend_in_a_column_is_not_this_ones():
    crew = measuring()
    assert [one.follow() and one.limit for one in crew.gradients] == [START // 2] * 2
    crew.learner.follow({})
    answer(crew.gradients[0], S, 4, 3.0, SAMPLES)
    crew.parent = Gradient(RULES)
    crew.learner.follow({COLUMN: crew.parent})
    assert crew.parent.counted_from == NEVER
    assert not crew.learn(4.0)
    assert [one.follow() and one.limit for one in crew.gradients] == [START] * 2


def test_in_no_column_each_learns_for_itself():
    crew = Crew(2, placed=False)
    one, other = crew.gradients
    answer(one, S, START, 1.0)
    answer(one, S, START, 2.0, SAMPLES)
    assert (one.limit, other.limit, one.windows) == (START // 2, START, 1)
    assert not any(crew.told[0])


def test_other_rules_bound_what_was_found():
    crew = Crew(2)
    crew.parent.configure(AdaptiveRules(least=30))
    crew.learner.say(COLUMN, crew.parent)
    one = crew.gradients[0]
    one.follow()
    one.configure(AdaptiveRules(least=2))
    assert one.limit == 30
    one.configure(AdaptiveRules(most=20))
    assert one.limit == 20


def test_an_heir_goes_on_with_the_limit_in_a_slot_of_its_own():
    crew = Crew(2)
    crew.parent.configure(AdaptiveRules(least=30))
    crew.learner.say(COLUMN, crew.parent)
    one, counts = crew.gradients[0], crew.counts[0]
    one.follow()
    slot = counts.open()
    heir = one.handed_to(slot)
    assert heir.limit == 30
    counts.place(slot, 5)
    answer(heir, S, 3, 1.0)
    assert (any(crew.told[0][COLUMN * WORDS :][:WORDS]), any(crew.told[0][5 * WORDS :][:WORDS])) == (False, True)


# In front of servers.

LOOK_S, LEARN_S = 0.005, 0.02


class Saturated:
    """A server behind several processes, that has as many requests in flight as they let it have, always. `parts`: how often who of them
    has the next request.
    """

    def __init__(self, server: Server, law: Law, parts: list[int], seed: int = 1) -> None:
        self.server, self.now, self.answered = server, 0.0, 0
        self.crew = Crew(len(parts))
        self.limits: list[int] = []
        self.in_flight: list[int] = []
        self._turns = [number for number, part in enumerate(parts) for _ in range(part)]
        self._law, self._rng, self._demands = law, stream(seed, "service"), iter(())
        self._chance = stream(seed, "turns")
        self._due: list[float] = []
        self._look_at, self._learn_at = LOOK_S, LEARN_S
        server.begin(self._done, lambda _, at: self._due.append(at))
        self._bound()

    def _bound(self) -> None:
        for counts, gradient in zip(self.crew.counts, self.crew.gradients, strict=True):
            counts.bound(0, gradient.limit)

    def _demand(self) -> float:
        for demand in self._demands:
            return demand
        self._demands = iter(self._law.block(self._rng, BLOCK))
        return next(self._demands)

    def _done(self, job: tuple[int, float], now: float) -> None:
        number, began = job
        if self.crew.gradients[number].observe(now - began, self.crew.in_flight, now):
            self._bound()
        self.crew.counts[number].release(0)
        self.answered += 1
        self.limits.append(self.crew.parent.limit)
        self.in_flight.append(self.crew.in_flight)

    def _claim(self) -> bool:
        number = self._chance.choice(self._turns)
        if not self.crew.counts[number].claim(0):
            return False
        self.server.take((number, self.now), self._demand(), self.now)
        self.crew.gradients[number].leased(self.crew.in_flight)
        return True

    def run(self, requests: int) -> "Saturated":
        ends = self.answered + requests
        while self.answered < ends:
            while self._claim():
                pass
            self.now = min([*self._due, self._look_at, self._learn_at])
            if self.now == self._look_at:
                self._look_at += LOOK_S
                for one in self.crew.gradients:
                    one.follow()
                self._bound()
            if self.now == self._learn_at:
                self._learn_at += LEARN_S
                self.crew.learn(self.now)
            if self.now in self._due:
                self._due = [at for at in self._due if at > self.now]
                self.server.turn(self.now)
        return self

    def settled(self, requests: int = 4000) -> float:
        """The mean of what is in flight over the next requests."""
        before = len(self.in_flight)
        self.run(requests)
        return sum(self.in_flight[before:]) / requests


@pytest.mark.parametrize("parts", [[1, 1], [1, 1, 1, 1], [9, 1], [1, 0]], ids=repr)
@pytest.mark.parametrize(("workers", "service_s"), [(2, S), (8, S), (8, 0.005), (32, 0.02)])
def test_what_is_in_flight_is_what_one_process_would_find_however_requests_are_spread(parts, workers, service_s):
    over = Saturated(Workers("w", workers), Fixed(service_s), parts).run(4000)
    point = 1.25 * workers + (1.25 * workers) ** 0.5  # Envoy's fixed point
    assert workers <= over.settled() <= 1.1 * point + 1
    assert over.crew.parent.unloaded_s == pytest.approx(service_s, rel=0.1)


def test_it_finds_the_number_of_cores_that_requests_share():
    over = Saturated(Sharing("w", 4), Fixed(S), [1, 1]).run(4000)
    assert 4 <= over.settled() <= 1.25 * 4 + 5**0.5 + 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_stable_where_requests_are_of_different_lengths(seed):
    over = Saturated(Workers("w", 8), Lognormal(S, 1.0), [1, 1, 1], seed).run(2000)
    before = over.now, over.answered
    assert 7 <= over.settled(20_000) <= 16
    assert (over.answered - before[1]) * S / (over.now - before[0]) > 0.92 * 8


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_follows_workers_that_die_and_come(seed):
    over = Saturated(Workers("w", 8), Exponential(S), [2, 1], seed).run(4000)
    over.server.count = 4
    over.run(10 * SAMPLES)
    # Envoy's fixed point is 7.2; the limit of one process is between 5 and 8 with these seeds.
    assert 4 <= over.settled() <= 10
    over.server.count = 16
    over.run(32 * SAMPLES)
    assert over.crew.parent.limit >= 16
