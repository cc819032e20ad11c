"""Drains and reloads of a real balancer under load of HTTP/2: GOAWAY, and no request is lost."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from http2_client import frame, request
from ports import free_port
from processes import listening, stage, until

from twisted_lb.wire.http2.frames import DATA, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS

AT_ONCE = 10


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


class Caller(threading.Thread):
    """A client that asks all the time, some requests at once, on one connection after the other: a new one at each GOAWAY, as long as there is
    somebody to connect to. `lost`: requests that were not answered whole, and of which nobody has said that they were not served.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.stops = threading.Event()
        self.answered = 0
        self.unprocessed = 0
        self.goaways = 0
        self.connections = 0
        self.lost: list[str] = []

    def run(self) -> None:
        while not self.stops.is_set():
            try:
                sock = socket.create_connection(("127.0.0.1", self._port), timeout=30)
            except ConnectionRefusedError:
                if self.connections:
                    return
                time.sleep(0.01)
                continue
            with sock:
                self.connections += 1
                self._ask(sock)

    def _ask(self, sock: socket.socket) -> None:
        sock.sendall(PREFACE + frame(SETTINGS, 0, 0))
        running: set[int] = set()
        following, last, rest = 1, (1 << 31) - 1, b""
        told = False
        while True:
            asked = b""
            while not told and len(running) < AT_ONCE and not self.stops.is_set():
                asked += request(following, path="/?delay=0.01")
                running.add(following)
                following += 2
            if not running and (told or self.stops.is_set()):
                return
            try:
                sock.sendall(asked)
                data = sock.recv(65536)
            except OSError as error:
                self.lost += [f"{error}: stream {stream}" for stream in running if stream <= last]
                return
            if not data:
                self.lost += [f"closed: stream {stream}" for stream in running if stream <= last]
                return
            rest += data
            while len(rest) >= 9 and len(rest) >= (size := 9 + int.from_bytes(rest[:3], "big")):
                kind, flags, stream, payload = rest[3], rest[4], int.from_bytes(rest[5:9], "big"), rest[9:size]
                rest = rest[size:]
                if kind == GOAWAY:
                    told = True
                    self.goaways += 1
                    last = int.from_bytes(payload[:4], "big")
                    assert payload[4:8] == bytes(4), payload
                    self.unprocessed += len([one for one in running if one > last])
                    running = {one for one in running if one <= last}
                elif kind == HEADERS and payload[:1] != b"\x88":
                    self.lost.append(f"status {payload[:9]!r}")
                elif kind == RST_STREAM:
                    self.lost.append(f"reset {payload!r}")
                if stream and flags & END_STREAM and kind in (HEADERS, DATA):
                    running.discard(stream)
                    self.answered += 1


def calling(port: int, count: int = 4) -> list[Caller]:
    callers = [Caller(port) for _ in range(count)]
    for caller in callers:
        caller.start()
    return callers


def stopped(callers: list[Caller]) -> list[Caller]:
    for caller in callers:
        caller.stops.set()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    return callers


class Paper:
    def __init__(self, world) -> None:
        self.path = world.folder / "lb.toml"
        self.backends = [world.backend(name=f"backend-{name}")[1] for name in "ab"]
        self.port, self.more = free_port(), free_port()

    def write(self, *, more: bool, backend: int = 0, requests: int = 0) -> None:
        listener = f'protocols = "h2"\nclient_requests = {requests}\n'
        text = f'[listeners.web]\naddress = "127.0.0.1:{self.port}"\n{listener}'
        if more:
            text += f'[listeners.more]\naddress = "127.0.0.1:{self.more}"\n{listener}'
        text += (
            f'[pools.default]\nbackends = ["127.0.0.1:{self.backends[backend]}"]\nhealth_check = {{ interval_s = 0 }}\n'
        )
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)


def test_reloads_and_drains_lose_no_request(world):
    paper = Paper(world)
    paper.write(more=True)
    balancer = world.twistd("lb", "lb", "--config", str(paper.path))
    until(lambda: listening(paper.port) and listening(paper.more), "the balancer")
    kept, drained = calling(paper.port), calling(paper.more)
    for number in range(7):
        until(lambda: min(one.answered for one in kept) > 50 * (number + 1), "answers")  # noqa: B023 - called at once
        # Every second reload takes a listener away, and brings it back: its connections are drained.
        paper.write(more=number % 2 == 1, backend=number % 2, requests=100 if number > 4 else 0)
        balancer.signal(signal.SIGHUP)
        balancer.wait_for("connections cut: ", times=number + 1)
        if number % 2:
            until(lambda: listening(paper.more), "the listener")
            drained += calling(paper.more)
    for one in drained:
        one.join(60)
    assert [one.lost for one in [*kept, *drained]] == [[]] * (len(kept) + len(drained))
    assert sum(one.goaways for one in drained) >= 2 * 4
    # And the end of the process, under load too.
    balancer.signal(signal.SIGTERM)
    for one in kept:
        one.join(60)
        assert not one.is_alive()
    balancer.wait()
    assert [one.lost for one in kept] == [[]] * len(kept)
    assert all(one.connections > 1 for one in kept), "after so many requests a connection is another one"
    assert "nothing was cut" in balancer.log
    assert "Traceback" not in balancer.log


@pytest.mark.skipif(shutil.which("h2load") is None, reason="needs h2load")
def test_h2load_gets_all_its_answers_while_the_file_is_read_again(world):
    paper = Paper(world)
    paper.write(more=False)
    balancer = world.twistd("lb", "lb", "--config", str(paper.path))
    until(lambda: listening(paper.port), "the balancer")
    load = subprocess.Popen(
        ["h2load", "-n", "3000", "-c", "5", "-m", "20", f"http://127.0.0.1:{paper.port}/?delay=0.005"],
        stdout=subprocess.PIPE,
        text=True,
    )
    world.others.append(load)
    times = 0
    while load.poll() is None and times < 20:
        paper.write(more=False, backend=(times + 1) % 2)
        balancer.signal(signal.SIGHUP)
        times += 1
        balancer.wait_for("connections cut: ", times=times)
    said, _ = load.communicate(timeout=60)
    assert "3000 succeeded, 0 failed, 0 errored" in said
    assert times > 1
