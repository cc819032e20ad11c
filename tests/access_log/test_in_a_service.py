"""The access log of a service: opened before it starts, written while it runs, another one at a reload, whole at a stop."""

import json
import sys
from pathlib import Path

import pytest
import pytest_twisted
from test_service import ask, config

from twisted_lb.config import LogConfig
from twisted_lb.errors import StartError
from twisted_lb.service import LoadBalancerService


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def of_one(log: Path, form: str = "{path}") -> dict[str, object]:
    return {"file": str(log), "format": form}


def goes_to(service: LoadBalancerService, log_of: dict[str, object]) -> None:
    """A reload that has another log."""
    service.apply(service.config.model_copy(update={"log": LogConfig.model_validate(log_of)}))


async def running(log_of: dict[str, object]) -> LoadBalancerService:
    """A balancer in front of nobody: its answers are its own."""
    service = LoadBalancerService(config(1, log=log_of, queue={"no_backend_s": 0.0}))
    service.privilegedStartService()
    service.startService()
    return service


@pytest_twisted.ensureDeferred
async def test_it_is_opened_while_there_is_privilege_and_whole_after_a_stop(log):
    service = LoadBalancerService(config(1, log=of_one(log), queue={"no_backend_s": 0.0}))
    service.privilegedStartService()
    assert log.read_bytes() == b""
    service.startService()
    for _ in range(2):
        await ask(service.port, b"/x")
        await service.stopService()
        service.startService()
    await service.stopService()
    assert log.read_text() == "/x\n/x\n"
    assert service.log_dropped == 0


@pytest_twisted.ensureDeferred
async def test_a_reload_changes_form_and_file_and_loses_no_line(log, tmp_path):
    other = tmp_path / "other.log"
    service = await running(of_one(log))
    try:
        await ask(service.port, b"/1")
        service._log_file.line(b"held back\n")  # as what was logged in this very turn
        goes_to(service, of_one(other, "json"))
        await ask(service.port, b"/2")
        goes_to(service, of_one(other, "{path}"))
        await ask(service.port, b"/3")
        goes_to(service, {})
        await ask(service.port, b"/4")
    finally:
        await service.stopService()
    assert log.read_text() == "/1\nheld back\n"
    second, third = other.read_text().splitlines()
    assert (json.loads(second)["url.path"], third) == ("/2", "/3")


@pytest_twisted.ensureDeferred
async def test_a_reload_to_a_file_that_cannot_be_opened_changes_nothing(log, tmp_path):
    service = await running(of_one(log))
    try:
        with pytest.raises(StartError, match="cannot be opened: no such file or directory"):
            goes_to(service, of_one(tmp_path / "no" / "x"))
        await ask(service.port, b"/1")
    finally:
        await service.stopService()
    assert log.read_text() == "/1\n"


@pytest_twisted.ensureDeferred
async def test_another_file_before_the_start_is_the_one_that_is_written(log, tmp_path):
    service = LoadBalancerService(config(1, log=of_one(log), queue={"no_backend_s": 0.0}))
    service.privilegedStartService()
    other = tmp_path / "other.log"
    goes_to(service, of_one(other))
    service.startService()
    await ask(service.port, b"/1")
    await service.stopService()
    assert (log.read_text(), other.read_text()) == ("", "/1\n")


@pytest_twisted.ensureDeferred
async def test_after_a_rename_it_is_opened_anew_with_the_other_logs(log, tmp_path):
    service = await running(of_one(log))
    try:
        await ask(service.port, b"/1")
        log.rename(tmp_path / "moved.log")
        service.reopen_logs()
        await ask(service.port, b"/2")
    finally:
        await service.stopService()
    assert ((tmp_path / "moved.log").read_text(), log.read_text()) == ("/1\n", "/2\n")


@pytest_twisted.ensureDeferred
async def test_dropped_lines_are_counted_over_reloads(log):
    service = await running({"file": "/dev/full", "format": "{path}"})
    try:
        await ask(service.port, b"/1")
        while not service.log_dropped:
            await ask(service.port, b"/1")
        goes_to(service, of_one(log))
        dropped = service.log_dropped
        assert dropped > 0
    finally:
        await service.stopService()
    assert service.log_dropped == dropped


def test_a_log_that_cannot_be_opened_is_told_before_anything_listens(tmp_path):
    service = LoadBalancerService(config(1, log=of_one(tmp_path)))
    with pytest.raises(StartError, match=r"the access log .* cannot be opened: is a directory"):
        service.privilegedStartService()
    assert service._openings is None
    sys.excepthook = sys.__excepthook__
