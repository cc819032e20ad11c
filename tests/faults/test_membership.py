"""The judge of who went: what runs there has its time, and nothing of it is cut behind a pause of the process unread."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from faults.ledger import Member, Moment, Record
from faults.membership import Membership
from faults.operator import Stop
from faults.oracle import Oracle
from faults.timing import Process

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.backend import BackendSpec
from twisted_lb.testing import HeapClock

CONFIG = LoadBalancerConfig.model_validate({"backends": ["a:80"], "timeouts": {"drain_s": 8.0}})
GONE = 1010.0


class Case:
    """A request at a backend that went at GONE, as a judge finds it."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.member = Member(BackendSpec.parse("a:80"), None, Moment(1, 1000.0), Moment(2, GONE))
        self.tunnel: object = None
        process = Process(HeapClock(1000.0), lambda held: None)
        self.held = process.held
        self.stop: Stop | None = None
        self.town = SimpleNamespace(process=process, generations=SimpleNamespace(all=[(Moment(0, 1000.0), CONFIG)]))

    def judge(self, when: float, ended_by: str = "CANCELLED") -> list[str]:
        """What is said of a request that ended then."""
        values: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Record))
        record = Record(**{**values, "name": "r", "at": 9, "when": when, "ended_by": ended_by, "member": self.member})
        self.town.operator = SimpleNamespace(stop=self.stop)
        tape = object()
        backends = SimpleNamespace(
            attempts={"r": [SimpleNamespace(tape=tape)]},
            readers={tape: (None, SimpleNamespace(tunnel=self.tunnel))},
        )
        oracle: Any = SimpleNamespace(town=self.town, backends=backends, complain=self.complaints.append)
        oracle.left_behind = lambda record: Oracle.left_behind(oracle, record)
        self.left_behind = oracle.left_behind(record)
        Membership(oracle)._judge_time(record)
        return self.complaints


@pytest.fixture
def case():
    return Case()


def test_what_ends_within_its_time_is_not_cut_by_the_end_of_it(case):
    assert case.judge(GONE + 7.9) == []
    assert not case.left_behind


def test_what_is_cut_at_the_end_of_its_time_is_allowed_to_be(case):
    assert case.judge(GONE + 8.2) == []
    assert case.left_behind


def test_what_runs_on_behind_its_time_is_a_complaint(case):
    assert case.judge(GONE + 9) == ["r ran until 1019.0 at <Member a:80 at a:80>, which had gone at 1010.0"]


@pytest.mark.parametrize("what", ["is there", "may return", "is at the end of a tunnel"])
def test_whose_time_is_not_limited_may_run_on(case, what):
    case.member.until = None if what == "is there" else case.member.until
    case.member.rests = what == "may return"
    case.tunnel = b"" if what == "is at the end of a tunnel" else None
    assert case.judge(GONE + 60) == []
    assert case.left_behind is (case.tunnel is not None)


def test_what_is_cut_as_soon_as_the_process_goes_on_is_a_complaint(case):
    case.held.append((GONE + 1, GONE + 11))
    assert case.judge(GONE + 11) == [
        "r at <Member a:80 at a:80>, which had gone, is cut as soon as the process goes on"
    ]


@pytest.mark.parametrize(("at", "complaints"), [(8, 0), (10, 1)], ids=["before", "behind it"])
def test_whoever_is_in_a_hurry_cuts_it_himself(case, at, complaints):
    case.held.append((GONE + 1, GONE + 11))
    case.stop = Stop(10.0, hurried=Moment(at, GONE + 11))
    assert len(case.judge(GONE + 11)) == complaints


@pytest.mark.parametrize(
    ("when", "how"), [(GONE + 11.25, "CANCELLED"), (GONE + 11, "OK")], ids=["a tick later", "read"]
)
def test_a_tick_later_it_may_be_cut_and_at_once_it_may_end(case, when, how):
    case.held.append((GONE + 1, GONE + 11))
    assert case.judge(when, how) == []
