"""Upgrades: the process becomes another program, or the same one anew, while its workers go on.

First the new program rehearses as a child: it reads its configuration, binds what is new, and has a worker take the plan. If that fails
nothing has changed. Then this process executes it (`execve`): same number, same sockets, same table.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.admin.operator import Refused
from twisted_lb.respawn import HANDOVER, REHEARSES, Respawn
from twisted_lb.service.last_words import gist
from twisted_lb.workers.handover import Handover

# Signals that would end the new program before it hears them.
HELD: Final = frozenset((signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGTERM, signal.SIGINT))
# A rehearsal has so long, in seconds.
_REHEARSAL_S: Final = 60.0
# For answers that are on their way, in seconds.
_BEFORE_S: Final = 0.1
_MOST_TEXT: Final = 20_000

_log: Final = Logger(namespace="twisted_lb.service")


class Rehearsing(ProcessProtocol):
    """The new program as a child. `done` fires with its status and what it has said."""

    def __init__(self) -> None:
        self.done: Final[Deferred[tuple[int, str]]] = Deferred()
        self._said: bytes = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It says something."""
        self._said = (self._said + data)[-_MOST_TEXT:]

    def processEnded(self, reason: Failure) -> None:
        """It has ended."""
        value: Any = reason.value
        status = value.exitCode
        if status is None:
            status, self._said = 1, self._said + f"\nended by signal {value.signal}".encode()
        self.done.callback((status, self._said.decode("utf-8", "replace").strip()))


class Upgrade:
    """The upgrades of a balancer with workers. `handover` makes what is left to the next program, `why_not` says why there can be none
    now, in a word or with nothing, and `prepare` does what is to be done before the next program is there.
    """

    def __init__(
        self,
        reactor: Any,
        handover: Callable[[str], Handover],
        why_not: Callable[[], str],
        prepare: Callable[[], object],
    ) -> None:
        self._reactor: Final = reactor
        self._handover: Final = handover
        self._why_not: Final = why_not
        self._prepare: Final = prepare
        self._child: Any = None  # that rehearses
        self.under_way = False

    def begin(self, pid_file: str) -> "Deferred[None]":
        """Rehearse, and become the new program soon; fires before that, or is Refused with the reason and nothing changed."""
        why = "an upgrade is under way" if self.under_way else self._why_not()
        if why:
            return fail(Refused("busy", why))
        _log.info("upgrade: the new program rehearses")
        try:
            respawn = Respawn(sys.orig_argv)
        except ValueError as error:
            return fail(Refused("busy", f"this process cannot be started again: {error}"))
        why = respawn.obstacle()
        if why:
            return fail(Refused("bad_program", f"the new program cannot start: {why}"))
        self.under_way = True
        done = self._rehearsed(respawn, pid_file or respawn.pid_file)
        done.addCallbacks(lambda _: self._soon(respawn, pid_file or respawn.pid_file), self._give_up)
        return done

    def stop(self) -> None:
        """There is no next program: this one ends."""
        if self._child is not None:
            self._child.signalProcess("KILL")

    def _give_up(self, failure: Failure) -> Failure:
        self.under_way = False
        return failure

    def _rehearsed(self, respawn: Respawn, pid_file: str) -> "Deferred[None]":
        child = Rehearsing()
        handover = self._handover(pid_file)
        fd = handover.leave()
        try:
            process = self._child = self._reactor.spawnProcess(
                child,
                respawn.executable,
                respawn.words,
                env={**os.environ, HANDOVER: str(fd), REHEARSES: "1"},
                path=respawn.folder,
                childFDs={1: "r", 2: "r", **{one: one for one in (fd, *handover.descriptors())}},
            )
        except OSError as error:
            return fail(Refused("bad_program", f"{respawn.executable}: {error.strerror or error}"))
        finally:
            handover.keep(fd)
        timer = self._reactor.callLater(_REHEARSAL_S, process.signalProcess, "KILL")

        def ended(found: tuple[int, str]) -> None:
            self._child = None
            if timer.active():
                timer.cancel()
            status, said = found
            why = self._why_not()  # it has taken a while
            if why:
                raise Refused("busy", why)
            if status != 0:
                short = gist(said)
                if short != said:
                    _log.error("upgrade: the new program has said:\n{said}", said=said)
                raise Refused("bad_program", f"the new program cannot start: {short or f'status {status}'}")

        return child.done.addCallback(ended)

    def _soon(self, respawn: Respawn, pid_file: str) -> None:
        _log.info("upgrade: the new program has rehearsed, and takes the place of this one")
        self._reactor.callLater(_BEFORE_S, self._become, respawn, pid_file)

    def _become(self, respawn: Respawn, pid_file: str) -> None:
        """Become the new program. Returns only where that cannot be: then this one goes on."""
        why = self._why_not()
        if why:
            self._go_on(why)
            return
        self._prepare()
        handover = self._handover(pid_file)
        fd = handover.leave()
        here = os.getcwd()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        try:
            os.chdir(respawn.folder)
            os.execve(respawn.executable, respawn.words, _environment(fd))  # noqa: S606 (no shell is wanted)
        except OSError as error:
            os.chdir(here)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            handover.keep(fd)
            self._go_on(f"{respawn.executable}: {error.strerror or error}")

    def _go_on(self, why: str) -> None:
        self.under_way = False
        _log.error("upgrade: nothing was changed: {why}", why=why)


def _environment(fd: int) -> Mapping[str, str]:
    return {**os.environ, HANDOVER: str(fd)}
