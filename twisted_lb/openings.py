"""Where a service listens: each address that is wanted gets its sockets, from whoever has them already or bound anew.

Sockets belong to addresses and not to names: another generation of the configuration keeps each that is wanted on, whatever
listener it is for by then.
"""

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Final

from twisted.logger import Logger

from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.errors import StartError, called, listen_error
from twisted_lb.net.sockets import (
    Held,
    Predecessor,
    allow,
    bind_tcp,
    bind_unix,
    inherited,
    inode_of,
    listens,
    predecessor_at,
    unlink_own,
)

# What sockets are for, beside the clients of a listener: they are called so when they are handed on.
STATUS: Final = "status"

# Where it listens, by what for.
Wanted = Mapping[str, Sequence[ListenAddress]]

_log = Logger()


class Openings:
    """The listening sockets of a service. `predecessor` is the running instance that some of them come from, and that
    accepts on them until it is relieved.
    """

    def __init__(
        self, held: Iterable[Held] = (), predecessor: Predecessor | None = None, wanted: Wanted | None = None
    ) -> None:
        self.held: list[Held] = list(held)
        self.predecessor: Final = predecessor
        self._addresses: dict[str, ListenAddress] = _by_place(wanted or {})
        # The files of unix sockets as they are while they are ours.
        self._inodes: dict[str, tuple[int, int] | None] = {}
        self._note_files()

    def of(self, name: str) -> list[Held]:
        """The sockets of this name."""
        return [one for one in self.held if one.name == name]

    def change(self, wanted: Wanted) -> "Change":
        """Bind what is wanted now and not open yet; nothing else is changed before `Change.commit`. StartError names what
        cannot be had, with nothing changed: an address that overlaps one which is open among it.
        """
        return Change(self, wanted)

    def keep(self, held: Sequence[Held], wanted: Wanted, *, files_stay: bool = False) -> None:
        """Have these sockets from now on, for what is wanted; files of the others go, if they are still ours, unless they are
        to stay, or the predecessor accepts there.
        """
        kept = {one.sock for one in held}
        files_stay = files_stay or not self._alone
        for one in self.held:
            if one.sock not in kept and not files_stay:
                self._unlink(one)
        self.held = list(held)
        self._addresses = _by_place(wanted)
        self._note_files()

    @property
    def _alone(self) -> bool:
        """Whether no predecessor accepts on any of them."""
        return self.predecessor is None or self.predecessor.relieved

    def _note_files(self) -> None:
        for one in self.held:
            path = self.address_of(one).path
            if path and path not in self._inodes:
                self._inodes[path] = inode_of(path)

    def _unlink(self, one: Held) -> None:
        path = self.address_of(one).path
        if path:
            unlink_own(path, self._inodes.pop(path, None))

    def address_of(self, one: Held) -> ListenAddress:
        """Where a socket was wanted; an address that is no place (port 0) where a service manager chose."""
        return self._addresses.get(one.where, _NOWHERE)

    def close(self, *, handed_on: bool = False) -> None:
        """Close all of them; files of unix sockets go. Harmless for those that their listeners have closed. `handed_on`:
        another process listens on them, so that files stay, as they do where the predecessor still does.
        """
        ours = not handed_on and self._alone
        if self.predecessor is not None:
            self.predecessor.close()
        for one in self.held:
            one.sock.close()
            if ours:
                self._unlink(one)


