"""What load is."""

from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Cost, Load, Requests
from twisted_lb.core.outcome import Outcome


class Server:
    """Leases on one backend, as a pool tells a load of them."""

    def __init__(self, kind, weight=1):
        self.counts = Counts()
        self.slot = self.counts.open()
        self.load: Load = kind(self.counts, self.slot)
        self.weight = weight

    def lease(self, now=0.0, cost=1):
        self.counts.claim(self.slot)
        return self.load.leased(cost, now), now

    def respond(self, lease, now):
        note, opened_at = lease
        self.load.responded(note, now - opened_at, now)

    def settle(self, lease, now=0.0, outcome=Outcome.OK):
        note, opened_at = lease
        self.counts.release(self.slot)
        self.load.settled(note, outcome, now - opened_at, now)

    def value(self, now=0.0):
        return self.load.value(self.weight, now)


def test_requests_in_flight_are_what_the_pool_counts_until_they_are_over():
    server = Server(Requests)
    lease = server.lease(1.0)
    server.respond(lease, 1.1)
    assert server.value(1.1) == 1
    server.settle(lease, 2.0)
    assert server.value(2.0) == 0


def test_twice_the_weight_bears_twice_as_many():
    light, heavy = Server(Requests, 1), Server(Requests, 2)
    for _ in range(3):
        light.lease()
    for _ in range(6):
        heavy.lease()
    assert light.value() == heavy.value() == 3


def test_costs_of_open_leases_add_up_and_an_ordinary_one_is_a_request():
    server = Server(Cost)
    small, large = server.lease(), server.lease(cost=12)
    assert server.value() == 13
    server.settle(large, outcome=Outcome.CLIENT_GONE)
    assert server.value() == 1
    server.settle(small)
    assert server.value() == 0


def test_a_request_from_before_its_load_was_measured_costs_one_whatever_it_is():
    server = Server(Requests)
    early = server.lease(cost=9)
    before, server.load = server.load, Cost(server.counts, server.slot)
    assert server.value() == 1
    late = server.lease(cost=3)
    assert server.value() == 4
    server.counts.release(server.slot)
    before.settled(early[0], Outcome.OK, 1.0, 1.0)  # whom its lease has told
    assert server.value() == 3
    server.settle(late)
    assert server.value() == 0


def test_other_processes_count_as_requests_of_cost_one():
    class Shared(Counts):
        def elsewhere(self, slot):
            return 5

    counts = Shared()
    slot = counts.open()
    assert Requests(counts, slot).value(1, 0.0) == Cost(counts, slot).value(1, 0.0) == 5
