"""The door of `/-/ready` and `/-/live`: listeners of their own, so that probes are answered however full the others are."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_lb.admin.readiness import Verdict
from twisted_lb.admin.status import StatusSite
from twisted_lb.net.listener import Listener
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.sockets import Held


class StatusDoor:
    """Answers probes with `readiness`, on `listeners`."""

    def __init__(self, readiness: Callable[[], Verdict], reactor: Any) -> None:
        self._readiness: Final = readiness
        self._reactor: Final = reactor
        self.listeners: list[Listener] = []
        self._site: StatusSite | None = None

    @property
    def addresses(self) -> list[str]:
        """Where it is."""
        return [one.address for one in self.listeners]

    def serve(self, runtime: Runtime, held: Iterable[Held]) -> None:
        """Answer on these sockets and no others, once `start` says so."""
        assert runtime.poller is not None
        before = {listener.sock: listener for listener in self.listeners}
        self.listeners = []
        for one in held:
            if self._site is None:
                self._site = StatusSite(self._readiness, self._reactor)
            listener = before.pop(one.sock, None)
            if listener is None:
                listener = Listener(runtime.poller, one.sock, self._site.build, runtime.later)
            self.listeners.append(listener)
        for listener in before.values():
            listener.stop()

    def start(self) -> None:
        """Answer from now on."""
        for listener in self.listeners:
            listener.start()

    def leave(self) -> None:
        """Leave it to the instance that has taken over: it shares the socket, and the drain may last long."""
        for listener in self.listeners:
            listener.stop(handed_on=True)
        if self._site is not None:
            self._site.leave()

    def close(self) -> None:
        """Answer no more."""
        for listener in self.listeners:
            listener.stop()
        if self._site is not None:
            self._site.close()
        self.listeners, self._site = [], None
