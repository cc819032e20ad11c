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

In `[pools.NAME]` and `[defaults.pool]` too; in a backend's table (`{ address = "gpu1:8000", max_in_flight = "adaptive" }`) and `[defaults.backend]` for that backend alone, beside others that have a number. Each backend has a limit of its own, between `least` and `most`, found from latency alone: the time until the head of an answer, of whatever status.
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
- An operator's limit (`lbctl limit app1 8`) stands in its place, and `lbctl limit app1 adaptive` has one learn that has a number; of it and an agent's `maxconn:` the less holds; slow start has its part of it. It outlives that a backend is out, and goes on from where it was.
- With [workers](workers.md) it is one limit for all of them, learnt at the parent from what each sees.
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

_QUEUE = """
With a limit, what finds all workers busy waits for the first one that is free anywhere; without one, round robin puts it behind whoever is there. `least` knows that too, and a limit brings it less.

## The queue

**What waits:** a request that finds every usable backend with as many as `max_in_flight` lets it have, or no usable backend at all. A place is taken from when a backend is picked until its answer has ended, or its attempt has failed; tunnels, retries and the connections of clients that are logged in (NTLM) count like any other, checks do not.
A queue is of the pool, not of a backend: whoever is free first takes the next one. Who is full is not gone: a route's `fallback` is for a pool without a usable backend, and when the last one goes those that wait for it fall back at once. Who waits for one backend alone (a client that is logged in there, NTLM) waits for whoever is free first when that one is lost, and is then as old as it is.

**What nobody waits for any more:** a client leaves, a timeout or a deadline is over, and a synchronous worker goes on with the request all the same. With `abandoned_s` (0 unless set; 30 for gunicorn's sync workers, say) it keeps its place until its backend has answered or closed the connection, at most so long, so that no backend ever has more at work than `max_in_flight`, as it counts itself. The backend is told by a FIN, and what still comes is thrown away. What has become of the request is told at once, and a retry goes elsewhere. A request that was not sent whole keeps nothing, and its connection is reset.

**In which order:**

1. Requests that have had an attempt (retries), first come, first served, at any backend but those that they have tried.
2. By urgency, from 0 to 7: what the route's `urgency` says (3 unless set), or a header (`queue.priority_by`). The more urgent one is served first, whoever waits, so that the least urgent may wait until its time is over.
3. Of one urgency by turns of its lanes (`queue.fair_by`, deficit round robin): a turn is of equal `cost` for each, as much as the dearest request that waits. Who has one request waits for one turn of each other lane at most, however many they have. What lacks the header or cookie is in the lane of its client's address. Without `fair_by` all are one lane.
4. In a lane first come, first served.

A new request never goes past one that waits for what is free, nor does the next one of a connection that sends them ahead. Whoever is logged in on a connection waits for its backend alone, there in the order of arrival, and lets others go past it elsewhere.

**For how long, and what clients get:**

| what happens | answer |
|---|---|
| `length` requests wait already, or it has waited for `timeout_s` | `full_status`, 503 or 429, with `Retry-After`: when those that wait now will have been served, by how many requests ended in the last ten seconds |
| nobody was usable for `no_backend_s` | 503 |
| its deadline cannot be kept any more | 504; it is not sent |
| its client leaves | its place is free at once, nobody is asked |

A deadline is `timeouts.deadline_s` of a route from the request's head on, or what the client says in the field that `timeouts.deadline_header` names, whichever is before the other: `250` (milliseconds) or gRPC's `2S`, `100m`. What says no time, or says it twice, is none.
A request whose deadline is nearer than the quickest answer of the last ten to twenty seconds is not sent to anybody. One that waits does so until it has as long left as nine of ten answers took, or half of its time where that is not known or more than it has: where more come than can be served, all wait for as long as they may, and what is sent then should not be sent in vain. One that a backend does not answer by then is 504 too (`LATE`): it is not asked for again, and is no failure of the backend.

Settings that change hold for whoever comes from then on; who waits keeps lane, urgency and time, and has new places at once.

**Four workers each, a fair line by API key:** who sends thousands waits behind itself.

```toml
backends = ["app1:8000", "app2:8000"]
max_in_flight = 4        # gunicorn: workers times threads

[queue]
length = 500
timeout_s = 5
fair_by = { header = "X-API-Key" }
full_status = 429
```

**Interactive before batch:** by a route, or by a word that a trusted caller sends.

```toml
[pools.models]
backends = ["gpu1:8000", "gpu2:8000"]
max_in_flight = 16

[pools.models.queue]
timeout_s = 30
fair_by = "client"
priority_by = { header = "X-Class", classes = { interactive = 1, batch = 6 } }

[[routes]]
path_prefix = "/batch"
pool = "models"
urgency = 6              # where X-Class says nothing

[[routes]]
pool = "models"
```

**Give up when the client has:** nobody works for those that have gone.

```toml
backends = ["app1:8000", "app2:8000"]
max_in_flight = 4

[timeouts]
deadline_s = 10                  # no page is worth more
deadline_header = "grpc-timeout" # or what your clients say
```
"""

_BESIDE = """
### Beside HAProxy's

64 clients that send one request after the other, two backends that take 20 ms for each and count what they have at a time; HAProxy (one thread) with `balance leastconn` and `maxconn 4`, this balancer, pure Python, with `least` and `max_in_flight = 4`, in fifteen rounds by turns.
Two backends of four places serve 64 requests in 8 times that time, so 7 of it is the wait that nobody can avoid; what is more is mostly the machine, whose two cores had much other work, and the p99 is that: measure on your own.
"""

_BOTTOM = """
## When not to

- Where the number is known and does not change, set it: nothing is as stable as a number.
- Latency that differs by route more than by load (reports of a minute beside pages of 10 ms): give each kind a pool of its own.
- A GPU whose latency grows with each request in the batch: `tolerance_percent` 50 to 100 lets the batch become larger.
- A backend that fails fast looks fast. [Ejection](operations.md#what-takes-a-backend-out-and-how-it-returns) is for that.

The figures are simulated, on virtual time, but for those beside HAProxy: `benchmarks/concurrency.py` measures again and writes this page.
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


def _beside(facts: dict[str, dict[str, float]]) -> list[str]:
    return [
        "| | requests | errors | at most at a backend | median | p99 | wait |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {one['requests']} | {one['errors']} | {one['held']} | {one['p50']:.1f} | {one['p99']:.1f} | {one['wait']:.1f} |"
            for name, one in facts.items()
        ),
        "",
        "In multiples of the time of service: the median and the p99 of the whole latency, and the mean wait, which is what is not service.",
    ]


def render(facts: dict[str, Any]) -> str:
    """The page."""
    parts = [
        _TOP,
        *_found(facts["found"]),
        _ENVOY,
        *_followed(facts["followed"]),
        _WAITED,
        *_waited(facts["waited"]),
        _QUEUE,
        _BESIDE,
        *_beside(facts["beside"]),
        _BOTTOM,
    ]
    return "\n".join(parts)
