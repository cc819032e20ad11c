"""The runtime of a process: a Twisted reactor with our poller in it, real sockets and real time."""

import select
import time
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IReactorFDSet, IReactorPluggableNameResolver, IReactorTime, IReadDescriptor
from twisted.python.runtime import seconds as wall_seconds

from twisted_lb.core.share import ALONE, Share
from twisted_lb.net.alarm import ReactorAlarm, TimerAlarm
from twisted_lb.net.clock import Clock, Later
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.names import Names
from twisted_lb.net.poller import EpollPoller, Poller
from twisted_lb.net.reactor_poller import ReactorPoller
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.timers import Alarm, MonotonicTimers


def runtime_of(
    reactor: Any,
    seed: int,
    lost: Callable[[], None],
    *,
    whole_process: bool = False,
    share: Share = ALONE,
) -> Runtime:
    """A Runtime over this reactor; `lost` is called when nothing moves any more, and the process has to end. With
    `whole_process` the reactor is ours alone, and its own epoll is waited for in the poller's, if that is what it has.

    Durations are monotonic, whatever the reactor counts by; where there is no epoll it is the reactor that wakes us.
    """
    timers = MonotonicTimers()
    clock = Clock(timers.seconds)
    poller = _poller(reactor, clock, timers.callLater, lost, whole_process=whole_process)
    timers.wake_by(_alarm(reactor, poller, timers))
    deadlines = Deadlines(clock, timers.callLater)
    names = Names(cast(IReactorPluggableNameResolver, reactor).nameResolver, clock)
    return Runtime(
        clock=clock,
        wall=Clock(time.time),
        later=timers.callLater,
        soon=poller.soon,
        time=timers,
        dial=Dialer(poller, deadlines, names, timers.callLater),
        names=names,
        deadlines=deadlines,
        poller=poller,
        seed=seed,
        stopwatch=time.perf_counter,
        share=share,
    )


def _poller(reactor: Any, clock: Clock, later: Later, lost: Callable[[], None], *, whole_process: bool) -> Poller:
    fd_set: IReactorFDSet = reactor
    if not hasattr(select, "epoll"):
        return ReactorPoller(fd_set, clock, later)
    poller = EpollPoller(clock, later, lost)
    epoll = getattr(reactor, "_poller", None)
    # Where two balancers share the process, the second is a reader of the reactor that the first one leads.
    if whole_process and isinstance(epoll, select.epoll) and "doIteration" not in vars(reactor):
        poller.lead(epoll.fileno(), reactor.doIteration)
        reactor.doIteration = poller.iterate
    else:
        fd_set.addReader(cast(IReadDescriptor, poller))
    return poller


def _alarm(reactor: IReactorTime, poller: Poller, timers: MonotonicTimers) -> Alarm:
    if isinstance(poller, EpollPoller):
        return TimerAlarm(poller, timers.ring)
    return ReactorAlarm(reactor.callLater, timers.seconds, timers.ring)


def release(runtime: Runtime, reactor: Any) -> None:
    """Give the reactor back what is its own. Everything must be closed; what that has queued is delivered first."""
    poller = runtime.poller
    assert poller is not None
    # Twice: what the first round delivers may close more.
    poller.flush()
    poller.flush()
    runtime.deadlines.stop()
    timers: MonotonicTimers = runtime.time
    timers.stop()
    poller.flush()
    runtime.pipes.close()
    if isinstance(poller, EpollPoller):
        if poller.leads:
            del reactor.doIteration  # its class has its own
        else:
            reactor.removeReader(poller)
    poller.stop()


def make_monotonic(reactor: Any) -> bool:
    """Let a reactor that counts by the wall clock, as Twisted's do, count by the monotonic one: only where nobody else
    uses it. Calls that are to come are moved, and come as they would have. True if the reactor is changed.
    """
    if reactor.seconds is not wall_seconds:
        return False  # somebody has chosen a clock already
    difference = time.monotonic() - wall_seconds()
    for call in reactor.getDelayedCalls():
        call.time += difference
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic
    return True
