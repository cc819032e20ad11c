"""What we want to reach, and whether a run does."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from yardstick import defaults
from yardstick.figures import figure_of
from yardstick.resources import BARE
from yardstick.scenarios import SCENARIOS

STOCK_TIMES = 20.0
P99_TIMES = 1.3
IDLE_BYTES = 4096.0


@dataclass(frozen=True)
class Verdict:
    """One goal, beside what was measured. `key` is the heading of its text in goals.md."""

    key: str
    what: str
    floor: float | None
    goal: float
    reached: float | None
    """None: not measured."""
    less_is_better: bool = False

    @property
    def met(self) -> bool:
        """As good as wanted."""
        if self.reached is None:
            return False
        return self.reached <= self.goal if self.less_is_better else self.reached >= self.goal

    @property
    def below_floor(self) -> bool:
        """Worse than we accept."""
        return self.reached is not None and self.floor is not None and self.reached < self.floor

    @property
    def missed(self) -> bool:
        """Measured, and not met."""
        return self.reached is not None and not self.met


@dataclass(frozen=True)
class Goal:
    """Efficiency against HAProxy: its CPU for a request over ours."""

    scenario: str
    floor: float | None
    goal: float
    contender: str = "compiled"


GOALS = (
    Goal("small-64", 0.85, 1.0),
    Goal("small-1000", 0.85, 1.0),
    Goal("small-64", None, 0.75, "pure"),
    Goal("small-1000", None, 0.75, "pure"),
    Goal("browser-same", 0.8, 1.0),
    Goal("browser-varying", 0.6, 0.85),
    Goal("new-connection", 0.7, 0.9),
    Goal("down-64k", 0.6, 0.9),
    Goal("down-1m", 0.6, 0.9),
    Goal("up-64k", 0.6, 0.9),
    Goal("up-16m", 0.6, 0.9),
)


def verdicts(measurements: dict[str, dict]) -> Iterator[Verdict]:
    """Every goal, in the order of the page."""
    for goal in GOALS:
        key = goal.scenario if goal.contender == "compiled" else f"{goal.scenario}, {goal.contender}"
        reached = ratio(measurements, goal.scenario, goal.contender, "haproxy")
        what = f"{SCENARIOS[goal.scenario].title}{'' if goal.contender == 'compiled' else ', ' + goal.contender}"
        yield Verdict(key, what, goal.floor, goal.goal, reached)
    for peer, title in (("envoy", "Envoy"), ("caddy", "Caddy")):
        yield least(measurements, peer, title)
    yield at_default(measurements)
    reached = ratio(measurements, "small-64", "compiled", "stock")
    yield Verdict("stock", "against the stock resource, small, 64 connections", None, STOCK_TIMES, reached)
    yield Verdict("p99", "p99 at 70 % load over HAProxy's", None, P99_TIMES, p99(measurements), less_is_better=True)
    yield Verdict("idle", "bytes for an idle connection", None, IDLE_BYTES, idle(measurements), less_is_better=True)


def ratio(measurements: dict[str, dict], scenario: str, name: str, reference: str) -> float | None:
    """The median over rounds; None: there is none."""
    if scenario not in measurements:
        return None
    figure = figure_of(name, measurements[scenario]["rounds"], reference)
    return figure.ratio if figure else None


def least(measurements: dict[str, dict], peer: str, title: str) -> Verdict:
    """Against a peer, in the scenario where we are worst."""
    found = {name: ratio(measurements, name, "compiled", peer) for name in SCENARIOS}
    known = {name: value for name, value in found.items() if value is not None}
    worst = min(known, key=known.get, default=None)
    where = f", worst in {worst}" if worst else ""
    return Verdict(peer, f"against {title} in every scenario{where}", None, 1.0, known.get(worst))


def at_default(measurements: dict[str, dict]) -> Verdict:
    """Tuned over our defaults, in the scenario and build where they cost most."""
    known = [pair for pair in defaults.of_ours(measurements) if pair.ratio is not None]
    worst = min(known, key=lambda pair: pair.ratio, default=None)
    where = f", worst in {worst.scenario}, {worst.name}" if worst else ""
    what = f"tuned over our defaults in every scenario{where}"
    return Verdict("defaults", what, None, defaults.LEAST, worst.ratio if worst else None)


def p99(measurements: dict[str, dict]) -> float | None:
    """Ours over HAProxy's, round by round, in the median."""
    rounds = measurements.get("rate-70", {}).get("rounds", [])
    pairs = [
        row["compiled"]["p99_us"] / row["haproxy"]["p99_us"]
        for row in rounds
        if all(name in row and not row[name]["void"] for name in ("compiled", "haproxy"))
    ]
    return statistics.median(pairs) if pairs else None


def idle(measurements: dict[str, dict]) -> float | None:
    """Bytes that an idle connection costs us beyond what it costs a bare listener."""
    found = measurements.get("memory", {}).get("contenders", {})
    ours, bare = (found.get(name, {}).get("idle_bytes") for name in ("compiled", BARE))
    return statistics.median(ours) - statistics.median(bare) if ours and bare else None
