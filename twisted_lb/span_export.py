"""Where the spans of traces go: the exporter of the configuration in force, and the counts of all before it."""

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from twisted_lb.net.runtime import Runtime
from twisted_lb.tracing.rules import TraceRules

if TYPE_CHECKING:
    from twisted_lb.tracing.exporter import Exporter

_log = Logger(namespace="twisted_lb.service")


class SpanExport:
    """Sends spans to a collector, if there is one."""

    def __init__(self, reactor: Any) -> None:
        self._reactor: Final = reactor
        self._exporter: Exporter | None = None
        self._before: Final[list[Exporter]] = []  # which still send what waited
        self._sent: int = 0  # by those that have ended
        self._dropped: int = 0

    def follow(self, rules: TraceRules | None, runtime: Runtime) -> None:
        """Send spans where these rules say from now on; what waits for the collector before still goes there."""
        before = self._exporter
        self._exporter = None
        if rules is not None:
            # Not above: endpoints take a service manager's sockets out of the environment.
            from twisted_lb.outgoing_http import OneOffClient
            from twisted_lb.tracing.exporter import Exporter

            client, rng = OneOffClient(self._reactor), runtime.stream("traces")
            self._exporter = Exporter(rules, client, runtime.time, runtime.wall.read, rng)
        if before is not None:
            self._before.append(before)
            done = before.close()
            done.addErrback(lambda failure: _log.failure("spans that were left", failure=failure))
            done.addBoth(lambda _: self._ended(before))

    def _ended(self, exporter: "Exporter") -> None:
        """One of those before has nothing left."""
        self._before.remove(exporter)
        self._sent += exporter.sent
        self._dropped += exporter.dropped

    def take(self, texts: bytes, count: int) -> None:
        """Take so many spans, as JSON."""
        if self._exporter is not None:
            self._exporter.take(texts, count)

    @property
    def sent(self) -> int:
        """How many spans a collector has taken."""
        return self._sent + sum(one.sent for one in self._all)

    @property
    def dropped(self) -> int:
        """How many spans were dropped: too many waited, or no collector took them."""
        return self._dropped + sum(one.dropped for one in self._all)

    @property
    def _all(self) -> "list[Exporter]":
        return self._before if self._exporter is None else [*self._before, self._exporter]

    def close(self) -> "Deferred[Any]":
        """Send what waits; fires when that is over."""
        return succeed(None) if self._exporter is None else self._exporter.close()
