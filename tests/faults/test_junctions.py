"""Several listeners, routes and pools in a bad network: each request is answered by whom its route leads to."""

from collections import Counter
from functools import cache

import pytest
from faults.junctions import Junctions

# Few at each run, many in the long tests.
SEEDS, MANY = 100, 2000


@cache
def ended(seed: int) -> tuple[Junctions, list[str]]:
    """A town at its end, and what is wrong with it."""
    town = Junctions(seed)
    return town, town.run()


@pytest.mark.parametrize(
    "first", [*range(0, SEEDS, 25), *(pytest.param(first, marks=pytest.mark.long) for first in range(SEEDS, MANY, 25))]
)
def test_each_request_is_answered_by_whom_its_route_leads_to(first):
    for seed in range(first, first + 25):
        found = ended(seed)[1] if seed < SEEDS else Junctions(seed).run()
        assert found == [], f"seed {seed}"


def test_there_is_something_of_everything():
    seen: Counter[str] = Counter()
    for seed in range(90):
        town, _ = ended(seed)
        seen += Counter(getattr(record.ended_by, "name", "-") for record in town.balanced.records)
        seen["another generation"] += len(town.generations) > 1
        seen["several routes"] += len({record.route for record in town.balanced.records}) > 2
        seen["listeners or pools come and go"] += town.shapes
        seen["a fallback"] += town.fallen_back
    wanted = ("OK", "ANSWER", "REDIRECT", "FORBIDDEN", "NO_ROUTE", "BAD_REQUEST", "NO_BACKEND", "REFUSED", "another generation",
              "several routes", "a fallback", "listeners or pools come and go")  # fmt: skip
    assert {name: seen[name] for name in wanted if seen[name] < 3} == {}
