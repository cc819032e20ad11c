"""What probes say, and what traffic says."""

import pytest

from twisted_lb.core.ejection import LONGEST_S, Ejection
from twisted_lb.core.health import Health
from twisted_lb.core.never import NEVER


@pytest.mark.parametrize(
    ("results", "states"),
    [
        ("+", "u"),
        ("-", "d"),
        ("---", "ddd"),
        ("+--", "uuu"),
        ("+---", "uuud"),
        ("+--+--", "uuuuuu"),
        ("+--+---", "uuuuuud"),
        ("-+", "dd"),
        ("-++", "ddu"),
        ("-+-++", "ddddu"),
        ("+---+-++---", "uuuddddu" + "uud"),
    ],
)
def test_rise_2_and_fall_3(results, states):
    health = Health()
    seen = ""
    for result in results:
        before = health.up
        flipped = health.observe(result == "+", 2, 3)
        assert flipped == (before != health.up)
        seen += "u" if health.up else "d"
    assert seen == states


@pytest.mark.parametrize(("rise", "fall", "results", "states"), [(1, 1, "+-+-", "udud"), (3, 1, "+-+++-", "udddud")])
def test_rise_and_fall_are_counted_apart(rise, fall, results, states):
    health = Health()
    seen = ""
    for result in results:
        health.observe(result == "+", rise, fall)
        seen += "u" if health.up else "d"
    assert seen == states


def test_unknown_counts_as_up():
    assert Health().up
    assert not Health().known


@pytest.mark.parametrize(
    ("initially", "result", "news"),
    [(True, True, False), (True, False, True), (False, True, True), (False, False, True)],
)
def test_the_first_result_decides_alone_and_is_news_unless_all_is_as_well_as_it_was_taken_to_be(
    initially, result, news
):
    health = Health(up=initially)
    assert (health.up, health.known) == (initially, False)
    assert health.observe(result, 3, 3) is news
    assert (health.up, health.known) == (result, True)
    assert not health.observe(result, 3, 3)


@pytest.mark.parametrize(
    ("results", "since"),
    [
        ("s", 0.0), ("ss", 0.0), ("sss", 0.0), ("ssss", 1.0),
        ("+ss", None), ("+sss", 1.0), ("+ssss", 2.0), ("+s+sss", 3.0), ("+sss+sss", 5.0), ("+sss++", None), ("+sss++sss", 6.0),
        ("+sss+", None), ("+sss+ss", None), ("+sss+ssss", 6.0), ("+ssss+s+sss", 8.0), ("s+s", None), ("s+sss", 2.0),
        ("+aaa", None), ("+sas", None), ("+sssa", None), ("a", None), ("+", None),
    ],
)  # fmt: skip
def test_it_knows_since_when_it_gave_no_sign_of_life_for_as_many_probes_as_take_it_out(results, since):
    health = Health()
    for at, result in enumerate(results):
        health.observe(result == "+", 2, 3, silent=result == "s", asked_at=float(at))
    assert health.silent_since == (-NEVER if since is None else since)


def test_with_checks_it_ends_after_rise_good_ones_in_a_row():
    ejection = Ejection()
    assert ejection.eject(10.0, checked=True)
    assert ejection.until == NEVER
    assert [ejection.observe(passed, 2, 11.0) for passed in (True, False, True, True)] == [False, False, False, True]
    assert not ejection.active


def test_ejecting_what_is_ejected_says_nothing_new():
    ejection = Ejection()
    assert ejection.eject(10.0, checked=False)
    assert not ejection.eject(10.5, checked=False)
    assert ejection.until == 11.0


def test_without_checks_each_failed_trial_rests_twice_as_long():
    ejection = Ejection()
    ejection.eject(0.0, checked=False)
    rests = [ejection.until]
    for _ in range(6):
        now = ejection.until
        ejection.begin_trial(0.0)
        assert ejection.until == NEVER
        ejection.eject(now, checked=False, trial=True)
        rests.append(ejection.until - now)
    assert rests == [1, 2, 4, 8, 16, LONGEST_S, LONGEST_S]


def test_a_refusal_that_is_not_the_trials_changes_nothing():
    ejection = Ejection()
    ejection.eject(0.0, checked=False)
    ejection.begin_trial(0.0)
    assert not ejection.eject(1.5, checked=False)
    assert ejection.on_trial
    assert ejection.until == NEVER


def test_a_trial_that_told_nothing_is_repeated_at_once_and_an_answer_clears_everything():
    ejection = Ejection()
    ejection.eject(0.0, checked=False)
    ejection.begin_trial(0.0)
    assert not ejection.end_trial(5.0, listens=False, checked=False)
    assert ejection.active
    assert ejection.until == 5.0
    ejection.begin_trial(0.0)
    assert ejection.end_trial(6.0, listens=True, checked=False)
    assert not ejection.active
    ejection.eject(7.0, checked=False)
    assert ejection.until == 8.0


def test_a_failed_check_after_a_good_one_starts_the_count_again_and_the_next_ejection_too():
    ejection = Ejection()
    ejection.eject(0.0, checked=True)
    ejection.observe(True, 3, 1.0)
    ejection.observe(True, 3, 2.0)
    ejection.observe(False, 3, 3.0)
    assert [ejection.observe(True, 3, 4.0) for _ in range(3)] == [False, False, True]
    ejection.eject(5.0, checked=True)
    assert [ejection.observe(True, 3, 6.0) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("checked", [True, False])
def test_an_attempt_from_before_it_was_found_well_again_says_nothing(checked):
    ejection = Ejection()
    ejection.eject(0.0, checked=checked)
    if checked:
        ejection.observe(True, 1, 2.0)
    else:
        ejection.begin_trial(0.0)
        ejection.end_trial(2.0, listens=True, checked=checked)
    assert not ejection.eject(3.0, checked=checked, began_at=1.9)
    assert not ejection.active
    assert ejection.eject(3.0, checked=checked, began_at=2.0)


def test_who_is_not_probed_any_more_is_unknown_and_up():
    health = Health()
    assert not health.forget()
    health.observe(False, 2, 3)
    assert health.forget()
    assert (health.up, health.known) == (True, False)


def test_what_checks_were_to_end_ends_with_time_and_the_other_way_round():
    ejection = Ejection()
    ejection.eject(0.0, checked=True)
    ejection.follow(5.0, checked=False)
    assert ejection.until == 6.0
    ejection.follow(5.5, checked=True)
    assert ejection.until == NEVER


def test_a_trial_that_is_under_way_when_checks_begin_ends_as_it_would():
    ejection = Ejection()
    ejection.eject(0.0, checked=False)
    ejection.begin_trial(0.0)
    ejection.follow(1.5, checked=True)
    assert ejection.on_trial
    assert not ejection.end_trial(2.0, listens=False, checked=True)
    assert ejection.until == NEVER


def test_its_repr_shows_how_it_stands():
    ejection = Ejection()
    assert repr(ejection) == "<Ejection none>"
    ejection.eject(0.0, checked=False)
    assert repr(ejection) == "<Ejection active>"
    ejection.begin_trial(0.0)
    assert repr(ejection) == "<Ejection on trial>"
    health = Health()
    assert repr(health) == "<Health unknown, 0 against>"
    health.observe(True, 2, 3)
    health.observe(False, 2, 3)
    assert repr(health) == "<Health up, 1 against>"
