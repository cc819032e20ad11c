"""Histograms: what they say is held against a sort of the raw values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.histogram import (
    NOTHING,
    SLOTS,
    Histogram,
    Reading,
    edges,
    nearest_edge,
    slot_of,
    together,
    upper_edge,
)

EDGES = edges()
# From nothing to beyond the last edge, the edges themselves among them, and what is next to one.
near_edges = st.sampled_from(EDGES[:-1]).flatmap(
    lambda edge: st.sampled_from([edge, math.nextafter(edge, math.inf), math.nextafter(edge, 0.0)])
)
durations = st.floats(0.0, 2000.0) | near_edges | st.floats(0.0, 0.01)


def read(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram.reading()


@given(durations)
def test_a_duration_is_in_the_slot_whose_edges_are_around_it(seconds):
    slot = slot_of(seconds)
    assert seconds <= EDGES[slot]
    assert slot == 0 or seconds > EDGES[slot - 1]


def test_edges_ascend_from_a_microsecond_and_there_are_eight_for_each_factor_of_two():
    assert len(EDGES) == SLOTS == 225
    assert list(EDGES) == sorted(set(EDGES))
    assert EDGES[0] == 2**-20
    assert EDGES[-1] == math.inf
    assert EDGES[-2] == 1024.0
    assert all(EDGES[at + 8] == 2 * EDGES[at] for at in range(7, SLOTS - 9))


def test_no_slot_is_wider_than_an_eighth_of_its_lower_edge():
    assert all(EDGES[at] <= EDGES[at - 1] * 1.125 for at in range(8, SLOTS - 1))


@pytest.mark.parametrize("seconds", [-1.0, -0.0, 0.0, 1e-9])
def test_what_is_less_than_a_microsecond_is_in_the_first_slot(seconds):
    assert slot_of(seconds) == 0


@pytest.mark.parametrize("seconds", [1024.1, 1e9, math.inf])
def test_what_is_too_long_is_in_the_last_slot(seconds):
    assert slot_of(seconds) == SLOTS - 1
    assert upper_edge(SLOTS - 1) == math.inf


@given(st.lists(durations, max_size=60), st.sampled_from(EDGES))
def test_the_number_up_to_an_edge_is_exact(values, edge):
    assert read(values).up_to(edge) == sum(value <= edge for value in values)


@given(st.lists(durations, max_size=60), st.lists(st.sampled_from(EDGES), max_size=6, unique=True))
def test_buckets_are_exact(values, les):
    les.sort()
    assert read(values).buckets(les) == [sum(value <= le for value in values) for le in les]


def test_a_number_up_to_what_is_no_edge_is_not_told():
    with pytest.raises(ValueError, match=r"0\.3 s is no edge"):
        NOTHING.up_to(0.3)


@given(st.lists(durations, min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_a_quantile_is_that_of_the_sorted_values_and_at_most_an_eighth_above(values, q):
    true = sorted(values)[max(math.ceil(q * len(values)), 1) - 1]
    told = read(values).quantile(q)
    assert told == EDGES[slot_of(true)]
    assert true <= told
    assert told <= max(true * 1.125, 2**-20 * 8) or told == math.inf


def test_the_quantile_of_nothing_is_no_number():
    assert math.isnan(NOTHING.quantile(0.5))


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_is_asked_for_by_a_share(q):
    with pytest.raises(ValueError, match="no share"):
        NOTHING.quantile(q)


@given(st.lists(durations, max_size=30), st.lists(durations, max_size=30))
def test_readings_add_up_and_take_in_alike(one, other):
    both = read(one) + read(other)
    assert both.counts == read([*one, *other]).counts
    assert both.count == len(one) + len(other)
    grown = Histogram()
    for values in (one, other):
        more = Histogram()
        for value in values:
            more.add(value)
        grown.take_in(more)
    assert grown.reading() == both


@given(st.lists(st.lists(durations, max_size=30), max_size=4))
def test_many_together_are_the_sum_of_their_readings(all_values):
    histograms = [Histogram() for _ in all_values]
    for histogram, values in zip(histograms, all_values, strict=True):
        for value in values:
            histogram.add(value)
    found = together([None, *histograms, None])
    if found is None:
        assert not histograms
    else:
        assert tuple(found) == sum((one.reading() for one in histograms), NOTHING).counts
        found[0] += 1
        assert tuple(found) != sum((one.reading() for one in histograms), NOTHING).counts


@given(st.lists(durations, max_size=30), st.lists(durations, max_size=30))
def test_a_later_reading_less_an_earlier_one_is_the_window_between(before, within):
    histogram = Histogram()
    for value in before:
        histogram.add(value)
    earlier = histogram.reading()
    for value in within:
        histogram.add(value)
    window = histogram.reading() - earlier
    assert window.counts == read(within).counts
    assert window.total_s == pytest.approx(math.fsum(within))


def test_a_reading_stays_what_it_is():
    histogram = Histogram()
    earlier = histogram.reading()
    histogram.add(1.0)
    assert earlier == NOTHING
    assert hash(earlier) == hash(NOTHING)
    assert histogram.reading() != earlier
    assert repr(histogram.reading()) == "<Reading of 1>"
    assert repr(histogram) == "<Histogram of 1>"


@given(st.floats(1e-7, 1500.0))
def test_the_nearest_edge_is_the_nearest(seconds):
    edge = nearest_edge(seconds)
    assert edge in EDGES
    assert abs(edge - seconds) == min(abs(one - seconds) for one in EDGES)


def test_readings_of_different_sizes_do_not_add_up():
    with pytest.raises(ValueError, match="longer"):
        Reading((1,), 0.0) + Reading((1,) * SLOTS, 0.0)
