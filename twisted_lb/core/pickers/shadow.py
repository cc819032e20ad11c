"""Shadow (dark launch): a second policy is asked at the same claims, and routes nothing. What it would have picked is compared, and what
it would have in flight is counted: a request that it would have sent elsewhere lasts there as long as it does where it is.

It learns of an answer only where both have picked the same backend: how another one would have answered nobody knows.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.events import Event
from twisted_lb.core.load import Load, Loads, Requests
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers.base import Bare, Picker, Policy, Recalled
from twisted_lb.core.pickers.by_prefix import PrefixPolicy
from twisted_lb.core.pickers.groundwork import Gradual, Groundwork
from twisted_lb.core.pickers.minding import Minded, MindedMeasures, PolicyMeasures, ShadowMeasures, Stopwatch
from twisted_lb.core.pickers.own import OwnPolicy
from twisted_lb.core.pickers.own_picker import OwnLoads
from twisted_lb.core.prefix import Peek
from twisted_lb.core.prompt_cache import PrefixLoads, PrefixMeasures


class _Open:
    """A lease: with the note of the load of the policy that routes, and where the shadow has it, with the note of its load there;
    None where it has it nowhere.
    """

    __slots__ = ("note", "own", "would", "would_note")

    def __init__(self, note: int, would: "ShadowLoad | None", own: int, would_note: int) -> None:
        self.note: Final = note
        self.would: Final = would
        self.own: Final = own
        self.would_note: Final = would_note


class ShadowLoads(Minded):
    """The loads of both policies of one pool, and what is counted of the shadow."""

    def __init__(self, name: str, loads: Loads | None, shadow: Policy, pool_counts: Counts) -> None:
        self.name: Final = name
        self.pool_counts: Final = pool_counts
        self.counts: Final = Counts()  # as the shadow would have them, in slots of its own
        self.loads: Final = loads
        self.shadow: Final = shadow.loads(self.counts)
        self.pending: tuple[Backend, Backend | None] | None = None  # the last pick, and the shadow's
        self.rng: Random | None = None
        self.failed: int = 0
        self._claims: int = 0
        self._agreed: int = 0
        # By slot of the pool, and those of backends that are gone, as long as the shadow would have something there.
        self._slots: Final[dict[int, int]] = {}
        self._gone: Final[set[int]] = set()
        self._leases: Final[dict[int, _Open]] = {}
        self._last: int = 0

    def of(self, slot: int) -> Load:
        """The loads of a backend, one for each policy."""
        before = self._slots.pop(slot, -1)
        if before >= 0:
            self._gone.add(before)
            self._close(before)
        own = self._slots[slot] = self.counts.open()
        real = None if self.loads is None else self.loads.of(slot)
        return ShadowLoad(self, slot, own, real, None if self.shadow is None else self.shadow.of(own))

    def _close(self, own: int) -> None:
        """Give a slot of one's own back, once its backend is gone and nothing would be in flight there."""
        if own in self._gone and not self.counts.own(own):
            self._gone.discard(own)
            self.counts.close(own)

    def chance(self, rng: Random) -> Random:
        """The chance of the shadow, which draws nothing from the pool's."""
        if self.rng is None:
            self.rng = Random(_forked(rng).getrandbits(64))
        return self.rng

    def opened(self, load: "ShadowLoad", note: int, ask: Ask, now: float) -> int:
        """A lease on a backend, whose load has given this note; what it is known by."""
        pending, self.pending = self.pending, None
        would: ShadowLoad | None = load
        if pending is not None and pending[0].load is load:
            self._claims += 1
            self._agreed += pending[1] is pending[0]
            other = None if pending[1] is None else pending[1].load
            would = other if isinstance(other, ShadowLoad) and other.loads is self else None
        would_note = 0
        if would is not None:
            self.counts.claim(would.own)
            if would.shadow is not None:
                would_note = would.shadow.leased(would.weight, ask, now)
        self._last += 1
        self._leases[self._last] = _Open(note, would, -1 if would is None else would.own, would_note)
        return self._last

    def note_of(self, lease: int) -> _Open:
        """A lease that is open."""
        return self._leases[lease]

    def closed(self, lease: int, load: "ShadowLoad", outcome: Outcome, elapsed_s: float, now: float) -> _Open:
        """A lease has ended."""
        one = self._leases.pop(lease)
        if one.would is not None:
            self.counts.release(one.own)
            self._close(one.own)
            if one.would.shadow is not None:
                told = outcome if one.would is load else Outcome.CANCELLED
                one.would.shadow.settled(one.would_note, told, elapsed_s, now)
        return one

    def time_by(self, stopwatch: Stopwatch | None) -> None:
        """See Minded."""
        for loads in (self.loads, self.shadow):
            if isinstance(loads, Minded):
                loads.time_by(stopwatch)

    def news(self, pool: str, now: float) -> list[Event]:
        """See Minded."""
        told: list[Event] = []
        for loads in (self.loads, self.shadow):
            if isinstance(loads, Minded):
                told.extend(loads.news(pool, now))
        return told

    def minded(self, backends: Iterable[Backend]) -> MindedMeasures:
        """See Minded."""
        own: dict[str, PolicyMeasures] = {}
        for role, loads in (("policy", self.loads), ("shadow", self.shadow)):
            if isinstance(loads, Minded):
                for one in loads.minded(backends).own.values():
                    own[role] = one
        slots = {one.name: self._slots[one.slot] for one in backends if one.slot in self._slots}
        in_flight = {name: self.counts.load(own) for name, own in slots.items()}
        return MindedMeasures(own, ShadowMeasures(self.name, self._claims, self._agreed, self.failed, in_flight))


