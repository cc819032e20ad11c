"""All that can be measured, by name: what each one does, and what it leaves for the page."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

from yardstick import resources, rounds, steady
from yardstick.contenders import Contender
from yardstick.figures import table
from yardstick.place import Backends
from yardstick.scenarios import (
    BY_BACKENDS,
    BY_CONNECTIONS,
    LOGGED,
    OVER_HTTP2,
    OVER_TCP,
    OVER_TLS,
    RATE,
    SCENARIOS,
    Scenario,
)


@dataclass(frozen=True)
class Run:
    """What a measurement is given."""

    contenders: list[Contender]
    backends: Backends
    rounds: int
    seconds: float

    @property
    def tuned(self) -> list[Contender]:
        """Those with the best fair settings: what one of many numbers is compared by."""
        return [contender for contender in self.contenders if not contender.by_default]

    def only(self, names: tuple[str, ...]) -> list[Contender]:
        """Those of that name that take part."""
        return [contender for contender in self.contenders if contender.name in names]


CURVES = ("compiled", "pure", "haproxy", "nginx")
NOT_MEMORY = ("proxy.py", "relay")
"""A thread for each connection; nothing of its own."""
CURVE_ROUNDS = 3


def one_scenario(scenario: Scenario) -> Callable[[Run], dict]:
    """The measurement of one row."""

    def measure(run: Run) -> dict:
        played = rounds.play(scenario, run.contenders, run.backends, run.rounds, run.seconds)
        print(table(played, scenario.reference), flush=True)
        return {"title": scenario.title, "reference": scenario.reference, "rounds": played}

    return measure


def logging(run: Run) -> dict:
    """The same load with an access log and without one."""
    some = [one for contender in run.tuned if contender.log for one in (contender, contender.logging())]
    played = rounds.play(LOGGED, some, run.backends, run.rounds, run.seconds)
    print(table(played, LOGGED.reference), flush=True)
    return {"title": LOGGED.title, "reference": LOGGED.reference, "rounds": played}


def rate(run: Run) -> dict:
    """Latency at a constant rate."""
    played = steady.play(run.tuned, run.backends, run.rounds, run.seconds)
    print(f"  at {played.rate_per_s:,.0f} requests/s; in a closed loop they can take {capacities(played)}")
    print(table(played.rounds, RATE.reference), flush=True)
    return {"title": RATE.title, "reference": RATE.reference, **asdict(played)}


def capacities(played: steady.Steady) -> str:
    """For a terminal."""
    return ", ".join(f"{name} {most:,.0f}" for name, most in played.capacities_per_s.items())


def curve(points: dict[int, Scenario]) -> Callable[[Run], dict]:
    """The same at many numbers of something."""

    def measure(run: Run) -> dict:
        found = {}
        for number, scenario in points.items():
            some = min(run.rounds, CURVE_ROUNDS)
            played = rounds.play(scenario, run.only(CURVES), run.backends, some, run.seconds)
            print(f" {scenario.title}\n{table(played, scenario.reference)}", flush=True)
            found[str(number)] = played
        return {"reference": "haproxy", "points": found}

    return measure


def memory(run: Run) -> dict:
    """For each connection."""
    some = [contender for contender in run.tuned if contender.name not in NOT_MEMORY]
    found = resources.memory(some, run.backends, min(run.rounds, CURVE_ROUNDS))
    for name, told in found.items():
        idle, active, http2 = (
            statistics.median(told.get(key) or [float("nan")])
            for key in ("idle_bytes", "active_bytes", "http2_idle_bytes")
        )
        said = f"{idle:10,.0f} bytes idle {active:10,.0f} active {http2:10,.0f} idle, HTTP/2"
        print(f"  {name:26} {said}  {told.get('void', '')}", flush=True)
    return {"idle": resources.IDLE, "active": resources.ACTIVE, "contenders": found}


def start(run: Run) -> dict:
    """Until the first answer."""
    found = resources.starts(run.tuned, run.backends, run.rounds)
    for name, told in found.items():
        print(f"  {name:26} {statistics.median(told or [float('nan')]) * 1000:10,.0f} ms", flush=True)
    return {"contenders": found}


MEASUREMENTS: dict[str, tuple[str, Callable[[Run], dict]]] = {
    **{name: (scenario.title, one_scenario(scenario)) for name, scenario in SCENARIOS.items()},
    **{
        name: (scenario.title, one_scenario(scenario))
        for name, scenario in {**OVER_TLS, **OVER_TCP, **OVER_HTTP2}.items()
    },
    "logging": (LOGGED.title, logging),
    "rate-70": ("latency at 70 % of the slower peer's capacity", rate),
    "by-connections": ("small, keep-alive, 64 at once on 1 to 10,000 connections", curve(BY_CONNECTIONS)),
    "by-backends": ("small, keep-alive, 64 connections, 2 to 1,000 backends", curve(BY_BACKENDS)),
    "memory": ("memory of a connection", memory),
    "start": ("time to the first answer", start),
}
NEED_GCC = {name for name, scenario in SCENARIOS.items() if scenario.at_once} | {"rate-70", "by-connections", "memory"}
BACKENDS = max(*BY_BACKENDS, *(scenario.backends for scenario in SCENARIOS.values()))
