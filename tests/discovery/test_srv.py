"""SRV records as a list: which of them count, when they are looked up again, and what is believed of a name that is gone."""

from typing import Any

import pytest
from discovering import START, Follower, following
from twisted.internet.defer import Deferred, fail, succeed
from twisted.names import dns
from twisted.names.error import DNSNameError

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.prometheus import MOST_TARGETS
from twisted_lb.discovery.provider import NoList
from twisted_lb.discovery.srv import GONE_AFTER_S, SrvSource, scaled, specs_of_records
from twisted_lb.testing import HeapClock

NAME = "_http._tcp.app.internal"


def srv(target: str, *, port: int = 80, weight: int = 1, priority: int = 0, ttl: int = 30, name: str = NAME) -> Any:
    return dns.RRHeader(name, dns.SRV, ttl=ttl, payload=dns.Record_SRV(priority, weight, port, target))


def alias(name: str, target: str, ttl: int = 30) -> Any:
    return dns.RRHeader(name, dns.CNAME, ttl=ttl, payload=dns.Record_CNAME(target))


GONE = DNSNameError()
BROKEN = NoList("name server 10.0.0.2: SERVFAIL")


class ScriptedResolver:
    """Answers one look-up after the other with records or an error; the last answer again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def lookup(self, name: str) -> Deferred[Any]:
        self.asked.append(name)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return fail(answer) if isinstance(answer, Exception) else succeed((answer, [], []))


def looking_up(*answers: Any, name: str = NAME, **rules: Any):
    clock = HeapClock(START)
    return following(SrvSource(name, ScriptedResolver(*answers).lookup, clock), clock, **rules)


def pause(follower: Follower) -> float:
    at = follower.clock.next_at()
    assert at is not None
    return at - follower.clock.seconds()


def test_targets_are_backends_by_their_names_sorted_and_in_one_case():
    with looking_up(
        [srv("B.internal", port=8001, weight=7), srv("a.internal", port=8000)],
        [srv("a.INTERNAL", port=8000), srv("b.internal", port=8001, weight=7)],
    ) as follower:
        follower.look()
        assert follower.specs == [
            BackendSpec("a.internal:8000", TcpAddress("a.internal", 8000), 1, resolve="first"),
            BackendSpec("b.internal:8001", TcpAddress("b.internal", 8001), 7, resolve="first"),
        ]
        follower.look()
        assert len(follower.told) == 1


def test_one_target_at_two_ports_is_two_backends_and_a_record_that_is_there_twice_is_one():
    with looking_up([srv("a", port=1), srv("a", port=2, weight=3), srv("a", port=2, weight=2)]) as follower:
        follower.look()
        assert [(spec.name, spec.weight) for spec in follower.specs] == [("a:1", 1), ("a:2", 3)]


def test_only_the_lowest_priority_counts():
    with looking_up([srv("a", priority=10), srv("b", priority=20), srv("c", priority=10, port=81)]) as follower:
        follower.look()
        assert [spec.name for spec in follower.specs] == ["a:80", "c:81"]


@pytest.mark.parametrize(
    ("weights", "ours"),
    [
        ([0, 0, 0], [1, 1, 1]),
        ([10, 200], [10, 200]),
        ([0, 256], [1, 256]),
        ([1, 100, 65535], [1, 1, 256]),
        ([5000, 10000], [128, 256]),
        ([257, 257], [256, 256]),
    ],
)
def test_weights_are_proportions(weights, ours):
    assert [scaled(weight, max(weights)) for weight in weights] == ours


def test_a_name_is_asked_for_without_its_last_dot():
    resolver = ScriptedResolver([srv("a")])
    clock = HeapClock(START)
    with following(SrvSource("_HTTP._tcp.app.internal.", resolver.lookup, clock), clock) as follower:
        follower.look()
        assert follower.told == [["a"]]
    assert resolver.asked == [NAME]


@pytest.mark.parametrize(
    ("answers", "least", "most"),
    [
        ([srv("a", ttl=30)], 27, 33),
        ([srv("a", ttl=30), srv("b", ttl=20)], 18, 22),
        ([srv("a", ttl=0)], 4.5, 5.5),
        ([srv("a", ttl=86400)], 54, 66),
        ([alias(NAME, "x", ttl=15), alias("x", "y", ttl=40), srv("a", name="y", ttl=50)], 13.5, 16.5),
        # What does not belong to the chain says nothing.
        ([srv("a", ttl=30), srv("z", name="other", ttl=7), alias("other", "x", ttl=7)], 27, 33),
    ],
)
def test_the_next_look_comes_when_the_first_record_of_the_chain_expires(answers, least, most):
    with looking_up(answers) as follower:
        follower.look()
        assert least <= pause(follower) <= most
        assert follower.told[0][0] == "a"


def test_aliases_in_a_circle_are_no_records():
    with looking_up([alias(NAME, "x"), alias("x", NAME)]) as follower:
        follower.look()
        assert follower.provider.state.error == "the name has no SRV records"


# Nothing there.


@pytest.mark.parametrize(
    ("nothing", "error"),
    [
        (GONE, "there is no such name (NXDOMAIN)"),
        ([], "the name has no SRV records"),
        ([srv("b", name="other")], "the name has no SRV records"),
    ],
)
def test_a_name_that_is_gone_is_believed_after_five_minutes(nothing, error):
    with looking_up([srv("a")], nothing) as follower:
        follower.look()
        follower.look()
        began = follower.clock.seconds()
        assert follower.said[1:] == [f"srv:{NAME}: {error}; what is known stays: 1 backend"]
        follower.clock.run_until(began + GONE_AFTER_S - 1)
        assert follower.told == [["a"]]
        follower.clock.advance(30)
        assert follower.told == [["a"], []]


def test_a_good_answer_in_between_begins_the_five_minutes_anew():
    with looking_up([srv("a")], *[GONE] * 40, [srv("a")], GONE) as follower:
        while len(follower.source._lookup.__self__.answers) > 1:  # type: ignore[attr-defined]
            follower.look()
        began = follower.clock.seconds()
        follower.clock.run_until(began + GONE_AFTER_S - 10)
        assert follower.told == [["a"]]


def test_a_failure_is_not_a_name_that_is_gone_however_long_it_lasts():
    with looking_up([srv("a")], BROKEN) as follower:
        follower.look()
        follower.clock.advance(100 * GONE_AFTER_S)
        follower.look()
        assert follower.told == [["a"]]
        assert follower.said[1:] == [f"srv:{NAME}: name server 10.0.0.2: SERVFAIL; what is known stays: 1 backend"]
        assert 4.5 <= pause(follower) <= 5.5


def test_a_name_that_never_was_there_is_no_list():
    with looking_up(GONE) as follower:
        follower.clock.advance(2 * GONE_AFTER_S)
        assert follower.told == []
        assert follower.said == [f"srv:{NAME}: there is no such name (NXDOMAIN); no list is known yet"]


def test_a_target_of_nothing_says_that_there_is_no_service_which_takes_two_looks():
    with looking_up([srv("a"), srv("b")], [srv("")]) as follower:
        follower.look()
        follower.look()
        assert len(follower.told) == 1
        follower.look()
        assert follower.told[1:] == [[]]


def test_a_target_of_nothing_is_believed_at_once_where_that_is_allowed():
    with looking_up([srv("a")], [srv("")], allow_empty=True) as follower:
        follower.look()
        follower.look()
        assert follower.told == [["a"], []]


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (srv("b", port=0), "a record is not a server's: 'b:0': '0' is not a port between 1 and 65535"),
        (srv("b c"), "a record is not a server's: 'b c:80': 'b c' is not a host name"),
        (srv("-b"), "a record is not a server's: '-b:80': '-b' is not a host name"),
        (srv("1.2"), "a record is not a server's: '1.2:80': '1.2' is not an IPv4 address"),
    ],
)
def test_an_answer_with_a_record_that_names_no_server_is_refused_as_a_whole(record, error):
    with looking_up([srv("a")], [srv("a"), srv("c"), record]) as follower:
        follower.look()
        follower.look()
        assert follower.told == [["a"]]
        assert follower.provider.state.error == error


def test_a_target_in_bytes_that_are_no_ascii_is_refused_in_print():
    header = srv("a")
    header.payload.target.name = b"\xff\x00"
    with looking_up([header]) as follower:
        follower.look()
        assert follower.provider.state.error.startswith("a record is not a server's: ")
        assert follower.provider.state.error.isprintable()


def test_the_number_of_targets_is_bounded():
    with pytest.raises(NoList, match=f"{MOST_TARGETS + 1} targets, {MOST_TARGETS} are the most"):
        specs_of_records(srv(f"a{n}").payload for n in range(MOST_TARGETS + 1))
