"""The service as a Twisted program uses it: started, asked, stopped, started again, on the reactor of the tests."""

import re
import resource
import socket
from functools import partial

import pytest
import pytest_twisted
from twisted.application.service import MultiService, Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher
from twisted.web.server import Site

from twisted_lb.config import LoadBalancerConfig, TimeoutsConfig
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import BackendSpec
from twisted_lb.errors import StartError
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.http1 import Http1
from twisted_lb.net.resource import BalancedReverseProxyResource
from twisted_lb.process import room_for_clients
from twisted_lb.service import LoadBalancerService, OrderedServices
from twisted_lb.sibling.service import BackendService
from twisted_lb.sibling.site import Pages, send


class Asking(Protocol):
    """One request on a connection that closes after it."""

    path = b"/whoami.json"

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._received = b""

    def connectionMade(self):
        self.transport.write(b"GET " + self.path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    def dataReceived(self, data):
        self._received += data

    def connectionLost(self, reason):
        self.answer.callback(self._received)


@inlineCallbacks
def ask(port: int, path: bytes = Asking.path):
    asking = Asking()
    asking.path = path
    factory = Factory()
    factory.buildProtocol = lambda _: asking
    yield HostnameEndpoint(reactor, b"127.0.0.1", port).connect(factory)
    return (yield asking.answer)


def config(*ports: int, **more) -> LoadBalancerConfig:
    more.setdefault("health_check", {"interval_s": 0.0})
    return LoadBalancerConfig(
        backends=[f"127.0.0.1:{port}" for port in ports], listen={"port": 0, "interface": "127.0.0.1"}, **more
    )


@pytest_twisted.async_yield_fixture
async def backend():
    service = BackendService(0, "127.0.0.1", "sibling")
    service.privilegedStartService()
    service.startService()
    yield service
    await service.stopService()


@pytest.fixture
def held(monkeypatch):
    """Answers of backends that were asked for with a delay: each goes out when the test calls it."""
    answers = []
    monkeypatch.setattr(Pages, "later", lambda _, *words: answers.append(partial(send, *words)))
    return answers


async def at_the_backend(held, count):
    """So many requests are there that were asked for with a delay."""
    while len(held) < count:
        await deferLater(reactor, 0.01)


@pytest_twisted.ensureDeferred
async def test_it_is_started_asked_stopped_and_started_again(backend):
    service = LoadBalancerService(config(backend.site.port))
    for _ in range(2):
        service.privilegedStartService()
        service.startService()
        assert service.ready
        answer = await ask(service.port)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"X-Backend: sibling" in answer
        await service.stopService()
        assert not service.ready


@pytest_twisted.ensureDeferred
async def test_a_running_parent_that_never_calls_the_privileged_start_is_enough(backend):
    parent = MultiService()
    parent.startService()
    service = LoadBalancerService(config(backend.site.port))
    service.setServiceParent(parent)
    assert (await ask(service.port)).startswith(b"HTTP/1.1 200 ")
    await parent.stopService()


@pytest_twisted.ensureDeferred
async def test_checks_find_out_who_is_well(backend):
    checked = config(backend.site.port, 1, health_check={"interval_s": 0.05})
    service = LoadBalancerService(checked)
    service.startService()
    backends = service.balancer.pool.backends
    while not all(one.health.known for one in backends.values()):
        await deferLater(reactor, 0.01)
    assert [one.usable for one in backends.values()] == [True, False]
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken_is_a_start_error_and_nothing_is_left(backend):
    taken = LoadBalancerConfig(
        backends=["127.0.0.1:1"],
        listen={"port": 0, "interface": "127.0.0.1"},
        status={"port": backend.site.port, "interface": "127.0.0.1"},
    )
    service = LoadBalancerService(taken)
    with pytest.raises(StartError, match="already in use"):
        service.privilegedStartService()
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_it_is_bound_by_the_privileged_start_and_answers_once_it_is_started(backend):
    service = LoadBalancerService(config(backend.site.port))
    service.privilegedStartService()
    answer = ask(service._openings.held[0].sock.getsockname()[1])  # the kernel takes the connection in
    await deferLater(reactor, 0)
    assert not answer.called
    service.startService()
    assert (await answer).startswith(b"HTTP/1.1 200 ")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_bound_and_never_started_it_gives_its_port_back():
    service = LoadBalancerService(config(1))
    service.privilegedStartService()
    await service.stopService()
    with pytest.raises(RuntimeError, match="not running"):
        service.port  # noqa: B018


@pytest_twisted.ensureDeferred
async def test_the_engine_serves_over_twisteds_own_transports_too(backend):
    service = LoadBalancerService(config(backend.site.port), listening=False)
    service.startService()

    class Ours(Factory):
        def buildProtocol(self, address):
            return Foreign(service.engine.clock, Http1(service.engine))

    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Ours())
    answer = await ask(port.getHost().port)
    assert b"X-Backend: sibling" in answer
    await port.stopListening()
    await service.stopService()


