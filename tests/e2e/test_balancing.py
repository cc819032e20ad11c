"""The main job, with real processes: requests are spread, backends die and return, nobody is cut off."""

import contextlib
import hashlib
import http.client
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import INT, KILL, PATIENCE_S, TERM, Stage, listening, stage, until

MIB = 1 << 20
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture
def world(tmp_path: Path):
    with stage(tmp_path) as one:
        yield one


def connect(port: int) -> "closing[http.client.HTTPConnection]":
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60))


def get(port: int, path: str) -> "tuple[int, http.client.HTTPMessage, bytes]":
    """Status, fields and body of one answer."""
    with connect(port) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def ask(port: int, count: int, path: str = "/whoami.json") -> Counter:
    """Requests on one connection, by who answered."""
    answers: Counter = Counter()
    with connect(port) as connection:
        for _ in range(count):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            answers[response.headers["X-Backend"]] += 1
    return answers


def backends(world: Stage, count: int) -> list[str]:
    ports = [world.backend()[1] for _ in range(count)]
    return [f"127.0.0.1:{port}" for port in ports]


def test_round_robin_spreads_a_thousand_requests_evenly_to_the_request(world):
    _, port = world.balancer("-b", *backends(world, 4), "-s", "rr")
    assert sorted(ask(port, 1000).values()) == [250, 250, 250, 250]


def test_random_spreads_a_thousand_requests_within_its_band(world):
    _, port = world.balancer("-b", *backends(world, 4), "-s", "rand")
    answers = ask(port, 1000)
    # Binomial(1000, 1/4): mean 250, sd sqrt(1000 * 1/4 * 3/4) = 13.7. The chance that one of four leaves 4.5 sd is 3e-5.
    band = 4.5 * math.sqrt(1000 * 0.25 * 0.75)
    assert len(answers) == 4
    assert all(abs(count - 250) < band for count in answers.values())


def test_weights_are_shares(world):
    one, two = backends(world, 2)
    _, port = world.balancer("-b", f"{one},weight=3", two)
    assert sorted(ask(port, 400).values()) == [100, 300]


def test_without_a_usable_backend_the_answer_is_503_at_once(world):
    dead = free_port()
    balancer, port = world.balancer("-b", f"127.0.0.1:{dead}", "-c", "0.2")
    balancer.wait_for("is down|is ejected")
    status, fields, _ = get(port, "/")
    assert status == 503
    assert int(fields["Retry-After"]) >= 1


@pytest.mark.parametrize("checks", ["0", "0.2"])
def test_a_backend_that_cannot_be_connected_to_is_left_out_whatever_the_reason(world, tmp_path, checks):
    (tmp_path / "file").touch()
    balancer, port = world.balancer("-b", f"unix:{tmp_path}/file/app.sock", *backends(world, 1), "-c", checks)
    assert sum(ask(port, 12).values()) == 12
    balancer.wait_for("app.sock is (ejected.*|down): not a directory")


@needs_wrk
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("localhost", marks=pytest.mark.long)])
def test_a_killed_backend_is_not_noticed_by_any_client(world, host):
    ports = [free_port() for _ in range(3)]
    victim, *_ = [world.backend(port, f"be-{port}")[0] for port in ports]
    balancer, port = world.balancer("-b", *[f"{host}:{p}" for p in ports], "-c", "0.3")
    name = f"{host}:{ports[0]}"
    load = subprocess.Popen(
        ["wrk", "-t1", "-c64", "-d90", f"http://127.0.0.1:{port}/whoami.json"], stdout=subprocess.PIPE, text=True
    )
    world.others.append(load)
    # The very first check decides alone, and is not to be the one that meets the end: then it is down, and not ejected.
    until(lambda: json.loads(get(ports[0], "/whoami.json")[2])["checks"] >= 2, "its second check")
    for killed in range(3):
        wait_for_traffic(ports[0], after_checks=2 if killed else 0)
        victim.signal(KILL)
        victim.wait()
        balancer.wait_for(f"{re.escape(name)} is ejected", killed + 1)
        victim, _ = world.backend(ports[0], f"be-{ports[0]}")
    wait_for_traffic(ports[0], after_checks=2)
    load.send_signal(signal.SIGINT)  # it reports what it has done so far
    report, _ = load.communicate(timeout=60)
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    assert int(re.search(r"(\d+) requests in", report)[1]) > 100
    # It has really returned: it has its third.
    until(lambda: ask(port, 60)[f"be-{ports[0]}"] == 20, "all three answer by turns")