class Change:
    """Other sockets of a service, from their binding to `commit` or `undo`. `held` are those that it has then."""

    def __init__(self, openings: Openings, wanted: Wanted) -> None:
        self._openings: Final = openings
        self._wanted: Final = wanted
        self._bound: Final[list[Held]] = []
        self._modes: Final[list[tuple[ListenAddress, ListenAddress]]] = []  # before, and from now on
        try:
            self.held: Final = list(self._found())
            self._allow()
        except BaseException:
            self.undo()
            raise

    def of(self, name: str) -> list[Held]:
        """The sockets of this name."""
        return [one for one in self.held if one.name == name]

    def _found(self) -> Iterator[Held]:
        """The sockets that are wanted: first come those that are open, for the same name if possible."""
        # A service manager's stand for all addresses of their name.
        given = [one for one in self._openings.held if not one.where and one.name in self._wanted]
        yield from given
        places = [
            (name, address)
            for name, addresses in self._wanted.items()
            if not any(one.name == name for one in given)
            for address in addresses
        ]
        open_ = [one for one in self._openings.held if one.where]
        found: dict[int, Held] = {}
        for same_name in (True, False):
            for index, (name, address) in enumerate(places):
                one = next((o for o in open_ if o.where == address.where and (o.name == name or not same_name)), None)
                if one is not None and index not in found:
                    open_.remove(one)
                    found[index] = one._replace(name=name)
        for index, (name, address) in enumerate(places):
            if index in found:
                self._note_mode(found[index], address)
            else:
                found[index] = self._bind(name, address)
        yield from (found[index] for index in range(len(places)))

    def _note_mode(self, one: Held, address: ListenAddress) -> None:
        before = self._openings.address_of(one)
        if address.path and (before.mode, before.group) != (address.mode, address.group):
            self._modes.append((before, address))

    def _bind(self, name: str, address: ListenAddress) -> Held:
        for one in self._openings.held:
            if address.overlaps(self._openings.address_of(one)):
                raise StartError(
                    f"cannot listen on {address.where} while {one.where} is open: "
                    "take one away first, and add the other with the next reload"
                )
        one = _bound(name, address)
        self._bound.append(one)
        return one

    def _allow(self) -> None:
        done: list[ListenAddress] = []
        try:
            for before, address in self._modes:
                allow(address.path, address.mode, address.group)
                done.append(before)
        except (OSError, LookupError) as error:
            for before in done:
                with contextlib.suppress(OSError, LookupError):
                    allow(before.path, before.mode, before.group)
            raise listen_error(address.where, error) from None

    def commit(self, *, files_stay: bool = False) -> None:
        """Have these sockets from now on. Those that are not among them are their listeners' to close. `files_stay`: another
        process has them, and is going to accept there.
        """
        self._openings.keep(self.held, self._wanted, files_stay=files_stay)

    def commit_unused(self) -> None:
        """Have these sockets from now on, and close the others: no listener has them yet."""
        kept = {one.sock for one in self.held}
        others = [one for one in self._openings.held if one.sock not in kept]
        self.commit()
        for one in others:
            one.sock.close()

    def undo(self) -> None:
        """Leave everything as it was."""
        for one in self._bound:
            path = one.sock.getsockname() if one.sock.family == socket.AF_UNIX else ""
            one.sock.close()
            if path:
                unlink_own(path, inode_of(path))


_NOWHERE: Final = ListenAddress()


def _by_place(wanted: Wanted) -> dict[str, ListenAddress]:
    return {address.where: address for addresses in wanted.values() for address in addresses}


def openings(
    wanted: Wanted,
    *,
    takeover: str | None = None,
    environ: MutableMapping[str, str] | None = None,
    before: Sequence[Held] = (),
) -> Openings:
    """Open what is wanted, by name. First come the sockets of a service manager (`environ`; see `_assigned`), which stand for
    all addresses of their name, then those of a parent `before` this one, or that a running instance at the path `takeover` has, at the same
    address, whatever they are called; the rest is bound. StartError names what cannot be had.
    """
    found: list[Held] = list(before)
    held: list[Held] = []
    predecessor: Predecessor | None = None
    try:
        activated = [] if environ is None else _inherited(environ)
        found += activated
        predecessor = None if takeover is None else _predecessor(takeover)
        handed = [] if predecessor is None else predecessor.held
        found += handed
        theirs = [*before, *handed]
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
            if one in before and one.where.startswith("unix:"):
                path = one.where.removeprefix("unix:")
                unlink_own(path, inode_of(path))
    return Openings(held, predecessor, wanted)


def _assigned(activated: Iterable[Held], wanted: Wanted) -> Iterator[Held]:
    """Sockets of a service manager with the names of what they are for: those that they have there (FileDescriptorName=), or
    the name of the one listener, where there is one.
    """
    listeners = [name for name in wanted if name != STATUS]
    for one in activated:
        if one.name in wanted:
            yield one
        elif len(listeners) == 1 and one.name != STATUS:
            yield one._replace(name=listeners[0])


def put_back(environ: MutableMapping[str, str]) -> None:
    """Say of a service manager's sockets again what Twisted's parser of `systemd:` addresses has taken out of the environment, as
    it does when it is imported: with all plugins, say, where those are not in a cache.
    """
    parser = getattr(sys.modules.get("twisted.internet.endpoints"), "_SystemdParser", None)
    if parser is None or "LISTEN_FDNAMES" not in environ or "LISTEN_FDS" in environ:
        return
    count = len(parser._sddaemon.inheritedDescriptors())  # none where they were meant for another process
    if count:
        environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))


def handed(takeover: str | None, environ: MutableMapping[str, str]) -> bool:
    """Whether sockets are going to come from somebody else, so that it says nothing if an address cannot be bound."""
    put_back(environ)
    return environ.get("LISTEN_PID") == str(os.getpid()) or (takeover is not None and listens(takeover))


def _inherited(environ: MutableMapping[str, str]) -> list[Held]:
    put_back(environ)
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
        raise listen_error(called("" if name == STATUS else name, address.where), error) from None
