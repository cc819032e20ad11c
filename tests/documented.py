"""What a page of the documentation shows, made to run in memory: its configurations, and the tables of requests below them."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import parse_address
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient, response

# `GET api.example.com/v1` with `X-Beta: 1`, `A: b` from `10.0.0.9` at `internal`
_REQUEST = re.compile(
    r"`(?:(?P<method>[A-Z]+) )?(?P<host>[^/` ]*)(?P<target>/[^`]*|\*)`"
    r"(?: with (?P<fields>`[^`]+`(?:, `[^`]+`)*))?(?: from `(?P<client>[^`]+)`)?(?: at `(?P<listener>[^`]+)`)?"
)
# `api`, as `/users` · 404 · 308 to `https://new.example.com/`
_BECOMES = re.compile(
    r"(?:`(?P<pool>[^`]+)`(?:, as `(?P<told>[^`]+)`)?|(?P<status>[0-9]{3})(?: to `(?P<location>[^`]+)`)?)(?: \(.*\))?"
)


class Row(NamedTuple):
    """A request of a table, and what becomes of it."""

    method: str
    host: str
    target: str
    fields: tuple[str, ...]
    client: str
    listener: str
    becomes: dict[str, str | None]

    @classmethod
    def read(cls, request: str, becomes: str) -> "Row":
        found, then = _REQUEST.fullmatch(request), _BECOMES.fullmatch(becomes)
        assert found is not None, request
        assert then is not None, becomes
        return cls(
            found["method"] or "GET",
            found["host"],
            found["target"],
            tuple(re.findall("`([^`]+)`", found["fields"] or "")),
            found["client"] or "127.0.0.1",
            found["listener"] or "",
            then.groupdict(),
        )

    def __str__(self) -> str:
        return " ".join((self.method, self.host + self.target, *self.fields))


def blocks(page: str, language: str = "toml") -> list[tuple[str, list[Row]]]:
    """Each block of this language, with the requests of the tables between it and the next one."""
    pieces = re.split(rf"^```{language}\n(.*?)^```\n", page, flags=re.MULTILINE | re.DOTALL)
    return [(text, list(_rows(below))) for text, below in zip(pieces[1::2], pieces[2::2], strict=True)]


def _rows(text: str) -> Iterator[Row]:
    for table in re.findall(r"^\| request \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            request, becomes, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
            yield Row.read(request, becomes)


def completed(text: str) -> dict[str, Any]:
    """A configuration with what a piece of one leaves out: a listener `web`, and the pools that its routes name, each with one
    backend of its name. Nobody checks backends, or waits for one.
    """
    values = tomllib.loads(text)
    pools = values.setdefault("pools", {})
    for name in _named(values):
        pools.setdefault(name, {"backends": [f"{name}:80"]})
    for pool in pools.values():
        pool["health_check"] = {"interval_s": 0}
        pool["queue"] = {"no_backend_s": 0}
    values.setdefault("listeners", {"web": {"address": ":8080"}})
    for route in values.get("routes", ()):
        for name in _several(route.get("listeners")):
            values["listeners"].setdefault(name, {"address": f"unix:/run/{name}.sock"})
    return values


def _named(values: dict[str, Any]) -> Iterator[str]:
    for route in values.get("routes", ()):
        yield from _several(route.get("pool"))
        yield from route.get("split", ())
        if isinstance(route.get("fallback"), str):
            yield route["fallback"]
    for listener in values.get("listeners", {}).values():
        yield from _several(listener.get("default_pool"))


def _several(value: str | list[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else value


class Answer(NamedTuple):
    """What became of a request: the pool that was asked and the target that it got, and what the client was told."""

    pool: str | None
    told: str | None
    status: int
    fields: dict[str, str]
    body: str


class Documented:
    """A balancer with the configuration of a page, or a piece of one; every backend answers, but for those of pools that are
    `down`.
    """

    def __init__(self, text: str, *, down: tuple[str, ...] = ()) -> None:
        self.clock = HeapClock(1000.0)
        self.network = MemoryNetwork(self.clock)
        values = completed(text)
        self.balanced = Balanced(LoadBalancerConfig.model_validate(values), self.network, address="unused:1")
        self.listeners = list(values["listeners"])
        for name in self.listeners:
            self.balanced.listen(f"{name}:1", name)
        self.plane = self.balanced.data_plane
        self._asked: list[tuple[str, bytes]] = []
        self.backends = [
            self._backend(name, str(backend.address))
            for name, cluster in self.plane.clusters.items()
            if name not in down
            for backend in cluster.pool.backends.values()
        ]

    def _backend(self, pool: str, address: str) -> ScriptedBackend:
        def answer(request: bytes) -> list[bytes]:
            self._asked.append((pool, request))
            return [response(pool.encode())]

        return ScriptedBackend(self.network, parse_address(address), answer)

    def ask(self, row: Row) -> Answer:
        """Ask on a connection of its own."""
        client = ScriptedClient(self.network, f"{row.listener or self.listeners[0]}:1", row.client)
        lines = [f"{row.method} {row.target} HTTP/1.1", f"Host: {row.host or 'x'}", *row.fields]
        self._asked.clear()
        client.send("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))
        self.clock.settle()
        head, _, body = client.received.decode("latin-1").partition("\r\n\r\n")
        client.close()
        self.clock.settle()
        pool, request = self._asked[-1] if self._asked else (None, b"")
        told = request.split(b" ")[1].decode("latin-1") if request else None
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        return Answer(pool, told, int(head[9:12]), fields, body)

    def told(self) -> dict[str, str]:
        """The header fields that the last request had when it came to its backend."""
        _, request = self._asked[-1]
        lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def holds(self, row: Row) -> None:
        """Assert that a row of a table is so."""
        answer = self.ask(row)
        wanted = row.becomes
        if wanted["pool"] is None:
            assert (answer.pool, str(answer.status)) == (None, wanted["status"])
            assert wanted["location"] is None or answer.fields["location"] == wanted["location"]
        else:
            assert (answer.pool, answer.status) == (wanted["pool"], 200)
            assert wanted["told"] is None or answer.told == wanted["told"]

    def close(self) -> None:
        """End it."""
        self.balanced.close()
        self.clock.advance(100)
