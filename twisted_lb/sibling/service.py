"""The sibling backend as a service: it listens, and leaves for a while when it is told to."""

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorTCP, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.config import SiblingConfig
from twisted_lb.config.observe import LogConfig
from twisted_lb.errors import listen_error, report_start_errors
from twisted_lb.log_files import LogFiles
from twisted_lb.sibling.site import BackendSite

_log = Logger()

Stop = Callable[[], Deferred[None]]

DEFAULTS = SiblingConfig()

# The accept queue: Twisted's 50 overflows when a load tool opens all its connections at once.
BACKLOG = 1024

# How often a port that was taken in the meantime is tried again.
RETRY_S = 1.0


class BackendService(Service):
    """A sibling backend; `port` 0 lets the kernel choose, `site.port` then says what it chose. With `whole_process` it is
    what the process is for, and bounds its log file as the balancer does by default, unless that has it already.
    """

    def __init__(
        self,
        port: int = DEFAULTS.port,
        interface: str = DEFAULTS.interface,
        name: str | None = DEFAULTS.name,
        reactor: IReactorTCP | None = None,
        *,
        whole_process: bool = False,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._config = SiblingConfig(port=port, interface=interface, name=name)
        self._reactor = cast(IReactorTCP, reactor)
        self._clock = cast(IReactorTime, reactor)
        log = LogConfig()
        self._log_files = LogFiles(log.file_bytes, log.old_files) if whole_process else None
        self._listener: IListeningPort | None = None
        self._return: IDelayedCall | None = None
        self.site = BackendSite(name or f"be-{port}", self._clock)
        self.site.port = port
        self.site.take_down = self.take_down

    def privilegedStartService(self) -> None:
        """Bind while twistd still has the privileges; StartError if that is refused."""
        super().privilegedStartService()
        report_start_errors()
        self._listen_or_fail()

    def startService(self) -> None:
        """Bind unless that is done: `twist` and running parents skip the privileged start."""
        super().startService()
        if self._log_files is not None:
            self._log_files.take_over()
        if self._listener is None:
            report_start_errors()
            self._listen_or_fail()
        _log.info(
            "backend {name} answers on {where}, process {process}",
            name=self.site.name,
            where=self.where,
            process=os.getpid(),
        )

    @property
    def where(self) -> str:
        """The address that it listens on, in the words of a log."""
        return self._config.model_copy(update={"port": self.site.port}).where

    def stopService(self) -> Deferred[None]:
        """Close port and connections; fires when the last one is gone."""
        super().stopService()
        if self._return is not None:
            self._return.cancel()
            self._return = None
        return self._leave()

    def take_down(self, seconds: float) -> None:
        """Close port and connections, and listen again on the same port after that long."""
        if self._return is not None or not self.running:
            return
        _log.info("backend {name} leaves for {pause} s", name=self.site.name, pause=seconds)
        self._leave()
        self._return = self._clock.callLater(seconds, self._come_back)

    def _come_back(self) -> None:
        self._return = None
        try:
            self._listen()
        except CannotListenError as error:
            _log.warn("{reason}; trying again", reason=listen_error(self.where, error, "be"))
            self._return = self._clock.callLater(RETRY_S, self._come_back)
        else:
            _log.info("backend {name} is back", name=self.site.name)

    def _leave(self) -> Deferred[None]:
        """Close port and connections; fires when all of them are gone, never fails."""
        listener, self._listener = self._listener, None
        closed = [self.site.close_connections()]
        if listener is not None:
            closed.append(maybeDeferred(cast(Stop, listener.stopListening)))
        return gatherResults(closed).addCallbacks(lambda _: None, self._not_left)

    def _not_left(self, failure: Failure) -> None:
        _log.failure("{name} could not close", failure, name=self.site.name)

    def _listen_or_fail(self) -> None:
        try:
            self._listen()
        except CannotListenError as error:
            raise listen_error(self.where, error, "be") from None

    def _listen(self) -> None:
        self._listener = self._reactor.listenTCP(self.site.port, cast(Any, self.site), BACKLOG, self._config.interface)
        # Port 0 is only the kernel's to choose the first time.
        self.site.port = cast(IPv4Address | IPv6Address, self._listener.getHost()).port
        self.site.name = self._config.name or f"be-{self.site.port}"
