"""Applications that report their load, served as users serve them, behind a balancer that goes by what they report."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from ports import free_port
from processes import PATIENCE_S, Stage, listening, stage, until

from twisted_lb.core.load_report import read_report
from twisted_lb.report import APPLICATION, FIELD, RUNNING, WAITING

PEERS = Path(__file__).parent / "peers"
CONFIG = """
backends = ["{}", "{}"]
policy = {{ choose = "two", load = "reported" }}
"""


class Served(NamedTuple):
    """How an application is served: by the words of a server, `at_once` requests at a time; `queues` where others wait in sight."""

    words: tuple[str, ...]
    at_once: int
    capacity: int = 0
    queues: bool = False


GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--no-control-socket", "--pythonpath", str(PEERS))
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--app-dir", str(PEERS))
SERVERS = {
    "sync": Served((*GUNICORN, "reporting_app:threads"), 1),
    "gthread": Served((*GUNICORN, "--threads", "2", "reporting_app:threads"), 2, capacity=2),
    "uvicorn": Served((*UVICORN, "reporting_app:tasks"), 2, capacity=2, queues=True),
}


class Backend:
    """One process of an application: its port, and the one that tells what it counts."""

    def __init__(self, world: Stage, name: str, served: Served) -> None:
        self.name = name
        self.served = served
        self.port, self.counts = free_port(), free_port()
        log = world.folder / f"{name}.log"
        environ = {"NAME": name, "COUNTS": str(self.counts), "CAPACITY": str(served.capacity)}
        words = [word.format(port=self.port) for word in served.words]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        world.others.append(process)
        self._process, self._log = process, log

    def listens(self) -> None:
        """Wait until it does."""
        ready = lambda: listening(self.port) and listening(self.counts)  # noqa: E731
        until(lambda: ready() or self._process.poll() is not None, f"{self.name} listens")
        assert self._process.poll() is None, self._log.read_text()

    def told(self) -> list[float]:
        """Requests that run, requests that wait, and how many of both there were of late."""
        with socket.create_connection(("127.0.0.1", self.counts), PATIENCE_S) as door, door.makefile() as said:
            return [float(one) for one in said.read().split()]

    def here(self) -> float:
        return sum(self.told()[:2])


class Scene(NamedTuple):
    """Two backends, and the port of the balancer before them."""

    busy: Backend
    idle: Backend
    port: int


@pytest.fixture(scope="module", params=SERVERS)
def scene(request, tmp_path_factory) -> Iterator[Scene]:
    served = SERVERS[request.param]
    pytest.importorskip(served.words[0], exc_type=ImportError)
    with stage(tmp_path_factory.mktemp(request.param)) as world:
        busy, idle = Backend(world, "busy", served), Backend(world, "idle", served)
        file = world.folder / "lb.toml"
        file.write_text(CONFIG.format(f"127.0.0.1:{busy.port}", f"127.0.0.1:{idle.port}"))
        balancer, port = world.balancer("--config", str(file))
        busy.listens()
        idle.listens()
        yield Scene(busy, idle, port)
        assert "Traceback" not in balancer.log


def ask(port: int, path: str = "/") -> http.client.HTTPMessage:
    """The head of an answer."""
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(asking):
        asking.request("GET", path)
        answer = asking.getresponse()
        assert (answer.status, answer.read()) == (200, b"hello")
    return answer.headers


@contextlib.contextmanager
def kept_busy(backend: Backend) -> Iterator[None]:
    """Clients of its own, one more than it serves at a time, ask it again and again past the balancer."""
    enough = threading.Event()

    def client() -> None:
        while not enough.is_set():
            ask(backend.port, "/busy")

    clients = backend.served.at_once + 1
    with ThreadPoolExecutor(clients) as crowd:
        asked = [crowd.submit(client) for _ in range(clients)]
        try:
            until(lambda: backend.told()[2] > 0.6 * backend.served.at_once, "it is busy")
            yield
        finally:
            enough.set()
    for one in asked:
        one.result()


def test_the_one_that_reports_less_is_preferred_and_no_client_learns_of_it(scene):
    """One client, which asks again once it is answered: without reports both would be alike, and would get as many."""
    heads = []
    with kept_busy(scene.busy):
        with ThreadPoolExecutor(4) as clients:

            def both_have_reported() -> bool:
                heads.extend(clients.map(ask, [scene.port] * 4))
                return {head["X-Name"] for head in heads} == {"busy", "idle"}

            until(both_have_reported, "both have reported")
        later = [ask(scene.port) for _ in range(40)]
    names = [head["X-Name"] for head in later]
    assert names.count("idle") >= 36, names
    assert not [name for head in (*heads, *later) for name in head if name.lower().startswith(FIELD)]


def test_each_answer_past_the_balancer_has_one_report(scene):
    until(lambda: scene.idle.here() == 0, "nobody is there")
    (said,) = ask(scene.idle.port).get_all(FIELD)
    report = read_report(said.encode())
    assert set(report.metrics) == {APPLICATION, RUNNING, *([WAITING] if scene.idle.served.queues else [])}
    assert report.metrics[RUNNING] == 1


LEAVERS = {
    "stream": b"GET /stream HTTP/1.1\r\nHost: lb\r\n\r\n",
    "upload": b"POST /upload HTTP/1.1\r\nHost: lb\r\nContent-Length: 100\r\n\r\nsome of it",
    "wait": b"GET /busy HTTP/1.1\r\nHost: lb\r\n\r\n",
}


@pytest.mark.parametrize("sent", LEAVERS.values(), ids=LEAVERS)
def test_who_leaves_in_the_middle_is_counted_no_longer(scene, sent):
    """More clients than both backends serve at a time: some are served, some wait, and all leave."""
    backends = (scene.busy, scene.idle)
    served = scene.idle.served
    clients = [socket.create_connection(("127.0.0.1", scene.port), PATIENCE_S) for _ in range(2 * served.at_once + 4)]
    for client in clients:
        client.sendall(sent)
    if b"/busy" not in sent:  # which ends by itself
        # The others may all wait for the same backend; where nobody tells the application, they are not in its sight.
        in_sight = len(clients) if served.queues else served.at_once
        until(lambda: sum(one.here() for one in backends) >= in_sight, f"{in_sight} are counted")
    for client in clients:
        client.close()
    until(lambda: not any(one.here() for one in backends), "nobody is counted")
    for one in backends:
        for _ in range(served.at_once + 1):  # nobody has kept a turn, either
            assert ask(one.port)["X-Name"] == one.name
