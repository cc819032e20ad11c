"""Policies and ejection before real application servers: one slow worker, and one that fails at once."""

import contextlib
import http.client
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ports import free_port
from processes import Stage, listening, stage, until

pytestmark = pytest.mark.long
PEERS = Path(__file__).parent / "peers"
HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
ROUNDS = 4
REQUESTS = 150  # of a round
CLIENTS = 8
SLOW_S = 0.15


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Stage]:
    pytest.importorskip("gunicorn", exc_type=ImportError)
    with stage(tmp_path) as one:
        yield one


def gunicorn(world: Stage, workers: int, **environ: str) -> tuple[str, Path]:
    """Its address, and the file that is as long as it was asked."""
    port = free_port()
    asked = world.folder / f"asked-{port}"
    words = [
        "--bind",
        f"127.0.0.1:{port}",
        "--workers",
        str(workers),
        "--no-control-socket",
        "--pythonpath",
        str(PEERS),
    ]
    with (world.folder / f"gunicorn-{port}.log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *words, "one_worker:app"],
            env={**os.environ, "ASKED": str(asked), **environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    world.others.append(process)
    until(lambda: listening(port), "gunicorn listens")
    asked.touch()
    return f"127.0.0.1:{port}", asked


def haproxy(world: Stage, backends: list[str]) -> int:
    port = free_port()
    config = world.folder / "haproxy.cfg"
    servers = "".join(f"  server s{number} {backend}\n" for number, backend in enumerate(backends))
    config.write_text(
        "defaults\n  mode http\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n"
        f"listen web\n  bind 127.0.0.1:{port}\n  balance leastconn\n{servers}"
    )
    world.others.append(subprocess.Popen([HAPROXY, "-db", "-f", str(config)], stderr=subprocess.DEVNULL))
    until(lambda: listening(port), "haproxy listens")
    return port


def page(port: int, host: str = "127.0.0.1") -> tuple[int, float]:
    """Status and seconds of one request on a connection of its own, from that address."""
    began = time.monotonic()
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(host, 0))
    with contextlib.closing(asking):
        asking.request("GET", "/")
        answer = asking.getresponse()
        answer.read()
    return answer.status, time.monotonic() - began


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[math.ceil(0.99 * len(latencies)) - 1]


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
def test_by_load_one_slow_worker_is_met_less_than_by_turns(world):
    """Eight clients, each of which asks again once it is answered. By turns a third of all meets the slow worker, and there most of
    the eight wait for one another; by load fewer do. Only ratios are compared, of rounds that alternate.
    """
    quick = [gunicorn(world, 2)[0] for _ in range(2)]
    backends = [*quick, gunicorn(world, 1, TAKES_S=str(SLOW_S))[0]]
    ports = {
        policy: world.balancer("-b", *backends, "-s", policy, "-c", "0")[1] for policy in ("rr", "least", "latency")
    }
    ports["haproxy"] = haproxy(world, backends)
    latencies: dict[str, list[float]] = {name: [] for name in ports}
    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in range(ROUNDS):
            for name, port in ports.items():
                answers = list(clients.map(page, [port] * REQUESTS))
                assert {status for status, _ in answers} == {200}, name
                latencies[name] += [seconds for _, seconds in answers]
    tails = {name: p99(seconds) for name, seconds in latencies.items()}
    assert tails["least"] < 0.8 * tails["rr"], tails
    assert tails["latency"] < 0.8 * tails["rr"], tails
    # As good as the one that everybody knows, up to chance.
    assert tails["least"] < 1.5 * tails["haproxy"], tails


def test_who_answers_500_at_once_is_ejected_and_gets_under_two_percent(world):
    good = [gunicorn(world, 2)[0] for _ in range(2)]
    bad, asked = gunicorn(world, 2, STATUS="500 Internal Server Error")
    config = world.folder / "lb.toml"
    backends = ", ".join(f'"{one}"' for one in [*good, bad])
    config.write_text(f"backends = [{backends}]\nretry.bad_statuses = [500]\nhealth_check.interval_s = 0\n")
    balancer, port = world.balancer("--config", str(config))
    rng = random.Random(1)
    hosts = [f"127.0.0.{rng.randint(2, 9)}" for _ in range(2000)]  # two clients at least have to see it
    with ThreadPoolExecutor(CLIENTS) as clients:
        statuses = Counter(status for status, _ in clients.map(page, [port] * len(hosts), hosts))
    assert statuses == {200: 2000}  # a GET is asked again
    assert asked.stat().st_size < 0.02 * 2000
    assert "is ejected" in balancer.log
