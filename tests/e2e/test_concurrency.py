"""Real processes: how many requests a backend has at a time, as it counts them itself."""

import shutil

import pytest
from concurrency_table.beside import beside
from some import some


@pytest.mark.parametrize("most", some(1, [1, 4]))
def test_no_backend_ever_has_more_than_it_may_and_all_are_answered(tmp_path, most):
    """64 clients that send one request after the other; 2 backends, which are busy all the time."""
    found = beside(tmp_path, ["twisted_lb"], most=most, clients=64, each=5 * most, rounds=2, service_s=0.004)
    ours = found["twisted_lb"]
    assert (ours["requests"], ours["errors"]) == (64 * 5 * most * 2, 0)
    assert ours["held"] == most, "and it is used"


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is missing (Debian: apt install haproxy)")
@pytest.mark.long
def test_haproxy_has_the_same_load_in_the_same_run(tmp_path):
    found = beside(tmp_path, ["twisted_lb", "HAProxy"], each=4, rounds=2, service_s=0.004)
    assert {name: (one["requests"], one["errors"], one["held"]) for name, one in found.items()} == {
        "twisted_lb": (512, 0, 4),
        "HAProxy": (512, 0, 4),
    }
