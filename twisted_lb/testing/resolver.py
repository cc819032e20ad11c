"""Host names in memory: a resolver whose answers the test changes."""

from collections.abc import Sequence
from typing import Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IReactorTime, IResolutionReceiver
from zope.interface import implementer


@implementer(IHostResolution)
class _Resolution:
    """One look-up, which cannot be cancelled."""

    def __init__(self, name: str) -> None:
        self.name: Final = name

    def cancel(self) -> None:
        """See Twisted's interface."""


@implementer(IHostnameResolver)
class MemoryResolver:
    """A resolver that answers from `table`, at once or after `delay_s`; `asked` is what was looked up, in order. A name that
    is not in the table is its own address.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.table: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.delay_s = 0.0
        self._clock: Final = clock

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See Twisted's interface."""
        self.asked.append(hostName)
        if self.delay_s and hostName in self.table:
            self._clock.callLater(self.delay_s, self._answer, resolutionReceiver, hostName, portNumber)
        else:
            self._answer(resolutionReceiver, hostName, portNumber)
        return _Resolution(hostName)

    def _answer(self, receiver: IResolutionReceiver, name: str, port: int) -> None:
        receiver.resolutionBegan(_Resolution(name))
        for host in self.table.get(name, [name]):
            receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, port))
        receiver.resolutionComplete()
