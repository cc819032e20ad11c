"""From rounds to figures: medians, and medians of pairwise ratios."""

import statistics
from dataclasses import dataclass

from yardstick.rounds import BUSY, Rounds


@dataclass(frozen=True)
class Figure:
    """What a table says of one contender in one scenario."""

    name: str
    us: float
    user_us: float
    system_us: float
    ratio: float | None
    """The reference's CPU over its own in the same round: more is better. None: no round has both."""
    low: float | None
    high: float | None
    """The least and the greatest of those ratios."""
    per_s: float | None
    """None: it was never the limit."""
    p50_us: float
    p99_us: float
    p999_us: float
    memory_bytes: float
    rounds: int
    void: tuple[str, ...]


def figures(rounds: Rounds, reference: str) -> list[Figure]:
    """One for each contender that has a round that counts, in the order of the first round's names."""
    names = {name: None for row in rounds for name in row}
    return [figure for name in names if (figure := figure_of(name, rounds, reference)) is not None]


def figure_of(name: str, rounds: Rounds, reference: str) -> Figure | None:
    """One contender's; None: no round counts."""
    good = [row[name] for row in rounds if name in row and not row[name]["void"]]
    if not good:
        return None
    ratios = [
        row[reference]["us"] / row[name]["us"]
        for row in rounds
        if name in row and reference in row and not row[name]["void"] and not row[reference]["void"]
    ]
    us = median(good, "us")
    system = median(good, "system")
    busy = [sample["per_s"] for sample in good if sample["busy"] >= BUSY]
    return Figure(
        name=name,
        us=us,
        user_us=us * (1 - system),
        system_us=us * system,
        ratio=statistics.median(ratios) if ratios else None,
        low=min(ratios, default=None),
        high=max(ratios, default=None),
        per_s=statistics.median(busy) if busy else None,
        p50_us=median(good, "p50_us"),
        p99_us=median(good, "p99_us"),
        p999_us=median(good, "p999_us"),
        memory_bytes=median(good, "memory_bytes"),
        rounds=len(good),
        void=tuple(str(row[name]["void"]) for row in rounds if name in row and row[name]["void"]),
    )


def median(samples: list[dict[str, object]], key: str) -> float:
    """Of one field."""
    return statistics.median(sample[key] for sample in samples)


HEADING = (
    f"  {'':26} {'us/request':>10} {'user':>7} {'system':>7} {'ratio':>6} {'low..high':>11} {'requests/s':>12}"
    f" {'p50 ms':>8} {'p99 ms':>8} {'p99.9':>8} {'MiB':>6}"
)


def table(rounds: Rounds, reference: str) -> str:
    """For a terminal."""
    lines = [HEADING]
    for one in figures(rounds, reference):
        ratio = f"{one.ratio:6.2f} {one.low:5.2f}..{one.high:4.2f}" if one.ratio is not None else f"{'-':>6} {'':11}"
        per_s = f"{one.per_s:12,.0f}" if one.per_s is not None else f"{'load-limited':>12}"
        cost = f"{one.us:10.1f} {one.user_us:7.1f} {one.system_us:7.1f}"
        waits = " ".join(f"{us / 1000:8.2f}" if us else f"{'-':>8}" for us in (one.p50_us, one.p99_us, one.p999_us))
        lines.append(f"  {one.name:26} {cost} {ratio} {per_s} {waits} {one.memory_bytes / 2**20:6.1f}")
        lines += [f"    void: {reason}" for reason in one.void]
    voids = {name: row[name]["void"] for row in rounds for name in row if row[name]["void"]}
    lines += [
        f"  {name}: every round is void: {why}" for name, why in voids.items() if not figure_of(name, rounds, name)
    ]
    return "\n".join(lines)
