"""Self-check: identities that hold whenever a turn is over, looked at continuously. One that does not is a bug of the balancer: it is
counted and said, and nothing is done about it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from twisted.logger import Logger

from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend

# How often the same is said again.
_SAY_EVERY_S: Final = 60.0
# A process has other descriptors than those of its poller, and so many of them come and go: /etc/hosts, a log file.
_OTHERS: Final = 64
# So many looks in a row.
_LASTS: Final = 12

_log = Logger()


def broken(frontends: Iterable[Frontend], clusters: Iterable[Cluster]) -> list[str]:
    """Of what must be so in these parts, which are all that there are, the identities that do not hold."""
    frontends, clusters = list(frontends), list(clusters)
    found = [one for frontend in frontends for one in frontend.broken()]
    found += [one for cluster in clusters for one in cluster.broken()]
    exchanges, tunnels = sum(one.exchanges for one in frontends), sum(one.tunnels for one in frontends)
    at_backends = sum(one.tunnels for cluster in clusters for one in cluster.pool.records)
    if tunnels != at_backends:
        found.append(f"clients have {tunnels} tunnels, and backends {at_backends}")
    served = sum(
        one.pool.counts.total - len(one.abandoned) - len(one.mirrors) - one.hedges + len(one.waiting)
        for one in clusters
    )
    held = {one.runtime.memory for one in frontends if one.runtime.memory.taken}
    if held and not exchanges:
        found.append(f"{', '.join(map(repr, held))} though no exchange runs")
    if served > exchanges:
        found.append(f"{served} requests are at backends or wait for one, and {exchanges} exchanges run")
    return found


class SelfCheck:
    """The self-check of a process. `tick` often: it looks every `every_s`; `violations` counts what was seen, once a look. `parts`
    gives all that runs; `watched` how many descriptors the poller has, None where the process has others too.
    """

    def __init__(
        self,
        parts: Callable[[], tuple[Sequence[Frontend], Sequence[Cluster]]],
        watched: Callable[[], int] | None = None,
        descriptors: Callable[[], int] | None = None,
    ) -> None:
        self.violations: int = 0
        self.every_s: float = 5.0
        self._parts: Final = parts
        self._watched: Final = watched
        self._descriptors: Final = descriptors or _open_descriptors
        self._looked_at: float = float("-inf")
        self._others: int | None = None  # the fewest descriptors that are none of the poller's
        self._lost: int = 0  # looks in a row with many more
        self._said: Final[dict[str, float]] = {}

    def tick(self, now: float) -> None:
        """Look, unless that was done just now."""
        if now - self._looked_at >= self.every_s:
            self._looked_at = now
            self.look(now)

    def look(self, now: float) -> list[str]:
        """Look at everything, and say what is not as it must be; O(backends, tickets and descriptors)."""
        frontends, clusters = self._parts()
        found = broken(frontends, clusters)
        if self._watched is not None:
            found += self._leaked(self._watched())
        for one in found:
            self.violations += 1
            what = "".join(c for c in one if not c.isdigit())
            if now - self._said.get(what, float("-inf")) >= _SAY_EVERY_S:
                self._said[what] = now
                _log.critical("self-check: {what}: a bug of the balancer, please report it", what=one)
        return found

    def _leaked(self, watched: int) -> list[str]:
        """Descriptors that no part knows, more than there were, for a minute."""
        others = self._descriptors() - watched
        if self._others is None or others < self._others:
            self._others = others
        self._lost = self._lost + 1 if others > self._others + _OTHERS else 0
        if self._lost < _LASTS:
            return []
        return [f"{others} descriptors are open that no part knows, {self._others} were"]


def _open_descriptors() -> int:
    # One of them is that of the folder itself.
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208, no objects for 20,000 names
    except OSError:
        return 0
