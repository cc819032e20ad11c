"""docs/inference.md, out of docs/inference.json."""

HEAD = """\
# Inference servers

In front of vLLM, SGLang, llama.cpp or Ollama. They keep what they have worked out of a prompt (prefix cache, prompt cache, KV cache): a request that begins like one before it needs no new prefill for that part. Behind a balancer that looks at load alone each server meets every system prompt, document and conversation, and none has room for all of them.
With one that looks at the prompt alone a popular one brings its server down. `policy = "prefix"` weighs one against the other:

```toml
# lb.toml
[listeners.web]
address = ":8080"
default_pool = "llm"

[pools.llm]
backends = ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]
policy = "prefix"
max_in_flight = 64       # what one of them runs at a time; what is beyond it waits here, for whoever is free first
abandoned_s = 30         # a request whose client has gone counts until its server has stopped, or so long

[pools.llm.queue]
timeout_s = 60

[pools.llm.health_check]
path = "/health"

[defaults.route.timeouts]
response_head_s = 600    # an answer that is not streamed has no head before its last token
response_idle_s = 120
```

| server | `max_in_flight` is its | its prompt cache |
|---|---|---|
| vLLM | `--max-num-seqs` | `--enable-prefix-caching` where it is not on by default |
| SGLang | `--max-running-requests` | on (RadixAttention) |
| llama.cpp | `--parallel` | one for each slot |
| Ollama | `OLLAMA_NUM_PARALLEL`, 1 unless set | as llama.cpp; gone with the model (`OLLAMA_KEEP_ALIVE`, 5 minutes unless set) |

One pool is for one model: what stands before the prompt in a body, as `model`, is not looked at. Several models are several pools, told apart by path, host or header ([routing.md](routing.md)).
What `max_in_flight` should be where you do not know is found by `"adaptive"` ([concurrency.md](concurrency.md)). `profile = "inference"`, where a pool has it, is a word for settings such as these, and goes with the policy.

## What it does

Before a backend is picked the beginning of the body is looked at, `peek_bytes` at most. It is cut into blocks from the first `"messages"`, `"prompt"`, `"system"` or `"input"` on, or from its first byte where it has none of them. A block's hash is that of all that comes before it, too, so that two requests have as many blocks in common as they begin alike.
No tokenizer is needed, and no JSON is parsed: what encodes prompts does so in the same way each time.

Of each backend is known which blocks it was given last, whoever picked it. Each one that is open gets a score, and the highest is picked:

```
score = blocks it was given / blocks of the request - load_factor * (load - mean) / max(1, mean)
```

- The load is what it has in flight, by weight: one of twice the weight bears twice as much. The mean is that of all that are available. Whoever is full, out, or was tried is not open.
- With `load_factor = 1` having all of a prompt is worth as many requests more in flight as there are on an average, and one at least. So no backend ever gets a request that has more than that beyond the least loaded one, however hot a prompt is.
- A request that nobody knows anything of (cold) goes to the least loaded, and among those that are alike to one by chance, never to the first. So does one without a body, or with less than a block.
- A trial of a backend that was out comes before all of that.

What a backend was given is forgotten when its checks find it down, when it refuses a connection, when it goes into maintenance, when its name leads to another address, and when it leaves or is replaced: its cache is gone too. Draining, full, or a failed answer do not change it. Nothing of it is shared between balancers, or lives longer than the process.

| key of `policy = { choose = "prefix", … }` | default | |
|---|---|---|
| `load_factor` | 1 | How much more load all of a prompt is worth, see above: 0.5 keeps prompts together longer, 2 spreads them sooner; 0 never looks at load but among those that know as much |
| `load` | `"requests"` | `"cost"`: what is in flight by what routes say that it [costs](configuration.md#routes), as `cost = "bytes"` |
| `peek_bytes` | 65536 | How much of a body is waited for and looked at |
| `block_bytes` | 512 | The size of a block, about 128 tokens of English. Smaller ones tell shorter prompts apart, and cost as much more |
| `blocks` | 16384 | How many blocks each backend is taken to hold, those that it was given last: 8 MiB of prompts, two million tokens. A bound that is much more than a server has room for makes it look as if it knew what it has forgotten |

**What it costs.** About 100 bytes of memory for each block, 150 at most: 2.5 MB for each backend with the defaults. 2.3 µs for each block of a request, 0.3 ms for 64 KiB; and a pick is O(backends · log blocks). Requests of other pools pay nothing.

**Waiting for bodies.** A request is at no backend until its body is here, or `peek_bytes` of it: a body that came with its head is not waited for, and of a longer one the rest flows as it comes. That is [`buffer_request_bytes`](slow-clients.md) with its bounds: a body that stalls is 408 (`timeouts.body_idle_s`), all of them together have `limits.memory_bytes`, and what finds no room there goes on without. A route with `stream = true` waits for nothing, and goes by what came with the head, which often is no body at all: it is not needed for answers that are streamed. Answers are never held: each token goes on as it comes.

**Never on half a body in silence.** Where the body is longer than the peek, or was not all here, it goes by what is here, and `lbctl explain` and a metric say so. A body with a `Content-Encoding` is not looked into, and is cold: that is said as well.

"""