class Mounted:
    """The balancer as a resource in a site of the program's own, which outlives it."""

    def __init__(self, backend: BackendService, drain_s: float = 0.1) -> None:
        self.service = LoadBalancerService(config(backend.site.port, timeouts={"drain_s": drain_s}), listening=False)
        self.service.startService()
        self.engine = self.service.engine
        site = Site(BalancedReverseProxyResource(self.engine))
        self.port = reactor.listenTCP(0, site, interface="127.0.0.1")

    def ask(self, path: bytes):
        return ask(self.port.getHost().port, path)

    async def asked(self, path: bytes):
        """A request that is under way."""
        answer = self.ask(path)
        while not self.engine.exchanges:
            await deferLater(reactor, 0.01)
        return answer


@pytest_twisted.ensureDeferred
async def test_a_stop_that_has_waited_long_enough_ends_the_requests_of_a_resource_too(backend):
    mounted = Mounted(backend)
    silent = await mounted.asked(b"/?delay=3")
    await mounted.service.stopService()
    assert mounted.engine.exchanges == 0
    assert (await silent).startswith(b"HTTP/1.1 503 ")
    await mounted.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_stop_that_has_waited_long_enough_cuts_an_answer_that_has_begun(backend):
    mounted = Mounted(backend)
    endpoint = HostnameEndpoint(reactor, b"127.0.0.1", mounted.port.getHost().port)
    slow = await endpoint.connect(Factory.forProtocol(Reluctant))
    await slow.begun
    await mounted.service.stopService()
    assert mounted.engine.exchanges == 0
    slow.transport.resumeProducing()
    await slow.over
    assert slow.received < 50_000_000
    await mounted.port.stopListening()


class Reluctant(Protocol):
    """A client that reads the beginning of a long answer, and the rest only when it is told to."""

    def __init__(self) -> None:
        self.begun: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()
        self.received = 0

    def connectionMade(self):
        self.transport.write(b"GET /?size=50000000 HTTP/1.1\r\nHost: x\r\n\r\n")

    def dataReceived(self, data):
        if not self.received:
            self.transport.pauseProducing()
            self.begun.callback(None)
        self.received += len(data)

    def connectionLost(self, reason):
        self.over.callback(None)


@pytest_twisted.ensureDeferred
async def test_after_a_stop_whoever_asks_a_resource_hears_that_there_is_nobody(backend):
    mounted = Mounted(backend)
    assert (await mounted.ask(b"/")).startswith(b"HTTP/1.1 200 ")
    await mounted.service.stopService()
    assert (await mounted.ask(b"/")).startswith(b"HTTP/1.1 503 ")
    assert mounted.engine.exchanges == 0
    await mounted.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_stop_waits_no_longer_than_it_was_told(backend):
    """The answer would come in 3 s, and the default is to wait for 8."""
    service = LoadBalancerService(config(backend.site.port, timeouts={"drain_s": 0.1}))
    service.startService()
    engine = service.engine
    silent = ask(service.port, b"/?delay=3")
    while not engine.exchanges:
        await deferLater(reactor, 0.01)
    await service.stopService()
    assert (engine.exchanges, len(engine.clients)) == (0, 0)
    assert (await silent).startswith(b"HTTP/1.1 503 ")


