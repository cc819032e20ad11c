"""What clients and backends may write into the fields that decide: keys, costs and reports. Nothing of it breaks a request or a count."""

import pytest

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
KEYS = [{"header": "X-User"}, {"cookie": "s"}, {"query": "q"}, "path", "client"]
STRANGE = [
    b"x" * 20_000, b"\xff\xfe\x80", b"caf\xe9", b"\t", b'"quoted; a=b"', b'"', b"%00", b"%", b"a%2", b";;;", b"=", b"==", b", ,", b"&", b"+", b"\xc0\x80", b"a b",
]  # fmt: skip
REPORT = b"Endpoint-Load-Metrics: TEXT cpu_utilization=0.5\r\n"
BY_REPORT = {"choose": "scan", "load": "reported"}


def requests_with(value):
    escaped = b"".join(b"%%%02X" % byte for byte in value)
    for field in (
        b"X-User: " + value,
        b"X-User: " + value + b"\r\nX-User: other",
        b"Cookie: s=" + value,
        b"Cookie: s=" + value + b"\r\nCookie: s=other; s",
        b"Cookie: a=b\r\nCookie: " + value,
        b"X-Cost: " + value,
        b"X-Forwarded-For: " + value,
    ):
        yield GET + field + b"\r\n\r\n"
    yield b"GET /?q=" + escaped + b"&q&=&&q=2 HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"GET /?%71=1&" + escaped + b" HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("policy", ["ring", "rendezvous", {"choose": "two", "load": "cost"}], ids=str)
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_whatever_a_client_says_for_a_key_or_a_cost_it_has_one_answer(build, key, policy):
    lb = build("a:80", "b:80", policy=policy, routes=[{"pool": "default", "key": key, "cost": {"header": "X-Cost"}}])
    for name in ("a:80", "b:80"):
        lb.backend(name, lambda request: [OK])
    for value in STRANGE:
        for request in requests_with(value):
            answer = bytes(lb.ask(request).received)
            assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 4")), (request, answer)
            assert answer.count(b"HTTP/1.1 ") == 1
    assert sum(one.requests for one in lb.members) > len(STRANGE)
    assert not any(one.in_flight for one in lb.members)
    assert all(one.usable for one in lb.members)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + REPORT + b"\r\n"),
        (GET + b"\r\n", b"HTTP/1.1 304 Not Modified\r\n" + REPORT + b"\r\n"),
        (GET + b"\r\n", b"HTTP/1.1 204 No Content\r\n" + REPORT + b"\r\n"),
        (GET + b"\r\n", b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n" + REPORT + b"\r\n"),
        (GET + b"\r\n", b"HTTP/1.0 200 OK\r\n" + REPORT + b"\r\nto the end"),
        (GET + b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + REPORT + REPORT + b"\r\n"),
        (GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" + REPORT + b"\r\n"),
        (GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n" + REPORT + b"\r\n"),
        (GET + b"\r\n", b"HTTP/1.1 200 OK\r\nConnection: endpoint-load-metrics\r\nContent-Length: 0\r\n" + REPORT + b"\r\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", ["rr", BY_REPORT], ids=str)
def test_no_kind_of_answer_tells_a_client_of_a_report(build, policy, request_, answer):
    lb = build("a:80", policy=policy)
    lb.backend("a:80", [answer])
    received = bytes(lb.ask(request_).received)
    assert received.split(b" ")[1] == answer.split(b" ")[1]
    assert b"load-metrics" not in received.lower()


@pytest.mark.parametrize(
    "said",
    [
        b"JSON " + b"[" * 4000,
        b'JSON {"a":' * 400,
        b'JSON {"cpu_utilization": NaN}',
        b'JSON {"cpu_utilization": Infinity}',
        b'JSON {"cpu_utilization": 1e999}',
        b'JSON {"cpu_utilization": 1e308}',
        b'JSON {"cpu_utilization": -0.5}',
        b'JSON {"cpu_utilization": true}',
        b'JSON {"cpu_utilization": "0.5"}',
        b'JSON {"cpu_utilization": 0.5, "cpuUtilization": 0.1}',
        b'JSON {"\\ud800": 1}',
        b"JSON " + b"9" * 4000,
        b'JSON {"cpu_utilization": ' + b"9" * 4000 + b"}",
        b"TEXT " + b"a=1," * 2000,
        b"TEXT cpu_utilization=1e308",
        b"TEXT cpu_utilization=\xff",
        b"TEXT cpu_utilization=0.5,cpu_utilization=0.1",
        b"TEXT",
        b"JSON",
        b"JSON null",
        b"text cpu_utilization=0.5",
    ],
)
def test_an_absurd_report_is_counted_and_moves_nothing(build, said):
    lb = build("a:80", "b:80", policy=BY_REPORT)
    answer = OK.replace(b"\r\n\r\n", b"\r\nEndpoint-Load-Metrics: " + said + b"\r\n\r\n")
    for name in ("a:80", "b:80"):
        lb.backend(name, lambda request: [answer])
    for _ in range(20):
        assert bytes(lb.ask(GET + b"\r\n").received).endswith(b"hello")
    assert [one.load.utilization for one in lb.members] == [-1, -1]
    assert sum(one.totals.bad_reports for one in lb.members) == 20
    assert all(one.requests for one in lb.members), "nobody is drawn to, or kept off"


def test_endless_utilization_of_errors_is_bounded(build):
    """Errors over next to no requests: gRPC's quotient has a bound here, and stays a number."""
    lb = build("a:80", policy=BY_REPORT)
    said = b'JSON {"cpu_utilization": 0.5, "eps": 1e308, "rps_fractional": 1e-308}'
    lb.backend("a:80", [OK.replace(b"\r\n\r\n", b"\r\nEndpoint-Load-Metrics: " + said + b"\r\n\r\n")])
    lb.ask(GET + b"\r\n")
    assert lb.members[0].load.utilization == 1.5
