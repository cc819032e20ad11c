"""The class that takes a list of servers and assigns clients to them."""

import asyncio
import doctest
import subprocess
import sys
from collections import Counter

import pytest

from twisted_lb import LoadBalancer, NoServerAvailable, facade
from twisted_lb.core.backend import BackendSpec, TcpAddress

SERVERS = ["a:80", "b:80", "c:80"]


def test_its_documentation_is_true():
    results = doctest.testmod(facade)
    assert results.attempted > 0
    assert results.failed == 0


def test_clients_are_assigned_by_turns():
    lb = LoadBalancer(SERVERS)
    assert Counter(lb.assign().server for _ in range(9)) == dict.fromkeys(SERVERS, 3)


def test_weights_and_chance():
    lb = LoadBalancer(["a:80,weight=3", "b:80"], "rand", seed=4)
    counts = Counter(lb.assign().server for _ in range(4000))
    # Binomial(4000, 3/4): sd 27.4; five of them.
    assert abs(counts["a:80"] - 3000) < 137


def test_a_seed_repeats():
    def sequence() -> list[str]:
        lb = LoadBalancer(SERVERS, "rand", seed=9)
        return [lb.assign().server for _ in range(20)]

    assert sequence() == sequence()


def test_what_is_assigned_is_in_flight_until_it_is_settled():
    lb = LoadBalancer(["a:80"])
    one, two = lb.assign(), lb.assign()
    assert lb.servers["a:80"].in_flight == 2
    one.done()
    two.failed("no answer")
    assert lb.servers["a:80"].in_flight == 0
    assert lb.servers["a:80"].outcomes == {"OK": 1, "NO_RESPONSE": 1}
    assert not one.open
    with pytest.raises(AssertionError):
        one.done()


def test_the_block_settles_what_its_body_did_not():
    lb = LoadBalancer(["a:80"])
    with lb.assign():
        pass
    with lb.assign() as assignment:
        assignment.failed()
    with pytest.raises(TimeoutError), lb.assign():
        raise TimeoutError
    assert lb.servers["a:80"].outcomes == {"OK": 1, "NO_RESPONSE": 2}


def test_a_refused_connection_takes_the_server_out():
    lb = LoadBalancer(["a:80", "b:80"])
    assignment = lb.assign()
    refusing = assignment.server
    with pytest.raises(ConnectionRefusedError), assignment:
        raise ConnectionRefusedError
    assert refusing not in {lb.assign().server for _ in range(10)}


def test_down_up_drain_and_ready():
    lb = LoadBalancer(SERVERS)
    lb.report_down("a:80")
    lb.drain("b:80")
    assert {lb.assign().server for _ in range(6)} == {"c:80"}
    lb.ready("b:80")
    lb.report_up("a:80")
    assert {lb.assign().server for _ in range(6)} == {"b:80", "c:80"}
    lb.report_up("a:80")
    assert {lb.assign().server for _ in range(6)} == set(SERVERS)


def test_a_down_report_between_two_up_reports_starts_the_count_again():
    lb = LoadBalancer(["a:80"])
    lb.report_down("a:80")
    lb.report_up("a:80")
    lb.report_down("a:80")
    lb.report_up("a:80")
    assert not lb.servers["a:80"].usable
    lb.report_up("a:80")
    assert lb.servers["a:80"].usable


def test_one_report_takes_a_server_out_however_well_it_was():
    lb = LoadBalancer(["a:80", "b:80"])
    for _ in range(5):
        lb.report_up("a:80")
    lb.report_down("a:80")
    assert {lb.assign().server for _ in range(4)} == {"b:80"}


@pytest.mark.parametrize("end", [KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_block_that_was_ended_from_outside_blames_nobody(end):
    lb = LoadBalancer(["a:80"])
    with pytest.raises(end), lb.assign():
        raise end
    assert lb.servers["a:80"].outcomes == {"CANCELLED": 1}
    assert lb.servers["a:80"].in_flight == 0


def test_done_may_say_that_it_was_not_ok():
    lb = LoadBalancer(["a:80"])
    lb.assign().done(ok=False)
    assert lb.servers["a:80"].outcomes == {"NO_RESPONSE": 1}


def test_importing_it_imports_no_twisted():
    code = "import sys, twisted_lb; sys.exit('twisted' in sys.modules or twisted_lb.__version__ != '0.1.0')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nobody_left_is_an_exception_that_says_how_it_stands():
    lb = LoadBalancer(["a:80"])
    lb.report_down("a:80")
    with pytest.raises(NoServerAvailable, match="0 usable of 1"):
        lb.assign()


def test_servers_can_be_avoided():
    lb = LoadBalancer(SERVERS)
    assert {lb.assign(avoid=["a:80", "b:80", "stranger"]).server for _ in range(5)} == {"c:80"}


def test_an_update_keeps_the_state_of_who_stays():
    lb = LoadBalancer(["a:80", "b:80"])
    lb.report_down("a:80")
    lb.update(["c:80", "a:80"])
    assert list(lb.servers) == ["c:80", "a:80"]
    assert not lb.servers["a:80"].usable


def test_specs_may_name_servers():
    lb = LoadBalancer([BackendSpec("blue", TcpAddress("h", 1))])
    assert lb.assign("client-7").server == "blue"


def test_events_are_told():
    told = []
    lb = LoadBalancer(["a:80"], on_event=told.append)
    lb.report_down("a:80", "on fire")
    assert [str(event) for event in told][1:] == ["a:80 is down: on fire", "pool servers has no usable backend"]


@pytest.mark.parametrize(
    ("make", "kind", "why"),
    [
        (lambda: LoadBalancer([]), ValueError, "no server"),
        (lambda: LoadBalancer(["a"]), ValueError, "no port"),
        (lambda: LoadBalancer(["a:1", "a:1"]), ValueError, "twice"),
        (lambda: LoadBalancer(["a:1"], "fastest"), ValueError, "'fastest' is not a strategy, expected one of rr, rand"),
        (lambda: LoadBalancer(["a:1"]).report_down("b:1"), KeyError, "b:1"),
        (lambda: LoadBalancer(["a:1"]).drain("b:1"), KeyError, "b:1"),
        (lambda: LoadBalancer([BackendSpec("x", TcpAddress("h", 1), 0)]), ValueError, "0 is not a weight"),
    ],
)
def test_bad_input_is_named(make, kind, why):
    with pytest.raises(kind, match=why):
        make()


def test_a_rested_server_is_tried_without_any_report():
    now = [0.0]
    lb = LoadBalancer(["a:80"], clock=lambda: now[0])
    lb.assign().failed(refused=True)
    with pytest.raises(NoServerAvailable):
        lb.assign()
    now[0] = 1.0
    trial = lb.assign()
    with pytest.raises(NoServerAvailable):
        lb.assign()
    trial.done()
    assert lb.assign().server == "a:80"
