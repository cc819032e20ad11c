"""HAProxy's line: byte for byte, and what halog reads out of thousands of them."""

import collections
import dataclasses
import random
import re
import shutil
import subprocess
import time

import pytest
from house import GET, House

from twisted_lb.testing import CLOSE, RESET, Wait, response

HALOG = shutil.which("halog")
TO = {"file": "stdout", "format": "haproxy"}
# As HAProxy's manual has it, 8.2.3, without captures.
LINE = re.compile(
    rb"(?P<client>\S+):(?P<port>\d+) \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] (?P<listener>\S+) (?P<server>\S+/\S+) "
    rb"(?P<times>-?\d+/-?\d+/-?\d+/-?\d+/\d+) (?P<status>-1|\d{3}) (?P<bytes>\d+) - - (?P<state>\S{4}) "
    rb'(?P<numbers>\d+/\d+/\d+/\d+/\+?\d+) (?P<queues>\d+/\d+) "(?P<request>[ -~]*)"\n'
)


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def build(build):
    return lambda *names, **options: build(*names, **{"log": TO, **options})


def last(house: House) -> re.Match[bytes]:
    found = LINE.fullmatch(house.balanced.log_lines[-1])
    assert found is not None, house.balanced.log_lines[-1]
    return found


def test_the_line_of_a_plain_request_to_the_byte(build):
    house = build()
    house.backend("a:80", [[Wait(0.069), response(b"some body")]])
    house.ask(b"GET /index.html?a=b HTTP/1.1\r\nHost: x\r\n\r\n")
    house.wait(1)
    port = next(iter(house.frontend.clients)).peer_port
    assert house.balanced.log_lines == [
        b"127.0.0.1:%d [06/Nov/1994:08:49:36.931] default default/a:80 0/0/0/69/69 200 9 - - ---- 1/1/0/0/0 0/0 "
        b'"GET /index.html?a=b HTTP/1.1"\n' % port
    ]


def test_what_is_no_request_is_called_as_haproxy_calls_it(build):
    house = build()
    house.ask(b"nonsense\r\n\r\n")
    assert last(house)["request"] == b"<BADREQ>"
    assert (last(house)["times"], last(house)["server"]) == (b"-1/-1/-1/-1/0", b"default/<NOSRV>")


def test_behind_a_trusted_proxy_the_client_has_no_port(build):
    house = build(forwarding={"trusted_proxies": ["127.0.0.1"]})
    house.backend()
    house.ask(GET[:-2] + b"X-Forwarded-For: 2001:db8::7\r\n\r\n")
    assert (last(house)["client"], last(house)["port"]) == (b"2001:db8::7", b"0")


def test_a_retry_elsewhere_has_a_plus_and_one_at_the_same_backend_has_none(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [[Wait(0.5), RESET]])
    house.backend("b:80", [[Wait(0.25), response(b"")]])
    house.ask()
    house.wait(5)
    assert (last(house)["server"], last(house)["numbers"]) == (b"default/b:80", b"1/1/0/0/+1")
    assert last(house)["times"] == b"0/0/500/250/750"
    again = build()
    again.backend("a:80", [[response(b""), CLOSE], [response(b"")]])
    client = again.ask()
    again.ask(client=client)
    assert {line["numbers"].split(b"/")[-1] for line in map(LINE.fullmatch, again.balanced.log_lines)} <= {b"0", b"1"}


def test_the_numbers_are_those_of_the_moment_at_which_it_ends(build):
    house = build("a:80", "b:80", queue={"no_backend_s": 10.0})
    house.pool.configure(dataclasses.replace(house.pool.settings, max_in_flight=2), 1000.0)
    for name in ("a:80", "b:80"):
        house.backend(name, [[Wait(2), response(b"")]] * 8)
    for _ in range(7):
        house.ask()
    house.client()
    house.clock.settle()
    house.wait(10)
    numbers = [LINE.fullmatch(line) for line in house.balanced.log_lines]
    told = [(one["numbers"], one["queues"], one["times"].split(b"/")[1]) for one in numbers]
    # Eight are connected. When a line is written, those that wait have not got the place yet that has become free.
    assert sorted(told, reverse=True) == [
        (b"8/8/6/1/0", b"0/0", b"0"),
        (b"8/8/5/1/0", b"0/0", b"0"),
        (b"8/8/4/0/0", b"0/0", b"0"),
        (b"8/8/3/0/0", b"0/0", b"0"),
        (b"8/8/2/1/0", b"0/2", b"2000"),
        (b"8/8/1/0/0", b"0/0", b"2000"),
        (b"8/8/0/0/0", b"0/1", b"2000"),
    ]


