"""Which build is being tested: the first thing to know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import twisted_lb
from twisted_lb.build_info import build

EXPECTED = os.environ.get("TWISTED_LB_EXPECT_BUILD")
needs_expectation = pytest.mark.skipif(EXPECTED is None, reason="scripts/test says which build it expects")


@needs_expectation
def test_the_expected_build_is_tested():
    assert build() == EXPECTED


@needs_expectation
def test_the_compiled_build_is_not_the_source_tree():
    in_tree = Path(twisted_lb.__file__).is_relative_to(Path(__file__).parent.parent / "twisted_lb")
    assert in_tree == (EXPECTED == "pure")


@needs_expectation
def test_every_hot_module_is_of_that_build():
    from twisted_lb.core import attempts, pool
    from twisted_lb.net import cluster, exchange, http1, poller, transport, upstream
    from twisted_lb.wire import chunked, fields, http1_reader, request

    modules = [
        attempts,
        pool,
        cluster,
        exchange,
        http1,
        poller,
        transport,
        upstream,
        chunked,
        fields,
        http1_reader,
        request,
    ]
    assert {module.__file__.endswith(".so") for module in modules} == {EXPECTED == "compiled"}


NESTED = """
import importlib
import sys

for name in sys.argv[1:]:
    module, cls, *arguments = name.split(":")
    make = getattr(importlib.import_module(f"twisted_lb.{module}"), cls)
    for depth in range(120):
        held = [make(*map(eval, arguments)) for _ in range(8)]
        for _ in range(depth):
            held = [held]
        del held
"""


def test_what_is_nested_deeply_is_let_go_without_harm_to_the_memory_before_it():
    """From a depth of some fifty on, CPython's trashcan writes into the header of the garbage collector, which not all have."""
    acyclic = [
        "core.affinity:Bound:''",
        "core.attempts:Story",
        "core.backend:Who:''",
        "core.flow:Flow:'':''",
        "core.histogram:Histogram",
        "core.notes:Note",
        "core.record:Record:0",
        "core.routing:Conditions",
        "net.replay:Replay:0",
        "wire.fields:Fields",
        "wire.origin:Client:b''",
    ]
    # With what finds such a write: guard bytes around all that is allocated, looked at when it is let go.
    nesting = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-c", NESTED, *acyclic]
    done = subprocess.run(
        nesting, check=False, env=os.environ | {"PYTHONMALLOC": "debug"}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
