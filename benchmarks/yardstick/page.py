"""docs/benchmarks.md, and the README's ratios: the newest run as text. No number in them is typed by hand."""

import re
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

from yardstick import defaults
from yardstick.contenders import CONTENDERS, LOGGING, TWINS, find, logging_of, twin_of
from yardstick.figures import Figure, Rounds, figures
from yardstick.goals import Verdict, ratio, verdicts
from yardstick.resources import BARE
from yardstick.scenarios import SCENARIOS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
TEXTS = ROOT / "benchmarks" / "pages"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def text(name: str) -> str:
    """A part of the page that is written by hand."""
    return (TEXTS / f"{name}.md").read_text().strip()


def title(name: str) -> str:
    """What the page calls a contender."""
    return find(name).called if name in CONTENDERS or name in TWINS or name in LOGGING else name


def row(cells: Iterable[str]) -> str:
    """Of a table."""
    return "| " + " | ".join(cells) + " |"


def table(heading: list[str], rows: Iterable[list[str]]) -> str:
    """Numbers to the right."""
    return "\n".join([row(heading), "|---|" + "---:|" * (len(heading) - 1), *map(row, rows)])


def digits(value: float | None, none: str = "-") -> str:
    """Three significant digits, or all before the point."""
    if value is None:
        return none
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def render(run: dict, logged: dict, streamed: dict, held: dict) -> str:
    """The page: a run, one in which access logs were measured, one of streams, and one of the memory of connections."""
    measurements = run["measurements"]
    parts = [
        text("introduction"),
        "## The run",
        machine(run),
        "## CPU for a request: HAProxy's over theirs",
        "1.0 is as much as HAProxy in the same rounds, 2.0 is half of it, 0.5 twice as much: more is better.",
        ratios(measurements, [name for name in run["versions"] if name != "haproxy" and name not in TWINS]),
        "![Ratios](benchmarks-ratios.svg)",
        by_default(measurements, [name for name in run["versions"] if twin_of(name) in run["versions"]]),
        "## Goals",
        goals(list(verdicts(measurements))),
        text("goals"),
        "## Every scenario",
        text("scenarios"),
        *scenarios(measurements),
        *logging(logged),
        *streaming(streamed),
        *steady(measurements),
        *resources(measurements, held),
        text("method"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def machine(run: dict) -> str:
    """Where, when, who."""
    here = run["machine"]
    where = f"{here['cores']} cores of {here['processor']}, {here['memory_gib']} GiB, {here['system']}, Linux {here['kernel']}"
    versions = ([title(name), version] for name, version in run["versions"].items() if name not in TWINS)
    return f"{run['when'][:10]}, {where}.\n\n{table(['contender', 'version'], versions)}"


def ratios(measurements: dict[str, dict], names: list[str]) -> str:
    """One row for each scenario, one column for each contender."""
    rows = []
    for scenario in SCENARIOS:
        if scenario not in measurements:
            continue
        found = {one.name: one for one in figures(measurements[scenario]["rounds"], "haproxy")}
        cost = f"{digits(found['haproxy'].us)} µs" if "haproxy" in found else "-"
        cells = [digits(found[name].ratio) if name in found else "-" for name in names]
        rows.append([SCENARIOS[scenario].title, cost, *cells])
    return table(["scenario", "HAProxy", *map(title, names)], rows)


def by_default(measurements: dict[str, dict], names: list[str]) -> str:
    """What the defaults of each cost against its tuned settings; nothing where that was not measured."""
    found = {name: {pair.scenario: pair for pair in defaults.pairs(measurements, name)} for name in names}
    if not any(found.values()):
        return ""
    rows = []
    for scenario in SCENARIOS:
        mine = [found[name].get(scenario) for name in names]
        if any(mine):
            rows.append([SCENARIOS[scenario].title, *map(default_cell, mine)])
    heading = f"## By default\n\n{text('defaults')}"
    return f"{heading}\n\n{table(['tuned over default', *map(title, names)], rows)}"


def default_cell(pair: defaults.Pair | None) -> str:
    """The ratio and its range."""
    if pair is None:
        return "-"
    one = pair.figure
    if one is None or one.ratio is None:
        return "void"
    return f"{digits(one.ratio)} ({digits(one.low)} to {digits(one.high)})"


def goals(found: list[Verdict]) -> str:
    """The table of the goals."""
    explained = set(re.findall(r"^### (.+)$", text("goals"), re.MULTILINE))
    rows = []
    for one in found:
        wanted = f"{'<=' if one.less_is_better else '>='} {digits(one.goal)}"
        rows.append([one.what, digits(one.floor), wanted, digits(one.reached), verdict(one, explained)])
    return table(["compiled, against HAProxy unless it says otherwise", "at least", "goal", "reached", ""], rows)


def verdict(one: Verdict, explained: set[str]) -> str:
    """In words; a goal that is missed has a text below the table."""
    if one.reached is None:
        return "not measured"
    if one.met:
        return "met"
    words = "**below the least**" if one.below_floor else "missed"
    return f"{words}: {one.key}" if one.key in explained else f"{words}, not explained yet"


def scenarios(measurements: dict[str, dict]) -> Iterator[str]:
    """All the figures."""
    for name in SCENARIOS:
        if name in measurements:
            yield f"### {SCENARIOS[name].title[0].upper()}{SCENARIOS[name].title[1:]}\n\n{detail(measurements[name])}"


def detail(measured: dict) -> str:
    """The table of one scenario, and who could not."""
    rounds: Rounds = measured["rounds"]
    heading = ["", "µs/request", "user", "system", "ratio", "lowest", "highest", "requests/s", "p50 ms", "p99 ms"]
    found = figures(rounds, measured["reference"])
    parts = [table([*heading, "p99.9 ms", "MiB"], map(cells, found))]
    parts += [f"{title(name)}: {why}" for name, why in voids(rounds)]
    return "\n\n".join(parts)


def cells(one: Figure) -> list[str]:
    """One contender's row."""
    numbers = [one.us, one.user_us, one.system_us, one.ratio, one.low, one.high]
    waits = [us / 1000 for us in (one.p50_us, one.p99_us, one.p999_us)]
    per_s = f"{one.per_s:,.0f}" if one.per_s is not None else "load-limited"
    return [title(one.name), *map(digits, numbers), per_s, *map(digits, waits), digits(one.memory_bytes / 2**20)]


def voids(rounds: Rounds) -> Iterator[tuple[str, str]]:
    """Who had rounds that do not count, how many, and why the last one does not."""
    for name in {name: None for one in rounds for name in one}:
        reasons = [one[name]["void"] for one in rounds if name in one and one[name]["void"]]
        if reasons:
            yield name, f"{len(reasons)} of {len(rounds)} rounds void ({one_line(reasons[-1])})"


def one_line(reason: str) -> str:
    """The first line, short enough for a page, without paths."""
    return re.sub(r"/\S+/", "", reason.splitlines()[0])[:160]


def logging(run: dict) -> Iterator[str]:
    """What a line of each request costs, and what is kept of each."""
    rounds: Rounds = run["measurements"]["logging"]["rounds"]
    rows = []
    for name in CONTENDERS:
        pairs = [
            (one[name]["us"], one[logging_of(name)]["us"])
            for one in rounds
            if name in one and logging_of(name) in one and not one[name]["void"] and not one[logging_of(name)]["void"]
        ]
        if pairs:
            medians = [statistics.median(one) for one in zip(*pairs, strict=True)]
            more = statistics.median(after - before for before, after in pairs)
            share = statistics.median(after / before - 1 for before, after in pairs)
            rows.append([title(name), *map(digits, (*medians, more)), f"{share:.0%}"])
    yield "## A line of each request"
    yield text("logging")
    yield machine({**run, "versions": {name: one for name, one in run["versions"].items() if name in CONTENDERS}})
    yield table(["", "µs/request without", "with its log", "more", ""], rows)
    yield "\n\n".join(f"{title(name)}: {why}" for name, why in voids(rounds))
    yield "## What metrics and explanations cost"
    yield text("counting")


def streaming(run: dict) -> Iterator[str]:
    """When the pieces of streams come."""
    measured = run["measurements"]["streaming"]
    heading = ["", "first, median", "p99", "others, median", "p99", "gap off by, median", "p99"]
    keys = [f"{part}_{cut}" for part in ("first", "later", "jitter") for cut in ("p50", "p99")]
    yield "## Streams"
    yield text("streaming")
    yield machine(run)
    yield table(heading, [[name, *(digits(one[key] / 1000) for key in keys)] for name, one in measured["seen"].items()])


def steady(measurements: dict[str, dict]) -> Iterator[str]:
    """Latency at a constant rate."""
    measured = measurements.get("rate-70")
    if measured:
        rate, most = measured["rate_per_s"], measured["capacities_per_s"]
        yield "## Latency at a constant rate"
        yield text("latency")
        asked = ", ".join(f"{title(name)} {digits(value)}" for name, value in most.items())
        yield f"The rate: {digits(rate)} requests/s. In a closed loop they took: {asked}."
        yield detail(measured)
        yield "![Latency](benchmarks-latency.svg)"


def resources(measurements: dict[str, dict], held: dict) -> Iterator[str]:
    """Memory, flatness, start."""
    yield "## Resources"
    yield memory(held)
    for name, number in (("by-connections", "connections"), ("by-backends", "backends")):
        if name in measurements:
            yield f"### From few {number} to many"
            yield curve(measurements[name], number)
            yield f"![CPU by {number}](benchmarks-{name}.svg)"
    if "start" in measurements:
        found = measurements["start"]["contenders"]
        rows = ([title(name), f"{statistics.median(told) * 1000:,.0f}"] for name, told in found.items() if told)
        yield "### From the start of the program to its first answer\n\n" + table(["", "ms"], rows)


def memory(run: dict) -> str:
    """Bytes for each connection, beyond what a bare listener takes."""
    measured = run["measurements"]["memory"]
    bare = statistics.median(measured["contenders"][BARE]["idle_bytes"])
    rows = []
    for name, told in measured["contenders"].items():
        if name != BARE:
            idle, active, http2 = (
                statistics.median(told[key]) if told.get(key) else None
                for key in ("idle_bytes", "active_bytes", "http2_idle_bytes")
            )
            less = [digits(each - bare) if each is not None else "-" for each in (idle, http2)]
            rows.append([title(name), less[0], digits(active), less[1], one_line(told.get("void", "-"))])
    many = f"each of {measured['idle']:,} idle"
    heading = ["bytes", many, f"each of {measured['active']:,} active", f"{many}, HTTP/2", ""]
    return f"### Memory of a connection\n\n{text('memory')}\n\n{machine(run)}\n\n{table(heading, rows)}"


def curve(measured: dict, what: str) -> str:
    """CPU for a request at each number."""
    points = {number: figures(rounds, measured["reference"]) for number, rounds in measured["points"].items()}
    names = list({one.name: None for found in points.values() for one in found})
    rows = []
    for name in names:
        costs = [next((one.us for one in found if one.name == name), None) for found in points.values()]
        rows.append([title(name), *map(digits, costs)])
    return table([f"µs/request at {what}", *(f"{int(number):,}" for number in points)], rows)


def readme_part(run: dict) -> str:
    """What stands between the markers in the README."""
    shown = [name for name in ("compiled", "pure", "nginx", "envoy", "caddy") if name in run["versions"]]
    rows = []
    for scenario in SCENARIOS:
        found = [ratio(run["measurements"], scenario, name, "haproxy") for name in shown]
        if any(value is not None for value in found):
            rows.append([SCENARIOS[scenario].title, *map(digits, found)])
    versions = ", ".join(
        f"{title(name)} {run['versions'][name]}" for name in ("haproxy", *shown[2:]) if name in run["versions"]
    )
    said = f"Measured {run['when'][:10]} on {run['machine']['cores']} cores of {run['machine']['processor']}, beside {versions}."
    heading = ["HAProxy's CPU for a request over theirs (1.0: equal, more is better)", *map(title, shown)]
    return f"{said}\n\n{table(heading, rows)}"


def readme(run: dict, now: str) -> str:
    """The README with that part renewed."""
    before, _, rest = now.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{readme_part(run)}\n{END}{after}"


def write(run: dict, logged: dict, streamed: dict, held: dict) -> None:
    """The page and the README."""
    PAGE.write_text(render(run, logged, streamed, held))
    README.write_text(readme(run, README.read_text()))
