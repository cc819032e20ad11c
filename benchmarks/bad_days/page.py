"""docs/reliability.md, out of docs/reliability.json."""

from collections.abc import Callable, Iterable

from bad_days.scenarios import SCENARIOS, Scenario
from bad_days.soak import Soaked, table

PEERS = ("HAProxy", "NGINX", "ours", "ours, pure")

HEAD = """\
# Bad days, side by side

What became of clients while backends were killed, stopped, overrun, closing, away or moved, while other clients were
slow, idle or large, while the clock stepped, and while the proxy itself was replaced: twisted_lb ({ours}) beside HAProxy {haproxy} and NGINX {nginx}, over real processes and loopback.
`benchmarks/reliability.py` measures again, all or one scenario, and writes this page; `benchmarks/soak.py --record` adds
the soak. Short versions of the same scenarios run with every `scripts/test`, the full ones with `scripts/test --long`.

Measured on {machine}. “ours” is the compiled build, “ours, pure” the same source uncompiled. Times are those of a machine
with few cores on which clients, proxy and backends live together: they tell orders of magnitude.

Each contender is one process with one thread, keeps connections on both sides, gives a request to another backend up to
twice where that is safe (not sent yet, or idempotent and not answered yet), and has the same patience,
where a section does not say otherwise: {patience}.
HAProxy and ours ask each backend actively, and take it out after 3 failed checks and in again after 2 good ones; the free
NGINX cannot, and leaves a backend that failed alone for as long as 3 checks take. NGINX streams bodies, as the others do.

- **errors**: what clients got instead of a whole answer with status 200, and how often.
- **longest wait**: of one client for one answer. **without service**: the longest time in which no client at all got a good answer.
- **back after**: from the moment the backend could answer again until a client got an answer of it.
- **memory**: resident, of all the contender's processes.
"""

SOAK = """
## The soak

`benchmarks/soak.py`: rounds of mixed traffic against ours ({build}) over three backends for {minutes:.0f} minutes: kept and new
connections, uploads and downloads up to 4 MiB with every byte checked, clients that leave in the middle of a head, a body
or an answer; in each round one backend is killed and started again, or stopped, or closes all its connections. After each
round comes a quiet moment in which no client, exchange or lease may be left, and as many upstream connections and
deadlines as are idle; over the rounds neither memory, nor descriptors, nor delayed calls may grow, and a test recomputes
that from the figures.

{requests:,} requests; {cuts:,} clients left in the middle. Errors, of requests that a killed or stopped backend had and nobody
may send twice: {errors}. The quiet moments, evenly chosen:
"""

# By the scenario whose figures say so.
REMARKS = {
    "killed": """\
- **A dead backend** costs nobody an error and hardly a wait: a refused connection takes it out at once, and two good checks bring it back.""",
    "stopped": """\
- **A backend that stands still** costs each client that meets it one wait of `timeouts.attempt_s`, here as long as the peers' timeouts.""",
    "frozen": """\
- **By default** an attempt may take all of `response_head_s`, a minute. Checks that find a backend silent take its requests away
  before that, those that may be sent again, and give them to others: one a second at least, and no more than a tenth of all that are
  under way, so that whoever waits last waits longest (`health_check.move`).""",
    "away": """\
- **The only backend** is asked again at once when it is back, however long it was away: requests wait for it for a second
  (`queue.no_backend_s`), and while somebody waits there is a check each 0.2 s, or without checks a trial each 0.25 s.""",
    "restarted": """\
- **A restart** within that second is waited for; what fails are requests that had waited for the whole of it.""",
    "closing from afar": """\
- **A connection that its backend closes** is not used for a POST on the brink of it: after the first close seen, none is used beyond 0.8 of that
  time. A peer that uses it fails requests as soon as the network takes time, and may not repeat them. The first close of a backend is met like
  theirs if it comes within the second (`upstream.reuse_unsafe_within_s`) in which a POST may take a kept connection. (Measured before `upstream.reuse = "safe"` was the default.)""",
    "closing POSTs": """\
- **A backend that closes just after it has answered** gets POSTs on new connections alone, once it was seen to: a client's first
  one goes on a new connection anyway (`upstream.reuse`).""",
    "moved": """\
- **A name that moves** is followed on kept connections too; whoever only resolves it again goes on using those it has.""",
    "succeeded": """\
- **A takeover** loses nothing: the new process takes the sockets themselves, with the connections that wait in their queues.""",
    "slow body": """\
- **Slow bodies** end: `limits.client_bytes_per_s` bounds what a body that drips may take, where a timeout between its pieces never does.""",
    "slow read": """\
- **Answers that are sipped**, of a MiB, wait in the kernel's buffers and cost no proxy anything. Of those that do not fit, `client_bytes_per_s`
  bounds the time as well.""",
    "idle": """\
- **An idle connection** costs us more than it costs the peers, in C, and little enough for any number that descriptors allow.""",
}

Cell = Callable[[dict], str]


def _errors(cell: dict) -> str:
    return _counted(cell["errors"])