class ShadowLoad(Load):
    """The loads of one backend: of the policy that routes, and of the shadow."""

    __slots__ = ("loads", "own", "real", "shadow", "slot", "weight")

    def __init__(self, loads: ShadowLoads, slot: int, own: int, real: Load | None, shadow: Load | None) -> None:
        self.loads: Final = loads
        self.slot: Final = slot
        self.own: Final = own  # where the shadow has its requests counted
        self.real: Final = real
        self.shadow: Final = shadow
        self.weight: float = 1.0  # as of the last build

    def leased(self, weight: float, ask: Ask, now: float) -> int:
        """Tell both."""
        note = 0 if self.real is None else self.real.leased(weight, ask, now)
        return self.loads.opened(self, note, ask, now)

    def responded(self, note: int, elapsed_s: float, now: float) -> None:
        """Tell both, the shadow where it has the lease here too."""
        one = self.loads.note_of(note)
        if self.real is not None:
            self.real.responded(one.note, elapsed_s, now)
        if one.would is self and self.shadow is not None:
            self.shadow.responded(one.would_note, elapsed_s, now)

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """Tell both; for the shadow it is no outcome where it has the lease elsewhere."""
        one = self.loads.closed(note, self, outcome, elapsed_s, now)
        if self.real is not None:
            self.real.settled(one.note, outcome, elapsed_s, now)

    def restarted(self) -> None:
        """Tell both."""
        for load in (self.real, self.shadow):
            if load is not None:
                load.restarted()

    def value(self, weight: float, now: float) -> float:
        """What the policy that routes compares; requests in flight where it compares nothing."""
        if self.real is None:  # as where a backend has no load
            return float(self.loads.pool_counts.load(self.slot))
        return self.real.value(weight, now)


