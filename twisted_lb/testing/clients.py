"""Scripted clients in memory: they say what a test says, and keep what they hear."""

from typing import Final

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from twisted_lb.core.address import Address
from twisted_lb.testing.network import MemoryNetwork
from twisted_lb.testing.transport import MemoryTransport


class ScriptedClient:
    """A client: a connection to an address, from `host`. ConnectionRefusedError when nobody listens there.

    `received` is everything heard; `take` gives it piece by piece. `ended`: the other side sent its FIN. `lost`: why
    the connection is gone, None while it stands.
    """

    def __init__(self, network: MemoryNetwork, address: Address | str, host: str = "127.0.0.1") -> None:
        self.received = b""
        self.ended = False
        self.lost: Failure | None = None
        self._taken = 0
        self.transport: Final[MemoryTransport] = network.connect(address, self, host)

    def send(self, data: bytes) -> "ScriptedClient":
        """Send bytes; they arrive when the clock turns."""
        self.transport.write(data)
        return self

    def take(self) -> bytes:
        """Take what was heard since the last time."""
        data = self.received[self._taken :]
        self._taken = len(self.received)
        return data

    def stop_reading(self) -> None:
        """Read no more (slow read): what is sent here fills the network, and then the sender's buffer."""
        self.transport.pauseProducing()

    def go_on_reading(self) -> None:
        """Read again after `stop_reading`."""
        self.transport.resumeProducing()

    def half_close(self) -> None:
        """Half-close: send a FIN, and listen on."""
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """Close in order; a reset for the other side if something of it is unread here."""
        self.transport.loseConnection()

    def reset(self) -> None:
        """Close at once, with a reset."""
        self.transport.abortConnection()

    @property
    def open(self) -> bool:
        """Whether this end is not closed."""
        return self.transport.connected

    @property
    def was_reset(self) -> bool:
        """Whether the connection was lost other than by an orderly close of one of the two."""
        return self.lost is not None and not self.lost.check(ConnectionDone)

    def makeConnection(self, transport: MemoryTransport) -> None:
        """See StreamProtocol."""

    def dataReceived(self, data: bytes) -> None:
        """See StreamProtocol."""
        self.received += data

    def readConnectionLost(self) -> None:
        """See StreamProtocol."""
        self.ended = True

    def connectionLost(self, reason: Failure) -> None:
        """See StreamProtocol."""
        self.lost = reason

    def __repr__(self) -> str:
        return f"<ScriptedClient {'open' if self.open else 'closed'}, {len(self.received)} bytes heard>"
