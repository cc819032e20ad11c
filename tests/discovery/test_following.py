"""Following a list: when it is looked at, what is handed on, and that a failure removes nothing."""

import itertools

import pytest
from discovering import START, Follower, ScriptedSource, following, specs
from twisted.internet.defer import Deferred, fail

from twisted_lb.discovery.following import FIRST_S, JITTER, LOOK_S

FULL = specs("a", "b", "c", "d")


def test_nothing_is_told_before_start_returns_and_the_first_look_is_at_once():
    follower = Follower(ScriptedSource(specs("a"))).start()
    assert follower.told == []
    follower.clock.settle()
    assert follower.told == [["a"]]
    follower.close()


def test_a_list_is_a_set_told_sorted_and_only_when_it_is_another_one():
    with following(ScriptedSource(specs("b", "a"), specs("a", "b"), None, specs("c", "b", "a"))) as follower:
        for _ in range(5):
            follower.look()
        assert follower.told == [["a", "b"], ["a", "b", "c"]]
        assert follower.said == [
            "the list: 2 backends, 2 new or changed, 0 gone",
            "the list: 3 backends, 1 new or changed, 0 gone",
        ]


def test_another_weight_is_another_list():
    with following(ScriptedSource(specs("a", "b"), specs("a", "b", weight=2))) as follower:
        follower.look()
        follower.look()
        assert [spec.weight for spec in follower.specs] == [2, 2]
        assert follower.said[-1] == "the list: 2 backends, 2 new or changed, 0 gone"


def test_whoever_is_told_a_list_may_keep_and_change_it():
    with following(ScriptedSource(specs("a"), None)) as follower:
        follower.take = list.clear
        follower.look()
        follower.look()
        assert follower.told == [[]]
        assert follower.provider.state.backends == 1


# A failure removes nothing.


def test_a_failure_removes_nothing_and_is_said_once_as_is_its_end():
    with following(ScriptedSource(FULL, "down", "down", "status 500", "down", FULL)) as follower:
        for _ in range(7):
            follower.look()
        assert follower.told == [["a", "b", "c", "d"]]
        assert follower.said[1:] == [
            "the list: down; what is known stays: 4 backends",
            "the list: status 500; what is known stays: 4 backends",
            "the list: down; what is known stays: 4 backends",
            "the list is there again",
        ]


def test_a_list_that_was_never_there_is_no_backends_and_a_warning():
    with following(ScriptedSource("not there", specs("a"))) as follower:
        follower.look()
        assert follower.told == []
        assert follower.said == ["the list: not there; no list is known yet"]
        follower.look()
        assert follower.told == [["a"]]


def test_an_empty_list_at_the_start_is_told_so_that_it_is_known():
    with following(ScriptedSource([])) as follower:
        follower.look()
        assert follower.told == [[]]
        assert follower.provider.state.backends == 0


def test_an_empty_list_takes_two_looks_in_a_row():
    with following(ScriptedSource(FULL, [], FULL, [], [])) as follower:
        for _ in range(4):
            follower.look()
        assert follower.told == [["a", "b", "c", "d"]]
        assert follower.provider.state.doubt == "0 of 4 backends left"
        follower.look()
        assert follower.told[1:] == [[]]
        assert follower.provider.state.doubt == ""
        doubt = "the list: 0 of 4 backends left; all stay until another look says so too"
        assert follower.said[1:] == [doubt, doubt, "the list: 0 backends, 0 new or changed, 4 gone"]


def test_an_empty_list_is_taken_at_once_where_that_is_allowed():
    with following(ScriptedSource(FULL, []), allow_empty=True) as follower:
        follower.look()
        follower.look()
        assert follower.told[-1] == []


def test_an_answer_that_says_that_nothing_has_changed_is_another_look_at_the_list_that_waits():
    with following(ScriptedSource(FULL, specs("a"), None)) as follower:
        follower.look()
        follower.look()
        assert len(follower.told) == 1
        follower.look()
        assert follower.told[1:] == [["a"]]


def test_a_failure_in_between_is_no_look_at_the_list_that_waits():
    with following(ScriptedSource(FULL, specs("a"), "down", specs("a"))) as follower:
        for _ in range(3):
            follower.look()
        assert len(follower.told) == 1
        follower.look()
        assert follower.told[1:] == [["a"]]


def test_backends_that_are_refused_are_offered_again_and_that_is_said_once():
    def refuse(specs):
        raise ValueError("the name a:80 is there twice")

    with following(ScriptedSource(specs("b"), specs("a"), None)) as follower:
        follower.look()
        follower.take = refuse
        for _ in range(3):
            follower.look()
        assert follower.said[1:] == ["the list: refused: the name a:80 is there twice; what is known stays: 1 backend"]
        assert follower.provider.state.failing
        follower.take = lambda specs: None
        follower.look()
        assert follower.told == [["b"], ["a"]]
        assert follower.said[-1] == "the list is there again"


