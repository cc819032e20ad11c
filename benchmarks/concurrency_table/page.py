"""The page of docs/concurrency.md, of what was measured."""

from typing import Any

_TOP = """\
# How many requests at a time

A Python worker does one thing at a time: gunicorn's sync workers a request each, an asyncio program what its cores are enough for, a GPU a batch. What is beyond that waits inside the backend, where nobody can give it to somebody else.
`max_in_flight` keeps it in the pool's queue instead: the right number is that at which the backend is busy and nothing waits in it yet. Where you know it (gunicorn: workers times threads), set it. Where you do not, or where it changes:

```toml
max_in_flight = "adaptive"

[adaptive]              # all of it may be left out
least = 1
most = 1000
tolerance_percent = 25  # how much slower than unloaded a backend may get
measure_s = 60          # how often the unloaded latency is measured anew
```

In `[pools.NAME]` and `[defaults.pool]` too. Each backend has a limit of its own, between `least` and `most`, found from latency alone: the time until the head of an answer, of whatever status.
Where limits are shown it is the one in force: `lbctl backends`, `/v1/status`, the dashboard, `backend_limit` in metrics, `lbctl explain`. Why it is what it is, `limit_why` says, and `lbctl backends -o wide`. That it moves is no event: it does so several times a minute.

## What it does

After each window, of 50 answers or twice the limit if that is more, the limit follows Envoy's gradient, by half of the way:

```
gradient = unloaded latency * (1 + tolerance) / latency of the window     0.5 to 2
limit    = limit * gradient + sqrt(limit * gradient)
```

- It grows only where it was reached, and does not fall where less than half of it is in use. Nothing in flight is cut.
- The unloaded latency is measured with half of the limit, halved again only where that has brought latency down: at the start, every `measure_s`, and when the limit has fallen by half or latency far below what was known. Requests wait for it in the queue; without one (`queue.length = 0`) they would be refused, which `twistd lb --check` says (W32).
- A window is the mean of the logarithms of its latencies: few slow requests do not move it.
- An operator's limit (`lbctl limit`) stands in its place; of it and an agent's `maxconn:` the less holds; slow start has its part of it. It outlives that a backend is out, and goes on from where it was.
- An answer that does not come in time counts as slow. Refused connections and clients that leave count as nothing.

## What it finds

A server that always has as many requests as the limit lets it have; the mean of the limit, from where to where it is nine tenths of the time, and how much of what the server can do it does. “Right” is the least number with which it can do all. A request takes 100 ms on average.
Beside it Envoy's controller and Netflix's Gradient2, by their sources with their defaults.
"""

_ENVOY = """
Gradient2 compares each latency with a long average, which follows where requests always wait: it has no rest. Where many of different lengths are served at a time, the long ones among them keep it low. Envoy's step is right on average; each window of 100 ms is chance, though,
its measurement with 3 in flight costs throughput where many are served at a time, and finds no unloaded latency where fewer are. So ours is Envoy's step, smoothed, with windows by number and a measurement that goes down only as far as it must.

When workers die or come, it is within a quarter of where it then stays after so many answers:
"""

_WAITED = """
## What requests wait

Four backends with four workers each, lognormal requests (cv 1) at random moments; the median and the p99 of the whole latency, in multiples of the mean time of service: without a limit, with the right one, and adaptive.
"""

_BOTTOM = """
With a limit, what finds all workers busy waits for the first one that is free anywhere; without one, round robin puts it behind whoever is there. `least` knows that too, and a limit brings it less.

## When not to

- Where the number is known and does not change, set it: nothing is as stable as a number.
- Latency that differs by route more than by load (reports of a minute beside pages of 10 ms): give each kind a pool of its own.
- A GPU whose latency grows with each request in the batch: `tolerance_percent` 50 to 100 lets the batch become larger.
- A backend that fails fast looks fast. [Ejection](operations.md#what-takes-a-backend-out-and-how-it-returns) is for that.

The figures are simulated, on virtual time: `benchmarks/concurrency.py` measures again and writes this page.
"""


def _found(facts: dict[str, Any]) -> list[str]:
    lines = [
        "| server | requests | right | adaptive | Envoy | Gradient2 |",
        "|---|---|---|---|---|---|",
    ]
    for server, laws in facts.items():
        for law, forms in laws.items():
            cells = [
                f"{forms[form]['mean']:.1f} ({forms[form]['from']} to {forms[form]['to']}), {forms[form]['percent']:.1f} %"
                for form in ("adaptive", "Envoy", "Gradient2")
            ]
            lines.append(f"| {server} | {law} | {forms['right']} | {' | '.join(cells)} |")
    return lines


def _followed(facts: dict[str, int]) -> list[str]:
    return ["| workers | answers |", "|---|---|", *(f"| {change} | {answers} |" for change, answers in facts.items())]


def _waited(facts: dict[str, Any]) -> list[str]:
    lines = ["| policy | load | no limit | `max_in_flight = 4` | adaptive |", "|---|---|---|---|---|"]
    for policy, loads in facts.items():
        for load, limits in loads.items():
            cells = [f"{limits[limit]['p50']:.2f} / {limits[limit]['p99']:.2f}" for limit in ("0", "4", "adaptive")]
            lines.append(f"| `{policy}` | {load} | {' | '.join(cells)} |")
    return lines


def render(facts: dict[str, Any]) -> str:
    """The page."""
    parts = [
        _TOP,
        *_found(facts["found"]),
        _ENVOY,
        *_followed(facts["followed"]),
        _WAITED,
        *_waited(facts["waited"]),
        _BOTTOM,
    ]
    return "\n".join(parts)
