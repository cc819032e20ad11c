"""Files of the documentation as running balancers: each address moved to one that is free here, and a server at each backend's."""

import http.client
import re
import socket
import socketserver
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from documented import Row
from ports import free_port
from processes import PATIENCE_S, Running, stage, until

# "127.0.0.1:8081", ":8080", "app1:8000,weight=2", "unix:/run/lb.sock"
_ADDRESS = re.compile(r'"((?:[\w.-]+|\[[0-9a-f:]+\])?:[0-9]+|unix:[^",]+)((?:,[a-z_]+=[^",]+)*)"')


class _Server(socketserver.ThreadingTCPServer):
    """A backend of that name, which answers with its name, the path that it was asked and what it was told."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, name: str, path: Path | None) -> None:
        self.name = name
        self.address_family = socket.AF_INET if path is None else socket.AF_UNIX
        super().__init__(("127.0.0.1", 0) if path is None else str(path), _Handler)  # type: ignore[arg-type]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False  # which a unix socket does not know

    def _answer(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        self.send_response(200)
        self.send_header("X-Answered-By", server.name)
        self.send_header("X-Asked", self.path)
        self.send_header("X-Told-Prefix", self.headers.get("X-Forwarded-Prefix", ""))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_HEAD = do_PUT = _answer

    def log_message(self, *words: Any) -> None:
        pass


class Connection(http.client.HTTPConnection):
    """A connection to a listener, over TCP from an address of this machine, or to a unix socket."""

    def __init__(self, place: str, client: str) -> None:
        host, _, port = place.rpartition(":")
        unix = place.startswith("unix:")
        super().__init__("unix" if unix else host, None if unix else int(port), timeout=PATIENCE_S)
        self.place, self.source_address = place, (client, 0)

    def connect(self) -> None:
        if not self.place.startswith("unix:"):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self.place.removeprefix("unix:"))


class Standing:
    """What a balancer needs that goes by these files, in a folder: they themselves, and servers. A file beside the TOML ones is moved
    like them. `listeners` are where clients connect, by name.
    """

    def __init__(self, folder: Path, texts: Mapping[str, str]) -> None:
        self.folder = folder
        self.servers: list[_Server] = []
        self._moved: dict[str, str] = {}
        tables = [tomllib.loads(text) for name, text in texts.items() if name.endswith(".toml")]
        self._own = [str(one["status"]) for one in tables if "status" in one]
        listeners = {name: one for table in tables for name, one in table.get("listeners", {}).items()}
        self.said = {name: _address_of(one["address"]) for name, one in listeners.items()}
        self._own += self.said.values()
        self._flat: str | None = None
        for name, text in texts.items():
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_text(self._with_addresses(text))
        self.listeners = {name: self._moved[said] for name, said in self.said.items()}
        if self._flat is not None:
            self.listeners["default"] = self._flat
        # The pool of each backend, by the address that the file has.
        self.pools = {_address_of(one): "default" for table in tables for one in table.get("backends", ())}
        for table in tables:
            for pool, keys in table.get("pools", {}).items():
                self.pools.update({_address_of(one): pool for one in keys.get("backends", ())})

    def _with_addresses(self, text: str) -> str:
        text = _ADDRESS.sub(lambda found: f'"{self._place(found[1])}{found[2]}"', text)
        if found := re.search(r"^port = ([0-9]+)$", text, re.MULTILINE):
            port = free_port()
            self._flat = f"127.0.0.1:{port}"
            text = text.replace(found[0], f'port = {port}\ninterface = "127.0.0.1"')
        return text

    def _place(self, said: str) -> str:
        """Where that address is moved to; a backend's has a server from then on."""
        if said not in self._moved:
            path = self.folder / f"{len(self._moved)}.sock" if said.startswith("unix:") else None
            if said in self._own:
                self._moved[said] = f"127.0.0.1:{free_port()}" if path is None else f"unix:{path}"
            else:
                server = _Server(said, path)
                self.servers.append(server)
                self._moved[said] = f"127.0.0.1:{server.server_address[1]}" if path is None else f"unix:{path}"
        return self._moved[said]

    def ask(self, row: Row) -> http.client.HTTPResponse:
        """Ask on a connection of its own."""
        place = self.listeners[row.listener or next(iter(self.listeners))]
        fields = dict(field.split(": ", 1) for field in row.fields)
        with closing(Connection(place, row.client)) as connection:
            connection.request(row.method, row.target, headers={"Host": row.host or "x", **fields})
            response = connection.getresponse()
            response.read()
            return response

    def holds(self, row: Row) -> None:
        """Assert that a row of a table is so."""
        response, wanted = self.ask(row), row.becomes
        pool = self.pools.get(response.headers.get("X-Answered-By", ""))
        if wanted["pool"] is None:
            assert (pool, str(response.status)) == (None, wanted["status"])
            assert wanted["location"] is None or response.headers["Location"] == wanted["location"]
        else:
            assert (pool, response.status) == (wanted["pool"], 200)
            assert wanted["told"] is None or response.headers["X-Asked"] == wanted["told"]

    def listening(self) -> bool:
        """Whether all listeners are there."""
        try:
            for place in self.listeners.values():
                with closing(Connection(place, "127.0.0.1")) as connection:
                    connection.connect()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End the servers."""
        for server in self.servers:
            server.shutdown()
            server.server_close()


def _address_of(value: Any) -> str:
    """The address of a listener or a backend, without what may stand behind it."""
    if isinstance(value, list):
        [value] = value
    return str(value["address"] if isinstance(value, dict) else value).partition(",")[0]


@contextmanager
def standing(folder: Path, texts: Mapping[str, str]) -> Iterator[tuple[Standing, Running]]:
    """A balancer that runs by the first of these files, and its process."""
    with closing(Standing(folder, texts)) as one, stage(folder) as world:
        running = world.twistd("lb", "lb", "--config", next(iter(texts)))
        until(lambda: one.listening() or running.process.poll() is not None, "the balancer")
        assert running.process.poll() is None, running.log
        yield one, running
