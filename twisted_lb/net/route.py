"""A route: a rule that leads requests to a pool, with everything that holds for the exchanges it leads."""

from typing import Final

from twisted_lb.net.cluster import Cluster
from twisted_lb.net.local_reply import accept_of, local_reply, safe_id
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import RouteRules
from twisted_lb.wire.request import RequestFields
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.rewrite import Client, upstream_tail


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

    def upgrade_of(self, fields: RequestFields) -> bytes:
        """The protocols that a request may switch to here, out of those it offers."""
        return self.rules.allowed_upgrade(fields)

    def upstream_tail(self, fields: RequestFields, client: Client, upgrade: bytes = b"") -> bytes:
        """What a backend is told behind the client's own lines; see `wire.rewrite.upstream_tail`."""
        return upstream_tail(fields, client, self.rules.forwarding, upgrade)

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
