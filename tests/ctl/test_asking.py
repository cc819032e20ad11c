"""`lbctl route` and `explain`."""

import json
import re

import pytest
from ctl_house import Problem
from ctl_sample import NOW, OVERLOADED, RETRIED, ROUTED

CHOSEN = """\
listener  web 0.0.0.0:8080
1         no    host is x.org, not api.example.com       lb.toml:34
2         no    path does not begin with /static/        lb.toml:39
3         yes   POST /upload*                            lb.toml:43
pool      app, least; no key
order     1 b3 4/64   2 b2 5/64   3 b4 6/64   4 b1 7/64
Nothing was sent. The first that has room gets it: app/b3.
"""


def test_route_says_what_was_looked_at_and_who_would_get_it(lbctl, api):
    api.answers["GET /v1/route"] = ROUTED
    assert lbctl("route", "POST", "http://x.org/upload/a") == 0
    assert lbctl.out == CHOSEN
    assert api.asked[0][1] == "/v1/route?method=POST&url=http://x.org/upload/a"


def test_a_listener_that_there_is_not_is_no_such_name(lbctl, api):
    api.answers["GET /v1/route"] = Problem(
        404, "no_such_listener", 'there is no listener "wbe"', hint='did you mean "web"?'
    )
    assert lbctl("route", "GET", "/", "--listener", "wbe") == 4
    assert lbctl.err == 'lbctl: there is no listener "wbe"; did you mean "web"?\n'


def test_route_hands_fields_client_and_listener_on(lbctl, api):
    api.answers["GET /v1/route"] = ROUTED
    lbctl("route", "get", "/x?a=1&b=2", "-H", "X-A: b:c", "-H", "Y:1", "--client", "10.0.0.1", "--listener", "web")
    assert api.asked[0][1] == (
        "/v1/route?method=GET&url=/x?a=1&b=2&header=X-A:b:c&header=Y:1&client=10.0.0.1&listener=web"
    )
    assert lbctl("route", "GET", "/", "-H", "nonsense") == 2


def test_no_route_ends_with_1(lbctl, api):
    no = [one | {"matches": False} for one in [*ROUTED["looked_at"], ROUTED["looked_at"][0] | {"n": 4}]]
    api.answers["GET /v1/route"] = ROUTED | {"route": None, "action": "none", "looked_at": no, "decision": None}
    assert lbctl("route", "GET", "http://x.org/") == 1
    assert lbctl.out.splitlines()[-1] == "no route: the client would get a 404 (4 routes looked at)"


def test_where_a_request_is_mirrored_to_is_said(lbctl, api):
    api.answers["GET /v1/route"] = ROUTED | {"mirror": "next", "mirror_percent": 12.5}
    assert lbctl("route", "POST", "http://x.org/upload/a") == 0
    assert lbctl.out.splitlines()[-2] == "mirrored  to next too, 12.5 % of the time"


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"picked": None, "waits": True, "candidates": []}, "It would wait in the queue."),
        ({"picked": None, "candidates": []}, "Nobody can take it: the client would get a 503."),
        (
            {"picked": "b3", "trial": True},
            "The first that has room gets it: app/b3; it would find out whether that is back.",
        ),
        ({"picked": "b2", "candidates": [{"backend": "b3"}, {"backend": "b2"}]}, "app/b2 gets it."),
    ],
)
def test_what_would_become_of_it_otherwise(lbctl, api, decision, said):
    api.answers["GET /v1/route"] = ROUTED | {"decision": {"pool": "app"} | decision}
    assert lbctl("route", "POST", "http://x.org/upload/a") == 0
    assert lbctl.out.endswith(f"Nothing was sent. {said}\n")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"action": "redirect", "status": 301}, "The route answers itself: 301."),
        (
            {"action": "deny", "status": 403, "why": "its route denies all"},
            "The client would get a 403: its route denies all.",
        ),
    ],
)
def test_a_route_that_asks_no_backend(lbctl, api, found, said):
    api.answers["GET /v1/route"] = ROUTED | {"pool": None, "decision": None} | found
    assert lbctl("route", "POST", "http://x.org/upload/a") == 0
    assert lbctl.out.endswith(f"Nothing was sent. {said}\n")


def test_a_route_that_asks_for_nothing_takes_everything(lbctl, api):
    api.answers["GET /v1/route"] = ROUTED | {"looked_at": [{"n": 1, "matches": True, "why": "", "place": ""}]}
    assert lbctl("route", "GET", "http://x.org/") == 0
    assert "\n1         yes  it takes everything\n" in lbctl.out.replace("yes   it", "yes  it")


def test_what_is_no_request_ends_with_1(lbctl, api):
    no = {"looked_at": [], "route": None, "action": "refuse", "status": 400, "why": "no valid Host", "decision": None}
    api.answers["GET /v1/route"] = ROUTED | no
    assert lbctl("route", "GET", "http://x.org/") == 1
    assert lbctl.out == "no request: the client would get a 400: no valid Host\n"


