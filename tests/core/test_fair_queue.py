"""The order of the queue: by urgency, by turns, retries first, and who waits for one backend alone."""

import random
import sys
from collections import Counter, OrderedDict

import pytest
from builders import claim as claimed
from builders import make_pool

import twisted_lb.core.queue as queue_module
from twisted_lb.core.ask import USUAL, Ask
from twisted_lb.core.never import NEVER
from twisted_lb.core.queue import URGENCIES, Queue, Ticket

# Which one it is does not matter here.
LEASE = claimed(make_pool("a:1")[0])


def joined(queue: Queue, lane: int = 0, cost: int = 1, urgency: int = USUAL, until: float = NEVER, **more) -> Ticket:
    ticket = Ticket(Ask(0, cost, lane=lane, urgency=urgency), 0.0, until, **more)
    queue.join(ticket)
    return ticket


def order(queue: Queue, places: int | None = None) -> list[Ticket]:
    """Who is served, of so many places; None: all that there are."""
    left = [queue.waiting if places is None else places]

    def claim(_ticket, _now):
        left[0] -= 1
        return LEASE if left[0] >= 0 else None

    return [ticket for ticket, _ in queue.serve(claim, 0.0)]


@pytest.fixture
def backends():
    pool, _ = make_pool("a:1", "b:1", "c:1")
    return list(pool.backends.values())


def test_of_one_lane_the_first_is_served_first():
    queue = Queue()
    tickets = [joined(queue) for _ in range(5)]
    assert [one.behind for one in tickets] == [0, 1, 2, 3, 4]
    assert order(queue, 2) == tickets[:2]
    assert order(queue) == tickets[2:]
    assert (queue.waiting, queue.for_anyone, list(queue)) == (0, 0, [])


def test_a_greedy_lane_does_not_hold_up_a_modest_one():
    queue = Queue()
    greedy = [joined(queue, lane=1) for _ in range(100)]
    modest = [joined(queue, lane=2) for _ in range(3)]
    assert order(queue, 6) == [greedy[0], modest[0], greedy[1], modest[1], greedy[2], modest[2]]


def test_lanes_have_turns_also_over_many_grants():
    queue = Queue()
    for number in range(30):
        joined(queue, lane=number % 3 + 1)
    served = [order(queue, 1)[0].ask.lane for _ in range(30)]
    assert served == [1, 2, 3] * 10


def test_turns_are_of_equal_cost_not_of_equal_number():
    # Shreedhar and Varghese 1995: over any time in which two lanes wait, what they were served differs by three times the
    # dearest at most, here of cost 9.
    queue = Queue()
    for _ in range(200):
        joined(queue, lane=1, cost=9)
    for _ in range(2000):
        joined(queue, lane=2, cost=1)
    spent = Counter()
    while queue._classes[USUAL].lanes.keys() == {1, 2}:
        (ticket,) = order(queue, 1)
        spent[ticket.ask.lane] += ticket.ask.cost
        assert abs(spent[1] - spent[2]) <= 27
    assert min(spent.values()) > 1700


def test_what_two_lanes_are_served_differs_by_a_turn_and_the_dearest_at_most():
    """Deficit round robin (Shreedhar and Varghese 1995, lemma 2 and theorem 3): as long as both wait, from the beginning by less than
    a turn and what one may have left of it, which is less than the dearest; over any stretch by twice that rest. A turn here is as
    long as the dearest.
    """
    dearest = 20
    for seed in range(40):
        rng, queue = random.Random(seed), Queue()
        high = rng.choice([1, 3, dearest])
        for lane, most in ((1, dearest), (2, high)):
            joined(queue, lane, cost=most)
            for _ in range(400):
                joined(queue, lane, cost=rng.randint(1, most))
        joined(queue, 3, cost=dearest, urgency=7)
        served, gaps = Counter[int](), []
        for _ in range(300):
            [ticket] = order(queue, 1)
            served[ticket.ask.lane] += ticket.ask.cost
            gaps.append(served[1] - served[2])
        assert max(map(abs, gaps)) < dearest + dearest
        assert max(gaps) - min(gaps) < dearest + 2 * dearest


def test_a_lane_keeps_what_its_turn_has_left_as_long_as_it_waits():
    # Quantum 3: lane 1 wants 2 each, and has 1 left after its first turn, 2 after its second and then serves two.
    queue = Queue()
    for _ in range(6):
        joined(queue, lane=1, cost=2)
    for _ in range(6):
        joined(queue, lane=2, cost=3)
    assert [one.ask.lane for one in order(queue)][:9] == [1, 2, 1, 1, 2, 1, 2, 1, 1]


def test_who_was_gone_has_saved_nothing():
    queue = Queue()
    one = joined(queue, lane=1, cost=1)
    joined(queue, lane=2, cost=5)
    assert order(queue, 1) == [one]  # 4 of its turn were left
    again = [joined(queue, lane=1, cost=5) for _ in range(2)]
    other = joined(queue, lane=2, cost=5)
    assert order(queue)[1:] == [again[0], other, again[1]]


