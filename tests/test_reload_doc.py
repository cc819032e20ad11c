"""What docs/reload.md says: its files are reloaded one after the other, and the log is what the page shows."""

import re
from pathlib import Path

import pytest
import pytest_twisted
from ports import free_port
from test_reload import Own, reload
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb import resolving, watch
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.limits import TimeoutsConfig
from twisted_lb.config.load import Source
from twisted_lb.config.shape import tables
from twisted_lb.core.backend import AdminState
from twisted_lb.data_plane import DataPlane
from twisted_lb.service import LoadBalancerService

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reload.md").read_text()
FIRST, SECOND, MISTAKEN, OVERLAPPING = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
LOGS = [text.splitlines() for text in re.findall(r"```\n(reload: .*?)```", PAGE, re.DOTALL)]
CHANGED, SAME, REFUSED, OVERLAPS, KEPT = LOGS
# Nobody is to be asked anything, whoever is at those addresses.
UNCHECKED = "\n[defaults.pool]\nhealth_check = { interval_s = 0 }\n"


class Desk:
    """A service that goes by the files of the page, at ports that are free."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "lb.toml"
        self._ports = {"8080": str(free_port()), "8081": str(free_port())}
        self.lines: list[str] = []
        self.write(FIRST)
        source = Source({}, self._file)
        self.service = LoadBalancerService(source.load(), source=source)
        globalLogPublisher.addObserver(self._hear)
        self.service.startService()

    def _hear(self, event) -> None:
        if event["log_namespace"] == "twisted_lb.reload":
            line = formatEvent(event).replace(f"{self._file.parent}/", "")
            for said, moved in self._ports.items():
                line = line.replace(moved, said)
            self.lines.append(line)

    def write(self, text: str) -> None:
        for said, moved in self._ports.items():
            text = text.replace(said, moved)
        self._file.write_text(text + UNCHECKED)

    async def reload(self, text: str) -> list[str]:
        """What is logged of a reload of this file."""
        self.write(text)
        self.lines.clear()
        await reload(self.service)
        return list(self.lines)

    async def close(self) -> None:
        globalLogPublisher.removeObserver(self._hear)
        await self.service.stopService()


@pytest_twisted.async_yield_fixture
async def desk(tmp_path):
    one = Desk(tmp_path)
    yield one
    await one.close()


@pytest_twisted.ensureDeferred
async def test_the_log_of_a_reload_is_what_the_page_shows(desk):
    assert await desk.reload(SECOND) == CHANGED
    assert await desk.reload(SECOND) == SAME


@pytest_twisted.ensureDeferred
async def test_mistakes_are_said_as_the_page_shows_and_nothing_is_changed(desk):
    plan = desk.service.data_plane.plan
    assert await desk.reload(MISTAKEN) == REFUSED
    assert await desk.reload(OVERLAPPING) == OVERLAPS
    assert desk.service.data_plane.plan is plan


@pytest_twisted.ensureDeferred
async def test_what_was_changed_at_run_time_is_kept_or_dropped_as_the_page_shows(desk):
    plane = desk.service.data_plane
    plane.command("api", "10.0.0.1:8000", AdminState.DRAIN)
    plane.set_weight("api", "10.0.0.2:8000", 0)
    assert await desk.reload(SECOND) == KEPT


@pytest_twisted.ensureDeferred
async def test_a_service_manager_is_told_also_of_a_reload_that_changes_nothing(desk):
    own = desk.service._own = Own()
    await desk.reload(MISTAKEN)
    assert own.told == ["reloading", "ready"]
    desk.service._own = None


def test_its_numbers_are_those_of_the_code():
    config = LoadBalancerConfig(backends=["a:1"])
    assert f"`timeouts.drain_s` ({config.timeouts.drain_s:g} s)" in PAGE
    assert f"`timeouts.tunnel_drain_s` ({config.timeouts.tunnel_drain_s / 3600:g} h)" in PAGE
    assert f"for {resolving.RESOLVE_S:g} s at most" in PAGE
    assert watch.LOOK_S == 1
    assert "once a second" in PAGE
    assert f"stayed for {watch.QUIET_S:g} s" in PAGE


def test_what_it_names_exists():
    methods = set(re.findall(r"`(?:LoadBalancerService\.)?([a-z_]+)(?:\([a-z]\w*(?:, .*?)?\))", PAGE))
    assert methods == {"apply", "update", "set_timeouts", "command"}
    for name in methods | {"set_weight", "set_limit", "add_backend", "remove_backend", "reset", "data_plane"}:
        assert hasattr(LoadBalancerService, name) or hasattr(DataPlane, name)
    models = [LoadBalancerConfig, *(model for _, model in tables(LoadBalancerConfig))]
    keys = {key for model in models for key in model.model_fields}
    named = set(re.findall(r"`(?:(?:timeouts|log|limits|health_check)\.)?([a-z]+_[a-z_]+)`", PAGE))
    assert named - {"set_weight", "set_limit", "add_backend", "remove_backend", "data_plane"} <= keys
    assert {"drain_s", "tunnel_drain_s"} <= set(TimeoutsConfig.model_fields) & named


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE))))
def test_a_file_that_it_links_exists(link):
    assert (ROOT / "docs" / link).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", PAGE))))
def test_a_file_that_it_names_exists(path):
    assert (ROOT / path).exists()
