"""A service goes by another configuration while it runs: read anew, by a program, or not at all."""

import os
import re
import socket
import threading
from pathlib import Path

import pytest
import pytest_twisted
from authority import DAY, NOW, Authority, chain_of, key_of
from test_service import ask, status_of
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.admin.operator import Actor, Command
from twisted_lb.check import problems_of
from twisted_lb.config import LoadBalancerConfig, TimeoutsConfig
from twisted_lb.config.load import Source
from twisted_lb.core.backend import AdminState
from twisted_lb.errors import ConfigError
from twisted_lb.net.listener import bind_tcp
from twisted_lb.service import LoadBalancerService
from twisted_lb.sibling.service import BackendService
from twisted_lb.watch import digest


class Paper:
    """A source whose file says what the test wants."""

    def __init__(self, **values) -> None:
        self.values = values
        self.loads = 0
        self.digests: dict[Path, str] = {}
        self.gate: threading.Event | None = None

    def load(self) -> LoadBalancerConfig:
        self.loads += 1
        if self.gate is not None:
            self.gate.wait(30)
        if "broken" in self.values:
            raise ConfigError(self.values["broken"])
        return LoadBalancerConfig.model_validate(self.values)

    def files(self) -> dict[Path, str]:
        return self.digests

    def placed(self, config, found):
        return list(found)

    def warnings(self, config):
        return ()

    def origins(self, config):
        return None


