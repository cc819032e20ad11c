"""The soak of workers sees what it looks for: who was lost otherwise than with a killed worker, what goes back, what is left, what grows."""

import dataclasses

import pytest
from bad_days.all_kinds import Lost
from bad_days.crew_soak import Soaked

QUIET = {
    "second": 20,
    "parent_pss_kib": 60_000,
    "oldest_pss_kib": 34_000,
    "workers_pss_kib": 66_000,
    "parent_descriptors": 30,
    "oldest_descriptors": 18,
    "cells": 0,
    "in_transit": 0,
    "lives": 2,
}
LOST = Lost(8080, 40_000, "new", "IncompleteReadError: 0 bytes", 1.0)
GOOD = Soaked(
    seconds=240,
    done={"workers killed": 3},
    answered={"new": 600, "session": 50, "tunnel": 9},
    killed=[LOST],
    lost=[],
    raced=0,
    back=[],
    wrong=[],
    counted=590.0,
    uncounted_most=10,
    longest_s=0.2,
    over_100_ms=0.01,
    scrapes=400,
    samples=[QUIET] * 12,
)


def test_who_is_lost_with_a_worker_that_was_killed_is_no_fault():
    assert (GOOD.faults, GOOD.growth) == ([], [])


@pytest.mark.parametrize(
    "seen",
    [
        {"lost": [LOST]},
        {"back": [("twisted_lb_requests_total", 5.0, 4.0)]},
        {"wrong": ["process 7 is left"]},
        {"counted": 589.0},
        {"samples": [QUIET, {**QUIET, "cells": 1}, QUIET]},
        {"samples": [QUIET, {**QUIET, "in_transit": 1}, QUIET]},
    ],
    ids=lambda seen: next(iter(seen)),
)
def test_everything_else_is_one(seen):
    assert len(dataclasses.replace(GOOD, **seen).faults) == 1


@pytest.mark.parametrize(
    "name", ["parent_pss_kib", "oldest_pss_kib", "parent_descriptors", "oldest_descriptors", "lives"]
)
def test_what_grows_is_told(name):
    growing = [{**QUIET, name: QUIET[name] + n * 3000} for n in range(12)]
    assert len(dataclasses.replace(GOOD, samples=growing).growth) == 1
