"""Each test has an API of its own, a locale of UTF-8, and the time zone UTC."""

import tempfile
import time
from pathlib import Path

import pytest
from ctl_house import Ctl, FakeApi
from ctl_sample import status


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch):
    for name in ("LC_ALL", "LC_CTYPE", "NO_COLOR", "TWISTED_LB_TOKEN", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_GB.UTF-8")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def place():
    """A directory whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="lb") as name:
        yield Path(name)


@pytest.fixture
def api(place, monkeypatch):
    """An API of a balancer in some trouble, which TWISTED_LB_ADMIN names."""
    one = FakeApi(place / "8080.admin.sock")
    one.answers["GET /v1/status"] = status
    monkeypatch.setenv("TWISTED_LB_ADMIN", f"unix:{one.path}")
    yield one
    one.close()


@pytest.fixture
def lbctl(api):
    """Calls `lbctl`."""
    return Ctl(api)
