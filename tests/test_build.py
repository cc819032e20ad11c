"""Which build is being tested: the first thing to know."""

import os
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
