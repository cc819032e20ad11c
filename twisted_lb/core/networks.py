"""Networks (CIDR): whether an address lies in one of many, and how they are written, one by one or in a file."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

# The prefix length of IPv4 within IPv6 (RFC 4291 2.5.5.2).
_MAPPED_BITS: Final = 96
# At so many answers all are forgotten: whoever has thousands of addresses makes it read them anew, and no more.
_REMEMBERED: Final = 1024


def network_of(text: str) -> Network:
    """The network that a text means: an address (it alone) or `10.0.0.0/8`, `2001:db8::/32`, `10.0.0.0/255.0.0.0`.

    An IPv4-mapped IPv6 network is the IPv4 one. ValueError, in one line that has the text, for anything else.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        network = None
    if network is None:
        raise ValueError(f"{text!r} should be an address or a network, such as 10.0.0.0/8")
    if "%" in text:
        raise ValueError(f"{text!r} should be without a zone: what is written after % is different on every machine")
    if network.network_address != _address(text.partition("/")[0]):
        raise ValueError(f"{text!r} is an address with a prefix length; the network is {network}")
    return _plain(network)


def networks_in(text: str) -> list[Network]:
    """The networks that a file lists: one a line, `#` begins a comment, empty lines do not count.

    ValueError for the first line that is none, with its number: `line 3: '10.0.0.300' should be …`.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            found.append(network_of(word))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return found


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _plain(network: Network) -> Network:
    """The IPv4 network in the place of an IPv4-mapped one."""
    if isinstance(network, IPv4Network) or network.prefixlen < _MAPPED_BITS:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


class Networks:
    """A set of networks: `covers` says whether an address is in one of them. Immutable; made of texts or networks, and
    ValueError says which text is none.

    An address costs one look-up for each prefix length that occurs in its family, however many networks there are. Answers
    are remembered, at most 1,024.
    """

    __slots__ = ("_four", "_known", "_six", "networks")

    def __init__(self, networks: Iterable[str | Network] = ()) -> None:
        self.networks: Final[Sequence[Network]] = tuple(
            network_of(one) if isinstance(one, str) else _plain(one) for one in networks
        )
        self._four: Final = _by_length(self.networks, 32)
        self._six: Final = _by_length(self.networks, 128)
        self._known: Final[dict[str, bool]] = {}

    def covers(self, address: str) -> bool:
        """Whether an address is in one of the networks. An IPv4-mapped IPv6 address is the IPv4 one, and a zone (`%eth0`)
        does not count. Text that is no address, as the name of a unix socket, is never covered.
        """
        if not self.networks:
            return False
        known = self._known.get(address)
        if known is not None:
            return known
        answer = self._look(address)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[address] = answer
        return answer

    def _look(self, address: str) -> bool:
        ip = _address(address)
        if ip is None:
            return False
        if isinstance(ip, IPv6Address):
            mapped = ip.ipv4_mapped
            if mapped is None:
                return _within(self._six, int(ip))
            ip = mapped
        return _within(self._four, int(ip))

    def __repr__(self) -> str:
        return f"<Networks {len(self.networks)}>"


def _by_length(networks: Sequence[Network], bits: int) -> list[tuple[int, set[int]]]:
    """(bits that do not count, what the others may be) for each prefix length of the family whose addresses have so many
    bits; short prefixes, which cover most, first.
    """
    found: dict[int, set[int]] = {}
    for network in networks:
        if network.max_prefixlen == bits:
            shift = bits - network.prefixlen
            found.setdefault(shift, set()).add(int(network.network_address) >> shift)
    return sorted(found.items(), reverse=True)


def _within(lengths: list[tuple[int, set[int]]], number: int) -> bool:
    return any(number >> shift in prefixes for shift, prefixes in lengths)
