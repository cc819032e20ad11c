"""Target lists over real sockets: an HTTP server, name servers, and a file, all on this machine; and balancers that follow them."""

import json
import random
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from test_service import ask
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.names import dns, server
from twisted.names.common import ResolverBase
from twisted.names.error import DNSNameError
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.following import Following
from twisted_lb.discovery.name_servers import NameServers
from twisted_lb.discovery.provider import ListRules, Means, Provider
from twisted_lb.discovery.providers import make_provider
from twisted_lb.discovery.srv import SrvSource
from twisted_lb.service import LoadBalancerService
from twisted_lb.sibling.service import BackendService

RULES = ListRules(refresh_s=0.02, allow_empty=True, max_shrink=1.0)
MEANS = Means(reactor, random.Random(1), reactor)
NAME = "_http._tcp.app.internal"


def listed(*names: str) -> bytes:
    return json.dumps([{"targets": [f"{name}:80" for name in names]}]).encode()


class Told:
    """What a provider tells."""

    def __init__(self) -> None:
        self.lists: list[list[str]] = []

    def __call__(self, specs: list[BackendSpec]) -> None:
        self.lists.append([spec.name for spec in specs])


async def until(condition: Any) -> None:
    for _ in range(20_000):
        if condition():
            return
        await deferLater(reactor, 0.001)
    raise AssertionError("it never came about")


async def let_go(*providers: Provider) -> None:
    """Stop, and give sockets the turn in which they are closed."""
    for provider in providers:
        provider.stop()
    await deferLater(reactor, 0.02)


