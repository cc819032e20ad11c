"""Suites that are run with two workers too: one row of each at every run, all of their tests in the long ones.

A suite joins by a line in `SUITES`. Its fixtures that outlive a test take `workers`, so that there is one for each number.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Suite:
    """The test of a suite that each run has with two workers; "": none. And those that are of one process, each with its reason."""

    row: str = ""
    alone: Mapping[str, str] = field(default_factory=dict)


_SESSIONS = "a session is resumed by the worker that it began with, and by no other one"
SUITES = {
    "test_balancing": Suite("test_a_stop_cuts_no_request"),
    "test_dashboard": Suite("test_the_charts_say_who_answered_and_how_long_it_took"),
    "test_http2": Suite("test_curl_asks_in_parallel_on_one_connection"),
    "test_http2_drains": Suite(),
    "test_lbctl": Suite("test_5_is_a_time_that_is_over_and_the_drain_stays"),
    "test_reload": Suite("test_hangup_has_the_file_in_force_and_a_kept_connection_notices_nothing"),
    "test_steering": Suite("test_a_drain_under_load_is_answered_when_nothing_new_arrives_and_nobody_is_cut"),
    "test_tcp": Suite("test_connections_of_redis_cli_go_to_both_servers_in_turn"),
    "test_tls": Suite(
        "test_openssl_is_served_and_hears_close_notify",
        {
            "test_openssl_takes_no_session_to_another_policy": _SESSIONS,
            "test_python_is_served_keeps_its_connection_and_resumes_its_session": _SESSIONS,
        },
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have a test twice, with one process and with two workers: of tests with parameters the first of these is the row."""
    suite = SUITES.get(Path(metafunc.module.__file__).stem)
    name = metafunc.function.__name__
    if suite is None or name in suite.alone or not hasattr(os, "memfd_create"):
        return
    marks = () if name == suite.row else pytest.mark.long
    two = pytest.param("2", marks=marks, id="two-workers")
    metafunc.parametrize("workers", [pytest.param("", id=pytest.HIDDEN_PARAM), two], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def workers(request: pytest.FixtureRequest) -> Iterator[str]:
    """How many workers balancers are started with, where the test does not say it; "" for one process."""
    before = os.environ.get("TWISTED_LB_TEST_WORKERS", "")
    given = getattr(request, "param", "") or before
    os.environ["TWISTED_LB_TEST_WORKERS"] = given
    yield given
    os.environ["TWISTED_LB_TEST_WORKERS"] = before
