"""What the line at the start says of listeners and pools."""

from typing import Final

from twisted_lb.data_plane import DataPlane
from twisted_lb.plan import DEFAULT
from twisted_lb.planned import PoolPlan

# Of a pool with more backends the line at start has their number.
_MOST_NAMED: Final = 8


def places(plane: DataPlane) -> str:
    """Where a data plane listens, and with which certificates; listeners that have a name by it."""
    found = [
        f"{'' if name == DEFAULT else f'{name} '}{address}{_tls_of(plane, name)}"
        for name in plane.plan.listeners
        for address in plane.addresses(name)
    ]
    return ", ".join(found) or "no port of its own"


def _tls_of(plane: DataPlane, listener: str) -> str:
    tls = plane.plan.listeners[listener].tls
    return "" if tls is None else f" (TLS: {tls})"


def said_of(name: str, pool: PoolPlan) -> str:
    """A pool: `rr over b1, b2`, with its name unless it is `default`; of many backends their number; and where its list is."""
    backends = [spec.name for spec in pool.backends]
    if name != DEFAULT and len(backends) > _MOST_NAMED:
        backends = [f"{len(backends)} backends"]
    over = ", ".join(backends + ([] if pool.targets is None else [f"those of {pool.targets.where}"]))
    said = f"{pool.policy_name} over {over}"
    return said if name == DEFAULT else f"{name} {said}"