def test_a_place_that_is_not_there_costs_nobody_a_turn():
    queue = Queue()
    first, second = joined(queue, lane=1), joined(queue, lane=2)
    for _ in range(5):
        assert order(queue, 0) == []
    assert order(queue) == [first, second]


def test_the_urgent_go_before_all_others_whenever_they_come():
    queue = Queue()
    batch = [joined(queue, urgency=7) for _ in range(3)]
    usual = joined(queue)
    urgent = joined(queue, urgency=0)
    assert (batch[2].behind, usual.behind, urgent.behind) == (2, 0, 0)
    assert order(queue) == [urgent, usual, *batch]


def test_each_urgency_has_its_own_turns():
    queue = Queue()
    for urgency in reversed(range(URGENCIES)):
        for lane in (1, 1, 2):
            joined(queue, lane=lane, urgency=urgency)
    assert [(one.ask.urgency, one.ask.lane) for one in order(queue)] == [
        (urgency, lane) for urgency in range(URGENCIES) for lane in (1, 2, 1)
    ]


def test_who_has_had_an_attempt_is_at_the_head_whatever_its_urgency(backends):
    queue = Queue()
    new = joined(queue, urgency=0)
    retries = [joined(queue, urgency=7, tried=(backends[0],), again=True) for _ in range(2)]
    for_anyone = joined(queue, again=True)
    assert [one.behind for one in retries] == [0, 1]
    assert queue.for_anyone == 2
    assert order(queue) == [*retries, for_anyone, new]


def test_of_those_that_tried_the_same_the_first_stands_for_all(backends):
    queue = Queue()
    for _ in range(1000):
        joined(queue, tried=(backends[0],), again=True)
    for _ in range(1000):
        joined(queue, tried=(backends[1],), again=True)
    joined(queue)
    asked = []

    def claim(ticket, _now):
        asked.append(ticket)

    assert queue.serve(claim, 0.0) == []
    assert len(asked) == 3


def test_who_waits_for_one_backend_lets_others_go_past_it_elsewhere(backends):
    queue, a = Queue(), backends[0]
    own = joined(queue, only=a)
    other = joined(queue)
    served = queue.serve(lambda ticket, _: None if ticket.only is a else LEASE, 0.0)
    assert [ticket for ticket, _ in served] == [other]
    assert order(queue) == [own]


def test_at_the_one_backend_who_came_first_is_first(backends):
    queue, a = Queue(), backends[0]
    first, own, last = joined(queue), joined(queue, only=a), joined(queue)
    assert order(queue, 1) == [first]
    assert order(queue, 1) == [own]
    assert order(queue, 1) == [last]


def test_who_waits_for_one_backend_is_served_behind_nobody_else(backends):
    queue = Queue()
    own = [joined(queue, only=backends[number % 3]) for number in range(6)]
    assert queue.for_anyone == 0
    assert set(order(queue)) == set(own)


def test_who_waited_for_one_that_is_lost_is_as_old_as_it_is_among_the_others(backends):
    queue, (a, b, _) = Queue(), backends
    first, own, other = joined(queue, 1), joined(queue, 1, only=a), joined(queue, only=b)
    second, urgent = joined(queue, 1), joined(queue, urgency=0, only=a)
    alone = joined(queue, 2, only=a)
    third = joined(queue, 1)
    queue.release(a)
    assert (queue.own, queue.for_anyone, queue.waiting) == ([b], 6, 7)
    assert order(queue) == [other, urgent, first, alone, own, second, third]


def test_who_leaves_is_gone_at_once_wherever_it_stood(backends):
    queue = Queue()
    kinds = [
        {},
        {"lane": 7},
        {"urgency": 0},
        {"only": backends[0]},
        {"tried": (backends[1],), "again": True},
        {"again": True},
    ]
    tickets = [joined(queue, until=9.0, **kind) for kind in kinds]
    stays = [joined(queue, until=10.0, **kind) for kind in kinds]
    for ticket in tickets:
        queue.leave(ticket)
        queue.leave(ticket)
    assert queue.waiting == len(stays)
    assert queue.next_due == 10.0
    assert set(order(queue)) == set(stays)
    assert queue.next_due == NEVER


def test_who_has_waited_for_as_long_as_it_may_is_told_whoever_stands_in_front():
    queue = Queue()
    patient = joined(queue, urgency=0, until=9.0)
    hasty = [joined(queue, urgency=7, until=until) for until in (3.0, 2.0)]
    assert queue.next_due == 2.0
    assert queue.overdue(1.9) == []
    assert queue.overdue(3.0) == [hasty[1], hasty[0]] == queue.overdue(3.0)
    for ticket in hasty:
        queue.leave(ticket)
    assert list(queue) == [patient]
    assert queue.overdue(8.9) == []


def test_who_may_wait_for_longer_keeps_its_place():
    queue = Queue()
    first, second = joined(queue, until=1.0), joined(queue, until=2.0)
    queue.prolong(first, 5.0)
    assert (queue.next_due, queue.overdue(2.0), list(queue)) == (2.0, [second], [first, second])
    queue.leave(second)
    assert queue.next_due == 5.0
    assert order(queue) == [first]


