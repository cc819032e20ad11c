"""A balancer and its backends on virtual time, for tests of a configuration or a policy of one's own: who is slow, fails, hangs, dies and
comes back, and what becomes of requests meanwhile.
"""

from collections.abc import Iterable
from typing import Final, Self

from twisted.internet.address import IPv4Address

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import Address
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import Policy
from twisted_lb.core.record import Record
from twisted_lb.plan import plan_of
from twisted_lb.testing.backends import NEVER_ANSWER, Action, ScriptedBackend, Wait, response
from twisted_lb.testing.balanced import Balanced
from twisted_lb.testing.clients import ScriptedClient
from twisted_lb.testing.clock import HeapClock
from twisted_lb.testing.network import MemoryNetwork

# Longer than any timeout that a test leaves as it is.
_LONGEST_S: Final = 3600.0
_CHECK: Final = b"User-Agent: twisted_lb-check/"
_BLANK_LINE: Final = b"\r\n\r\n"


class Answered:
    """What became of a request: its `status`, the `body` of the answer, after how many seconds (`took_s`), the `backend` whose answer it
    is, empty for an answer of the balancer's own, and the `attempts`: each with its backend and the name of its outcome.
    """

    def __init__(self, record: Record, heard: bytes) -> None:
        last = record.last
        own = last is None or record.local_reply is not None
        self.status: Final = record.status
        self.took_s: Final = record.took_s
        self.body: Final = heard.partition(_BLANK_LINE)[2]
        self.backend: Final = "" if own or last is None else last.lease.backend.name
        self.attempts: Final = [(one.lease.backend.name, _name(one.outcome)) for one in record.attempts]

    def __repr__(self) -> str:
        return f"<Answered {self.status} by {self.backend or 'the balancer'} after {self.took_s:g} s>"


def _name(outcome: Outcome | None) -> str:
    return "" if outcome is None else outcome.name


def _port_of(client: ScriptedClient) -> int:
    host = client.transport.getHost()
    assert isinstance(host, IPv4Address)
    return host.port


class Actor:
    """A backend on a stage. It answers 200 at once, its name for a body, until it is told otherwise; what it was asked before goes on.
    `asked` counts requests, `checked` the checks among them apart.
    """

    def __init__(self, network: MemoryNetwork, name: str, address: Address) -> None:
        self.name: Final = name
        self.asked: int = 0
        self.checked: int = 0
        self._network: Final = network
        self._address: Final = address
        self._backend: ScriptedBackend | None = None
        self._be_well()
        self.comes_back()

    def _be_well(self) -> None:
        self._takes_s = 0.0
        self._status = 200
        self._hanging = False
        self._checks_pass = True

    def is_slow(self, takes_s: float) -> None:
        """Take so many seconds for each answer from now on. Checks are answered at once."""
        self._takes_s = takes_s

    def fails(self, status: int = 500, *, checks_too: bool = False) -> None:
        """Answer with this status from now on; checks only where `checks_too`: what they ask may be well."""
        self._status, self._checks_pass = status, not checks_too

    def hangs(self) -> None:
        """Accept connections and answer nothing from now on, not even checks (frozen)."""
        self._hanging = True

    def dies(self) -> None:
        """Refuse connections from now on, and reset those that are there."""
        if self._backend is not None:
            self._backend.stop()
            self._backend = None

    def recovers(self) -> None:
        """Be as in the beginning. What it has not answered it never will."""
        self._be_well()

    def comes_back(self) -> None:
        """Be there again after it died, and well. Harmless when it is there."""
        self._be_well()
        if self._backend is None:
            self._backend = ScriptedBackend(self._network, self._address, self._answer)

    def _answer(self, request: bytes) -> list[Action]:
        check = _CHECK in request
        if check:
            self.checked += 1
        else:
            self.asked += 1
        if self._hanging:
            return [NEVER_ANSWER]
        if check:
            return [response(b"", 200 if self._checks_pass else 503)]
        answer = response(self.name.encode(), self._status)
        return [Wait(self._takes_s), answer] if self._takes_s else [answer]

    def __repr__(self) -> str:
        there = "gone" if self._backend is None else "hanging" if self._hanging else f"answers {self._status}"
        return f"<Actor {self.name}: {there}, {self.asked} asked>"


class Staged:
    """A whole balancer with this configuration and an Actor for each of its backends, on a clock that only the test moves. A `with`
    statement closes it. `policy` is one of your own, for all its pools, in the place of the configured one.

    `balanced` is the balancer itself: its `events`, its `records`, its `cluster`.
    """

    def __init__(self, config: LoadBalancerConfig, *, policy: Policy | None = None, seed: int = 1) -> None:
        self.clock: Final = HeapClock()
        self.network: Final = MemoryNetwork(self.clock)
        self.balanced: Final = Balanced(config, self.network, seed=seed)
        self._policy: Final = policy
        self._actors: Final[dict[str, Actor]] = {}
        self._records = 0
        self._by_port: Final[dict[int, Record]] = {}
        self._follow()

    def _follow(self) -> None:
        for cluster in self.balanced.data_plane.clusters.values():
            if self._policy is not None:
                cluster.pool.choose_by(self._policy)
            for name, backend in cluster.pool.backends.items():
                if name not in self._actors:
                    self._actors[name] = Actor(self.network, name, backend.address)

    def __getitem__(self, backend: str) -> Actor:
        """The backend of this name; KeyError where there is none."""
        if backend not in self._actors:
            raise KeyError(f"no backend is called {backend}; there are {', '.join(self._actors)}")
        return self._actors[backend]

    def apply(self, config: LoadBalancerConfig) -> None:
        """Go by another configuration from now on (reload)."""
        data_plane = self.balanced.data_plane
        data_plane.apply(plan_of(config, data_plane.plan))
        self._follow()

    def run(self, seconds: float) -> None:
        """Let time pass: checks are made, ejections end, what waits is answered."""
        self.clock.advance(seconds)

    def ask(
        self,
        count: int = 1,
        *,
        every_s: float = 0.0,
        path: str = "/",
        method: str = "GET",
        host: str = "example.com",
        fields: Iterable[str] = (),
    ) -> list[Answered]:
        """Ask so many times, each on a connection of its own, a while apart, and wait for all answers: what became of each, in order.
        Without a pause all are there at once. `fields` are lines of the head: `"X-User: 7"`.
        """
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *fields]
        request = "\r\n".join(lines).encode("latin-1") + _BLANK_LINE
        clients = []
        for number in range(count):
            if number and every_s:
                self.clock.advance(every_s)
            clients.append(ScriptedClient(self.network, "lb:8080").send(request))
        ports = [_port_of(client) for client in clients]
        self.clock.run_until(lambda: self._ended(ports), _LONGEST_S)
        self.clock.settle()
        for client in clients:
            client.close()
        self.clock.settle()
        return [Answered(self._by_port[port], client.received) for port, client in zip(ports, clients, strict=True)]

    def _ended(self, ports: list[int]) -> bool:
        records = self.balanced.records
        for record in records[self._records :]:
            self._by_port[record.peer_port] = record
        self._records = len(records)
        return all(port in self._by_port for port in ports)

    def close(self) -> None:
        """Stop the balancer, and let go of all connections."""
        self.balanced.close()
        self.clock.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Staged {', '.join(map(repr, self._actors.values()))}>"
