"""A kit that tries a policy out (conformance): what every policy has to hold, whoever wrote it, on virtual time and from a seed."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import inf
from types import FrameType, TracebackType
from typing import Any, Final, Self

from twisted_lb.config.policies import policy_meant
from twisted_lb.core.address import parse_address
from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.events import Event, PolicyFailed
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import Policy
from twisted_lb.core.pickers.own import OwnPolicy, own_policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.prefix import Prefix, Seen
from twisted_lb.core.settings import PoolSettings

Labels = Sequence[Mapping[str, str]]

_WEIGHTS: Final = ((1, 1, 1, 1, 1), (1, 2, 3, 4))
_PICKS: Final = 2000
# In flight at once, and how long a request takes at most: alike for all members.
_AT_ONCE: Final = 9
_LONGEST_S: Final = 0.05
_STEPS: Final = 2000
_MOST_MEMBERS: Final = 12
# Steps of Python's interpreter for one pick among 50 members: about a millisecond, twice `policy_budget_us`.
_MOST_STEPS: Final = 20_000
# Eight times as many members may cost eight times as much, with a logarithm; as a square they would cost 64 times as much.
_FEW: Final = 50
_MANY: Final = 400
_MOST_GROWTH: Final = 20
_COUNTED: Final = 20
# What a pick may cost more, whatever it is made of, where little is compared with little.
_SLACK: Final = 2000
_OUTCOMES: Final = (*[Outcome.OK] * 14, Outcome.REFUSED, Outcome.NO_RESPONSE, Outcome.TIMED_OUT, Outcome.CLIENT_GONE)


def check_policy(
    policy: str | Policy | Callable[..., object],
    *,
    seed: int = 1,
    within: float | None = 2.0,
    labels: Labels = (),
) -> None:
    """Try a policy out: a class of one's own, the name of a built-in, or a Policy. AssertionError says what it does not hold, in which
    situation, with the seed; ValueError that this is no policy.

    It picks only who is open, and somebody whenever somebody is. In idle and in busy pools of members that are alike each has its
    share by weight, at most so many times as much and as little (`within`; None: it goes by something else, shares are not looked
    at). A pick costs no more than in proportion to the members, nor more the longer the policy is at it. It survives members
    that come, go, fail, fill up and are drained. With the same `rng` and the same `now` it picks the same, and `explain`
    foretells it without changing it.

    `labels` are those of the members, in turn.
    """
    _Check(_policy_of(policy), seed, within, labels).run()


def _policy_of(given: str | Policy | Callable[..., object]) -> Policy:
    if isinstance(given, str) or not callable(given):
        return policy_meant(given)
    try:
        return own_policy(given, getattr(given, "__qualname__", repr(given)), inf)
    except ValueError as error:
        raise AssertionError(str(error)) from None


def _ask(chance: random.Random) -> Ask:
    """What no other request asks."""
    prefix = Prefix((chance.getrandbits(60), chance.getrandbits(60)), Seen.WHOLE)
    return Ask(chance.getrandbits(64), chance.randint(1, 4), prefix)


class _Check:
    """One policy, tried out."""

    def __init__(self, policy: Policy, seed: int, within: float | None, labels: Labels) -> None:
        self._policy: Final = policy
        self._seed: Final = seed
        self._within: Final = within
        self._labels: Final = labels

    def run(self) -> None:
        for weights in _WEIGHTS:
            self._last_one(weights)
        self._cost()
        for weights in _WEIGHTS:
            self._shares(weights, at_once=1)
            self._shares(weights, at_once=_AT_ONCE)
        self._churn()

    def _pool(self, situation: str, weights: Sequence[int], seed: int = 0) -> "_Tried":
        tried = _Tried(self._policy, self._seed + seed, situation)
        tried.pool.update([self.spec(number, weight) for number, weight in enumerate(weights)], tried.now)
        return tried

    def spec(self, number: int, weight: int, limit: int | None = None) -> BackendSpec:
        labels = self._labels[number % len(self._labels)] if self._labels else {}
        address = parse_address(f"10.0.{number >> 8}.{number & 255}:80")
        return BackendSpec(f"m{number}", address, weight, labels=tuple(labels.items()), limit=limit)

    def _last_one(self, weights: Sequence[int]) -> None:
        """Where one alone is open, it is picked: the others were tried, are down, drained, or full."""
        for name in [f"m{number}" for number in range(len(weights))]:
            tried = self._pool(f"{name} alone is open, the others were tried", weights)
            backends = tried.pool.backends
            others = [one for one in backends.values() if one.name != name]
            for _ in range(20):
                tried.settle(tried.claimed(tuple(others)))
            for other in others:
                tried.take_out(other, how=len(other.name) + int(other.name[1:]))
            tried.situation = f"{name} alone is open, the others are down or drained"
            for _ in range(20):
                tried.settle(tried.claimed())
            full = self._pool("each has room for one", weights)
            full.pool.update([self.spec(number, weight, limit=1) for number, weight in enumerate(weights)], full.now)
            found = {full.claimed().backend.name for _ in weights}
            full.expect(
                len(found) == len(weights), f"picked {len(found)} of {len(weights)} members that had room for one each"
            )
            full.expect(full.claim() is None, "picked one that is full")

    def _shares(self, weights: Sequence[int], at_once: int) -> None:
        """Each has its share, of members that are alike."""
        busy = f"{at_once} requests at once" if at_once > 1 else "one request at a time"
        tried = self._pool(f"{busy}, weights {', '.join(map(str, weights))}", weights)
        counts: Counter[str] = Counter()
        for _ in range(_PICKS):
            while len(tried.leases) >= at_once:
                tried.settle(tried.chance.choice(tried.leases))
            counts[tried.claimed().backend.name] += 1
            tried.now += tried.chance.random() * _LONGEST_S / at_once
        if self._within is None:
            return
        # Who starves first.
        for got, number in sorted((counts[f"m{number}"] / _PICKS, number) for number in range(len(weights))):
            meant = weights[number] / sum(weights)
            text = f"m{number} got {got:.1%} of {_PICKS} picks, its weight means {meant:.1%}"
            tried.expect(got > 0, f"starves: {text}")
            tried.expect(meant / self._within <= got <= meant * self._within, text)

    def _cost(self) -> None:
        """How many steps of the interpreter a pick takes; nothing is measured in seconds."""
        few, many = (self._steps(size) for size in (_FEW, _MANY))
        text = f"a pick among {_MANY} members takes {many[1]} steps of the interpreter, among {_FEW} {few[1]}: more than in proportion"
        many[0].expect(many[1] <= _MOST_GROWTH * few[1] + _SLACK, text)
        few[0].expect(
            few[1] <= _MOST_STEPS, f"a pick takes {few[1]} steps of the interpreter, at most {_MOST_STEPS} are fine"
        )
        tried, before = few
        for _ in range(_PICKS):
            tried.settle(tried.claimed())
        after = tried.steps(_COUNTED)
        text = f"a pick takes {after} steps of the interpreter after {_PICKS} others, {before} before: it gets slower"
        tried.expect(2 * after <= 3 * before + _SLACK, text)

    def _steps(self, members: int) -> tuple["_Tried", int]:
        tried = self._pool(f"{members} members", [1] * members)
        for _ in range(_COUNTED):
            tried.settle(tried.claimed())
        return tried, tried.steps(_COUNTED)

    def _churn(self) -> None:
        """Whatever happens to members; three times the same."""
        before = random.getstate()
        try:
            first = self._story(1, ask=False)
            self._same(
                first,
                self._story(2, ask=False),
                "it goes by chance or time of its own, and not by `rng` and `now` alone",
            )
            self._same(first, self._story(3, ask=True), "`explain` changes it: its deep copy shares something with it")
        finally:
            random.setstate(before)

    def _story(self, number: int, *, ask: bool) -> list[str]:
        random.seed(self._seed + number)  # that nobody should go by
        return _Churn(self, self._pool("members come, go, fail and fill up", (1,) * 5), ask=ask).picks()

    def _same(self, one: Sequence[str], other: Sequence[str], why: str) -> None:
        for number, (first, second) in enumerate(zip(one, other, strict=True)):
            if first != second:
                tried = _Tried(self._policy, self._seed, "the same happens again")
                tried.number = number
                tried.expect(False, f"picks {second}, and before {first}: {why}")


class _Tried:
    """A pool in some situation, with what is open of its leases; `chance` decides what happens to it."""

    def __init__(self, policy: Policy, seed: int, situation: str) -> None:
        self.situation = situation
        self.now = 1000.0
        self.number = 0  # of the pick
        self.leases: list[Lease] = []
        self.chance: Final = random.Random(f"{seed}/what happens")
        self._events: Final[list[Event]] = []
        self._policy: Final = policy
        self._seed: Final = seed
        settings = PoolSettings(2, 2, checked=False, max_queued=0)
        self.pool: Final = Pool("checked", policy, settings, random.Random(seed), self._events.append)

    @property
    def name(self) -> str:
        """What the policy is called."""
        return self._policy.name if isinstance(self._policy, OwnPolicy) else self._policy.describe

    def expect(self, holds: bool, what: str) -> None:
        """AssertionError where something does not hold."""
        if not holds:
            where = f"{self.situation}; pick {self.number}" if self.number else self.situation
            raise AssertionError(f"{self.name}: {what} ({where}; check_policy(…, seed={self._seed}))")

    def look_after(self) -> None:
        """What ticks do in a while: trials that are due are available, and what is not built in a claim is built, whole."""
        self.pool.tick(self.now)
        self.pool.finish_tables(self.now)

    def claim(self, tried: Sequence[Backend] = ()) -> Lease | None:
        """Claim a backend, and see that it may be picked; None where nobody is open."""
        self.number += 1
        self.look_after()
        open_ = [one for one in self.pool.backends.values() if one.available and one not in tried]
        chance = self.chance
        verdict = self.pool.claim(_ask(chance), self.now, tried)
        self.look()
        if not isinstance(verdict, Lease):
            self.expect(not open_, f"picked nobody, and {_names(open_)} were open")
            return None
        self.expect(verdict.backend in open_, f"picked {verdict.backend.name}, and {_names(open_)} were open")
        self.leases.append(verdict)
        return verdict

    def claimed(self, tried: Sequence[Backend] = ()) -> Lease:
        """A lease, where somebody is open."""
        lease = self.claim(tried)
        self.expect(lease is not None, "nobody is open")
        assert lease is not None
        return lease

    def settle(self, lease: Lease, outcome: Outcome = Outcome.OK) -> None:
        """End a lease."""
        self.leases.remove(lease)
        if outcome is Outcome.OK:
            self.pool.responded(lease, self.now)
        self.pool.settle(lease, outcome, self.now)
        self.look()

    def look(self) -> None:
        """See whether the policy did something wrong that the pool has hidden."""
        minded = self.pool.minded
        if minded is None or not any(one.faults for one in minded.own.values()):
            return
        self.pool.tick(self.now)
        for event in self._events:
            if isinstance(event, PolicyFailed):
                self.expect(False, event.what.partition("; ")[0])

    def take_out(self, backend: Backend, how: int) -> None:
        """Have a backend out, by its checks or by the operator."""
        if how % 2:
            self.pool.command(backend, AdminState.DRAIN, self.now)
        while not how % 2 and backend.health.up:
            self.pool.observe_probe(backend, False, "down", self.now)

    def steps(self, picks: int) -> int:
        """How many steps of the interpreter a pick takes, on an average of so many."""
        total = 0
        for _ in range(picks):
            with Steps() as steps:
                self.claimed()
            total += steps.count
            self.settle(self.leases[-1])
        return total // picks


class _Churn:
    """What may happen to the members of a pool, in any order."""

    def __init__(self, check: _Check, tried: _Tried, *, ask: bool) -> None:
        self._check: Final = check
        self._tried: Final = tried
        self._ask: Final = ask
        self._picked: Final[list[str]] = []

    def picks(self) -> list[str]:
        """Who was picked, one after the other."""
        tried, chance = self._tried, self._tried.chance
        kinds = (*[self._claim] * 12, *[self._settle] * 8, self._update, self._command, self._probe, self._wait)
        for step in range(_STEPS):
            tried.now += 0.001
            chance.choice(kinds)()
            if step % 50 == 0:
                self._add_up()
        for lease in list(tried.leases):
            tried.settle(lease)
        self._add_up()
        return self._picked

    def _add_up(self) -> None:
        for broken in self._tried.pool.broken():
            self._tried.expect(False, broken)

    def _claim(self) -> None:
        tried, chance = self._tried, self._tried.chance
        members = list(tried.pool.backends.values())
        before = chance.sample(members, min(len(members), chance.choice((0, 0, 0, 1, 2))))
        foreseen = None
        if self._ask:
            tried.look_after()
            state = chance.getstate()
            ask = _ask(chance)
            chance.setstate(state)
            foreseen = tried.pool.explain(ask, tried.now, before)
        lease = tried.claim(before)
        name = "nobody" if lease is None else lease.backend.name
        self._picked.append(name)
        if foreseen is not None and "cannot be copied" not in foreseen.rule:
            tried.expect(
                (foreseen.picked or "nobody") == name, f"`explain` says {foreseen.picked}, and {name} is picked"
            )

    def _settle(self) -> None:
        tried = self._tried
        if tried.leases:
            tried.settle(tried.chance.choice(tried.leases), tried.chance.choice(_OUTCOMES))

    def _update(self) -> None:
        tried, chance = self._tried, self._tried.chance
        numbers = chance.sample(range(_MOST_MEMBERS), chance.randint(0, _MOST_MEMBERS))
        specs = [self._check.spec(number, chance.randint(0, 9), chance.choice((None, 0, 1, 3))) for number in numbers]
        tried.situation = f"members come, go, fail and fill up; {len(specs)} members"
        tried.pool.update(specs, tried.now)

    def _command(self) -> None:
        for backend in self._some():
            self._tried.pool.command(backend, self._tried.chance.choice(tuple(AdminState)), self._tried.now)

    def _probe(self) -> None:
        passed = self._tried.chance.random() < 0.7
        for backend in self._some():
            self._tried.pool.observe_probe(backend, passed, "a check", self._tried.now)

    def _some(self) -> list[Backend]:
        members = list(self._tried.pool.backends.values())
        return self._tried.chance.sample(members, min(len(members), 3))

    def _wait(self) -> None:
        self._tried.now += self._tried.chance.random() * 3
        self._tried.pool.tick(self._tried.now)


class Steps:
    """Counts the steps of the interpreter (bytecodes) in this thread; compiled code takes none."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, argument: object) -> Any:
        self.count += 1
        return self._stepped


def _names(backends: Sequence[Backend]) -> str:
    return ", ".join(one.name for one in backends) or "none"
