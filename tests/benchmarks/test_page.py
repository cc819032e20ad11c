"""docs/benchmarks.md and the README say what the newest stored run says."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from streaming import MAKERS
from yardstick import page, results
from yardstick.contenders import CONTENDERS, TWINS
from yardstick.measurements import MEASUREMENTS
from yardstick.rounds import Sample
from yardstick.scenarios import OVER_HTTP2, OVER_TCP, OVER_TLS

RENEW = "scripts/bench --render"
NEWEST = results.newest()
LOGGED = results.newest("logging")
STREAMED = results.newest("streaming")
HELD = results.newest("memory")
OURS_AND_PEERS = ("ours, compiled", "ours, pure", "HAProxy", "NGINX")


def test_the_page_is_what_was_measured():
    assert page.PAGE.read_text() == page.render(NEWEST, LOGGED, STREAMED, HELD), RENEW


def test_the_ratios_in_the_readme_are_what_was_measured():
    readme = page.README.read_text()
    assert readme.count(page.BEGIN) == readme.count(page.END) == 1
    assert readme == page.readme(NEWEST, readme), RENEW


def test_everything_was_measured_of_everybody():
    assert {*NEWEST["measurements"], *LOGGED["measurements"]} == {*MEASUREMENTS} - {*OVER_TLS, *OVER_TCP, *OVER_HTTP2}
    assert set(STREAMED["measurements"]["streaming"]["seen"]) == set(MAKERS)
    assert not any(one["broken"] for one in STREAMED["measurements"]["streaming"]["seen"].values())
    assert set(CONTENDERS) <= set(NEWEST["versions"]) <= {*CONTENDERS, *TWINS}


def round_of(**us: float) -> dict:
    return {name.replace("_", " "): asdict(Sample(us=one)) for name, one in us.items()}


def test_what_the_defaults_cost_has_a_table_of_its_own():
    rounds = [round_of(compiled=20, compiled_default=25, haproxy=20, haproxy_default=20, relay=10)]
    void = {**rounds[0], "compiled default": asdict(Sample(void="ended"))}
    versions = dict.fromkeys(["compiled", "compiled default", "haproxy", "haproxy default", "relay"], "1.0")
    measurements = {"small-64": {"rounds": rounds}, "small-1": {"rounds": [void]}}
    run = {
        **NEWEST,
        "versions": versions,
        "measurements": {n: {**m, "reference": "haproxy"} for n, m in measurements.items()},
    }
    told = page.render(run, LOGGED, STREAMED, HELD)
    assert "| tuned over default | ours, compiled | HAProxy |" in told
    assert "| small, keep-alive, 64 connections | 0.80 (0.80 to 0.80) | 1.00 (1.00 to 1.00) |" in told
    assert "| small, keep-alive, 1 connection | void | 1.00 (1.00 to 1.00) |" in told
    assert "| scenario | HAProxy | ours, compiled | bare relay in C |" in told
    assert "| HAProxy, by default | 20.0 |" in told
    assert "| tuned over our defaults in every scenario, worst in small-64, compiled | - | >= 0.95 | 0.80 |" in told


def test_what_a_line_costs_is_the_median_of_what_it_cost_in_each_round():
    def one(without: float, logged: float) -> dict:
        return {name: asdict(Sample(us=us)) for name, us in (("nginx", without), ("nginx logging", logged))}

    void = {**one(20, 90), "nginx logging": asdict(Sample(void="ended"))}
    measured = {"rounds": [one(20, 22), one(10, 13), one(40, 41), void], "reference": "haproxy"}
    told = "\n".join(page.logging({**NEWEST, "versions": {"nginx": "1.0"}, "measurements": {"logging": measured}}))
    assert "| NGINX | 20.0 | 22.0 | 2.00 | 10% |" in told
    assert "NGINX, with its log: 1 of 4 rounds void (ended)" in told
    assert "| NGINX | 1.0 |" in told


def test_memory_is_what_a_connection_takes_beyond_a_bare_listener_and_only_of_who_can():
    contenders = {
        "bare listener": {"idle_bytes": [100.0]},
        "nginx": {"idle_bytes": [600.0, 500.0, 700.0], "active_bytes": [9000.0], "http2_idle_bytes": [1700.0]},
        "caddy": {"idle_bytes": [4100.0], "active_bytes": [], "http2_idle_bytes": [], "void": "ended"},
    }
    measured = {"idle": 10_000, "active": 1_000, "contenders": contenders}
    told = page.memory({**NEWEST, "versions": {"nginx": "1.0"}, "measurements": {"memory": measured}})
    assert "| bytes | each of 10,000 idle | each of 1,000 active | each of 10,000 idle, HTTP/2 |  |" in told
    assert "| NGINX | 500 | 9,000 | 1,600 | - |" in told
    assert "| Caddy | 4,000 | - | - | ended |" in told


def test_idle_connections_of_http2_were_measured_of_those_that_speak_it():
    found = HELD["measurements"]["memory"]["contenders"]
    can = {name for name, one in CONTENDERS.items() if one.http2}
    assert {name for name, told in found.items() if told.get("http2_idle_bytes")} == can


def test_what_an_idle_connection_of_http2_takes_stands_where_its_bounds_do():
    told = page.memory(HELD)
    taken = {
        name: re.search(rf"^\| {name} \|(?:[^|]+\|){{2}} ([\d,]+) \|", told, re.MULTILINE)[1] for name in OURS_AND_PEERS
    }
    ours, pure, haproxy, nginx = taken.values()
    said = f"takes {ours} bytes of memory, {pure} in the pure build; with HAProxy {haproxy}, with NGINX {nginx} ("
    assert said in (page.ROOT / "docs" / "http2.md").read_text()


def test_a_run_without_defaults_says_nothing_of_them():
    assert page.by_default({"small-64": {"rounds": [round_of(compiled=20, haproxy=20)]}}, ["compiled"]) == ""


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", page.PAGE.read_text()))
def test_what_the_page_links_exists(link):
    assert (page.PAGE.parent / link).exists()


@pytest.mark.parametrize("file", sorted(results.FOLDER.glob("**/*.json")), ids=lambda file: file.name)
def test_a_stored_run_names_no_path_of_a_machine(file):
    assert not re.search(r"(?<![\w.])/(?:tmp|root|home|work|usr|var)/", file.read_text())


def test_renewing_keeps_the_rest_of_the_readme():
    renewed = page.readme(NEWEST, f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    assert renewed.startswith(f"before\n{page.BEGIN}\nMeasured ")
    assert renewed.endswith(f"|\n{page.END}\nafter\n")
    assert "old" not in renewed


def test_a_heading_of_the_goals_is_one_of_theirs():
    """Else its text explains nothing."""
    keys = {one.key for one in page.verdicts(NEWEST["measurements"])}
    assert set(re.findall(r"^### (.+)$", page.text("goals"), re.MULTILINE)) <= keys


def test_the_programs_of_the_yardstick_are_there():
    assert {file.name for file in Path(page.__file__).parent.glob("*.c")} == {"relay.c", "openloop.c"}