def test_connections_of_all_listeners_and_of_one_are_told_apart(build):
    house = build(listen={"port": 8080}, listeners={"web": {"address": ":80"}})
    house.open("web", "lb:80")
    house.backend()
    house.ask()
    house.ask(client=house.client("lb:80"))
    house.ask(client=house.client("lb:80"))
    found = [LINE.fullmatch(line) for line in house.balanced.log_lines]
    assert [(one["listener"], one["numbers"][:4]) for one in found] == [
        (b"default", b"1/1/"), (b"web", b"2/1/"), (b"web", b"3/2/"),
    ]  # fmt: skip


def test_the_clients_of_a_listener_that_was_taken_away_are_counted_as_long_as_they_are_there(build):
    web = {"default": {"address": ":8080"}, "web": {"address": ":80"}}
    house = build(listeners=web)
    house.open("web", "lb:80")
    house.backend("a:80", [[Wait(1.0), response(b"")], [Wait(5.0), response(b"")]])
    client = house.ask(client=house.client("lb:80"))
    house.ask()
    house.apply(listeners={"default": {"address": ":8080"}})
    house.wait(2.0)
    client.reset()
    house.wait(10.0)
    found = [LINE.fullmatch(line) for line in house.balanced.log_lines]
    assert [(one["listener"], one["numbers"][:4]) for one in found] == [(b"web", b"2/1/"), (b"default", b"1/1/")]


# What halog reads: a crowd of clients, most of whom get what they want.

ENDS = [
    [response(b"some body")], [response(b"some body")], [response(b"gone", 404)], [response(b"broken", 500)],
    [Wait(0.01), response(b"")], [RESET], [CLOSE], [b"SSH-2.0\r\n\r\n"], [response(b"0123456789")[:-4], CLOSE],
]  # fmt: skip
REQUESTS = [
    GET, GET, GET, b"GET /items?q=1 HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n", b"GET /denied HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", b"GET /moved HTTP/1.1\r\nHost: x\r\n\r\n",
]  # fmt: skip


def crowded(build, requests: int) -> House:
    """So many requests, a third of them at once; some clients leave."""
    rng = random.Random(13)
    moved = {"path": "/moved", "redirect": {"to": "https://x/y"}}
    names = [f"b{number}:80" for number in range(4)]
    house = build(*names, routes=[{"path": "/denied", "deny": True}, moved], limits={"body_bytes": 100})
    for name in names:
        house.backend(name, (rng.choice(ENDS) for _ in range(requests)))
    for number in range(requests):
        client = house.ask(rng.choice(REQUESTS))
        if number % 3 == 0:
            house.wait(0.05)
        if rng.random() < 0.02:
            client.reset()
    house.wait(20)
    return house


def halog(lines: list[bytes], *options: str) -> list[list[str]]:
    """The words of each line that halog prints of a log without the prefix of a syslog."""
    command = [HALOG, "-q", "-s", "-4", *options]
    done = subprocess.run(command, input=b"".join(lines), capture_output=True, check=True)
    return [line.split() for line in done.stdout.decode().splitlines() if not line.startswith("#")]


@pytest.mark.skipif(HALOG is None, reason="halog is missing (Debian: apt install haproxy)")
def test_halog_counts_what_the_records_count(build):
    house = crowded(build, 3000)
    records, lines = house.records, house.balanced.log_lines
    assert len(records) == len(lines) > 2900
    assert all(map(LINE.fullmatch, lines))
    statuses = collections.Counter(record.status or -1 for record in records)
    assert len(statuses) > 5
    assert {int(status): int(count) for status, count in halog(lines, "-st")} == statuses
    states = collections.Counter(LINE.fullmatch(line)["state"][:2].decode() for line in lines)
    assert {state: int(count) for state, count in halog(lines, "-tc")} == states
    assert {"--", "LR", "PR", "SH", "PH", "SD"} <= states.keys()
    for server, *classes, total in [one[:8] for one in halog(lines, "-srv")]:
        # halog leaves out what had no status at all: the client left.
        mine = [one.status for one in records if server == f"default/{one.backend_name or '<NOSRV>'}" and one.status]
        by_class = collections.Counter(status // 100 for status in mine)
        assert [int(one) for one in classes[:5]] == [by_class[number] for number in range(1, 6)]
        assert int(total) - int(classes[5]) == len(mine)
