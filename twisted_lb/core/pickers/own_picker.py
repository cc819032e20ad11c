"""The picker of a policy of one's own, and the loads that tell the policy of its leases: whatever somebody else's code does here, the
pool has a pick.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from random import Random
from typing import Any, Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.events import Event
from twisted_lb.core.load import Load, Requests
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers.base import Bare, Picker, Recalled
from twisted_lb.core.pickers.by_load import Two
from twisted_lb.core.pickers.minding import BUILT_IN, Fault, Minded, MindedMeasures, Minder, Stopwatch
from twisted_lb.core.pickers.own_member import Member
from twisted_lb.core.pickers.own_shape import raised, said, shown
from twisted_lb.core.pickers.shares import Shares

# Members are looked through for a trial that is due so often: O(n), and no policy of one's own has to know of trials.
_TRIALS_EVERY_S: Final = 0.1
# In a mark, in the place of words.
_TRIAL: Final = 0


class OwnLoads(Minded):
    """What is minded of a policy of one's own in one pool: the loads, and the object that is told of them."""

    def __init__(self, minder: Minder, counts: Counts) -> None:
        self.minder: Final = minder
        self.counts: Final = counts
        self.leased: Any = None
        self.responded: Any = None
        self.settled: Any = None
        self.load: Any = None
        self._told: object = None

    def of(self, slot: int) -> Load:
        """What tells the policy of its leases."""
        return OwnLoad(self, slot)

    def tell(self, made: object, now: float) -> None:
        """From now on this object of the policy hears of leases."""
        if made is self._told:
            return
        self._told = made
        self.leased = self._hook(made, "leased", now)
        self.responded = self._hook(made, "responded", now)
        self.settled = self._hook(made, "settled", now)
        self.load = self._hook(made, "load", now)

    def _hook(self, made: object, name: str, now: float) -> Any:
        """What the object has of this name; None, and a fault, where it cannot even be looked up."""
        try:
            return getattr(made, name, None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failed(name, error, now)
            return None

    def failed(self, hook: str, error: BaseException, now: float) -> None:
        """A hook has raised."""
        self.minder.fault(Fault.HOOK, f"{hook}() {raised(error)}", f"{hook} {type(error).__name__}", now)

    def time_by(self, stopwatch: Stopwatch | None) -> None:
        """See Minded."""
        self.minder.stopwatch = stopwatch

    def news(self, pool: str, now: float) -> list[Event]:
        """See Minded."""
        return self.minder.news(pool, now)

    def minded(self, backends: Iterable[Backend]) -> MindedMeasures:
        """See Minded."""
        return MindedMeasures({"policy": self.minder.measures()})


class OwnLoad(Load):
    """The leases of one backend, as a policy of one's own hears of them, if it wants to."""

    __slots__ = ("_slot", "loads", "member")

    def __init__(self, loads: OwnLoads, slot: int) -> None:
        self.loads: Final = loads
        self._slot: Final = slot
        self.member: Member | None = None  # as soon as it was among those to pick from

    def leased(self, weight: float, ask: Ask, now: float) -> int:
        """Tell it; what comes back at the end is the cost, or -1 where nobody was told."""
        leased = self.loads.leased
        if self.member is None:
            return -1
        if leased is not None:
            try:
                leased(self.member, ask.cost, now)
            except BaseException as error:
                self.loads.failed("leased", error, now)
        return ask.cost

    def responded(self, note: int, elapsed_s: float, now: float) -> None:
        """Tell it."""
        responded = self.loads.responded
        if responded is not None and note >= 0:
            try:
                responded(self.member, elapsed_s, now)
            except BaseException as error:
                self.loads.failed("responded", error, now)

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """Tell it."""
        settled = self.loads.settled
        if settled is not None and note >= 0:
            try:
                settled(self.member, note, outcome, elapsed_s, now)
            except BaseException as error:
                self.loads.failed("settled", error, now)

    def value(self, weight: float, now: float) -> float:
        """What it says that the load is; requests in flight for each unit of weight where it says nothing."""
        load = self.loads.load
        if load is not None and self.member is not None:
            try:
                return float(load(self.member, now))
            except BaseException as error:
                self.loads.failed("load", error, now)
        return self.loads.counts.load(self._slot) / weight


class OwnPicker(Picker):
    """The picker of a policy of one's own. A trial that is due comes before anything else, as by other policies it might never come;
    where the policy picks nobody who is open, `p2c` does.
    """

    def __init__(
        self, members: Sequence[Backend], loads: OwnLoads, target: Callable[..., object], made: object, unmade: str
    ) -> None:
        super().__init__()
        self.large = True
        self._members: Final = list(members)
        self._among: Final = frozenset(members)
        self._loads: Final = loads
        self._minder: Final = loads.minder
        self._target: Final = target
        # The object of the policy; one of before, and `unmade` says why, where it could not be made anew.
        self._made: Final[Any] = made
        self._unmade: Final = unmade
        self._pick: Final[Any] = None if unmade else getattr(made, "pick", None)
        self._says_why: Final = not unmade and hasattr(made, "why")
        self._look_at: float = -NEVER
        self._built_in: Picker | None = None
        self._unknown: str = ""
        # _TRIAL; what the policy said; or why it was not followed, with the built-in's mark.
        self.mark = ""

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """Whom the policy picks, if that is a member that is open."""
        if self._unknown:
            return None
        if now >= self._look_at:
            for backend in self._members:
                if backend.ejection.due and backend.available and not backend.usable and backend not in tried:
                    self.mark = _TRIAL
                    return backend
            self._look_at = now + _TRIALS_EVERY_S
        self._loads.tell(self._made, now)
        if self._unmade:
            return self._fault(Fault.NOT_MADE, self._unmade, ask, now, rng, tried)
        if now < self._minder.rests_until:
            return self._instead(f"rests: {self._minder.why_resting}", ask, now, rng, tried)
        return self._asked(ask, now, rng, tried)

    def _asked(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """Ask the policy."""
        stopwatch = self._minder.stopwatch
        had = tuple([Member(one, self._loads.counts) for one in tried]) if tried else ()
        began = 0.0 if stopwatch is None else stopwatch()
        chosen: object = None
        error: BaseException | None = None
        try:
            chosen = self._pick(ask, now, rng, had)
        except KeyboardInterrupt:
            raise
        except BaseException as caught:  # sys.exit() in a policy ends no balancer
            error = caught
        if stopwatch is not None:
            self._minder.took(stopwatch() - began, now)
        if error is not None:
            return self._fault(Fault.RAISED, raised(error), ask, now, rng, tried)
        if chosen is None:
            return self._nobody(ask, now, rng, tried)
        if not isinstance(chosen, Member) or chosen._backend not in self._among:
            return self._fault(Fault.NO_MEMBER, f"returned {shown(chosen)}, which is no member", ask, now, rng, tried)
        backend = chosen._backend
        if not backend.available:
            told = f"returned {backend.name}, which is not available"
            return self._fault(Fault.UNAVAILABLE, told, ask, now, rng, tried)
        if tried and backend in tried:
            return self._fault(Fault.TRIED, f"returned {backend.name}, which was tried before", ask, now, rng, tried)
        self.mark = f": {self._why()}" if self._says_why else ""
        return backend

    def _why(self) -> str:
        """What the policy says of its last pick; how it cannot be told, where that raises."""
        try:
            return said(getattr(self._made, "why", ""))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return f"its why {raised(error)}"

    def _nobody(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The policy says that nobody is open: true, or a fault."""
        why = "returned None while somebody was open"
        backend = self._instead(why, ask, now, rng, tried)
        if backend is not None:
            self._minder.fault(Fault.NOBODY, why, "", now)
        return backend

    def _fault(
        self, kind: Fault, why: str, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]
    ) -> Backend | None:
        # Of what was raised the kind is told once: its words may differ each time.
        self._minder.fault(kind, why, why.partition(":")[0] if kind is Fault.RAISED else "", now)
        return self._instead(why, ask, now, rng, tried)

    def _instead(self, why: str, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The built-in picks."""
        built_in = self._built_in
        if built_in is None:
            counts = self._loads.counts
            loads: list[Load] = [Requests(counts, one.slot) for one in self._members]
            built_in = self._built_in = Two(Shares(self._members), loads, _in_flight)
        backend = built_in.pick(ask, now, rng, tried)
        self.mark = (why, built_in.mark)
        return backend

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by what the policy says that their load is, the least first; nothing where it does not say that."""
        load = getattr(self._made, "load", None)
        if load is None or self._unmade:
            return ()
        try:
            loads = [(one, float(load(Member(one, self._loads.counts), now))) for one in self._members]
        except BaseException:
            return ()
        return sorted(loads, key=lambda one: one[1])

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: what the policy said, or why it was not followed, and how the built-in picked then."""
        if self._unknown:
            return Recalled(f"policy {self._minder.name} {self._unknown}", (), unknown=True)
        return _recalled(self._minder.name, self._built_in, mark, picked)

    def bare(self) -> Picker:
        """See Picker: what the policy said is in its marks."""
        return _Bare(self._minder.name, None if self._built_in is None else self._built_in.bare())

    def fork(self) -> Picker:
        """A copy, of the policy's object too (deep), which is told of nothing and counts nowhere. Where that cannot be copied nobody
        knows what it would pick, and `recalled` says so.
        """
        unknown = ""
        made: object = None
        try:
            made = deepcopy(self._made)
        except BaseException as error:
            unknown = f"cannot be copied to see what it would pick: {raised(error)}"
        loads = OwnLoads(self._minder.aside(), self._loads.counts)
        copy = OwnPicker(self._members, loads, self._target, made, self._unmade)
        copy._look_at = self._look_at
        copy._built_in = None if self._built_in is None else self._built_in.fork()
        copy._unknown = unknown
        copy.mark = self.mark
        return copy

    def made_by(self, target: Callable[..., object]) -> object:
        """The object of the policy, if it is of this one; None else."""
        return self._made if self._target == target else None


class _Bare(Bare):
    def __init__(self, name: str, built_in: Picker | None) -> None:
        super().__init__()
        self._name: Final = name
        self._built_in: Final = built_in

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        return _recalled(self._name, self._built_in, mark, picked)


def _recalled(name: str, built_in: Picker | None, mark: object, picked: Backend | None) -> Recalled:
    if mark == _TRIAL:
        return Recalled("a trial was due: one request finds out whether it is back, whatever the policy says", ())
    if isinstance(mark, tuple):
        why, inner = mark
        assert built_in is not None
        told = built_in.recalled(inner, picked)
        return Recalled(f"policy {name} {why}; picked by {BUILT_IN} instead: {told.rule}", told.ranking)
    return Recalled(f"policy {name}{mark}", ())


def _in_flight(value: float) -> str:
    return f"{value:.6g} in flight by weight"
