"""One owner for each rule and one place where each part is made: two laws of docs/architecture.md, as tests by equality."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from twisted_lb.net import client_side, exchange, http1, settings
from twisted_lb.net.client_side import ClientSide

ROOT = Path(__file__).parent.parent
NET = ROOT / "twisted_lb" / "net"

# Where each part is made: the only place in the package, but for those that say why they are another one.
PARTS = {
    "twisted_lb.data_plane.DataPlane": {
        "twisted_lb/service/balancer.py": "in a process",
        "twisted_lb/testing/balanced.py": "in a test",
        "twisted_lb/sim/world.py": "in a simulated world",
        "twisted_lb/workers/worker.py": "of a worker",
    },
    "twisted_lb.net.runtime.Runtime": {
        "twisted_lb/net/over_reactor.py": "over a reactor",
        "twisted_lb/testing/balanced.py": "over a test's time and network",
    },
    "twisted_lb.net.frontend.Frontend": {"twisted_lb/data_plane.py": ""},
    "twisted_lb.net.cluster.Cluster": {"twisted_lb/data_plane.py": ""},
    "twisted_lb.net.route.Route": {"twisted_lb/routes.py": ""},
    "twisted_lb.net.listener.Listener": {
        "twisted_lb/data_plane.py": "for clients",
        "twisted_lb/service/status_door.py": "for the status site",
        "twisted_lb/admin/door.py": "for operators",
    },
    "twisted_lb.core.gate.Gate": {"twisted_lb/data_plane.py": ""},
    "twisted_lb.checks.Checks": {"twisted_lb/data_plane.py": ""},
    "twisted_lb.probes.NetworkProbe": {"twisted_lb/data_plane.py": ""},
    "twisted_lb.planned.Plan": {"twisted_lb/plan.py": ""},
    "twisted_lb.net.settings.ClientRules": {"twisted_lb/plan.py": ""},
    "twisted_lb.net.settings.RouteRules": {"twisted_lb/plan.py": ""},
    "twisted_lb.net.settings.UpstreamRules": {"twisted_lb/plan.py": ""},
    "twisted_lb.core.pool.Pool": {
        "twisted_lb/net/cluster.py": "behind connections",
        "twisted_lb/facade.py": "of a program that sends its requests itself",
        "twisted_lb/testing/policies.py": "of a policy that is tried out",
        "twisted_lb/sim/farm.py": "of a farm of simulated backends",
        "twisted_lb/sim/prompts.py": "of a farm of simulated engines",
    },
    "twisted_lb.core.attempts.Attempts": {
        "twisted_lb/net/exchange.py": "of an exchange",
        "twisted_lb/facade.py": "of a program that sends its requests itself",
        "twisted_lb/sim/visits.py": "of a simulated exchange",
        "twisted_lb/net/session.py": "of a session",
    },
    "twisted_lb.net.http2.Http2": {"twisted_lb/net/protocols.py": "behind a listener"},
    "twisted_lb.net.http2_stream.Http2Stream": {"twisted_lb/net/http2.py": "of a client's connection"},
    "twisted_lb.net.http2_tunnel.Http2Tunnel": {"twisted_lb/net/http2_stream.py": "of a WebSocket"},
    "twisted_lb.net.frame_writer.FrameWriter": {
        "twisted_lb/net/http2.py": "to a client",
        "twisted_lb/net/http2_upstream.py": "to a backend",
    },
    "twisted_lb.net.reception.Reception": {
        "twisted_lb/net/http1.py": "of HTTP/1.1",
        "twisted_lb/net/http2.py": "of HTTP/2",
    },
    "twisted_lb.net.http1.Http1": {
        "twisted_lb/net/protocols.py": "behind a listener",
        "twisted_lb/testing/balanced.py": "behind a network in memory",
    },
    "twisted_lb.net.exchange.Exchange": {
        "twisted_lb/net/http1.py": "for a client on HTTP/1.1",
        "twisted_lb/net/http2.py": "for a stream of a client on HTTP/2",
        "twisted_lb/net/resource.py": "for a request of twisted.web",
    },
    "twisted_lb.net.client_connection.ClientConnection": {
        "twisted_lb/net/http1.py": "of HTTP/1.1",
        "twisted_lb/net/http2.py": "of HTTP/2",
        "twisted_lb/net/session.py": "of a session",
    },
    "twisted_lb.net.session.Session": {
        "twisted_lb/net/protocols.py": "of a listener that carries TCP",
        "twisted_lb/net/arrival.py": "by the name in a ClientHello",
        "twisted_lb/testing/balanced.py": "behind a network in memory",
    },
    "twisted_lb.wire.http1_reader.Http1Reader": {
        "twisted_lb/net/http1.py": "of a client",
        "twisted_lb/questions.py": "of a request that is asked about, and not sent",
    },
    "twisted_lb.net.http1_upstream.Http1Upstream": {
        "twisted_lb/net/cluster.py": "of a pool that speaks it",
        "twisted_lb/net/http2_connections.py": "where a backend has chosen it",
    },
    "twisted_lb.net.http2_upstream.Http2Connection": {"twisted_lb/net/http2_connections.py": ""},
    "twisted_lb.net.relay.Relay": {
        "twisted_lb/net/exchange.py": "of a tunnel",
        "twisted_lb/net/session.py": "of a session",
    },
    "twisted_lb.net.replay.Replay": {
        "twisted_lb/net/exchange.py": "of the request",
        "twisted_lb/net/mirror.py": "for whoever looks at how its copy begins",
    },
    "twisted_lb.core.record.Record": {
        "twisted_lb/net/exchange.py": "of an exchange",
        "twisted_lb/net/frontend.py": "of what was refused before there was one",
        "twisted_lb/net/session.py": "of a session",
    },
}

# What a test or a benchmark makes by hand, beside the tests of the part itself.
BY_HAND = {
    "twisted_lb.net.http1_upstream.Http1Upstream": {"tests/net/test_upstream.py": "over a foreign transport"},
    "twisted_lb.net.http2.Http2": {
        "tests/world.py": "a client that comes without a listener",
        "tests/http2_client.py": "over a network in memory",
    },
    "twisted_lb.net.relay.Relay": {
        "tests/joined.py": "over real transports, on time that the test moves",
        "benchmarks/tunnels.py": "between a sender and a reader, and nothing else",
    },
    "twisted_lb.data_plane.DataPlane": {
        "tests/world.py": "over real transports, on time that the test moves",
        "benchmarks/micro/subjects.py": "over sockets of the unix family",
        "tests/test_target_lists.py": "after a restart, and where nobody follows lists",
        "tests/operated.py": "with an operator, who hears what it says",
    },
    "twisted_lb.net.session.Session": {"tests/world.py": "a client that comes without a listener"},
    "twisted_lb.net.listener.Listener": {
        "tests/net/test_tcp_keepalive.py": "with what was accepted in the hands of the test"
    },
    "twisted_lb.net.http1.Http1": {
        "tests/world.py": "a client that comes without a listener",
        "tests/test_service.py": "over Twisted's own transports, as a program may",
        "tests/operated.py": "over a network in memory, with an operator",
        "tests/net/test_found_by_faults.py": "over foreign transports",
    },
    "twisted_lb.core.pool.Pool": {
        "tests/builders.py": "the core by itself",
        "tests/core/test_by_key.py": "the core by itself",
        "tests/core/test_explain.py": "the core by itself",
        "tests/core/test_levels.py": "the core by itself",
        "tests/core/test_own_policies.py": "the core by itself, with a stopwatch",
        "tests/core/test_pool_laws.py": "the core by itself",
        "tests/sim/test_workers.py": "the core by itself, with queues over what workers share",
        "tests/wild_pool.py": "the core by itself, in the hands of chance",
        "benchmarks/micro/subjects.py": "a lease and its end, and nothing else",
        "benchmarks/policy_table/steps.py": "picks, and nothing else",
    },
    "twisted_lb.core.attempts.Attempts": {
        "tests/core/test_affinity.py": "the core by itself",
        "tests/core/test_record.py": "the core by itself",
        "tests/core/test_queue.py": "the core by itself",
        "tests/core/test_levels.py": "the core by itself",
        "tests/core/test_backoff.py": "the core by itself",
        "tests/core/test_hedging.py": "the core by itself",
    },
    "twisted_lb.net.runtime.Runtime": {"tests/faults/timing.py": "production's timers, and a network in memory"},
    "twisted_lb.core.record.Record": {
        "tests/test_request_log.py": "one that no client could bring about",
        "tests/access_log/test_forms.py": "one that no client could bring about",
        "tests/access_log/test_termination.py": "outcomes that another attempt follows",
        "tests/test_access_log_doc.py": "ways to end that its page tells",
    },
    "twisted_lb.probes.NetworkProbe": {
        "tests/probing.py": "over a network in memory, without checks",
        "tests/net/test_proxy_to_backends.py": "over real transports, without checks",
        "tests/net/test_tls_to_backends.py": "over TLS, without checks",
    },
    "twisted_lb.wire.http1_reader.Http1Reader": {"tests/wire/test_block_pattern.py": "what a reader learns"},
}

# Who reads the rules of which owner.
READERS = {
    "ArrivalRules": {"Arrival", "Arrivals"},
    "ClientRules": {
        "BalancedReverseProxyResource",
        "ClientConnection",
        "Frontend",
        "Http1",
        "Http2",
        "Http2Stream",
        "_Life",
        "_RequestClient",
    },
    "RouteRules": {"Action", "Exchange", "Lead", "Mirror", "Route", "Session", "answer_for"},
    "UpstreamRules": {"Cluster", "Http1Upstream", "Http2Call", "Http2Connection", "Http2Connections", "_Joining"},
}
OF = {"arrival_rules": "ArrivalRules", "client_rules": "ClientRules", "upstream_rules": "UpstreamRules"}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def dotted(node: ast.expr) -> str:
    """`a.b.c`, or what is said last of something without a name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def made(source: str, module: str) -> Iterator[str]:
    """The classes that a module makes objects of, by their full names, under whatever name it knows them."""
    known: dict[str, str] = {}
    called = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called.append(dotted(node.func))
        elif isinstance(node, ast.ImportFrom):
            known.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Import):
            known.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ClassDef):
            known.setdefault(node.name, f"{module}.{node.name}")
    for name in called:
        head, dot, rest = name.partition(".")
        yield known.get(head, head) + dot + rest