@pytest_twisted.ensureDeferred
async def test_ordered_services_stop_one_after_the_other():
    told: list[str] = []

    class Slow(Service):
        def stopService(self):
            told.append(f"{self.name} stops")
            return deferLater(reactor, 0.01, told.append, f"{self.name} has stopped")

    services = OrderedServices()
    for name in ("first", "second"):
        one = Slow()
        one.setName(name)
        one.setServiceParent(services)
    services.startService()
    await services.stopService()
    assert told == ["first stops", "first has stopped", "second stops", "second has stopped"]


def test_an_error_page_that_is_not_there_is_shown_where_it_is_named(tmp_path, capsys):
    from twisted_lb.tap import load_balancer

    file = tmp_path / "lb.toml"
    file.write_text('backends = ["127.0.0.1:1"]\n[listen]\nport = 0\n[error_pages]\n503 = "/nowhere/503.html"\n')
    with pytest.raises(SystemExit) as caught:
        load_balancer("--config", str(file))
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        f"{file}:5:7: error_pages.503: /nowhere/503.html: no such file or directory\n"
        '    5 | 503 = "/nowhere/503.html"\n'
        "      |       ^^^^^^^^^^^^^^^^^^^\n"
        "1 error; nothing was started\n"
    )


@pytest_twisted.ensureDeferred
async def test_an_error_page_is_served(tmp_path):
    page = tmp_path / "sorry.html"
    page.write_text("<h1>sorry</h1>")
    service = LoadBalancerService(config(1, error_pages={"502": str(page), "503": str(page)}))
    service.startService()
    assert (await ask(service.port)).endswith(b"\r\n\r\n<h1>sorry</h1>")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_connections_to_where_a_backend_was_are_not_kept(backend):
    service = LoadBalancerService(config(backend.site.port))
    service.startService()
    await ask(service.port)
    cluster = service.balancer
    assert cluster.idle == 1
    name = next(iter(cluster.pool.backends))
    cluster.update([BackendSpec(name, TcpAddress("127.0.0.1", 1))])
    assert cluster.idle == 0
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_timeouts_can_be_changed_while_it_runs_and_before(backend):
    service = LoadBalancerService(config(backend.site.port))
    service.set_timeouts(TimeoutsConfig(head_s=7))
    service.startService()
    assert service.engine.client_rules.head_s == 7
    service.set_timeouts(TimeoutsConfig(client_idle_s=0.2))
    idle = await HostnameEndpoint(reactor, b"127.0.0.1", service.port).connect(Factory.forProtocol(Silent))
    await idle.over
    assert service.config.timeouts == TimeoutsConfig(client_idle_s=0.2)
    await service.stopService()


@pytest_twisted.async_yield_fixture
async def newcomer():
    service = BackendService(0, "127.0.0.1", "newcomer")
    service.privilegedStartService()
    service.startService()
    yield service
    await service.stopService()


def address(backend: BackendService) -> str:
    return f"127.0.0.1:{backend.site.port}"


