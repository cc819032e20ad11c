"""Following a list: look again and again, hand on what is new and credible, keep what there was when a look fails."""

from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.caution import Caution
from twisted_lb.discovery.provider import ListRules, Means, NoList, State, Update

# No look takes longer than this.
LOOK_S: Final = 10.0
# While no list is known at all, looks are at most so far apart.
FIRST_S: Final = 5.0
# Jitter: all balancers of a site would ask at once (thundering herd).
JITTER: Final = 0.10

_log = Logger()


class Source(Protocol):
    """Where a list is, and how to look at it."""

    @property
    def where(self) -> str:
        """What logs call it."""

    @property
    def pause_s(self) -> float:
        """Seconds to the next look, asked for after each one."""

    def look(self) -> Deferred[list[BackendSpec] | None]:
        """Look once: the list, or None for the one of the last look that brought one. It fails with NoList, and can be
        cancelled; one look at a time.
        """

    def close(self) -> None:
        """Let go of everything that the last look left behind."""


class Following:
    """A provider over a source. A list is a set: it is handed on sorted, and another order is no change."""

    def __init__(self, source: Source, rules: ListRules, means: Means) -> None:
        self._source: Final = source
        self._time: Final = means.time
        self._rng: Final = means.rng
        self._caution: Final = Caution(allow_empty=rules.allow_empty, max_shrink=rules.max_shrink)
        self._update: Update | None = None
        self._call: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        # The last list that was seen, and the one that was handed on.
        self._seen: list[BackendSpec] | None = None
        self._taken: list[BackendSpec] | None = None
        # Why the last look failed, empty when it did not.
        self._complaint = ""
        self._doubt = ""
        self._succeeded_at: float | None = None
        self._failed_at: float | None = None
        self._error = ""

    @property
    def state(self) -> State:
        """See Provider."""
        backends = None if self._taken is None else len(self._taken)
        return State(backends, self._succeeded_at, self._failed_at, self._error, self._doubt)

    def start(self, update: Update) -> None:
        """See Provider."""
        assert self._update is None, "started twice"
        self._update = update
        self._call = self._time.callLater(0, self._look)

    def stop(self) -> None:
        """See Provider."""
        self._update = None
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._looking is not None:
            self._looking.cancel()
        self._source.close()

    def _look(self) -> None:
        self._call = None
        looking = self._looking = Deferred.fromCoroutine(self._look_once())
        looking.addErrback(lambda failure: _log.failure("following {where} failed", failure, where=self._source.where))
        looking.addCallback(self._next)

    async def _look_once(self) -> None:
        try:
            self._saw(await self._in_time(maybeDeferred(self._source.look)))
        except NoList as error:
            self._failed(str(error))
        except CancelledError:
            pass  # we are stopped

    async def _in_time(self, look: Deferred[list[BackendSpec] | None]) -> list[BackendSpec] | None:
        late = self._time.callLater(LOOK_S, look.cancel)
        try:
            return await look
        except CancelledError:
            if self._update is None:
                raise
            raise NoList(f"no answer in {LOOK_S:g} s") from None
        except NoList:
            raise
        except Exception:
            _log.failure("a look at {where} blew up", where=self._source.where)
            raise NoList("the look itself failed") from None
        finally:
            if late.active():
                late.cancel()

    def _next(self, _: object) -> None:
        self._looking = None
        if self._update is None:
            return
        pause_s = self._source.pause_s if self._taken is not None else min(self._source.pause_s, FIRST_S)
        self._call = self._time.callLater(pause_s * self._rng.uniform(1 - JITTER, 1 + JITTER), self._look)

    # What was seen.

    def _saw(self, specs: list[BackendSpec] | None) -> None:
        if specs is not None:
            self._seen = sorted(specs, key=lambda spec: (spec.name, str(spec.address)))
        assert self._seen is not None, "nothing new, where nothing was"
        before = len(self._taken or ())
        if not self._caution.admits(before, len(self._seen)):
            self._doubted(before, len(self._seen))
        else:
            self._doubt = ""
            if self._seen != self._taken and not self._hand_on(self._seen):
                return
        self._succeeded_at = self._time.seconds()
        if self._complaint:
            self._complaint = ""
            _log.info("{where} is there again", where=self._source.where)

    def _doubted(self, before: int, now: int) -> None:
        doubt = f"{now} of {_backends(before)} left"
        if doubt != self._doubt:
            self._doubt = doubt
            _log.warn(
                "{where}: {doubt}; all stay until another look says so too", where=self._source.where, doubt=doubt
            )

    def _hand_on(self, specs: list[BackendSpec]) -> bool:
        """Tell who takes them; False if they were refused."""
        if self._update is None:
            return False
        try:
            self._update(list(specs))
        except ValueError as error:
            self._failed(f"refused: {error}")
            return False
        except Exception:
            _log.failure("the backends of {where} were not taken", where=self._source.where)
            self._failed("not taken")
            return False
        old, new = set(self._taken or ()), set(specs)
        _log.info(
            "{where}: {backends}, {new} new or changed, {gone} gone",
            where=self._source.where,
            backends=_backends(len(new)),
            new=len(new - old),
            gone=len({spec.name for spec in old} - {spec.name for spec in new}),
        )
        self._taken = specs
        return True

    def _failed(self, reason: str) -> None:
        """Keep what there was; each reason is said when it begins."""
        self._failed_at = self._time.seconds()
        self._error = reason
        if reason == self._complaint:
            return
        self._complaint = reason
        kept = "no list is known yet" if self._taken is None else f"what is known stays: {_backends(len(self._taken))}"
        _log.warn("{where}: {reason}; {kept}", where=self._source.where, reason=reason, kept=kept)

    def __repr__(self) -> str:
        known = "no list yet" if self._taken is None else _backends(len(self._taken))
        return f"<Following {self._source.where}: {', '.join(filter(None, [known, self._doubt, self._complaint]))}>"


def _backends(number: int) -> str:
    return f"{number} backend{'' if number == 1 else 's'}"
