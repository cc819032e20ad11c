"""Several workers as real processes: one configuration, one admin door, one truth about backends."""

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from many import Counting, Many, alive
from processes import KILL, TERM, stage, until

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


def test_workers_serve_are_seen_as_one_and_end_with_their_parent(world):
    many = Many(world)
    answers = [many.get() for _ in range(20)]
    assert {status for status, _ in answers} == {200}
    status = many.ask("/v1/status")
    [pool] = status["pools"]
    assert sum(one["requests"] for one in pool["backends"]) == 20
    assert status["listeners"][0]["accepted"] == 20
    assert status["routes"][0]["requests"] == 20
    assert many.metrics("twisted_lb_requests_total") == 20
    told = many.ask("/v1/explain?last=30")["requests"]
    assert len(told) == 20
    assert len({one["id"] for one in told}) == 20
    for one in told[:3]:
        assert many.ask(f"/v1/explain/{one['id']}")["attempts"] == one["attempts"]
    pids = many.pids()
    assert len(set(pids.values())) == 2
    many.lb.signal(TERM)
    assert many.lb.wait() == -TERM
    assert not any(alive(pid) for pid in pids.values())


def test_what_is_counted_means_the_same_as_in_one_process(world):
    many = Many(world)
    with contextlib.ExitStack() as open_:
        for _ in range(4):
            sock = open_.enter_context(socket.create_connection(("127.0.0.1", many.port), timeout=60))
            sock.sendall(b"GET /?delay=50 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: many.metrics("twisted_lb_in_flight") == 4)
        # What `rr` compares is what is in flight, once, however many processes see it.
        assert many.metrics("twisted_lb_backend_load") == 4
        assert many.metrics("twisted_lb_backend_in_flight") == 4
    # Each worker has descriptors of its own, half of them for clients.
    [listener] = many.ask("/v1/status")["listeners"]
    assert listener["limit"] > 1.5 * (many.metrics("process_max_fds") / 2)
    # Memory for bodies, lags and the like are those of the workers.
    assert many.metrics("twisted_lb_buffered_bytes_limit") == 2**28
    lags = many.metrics("twisted_lb_loop_lag_seconds_count")
    until(lambda: many.metrics("twisted_lb_loop_lag_seconds_count") > lags)


def test_where_a_request_would_go_is_what_a_worker_would_do(world):
    many = Many(world, workers=2)
    first = f"127.0.0.1:{many.backends[0][1]}"
    with contextlib.ExitStack() as open_:
        for _ in range(8):
            sock = open_.enter_context(socket.create_connection(("127.0.0.1", many.port), timeout=60))
            sock.sendall(b"GET /?delay=50 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: many.metrics("twisted_lb_in_flight") == 8)
        routed = many.ask("/v1/route?url=http://x/a")
        assert routed["decision"]["worker"] == 0
        # The parent has none in flight.
        assert sum(one["load"] for one in routed["decision"]["candidates"]) == 8
        assert routed["looked_at"][0].keys() >= {"name", "place"}
        assert many.ask("/v1/explain/next?url=http://x/a")["picked"] == routed["decision"]["picked"]
    many.ask(f"/v1/backends/default/{first}", "PATCH", {"admin": "drain", "reason": "deploy"})
    assert first not in many.ask("/v1/route?url=http://x/a")["decision"]["picked"]


def test_what_a_worker_imports_has_nothing_of_configuration_and_door():
    program = (
        "import sys, twisted_lb.workers.worker\n"
        "strange = ('pydantic', 'pydantic_core', 'prometheus_client', 'twisted_lb.admin', 'twisted_lb.config', 'twisted_lb.operating')\n"
        "print([one for one in sys.modules if one.startswith(strange)], 'twisted_lb.data_plane' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "[] True\n"


def test_workers_are_a_table(world):
    many = Many(world)
    for _ in range(4):
        many.get()
    lbctl = [sys.executable, "-m", "twisted_lb.ctl", "--admin", f"unix:{many.door}", "workers"]
    told = subprocess.run(lbctl, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0].split()[:3] == ["WORKER", "PROCESS", "STATE"]
    assert [line.split()[:3] for line in told[1:]] == [
        [str(slot), str(pid), "serves"] for slot, pid in many.pids().items()
    ]
    assert sum(int(line.split()[7]) for line in told[1:]) == 4
    # Whoever is on the machine reads command lines, and chance is to be guessed by nobody.
    for slot, pid in many.pids().items():
        assert Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"twisted_lb.workers.worker\0%d\0" % slot)
    assert many.metrics("twisted_lb_workers") == 2
    assert many.metrics("twisted_lb_worker_restarts_total") == 0


def test_a_worker_that_is_killed_is_followed_by_another_one_and_nothing_counted_is_lost(world):
    many = Many(world)
    for _ in range(10):
        many.get()
    assert many.metrics("twisted_lb_requests_total") == 10
    pid = many.pids()[1]
    os.kill(pid, KILL)
    many.lb.wait_for(rf"worker 1 \(process {pid}\) has ended")
    # Its slot is covered meanwhile: nobody is turned away.
    assert {many.get()[0] for _ in range(20)} == {200}
    many.lb.wait_for("worker 1 serves", 2)
    assert {many.get()[0] for _ in range(20)} == {200}
    assert many.metrics("twisted_lb_requests_total") == 50
    assert not alive(pid)


def test_a_reload_reaches_all_workers_and_cuts_nobody(world):
    many = Many(world)
    kept = [http.client.HTTPConnection("127.0.0.1", many.port, timeout=60) for _ in range(8)]
    for one in kept:
        one.request("GET", "/whoami.json")
        assert one.getresponse().read()
    pids = many.pids()
    many.write([0])
    many.lb.signal(signal.SIGHUP)
    many.lb.wait_for("reload")
    until(lambda: len(many.ask("/v1/status")["pools"][0]["backends"]) == 1)

    def asked() -> set[str]:
        found = set()
        for one in kept:
            one.request("GET", "/whoami.json")
            found.add(json.loads(one.getresponse().read())["name"])
        return found

    until(lambda: asked() == {"b0"}, "all workers use the one backend")
    assert many.pids() == pids
    for one in kept:
        one.close()


def test_who_is_drained_by_an_operator_gets_nothing_from_any_worker(world):
    many = Many(world)
    name = f"127.0.0.1:{many.backends[0][1]}"
    many.ask(f"/v1/backends/default/{name}?wait=30s", "PATCH", {"admin": "drain", "reason": "deploy"})
    before = {one["backend"]: one["requests"] for one in many.ask("/v1/backends")["backends"]}
    for _ in range(20):
        assert many.get()[0] == 200
    after = {one["backend"]: one["requests"] for one in many.ask("/v1/backends")["backends"]}
    assert after[name] == before[name]
    assert sum(after.values()) == sum(before.values()) + 20
    # One that begins now knows of it too.
    os.kill(many.pids()[0], KILL)
    many.lb.wait_for("worker 0 serves", 2)
    for _ in range(20):
        assert many.get()[0] == 200
    assert {one["backend"]: one["requests"] for one in many.ask("/v1/backends")["backends"]}[name] == before[name]


def test_a_backend_that_dies_is_out_in_all_workers(world):
    many = Many(world)
    running, port = many.backends[1]
    running.end()
    until(lambda: f"127.0.0.1:{port} is down" in many.lb.log or f"127.0.0.1:{port} is ejected" in many.lb.log)
    assert {many.get()[0] for _ in range(40)} == {200}
    again, _ = world.backend(port, name="b1-again")
    until(lambda: all(one["usable"] for one in many.ask("/v1/backends")["backends"]))
    until(lambda: any(json.loads(many.get()[1])["name"] == "b1-again" for _ in range(4)))
    assert again.process.poll() is None


def test_connections_are_level_over_the_workers(world):
    many = Many(world, workers=4)
    until(lambda: len(many.pids()) == 4)
    with contextlib.ExitStack() as open_:
        socks = [open_.enter_context(socket.create_connection(("127.0.0.1", many.port), timeout=60)) for _ in range(64)]
        pids = list(many.pids().values())
        until(lambda: sum(map(many.clients_of, pids)) == 64)
        counts = [many.clients_of(pid) for pid in pids]
        assert max(counts) <= 1.15 * 16, counts
        for sock in socks:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for sock in socks:
            assert sock.recv(12) == b"HTTP/1.1 200"


def test_max_in_flight_holds_over_all_workers_and_nobody_waits_in_vain(world):
    backend = Counting(0.005)
    with contextlib.closing(backend):
        many = Many(world, backends=0, others=[backend.port], head="max_in_flight = 3")
        done: list[int] = []

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", many.port, timeout=60)
            with contextlib.closing(connection):
                for _ in range(20):
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    answer.read()
                    done.append(answer.status)

        clients = [threading.Thread(target=client) for _ in range(16)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        assert done == [200] * 320
        assert backend.most == 3
        until(lambda: many.ask("/v1/backends")["backends"][0]["in_flight"] == 0)


def test_an_access_log_has_each_line_whole(world):
    log = world.folder / "access.log"
    many = Many(world, head=f'log.file = "{log}"\nlog.format = "json"')

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", many.port, timeout=60)
        with contextlib.closing(connection):
            for turn in range(50):
                connection.request("GET", f"/{number}/{turn}?{'x' * 500}")
                connection.getresponse().read()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    until(lambda: log.read_text().count("\n") == 300)
    paths = {json.loads(line)["url.path"] for line in log.read_text().splitlines()}
    assert paths == {f"/{number}/{turn}" for number in range(6) for turn in range(50)}
    # The parent holds it nowhere: rotated and removed it is gone.
    assert not [one for one in Path(f"/proc/{many.lb.pid}/fd").iterdir() if os.readlink(one) == str(log)]


def test_a_crash_loop_is_said_and_bounded(world):
    many = Many(world)
    for _ in range(3):
        times = many.lb.log.count("worker 1 serves")
        os.kill(many.pids()[1], KILL)
        many.lb.wait_for("worker 1 serves", times + 1)
    waits = [float(one) for one in re.findall(r"the next one starts in ([0-9.]+) s", many.lb.log)]
    assert waits[1:] == sorted(waits[1:])
    assert waits[-1] > 0
    assert many.get()[0] == 200


def test_workers_of_an_embedded_service_are_refused_in_one_line():
    from twisted_lb.config import LoadBalancerConfig
    from twisted_lb.errors import ConfigError
    from twisted_lb.service import LoadBalancerService

    with pytest.raises(ConfigError, match="workers need --config"):
        LoadBalancerService(LoadBalancerConfig(backends=["127.0.0.1:1"], workers=2), reactor=object())


def test_a_rate_limit_is_one_for_all_workers(world):
    many = Many(world, more="[defaults.listener]\nrate_limits = [{ per_s = 0.01, burst = 5 }]\n")
    statuses = [many.get()[0] for _ in range(20)]
    assert statuses == [200] * 5 + [429] * 15


def statuses_of(socks: Sequence[socket.socket]) -> list[int]:
    """What each of these connections is answered."""
    found = []
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.sendall(b"GET /whoami.json HTTP/1.1\r\nHost: x\r\n\r\n")
    for sock in socks:
        data = b""
        with contextlib.suppress(OSError):
            while b"\r\n" not in data and (more := sock.recv(4096)):
                data += more
        found.append(int(data[9:12]) if data else 0)
    return found


def connect(many: Many, open_: contextlib.ExitStack, count: int, source: str = "127.0.0.1") -> list[socket.socket]:
    return [
        open_.enter_context(socket.create_connection(("127.0.0.1", many.port), timeout=60, source_address=(source, 0)))
        for _ in range(count)
    ]


def test_a_client_has_so_many_connections_at_all_workers_together(world):
    many = Many(world, more="[limits]\nconnections_per_client = 5\n")
    with contextlib.ExitStack() as open_:
        socks = connect(many, open_, 12)
        assert sorted(statuses_of(socks)) == [200] * 5 + [429] * 7
        assert statuses_of(connect(many, open_, 5, "127.0.0.2")) == [200] * 5
    until(lambda: many.ask("/v1/status")["listeners"][0]["connections"] == 0)
    # What a worker had that is gone is nobody's any more.
    with contextlib.ExitStack() as open_:
        assert statuses_of(connect(many, open_, 5)) == [200] * 5
        pids = many.pids()
        most = max(pids, key=lambda slot: many.clients_of(pids[slot]))
        os.kill(pids[most], KILL)
        until(lambda: many.pids()[most] != pids[most])
        left = many.clients_of(pids[1 - most])
        assert left < 3
        assert sorted(statuses_of(connect(many, open_, 6))) == [200] * (5 - left) + [429] * (1 + left)


class Held(Counting):
    """One that answers when it is let."""

    def __init__(self) -> None:
        self.free = threading.Event()
        super().__init__(0.0)

    def _work(self) -> None:
        with self._lock:
            self.now += 1
        self.free.wait(60)
        with self._lock:
            self.now -= 1


def test_a_client_has_so_many_requests_at_all_workers_together(world):
    backend = Held()
    with contextlib.closing(backend), contextlib.ExitStack() as open_:
        more = "[defaults.listener]\nrequests_per_client = 3\n"
        many = Many(world, backends=0, others=[backend.port], more=more)
        socks = connect(many, open_, 12)
        for sock in socks:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        # Two workers that look at the same moment may both find room.
        until(lambda: len(select.select(socks, [], [], 0)[0]) + backend.now == 12)
        assert 3 <= backend.now <= 4
        refused = select.select(socks, [], [], 0)[0]
        assert {sock.recv(12) for sock in refused} == {b"HTTP/1.1 429"}
        backend.free.set()
        assert {sock.recv(12) for sock in socks if sock not in refused} == {b"HTTP/1.1 200"}


def test_a_listener_has_so_many_connections_at_all_workers_together(world):
    many = Many(world, more="[limits]\nconnections = 9\n")
    [listener] = many.ask("/v1/status")["listeners"]
    assert listener["limit"] == 9
    with contextlib.ExitStack() as open_:
        first = connect(many, open_, 9)
        assert statuses_of(first) == [200] * 9
        # Wherever they come to, connections that have been idle for a second make room for them.
        assert statuses_of(connect(many, open_, 9)) == [200] * 9
        assert sum(map(many.clients_of, many.pids().values())) <= 10
    until(lambda: many.ask("/v1/status")["listeners"][0]["connections"] == 0)


def test_bodies_are_held_within_one_bound_by_all_workers_together(world):
    many = Many(
        world,
        head="buffer_request_bytes = 100_000",
        more="[limits]\nmemory_bytes = 250_000\n[queue]\ntimeout_s = 30\n",
    )
    held, bound = "twisted_lb_buffered_bytes", many.metrics("twisted_lb_buffered_bytes_limit")
    with contextlib.ExitStack() as open_:
        socks = connect(many, open_, 6)
        for sock in socks:
            sock.sendall(b"POST /whoami.json HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
        until(lambda: many.metrics("twisted_lb_buffer_waits_total") == 4)
        assert many.metrics(held) == 200_000 <= bound
        for sock in socks:
            sock.sendall(bytes(50_000))
        # Whoever has room is answered, and leaves it to somebody at either worker.
        assert [sock.recv(12) for sock in socks] == [b"HTTP/1.1 200"] * 6
        until(lambda: many.metrics(held) == 0)


def test_retries_that_are_allowed_whatever_the_share_are_so_many_of_all_workers_together(world):
    more = "[retry]\nbudget_percent = 0\nbudget_per_s = 1\nmore_attempts = 1\nbad_statuses = [500]\n"
    many = Many(world, more=more + "[ejection]\nconsecutive_failures = 0\n")
    began_at = time.monotonic()
    for _ in range(80):
        assert many.get("/?status=500")[0] == 500
    # Ten at once, and one more each second: whichever worker it was.
    assert 10 <= many.metrics("twisted_lb_retries_total") <= 11 + time.monotonic() - began_at


def test_an_adaptive_limit_is_one_for_all_workers_and_what_is_said_of_it_is_what_they_go_by(world):
    backend = Counting(0.01)
    with contextlib.closing(backend):
        adaptive = 'max_in_flight = "adaptive"\nadaptive = { least = 2, most = 4 }'
        many = Many(world, backends=0, others=[backend.port], head=adaptive, more="[queue]\ntimeout_s = 60\n")
        done: list[int] = []

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", many.port, timeout=60)
            with contextlib.closing(connection):
                for _ in range(60):
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    answer.read()
                    done.append(answer.status)

        clients = [threading.Thread(target=client) for _ in range(12)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        assert done == [200] * 720
        assert 2 <= backend.most <= 4
        [told] = many.ask("/v1/backends")["backends"]
        assert 2 <= told["limit"] <= 4
        # Somebody has learnt something, and says what.
        assert " ms, unloaded " in told["limit_why"]
        assert many.metrics("twisted_lb_backend_limit") == told["limit"]


class Sessions:
    """A backend whose sessions are known to itself alone: `X-Session` of the answer to a request that has none; 404 for those of others."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._sock.getsockname()[1]
        self.known: set[bytes] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._sock.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    data = sock.recv(65536)
                    if not data:
                        return
                    head += data
                sock.sendall(self._answer(re.search(rb"(?im)^x-session: *(\w+)\r$", head)))

    def _answer(self, found: "re.Match[bytes] | None") -> bytes:
        if found is None:
            session = os.urandom(8).hex().encode()
            self.known.add(session)
            return b"HTTP/1.1 200 OK\r\nX-Session: %b\r\nContent-Length: 0\r\n\r\n" % session
        if found[1] in self.known:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    def close(self) -> None:
        self._sock.close()


def test_a_session_that_one_worker_has_learnt_is_known_to_all(world):
    with contextlib.closing(Sessions()) as one, contextlib.closing(Sessions()) as other:
        more = '[affinity]\nlearn = { header = "X-Session" }\n'
        many = Many(world, backends=0, others=[one.port, other.port], more=more)

        def ask(session: str) -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", many.port, timeout=60)
            with contextlib.closing(connection):
                connection.request("GET", "/", headers={"X-Session": session} if session else {})
                answer = connection.getresponse()
                answer.read()
                return answer.status, answer.headers.get("X-Session", "")

        sessions = [ask("")[1] for _ in range(20)]
        # Each on connections of its own, wherever the kernel brings them.
        assert [ask(session)[0] for session in sessions for _ in range(4)] == [200] * 80
        assert many.metrics("twisted_lb_affinity_bindings") == 20
        # What a worker has learnt is not gone with it.
        pids = many.pids()
        os.kill(pids[1], KILL)
        until(lambda: many.pids()[1] != pids[1])
        assert [ask(session)[0] for session in sessions] == [200] * 20
        assert many.metrics("twisted_lb_affinity_bindings") == 20