class Registry(Resource):
    """A registry that answers as it is told."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.body = listed("a")
        self.code = 200
        self.hanging = False
        self.asked: list[bytes | None] = []
        self.statuses: list[int] = []
        self.over = 0

    def render_GET(self, request: Any) -> Any:
        self.asked.append(request.getHeader("if-none-match"))
        request.notifyFinish().addBoth(lambda _: setattr(self, "over", self.over + 1))
        request.setResponseCode(self.code)
        if self.hanging:
            request.write(b"[")
            return NOT_DONE_YET
        if self.code == 200 and request.setETag(b'"%d"' % hash(self.body)):
            self.statuses.append(304)
            return b""
        self.statuses.append(self.code)
        return self.body


@pytest_twisted.async_yield_fixture
async def registry():
    resource = Registry()
    site = Site(resource)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    resource.url = f"http://127.0.0.1:{port.getHost().port}/api"
    yield resource
    await port.stopListening()
    for channel in list(getattr(site, "_channels", ())):
        channel.transport.abortConnection()
    await until(lambda: not [one for one in reactor.getReaders() if "Server" in type(one).__name__])


@pytest_twisted.ensureDeferred
async def test_a_list_behind_a_url_is_followed(registry):
    told = Told()
    provider = make_provider(registry.url, RULES, MEANS)
    provider.start(told)
    await until(lambda: registry.statuses.count(304) > 2)
    assert told.lists == [["a:80"]]
    registry.body = listed("a", "b")
    await until(lambda: len(told.lists) > 1)
    registry.code = 500
    await until(lambda: provider.state.error == "status 500")
    registry.code, registry.body = 302, b"elsewhere" * 100_000
    await until(lambda: provider.state.error == "status 302: a redirect, which is not followed")
    registry.code, registry.body = 200, b" " * 5_000_000
    await until(lambda: provider.state.error.startswith(("longer than", "5000000 bytes")))
    registry.body = listed("c")
    await until(lambda: told.lists[-1] == ["c:80"])
    assert told.lists == [["a:80"], ["a:80", "b:80"], ["c:80"]]
    await let_go(provider)


@pytest_twisted.ensureDeferred
async def test_a_stop_in_the_midst_of_an_answer_closes_the_connection(registry):
    registry.hanging = True
    provider = make_provider(registry.url, RULES, MEANS)
    provider.start(lambda specs: pytest.fail("told"))
    await until(lambda: registry.asked)
    await let_go(provider)
    await until(lambda: registry.over == 1)


@pytest_twisted.ensureDeferred
async def test_where_nobody_listens_that_is_said():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        provider = make_provider(f"http://127.0.0.1:{taken.getsockname()[1]}/", RULES, MEANS)
        provider.start(lambda specs: pytest.fail("told"))
        await until(lambda: provider.state.failing)
        assert "refused" in provider.state.error
        await let_go(provider)


@pytest_twisted.ensureDeferred
async def test_a_list_in_a_file_is_followed(tmp_path: Path):
    file = tmp_path / "api.json"
    told = Told()
    provider = make_provider(f"file:{file}", RULES, MEANS)
    provider.start(told)
    await until(lambda: provider.state.error == "not there")
    file.write_bytes(listed("a"))
    await until(lambda: told.lists)
    file.write_bytes(listed("a", "b"))
    await until(lambda: len(told.lists) > 1)
    assert told.lists == [["a:80"], ["a:80", "b:80"]]
    await let_go(provider)


class Zone(ResolverBase):
    """What a name server knows: the SRV records of one name; or nothing, which it says by a code."""

    def __init__(self, records: list[Any] | None) -> None:
        super().__init__()
        self.records = records

    def _lookup(self, name: bytes, *words: object) -> Deferred[Any]:
        if self.records is None:
            return fail(RuntimeError("a mistake of its own"))
        if name != NAME.encode():
            return fail(DNSNameError())
        return succeed(([dns.RRHeader(name, dns.SRV, ttl=30, payload=one) for one in self.records], [], []))


class Answering(server.DNSServerFactory):
    """How a name server answers: with at most so many bytes in a datagram (0: however many), beyond which it says to come
    by TCP.
    """

    datagram_bytes = 512

    def sendReply(self, protocol: Any, message: Any, address: Any) -> None:
        message.maxSize = self.datagram_bytes if address else 0
        super().sendReply(protocol, message, address)

    def gotResolverError(self, failure: Any, protocol: Any, message: Any, address: Any) -> None:
        code = dns.ENAME if failure.check(DNSNameError) else dns.ESERVER
        self.sendReply(protocol, self._responseFromMessage(message=message, rCode=code), address)


class NameServer:
    """A name server on UDP and TCP."""

    def __init__(self, records: list[Any] | None) -> None:
        factory = Answering(clients=[Zone(records)])
        factory.noisy = factory.verbose = False
        self.factory = factory
        # A port that is free for both: somebody else may have the same one of the other kind.
        for _ in range(100):
            self.tcp: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
            self.port = self.tcp.getHost().port
            try:
                protocol = dns.DNSDatagramProtocol(factory, reactor=reactor)
                self.udp: Any = reactor.listenUDP(self.port, protocol, interface="127.0.0.1")
            except Exception:
                self.tcp.stopListening()
            else:
                break

    async def close(self) -> None:
        for protocol in list(self.factory.connections):
            protocol.transport.abortConnection()
        await self.udp.stopListening()
        await self.tcp.stopListening()
        await deferLater(reactor, 0.02)


def following(*servers: NameServer) -> Provider:
    lookup = NameServers(reactor, reactor, lambda: [("127.0.0.1", one.port) for one in servers]).lookup_service
    return Following(SrvSource(NAME, lookup, reactor), RULES, MEANS)


async def first_list(*servers: NameServer) -> list[BackendSpec]:
    told: Deferred[list[BackendSpec]] = Deferred()
    provider = following(*servers)
    provider.start(told.callback)
    found = await told
    await let_go(provider)
    for one in servers:
        await one.close()
    return found


def srv(number: int, weight: int = 10, priority: int = 0) -> Any:
    return dns.Record_SRV(priority, weight, 8000 + number, f"server-{number:04}.with-a-long-name.app.internal", ttl=30)


@pytest_twisted.ensureDeferred
async def test_srv_records_are_a_list():
    found = await first_list(NameServer([srv(2, 20), srv(1), srv(3, priority=1)]))
    assert [(spec.name, spec.weight, spec.resolve) for spec in found] == [
        ("server-0001.with-a-long-name.app.internal:8001", 10, "first"),
        ("server-0002.with-a-long-name.app.internal:8002", 20, "first"),
    ]


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_too_long_for_a_datagram_comes_over_tcp():
    found = await first_list(NameServer([srv(number) for number in range(200)]))
    assert len(found) == 200


@pytest_twisted.ensureDeferred
async def test_a_datagram_is_read_as_a_whole_however_long_it_is():
    """Twisted reads 8,192 bytes of one, and what is behind them would be missing without a word."""
    one = NameServer([srv(number) for number in range(200)])
    one.factory.datagram_bytes = 0
    assert len(await first_list(one)) == 200


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_fails_is_followed_by_the_next_one():
    found = await first_list(NameServer(None), NameServer([srv(1)]))
    assert len(found) == 1


@pytest_twisted.ensureDeferred
async def test_a_name_that_is_not_there_is_told_apart_from_one_that_nobody_knows():
    empty, broken = NameServer([]), NameServer(None)
    gone, unknown = following(empty), following(broken)
    for provider in (gone, unknown):
        provider.start(lambda specs: pytest.fail("told"))
    await until(lambda: gone.state.failing and unknown.state.failing)
    assert gone.state.error == "the name has no SRV records"
    assert unknown.state.error == "name server 127.0.0.1: SERVFAIL"
    await let_go(gone, unknown)
    await empty.close()
    await broken.close()


@pytest_twisted.ensureDeferred
async def test_a_stop_while_a_name_server_is_silent_leaves_nothing_behind():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        where = silent.getsockname()
        lookup = NameServers(reactor, reactor, lambda: [where]).lookup_service
        provider = Following(SrvSource(NAME, lookup, reactor), RULES, MEANS)
        provider.start(lambda specs: pytest.fail("told"))
        silent.setblocking(False)
        await until(lambda: _heard(silent))
        await let_go(provider)
        assert not reactor.getDelayedCalls()


def _heard(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(512))
    except BlockingIOError:
        return False


# A whole balancer.


def targets_of(*ports: int, **labels: str) -> bytes:
    return json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports], "labels": labels}]).encode()


@pytest_twisted.async_yield_fixture
async def siblings():
    """Two backends, by their ports."""
    services = [BackendService(0, "127.0.0.1", "sibling") for _ in range(2)]
    for service in services:
        service.privilegedStartService()
        service.startService()
    yield [service.site.port for service in services]
    for service in services:
        await service.stopService()


def balancer(targets: dict[str, Any]) -> LoadBalancerService:
    """One that is started, whose only pool has nothing but a list."""
    table = {"targets": {"refresh_s": 0.02, "max_shrink": 1.0, **targets}, "health_check": {"interval_s": 0.0}}
    listen = {"port": 0, "interface": "127.0.0.1"}
    service = LoadBalancerService(LoadBalancerConfig(listen=listen, pools={"default": table}))
    service.startService()
    return service


async def answer(service: LoadBalancerService) -> bytes:
    """The status of a request's answer, over a connection of its own."""
    return (await ask(service.port))[9:12]


