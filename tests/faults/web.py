"""The other client side: the balancer as a resource in a site of twisted.web, on transports that are not ours."""

from contextlib import AbstractContextManager
from unittest.mock import patch

from twisted.web import server

from twisted_lb.net.frontend import Frontend
from twisted_lb.net.resource import BalancedReverseProxyResource
from twisted_lb.testing import HeapClock
from twisted_lb.testing.balanced import WALL_TIME

# As long as the longest of ours: twisted.web has one time for heads, bodies and idle connections.
IDLE_S = 4


def site_of(frontend: Frontend, clock: HeapClock) -> server.Site:
    """A site that is nothing but the balancer."""
    return server.Site(BalancedReverseProxyResource(frontend), reactor=clock, timeout=IDLE_S)  # type: ignore[arg-type]


def standing_wall_clock() -> AbstractContextManager[object]:
    """For twisted.web's Date field: it asks the real clock, and a story would not be the same again."""
    real = server.datetimeToString
    return patch.object(server, "datetimeToString", lambda: real(WALL_TIME))
