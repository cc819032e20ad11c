"""The watch over the tests catches what it is there for."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LEAVES_A_CALL = """
def test_leaves_a_call():
    from twisted.internet import reactor
    reactor.callLater(1000, print)
"""
LEAVES_AN_ERROR = """
def test_leaves_an_error():
    from twisted.internet.defer import fail
    fail(ValueError("nobody looks"))
"""
TAKES_ITS_ERROR = """
def test_takes_its_error(logged_errors):
    from twisted.internet.defer import fail
    fail(ValueError("expected"))
    import gc
    gc.collect()
    assert len(logged_errors.take()) >= 1
"""
FAILS_AND_LEAVES_SOCKETS = f"""
import gc, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from wires import stream_pair

def test_fails_before_it_comes_to_close_them():
    ends = stream_pair()
    raise KeyError("a bug")

def test_is_innocent():
    gc.collect()
"""


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (LEAVES_A_CALL, {"passed": 1, "errors": 1}),
        (LEAVES_AN_ERROR, {"passed": 1, "errors": 1}),
        (TAKES_ITS_ERROR, {"passed": 1}),
        (FAILS_AND_LEAVES_SOCKETS, {"failed": 1, "passed": 1}),
    ],
)
def test_what_a_test_leaves_behind_fails_it(pytester: pytest.Pytester, body, outcome):
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makepyfile(body)
    ours = ("-o", f"pythonpath={Path(__file__).parent}")
    pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *ours).assert_outcomes(**outcome)
