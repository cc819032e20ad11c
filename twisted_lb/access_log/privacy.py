"""Privacy: what is left out of each line, where the configuration says so."""

from ipaddress import IPv4Address, ip_address
from typing import Final

# Bits of an address that name a network, and not somebody in it.
_BITS_4: Final = 24
_BITS_6: Final = 48
# So many addresses are remembered with what became of them.
_MOST: Final = 4096


class Privacy:
    """What may be said of requests: targets with their `query` or without, whole addresses or just their `network`."""

    def __init__(self, *, query: bool, network: bool) -> None:
        self.query: Final = query
        self._network: Final = network
        self._known: Final[dict[str, str]] = {}

    def uri(self, uri: bytes) -> bytes:
        """A target, or a referrer, as it may be said."""
        return uri if self.query else uri.partition(b"?")[0]

    def address(self, address: str) -> str:
        """The address of a client as it may be said. What is no IP address stays what it is."""
        if not self._network:
            return address
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[address] = _network_of(address)
        return known


def _network_of(address: str) -> str:
    """The address with zeros behind its network: /24 of IPv4, /48 of IPv6."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        return f"::ffff:{_network_of(str(mapped))}"
    away = ip.max_prefixlen - (_BITS_4 if isinstance(ip, IPv4Address) else _BITS_6)
    return str(type(ip)(int(ip) >> away << away))
