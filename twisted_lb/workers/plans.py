"""Plans of workers: the parent's plan as workers go by it, and as bytes."""

from dataclasses import replace
from typing import Any, Final

from twisted_lb.data_plane import DataPlane
from twisted_lb.planned import ListenerPlan, Plan, PoolPlan
from twisted_lb.workers.codec import Encoded, Encoder


class Plans:
    """Makes plans for so many workers. What is the same for them as in the plan before is the same object."""

    def __init__(self, count: int) -> None:
        self._count: Final = count
        self._encoder: Final = Encoder()
        self._pools: dict[str, tuple[PoolPlan, tuple[Any, ...], PoolPlan]] = {}
        self._listeners: dict[str, tuple[ListenerPlan, ListenerPlan]] = {}

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
        listeners: dict[str, tuple[ListenerPlan, ListenerPlan]] = {}
        for name, listener in plane.plan.listeners.items():
            of = self._listeners.get(name)
            if of is None or of[0] is not listener:
                most = listener.connections
                share = None if most is None else -(-most // self._count)
                of = listener, replace(listener, connections=share)
            listeners[name] = of
        self._pools, self._listeners = pools, listeners
        return replace(
            plane.plan,
            pools={name: known[2] for name, known in pools.items()},
            listeners={name: of[1] for name, of in listeners.items()},
        )