@pytest_twisted.ensureDeferred
async def test_a_backend_that_is_added_is_checked_and_used(backend, newcomer):
    service = LoadBalancerService(config(backend.site.port, health_check={"interval_s": 0.05}))
    service.startService()
    service.update([address(backend), f"{address(newcomer)},weight=2"])
    added = service.balancer.pool.backends[address(newcomer)]
    while not added.health.known:
        await deferLater(reactor, 0.01)
    answers = [await ask(service.port) for _ in range(3)]
    assert sum(b"X-Backend: newcomer" in answer for answer in answers) == 2
    assert [spec.weight for spec in service.config.backends] == [1, 2]
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_backend_that_is_removed_is_asked_nothing_more_and_what_runs_there_finishes(backend, newcomer, held):
    service = LoadBalancerService(config(backend.site.port))
    service.startService()
    await ask(service.port)
    running = ask(service.port, b"/?delay=1&size=100000")
    another = ask(service.port, b"/?delay=1")
    await at_the_backend(held, 2)
    service.update([address(newcomer)])
    assert b"X-Backend: newcomer" in await ask(service.port)
    for go_on in reversed(held):
        go_on()
    for answer in (await another, await running):
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"X-Backend: sibling" in answer
    assert len(await running) > 100_000
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_connections_to_a_backend_that_is_removed_are_closed_and_not_put_back(backend, newcomer, held):
    service = LoadBalancerService(config(backend.site.port))
    service.startService()
    running = ask(service.port, b"/?delay=1")
    await at_the_backend(held, 1)
    await ask(service.port)
    cluster = service.balancer
    assert (cluster.idle, cluster.open) == (1, 2)
    service.update([address(newcomer)])
    assert (cluster.idle, cluster.open) == (0, 1)
    held.pop()()
    assert (await running).startswith(b"HTTP/1.1 200 ")
    assert (cluster.idle, cluster.open) == (0, 0)
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_update_before_the_start_says_whom_it_starts_with(backend):
    service = LoadBalancerService(config(1))
    service.update([BackendSpec("one", TcpAddress("127.0.0.1", backend.site.port))])
    service.startService()
    assert list(service.balancer.pool.backends) == ["one"]
    assert (await ask(service.port)).startswith(b"HTTP/1.1 200 ")
    await service.stopService()


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize(
    "backends", [["nonsense"], ["a:1,weight=257"], ["a:1", "b:1", "a:1"], ["a:1", "A:1"], "a:1", [1]]
)
@pytest_twisted.ensureDeferred
async def test_an_update_that_cannot_be_changes_nothing(started, backends):
    service = LoadBalancerService(config(1))
    if started:
        service.startService()
    before = service.config, service._plan
    with pytest.raises(ValueError, match=r"nonsense|weight|twice|list of backends|should be a string"):
        service.update(backends)
    assert (service.config, service._plan) == before
    if started:
        assert service.data_plane.plan is service._plan
        assert list(service.balancer.pool.backends) == ["127.0.0.1:1"]
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_error_page_is_read_once_however_often_something_changes(tmp_path):
    page = tmp_path / "sorry.html"
    page.write_text("<h1>sorry</h1>")
    service = LoadBalancerService(config(1, error_pages={"502": str(page), "503": str(page)}))
    page.unlink()
    service.startService()
    service.update(["127.0.0.1:2"])
    service.set_timeouts(TimeoutsConfig(head_s=7))
    assert (await ask(service.port)).endswith(b"\r\n\r\n<h1>sorry</h1>")
    await service.stopService()


class Silent(Protocol):
    """A client that says nothing."""

    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()

    def connectionLost(self, reason):
        self.over.callback(None)


@pytest_twisted.ensureDeferred
async def test_its_limits_and_its_request_log_are_wired(backend):
    said: list[str] = []

    def observe(event):
        if event["log_namespace"].startswith("twisted_lb.request_log"):
            said.append(event["status"])

    globalLogPublisher.addObserver(observe)
    service = LoadBalancerService(
        config(backend.site.port, limits={"connections": 50, "connections_per_client": 1}, log={"requests": "all"})
    )
    service.startService()
    assert service.engine.gate.most == 50
    held = Protocol()
    await HostnameEndpoint(reactor, b"127.0.0.1", service.port).connect(Factory.forProtocol(lambda: held))
    assert (await ask(service.port)).startswith(b"HTTP/1.1 429 ")
    held.transport.abortConnection()
    await deferLater(reactor, 0.05)
    assert (await ask(service.port)).startswith(b"HTTP/1.1 200 ")
    await service.stopService()
    globalLogPublisher.removeObserver(observe)
    assert said == [429, 200]


async def start_lines(*seeds: int | None, listening: bool = False, **more) -> list[str]:
    """What is said at the start of a balancer with each of these seeds."""
    said: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.service":
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    for seed in seeds:
        service = LoadBalancerService(config(1, **more), listening=listening, seed=seed)
        service.startService()
        await service.stopService()
    globalLogPublisher.removeObserver(observe)
    return said


