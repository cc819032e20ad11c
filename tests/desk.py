"""The API of an operated balancer over connections in memory: requests as clients write them, answers as they read them."""

import json
from typing import Any

from operated import Operated
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_lb.admin.api import Api
from twisted_lb.admin.chart_history import ChartHistory
from twisted_lb.admin.door import Root
from twisted_lb.admin.feed import Feed
from twisted_lb.admin.scopes import CHANGE, READ, Visitor
from twisted_lb.admin.site import AdminSite, Admit, ApiResource

MAY_CHANGE, MAY_READ = Visitor(CHANGE, "alice", "uid 1004 pid 7"), Visitor(READ, "reader", "127.0.0.1")


class Wire(StringTransport):
    """A transport whose far end reads, or does not: then what was written is `unsent`."""

    reads = True
    aborted = False

    @property
    def unsent(self) -> int:
        return 0 if self.reads else len(self.value())

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Answer:
    """An answer, in parts."""

    def __init__(self, text: bytes) -> None:
        head, _, self.body = text.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.phrase = first.split(" ", 2)[2]
        self.headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] in ("application/json", "application/problem+json")
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str, str, str]:
        """Status, code, detail and hint."""
        said = self.json
        assert self.headers["content-type"] == "application/problem+json"
        assert (said["type"], said["status"]) == ("about:blank", self.status)
        assert said["title"]
        return self.status, said["code"], said["detail"], said["hint"]


class Connection:
    """One connection to the API."""

    def __init__(self, site: AdminSite) -> None:
        self.transport = Wire()
        self.protocol = site.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.open = not self.transport.disconnecting

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def take(self) -> bytes:
        heard = self.transport.value()
        self.transport.clear()
        return heard

    def lose(self) -> None:
        if self.open:
            self.open = False
            self.protocol.connectionLost(Failure(ConnectionDone()))


class Desk:
    """The API of a balancer of these backends. `admit` says who asks; else alice does, who may change things, and behind
    `as_reader` somebody who may not.
    """

    def __init__(self, *names: Any, admit: Admit | None = None, **options: Any) -> None:
        self.operated = Operated(*names, **options)
        self.visitor = MAY_CHANGE
        operating, clock = self.operated.operating, self.operated.clock
        history = ChartHistory(operating, clock, clock.seconds)
        feed = Feed(operating, history, clock)
        api = Api(operating, clock, history, feed)
        self.resource = ApiResource(api, operating, admit or (lambda _: self.visitor), clock, feed)
        self.site = AdminSite(Root(self.resource, None), clock)
        self.connections: list[Connection] = []

    def connect(self) -> Connection:
        self.connections.append(Connection(self.site))
        return self.connections[-1]

    def begin(self, method: str, path: str, body: Any = None, **fields: str) -> Connection:
        """Ask, on a connection that may be answered later. A field `if_match` is `If-Match`; a body of bytes is sent as it is."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1"]
        fields.setdefault("host", "localhost")
        if body is not None:
            fields.setdefault("content_type", "application/json")
            fields.setdefault("content_length", str(len(data)))
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        connection = self.connect()
        connection.send("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
        self.operated.clock.settle()
        return connection

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> Answer:
        """Ask, and be answered."""
        connection = self.begin(method, path, body, **fields)
        heard = connection.take()
        assert heard, "no answer yet"
        connection.lose()
        return Answer(heard)

    def get(self, path: str, **fields: str) -> Answer:
        return self.ask("GET", path, **fields)

    def as_reader(self) -> None:
        self.visitor = MAY_READ

    def close(self) -> None:
        for connection in self.connections:
            connection.lose()
        self.resource.close()
        self.operated.close()