def test_a_taker_that_blows_up_does_not_end_the_looks(logged_errors):
    def blow_up(specs):
        raise RuntimeError("oh")

    with following(ScriptedSource(specs("a"))) as follower:
        follower.take = blow_up
        follower.look()
        assert len(logged_errors.take()) == 1
        follower.take = lambda specs: None
        follower.look()
        assert follower.told == [["a"]]


@pytest.mark.parametrize("how", ["raises", "fails"])
def test_a_source_that_blows_up_is_logged_and_looked_at_again(logged_errors, how):
    source = ScriptedSource(specs("a"))
    good, source.look = source.look, lambda: fail(RuntimeError("oh"))
    if how == "raises":
        source.look = lambda: 1 / 0
    with following(source) as follower:
        follower.look()
        assert len(logged_errors.take()) == 1
        assert follower.provider.state.error == "the look itself failed"
        source.look = good
        follower.look()
        assert follower.told == [["a"]]


# Time.


def test_looks_come_with_jitter_around_the_pause_of_the_source():
    source = ScriptedSource(specs("a"))
    asked = []
    with following(source) as follower:
        for _ in range(200):
            follower.look()
            asked.append(follower.clock.seconds())
    gaps = [after - before for before, after in itertools.pairwise(asked)]
    assert 10 * (1 - JITTER) <= min(gaps) < 9.5
    assert 10.5 < max(gaps) <= 10 * (1 + JITTER)


def test_while_no_list_is_known_looks_come_sooner():
    with following(ScriptedSource("down")) as follower:
        follower.look()
        follower.look()
        assert follower.clock.seconds() <= START + FIRST_S * (1 + JITTER)


def test_no_look_lasts_longer_than_its_bound_and_the_next_one_comes():
    hanging: Deferred = Deferred()
    with following(ScriptedSource(specs("a"), hanging, specs("b"))) as follower:
        follower.look()
        follower.look()
        began = follower.clock.seconds()
        follower.look()
        assert follower.clock.seconds() == began + LOOK_S
        assert follower.said[-1] == "the list: no answer in 10 s; what is known stays: 1 backend"
        follower.look()
        assert follower.told == [["a"], ["b"]]


def test_a_look_that_is_under_way_is_not_joined_by_another():
    hanging: Deferred = Deferred()
    source = ScriptedSource(hanging)
    source.pause_s = 1.0
    with following(source) as follower:
        follower.look()
        follower.clock.advance(LOOK_S / 2)
        assert source.looks == 1
        hanging.callback(specs("a"))
        assert follower.told == [["a"]]


# The end.


def test_a_stop_ends_the_look_under_way_and_what_it_would_have_told():
    ended = []
    hanging: Deferred = Deferred(lambda d: ended.append(1))
    with following(ScriptedSource(hanging)) as follower:
        follower.look()
        follower.provider.stop()
        assert ended == [1]
        assert follower.clock.getDelayedCalls() == []
        assert follower.said == []
        assert not follower.provider.state.failing


def test_a_look_that_cannot_be_ended_is_not_heard():
    hanging: Deferred = Deferred(lambda d: d.callback(specs("a")))
    with following(ScriptedSource(hanging)) as follower:
        follower.look()
        follower.provider.stop()
        assert follower.told == []
        assert follower.clock.getDelayedCalls() == []


@pytest.mark.parametrize("late", [False, True])
def test_whoever_is_told_may_stop_it(late):
    answer: Deferred = Deferred()
    with following(ScriptedSource(answer if late else specs("a"))) as follower:
        follower.take = lambda specs: follower.provider.stop()
        follower.look()
        if late:
            answer.callback(specs("a"))
        assert follower.told == [["a"]]
        assert follower.clock.getDelayedCalls() == []


def test_a_stop_closes_the_source_and_is_harmless_twice_and_before_the_start():
    source = ScriptedSource(specs("a"))
    follower = Follower(source)
    follower.provider.stop()
    follower.start()
    follower.look()
    follower.close()
    follower.provider.stop()
    assert source.closed == 3
    assert follower.clock.getDelayedCalls() == []


# How it is doing.


def test_the_state_says_when_it_last_went_well_and_what_went_wrong():
    with following(ScriptedSource(FULL, "down", FULL)) as follower:
        fresh = follower.provider.state
        assert (fresh.backends, fresh.age_s(START), fresh.failing, fresh.error) == (None, None, False, "")
        follower.look()
        good = follower.provider.state
        assert (good.backends, good.succeeded_at, good.failing) == (4, START, False)
        follower.look()
        now = follower.clock.seconds()
        bad = follower.provider.state
        assert (bad.backends, bad.error, bad.failed_at, bad.failing) == (4, "down", now, True)
        assert bad.age_s(now) == now - START
        follower.look()
        again = follower.provider.state
        assert (again.error, again.failing, again.age_s(follower.clock.seconds())) == ("down", False, 0)


def test_its_repr_says_how_it_stands():
    with following(ScriptedSource(FULL, [], "down")) as follower:
        assert repr(follower.provider) == "<Following the list: no list yet>"
        follower.look()
        assert repr(follower.provider) == "<Following the list: 4 backends>"
        follower.look()
        follower.look()
        assert repr(follower.provider) == "<Following the list: 4 backends, 0 of 4 backends left, down>"
