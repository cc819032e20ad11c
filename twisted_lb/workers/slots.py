"""Slots: the places of workers, each with listening sockets of its own (SO_REUSEPORT), which the parent keeps open."""

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from twisted.logger import Logger

from twisted_lb.net.listener import address_of

# Sockets by their numbers, by listener.
Numbers = dict[str, list[int]]

_log = Logger(namespace="twisted_lb.workers")


class Slots:
    """The sockets of so many slots: each listening socket has a clone for each slot. Workers are told of them by numbers."""

    def __init__(self, count: int) -> None:
        self.count: Final = count
        self._by_slot: Final[list[Numbers]] = [{} for _ in range(count)]
        self._sockets: Final[dict[int, socket.socket]] = {}
        self._clones: dict[socket.socket, list[int]] = {}  # numbers
        self._next: int = 0

    def begin(self, clones: Mapping[socket.socket, Sequence[socket.socket]]) -> None:
        """Have these clones of sockets, which are to be opened."""
        self._clones = {sock: [self._number(one) for one in those] for sock, those in clones.items()}

    def open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Have sockets like these, by listener, for each slot; those of before stay, and what is not wanted any more is closed."""
        clones: dict[socket.socket, list[int]] = {}
        by_slot: list[Numbers] = [{name: [] for name in sockets} for _ in range(self.count)]
        for name, those in sockets.items():
            for sock in those:
                # As many as slots, or more where there were more slots once.
                numbers = self._clones.get(sock) or [self._number(one) for one in clones_of(sock, self.count)]
                clones[sock] = numbers
                for place, number in enumerate(dict.fromkeys(numbers)):
                    by_slot[place % self.count][name].append(number)
                for own in by_slot[len(set(numbers)) :]:
                    own[name].append(numbers[0])  # shared, where there are not enough
        for sock, numbers in self._clones.items():
            if sock not in clones:
                for number in set(numbers):
                    self._sockets.pop(number).close()
        self._clones = clones
        self._by_slot[:] = by_slot

    def _number(self, sock: socket.socket) -> int:
        for number, known in self._sockets.items():
            if known is sock:
                return number
        self._next += 1
        self._sockets[self._next] = sock
        return self._next

    def of(self, slot: int) -> Numbers:
        """The sockets of a slot."""
        return self._by_slot[slot]

    def numbered(self, number: int) -> socket.socket:
        """The socket of this number."""
        return self._sockets[number]

    def clones(self) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
        """Each listening socket with all of its clones, itself among them."""
        for sock, numbers in self._clones.items():
            yield sock, [self._sockets[number] for number in dict.fromkeys(numbers)]

    def close(self) -> None:
        """Close all of them: else they are queued whom nobody accepts any more."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()


def all_of(numbers: Numbers) -> set[int]:
    """The numbers of all listeners."""
    return {number for those in numbers.values() for number in those}


def with_those_of(own: Numbers, others: Iterable[Numbers]) -> Numbers:
    """One's own sockets, and those of others, each once."""
    found = {name: list(numbers) for name, numbers in own.items()}
    for sockets in others:
        for name, numbers in sockets.items():
            found[name] += [number for number in numbers if number not in found[name]]
    return found


def clones_of(sock: socket.socket, count: int, known: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """A listening socket and others at the same address, one for each slot (SO_REUSEPORT), those that are `known` and new ones: the kernel
    spreads connections over those that listen. A unix socket is shared by all; so is one where the kernel allows no other: whose port or user is not ours, as with a service
    manager's.
    """
    if sock.family == socket.AF_UNIX:
        return [sock] * count
    clones = list(known) or [sock]
    before = len(clones)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(count - before):
            clone = socket.socket(sock.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            clones.append(clone)
            clone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            clone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                dual = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                clone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, dual)
            clone.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clone.bind(sock.getsockname())
    except OSError as error:
        for clone in clones[before:]:
            clone.close()
        _log.warn(
            "workers share the sockets at {address}: {error}",
            address=address_of(sock),
            error=error.strerror or error,
        )
        return clones[:before] + [sock] * (count - before)
    return clones
