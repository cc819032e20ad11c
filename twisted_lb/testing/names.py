"""A dial to the network in memory that goes by names: it tries a name's addresses in turn."""

from typing import Final

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.connect_errors import together
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.dialer import Attempt, Failed, unresolved
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.names import Names, SocketAddress
from twisted_lb.testing.network import MemoryNetwork


class NamedDial:
    """A Dial to a network in memory by names, as a Dialer is to the real one: all addresses of a name within one attempt, the
    one in force first.
    """

    def __init__(self, network: MemoryNetwork, names: Names) -> None:
        self.network: Final = network
        self.names: Final = names

    def dial(
        self, address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed, port: int = 0
    ) -> Attempt:
        """See Dial."""
        if isinstance(address, TcpAddress) and address.host in self.network.resolver.table:
            return _Dialling(self, address, protocol, timeout_s, failed, port)
        return self.network.dial(address, protocol, timeout_s, failed, port)


class _Dialling:
    """One connect: the addresses in turn."""

    def __init__(
        self,
        dial: NamedDial,
        address: TcpAddress,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int,
    ) -> None:
        self._dial: Final = dial
        self._address: Final = address
        self._protocol: Final = protocol
        self._failed: Final = failed
        self._port: Final = port
        self._clock: Final = dial.network.clock
        self._ends_at: Final = self._clock.seconds() + timeout_s
        self._left: list[SocketAddress] = []
        self._outcomes: list[Outcome] = []
        self._trying: Attempt | None = None
        self._begun = False
        self._asked_in_vain = self._clock.callLater(timeout_s, self._no_answer)
        # Nothing is told before `dial` returns.
        self._soon = self._clock.callLater(0, dial.names.find, address, self._found)

    def _found(self, addresses: list[SocketAddress]) -> None:
        if not self._asked_in_vain.active():
            return
        self._asked_in_vain.cancel()
        self._left = list(addresses)
        if addresses:
            self._next()
        else:
            self._failed(Outcome.REFUSED, unresolved(self._address))

    def _no_answer(self) -> None:
        self._dial.names.leave(self._address, self._found)
        self._failed(Outcome.CONNECT_TIMEOUT, "the name server did not answer in time")

    def _next(self) -> None:
        where = self._left[0]
        share_s = max(self._ends_at - self._clock.seconds(), 0.0) / len(self._left)
        place = TcpAddress(where[1][0], self._address.port)
        attempt = self._dial.network.dial(place, self._protocol, share_s, self._told, self._port)
        if not self._port:
            attempt.connected = lambda: self._dial.names.worked(self._address, where)
        self._trying = attempt

    def _told(self, outcome: Outcome, detail: str) -> None:
        self._outcomes.append(outcome)
        del self._left[0]
        if self._left and outcome is not Outcome.LOCAL_FAILURE:
            self._next()
            return
        if not self._port:
            self._dial.names.failed(self._address)
        self._failed(outcome if outcome is Outcome.LOCAL_FAILURE else together(self._outcomes), detail)

    def cancel(self) -> None:
        """See Attempt."""
        for call in (self._asked_in_vain, self._soon):
            if call.active():
                call.cancel()
        if self._trying is not None:
            self._trying.cancel()
        else:
            self._dial.names.leave(self._address, self._found)
