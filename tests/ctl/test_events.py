"""`lbctl events`, `healthcheck` and `version`."""

import json

from ctl_house import Problem, Raw
from ctl_sample import EVENTS, status

from twisted_lb import __version__

LINES = """\
14:08:31  ⊘ api/a9 ejected: 5 failures in a row: no response; out for 30 s
14:09:01  ● api/a9 up: its 30 s are over; on trial
14:09:16  ~ api/a1 weight 1 → 2 by alice: “bigger machine”
14:12:04  ◐ api/a4 ready → drain by alice: “deploy 2026.11.4”
14:14:02  △ lb.toml changed on disk; not loaded
14:15:20  ✕ static/s2 down: 3 checks failed in a row: connection refused
14:16:12  ⊘ api/a9 ejected: 5 failures in a row: no response; out for 60 s (2nd time)
14:16:19  ✕ api/a7 down: 3 checks failed in a row: 500 Internal Server Error
14:16:36  ● static/s2 up: 2 checks passed in a row
"""


def known(api):
    api.answers["GET /v1/events"] = {"events": EVENTS, "last": 809}


def test_events_are_lines_the_oldest_first(lbctl, api):
    known(api)
    assert lbctl("events") == 0
    assert lbctl.out == LINES


def test_the_last_of_them(lbctl, api):
    known(api)
    assert lbctl("events", "--last", "1") == 0
    assert lbctl.out == LINES.splitlines(keepends=True)[-1]
    assert lbctl("events", "--last", "0") == 0
    assert lbctl.out == ""


def test_a_kind_that_has_not_happened_is_named(lbctl, api):
    api.answers["GET /v1/events"] = {"events": [], "last": 0}
    assert lbctl("events", "--kind", "dwon") == 0
    assert lbctl.err == "nothing of kind 'dwon' has happened\n"


def test_what_is_typed_is_asked(lbctl, api):
    known(api)
    lbctl("events", "--after", "7", "--kind", "down")
    assert api.asked[-1][1] == "/v1/events?after=7&kind=down"


def test_the_words_of_the_daemon_get_their_glyphs(lbctl, api):
    said = [
        ("admin", "drain"),
        ("admin", "maint"),
        ("admin", "ready"),
        ("changed", "weight 1 -> 3"),
        ("added", ""),
        ("exhausted", "no usable backend"),
    ]
    events = [EVENTS[0] | {"kind": kind, "text": text, "actor": "root (uid 0)"} for kind, text in said]
    api.answers["GET /v1/events"] = {"events": events, "last": 1}
    lbctl("events")
    assert [line[10:] for line in lbctl.out.splitlines()] == [
        "◐ api/a9 drain by root",
        "■ api/a9 maint by root",
        "● api/a9 ready by root",
        "~ api/a9 weight 1 → 3 by root",
        "+ api/a9 added by root",
        "✕ api/a9 exhausted: no usable backend",
    ]


def test_nothing_has_happened(lbctl, api):
    api.answers["GET /v1/events"] = {"events": [], "last": 0}
    assert lbctl("events") == 0
    assert (lbctl.out, lbctl.err) == ("", "nothing has happened\n")


def test_json_is_the_answer(lbctl, api):
    known(api)
    assert lbctl("events", "--json") == 0
    assert json.loads(lbctl.out) == {"events": EVENTS, "last": 809}


def stream(*events):
    parts = [f"id: {one['id']}\nevent: {one['kind']}\ndata: {json.dumps(one)}\n\n" for one in events]
    return Raw((": hello\n\n" + "".join(parts)).encode(), "text/event-stream")


def test_follow_goes_on_until_the_daemon_ends_which_is_3(lbctl, api):
    api.answers["GET /v1/events"] = [{"events": EVENTS[:-2], "last": 807}, stream(*EVENTS[-2:])]
    assert lbctl("events", "--follow") == 3
    assert lbctl.out == LINES
    assert lbctl.err == f"lbctl: the daemon at unix:{api.path} has ended\n"
    assert api.headers[-1]["Last-Event-ID"] == "807"
    assert api.asked[-1][1] == "/v1/events?after=807"


def test_follow_as_json_is_an_event_a_line(lbctl, api):
    api.answers["GET /v1/events"] = [{"events": EVENTS[:1], "last": 801}, stream(EVENTS[1])]
    assert lbctl("events", "-f", "--json") == 3
    assert [json.loads(line) for line in lbctl.out.splitlines()] == EVENTS[:2]


def test_a_stream_that_is_refused_or_cut_is_no_traceback(lbctl, api):
    first = {"events": [], "last": 1}
    api.answers["GET /v1/events"] = [first, Problem(503, "stopping", "it stops")]
    assert lbctl("events", "-f") == 1
    assert lbctl.err == "lbctl: refused: it stops\n"
    api.answers["GET /v1/events"] = [first, Raw(b"data: nonsense\n\n", "text/event-stream")]
    assert lbctl("events", "-f") == 3


def test_an_event_of_another_day_has_its_date(lbctl, api):
    api.answers["GET /v1/events"] = {"events": [EVENTS[0] | {"at": EVENTS[0]["at"] - 86_400}], "last": 1}
    lbctl("events")
    assert lbctl.out.startswith("2026-11-24 14:08:31  ⊘")


def test_healthcheck_is_one_line(lbctl, api):
    assert lbctl("healthcheck") == 0
    assert lbctl.out == "OK: edge-1 is ready\n"
    api.answers["GET /v1/status"] = status() | {"ready": False, "ready_text": "stopping"}
    assert lbctl("healthcheck") == 1
    assert lbctl.out == "not ready: stopping\n"


def test_healthcheck_without_a_daemon_is_1_as_docker_wants_it(lbctl, tmp_path):
    assert lbctl("healthcheck", "--admin", f"unix:{tmp_path}/none") == 1
    assert lbctl.out == f"not well: no daemon answers; tried: unix:{tmp_path}/none: no such file\n"


def test_version_tells_both(lbctl, api, tmp_path):
    assert lbctl("version") == 0
    assert lbctl.out == f"lbctl {__version__}\ntwisted_lb 0.9.0 (compiled) at unix:{api.path}\n"
    assert lbctl.err.startswith("They are not the same")
    assert lbctl("--version", "--admin", f"unix:{tmp_path}/none") == 0
    assert (lbctl.out, lbctl.err) == (f"lbctl {__version__}\n", "no daemon answers\n")


def test_version_says_why_a_daemon_does_not_tell_its_own(lbctl, api):
    api.answers["GET /v1/status"] = Problem(401, "no_token", "a token is needed")
    assert lbctl("version") == 0
    assert (lbctl.out, lbctl.err) == (f"lbctl {__version__}\n", "refused: a token is needed\n")
