"""A poller that a test turns by hand, and a protocol that notes what it is told."""

import select

from wires import arrived
from world import FakeReactor, Time

from twisted_lb.net.clock import Clock
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.reactor_poller import ReactorPoller


class Loop:
    """A poller, turned by hand."""

    def __init__(self, kind: str) -> None:
        self.time = Time()
        self.lost = 0
        self.turns_with_events = 0
        clock = Clock(self.time.seconds)
        self.reactor = FakeReactor()
        if kind == "epoll":
            self.poller = EpollPoller(clock, self.time.callLater, self._lost)
        else:
            self.poller = ReactorPoller(self.reactor, clock, self.time.callLater)

    def _lost(self) -> None:
        self.lost += 1

    def turn(self) -> bool:
        ran = self.time.run_due()
        if isinstance(self.poller, EpollPoller):
            if select.select([self.poller.fileno()], [], [], 0)[0]:
                self.turns_with_events += 1
                self.poller.doRead()
                return True
        elif self.reactor.turn():
            self.turns_with_events += 1
            return True
        return ran or arrived()

    def run(self, most: int = 1000) -> None:
        for _ in range(most):
            if not self.turn():
                return
        raise AssertionError("it spins")


class Recorder:
    """A protocol that notes what it is told, in one list."""

    def __init__(self) -> None:
        self.told: list = []
        self.data = b""
        self.transport = None
        self.reason = None
        self.on_data = lambda data: None

    def makeConnection(self, transport):
        self.transport = transport
        self.told.append("made")

    def dataReceived(self, data):
        assert data
        self.data += data
        self.told.append("data")
        self.on_data(data)

    def readConnectionLost(self):
        self.told.append("fin")

    def connectionLost(self, reason):
        self.told.append("lost")
        self.reason = reason

    def pauseProducing(self):
        self.told.append("pause")

    def resumeProducing(self):
        self.told.append("resume")

    def stopProducing(self):
        pass
