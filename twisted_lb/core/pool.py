"""The pool: interchangeable backends behind one policy, their membership, their state and the leases on them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Final

from twisted_lb.core.adaptive import Limiting
from twisted_lb.core.affinity import AffinityRules, Bindings, Bond, drains, fate
from twisted_lb.core.agent import Said
from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import ADAPTIVE, AdminState, Backend, BackendSpec
from twisted_lb.core.changes import apply_outcome, membership_changes
from twisted_lb.core.counts import Counts
from twisted_lb.core.decision import OWN, Decision, Refused, decided, why_nobody
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import (
    AdminChanged,
    AgentChanged,
    AgentGarbled,
    BackendChanged,
    BackendDown,
    BackendEjected,
    BackendReturned,
    BackendUp,
    Event,
    LevelsShifted,
    PanicBegan,
    PanicEnded,
    PoolExhausted,
    PoolRecovered,
)
from twisted_lb.core.hedging import Hedging, hedged_by
from twisted_lb.core.held import Held
from twisted_lb.core.identities import broken
from twisted_lb.core.lease import Lease, LoadLease
from twisted_lb.core.levels import Levels
from twisted_lb.core.load import Load, Loads
from twisted_lb.core.load_report import LoadReport, read_report
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.outliers import Ended, Outliers
from twisted_lb.core.pace import Pace
from twisted_lb.core.pickers.base import Picker, Policy
from twisted_lb.core.pickers.minding import Minded, MindedMeasures, Stopwatch
from twisted_lb.core.pickers.shadow import goes_on, peek_of, prefixes_of
from twisted_lb.core.prefix import Peek
from twisted_lb.core.prompt_cache import PrefixMeasures
from twisted_lb.core.queue import Queue, Ticket
from twisted_lb.core.reported import Reported
from twisted_lb.core.reserve import Reserve
from twisted_lb.core.retry import RetryBudget
from twisted_lb.core.scene import Kept, Scene, Scenes
from twisted_lb.core.selection import Foreseen, Selection
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.slow_start import follow_ramps
from twisted_lb.core.snapshot import PoolSnapshot, snapshot_of
from twisted_lb.core.standing import Skipped
from twisted_lb.core.succession import Resting, Succession
from twisted_lb.core.tallies import Amount
from twisted_lb.core.totals import PoolTotals

# While nobody is usable and nobody checks, a request that waits is the trial of a backend that was refused, so often: one
# refused connect costs it nothing.
_TRIAL_EVERY_S: Final = 0.25
# Looking a member up in its enumeration costs more than all else in `settle`.
_OK: Final = Outcome.OK
_KEPT: Final = Held.KEPT
_FULL: Final = Held.FULL


# What an agent brings about: the word that takes it out, its limit, its part of the weight.
_Held = tuple[str, int, float]


def _held(backend: Backend) -> _Held:
    agent = backend.agent
    return agent.word, agent.limit, agent.part_of(backend.weight)


class Pool:
    """A pool of backends behind one policy, with the queue for them and the retry budget that protects them.

    `on_event` is told every change of state, after it has happened. Requests in flight are counted in `counts`, the
    pool's own unless given. `stopwatch` measures how long policies of one's own take; None: nothing does. `chance` is for how
    long who was ejected rests, `jitter` for how long requests wait before they are tried again, so that these move no pick; `rng` unless
    given; `reserve` is that of the retry budget, its own unless given; `bind` makes what is bound by affinity; `all_waiting` is how many requests wait in several processes, for all of which the queue's
    length is one. All times are monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        settings: PoolSettings,
        rng: Random,
        on_event: Callable[[Event], None],
        counts: Counts | None = None,
        stopwatch: Stopwatch | None = None,
        chance: Random | None = None,
        jitter: Random | None = None,
        reserve: Reserve | None = None,
        bind: Callable[[AffinityRules], Bindings] = Bindings,
        all_waiting: Amount | None = None,
    ) -> None:
        self.name: Final = name
        self.backends: dict[str, Backend] = {}
        self.settings: PoolSettings = settings
        self.counts: Final = Counts() if counts is None else counts
        self.totals: Final = PoolTotals()
        self.budget: Final = RetryBudget(settings.budget_percent, settings.budget_per_s, reserve)
        self.keyed: bool = policy.keyed  # whether it wants the keys of requests
        self.asks: bool = policy.keyed or settings.tells_apart  # whether it wants to know anything of them
        self.peek: Peek | None = peek_of(policy)  # how it wants their bodies looked at
        self._on_event: Final = on_event
        self._selection: Final = Selection(policy, rng)
        self._stopwatch: Final = stopwatch
        self._loads: Loads | None = self._measuring(policy)
        self._outliers: Final = Outliers(name, settings.ejection, rng if chance is None else chance)
        self._queue: Final = Queue()
        self._all_waiting: Final = all_waiting
        self.pace: Final = Pace()
        self._bind: Final = bind
        self.bindings: Bindings | None = None if settings.affinity is None else bind(settings.affinity)  # affinity
        self.jitter: Final = rng if jitter is None else jitter
        self.hedging: Hedging | None = hedged_by(settings.hedge, None)
        self._resting: Final = Resting()
        # Members that were removed and have something in flight, with when they were. Who rests and may return is not here.
        self.leaving: Final[dict[Backend, float]] = {}
        self._exhausted: bool = False
        self._deserted: bool = False  # the last usable one has gone since the last `grants`
        self._unserved: bool = False  # somebody waits though there is room, behind somebody who waited before
        self._wake_at: float = NEVER  # when the next trial is due
        # What decisions are explained by; None after a change, until the next claim.
        self._scene: Scene | None = None
        self._scenes: Final = Scenes(name)
        self._ramping: bool = False  # somebody is in slow start
        self._in_use: str = ""  # the levels that were announced
        self._panics: bool = False
        self._counted: bool = False  # it mattered how levels stand
        self._updating: bool = False
        self._selection.levels.percent = settings.panic_percent
        self._selection.levels.spills = settings.spill
        self.closely_until: float = -NEVER  # until then each claim remembers all loads, however many there are

    def update(self, specs: Iterable[BackendSpec], now: float, succession: Succession | None = None) -> None:
        """Replace the members by these, in this order; ValueError, and nothing changed, when a name is there twice.

        A backend that stays keeps its record, unless its address changed: that is another server under the same name.
        `succession`: what becomes of the other records.
        """
        wanted = list(specs)
        if len({spec.name for spec in wanted}) != len(wanted):
            names = [spec.name for spec in wanted]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"pool {self.name}: {twice} is there twice")
        succession = Succession() if succession is None else succession
        old = self.backends
        news = membership_changes(self.name, wanted, old, now, succession)
        self._updating = True
        self.backends = {spec.name: self._adopt(spec, old, now, succession) for spec in wanted}
        self._scene = None
        self._selection.follow(self.backends.values())
        self._selection.prepare(now)
        for name, backend in old.items():
            if self.backends.get(name) is not backend:
                if name in succession.resting:
                    older = self._resting.rest(backend, succession.resting[name], now)
                    if older is not None:
                        self._leaves(older, now)
                backend.leave()
                if not backend.resting:
                    self._leaves(backend, now)
        for backend in self._resting.forget(now, succession.names):
            self._leaves(backend, now)
        if self.bindings is not None:
            self.bindings.follow(self.backends.values())
        self._updating = False
        self._follow_ramps(now)
        self._count_levels(now)
        for event in news:
            self._on_event(event)
        self._announce_exhaustion(now)

    def _leaves(self, backend: Backend, now: float) -> None:
        """A backend was removed for good, and may have something in flight."""
        if self.bindings is not None:
            self.bindings.lose(backend)
        if backend.in_flight:
            self.leaving[backend] = now
        else:
            self.totals.bury(backend.outcomes, backend.totals)

    def _adopt(self, spec: BackendSpec, old: Mapping[str, Backend], now: float, succession: Succession) -> Backend:
        backend = old.get(spec.name)
        if backend is None or backend.address != spec.address:
            heir_of = old.get(succession.heirs.get(spec.name, ""))
            return self._begin(spec, backend, heir_of, now, succession, first=not old)
        backend.labels = spec.labels
        if backend.weight != spec.weight or backend.own_limit != spec.limit or backend.level != spec.level:
            backend.weight = spec.weight
            self._weigh_by_agent(backend)
            backend.level = spec.level
            self._bound(backend, spec.limit)
            self._refresh(backend, now)
        return backend

    def _bound(self, backend: Backend, own: int | None) -> None:
        """Set a backend's limit, of which its spec says this. A number that stands in the place of an adaptive one forgets nothing of
        what was learnt.
        """
        settings, learnt = self.settings, backend.gradient
        if own == ADAPTIVE:
            backend.adapt(settings.own_adaptive)
        elif own is None or settings.adaptive is not None:
            backend.adapt(settings.adaptive)
        if backend.gradient is not learnt:
            self._tell(backend)
        backend.bound(own, settings.max_in_flight)

    def _begin(
        self,
        spec: BackendSpec,
        replaced: Backend | None,
        heir_of: Backend | None,
        now: float,
        succession: Succession,
        *,
        first: bool,
    ) -> Backend:
        """The record of a new member: another one's, the one that it had, or a new one. `first`: the pool had nobody before."""
        record = self._resting.take(spec) if heir_of is None else None
        if record is not None:
            record.weight, record.labels = spec.weight, spec.labels
            record.level = spec.level
            self._bound(record, spec.limit)
            self._weigh_by_agent(record)
            record.rejoin()
            return self._begun(record, now, cold=True)
        up = self.settings.initially_up or not self.settings.checked
        record = Backend(spec, self.counts, up=up)
        self._measure(record, self._loads)
        self._bound(record, spec.limit)
        if heir_of is not None:
            record.inherit(heir_of, now, checked=self.settings.checked)
            if self.bindings is not None:
                self.bindings.inherit(record, heir_of)
            record.weighing.say(record.agent.part_of(record.weight))
            self._tell(record)
            self._bound(record, spec.limit)
        elif replaced is not None:
            record.admin = replaced.admin
            record.reasons[Skipped.ADMIN] = replaced.reasons.get(Skipped.ADMIN, "")
        elif spec.name in succession.admin:
            record.admin, record.reasons[Skipped.ADMIN] = succession.admin[spec.name]
        return self._begun(record, now, cold=not first and heir_of is None)

    def _begun(self, record: Backend, now: float, *, cold: bool) -> Backend:
        """A record that is a member from now on; who is there from the start is not cold."""
        record.panicked, record.standby = 0, False
        record.refresh_usable()
        if cold and record.usable:
            self._warm_up(record, now)
        elif cold:
            record.weighing.cold = True
        self._ramping = self._ramping or record.weighing.ramping
        self._refresh(record, now)
        return record

    def configure(self, settings: PoolSettings, now: float) -> None:
        """Replace the settings. Where checks are turned off, health is forgotten, and ejections end with time."""
        before, self.settings = self.settings, settings
        self.asks = self.keyed or settings.tells_apart
        self._scene = None
        self._selection.levels.percent = settings.panic_percent
        self._selection.levels.spills = settings.spill
        self.budget.configure(settings.budget_percent, settings.budget_per_s)
        self._bind_by(settings.affinity)
        self.hedging = hedged_by(settings.hedge, self.hedging)
        if before.ejection != settings.ejection:
            self._outliers.configure(settings.ejection, self.records)
        up: list[Backend] = []
        if (before.adaptive, before.own_adaptive) != (settings.adaptive, settings.own_adaptive):
            self._adapt(no_more=before.adaptive is not None and settings.adaptive is None)
        if before.checked != settings.checked:
            for backend in self._resting.forget(NEVER):
                self._leaves(backend, now)
        for backend in self._resting.backends if not (settings.checked and settings.agents) else ():
            backend.agent.forget()
            backend.weighing.say(1.0)
        for backend in self.backends.values():
            if before.checked != settings.checked:
                backend.ejection.follow(now, checked=settings.checked)
                if not settings.checked and backend.health.forget():
                    up.append(backend)
            if not (settings.checked and settings.busy):
                self.hear_busy(backend, False, "nobody asks any more", now)
            if not (settings.checked and settings.agents):
                self._forget_agent(backend, "nobody asks its agent any more", now)
            backend.bound(backend.own_limit, settings.max_in_flight)
            self._refresh(backend, now)
        self._follow_ramps(now)
        self._count_levels(now)
        for backend in up:
            self._on_event(BackendUp(self.name, backend.name, "nobody checks any more", now))
        self._announce_exhaustion(now)

    def _adapt(self, *, no_more: bool) -> None:
        """Follow other rules of adaptive limits. `no_more`: the limit of the pool is a number now."""
        for backend in (*self.backends.values(), *self._resting.backends):
            if no_more and backend.own_limit != ADAPTIVE:
                backend.adapt(None)
                self._tell(backend)
            self._bound(backend, backend.own_limit)

    def _bind_by(self, rules: AffinityRules | None) -> None:
        """Have affinity by these rules, going on from what is bound, or none any more."""
        if rules is None:
            self.bindings = None
        elif self.bindings is None:
            self.bindings = self._bind(rules)
            self.bindings.follow(self.backends.values())
        else:
            self.bindings.configure(rules)

    def finish_tables(self, now: float) -> None:
        """Make at once what is made in slices else: before anybody is listened to, or where nobody ticks."""
        self._selection.whole(now)
        self._scene = None

    @property
    def exhausted(self) -> bool:
        """Whether it has no usable backend."""
        return self._exhausted

    @property
    def panics(self) -> bool:
        """Whether so few backends are usable that others are used too."""
        return any(self._selection.levels.panics)

    @property
    def levels(self) -> Levels:
        """How its levels stand, to be read; as of the last change where there are several, or panic is on."""
        return self._selection.levels

    def meant(self) -> dict[str, float]:
        """Which part of the requests each backend should have now, by the shares of levels and by weights: O(backends)."""
        levels, parts = self._selection.levels, dict.fromkeys(self.backends, 0.0)
        for at, members in enumerate(levels.members):
            level = levels.shares[at] / 100 if levels.several else 1.0
            total = sum(one.share for one in members)
            for one in members:
                parts[one.name] = level * one.share / total if total else 0.0
        return parts

    @property
    def policy(self) -> Policy:
        """The policy that chooses among the backends."""
        return self._selection.policy

    def choose_by(self, policy: Policy) -> None:
        """Replace the policy; what the old picker knows is carried over as far as the new one understands it."""
        before = self._selection.policy
        if policy == before:
            return
        self._selection.use(policy)
        self.peek = peek_of(policy)
        self._scene = None
        if goes_on(before, policy, self._loads):
            return
        self.keyed = policy.keyed
        self.asks = policy.keyed or self.settings.tells_apart
        loads = self._loads = self._measuring(policy)
        for backend in (*self.backends.values(), *self._resting.backends):
            self._measure(backend, loads)

    def _measure(self, backend: Backend, loads: Loads | None) -> None:
        """Have a backend's load measured by these, of which nothing is known yet, and its leases told."""
        backend.load = loads.of(backend.slot) if loads is not None else None
        self._tell(backend)

    def _tell(self, backend: Backend) -> None:
        """Who hears of a backend's leases from now on."""
        load: Load | None = backend.load
        backend.told = load if backend.gradient is None else Limiting(backend, load, self.limit_moved)

    def limit_moved(self, backend: Backend, now: float) -> None:
        """A backend's adaptive limit is another one. It is no event: that would be several a minute."""
        if backend.slot >= 0:
            backend.bound(backend.own_limit, self.settings.max_in_flight)
            backend.refresh_usable()
            self._scene = None

    def _measuring(self, policy: Policy) -> Loads | None:
        """What measures the loads of a policy."""
        loads = policy.loads(self.counts)
        if isinstance(loads, Minded):
            loads.time_by(self._stopwatch)
        return loads

    @property
    def minded(self) -> MindedMeasures | None:
        """What is known of a policy of one's own, or of a shadow; None where the pool has neither."""
        return self._loads.minded(self.backends.values()) if isinstance(self._loads, Minded) else None

    @property
    def prefixes(self) -> dict[str, PrefixMeasures]:
        """What is counted of prefixes, where its policy or its shadow goes by them; see `prefixes_of`."""
        return prefixes_of(self._loads)

    def claim(
        self,
        ask: Ask,
        now: float,
        tried: Sequence[Backend] = (),
        until: float = NEVER,
        deadline: float = NEVER,
        *,
        again: bool = False,
    ) -> Lease | Refusal | Ticket:
        """A lease on the backend that the policy picks, not one of `tried`; to be settled exactly once.

        When none is available, a ticket of the queue, or a refusal where there is no room in it. While requests wait that would
        take what is free, or whoever is free first, new ones wait behind them. `until`: the end of the wait of a request that has waited before.
        `deadline`: when its answer is of no use any more; one that nobody could give by then is not asked for (LATE). `again`: the
        request has had an attempt, and is not behind those that have had none.
        """
        if deadline != NEVER and now + self.quickest_s(now) >= deadline:
            return Refusal.LATE
        bond: Bond | None = None
        if isinstance(ask.bond, Bond):
            bond = ask.bond
            verdict = self._claim_bound(ask, bond, now, tried, until, deadline)
            if verdict is not None:
                return verdict
        if self._queue.waiting and self.settings.max_queued and self._overtaking():
            self._unserved = self._unserved or not self._queue.for_anyone
            return self._wait(ask, now, tried, until, deadline, again=again)
        if now >= self._wake_at:
            self._wake(now)
        lease = self._lease(ask, now, tried)
        if lease is None:
            return self._wait(ask, now, tried, until, deadline, again=again)
        if bond is not None:
            self._place(bond, lease, now)
        return lease

    def _claim_bound(
        self, ask: Ask, bond: Bond, now: float, tried: Sequence[Backend], until: float, deadline: float
    ) -> Lease | Ticket | None:
        """A claim on the backend that a request is bound to (affinity), past the policy, whose turns do not move. None where that is lost, or
        full, and the pool does not have it wait: whoever the policy picks will do then.
        """
        bindings = self.bindings
        backend = None if bindings is None else bindings.settle(bond, now, bond.backend in tried)
        if bindings is None or backend is None:
            return None
        verdict = self._claim_home(backend, ask, now, until, deadline, waits=bindings.rules.waits)
        if verdict is None:
            bond.held = _FULL
        elif isinstance(verdict, Lease):
            self._place(bond, verdict, now)
        return verdict

    def _claim_home(
        self, backend: Backend, ask: Ask, now: float, until: float, deadline: float, *, waits: bool
    ) -> Lease | Ticket | None:
        """A lease on this backend, within its limit; while it is full a ticket for one, if requests wait for their own. None if not, or
        where the queue has no room.
        """
        awaited = self._queue.waiting > 0 and self.settings.max_queued > 0 and self._queue.awaits(backend)
        if not awaited and self.counts.claim(backend.slot):
            return self._lease_on(backend, ask, now)
        if not waits:
            return None
        self._unserved = self._unserved or awaited
        verdict = self._wait(ask, now, (), until, deadline, only=backend)
        return verdict if isinstance(verdict, Ticket) else None

    def _place(self, bond: Bond, lease: Lease, now: float) -> None:
        """A request that affinity has a say in has its lease: count it, and bind its key there, unless it is bound elsewhere and just this
        one was served here.
        """
        bindings, held = self.bindings, bond.held
        if bindings is None:
            return
        self.totals.affinity[held] += 1
        if bond.early and held is not _KEPT and held is not _FULL:
            bindings.bind(bond.key, lease.backend, now)
        lease.mark = bindings.mark(bond, lease.mark, lease.backend)

    def _keeps(self, backend: Backend, now: float) -> bool:
        """Whether a backend may still get what waits for it alone."""
        if not self._lost(backend):
            return True
        bindings, here = self.bindings, self.backends.get(backend.name) is backend
        return here and bindings is not None and fate(backend, now, bindings.rules.drain_s) is _KEPT

    def keeps_own_s(self, backend: Backend, now: float) -> float:
        """For how many seconds a backend that gets no new requests still gets those that are bound to it (affinity); 0: it gets none."""
        bindings = self.bindings
        if bindings is None or not drains(backend) or fate(backend, now, bindings.rules.drain_s) is not _KEPT:
            return 0.0
        return bindings.rules.drain_s - (now - backend.standing.since)

    def claim_spare(self, ask: Ask, now: float, tried: Sequence[Backend]) -> Lease | None:
        """A lease for a hedge, on a backend that is not one of `tried` and has a place that nobody waits for; None where there is
        none: a hedge neither waits nor is the trial of an ejected backend.
        """
        if not self.has_room(tried):
            return None
        due = [one for one in self.backends.values() if one.ejection.due]
        return self._lease(ask, now, (*tried, *due) if due else tried)

    def claim_on(
        self, backend: Backend, ask: Ask, now: float, deadline: float = NEVER
    ) -> Lease | Refusal | Ticket | None:
        """A lease on this backend and no other one: its client has a connection there that is its own (NTLM). None where the
        backend is not to be used now, whoever takes it out: any other one will do then.

        Within its limit like any other: while the backend is full, a ticket for a lease on it; None if the queue has
        no room either. When it is lost meanwhile, whoever is free first will do. The refusal is LATE, as in `claim`.
        """
        if deadline != NEVER and now + self.quickest_s(now) >= deadline:
            return Refusal.LATE
        if self._lost(backend):
            return None
        awaited = self._queue.waiting > 0 and self.settings.max_queued > 0 and self._queue.awaits(backend)
        if awaited or not self.counts.claim(backend.slot):
            self._unserved = self._unserved or awaited
            verdict = self._wait(ask, now, (), NEVER, deadline, only=backend)
            return verdict if isinstance(verdict, Ticket) else None
        return self._lease_on(backend, ask, now)

    def _lost(self, backend: Backend) -> bool:
        """Whether a backend is not to be used now for those that are bound to it either."""
        return self.backends.get(backend.name) is not backend or not (backend.usable or backend.used_in_panic)

    def claim_at_once(self, ask: Ask, now: float) -> Lease | None:
        """A lease on the backend that the policy picks, for a request that waits for nobody and overtakes nobody (mirror): None
        where no place is free.
        """
        if self._queue.waiting and self.settings.max_queued and self._overtaking():
            return None
        if now >= self._wake_at:
            self._wake(now)
        return self._lease(ask, now, ())

    def _overtaking(self) -> bool:
        """Whether a new request would overtake somebody who waits: for whoever is free first, or for one who is free, until the next
        `grants`.
        """
        return self._queue.for_anyone > 0 or self._somebody_unserved()

    def _somebody_unserved(self) -> bool:
        """Whether somebody waits for one who is free, until the next `grants`. O(backends)."""
        queue, spills = self._queue, self.settings.spill
        return any(
            one.available and (spills or not one.standby) and queue.awaits(one) for one in self.backends.values()
        )

    def _lease_on(self, backend: Backend, ask: Ask, now: float) -> Lease:
        """A lease on a backend that was claimed already, whatever the policy says."""
        scene = self._scene or self._set(self._selection.picker, now)
        trial = self._begins_trial(backend, now)  # one in panic may have its trial due
        if trial or backend.limit:
            backend.refresh_usable()
        backend.requests += 1
        loads, load = self._view(scene, now), backend.told
        if load is not None:
            # One in drain may have weight 0.
            note = load.leased(backend.weighing.effective or 1.0, ask, now)
            lease: Lease = LoadLease(backend, now, scene, OWN, loads, load, note)
        else:
            lease = Lease(backend, now, scene, OWN, loads)
        lease.trial = trial
        return lease

    def _begins_trial(self, backend: Backend, now: float) -> bool:
        """Whether a request to a backend finds out whether its ejection is over: then that begins."""
        ejection = backend.ejection
        if not (ejection.active and ejection.due):
            return False
        ejection.begin_trial(now)
        self._wake_at = min(self._wake_at, ejection.until)
        self._stand(backend, now)
        return True

    def await_return(
        self, ask: Ask, now: float, until: float = NEVER, deadline: float = NEVER
    ) -> Refusal | Ticket | None:
        """A ticket for a request that nobody has listened to, while nobody is usable: it waits like a new one, and any
        backend that comes back may have it. `until`: the end of its wait, if it has waited before. A refusal when that
        is over, or there is no room; None where somebody is usable, or is used in panic, or nobody ever waits. In panic no wait would
        be one: who has just refused it would be asked again at once, and again.
        """
        settings = self.settings
        if not settings.max_queued or settings.no_backend_s <= 0 or not self._exhausted:
            return None
        if self._panics and any(one.used_in_panic for one in self.backends.values()):
            return None
        return self._wait(ask, now, (), until, deadline, again=True)

    def _lease(self, ask: Ask, now: float, tried: Sequence[Backend]) -> Lease | None:
        selection = self._selection
        picker = selection.picker
        if selection.stale:
            picker = selection.renewed(now)
            self._scene = None
        if picker is None:
            return None
        had_tried = tried
        backend = picker.pick(ask, now, selection.rng, tried)
        while backend is not None and not self.counts.claim(backend.slot):
            tried = (*tried, backend)  # another process was faster
            backend = picker.pick(ask, now, selection.rng, tried)
        if backend is None:
            if not selection.stale:
                return None
            # Somebody may be there who is not in the table yet: to build it now takes less than the wait until the tick.
            selection.rebuild(now)
            self._scene = None
            return self._lease(ask, now, had_tried)
        scene = self._scene
        if scene is None:
            scene = self._set(picker, now)
        trial = backend.ejection.active and self._begins_trial(backend, now)
        if trial or backend.limit:
            backend.refresh_usable()
        backend.requests += 1
        loads = self.counts.view() if scene.small or had_tried else self._view(scene, now)
        if backend.told is None:
            lease = Lease(backend, now, scene, picker.mark, loads)
        else:
            note = backend.told.leased(backend.weighing.effective, ask, now)
            lease = LoadLease(backend, now, scene, picker.mark, loads, backend.told, note)
        if trial:
            lease.trial = True
        if had_tried:
            lease.tried = had_tried
        return lease

    def _lease_waiting(self, ticket: Ticket, now: float) -> Lease | None:
        """A lease for a request that has waited: of such it is remembered what all had in flight."""
        closely, self.closely_until = self.closely_until, NEVER
        own, bond, bindings = ticket.only, ticket.ask.bond, self.bindings
        lease: Lease | None
        if isinstance(bond, Bond) and bindings is not None:
            lease = self._lease_waiting_bound(ticket, bond, bindings, now)
        elif own is None:
            lease = self._lease(ticket.ask, now, ticket.tried)
        else:
            lease = self._lease_home(own, ticket.ask, now)
        self.closely_until = closely
        return lease

    def _lease_waiting_bound(self, ticket: Ticket, bond: Bond, bindings: Bindings, now: float) -> Lease | None:
        """The same of a request that affinity has a say in: its own backend first, which may be free by now."""
        own, home = ticket.only, bindings.settle(bond, now, bond.backend in ticket.tried)
        if own is not None and own is not home:
            return self._lease_home(own, ticket.ask, now)  # its client has a connection there
        lease = None if home is None else self._lease_home(home, ticket.ask, now)
        if lease is None and own is None:
            if home is not None:
                bond.held = _FULL
            lease = self._lease(ticket.ask, now, ticket.tried)
        if lease is not None:
            self._place(bond, lease, now)
        return lease

    def _lease_home(self, backend: Backend, ask: Ask, now: float) -> Lease | None:
        """A lease on this backend and no other one, if it has room and is to be used."""
        if not (self._keeps(backend, now) and self.counts.claim(backend.slot)):
            return None
        return self._lease_on(backend, ask, now)

    def _set(self, picker: Picker | None, now: float) -> Scene:
        """The scene of the claims from now on, until something changes. O(backends)."""
        scene = self._scene = self._scenes.next(picker, self.backends.values(), now)
        return scene

    def _view(self, scene: Scene, now: float) -> tuple[int, ...]:
        """All loads, if claims remember them: of few backends, or as long as somebody looks closely."""
        return self.counts.view() if scene.small or now < self.closely_until else ()

    def refused(self, tried: Sequence[Backend], now: float) -> Refused:
        """What the pool is for a request that has just found nobody in it, to be told later."""
        scene = self._scene or self._set(self._selection.picker, now)
        return Refused(scene, self.counts.view(), tried, now, self._queue.waiting)

    def _wait(
        self,
        ask: Ask,
        now: float,
        tried: Sequence[Backend],
        until: float,
        deadline: float,
        *,
        only: Backend | None = None,
        again: bool = False,
    ) -> Refusal | Ticket:
        exhausted = self._exhausted
        if not self._may_wait(tried, only) or (now >= until and not self._has_place(tried, only)):
            return self._refusal(tried, only)
        # Nobody is usable: whoever comes back first, be it one that was tried.
        until = min(max(until, now), now + self._wait_s)
        latest = NEVER if deadline == NEVER else deadline - self.pace.reserve_s(deadline - now)
        ticket = Ticket(ask, now, until, () if exhausted else tried, only, again=again, latest=latest)
        self._queue.join(ticket)
        self._tell_waiting()
        if exhausted:
            self._hasten(now)
        return ticket

    def _refusal(self, tried: Sequence[Backend], only: Backend | None) -> Refusal:
        """Why a request that may not wait, or has waited for too long, gets no backend."""
        if only is not None:
            return Refusal.ALL_FULL
        there = any(one.usable and one not in tried for one in self.backends.values())
        return Refusal.ALL_FULL if there else Refusal.NO_BACKEND

    def quickest_s(self, now: float) -> float:
        """How quickly it has answered at best of late; see `Pace`."""
        return self.pace.quickest_s(self.backends, self.totals.first_byte, now)

    def _may_wait(self, tried: Sequence[Backend], only: Backend | None = None) -> bool:
        """Whether the queue has room, and there is somebody to wait for: a usable backend that is full and was not tried,
        or, where nobody is usable, any that is wanted. Whoever is served before this turn is over takes no room, and has not waited:
        where nobody may, those may still who stand behind others though there is a place.
        """
        settings = self.settings
        most = settings.max_queued
        if not most or (self._wait_s <= 0 and not self._has_place(tried, only)):
            return False
        waiting = self._queue.waiting
        if self._all_waiting is not None:
            waiting += self._all_waiting.elsewhere
        if waiting >= most and waiting >= most + self._room(tried):
            return False
        if only is not None:
            return True  # it was asked for
        members = self.backends.values()
        if self._exhausted:
            return any(one.wanted for one in members)
        return any(one.usable and one not in tried for one in members)

    @property
    def _wait_s(self) -> float:
        """How long who comes now may wait."""
        return self.settings.no_backend_s if self._exhausted else self.settings.queue_timeout_s

    def _has_place(self, tried: Sequence[Backend], only: Backend | None) -> bool:
        """Whether there is a place for such a request now, whoever stands before it. O(backends)."""
        if only is not None:
            return only.available
        spills = self.settings.spill
        return any(one.available and one not in tried and (spills or not one.standby) for one in self.backends.values())

    def _room(self, tried: Sequence[Backend]) -> int:
        """For how many requests the available backends have room now, those left out that were tried."""
        room = 0
        for one in self.backends.values():
            if one.available and one not in tried and not one.standby:
                if one.ejection.due:
                    room += 1  # a trial
                elif one.limit:
                    room += one.limit - one.load_now
                else:
                    return self._queue.waiting
        return room

    def _hasten(self, now: float) -> None:
        """Requests wait, nobody is usable and nobody checks: trials come soon."""
        for backend in self.backends.values():
            backend.ejection.hasten(now, _TRIAL_EVERY_S)
            self._stand(backend, now)
            self._wake_at = min(self._wake_at, backend.ejection.until)

    def withdraw(self, ticket: Ticket) -> None:
        """Take a ticket out of the queue; harmless when its verdict was told already."""
        self._queue.leave(ticket)
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        """Have other processes know how many wait here."""
        told = self._all_waiting
        if told is not None and told.own != self._queue.waiting:
            told.add(self._queue.waiting - told.own)

    @property
    def waiting(self) -> int:
        """How many requests wait in the queue."""
        return self._queue.waiting

    def foretold(self, ticket: Ticket) -> tuple[int, float]:
        """How many are in front of a ticket in the queue now, and how many seconds it will wait still, at the pool's pace; 0 where
        that is not known. O(tickets).
        """
        ahead = self._queue.ahead_of(ticket)
        return ahead, self.pace.wait_s(ahead)

    def refuse_waiting(self) -> list[tuple[Ticket, Refusal]]:
        """The verdicts on all queued requests when the pool itself goes: a refusal for each, at once."""
        tickets = list(self._queue)
        for ticket in tickets:
            self._queue.leave(ticket)
        self._tell_waiting()
        return [(ticket, Refusal.NO_BACKEND) for ticket in tickets]

    def grants(self, now: float) -> list[tuple[Ticket, Lease | Refusal]]:
        """The verdicts on queued requests that are due: a lease, or a refusal after too long a wait; see `Queue.serve`. When the last
        usable backend has gone, who has another place to go to is refused at once, as whoever comes then would be.

        To be called whenever something may have changed: after each batch of events, at each tick, and at `grants_due`.
        """
        if now >= self._wake_at:
            self._wake(now)
        self._unserved = False
        queue = self._queue
        for backend in queue.own:
            if not self._keeps(backend, now):
                queue.release(backend)
        verdicts: list[tuple[Ticket, Lease | Refusal]] = []
        if queue.next_due <= now:
            # What is late is not asked for, even if somebody has just come free.
            for ticket in queue.overdue(now):
                if ticket.late:
                    self._refuse(ticket, Refusal.LATE, verdicts)
        verdicts.extend(queue.serve(self._lease_waiting, now))
        if self._deserted:
            self._desert(verdicts)
        if queue.next_due <= now:
            for ticket in queue.overdue(now):
                longer = ticket.queued_at + self.settings.queue_timeout_s
                if not self._exhausted and now < min(longer, ticket.latest) and not ticket.again:
                    # It came when nobody was usable, and somebody is: it waits like those that come now.
                    queue.prolong(ticket, longer)
                else:
                    self._refuse(ticket, self._refusal(ticket.tried, ticket.only), verdicts)
        self._tell_waiting()
        return verdicts

    def _desert(self, verdicts: list[tuple[Ticket, Lease | Refusal]]) -> None:
        """The last usable backend has gone: refuse those at once that have another place to go to. O(tickets), once."""
        self._deserted = False
        for ticket in list(self._queue) if self._exhausted else ():
            if ticket.elsewhere:
                self._refuse(ticket, Refusal.NO_BACKEND, verdicts)

    def _refuse(self, ticket: Ticket, refusal: Refusal, verdicts: list[tuple[Ticket, Lease | Refusal]]) -> None:
        self._queue.leave(ticket)
        verdicts.append((ticket, refusal))

    @property
    def wait_due(self) -> float:
        """When the first queued request has waited too long; NEVER when none waits."""
        return self._queue.next_due

    @property
    def grants_due(self) -> float:
        """When time alone may make `grants` give a verdict: at `wait_due`, when a trial is due, or at once (-NEVER); NEVER when none waits."""
        if not self._queue.waiting:
            return NEVER
        return -NEVER if self._unserved else min(self._queue.next_due, self._wake_at)

    def reached(self, lease: Lease, now: float) -> None:
        """A trial request was connected: somebody listens there, and the ejection of whoever was refused is over, whatever becomes
        of it.
        """
        backend = lease.backend
        refused = backend.ejection.rule is EjectionRule.REFUSED
        if lease.trial and refused and backend.ejection.end_trial(now, listens=True, checked=self.settings.checked):
            lease.trial = False
            backend.remember(lease.opened_at, now, "used again: it accepts connections again")
            self._changed(backend, BackendReturned(self.name, backend.name, "it accepts connections again", now), now)

    def answered(self, lease: Lease, now: float) -> None:
        """The head of a good answer to a trial request came, of which the end may be far (a stream, a tunnel): the ejection is over."""
        backend = lease.backend
        if lease.trial and backend.ejection.on_trial:
            lease.trial = False
            self._changed(backend, self._outliers.returned(lease, now), now)

    @property
    def leases(self) -> int:
        """How many leases are open, on present backends: O(backends)."""
        return sum(backend.in_flight for backend in self.backends.values())

    def has_room(self, tried: Sequence[Backend]) -> bool:
        """Whether a claim would be served at once, by a backend that is not one of `tried`: O(backends)."""
        spills = self.settings.spill
        queue = self._queue
        return not queue.for_anyone and any(
            one.available
            and one.usable
            and one not in tried
            and (spills or not one.standby)
            and not (queue.waiting and queue.awaits(one))
            for one in self.backends.values()
        )

    def has_others(self, tried: Sequence[Backend]) -> bool:
        """Whether somebody is used, with room or without, who is not one of `tried`: O(backends)."""
        return any((one.usable or one.used_in_panic) and one not in tried for one in self.backends.values())

    def responded(self, lease: Lease, now: float) -> None:
        """The head of a response came; once a lease at most, and before it is settled."""
        if isinstance(lease, LoadLease):
            lease.load.responded(lease.note, now - lease.opened_at, now)

    def hear_load(self, backend: Backend, said: bytes, now: float) -> None:
        """A backend has said in the head of a response how loaded it is (ORCA, `endpoint-load-metrics`). Nobody reads that, and it
        costs nothing, unless the policy compares what is reported.
        """
        if isinstance(backend.load, Reported):
            self._hear(backend, backend.load, read_report(said), now)

    def observe_load(self, name: str, report: LoadReport, now: float) -> None:
        """A report of the load of a member, wherever it is from; nothing where there is no such member, or nobody compares that."""
        backend = self.backends.get(name)
        if backend is not None and isinstance(backend.load, Reported):
            self._hear(backend, backend.load, report, now)

    def _hear(self, backend: Backend, load: Reported, report: LoadReport | None, now: float) -> None:
        if report is not None and load.hear(report, now):
            backend.totals.reports += 1
        else:
            backend.totals.bad_reports += 1

    def settle(self, lease: Lease, outcome: Outcome, now: float, detail: str = "", client: str = "") -> None:
        """End a lease with the outcome of its attempt; a second time is an AssertionError. `client`: whose request it was, where
        that was not well.
        """
        assert lease.open, f"{lease!r} is settled twice"
        lease.open = False
        backend = lease.backend
        self.counts.release(backend.slot)
        if backend.told is not None and isinstance(lease, LoadLease):
            lease.load.settled(lease.note, outcome, now - lease.opened_at, now)
        gone = False
        if backend.removed:
            backend.leave()
            gone = not backend.in_flight and self.leaving.pop(backend, None) is not None
        elif backend.limit:
            backend.refresh_usable()
        # In three steps: compiled, the sum of two ints is then no call.
        outcomes, index = backend.outcomes, 0 if outcome is _OK else int(outcome)
        count = outcomes[index]
        outcomes[index] = count + 1
        if gone:
            self.totals.bury(backend.outcomes, backend.totals)
        if outcome is not _OK or lease.trial:
            ended = Ended(lease, outcome, detail, client, now)
            members = self.backends.values()
            event = apply_outcome(self.name, ended, self._outliers, members, checked=self.settings.checked)
            if event is not None:
                if outcome is Outcome.REFUSED:
                    self._began_anew(backend)
                self._changed(backend, event, now)
            elif lease.trial:
                self._refresh(backend, now)
            if lease.trial and self._exhausted and self._queue.waiting:
                self._hasten(now)
        elif backend.streak is not None:
            backend.streak = None

    def hold(self, backend: Backend) -> None:
        """Hold a place at a backend beyond the lease that has it, which is open and about to be settled: the backend may be at work
        on the request all the same. To be followed by `let_go`, exactly once.
        """
        assert backend.slot >= 0, f"{backend!r} is gone"
        backend.held += 1
        self.counts.hold(backend.slot)

    def let_go(self, backend: Backend) -> None:
        """A place that was held at a backend is free."""
        assert backend.held, f"{backend!r} holds no place"
        backend.held -= 1
        self.counts.release(backend.slot)
        if backend.removed:
            backend.leave()
            if not backend.in_flight and self.leaving.pop(backend, None) is not None:
                self.totals.bury(backend.outcomes, backend.totals)
        else:
            backend.refresh_usable()

    @property
    def resting(self) -> list[Backend]:
        """Members that have left and may return."""
        return self._resting.backends

    def explain(self, ask: Ask, now: float, tried: Sequence[Backend] = ()) -> Decision:
        """Explain what `claim` would do now, and why; nothing changes by it."""
        if now >= self._wake_at:
            self._wake(now)
        first = not (self._queue.waiting and self.settings.max_queued and self._overtaking())
        selection = self._selection
        picker = selection.next_picker(now)
        bond = ask.bond if isinstance(ask.bond, Bond) else None
        home = self._foreseen_home(bond, now, tried)
        scene = Scene(self.name, Kept(picker), self.backends.values())
        foreseen = selection.foreseen(picker, ask, now, tried) if first and picker is not None else None
        if home is not None:
            foreseen = home
        picked = None if foreseen is None else foreseen.picked
        ranking = () if picker is None else picker.ranking(ask, now)
        candidates = decided(scene, self.counts.view(), tried, ranking, now, picked)
        known = foreseen is None or not foreseen.unknown
        rule = why_nobody(candidates) if foreseen is None or (known and picked is None) else foreseen.rule
        if bond is not None and self.bindings is not None:
            rule = self._rule_of_bound(bond, self.bindings, home, rule)
        return Decision(
            self.name,
            None if picked is None else picked.name,
            picked is not None and picked.ejection.due,
            picked is None and (home is not None or (known and self._may_wait(tried))),
            candidates,
            rule,
        )

    def _foreseen_home(self, bond: Bond | None, now: float, tried: Sequence[Backend]) -> Foreseen | None:
        """What a claim would do for a request that is bound, where it goes by that; nothing changes."""
        bindings, queue = self.bindings, self._queue
        if bond is None or bindings is None:
            return None
        backend = bindings.settle(bond, now, bond.backend in tried)
        if backend is None:
            return None
        full = backend.full or (queue.waiting > 0 and self.settings.max_queued > 0 and queue.awaits(backend))
        if not full:
            return Foreseen(backend, bindings.mark(bond, None, backend).told)
        if bindings.rules.waits and self._may_wait((), backend):
            return Foreseen(None, f"it is bound to {backend.name} by {bindings.rules.by}, and waits for that")
        bond.held = _FULL
        return None

    def _rule_of_bound(self, bond: Bond, bindings: Bindings, home: Foreseen | None, rule: str) -> str:
        """The rule of a decision that affinity has a say in: that, or what it adds to the `rule` of the policy."""
        if home is not None:
            return home.rule
        return f"{rule}; {bindings.told(bond)}"

    @property
    def records(self) -> list[Backend]:
        """The living records: of members, of those that leave, and of those that may return: O(backends)."""
        return list(dict.fromkeys((*self.backends.values(), *self.leaving, *self._resting.backends)))

    def broken(self, waiters: int | None = None) -> list[str]:
        """Of what must be so the identities that do not hold; none, always: O(backends and tickets). `waiters`: how many requests
        wait for a verdict, as far as the shell knows.
        """
        found = broken(self.records, self.counts, self._queue, waiters)
        return [f"pool {self.name}: {one}" for one in found]

    def snapshot(self) -> PoolSnapshot:
        """The state of the pool and its backends now."""
        backends = tuple(snapshot_of(backend) for backend in self.backends.values())
        leaving = tuple(snapshot_of(backend) for backend in self.leaving)
        return PoolSnapshot(self.name, backends, self.waiting, leaving)

    def observe_probe(
        self,
        backend: Backend,
        passed: bool,
        reason: str,
        now: float,
        *,
        silent: bool = False,
        asked_at: float | None = None,
    ) -> None:
        """Apply the result of a probe to a backend's health and ejection; `silent`: it failed without an answer.
        `asked_at`: when it was made, just now unless given.

        While nobody is usable one good probe is enough for a backend that was merely silent (a restart).
        """
        settings, health = self.settings, backend.health
        soon = passed and self._exhausted
        rise = 1 if soon and health.silent else settings.rise
        began = now if asked_at is None else asked_at
        news = health.observe(passed, rise, settings.fall, silent=silent, asked_at=began)
        ended = self._may_end(backend, began) and backend.ejection.observe(passed, 1 if soon else settings.rise, now)
        if not passed and not health.up:
            backend.reasons[Skipped.DOWN] = reason
        self._refresh(backend, now)
        if news:
            if not health.up:
                self._began_anew(backend)
            kind = BackendUp if backend.health.up else BackendDown
            self._on_event(kind(self.name, backend.name, reason, now))
        if ended:
            self._on_event(BackendReturned(self.name, backend.name, "checks pass", now))
        self._announce_exhaustion(now)

    def hear_elsewhere(self, event: BackendEjected | BackendReturned, now: float) -> None:
        """Another process that balances over the same backends has taken one out, or found it well again: so it is here. Nothing for
        one that is no member, or is so already.
        """
        backend = self.backends.get(event.backend_name)
        if backend is None:
            return
        ejection = backend.ejection
        if isinstance(event, BackendReturned):
            if ejection.active:
                ejection.clear(now)
                self._changed(backend, event, now)
        elif ejection.adopt(event.rule, NEVER if event.until is None else event.until, now):
            if event.rule is EjectionRule.REFUSED:
                self._began_anew(backend)
            self._changed(backend, event, now)

    def look_elsewhere(self) -> None:
        """Other processes may have claimed places, or left some, or a limit was learnt: see who is full now. O(backends)."""
        for backend in self.backends.values():
            if backend.gradient is not None and backend.gradient.follow():
                self.limit_moved(backend, 0.0)
            backend.refresh_usable()

    def _may_end(self, backend: Backend, asked_at: float) -> bool:
        """Whether a probe that was made then says something of the ejection of a backend: which checks may end, and not before it."""
        settings, ejection = self.settings, backend.ejection
        if ejection.rule is EjectionRule.REFUSED:
            return settings.checked
        return settings.checked and settings.ejection.checks_end and asked_at >= ejection.began_at

    def command(self, backend: Backend, admin: AdminState, now: float, by: str = "") -> None:
        """Set what the operator wants of a backend; running requests end as they would. `by` says who it was, and why, for whoever
        asks what took it out: `by alice: “deploy”`.
        """
        before = backend.admin
        if before is admin:
            return
        backend.admin = admin
        backend.reasons[Skipped.ADMIN] = by
        self._selection.outdate()
        self._selection.prepare(now)
        if admin is AdminState.MAINT:
            self._began_anew(backend)
            self.hear_busy(backend, False, "in maintenance it is not checked", now)
            self._forget_agent(backend, "in maintenance its agent is not asked", now)
        self._changed(backend, AdminChanged(self.name, backend.name, before, admin, now, by), now)

    def _began_anew(self, backend: Backend) -> None:
        """A backend is another process from now on, or may be once it is back: what it held in memory is gone."""
        if backend.load is not None:
            backend.load.restarted()

    def weighed(self, backend: Backend, now: float, by: str) -> None:
        """Somebody has set a backend's weight: who, and why, as above."""
        backend.reasons[Skipped.WEIGHT] = by
        self._stand(backend, now)

    def hear_weight(self, backend: Backend, part: float, now: float, by: str = "") -> None:
        """A backend's agent wants this part of its weight, 1 for all of it; 0: no new requests. `by`: who says so, as above."""
        if part == backend.weighing.said:
            return
        backend.weighing.say(part)
        if backend.weight:
            backend.reasons[Skipped.WEIGHT] = by
        self._selection.outdate()
        self._refresh(backend, now)
        self._announce_exhaustion(now)

    def hear_agent(self, backend: Backend, said: Said | None, now: float) -> None:
        """A backend's agent was asked, and says this; None: it was not heard. What it has said holds until it was not heard `fall`
        times in a row: an agent that is gone takes nobody out (HAProxy's stays as it said).

        It takes out whom others want, and brings nobody back whom operator, checks or traffic have taken out. Its limit counts where
        it is less than that of file and operator.
        """
        if not self.settings.agents:
            return
        agent = backend.agent
        if said is None:
            agent.unheard += 1
            if agent.unheard >= self.settings.fall:
                self._forget_agent(backend, "its agent is not heard", now)
            return
        held = _held(backend)
        agent.hear(said)
        because = agent.comment or ("" if agent.word else f"its agent says {said.words}")
        self._follow_agent(backend, held, because, now)
        if said.garbled:
            agent.garbled += 1
            if agent.garbled == 1:
                self._on_event(AgentGarbled(self.name, backend.name, said.garbled, now))

    def hear_busy(self, backend: Backend, busy: bool, reason: str, now: float) -> None:
        """A check of a backend has passed, by a status that means busy or by another one."""
        if busy is not backend.agent.busy and (self.settings.busy or not busy):
            held = _held(backend)
            backend.agent.hear_busy(busy=busy)
            if busy:
                backend.reasons[Skipped.BUSY] = reason
            self._follow_agent(backend, held, reason, now)

    def _forget_agent(self, backend: Backend, because: str, now: float) -> None:
        """Nothing holds any more of what a backend's agent has said."""
        if backend.agent.speaks:
            held = _held(backend)
            backend.agent.forget()
            self._follow_agent(backend, held, because, now)

    def _follow_agent(self, backend: Backend, held: _Held, because: str, now: float) -> None:
        """Follow what holds by a backend's agent, and did not: its limit, its weight, and whether it is out."""
        agent = backend.agent
        word, limit, part = _held(backend)
        before, limit_before, part_before = held
        if limit != limit_before:
            backend.bound(backend.own_limit, self.settings.max_in_flight)
            self._scene = None
            self._refresh(backend, now)
        if part != part_before:
            self.hear_weight(backend, part, now, f"its agent says {agent.words}")
        if word:
            backend.reasons[Skipped.AGENT] = f"{agent.words}: {agent.comment}" if agent.comment else agent.words
        if word != before:
            self._changed(backend, AgentChanged(self.name, backend.name, before, word, now, because), now)
        elif word:
            self._stand(backend, now)

    def _weigh_by_agent(self, backend: Backend) -> None:
        """A backend has another weight by file or operator: what its agent says of it is a part of that."""
        agent = backend.agent
        if agent.percent >= 0 or agent.weight >= 0:
            backend.weighing.say(agent.part_of(backend.weight))

    def command_resting(self, name: str, admin: AdminState, by: str = "") -> None:
        """Set what the operator wants of the endpoints of a name that have left and may return."""
        self._resting.command(name, admin, by)

    def moved(self, backend: Backend, change: str, now: float) -> None:
        """A backend's name leads to another address: without checks an ejection, which speaks of the old one, ends with
        the next request. `change` tells it; empty: it is no news.
        """
        backend.ejection.hasten(now, 0.0)
        self._refresh(backend, now)
        if change:
            self._began_anew(backend)
            self._forget_agent(backend, "it is another server", now)
            self._on_event(BackendChanged(self.name, backend.name, change, now))

    def tick(self, now: float) -> None:
        """Do what is due: wake ejections, look at what other processes have in flight, rebuild a picker that takes too
        long to build in a claim, tell what a policy of one's own did wrong.
        """
        if now >= self._wake_at:
            self._wake(now)
        if self._ramping:
            self._follow_ramps(now)
        if self._queue.waiting:
            self.pace.count(self.records, now)
        if self.counts.bounded:
            self.look_elsewhere()
        for backend in self._resting.forget(now):
            self._leaves(backend, now)
        if self.bindings is not None:
            self.bindings.tick(now)
        for backend, event in self._outliers.look(self.backends.values(), now, checked=self.settings.checked):
            self._changed(backend, event, now)
        if self._selection.tick(now):
            self._scene = None
        self._scenes.tick(now)
        if isinstance(self._loads, Minded):
            for told in self._loads.news(self.name, now):
                self._on_event(told)

    def _changed(self, backend: Backend, event: Event, now: float) -> None:
        """Refresh a backend and announce its event, unless it was removed or replaced meanwhile."""
        if isinstance(event, BackendEjected):
            backend.reasons[Skipped.EJECTED] = event.because
        self._refresh(backend, now)
        if self.backends.get(backend.name) is backend:
            self._on_event(event)
            self._announce_exhaustion(now)

    def _refresh(self, backend: Backend, now: float) -> None:
        before = backend.usable
        backend.refresh_usable()
        if before != backend.usable:
            if backend.usable and backend.weighing.cold:
                self._warm_up(backend, now)
            if self._ramping:
                self._follow_ramps(now)
        if backend.cold:
            backend.weighing.cold = True
        stood = self._stand(backend, now)
        if before != backend.usable and not stood:
            # A slow start that it began has told already how it stands.
            self._scene = None
            self._count_levels(now)
        self._wake_at = min(self._wake_at, backend.ejection.until)

    def _stand(self, backend: Backend, now: float) -> bool:
        """Follow a change of a backend in what decisions are explained by; whether there is one."""
        if not backend.stand(now):
            return False
        self._scene = None
        self._count_levels(now)
        return True

    def _warm_up(self, backend: Backend, now: float) -> None:
        """A backend is back: slow start begins, if there is any."""
        if backend.weighing.begin(now, self.settings.slow_start):
            self._ramping = True
            self._weighs_anew(backend, now)

    def _follow_ramps(self, now: float) -> None:
        """Go on with slow start, where somebody is on its way back. O(backends)."""
        if not self._ramping or self._updating:
            return
        others, self._ramping = follow_ramps(self.backends.values(), self.settings.slow_start, now)
        for one in others:
            self._weighs_anew(one, now)

    def _weighs_anew(self, backend: Backend, now: float) -> None:
        """A backend's weight is another one by slow start, or what its agent says."""
        if backend.most:
            backend.follow_weight()
            backend.refresh_usable()
        picker = self._selection.picker
        if picker is None or picker.ramps:
            self._selection.outdate()
        if backend.stand(now):
            self._scene = None

    def _count_levels(self, now: float) -> None:
        """Follow a change of who is usable in what levels have, and in who is in panic. O(backends), where there are levels or panic
        at all.
        """
        levels = self._selection.levels
        if self._updating or not (levels.watched or self._counted):
            return
        self._counted = levels.watched
        settings = self.settings
        levels.count(even_down=settings.panic_even_down)
        self._scene = None
        levels.mark(now, even_down=settings.panic_even_down)

    def _announce_levels(self, now: float) -> None:
        """Announce that other levels are in use, or that panic has begun or ended."""
        levels = self._selection.levels
        before, in_use = self._in_use, levels.in_use() if levels.several else ""
        if not levels.several:
            self._in_use = ""
        elif in_use and in_use != before:
            self._in_use = in_use
            if before:
                self._on_event(LevelsShifted(self.name, in_use, now, before))
        panics = any(levels.panics)
        if panics != self._panics:
            self._panics = panics
            wanted = [one for one in self.backends.values() if one.wanted and not one.agent.withdrawn]
            usable = sum(one.usable for one in wanted)
            self._on_event(PanicBegan(self.name, usable, len(wanted), now) if panics else PanicEnded(self.name, now))

    def _wake(self, now: float) -> None:
        """Make ejected backends available whose time has come, each for one trial request."""
        self._wake_at = NEVER
        for backend in self.backends.values():
            ejection = backend.ejection
            if now >= ejection.until:
                ejection.wake()
                backend.refresh_usable()
                self._stand(backend, now)
            else:
                self._wake_at = min(self._wake_at, ejection.until)

    def _announce_exhaustion(self, now: float) -> None:
        """Announce that the last usable backend is gone, or that the first one is back."""
        if self._selection.levels.watched or self._panics or self._in_use:
            self._announce_levels(now)
        exhausted = not any(backend.usable for backend in self.backends.values())
        if exhausted != self._exhausted:
            self._exhausted = self._deserted = exhausted
            self._on_event(PoolExhausted(self.name, now) if exhausted else PoolRecovered(self.name, now))

    def __repr__(self) -> str:
        usable = sum(backend.usable for backend in self.backends.values())
        return f"<Pool {self.name}: {usable} usable of {len(self.backends)}, {self.leases} in flight>"
