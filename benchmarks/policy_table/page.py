"""docs/policies.md, out of docs/policies.json."""

LOADS = ("0.5", "0.8", "0.9")
SIZES = ("10", "100")

HEAD = """\
# Policies

Which backend a request goes to is the policy of its pool: `policy = "least"`, or `-s least`. This page says what each does and when to use it, in figures that are simulated: the policies themselves, on virtual time, against servers with queues
([twisted_lb.sim](testing.md#queues-on-virtual-time)). `benchmarks/policies.py` measures again and writes this page. Beside them stands theory where it has a number, and the tests hold both together.

Unless a section says otherwise: ten backends with one worker each, 20 ms for a request on average (exponential), requests at random moments (Poisson), one balancer. “Load” is the share of what all backends together can serve.
Times are in multiples of the mean time of service: 1.00 is a request that never waits. The mean, and behind the stroke the p99, which one request in a hundred exceeds. ± is half of a 95 % interval over 5 runs; all policies meet the same requests.

Policies by key (`ring`, `maglev`, `rendezvous`) have 10,000 keys here, all asked for alike, and their usual bound. `first` has `max_in_flight`, four for each worker, without which all would go to one; what finds all of them full is refused and not in the figures, and the slow, the failing and the cold backend is its last.
Tables are what they are made of: where each request costs the same, `load = "cost"` picks as `requests` does, and with `reported` it depends on what backends report.
"""

# When to use what: by policy, in the order of the table.
WHEN = {
    "rr": "backends that are alike and requests that are alike; where a strict order is wanted. It looks at nothing: one slow backend is overloaded while the others rest",
    "rand": "as a measure for the others; and where very many balancers share the backends, none of which knows much",
    "least": "**what fits most**: requests that differ, backends that differ, one balancer or a few. O(n) a pick, which is nothing below some hundred backends. Give it `bad_statuses` or ejection against sinkholes",
    "p2c": "many backends, or many balancers; O(1) a pick, and it does not herd: no backend gets more than twice its share at once, however old the news. Needs the same help against sinkholes",
    "latency": "backends whose speed differs or changes, in other zones, or beside noisy neighbours; failures count as slow where `retry.bad_statuses` names them. Not for requests that take milliseconds and minutes in one pool",
    "prequal": "as `latency`, with an eye on who is crowded first; for latencies that say more than counts do",
    "ring": "caches: the same key always meets the same backend, and few keys move when one leaves. Shares differ by some percent; the bound (1.25) sends what is too much to others",
    "maglev": "as `ring`, more even and O(1), a few more keys move",
    "rendezvous": "as `ring`, for few backends: exactly the keys of who leaves move; O(n)",
    "prefix": "language models behind engines that cache prompts (vLLM, SGLang, llama.cpp): in figures in [inference.md](inference.md#what-it-brings). With bodies that it knows nothing of, as in all tables here, it is `least`",
    "first": "as few backends as will do, in order: those at the end can be switched off. Needs limits",
}

# What a pick costs where everybody is in, by the docstrings.
PROMISED = {
    "rr": "O(1); with unequal weights O(n) to 64 backends, O(log n) above",
    "rand": "O(1)",
    "least": "O(n)",
    "p2c": "O(1)",
    "latency": "O(1)",
    "prequal": "O(1)",
    "first": "O(1), O(n) past full ones",
    "ring": "O(log n), O(n) past its owner",
    "maglev": "O(1), O(n) past its owner",
    "rendezvous": "O(n)",
    "prefix": "O(n log blocks)",
}
KINDS = ("equal", "unequal")
SHOWN = ("10", "100", "1000", "10000")


def render(facts: dict) -> str:
    """The page."""
    parts = [HEAD, when(facts), tables(), even(facts), slow(facts), sinkhole(facts), join(facts), steps(facts), LIMITS]
    return "\n".join(parts)


