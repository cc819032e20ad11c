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
    health = Health(2, 3)
    seen = ""
    for result in results:
        before = health.up
        flipped = health.observe(result == "+")
        assert flipped == (before != health.up)
        seen += "u" if health.up else "d"
    assert seen == states


@pytest.mark.parametrize(("rise", "fall", "results", "states"), [(1, 1, "+-+-", "udud"), (3, 1, "+-+++-", "udddud")])
def test_rise_and_fall_are_counted_apart(rise, fall, results, states):
    health = Health(rise, fall)
    seen = ""
    for result in results:
        health.observe(result == "+")
        seen += "u" if health.up else "d"
    assert seen == states


def test_unknown_counts_as_up():
    assert Health(2, 3).up
    assert not Health(2, 3).known


def test_with_checks_it_ends_after_rise_good_ones_in_a_row():
    ejection = Ejection(2, checked=True)
    assert ejection.eject(10.0)
    assert ejection.until == NEVER
    assert [ejection.observe(passed, 11.0) for passed in (True, False, True, True)] == [False, False, False, True]
    assert not ejection.active


def test_ejecting_what_is_ejected_says_nothing_new():
    ejection = Ejection(2, checked=False)
    assert ejection.eject(10.0)
    assert not ejection.eject(10.5)
    assert ejection.until == 11.0


def test_without_checks_each_failed_trial_rests_twice_as_long():
    ejection = Ejection(2, checked=False)
    ejection.eject(0.0)
    rests = [ejection.until]
    for _ in range(6):
        now = ejection.until
        ejection.begin_trial()
        assert ejection.until == NEVER
        ejection.eject(now, trial=True)
        rests.append(ejection.until - now)
    assert rests == [1, 2, 4, 8, 16, LONGEST_S, LONGEST_S]


def test_a_refusal_that_is_not_the_trials_changes_nothing():
    ejection = Ejection(2, checked=False)
    ejection.eject(0.0)
    ejection.begin_trial()
    assert not ejection.eject(1.5)
    assert ejection.on_trial
    assert ejection.until == NEVER


def test_a_trial_that_told_nothing_is_repeated_at_once_and_an_answer_clears_everything():
    ejection = Ejection(2, checked=False)
    ejection.eject(0.0)
    ejection.begin_trial()
    assert not ejection.end_trial(5.0, listens=False)
    assert ejection.active
    assert ejection.until == 5.0
    ejection.begin_trial()
    assert ejection.end_trial(6.0, listens=True)
    assert not ejection.active
    ejection.eject(7.0)
    assert ejection.until == 8.0


def test_without_checks_a_probe_result_means_nothing():
    ejection = Ejection(1, checked=False)
    ejection.eject(0.0)
    assert not ejection.observe(True, 1.0)
    assert ejection.active


def test_a_failed_check_after_a_good_one_starts_the_count_again_and_the_next_ejection_too():
    ejection = Ejection(3, checked=True)
    ejection.eject(0.0)
    ejection.observe(True, 1.0)
    ejection.observe(True, 2.0)
    ejection.observe(False, 3.0)
    assert [ejection.observe(True, 4.0) for _ in range(3)] == [False, False, True]
    ejection.eject(5.0)
    assert [ejection.observe(True, 6.0) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("checked", [True, False])
def test_an_attempt_from_before_it_was_found_well_again_says_nothing(checked):
    ejection = Ejection(1, checked=checked)
    ejection.eject(0.0)
    if checked:
        ejection.observe(True, 2.0)
    else:
        ejection.begin_trial()
        ejection.end_trial(2.0, listens=True)
    assert not ejection.eject(3.0, began_at=1.9)
    assert not ejection.active
    assert ejection.eject(3.0, began_at=2.0)


def test_its_repr_shows_how_it_stands():
    ejection = Ejection(1, checked=False)
    assert repr(ejection) == "<Ejection none>"
    ejection.eject(0.0)
    assert repr(ejection) == "<Ejection active>"
    ejection.begin_trial()
    assert repr(ejection) == "<Ejection on trial>"
    health = Health(2, 3)
    assert repr(health) == "<Health unknown, 0 against>"
    health.observe(True)
    health.observe(False)
    assert repr(health) == "<Health up, 1 against>"
