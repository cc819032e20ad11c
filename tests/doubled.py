"""A house whose requests are mirrored: what another pool gets of them, and what becomes of that."""

from typing import Any

from house import House

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.mirroring import Mirroring, Unmirrored
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import ScriptedBackend


class Doubled(House):
    """A house whose pool `default` (at `a:80`) is mirrored to `next` (at `m:80`)."""

    def __init__(
        self,
        *,
        live: dict[str, Any] | None = None,
        following: dict[str, Any] | None = None,
        route: dict[str, Any] | None = None,
        seed: int = 2,
        **mirror: Any,
    ) -> None:
        self.live_options = {"backends": ["a:80"], **(live or {})}
        self.next_options = {"backends": ["m:80"], **(following or {})}
        self.mirror_options: dict[str, Any] | None = {"to": "next", "methods": ["*"], **mirror}
        super().__init__(seed=seed, **self.tables(), defaults={"route": route or {}})
        self.ended = False
        self.live = self.cluster
        self.next = self.plane.clusters["next"]

    def tables(self) -> dict[str, Any]:
        common = {"health_check": {"interval_s": 0.0}, "queue": {"no_backend_s": 0.0}}
        live = {**common, **self.live_options}
        if self.mirror_options is None:
            return {"pools": {"default": live}}
        return {"pools": {"default": {**live, "mirror": self.mirror_options}, "next": {**common, **self.next_options}}}

    def config(self, **options: Any) -> LoadBalancerConfig:
        for flat in ("backends", "health_check", "queue"):
            self._options.pop(flat, None)
        if "pools" in options:
            self._options.pop("pools", None)
        return super().config(**options)

    def end(self) -> None:
        """Close all of it, with what runs."""
        self.ended = True
        self.balanced.close()

    def close(self) -> None:
        if not self.ended:
            super().close()
            return
        self.wait(5)
        assert (self.balanced.runtime.deadlines.armed, self.clock.getDelayedCalls()) == (0, [])

    def without_mirror(self, **options: Any) -> None:
        self.mirror_options = None
        self.apply(**self.tables(), **options)

    def change(self, **mirror: Any) -> None:
        self.mirror_options = {**(self.mirror_options or {}), **mirror}
        self.apply(**self.tables())

    def both(self, *, live: Any = (), mirror: Any = ()) -> tuple[ScriptedBackend, ScriptedBackend]:
        return self.backend("a:80", live), self.backend("m:80", mirror)

    @property
    def counted(self) -> Mirroring:
        return self.live.pool.totals.mirroring

    @property
    def unsent(self) -> dict[str, int]:
        return {why.name: self.counted.unsent[why] for why in Unmirrored if self.counted.unsent[why]}

    @property
    def outcomes(self) -> dict[str, int]:
        [one] = self.next.pool.backends.values()
        return {outcome.name: one.outcomes[outcome] for outcome in Outcome if one.outcomes[outcome]}
