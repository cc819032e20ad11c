"""Full backlogs of unix sockets: who waits for room in the queue of a server that does not accept fast enough."""

from typing import Final, Protocol

from twisted_lb.net.clock import Later, Timer

# A unix socket tells nobody when its backlog has room again; a server that lives accepts within milliseconds.
_AGAIN_S: Final = 0.01


class Waiting(Protocol):
    """A connect that met a full backlog."""

    def try_again(self) -> bool:
        """Connect again; False when the backlog is still full."""


class Backlogs:
    """Those who wait for room in a backlog, by the path of the socket, tried again every 10 ms, first in, first out.

    The first who finds no room ends the round for its socket: a crowd that waits costs one connect a round.
    """

    def __init__(self, later: Later) -> None:
        self._later: Final = later
        self._waiting: dict[str, dict[Waiting, None]] = {}  # ordered sets
        self._timer: Timer | None = None

    def full(self, path: str) -> bool:
        """Whether others wait for room there; each that can be let in now is let in first."""
        if path in self._waiting:
            self._let_in(path)
        return path in self._waiting

    def wait(self, path: str, waiting: Waiting) -> None:
        """Wait behind all who wait there already, until `try_again` returns True or `leave` is called."""
        self._waiting.setdefault(path, {})[waiting] = None
        if self._timer is None:
            self._timer = self._later(_AGAIN_S, self._try_all)

    def leave(self, path: str, waiting: Waiting) -> None:
        """Wait no more; harmless for one that does not wait."""
        crowd = self._waiting.get(path)
        if crowd is None:
            return
        crowd.pop(waiting, None)
        if not crowd:
            del self._waiting[path]
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try_all(self) -> None:
        # The next round first: no exception of this one can end all waits.
        self._timer = self._later(_AGAIN_S, self._try_all)
        for path in list(self._waiting):
            self._let_in(path)

    def _let_in(self, path: str) -> None:
        crowd = self._waiting.get(path, {})
        while crowd:
            first = next(iter(crowd))
            try:
                if not first.try_again():
                    return
            except Exception:
                self.leave(path, first)  # a bug, which is logged, and must not keep all others waiting
                raise
            self.leave(path, first)

    def __repr__(self) -> str:
        return f"<Backlogs: {sum(map(len, self._waiting.values()))} wait>"
