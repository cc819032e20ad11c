"""The history of the charts, on virtual time: its arithmetic, its bound, its gaps, its marks."""

import pytest
from watched import EPOCH, Watched

from twisted_lb.admin.chart_history import FINE_S, LONG_S, MOST_MARKS, MOST_SERIES, SPARK, ChartHistory, Series


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def history(watched):
    history = ChartHistory(watched, watched.clock, watched.wall)
    history.begin()
    yield history
    history.end()


def test_a_count_becomes_a_rate_and_a_level_stays_what_it_is(watched, history):
    watched.counts, watched.levels = {("ok", "b1"): 100, ("ok", "b2"): 50}, {"in_flight": 3}
    watched.clock.advance(1)
    watched.counts, watched.levels = {("ok", "b1"): 107, ("ok", "b2"): 53}, {"in_flight": 5}
    watched.clock.advance(1)
    assert history.window(2)["series"] == {"ok": [0, 10], "in_flight": [3, 5]}
    assert history.after(history.last - 1) == {"start": EPOCH + 2, "series": {"ok": [10], "in_flight": [5]}}
    assert history.after(history.last)["series"] == {"ok": [], "in_flight": []}


def test_who_has_come_just_now_is_counted_from_now_on(watched, history):
    watched.counts = {("ok", "b1"): 10}
    watched.clock.advance(1)
    watched.counts = {("ok", "b1"): 12, ("ok", "b2"): 1000}
    watched.clock.advance(1)
    watched.counts = {("ok", "b1"): 12, ("ok", "b2"): 1005}
    watched.clock.advance(1)
    assert history.window(2)["series"]["ok"] == [2, 5]


def test_a_count_that_begins_anew_or_goes_makes_no_rate_negative(watched, history):
    watched.counts = {("ok", "b1"): 10, ("ok", "b2"): 7}
    watched.clock.advance(1)
    watched.counts = {("ok", "b1"): 2}
    watched.clock.advance(1)
    assert history.window(1)["series"]["ok"] == [0]


@pytest.mark.parametrize("phase", [0.0, 0.001, 0.5, 0.999])
def test_samples_that_tremble_leave_no_second_out(watched, phase):
    watched.clock.advance(phase)
    history = ChartHistory(watched, watched.clock, watched.wall)
    history.begin()
    history._sampling.stop()
    for late in (0.99, 1.02, 1.0, 0.97, 1.02) * 4:  # each later or earlier than a second by a little
        watched.clock.advance(late)
        history.sample()
    assert history.window(20)["series"]["in_flight"] == [0.0] * 20
    watched.hearing.clear()


def test_seconds_that_a_busy_loop_left_out_had_the_same_rate_and_no_known_level(watched, history):
    watched.counts, watched.levels = {("ok", "b1"): 0}, {"in_flight": 1}
    watched.clock.advance(1)
    history._sampling.stop()
    watched.clock.advance(4)
    watched.counts, watched.levels = {("ok", "b1"): 40}, {"in_flight": 9}
    history.sample()
    history._sampling.start(1.0)
    assert history.window(5)["series"] == {"ok": [0, 10, 10, 10, 10], "in_flight": [1, None, None, None, 9]}


def test_ten_seconds_are_the_mean_of_rates_and_the_worst_of_latencies(watched, history):
    watched.counts = {("ok", "b1"): 0}
    watched.clock.advance(10 - watched.clock.seconds() % 10)
    for n in range(1, 21):
        watched.counts = {("ok", "b1"): watched.counts["ok", "b1"] + n}
        watched.latencies = {"total.p99": float(n)}
        watched.clock.advance(1)
    watched.clock.advance(10)
    series = history.window(1000)["series"]
    assert series["total.p99"][-3:] == [9.0, 19.0, 20.0]
    assert series["ok"][-3:-1] == [4.5, 14.5]


def test_a_window_says_when_it_begins_by_the_wall_clock(watched, history):
    watched.clock.advance(30)
    found = history.window(10)
    assert found["step_s"] == 1
    assert found["start"] == EPOCH + 21
    assert all(len(values) == 10 for values in found["series"].values())
    long = history.window(3600)
    assert long["step_s"] == 10
    assert (long["start"] - EPOCH) % 10 == 0
    assert all(len(values) == 360 for values in long["series"].values())


def test_what_was_before_the_start_is_not_known(watched, history):
    watched.clock.advance(2)
    assert history.window(5)["series"]["in_flight"] == [None, None, 0, 0, 0]


