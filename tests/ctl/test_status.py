"""`lbctl status`: one screen, and whether every pool can answer."""

import json
import re

from ctl_sample import status

SCREEN = """\
edge-1  ready for 6 d  generation 42, loaded 14:05 by bob  twisted_lb 0.9.0

△ 3 of 19 backends are not used; every pool answers.
  ◐ api/a4     drained     for 5 min, alice: “deploy 2026.11.4”; 1 tunnel left
  ✕ api/a7     down        for 41 s, check: 500 Internal Server Error, 44 times
  ⊘ api/a9     ejected     for 48 s, 5 failures in a row; back in 12 s
  ≡ api/a5     full        31 of 32, passed over 388 times in a minute
  ◔ static/s2  slow start  for 24 s, 40 % of its weight, full in 36 s

LISTENER  ADDRESS         CONNECTIONS  NEW/S
web       0.0.0.0:8080    412 / 8,112   37.0
internal  127.0.0.1:8081    9 / 8,112    0.4

POOL    POLICY  USED     REQ/S  IN FLIGHT   QUEUED  ERR     P99
app     least   4 of 4   352.6   22 / 256  0 / 200    1  126 ms
api     rr      9 of 12  646.8   64 / 352  0 / 400   42  204 ms
static  rr      3 of 3   290.4    8 / 192  0 / 200    0   19 ms

2 runtime changes over the file         lbctl config --sources, lbctl reset
lb.toml changed 3 min ago, not loaded   lbctl diff
"""


def test_status_is_one_screen(lbctl):
    assert lbctl("status") == 0
    assert lbctl.out == SCREEN
    assert lbctl.err == ""


def test_what_is_spoken_with_backends_has_a_column_where_it_is_not_http1_alone(lbctl, api):
    told = status()
    told["pools"][1]["protocol"] = "auto"
    api.answers["GET /v1/status"] = told
    lbctl("status")
    heading, *rows = [line.split() for line in lbctl.out.split("\nPOOL")[1].splitlines()]
    assert heading[:2] == ["POLICY", "PROTOCOL"]
    assert [row[:3] for row in rows[:3]] == [["app", "least", "h1"], ["api", "rr", "auto"], ["static", "rr", "h1"]]


def test_a_pool_that_answers_nothing_is_said_first_and_ends_with_1(lbctl, api):
    told = status()
    told["verdict"] = {
        "level": "failing",
        "text": "api answers nothing: none of its 12 backends is usable.",
        "clauses": [],
    }
    told["pools"][1]["usable"] = 0
    api.answers["GET /v1/status"] = told
    assert lbctl("status") == 1
    assert lbctl.out.splitlines()[2] == "✕ api answers nothing: none of its 12 backends is usable."


def test_all_is_well_in_one_sentence(lbctl, api):
    told = status() | {"changes": [], "file": None}
    told["verdict"] = {"level": "well", "text": "All 19 backends are used.", "clauses": []}
    api.answers["GET /v1/status"] = told
    assert lbctl("status") == 0
    assert lbctl.out.splitlines()[2:4] == ["● All 19 backends are used.", ""]
    assert lbctl.out.endswith("19 ms\n")


def test_quiet_is_the_sentence_alone(lbctl):
    assert lbctl("status", "-q") == 0
    assert lbctl.out == "3 of 19 backends are not used; every pool answers.\n"


def test_json_is_the_answer_on_one_line_in_a_pipe_and_indented_on_a_terminal(lbctl):
    assert lbctl("status", "--json") == 0
    assert lbctl.out.count("\n") == 1
    assert json.loads(lbctl.out) == status()
    lbctl("--json", "status", terminal=True)
    assert lbctl.out.startswith('{\n  "now": ')
    assert json.loads(lbctl.out) == status()


