"""Where a service listens: each address that is wanted gets its sockets, from whoever has them already or bound anew."""

import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Final

from twisted.logger import Logger

from twisted_lb.config.addresses import ListenAddress
from twisted_lb.errors import StartError, listen_error
from twisted_lb.net.sockets import Held, Predecessor, bind_tcp, bind_unix, inherited, listens, predecessor_at

# What sockets are for, beside the clients of a listener: they are called so when they are handed on.
STATUS: Final = "status"

_log = Logger()


class Openings:
    """The listening sockets of a service. `predecessor` is the running instance that some of them come from, and that
    accepts on them until it is relieved.
    """

    def __init__(self, held: Iterable[Held] = (), predecessor: Predecessor | None = None) -> None:
        self.held: Final = list(held)
        self.predecessor: Final = predecessor

    def of(self, name: str) -> list[Held]:
        """The sockets of this name."""
        return [one for one in self.held if one.name == name]

    def close(self) -> None:
        """Close all of them. Harmless for those that their listeners have closed."""
        if self.predecessor is not None:
            self.predecessor.close()
        for one in self.held:
            one.sock.close()


def openings(
    wanted: Mapping[str, Sequence[ListenAddress]],
    *,
    takeover: str | None = None,
    environ: MutableMapping[str, str] | None = None,
) -> Openings:
    """Open what is wanted, by name. First come the sockets of a service manager (`environ`; see `_assigned`), which stand for
    all addresses of their name, then those that a running instance at the path `takeover` has at the same address, whatever
    it calls them; the rest is bound. StartError names what cannot be had.
    """
    found: list[Held] = []
    held: list[Held] = []
    predecessor: Predecessor | None = None
    try:
        activated = [] if environ is None else _inherited(environ)
        found += activated
        predecessor = None if takeover is None else _predecessor(takeover)
        theirs = [] if predecessor is None else predecessor.held
        found += theirs
        old = {one.where: one for one in theirs if one.where}
        given = list(_assigned(activated, wanted))
        # What a running instance has of a service manager goes by its name too.
        handed_on = list(_assigned((one for one in theirs if not one.where), wanted))
        for name, addresses in wanted.items():
            ours = [one for one in given if one.name == name] or [one for one in handed_on if one.name == name]
            for address in () if ours else addresses:
                one = old.pop(address.where, None)
                if one is None:
                    one = _bound(name, address)
                    found.append(one)
                ours.append(one._replace(name=name))
            held += ours
    except BaseException:
        Openings(found, predecessor).close()
        raise
    kept = {one.sock for one in held}
    for one in found:
        if one.sock not in kept:
            _log.warn(
                "a socket for {name} at {where} is not wanted", name=one.name, where=one.where or "a given address"
            )
            one.sock.close()
    return Openings(held, predecessor)


def _assigned(activated: Iterable[Held], wanted: Mapping[str, Sequence[ListenAddress]]) -> Iterator[Held]:
    """Sockets of a service manager with the names of what they are for: those that they have there (FileDescriptorName=), or
    the name of the one listener, where there is one.
    """
    listeners = [name for name in wanted if name != STATUS]
    for one in activated:
        if one.name in wanted:
            yield one
        elif len(listeners) == 1 and one.name != STATUS:
            yield one._replace(name=listeners[0])


def handed(takeover: str | None, environ: Mapping[str, str]) -> bool:
    """Whether sockets are going to come from somebody else, so that it says nothing if an address cannot be bound."""
    return environ.get("LISTEN_PID") == str(os.getpid()) or (takeover is not None and listens(takeover))


def _inherited(environ: MutableMapping[str, str]) -> list[Held]:
    try:
        return inherited(environ, os.getpid())
    except ValueError as error:
        raise StartError(str(error)) from None


def _predecessor(path: str) -> Predecessor | None:
    try:
        return predecessor_at(path)
    except ValueError as error:
        raise StartError(f"takeover {path}: {error}") from None


def _bound(name: str, address: ListenAddress) -> Held:
    try:
        if address.path:
            return Held(name, address.where, bind_unix(address.path, address.mode, address.group))
        return Held(name, address.where, bind_tcp(address.interface, address.port))
    except (OSError, LookupError) as error:
        raise listen_error(address.where, error) from None