def members(service: LoadBalancerService) -> list[str]:
    return list(service.balancer.pool.backends)


def link(folder: Path, name: str, content: bytes) -> None:
    """Have another content below `..data`, as a ConfigMap that is mounted gets it: by one rename of a link to a folder."""
    (folder / name).mkdir()
    (folder / name / "api.json").write_bytes(content)
    (folder / "..new").symlink_to(name)
    (folder / "..new").rename(folder / "..data")


@pytest_twisted.ensureDeferred
async def test_a_balancer_follows_a_config_map(tmp_path: Path, siblings):
    one, two = siblings
    link(tmp_path, "first", targets_of(one, zone="a"))
    (tmp_path / "api.json").symlink_to(Path("..data") / "api.json")
    service = balancer({"file": str(tmp_path / "api.json")})
    assert service.readiness().text.startswith("not ready: starting, no list yet of the backends of default\n")
    await until(lambda: service.ready)
    assert await answer(service) == b"200"
    record = service.balancer.pool.backends[f"127.0.0.1:{one}"]
    link(tmp_path, "second", targets_of(one, two, weight="3"))
    await until(lambda: len(members(service)) == 2)
    assert service.balancer.pool.backends[f"127.0.0.1:{one}"] is record
    assert record.weight == 3
    (tmp_path / "..data").unlink()
    await until(lambda: service.data_plane.snapshot("default").targets.error == "not there")
    assert len(members(service)) == 2
    assert await answer(service) == b"200"
    link(tmp_path, "third", targets_of(two))
    await until(lambda: members(service) == [f"127.0.0.1:{two}"])
    assert await answer(service) == b"200"
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_balancer_follows_a_registry(registry, siblings):
    one, two = siblings
    registry.body = targets_of(one)
    service = balancer({"url": registry.url})
    await until(lambda: service.ready)
    assert await answer(service) == b"200"
    registry.body = targets_of(one, two)
    await until(lambda: len(members(service)) == 2)
    registry.code = 500
    await until(lambda: service.data_plane.snapshot("default").targets.failing)
    assert len(members(service)) == 2
    registry.code, registry.body = 200, b"[]"
    await until(lambda: members(service) == [])
    assert await answer(service) == b"503"
    registry.body = targets_of(two)
    await until(lambda: members(service) == [f"127.0.0.1:{two}"])
    assert await answer(service) == b"200"
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_balancer_that_stops_in_the_midst_of_an_answer_of_its_registry_leaves_nothing(registry):
    registry.hanging = True
    service = balancer({"url": registry.url})
    await until(lambda: registry.asked)
    await service.stopService()
    await until(lambda: registry.over == 1)