def makers(*folders: str) -> dict[str, dict[str, int]]:
    """For each part, which files of these folders make it, and how often."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for name in made(path.read_text(), module_of(path)):
            if name in PARTS:
                found[name][str(path.relative_to(ROOT))] += 1
    return found


def test_each_part_is_made_where_it_is_said_to_be_and_once():
    assert makers("twisted_lb") == {part: dict.fromkeys(places, 1) for part, places in PARTS.items()}


def test_a_second_place_says_why():
    assert all(len(places) == 1 or all(places.values()) for places in PARTS.values())


def test_tests_and_benchmarks_make_nothing_by_hand_but_what_they_say():
    found = makers("tests", "benchmarks")
    for part, places in found.items():
        own = f"test_{part.split('.')[-2]}.py"
        for path in [path for path in places if path.endswith(f"/{own}")]:
            del places[path]
    by_hand = {part: set(places) for part, places in found.items() if places}
    assert by_hand == {part: set(places) for part, places in BY_HAND.items()}


@pytest.mark.parametrize(
    "source",
    [
        "from twisted_lb.net.cluster import Cluster\nCluster('a')",
        "from twisted_lb.net.cluster import Cluster as C\ndef late():\n    return [C(n) for n in 'ab']",
        "from twisted_lb.net import cluster\ncluster.Cluster('a')",
        "import twisted_lb.net.cluster as room\nroom.Cluster('a')",
    ],
)
def test_the_check_sees_a_part_that_is_made(source):
    assert "twisted_lb.net.cluster.Cluster" in set(made(source, "m"))


# Rules.


def fields_of(owner: str) -> set[str]:
    """The attributes and methods of an owner's rules."""
    tree = ast.parse((NET / "settings.py").read_text())
    [rules] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner]
    attributes = {
        node.attr
        for node in ast.walk(rules)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    methods = {node.name for node in rules.body if isinstance(node, ast.FunctionDef) and node.name != "__init__"}
    return attributes | methods


FIELDS = {owner: fields_of(owner) for owner in READERS}


def last_word(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def owners_read(node: ast.AST) -> tuple[set[str], set[str]]:
    """(owners whose rules might be all that is read there, what is read of rules)."""
    possible, read = set(READERS), set()
    for one in ast.walk(node):
        if not isinstance(one, ast.Attribute):
            continue
        if one.attr in OF and isinstance(one.ctx, ast.Load):
            read.add(one.attr)
            possible &= {OF[one.attr]}
        elif last_word(one.value).endswith("rules"):
            read.add(one.attr)
            possible &= {owner for owner, fields in FIELDS.items() if one.attr in fields}
    return possible, read


def readers(sources: dict[str, str]) -> dict[str, set[str]]:
    """For each owner, the classes that read its rules; under "several" those that nobody's rules alone explain."""
    found: dict[str, set[str]] = defaultdict(set)
    for source in sources.values():
        for node in ast.parse(source).body:
            possible, read = owners_read(node)
            if read:
                name = getattr(node, "name", "a module")
                found[next(iter(possible)) if len(possible) == 1 else "several"].add(name)
    return found


def hidden(source: str) -> list[str]:
    """Rules that are given a name by which nobody would know them."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and node.value is not None
        and last_word(node.value).endswith("rules")
        and not all(
            last_word(target).endswith("rules")
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        )
    ]


SOURCES = {path.name: path.read_text() for path in sorted(NET.glob("*.py")) if path.name != "settings.py"}


def test_no_class_reads_the_rules_of_two_owners():
    assert readers(SOURCES) == READERS


def test_rules_are_called_rules():
    assert {name: hidden(source) for name, source in SOURCES.items() if hidden(source)} == {}


def test_the_owners_are_those_of_the_settings():
    named = {name for name, one in vars(settings).items() if isinstance(one, type) and name.endswith("Rules")}
    assert named - {"RetryRules"} == set(READERS)


@pytest.mark.parametrize(
    ("body", "owner"),
    [
        ("self._frontend.client_rules.head_s; self.route.rules.body_bytes", "several"),
        ("rules = connection.rules; rules.head_s; self._keeper.upstream_rules.limits", "several"),
        ("self.rules.connect_s; self.rules.response_idle_s", "several"),
        ("self.rules.nothing_of_the_kind", "several"),
        ("rules = self.route.rules; rules.pages; rules.replay_bytes", "RouteRules"),
        ("frontend.client_rules.pages; rules.limits", "ClientRules"),
    ],
)
def test_the_check_sees_whose_rules_are_read(body, owner):
    assert readers({"m": f"class C:\n    def read(self):\n        {body}"}) == {owner: {"C"}}


def test_the_check_sees_rules_under_another_name():
    assert hidden("limits = self.route.rules\nrules = self.rules\nself._rules = x.client_rules\na = rules.b") == [
        "limits = self.route.rules"
    ]


# Tunnels are a relay's.


def test_a_client_side_gives_its_connection_away_and_knows_nothing_of_tunnels():
    methods = {name for name in vars(ClientSide) if not name.startswith("_")}
    assert methods == {
        "abort", "agreed", "check_switch", "finish", "first", "flush", "inform", "keep", "left_behind", "pause", "peer_port", "proxy_header", "release", "resume", "start",
        "take_kept", "who",
        "write",
    }  # fmt: skip


@pytest.mark.parametrize("module", [client_side, exchange, http1], ids=lambda module: module.__name__)
def test_no_method_has_a_tunnel_in_its_name(module):
    tree = ast.parse((NET / f"{module.__name__.rpartition('.')[2]}.py").read_text())
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "tunnel" in node.name]