class Own:
    """A process of its own that notes what it tells its service manager."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.handed_on = False
        self.preparing = False

    def reloading(self):
        self.told.append("reloading")

    def reloaded(self):
        self.told.append("ready")

    def stopping(self):
        self.told.append("stopping")

    def ended(self):
        pass


@pytest.fixture
def said():
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"] in ("twisted_lb.service", "twisted_lb.reload"):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest_twisted.async_yield_fixture
async def backends():
    """Two of them, as `127.0.0.1:PORT`."""
    services = [BackendService(0, "127.0.0.1", "sibling") for _ in range(2)]
    for service in services:
        service.privilegedStartService()
        service.startService()
    yield [f"127.0.0.1:{service.site.port}" for service in services]
    for service in services:
        await service.stopService()


def paper(*names: str, **more) -> Paper:
    more.setdefault("health_check", {"interval_s": 0.0})
    return Paper(backends=list(names), listen={"port": 0, "interface": "127.0.0.1"}, **more)


def started(source: Paper) -> LoadBalancerService:
    service = LoadBalancerService(source.load(), source=source)
    source.loads = 0
    service.startService()
    return service


def under_way(service: LoadBalancerService) -> Deferred:
    """Fires when no reload is under way any more."""
    done: Deferred = Deferred()
    service._reload._waiting.append(done)
    return done


async def reload(service: LoadBalancerService) -> None:
    service.reload()
    await under_way(service)


def port_of(service: LoadBalancerService, listener: str) -> int:
    return service.data_plane.listeners[listener][0].port


@pytest_twisted.ensureDeferred
async def test_what_the_file_says_now_holds(backends, said):
    source = paper(backends[0])
    service = started(source)
    port, frontend, cluster = service.port, service.engine, service.balancer
    source.values["backends"] = [backends[1]]
    await reload(service)
    assert [*service.balancer.pool.backends] == [backends[1]]
    assert (service.port, service.engine, service.balancer) == (port, frontend, cluster)
    assert (await ask(port)).startswith(b"HTTP/1.1 200 ")
    assert f"reload: changes pool default: +{backends[1]}, -{backends[0]}" in said
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_listener_comes_and_goes_and_the_others_keep_their_sockets(backends):
    pools = {"api": {"backends": [backends[1]], "health_check": {"interval_s": 0.0}}}
    source = paper(backends[0])
    service = started(source)
    sock = service.data_plane.listeners["default"][0].sock
    source.values.update(pools=pools, listeners={"web": {"address": "127.0.0.1:0", "default_pool": "api"}})
    await reload(service)
    web = port_of(service, "web")
    assert (await ask(web)).startswith(b"HTTP/1.1 200 ")
    assert service.data_plane.listeners["default"][0].sock is sock
    del source.values["listeners"], source.values["pools"]
    await reload(service)
    await deferLater(reactor, 0)
    with pytest.raises(ConnectError):
        await ask(web)
    assert (await ask(service.port)).startswith(b"HTTP/1.1 200 ")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_address_changes_hands_with_its_socket(backends):
    check = {"interval_s": 0.0}
    pools = {name: {"backends": [address], "health_check": check} for name, address in zip("ab", backends, strict=True)}
    with bind_tcp("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    web = {"address": f"127.0.0.1:{port}", "default_pool": "a"}
    source = Paper(pools=pools, listeners={"web": web})
    service = started(source)
    sock = service.data_plane.listeners["web"][0].sock
    source.values["listeners"] = {"other": {**web, "default_pool": "b"}}
    await reload(service)
    assert [*service.data_plane.listeners] == ["other"]
    assert service.data_plane.listeners["other"][0].sock is sock
    before = service.data_plane.clusters["b"].pool.backends[backends[1]].requests
    assert (await ask(port)).startswith(b"HTTP/1.1 200 ")
    assert service.data_plane.clusters["b"].pool.backends[backends[1]].requests == before + 1
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_who_waits_to_be_accepted_at_an_address_that_goes_is_served(backends):
    source = paper(backends[0])
    source.values["listeners"] = {"web": {"address": "127.0.0.1:0", "default_pool": "default"}}
    service = started(source)
    with socket.create_connection(("127.0.0.1", port_of(service, "web"))) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        config = LoadBalancerConfig.model_validate({k: v for k, v in source.values.items() if k != "listeners"})
        service.apply(config)  # before the reactor could accept it
        client.setblocking(False)
        heard = b""
        while b"\r\n\r\n" not in heard:
            await deferLater(reactor, 0.01)
            try:
                heard += client.recv(65536)
            except BlockingIOError:
                continue
        assert heard.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in heard
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_file_with_mistakes_changes_nothing_and_all_of_them_are_said(backends, said):
    source = paper(backends[0])
    service = started(source)
    plan = service._plan
    source.values["broken"] = ["lb.toml:1: one", "lb.toml:2: two"]
    said.clear()
    await reload(service)
    assert said[:3] == ["reload: lb.toml:1: one", "reload: lb.toml:2: two", "reload: nothing was changed"]
    assert service._plan is plan
    assert service.data_plane.plan is plan
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_address_that_cannot_be_had_changes_nothing(backends, said):
    source = paper(backends[0])
    service = started(source)
    with bind_tcp("127.0.0.1", 0) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        source.values.update(backends=[backends[1]], listeners={"web": {"address": where, "default_pool": "default"}})
        said.clear()
        await reload(service)
    assert said[:2] == [f"reload: {where} of listener web: already in use", "reload: nothing was changed"]
    assert [*service.balancer.pool.backends] == [backends[0]]
    assert [*service.data_plane.frontends] == ["default"]
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_an_error_page_is_read_anew_and_one_that_is_not_there_changes_nothing(tmp_path, said):
    page = tmp_path / "502.html"
    page.write_text("old")
    source = paper("127.0.0.1:1", error_pages={"502": str(page)})
    service = started(source)
    page.write_text("new")
    await reload(service)
    assert (await ask(service.port)).endswith(b"new")
    page.unlink()
    await reload(service)
    assert f"reload: error_pages.502: {page}: no such file or directory" in said
    assert (await ask(service.port)).endswith(b"new")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_second_reload_waits_for_the_first_and_a_third_is_the_second(backends):
    source = paper(backends[0])
    service = started(source)
    source.gate = threading.Event()
    for _ in range(3):
        service.reload()
    source.gate.set()
    await under_way(service)
    assert source.loads == 2
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_service_manager_is_told_of_a_reload_from_its_beginning_to_its_end(backends):
    source = paper(backends[0])
    service = started(source)
    own = service._own = Own()
    service.reload()
    assert own.told == ["reloading"]
    await under_way(service)
    await deferLater(reactor, 0)
    assert own.told == ["reloading", "ready"]
    service._own = None
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_during_a_stop_a_reload_is_refused_and_one_that_has_begun_changes_nothing(backends, said):
    source = paper(backends[0], ready_grace_s=60.0)
    service = started(source)
    source.gate = threading.Event()
    service.reload()
    running = under_way(service)
    stopped = service.stopService()
    service.reload()
    assert "reload: refused, the balancer is not running or stops; nothing was changed" in said
    source.gate.set()
    await running
    assert said[-2:] == ["reload: the balancer stops", "reload: nothing was changed"]
    service.leave_patiently("enough")
    await stopped


def test_what_a_program_has_configured_has_nothing_to_reload(said):
    service = LoadBalancerService(paper("127.0.0.1:1").load())
    service.reload()
    assert said == ["reload: nothing has changed: the configuration is a program's, and no file's"]


# Watched files.


@pytest_twisted.ensureDeferred
async def test_a_file_that_changes_is_reloaded_while_that_is_wanted(backends, tmp_path):
    path = tmp_path / "lb.toml"
    path.write_text("one")
    source = paper(backends[0], watch=True)
    source.digests = {path: "what was read before"}
    service = started(source)
    while not source.loads:
        await deferLater(reactor, 0.05)
    source.values["watch"] = False
    await reload(service)
    assert not service._watch._looking.running
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_was_read_is_known_to_the_watch_with_the_files_that_are_named_there(backends, tmp_path):
    path, page = tmp_path / "lb.toml", tmp_path / "502.html"
    path.write_text("one")
    page.write_text("sorry")
    source = paper(backends[0], watch=True, error_pages={"502": str(page)})
    source.digests = {path: digest(path)}
    service = started(source)
    watch = service._watch
    assert watch._known == watch._now() == {str(path): digest(path), str(page): digest(page)}
    path.write_text("two")
    page.write_text("oh")
    source.digests = {path: digest(path)}
    await reload(service)
    assert watch._known == watch._now() == {str(path): digest(path), str(page): digest(page)}
    source.values["broken"] = ["bad"]
    path.write_text("bad")
    await reload(service)
    assert watch._known != watch._now()  # it is tried once more, and then known
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_renewed_alone_is_seen_by_the_watch_and_served_from_the_reload_on(
    backends, tmp_path
):
    house = Authority(tmp_path)

    def renew(days):
        leaf = house.leaf("www.example.com", not_after=NOW + days * DAY)
        return house.write("www.pem", chain_of(leaf), key_of(leaf))

    path, renewed = tmp_path / "lb.toml", renew(40)
    path.write_text(
        f'backends = ["{backends[0]}"]\nwatch = true\ntls = "{renewed}"\nhealth_check.interval_s = 0\n'
        'listen = { port = 0, interface = "127.0.0.1" }\n'
    )
    service = started(Source({}, path))
    watch, serving = service._watch, service.data_plane.servings["default"]
    assert service.changed_file() == (str(path), None, "")
    renew(90)
    assert service.changed_file()[2] == renewed
    assert watch._known != watch._now()
    await reload(service)
    assert service.changed_file() == (str(path), None, "")
    assert watch._known == watch._now()
    now = service.data_plane.servings["default"]
    assert now.expires()["www.example.com (ECDSA)"] > serving.expires()["www.example.com (ECDSA)"] + 40 * 86_400
    await service.stopService()


# By a program.


@pytest_twisted.ensureDeferred
async def test_a_program_may_have_another_configuration_applied(backends):
    source = paper(backends[0])
    service = started(source)
    source.values["backends"] = backends
    assert service.apply(source.load()).changes == (f"changes pool default: +{backends[1]}",)
    assert [*service.balancer.pool.backends] == backends
    source.values["error_pages"] = {"502": "/nowhere/502.html"}
    with pytest.raises(ConfigError, match=r"error_pages.502: /nowhere/502.html: no such file"):
        service.apply(source.load())
    assert service.config.error_pages == {}
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_is_applied_before_the_start_holds_from_it_on(backends):
    source = paper(backends[0])
    service = LoadBalancerService(source.load())
    service.privilegedStartService()
    source.values["listen"] = {"port": 0, "interface": "127.0.0.2"}
    service.apply(source.load())
    service.startService()
    assert service.data_plane.listeners["default"][0].address.startswith("127.0.0.2:")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_backends_and_timeouts_of_what_is_called_default_are_replaced_in_tables_too(backends):
    check = {"interval_s": 0.0}
    source = Paper(
        pools={"default": {"backends": [backends[0]], "health_check": check}},
        listeners={"default": {"address": "127.0.0.1:0"}},
    )
    service = started(source)
    service.update([backends[1]])
    service.set_timeouts(TimeoutsConfig(connect_s=7, head_s=9))
    assert [*service.balancer.pool.backends] == [backends[1]]
    assert (service.balancer.upstream_rules.connect_s, service.engine.client_rules.head_s) == (7, 9)
    await service.stopService()


def test_an_update_replaces_a_target_list_too():
    table = {"backends": ["a:1"], "targets": {"file": "/lists/default.json"}}
    service = LoadBalancerService(LoadBalancerConfig(pools={"default": table}))
    service.update(["b:1"])
    pool = service.config.pools["default"]
    assert ([spec.name for spec in pool.backends], pool.targets) == (["b:1"], None)


def test_where_no_pool_is_called_default_there_is_none_to_update():
    source = Paper(
        pools={"api": {"backends": ["127.0.0.1:1"]}},
        listeners={"web": {"address": "127.0.0.1:0", "default_pool": "api"}},
    )
    with pytest.raises(ValueError, match=r"there is no pool default \(pools: api\)"):
        LoadBalancerService(source.load()).update(["127.0.0.1:2"])


# The status site, and what needs a restart.


@pytest_twisted.ensureDeferred
async def test_the_status_site_moves_comes_and_goes(backends):
    source = paper(backends[0])
    service = started(source)
    source.values["status"] = "127.0.0.1:0"
    await reload(service)
    first = status_of(service)
    assert (await ask(first, b"/-/ready")).startswith(b"HTTP/1.1 200 ")
    await reload(service)
    assert status_of(service) == first
    source.values["status"] = "127.0.0.2:0"
    await reload(service)
    assert service._status.listeners[0].address.startswith("127.0.0.2:")
    del source.values["status"]
    await reload(service)
    assert service._status.listeners == []
    await deferLater(reactor, 0)
    with pytest.raises(ConnectError):
        await ask(first, b"/-/ready")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_is_doubtful_is_said_when_it_comes_and_once(backends, said):
    source = paper(backends[0])
    service = started(source)
    source.values["forwarding"] = {"trusted_proxies": ["0.0.0.0/0"]}
    for _ in range(2):
        await reload(service)
    assert len([line for line in said if "0.0.0.0/0" in line and not line.startswith("reload:")]) == 1
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_only_a_restart_changes_is_said(backends, said, tmp_path):
    source = paper(backends[0])
    service = started(source)
    source.values.update(state_file=str(tmp_path / "state"), takeover="/run/lb", log={"old_files": 2})
    await reload(service)
    assert {
        "takeover is only changed by a restart",
        "state_file is only changed by a restart",
        "log.file_bytes and log.old_files are only changed by a restart",
    } <= {*said}
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_only_a_restart_changes_is_told_who_asks_as_long_as_the_file_says_it(backends):
    source = paper(backends[0])
    service = started(source)
    source.values["workers"] = 2
    for dry_run in (True, False, False, True):
        reloaded = await service.reload_now(dry_run=dry_run)
        assert [one for one in reloaded.warnings if "workers is" in one] == ["workers is only changed by a restart"]
        assert not reloaded.changed
    source.values["workers"] = 1
    reloaded = await service.reload_now(dry_run=False)
    assert not [one for one in reloaded.warnings if "workers is" in one]
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_workers_that_a_file_says_and_nobody_has_make_no_room_for_clients(backends):
    source = paper(backends[0])
    service = started(source)
    [before] = (await service.operator.look()).listeners
    source.values["workers"] = 4
    for name in backends[
        :2
    ]:  # the room is that of so many backends; what the file had said before counted in the next reload
        source.values["backends"] = [name]
        await reload(service)
    [now] = (await service.operator.look()).listeners
    assert (now.limit, now.limit > 0) == (before.limit, True)
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_changes_beside_listeners_routes_and_pools_is_said_too(backends, said):
    source = paper(backends[0], status="127.0.0.1:0")
    service = started(source)
    said.clear()
    source.values.update(status=None, ready_requires=["default"], ready_grace_s=0.01)
    await reload(service)
    assert said == [
        "reload: changes status 127.0.0.1:0 -> none",
        "reload: changes ready_requires [] -> [default]",
        "reload: changes ready_grace_s 0 -> 0.01",
        "reload: keeps 1 listener, 1 route, 1 pool as before; connections cut: 0",
    ]
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_files_that_are_missing_and_doubts_are_told_with_their_places(backends, said, tmp_path, monkeypatch):
    """At the start, and at a reload what is new."""
    monkeypatch.chdir(tmp_path)
    path = Path("lb.toml")
    text = f'strategy = "rr"\nbackends = ["{backends[0]}"]\nlisten = {{ port = 0, interface = "127.0.0.1" }}\n'
    path.write_text(text)
    service = started(Source({}, path))
    older = "strategy: is called policy now; this name is understood for two releases   [W02]"
    assert said[1:] == [f"lb.toml:1:1: {older}"]
    said.clear()
    path.write_text(f'{text}error_pages.503 = "503.html"\n')
    await reload(service)
    assert said == [
        "reload: lb.toml:4:19: error_pages.503: 503.html: no such file or directory",
        "reload: nothing was changed",
    ]
    said.clear()
    path.write_text(f"# moved\n{text}[health_check]\ninterval_s = 1\ntimeout_s = 2\n")
    await reload(service)
    [doubt, *_] = said
    assert doubt.startswith("lb.toml:7:13: health_check.timeout_s: 2 is not shorter than interval_s = 1: ")
    assert len(said) == 3
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_pools_that_are_required_for_readiness_are_those_of_the_file(backends):
    api = {"backends": ["127.0.0.1:1"], "health_check": {"interval_s": 60.0, "initial": "down"}}
    source = paper(backends[0], pools={"api": api}, ready_start_s=0.0)
    service = started(source)
    assert service.ready
    source.values["ready_requires"] = ["api"]
    await reload(service)
    assert not service.ready
    await service.stopService()


# What was changed at run time.


@pytest_twisted.ensureDeferred
async def test_runtime_changes_outlive_a_restart_by_the_rule_of_a_reload(backends, said, tmp_path):
    path = tmp_path / "lb.state"
    source = paper(*backends, state_file=str(path))
    service = started(source)
    service._operating.command(Command("default", backends[0], AdminState.DRAIN), Actor("alice", "deploy"))
    service.data_plane.set_weight("default", backends[1], 0)
    await service.stopService()
    assert path.stat().st_mode & 0o777 == 0o600
    source.values["backends"] = [backends[0], f"{backends[1]},weight=2"]
    service = started(source)
    assert [(one.admin, one.weight) for one in service.balancer.pool.backends.values()] == [
        (AdminState.DRAIN, 1),
        (AdminState.READY, 2),
    ]
    assert f"state_file {path}: drops: weight 0 of {backends[1]}" in said
    change = service._operating.snapshot().changes[0]
    assert (change.change, change.actor, change.reason) == ("admin drain", "alice", "deploy")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_is_added_at_run_time_inherits_the_defaults_of_the_file(backends):
    source = paper(backends[0], defaults={"backend": {"weight": 5}})
    service = started(source)
    service.add_backend("default", backends[1])
    service.add_backend("default", {"address": "127.0.0.1:1", "name": "one", "weight": 2})
    assert [(one.name, one.weight) for one in service.balancer.pool.backends.values()] == [
        (backends[0], 5), (backends[1], 5), ("one", 2),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"^[^\n]*'nowhere'[^\n]*$"):
        service.add_backend("default", "nowhere")
    with pytest.raises(ValueError, match=f"pool default: {backends[0]} at {backends[0]} is there already"):
        service.add_backend("default", backends[0])
    with pytest.raises(KeyError, match="no pool is called api"):
        service.add_backend("api", backends[0])
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_broken_state_file_is_no_reason_not_to_start(backends, tmp_path):
    path = tmp_path / "lb.state"
    path.write_text("{")
    service = started(paper(backends[0], state_file=str(path)))
    assert (await ask(service.port)).startswith(b"HTTP/1.1 200 ")
    await service.stopService()
    assert path.read_text() == "{"


# Unix sockets.


@pytest_twisted.ensureDeferred
async def test_the_file_of_a_unix_socket_is_gone_with_its_listener_and_at_the_end(backends, tmp_path):
    one, other = (str(tmp_path / name) for name in ("one", "other"))
    source = paper(backends[0])
    source.values["listeners"] = {
        name: {"address": f"unix:{path}", "default_pool": "default"} for name, path in (("a", one), ("b", other))
    }
    service = started(source)
    del source.values["listeners"]["a"]
    await reload(service)
    assert (os.path.exists(one), os.path.exists(other)) == (False, True)
    await service.stopService()
    assert not os.path.exists(other)


class NoResolver:
    """A resolver that knows no name."""

    def resolveHostName(self, receiver, *_words, **_named):
        receiver.resolutionBegan(None)
        receiver.resolutionComplete()
        return receiver


@pytest_twisted.ensureDeferred
async def test_a_name_that_does_not_resolve_is_a_warning_with_its_place_at_start_and_reload(
    said, monkeypatch, tmp_path
):
    monkeypatch.setattr(reactor, "_nameResolver", NoResolver())
    file = tmp_path / "lb.toml"
    flat = '[listen]\nport = 0\ninterface = "127.0.0.1"\n[health_check]\ninterval_s = 0\n'
    file.write_text('backends = [\n  "one.example:80",\n]\n' + flat)
    source = Source({}, file, {})
    service = LoadBalancerService(source.load(), source=source)
    service.startService()
    warned = [
        f"{file}:2:3: backends[0]: one.example:80 is down until its name resolves: the name does not resolve   [W18]"
    ]
    assert [line for line in said if "[W18]" in line] == warned
    file.write_text('backends = [\n  "two.example:80",\n  "one.example:80",\n]\n' + flat)
    await reload(service)
    warned += [
        f"{file}:2:3: backends[0]: two.example:80 is down until its name resolves: the name does not resolve   [W18]"
    ]
    assert [line for line in said if "[W18]" in line] == warned
    await service.stopService()


FLAT = '[listen]\nport = 0\ninterface = "127.0.0.1"\n[health_check]\ninterval_s = 0\n'


@pytest_twisted.async_yield_fixture
async def filed(tmp_path):
    """A service that goes by a file, and the file."""
    file = tmp_path / "lb.toml"
    file.write_text('backends = ["127.0.0.1:1"]\n' + FLAT)
    source = Source({}, file, {})
    service = LoadBalancerService(source.load(), source=source)
    service.startService()
    yield service, source, file
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_look_says_what_a_reload_would_do_and_leaves_everything_as_it_was(filed):
    service, source, file = filed
    read, loaded = dict(source.files()), source.loaded
    file.write_text('backends = ["127.0.0.1:1", "127.0.0.1:2"]\n' + FLAT)
    found = await service.reload_now(dry_run=True)
    assert (found.applied, found.changed, found.problems) == (False, True, ())
    assert any("+127.0.0.1:2" in line for line in found.lines)
    assert (dict(source.files()), source.loaded) == (read, loaded)
    assert list(service.balancer.pool.backends) == ["127.0.0.1:1"]
    applied = await service.reload_now(dry_run=False)
    assert (applied.applied, applied.changed, applied.lines) == (True, True, found.lines)
    again = await service.reload_now(dry_run=True)
    assert (again.changed, again.applied) == (False, False)


@pytest_twisted.ensureDeferred
async def test_a_look_at_what_is_wrong_says_all_of_it_with_places(filed, said):
    service, _, file = filed
    file.write_text('polcy = "rr"\nbackends = ["127.0.0.1:1"]\nseed = "x"\n' + FLAT)
    for dry_run in (True, False):
        found = await service.reload_now(dry_run=dry_run)
        assert not found.applied
        assert [one["place"].rpartition("lb.toml:")[2].partition(":")[0] for one in found.problems] == ["1", "3"]
        assert all(set(one) == {"place", "text", "code"} for one in found.problems)
        assert "polcy" in found.report
    file.write_text('backends = ["127.0.0.1:1"]\nerror_pages = { 503 = "/nowhere" }\n' + FLAT)
    found = await service.reload_now(dry_run=True)
    assert "/nowhere" in found.problems[0]["text"]
    assert found.problems[0]["place"].rpartition("lb.toml:")[2].startswith("2:")


@pytest_twisted.ensureDeferred
async def test_a_reload_and_a_look_say_every_doubt_that_a_check_says_each_time(filed, tmp_path, monkeypatch):
    service, _, file = filed
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "doubted_policy.py"
    policy = (
        "class Mine:\n    def __init__(self, members, previous=None):\n        self.members = members\n"
        "    def pick(self, ask, now, rng, tried):\n        return next((one for one in self.members if one.open_to(tried)), None)\n"
    )
    module.write_text(policy)
    file.write_text(
        'backends = ["127.0.0.1:1"]\npolicy = "doubted_policy:Mine"\n'
        "retry.bad_statuses = [503]\nupstream.fresh_s = 2\n" + FLAT
    )
    assert (await service.reload_now(dry_run=False)).applied
    module.write_text(policy + "# another one\n")
    look = await service.reload_now(dry_run=True)
    done = await service.reload_now(dry_run=False)
    again = await service.reload_now(dry_run=False)
    checked = [str(one) for one in problems_of(Source({}, file, {}))]
    assert [re.search(r"\[(W\d+)\]", one)[1] for one in checked] == ["W25", "W14", "W02"]
    assert look.warnings == done.warnings == again.warnings == checked


@pytest_twisted.ensureDeferred
async def test_everybody_who_asks_while_a_reload_is_under_way_is_told_what_was_done(filed):
    service, _, file = filed
    file.write_text('backends = ["127.0.0.1:2"]\n' + FLAT)
    asked = [service.reload_now(dry_run=False) for _ in range(3)]
    results = [await one for one in asked]
    assert all(one is not None and one.applied for one in results)
    assert list(service.balancer.pool.backends) == ["127.0.0.1:2"]


@pytest_twisted.ensureDeferred
async def test_a_bug_in_a_reload_is_told_who_asked(backends, logged_errors):
    source = paper(backends[0])
    service = started(source)

    def broken():
        raise RuntimeError("no")

    source.load = broken
    found = await service.reload_now(dry_run=False)
    assert found.problems == [{"place": "", "text": "a bug: the log of the balancer says more", "code": ""}]
    assert len(logged_errors.take()) == 1
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_stop_refuses_a_reload_that_was_asked_for_and_its_asker_is_told(backends):
    source = paper(backends[0], ready_grace_s=60.0)
    service = started(source)
    source.gate = threading.Event()
    asked = service.reload_now(dry_run=False)
    stopped = service.stopService()
    source.gate.set()
    found = await asked
    assert [one["text"] for one in found.problems] == ["the balancer stops"]
    service.leave_patiently("enough")
    await stopped


@pytest_twisted.ensureDeferred
async def test_operators_are_told_who_has_loaded_what_is_in_force(filed):
    service, _, file = filed
    seen = []
    for number, by in ((2, "SIGHUP"), (3, "watch"), (4, "")):
        file.write_text(f'backends = ["127.0.0.1:{number}"]\n' + FLAT)
        if by:
            service.reload(*[by] if by != "SIGHUP" else [])
            await under_way(service)
        else:
            await service.operator.apply(Actor("alice"))
        snapshot = service.operator.snapshot()
        seen.append((snapshot.loaded_by, snapshot.generation))
    assert seen == [("SIGHUP", 2), ("watch", 3), ("alice", 4)]
