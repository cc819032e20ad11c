"""Flags and a file: which of them is in force, and where each value comes from."""

import copy
import os
import re
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.files import digest_of
from twisted_lb.config.flags import Flagged
from twisted_lb.config.load import Source, from_flags
from twisted_lb.config.objects import Objects, objects_of
from twisted_lb.config.origins import Origins
from twisted_lb.core.pickers import POLICIES
from twisted_lb.errors import ConfigError
from twisted_lb.plan import Files, plan_of
from twisted_lb.watch import digest

FLAT = 'backends = ["a:80", "b:80"]\npolicy = "rr"\n[listen]\nport = 1\ninterface = "127.0.0.1"\n[health_check]\ninterval_s = 9\n'
TABLES = """\
[listeners.default]
address = "127.0.0.1:1"
[pools.default]
backends = ["a:80", "b:80"]
policy = "rr"
health_check.interval_s = 9
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path("lb.toml")


def objects(file: Path, text: str, **flags: str | list[str]) -> Objects:
    file.write_text(text)
    return objects_of(from_flags({f"--{name}": value for name, value in flags.items()}, file))


def refusal(file: Path, text: str, **flags: str | list[str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        objects(file, text, **flags)
    return list(map(str, caught.value.problems))


@pytest.mark.parametrize("text", [FLAT, TABLES], ids=["flat", "tables"])
@pytest.mark.parametrize(
    ("flags", "where", "names", "policy", "interval_s"),
    [
        ({}, ["127.0.0.1:1"], ["a:80", "b:80"], "rr", 9),
        ({"port": "8080"}, ["127.0.0.1:8080"], ["a:80", "b:80"], "rr", 9),
        ({"interface": "::1"}, ["[::1]:1"], ["a:80", "b:80"], "rr", 9),
        ({"interface": "", "port": "8080"}, ["port 8080"], ["a:80", "b:80"], "rr", 9),
        ({"backend": ["c:80"]}, ["127.0.0.1:1"], ["c:80"], "rr", 9),
        ({"strategy": "rand"}, ["127.0.0.1:1"], ["a:80", "b:80"], "rand", 9),
        ({"healthcheck": "0.5"}, ["127.0.0.1:1"], ["a:80", "b:80"], "rr", 0.5),
    ],
)
def test_a_flag_is_in_force_in_whichever_form_the_file_has_the_object(
    file, text, flags, where, names, policy, interval_s
):
    found = objects(file, text, **flags)
    pool = found.pools["default"]
    assert [one.where for one in found.listeners["default"].addresses] == where
    assert [spec.name for spec in pool.backends] == names
    assert (pool.policy, pool.health_check.interval_s) == (policy, interval_s)


def test_another_port_is_that_of_each_address_and_unix_sockets_stay(file):
    text = TABLES.replace(
        '"127.0.0.1:1"', '["127.0.0.1:1", "127.0.0.1:2", "[::1]:1", { address = "unix:/run/x", mode = "0600" }]'
    )
    addresses = objects(file, text, port="9").listeners["default"].addresses
    assert [one.where for one in addresses] == ["127.0.0.1:9", "[::1]:9", "unix:/run/x"]
    assert addresses[2].mode == 0o600


@pytest.mark.parametrize(("flag", "part"), [("port", "port"), ("interface", "interface")])
def test_a_unix_socket_has_neither_port_nor_interface(file, flag, part):
    text = TABLES.replace('"127.0.0.1:1"', '"unix:/run/x"')
    said = f"--{flag}: listeners.default.address has unix sockets alone, which have no {part}"
    assert refusal(file, text, **{flag: "1" if flag == "port" else "::1"}) == [said]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": "8080"}, "--port: lb.toml has listeners web, api and no default"),
        ({"interface": "::1"}, "--interface: lb.toml has listeners web, api and no default"),
        ({"backend": ["a:80"]}, "--backend: lb.toml has pools one, two and no default"),
        ({"strategy": "rr"}, "--strategy: lb.toml has pools one, two and no default"),
        ({"healthcheck": "1"}, "--healthcheck: lb.toml has pools one, two and no default"),
    ],
)
def test_a_flag_without_its_object_is_one_line(file, flags, said):
    text = """
    listeners = { web.address = ":1", api.address = ":2" }
    pools = { one.backends = ["a:80"], two.backends = ["b:80"] }
    """
    assert refusal(file, text, **flags) == [said]


def test_flags_about_a_pool_are_refused_where_there_are_routes_alone(file):
    text = '[[routes]]\nredirect = { to = "https://new.example.com" }\n'
    assert refusal(file, text, strategy="rr") == ["--strategy: lb.toml has routes and no default"]
    # This one makes it.
    assert list(objects(file, text, backend=["a:80"]).pools) == ["default"]


def test_a_flag_replaces_the_list_that_a_pool_follows_too(file):
    text = TABLES.replace('backends = ["a:80", "b:80"]', 'targets.file = "api.json"')
    assert [spec.name for spec in objects(file, text, backend=["c:80"]).pools["default"].backends] == ["c:80"]


@pytest.mark.parametrize(
    ("text", "intervals"),
    [
        ('backends = ["a:80"]\nchecks.default.interval_s = 9', {"default": 0.5}),
        (
            'pools = { default.backends = ["a:80"], x.backends = ["b:80"] }\nchecks.default.interval_s = 9',
            {"default": 0.5, "x": 0.5},
        ),
        (
            'pools = { x.backends = ["b:80"] }\nchecks.default.interval_s = 9',
            {"x": 0.5},
        ),
        # The pool says something itself, or asks otherwise.
        (
            'pools.default = { backends = ["a:80"], health_check.interval_s = 8 }\nchecks.default.interval_s = 9',
            {"default": 0.5},
        ),
        (
            'pools.default = { backends = ["a:80"], check = "x" }\nchecks = { default.interval_s = 9, x.interval_s = 8 }',
            {"default": 0.5},
        ),
    ],
    ids=["flat", "all that name none", "no pool default", "its own", "others by name"],
)
def test_how_often_is_checked_is_that_of_the_checks_default_and_the_pool_default(file, text, intervals):
    pools = objects(file, text, healthcheck="0.5").pools
    assert {name: pool.health_check.interval_s for name, pool in pools.items()} == intervals


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": "70000"}, ["--port: should be from 0 to 65535, not 70000"]),
        ({"port": "x"}, ["--port: should be a valid integer, not 'x'"]),
        ({"interface": "here"}, ["--interface: should be an IP address, such as 127.0.0.1 or ::1"]),
        ({"strategy": "good"}, [f"--strategy: should be one of {', '.join(POLICIES)}, not 'good'"]),
        ({"healthcheck": "-1"}, ["--healthcheck: should be greater than or equal to 0, not -1"]),
        ({"backend": ["c:80", "c:80"]}, ["--backend: c:80 is there twice"]),
    ],
)
def test_a_wrong_flag_is_named_also_where_it_goes_into_a_table(file, flags, said):
    assert refusal(file, TABLES, **flags) == said


def test_what_is_wrong_in_the_file_is_not_the_flag_s_fault(file):
    text = TABLES.replace('"127.0.0.1:1"', '"nowhere"').replace('policy = "rr"', "policy = 5")
    problems = refusal(file, text, port="8080", backend=["c:80"])
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["lb.toml:2:11", "listeners.default.address"],
        ["lb.toml:5:10", "pools.default.policy"],
    ]


# A flat key and its table.


@pytest.mark.parametrize(
    ("text", "key", "table"),
    [
        ('backends = ["a:80"]\n[pools.default]\nbackends = ["b:80"]', "backends", "pools.default"),
        ('policy = "rr"\n[pools.default]\nbackends = ["b:80"]', "policy", "pools.default"),
        ('strategy = "rr"\n[pools.default]\nbackends = ["b:80"]', "strategy", "pools.default"),
        ('timeouts.connect_s = 1\n[pools.default]\nbackends = ["b:80"]', "timeouts.connect_s", "pools.default"),
        ('backends = ["a:80"]\nlisten.port = 80\n[listeners.default]\naddress = ":1"', "listen", "listeners.default"),
        ('backends = ["a:80"]\ntimeouts.head_s = 1\n[listeners.default]\naddress = ":1"', "timeouts.head_s", "listeners.default"),
        (
            'backends = ["a:80"]\nforwarding.trusted_proxies = []\n[listeners.default]\naddress = ":1"',
            "forwarding.trusted_proxies",
            "listeners.default",
        ),
        ('backends = ["a:80"]\nhealth_check.rise = 1\n[checks.default]\nrise = 3', "health_check", "checks.default"),
    ],
)  # fmt: skip
def test_a_flat_key_beside_the_table_of_its_object_names_both(file, text, key, table):
    line = 1 + next(number for number, one in enumerate(text.splitlines()) if one.startswith(key))
    other = 1 + text.splitlines().index(f"[{table}]")
    [said] = refusal(file, text)
    assert re.fullmatch(
        rf"lb\.toml:{line}:[0-9]+: {key}: is of {table} in short, and \[{table}\] is there too: give it there "
        rf"\(lb\.toml:{other}\)",
        said,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('policy = "rr"\n[pools.api]\nbackends = ["a:80"]',
         "policy: is for the pool default, which is not there (pools: api): give it in [pools.api] or [defaults.pool]"),
        ('listeners.web.address = ":1"\ntimeouts.head_s = 1\nbackends = ["a:80"]',
         "timeouts.head_s: is for the listener default, which is not there (listeners: web): give it in [listeners.web] or [defaults.listener]"),
        ('upgrades = []\n[pools.api]\nbackends = ["a:80"]',
         "upgrades: is for the pool default, which is not there (pools: api): give it in [[routes]] or [defaults.route]"),
        ('policy = "rr"\n[[routes]]\ndeny = true',
         "policy: is for the pool default, which is not there: give it in [pools.default] or [defaults.pool]"),
    ],
)  # fmt: skip
def test_a_flat_key_without_its_object_is_told_where_it_belongs(file, text, said):
    [problem] = refusal(file, text)
    assert re.sub(r"^lb\.toml:[12]:[0-9]+: ", "", problem) == said


# Sources.


def test_a_source_knows_which_files_it_has_read_also_when_they_are_refused(file):
    file.write_text(f'include = ["b.toml"]\n{FLAT}')
    Path("b.toml").write_text("")
    source = Source({}, file)
    assert source.files() == {}
    source.load()
    before = source.files()
    assert list(before) == [file, Path("b.toml")]
    Path("b.toml").write_text("what = 1")
    with pytest.raises(ConfigError):
        source.load()
    assert {path.name for path in source.files() if source.files()[path] != before[path]} == {"b.toml"}
    assert source.loaded is not None
    assert source.loaded.config.policy == "rr"


def test_a_source_knows_what_it_tried_to_read_and_what_an_include_matches_by_now(file):
    file.write_text(f'include = ["conf.d/*.toml", "own.toml"]\n{FLAT}')
    source = Source({}, file)
    with pytest.raises(ConfigError, match=r"own\.toml: No such file"):
        source.load()
    assert source.files()[Path("own.toml")] == ""
    Path("own.toml").write_text("")
    source.load()
    Path("conf.d").mkdir()
    Path("conf.d/a.toml").write_text("policy =")
    assert source.files()[Path("conf.d/a.toml")] == ""
    with pytest.raises(ConfigError, match=r"conf.d/a.toml:1:9: Invalid value"):
        source.load()
    assert source.files()[Path("conf.d/a.toml")] == sha256(b"policy =").hexdigest()


def test_a_pipe_is_read_once(file):
    """As `--config <(generate)` is one: a second look would wait for ever."""
    os.mkfifo(file)
    writer = threading.Thread(target=file.write_text, args=(FLAT,))
    writer.start()
    source = Source({}, file)
    source.load()
    writer.join()
    with pytest.raises(ConfigError, match=r"lb\.toml: is a pipe, which cannot be read again and again"):
        source.load()
    assert digest(file) == ""


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_a_file_that_is_named_is_none_that_has_no_end(file, name):
    if name == "pipe":
        os.mkfifo(name)
    file.write_text(f'{FLAT}[error_pages]\n503 = "{name}"')
    said = f"{name}: is a pipe, which" if name == "pipe" else f"{name}: should be at most 16777216 bytes"
    with pytest.raises(ConfigError, match=said):
        plan_of(Source({}, file).load())
    file.write_text(f'include = ["{name}"]\n{FLAT}')
    with pytest.raises(ConfigError, match=said):
        Source({}, file).load()


def test_an_include_that_is_refused_is_known_as_any_other(file):
    file.write_text(f'include = ["*.toml"]\n{FLAT}')
    Path("a.toml").symlink_to("b.toml")
    Path("b.toml").write_text("")
    source = Source({}, file)
    with pytest.raises(ConfigError, match="includes itself"):
        source.load()
    assert source.files() == {path: digest_of(path.read_bytes()) for path in map(Path, ("a.toml", "b.toml", "lb.toml"))}


def test_a_relative_file_is_the_same_one_when_the_program_has_gone_elsewhere(file, monkeypatch):
    """As twistd does after the start: --rundir."""
    file.write_text(f'include = ["b.toml"]\n{FLAT}')
    Path("b.toml").write_text('error_pages = { 503 = "503.html" }')
    Path("503.html").write_text("sorry")
    source, files = Source({}, Path("lb.toml")), Files()
    first, here = source.load(), Path.cwd()
    Path("away").mkdir()
    monkeypatch.chdir("away")
    assert list(source.files()) == [here / "lb.toml", here / "b.toml"]
    assert source.load() == first
    assert list(source.files()) == [here / "lb.toml", here / "b.toml"]
    again = files.anew()
    plan_of(first, files=again)
    assert again.digests == {str(here / "503.html"): digest_of(b"sorry")}


def test_a_command_line_can_be_loaded_again(file):
    file.write_text(FLAT)
    source = Source({"--port": "8080"}, file)
    first = source.load()
    file.write_text(FLAT.replace('"rr"', '"rand"'))
    second = source()
    assert (first.policy, second.policy) == ("rr", "rand")
    assert first.listen.where == second.listen.where == "127.0.0.1:8080"


FILE: dict[str, Any] = {
    "status": "127.0.0.1:9000",
    "timeouts": {"drain_s": 1},
    "listeners": {"web": {"address": ":1", "timeouts": {"head_s": 4}}},
    "routes": [{"pool": "api"}, {"name": "r", "pool": "api", "strip_prefix": "/api"}],
    "pools": {
        "api": {
            "backends": ["a:80,weight=2", {"address": "b:80", "name": "two", "check_port": 8}],
            "check": "x",
            "strategy": "rand",
            "upstream": {"fresh_s": 1},
            "health_check": {"fall": 2},
        }
    },
    "checks": {"x": {"rise": 5, "fall": 6}},
    "defaults": {
        "listener": {"limits": {"head_fields": 20}, "default_pool": "api"},
        "pool": {"queue": {"length": 3}, "health_check": {"path": "/x"}},
        "route": {"timeouts": {"response_head_s": 4}},
        "backend": {"check_port": 9},
    },
}
FLAT_FILE: dict[str, Any] = {
    "backends": ["a:80"],
    "listen": {"port": 1},
    "timeouts": {"head_s": 1, "response_head_s": 2},
    "forwarding": {"trusted_proxies": ["10.0.0.1"], "real_ip": True},
    "health_check": {"interval_s": 9},
    "defaults": {"pool": {"queue": {"length": 3}}},
}


def origins(given: dict[str, Any], flags: dict[str, str | list[str]]) -> Origins:
    """Origins that name places by their paths in the file."""
    values = copy.deepcopy(given)
    flagged = Flagged(values, flags, "lb.toml")
    config = LoadBalancerConfig.model_validate(values)
    return Origins(config, given, flagged.typed, lambda path: ".".join(map(str, path)))


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("listeners.web.address", "listeners.web.address"),
        ("listeners.web.timeouts.head_s", "listeners.web.timeouts.head_s"),
        ("listeners.web.timeouts.body_idle_s", "default"),
        ("listeners.web.limits.head_fields", "defaults.listener.limits.head_fields"),
        ("routes.r.strip_prefix", "routes.1.strip_prefix"),
        ("routes.1.strip_prefix", "routes.1.strip_prefix"),
        ("routes.routes[0].strip_prefix", "default"),
        ("routes.r.timeouts.response_head_s", "defaults.route.timeouts.response_head_s"),
        ("routes.api.timeouts.response_head_s", "defaults.route.timeouts.response_head_s"),
        ("pools.api.policy", "pools.api.strategy"),
        ("pools.api.upstream.reuse_unsafe_within_s", "pools.api.upstream.fresh_s"),
        ("pools.api.queue.length", "defaults.pool.queue.length"),
        ("pools.api.health_check.fall", "pools.api.health_check.fall"),
        ("pools.api.health_check.rise", "checks.x.rise"),
        ("pools.api.health_check.path", "defaults.pool.health_check.path"),
        ("pools.api.health_check.port", "default"),
        ("pools.api.backends.0.address", "pools.api.backends.0"),
        ("pools.api.backends.0.weight", "pools.api.backends.0"),
        ("pools.api.backends.0.check_port", "defaults.backend.check_port"),
        ("pools.api.backends.two.check_port", "pools.api.backends.1.check_port"),
        ("pools.api.backends.1.weight", "default"),
        ("status", "--status"),
        ("timeouts.drain_s", "timeouts.drain_s"),
        ("ready_grace_s", "default"),
    ],
)
def test_every_value_in_force_has_its_origin(path, origin):
    assert origins(FILE, {"--status": "127.0.0.1:9001"}).of(path_of(path)) == origin


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("listeners.default.address", "--interface"),
        ("listeners.default.timeouts.head_s", "timeouts.head_s"),
        ("listeners.default.trusted_proxies", "forwarding.trusted_proxies"),
        ("routes.default.timeouts.response_head_s", "timeouts.response_head_s"),
        ("routes.default.forwarding.real_ip", "forwarding.real_ip"),
        ("pools.default.policy", "--strategy"),
        ("pools.default.backends.0.address", "--backend"),
        ("pools.default.health_check.interval_s", "health_check.interval_s"),
        ("pools.default.queue.length", "defaults.pool.queue.length"),
    ],
)
def test_flat_keys_are_the_origin_of_what_is_called_default(path, origin):
    flags: dict[str, str | list[str]] = {"--interface": "::1", "--strategy": "rand", "--backend": ["b:80"]}
    assert origins(FLAT_FILE, flags).of(path_of(path)) == origin


def test_a_port_of_the_file_is_its_origin():
    assert origins(FLAT_FILE, {}).of(("listeners", "default", "address")) == "listen.port"


def test_an_object_that_is_not_there_has_no_origin():
    for path in ("listeners.x.address", "pools.x.policy", "routes.x.pool", "pools.api.backends.x.weight"):
        with pytest.raises(KeyError, match="x"):
            origins(FILE, {}).of(path_of(path))


def test_all_values_can_be_listed():
    found = {".".join(map(str, path)): (value, origin) for path, value, origin in origins(FILE, {}).every()}
    assert found["pools.api.health_check.rise"] == (5, "checks.x.rise")
    assert found["listeners.web.timeouts.body_idle_s"] == (30, "default")
    assert found["routes.r.strip_prefix"] == ("/api", "routes.1.strip_prefix")
    assert found["routes.api.pool"][0] == "api"


def path_of(text: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in text.split("."))


def test_the_log_of_a_listener_and_that_of_the_process_have_origins_of_their_own():
    found = origins({"backends": ["a:1"], "log": {"requests": "all"}}, {})
    assert found.of(("listeners", "default", "log")) == found.of(("routes", "default", "log")) == "default"
    assert found.of(("log", "requests")) == "log.requests"
