"""Severing: tunnels are cut whose backend went down, or that stayed at a backup (HAProxy's on-marked-down and on-marked-up)."""

from collections.abc import Callable, Iterable
from typing import Final

from twisted_lb.core.backend import BACKUP, Backend
from twisted_lb.core.events import ConnectionsCut, Event, LevelsShifted
from twisted_lb.core.levels import label_of
from twisted_lb.core.standing import Skipped
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend

_LOST: Final = {
    Skipped.DOWN: "its backend is down",
    Skipped.AGENT: "its backend is down by its agent",
    Skipped.EJECTED: "its backend is ejected",
}

Hear = Callable[[Event], None]


def sever_lost(cluster: Cluster, frontends: Iterable[Frontend], now: float, hear: Hear) -> None:
    """Cut the tunnels that lead to backends which checks, an agent or traffic have taken out, where the pool wants that
    (`close_when_down`). It is looked at again and again, so that one is cut too that has just begun. O(backends), and O(clients) for
    each that has any.
    """
    if cluster.pool.settings.close_when_down:
        everywhere = list(frontends)
        for backend in list(cluster.pool.backends.values()):
            lost = backend.lost if backend.tunnels else None
            if lost is not None:
                reason = backend.reasons.get(lost, "")
                _sever(cluster, backend, everywhere, f"{_LOST[lost]}: {reason}" if reason else _LOST[lost], now, hear)


def left_backups(cluster: Cluster, event: Event) -> bool:
    """Whether the requests of a pool go to its primaries again from this event on, and what stayed at its backups is to leave them
    (`leave_backups`).
    """
    return isinstance(event, LevelsShifted) and event.before == label_of(BACKUP) and cluster.pool.settings.leave_backups


def sever_backups(cluster: Cluster, frontends: Iterable[Frontend], now: float, hear: Hear) -> None:
    """Cut the tunnels that lead to backups which only stand by."""
    everywhere = list(frontends)
    for backend in list(cluster.pool.backends.values()):
        if backend.level == BACKUP and backend.standby and backend.tunnels:
            why = f"its backend is a backup, and the pool uses {cluster.pool.levels.in_use()} again"
            _sever(cluster, backend, everywhere, why, now, hear)


def _sever(cluster: Cluster, backend: Backend, frontends: Iterable[Frontend], why: str, now: float, hear: Hear) -> None:
    count = sum(frontend.cut_relayed_at(backend, why) for frontend in frontends)
    if count:
        hear(ConnectionsCut(cluster.name, backend.name, count, why, now))
