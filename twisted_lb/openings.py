"""Where a service listens: each address that is wanted gets its sockets, from whoever has them already or bound anew."""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Final

from twisted.logger import Logger

from twisted_lb.config import ListenConfig
from twisted_lb.errors import StartError, listen_error
from twisted_lb.net.sockets import Held, Predecessor, bind_tcp, inherited, listens, predecessor_at

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
    wanted: Mapping[str, ListenConfig],
    clients: str,
    *,
    takeover: str | None = None,
    environ: MutableMapping[str, str] | None = None,
) -> Openings:
    """Open what is wanted, by name. First come the sockets of a service manager (`environ`; its name `status` is the
    status listener, every other one is for `clients`), then those of a running instance at the path `takeover` that were
    wanted at the same address; the rest is bound. StartError names what cannot be had.
    """
    found: list[Held] = []
    held: list[Held] = []
    predecessor: Predecessor | None = None
    try:
        activated = [] if environ is None else _inherited(environ, clients)
        found += activated
        predecessor = None if takeover is None else _predecessor(takeover)
        old = [] if predecessor is None else predecessor.held
        found += old
        for name, listen in wanted.items():
            ours = _fitting(name, listen, activated) or _fitting(name, listen, old)
            if not ours:
                ours = [_bound(name, listen)]
                found += ours
            held += ours
    except BaseException:
        Openings(found, predecessor).close()
        raise
    for one in found:
        if one not in held:
            _log.warn(
                "a socket for {name} at {where} is not wanted", name=one.name, where=one.where or "a given address"
            )
            one.sock.close()
    return Openings(held, predecessor)


def _fitting(name: str, listen: ListenConfig, some: Iterable[Held]) -> list[Held]:
    return [one for one in some if one.name == name and one.where in ("", listen.where)]


def handed(takeover: str | None, environ: Mapping[str, str]) -> bool:
    """Whether sockets are going to come from somebody else, so that it says nothing if an address cannot be bound."""
    return environ.get("LISTEN_PID") == str(os.getpid()) or (takeover is not None and listens(takeover))


def _inherited(environ: MutableMapping[str, str], clients: str) -> list[Held]:
    try:
        found = inherited(environ, os.getpid())
    except ValueError as error:
        raise StartError(str(error)) from None
    return [one._replace(name=STATUS if one.name == STATUS else clients) for one in found]


def _predecessor(path: str) -> Predecessor | None:
    try:
        return predecessor_at(path)
    except ValueError as error:
        raise StartError(f"takeover {path}: {error}") from None


def _bound(name: str, listen: ListenConfig) -> Held:
    try:
        return Held(name, listen.where, bind_tcp(listen.interface, listen.port))
    except OSError as error:
        raise listen_error(listen.where, error) from None
