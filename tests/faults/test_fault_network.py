"""The fault network: whole stories of a balancer, its clients and its backends in a bad network, one for each seed.

What is wrong with one is said by the oracle. A seed that fails is told with `scripts/faults SEED`.
"""

import pytest
from faults.story import complaints, report
from faults.town import Town

SEEDS = 200
MANY = 20_000
BLOCK = 500


class Seen:
    """What came about in the stories."""

    def __init__(self) -> None:
        self.seeds: set[int] = set()
        self.outcomes: set[str] = set()
        self.statuses: set[int] = set()
        self.faults: set[str] = set()

    def look(self, town: Town) -> None:
        self.seeds.add(town.seed)
        self.outcomes.update(record.outcome for record in town.records)
        self.statuses.update(record.status for record in town.records)
        self.faults.update(fault.what for fault in town.faults.happened)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_request_ends_in_one_way_and_nothing_is_left(seed, seen):
    found = complaints(seed, look=seen.look)
    assert not found, report(seed, found)


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, MANY, BLOCK))
def test_so_it_is_with_many_more_seeds(first):
    failed = []
    for seed in range(first, min(first + BLOCK, MANY)):
        found = complaints(seed)
        if found:
            failed.append(report(seed, found))
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("seed", [2, 44, 101])
def test_a_seed_is_told_again_word_for_word(seed):
    first: list[str] = []
    second: list[str] = []
    Town(seed, first.append).run()
    Town(seed, second.append).run()
    assert first == second
    assert len(first) > 20


def test_the_stories_have_everything_in_them(seen):
    """Each outcome, each fault and each kind of answer comes about within the fixed seeds."""
    for seed in set(range(SEEDS)) - seen.seeds:
        seen.look(Town(seed).run())
    assert seen.outcomes >= {
        "",
        "OK",
        "REFUSED",
        "CONNECT_TIMEOUT",
        "LOCAL_FAILURE",
        "STALE_REUSE",
        "NO_RESPONSE",
        "BAD_RESPONSE",
        "TIMED_OUT",
        "CUT_SHORT",
        "CLIENT_GONE",
        "CLIENT_FAULT",
    }
    assert seen.statuses >= {0, 101, 200, 204, 304, 404, 500, 502, 503, 504}
    assert seen.faults >= {"refused", "connect_timeout", "local_failure", "reset", "closed", "half-closed", "stalled"}
