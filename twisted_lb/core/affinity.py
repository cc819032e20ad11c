"""Affinity (sticky sessions): which backend the requests of one client or session are bound to, and what becomes of that."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.ask import Tie
from twisted_lb.core.backend import AdminState, Backend
from twisted_lb.core.held import Held
from twisted_lb.core.standing import Skipped

# So many bindings that are too old are dropped at a tick: some milliseconds, uncompiled.
_MOST_AT_A_TICK: Final = 4096


# What takes a backend out of a pool, as bindings know it.
_BY_SKIPPED: Final[dict[Skipped, Held]] = {
    Skipped.ADMIN: Held.ADMIN,
    Skipped.WEIGHT: Held.WEIGHT,
    Skipped.DOWN: Held.DOWN,
    Skipped.AGENT: Held.AGENT,
    Skipped.BUSY: Held.AGENT,
    Skipped.EJECTED: Held.EJECTED,
    Skipped.STANDBY: Held.STANDBY,
}
# In words, as `NAME, to which it was bound by ITS COOKIE, ...`.
_TOLD: Final[dict[Held, str]] = {
    Held.ADMIN: "was taken out by the operator",
    Held.WEIGHT: "is of weight 0",
    Held.DOWN: "was down by its checks",
    Held.AGENT: "was taken out by its agent, or busy",
    Held.EJECTED: "was ejected by traffic",
    Held.STANDBY: "is of a level that was not in use",
    Held.FULL: "had as many requests in flight as it may have; it stays bound there",
    Held.FAILED: "had failed it",
}


@dataclass(frozen=True)
class AffinityRules:
    """By which rules a pool keeps bindings. `by` says in words by what requests are bound, as `the cookie lb_a`.

    A binding that no request has used for `max_age_s` is forgotten; of such as are kept in a table there are `most` at a time, and
    the one that was used least recently makes room. `waits`: a request waits for its own backend while that is full; else another one
    serves it. `drain_s`: for how long a backend that is drained, or has weight 0, still gets what is bound to it.
    """

    by: str = ""
    max_age_s: float = 3600.0
    most: int = 100_000
    waits: bool = False
    drain_s: float = 300.0


class Home:
    """Where some bindings lead: one for each backend, None when that is gone for good. Bindings know homes and no records, so that all
    of a backend's follow when it is renamed, or are void when it goes, in one step.
    """

    __slots__ = ("backend",)

    def __init__(self, backend: Backend | None) -> None:
        self.backend: Backend | None = backend

    def __repr__(self) -> str:
        return f"<Home {'of nobody' if self.backend is None else self.backend.name}>"


class Bond(Tie):
    """What binds one request: what it brought, and what the pool has made of that.

    `key` is that of a table, 0 for none; `home` where it leads, None where that is not known. `early`: the first request with a key
    binds all others that come while it is answered. `renew`: the client should be told anew. `held`: what became of it last; `at`: the
    name of the backend that it did not hold at.
    """

    __slots__ = ("at", "early", "held", "home", "key", "renew")

    def __init__(
        self, home: Home | None, held: Held, key: int = 0, *, early: bool = False, renew: bool = False
    ) -> None:
        self.home: Home | None = home
        self.key: Final = key
        self.early: Final = early
        self.renew: Final = renew
        self.held: Held = held
        self.at: str = ""

    @property
    def backend(self) -> Backend | None:
        """The backend that it leads to; None where there is none."""
        return None if self.home is None else self.home.backend

    def __repr__(self) -> str:
        return f"<Bond to {self.home!r}, {self.held.name}>"


@mypyc_attr(acyclic=True)
class Bound:
    """The mark of a claim that affinity had a say in: what is told of it, and the mark of the picker that was asked, None where none
    was.
    """

    __slots__ = ("asked", "mark", "told")

    def __init__(self, told: str, mark: object = None, *, asked: bool = False) -> None:
        self.told: Final = told
        self.mark: Final = mark
        self.asked: Final = asked


class _Binding:
    """One binding of a table: where it leads, and when it was used last."""

    __slots__ = ("home", "used_at")

    def __init__(self, home: Home, used_at: float) -> None:
        self.home: Home = home
        self.used_at: float = used_at


def fate(backend: Backend, now: float, drain_s: float) -> Held:
    """What becomes of what is bound to a backend, however much it has in flight: KEPT, or why it goes elsewhere. A backend that is
    drained, or has weight 0, keeps its own for `drain_s`, if it is well.
    """
    if backend.removed:
        return Held.REMOVED
    why = backend.out
    if why is None:
        return Held.KEPT if backend.usable or backend.used_in_panic else Held.EJECTED
    if drains(backend) and now - backend.standing.since < drain_s:
        if not backend.health.up:
            return Held.DOWN
        return Held.EJECTED if backend.ejection.active else Held.KEPT
    return _BY_SKIPPED.get(why, Held.EJECTED)


def drains(backend: Backend) -> bool:
    """Whether a backend gets no new requests because somebody wants it to end: the operator, by drain or weight 0, or its agent."""
    why, agent = backend.out, backend.agent
    if why is Skipped.ADMIN:
        return backend.admin is AdminState.DRAIN and (not agent.away or agent.word == "drain")
    if why is Skipped.WEIGHT:
        return not agent.away or agent.word == "drain"
    return why is Skipped.AGENT and agent.word == "drain"


class Bindings:
    """The bindings of a pool: a table of those that go by a key, bounded, and where those of the pool's backends lead.

    `forgotten`: how many had to make room for others.
    """

    __slots__ = ("_homes", "_kept", "_table", "forgotten", "rules")

    def __init__(self, rules: AffinityRules) -> None:
        self.rules: AffinityRules = rules
        self.forgotten: int = 0
        self._kept: Bound = _kept(rules)
        self._homes: Final[dict[Backend, Home]] = {}
        # By when each was used last: the first one is the oldest.
        self._table: Final[OrderedDict[int, _Binding]] = OrderedDict()

    def configure(self, rules: AffinityRules) -> None:
        """Go by other rules. Where they bind by something else, no key means what it did."""
        if rules.by != self.rules.by:
            self._table.clear()
        self.rules = rules
        self._kept = _kept(rules)
        self._shrink()

    @property
    def max_age_s(self) -> float:
        """After how long without a request a binding is forgotten."""
        return self.rules.max_age_s

    # Backends.

    def home_of(self, backend: Backend) -> Home:
        """The home of a backend, of which there is one."""
        home = self._homes.get(backend)
        if home is None:
            home = self._homes[backend] = Home(backend)
        return home

    def inherit(self, heir: Backend, backend: Backend) -> None:
        """A backend goes on under another name: what is bound to it is bound to its heir."""
        home = self._homes.pop(backend, None)
        if home is not None:
            home.backend = heir
            self._homes[heir] = home

    def lose(self, backend: Backend) -> None:
        """A backend is gone for good: nothing is bound to it any more."""
        home = self._homes.pop(backend, None)
        if home is not None:
            home.backend = None

    def follow(self, backends: Iterable[Backend]) -> None:
        """These are the members now."""

    # Keys.

    def find(self, key: int, now: float, *, touch: bool = True) -> Home | None:
        """Where a key leads; None where it is not bound, or was not used for too long. Unless told not to `touch` it, this is a use."""
        binding = self._table.get(key)
        if binding is None:
            return None
        if now - binding.used_at >= self.rules.max_age_s:
            if touch:
                del self._table[key]
            return None
        if touch:
            binding.used_at = now
            self._table.move_to_end(key)
        return binding.home

    def bind(self, key: int, backend: Backend, now: float) -> None:
        """Bind a key to a backend, whatever it was bound to. The one that was used least recently makes room, if there is none."""
        home = self.home_of(backend)
        binding = self._table.get(key)
        if binding is None:
            self._table[key] = _Binding(home, now)
            self._shrink()
            return
        binding.home = home
        binding.used_at = now
        self._table.move_to_end(key)

    def forget(self, key: int) -> None:
        """A session has ended: its key is bound no more. Harmless where it was not."""
        self._table.pop(key, None)

    def _shrink(self) -> None:
        while len(self._table) > self.rules.most:
            self._table.popitem(last=False)
            self.forgotten += 1

    def tick(self, now: float) -> None:
        """Drop bindings that nobody has used for too long, some thousands at most."""
        table, before = self._table, now - self.rules.max_age_s
        for _ in range(min(_MOST_AT_A_TICK, len(table))):
            key = next(iter(table))
            if table[key].used_at > before:
                return
            del table[key]

    # Claims.

    def settle(self, bond: Bond, now: float, tried: bool) -> Backend | None:
        """Decide whether a request goes to where it is bound, full or not: that backend, or None, and `bond.held` says why. `tried`: it
        has failed this request already.
        """
        backend = bond.backend
        if backend is None:
            if bond.home is not None:
                bond.held = Held.REMOVED
            return None
        bond.at = backend.name
        bond.held = Held.FAILED if tried else fate(backend, now, self.rules.drain_s)
        return backend if bond.held is Held.KEPT else None

    def mark(self, bond: Bond, mark: object, backend: Backend) -> Bound:
        """The mark of a claim for `explain`: that it went where it was bound, or why not, and by which mark of the picker."""
        if bond.held is not Held.KEPT:
            return Bound(self.told(bond), mark, asked=True)
        if not drains(backend):
            return self._kept
        by, drain_s = self.rules.by, self.rules.drain_s
        return Bound(f"it is bound to it by {by}, and in drain a backend keeps its own for {drain_s:g} s")

    def told(self, bond: Bond) -> str:
        """Why a request does not go where it is bound, in words."""
        by, held = self.rules.by, bond.held
        if held is Held.NEW:
            return f"by {by} it was bound to nobody yet"
        if held is Held.UNKNOWN:
            return f"{by} that it brought is not known, or not any more"
        if held is Held.REMOVED:
            return f"the backend that it was bound to by {by} is not there any more"
        return f"{bond.at}, to which it was bound by {by}, {_TOLD[held]}"

    def count(self, now: float) -> int:
        """How many keys are bound."""
        return len(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"<Bindings by {self.rules.by}: {len(self._table)} of {self.rules.most}>"


def _kept(rules: AffinityRules) -> Bound:
    return Bound(f"it is bound to it by {rules.by}")
