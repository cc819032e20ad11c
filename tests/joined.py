"""Two connections joined by a relay, over real transports: a client and a backend in the hands of a test."""

from pathlib import Path

from wires import stream_pair
from world import Peer, World

from twisted_lb.core.outcome import Outcome
from twisted_lb.net.pipes import Pipes
from twisted_lb.net.relay import Leg, Relay
from twisted_lb.net.transport import Transport

IDLE_S = 10.0
HALF_OPEN_S = 4.0


class Owner:
    """Whoever joined two connections: notes what it is told, and what becomes of its legs, in one list."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.cut = ""

    def relay_ended(self, outcome: Outcome, cut: str) -> None:
        self.told.append("over" if outcome is Outcome.OK else f"over, {outcome.name}")
        self.cut = cut

    @property
    def over(self) -> int:
        return sum(one.startswith("over") for one in self.told)

    def leg(self, name: str, transport, held: bytes = b"", *, ended: bool = False) -> Leg:
        def close() -> None:
            self.told.append(f"{name} closed")
            transport.loseConnection()

        return Leg(transport, held, lambda reason: self.told.append(f"{name} lost"), close, ended=ended)


class Unused:
    """The protocol of a connection before it is given away; the producer of the client's."""

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self.transport = None

    def makeConnection(self, transport):
        self.transport = transport
        transport.registerProducer(self, True)

    def pauseProducing(self):
        if self.relay is not None:
            self.relay.client_full()

    def resumeProducing(self):
        if self.relay is not None:
            self.relay.client_drained()

    def stopProducing(self):
        pass

    def dataReceived(self, data):
        raise AssertionError("it was given away")

    def connectionLost(self, reason):
        raise AssertionError("it was given away")


def open_descriptors() -> int:
    """How many the process has."""
    return len([*Path("/proc/self/fd").iterdir()])


class Joined(Owner):
    """A client and a backend, over real transports, and a relay between them."""

    def __init__(
        self,
        *,
        from_client: bytes = b"",
        from_backend: bytes = b"",
        client_ended: bool = False,
        most_pipes: int = 0,
        websocket: bool = False,
    ) -> None:
        super().__init__()
        self.world = World()
        self.pipes = Pipes(most_pipes)
        self.near: list[Transport] = []
        self.client, self.backend = self._connection(), self._connection()
        client, backend = self.near
        self.relay = client.protocol.relay = Relay(
            self,
            self.leg("client", client, from_client, ended=client_ended),
            self.leg("backend", backend, from_backend),
            idle_s=IDLE_S,
            half_open_s=HALF_OPEN_S,
            pipes=self.pipes,
            websocket=websocket,
            clock=self.world.runtime.clock,
            deadlines=self.world.deadlines,
        )

    def _connection(self) -> Peer:
        near, far = stream_pair()
        transport = Transport(self.world.poller, near)
        transport.open(Unused())
        self.near.append(transport)
        return Peer(self.world, far)

    def begin(self, *, client_full: bool = False) -> "Joined":
        self.world.runtime.clock.read()
        self.relay.begin(client_full=client_full)
        self.world.run()
        return self

    @property
    def held(self) -> int:
        return sum(transport.unsent for transport in self.near)

    def close(self) -> None:
        for peer in (self.client, self.backend):
            peer.sock.close()
        self.world.advance(1)
        assert self.over == 1
        assert self.pipes.in_use == 0
        self.pipes.close()
        assert (self.told.count("client lost"), self.told.count("backend lost")) == (1, 1)
        self.world.close()
