"""Addresses that were reached: which socket addresses a connect ever led to, within a bound."""

from typing import Final

from twisted_lb.net.names import SocketAddress

# 4,096 addresses, about 1 MB: more than a process has backends. Which of them are forgotten is said at `Reached.add`.
_MOST: Final = 4096


class Reached:
    """The socket addresses that a connect succeeded to since the process began. Its owner is the dialer."""

    def __init__(self, most: int = _MOST) -> None:
        self._most: Final = most
        self._addresses: dict[SocketAddress, None] = {}  # an ordered set, the one reached last at its end

    def add(self, address: SocketAddress) -> None:
        """A connect succeeded; beyond the bound, the address that was reached longest ago is forgotten."""
        addresses = self._addresses
        addresses.pop(address, None)
        addresses[address] = None
        if len(addresses) > self._most:
            del addresses[next(iter(addresses))]

    def __contains__(self, address: SocketAddress) -> bool:
        return address in self._addresses

    def __repr__(self) -> str:
        return f"<Reached {len(self._addresses)} addresses>"
