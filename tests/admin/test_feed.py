"""The feed of the page: all of it once, and then what changes; made once for everybody, and not at all for nobody."""

import json
from dataclasses import replace

import pytest
from watched import EPOCH, Site, Watched, backend, pool

from twisted_lb.admin.operator import ListenerView, WorkerView


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def site(watched):
    site = Site(watched)
    yield site
    site.close()


def test_whoever_looks_is_told_all_and_then_what_changes(watched, site):
    look = site.look()
    ((kind, first),) = look.told()
    assert kind == "snapshot"
    assert first["status"]["pools"][0]["backends"][0]["name"] == "app/b1"
    assert first["scope"] == "read"
    watched.down()
    watched.clock.advance(1)
    ((kind, delta),) = look.told()
    assert kind == "delta"
    assert delta["backends"]["app/b1"] == {
        "usable": False,
        "up": False,
        "state": "down",
        "reason": "check: refused",
        "weight_effective": 0.0,
    }
    assert "app/b2" not in delta["backends"]
    assert delta["pools"] == {"app": {"usable": 1}}
    assert delta["status"]["verdict"]["clauses"][0]["is"] == "is down"


def test_a_second_in_which_nothing_happens_tells_little_of_200_backends(watched, site):
    watched.pools = [pool(*(backend(f"b{n}") for n in range(200)))]
    look = site.look()
    look.told()
    watched.clock.advance(1)
    ((_, delta),) = look.told()
    assert delta["backends"] == {}
    assert delta["pools"] == {}
    assert set(delta["status"]) == {"now"}


def test_workers_are_told_when_one_of_them_is_another_one_or_counts_and_not_since_time_goes_on(watched, site):
    watched.workers = [WorkerView(0, 7, "serves", 5.0, 1, 0, 3), WorkerView(1, 0, "waits", 0.0, 0, 0, 0, 0)]
    look = site.look()
    ((_, first),) = look.told()
    assert [one["since"] for one in first["status"]["workers"]] == [EPOCH - 5.0, None]
    watched.clock.advance(1)
    ((_, delta),) = look.told()
    assert set(delta["status"]) == {"now"}
    watched.workers[1] = WorkerView(1, 8, "serves", -1.0, 0, 0, 0)
    watched.clock.advance(1)
    ((_, delta),) = look.told()
    assert [(one["pid"], one["state"], one["since"]) for one in delta["status"]["workers"]] == [
        (7, "serves", EPOCH - 5.0),
        (8, "serves", EPOCH + 1.0),
    ]


def test_another_backend_or_pool_is_told_as_a_whole(watched, site):
    look = site.look()
    look.told()
    watched.pools.append(pool(backend("s1", "static"), name="static"))
    watched.clock.advance(1)
    ((kind, value),) = look.told()
    assert kind == "snapshot"
    assert [one["name"] for one in value["status"]["pools"]] == ["app", "static"]


def test_another_listener_is_told_as_a_whole(watched, site):
    look = site.look()
    look.told()
    snapshot = watched.snapshot
    watched.snapshot = lambda: replace(snapshot(), listeners=[ListenerView("other", ["[::]:80"], 0, 1, 0, None)])
    watched.clock.advance(1)
    assert [kind for kind, _ in look.told()] == ["snapshot"]


def test_what_happens_is_told_once_with_its_mark(watched, site):
    watched.happen("up", "app/b2", "early")
    look = site.look()
    assert [one["text"] for one in look.told()[0][1]["events"]] == ["early"]
    watched.happen("admin", "app/b1", "drain", "alice")
    watched.clock.advance(1)
    ((_, delta),) = look.told()
    assert [(one["kind"], one["actor"]) for one in delta["events"]] == [("admin", "alice")]
    assert [(one["glyph"], one["text"]) for one in delta["marks"]] == [("drain", "drain app/b1")]
    watched.clock.advance(1)
    assert "events" not in look.told()[0][1]


def test_the_configuration_is_told_again_only_when_it_is_another_one(watched, site):
    look = site.look()
    assert look.told()[0][1]["config"][0]["key"] == "pools.app.policy"
    watched.clock.advance(1)
    assert "config" not in look.told()[0][1]
    watched.generation = 2
    watched.values = [replace(watched.values[0], value="rand")]
    watched.clock.advance(1)
    assert look.told()[0][1]["config"][0]["value"] == "rand"


