"""What is counted of a simulated world while it runs, to become a `Run`."""

import math
from array import array
from collections.abc import Mapping

from twisted_lb.sim.observe import Run, Served
from twisted_lb.sim.servers import Server
from twisted_lb.sim.visits import Visit, Wire


class Seen:
    """What is counted of a run: the requests behind its warm-up."""

    def __init__(self) -> None:
        self.last_arrival = 0.0
        self._began = 0.0
        self._before: dict[str, tuple[int, float]] = {}
        self._visits: list[tuple[int, int, int, float]] = []

    def begin(self, now: float, servers: Mapping[str, Server[Wire]]) -> None:
        """The warm-up is over."""
        self._began = now
        self._before = {name: (server.asked, server.work_s) for name, server in servers.items()}

    def note(self, visit: Visit) -> None:
        """A request has ended."""
        self._visits.append((visit.number, visit.status, visit.attempts.count, visit.latency_s))

    def run(self, servers: Mapping[str, Server[Wire]], first: int) -> Run:
        """What has been seen."""
        counted = [one for one in sorted(self._visits) if one[0] >= first]
        statuses: dict[int, int] = {}
        for _, status, _, _ in counted:
            statuses[status] = statuses.get(status, 0) + 1
        seconds = self.last_arrival - self._began
        return Run(
            array("d", [latency for _, status, _, latency in counted if status < 500]),
            {name: self._served(server, seconds) for name, server in servers.items()},
            seconds,
            sum(count for status, count in statuses.items() if status >= 500),
            sum(attempts for _, _, attempts, _ in counted),
            statuses,
        )

    def _served(self, server: Server[Wire], seconds: float) -> Served:
        asked, work_s = self._before.get(server.name, (0, 0.0))
        could = server.capacity * seconds
        offered = (server.work_s - work_s) / could if could and math.isfinite(could) else 0.0
        return Served(server.asked - asked, offered, max(server.last_end - self.last_arrival, 0.0))
