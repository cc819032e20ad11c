"""`lbctl workers`: a row for each process that moves requests, as docs/workers.md shows it, and 1 where one is missing."""

import json
import re
from pathlib import Path

import pytest
from ctl_sample import status

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/workers.md").read_text()
SHOWN = re.findall(r"```console\n\$ lbctl workers\n(.*?)```", TEXT, re.DOTALL)


def worker(slot, pid, state="serves", **more):
    counted = {"uptime_s": 10_800.0, "connections": 0, "in_flight": 0, "requests": 0, "covered_by": None}
    counted |= {"rate": None, "lag_p99_ms": None}
    return {"slot": slot, "pid": pid, "state": state} | counted | more


FIRST = worker(0, 52101, connections=41, in_flight=7, requests=1_203_114, rate=111.36, lag_p99_ms=1.25)
SECOND = worker(1, 52104, connections=40, in_flight=6, requests=1_198_230, rate=110.9, lag_p99_ms=2.0)
WAITS = worker(1, 0, "waits", uptime_s=0.0, covered_by=0)


@pytest.fixture
def have(api):
    def have(*workers, restarts=0):
        api.answers["GET /v1/status"] = status() | {"workers": list(workers), "worker_restarts": restarts}

    return have


def test_both_tables_of_the_documentation_are_those_that_it_prints(lbctl, have):
    shown = {text.partition("\n")[0].split()[0] + str("waits" in text): text for text in SHOWN}
    assert len(SHOWN) == len(shown) == 2
    have(FIRST, SECOND)
    assert lbctl("workers") == 0
    assert lbctl.out == shown["WORKERFalse"]
    have(FIRST, WAITS, restarts=3)
    assert lbctl("workers") == 1
    assert lbctl.out == shown["WORKERTrue"]


def test_one_that_drains_is_not_missing(lbctl, have):
    have(FIRST, SECOND, worker(0, 51000, "drains"))
    assert lbctl("workers") == 0


def test_one_that_starts_does_not_serve_yet(lbctl, have):
    have(FIRST, worker(1, 52104, "starts", covered_by=0))
    assert lbctl("workers") == 1
    assert "starts, covered by 0" in lbctl.out


def test_one_process_has_none_and_that_is_well(lbctl, have):
    have()
    assert lbctl("workers") == 0
    assert (lbctl.out, lbctl.err) == ("", "one process does everything: there are no workers\n")


def test_as_json_it_is_what_the_api_says(lbctl, have):
    have(FIRST, WAITS, restarts=3)
    assert lbctl("--json", "workers") == 1
    assert json.loads(lbctl.out) == {"workers": [FIRST, WAITS], "restarts": 3}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT))))
def test_a_file_that_the_page_links_exists(link):
    assert (ROOT / "docs" / link).exists()
