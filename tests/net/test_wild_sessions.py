"""Sessions in the hands of chance: clients and backends that say, end and reset at any moment, with a queue, limits and refusals."""

import random

import pytest
from arriving import Gateway
from hellos import hello, server_name
from joined import open_descriptors
from some import some
from world import Peer

from twisted_lb.core.outcome import Outcome

HELLO = hello(server_name(b"db.example.com"))
SEEDS = 40


class Wild:
    """One town of clients and backends."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        limits = {"max_in_flight": self.rng.choice([0, 0, 1, 2]), "queue": {"no_backend_s": 0, "timeout_s": 3}}
        listener = {"address": ":1", "protocol": "tcp", "default_pool": "app", "limits": {"connections_per_client": 20}}
        routes = [{"sni": "db.example.com", "pool": "db", "requests_per_client": 5}] if seed % 2 else []
        pools = {name: {"backends": [f"{name}1:80", f"{name}2:80"], **limits} for name in ("app", "db")}
        self.gateway = Gateway(
            self.rng.choice(["engine", "fallback"]),
            names=(),
            listeners={"default": listener},
            pools=pools,
            routes=routes,
            defaults={"route": {"timeouts": {"tunnel_idle_s": 50, "half_open_s": 20}}},
        )
        self.world = self.gateway.world
        self.clients: list[Peer] = []
        self.over: set[int] = set()  # ends that were closed by their owner, by identity
        self.shut: set[int] = set()
        self.said: dict[int, bytes] = {}

    def run(self) -> None:
        for _ in range(self.rng.randrange(20, 60)):
            self.rng.choice(
                [self.arrives, self.says, self.says, self.says, self.ends, self.resets, self.waits, self.weather]
            )()
            self.world.run()
            assert self.gateway.frontend.broken() == []
        for peer in [*self.clients, *self.world.backend_connections]:
            if id(peer) not in self.over:
                peer.read()
        self.judge()

    def everybody(self) -> list[Peer]:
        return [one for one in [*self.clients, *self.world.backend_connections] if id(one) not in self.over]

    def arrives(self) -> None:
        client = self.gateway.come() if self.rng.random() < 0.7 else self.world.client()
        self.clients.append(client)
        if self.rng.random() < 0.4:
            self.offer(client, HELLO[: self.rng.choice([1, 7, 60, len(HELLO)])])

    def offer(self, peer: Peer, data: bytes) -> None:
        try:
            count = peer.offer(data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return
        self.said[id(peer)] = self.said.get(id(peer), b"") + data[:count]

    def says(self) -> None:
        if some := [one for one in self.everybody() if id(one) not in self.shut]:
            self.offer(self.rng.choice(some), self.rng.randbytes(self.rng.choice([1, 100, 70_000, 400_000])))
        if (some := self.everybody()) and self.rng.random() < 0.7:
            self.rng.choice(some).read()

    def ends(self) -> None:
        if some := [one for one in self.everybody() if id(one) not in self.shut]:
            one = self.rng.choice(some)
            self.shut.add(id(one))
            try:
                one.shut()
            except OSError:
                self.over.add(id(one))

    def resets(self) -> None:
        if self.rng.random() < 0.5 and (some := self.everybody()):
            one = self.rng.choice(some)
            self.over.add(id(one))
            one.reset()

    def waits(self) -> None:
        self.gateway.advance(self.rng.choice([0.1, 1, 4, 12, 60]))

    def weather(self) -> None:
        name = self.rng.choice(["app1:80", "app2:80", "db1:80", "db2:80"])
        self.rng.choice(
            [
                self.world.dial.refuse.add,
                self.world.dial.refuse.discard,
                self.world.dial.hang.add,
                self.world.dial.hang.discard,
            ]
        )(name)

    def judge(self) -> None:
        """Whoever heard anything heard a beginning of what one other side has said; where it ends before all of it, that side was told too."""
        for heard, sayers in (
            (self.world.backend_connections, self.clients),
            (self.clients, self.world.backend_connections),
        ):
            for one in heard:
                if not one.received or one.received[:1] == b"\x15":  # an alert of our own
                    continue
                whose = [peer for peer in sayers if self.said.get(id(peer), b"").startswith(one.received)]
                assert whose, f"{one.received[:40]!r}: nobody has said that"
                if one.closed and not one.was_reset and len(whose) == 1 and id(one) not in self.over:
                    [sayer] = whose
                    told = sayer.closed or sayer.was_reset or id(sayer) in self.over
                    assert told or self.said[id(sayer)] == one.received, (
                        "an end before all was heard, and nobody was told"
                    )


@pytest.mark.parametrize("seed", some(12, range(SEEDS)))
def test_whatever_happens_bytes_are_whole_or_seen_to_be_cut_and_nothing_is_left(seed):
    wild = Wild(seed)
    wild.run()
    wild.world.dial.hang.clear()
    wild.world.advance(100)
    wild.world.close()


class Calm(Wild):
    """A town where nobody resets anything, everybody reads in the end, and one backend of each pool is always there."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.world.configure(
            pools={name: {"backends": [f"{name}1:80", f"{name}2:80"]} for name in ("app", "db")},
            routes=[{"sni": "db.example.com", "pool": "db"}] if seed % 2 else [],
            listeners={"default": {"address": ":1", "protocol": "tcp", "default_pool": "app"}},
        )
        self.world.dial.refuse.update(
            f"{name}{self.rng.choice([1, 2])}:80" for name in ("app", "db") if self.rng.random() < 0.5
        )

    def run(self) -> None:
        rng = self.rng
        for _ in range(rng.randrange(20, 60)):
            rng.choice([self.arrives, self.says, self.says, self.says, self.reads, self.ends, self.waits])()
            if rng.random() < 0.7:
                self.world.run()
        self.world.run()  # all have their backends
        for peer in self.everybody():
            if id(peer) not in self.shut:
                peer.shut()
        for _ in range(5):
            for peer in self.everybody():
                if not peer.closed:
                    peer.read()
        self.judge()

    def arrives(self) -> None:
        client = self.gateway.come()
        self.clients.append(client)
        # A backend knows by it who its client is.
        self.offer(client, (HELLO if self.rng.random() < 0.4 else b"no TLS ") + b"%d " % len(self.clients))

    def reads(self) -> None:
        if some := self.everybody():
            self.rng.choice(some).read()

    def waits(self) -> None:
        self.gateway.advance(self.rng.choice([0.1, 0.5]))

    def judge(self) -> None:
        """Each session has delivered all of both sides, and both have heard its end."""
        backends = list(self.world.backend_connections)
        assert len(backends) == len(self.clients)
        for client in self.clients:
            said = self.said[id(client)]
            [backend] = [one for one in backends if one.received == said]
            backends.remove(backend)
            assert client.received == self.said.get(id(backend), b"")
            for one in (client, backend):
                assert one.closed
                assert not one.was_reset
        assert [record.ended_by for record in self.gateway.records] == [Outcome.OK] * len(self.clients)
        assert sum(record.request_bytes for record in self.gateway.records) == sum(
            len(self.said[id(client)]) for client in self.clients
        )


@pytest.mark.parametrize("seed", some(12, range(60)))
def test_where_nobody_resets_anything_every_byte_of_both_sides_is_delivered(seed):
    before = open_descriptors()
    calm = Calm(seed)
    calm.run()
    calm.world.close()
    assert open_descriptors() == before