def test_a_fallback_says_why(lbctl, api):
    api.answers["GET /v1/route"] = ROUTED | {"why": "api has nobody: its fallback"}
    lbctl("route", "GET", "/")
    assert "because   api has nobody: its fallback\nNothing was sent." in lbctl.out


EXPLAINED = """\
GET /v1/items  14:16:12.104  → 200 after 1.24 s, retried
client 203.0.113.40 · listener web · route v1 · pool api

1  api/a9  ✗ NO_RESPONSE  closed before the head of its answer
           queue 0   connect 1.0 ms   first byte 1.20 s
           chosen: its turn, the highest current value (12); next a2 (11), a1 (9)
2  api/a2  ✓ OK           200, 4.1 KiB
           queue 0   connect 0 (reused)   first byte 31 ms   rest 2.0 ms
           retried: GET may be repeated; attempt 2 of 3; 14 more in the budget
           chosen: its turn without a9 (11)

skipped   ◐ a4 drained by alice: “deploy 2026.11.4”, 4 min before
also      a1 6/64, a3 3/32, a5 30/32, a6 2/32, a8 2/32 and 4 more had room
then      a9 was ejected for 60 s: 5 failures in a row
"""
STUCK = """\
GET /v1/search  14:08:44.310  → 503 after 5.00 s, OVERLOADED
client 198.51.100.23 · listener web · route v1 · pool api

No backend was asked.
queue     it came to the queue as number 23, and waited 5.00 s
full      a1 64/64, a2 64/64, a3 32/32, a4 32/32, a5 32/32 and 6 more
skipped   ⊘ a9 ejected, 17 s left (5 failures in a row: no response)
so        11 of 12 usable, all full: 416 of 416 in flight
"""


def test_explain_tells_each_attempt_and_who_else_there_was(lbctl, api):
    api.answers["GET /v1/explain/9f2c41d07be6a853"] = RETRIED
    assert lbctl("explain", "9f2c41d07be6a853") == 0
    assert lbctl.out == EXPLAINED


def test_an_attempt_over_http2_tells_its_stream_and_one_over_http1_nothing(lbctl, api):
    first, second = RETRIED["attempts"]
    first, second = first | {"protocol": "HTTP/1.1", "stream": None}, second | {"protocol": "HTTP/2", "stream": 5}
    api.answers["GET /v1/explain/9f2c41d07be6a853"] = RETRIED | {"attempts": [first, second]}
    lbctl("explain", "9f2c41d07be6a853")
    assert lbctl.out == EXPLAINED.replace("rest 2.0 ms", "rest 2.0 ms   over HTTP/2, stream 5")


def test_what_tls_has_agreed_on_is_told_once(lbctl, api):
    text = "TLSv1.3 (www.example.com), certificate CN=alice,O=Example"
    api.answers["GET /v1/explain/9f2c41d07be6a853"] = RETRIED | {"tls": {"text": text, "version": "TLSv1.3"}}
    lbctl("explain", "9f2c41d07be6a853")
    where = "client 203.0.113.40 · listener web · route v1 · pool api"
    assert lbctl.out == EXPLAINED.replace(where, f"{where} · over {text}")


def test_what_a_balancer_in_front_has_told_stands_behind_it(lbctl, api):
    text = "TLSv1.3 (www.example.com), id 1b2c"
    api.answers["GET /v1/explain/9f2c41d07be6a853"] = RETRIED | {"tls": None, "proxy": {"text": text}}
    lbctl("explain", "9f2c41d07be6a853")
    where = "client 203.0.113.40 · listener web · route v1 · pool api"
    assert lbctl.out == EXPLAINED.replace(where, f"{where} · told by its proxy: {text}")


def test_a_hedge_is_called_a_hedge(lbctl, api):
    first, second = RETRIED["attempts"]
    hedge = second | {"retried": "hedged: a9 had not answered after 0.030 s"}
    api.answers["GET /v1/explain/x"] = RETRIED | {"attempts": [first, hedge]}
    assert lbctl("explain", "x") == 0
    assert lbctl.out.splitlines()[0].endswith(", hedged")
    assert "           hedged: a9 had not answered after 0.030 s; attempt 2 of 3; 14 more in the budget\n" in lbctl.out
    assert "retried" not in lbctl.out


def test_an_attempt_beyond_those_that_a_route_allows_has_no_number(lbctl, api):
    """One that lost a keep-alive race costs none."""
    first, second = RETRIED["attempts"]
    api.answers["GET /v1/explain/x"] = RETRIED | {"attempts": [first, second | {"number": 4, "most": 3}]}
    assert lbctl("explain", "x") == 0
    assert "           retried: GET may be repeated; 14 more in the budget\n" in lbctl.out