@pytest_twisted.ensureDeferred
async def test_the_line_at_the_start_names_the_status_listener_too():
    [line] = await start_lines(1, listening=True, status="127.0.0.1:0")
    assert re.search(r"; status on 127\.0\.0\.1:[1-9]\d*, \d+ descriptors, seed 1$", line)


@pytest_twisted.ensureDeferred
async def test_what_is_doubtful_is_said_behind_the_line_at_the_start():
    line, doubt = await start_lines(1, health_check={"interval_s": 1, "timeout_s": 5})
    assert line.startswith("twisted_lb ")
    assert doubt.startswith("health_check.timeout_s: 5 is not shorter than interval_s = 1: ")


@pytest_twisted.ensureDeferred
async def test_the_line_at_the_start_names_the_seed():
    """What was decided by chance can be decided again."""
    [line] = await start_lines(4711)
    assert line.startswith("twisted_lb ")
    assert line.endswith(", seed 4711")


@pytest_twisted.ensureDeferred
async def test_left_out_the_seed_is_another_one_each_time_and_named_too():
    lines = await start_lines(None, None)
    assert len({re.search(r", seed (\d+)$", line)[1] for line in lines}) == 2


@pytest_twisted.ensureDeferred
async def test_the_same_seed_makes_the_same_choices():
    chosen = []
    for seed in (1, 1, 2):
        service = LoadBalancerService(config(*range(1, 50), policy="rand"), listening=False, seed=seed)
        service.startService()
        leases = [service.balancer.pool.claim(ANY, reactor.seconds()) for _ in range(20)]
        chosen.append([lease.backend.name for lease in leases])
        await service.stopService()
    assert chosen[0] == chosen[1] != chosen[2]


@pytest_twisted.ensureDeferred
async def test_left_out_half_of_the_descriptors_are_for_clients(backend):
    service = LoadBalancerService(config(backend.site.port))
    service.startService()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert service.engine.gate.most == room_for_clients(limit, 1)
    await service.stopService()


def test_clients_their_backends_checks_and_the_process_itself_fit_into_the_descriptors():
    for limit in (80, 1024, 20000):
        pipes = min(limit / 64, 128)
        assert (limit - pipes) / 2 - 20 < room_for_clients(limit, 2) < limit / 2
        assert 2 * room_for_clients(limit, 2) + 2 + 32 <= limit
    assert room_for_clients(16, 2) == 1


# Ready.


def status_of(service: LoadBalancerService) -> int:
    return service._status.listeners[0].port


@pytest_twisted.ensureDeferred
async def test_the_line_at_the_start_names_the_status_and_nobody_else_does(backend):
    said: list[str] = []

    def observe(event):
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    service = LoadBalancerService(config(backend.site.port, status="127.0.0.1:0"))
    service.startService()
    port = status_of(service)
    for _ in range(2):
        await ask(port, b"/-/ready")
    globalLogPublisher.removeObserver(observe)
    await service.stopService()
    # The client of this test has a factory that is not quiet.
    [line] = [line for line in said if "internet.protocol.Factory" not in line]
    assert f"; status on 127.0.0.1:{port}, " in line


