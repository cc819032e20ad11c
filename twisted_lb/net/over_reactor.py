"""The runtime of a process: a Twisted reactor with our poller in it, real sockets and real time."""

import select
import time
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IReactorFDSet, IReactorPluggableNameResolver, IReactorTime, IReadDescriptor

from twisted_lb.net.clock import Clock, Later
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.names import Names
from twisted_lb.net.poller import EpollPoller, Poller
from twisted_lb.net.reactor_poller import ReactorPoller
from twisted_lb.net.runtime import Runtime


def runtime_of(reactor: Any, seed: int, lost: Callable[[], None]) -> Runtime:
    """A Runtime over this reactor; `lost` is called when nothing moves any more, and the process has to end."""
    time_: IReactorTime = reactor
    later: Later = time_.callLater
    clock = Clock(time_.seconds)
    poller = _poller(reactor, clock, later, lost)
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


def _poller(reactor: Any, clock: Clock, later: Later, lost: Callable[[], None]) -> Poller:
    fd_set: IReactorFDSet = reactor
    if not hasattr(select, "epoll"):
        return ReactorPoller(fd_set, clock, later)
    poller = EpollPoller(clock, later, lost)
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