def test_explain_of_what_reached_no_backend(lbctl, api):
    api.answers["GET /v1/explain/c3519af07d2e8b64"] = OVERLOADED
    assert lbctl("explain", "c3519af07d2e8b64") == 0
    assert lbctl.out == STUCK


def test_a_request_that_is_not_held_ends_with_4(lbctl, api):
    detail = "no longer known: the ring holds 1,024 requests, the oldest of 14:16:59"
    api.answers["GET /v1/explain/0000000000000000"] = Problem(404, "not_held", detail)
    assert lbctl("explain", "0000000000000000") == 4
    assert lbctl.err == (
        "lbctl: no longer known: the ring holds 1,024 requests, the oldest of 14:16:59\n"
        "       Failed and slow ones are kept longer: lbctl explain --failed\n"
    )


def test_a_request_that_still_runs(lbctl, api):
    running = {"running": True, "status": 0, "outcome": "", "took_s": None, "note": [], "skipped": [], "candidates": []}
    attempt = RETRIED["attempts"][0] | {"outcome": "", "reason": "", "first_byte_s": None, "rest_s": None}
    api.answers["GET /v1/explain/x"] = RETRIED | running | {"attempts": [attempt], "at": NOW - 3.2}
    assert lbctl("explain", "x") == 0
    assert lbctl.out.startswith("GET /v1/items  14:16:56.799  still running for 3.20 s\n") or lbctl.out.startswith(
        "GET /v1/items  14:16:56.800  still running for 3.20 s\n"
    )
    assert "1  api/a9  … running\n           queue 0   connect 1.0 ms\n" in lbctl.out


def test_the_last_the_failed_and_the_slowest_are_a_line_each(lbctl, api):
    api.answers["GET /v1/explain"] = {"requests": [RETRIED, OVERLOADED], "held": 1024, "oldest_at": NOW - 100}
    assert lbctl("explain", "--last", "5") == 0
    assert lbctl.out == (
        "14:16:12  200  1.24 s  retried     GET /v1/items   api/a9 → api/a2  9f2c41d07be6a853\n"
        "14:08:44  503  5.00 s  OVERLOADED  GET /v1/search                   c3519af07d2e8b64\n"
    )
    assert api.asked[-1][1] == "/v1/explain?last=5&decisions=0"
    lbctl("explain", "--failed")
    assert api.asked[-1][1] == "/v1/explain?failed=10&decisions=0"
    api.answers["GET /v1/explain"] = {"requests": [RETRIED]}
    lbctl("explain", "--slowest", "1")
    assert lbctl.out == "14:16:12  200  1.24 s  retried  GET /v1/items  api/a9 → api/a2  9f2c41d07be6a853\n"


def test_explain_wants_to_know_which(lbctl):
    assert lbctl("explain") == 2
    assert lbctl("explain", "--last", "0") == 2


def test_explain_next_of_a_pool_or_a_path(lbctl, api):
    api.answers["GET /v1/explain/next"] = ROUTED["decision"]
    assert lbctl("explain", "--next", "app") == 0
    assert lbctl.out == "".join(CHOSEN.splitlines(keepends=True)[-3:])
    assert api.asked[-1][1] == "/v1/explain/next?pool=app"
    lbctl("explain", "--next", "path=/x")
    assert api.asked[-1][1] == "/v1/explain/next?method=GET&url=/x"


def test_json_is_the_answer(lbctl, api):
    api.answers["GET /v1/explain/x"] = RETRIED
    lbctl("explain", "x", "--json")
    assert json.loads(lbctl.out) == RETRIED
    api.answers["GET /v1/route"] = ROUTED
    lbctl("route", "GET", "/", "--json")
    assert json.loads(lbctl.out) == ROUTED


@pytest.mark.parametrize(
    "words", [["explain", "x"], ["explain", "--last"], ["explain", "--next", "app"], ["route", "GET", "/"]]
)
@pytest.mark.parametrize(
    "answer", [{}, {"attempts": [{}], "requests": [{}], "looked_at": [{}], "candidates": [{}], "route": "x"}]
)
def test_answers_that_lack_all_are_no_traceback(lbctl, api, words, answer):
    for path in ("explain", "explain/x", "explain/next", "route"):
        api.answers[f"GET /v1/{path}"] = answer
    assert lbctl(*words) in (0, 1)
    assert "mistake" not in lbctl.err


def test_of_a_decision_of_one_worker_of_several_it_says_which_one(lbctl, api):
    decision = {"pool": "app", "picked": "b2", "rule": "in turn", "candidates": []}
    api.answers["GET /v1/explain/next"] = decision | {"worker": 0}
    assert lbctl("explain", "--next", "app") == 0
    assert re.search(r"^pool +app, in turn, at worker 0$", lbctl.out, re.MULTILINE)
    api.answers["GET /v1/explain/next"] = decision
    assert lbctl("explain", "--next", "app") == 0
    assert "worker" not in lbctl.out
