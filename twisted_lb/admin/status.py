"""The status listener: `/-/live` says that the process runs, `/-/ready` whether it wants traffic."""

from collections.abc import Callable
from typing import Final

from twisted.web.resource import Resource
from twisted.web.server import Request, Site


class _Answer(Resource):
    isLeaf = True

    def __init__(self, good: Callable[[], bool], yes: bytes, no: bytes) -> None:
        super().__init__()
        self._good: Final = good
        self._yes: Final = yes
        self._no: Final = no

    def render_GET(self, request: Request) -> bytes:
        good = self._good()
        request.setResponseCode(200 if good else 503)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return self._yes if good else self._no


class _StatusSite(Site):
    """A site that logs where it listens by the name of what it is for, and nothing else of its own life."""

    noisy = False

    def logPrefix(self) -> str:
        return "status"


def status_site(ready: Callable[[], bool]) -> Site:
    """A site with the two answers, liveness and readiness; `ready` is asked each time."""
    dash = Resource()
    dash.putChild(b"live", _Answer(lambda: True, b"live\n", b""))
    dash.putChild(b"ready", _Answer(ready, b"ready\n", b"not ready\n"))
    root = Resource()
    root.putChild(b"-", dash)
    return _StatusSite(root)
