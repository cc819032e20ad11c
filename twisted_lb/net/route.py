"""A route: a rule that leads requests to a pool, with everything that holds for the exchanges it leads."""

from typing import Final

from twisted_lb.net.cluster import Cluster
from twisted_lb.net.local_reply import accept_of, local_reply, safe_id
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import RouteRules
from twisted_lb.wire.origin import Client, Origin
from twisted_lb.wire.request import RequestFields
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.rewrite import upstream_head, upstream_tail


# Not acyclic: a route leads to all there is, and a frontend keeps its last lead.
class Lead:
    """A lead of requests to a route: the protocols they may switch to (`upgrade`), and their upstream head. A pure
    function of header block, client and route, so that it may be kept for as long as these stay.
    """

    __slots__ = ("_tail", "client", "fields", "last_head", "last_lines", "route", "upgrade")

    def __init__(self, fields: RequestFields, client: Client, route: "Route", *, may_switch: bool) -> None:
        self.fields: Final = fields
        self.client: Final = client
        self.route: Final = route
        self.upgrade: Final = route.rules.allowed_upgrade(fields) if may_switch else b""
        self._tail: Final = upstream_tail(fields, client, route.rules.forwarding, self.upgrade)
        # The last upstream head, and the lines it was made of: those of the next request are mostly the same object.
        self.last_lines: bytes | None = None
        self.last_head: bytes = b""

    def upstream_head(self, lines: bytes) -> bytes:
        """The request head for a backend behind its first line, of a request with these lines."""
        if lines is not self.last_lines:
            self.last_lines = lines
            self.last_head = upstream_head(lines, self._tail)
        return self.last_head

    def client_name(self) -> str:
        """The address that the requests come from: that of the connection, or whom its trusted proxy names."""
        client, fields = self.client, self.fields
        if client.trusted and fields.claims is not None:
            return Origin(client, fields.host, fields.claims).address.decode("ascii")
        return client.address.decode("ascii")


class Route:
    """A route of one generation of the configuration. It never changes: a new generation has new ones, and an exchange
    keeps the one it was led by.
    """

    def __init__(self, name: str, rules: RouteRules, cluster: Cluster, runtime: Runtime) -> None:
        self.name: Final = name
        self.rules: Final = rules
        self.cluster: Final = cluster
        self._runtime: Final = runtime

    def takes(self, body_bytes: int) -> bool:
        """Whether a request body of this size, or larger, is still within the route's limit."""
        return self.rules.body_bytes < 0 or body_bytes <= self.rules.body_bytes

    def local_reply(self, status: int, lines: bytes, request_id: bytes) -> tuple[ResponseHead, bytes]:
        """Head and body of a local reply to a request with these field lines and this id."""
        return local_reply(
            status,
            safe_id(request_id) or self._runtime.new_id(),
            accept_of(lines),
            self.rules.pages.get(status),
            self.rules.retry_after_s if status == 503 else 0,
        )

    def __repr__(self) -> str:
        return f"<Route {self.name} to {self.cluster.name}>"