def table(titles: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def when(facts: dict) -> str:
    rows = [[f"`{name}`", one["described"], WHEN.get(name, "")] for name, one in facts.items()]
    return "## When to use what\n\n" + table(["policy", "what it does", "when"], rows)


def tables() -> str:
    """What a policy may say that is a table, out of the package."""
    from twisted_lb.core.pickers import (
        BLOCK_BYTES,
        BLOCKS,
        BOUND_PERCENT,
        BY_KEY,
        BY_LOAD,
        LOAD_FACTOR,
        LOADS,
        NAMED,
        PEEK_BYTES,
        PREFIX_LOADS,
    )

    names = {parts: name for name, parts in NAMED.items()}
    choices = [[f"`{name}`", text] for name, text in BY_LOAD.items()]
    loads = [[f"`{name}`", kind.describe] for name, kind in LOADS.items()]
    called = ", ".join(
        f'`{name}` is `{{ choose = "{choose}", load = "{load}" }}`' for (choose, load), name in names.items()
    )
    return (
        f"""## Tables of two parts

A policy by load is two things: how to `choose`, and which `load` is compared. `policy = {{ choose = "two", load = "cost" }}` says both; `load` left out is `requests`. {called}. Loads are compared for each unit of weight.

"""
        + table(["`choose`", "who is picked"], choices)
        + "\n"
        + table(["`load`", "what is compared"], loads)
        + f"""
With `load = "reported"`, `metric` says what of a report is compared, as `"named_metrics.kv_cache_usage_perc"`; left out: `application_utilization`, else `cpu_utilization`. With `load = "cost"` a route says what its requests [cost](configuration.md#routes): `cost = 5`, `"bytes"`, or what a header field says; where none does, each is 1.

Policies by key ({", ".join(f"`{name}`" for name in BY_KEY)}) go by the `key` of the [route](configuration.md#routes): requests with the same one meet the same backend. None has more in flight than {BOUND_PERCENT / 100:g} times its share by weight (bounded load); beyond that requests go to the next backend of their key. `{{ choose = "ring", bound = 1.5 }}` says another bound, 0 or `"off"` none: then one key that many ask for falls on one backend. While a backend is out its keys are spread over the others, and no key of theirs moves. Backends are known by their names: one that is called anew gets other keys.

The policy by prefix goes by what each backend was given before of how the body of a request begins, and by load: `{{ choose = "prefix" }}` may say `load` ({" or ".join(f"`{name}`" for name in PREFIX_LOADS)}), `load_factor` ({LOAD_FACTOR:g}), `block_bytes` ({BLOCK_BYTES}), `peek_bytes` ({PEEK_BYTES}) and `blocks` ({BLOCKS}); what that means stands in [inference.md](inference.md).
"""
    )


def number(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def cell(one: dict) -> str:
    if "unstable" in one:
        return f"*unstable*: {one['unstable']}"
    (mean, half), (tail, _) = one["mean"], one["p99"]
    return f"{number(mean)} ± {number(half)} / {number(tail)}"


def even(facts: dict) -> str:
    text = """## Backends that are alike

Chance is M/M/1 whatever the number of backends: 2, 5 and 10. Rotation is better since no backend gets two requests close together (E_n/M/1: 1.32, 2.92, 5.66 with ten). One queue for all of ten, which no policy that picks at arrival can beat, has 1.01, 1.20, 1.67.
"""
    for size in SIZES:
        rows = [[f"`{name}`", *[cell(one["even"][size][load]) for load in LOADS]] for name, one in facts.items()]
        text += f"\n{size} backends, mean / p99:\n\n" + table(["policy", *[f"load {load}" for load in LOADS]], rows)
        text += f"\n![mean and p99 by load, {size} backends](policies-{size}.svg)\n"
    return text


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def slow(facts: dict) -> str:
    rows = [[f"`{name}`", cell(one["slow"]), percent(one["slow"]["share"])] for name, one in facts.items()]
    return (
        """## One backend is ten times slower

Load 0.5 of all ten. An even share is 10 %; it can serve 1.1 % of all there is. *Unstable*: it is offered more than it can serve, its queue grows for as long as requests come, and no latency means anything.

"""
        + table(["policy", "mean / p99", "its share"], rows)
        + "\n![shares of a slow backend and of one that fails](policies-shares.svg)\n"
    )


def sinkhole(facts: dict) -> str:
    rows = [
        [f"`{name}`", percent(one["sinkhole"]["does not"]["share"]), percent(one["sinkhole"]["counts"]["share"])]
        for name, one in facts.items()
    ]
    return """## One backend fails at once (sinkhole)

It answers 500 after 0.2 ms, load 0.5: its share of the requests. Who fails at once has nothing in flight and is the fastest of all. What helps: `retry.bad_statuses` names the status, so that it is a failure. No retries here, no checks, and no [ejection](operations.md#what-takes-a-backend-out-and-how-it-returns), which is on by default, and takes such a backend out after five failures that `retry.bad_statuses` names: it then gets next to nothing, whatever the policy is.

""" + table(["policy", "500 is an answer like others", "500 counts as a failure"], rows)


def join(facts: dict) -> str:
    rows = [[f"`{name}`", str(one["join"]["first"]), number(one["join"]["p99"])] for name, one in facts.items()]
    return """## A cold backend joins

A tenth backend joins nine, each with 16 workers, at 0.7 of what the nine can do, and for half a second does a tenth of what it will. An even share of the first hundred requests is 10.

""" + table(["policy", "of the first hundred requests", "p99 of that half second"], rows)


def steps(facts: dict) -> str:
    rows = [
        [f"`{name}`", PROMISED[name], *[f"{one['steps'][kind][size]['mean']:,}" for kind in KINDS for size in SHOWN]]
        for name, one in facts.items()
    ]
    titles = ["policy", "a pick", *[f"{int(size):,}, {kind}" for kind in KINDS for size in SHOWN]]
    return (
        """## What a pick costs

In steps of Python's interpreter (bytecodes) for a claim on the pool, the mean of twenty; a tenth of the backends are down, weights are equal or 1, 2 and 5 by turns. A compiled core takes other steps, and as many times more of them. n is the number of backends. Where the owner of a key is out or may be past its bound, `ring` and `maglev` look at what all have in flight, O(n), and that is the most of what they cost in large pools.

"""
        + table(titles, rows)
        + "\n![steps by the size of the pool](policies-steps.svg)\n"
    )


# Counted by hand: `scripts/bench --count` of "exchange, small, POLICY among 10".
EXCHANGES = {"rr": 450_339, "least": 457_802, "p2c": 452_113, "latency": 455_660}
WHOLE = """
Of a whole small request the pick is little. Instructions of the pure build for one among ten backends over the network in memory (`scripts/bench --count`, [how](benchmarks.md)):

""" + table(
    ["policy", "instructions", "against `rr`"],
    [[f"`{name}`", f"{count:,}", f"{100 * count / EXCHANGES['rr'] - 100:+.1f} %"] for name, count in EXCHANGES.items()],
)

LIMITS = """## What is not in these figures

Several balancers before the same backends, each of which knows only what it has in flight itself, make every policy that looks at load worse (ten balancers at 0.9: `least` 3.8 instead of 1.9; chance stays 10). Service times with more variation make all of them slower, and those that look at nothing most.
Caches, connections, the balancer's own CPU and your network are not modelled. `twisted_lb.sim` answers the same questions for your numbers of backends, speeds, loads and service times.
"""
