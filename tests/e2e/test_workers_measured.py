"""What is asked of workers, measured, and asserted in counts: who is lost with a worker, what is never exceeded, what never goes back."""

import asyncio
import contextlib
import http.client
import os
import re
import select
import signal
import socket
import threading
import time
from collections import Counter

import pytest
from bad_days.crew_soak import soak_crew
from bad_days.growing import Scrapes
from bad_days.proxies import under_test
from bad_days.stage import stage as bad_days_stage
from many import Counting, Many, alive
from processes import stage, until

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


# Workers that are killed.


class Newcomers(threading.Thread):
    """Clients that come anew for each request, so many at a time, until so many requests have been asked. Of each that was not
    answered whole `lost` has the port and why; `waits` are those of all others, in seconds.
    """

    def __init__(self, port: int, count: int, at_once: int = 16) -> None:
        super().__init__()
        self._port, self._left, self._at_once = port, count, at_once
        self.answered = 0
        self.lost: dict[int, str] = {}
        self.waits: list[float] = []
        self.start()

    def run(self) -> None:
        asyncio.run(self._ask_all())

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask_on_and_on() for _ in range(self._at_once)))

    async def _ask_on_and_on(self) -> None:
        while self._left:
            self._left -= 1
            began = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            port = writer.get_extra_info("sockname")[1]
            try:
                writer.write(b"GET /?delay=0.01 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                head, _, body = answer.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                whole = head.startswith(b"HTTP/1.1 200 ") and length is not None and len(body) == int(length[1])
            except OSError as error:
                whole, answer = False, repr(error).encode()
            if whole:
                self.answered += 1
                self.waits.append(time.monotonic() - began)
            else:
                self.lost[port] = answer[:100].decode("latin-1")
            writer.close()


def kill_under_load(many: Many, workers: int, kills: int, requests: int) -> None:
    """One worker after the other is killed while clients come; each that was lost was with one that was."""
    clients = Newcomers(many.port, requests * (kills + 1))
    had: set[int] = set()
    for number in range(kills):
        until(lambda: clients.answered >= requests * (number + 1), "answers")  # noqa: B023 - called at once
        serving = many.lb.log.count(" serves, as process ")
        had |= many.kill(number % workers)
        many.lb.wait_for(" serves, as process ", serving + 1)
    clients.join()
    assert clients.answered + len(clients.lost) == requests * (kills + 1)
    assert clients.lost.keys() <= had, (clients.lost, had)
    print(f"{kills} kills: {clients.answered} answered, {len(clients.lost)} lost, longest {max(clients.waits):.3f} s")


def test_with_a_worker_that_is_killed_its_running_requests_are_lost_and_no_others(world):
    kill_under_load(Many(world), 2, 1, 150)


@pytest.mark.long
def test_with_19_workers_that_are_killed_their_running_requests_are_lost_and_no_others(world):
    kill_under_load(Many(world, workers=4), 4, 19, 400)


def test_connections_that_were_handed_to_a_worker_before_it_died_are_served_by_another_one(world):
    """It stands still, and the others hand on to it what it does not take in any more."""
    many = Many(world)
    with contextlib.ExitStack() as open_:
        for _ in range(12):
            many.get()
        pid = many.pids()[1]
        os.kill(pid, signal.SIGSTOP)
        socks = []
        for number in range(40):
            sock = open_.enter_context(socket.create_connection(("127.0.0.1", many.port), timeout=60))
            sock.sendall(f"GET /whoami.json?{number} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            socks.append(sock)
        assert select.select(socks, [], [], 60)[0], "some are served"
        os.kill(pid, signal.SIGKILL)
        assert {sock.recv(12) for sock in socks} == {b"HTTP/1.1 200"}


# What is never exceeded.


@pytest.mark.parametrize("requests", [100, pytest.param(1500, marks=pytest.mark.long)])
def test_a_bound_of_8_holds_over_four_workers_whose_clients_ask_by_no_means_alike(world, requests):
    """Of the clients of the first worker each asks six times as often as of the last."""
    backend = Counting(0.005)
    with contextlib.closing(backend), contextlib.ExitStack() as open_:
        many = Many(world, workers=4, backends=0, others=[backend.port], head="max_in_flight = 8")
        clients: dict[int, list[socket.socket]] = {slot: [] for slot in range(4)}
        for slot, sock in many.connected(32):
            clients[slot].append(open_.enter_context(sock))
        assert min(map(len, clients.values())) >= 6, clients
        answered: Counter[int] = Counter()

        def ask(slot: int, sock: socket.socket, count: int) -> None:
            for _ in range(count):
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = http.client.HTTPResponse(sock)
                answer.begin()
                assert answer.status == 200
                answer.read()
                answered[slot] += 1

        asking = [
            threading.Thread(target=ask, args=(slot, sock, requests * share // 100))
            for slot, share in enumerate((60, 20, 10, 10))
            for sock in clients[slot][:6]
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        assert answered == {slot: 6 * (requests * share // 100) for slot, share in enumerate((60, 20, 10, 10))}
        assert backend.most == 8
        assert backend.served == answered.total()


# What is true of all of them.


def test_a_backend_that_refuses_one_worker_is_asked_by_none(world):
    """Checks are too rare to have a say. What is refused is tried elsewhere."""
    many = Many(world, workers=3, check="interval_s = 600")
    until(lambda: all(one["usable"] for one in many.ask("/v1/backends")["backends"]), "both are used")
    running, port = many.backends[1]
    name = f"127.0.0.1:{port}"
    with contextlib.ExitStack() as open_:
        clients: dict[int, socket.socket] = {}
        for slot, sock in many.connected(12):
            clients[slot] = open_.enter_context(sock)
        assert sorted(clients) == [0, 1, 2]

        def ask(slot: int) -> None:
            clients[slot].sendall(b"GET /whoami.json HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = http.client.HTTPResponse(clients[slot])
            answer.begin()
            assert answer.status == 200
            answer.read()

        def refused() -> float:
            family = "twisted_lb_attempts_total"
            pattern = rf'(?m)^{family}{{[^}}]*backend="{re.escape(name)}"[^}}]*outcome="refused"[^}}]*}} (\d+)'
            return sum(map(float, re.findall(pattern, many.scraped())))

        assert refused() == 0
        running.end()
        until(lambda: ask(0) is None and f"{name} is ejected" in many.lb.log, "the first worker meets it")
        until(lambda: not {one["backend"]: one["usable"] for one in many.ask("/v1/backends")["backends"]}[name])
        assert refused() == 1
        for slot in (1, 2, 0):
            for _ in range(20):
                ask(slot)
        assert refused() == 1


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.long)])
def test_no_counter_goes_back_when_workers_are_killed_and_files_reloaded(world, rounds):
    many = Many(world)
    scrapes = Scrapes(many.scraped)
    clients = Newcomers(many.port, 200 * rounds * 4)
    for number in range(rounds):
        for step in range(3):
            goal = 200 * (4 * number + step + 1)
            until(lambda: clients.answered + len(clients.lost) >= goal, "answers")  # noqa: B023 - called at once
            if step == 1:
                serving = many.lb.log.count(" serves, as process ")
                many.kill(number % 2)
                many.lb.wait_for(" serves, as process ", serving + 1)
            else:
                reloads = many.lb.log.count("connections cut: ")
                many.write([0, 1], f"[timeouts]\nconnect_s = {3 + step}\n")
                many.lb.signal(signal.SIGHUP)
                many.lb.wait_for("connections cut: ", reloads + 1)
    clients.join()
    scrapes.stop()
    assert scrapes.times > 5 * rounds
    assert scrapes.last
    assert scrapes.back == []


def test_a_worker_that_is_told_to_end_leaves_all_counted_that_it_has_answered(world):
    """The last one while it drains: it ends with it, and nobody asks in between."""
    many = Many(world)
    sock = None
    for slot, one in many.connected(8):
        if slot == 1 and sock is None:
            sock = one
        else:
            one.close()
    assert sock is not None
    pid = many.pids()[1]
    until(lambda: many.clients_of(pid) == 1, "it has that one alone")
    before = many.metrics("twisted_lb_requests_total")
    with sock:
        sock.sendall(b"GET /?delay=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: many.metrics("twisted_lb_in_flight") == 1, "it is under way")
        os.kill(pid, signal.SIGTERM)
        assert sock.recv(12) == b"HTTP/1.1 200"
    until(lambda: not alive(pid), "it has ended")
    assert many.metrics("twisted_lb_requests_total") == before + 1


@pytest.mark.long
def test_a_soak_of_workers_loses_nobody_but_with_those_that_are_killed():
    with bad_days_stage() as one:
        soaked = soak_crew(one, under_test(), workers=2, seconds=60)
    assert soaked.done["workers killed"] >= 1
    assert soaked.faults == []