def _counted(errors: dict[str, int]) -> str:
    counted = {error: f"{count:,}".removesuffix(".0") for error, count in errors.items()}
    return ", ".join(f"{error}: {count}" for error, count in counted.items()) or "none"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _memory(cell: dict) -> str:
    kib = cell.get("memory_kib")
    if kib is None:
        return ""
    return f"{kib / 1024:.1f} MiB" if kib >= 1024 else f"{kib:g} KiB"


def columns(scenario: Scenario, cells: Iterable[dict]) -> list[tuple[str, Cell]]:
    """The columns that this scenario has something to say in."""
    some = list(cells)
    wanted: list[tuple[str, str, Cell]] = [
        ("requests", "requests", lambda cell: f"{cell['requests']:,}"),
        ("errors", "errors", _errors),
        ("slowest_s", "longest wait", lambda cell: _seconds(cell.get("slowest_s"))),
        ("gap_s", "without service", lambda cell: _seconds(cell.get("gap_s"))),
        ("back_s", "back after", lambda cell: _each_of(cell.get("back_s", []))),
        ("moved_s", "all to the new one after", lambda cell: _seconds(cell.get("moved_s"))),
        ("memory_kib", f"memory, {scenario.memory}", _memory),
        ("note", "remarks", lambda cell: cell.get("note", "")),
    ]
    return [(title, show) for key, title, show in wanted if any(key in cell for cell in some)]


def section(scenario: Scenario, measured: dict[str, dict]) -> list[str]:
    """One scenario: what was done, and what came of it."""
    lines = ["", f"## {scenario.title}", "", scenario.what, ""]
    return lines + (table_of_cases(measured) if scenario.cases else table_of_peers(scenario, measured))


def table_of_cases(measured: dict[str, dict]) -> list[str]:
    """A row for each case, and a column for each contender that was measured."""
    peers = [peer for peer in PEERS if peer in measured]
    lines = [f"| | {' | '.join(peers)} |", "|---" * (len(peers) + 1) + "|"]
    for title in dict.fromkeys(title for peer in peers for title in measured[peer]["cases"]):
        cells = [case_in_words(measured[peer]["cases"].get(title, {})) for peer in peers]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def case_in_words(case: dict) -> str:
    """One cell: what this contender did in this case."""
    if not case or "cannot" in case:
        return case.get("cannot", "")
    if "within_s" in case:
        return _as_it_should(case)
    waited = f"waited up to {_seconds(case['slowest_s'])}" if "slowest_s" in case else ""
    back = f"back after {_each_of(case['back_s'])}" if "back_s" in case else ""
    words = [case.get("note", ""), _seconds(case.get("first_s")), _errors(case), waited, back]
    return "; ".join(word for word in words if word)


def _as_it_should(case: dict) -> str:
    if "took_s" not in case:
        return f"no, {case['note']}"
    return f"{'yes' if case['took_s'] <= case['within_s'] else 'no'}, {case['took_s']:.1f} s"


def _each_of(seconds: Iterable[float]) -> str:
    return ", ".join(map(_seconds, seconds))


def table_of_peers(scenario: Scenario, measured: dict[str, dict]) -> list[str]:
    """A row for each contender that was measured."""
    shown = columns(scenario, measured.values())
    lines = [f"| | {' | '.join(title for title, _ in shown)} |", "|---" * (len(shown) + 1) + "|"]
    known = {peer: measured[peer] for peer in PEERS if peer in measured}
    lines += (f"| {peer} | {' | '.join(show(cell) for _, show in shown)} |" for peer, cell in known.items())
    return lines


def patience(given: dict[str, float]) -> str:
    """In words."""
    return (
        "{connect_s:g} s for a connect, {answer_s:g} s for an answer to begin and between its pieces, {head_s:g} s for a "
        "request's head, {body_s:g} s between the\npieces of its body, {keep_s:g} s for an idle client, "
        "{check_s:g} s between checks"
    ).format(**given)


def render(facts: dict) -> str:
    """The page."""
    versions = facts["versions"]
    known = {name: versions.get(name, "(not measured)") for name in PEERS}
    head = HEAD.format(
        ours=known["ours"],
        haproxy=known["HAProxy"],
        nginx=known["NGINX"],
        machine=facts["machine"],
        patience=patience(facts["patience"]),
    )
    lines = [head.rstrip("\n")]
    for name, scenario in SCENARIOS.items():
        if facts["results"].get(name):
            lines += section(scenario, facts["results"][name])
    lines += ["", "## What it says of us", ""]
    lines += [said for name, said in REMARKS.items() if facts["results"].get(name)]
    if facts["soak"]:
        lines += soak_section(facts["soak"])
    return "\n".join([*lines, ""])


def soak_section(soaked: dict) -> list[str]:
    figures = soaked_of(soaked)
    build = "the compiled build" if soaked["build"] == "ours" else "the pure build"
    text = SOAK.format(
        build=build,
        minutes=figures.seconds / 60,
        requests=figures.requests,
        cuts=figures.cuts,
        errors=_counted(figures.errors),
    )
    return [text, *table(figures)]


def soaked_of(facts: dict) -> Soaked:
    """What the soak recorded."""
    return Soaked(**{name: value for name, value in facts.items() if name not in ("build", "machine")})
