"""The admin door at work: the sockets, the site on each of them, and who is let in where."""

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request

from twisted_lb.admin.api import Api
from twisted_lb.admin.chart_history import ChartHistory
from twisted_lb.admin.doors import PortDoor, UnixDoor
from twisted_lb.admin.feed import Feed
from twisted_lb.admin.operator import Operator
from twisted_lb.admin.scopes import Tokens, Visitor, user_at
from twisted_lb.admin.site import AdminSite, Admit, ApiResource, MetricsResource, admit_to
from twisted_lb.errors import StartError
from twisted_lb.net.listener import Listener
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.sockets import inode_of, unlink_own

_log = Logger()


@dataclass(frozen=True)
class Doors:
    """Where the admin door is. `path` empty: no socket; `explicit`: it was asked for. `interface` None: no port, of which `where`
    is how messages call it. `local`: only this machine reaches the port. `tokens` and `read_tokens` are texts by their names.
    """

    path: str = ""
    explicit: bool = False
    mode: int = 0o600
    group: str = ""
    interface: str | None = None
    port: int = 0
    where: str = ""
    local: bool = True
    hosts: frozenset[str] = frozenset()
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    read_tokens: Mapping[str, str] = field(default_factory=dict, repr=False)


class AdminDoor:
    """The admin door of a balancer. `bind`, while the process may; `begin`, when there is somebody to ask; `accept` once this
    instance is the one that clients come to; `close`. `owner`: the user that the process is going to be, if it is another one.
    `given`: sockets of a program before this one, as `sockets` has them.
    """

    def __init__(
        self,
        doors: Doors,
        reactor: Any,
        owner: int | None = None,
        given: Mapping[str, socket.socket] = MappingProxyType({}),
    ) -> None:
        self._doors: Final = doors
        self._reactor: Final = reactor
        self._given: Final = dict(given)
        path = doors.path
        self._unix: Final = (
            UnixDoor(
                path,
                doors.mode,
                doors.group,
                explicit=doors.explicit,
                owner=owner,
                given=self._given.pop(f"unix:{path}", None),
            )
            if path
            else None
        )
        self._port: PortDoor | None = None
        self._listeners: Final[list[Listener]] = []
        self._sites: Final[list[AdminSite]] = []
        self._apis: Final[list[ApiResource]] = []
        self._begun: Callable[[bool], None] | None = None
        self._history: ChartHistory | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is any."""
        return self._unix is not None or self._doors.interface is not None

    @property
    def places(self) -> list[str]:
        """Where it is open."""
        return [one.address for one in self._listeners]

    @property
    def sockets(self) -> dict[str, int]:
        """The descriptors of the sockets, by their places."""
        found = {} if self._unix is None or self._unix.sock is None else {f"unix:{self._unix.path}": self._unix.sock}
        if self._port is not None and self._port.sock is not None:
            found[self._port.where] = self._port.sock
        return {place: sock.fileno() for place, sock in found.items()}

    def bind(self) -> None:
        """Listen on the unix socket, unless another instance does, that this one is about to relieve. StartError: see UnixDoor."""
        if self._unix is not None:
            self._unix.open()

    def begin(
        self, operator: Operator, runtime: Runtime, page: Callable[[Feed, Admit], Resource] | None = None
    ) -> None:
        """There is an operator to speak to; `page` makes what is at `/` and beside the API."""
        poller = runtime.poller
        assert poller is not None
        doors = self._doors

        history = self._history = ChartHistory(operator, runtime.time, time.time)
        history.begin()
        feed = Feed(operator, history, runtime.time)

        def serve(sock: Any, root: Resource) -> None:
            site = AdminSite(root, self._reactor)
            listener = Listener(poller, sock, lambda: site.factory.buildProtocol(None), runtime.later)
            self._sites.append(site)
            self._listeners.append(listener)
            listener.start()

        def api(admit: Admit) -> ApiResource:
            resource = ApiResource(Api(operator, runtime.time, history, feed), operator, admit, runtime.time, feed)
            self._apis.append(resource)
            return resource

        def root(admit: Admit) -> Root:
            return Root(
                api(admit), None if page is None else page(feed, admit), MetricsResource(operator, admit, runtime.time)
            )

        def opened(sock: Any) -> None:
            tokens = Tokens(doors.tokens, doors.read_tokens, local=doors.local)
            serve(sock, root(admit_to(lambda request: _by_token(tokens, request), doors.hosts)))
            _log.info("admin page on http://{address}/", address=self._listeners[-1].address)
            if tokens.made:
                _log.info("admin: to change something there, the token of this start is {token}", token=tokens.made)

        def accept(instead: bool) -> None:
            unix = self._unix
            if unix is not None and self._opened(unix, instead=instead):
                serve(unix.sock, root(admit_to(_by_user, None)))
                _log.info("admin socket at {path}", path=unix.path)
            if doors.interface is not None:
                given = self._given.pop(doors.where, None)
                self._port = PortDoor(doors.interface, doors.port, doors.where, runtime.later, given)
                self._port.open(opened, instead=instead)
            for place, sock in self._given.items():  # places that are none any more
                sock.close()
                path = place.removeprefix("unix:")
                if path != place:
                    unlink_own(path, inode_of(path))

        self._begun = accept

    def accept(self, *, instead: bool = False) -> None:
        """Take visitors in; `instead` of another instance, which leaves now. Harmless when it does."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            begun(instead)

    def _opened(self, unix: UnixDoor, *, instead: bool) -> bool:
        """Whether the unix socket is open. Who takes over is past the point where a start may fail: an error in the log then."""
        try:
            return unix.open(instead=instead)
        except StartError as error:
            if not instead:
                raise
            _log.error("{error}", error=error)
            return False

    def leave(self) -> None:
        """Take nobody in any more: another instance does."""
        self._stop()
        for site in self._sites:
            site.leave()

    def close(self) -> None:
        """Close everything."""
        self._stop()
        for site in self._sites:
            site.close()
        self._sites.clear()

    def _stop(self) -> None:
        self._begun = None
        if self._history is not None:
            self._history.end()
            self._history = None
        for api in self._apis:
            api.close()
        for listener in self._listeners:
            listener.stop()
        self._apis.clear()
        self._listeners.clear()
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._unix is not None:
            self._unix.close()


class Root(Resource):
    """What is at the door: whatever the page has, `/metrics`, and beside it the API, which also says what is not there."""

    def __init__(self, api: Resource, page: Resource | None, metrics: Resource | None = None) -> None:
        super().__init__()
        self._api: Final = api
        self._page: Final = page
        self._metrics: Final = metrics

    def getChild(self, path: bytes, request: Request) -> Resource:
        """See IResource."""
        if path == b"metrics" and not request.postpath and self._metrics is not None:
            return self._metrics
        if self._page is None or request.postpath:
            return self._api
        found: Resource = self._page.children.get(path, self._api)
        return found


def _by_user(request: Request) -> Visitor:
    """Whoever may write to the socket's file may change things."""
    transport: Any = request.transport
    while not hasattr(transport, "getHandle") and getattr(transport, "transport", None) is not None:
        transport = transport.transport
    return user_at(transport.getHandle())


def _by_token(tokens: Tokens, request: Request) -> Visitor:
    field_ = request.getHeader(b"authorization")
    address = getattr(request.getClientAddress(), "host", "") or "?"
    return tokens.visitor(None if field_ is None else field_.decode("latin-1"), address)
