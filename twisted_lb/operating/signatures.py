"""Signatures: who has changed what at run time, when and why, as plain values that a state file keeps over a restart."""

import math
from collections.abc import Mapping
from typing import Any, Final

from twisted_lb.admin.endpoints import MOST_REASON
from twisted_lb.admin.history import Key
from twisted_lb.admin.operator import By
from twisted_lb.core.overlay import Overlay

_KEYS: Final = ("admin", "weight", "limit", "backend")


def is_changed(overlay: Overlay, pool: str, backend: str) -> bool:
    """Whether anything of a backend was changed at run time."""
    return any(overlay.source(pool, backend, key) for key in _KEYS)


def signature_values(signed: Mapping[Key, By], overlay: Overlay) -> dict[str, Any]:
    """Who has changed the backends of an overlay, by pool and name; nothing of those that are what the file says."""
    found: dict[str, Any] = {}
    for (pool, backend), by in signed.items():
        if is_changed(overlay, pool, backend):
            one = {"actor": _line(by.actor), "at": by.at, "reason": _line(by.reason)}
            found.setdefault(pool, {})[backend] = one
    return found


def signatures_of(values: Any) -> dict[Key, By]:
    """The signatures in such values; what is none is left out, since nothing but words depends on them."""
    pools = values.items() if isinstance(values, dict) else ()
    found = [
        ((pool, backend), _by(one))
        for pool, backends in pools
        if isinstance(backends, dict)
        for backend, one in backends.items()
    ]
    return {key: by for key, by in found if by is not None}


def _by(one: Any) -> By | None:
    actor, at, reason = (one.get(key) for key in ("actor", "at", "reason")) if isinstance(one, dict) else (None,) * 3
    if not (isinstance(actor, str) and isinstance(at, int | float) and isinstance(reason, str) and math.isfinite(at)):
        return None
    return By(_line(actor), float(at), _line(reason))


def _line(text: str) -> str:
    """A text as one line, not longer than a reason may be."""
    return "".join(c if c.isprintable() else " " for c in text[:MOST_REASON])
