"""By prefix (prefix affinity, prompt cache): to whoever was given how this request begins, unless that has much more in flight.

One number decides, with an exchange rate between the two, and not two thresholds: `matched / total - load_factor * (load - mean) /
max(1, mean)`. A request of which nobody knows anything (cold) so goes to the least loaded.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Loads
from twisted_lb.core.pickers.base import MOST_REMEMBERED, Bare, Picker, Recalled, step_over
from twisted_lb.core.pickers.by_load import LoadKind
from twisted_lb.core.prefix import Peek, Prefix, Seen
from twisted_lb.core.prompt_cache import PrefixLoad, PrefixLoads

# How the pick of a mark went, where it is not among how many it was drawn.
_TRIAL: Final = -1
_NOBODY: Final = -2
_TRIED: Final = "a trial was due: one request finds out whether it is back, whatever its load is, and what it knows"
# So many others are named that know something of a request too.
_MOST_NAMED: Final = 3


# Small, and never changed: a claim keeps one.
@mypyc_attr(acyclic=True)
class PrefixMark:
    """What a pick by prefix went by: of how many blocks, how much of the body was looked at, how many of them and what load each
    member had (nothing of more than are remembered), and what the one had that was picked, among how many alike.

    `mean` is what those who were available had in flight on an average, and `unit` their mean weight, by which loads are scaled.
    """

    __slots__ = ("alike", "load", "loads", "matched", "matches", "mean", "seen", "seen_bytes", "total", "unit")

    def __init__(self, prefix: Prefix, alike: int, mean: float, unit: float) -> None:
        self.total: Final = len(prefix.blocks)
        self.seen: Final = prefix.seen
        self.seen_bytes: Final = prefix.bytes
        self.alike: Final = alike
        self.mean: Final = mean
        self.unit: Final = unit
        self.matches: tuple[int, ...] = ()
        self.loads: tuple[float, ...] = ()
        self.matched: int = 0
        self.load: float = 0.0


class Rate:
    """The exchange rate of a pick: what a load is worth, where those who are available have this much on an average."""

    __slots__ = ("_factor", "mean", "unit")

    def __init__(self, factor: float, mean: float, unit: float) -> None:
        self.mean: Final = mean
        self.unit: Final = unit
        self._factor: Final = factor / max(1.0, mean)

    def score(self, matched: int, total: int, load: float) -> float:
        """Of a member that knows so many of so many blocks, with this load for each unit of weight."""
        return (matched / total if total else 0.0) - self._factor * (load * self.unit - self.mean)


class ByPrefix(Picker):
    """A picker by prefix and load, over all members: O(n log blocks) a pick.

    Whoever is picked has at most `max(1, mean) / load_factor` more in flight than the least loaded one that is open: that is all that a
    hot prompt can bring about. The mean is that of all who are available. Loads are those of a member of mean weight: twice the weight
    bears twice as much. Of those that are alike one is drawn by weight.
    """

    def __init__(
        self,
        members: Sequence[Backend],
        loads: Sequence[PrefixLoad],
        weights: Sequence[float],
        factor: float,
        tell: Callable[[float], str],
    ) -> None:
        super().__init__()
        self._members: Final = list(members)
        self._loads: Final = list(loads)
        self._weights: Final = list(weights)
        self._factor: Final = factor
        self._tell: Final = tell
        self._small: Final = len(members) <= MOST_REMEMBERED
        self.mark = PrefixMark(Prefix((), Seen.NOTHING), _NOBODY, 0.0, 1.0)

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The open member with the highest score; of equal ones the least loaded. One whose trial is due comes before that, since by
        score it might never be tried.
        """
        values = self._values(now)
        opened: list[int] = []
        trial = -1
        for index in range(len(values)):
            backend = self._members[index]
            if not backend.available or (tried and backend in tried):  # as `open_to`, without the call
                step_over(backend)
            elif not backend.usable and backend.ejection.due:  # in panic others that are not usable are open too
                trial = index
            else:
                opened.append(index)
        rate = self._rate(values)
        blocks = ask.prefix.blocks
        matches = self._matches(blocks, opened)
        if trial >= 0:
            self._note(ask, rate, _TRIAL, trial, values, matches)
            return self._members[trial]
        if not opened:
            self._note(ask, rate, _NOBODY, -1, values, matches)
            return None
        total, best, top, least = len(blocks), -1, 0.0, 0.0
        alike: list[int] = []
        for index in opened:
            load = values[index]
            score = rate.score(matches[index], total, load)
            if best < 0 or score > top or (score == top and load < least):
                best, top, least = index, score, load
                alike = [index]
            elif score == top and load == least:
                alike.append(index)
        if len(alike) > 1:
            best = self._drawn(alike, rng)
        self._note(ask, rate, len(alike), best, values, matches)
        return self._members[best]

    def _values(self, now: float) -> list[float]:
        """The load of each member, for each unit of weight."""
        return [self._loads[index].value(weight, now) for index, weight in enumerate(self._weights)]

    def _rate(self, values: Sequence[float]) -> Rate:
        count, load, weight = 0, 0.0, 0.0
        for index in range(len(values)):
            if self._members[index].available:
                count += 1
                load += values[index] * self._weights[index]
                weight += self._weights[index]
        return Rate(self._factor, load / count, weight / count) if count else Rate(self._factor, 0.0, 1.0)

    def _matches(self, blocks: tuple[int, ...], opened: Sequence[int]) -> list[int]:
        """How many of these blocks each member knows; where there are many, each of those that are open."""
        matches = [0] * len(self._members)
        if blocks:
            for index in range(len(matches)) if self._small else opened:
                matches[index] = self._loads[index].cache.matched(blocks)
        return matches

    def _drawn(self, alike: Sequence[int], rng: Random) -> int:
        point = rng.random() * sum([self._weights[index] for index in alike])
        for index in alike:
            point -= self._weights[index]
            if point < 0:
                return index
        return alike[-1]

    def _note(
        self, ask: Ask, rate: Rate, alike: int, picked: int, values: Sequence[float], matches: Sequence[int]
    ) -> None:
        mark = PrefixMark(ask.prefix, alike, rate.mean, rate.unit)
        if self._small:
            mark.matches, mark.loads = tuple(matches), tuple(values)
        if picked >= 0:
            mark.matched, mark.load = matches[picked], values[picked]
        self.mark = mark

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by their score, the highest first."""
        values = self._values(now)
        blocks = ask.prefix.blocks
        matches = [load.cache.matched(blocks) for load in self._loads]
        return self._ranked(self._rate(values), matches, len(blocks), values)

    def _ranked(
        self, rate: Rate, matches: Sequence[int], total: int, values: Sequence[float]
    ) -> list[tuple[Backend, float]]:
        scores = [rate.score(matches[index], total, value) for index, value in enumerate(values)]
        return sorted(zip(self._members, scores, strict=True), key=lambda one: -one[1])

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: how much of it was known there, what the load was, and who else knew something of it."""
        assert isinstance(mark, PrefixMark)
        rate = Rate(self._factor, mark.mean, mark.unit)
        ranking = self._ranked(rate, mark.matches, mark.total, mark.loads) if mark.loads else ()
        known = sorted(zip(mark.matches, [one.name for one in self._members], strict=False), key=lambda one: -one[0])
        others = [f"{name} {matched}" for matched, name in known if matched and (picked is None or name != picked.name)]
        return Recalled(_rule(mark, rate, self._tell, picked, others), ranking)

    def bare(self) -> Picker:
        """See Picker: all but who else knew something of it."""
        return _Bare(self._factor, self._tell)

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last pick."""
        return ByPrefix(self._members, self._loads, self._weights, self._factor, self._tell)


class _Bare(Bare):
    def __init__(self, factor: float, tell: Callable[[float], str]) -> None:
        super().__init__()
        self._factor: Final = factor
        self._tell: Final = tell

    def told(self, mark: object, picked: Backend | None) -> str:
        assert isinstance(mark, PrefixMark)
        return _rule(mark, Rate(self._factor, mark.mean, mark.unit), self._tell, picked, ())


def _rule(
    mark: PrefixMark, rate: Rate, tell: Callable[[float], str], picked: Backend | None, others: Sequence[str]
) -> str:
    looked = _looked(mark)
    if picked is None:
        return f"prefix: nobody was open{looked}"
    if mark.alike == _TRIAL:
        return f"{_TRIED}{looked}"
    if mark.matched:
        known = f"prefix: it was given {mark.matched} of {mark.total} blocks before"
    elif mark.total and others:
        known = f"prefix: it was given none of {mark.total} blocks before, and who was has too much in flight, or was not open"
    elif mark.total:
        known = f"prefix: nobody was given any of {mark.total} blocks before (cold), by load alone"
    else:
        known = "prefix: no whole block to go by (cold), by load alone"
    load = f"{tell(mark.load)}, the mean is {mark.mean:.6g}"
    score = f"score {rate.score(mark.matched, mark.total, mark.load):.3g}"
    drawn = f", drawn by chance among {mark.alike} alike" if mark.alike > 1 else ""
    more = f", and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
    also = f"; others were given some: {', '.join(others[:_MOST_NAMED])}{more}" if others else ""
    return f"{known}; {load}: {score}{drawn}{also}{looked}"


def _looked(mark: PrefixMark) -> str:
    """How much of the body it went by, where that is not all of it."""
    if mark.seen == Seen.CUT:
        return f"; of the body the first {mark.seen_bytes} bytes were looked at, more was to come"
    if mark.seen == Seen.ENCODED:
        return "; the body is encoded (Content-Encoding), and was not looked into"
    return "; there was no body to look at, or none was waited for" if mark.seen == Seen.NOTHING else ""


class PrefixPolicy:
    """The policy by prefix: what load is compared, at what exchange rate, how bodies are looked at, and how many blocks a backend is
    taken to hold. Two of the same are equal.
    """

    def __init__(self, load: str, kind: LoadKind, factor: float, peek: Peek, blocks: int) -> None:
        self.describe: Final = "prefix: by how the body begins and by load, to whoever was given most of it before"
        self.eager: Final = True
        self.keyed: Final = False
        self.peek: Final = peek
        self.factor: Final = factor
        self.blocks: Final = blocks
        self.load: Final = load
        self._kind: Final = kind

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {
            "load": self.load,
            "kind": self._kind,
            "factor": self.factor,
            "peek": self.peek,
            "blocks": self.blocks,
        }

    def loads(self, counts: Counts) -> Loads | None:
        """What measures the backends."""
        return PrefixLoads(self._kind.loads(counts), self.blocks)

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members; what they were given is the backends'."""
        loads: list[PrefixLoad] = []
        for backend in members:
            load = backend.load
            assert isinstance(load, PrefixLoad), f"{backend.name} has no prompt cache"
            loads.append(load)
        weights = [backend.weighing.effective for backend in members]
        return ByPrefix(members, loads, weights, self.factor, self._kind.tell)

    def goes_on(self, after: "PrefixPolicy", loads: Loads | None) -> bool:
        """Whether what backends were given holds under another policy by prefix, which then has its bound: their blocks are the same."""
        if self.load != after.load or self.peek.block_bytes != after.peek.block_bytes:
            return False
        if not isinstance(loads, PrefixLoads):
            return False
        loads.blocks = after.blocks
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrefixPolicy) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return (self.load, self.factor, self.peek.bytes, self.peek.block_bytes, self.blocks)
