"""The budget of glitches of one HTTP/2 connection."""

from twisted_lb.core.glitches import FORGIVEN_PER_S, GLITCHES_MOST, PAID_MOST, Glitches


def test_a_burst_is_bounded_and_what_was_last_is_told():
    glitches = Glitches()
    spent = [glitches.note(2, "resets", 10.0) for _ in range(GLITCHES_MOST // 2 + 1)]
    assert spent == [*[False] * (GLITCHES_MOST // 2), True]
    assert glitches.note(1, "pings", 10.0)
    assert glitches.why == "pings"


def test_what_comes_now_and_then_is_forgiven_for_ever():
    glitches = Glitches()
    for number in range(100_000):
        assert not glitches.note(1, "pings", 10.0 + number / FORGIVEN_PER_S)
    assert glitches.count < 2


def test_time_forgives_no_more_than_there_was():
    glitches = Glitches()
    glitches.note(5, "resets", 10.0)
    assert not glitches.note(GLITCHES_MOST, "resets", 10_000.0)
    assert glitches.note(1, "resets", 10_000.0)


def test_a_request_that_ends_well_forgives_one_and_none_is_saved_up():
    glitches = Glitches()
    for _ in range(10):
        glitches.forgive()
    glitches.note(GLITCHES_MOST, "resets", 10.0)
    glitches.forgive()
    assert not glitches.note(1, "resets", 10.0)
    assert glitches.note(1, "resets", 10.0)


def test_a_request_that_ends_well_may_forgive_more_than_one_and_none_is_saved_up():
    glitches = Glitches()
    glitches.note(3, "resets", 10.0)
    glitches.forgive(4.0)
    assert not glitches.note(GLITCHES_MOST, "resets", 10.0)
    assert glitches.note(1, "resets", 10.0)


def test_what_answers_have_paid_for_costs_nothing_until_that_is_used_up():
    glitches = Glitches()
    glitches.paid = 10 * PAID_MOST
    for _ in range(PAID_MOST):
        assert not glitches.note_unless_paid(1, "windows", 10.0)
    assert glitches.count == 0
    assert not glitches.note_unless_paid(1, "windows", 10.0)
    assert repr(glitches) == "<Glitches 1, 0 paid>"
