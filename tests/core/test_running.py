"""What runs at once for each key."""

import pytest

from twisted_lb.core.running import Running


def test_a_key_may_have_so_many_at_a_time():
    running = Running(2)
    assert [running.claim("a") for _ in range(4)] == [True, True, False, False]
    assert (running.of("a"), running.refused) == (2, 2)
    running.release("a")
    assert [running.claim("a") for _ in range(2)] == [True, False]


def test_keys_do_not_share():
    running = Running(1)
    assert [running.claim(key) for key in ("a", "b", "a", "b")] == [True, True, False, False]
    running.release("a")
    assert [running.claim(key) for key in ("b", "a")] == [False, True]


def test_to_ask_whether_a_key_is_full_counts_nothing():
    running = Running(1)
    assert not running.full("a")
    running.claim("a")
    assert running.full("a")
    assert not running.full("b")
    assert (running.of("a"), running.refused) == (1, 0)


def test_the_table_holds_just_those_for_whom_something_runs():
    running = Running(3)
    for _ in range(3):
        for number in range(1000):
            assert running.claim(f"key {number}")
    assert repr(running) == "<Running 3000 of 1000 keys, 3 for each>"
    for _ in range(3):
        for number in range(1000):
            running.release(f"key {number}")
    assert (len(running), repr(running)) == (0, "<Running 0 of 0 keys, 3 for each>")


def test_who_is_refused_leaves_nothing_in_the_table():
    running = Running(0)
    assert not running.claim("a")
    assert len(running) == 0


def test_an_empty_key_is_never_limited_and_never_counted():
    running = Running(1)
    assert [running.claim("") for _ in range(3)] == [True] * 3
    assert not running.full("")
    running.release("")
    assert (len(running), running.refused) == (0, 0)


def test_another_bound_holds_for_what_comes_and_ends_nothing_that_runs():
    running = Running(3)
    for _ in range(3):
        running.claim("a")
    running.most = 1
    assert not running.claim("a")
    for _ in range(3):
        assert running.full("a")
        running.release("a")
    assert running.claim("a")
    running.most = 2
    assert running.claim("a")


def test_what_was_never_granted_cannot_be_given_back():
    running = Running(1)
    running.claim("a")
    running.release("a")
    with pytest.raises(KeyError):
        running.release("a")
