"""The class that takes a list of servers and assigns clients to them."""

import asyncio
import doctest
import math
import subprocess
import sys
from collections import Counter

import pytest

from twisted_lb import LoadBalancer, NoServerAvailable, facade
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.ask import key_of
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.pickers import POLICIES, Picker, policy_of

SERVERS = ["a:80", "b:80", "c:80"]


def test_its_documentation_is_true():
    results = doctest.testmod(facade)
    assert results.attempted > 0
    assert results.failed == 0


def test_clients_are_assigned_by_turns():
    lb = LoadBalancer(SERVERS)
    assert Counter(lb.assign().server for _ in range(9)) == dict.fromkeys(SERVERS, 3)


def test_a_costly_client_counts_as_many_where_costs_are_compared():
    lb = LoadBalancer(["a:80", "b:80"], policy_of("scan", "cost"))
    costly = lb.assign(cost=3)
    others = [lb.assign() for _ in range(3)]
    assert {one.server for one in others} == {"a:80", "b:80"} - {costly.server}
    costly.done()
    assert {lb.assign().server for _ in range(2)} == {costly.server}


def test_what_an_assignment_takes_is_the_latency_of_its_server():
    time = [0.0]
    lb = LoadBalancer(["slow:80", "b:80"], "latency", clock=lambda: time[0])
    got = Counter()
    for _ in range(20):
        with lb.assign() as assignment:
            got[assignment.server] += 1
            time[0] += 0.2 if assignment.server == "slow:80" else 0.1
    assert got == {"slow:80": 1, "b:80": 19}


def test_weights_and_chance():
    lb = LoadBalancer(["a:80,weight=3", "b:80"], "rand", seed=4)
    counts = Counter(lb.assign().server for _ in range(4000))
    # Binomial(4000, 3/4): sd 27.4; five of them.
    assert abs(counts["a:80"] - 3000) < 137


def test_a_thousand_clients_by_chance_stay_in_the_band_of_999_in_a_thousand():
    """Over many seeds, as a single one could be chosen: chi-square with three degrees of freedom."""
    servers = [*SERVERS, "d:80"]
    outside = 0
    for seed in range(400):
        lb = LoadBalancer(servers, "rand", seed=seed)
        counts = Counter(lb.assign().server for _ in range(1000))
        outside += sum((counts[name] - 250) ** 2 / 250 for name in servers) > 16.27
    # 0.4 of 400 are expected outside; Poisson: more than 4 in 6 of 100,000 tries.
    assert outside <= 4


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
    with pytest.raises(NoServerAvailable, match=r"no usable backend: <Pool .* 0 usable of 1"):
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
    assert [str(event) for event in told][1:] == ["a:80 is down: on fire", "pool default has no usable backend"]


