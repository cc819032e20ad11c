"""Which lists are believed at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.discovery.caution import Caution


def run(sizes: list[int], **rules) -> list[int]:
    """How many backends there are after each look."""
    caution = Caution(**{"allow_empty": False, "max_shrink": 0.5, **rules})
    before, found = 0, []
    for size in sizes:
        if caution.admits(before, size):
            before = size
        found.append(before)
    return found


@pytest.mark.parametrize(
    ("seen", "taken"),
    [
        ([10, 5, 20, 10, 8], [10, 5, 20, 10, 8]),
        ([10, 4, 4], [10, 10, 4]),
        ([10, 4, 10, 4], [10, 10, 10, 10]),
        ([10, 0, 0], [10, 10, 0]),
        ([1, 0, 1, 0, 0], [1, 1, 1, 1, 0]),
        ([0, 0, 3], [0, 0, 3]),
        # Beside the list that waits the next one is a sudden one too: it needs another look of its own.
        ([100, 40, 10, 10], [100, 100, 100, 10]),
        ([100, 40, 0, 0], [100, 100, 100, 0]),
        ([100, 10, 40], [100, 100, 40]),
    ],
)
def test_a_list_that_shrinks_by_more_than_half_has_to_be_seen_twice(seen, taken):
    assert run(seen) == taken


def test_an_empty_list_may_be_believed_at_once_whatever_it_was_before():
    assert run([10, 0], allow_empty=True) == [10, 0]
    assert run([10, 1], allow_empty=True) == [10, 10]


@pytest.mark.parametrize(("share", "least"), [(0.0, 10), (0.3, 7), (0.5, 5), (0.9, 1)])
def test_the_share_that_may_go_at_once_is_a_bound_that_may_be_reached(share, least):
    assert run([10, least], max_shrink=share) == [10, least]
    assert run([10, least - 1], max_shrink=share) == [10, 10]


def test_where_all_may_go_at_once_only_an_empty_list_waits():
    assert run([10, 1], max_shrink=1.0) == [10, 1]
    assert run([10, 0, 0], max_shrink=1.0) == [10, 10, 0]


@given(st.lists(st.integers(0, 20), min_size=2), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_nothing_shrinks_suddenly_that_was_not_short_a_look_before_too(seen, share):
    kept = run(seen, max_shrink=share)
    for index in range(1, len(seen)):
        before, now = kept[index - 1], kept[index]
        assert now in (before, seen[index])
        if before - now > share * before:
            assert seen[index - 1] < before
            assert kept[index - 2] == before, "the look before changed nothing"
        if seen[index] >= before:
            assert now == seen[index], "what grows is taken at once"
