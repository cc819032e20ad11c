"""Plans of workers: the parent's plan as workers go by it, and as bytes."""

from dataclasses import replace
from typing import Any, Final

from twisted_lb.data_plane import DataPlane
from twisted_lb.planned import Plan, PoolPlan
from twisted_lb.workers.codec import Encoded, Encoder


class Plans:
    """Makes plans of workers. What is the same for them as in the plan before is the same object."""

    def __init__(self) -> None:
        self._encoder: Final = Encoder()
        self._pools: dict[str, tuple[PoolPlan, tuple[Any, ...], PoolPlan]] = {}

    def encoded(self, plane: DataPlane) -> Encoded:
        """What this data plane goes by, for workers."""
        return self._encoder.encode(self._plan_of(plane))

    def _plan_of(self, plane: DataPlane) -> Plan:
        """The plan as workers go by it: with the backends that are in force, and without checks and lists of their own."""
        pools: dict[str, tuple[PoolPlan, tuple[Any, ...], PoolPlan]] = {}
        for name, pool in plane.plan.pools.items():
            specs = tuple(plane.specs_of(name))
            known = self._pools.get(name)
            if known is None or known[0] is not pool or known[1] != specs:
                known = pool, specs, replace(pool, backends=specs, targets=None, checks=None)
            pools[name] = known
        self._pools = pools
        return replace(plane.plan, pools={name: known[2] for name, known in pools.items()})
