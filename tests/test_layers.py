"""Who may import whom: the layers of docs/architecture.md, as a test, by equality: a row that allows what nobody imports
fails too. Imports for the type checker count: a layer that needs another one's types depends on it.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "twisted_lb"

# For each part: the other parts of twisted_lb, and the foreign packages, that it imports beside the standard library.
MAY_IMPORT = {
    "core": (set(), {"mypy_extensions"}),
    "wire": (set(), {"mypy_extensions"}),
    "config": ({"core", "errors"}, {"pydantic", "pydantic_core"}),
    "config_reference": ({"config"}, set()),
    "net": ({"core", "wire"}, {"mypy_extensions", "twisted", "zope"}),
    # Certificates and contexts: what a listener serves TLS with.
    "tls": (set(), {"cryptography"}),
    "probes": ({"core", "net"}, {"twisted"}),
    "http_check": ({"core", "probes", "wire"}, set()),
    "grpc_check": ({"core", "http2_check", "probes", "wire"}, set()),
    "http2_check": ({"core", "http_check", "probes", "wire"}, set()),
    "script_check": ({"core", "probes"}, set()),
    "agent_check": ({"core", "probes"}, set()),
    "checks": ({"core", "probes"}, {"twisted"}),
    "request_log": ({"core"}, {"twisted"}),
    "access_log": ({"core", "errors", "log_files", "wire"}, {"mypy_extensions", "twisted"}),
    "plan_diff": ({"access_log", "config", "core", "errors", "plan", "planned", "tracing"}, set()),
    # Plans as the running parts know them, without the configuration.
    "planned": ({"access_log", "core", "discovery", "http_check", "net", "tls", "tracing"}, set()),
    "plan": (
        {
            "access_log",
            "config",
            "core",
            "discovery",
            "errors",
            "http_check",
            "net",
            "plan_tls",
            "planned",
            "tls",
            "tracing",
            "wire",
        },
        set(),
    ),
    "plan_tls": ({"config", "errors", "tls"}, set()),
    # Where every part of the data path is made.
    "data_plane": (
        {
            "__init__",
            "access_log",
            "agent_check",
            "certificate_watch",
            "checks",
            "core",
            "draining",
            "grpc_check",
            "http2_check",
            "http_check",
            "leaving",
            "net",
            "planned",
            "probes",
            "portions",
            "questions",
            "request_log",
            "routes",
            "script_check",
            "self_check",
            "severing",
            "target_lists",
            "tls",
            "tracing",
        },
        {"twisted"},
    ),
    # Spans, and whoever else is asked over HTTP.
    "tracing": ({"__init__", "core", "outgoing_http"}, {"twisted"}),
    "outgoing_http": (set(), {"twisted", "zope"}),
    "discovery": ({"core", "outgoing_http"}, {"twisted"}),
    "target_lists": ({"core", "discovery", "planned"}, {"twisted"}),
    # What an operator asks of it.
    "questions": ({"core", "net", "wire"}, set()),
    "answers": ({"core", "questions"}, set()),
    # What takes long, a bit at a turn.
    "portions": (set(), {"twisted"}),
    # Its routes.
    "routes": ({"core", "net", "planned"}, set()),
    "self_check": ({"net"}, {"twisted"}),
    "draining": (set(), {"twisted"}),
    "leaving": ({"core", "net"}, {"twisted"}),
    "severing": ({"core", "net"}, set()),
    # What users put into their applications, and may copy.
    "report": (set(), set()),
    "reload": ({"admin", "config", "errors", "plan", "plan_diff"}, {"twisted"}),
    "resolving": ({"core", "net", "planned"}, {"twisted"}),
    "state_file": ({"core"}, {"twisted"}),
    "watch": ({"config"}, {"twisted"}),
    "admin": ({"__init__", "core", "errors", "net", "portions"}, {"prometheus_client", "twisted"}),
    # Fills what `admin` asks.
    "operating": (
        {
            "__init__",
            "admin",
            "answers",
            "build_info",
            "config",
            "core",
            "data_plane",
            "errors",
            "loop_lag",
            "net",
            "planned",
            "portions",
            "probes",
            "tls",
            "workers",
        },
        {"twisted"},
    ),
    # A client of the admin API: it shares nothing with the daemon but the check of a file.
    "ctl": ({"__init__", "check", "config", "errors"}, set()),
    "event_log": ({"core"}, {"twisted"}),
    "log_files": (set(), {"twisted"}),
    "process": (set(), {"twisted"}),
    "log_file": ({"access_log", "net", "planned"}, set()),
    "loop_lag": ({"core"}, {"twisted"}),
    "span_export": ({"net", "outgoing_http", "tracing"}, {"twisted"}),
    # How this process is started again.
    "respawn": (set(), {"twisted"}),
    # Several processes with one configuration.
    "workers": (
        {
            "__init__",
            "answers",
            "core",
            "data_plane",
            "log_file",
            "loop_lag",
            "net",
            "planned",
            "probes",
            "process",
            "respawn",
            "span_export",
            "wire",
        },
        {"twisted", "zope"},
    ),
    "openings": ({"core", "errors", "net"}, {"twisted"}),
    "own_process": ({"errors", "notify", "openings", "process", "signals", "takeover"}, {"twisted"}),
    "notify": (set(), {"twisted"}),
    "takeover": ({"net"}, {"twisted", "zope"}),
    "signals": (set(), {"twisted"}),
    "errors": (set(), {"twisted"}),
    "facade": ({"core"}, set()),
    "build_info": ({"core"}, set()),
    "__init__": ({"facade"}, set()),
    "testing": (
        {"config", "core", "data_plane", "discovery", "net", "plan", "planned", "probes", "wire"},
        {"twisted", "zope"},
    ),
    "sim": ({"config", "core", "data_plane", "net", "plan", "planned", "testing"}, set()),
    "parallel_clients": (set(), set()),
    "sibling": ({"options", "config", "errors", "log_files"}, {"twisted", "zope"}),
    "options": ({"build_info", "config", "core", "errors", "pid_file"}, {"twisted"}),
    "pid_file": ({"errors"}, set()),
    "backend_tap": ({"sibling"}, set()),
    "check": ({"certificate_doubts", "config", "errors", "plan", "plan_diff", "planned", "process"}, set()),
    # What is doubtful about them: in files, and so in a plan.
    "certificate_doubts": ({"config", "planned", "tls"}, set()),
    "certificate_watch": ({"core", "planned", "tls"}, {"twisted"}),
    "tap": (
        {"check", "options", "config", "core", "net", "errors", "openings", "respawn", "service", "workers"},
        set(),
    ),
    "__main__": ({"options", "errors"}, {"twisted"}),
    # The life of the data plane as a Twisted service.
    "service": (
        {
            "__init__",
            "access_log",
            "admin",
            "build_info",
            "certificate_doubts",
            "check",
            "config",
            "core",
            "data_plane",
            "discovery",
            "draining",
            "errors",
            "event_log",
            "log_file",
            "log_files",
            "net",
            "openings",
            "operating",
            "own_process",
            "plan",
            "plan_diff",
            "planned",
            "probes",
            "process",
            "reload",
            "resolving",
            "respawn",
            "signals",
            "span_export",
            "state_file",
            "watch",
            "workers",
        },
        {"twisted"},
    ),
}

# Parts that name the global reactor, and why.
NAMES_THE_REACTOR = {
    "service": "the life of the balancer in a Twisted program",
    "sibling": "the composition root of the sibling backend",
    "workers": "the process of a worker",
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    """`twisted_lb.core.pool`; a package is its `__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@cache
def imports(source: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Every import of a source, wherever it stands."""
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))


def names_imported(source: str) -> Iterator[tuple[str, str]]:
    """(module, name in it or "") of every import."""
    for node in imports(source):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        else:
            assert node.level == 0, "relative imports hide the layer"
            yield from ((node.module or "", alias.name) for alias in node.names)


def parts_imported(source: str, own: str) -> set[tuple[str, str]]:
    """(kind, name) of every import: ("ours", part) or ("foreign", top-level package)."""
    found = set()
    for module, name in names_imported(source):
        top, _, rest = (f"{module}.{name}" if module == "twisted_lb" else module).partition(".")
        if top == "twisted_lb":
            part = rest.partition(".")[0] or "__init__"
            exists = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()
            found.add(("ours", part if exists else "__init__"))
        elif top not in sys.stdlib_module_names:
            found.add(("foreign", top))
    return found - {("ours", own)}


def allowed(part: str) -> set[tuple[str, str]]:
    ours, foreign = MAY_IMPORT[part]
    return {("ours", one) for one in ours} | {("foreign", one) for one in foreign}


def violations(source: str, part: str) -> set[tuple[str, str]]:
    return parts_imported(source, part) - allowed(part)


def names_the_reactor(source: str) -> bool:
    named = set(names_imported(source))
    return bool(named & {("twisted.internet", "reactor"), ("twisted.internet.reactor", "")})


def arrows(sources: dict[str, str]) -> dict[str, set[str]]:
    """For each module, which of the others it imports."""
    found = {}
    for module, source in sources.items():
        named = names_imported(source)
        targets = {f"{one}.{name}" if f"{one}.{name}" in sources else one for one, name in named}
        found[module] = (targets & sources.keys()) - {module}
    return found


def reached(start: str, imported: dict[str, set[str]]) -> set[str]:
    """What `start` imports, and what those import, and so on."""
    found: set[str] = set()
    pending = [start]
    while pending:
        new = imported[pending.pop()] - found
        found |= new
        pending += new
    return found


def circles(sources: dict[str, str]) -> set[frozenset[str]]:
    """The largest sets of modules each of which reaches all others of its set."""
    imported = arrows(sources)
    reach = {module: reached(module, imported) for module in sources}
    return {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in sources
        if module in reach[module]
    }


def test_a_module_imports_only_what_its_layer_may():
    found = {module_of(path): violations(path.read_text(), part_of(path)) for path in MODULES}
    assert {module: what for module, what in found.items() if what} == {}


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_a_row_allows_nothing_that_nobody_imports(part):
    paths = [path for path in MODULES if part_of(path) == part]
    imported = set().union(*(parts_imported(path.read_text(), part) for path in paths))
    assert imported == allowed(part)


def test_there_is_a_row_for_each_part_and_no_other():
    assert set(MAY_IMPORT) == {part_of(path) for path in MODULES}


def test_just_the_composition_roots_name_the_global_reactor():
    assert {part_of(path) for path in MODULES if names_the_reactor(path.read_text())} == set(NAMES_THE_REACTOR)


def test_no_modules_import_one_another():
    assert circles({module_of(path): path.read_text() for path in MODULES}) == set()


def test_only_the_resource_imports_twisted_web_proxy_which_installs_a_reactor():
    def imports_it(path):
        return any(module == "twisted.web.proxy" for module, _ in names_imported(path.read_text()))

    assert {path for path in MODULES if imports_it(path)} <= {PACKAGE / "net" / "resource.py"}


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("import twisted.internet", "core"),
        ("from twisted_lb.net.poller import Poller", "core"),
        ("def late():\n    from twisted_lb.core import pool", "wire"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from twisted_lb.service import X", "net"),
        ("from twisted_lb import __version__", "net"),
    ],
)
def test_the_check_sees_a_violation(source, part):
    assert violations(source, part)


@pytest.mark.parametrize(
    "source", ["from twisted.internet import defer, reactor as r", "def late():\n    import twisted.internet.reactor"]
)
def test_the_check_sees_the_global_reactor(source):
    assert names_the_reactor(source)


def test_the_check_sees_a_circle():
    sources = {
        "p": "",
        "p.a": "from p import b\nimport os",
        "p.b": "def late():\n    from p.c import C",
        "p.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.a",
        "p.d": "from p.a import A\nimport p.e",
        "p.e": "import p",
    }
    assert circles(sources) == {frozenset({"p.a", "p.b", "p.c"})}


def test_hot_modules_have_no_clock_random_source_or_log_of_their_own():
    """core and wire: `now` and `rng` are arguments."""
    for part in ("core", "wire"):
        for path in (PACKAGE / part).rglob("*.py"):
            nodes = imports(path.read_text())
            imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            assert not imported & {"time", "datetime", "logging", "socket", "asyncio", "random", "os"}, path
