"""The plots of docs/benchmarks.md, from the newest run. Needs matplotlib; the same run gives the same bytes."""

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.axes import Axes

from yardstick.figures import figures
from yardstick.page import title
from yardstick.scenarios import SCENARIOS

DOCS = Path(__file__).parent.parent.parent / "docs"
COLOURS = {
    "compiled": "#0b6e4f",
    "pure": "#6bbf9c",
    "haproxy": "#1f4e9c",
    "nginx": "#e08e0b",
    "envoy": "#9b2c8a",
    "caddy": "#4aa3c7",
    "relay": "#888888",
}
RATIOS = ("compiled", "pure", "nginx", "envoy", "caddy")


def draw(run: dict) -> None:
    """All that the run has data for."""
    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "twisted_lb", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    found = run["measurements"]
    ratios(found)
    if "rate-70" in found:
        latency(found["rate-70"])
    for name, what in (("by-connections", "connections"), ("by-backends", "backends")):
        if name in found:
            curve(found[name], name, what)


def save(name: str) -> None:
    """As SVG, without a date."""
    plt.tight_layout()
    plt.savefig(DOCS / f"benchmarks-{name}.svg", metadata={"Date": None})
    plt.close()


def ratios(measurements: dict[str, dict]) -> None:
    """A dot for each contender's median, a line from the lowest round to the highest."""
    names = [name for name in SCENARIOS if name in measurements]
    _, axes = plt.subplots(figsize=(8, 0.45 * len(names) + 1.2))
    for place, contender in enumerate(RATIOS):
        for at, name in enumerate(reversed(names)):
            for one in figures(measurements[name]["rounds"], "haproxy"):
                if one.name == contender and one.ratio is not None:
                    height = at + 0.28 - 0.14 * place
                    axes.plot([one.low, one.high], [height, height], color=COLOURS[contender], linewidth=1)
                    axes.plot([one.ratio], [height], "o", color=COLOURS[contender], markersize=4)
    for contender in RATIOS:
        axes.plot([], [], "o-", color=COLOURS[contender], label=title(contender))
    axes.axvline(1, color=COLOURS["haproxy"], linewidth=1)
    axes.set_yticks(range(len(names)), [SCENARIOS[name].title for name in reversed(names)])
    axes.set_xlim(left=0)
    axes.set_xlabel("HAProxy's CPU for a request over theirs: more is better")
    axes.legend(frameon=False, loc="best")
    save("ratios")


def latency(measured: dict) -> None:
    """Percentiles, the tail drawn out; the median round's."""
    _, axes = plt.subplots(figsize=(7, 3.6))
    rounds = measured["rounds"]
    for name in dict.fromkeys(name for one in rounds for name in one):
        good = sorted(
            (one[name] for one in rounds if name in one and not one[name]["void"]), key=lambda one: one["p99_us"]
        )
        if good:
            tail = good[len(good) // 2]["tail_us"]
            beyond = [100 / (100 - float(percent)) for percent in tail]
            axes.plot(
                beyond,
                [us / 1000 for us in tail.values()],
                "o-",
                color=COLOURS.get(name),
                label=title(name),
                markersize=3,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xticks([2, 10, 100, 1000, 10000], ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"])
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms from when it was due")
    axes.legend(frameon=False)
    save("latency")


def curve(measured: dict, name: str, what: str) -> None:
    """CPU for a request by a number of something."""
    _, axes = plt.subplots(figsize=(7, 3.2))
    lines: dict[str, list[tuple[int, float]]] = {}
    for number, rounds in measured["points"].items():
        for one in figures(rounds, measured["reference"]):
            lines.setdefault(one.name, []).append((int(number), one.us))
    for contender, points in lines.items():
        axes.plot(*zip(*points, strict=True), "o-", color=COLOURS.get(contender), label=title(contender), markersize=4)
    finish_curve(axes, what)
    save(name)


def finish_curve(axes: Axes, what: str) -> None:
    """From nothing up: flat is what should be seen."""
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(what)
    axes.set_ylabel("CPU µs for a request")
    axes.legend(frameon=False)
