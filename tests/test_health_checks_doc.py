"""What docs/health-checks.md says: its recipes load, and its examples are what the program says."""

import io
import os
import re
from pathlib import Path

import pytest

from twisted_lb.config import HealthCheckConfig
from twisted_lb.config.load import load_toml
from twisted_lb.core.address import parse_address
from twisted_lb.core.agent import MOST_BYTES, line_in, read_agent
from twisted_lb.core.events import BackendDown
from twisted_lb.core.script import PRESETS, STEP_BYTES, Script
from twisted_lb.http_check import ANSWER_BYTES, HttpCheck
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.probes import ProbeResult
from twisted_lb.script_check import ScriptCheck
from twisted_lb.testing import response
from twisted_lb.wire.grammar import Limits

DOC = (Path(__file__).parent.parent / "docs" / "health-checks.md").read_text()
LINES = re.findall(r"```\n(.*)\n```", DOC)
TOML = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_a_recipe_loads_and_changes_something(text, tmp_path):
    (tmp_path / "redis").write_text("s3cret")
    file = tmp_path / "lb.toml"
    file.write_text(text.replace("/run/secrets", str(tmp_path)))
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
    assert LINES[0] == line


# What a Redis says to the scripts that are shown, in turn, and what comes of it.
REDIS = [
    ("redis", [b"+PONG\r\n"], True),
    ("redis", [b"-NOAUTH Authentication required.\r\n"], False),
    ("password", [b"+OK\r\n", b"+PONG\r\n"], True),
    ("role:master", [b"$60\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"], True),
    ("role:master", [b"$60\r\n# Replication\r\nrole:slave\r\nmaster_host:10.0.0.7\r\n"], False),
    ("role:master", [b"-NOAUTH Authentication required.\r\n"], False),
]


def shown(word: str, folder: Path) -> Script:
    """The first script of the page with a word in it; its secret is kept in a folder."""
    (folder / "redis").write_text("s3cret\n")
    file = folder / "lb.toml"
    file.write_text(next(one for one in TOML if "script" in one and word in one).replace("/run/secrets", str(folder)))
    script = load_toml(file).health_check.script
    assert script is not None
    return script.script


def heard(script: Script, answers: list[bytes]) -> tuple[ProbeResult | None, bytes]:
    check = ScriptCheck(script)
    sent, hearing = check.request(parse_address("10.0.0.7:6379")), check.hear(parse_address("10.0.0.7:6379"))
    for answer in answers:
        hearing.feed(answer)
        sent += hearing.reply
        hearing.reply = b""
    return hearing.result, sent


@pytest.mark.parametrize(("word", "answers", "passes"), REDIS)
def test_the_scripts_that_are_shown_take_a_redis_for_what_it_is(tmp_path, word, answers, passes):
    result, sent = heard(shown(word, tmp_path), answers)
    assert result is not None
    assert result.passed is passes
    assert sent.lower().endswith(b"quit\r\n") is passes
    assert (b"check\r\n$6\r\ns3cret" in sent) is (word == "password")


def test_the_line_of_a_script_is_the_one_that_is_shown(tmp_path):
    result, _ = heard(shown("redis", tmp_path), [b"-LOADING Redis is loading the dataset in memory\r\n"])
    assert result is not None
    assert LINES[1:] == [str(BackendDown(DEFAULT, "10.0.0.7:6379", result.reason, 0.0))]


def test_it_says_what_each_preset_is():
    said = re.findall(r"^- `([a-z]+)`[:,]", DOC, re.MULTILINE)
    assert [one for one in said if one in PRESETS] == ["redis", "postgresql", "mysql", "smtp", "memcached"]
    assert set(said) >= set(PRESETS)


def test_its_bound_is_the_bound():
    assert ANSWER_BYTES == STEP_BYTES
    assert f"{ANSWER_BYTES // 1024} KiB" in DOC


def test_its_defaults_are_the_defaults():
    config = HealthCheckConfig()
    assert f"`{config.method} {config.path}` every {config.interval_s:g} seconds" in DOC
    assert config.statuses == frozenset(range(200, 400))


class Connection:
    """What the agent's server gives to its handler."""

    def __init__(self) -> None:
        self.sent = b""

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO()

    def sendall(self, data: bytes) -> None:
        self.sent += bytes(data)


@pytest.mark.parametrize(
    ("load", "drained", "words"),
    [
        (0.0, False, (100, "ready", "")),
        (1.0, True, (50, "drain", "there is a file drain")),
        (80.0, False, (5, "ready", "")),
    ],
)
def test_the_agent_that_is_shown_says_what_is_said_of_it(monkeypatch, tmp_path, load, drained, words):
    [source] = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    found: dict = {"__name__": "agent"}
    exec(source, found)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    if drained:
        (tmp_path / "drain").touch()
    connection = Connection()
    found["Agent"](connection, ("10.0.0.1", 1), None)
    line = line_in(connection.sent)
    assert line is not None
    said = read_agent(line)
    assert (said.percent, said.wish, said.comment, said.garbled) == (*words, "")


def test_its_table_has_each_word_of_agents():
    words = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?) \|", DOC, re.MULTILINE)))
    assert words == ["ready", "drain", "maint", "up", "down", "fail", "stopped", "75%", "12", "maxconn:20", "# …"]
    assert not any(read_agent(word.encode()).garbled for word in words)
    assert f"{MOST_BYTES:,} bytes" in DOC