def test_those_that_leave_do_not_stay_in_memory():
    queue = Queue()
    for _ in range(10_000):
        queue.leave(joined(queue, until=1e9))
    assert len(queue._expiring) < 100


def test_a_ticket_knows_how_many_are_ahead_of_it(backends):
    queue = Queue()
    tickets = {
        "greedy": [joined(queue, lane=1) for _ in range(4)],
        "modest": [joined(queue, lane=2) for _ in range(2)],
        "urgent": [joined(queue, urgency=0)],
        "batch": [joined(queue, urgency=7)],
        "again": [joined(queue, tried=(backends[0],), again=True)],
        "own": [joined(queue, only=backends[1]) for _ in range(2)],
    }
    told = {name: [queue.ahead_of(one) for one in some] for name, some in tickets.items()}
    assert told == {"greedy": [2, 4, 6, 7], "modest": [3, 5], "urgent": [1], "batch": [8], "again": [0], "own": [0, 1]}
    served = order(queue)
    for name in ("greedy", "modest", "urgent", "batch"):
        anybody = [one for one in served if one.only is None]
        assert [anybody.index(one) for one in tickets[name]] == told[name]


def test_whatever_is_done_in_whatever_order_nothing_is_lost_or_served_twice(backends):
    for seed in range(60):
        rng, queue, inside, done = random.Random(seed), Queue(), {}, Counter()
        now = 0.0
        for _ in range(400):
            now += rng.random()
            draw = rng.random()
            if draw < 0.5:
                kind = rng.choice(
                    [
                        {},
                        {"only": rng.choice(backends)},
                        {"tried": tuple(rng.sample(backends, 2)), "again": True},
                        {"again": True},
                    ]
                )
                ask = Ask(0, rng.randint(1, 9), lane=rng.randint(0, 5), urgency=rng.randrange(URGENCIES))
                ticket = Ticket(ask, now, now + rng.choice((1.0, 5.0, 50.0)), **kind)
                queue.join(ticket)
                inside[ticket] = None
            elif draw < 0.65 and inside:
                ticket = rng.choice(list(inside))
                queue.leave(ticket)
                del inside[ticket]
            else:
                places = [rng.randint(0, 3)]

                def claim(ticket, _now, places=places):
                    places[0] -= 1
                    return LEASE if places[0] >= 0 else None

                served = [ticket for ticket, _ in queue.serve(claim, now)]
                late = queue.overdue(now)
                assert [one.until for one in late] == sorted(
                    one.until for one in inside if one not in served and one.until <= now
                )
                for ticket in late:
                    queue.leave(ticket)
                for ticket in (*served, *late):
                    del inside[ticket]
                    done[ticket] += 1
                if rng.random() < 0.1:
                    queue.release(lost := rng.choice(backends))
                    assert lost not in queue.own
                for ticket in rng.sample(list(inside), len(inside) // 4):
                    queue.prolong(ticket, ticket.until + rng.random())
            assert list(queue) == list(inside)
            assert queue.waiting == len(inside)
            assert queue.for_anyone == sum(not one.tried and one.only is None for one in inside)
            assert queue.next_due == min((one.until for one in inside), default=NEVER)
        assert set(done.values()) == {1}


def test_a_turn_is_as_long_as_the_dearest_that_waits_and_not_that_has_waited():
    queue = Queue()
    dear = joined(queue, lane=1, cost=1000)
    cheap = [joined(queue, lane=1) for _ in range(5000)]
    assert order(queue, 1) == [dear]
    modest = joined(queue, lane=2)
    assert modest in order(queue, 2)
    assert order(queue, 1)[0] in cheap
    joined(queue, lane=2, cost=7)
    left = joined(queue, lane=3, cost=9)
    assert queue._classes[USUAL].dearest == 9
    queue.leave(left)
    assert queue._classes[USUAL].dearest == 7


def steps(call) -> int:
    """How many lines of the package a call takes, and how often it calls on the way."""
    taken = 0

    def trace(_frame, _event, _argument):
        nonlocal taken
        taken += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return taken


@pytest.mark.parametrize("lanes", [1, 10_000])
@pytest.mark.parametrize("places", [1, 3])
def test_a_grant_takes_the_same_however_many_wait(places, lanes):
    taken = set()
    for waiting in (10, 10_000):
        queue = Queue()
        for number in range(waiting):
            joined(queue, lane=number % lanes)
        order(queue, 2)  # the first turns have begun
        taken.add(steps(lambda queue=queue: order(queue, places)))
    assert len(taken) == 1
    assert taken.pop() > 0 or compiled()


def compiled() -> bool:
    return not queue_module.__file__.endswith(".py")


def test_the_first_of_many_is_found_at_once_however_many_have_left():
    """Of a plain dict the first item is found past all that have left: n² for n that leave one after the other. What these do is linked."""
    queue = Queue()
    for number in range(10):
        joined(queue, lane=number % 2)
    turns = queue._classes[USUAL]
    assert isinstance(turns.lanes, OrderedDict)
    assert all(isinstance(lane.tickets, OrderedDict) for lane in turns.lanes.values())