@pytest_twisted.ensureDeferred
async def test_until_its_checks_have_said_something_it_is_not_ready():
    """Its backend takes the connection of the first check, and is silent."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        patient = {"interval_s": 60.0, "timeout_s": 60.0}
        silent_port = silent.getsockname()[1]
        service = LoadBalancerService(
            config(silent_port, status="127.0.0.1:0", ready_start_s=60.0, health_check=patient)
        )
        service.startService()
        port = status_of(service)
        assert not service.ready
        assert f"not ready: starting, no check yet of 127.0.0.1:{silent_port}\n".encode() in await ask(
            port, b"/-/ready"
        )
        service.balancer.observe_probe(f"127.0.0.1:{silent_port}", True, "")
        assert service.ready
        assert (await ask(port, b"/-/ready")).endswith(b"\r\n\r\nready\n")
        await service.stopService()
    assert service.readiness().text == "not ready: not running\n"


class StoppingProcess:
    """The process of a service, as far as a stop asks it; another one accepts on its sockets."""

    handed_on = True

    def __init__(self) -> None:
        self.stopped = False

    def stopping(self) -> None:
        """The service stops."""
        self.stopped = True

    def ended(self) -> None:
        """The service has stopped."""


@pytest_twisted.ensureDeferred
async def test_one_that_is_succeeded_leaves_its_probes_to_its_successor_at_once(backend, held):
    """Those that are connected too: a prober that keeps its connection would hear of a stop for as long as the drain lasts."""
    service = LoadBalancerService(config(backend.site.port, status="127.0.0.1:0"))
    service.startService()
    status = status_of(service)
    engine = service.engine
    slow = ask(service.port, b"/?delay=1")
    await at_the_backend(held, 1)
    with socket.create_connection(("127.0.0.1", status)) as kept:
        kept.setblocking(False)
        while not service._status.listeners[0].accepted:
            await deferLater(reactor, 0.01)
        own = service._own = StoppingProcess()
        stopped = service.stopService()
        assert own.stopped
        with pytest.raises(ConnectError):
            await ask(status, b"/-/ready")
        while True:
            try:
                assert kept.recv(1) == b""
                break
            except BlockingIOError:
                await deferLater(reactor, 0.01)
        assert engine.exchanges == 1
    held.pop()()
    await stopped
    assert (await slow).startswith(b"HTTP/1.1 200 ")


def test_a_hangup_before_the_start_or_after_the_end_is_no_news_for_a_service_manager():
    """Handlers stay: a reload that is told behind STOPPING=1 would be a service that is back."""
    service = LoadBalancerService(config(1))
    service._own = StoppingProcess()  # it knows of no reload
    service.reload()


def test_of_one_application_each_balancer_knows_the_processes_of_all():
    """They have the process to themselves together; what is embedded in it has none."""
    root, inner = MultiService(), MultiService()
    inner.setServiceParent(root)
    first, second, embedded = (LoadBalancerService(config(1)) for _ in range(3))
    for service, parent in ((first, root), (second, inner), (embedded, inner)):
        service.setServiceParent(parent)
    alone = LoadBalancerService(config(1))
    for service in (first, second, alone):
        service._own = StoppingProcess()
    both = [first._own, second._own]
    assert (first._all_own(), second._all_own(), alone._all_own()) == (both, both, [alone._own])


@pytest_twisted.ensureDeferred
async def test_in_its_grace_it_is_not_ready_and_accepts(backend):
    service = LoadBalancerService(config(backend.site.port, status="127.0.0.1:0", ready_grace_s=60.0))
    service.startService()
    status, port = status_of(service), service.port
    stopped = service.stopService()
    assert (await ask(status, b"/-/ready")).startswith(b"HTTP/1.1 503 ")
    assert (await ask(port)).startswith(b"HTTP/1.1 200 ")
    service.leave_patiently("a second signal")
    await stopped
    with pytest.raises(ConnectError):
        await ask(port)


@pytest_twisted.ensureDeferred
async def test_a_second_signal_ends_the_grace_and_the_drain(backend):
    service = LoadBalancerService(config(backend.site.port, ready_grace_s=60.0, timeouts={"drain_s": 60.0}))
    service.startService()
    engine = service.engine
    silent = ask(service.port, b"/?delay=9")
    while not engine.exchanges:
        await deferLater(reactor, 0.01)
    stopped = service.stopService()
    service.leave_patiently("a second one")
    await stopped
    assert (await silent).startswith(b"HTTP/1.1 503 ")
    assert engine.exchanges == 0


@pytest_twisted.ensureDeferred
async def test_a_pool_that_nobody_knows_cannot_be_required():
    with pytest.raises(ValueError, match=r'there is no pool "app" \(pools: default\)'):
        config(1, ready_requires=["app"])
