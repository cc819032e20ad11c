"""What our defaults cost against tuned settings, scenario by scenario."""

from collections.abc import Iterator
from dataclasses import dataclass

from yardstick.contenders import twin_of
from yardstick.figures import Figure, figure_of
from yardstick.scenarios import SCENARIOS

LEAST = 0.95
"""The CPU for a request tuned, over that by default: no default of ours may cost more than 5 %."""
OURS = ("compiled", "pure")


@dataclass(frozen=True)
class Pair:
    """One contender in one scenario, tuned and by default."""

    name: str
    scenario: str
    figure: Figure | None
    """Whose ratio is tuned over default, round by round; None: no round has both."""

    @property
    def ratio(self) -> float | None:
        """The median of the rounds; None: there is none."""
        return self.figure.ratio if self.figure is not None else None

    @property
    def dear(self) -> bool:
        """The defaults cost too much, or could not be measured."""
        return self.ratio is None or self.ratio < LEAST

    def __str__(self) -> str:
        one = self.figure
        if one is None or one.ratio is None:
            return f"{self.scenario} void"
        return f"{self.scenario} {one.ratio:.2f} ({one.low:.2f}..{one.high:.2f})"


def pairs(measurements: dict[str, dict], name: str) -> Iterator[Pair]:
    """Of one contender, in every scenario in which it took part both ways."""
    for scenario in SCENARIOS:
        rounds = measurements.get(scenario, {}).get("rounds", [])
        if any(name in row and twin_of(name) in row for row in rounds):
            yield Pair(name, scenario, figure_of(twin_of(name), rounds, name))


def of_ours(measurements: dict[str, dict]) -> list[Pair]:
    """Of ours, in every build."""
    return [pair for name in OURS for pair in pairs(measurements, name)]


def told(found: list[Pair]) -> str:
    """A line for each build, for a terminal."""
    lines = {name: ", ".join(str(pair) for pair in found if pair.name == name) for name in OURS}
    return "\n".join(f"{name}, tuned over default (at least {LEAST}): {mine}" for name, mine in lines.items() if mine)


def complaint(found: list[Pair]) -> str | None:
    """What is wrong with our defaults, in one line; None: nothing."""
    if not found:
        return "ours was not measured both tuned and by default"
    if dear := [f"{pair.name} in {pair}" for pair in found if pair.dear]:
        return f"our defaults cost more than 5 %, or could not be measured: {'; '.join(dear)}"
    return None