SEEN = """\
## How to see it

```
$ lbctl explain 7f3a
POST /v1/chat/completions  01:23:45.678  → 200 after 812 ms
client 10.0.7.9 · listener web · route to llm · pool llm

1  llm/10.0.0.2:8000    ✓ OK  200, 5.1 kB
                        queue 0   connect 0 (reused)   first byte 96 ms   rest 716 ms
                        chosen: prefix: it was given 44 of 48 blocks before; 7 in flight by weight, the mean is 6.33333: score 0.811; others were given some: 10.0.0.1:8000 12
```

| metric | what |
|---|---|
| `twisted_lb_prefix_blocks_matched_total` of `twisted_lb_prefix_blocks_total` | the part of all prompts that was known where it went. Compare it with the hit rate that the server tells: if that is lower, `blocks` is more than it has room for |
| `twisted_lb_prefix_requests_total{seen="cut"}` | requests that were longer than `peek_bytes`, or not all here: many of them, and a larger peek may tell them apart |
| `twisted_lb_prefix_requests_total{seen="encoded"}` | bodies that clients compress, which nothing is known of |
| `twisted_lb_backend_in_flight` | whether a hot prompt crowds one of them |

`shadow.policy = "prefix"` tells all of that before anything is routed by it: what it would have matched is in the same metrics with `role="shadow"`. It waits for bodies as the policy does.

"""

INTRO = """\
## What it brings

Simulated, on virtual time ([twisted_lb.sim](testing.md#queues-on-virtual-time)): eight engines that run eight requests at a time, in the order of arrival, each with a prompt cache of 1,024 blocks (LRU). A prompt has 52 blocks, of which one takes 20 ms unless it is cached (prefill); an answer takes a second on average (exponential). Requests at random moments (Poisson). `benchmarks/prompts.py` measures again and writes this page.
`ring` and `maglev` go by the first block of the prompt, as good a key as there can be, with the usual bound of 1.25, and without.

“Cached” is the part of all blocks that was in the cache of the engine where they went. “First token” is the time until then, its mean and its p99 in seconds, “last token” the p99 of the whole. “Hot spot” is the share of the busiest engine times eight: 1 is even. ± is half of a 95 % interval over 5 runs; all policies meet the same requests.
"""

TITLES = {
    "hot": "**Hot**: four beginnings of 48 blocks, the first as often as the others together, nearly (Zipf), and four blocks of each request's own. 1.6 times what the engines could serve with nothing cached. Every engine has room for all of it, and what counts is that nobody is crowded.",
    "mixed": "**Mixed**: 64 beginnings, the first ones more often (Zipf), three times what one engine has room for; one in ten requests has a beginning of its own. 1.2 times what could be served with nothing cached.",
    "cold": "**Cold**: every prompt is another one. 0.9 of what can be served.",
}

LIMITS = """\
Nobody can have what is not cached faster: one request in ten of the mixed ones is cold, and has to wait 1.04 s, which is the least that a p99 can be there.

Engines in these figures begin a request when a place is free and share nothing between requests but the cache; prefill of one does not slow the others down. Of several balancers each knows what it has sent itself.
"""


def render(facts: dict) -> str:
    """The page."""
    return HEAD + SEEN + INTRO + "".join(workload(name, facts[name]) for name in TITLES) + "\n" + LIMITS


def workload(name: str, policies: dict) -> str:
    lines = ["| policy | cached | first token | p99 | last token, p99 | hot spot |", "|---|---|---|---|---|---|"]
    lines.extend(row(policy, one) for policy, one in policies.items())
    return f"\n{TITLES[name]}\n\n" + "\n".join(lines) + "\n"


def row(policy: str, one: dict) -> str:
    offered = one["offered"][0]
    times = [within(one[name]) for name in ("mean_first_s", "p99_first_s", "p99_whole_s")]
    if offered > 1:
        times = [f"*unstable*: one engine is offered {100 * offered:.0f} % of what it can serve", "", ""]
    cells = [f"`{policy}`", f"{100 * one['cached'][0]:.1f} %", *times, f"{one['hotspot'][0]:.2f}"]
    return "| " + " | ".join(cells) + " |"


def within(estimate: list[float]) -> str:
    value, half = estimate
    return f"{value:.2f} ± {half:.2f}"