def test_a_terminal_gets_styles_but_the_same_words(lbctl):
    assert lbctl("status", "--columns", "80", terminal=True) == 0
    assert "\x1b[1medge-1\x1b[0m" in lbctl.out
    assert "\x1b[33m△\x1b[0m \x1b[1m3 of 19 backends are not used; every pool answers.\x1b[0m" in lbctl.out
    assert "\x1b[34m◐\x1b[0m api/a4" in lbctl.out
    assert "\x1b[2mlbctl diff\x1b[0m" in lbctl.out


def test_what_has_no_number_yet_is_a_dash(lbctl, api):
    told = status() | {"loaded_at": None, "uptime_s": None}
    for one in told["pools"]:
        one |= {"rate": None, "p99_ms": None, "errors_60s": None}
    api.answers["GET /v1/status"] = told
    assert lbctl("status") == 0
    assert "app     least   4 of 4       –   22 / 256  0 / 200    –    –\n" in lbctl.out
    assert "edge-1  ready for –  generation 42, loaded – by bob" in lbctl.out


def test_one_that_stops_says_so(lbctl, api):
    api.answers["GET /v1/status"] = status() | {"ready": False, "ready_text": "stopping"}
    lbctl("status")
    assert lbctl.out.startswith("edge-1  not ready: stopping  generation 42")


def test_a_status_of_which_all_is_missing_still_prints(lbctl, api):
    api.answers["GET /v1/status"] = {}
    assert lbctl("status") == 0
    assert lbctl.err == ""


def test_a_backend_without_a_bound_makes_a_pool_without_one(lbctl, api):
    told = status()
    told["pools"][2]["backends"][0]["limit"] = 0
    api.answers["GET /v1/status"] = told
    lbctl("status")
    assert "static  rr      3 of 3   290.4          8  0 / 200" in lbctl.out


def test_who_stands_by_is_not_used_and_brings_no_room(lbctl, api):
    told = status()
    for pool, standing in ((0, 1), (2, 2)):
        for one in told["pools"][pool]["backends"][-standing:]:
            one["state"] = "standby"
    api.answers["GET /v1/status"] = told
    lbctl("status")
    assert re.search(r"^app +least +3 of 4, 1 stands by +352\.6 +22 / 192 ", lbctl.out, re.MULTILINE)
    assert re.search(r"^static +rr +1 of 3, 2 stand by +290\.4 +8 / 64 ", lbctl.out, re.MULTILINE)


def test_a_pool_whose_first_level_has_not_everything_says_who_has_what(lbctl, api):
    told = status()
    level = {"backends": 2, "usable": 1, "panic": False}
    told["pools"][0]["levels"] = [{"level": 0, "share": 70, **level}, {"level": 1, "share": 30, **level}]
    told["pools"][1]["levels"] = [{"level": 0, "share": 100, **level}, {"level": None, "share": 0, **level}]
    told["pools"][2]["levels"] = [{"level": 0, "share": 0, **level}, {"level": None, "share": 100, **level}]
    told["pools"][2]["panic"] = True
    api.answers["GET /v1/status"] = told
    lbctl("status")
    assert "app     least   4 of 4, level 0: 70 %, level 1: 30 %  " in lbctl.out
    assert "api     rr      9 of 12  " in lbctl.out
    assert "static  rr      3 of 3, backups: 100 %, panic  " in lbctl.out


def test_a_worker_that_is_missing_is_said_with_what_says_more(lbctl, api):
    there = {"slot": 0, "pid": 52101, "state": "serves"}
    api.answers["GET /v1/status"] = status() | {"workers": [there, {"slot": 1, "pid": 0, "state": "waits"}]}
    assert lbctl("status") == 0
    assert re.search(r"\n1 of 2 workers serve +lbctl workers\n2 runtime changes over the file", lbctl.out)
    follows = [{"slot": 1, "pid": 1, "state": "starts"}, {"slot": 1, "pid": 2, "state": "serves"}]
    api.answers["GET /v1/status"] = status() | {"workers": [there, *follows]}
    lbctl("status")
    assert "workers serve" not in lbctl.out
