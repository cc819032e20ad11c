"""Reloads: the configuration is read anew and applied, one reload after the other, or nothing is changed and the log says why."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from twisted_lb.admin.operator import Reloaded
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.origins import Origins
from twisted_lb.config.problems import Problem, in_order, report
from twisted_lb.errors import ConfigError, StartError
from twisted_lb.plan import Files
from twisted_lb.plan_diff import PlanDiff

_BUG: Final = "a bug: the log of the balancer says more"

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

    def origins(self, config: LoadBalancerConfig) -> Origins | None:
        """Where each value of a configuration comes from that was read there last; None for another one."""


class Reload:
    """The reloads of a service. `prepare` does beforehand what takes time, and fires with what is to be called behind that;
    `apply` has a configuration and the files that it names in force, and says what that did. `doubts` tells what is doubtful about
    one that a source has read. `files` makes those of each reload. `stays` tells what only another start has in force.
    """

    def __init__(
        self,
        source: Source,
        prepare: Callable[[LoadBalancerConfig, Files], Deferred[Callable[[], None]]],
        apply: "Callable[[LoadBalancerConfig, Files], PlanDiff | Deferred[PlanDiff]]",
        doubts: Callable[[LoadBalancerConfig, Source], Iterable[Problem]],
        reactor: Any,
        files: Callable[[], Files] = Files,
        stays: Callable[[LoadBalancerConfig], Iterable[str]] = lambda _: (),
    ) -> None:
        self._source: Final = source
        self._prepare: Final = prepare
        self._apply: Final = apply
        self._doubts: Final = doubts
        self._reactor: Final = reactor
        self._files: Final = files
        self._stays: Final = stays
        self._waiting: list[Deferred[Reloaded]] = []  # for the reload that is under way, and for one that follows it
        self._again: bool = False

    def ask(self) -> "Deferred[Reloaded]":
        """Reload; while one is under way another one follows it. Fires when none is under way any more, with what the last one
        did.
        """
        done: Deferred[Reloaded] = Deferred()
        self._again = bool(self._waiting)
        self._waiting.append(done)
        if not self._again:
            self._run()
        return done

    @inlineCallbacks
    def _run(self) -> Any:
        while True:
            self._again = False
            try:
                reloaded = yield self._once()
            except Exception:
                _log.failure("reload: nothing was changed, because of a bug")
                reloaded = _refused([_BUG])
            if not self._again:
                break
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(reloaded)

    @inlineCallbacks
    def _once(self) -> Any:
        try:
            config = yield self._read(self._source)
            diff = yield self._in_force(config)
        except (ConfigError, StartError, ValueError) as error:
            problems = error.problems if isinstance(error, ConfigError) else [str(error)]
            for problem in problems:
                _log.error("reload: {problem}", problem=problem)
            _log.error("reload: nothing was changed")
            return _refused(problems)
        for line in diff.lines:
            _log.info("reload: {line}", line=line)
        return Reloaded(
            applied=True, lines=diff.lines, changed=not diff.empty, warnings=self._warnings(config, self._source)
        )

    @inlineCallbacks
    def look(self, diff_of: Callable[[LoadBalancerConfig, Files], PlanDiff]) -> Any:
        """Read the configuration, and say what it would do (dry run): fires with a Reloaded. `diff_of` may raise ConfigError."""
        source = copy(self._source)  # what was read last is what reloads go by
        try:
            config = yield self._read(source)
            try:
                diff = diff_of(config, self._files())
            except ConfigError as error:
                raise ConfigError(source.placed(config, error.problems)) from None
        except (ConfigError, StartError, ValueError) as error:
            return _refused(error.problems if isinstance(error, ConfigError) else [str(error)])
        return Reloaded(
            applied=False, lines=diff.lines, changed=not diff.empty, warnings=self._warnings(config, source)
        )

    def _warnings(self, config: LoadBalancerConfig, source: Source) -> list[str]:
        return [*(str(one) for one in in_order(self._doubts(config, source))), *self._stays(config)]

    def _read(self, source: Source) -> "Deferred[LoadBalancerConfig]":
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), source.load)

    @inlineCallbacks
    def _in_force(self, config: LoadBalancerConfig) -> Any:
        files = self._files()
        try:
            prepared = yield self._prepare(config, files)
            try:
                diff = yield self._apply(config, files)
                return diff
            finally:
                prepared()
        except ConfigError as error:
            raise ConfigError(self._source.placed(config, error.problems)) from None


def _refused(problems: Sequence[Any]) -> Reloaded:
    """Nothing was done, because of these problems."""
    told = [
        {"place": str(one.place or ""), "text": str(one), "code": one.code}
        if isinstance(one, Problem)
        else {"place": "", "text": str(one), "code": ""}
        for one in problems
    ]
    known = [one for one in problems if isinstance(one, Problem)]
    text = report(known, "nothing was changed") if len(known) == len(problems) else ""
    return Reloaded(applied=False, problems=told, report=text)
