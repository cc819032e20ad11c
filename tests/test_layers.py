"""Who may import whom: the layers of docs/architecture.md, as a test. Imports for the type checker count too: a layer
that needs another one's types depends on it.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "twisted_lb"

# For each part: the parts of twisted_lb, and the foreign packages, that it may import beside the standard library.
MAY_IMPORT = {
    "core": ({"core"}, {"mypy_extensions"}),
    "wire": ({"wire"}, {"mypy_extensions"}),
    "config": ({"core", "config"}, {"pydantic", "pydantic_core"}),
    "config_load": ({"core", "config", "errors"}, {"pydantic", "pydantic_core"}),
    "config_reference": ({"config"}, {"pydantic", "pydantic_core"}),
    "net": ({"core", "wire", "net"}, {"mypy_extensions", "twisted", "zope"}),
    "checks": ({"core", "wire", "net"}, {"twisted", "zope"}),
    "admin": ({"core", "config", "admin"}, {"twisted", "zope"}),
    "event_log": ({"core"}, {"twisted"}),
    "process": (set(), set()),
    "draining": ({"net"}, {"twisted"}),
    "request_log": ({"core", "net"}, {"twisted"}),
    "rules": ({"core", "config", "net", "wire", "errors"}, set()),
    "errors": (set(), {"twisted"}),
    "facade": ({"core"}, set()),
    "build_info": ({"core"}, set()),
    "__init__": ({"facade"}, set()),
    "testing": ({"core", "wire", "net", "checks", "testing"}, {"twisted", "zope"}),
    "parallel_clients": (set(), set()),
    "backend_behaviour": ({"backend_behaviour"}, {"twisted", "zope"}),
    "backend_page": (set(), set()),
    "backend_site": ({"backend_behaviour", "backend_page", "backend_site"}, {"twisted", "zope"}),
    "backend_service": (
        {"backend_behaviour", "backend_page", "backend_site", "errors", "config", "__init__"},
        {"twisted", "zope"},
    ),
    "options": ({"config", "config_load", "errors", "build_info", "__init__"}, {"twisted"}),
    "backend_tap": ({"options", "config", "config_load", "errors", "backend_service"}, {"twisted"}),
    "tap": ({"options", "config", "config_load", "core", "net", "errors", "service"}, {"twisted"}),
    "__main__": ({"options", "tap", "backend_tap", "errors", "__init__", "build_info"}, {"twisted"}),
}
# The composition root.
MAY_IMPORT["service"] = (set(MAY_IMPORT), {"twisted", "zope"})

# Modules that may name the global reactor, and why.
NAMES_THE_REACTOR = {
    "service": "the composition root",
    "backend_service": "the composition root of the sibling backend",
    "options": "asks whether a reactor is installed already",
    "__main__": "runs it",
}


def parts_imported(tree: ast.AST, own: str) -> set[tuple[str, str]]:
    """(kind, name) of every import: ("ours", part) or ("foreign", top-level package)."""
    import sys

    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            if node.module == "twisted_lb":
                names = [f"twisted_lb.{alias.name}" for alias in node.names]
            else:
                names = [node.module or ""]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "twisted_lb":
                part = rest.partition(".")[0] or "__init__"
                exists = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()
                found.add(("ours", part if exists else "__init__"))
            elif top not in sys.stdlib_module_names:
                found.add(("foreign", top))
    return found - {("ours", own)}


def violations(source: str, part: str) -> set[tuple[str, str]]:
    ours, foreign = MAY_IMPORT[part]
    allowed = {("ours", one) for one in ours} | {("foreign", one) for one in foreign}
    return parts_imported(ast.parse(source), part) - allowed


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_layer_may(path):
    assert violations(path.read_text(), part_of(path)) == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_composition_roots_name_the_global_reactor(path):
    names = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "twisted.internet"
        and any(alias.name == "reactor" for alias in node.names)
        for node in ast.walk(ast.parse(path.read_text()))
    )
    assert not names or part_of(path) in NAMES_THE_REACTOR


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_resource_imports_twisted_web_proxy_which_installs_a_reactor(path):
    imports = "twisted.web.proxy" in {
        node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
    }
    assert not imports or path == PACKAGE / "net" / "resource.py"


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


def test_hot_modules_have_no_clock_random_source_or_log_of_their_own():
    """core and wire: `now` and `rng` are arguments."""
    for part in ("core", "wire"):
        for path in (PACKAGE / part).rglob("*.py"):
            tree = ast.parse(path.read_text())
            imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            assert not imported & {"time", "datetime", "logging", "socket", "asyncio", "random", "os"}, path
