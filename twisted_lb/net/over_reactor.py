"""The runtime of a process: a Twisted reactor with our poller in it, real sockets and real time."""

import select
import time
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.internet.interfaces import IReactorFDSet, IReactorPluggableNameResolver, IReactorTime, IReadDescriptor

from twisted_lb.net.clock import Clock, Later
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.names import Names
from twisted_lb.net.poller import EpollPoller, Poller
from twisted_lb.net.reactor_poller import ReactorPoller
from twisted_lb.net.runtime import Runtime

# How long a process that only balances waits for the next events before the reactor has its turn. A turn costs some 8 us of
# Python, and the answer of a backend nearby is there after 50: with one connection that is a third of all there is to do.
_WAIT_S: Final = 0.001


def runtime_of(reactor: Any, seed: int, lost: Callable[[], None], *, whole_process: bool = False) -> Runtime:
    """A Runtime over this reactor; `lost` is called when nothing moves any more, and the process has to end. With
    `whole_process` the reactor has little else to do: its other events may wait for some milliseconds.
    """
    time_: IReactorTime = reactor
    later: Later = time_.callLater
    clock = Clock(time_.seconds)
    poller = _poller(reactor, clock, later, lost, _WAIT_S if whole_process else 0.0)
    deadlines = Deadlines(clock, later)
    names = Names(cast(IReactorPluggableNameResolver, reactor).nameResolver, clock)
    return Runtime(
        clock=clock,
        wall=Clock(time.time),
        later=later,
        soon=poller.soon,
        time=reactor,
        dial=Dialer(poller, deadlines, names),
        deadlines=deadlines,
        poller=poller,
        seed=seed,
    )


def _poller(reactor: Any, clock: Clock, later: Later, lost: Callable[[], None], wait_s: float) -> Poller:
    fd_set: IReactorFDSet = reactor
    if not hasattr(select, "epoll"):
        return ReactorPoller(fd_set, clock, later)
    poller = EpollPoller(clock, later, lost, wait_s=wait_s)
    fd_set.addReader(cast(IReadDescriptor, poller))
    return poller


def release(runtime: Runtime) -> None:
    """Give the reactor back what is its own. Everything must be closed; what that has queued is delivered first."""
    poller = runtime.poller
    assert poller is not None
    # Twice: what the first round delivers may close more.
    poller.flush()
    poller.flush()
    cast(IReactorFDSet, runtime.time).removeReader(cast(IReadDescriptor, poller))
    poller.stop()
    runtime.deadlines.stop()
