"""Staged: backends that behave as a test says, in front of them a whole balancer, on virtual time."""

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.pickers import POLICIES
from twisted_lb.testing import Staged


def config(*backends, **options):
    options = {"health_check": {"interval_s": 0.0}, "queue": {"no_backend_s": 0.0}} | options
    return LoadBalancerConfig.model_validate({"backends": list(backends or ("a:80", "b:80"))} | options)


@pytest.fixture
def staged():
    """Makes stages; after the test nothing may be left of them."""
    made = []

    def one(*backends, policy=None, **options):
        made.append(Staged(config(*backends, **options), policy=policy))
        return made[-1]

    yield one
    for stage in made:
        stage.close()
        stage.run(5)
        assert stage.network.open_connections == []
        assert stage.clock.getDelayedCalls() == []


def test_each_request_is_told_who_has_answered_it(staged):
    answers = staged().ask(4)
    assert sorted(one.backend for one in answers) == ["a:80", "a:80", "b:80", "b:80"]
    assert [one.body.decode() for one in answers] == [one.backend for one in answers]
    assert {(one.status, one.took_s) for one in answers} == {(200, 0.0)}
    assert answers[0].attempts == [(answers[0].backend, "OK")]


def test_a_slow_one_takes_its_time_on_virtual_time(staged):
    stage = staged("a:80")
    stage["a:80"].is_slow(50.0)
    (answer,) = stage.ask()
    assert (answer.status, answer.took_s) == (200, 50.0)
    assert stage.clock.seconds() == 50.0


def test_requests_are_asked_a_while_apart(staged):
    stage = staged("a:80")
    stage.ask(4, every_s=2.0)
    assert stage.clock.seconds() == 6.0


def test_one_that_fails_says_so_to_the_client(staged):
    stage = staged("a:80")
    stage["a:80"].fails(503)
    (answer,) = stage.ask()
    assert (answer.status, answer.backend) == (503, "a:80")


def test_one_that_hangs_is_given_up(staged):
    stage = staged("a:80", timeouts={"response_head_s": 3.0}, retry={"more_attempts": 0})
    stage["a:80"].hangs()
    (answer,) = stage.ask()
    assert (answer.status, answer.backend, answer.attempts) == (504, "", [("a:80", "TIMED_OUT")])
    stage["a:80"].recovers()
    assert stage.ask()[0].status == 200


def test_one_that_dies_refuses_and_comes_back(staged):
    stage = staged("a:80")
    stage["a:80"].dies()
    stage["a:80"].dies()  # harmless
    assert stage.ask()[0].attempts == [("a:80", "REFUSED")]
    stage["a:80"].comes_back()
    stage.run(2)
    assert stage.ask()[0].status == 200


def test_checks_see_what_they_are_to_see(staged):
    stage = staged("a:80", "b:80", health_check={"interval_s": 1.0})
    stage["a:80"].fails(500, checks_too=True)
    stage["b:80"].fails(500)
    stage.run(10)
    assert {one.backend for one in stage.ask(6)} == {"b:80"}
    assert stage["a:80"].checked >= 3
    assert stage["a:80"].asked == 0


def test_a_policy_of_one_s_own_is_used(staged):
    class LastOne:
        describe, eager, keyed = "the last one", True, False

        def loads(self, counts):
            return None

        def build(self, members, previous, rng, now):
            return POLICIES["rr"].build(members[-1:], previous, rng, now)

    stage = staged("a:80", "b:80", "c:80", policy=LastOne())
    assert {one.backend for one in stage.ask(5)} == {"c:80"}
    stage.apply(config("a:80", "d:80"))
    assert {one.backend for one in stage.ask(5)} == {"d:80"}


def test_requests_say_what_routes_go_by(staged):
    stage = staged("a:80")
    stage.ask(path="/x", method="DELETE", host="shop", fields=["X-User: 7"])
    record = stage.balanced.records[-1]
    assert (record.target, record.method, record.host) == (b"/x", b"DELETE", b"shop")
    assert b"X-User: 7" in record.fields


def test_a_backend_that_is_not_there_is_named(staged):
    with pytest.raises(KeyError, match="no backend is called z; there are a:80, b:80"):
        staged()["z"]


def test_it_is_seen_at_a_glance(staged):
    stage = staged()
    stage["a:80"].dies()
    stage["b:80"].hangs()
    assert repr(stage) == "<Staged <Actor a:80: gone, 0 asked>, <Actor b:80: hanging, 0 asked>>"
    assert repr(staged().ask()[0]).startswith("<Answered 200 by ")


def test_a_with_statement_closes_it():
    with Staged(config()) as stage:
        stage.ask()
    stage.run(5)
    assert stage.network.open_connections == []
    assert stage.clock.getDelayedCalls() == []
