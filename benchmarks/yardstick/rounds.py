"""Rounds: every contender in turn, again and again, and what each of them used."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from yardstick.contenders import Contender
from yardstick.loads import Generator, Load, Running, closed_loop, h2load, resuming, wrk
from yardstick.machine import PATIENCE_S
from yardstick.place import Backends
from yardstick.scenarios import Scenario
from yardstick.talk import fault, until

FIRST_PROXY_PORT = 19000
WARM_UP_S = 1
BUSY = 0.95
"""A proxy that had its core for less than this was not the limit: its requests per second say nothing."""

Rounds = list[dict[str, dict[str, object]]]
"""The fields of a Sample, by contender, round after round."""


@dataclass(frozen=True)
class Sample:
    """One contender's round."""

    us: float = 0.0
    """CPU microseconds for a request, all processes of the proxy."""
    system: float = 0.0
    """The system's part of that, from 0 to 1."""
    per_s: float = 0.0
    busy: float = 0.0
    """The proxy's CPU time over the time that passed."""
    p50_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0
    memory_bytes: int = 0
    errors: int = 0
    void: str = ""
    """Why this round does not count; "": it does."""
    tail_us: dict[str, float] = field(default_factory=dict)
    """More of the latencies, by percentile, where the generator knows them."""


@contextlib.contextmanager
def running(
    contenders: list[Contender], backends: Backends, scenario: Scenario
) -> Iterator[tuple[list[Running], dict[str, str]]]:
    """All of them, started and answering; and who does not, with the reason."""
    with contextlib.ExitStack() as stack:
        started, left_out = [], {}
        for number, contender in enumerate(contenders):
            try:
                started.append(
                    stack.enter_context(started_one(contender, backends, scenario, FIRST_PROXY_PORT + number))
                )
            except RuntimeError as error:
                left_out[contender.name] = str(error)
        yield started, left_out


@contextlib.contextmanager
def started_one(contender: Contender, backends: Backends, scenario: Scenario, port: int) -> Iterator[Running]:
    """One contender that answers; RuntimeError if it does not."""
    place = backends.place(port, scenario)
    process = contender.start(place)
    one = Running(contender, process, place.address, place.port, place.folder)
    try:
        until(lambda: answers(one, scenario), PATIENCE_S, lambda: problem(one, scenario))
        yield one
    finally:
        process.stop()


def answers(one: Running, scenario: Scenario) -> bool:
    """It answers as it should, or will never."""
    if one.process.ended:
        raise RuntimeError(f"it ended: {one.process.said()}")
    return fault(one.address, one.port, scenario) is None


def problem(one: Running, scenario: Scenario) -> str:
    """Why it does not answer."""
    return f"{fault(one.address, one.port, scenario)} {one.process.said()}"


def measure(one: Running, scenario: Scenario, seconds: float, generate: Generator) -> Sample:
    """One round of one contender, with a look at one answer before and after."""
    wrong = fault(one.address, one.port, scenario)
    try:
        load = generate(one, scenario, seconds)
        memory = one.process.memory()
    except OSError:
        return Sample(void=f"it ended: {one.process.said()}")
    except (RuntimeError, ValueError) as error:  # the generator gave up
        return Sample(void=f"{error} {one.process.said()}".strip())
    found = load.found
    wrong = wrong or fault(one.address, one.port, scenario) or fault_of_load(scenario, load)
    requests = requests_of(scenario, load)
    return Sample(
        us=load.used_s / max(requests, 1) * 1e6,
        system=min(1.0, load.system_s / load.used_s) if load.used_s else 0.0,
        per_s=requests / (found["us"] / 1e6) if found["us"] else 0.0,
        busy=load.used_s / (found["us"] / 1e6) if found["us"] else 0.0,
        p50_us=found["p50"],
        p99_us=found["p99"],
        p999_us=found["p999"],
        memory_bytes=memory,
        errors=found["errors"],
        void=wrong or "",
        tail_us=tail(found.get("histogram", [])),
    )


def tail(histogram: list[tuple[int, int]]) -> dict[str, float]:
    """The latencies at some percentiles of pairs (greatest value, count) in ascending order."""
    total = sum(count for _, count in histogram)
    found, seen = {}, 0
    wanted = [(percent, total * percent / 100) for percent in (50, 75, 90, 95, 99, 99.5, 99.9, 99.99)]
    for value, count in histogram:
        seen += count
        while wanted and seen >= wanted[0][1]:
            found[str(wanted.pop(0)[0])] = float(value)
    return found


def requests_of(scenario: Scenario, load: Load) -> float:
    """How many were answered; where one is large, with the parts of those that the end cut."""
    return load.found["bytes"] / scenario.down_bytes if scenario.counted_by_bytes else load.found["requests"]


def fault_of_load(scenario: Scenario, load: Load) -> str | None:
    """Why the requests of a round cannot be counted; None: they can."""
    found = load.found
    if found["errors"]:
        return f"{found['errors']} errors in {found['requests']} requests"
    if not requests_of(scenario, load):
        return "no request was answered"
    if found.get("bytes", sys.maxsize) < found["requests"] * scenario.down_bytes:
        return f"{found['requests']} answers of {scenario.down_bytes} bytes in {found['bytes']} bytes"
    return None


def play(
    scenario: Scenario,
    contenders: list[Contender],
    backends: Backends,
    rounds: int,
    seconds: float,
) -> Rounds:
    """Every round: the samples by contender; of who cannot do it, why."""
    generate = generator_of(scenario)
    with running(contenders, backends, scenario) as (started, left_out):
        for one in started:
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # if it ends here, each round will say so
                generate(one, scenario, WARM_UP_S)
        return interleaved(started, left_out, scenario, rounds, seconds, generate)


def generator_of(scenario: Scenario) -> Generator:
    """Who makes the load."""
    if scenario.streams:
        return h2load
    return resuming if scenario.resumed else closed_loop if scenario.at_once else wrk


def interleaved(
    started: list[Running],
    left_out: dict[str, str],
    scenario: Scenario,
    rounds: int,
    seconds: float,
    generate: Generator,
) -> Rounds:
    """Another one begins each round."""
    played = []
    without = {name: asdict(Sample(void=why)) for name, why in left_out.items()}
    for number in range(rounds):
        turn = number % max(len(started), 1)
        order = started[turn:] + started[:turn]
        played.append(
            {one.contender.name: asdict(measure(one, scenario, seconds, generate)) for one in order} | without
        )
    return played
