"""Reports of load (ORCA) in the heads of answers: who reads them, and that no client does."""

import pytest
from house import GET
from world import World

from twisted_lb.testing import Wait, response

REPORT = b"endpoint-load-metrics: TEXT cpu_utilization=%b\r\n"


def reporting(utilization, status=200):
    return response(b"hello", status, b"Date: now", REPORT[:-2] % utilization)


POLICIES = ["rr", "least", {"choose": "scan", "load": "reported"}]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize(
    "name",
    [
        b"endpoint-load-metrics",
        b"Endpoint-Load-Metrics",
        b"ENDPOINT-LOAD-METRICS",
        b"endpoint-load-metrics-bin",
        b"Endpoint-Load-Metrics-Json",
    ],
)
def test_no_client_sees_a_report_whatever_the_policy_is(build, policy, name):
    lb = build("a:80", policy=policy)
    answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nX-A: b\r\n%b: TEXT cpu_utilization=0.5\r\nX-C: d\r\nContent-Length: 5\r\n\r\nhello"
    lb.backend("a:80", [answer % name] * 3)
    client = lb.client()
    for _ in range(3):  # a head that is the same again is not looked at again
        lb.ask(GET, client)
    assert (
        bytes(client.received)
        == b"HTTP/1.1 200 OK\r\nDate: now\r\nX-A: b\r\nX-C: d\r\nContent-Length: 5\r\n\r\nhello" * 3
    )


@pytest.mark.parametrize("side", ["engine", "resource"])
def test_each_side_of_the_balancer_reads_it_and_tells_nobody(side):
    world = World(("a:80", "b:80"), side=side, policy={"choose": "scan", "load": "reported"})
    client = world.client().send(GET)
    world.backend().send(reporting(b"0.5"))
    assert b"load-metrics" not in client.read().lower()
    loads = [one.load.utilization for one in world.pool.backends.values()]
    assert sorted(loads) == [-1.0, 0.5]
    world.close()


def test_interim_answers_and_trailers_tell_no_client_either(build):
    lb = build("a:80", policy={"choose": "scan", "load": "reported"})
    lb.backend(
        "a:80",
        [
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n" + REPORT % b"0.1" + b"\r\n"
            b"HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
            b"X-T: u\r\n" + REPORT % b"0.9" + b"\r\n"
        ],
    )
    client = lb.ask()
    assert b"load-metrics" not in bytes(client.received)
    assert b"X-T: u" in bytes(client.received)
    assert lb.members[0].load.utilization == -1


def test_the_same_head_again_is_a_report_again(build):
    """It is kept, and not parsed again; what it says is as old as the answer."""
    lb = build("a:80", policy={"choose": "scan", "load": "reported"})
    lb.backend("a:80", [reporting(b"0.5")] * 2)
    client = lb.ask()
    lb.wait(5.0)
    lb.ask(GET, client)
    [one] = lb.members
    assert (one.totals.reports, lb.clock.seconds() - one.load.reported_at) == (2, 0.0)


def test_requests_go_where_less_is_reported(build):
    lb = build("a:80", "b:80", policy={"choose": "scan", "load": "reported"})
    lb.backend("a:80", lambda request: [reporting(b"0.9")])
    lb.backend("b:80", lambda request: [reporting(b"0.2")])
    client = lb.client()
    for _ in range(10):
        lb.ask(GET, client)
    counts = {one.name: one.requests for one in lb.members}
    assert counts["a:80"] <= 2
    assert counts["a:80"] + counts["b:80"] == 10


def test_an_answer_that_is_not_relayed_but_tried_elsewhere_is_heard_too(build):
    lb = build(
        "a:80", "b:80", policy={"choose": "scan", "load": "reported"}, retry={"bad_statuses": [503], "more_attempts": 1}
    )
    lb.backend("a:80", lambda request: [reporting(b"1.0", status=503)])
    lb.backend("b:80", lambda request: [reporting(b"1.0", status=503)])
    client = lb.ask()
    assert b"503 Service Unavailable" in bytes(client.received)
    assert [one.totals.reports for one in lb.members] == [1, 1]


@pytest.mark.parametrize(
    "said",
    [
        b"TEXT cpu_utilization=nan",
        b"JSON {",
        b"TEXT cpu_utilization=-1",
        b"TEXT cpu_utilization=1e309",
        b"BIN AA==",
        b"",
    ],
)
def test_what_is_no_report_harms_nobody_and_is_counted(build, said):
    lb = build("a:80", policy={"choose": "two", "load": "reported"})
    answer = b"HTTP/1.1 200 OK\r\nDate: now\r\nendpoint-load-metrics: %b\r\nContent-Length: 5\r\n\r\nhello" % said
    lb.backend("a:80", [answer])
    client = lb.ask()
    assert bytes(client.received).endswith(b"hello")
    [one] = lb.members
    assert (one.totals.reports, one.totals.bad_reports) == (0, 1 if said else 0)


@pytest.mark.parametrize(
    ("said", "utilization"),
    [
        (b'{"cpu_utilization": 0.5}', 0.5),
        (b'JSON {"cpu_utilization": 0.5}', 0.5),
        (b"TEXT cpu_utilization=0.5", -1),
        (b"{", -1),
        (b"", None),
    ],
)
def test_the_field_for_json_is_read_with_and_without_the_word(build, said, utilization):
    lb = build("a:80", policy={"choose": "two", "load": "reported"})
    lb.backend("a:80", [b"HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics-JSON: %b\r\nContent-Length: 0\r\n\r\n" % said])
    lb.ask()
    [one] = lb.members
    good = utilization is not None and utilization >= 0
    assert one.load.utilization == (utilization if good else -1)
    assert (one.totals.reports, one.totals.bad_reports) == (good, utilization == -1)


def test_one_in_each_field_is_none_either(build):
    lb = build("a:80", policy={"choose": "two", "load": "reported"})
    json = b'endpoint-load-metrics-json: {"cpu_utilization": 0.5}\r\n'
    twice = (json + REPORT % b"0.5", REPORT % b"0.5" + json, json * 2)
    lb.backend("a:80", [b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n" for fields in twice])
    client = lb.client()
    for _ in twice:
        lb.ask(GET, client)
    [one] = lb.members
    assert (one.totals.reports, one.totals.bad_reports) == (0, 3)


def test_two_of_them_are_none(build):
    lb = build("a:80", policy={"choose": "two", "load": "reported"})
    lb.backend("a:80", [b"HTTP/1.1 200 OK\r\n" + REPORT % b"0.5" + REPORT % b"0.1" + b"Content-Length: 0\r\n\r\n"])
    lb.ask()
    [one] = lb.members
    assert (one.totals.reports, one.totals.bad_reports, one.load.utilization) == (0, 1, -1)


def test_when_reports_stop_requests_in_flight_decide(build):
    lb = build("a:80", "b:80", policy={"choose": "scan", "load": "reported"})
    for name, utilization in (("a:80", b"0.9"), ("b:80", b"0.1")):
        lb.backend(name, script_of(reporting(utilization)))
    first, second = lb.client(), lb.client()
    for client in (first, second):
        client.send(GET)
    lb.clock.settle()
    assert [one.totals.reports for one in lb.members] == [1, 1]
    for _ in range(4):
        lb.ask()
    assert [one.in_flight for one in lb.members] == [0, 4]
    lb.wait(10.0)
    for _ in range(4):
        lb.ask()
    assert [one.in_flight for one in lb.members] == [4, 4]


def script_of(first):
    """One answer, and then none for a minute."""
    answers = [first]

    def answer(request):
        return [answers.pop()] if answers else [Wait(60.0), response(b"late")]

    return answer