@pytest.mark.parametrize(
    ("make", "kind", "why"),
    [
        (lambda: LoadBalancer([]), ValueError, "no server"),
        (lambda: LoadBalancer(["a"]), ValueError, "no port"),
        (lambda: LoadBalancer(["a:1", "b:1", "b:1"]), ValueError, "b:1 is there twice"),
        (lambda: LoadBalancer("a:1"), ValueError, "'a:1': a list of servers is wanted, not one str"),
        (lambda: LoadBalancer(b"a:1"), ValueError, "b'a:1': a list of servers is wanted, not one bytes"),
        (lambda: LoadBalancer(1), ValueError, "1: a list of servers is wanted, not one int"),
        (lambda: LoadBalancer([1]), ValueError, "1: should be a string, as 10.0.0.1:80, or a BackendSpec"),
        (lambda: LoadBalancer(["a:1"]).update("b:1"), ValueError, "a list of servers is wanted"),
        (lambda: LoadBalancer(["a:1"]).assign(avoid="a:1"), ValueError, "'a:1': a list of servers is wanted"),
        (lambda: LoadBalancer(["a:1"], "fastest"), ValueError, "'fastest' is not a strategy, expected one of rr, rand"),
        (lambda: LoadBalancer(["a:1"]).assign(cost=0), ValueError, "cost should be 1 or more, not 0"),
        (lambda: LoadBalancer(["a:1"]).report_down("b:1"), KeyError, "b:1"),
        (lambda: LoadBalancer(["a:1"]).drain("b:1"), KeyError, "b:1"),
        (lambda: LoadBalancer([BackendSpec("x", TcpAddress("h", 1), -1)]), ValueError, "-1 is not a weight"),
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


def test_a_server_that_answers_after_its_rest_is_back_and_one_that_does_not_rests_longer():
    now = [0.0]
    told = []
    lb = LoadBalancer(["a:80"], clock=lambda: now[0], on_event=told.append)
    for rest in (1, 2, 4, 8, 16, 30, 30):
        lb.assign().failed("nobody", refused=True)
        now[0] += rest - 0.001
        with pytest.raises(NoServerAvailable):
            lb.assign()
        now[0] += 0.001
    lb.assign().done()
    assert lb.servers["a:80"].usable
    assert str(told[-2]) == "a:80 is used again: a trial request was answered"


def test_a_trial_that_was_ended_from_outside_is_followed_by_another():
    now = [0.0]
    lb = LoadBalancer(["a:80"], clock=lambda: now[0])
    lb.assign().failed(refused=True)
    now[0] = 1.0
    with pytest.raises(KeyboardInterrupt), lb.assign():
        raise KeyboardInterrupt
    assert lb.assign().server == "a:80"


def test_a_failure_that_is_no_refusal_takes_nobody_out():
    lb = LoadBalancer(["a:80", "b:80"])
    for _ in range(20):
        with pytest.raises(OSError, match="reset"), lb.assign():
            raise ConnectionResetError("reset")
    assert {lb.assign().server for _ in range(4)} == {"a:80", "b:80"}


def test_the_reason_of_a_failure_is_told_on():
    told = []
    lb = LoadBalancer(["a:80", "b:80"], on_event=told.append)
    with pytest.raises(ConnectionRefusedError), lb.assign() as assignment:
        raise ConnectionRefusedError("[Errno 111] Connection refused")
    assert str(told[-1]) == f"{assignment.server} is ejected for 1 s: [Errno 111] Connection refused"


def test_what_was_settled_in_the_block_is_not_settled_by_its_end():
    lb = LoadBalancer(["a:80"])
    with lb.assign() as assignment:
        assignment.failed()
    settled = lb.assign()
    settled.done()
    with pytest.raises(TimeoutError), settled:
        raise TimeoutError
    assert lb.servers["a:80"].outcomes == {"OK": 1, "NO_RESPONSE": 1}


def test_it_shows_how_it_stands():
    lb = LoadBalancer(["a:80", "b:80"], seed=1)
    assignment = lb.assign()
    assert repr(assignment) == f"<Assignment to {assignment.server}, open>"
    assert repr(lb) == "<LoadBalancer <Pool default: 2 usable of 2, 1 in flight>>"
    assignment.done()
    assert repr(assignment) == f"<Assignment to {assignment.server}, settled>"


def test_clients_are_named_by_text_or_bytes_or_not_at_all():
    lb = LoadBalancer(["a:80"])
    assert {lb.assign(client).server for client in ("\N{SNOWMAN}", b"\xff", None)} == {"a:80"}


def test_a_policy_is_asked_with_the_stable_hash_of_the_client(monkeypatch):
    asked = []

    class First(Picker):
        def __init__(self, members):
            super().__init__()
            self.members = members

        def pick(self, ask, now, rng, tried):
            asked.append(ask.key)
            return self.members[0]

    class Firsts:
        eager = True
        keyed = True

        def loads(self, counts):
            return None

        def build(self, members, previous, rng, now):
            return First(members)

    monkeypatch.setitem(POLICIES, "mine", Firsts())
    lb = LoadBalancer(["a:80"], "mine")
    for client in ("é", "é".encode(), None):
        lb.assign(client)
    assert asked == [key_of("é".encode()), key_of("é".encode()), 0]


@pytest.mark.parametrize(
    ("servers", "why"), [([], "no server"), (["b:80", "b:80"], "twice"), (["b:80", "nonsense"], "no port")]
)
def test_a_bad_update_changes_nothing(servers, why):
    told = []
    lb = LoadBalancer(["a:80,weight=2"], on_event=told.append)
    told.clear()
    with pytest.raises(ValueError, match=why):
        lb.update(servers)
    assert [(name, server.weight) for name, server in lb.servers.items()] == [("a:80", 2)]
    assert told == []


def test_clients_go_where_less_load_is_reported():
    lb = LoadBalancer(["a:80", "b:80"], policy_of("scan", "reported"))
    lb.report_load("a:80", {"cpu_utilization": 0.9})
    lb.report_load("b:80", {"cpu_utilization": 0.1})
    assert [lb.assign().server for _ in range(3)] == ["b:80"] * 3
    with pytest.raises(KeyError, match="no server is called c:80"):
        lb.report_load("c:80", {})
    with pytest.raises(ValueError, match="cpu_utilization: nan is no load"):
        lb.report_load("a:80", {"cpu_utilization": math.nan})


def test_a_server_that_left_while_a_client_was_there_ends_quietly():
    told = []
    lb = LoadBalancer(["a:80"], on_event=told.append)
    assignment = lb.assign()
    lb.update(["b:80"])
    told.clear()
    assignment.failed(refused=True)
    assert told == []
    assert lb.assign().server == "b:80"


def test_all_avoided_is_nobody():
    lb = LoadBalancer(SERVERS)
    with pytest.raises(NoServerAvailable):
        lb.assign(avoid=iter(SERVERS))


def test_a_drained_server_finishes_and_its_reports_are_kept_for_later():
    lb = LoadBalancer(["a:80", "b:80"])
    lb.drain("a:80")
    lb.report_down("a:80")
    lb.ready("a:80")
    assert {lb.assign().server for _ in range(4)} == {"b:80"}
