"""`lbctl workers`: a row for each process that moves requests, as docs/workers.md shows it, and 1 where one is missing."""

import json
import re
from pathlib import Path

import pytest
from ctl_house import HangUp, Problem
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
UPGRADED = (
    worker(0, 52190, uptime_s=4.0, connections=12, in_flight=2, requests=94, rate=24.1, lag_p99_ms=1.5, program=1),
    worker(0, 52101, "drains", connections=3, in_flight=3, requests=1_203_114, rate=98.2, lag_p99_ms=1.25, program=0),
    worker(1, 52193, uptime_s=3.0, connections=11, in_flight=1, requests=87, rate=28.7, lag_p99_ms=2.0, program=1),
)


@pytest.fixture
def have(api):
    def have(*workers, restarts=0):
        api.answers["GET /v1/status"] = status() | {"workers": list(workers), "worker_restarts": restarts}

    return have


def test_the_tables_of_the_documentation_are_those_that_it_prints(lbctl, have):
    shown = {next((word for word in ("waits", "drains") if word in text), "serves"): text for text in SHOWN}
    assert len(SHOWN) == len(shown) == 3
    have(FIRST, SECOND)
    assert lbctl("workers") == 0
    assert lbctl.out == shown["serves"]
    have(FIRST, WAITS, restarts=3)
    assert lbctl("workers") == 1
    assert lbctl.out == shown["waits"]
    have(*UPGRADED)
    assert lbctl("workers") == 0
    assert lbctl.out == shown["drains"]


def test_one_that_drains_is_not_missing(lbctl, have):
    have(FIRST, SECOND, worker(0, 51000, "drains"))
    assert lbctl("workers") == 0


def test_one_that_starts_does_not_serve_yet(lbctl, have):
    have(FIRST, worker(1, 52104, "starts", covered_by=0))
    assert lbctl("workers") == 1
    assert "starts, covered by 0" in lbctl.out


def test_a_place_that_has_the_worker_of_before_still_is_not_missing_one(lbctl, have):
    have(FIRST, worker(1, 52104, program=0), worker(1, 52193, "starts", program=1))
    assert lbctl("workers") == 0


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


# lbctl upgrade.


def answers(api, *statuses):
    """The upgrade begins, and then the daemon has these workers, one state after the other; None: nobody answers."""
    api.answers["POST /v1/upgrade"] = {"program": 1, "pid": 52000}
    left = list(statuses)

    def answer():
        workers = left.pop(0) if len(left) > 1 else left[0]
        return HangUp() if workers is None else status() | {"workers": list(workers)}

    api.answers["GET /v1/status"] = answer


OLD = (worker(0, 52101, program=0), worker(1, 52104, program=0))


def test_an_upgrade_is_over_when_all_workers_are_of_the_new_program(lbctl, api):
    answers(api, OLD, None, (worker(0, 52101, program=0), worker(1, 52193, program=1)), UPGRADED)
    assert lbctl("upgrade") == 0
    assert lbctl.out == "upgraded: 2 workers of the new program serve; 1 of before drain\n"
    assert lbctl.err == "the new program can start, and takes the place of the one that runs\n"


def test_why_there_was_none_is_said(lbctl, api):
    api.answers["POST /v1/upgrade"] = Problem(409, "bad_program", "the new program cannot start: lb.toml:1: no backend")
    assert lbctl("upgrade", "--reason", "deploy") == 1
    assert "the new program cannot start: lb.toml:1: no backend" in lbctl.err
    assert api.asked[-1] == ("POST", "/v1/upgrade", {"reason": "deploy"})


def test_what_is_wrong_with_a_file_is_said_with_its_lines(lbctl, api):
    said = "the new program cannot start: lb.toml:2:1: bakends: unknown key\n    2 | bakends = []\n      | ^^^^^^^\n1 error"
    api.answers["POST /v1/upgrade"] = Problem(409, "bad_program", said)
    assert lbctl("upgrade") == 1
    assert [line.strip() for line in lbctl.err.splitlines()[-3:]] == ["2 | bakends = []", "| ^^^^^^^", "1 error"]
    assert "\\n" not in lbctl.err


def test_a_new_program_that_nobody_hears_of_is_said(lbctl, api):
    answers(api, None)
    assert lbctl("upgrade", "--wait", "2s") == 1
    assert "nobody answers after 2 s: the new program has not come up" in lbctl.err


def test_workers_that_do_not_come_up_are_said(lbctl, api):
    answers(api, (worker(0, 52101, program=0), worker(1, 52193, program=1)))
    assert lbctl("upgrade", "--wait", "2s") == 1
    assert "1 of 2 workers are of the new program after 2 s; those of before go on" in lbctl.err


def test_an_upgrade_as_json_is_one_object(lbctl, api):
    answers(api, UPGRADED)
    assert lbctl("--json", "upgrade") == 0
    assert json.loads(lbctl.out)["program"] == 1
