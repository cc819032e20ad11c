"""Who is leaving: listeners, pools and backends that were taken away and have something to finish (connection draining)."""

from collections.abc import Iterable
from typing import Final

from twisted.logger import Logger

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend

# For the close frame of a WebSocket's client to come back before the end; of a short time a quarter.
_GOOD_BYE_S: Final = 1.0
# A tick that comes so late follows a pause of the whole process (a machine that was suspended, SIGSTOP).
_PAUSE_S: Final = 1.0
_REMOVED: Final = "its backend was removed"
_CLOSED: Final = "its listener was removed"

_log = Logger()


class Leaving:
    """Frontends and clusters that were taken away, until nothing of them is left, and the removed backends of clusters.

    Requests have `drain_s` seconds to finish and tunnels `tunnel_drain_s`, counted from the removal; then they are cut.
    `tick` is to be called a few times a second. After a pause of the whole process everybody has one tick of grace: what has
    come meanwhile is read first.
    """

    def __init__(self) -> None:
        self.frontends: Final[dict[Frontend, float]] = {}  # since when
        self.clusters: Final[dict[Cluster, None]] = {}
        self._told: Final[set[Frontend]] = set()
        self._ticked_at = NEVER  # the first tick is not late
        self._graced = False

    def close(self, frontend: Frontend, now: float) -> None:
        """A frontend gets no clients any more: those that it has are drained."""
        self.frontends[frontend] = now
        frontend.drain()

    def retire(self, cluster: Cluster) -> None:
        """A cluster gets no requests any more."""
        self.clusters[cluster] = None
        cluster.retire()

    def forget(self) -> None:
        """Let go of all of them: everything has come to its end."""
        self.frontends.clear()
        self.clusters.clear()
        self._told.clear()

    def tick(
        self,
        now: float,
        drain_s: float,
        tunnel_drain_s: float,
        frontends: Iterable[Frontend],
        clusters: Iterable[Cluster],
    ) -> list[Cluster]:
        """Cut what has had its time, and let go of what has ended. `frontends` and `clusters` are those that stay. The
        clusters that have ended are returned: their probes are somebody else's to close.
        """
        self._graced = now - self._ticked_at > _PAUSE_S and not self._graced
        self._ticked_at = now
        if self._graced:
            return self._over()
        for frontend, since in list(self.frontends.items()):
            self._look_at(frontend, now - since, drain_s, tunnel_drain_s)
        everywhere = [*frontends, *self.frontends]
        for cluster in (*clusters, *self.clusters):
            for backend, since in list(cluster.pool.leaving.items()):
                if now - since >= drain_s:
                    _cut(cluster, backend, everywhere, tunnels=now - since >= tunnel_drain_s)
        return self._over()

    def _look_at(self, frontend: Frontend, since_s: float, drain_s: float, tunnel_drain_s: float) -> None:
        if since_s >= drain_s and frontend.clients:
            frontend.cut_requests(_CLOSED)
        if since_s >= tunnel_drain_s - min(_GOOD_BYE_S, tunnel_drain_s / 4) and frontend not in self._told:
            self._told.add(frontend)
            frontend.tell_good_bye()
        if since_s >= tunnel_drain_s:
            frontend.kill(_CLOSED)
        if not frontend.clients and not frontend.exchanges:
            del self.frontends[frontend]
            self._told.discard(frontend)
            _log.info("listener {name} is gone, nobody is connected to it any more", name=frontend.name)

    def _over(self) -> list[Cluster]:
        over = [cluster for cluster in self.clusters if cluster.over]
        for cluster in over:
            del self.clusters[cluster]
            cluster.close_all()
            _log.info("pool {name} is gone, none of its requests runs any more", name=cluster.name)
        return over


def _cut(cluster: Cluster, backend: Backend, frontends: Iterable[Frontend], *, tunnels: bool) -> None:
    """Cut what is at a removed backend, if that is more than its tunnels, or they have had their time too."""
    count = backend.in_flight if tunnels else backend.in_flight - backend.tunnels
    if count <= 0:
        return
    _log.warn(
        "{pool}/{backend} was removed and has had its time, cut: {count}",
        pool=cluster.name,
        backend=backend.name,
        count=count,
    )
    cluster.cut_mirrored(backend, _REMOVED)
    for frontend in frontends:
        frontend.cut_at(backend, _REMOVED, tunnels=tunnels)