def test_the_oldest_second_is_a_quarter_of_an_hour_old(watched, history):
    watched.levels = {"in_flight": 1}
    watched.clock.advance(FINE_S)
    watched.levels = {"in_flight": 2}
    watched.clock.advance(FINE_S)
    assert history.window(FINE_S)["series"]["in_flight"] == [2.0] * FINE_S


def test_what_is_not_known_any_more_is_not_what_it_was_a_quarter_of_an_hour_ago(watched, history):
    watched.levels, watched.latencies = {"in_flight": 1, "queued": 5}, {"total.p99": 7.0}
    watched.clock.advance(10)
    watched.levels, watched.latencies = {"in_flight": 2}, {}
    watched.clock.advance(FINE_S)
    series = history.window(FINE_S)["series"]
    assert series["in_flight"] == [2] * FINE_S
    assert set(series["queued"]) == set(series["total.p99"]) == {None}


def test_after_a_longer_stop_the_history_begins_anew(watched, history):
    watched.levels = {"in_flight": 1}
    watched.clock.advance(5)
    history._sampling.stop()
    watched.clock.advance(FINE_S + 5)
    history.sample()
    history._sampling.start(1.0)
    assert history.window(FINE_S)["series"]["in_flight"].count(1.0) == 1


def test_memory_is_the_same_after_a_day_and_with_any_number_of_backends(watched, history):
    watched.clock.advance(5)
    before = [one.size_bytes for one in history._series.values()]
    for hour in range(24):
        watched.counts = {("ok", f"{hour}.{n}"): n for n in range(200)}
        watched.clock.advance(60)
        history._sampling.stop()
        watched.clock.advance(3540)
        history._sampling.start(1.0)
    assert set(history._series) == {"ok", "in_flight"}
    assert {one.size_bytes for one in history._series.values()} == set(before)
    assert before[0] == (FINE_S + LONG_S // 10) * 8


def test_series_have_a_bound(watched, history):
    watched.levels = {f"level {n}": n for n in range(2 * MOST_SERIES)}
    watched.clock.advance(1)
    assert len(history._series) == MOST_SERIES


def test_what_nobody_knows_is_no_series(watched, history):
    watched.latencies = {"total.p99": None}
    watched.clock.advance(3)
    assert "total.p99" not in history.window(60)["series"]


def test_marks_are_what_happens_and_what_had_happened_before(watched):
    watched.happen("ejected", "app/b1", "5 failures")
    history = ChartHistory(watched, watched.clock, watched.wall)
    history.begin()
    watched.happen("reload", "", "generation 2: + route /a")
    watched.happen("admin", "app/b2", "drain")
    watched.happen("up", "app/b1", "2 checks passed")
    watched.happen("admin", "app/b2", "ready")
    history.end()
    watched.happen("down", "app/b1", "refused")
    assert [(one["glyph"], one["text"]) for one in history.marks()] == [
        ("ejected", "ejected app/b1"),
        ("reload", "reload generation 2"),
        ("drain", "drain app/b2"),
        ("ready", "ready app/b2"),
    ]


def test_marks_are_bounded_and_those_of_the_window(watched, history):
    for _ in range(2 * MOST_MARKS):
        watched.happen("down", "app/b1")
    watched.clock.advance(100)
    watched.happen("down", "app/b2")
    assert len(history.marks()) == MOST_MARKS
    assert [one["text"] for one in history.window(10)["marks"]] == ["down app/b2"]


def test_each_backend_has_its_last_minute_and_one_that_is_gone_has_none(watched, history):
    watched.backend_p99 = {"app/b1": 5.0, "app/b2": None}
    watched.clock.advance(2 * SPARK)
    assert history.sparks() == {"app/b1": [5.0] * SPARK, "app/b2": [None] * SPARK}
    watched.backend_p99 = {"app/b2": 7.0}
    watched.clock.advance(1)
    assert list(history.sparks()) == ["app/b2"]
    assert history.sparks()["app/b2"][-2:] == [None, 7.0]


def test_a_balancer_that_stops_ends_no_history_with_a_bug(watched, history):
    watched.stopped = True
    watched.clock.advance(3)
    assert history._sampling.running


def test_a_series_of_nothing_has_no_mean():
    series = Series(worst=False)
    series.gather(3)
    assert series.at_step(3) != series.at_step(3)
