"""What docs/operations.md says and the examples beside it are: understood by those who read them."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import claim, make_pool
from twisted.logger import formatEvent, globalLogPublisher
from twisted.scripts.twistd import ServerOptions

from twisted_lb import tap
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.config.ejection import EjectionConfig
from twisted_lb.config.load import load_toml
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal
from twisted_lb.core.settings import EjectionRules
from twisted_lb.testing import NEVER_ANSWER, Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text()
UNIT = ROOT / "examples" / "twisted-lb.service"


def unit(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return dict(parser["Service"])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT))))
def test_a_file_that_it_links_exists(link):
    assert (ROOT / "docs" / link).exists()


def test_the_unit_it_shows_is_part_of_the_one_to_copy():
    shown, *_ = re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL)
    assert unit(shown).items() <= unit(UNIT.read_text()).items()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_nothing_in_the_unit(tmp_path):
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/lb/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def understood(words: list[str], folder: Path) -> None:
    """`lb` and its options are those of the command line; a configuration file may be any."""
    assert words[0] == "lb"
    (folder / "lb.toml").write_text('backends = ["a:1"]')
    options = tap.Options()
    options.parseOptions([word.replace("/etc/twisted-lb.toml", str(folder / "lb.toml")) for word in words[1:]])
    assert options.config.backends


def test_the_commands_it_names_are_understood(tmp_path):
    starts = [unit(UNIT.read_text())["ExecStart"], *re.findall(r"^python -m twisted_lb .*", TEXT, re.MULTILINE)]
    for start in starts:
        understood(shlex.split(start)[3:], tmp_path)
    dockerfile = (ROOT / "examples" / "Dockerfile").read_text()
    [entry] = re.findall(r"^ENTRYPOINT (.*)", dockerfile, re.MULTILINE)
    [run] = re.findall(r"^docker run .* twisted-lb (.*)", TEXT, re.MULTILINE)
    understood([*json.loads(entry)[3:], *shlex.split(run)], tmp_path)


def test_the_options_of_twistd_that_it_names_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = str(ServerOptions())
    named = set(re.findall(r"`(?:-\w`, `)?(--\w+)=?", TEXT.partition("twistd's options stand")[2].partition("```")[0]))
    assert {"--pidfile", "--logfile", "--uid", "--umask"} <= named
    assert [one for one in named if f"{one}=" not in options and f"{one} " not in options] == []
    for line in re.findall(r"^twistd .*", TEXT, re.MULTILINE):
        before = shlex.split(line.partition(" lb ")[0].partition(" -y ")[0])[1:]
        ServerOptions().parseOptions([word.replace("www-data", "root") for word in before])


def test_each_way_for_a_request_to_fail_is_explained_with_its_status():
    told = dict(
        re.findall(r"^\| (`[A-Z_`, ]+`)[^|]*\| ([^|]+) \|", TEXT.partition("## Why a request failed")[2], re.MULTILINE)
    )
    by_name = {name: status for names, status in told.items() for name in re.findall("[A-Z_]+", names)}
    seldom = {Outcome.OK, Outcome.BAD_STATUS, Outcome.UNPROCESSED, Outcome.CLIENT_FAULT}
    assert {one.name for one in Outcome if one not in seldom} <= set(by_name)
    assert {one.name for one in Refusal if one.status in (403, 404, 429)} <= set(by_name)
    statuses = {**{one.name: CONSEQUENCE[one].status for one in Outcome}, **{one.name: one.status for one in Refusal}}
    assert set(by_name) <= set(statuses)
    wrong = {
        name: (status, statuses[name])
        for name, status in by_name.items()
        if re.fullmatch("[0-9]{3}", status) and int(status) != statuses[name] and name != "CLIENT_GONE"
    }
    assert wrong == {}


OUT = TEXT.partition("## What takes a backend out, and how it returns")[2].partition("\n## ")[0]


def test_the_rules_it_shows_load_and_can_take_somebody_out(tmp_path):
    [text] = re.findall(r"```toml\n(.*?)```", OUT, re.DOTALL)
    (tmp_path / "lb.toml").write_text(text)
    config = load_toml(tmp_path / "lb.toml")
    assert config.pools["app"].ejection.failure_percent == 50
    codes = {doubt.code for doubt in doubts(config, 20_000, 9_980, listening=False)}
    assert "W22" not in codes
    assert "(W22)" in OUT


def test_the_numbers_of_ejection_that_it_tells_are_the_defaults():
    rules = EjectionConfig()
    assert f"`ejection.consecutive_failures` ({rules.consecutive_failures})" in OUT
    assert f"`ejection.min_clients` ({rules.min_clients})" in OUT
    assert f"`window_s` ({rules.window_s:g})" in OUT
    assert f"{rules.base_s:g} s (`base_s`)" in OUT
    assert f"up to {rules.longest_s:g} (`longest_s`)" in OUT
    assert f"({rules.failure_percent_requests}, and {rules.success_rate_requests})" in OUT
    assert (rules.min_backends, rules.max_percent, rules.checks_end) == (5, 50, True)


def test_the_line_of_who_stays_in_is_the_one_that_is_shown():
    pool, told = make_pool("b1:80", "b2:80", "b3:80", name="app", ejection=EjectionRules(5))
    failures = [Outcome.TIMED_OUT] * 3 + [Outcome.NO_RESPONSE] * 2
    for backend in (pool.backends["b1:80"], pool.backends["b3:80"]):
        others = tuple(one for one in pool.backends.values() if one is not backend)
        for client, outcome in enumerate(failures):
            pool.settle(claim(pool, 0.0, others), outcome, 0.0, "", str(client % 4))
    assert str(told[-1]).replace(":80", "") in OUT.splitlines()


def line_of_a_request_that_timed_out() -> str:
    """What the log says of the request that the page shows, with the page's client, duration and id."""
    heard: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.request_log":
            heard.append(formatEvent(event))

    clock = HeapClock()
    network = MemoryNetwork(clock)
    config = LoadBalancerConfig(backends=["10.0.0.7:8000"], health_check={"interval_s": 0.0})
    _balanced = Balanced(config, network)
    ScriptedBackend(network, "10.0.0.7:8000", [NEVER_ANSWER])
    ScriptedClient(network, "lb:8080").send(b"GET /report HTTP/1.1\r\nHost: x\r\n\r\n")
    globalLogPublisher.addObserver(observe)
    try:
        clock.advance(70)
    finally:
        globalLogPublisher.removeObserver(observe)
    [line] = heard
    line = re.sub("^[^ ]+", "10.0.0.9", line)
    return re.sub(r" [0-9.]+ ms id=[0-9a-f]+", " 60026.1 ms id=b4c6694a0f1b94b1c7a18c597a99bda0", line)


def test_the_line_of_a_failed_request_has_the_form_of_the_log():
    [shown] = re.findall(r"^10\.0\.0\.9 GET .*", TEXT, re.MULTILINE)
    assert line_of_a_request_that_timed_out() == shown


def test_the_image_is_built_of_what_the_build_needs():
    ignored = (ROOT / "examples" / "Dockerfile.dockerignore").read_text().split()
    assert not {"setup.py", "pyproject.toml", "README.md", "twisted", "twisted_lb", "lb.tac", "examples"} & set(ignored)