def test_nobody_who_looks_costs_no_snapshot_and_many_cost_one_each_second(watched, site):
    watched.clock.advance(10)
    assert watched.asked == 0
    looks = [site.look() for _ in range(5)]
    before = watched.asked
    watched.clock.advance(10)
    assert watched.asked - before == 10
    told = [look.told()[-10:] for look in looks]
    assert all(one == told[0] for one in told)
    for look in looks:
        look.leave()
    before = watched.asked
    watched.clock.advance(10)
    assert watched.asked == before
    assert site.feed.viewers == 0


def test_who_comes_later_begins_with_what_the_next_change_is_a_change_of(watched, site):
    first = site.look()
    first.told()
    watched.down()  # nobody was told of it yet
    second = site.look()
    ((_, whole),) = second.told()
    assert whole["status"]["pools"][0]["backends"][0]["state"] == "ready"
    watched.clock.advance(1)
    assert first.told() == second.told()


def test_no_second_of_the_charts_is_left_out_however_late_a_turn_is(watched, site):
    watched.levels = {"in_flight": 1}
    watched.clock.advance(2.7)
    look = site.look()
    first = look.told()[0][1]["history"]
    values = {round(first["start"] + n): value for n, value in enumerate(first["series"]["in_flight"])}
    for passed in (1.0, 0.2, 3.4, 1.0, 0.9, 0.1):
        watched.clock.advance(passed)
        for _, delta in look.told():
            start = delta["history"]["start"]
            values |= {round(start + n): value for n, value in enumerate(delta["history"]["series"]["in_flight"])}
    known = [second for second, value in sorted(values.items()) if value is not None]
    assert known == list(range(known[0], known[0] + len(known)))
    assert len(known) >= 9


def test_at_most_twenty_look(watched, site):
    looks = [site.look() for _ in range(20)]
    assert all(look.told()[0][0] == "snapshot" for look in looks)
    status, _, body = site.ask("/v1/stream", Accept="text/event-stream")
    assert status == 503
    assert json.loads(body)["code"] == "too_many"
    looks[3].leave()
    assert site.look().told()[0][0] == "snapshot"


def test_who_does_not_read_is_cut(watched, site):
    look = site.look()
    look.transport.unsent = 2 << 20
    watched.clock.advance(2)
    assert look.transport.disconnecting


def test_a_balancer_that_stops_is_no_bug(watched, site):
    look = site.look()
    look.told()
    watched.stopped = True
    watched.clock.advance(2)
    assert look.told() == []


def test_a_feed_that_fails_cuts_whoever_looks_and_whoever_comes_is_told_all(watched, site, logged_errors, monkeypatch):
    look = site.look()
    look.told()

    def blow_up():
        raise ZeroDivisionError

    monkeypatch.setattr(watched, "snapshot", blow_up)
    watched.clock.advance(1)
    assert look.transport.disconnecting
    look.leave()
    monkeypatch.undo()
    again = site.look()
    assert [kind for kind, _ in again.told()] == ["snapshot"]
    watched.clock.advance(1)
    assert [kind for kind, _ in again.told()] == ["delta"]
    assert [one["log_format"] for one in logged_errors.take()] == ["the feed of the page failed, a bug"]


def test_a_first_look_at_a_balancer_that_stops_is_refused(watched, site):
    watched.stopped = True
    status, _, body = site.ask("/v1/stream", Accept="text/event-stream")
    assert (status, json.loads(body)["code"]) == (503, "stopping")


def test_without_a_stream_it_is_one_answer(site):
    status, fields, body = site.ask("/v1/stream")
    assert (status, fields["content-type"]) == (200, "application/json")
    assert json.loads(body)["status"]["name"] == "edge-1"


def test_the_history_is_asked_for_by_its_length(watched, site):
    watched.clock.advance(3)
    assert len(json.loads(site.ask("/v1/history?window=60")[2])["series"]["in_flight"]) == 60
    assert len(json.loads(site.ask("/v1/history")[2])["series"]["in_flight"]) == 900
    assert json.loads(site.ask("/v1/history?window=21600")[2])["step_s"] == 10
    assert len(json.loads(site.ask("/v1/history?window=99999")[2])["series"]["in_flight"]) == 2160


@pytest.mark.parametrize("window", ["0", "-1", "x", "", "1.5", "1000000"])
def test_a_wrong_length_is_refused_in_a_line(site, window):
    status, _, body = site.ask(f"/v1/history?window={window}")
    assert status == 422
    assert "window" in json.loads(body)["detail"]