class ShadowedPicker(Picker):
    """The picker of a policy that routes, and that of its shadow, which is asked behind it."""

    def __init__(
        self,
        name: str,
        real: Picker,
        shadow: Picker,
        loads: ShadowLoads | None,
        members: Sequence[Backend],
        rng: Random,
    ) -> None:
        super().__init__()
        self._name: Final = name
        self.real: Final = real
        self.shadow: Final = shadow
        self._loads: Final = loads
        self._members: Final = list(members)
        self._rng: Final = rng
        self.ramps = real.ramps or shadow.ramps
        self.large = real.large or shadow.large
        self.mark = (real.mark, None, None)

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """Whom the policy picks that routes."""
        backend = self.real.pick(ask, now, rng, tried)
        would: Backend | None = None
        if backend is not None:
            would = self._would(ask, now, tried)
            if self._loads is not None:
                self._loads.pending = (backend, would)
        self.mark = (self.real.mark, would, self.shadow.mark)
        return backend

    def _would(self, ask: Ask, now: float, tried: Sequence[Backend]) -> Backend | None:
        """Whom the shadow would pick; whoever it steps over is not counted as stepped over. O(n)."""
        passed = [(one, one.passed_over, one.passed_as_tried, one.passed_by_bound) for one in self._members]
        would: Backend | None = None
        try:
            would = self.shadow.pick(ask, now, self._rng, tried)
        except BaseException:
            if self._loads is not None:
                self._loads.failed += 1
        for one, over, as_tried, by_bound in passed:
            one.passed_over, one.passed_as_tried, one.passed_by_bound = over, as_tried, by_bound
        return would

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """That of the policy that routes."""
        return self.real.ranking(ask, now)

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: what decided, and what the shadow would have done."""
        return _recalled(self._name, self.real, self.shadow, mark, picked)

    def bare(self) -> Picker:
        """See Picker."""
        return _Bare(self._name, self.real.bare(), self.shadow.bare())

    def fork(self) -> Picker:
        """Copies of both."""
        copy = ShadowedPicker(self._name, self.real.fork(), self.shadow.fork(), None, self._members, _forked(self._rng))
        copy.mark = self.mark
        return copy


class _Bare(Bare):
    def __init__(self, name: str, real: Picker, shadow: Picker) -> None:
        super().__init__()
        self._name: Final = name
        self._routing: Final = real
        self._shadow: Final = shadow

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        return _recalled(self._name, self._routing, self._shadow, mark, picked)


def _recalled(name: str, real: Picker, shadow: Picker, mark: object, picked: Backend | None) -> Recalled:
    assert isinstance(mark, tuple)
    decided, would, inner = mark
    told = real.recalled(decided, picked)
    if picked is None:
        return told
    if would is None:
        said = "would have picked nobody"
    else:
        whom = "agrees" if would is picked else f"would have picked {would.name}"
        said = f"{whom}: {shadow.recalled(inner, would).rule}"
    return Recalled(f"{told.rule}; the shadow {name} {said}", told.ranking, unknown=told.unknown)


class _Before(Picker):
    """What two policies build upon; nobody is asked."""

    def __init__(self, real: Picker | None, shadow: Picker | None) -> None:
        super().__init__()
        self.real: Final = real
        self.shadow: Final = shadow


def _each(picker: Picker | None) -> tuple[Picker | None, Picker | None]:
    """What the policy that routes builds upon, and what its shadow does."""
    if isinstance(picker, ShadowedPicker):
        return picker.real, picker.shadow
    if isinstance(picker, _Before):
        return picker.real, picker.shadow
    return picker, None


class _BothWorks(Groundwork):
    """The groundwork of both policies; None where one needs none."""

    def __init__(self, real: Groundwork | None, shadow: Groundwork | None) -> None:
        super().__init__()
        self._routing: Final = real
        self._shadow: Final = shadow
        self._sum()

    def _sum(self) -> None:
        self.cost = sum([one.cost for one in (self._routing, self._shadow) if one is not None])

    def work(self, steps: int) -> int:
        """See Groundwork."""
        for one in (self._routing, self._shadow):
            if one is not None:
                steps = one.work(steps)
        self._sum()
        return steps

    def under(self, picker: Picker | None) -> Picker | None:
        """See Groundwork."""
        real, shadow = _each(picker)
        return _Before(
            real if self._routing is None else self._routing.under(real),
            shadow if self._shadow is None else self._shadow.under(shadow),
        )

    def coarse(self, picker: Picker | None) -> Picker | None:
        """See Groundwork: what is done is not made coarser."""
        real, shadow = _each(picker)
        before = _Before(_best(self._routing, real), _best(self._shadow, shadow))
        self._sum()
        return before


def _best(work: Groundwork | None, picker: Picker | None) -> Picker | None:
    if work is None:
        return picker
    return work.under(picker) if work.done else work.coarse(picker)


class ShadowedPolicy(Gradual):
    """A policy that routes, with a shadow. Where one of the two takes long to build, both are built at ticks."""

    def __init__(self, policy: Policy, shadow: Policy, shadow_name: str) -> None:
        self.describe: Final = policy.describe
        self.eager: Final = policy.eager and shadow.eager
        self.keyed: Final = policy.keyed or shadow.keyed
        self.policy: Final = policy
        self.shadow: Final = shadow
        self.shadow_name: Final = shadow_name

    def loads(self, counts: Counts) -> Loads | None:
        """What measures both."""
        return ShadowLoads(self.shadow_name, self.policy.loads(counts), self.shadow, counts)

    def begin(self, members: Sequence[Backend], previous: Picker | None) -> Groundwork | None:
        """See Gradual: what either needs."""
        before_real, before_shadow = _each(previous)
        real, shadow = _begun(self.policy, members, before_real), _begun(self.shadow, members, before_shadow)
        return None if real is None and shadow is None else _BothWorks(real, shadow)

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """Both pickers, each from its own of before, and by its own loads."""
        loads: list[ShadowLoad] = []
        for backend in members:
            load = backend.load
            assert isinstance(load, ShadowLoad), f"{backend.name} has no loads of two policies"
            load.weight = backend.weighing.effective
            loads.append(load)
        before_real, before_shadow = _each(previous)
        chance = loads[0].loads.chance(rng)
        try:
            for backend, load in zip(members, loads, strict=True):
                backend.load = load.real
            real = self.policy.build(members, before_real, rng, now)
            for backend, load in zip(members, loads, strict=True):
                # What goes by requests in flight, as bounds of keys do, goes by those that the shadow would have.
                backend.load = load.shadow or Requests(load.loads.counts, load.own)
            shadow = self.shadow.build(members, before_shadow, _forked(chance), now)
        finally:
            for backend, load in zip(members, loads, strict=True):
                backend.load = load
        return ShadowedPicker(self.shadow_name, real, shadow, loads[0].loads, members, chance)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShadowedPolicy) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return (self.policy, self.shadow, self.shadow_name)


def _begun(policy: Policy, members: Sequence[Backend], previous: Picker | None) -> Groundwork | None:
    return policy.begin(members, previous) if isinstance(policy, Gradual) else None


def goes_on(before: Policy, after: Policy, loads: Loads | None) -> bool:
    """Whether a policy is the one before but for what its loads need not know, as the time that picks of one's own may take: then they
    go on, and follow that.
    """
    if isinstance(before, OwnPolicy) and isinstance(after, OwnPolicy) and isinstance(loads, OwnLoads):
        if (before.target, before.name) != (after.target, after.name):
            return False
        loads.minder.budget_s = after.budget_s
        return True
    if isinstance(before, PrefixPolicy) and isinstance(after, PrefixPolicy):
        return before.goes_on(after, loads)
    if not (
        isinstance(before, ShadowedPolicy) and isinstance(after, ShadowedPolicy) and isinstance(loads, ShadowLoads)
    ):
        return False
    if before.shadow_name != after.shadow_name:
        return False
    return (before.policy == after.policy or goes_on(before.policy, after.policy, loads.loads)) and (
        before.shadow == after.shadow or goes_on(before.shadow, after.shadow, loads.shadow)
    )


def peek_of(policy: Policy) -> Peek | None:
    """How a policy, or its shadow, wants the bodies of requests to be looked at; None where neither does."""
    if isinstance(policy, ShadowedPolicy):
        return peek_of(policy.policy) or peek_of(policy.shadow)
    return policy.peek if isinstance(policy, PrefixPolicy) else None


def prefixes_of(loads: Loads | None) -> dict[str, PrefixMeasures]:
    """What is counted of prefixes, by whose it is: of the `policy`, or of a `shadow`, as far as either goes by them."""
    both = {"policy": loads.loads, "shadow": loads.shadow} if isinstance(loads, ShadowLoads) else {"policy": loads}
    return {role: one.measures() for role, one in both.items() if isinstance(one, PrefixLoads)}


def unshadowed(picker: Picker | None) -> Picker | None:
    """The picker of the policy that routes."""
    return picker.real if isinstance(picker, ShadowedPicker) else picker


def _forked(rng: Random) -> Random:
    other = Random(0)
    other.setstate(rng.getstate())
    return other
