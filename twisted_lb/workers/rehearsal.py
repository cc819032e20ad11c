"""The rehearsal of a worker: it imports what workers import, takes a plan from standard input, and ends: see `service.rehearsal`."""

import sys

from twisted_lb.core.events import Event
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.over_reactor import make_monotonic, runtime_of
from twisted_lb.workers import worker
from twisted_lb.workers.codec import Decoder


def rehearse(data: bytes) -> None:
    """Take a plan, without sockets, and let go of it: raises what is wrong."""
    from twisted.internet import reactor

    make_monotonic(reactor)
    events: list[Event] = []
    runtime = runtime_of(reactor, 0, lambda: None, whole_process=True)
    DataPlane(runtime, Decoder().decode(data), {}, hear=events.append).close()


if __name__ == "__main__":
    assert worker  # with all that it imports
    rehearse(sys.stdin.buffer.read())