def wait_for_traffic(port: int, after_checks: int) -> None:
    """Until a sibling has served requests that are not our questions; the first one after so many checks, not before."""
    asked = 0

    def served() -> bool:
        nonlocal asked
        try:
            facts = json.loads(get(port, "/whoami.json")[2])
        except ConnectionResetError:  # its queue was full: everybody connects to it at once
            return False
        asked += 1
        assert facts["requests"] == asked or facts["checks"] >= after_checks, facts
        return facts["requests"] > asked + 50

    until(served, "traffic reaches it")


def share_of(balancer, port: int) -> int:
    """How many connections the balancer holds to a backend, with its workers: from the kernel's table."""
    found = 0
    inodes = set()
    workers = Path(f"/proc/{balancer.pid}/task/{balancer.pid}/children").read_text().split()
    for link in (link for pid in (balancer.pid, *workers) for link in Path(f"/proc/{pid}/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and fields[2].endswith(f":{port:04X}") and fields[3] == "01":
            found += 1
    return found


def pattern(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_64_mib_up_are_exact_and_not_kept_in_memory(world, chunked):
    balancer, port = world.balancer("-b", *backends(world, 1))
    ask(port, 20)
    before = balancer.memory_kib()
    body = pattern(64 * MIB)
    peak = Peak(balancer)
    pieces = (body[at : at + 65536] for at in range(0, len(body), 65536))
    headers = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
    with connect(port) as connection:
        connection.request("POST", "/upload", body=pieces, headers=headers, encode_chunked=chunked)
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200
    assert hashlib.sha256(body).hexdigest() in text
    assert peak.stop() - before < 10 * 1024


@pytest.mark.parametrize("query", ["", "&chunked=1"], ids=["length", "chunked"])
def test_64_mib_down_are_exact_and_not_kept_in_memory(world, query):
    one = backends(world, 1)[0]
    balancer, port = world.balancer("-b", one)
    ask(port, 20)
    before = balancer.memory_kib()
    peak = Peak(balancer)
    through = digest(port, f"/?size={64 * MIB}{query}")
    assert peak.stop() - before < 10 * 1024
    direct = digest(int(one.rpartition(":")[2]), f"/?size={64 * MIB}{query}")
    assert through == direct
    assert through[0] == 64 * MIB


def digest(port: int, path: str) -> "tuple[int, str]":
    with connect(port) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        seen = hashlib.sha256()
        size = 0
        while piece := response.read(1 << 18):
            seen.update(piece)
            size += len(piece)
        return size, seen.hexdigest()


class Peak:
    """The most resident memory seen of a process, in KiB."""

    def __init__(self, running) -> None:
        self._running = running
        self._most = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stopped.is_set():
            self._most = max(self._most, self._running.memory_kib())
            self._stopped.wait(0.02)

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join()
        return self._most


def test_a_client_that_reads_slowly_does_not_make_it_buffer(world):
    balancer, port = world.balancer("-b", *backends(world, 1))
    ask(port, 20)
    before = balancer.memory_kib()
    peak = Peak(balancer)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(b"GET /?size=%d HTTP/1.1\r\nHost: slow\r\n\r\n" % (64 * MIB))
    # Nobody reads: everything stands still, at the marks.
    until(lambda: balancer_is_idle(balancer), "the transfer stops")
    # 8 clients, each at most a mark and a receive: 8 * (64 + 256) KiB.
    assert peak.stop() - before < 8 * (64 + 256) + 2048
    for client in clients:
        client.close()


def balancer_is_idle(balancer) -> bool:
    def ticks() -> int:
        fields = Path(f"/proc/{balancer.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.3)
    return ticks() - before <= 2


class Caller(threading.Thread):
    """Asks again and again on kept connections, until the balancer closes in order; notes what went wrong, and when."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.path = path
        self.answered = 0
        self.failures: list[tuple[float, str]] = []

    def run(self) -> None:
        with connect(self.port) as connection:
            self._call(connection)

    def _call(self, connection: http.client.HTTPConnection) -> None:
        while True:
            began = time.monotonic()
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                body = response.read()
            except ConnectionRefusedError:
                return  # it no longer listens
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((began, repr(error)))
                return
            if response.status != 200 or not body:
                self.failures.append((began, f"status {response.status}"))
            self.answered += 1
            if response.getheader("Connection") == "close":
                connection.close()


def stop_under_load(world: Stage, addresses: "list[str]") -> None:
    balancer, port = world.balancer("-b", *addresses)
    callers = [Caller(port, path) for path in ("/", "/?delay=0.05", "/?size=200000", "/?size=100000&chunked=1") * 4]
    for caller in callers:
        caller.start()
    until(lambda: all(caller.answered > 2 for caller in callers), "the load is up")
    signalled_at = time.monotonic()
    balancer.signal(TERM)
    assert balancer.wait() == -TERM
    for caller in callers:
        caller.join(PATIENCE_S)
    # Stricter than the promise: what was sent before the signal, read by then or not, is answered to its end.
    assert [f for caller in callers for f in caller.failures if f[0] < signalled_at] == []
    balancer.end()


def test_a_stop_cuts_no_request(world):
    addresses = backends(world, 2)
    for _ in range(2):
        stop_under_load(world, addresses)


@pytest.mark.long
def test_twenty_stops_cut_no_request(world):
    addresses = backends(world, 2)
    for _ in range(20):
        stop_under_load(world, addresses)


@pytest.mark.parametrize(("program", "second"), [("twistd", TERM), ("twistd", INT), ("twist", TERM)])
def test_a_second_signal_ends_the_wait(world, program, second):
    balancer, port = world.balancer("-b", *backends(world, 1), program=program)
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"GET /?delay=30 HTTP/1.1\r\nHost: patient\r\n\r\n")
    until(lambda: share_of(balancer, port_of(balancer)) > 0, "the request is on its way")
    balancer.signal(TERM)
    until(lambda: not listening(port), "the listener closes")
    assert balancer.process.poll() is None
    balancer.signal(second)
    assert balancer.wait() == -TERM
    # Connections that only asked whether somebody listens may be among the clients.
    assert re.search(r"drain ended after [0-9.]+ s, cut: \d+ clients?, 1 exchange", balancer.log)
    assert "Traceback" not in balancer.log
    client.close()


def port_of(balancer) -> int:
    balancer.wait_for("over 127")
    return int(re.search(r"over 127\.0\.0\.1:(\d+)", balancer.log)[1])


def test_ready_fails_first_and_live_stays(world):
    status = free_port()
    balancer, port = world.balancer("-b", *backends(world, 1), "--status", f"127.0.0.1:{status}")

    def state(word: str) -> int:
        return get(status, f"/-/{word}")[0]

    until(lambda: state("ready") == 200, "its checks have said something")
    assert state("live") == 200
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"GET /?delay=1.5 HTTP/1.1\r\nHost: patient\r\n\r\n")
    until(lambda: share_of(balancer, port_of(balancer)) > 0, "the request is on its way")
    balancer.signal(TERM)
    until(lambda: state("ready") == 503, "it is not ready any more")
    assert state("live") == 200
    assert "/-/" not in balancer.log
    assert "Site" not in balancer.log
    answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in answer
    assert balancer.wait() == -TERM
    client.close()


def test_a_sibling_goes_down_on_request_and_returns(world):
    ports = [free_port() for _ in range(2)]
    for port in ports:
        world.backend(port)
    balancer, port = world.balancer("-b", *[f"127.0.0.1:{p}" for p in ports], "-c", "0.2")
    assert get(ports[0], "/down?seconds=5")[0] == 200
    until(lambda: not listening(ports[0]), "it is down")
    assert set(ask(port, 10)) == {f"be-{ports[1]}"}
    balancer.wait_for(f"127.0.0.1:{ports[0]} is (used again|up)")
    assert sorted(ask(port, 50).values()) == [25, 25]


def test_the_tac_file_runs_as_a_daemon_from_any_directory(tmp_path):
    """The file as it is, with other ports so that tests do not meet: people copy and edit it."""
    from processes import BIN

    ports = [free_port() for _ in range(4)]
    text = (Path(__file__).parent.parent.parent / "lb.tac").read_text()
    for old, new in zip(["8080", "8081", "8082", "8083"], ports, strict=True):
        text = text.replace(old, str(new))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "lb.tac").write_text(text)
    cwd = tmp_path / "elsewhere"
    subprocess.run([BIN / "twistd", "-y", "../lb.tac"], cwd=cwd, check=True, timeout=PATIENCE_S)
    pid_file = cwd / "twistd.pid"
    until(pid_file.exists, "the pid file")
    pid = int(pid_file.read_text())
    try:
        until(lambda: listening(ports[0]), "the balancer")
        assert sorted(ask(ports[0], 30).values()) == [10, 10, 10]
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not pid_file.exists(), "the pid file goes")
    log = (cwd / "twistd.log").read_text()
    assert "Traceback" not in log
    # The siblings outlive the balancer: no check and no request meets a closed port.
    assert "is ejected" not in log
    assert "is down" not in log
