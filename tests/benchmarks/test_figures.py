"""From rounds to figures: what counts, and what is compared with what."""

from dataclasses import asdict

import pytest
from yardstick.figures import figure_of, figures, table
from yardstick.goals import Verdict, verdicts
from yardstick.loads import Load
from yardstick.page import digits, one_line, verdict
from yardstick.results import rounded
from yardstick.rounds import Sample, fault_of_load, requests_of, tail
from yardstick.scenarios import SCENARIOS
from yardstick.talk import fault_of


def sample(us: float, **told) -> dict:
    return asdict(Sample(us=us, per_s=1e6 / us, busy=1.0, **told))


def test_the_ratio_is_of_the_same_round_and_the_median_of_the_rounds():
    """The machine was twice as slow in the second round: that says nothing of either."""
    rounds = [
        {"haproxy": sample(20), "compiled": sample(25)},
        {"haproxy": sample(40), "compiled": sample(50)},
        {"haproxy": sample(20), "compiled": sample(40)},
    ]
    one = figure_of("compiled", rounds, "haproxy")
    assert (one.ratio, one.low, one.high) == (0.8, 0.5, 0.8)
    assert one.us == 40


def test_a_void_round_counts_for_nobody():
    rounds = [
        {"haproxy": sample(20), "compiled": sample(1, void="3 errors")},
        {"haproxy": sample(1, void="3 errors"), "compiled": sample(40)},
        {"haproxy": sample(30), "compiled": sample(30)},
    ]
    one = figure_of("compiled", rounds, "haproxy")
    assert (one.ratio, one.rounds, one.void) == (1.0, 2, ("3 errors",))


def test_who_has_no_round_has_no_figure_but_is_named():
    rounds = [{"haproxy": sample(20), "stock": sample(1, void="status 400")}]
    assert [one.name for one in figures(rounds, "haproxy")] == ["haproxy"]
    assert "stock: every round is void: status 400" in table(rounds, "haproxy")


def test_without_the_reference_there_is_no_ratio():
    assert figure_of("compiled", [{"compiled": sample(20)}], "haproxy").ratio is None


def test_requests_per_second_are_of_the_rounds_in_which_the_proxy_was_the_limit():
    idle = {**sample(20), "busy": 0.94, "per_s": 1.0}
    rounds = [{"haproxy": idle}, {"haproxy": sample(20)}, {"haproxy": idle}]
    assert figure_of("haproxy", rounds, "haproxy").per_s == 50_000
    assert figure_of("haproxy", [{"haproxy": idle}], "haproxy").per_s is None
    assert "load-limited" in table([{"haproxy": idle}], "haproxy")


def test_user_and_system_are_parts_of_the_whole():
    one = figure_of("haproxy", [{"haproxy": {**sample(20), "system": 0.75}}], "haproxy")
    assert (one.user_us, one.system_us) == (5, 15)


def test_a_tail_is_read_off_the_histogram():
    assert tail([(10, 50), (20, 40), (1000, 10)]) == {
        "50": 10,
        "75": 20,
        "90": 20,
        "95": 1000,
        "99": 1000,
        "99.5": 1000,
        "99.9": 1000,
        "99.99": 1000,
    }
    assert tail([]) == {}


@pytest.mark.parametrize(
    ("scenario", "found", "fault"),
    [
        ("small-64", {"requests": 10, "bytes": 1500, "errors": 0}, None),
        ("small-64", {"requests": 10, "bytes": 1500, "errors": 2}, "2 errors in 10 requests"),
        ("small-64", {"requests": 0, "bytes": 0, "errors": 0}, "no request was answered"),
        ("down-64k", {"requests": 2, "bytes": 131071, "errors": 0}, "2 answers of 65536 bytes in 131071 bytes"),
    ],
)
def test_a_round_counts_only_if_every_answer_was_right(scenario, found, fault):
    assert fault_of_load(SCENARIOS[scenario], Load(found, 1.0, 0.5)) == fault


def test_large_answers_count_in_part():
    load = Load({"requests": 3, "bytes": int(3.5 * 2**20)}, 1.0, 0.5)
    assert requests_of(SCENARIOS["down-1m"], load) == 3.5
    assert requests_of(SCENARIOS["down-64k"], load) == 3


@pytest.mark.parametrize(
    ("scenario", "status", "body", "fault"),
    [
        ("small-64", 200, b"hello\n", None),
        ("small-64", 502, b"hello\n", "status 502"),
        ("small-64", 200, b"hello", "a body of 5 bytes that is not the one"),
        ("down-64k", 200, b"0123456789abcdef" * 4096, None),
        ("down-64k", 200, b"0123456789abcdeX" * 4096, "a body of 65536 bytes that is not the one"),
        ("up-64k", 200, b"65700", None),
        ("up-64k", 200, b"65500", "the backend read 65500 bytes"),
        ("up-64k", 200, b"hello\n", "the backend read 0 bytes"),
    ],
)
def test_an_answer_is_looked_at(scenario, status, body, fault):
    assert fault_of(SCENARIOS[scenario], status, body) == fault


def test_goals_are_judged_by_what_was_measured():
    rounds = [{"haproxy": sample(20), "compiled": sample(25), "pure": sample(40), "envoy": sample(50)}]
    found = {one.key: one for one in verdicts({"small-64": {"rounds": rounds, "reference": "haproxy"}})}
    assert (found["small-64"].reached, found["small-64"].met, found["small-64"].below_floor) == (0.8, False, True)
    assert (found["small-64, pure"].reached, found["small-64, pure"].missed) == (0.5, True)
    assert (found["envoy"].reached, found["envoy"].met) == (2.0, True)
    assert (found["browser-same"].reached, found["browser-same"].missed) == (None, False)


def test_a_goal_says_how_it_stands():
    def said(reached, floor=None, less_is_better=False):
        return verdict(Verdict("key", "what", floor, 1.0, reached, less_is_better), {"key"})

    assert said(None) == "not measured"
    assert (said(1.0), said(0.9, less_is_better=True)) == ("met", "met")
    assert (said(0.9), said(1.1, less_is_better=True)) == ("missed: key", "missed: key")
    assert said(0.7, floor=0.8) == "**below the least**: key"
    assert verdict(Verdict("other", "what", None, 1.0, 0.9), {"key"}) == "missed, not explained yet"


def test_numbers_have_the_digits_that_they_are_worth():
    assert [digits(value) for value in (0.834, 9.999, 31.25, 1234.5, None)] == ["0.83", "10.00", "31.2", "1,234", "-"]
    assert rounded({1: [1.23456789, "x"]}) == {"1": [1.23457, "x"]}


def test_a_reason_on_the_page_names_no_path_of_a_machine():
    assert one_line("no /tmp/bench-x/19000-haproxy.cfg\nmore") == "no 19000-haproxy.cfg"
