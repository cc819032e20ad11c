"""Target lists at work (service discovery): for each pool that has one its provider, and what that has told last."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from twisted.logger import Logger

from twisted_lb.core.address import Address, same_place
from twisted_lb.core.backend import BackendSpec, refuse_twice
from twisted_lb.core.snapshot import TargetsSnapshot
from twisted_lb.discovery.provider import Provider
from twisted_lb.planned import PoolPlan, TargetsPlan

# Makes the provider of a pool's list, which is not started yet; ValueError, in one line, where there is none for its place.
Provide = Callable[[str, TargetsPlan], Provider]

# Of more backends a line has their number.
_MOST_NAMED: Final = 8

_log = Logger()


def nobody(pool: str, targets: TargetsPlan) -> Provider:
    """A Provide for where no lists are followed."""
    raise ValueError(f"pool {pool}: nobody follows {targets.where} here")


class _Followed:
    """A pool's list: by which plan it is followed, by whom, what was told (None: nothing yet), and which of that are the pool's
    own backends too.
    """

    __slots__ = ("plan", "provider", "told", "twice")

    def __init__(self, plan: TargetsPlan, provider: Provider, told: tuple[BackendSpec, ...] | None) -> None:
        self.plan: TargetsPlan = plan
        self.provider: Final = provider
        self.told: tuple[BackendSpec, ...] | None = told
        self.twice: frozenset[str] = frozenset()


class TargetLists:
    """The target lists of all pools, from their first `follow` to `stop`.

    `take` is called with the name of a pool whose list has changed, and returns the runtime changes that are dropped because
    of that, one line each. It may raise ValueError for backends that cannot be taken: then the list stays what it was.
    """

    def __init__(self, provide: Provide, take: Callable[[str], Iterable[str]]) -> None:
        self._provide: Final = provide
        self._take: Final = take
        self._lists: Final[dict[str, _Followed]] = {}
        self._over: bool = False

    # Another plan.

    def made(self, pools: Mapping[str, PoolPlan]) -> dict[str, Provider]:
        """The providers that these pools need and that do not run, by pool; ValueError where one cannot be made. Nothing has
        begun with it.
        """
        return {
            name: self._provide(name, pool.targets)
            for name, pool in pools.items()
            if pool.targets is not None and not self._goes_on(name, pool.targets)
        }

    def _goes_on(self, pool: str, targets: TargetsPlan) -> bool:
        """Whether the provider that runs follows the same place by the same rules."""
        one = self._lists.get(pool)
        return one is not None and (one.plan.where, one.plan.rules) == (targets.where, targets.rules)

    def follow(self, pools: Mapping[str, PoolPlan], made: Mapping[str, Provider]) -> None:
        """Follow the lists of these pools and no others, by the providers that were `made` for them. What a list is known to
        have stays until a new provider tells it anew.
        """
        for name in [name for name in self._lists if name not in pools or pools[name].targets is None]:
            self._lists.pop(name).provider.stop()
        for name, pool in pools.items():
            targets = pool.targets
            if targets is None or self._over:
                continue
            if name in made:
                before = self._lists.get(name)
                if before is not None:
                    before.provider.stop()
                self._start(name, _Followed(targets, made[name], None if before is None else before.told))
            self._lists[name].plan = targets

    def _start(self, pool: str, one: _Followed) -> None:
        self._lists[pool] = one
        one.provider.start(lambda specs: self._hear(pool, one, specs))

    def stop(self) -> None:
        """Follow nothing any more; what is known stays. Harmless when it was done before."""
        self._over = True
        for one in self._lists.values():
            one.provider.stop()

    # What is told.

    def _hear(self, pool: str, one: _Followed, specs: Sequence[BackendSpec]) -> None:
        if self._over or self._lists.get(pool) is not one:
            return  # a provider that tells something after its end
        refuse_twice(specs)
        before, one.told = one.told, tuple(specs)
        try:
            dropped = self._take(pool)
        except BaseException:
            one.told = before
            raise
        for line in dropped:
            _log.info("pool {pool}: its list has changed, which drops: {line}", pool=pool, line=line)

    def joined(self, pool: str, targets: TargetsPlan | None, own: tuple[BackendSpec, ...]) -> tuple[BackendSpec, ...]:
        """The backends of a pool that has these of its own: those, and behind them those of its list by this plan. Whose name
        or address is an own one's is that.
        """
        one = self._lists.get(pool)
        if targets is None or one is None or not one.told:
            return own
        names, places = _keys(own)
        return (*own, *(targets.completed(spec) for spec in one.told if not _is_one_of(spec, names, places)))

    def unknown(self, pools: Mapping[str, PoolPlan]) -> dict[str, str]:
        """Which of these pools have a list of which nothing is known yet, and where that is."""
        lists = self._lists
        return {
            name: pool.targets.where
            for name, pool in pools.items()
            if pool.targets is not None and (name not in lists or lists[name].told is None)
        }

    def say_twice(self, pool: str, own: Sequence[BackendSpec]) -> None:
        """Say which backends of a list are the pool's own too, of each once."""
        one = self._lists.get(pool)
        if one is None or one.told is None:
            return
        names, places = _keys(own)
        twice = [spec.name for spec in one.told if _is_one_of(spec, names, places)]
        news = [name for name in twice if name not in one.twice]
        one.twice = frozenset(twice)
        if news:
            _log.warn(
                "pool {pool}: {backends} of {where} are among its own backends too, which hold",
                pool=pool,
                backends=", ".join(news) if len(news) <= _MOST_NAMED else f"{len(news)} backends",
                where=one.plan.where,
            )

    # How they are doing.

    def snapshot(self, pool: str, now: float) -> TargetsSnapshot | None:
        """The state of a pool's list; None where it has none."""
        one = self._lists.get(pool)
        if one is None:
            return None
        state = one.provider.state
        return TargetsSnapshot(
            where=one.plan.where,
            backends=None if one.told is None else len(one.told),
            failing=state.failing,
            error=state.error,
            doubt=state.doubt,
            age_s=state.age_s(now),
        )

    def __repr__(self) -> str:
        return f"<TargetLists: {', '.join(f'{name} {one.provider!r}' for name, one in self._lists.items())}>"


def _keys(own: Sequence[BackendSpec]) -> tuple[frozenset[str], frozenset[Address]]:
    return frozenset(spec.name for spec in own), frozenset(same_place(spec.address) for spec in own)


def _is_one_of(spec: BackendSpec, names: frozenset[str], places: frozenset[Address]) -> bool:
    return spec.name in names or same_place(spec.address) in places
