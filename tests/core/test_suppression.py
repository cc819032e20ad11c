"""What of many alike is said."""

from twisted_lb.core.never import NEVER
from twisted_lb.core.suppression import Suppression


def test_the_first_is_said_and_those_soon_after_it_are_counted():
    suppression = Suppression(1.0)
    noted = [suppression.note("refused", number, 10.0 + number / 10) for number in range(10)]
    assert noted == [0, *[None] * 9]
    assert suppression.note("refused", 10, 11.0) == 9
    assert suppression.note("refused", 11, 11.5) is None


def test_each_key_is_said_by_itself():
    suppression = Suppression(1.0)
    assert [suppression.note(key, None, 10.0) for key in ("a", "b", "a")] == [0, 0, None]


def test_what_is_left_out_in_the_end_is_said_when_its_time_has_come():
    suppression = Suppression(1.0)
    for number in range(4):
        suppression.note("refused", number, 10.0 + number / 10)
    assert suppression.due(10.9) == []
    assert suppression.due(11.0) == [("refused", 3, 2)]
    assert suppression.note("refused", 4, 11.5) is None, "it was said half a second ago"
    assert suppression.due(12.0) == [("refused", 4, 0)]
    assert suppression.due(13.0) == []


def test_nothing_is_remembered_of_what_is_quiet():
    suppression = Suppression(1.0)
    for key in range(100):
        suppression.note(key, None, 10.0)
    assert repr(suppression) == "<Suppression of 100 keys>"
    assert suppression.due(11.0) == []
    assert repr(suppression) == "<Suppression of 0 keys>"
    assert suppression.note(1, None, 11.1) == 0


def test_at_the_end_everything_is_said_and_then_it_begins_anew():
    suppression = Suppression(1.0)
    for number in range(3):
        suppression.note("refused", number, 10.0)
    assert suppression.due(NEVER) == [("refused", 2, 1)]
    assert suppression.note("refused", 3, 10.1) == 0
