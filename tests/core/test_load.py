"""What load is."""

from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Load, Requests
from twisted_lb.core.outcome import Outcome


def test_requests_in_flight_are_what_the_pool_counts_until_they_are_over():
    counts = Counts()
    slot = counts.open()
    load: Load = Requests(counts, slot)
    counts.claim(slot)
    load.leased(1.0)
    load.responded(0.1, 1.1)
    assert load.value(1.1) == 1
    counts.release(slot)
    load.settled(Outcome.OK, 2.0)
    assert load.value(2.0) == 0
