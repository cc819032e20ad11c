"""The access log at work: whose requests are in it, which of them, and what a reload changes."""

import json

import pytest
from house import GET, House

from twisted_lb.plan_diff import diff_of
from twisted_lb.testing import CLOSE, RESET, Wait, response

PATH = {"file": "stdout", "format": "{path}"}


def at(path: str) -> bytes:
    return GET.replace(b"GET /", b"GET /" + path.encode())


def paths(house: House) -> list[str]:
    return [line.decode().strip() for line in house.balanced.log_lines]


def test_without_a_file_there_is_none_and_a_plain_request_has_no_record():
    house = House()
    house.plane._given = ()
    house.apply(retry={"more_attempts": 1})
    assert not house.frontend.observers.watching
    assert house.plane.access_log.observer(True) is None
    house.close()


def test_a_listener_may_have_none_and_then_nobody_watches_there(build):
    house = build(listen={"port": 8080}, listeners={"web": {"address": ":80", "log": False}}, log=PATH)
    house.open("web", "lb:80")
    house.backend()
    house.ask(at("one"))
    house.ask(at("two"), house.client("lb:80"))
    assert paths(house) == ["/one"]
    assert len(house.plane.frontends["web"].observers.of_all) == len(house.frontend.observers.of_all) - 1


def test_a_listener_may_have_a_form_of_its_own(build):
    house = build(listen={"port": 8080}, listeners={"web": {"address": ":80", "log": "json"}}, log=PATH)
    house.open("web", "lb:80")
    house.backend()
    house.ask(at("one"))
    house.ask(at("two"), house.client("lb:80"))
    assert paths(house)[0] == "/one"
    assert json.loads(house.balanced.log_lines[1])["url.path"] == "/two"


@pytest.mark.parametrize("listener", [True, False])
def test_what_a_route_says_wins_over_what_its_listener_says(build, listener):
    routes = [
        {"path": "/health", "pool": "default", "log": False},
        {"path": "/json", "pool": "default", "log": "json"},
        {"path": "/yes", "pool": "default", "log": True},
        {"path": "/denied", "deny": True, "log": False},
    ]
    house = build(routes=routes, log=PATH, defaults={"listener": {"log": listener}})
    house.backend()
    for path in ("health", "json", "yes", "denied", "other"):
        house.ask(at(path))
    lines = house.balanced.log_lines
    assert json.loads(lines.pop(0))["url.path"] == "/json"
    assert paths(house) == (["/yes", "/other"] if listener else ["/yes"])


def test_local_replies_and_refusals_are_in_it(build):
    routes = [{"path": "/moved", "redirect": {"to": "/x"}}, {"path": "/denied", "deny": True}]
    house = build(routes=routes, log={"file": "stdout", "format": "{status} {outcome}"}, retry={"more_attempts": 0})
    for request in (at("moved"), at("denied"), b"nonsense\r\n\r\n", GET):
        house.ask(request)
    house.ask(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
    assert paths(house) == ["308 REDIRECT", "403 FORBIDDEN", "400 BAD_REQUEST", "502 REFUSED", "200 ANSWER"]


# Sampling.


def sampled(build, share: float, **log) -> House:
    return build(log={**PATH, "sample": share, "slow_s": 10.0, **log}, retry={"more_attempts": 0})


def test_what_was_retried_or_cut_short_is_in_every_sample_though_its_status_is_200(build):
    log = {"file": "stdout", "format": "{path} {status} {outcome}", "sample": 0.0, "slow_s": 10.0}
    house = build("a:80", "b:80", log=log)
    house.backend("a:80", [[RESET], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", CLOSE]])
    house.backend("b:80")
    for path in ("retried", "cut"):
        house.ask(at(path))
    # At once, and not as the slowest of their second.
    assert paths(house) == ["/retried 200 OK", "/cut 200 CUT_SHORT"]


def test_a_sample_has_its_share(build):
    house = sampled(build, 0.25)
    house.backend()
    for number in range(1000):
        house.ask(at(str(number)))
    # Binomial, n = 1000, p = 0.25: three standard deviations are 41; and the slowest one of the second.
    assert abs(len(house.balanced.log_lines) - 250) <= 42


def test_failures_and_what_is_slow_are_always_in_it(build):
    house = sampled(build, 0.0, slow_s=0.5)
    house.backend("a:80", [[RESET], response(b"", 500), response(b"", 404), [Wait(0.5), response(b"")], response(b"")])
    for name in ("reset", "500", "404", "slow", "plain"):
        house.ask(at(name))
        house.wait(0.6)
    house.wait(2)
    # The two that went well are each the slowest of their second.
    assert set(paths(house)) >= {"/reset", "/500", "/slow"}


def test_of_each_second_the_slowest_is_in_it_also_of_the_last():
    house = sampled(House, 0.0)
    house.backend("a:80", [[Wait(took), response(b"")] for took in (0.01, 0.03, 0.02, 0.04, 0.05, 0.01)])
    for number in range(3):
        house.ask(at(str(number)))
        house.wait(0.1)
    assert paths(house) == []
    house.wait(1)
    assert paths(house) == ["/1"]
    for number in range(3, 6):
        house.ask(at(str(number)))
        house.wait(0.1)
    house.balanced.close()
    assert paths(house) == ["/1", "/4"]
    house.wait(5)


def test_one_that_is_in_it_anyway_is_the_slowest_too(build):
    house = sampled(build, 0.0, slow_s=0.1)
    house.backend("a:80", [[Wait(0.05), response(b"")], [Wait(0.2), response(b"")], [Wait(0.02), response(b"")]])
    for number in range(3):
        house.ask(at(str(number)))
        house.wait(0.25)
    house.wait(2)
    assert paths(house) == ["/1"]


# Reloads.


def test_a_reload_changes_the_form_and_what_is_held_back_is_not_lost(build):
    house = sampled(build, 0.0)
    house.backend()
    house.ask(at("one"))
    house.apply(log={"format": "json", "sample": 1.0})
    house.ask(at("two"))
    first, second = house.balanced.log_lines
    assert first == b"/one\n"
    assert json.loads(second)["url.path"] == "/two"


def test_a_reload_turns_it_off_and_on_and_changes_what_a_route_says(build):
    house = build(log=PATH, routes=[{"path": "/x", "pool": "default"}])
    house.backend()
    house.ask(at("x"))
    house.apply(routes=[{"path": "/x", "pool": "default", "log": False}])
    house.ask(at("x"))
    house.ask(at("y"))
    house._options["log"] = {}
    house.apply()
    house.ask(at("z"))
    house.apply(log=PATH)
    house.ask(at("again"))
    assert paths(house) == ["/x", "/y", "/again"]


def test_a_dry_run_names_what_changes(build):
    house = build(log=PATH)
    plan = house.plan(log={"format": "json", "addresses": "network", "query": False, "sample": 0.5, "file": "/x"})
    assert diff_of(house.plane, plan).changes == (
        "changes log.file stdout -> /x",
        "changes log.format {path} -> json",
        "changes log.query true -> false",
        "changes log.addresses whole -> network",
        "changes log.sample 1 -> 0.5",
    )
    house._options["log"] = {}
    assert diff_of(house.plane, house.plan()).changes == ("changes log.file stdout -> none",)
