"""`lbctl tail`: each request once, as it ends."""

import json

import pytest
from ctl_house import HangUp, Problem
from ctl_sample import OVERLOADED, RETRIED

FIRST = "14:08:44  503   5.00 s  OVERLOADED   GET /v1/search  c3519af07d2e8b64\n"
SECOND = "14:16:12  200   1.24 s  retried      GET /v1/items  api/a9 → api/a2  9f2c41d07be6a853\n"


def ending(api, *answers):
    """An API that answers so, and then no more."""
    api.answers["GET /v1/explain"] = [*({"requests": list(one)} for one in answers), HangUp()]


def test_each_request_is_a_line_once_and_the_daemons_end_is_3(lbctl, api):
    ending(api, [OVERLOADED], [RETRIED, OVERLOADED], [RETRIED, OVERLOADED])
    assert lbctl("tail") == 3
    assert lbctl.out == FIRST + SECOND
    assert "no daemon answers" in lbctl.err
    assert lbctl.clock.now == 1003.0
    assert api.asked[0][1] == "/v1/explain?last=200&decisions=0"


def test_two_requests_of_one_id_are_two(lbctl, api):
    ending(api, [RETRIED], [RETRIED, RETRIED | {"at": RETRIED["at"] + 1}])
    lbctl("tail")
    assert len(lbctl.out.splitlines()) == 2


def test_of_what_was_before_the_last_ten_are_shown(lbctl, api):
    ending(api, [RETRIED | {"id": str(n), "took_s": n} for n in range(1, 30)])
    lbctl("tail")
    assert [line.split()[-1] for line in lbctl.out.splitlines()] == [str(n) for n in range(20, 30)]


def test_only_the_failed_or_those_of_a_backend_or_pool(lbctl, api):
    for words, said in (
        (["--failed"], FIRST + SECOND),
        (["--backend", "api/a2"], SECOND),
        (["--backend", "a9"], SECOND),
        (["--backend", "a3"], ""),
        (["--backend", "api/*"], SECOND),
        (["--pool", "api"], FIRST + SECOND),
        (["--pool", "app"], ""),
    ):
        ending(api, [OVERLOADED, RETRIED])
        lbctl("tail", *words)
        assert lbctl.out == said
    ending(api, [])
    lbctl("tail", "--failed")
    assert api.asked[-1][1] == "/v1/explain?failed=200&decisions=0"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend", "api/a99"], 'there is no backend "api/a99"; did you mean "api/a9"?'),
        (["--pool", "apt"], 'there is no pool "apt"; did you mean "app"?'),
    ],
)
def test_a_name_that_there_is_not_is_not_waited_for(lbctl, words, said):
    assert lbctl("tail", *words) == 4
    assert lbctl.err == f"lbctl: {said}\n"


def test_more_than_can_be_shown_is_said(lbctl, api):
    ending(api, [RETRIED], [RETRIED | {"id": str(n)} for n in range(200)])
    lbctl("tail")
    assert lbctl.err.startswith("more have ended than can be shown\n")


def test_json_is_a_request_a_line(lbctl, api):
    ending(api, [OVERLOADED, RETRIED])
    lbctl("tail", "--json")
    assert [json.loads(line) for line in lbctl.out.splitlines()] == [OVERLOADED, RETRIED]


def test_an_interrupt_ends_it(lbctl, api):
    api.answers["GET /v1/explain"] = {"requests": []}

    def interrupt():
        raise KeyboardInterrupt

    lbctl.clock.slept = interrupt
    assert lbctl("tail") == 130


def test_a_daemon_that_explains_nothing_is_a_refusal(lbctl, api):
    api.answers["GET /v1/explain"] = Problem(404, "no_such_path", "there is no /v1/explain")
    assert lbctl("tail") == 1
    assert lbctl.err == "lbctl: this daemon knows no such question; see lbctl version\n"
