"""Loops: backends that are listeners of this balancer itself, so that a request comes back again and again."""

from collections.abc import Iterator
from typing import NamedTuple

from twisted_lb.config.base import DEFAULT, KeyPath
from twisted_lb.config.described import DescribedConfig
from twisted_lb.config.objects import Objects
from twisted_lb.core.address import Address, TcpAddress, same_place
from twisted_lb.core.listen_address import ListenAddress

_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
# What of this machine an address of all of them stands for.
_MEANT = {
    "": _LOOPBACK | {"0.0.0.0", "::"},
    "::": _LOOPBACK | {"0.0.0.0", "::"},
    "0.0.0.0": frozenset(("127.0.0.1", "0.0.0.0", "localhost")),
    "127.0.0.1": frozenset(("127.0.0.1", "localhost")),
    "::1": frozenset(("::1", "localhost")),
}


class Loop(NamedTuple):
    """A backend that is a listener: which, and where it stands. `sure`: what the listener gets goes there unless a route
    takes it elsewhere.
    """

    listener: str
    pool: str
    address: Address
    path: KeyPath
    sure: bool


def loops(config: DescribedConfig, objects: Objects) -> Iterator[Loop]:
    """All backends that are listeners."""
    for pool_name, pool in objects.pools.items():
        place = ("pools", pool_name) if pool_name in config.pools else ()
        for index, spec in enumerate(pool.backends):
            for name, listener in objects.listeners.items():
                if any(is_at(spec.address, one) for one in listener.addresses):
                    sure = (listener.default_pool or DEFAULT) == pool_name
                    yield Loop(name, pool_name, spec.address, (*place, "backends", index), sure)


def is_at(backend: Address, listen: ListenAddress) -> bool:
    """Whether a backend is at a place where we listen, as far as that can be said without a look-up."""
    place = same_place(backend)
    if not isinstance(place, TcpAddress):
        return bool(listen.path) and place.path == listen.path
    if listen.path or place.port != listen.port:
        return False
    return place.host in _MEANT.get(listen.interface, (listen.interface,))
