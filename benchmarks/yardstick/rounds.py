"""Rounds: every contender in turn, again and again, and what each of them used."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from yardstick.contenders import Contender
from yardstick.machine import PATIENCE_S, Process
from yardstick.place import Backends
from yardstick.scenarios import Scenario
from yardstick.talk import fault, until

FIRST_PROXY_PORT = 19000
WARM_UP_S = 1
BUSY = 0.95
"""A proxy that had its core for less than this was not the limit: its requests per second say nothing."""


@dataclass(frozen=True)
class Sample:
    """One contender's round."""

    us: float
    """CPU microseconds for a request, all processes of the proxy."""
    system: float
    """The system's part of that, from 0 to 1."""
    per_s: float
    busy: float
    """The proxy's CPU time over the time that passed."""
    p50_us: float
    p99_us: float
    p999_us: float
    memory_bytes: int
    errors: int = 0
    void: str = ""
    """Why this round does not count; "": it does."""


@dataclass(frozen=True)
class Running:
    """A started contender."""

    contender: Contender
    process: Process
    address: str
    port: int


@contextlib.contextmanager
def running(contenders: list[Contender], backends: Backends, scenario: Scenario) -> Iterator[list[Running]]:
    """All of them, started and answering; who does not is left out, with a line that says why."""
    with contextlib.ExitStack() as stack:
        started = []
        for number, contender in enumerate(contenders):
            place = backends.place(FIRST_PROXY_PORT + number, scenario.backends)
            process = contender.start(place)
            stack.callback(process.stop)
            one = Running(contender, process, place.address, place.port)
            try:
                until(lambda one=one: answers(one, scenario), PATIENCE_S, lambda one=one: problem(one, scenario))
                started.append(one)
            except RuntimeError as error:
                print(f"{contender.title} is left out: {error}", file=sys.stderr)
        yield started


def answers(one: Running, scenario: Scenario) -> bool:
    """It answers as it should, or will never."""
    if one.process.ended:
        raise RuntimeError(f"it ended: {one.process.said()}")
    return fault(one.address, one.port, scenario) is None


def problem(one: Running, scenario: Scenario) -> str:
    """Why it does not answer."""
    return f"{fault(one.address, one.port, scenario)} {one.process.said()}"


def wrk(one: Running, scenario: Scenario, seconds: float) -> dict[str, float]:
    """What wrk found."""
    script = Path(__file__).parent / "load.lua"
    url = f"http://{one.address}:{one.port}{scenario.path}"
    words = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}", "--timeout", "20", "-s", script, url, "--"]
    done = subprocess.run(
        [*words, *scenario.words], capture_output=True, text=True, timeout=seconds + PATIENCE_S, check=False
    )
    line = done.stdout.rstrip().rpartition("\n")[2]
    if not line.startswith("{"):
        raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
    return json.loads(line)


def measure(one: Running, scenario: Scenario, seconds: float) -> Sample:
    """One round of one contender."""
    wrong = fault(one.address, one.port, scenario)
    before, system_before = one.process.cpu()
    found = wrk(one, scenario, seconds)
    time.sleep(0.05)  # the end of its connections is a part of the bill
    after, system_after = one.process.cpu()
    wrong = wrong or fault(one.address, one.port, scenario) or too_few_bytes(scenario, found)
    wrong = wrong or (f"{found['errors']} errors" if found["errors"] else "")
    requests = found["bytes"] / scenario.down_bytes if scenario.counted_by_bytes else found["requests"]
    used = after - before
    return Sample(
        us=used / max(requests, 1) * 1e6,
        system=min(1.0, (system_after - system_before) / used) if used else 0.0,
        per_s=requests / (found["us"] / 1e6),
        busy=used / (found["us"] / 1e6),
        p50_us=found["p50"],
        p99_us=found["p99"],
        p999_us=found["p999"],
        memory_bytes=one.process.memory(),
        errors=found["errors"],
        void=wrong or ("" if requests else "no request was answered"),
    )


def too_few_bytes(scenario: Scenario, found: dict[str, float]) -> str | None:
    """The answers were shorter than they should be."""
    if found["bytes"] < found["requests"] * scenario.down_bytes:
        return f"{found['requests']} answers of {scenario.down_bytes} bytes in {found['bytes']} bytes"
    return None


def play(
    scenario: Scenario, contenders: list[Contender], backends: Backends, rounds: int, seconds: float
) -> list[dict[str, dict[str, object]]]:
    """Every round: the samples by contender. Another one begins each round."""
    played = []
    with running(contenders, backends, scenario) as started:
        for one in started:
            wrk(one, scenario, WARM_UP_S)
        for number in range(rounds):
            turn = number % max(len(started), 1)
            order = started[turn:] + started[:turn]
            played.append({one.contender.name: asdict(measure(one, scenario, seconds)) for one in order})
    return played
