"""Makes what operators are shown, for tests: pools and backends as they are, except for what the test is about."""

from typing import Any

from twisted_lb.admin.operator import BackendView, PoolView


def backend(name: str = "app/b1", **changed: Any) -> BackendView:
    """A backend that is used, of weight 1."""
    pool, _, own = name.partition("/")
    usable = changed.setdefault("usable", True)
    plain = {
        "name": name,
        "pool": pool,
        "backend": own,
        "address": f"{own}:80",
        "labels": {},
        "weight": 1,
        "weight_effective": 1.0 if usable else 0.0,
        "limit": 0,
        "in_flight": 0,
        "tunnels": 0,
        "requests": 0,
        "failures": 0,
        "outcomes": {},
        "admin": "ready",
        "up": True,
        "known": True,
        "ejected": False,
        "available": usable,
        "state": "ready",
        "since_s": 0.0,
        "reason": "",
        "by": None,
        "rate": None,
        "share": None,
        "intended": None,
        "errors_60s": None,
        "checks": (),
        "sources": {},
    }
    return BackendView(**{**plain, **changed})


def pool(*backends: BackendView, name: str = "app", **changed: Any) -> PoolView:
    """A pool of these backends."""
    plain = {
        "name": name,
        "policy": "rr",
        "check": "none",
        "queued": 0,
        "queue": 0,
        "usable": sum(one.usable for one in backends),
        "in_flight": sum(one.in_flight for one in backends),
        "rate": None,
        "errors_60s": None,
        "backends": list(backends),
        "leaving": [],
    }
    return PoolView(**{**plain, **changed})
