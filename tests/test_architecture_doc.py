"""What docs/architecture.md says of the code is so: the names that it names exist, a request passes the seven stops in their
order, and its tables of layers and of the core are complete.
"""

import importlib
import re
import sys
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import pytest
from test_layers import MAY_IMPORT

from twisted_lb.build_info import build
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "twisted_lb"
TEXT = (ROOT / "docs" / "architecture.md").read_text()

# `net/http1.Http1.dataReceived`, `plan.Plan`: a module by its path in the package, and a name in it.
NAME = re.compile(r"(?<![\w/.])(?!typing\.)((?:[a-z]\w*/)*[a-z]\w*)\.([A-Z]\w*(?:\.\w+)*)")
FILE = re.compile(r"(?<![\w/.])((?:\w+/)*\w+\.py)\b")


def section(title: str) -> str:
    """What stands under a heading of the second level."""
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


STOPS = section("One request, in seven stops").split("```")[1].strip().splitlines()


def test_each_name_exists():
    for name in sorted({".".join(found) for found in NAME.findall(TEXT)}):
        path, _, names = name.partition(".")
        module = importlib.import_module(f"twisted_lb.{path.replace('/', '.')}")
        assert reduce(getattr, names.split("."), module), name


def test_each_file_exists():
    paths = set(FILE.findall(TEXT))
    assert {path for path in paths if not (PACKAGE / path).exists() and not (ROOT / path).exists()} == set()


def test_there_are_seven_stops_each_with_its_names_and_a_paragraph():
    paragraphs = re.findall(r"^(\d)\. ", section("One request, in seven stops"), re.MULTILINE)
    assert [line[0] for line in STOPS] == paragraphs == list("1234567")
    assert all(NAME.search(line) for line in STOPS)


@contextmanager
def calls():
    """What is called of the package meanwhile, as the document writes it, in the order of the first calls."""
    made: dict[str, None] = {}

    def note(frame, event, _argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            name = f"{path.relative_to(PACKAGE).with_suffix('')}.{frame.f_code.co_qualname}"
            made.setdefault(name.removesuffix(".__init__"))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield made
    finally:
        sys.setprofile(before)


@pytest.mark.skipif(build() == "compiled", reason="compiled functions have no frames")
def test_a_request_passes_the_stops_in_their_order():
    clock = HeapClock()
    network = MemoryNetwork(clock)
    # Of several routes one has to be found.
    routes = [{"path": "/", "pool": "default"}]
    balanced = Balanced(LoadBalancerConfig(backends=["a:80"], health_check={"interval_s": 0}, routes=routes), network)
    ScriptedBackend(network, "a:80")
    client = ScriptedClient(network, "lb:8080")
    clock.settle()
    with calls() as made:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        clock.settle()
    assert client.received.startswith(b"HTTP/1.1 200 OK\r\n")
    balanced.close()
    clock.settle()
    stops = [".".join(found) for line in STOPS for found in NAME.findall(line)]
    assert [name for name in made if name in stops] == stops


def row_of(part: str) -> str:
    """The last cell of a part's row."""
    ours, others = MAY_IMPORT[part]
    cell = "; ".join(one for one in (", ".join(f"`{name}`" for name in sorted(ours)), ", ".join(sorted(others))) if one)
    return cell or "nothing"


def test_the_table_of_layers_has_each_part_with_what_it_imports():
    rows = dict(re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", section("Layers"), re.MULTILINE))
    assert rows == {part: row_of(part) for part in MAY_IMPORT}


def test_the_table_of_the_core_has_each_of_its_modules():
    cells = re.findall(r"^\| (`.+?) \|", section("The core"), re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(
        {path.name.partition(".")[0] for path in (PACKAGE / "core").iterdir()} - {"__init__", "__pycache__"}
    )
