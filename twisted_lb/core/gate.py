"""The gate: limits of client connections, in total and for each client."""

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heapreplace
from ipaddress import IPv6Address, ip_address
from typing import Final

from twisted_lb.core.share import ALONE, Share

# Bits of an IPv6 address that name a site (RFC 6177); the rest is the site's own to vary, one address a connection.
_SITE_BITS: Final = 64


# A connection that has been idle for so many seconds between requests makes room at the limit of connections.
SPARE_AFTER_S: Final = 1.0


def spare_first(connections: Sequence[tuple[str, float]], idle_before: float) -> list[int]:
    """Who makes room, by the index among these connections: those that are idle since `idle_before` or longer, in turns of
    the client that has most connections then, and of one client the one that is idle for longest.

    A connection is (key of its client, idle since when); in use it is idle since NEVER.
    """
    count: dict[str, int] = {}
    idle: dict[str, list[tuple[float, int]]] = {}
    for index, (key, since) in enumerate(connections):
        count[key] = count.get(key, 0) + 1
        if since <= idle_before:
            idle.setdefault(key, []).append((since, index))
    for ones in idle.values():
        ones.sort(reverse=True)
    # Of two that have as many, whose is idle for longest.
    turns = [(-count[key], ones[-1], key) for key, ones in idle.items()]
    heapify(turns)
    order: list[int] = []
    while turns:
        less, (_, index), key = turns[0]
        order.append(index)
        ones = idle[key]
        ones.pop()
        if ones:
            heapreplace(turns, (less + 1, ones[-1], key))
        else:
            heappop(turns)
    return order


def client_key(address: str) -> str:
    """The key by which an address is limited: itself on IPv4, its /64 on IPv6. Empty when it is no IP address."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if not isinstance(ip, IPv6Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{int(ip) >> _SITE_BITS:x}/{_SITE_BITS}"


_NO_LIMIT: Final = 1 << 62


class Gate:
    """Connection limits: counts the connections that are open. At `most` of them listeners stop accepting, and the
    kernel's accept queue holds the rest; `per_client` bounds those of one client, 0 for no limit.

    The table of clients holds those that are connected, so it is bounded by `most`. Both bounds may change: whoever is
    there stays. `entered` are all that came in since it is there. `arriving` are those of each client that have not come in
    yet, as many as it may have connections: else one that never comes in could hold all places.

    `share`: who is connected to other processes counts too, at the gate of the same `name`, for `per_client`, and for `most` where that
    is `together` theirs: without that it is of this process, of its descriptors. `open` are those of this process.
    """

    def __init__(
        self, most: int, per_client: int = 0, name: str = "", share: Share = ALONE, *, together: bool = False
    ) -> None:
        self.most: int = most
        self.per_client: int = per_client
        self.open: int = 0
        self.entered: int = 0
        self.arriving: Final = share.running(f"arriving at {name}", per_client or _NO_LIMIT)
        self._clients: Final = share.running(f"clients of {name}", per_client or _NO_LIMIT)
        self._waiting: list[Callable[[], None]] = []
        self._all_open: Final = share.amount(f"connections of {name}")
        self._all_waiting: Final = share.amount(f"waiting at {name}")
        self._on_their_way: Final = share.on_their_way
        self._together: bool = together and self._all_open is not None

    @property
    def turned_away(self) -> int:
        """How many connections, or requests of clients of a proxy, were beyond `per_client`."""
        return self._clients.refused

    @property
    def full(self) -> bool:
        """Whether listeners should accept no more connections for now."""
        return (self.held if self._together else self.open) >= self.most

    @property
    def held(self) -> int:
        """How many connections there are of those that `most` bounds."""
        all_open = self._all_open
        if all_open is None or not self._together:
            return self.open
        return self.open + all_open.elsewhere + self._on_their_way()

    @property
    def awaited_elsewhere(self) -> bool:
        """Whether another process waits for room, and there is none: whoever has a connection to spare should."""
        return self._all_waiting is not None and self._together and self._all_waiting.elsewhere > 0 and self.full

    def enter(self, client: str) -> bool:
        """Count a new connection of a client; False, and only `turned_away` counted, when it has `per_client` already.

        Only the limit per client refuses; the total is enforced by listeners, which stop accepting at `most`. An empty
        key is never limited.
        """
        if not self._clients.claim(client):
            return False
        self.open += 1
        self.entered += 1
        if self._all_open is not None:
            self._all_open.add(1)
        return True

    def arrive(self) -> None:
        """Count a connection whose client is not known yet; `depart` ends it, and `enter` follows where it is."""
        self.open += 1
        if self._all_open is not None:
            self._all_open.add(1)

    def depart(self) -> None:
        """Count the end of an arrival, once for each."""
        self.open -= 1
        if self._all_open is not None:
            self._all_open.add(-1)
        if self._waiting:
            self._go_on()

    def claim(self, client: str) -> bool:
        """Count a client of a trusted proxy while its request holds the proxy's connection; `release` ends it. False as
        of `enter`.
        """
        return self._clients.claim(client)

    def release(self, client: str) -> None:
        """Count the end of what `claim` granted to this client."""
        self._clients.release(client)

    def leave(self, client: str) -> None:
        """Count the end of a connection, once for each that entered; listeners that wait for room go on."""
        self._clients.release(client)
        self.open -= 1
        if self._all_open is not None:
            self._all_open.add(-1)
        if self._waiting:
            self._go_on()

    def configure(self, most: int, per_client: int, *, together: bool = False) -> None:
        """Have other bounds. Over a lower one nobody new comes until enough have left; clients that came while there was no
        bound for each are not counted.
        """
        self.most, self.per_client = most, per_client
        self._together = together and self._all_open is not None
        self._clients.most = self.arriving.most = per_client or _NO_LIMIT
        self._go_on()

    def _go_on(self) -> None:
        if not self.full:
            waiting = self._waiting
            self._waiting = []
            if self._all_waiting is not None:
                self._all_waiting.add(-len(waiting))
            for go_on in waiting:
                go_on()

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call `go_on`, once, when there is room for a connection again."""
        self._waiting.append(go_on)
        if self._all_waiting is not None:
            self._all_waiting.add(1)

    def look_elsewhere(self) -> None:
        """Other processes may have room made: listeners that wait for it go on."""
        if self._waiting:
            self._go_on()

    def __repr__(self) -> str:
        return f"<Gate {self.held} of {self.most} open, {len(self._clients)} clients>"
