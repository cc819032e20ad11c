"""Reloads: the configuration is read anew and applied, one reload after the other, or nothing is changed and the log says why."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.problems import Problem
from twisted_lb.errors import ConfigError, StartError
from twisted_lb.plan import Files
from twisted_lb.plan_diff import PlanDiff

_log = Logger()


class Source(Protocol):
    """Where a configuration comes from, again and again: a file with all that it includes, and the flags of a command line."""

    def load(self) -> LoadBalancerConfig:
        """Read it; ConfigError with everything that is wrong. It is called in a thread."""

    def files(self) -> Mapping[Path, str]:
        """The files that were read last, with the SHA-256 of each, in hexadecimal; empty for what was not read but will be."""

    def placed(self, config: LoadBalancerConfig, found: Iterable[Problem]) -> Sequence[Problem]:
        """Problems of a configuration that was read there with their places; of another one as they are."""

    def warnings(self, config: LoadBalancerConfig) -> Sequence[Problem]:
        """What is doubtful about how a configuration is written there; nothing for another one."""


class Reload:
    """The reloads of a service. `prepare` does beforehand what takes time, and fires with what is to be called behind that;
    `apply` has a configuration and the files that it names in force, and says what that did. `files` makes those of each
    reload.
    """

    def __init__(
        self,
        source: Source,
        prepare: Callable[[LoadBalancerConfig, Files], Deferred[Callable[[], None]]],
        apply: Callable[[LoadBalancerConfig, Files], PlanDiff],
        reactor: Any,
        files: Callable[[], Files] = Files,
    ) -> None:
        self._source: Final = source
        self._prepare: Final = prepare
        self._apply: Final = apply
        self._reactor: Final = reactor
        self._files: Final = files
        # How many there were; whether the last one changed nothing, since it could not.
        self.applied: int = 0
        self.refused: int = 0
        self.failing: bool = False
        self._running: Deferred[None] | None = None
        self._again: bool = False

    def ask(self) -> Deferred[None]:
        """Reload; while one is under way another one follows it. Fires when none is under way any more."""
        done: Deferred[None] = Deferred()
        if self._running is not None:
            self._again = True
            self._running.chainDeferred(done)
            return done
        self._running = Deferred()
        self._running.chainDeferred(done)
        self._run()
        return done

    @inlineCallbacks
    def _run(self) -> Any:
        while True:
            self._again = False
            try:
                yield self._once()
            except Exception:
                self._refused()
                _log.failure("reload: nothing was changed, because of a bug")
            if not self._again:
                break
        running, self._running = self._running, None
        assert running is not None
        running.callback(None)

    @inlineCallbacks
    def _once(self) -> Any:
        try:
            pool = self._reactor.getThreadPool()
            config = yield deferToThreadPool(self._reactor, pool, self._source.load)
            diff = yield self._in_force(config)
        except (ConfigError, StartError, ValueError) as error:
            for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
                _log.error("reload: {problem}", problem=problem)
            _log.error("reload: nothing was changed")
            self._refused()
            return
        self.applied += 1
        self.failing = False
        for line in diff.lines:
            _log.info("reload: {line}", line=line)

    def _refused(self) -> None:
        self.refused += 1
        self.failing = True

    @inlineCallbacks
    def _in_force(self, config: LoadBalancerConfig) -> Any:
        files = self._files()
        try:
            prepared = yield self._prepare(config, files)
            try:
                return self._apply(config, files)
            finally:
                prepared()
        except ConfigError as error:
            raise ConfigError(self._source.placed(config, error.problems)) from None
