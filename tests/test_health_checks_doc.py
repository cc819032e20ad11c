"""What docs/health-checks.md says: its recipes load, and its examples are what the program says."""

import re
from pathlib import Path

import pytest

from twisted_lb.config import HealthCheckConfig
from twisted_lb.config.load import load_toml
from twisted_lb.core.address import parse_address
from twisted_lb.core.events import BackendDown
from twisted_lb.http_check import ANSWER_BYTES, HttpCheck
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.testing import response
from twisted_lb.wire.grammar import Limits

DOC = (Path(__file__).parent.parent / "docs" / "health-checks.md").read_text()
TOML = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_a_recipe_loads_and_changes_something(text, tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text(text)
    config = load_toml(file)
    assert config.health_check != HealthCheckConfig()
    assert plan_of(config).pools[DEFAULT].checks is not None


def test_every_key_that_it_names_exists():
    named = set(re.findall(r"^([a-z_]+) = ", "".join(TOML), re.MULTILINE)) - {"backends"}
    assert len(named) > 7
    assert named <= set(HealthCheckConfig.model_fields)


def test_the_line_in_the_log_is_the_one_that_is_shown(tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text('backends = ["127.0.0.1:8000"]')
    checks = plan_of(load_toml(file)).pools[DEFAULT].checks
    assert checks is not None
    assert checks.http is not None
    hearing = HttpCheck(checks.http, "agent", Limits()).hear(parse_address("127.0.0.1:8000"))
    hearing.feed(response(b"", 400))
    assert hearing.result is not None
    line = str(BackendDown(DEFAULT, "127.0.0.1:8000", hearing.result.reason, 0.0))
    assert re.findall(r"```\n(.*)\n```", DOC) == [line]


def test_its_bound_is_the_bound():
    assert f"{ANSWER_BYTES // 1024} KiB" in DOC


def test_its_defaults_are_the_defaults():
    config = HealthCheckConfig()
    assert f"`{config.method} {config.path}` every {config.interval_s:g} seconds" in DOC
    assert config.statuses == frozenset(range(200, 400))
