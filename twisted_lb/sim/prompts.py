"""Engines of language models behind a policy (vLLM, SGLang): what a prompt cache saves, and what a policy makes of it. On virtual time.

An engine serves in the order of arrival, several requests at a time, and has a prompt cache with a bound, of which the least recently used
block goes first. What is cached of a prompt need not be worked out again (prefill); the answer takes what it takes (decode). Since
nothing overtakes, an engine's cache at the beginning of a request is that of the requests that came before it, so that its end is known
when it arrives, as in `kernel`.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from math import ceil, log
from random import Random
from statistics import fmean
from typing import Final

from twisted_lb.config.policies import PolicyTable, policy_meant
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.ask import Ask, key_of
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.events import Event
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import Policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.prefix import Prefix, Seen
from twisted_lb.core.settings import PoolSettings
from twisted_lb.sim.laws import stream

_BLOCK_BITS: Final = 60


@dataclass(frozen=True)
class Prompts:
    """What is asked: of `shared` beginnings of so many blocks one, the first ones more often (Zipf's law, `skew`; 0: all alike), and behind
    it `own_blocks` that nobody else has. Requests that are not `hot`, a share, have a beginning of their own as well.
    """

    shared: int = 64
    shared_blocks: int = 48
    own_blocks: int = 4
    hot: float = 1.0
    skew: float = 0.0

    @property
    def blocks(self) -> int:
        """How many blocks a prompt has."""
        return self.shared_blocks + self.own_blocks

    def asks(self, rng: Random) -> Iterator[Ask]:
        """Requests without an end. The key is the beginning's first block: what a policy by key would go by at best."""
        beginnings = [_blocks(rng, self.shared_blocks) for _ in range(self.shared)]
        weights = [1.0 / (number + 1) ** self.skew for number in range(self.shared)]
        while True:
            hot = rng.random() < self.hot
            chosen = rng.choices(beginnings, weights)[0]
            begins = chosen if hot else _blocks(rng, self.shared_blocks)
            blocks = begins + _blocks(rng, self.own_blocks)
            yield Ask(key_of(b"%d" % blocks[0]), prefix=Prefix(blocks, Seen.WHOLE), by="its beginning")


def _blocks(rng: Random, count: int) -> tuple[int, ...]:
    return tuple([rng.getrandbits(_BLOCK_BITS) for _ in range(count)])


class Engine:
    """An engine: so many requests at a time, and a prompt cache of so many blocks (LRU)."""

    def __init__(self, slots: int, cache_blocks: int) -> None:
        self.asked: int = 0
        self.work_s: float = 0.0  # what it was asked for takes
        self._free: Final = [0.0] * slots
        self._most: Final = cache_blocks
        self._cached: Final[OrderedDict[int, None]] = OrderedDict()

    def cached(self, blocks: Sequence[int]) -> int:
        """How many of these blocks are cached, from the first one on; then all of them are."""
        cache, found = self._cached, 0
        for block in blocks:
            if block not in cache:
                break
            found += 1
        for block in reversed(blocks):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > self._most:
            cache.popitem(last=False)
        return found

    def serve(self, now: float, prefill_s: float, decode_s: float) -> tuple[float, float]:
        """Take a request that came now: when its first token comes, and its last."""
        self.asked += 1
        self.work_s += prefill_s + decode_s
        free = self._free
        first = max(free[0], now) + prefill_s
        heapreplace(free, first + decode_s)
        return first, first + decode_s


@dataclass(frozen=True)
class Prompted:
    """What one run has seen: the share of all blocks that were `cached` where they went, the share of the requests that the busiest engine
    got, times the number of engines (`hotspot`: 1 is even), of what one can serve how much it was `offered` at most, and times from
    arrival to the first token and to the last. Where it is offered more than it can serve, these are those of the run, and mean nothing.
    """

    cached: float
    hotspot: float
    offered: float
    first_s: "array[float]"
    whole_s: "array[float]"

    @property
    def mean_first_s(self) -> float:
        """The mean time to the first token."""
        return fmean(self.first_s)

    def first_quantile(self, share: float) -> float:
        """A quantile of the time to the first token."""
        return _quantile(self.first_s, share)

    def whole_quantile(self, share: float) -> float:
        """A quantile of the time to the last token."""
        return _quantile(self.whole_s, share)


def _quantile(values: "array[float]", share: float) -> float:
    return sorted(values)[ceil(share * len(values)) - 1]


def _nobody_hears(_event: Event) -> None:
    """Nothing happens to engines."""


@dataclass(frozen=True)
class PromptFarm:
    """Engines `e0` and on behind a policy: its name, its table, or itself.

    `load` is the traffic's share of what all of them could serve with nothing cached. A block takes `prefill_s`, an answer `decode_s` on
    average (exponential). Requests come at random moments (Poisson).
    """

    policy: str | PolicyTable | Policy
    prompts: Prompts
    engines: int = 8
    slots: int = 8
    cache_blocks: int = 1024
    load: float = 0.9
    prefill_s: float = 0.02
    decode_s: float = 1.0
    requests: int = 20_000
    warm_up: float = 0.1

    @property
    def rate(self) -> float:
        """How many requests come in a second."""
        return self.load * self.engines * self.slots / (self.prompts.blocks * self.prefill_s + self.decode_s)

    def run(self, seed: int = 1) -> Prompted:
        """One run. The same seed: the same requests, whatever the policy is."""
        pool = self._pool(seed)
        engines = [Engine(self.slots, self.cache_blocks) for _ in range(self.engines)]
        moments, work = stream(seed, "arrivals"), stream(seed, "service")
        asks = self.prompts.asks(stream(seed, "prompts"))
        warm = int(self.warm_up * self.requests)
        first_s, whole_s = array("d"), array("d")
        heap: list[tuple[float, int, Lease]] = []
        now, since, given, found = 0.0, 0.0, 0, 0
        for number in range(self.requests):
            now -= log(1.0 - moments.random()) / self.rate
            decode_s = -self.decode_s * log(1.0 - work.random())
            ask = next(asks)
            while heap and heap[0][0] <= now:
                at, _, ended = heappop(heap)
                pool.settle(ended, Outcome.OK, at)
            if number == warm:
                since = now
                for engine in engines:
                    engine.asked, engine.work_s = 0, 0.0
            lease = pool.claim(ask, now)
            assert isinstance(lease, Lease)
            engine, blocks = engines[lease.backend.slot], ask.prefix.blocks
            cached = engine.cached(blocks)
            first, last = engine.serve(now, (len(blocks) - cached) * self.prefill_s, decode_s)
            heappush(heap, (last, number, lease))
            if number >= warm:
                given, found = given + len(blocks), found + cached
                first_s.append(first - now)
                whole_s.append(last - now)
        share = max(engine.asked for engine in engines) / sum(engine.asked for engine in engines)
        offered = max(engine.work_s for engine in engines) / ((now - since) * self.slots)
        return Prompted(found / given, share * self.engines, offered, first_s, whole_s)

    def _pool(self, seed: int) -> Pool:
        settings = PoolSettings(checked=False)
        pool = Pool("engines", policy_meant(self.policy), settings, stream(seed, "pool"), _nobody_hears)
        pool.update([BackendSpec(f"e{one}", TcpAddress("farm", one + 1)) for one in range(self.engines)], 0.0)
        return pool
