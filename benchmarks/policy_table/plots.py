"""The plots of docs/policies.md. Needs matplotlib; the same figures give the same bytes."""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from policy_table.page import KINDS, LOADS, SIZES

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def draw(facts: dict) -> None:
    """All of them."""
    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "twisted_lb", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    for size in SIZES:
        by_load(facts, size)
    shares(facts)
    steps(facts)


def save(name: str) -> None:
    """As SVG, without a date."""
    plt.tight_layout()
    plt.savefig(DOCS / f"policies-{name}.svg", metadata={"Date": None})
    plt.close()


def by_load(facts: dict, size: str) -> None:
    """A line for each policy, mean beside p99; who is unstable has none."""
    _, both = plt.subplots(1, 2, figsize=(8, 3.4))
    for axes, what in zip(both, ("mean", "p99"), strict=True):
        for name, one in facts.items():
            cells = [(float(load), one["even"][size][load]) for load in LOADS]
            found = [(load, *cell[what]) for load, cell in cells if what in cell]
            if found:
                axes.errorbar(*zip(*found, strict=True), label=name, marker="o", markersize=3, linewidth=1, capsize=2)
        labelled(axes, f"{what}, in mean times of service")
    both[0].legend(frameon=False)
    save(size)


def labelled(axes: Axes, what: str) -> None:
    axes.set_yscale("log")
    axes.set_xlabel("load")
    axes.set_ylabel(what)


def shares(facts: dict) -> None:
    """Bars: what a slow backend gets, and one that fails at once."""
    names = list(facts)
    kinds = {
        "ten times slower": [facts[name]["slow"]["share"] for name in names],
        "fails at once, which counts": [facts[name]["sinkhole"]["counts"]["share"] for name in names],
        "fails at once, which does not count": [facts[name]["sinkhole"]["does not"]["share"] for name in names],
    }
    _, axes = plt.subplots(figsize=(8, 3))
    for at, (kind, values) in enumerate(kinds.items()):
        axes.bar(
            [place + 0.26 * (at - 1) for place in range(len(names))], [100 * one for one in values], 0.25, label=kind
        )
    axes.axhline(10, color="#888888", linewidth=1)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("% of the requests; even: 10")
    axes.legend(frameon=False)
    save("shares")


def steps(facts: dict) -> None:
    """A line for each policy: what a pick costs by the size of the pool, with equal weights beside unequal ones."""
    _, both = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    for axes, kind in zip(both, KINDS, strict=True):
        for name, one in facts.items():
            seen = one["steps"][kind]
            axes.plot(
                [int(size) for size in seen],
                [each["mean"] for each in seen.values()],
                label=name,
                marker="o",
                markersize=3,
                linewidth=1,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"backends, {kind} weights")
    both[0].set_ylabel("steps a pick")
    both[0].legend(frameon=False)
    save("steps")
