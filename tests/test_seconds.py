"""What the charts show of each second: who answered how many, bytes, and quantiles of the phases and of each backend."""

import dataclasses

import pytest
from house import GET, House

from twisted_lb.operating.seconds import Seconds
from twisted_lb.testing import CLOSE, Wait, response

POST = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd"


@pytest.fixture
def house(build):
    return build


def full_at_one(lb: House) -> None:
    settings = dataclasses.replace(
        lb.pool.settings, max_in_flight=1, max_queued=9, queue_timeout_s=5.0, no_backend_s=5.0
    )
    lb.pool.configure(settings, lb.clock.seconds())


def counted(sample):
    return {name: count for (name, _), count in sample.counts.items() if count}


def test_requests_are_counted_by_who_answered_and_bytes_by_their_way(house):
    routes = [
        {"path": "/old", "redirect": {"to": "https://x.example/"}},
        {"path": "/never", "deny": True},
        {"pool": "default"},
    ]
    lb = house("a:80", routes=routes)
    answers = [response(b"12345"), response(status=304), response(b"no", 404), response(b"bad", 500), response()]
    lb.backend("a:80", answers)
    seconds = Seconds()
    seconds.sample(lb.plane)
    client = lb.client()
    for request in (GET, GET, GET, GET, POST):
        lb.ask(request, client)
    for path in (b"/old", b"/never"):
        lb.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
    found = counted(seconds.sample(lb.plane))
    down = found.pop("bytes_out")
    assert found == {"ok": 3, "c4": 1, "c5": 1, "own": 1, "own_ok": 1, "bytes_in": 4}
    assert down > len(b"12345ok\nnobadok\n")


def test_an_answer_of_ours_for_a_backend_that_fails_is_an_error_of_ours(house):
    lb = house("a:80", retry={"more_attempts": 0})
    lb.backend("a:80", [CLOSE])
    seconds = Seconds()
    lb.ask(GET)
    assert counted(seconds.sample(lb.plane)).keys() == {"own", "bytes_out"}


def test_no_sum_goes_down_when_routes_and_backends_go(house):
    lb = house("a:80", routes=[{"name": "one", "path": "/1", "pool": "default"}, {"name": "two", "pool": "default"}])
    lb.backend("a:80")
    lb.backend("b:80")
    seconds = Seconds()
    lb.ask(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
    lb.ask(GET)
    assert counted(seconds.sample(lb.plane))["ok"] == 2
    lb.apply(routes=[{"name": "three", "pool": "default"}], backends=["b:80"])
    assert counted(seconds.sample(lb.plane))["ok"] == 2
    lb.ask(GET)
    after = seconds.sample(lb.plane)
    assert (counted(after)["ok"], list(after.backend_p99_ms)) == (3, ["default/b:80"])


def test_quantiles_are_those_of_the_second_just_gone(house):
    lb = house("a:80")
    lb.backend("a:80", [[Wait(0.01), response()]] * 3 + [[Wait(0.5), response()]])
    seconds = Seconds()
    assert seconds.sample(lb.plane).latencies_ms == {}
    client = lb.client()
    for _ in range(3):
        lb.ask(GET, client)
        lb.wait(0.2)
    first = seconds.sample(lb.plane)
    assert first.latencies_ms["total.p50"] == pytest.approx(10, rel=0.125)
    assert first.latencies_ms["total.p99"] == pytest.approx(10, rel=0.125)
    assert first.backend_p99_ms == {"default/a:80": first.latencies_ms["total.p99"]}
    lb.ask(GET, client)
    lb.wait(1.0)
    then = seconds.sample(lb.plane)
    assert then.latencies_ms["total.p50"] == pytest.approx(500, rel=0.125)
    assert then.latencies_ms["first_byte.p90"] == then.latencies_ms["total.p90"]
    assert then.backend_p99_ms["default/a:80"] == pytest.approx(500, rel=0.125)
    silent = seconds.sample(lb.plane)
    assert set(silent.latencies_ms.values()) == set(silent.backend_p99_ms.values()) == {None}
    assert len(silent.latencies_ms) == 12


def test_phases_are_told_apart(house):
    lb = house("a:80")
    full_at_one(lb)
    lb.backend("a:80", [[Wait(0.02), response()[:-1], Wait(0.3), b"\n"]] * 2)
    seconds = Seconds()
    seconds.sample(lb.plane)
    lb.ask(GET)
    lb.ask(GET)
    lb.wait(4.0)
    found = seconds.sample(lb.plane).latencies_ms
    assert found["connect.p99"] == 0.001  # in memory it takes no time
    assert found["first_byte.p99"] == pytest.approx(20, rel=0.125)
    assert found["queue.p99"] == pytest.approx(320, rel=0.125)
    assert found["total.p99"] == pytest.approx(640, rel=0.125)


def test_what_runs_and_waits_is_there_now(house):
    lb = house("a:80")
    full_at_one(lb)
    lb.backend("a:80", [[Wait(1.0), response()]] * 2)
    lb.ask(GET)
    lb.ask(GET)
    levels = Seconds().sample(lb.plane).levels
    assert (levels["in_flight"], levels["queued"], levels["in_flight_limit"], levels["connections"]) == (1, 1, 1, 2)
    lb.wait(4.0)


def test_who_has_no_bound_has_no_limit(house):
    assert "in_flight_limit" not in Seconds().sample(house("a:80").plane).levels


def test_a_backend_that_was_idle_is_measured_when_it_answers_again(house):
    lb = house("a:80", "b:80")
    for name in ("a:80", "b:80"):
        lb.backend(name, [[Wait(0.1), response()]] * 3)
    seconds = Seconds()
    seconds.sample(lb.plane)
    client = lb.client()
    seen = []
    for asks in (2, 0, 1, 1):
        for _ in range(asks):
            lb.ask(GET, client)
            lb.wait(0.5)
        seen.append([value is not None for value in seconds.sample(lb.plane).backend_p99_ms.values()])
    assert seen == [[True, True], [False, False], [True, False], [False, True]]
