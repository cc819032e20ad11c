"""The configuration: what it accepts, and how it says what it does not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from twisted_lb.config import (
    HealthCheckConfig,
    ListenConfig,
    ListenerConfig,
    LoadBalancerConfig,
    Model,
    PoolConfig,
    RouteConfig,
    policies,
)
from twisted_lb.config.load import from_flags, load_toml, sibling_from_flags
from twisted_lb.config.reference import reference
from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.pickers import POLICIES
from twisted_lb.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent
GOOD = {"--backend": ["a:80"]}


def written(path: Path, text: str) -> Path:
    file = path / "lb.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(flags: dict[str, str | list[str]], file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        from_flags(flags, file)
    return str(caught.value)


def test_backends_alone_are_a_configuration() -> None:
    config = from_flags({"--backend": ["a:81", "b:82,weight=3"]}, None)
    assert [(spec.name, spec.weight) for spec in config.backends] == [("a:81", 1), ("b:82", 3)]
    assert (config.listen.port, config.listen.interface, config.policy) == (80, "", "rr")
    assert (config.health_check.interval_s, config.health_check.kind) == (2.0, "http")


def test_every_flag_arrives_where_it_belongs() -> None:
    config = from_flags(
        {
            "--backend": ["[::1]:8081", "unix:/run/app.sock"],
            "--healthcheck": "0.5",
            "--strategy": "rand",
            "--port": "8080",
            "--interface": "localhost",
            "--status": "[::1]:9000",
            "--takeover": "/run/lb",
            "--tls": "/etc/lb/tls",
        },
        None,
    )
    assert config.tls.certificates == ("/etc/lb/tls",)
    assert config.takeover == "/run/lb"
    assert config.health_check.interval_s == 0.5
    assert config.policy == "rand"
    assert config.listen.where == "127.0.0.1:8080"
    assert config.status is not None
    assert config.status.where == "[::1]:9000"


def test_every_policy_is_accepted() -> None:
    for policy in POLICIES:
        assert from_flags({**GOOD, "--strategy": policy}, None).policy == policy


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"--port": "70000"}, "--port: should be less than or equal to 65535, not 70000"),
        ({"--port": "-1"}, "--port: should be greater than or equal to 0, not -1"),
        ({"--port": "abc"}, "--port: should be a valid integer, not 'abc'"),
        ({"--port": "80.5"}, "--port: should be a valid integer, not 80.5"),
        ({"--port": ""}, "--port: should be a valid integer"),
        ({"--healthcheck": "-1"}, "--healthcheck: should be greater than or equal to 0, not -1"),
        ({"--healthcheck": "nan"}, "--healthcheck: should be a finite number, not nan"),
        ({"--healthcheck": "inf"}, "--healthcheck: should be a finite number, not inf"),
        ({"--healthcheck": "0.01"}, "--healthcheck: should be 0 (off) or at least 0.05, not 0.01"),
        ({"--healthcheck": "soon"}, "--healthcheck: should be a valid number, not 'soon'"),
        ({"--strategy": "best"}, "--strategy: should be one of rr, rand"),
        ({"--interface": "here"}, "--interface: should be an IP address"),
        ({"--status": "9000"}, "--status: should be HOST:PORT"),
        ({"--status": "::1:9000"}, "--status: should be HOST:PORT"),
        ({"--status": "127.0.0.1:99999"}, "--status: should be less than or equal to 65535"),
        ({"--backend": ["nowhere"]}, "--backend: "),
        ({"--backend": ["a:99999"]}, "--backend: "),
        ({"--backend": ["a:80,weigth=2"]}, "--backend: "),
        ({"--backend": ["a:80", "a:80"]}, "--backend: a:80 is there twice"),
        ({"--backend": ["a:80", "a:80,weight=2"]}, "--backend: a:80 is there twice"),
        ({"--backend": []}, "no backend: give at least one"),
        ({"--backend": ["localhost:80"]}, "backend localhost:80 is this balancer itself"),
    ],
)
def test_a_wrong_flag_is_named_with_its_value(flags: dict[str, str | list[str]], said: str) -> None:
    assert said in refusal({**GOOD, **flags})
    assert "\n" not in refusal({**GOOD, **flags})


@pytest.mark.parametrize("path", ["", "/run/" + "x" * 92])
def test_a_path_that_no_unix_socket_can_have_is_refused(path: str) -> None:
    assert refusal({**GOOD, "--takeover": path}).startswith("--takeover: should be a path of 1 to 96 bytes")


def test_no_backend_at_all_is_refused() -> None:
    assert refusal({}).startswith("no backend: give at least one")


def test_all_errors_are_said_at_once() -> None:
    said = refusal({**GOOD, "--port": "-1", "--strategy": "good", "--healthcheck": "nan"})
    assert [part.split(":")[0] for part in said.split("; ")] == [
        "--strategy",
        "--port",
        "--healthcheck",
    ]


def test_a_file_says_what_flags_say_and_more(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        policy = "rand"
        status = "127.0.0.1:9000"
        backends = ["a:80,weight=3", "b:80"]
        [listen]
        port = 8080
        [health_check]
        interval_s = 1
        kind = "tcp"
        [timeouts]
        drain_s = 0.5
        """,
    )
    config = load_toml(file)
    assert [spec.weight for spec in config.backends] == [3, 1]
    assert (config.policy, config.listen.port) == ("rand", 8080)
    assert (config.health_check.interval_s, config.timeouts.drain_s) == (1.0, 0.5)


def test_backends_may_be_tables(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [[backends]]
        address = "[::1]:8081"
        weight = 4
        name = "blue"
        check_port = 8082
        [[backends]]
        address = "b:80"
        """,
    )
    blue, plain = load_toml(file).backends
    assert (blue.name, blue.weight, str(blue.address), blue.check_port) == ("blue", 4, "[::1]:8081", 8082)
    assert (plain.name, plain.weight, plain.check_port) == ("b:80", 1, None)


def test_flags_win_over_the_file_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    file = written(tmp_path, 'backends = ["a:80", "b:80"]\n[listen]\nport = 1\ninterface = "127.0.0.1"')
    config = from_flags({"--port": "8080", "--backend": ["c:80"]}, file)
    assert config.listen.where == "127.0.0.1:8080"
    assert [spec.name for spec in config.backends] == ["c:80"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nbackends = ?", "lb.toml:2:12: Invalid value; a text needs quotes"),
        ('backends = ["a:80"', "lb.toml:1:19: Unclosed array; the file ends before that is complete"),
        (
            'backends = ["a:80"\npolicy = "rr"',
            "lb.toml:2:1: Unclosed array; a comma or a ] is missing before this, or the quotes of a text",
        ),
        (
            'policy = "rr\nversion = 1',
            "lb.toml:1:13: Illegal character '\\n'; the quote at the end of a text is missing",
        ),
        (
            "status = 127.0.0.1:80",
            (
                "lb.toml:1:15: Expected newline or end of document after a statement; "
                "a text needs quotes, and each key a line of its own"
            ),
        ),
        (
            "policy: rr",
            "lb.toml:1:7: Expected '=' after a key in a key/value pair; TOML is written key = value, and tables [so]",
        ),
        (
            "retry = { budget_percent = 1 budget_per_s = 2 }",
            "lb.toml:1:30: Unclosed inline table; a comma or a } is missing before this, or the quotes of a text",
        ),
        ('backends = "a:80"', "lb.toml:1:12: backends: should be a list"),
        ("backends = [80]", "lb.toml:1:13: backends[0]: should be a string or a table, not 80"),
        ('backends = ["a"]', "lb.toml:1:13: backends[0]: "),
        ("backends = []", "lb.toml:1:12: backends: no backend: give at least one, such as 127.0.0.1:8081"),
        ("", "lb.toml:1:1: no backend: give at least one"),
        ("[[backends]]\nweight = 1", "lb.toml:1:3: backends[0].address: is missing"),
        ('[[backends]]\naddress = "a:80"\nweight = -1', "lb.toml:3:10: backends[0].weight: "),
        ('[[backends]]\naddress = "a:80"\nport = 1', "lb.toml:3:1: backends[0].port: unknown key"),
        ('backends = ["a:80"]\nresolve = "all"', "lb.toml:2:11: resolve: should be 'auto' or 'first'"),
        (
            '[backends]\naddress = "a:80"',
            "lb.toml:1:2: backends: should be a list: of tables [[backends]], in double brackets",
        ),
        (
            'backends = ["a:80"]\n[routes]\npool = "default"',
            "lb.toml:2:2: routes: should be a list: of tables [[routes]], in double brackets",
        ),
        (
            'backends = ["a:80,check_port=81"]',
            "lb.toml:1:13: backends[0]: 'a:80,check_port=81': check_port is for a backend that is a table of the file, [[backends]]",
        ),
        ('backends = ["a:80"]\nfamily = 4', "lb.toml:2:10: family: should be 'auto', 'ipv4' or 'ipv6', not 4"),
        ('backends = ["a:80"]\nfamily = "inet"', "lb.toml:2:10: family: should be 'auto', 'ipv4' or 'ipv6'"),
        (
            '[[backends]]\naddress = "a:80"\nresolve = "all"',
            "lb.toml:3:11: backends[0].resolve: should be 'auto' or 'first'",
        ),
        (
            '[[backends]]\naddress = "1.2.3.4:80"\nresolve = "first"',
            "lb.toml:1:3: backends[0]: resolve is for host names, and 1.2.3.4:80 has none",
        ),
        (
            '[[backends]]\naddress = "[::1]:80"\nfamily = "ipv6"',
            "lb.toml:1:3: backends[0]: family is for host names, and [::1]:80 has none",
        ),
        (
            '[[backends]]\naddress = "unix:/a"\nfamily = "ipv4"',
            "lb.toml:1:3: backends[0]: family is for host names, and unix:/a has none",
        ),
        (
            'backends = [{address = "a:80", name = "x"}, {address = "b:80", name = "x"}]',
            "lb.toml:1:45: backends[1]: the name x is there twice (",
        ),
        ('backends = ["a:80"]\nlisten = 80', "lb.toml:2:10: listen: should be a table"),
        ('backends = ["a:80"]\n[listen]\nport = "80"', "lb.toml:3:8: listen.port: should be a valid"),
        ('backends = ["a:80"]\n[listen]\nport = true', "lb.toml:3:8: listen.port: should be a valid"),
        ('backends = ["a:80"]\n[listen]\nprot = 80', "lb.toml:3:1: listen.prot: unknown key"),
        ('backends = ["a:80"]\n[health_check]\ninterval_s = nan', "should be a finite number"),
        ('backends = ["a:80"]\n[health_check]\npath = "x"', "should begin with /"),
        ('backends = ["a:80"]\n[health_check]\npath = "/a b"', "should begin with /"),
        ('backends = ["a:80"]\n[health_check]\nkind = "udp"', "should be 'http', 'tcp', 'script' or 'grpc', not 'udp'"),
        ('backends = ["a:80"]\n[timeouts]\ndrain_s = 0', "lb.toml:3:11: timeouts.drain_s: "),
        (
            'backends = ["a:80"]\n[retry]\nbad_statuses = [404]',
            "lb.toml:3:17: retry.bad_statuses[0]: should be greater ",
        ),
        (
            'backends = ["a:80"]\n[retry]\nbad_statuses = ["503"]',
            "lb.toml:3:17: retry.bad_statuses[0]: should be a valid ",
        ),
        (
            'backends = ["a:80"]\n[forwarding]\nonly_from_proxies = ["X Y"]',
            "lb.toml:3:21: forwarding.only_from_proxies: 'X Y' should be a field name, such as X-Real-IP or X-Auth-*",
        ),
        (
            'backends = ["a:80"]\n[forwarding]\nonly_from_proxies = ["X-*-Y"]',
            "lb.toml:3:21: forwarding.only_from_proxies: 'X-*-Y' should be a field name, such as ",
        ),
        (
            'backends = ["a:80"]\n[forwarding]\nonly_from_proxies = ["HOST"]',
            "lb.toml:3:21: forwarding.only_from_proxies: HOST cannot be one of them: no request is understood without it",
        ),
        (
            'backends = ["a:80"]\n[forwarding]\ntrusted_fields = "x-real-ip"',
            "lb.toml:3:18: forwarding.trusted_fields: should be 'any', 'x-forwarded' or 'forwarded'",
        ),
        (
            'backends = ["a:80"]\nerror_pages = { 503 = "a", 999 = "b" }',
            "lb.toml:2:28: error_pages.999: should be a status from 400 to 599, not '999'",
        ),
        ('backends = ["a:80", "A.:80"]', "lb.toml:1:21: backends[1]: A.:80 is there twice, also as a:80 ("),
        ('backends = ["LocalHost:80"]', "lb.toml:1:13: backends[0]: backend LocalHost:80 is this balancer itself"),
        ('[[backends]]\naddress = "a:80,weight=2"\nweight = 3', "twice: in 'a:80,weight=2', and as weight = 3"),
        (
            '[[backends]]\naddress = "a:80"\ncheck_port = 0',
            "lb.toml:3:14: backends[0].check_port: should be greater than or equal to 1",
        ),
        ('[[backends]]\naddress = "unix:/x"\ncheck_port = 81', "'unix:/x': a unix socket has no check_port"),
        ('[[backends]]\naddress = "a:80"\nname = "a b\\n"', "printable ASCII characters without spaces, not 'a b\\n'"),
        (
            'backends = ["a:80"]\nstatus = 9000',
            'lb.toml:2:10: status: should be a string HOST:PORT, such as "127.0.0.1:9000"',
        ),
        ('backends = ["a:80"]\n[status]\nprot = 1', 'lb.toml:3:1: status.prot: unknown key; did you mean "port"?'),
        (
            '[pools.a]\nbackends = ["a:80"]\nmirror = "b"',
            "lb.toml:3:10: pools.a.mirror: should be a table, not 'b'; its keys are to, percent, most, body_bytes, timeout_s, methods",
        ),
        (
            '[pools.a]\nbackends = ["a:80"]\n[pools.a.mirror]\nto = "b"\nmethods = "get"\n[pools.b]\nbackends = ["b:80"]',
            "lb.toml:5:11: pools.a.mirror.methods: should be in capitals, GET, not 'get'",
        ),
        (
            'backends = ["a:80"]\n[retry]\nmethods = ["post"]',
            "lb.toml:3:12: retry.methods[0]: should be in capitals, POST, not 'post'",
        ),
        ('backends = ["a:80"]\nerror_pages = "x"', "lb.toml:2:15: error_pages: should be a table, not 'x'"),
        ('backends = ["a:80"]\nerror_pages = {503 = 5}', "lb.toml:2:22: error_pages.503: should be a string, not 5"),
        ('backends = ["a:80"]\n[log]\nrequests = true', "should be 'none', 'brief', 'failed' or 'all', not true"),
        (
            'backends = ["a:80"]\n[listen]\nport = false',
            "lb.toml:3:8: listen.port: should be a valid integer, not false",
        ),
        ('backends = ["a:80"]\n[forwarding]\nforwarded = 1', "should be true or false, not 1"),
        (
            'backends = ["a:80"]\n[forwarding]\nvia = "a b"',
            "lb.toml:3:7: forwarding.via: should be at most 100 letters, ",
        ),
        ("a = " + "[" * 5000, "lb.toml:1:1: "),
    ],
)
def test_a_wrong_file_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    refused = refusal({}, written(tmp_path, text))
    assert said in refused
    assert "\n" not in refused


def test_a_table_says_what_is_made_of_its_name(tmp_path: Path) -> None:
    file = written(tmp_path, '[[backends]]\naddress = "a:80"\nresolve = "first"\nfamily = "ipv6"')
    assert load_toml(file).backends == (BackendSpec("a:80", TcpAddress("a", 80), resolve="first", family="ipv6"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('backends = ["a:80"]\nhelth_check = 1', '2:1: helth_check: unknown key; did you mean "health_check"?'),
        (
            'backends = ["a:80"]\n[health-check]\npath = "/"',
            '2:2: health-check: unknown key; did you mean "health_check"?',
        ),
        ('backends = ["a:80"]\nPolicy = "rr"', '2:1: Policy: unknown key; did you mean "policy"?'),
        ('backends = ["a:80"]\n[listen]\nprot = 1', '3:1: listen.prot: unknown key; did you mean "port"?'),
        ('backends = ["a:80"]\n[upstream]\nfresh = 1', '3:1: upstream.fresh: unknown key; did you mean "fresh_s"?'),
        ('[[backends]]\naddress = "a:80"\nwieght = 1', '3:1: backends[0].wieght: unknown key; did you mean "weight"?'),
        ('[[backends]]\naddress = "a:80"\nzone = 1', "3:1: backends[0].zone: unknown key"),
        ('backend = ["a:80"]', '1:1: backend: unknown key; did you mean "backends"?'),
        ('[listen]\nbackends = ["a:80"]', "2:1: listen.backends: unknown key; it belongs above the first [table]"),
        ('[pool.a]\nbackends = ["a:80"]', '1:2: pool: unknown key; did you mean "pools"?'),
        ('backends = ["a:80"]\npool = "a"', "2:1: pool: unknown key; it belongs into [[routes]]"),
        (
            '[pools.a]\nbackends = ["a:80"]\nkey = "path"',
            "3:1: pools.a.key: unknown key; it belongs into [[routes]]: a route knows what its requests are about",
        ),
        ('backends = ["a:80"]\nport = 80', "2:1: port: unknown key; it belongs into [listen] or [health_check]"),
        ('backends = ["a:80"]\nweight = 2', "2:1: weight: unknown key; it belongs into [[backends]]"),
        (
            'backends = ["a:80"]\n[limits]\ninterval_s = 1',
            "3:1: limits.interval_s: unknown key; it belongs into [health_check] or [tcp_keepalive]",
        ),
        ('backends = ["a:80"]\nxyzzy = 1', "2:1: xyzzy: unknown key"),
        (
            '[listeners.a]\naddress = ":1"\nmode = "tcp"\n[pools.a]\nbackends = ["a:80"]',
            "3:1: listeners.a.mode: unknown key; that is protocol of [listeners.NAME] here, flat protocol",
        ),
        (
            '[listeners.a]\naddress = ":1"\naccept-proxy = true\n[pools.a]\nbackends = ["a:80"]',
            '3:1: listeners.a.accept-proxy: unknown key; that is proxy_protocol = "require" of [listeners.NAME] here, flat [forwarding]',
        ),
        (
            '[listeners.a]\naddress = ":1"\ntls = { key = "a.key" }\n[pools.a]\nbackends = ["a:80"]',
            "3:9: listeners.a.tls.key: unknown key; a key is found in the file of its certificate, or beside it",
        ),
        (
            'backends = ["a:80"]\n[listen]\naddress = ":1"',
            "3:1: listen.address: unknown key; that is interface and port here",
        ),
        (
            '[[routes]]\nhttps_only = 0\npool = "a"\n[pools.a]\nbackends = ["a:80"]',
            "2:14: routes[0].https_only: should be true, false, or the port at which clients find https, such as 8443, not 0",
        ),
        ('backends = ["a:80"]\nbalance = "leastconn"', "2:1: balance: unknown key; that is policy here"),
        (
            '[pools.a]\nbackends = ["a:80"]\nmaxconn = 4',
            "3:1: pools.a.maxconn: unknown key; that is max_in_flight of a pool or backend here, and connections in [limits] for clients",
        ),
        (
            '[pools.a]\nbackends = ["a:80"]\nstick-table = "type ip"',
            "3:1: pools.a.stick-table: unknown key; that is [pools.NAME.affinity] here, flat [affinity], such as cookie = true",
        ),
        (
            '[pools.a]\nbackends = ["a:80"]\nretries = 3',
            "3:1: pools.a.retries: unknown key; that is more_attempts in [pools.NAME.retry] here, flat [retry]",
        ),
        (
            '[pools.a]\nbackends = ["a:80"]\n[[routes]]\npool = "a"\nhedge = { percentile = 95 }',
            "5:1: routes[0].hedge: unknown key; it belongs into [pools.NAME]",
        ),
    ],
)
def test_an_unknown_key_comes_with_what_was_probably_meant(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    assert refusal({}, file) == f"{file}:{said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('backends = ["a:80"]\nbackends = ["b:80"]', "2:1: backends: already set in lb.toml:1"),
        ('backends = ["a:80"]\npolicy = "rr"\npolicy = "rr"\n', "3:1: policy: already set in lb.toml:2"),
        ('backends = [\n"a:80",\n]\nbackends = [\n"b:80",\n]\n', "4:1: backends: already set in lb.toml:1"),
        ('"a b" = 1\n"a b" = 2\n', '2:1: "a b": already set in lb.toml:1'),
        ("[listen]\nport = 1\n[listen]\n", "3:2: listen: already set in lb.toml:1"),
        ("listen = {port = 1}\n[listen]\n", "2:2: listen: already set in lb.toml:1"),
        ("listen = {port = 1}\nlisten.interface = 'x'\n", "2:8: listen.interface: listen is already set in lb.toml:1"),
    ],
)
def test_what_is_there_twice_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)
    assert refusal({}, file).replace(str(file), "lb.toml") == f"lb.toml:{said}"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8-sig", "begins with a byte order mark (BOM), should be UTF-8 without"),
        ("utf-16", "is UTF-16, should be UTF-8"),
        ("utf-32", "is UTF-32, should be UTF-8"),
    ],
)
def test_a_file_in_another_encoding_is_named_so(tmp_path: Path, encoding: str, said: str) -> None:
    file = tmp_path / "lb.toml"
    file.write_bytes('backends = ["a:80"]'.encode(encoding))
    assert refusal({}, file) == f"{file}:1:1: {said}"


def test_a_wrong_flag_and_a_wrong_file_are_both_said(tmp_path: Path) -> None:
    file = written(tmp_path, 'backends = ["a:80"]\nx = 1\n[limits]\nhead_bytes = 1')
    with pytest.raises(ConfigError) as caught:
        from_flags({"--port": "-1"}, file)
    assert list(map(str, caught.value.problems)) == [
        "--port: should be greater than or equal to 0, not -1",
        f"{file}:2:1: x: unknown key",
        f"{file}:4:14: limits.head_bytes: should be greater than or equal to 256, not 1",
    ]


def test_a_file_that_is_not_there_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lb.toml: No such file or directory$"):
        load_toml(tmp_path / "lb.toml")
    with pytest.raises(ConfigError, match=r": Is a directory$"):
        load_toml(tmp_path)
    (tmp_path / "lb.toml").write_bytes(b"x = '\xff'")
    with pytest.raises(ConfigError, match=r"lb.toml:1:6: not UTF-8 at byte 5$"):
        load_toml(tmp_path / "lb.toml")


def test_an_address_to_listen_on_is_normal_whatever_was_typed() -> None:
    typed = ["", "*", "localhost", "127.0.0.1", "::1", "[::1]"]
    places = [ListenConfig(port=80, interface=text).where for text in typed]
    assert places == ["port 80", "port 80", "127.0.0.1:80", "127.0.0.1:80", "[::1]:80", "[::1]:80"]


def test_a_check_waits_less_than_its_interval_unless_told() -> None:
    waits = [HealthCheckConfig(interval_s=s).answer_timeout_s for s in (0.5, 2, 60)]
    assert waits == pytest.approx([0.4, 1.6, 5.0])
    assert HealthCheckConfig(timeout_s=7).answer_timeout_s == 7
    assert not HealthCheckConfig(interval_s=0).enabled


def test_configuration_cannot_be_changed() -> None:
    config = LoadBalancerConfig(backends=(BackendSpec.parse("a:80"),))
    with pytest.raises(ValidationError):
        config.policy = "rand"


@pytest.mark.parametrize(
    ("table", "older", "name", "value"),
    [
        ("", "strategy", "policy", "rand"),
        ("upstream", "fresh_s", "reuse_unsafe_within_s", 0.5),
    ],
)
def test_a_key_is_accepted_under_its_older_name(
    tmp_path: Path, table: str, older: str, name: str, value: object
) -> None:
    def configured(key: str) -> LoadBalancerConfig:
        header = f"[{table}]\n" if table else ""
        return load_toml(written(tmp_path, f'backends = ["a:80"]\n{header}{key} = {json.dumps(value)}'))

    assert configured(older) == configured(name)
    assert configured(name).model_dump() != LoadBalancerConfig(backends=["a:80"]).model_dump()
    in_python = {older: value}
    assert configured(name) == LoadBalancerConfig(backends=["a:80"], **({table: in_python} if table else in_python))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('strategy = "good"', f"2:12: strategy: should be one of {', '.join(POLICIES)}, not 'good'"),
        ('strategy = "rr"\npolicy = "rand"', "2:1: strategy: policy and strategy are the same key: give policy alone"),
        ("[upstream]\nfresh_s = -1", "3:11: upstream.fresh_s: should be greater than or equal to 0, not -1"),
        (
            "[upstream]\nreuse_unsafe_within_s = 1\nfresh_s = 1",
            "4:1: upstream.fresh_s: reuse_unsafe_within_s and fresh_s are the same key: give reuse_unsafe_within_s alone",
        ),
    ],
)
def test_an_error_names_the_key_that_was_typed(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, f'backends = ["a:80"]\n{text}')
    assert refusal({}, file) == f"{file}:{said}"


def test_an_error_in_python_names_the_argument_that_was_typed() -> None:
    with pytest.raises(ValidationError, match=r"strategy\n.*should be one of rr, rand"):
        LoadBalancerConfig(backends=["a:80"], strategy="best")
    with pytest.raises(ValidationError, match="policy and strategy are the same key"):
        LoadBalancerConfig(backends=["a:80"], strategy="rr", policy="rr")


@pytest.mark.parametrize("key", ["policy", "strategy"])
def test_a_flag_wins_over_either_name_of_its_key(tmp_path: Path, key: str) -> None:
    file = written(tmp_path, f'backends = ["a:80"]\n{key} = "rr"')
    assert from_flags({"--strategy": "rand"}, file).policy == "rand"
    assert refusal({"--strategy": "best"}, file).startswith("--strategy: ")


def test_a_value_can_be_read_by_the_older_name_of_its_key() -> None:
    config = LoadBalancerConfig(backends=["a:80"], policy="rand", upstream={"reuse_unsafe_within_s": 0.5})
    assert (config.strategy, config.upstream.fresh_s) == ("rand", 0.5)


def test_the_reference_tells_a_key_s_older_name() -> None:
    row = next(line for line in reference().splitlines() if line.startswith("| `policy`"))
    assert row.endswith(" Older name: `strategy`. |")


def keys_of(model: type[Model], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Model):
            yield from keys_of(kind, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


# A file of each kind, with what it needs to be one; the key is set on top of it, or in place of it.
OWNERS: dict[str, tuple[type[Model], str]] = {
    "": (LoadBalancerConfig, 'backends = ["a:80"]\n'),
    "listeners.web.": (ListenerConfig, 'backends = ["a:80"]\nlisteners.web.address = ":81"\n'),
    "pools.api.": (PoolConfig, 'pools.api.backends = ["a:80"]\n'),
    "checks.slow.": (HealthCheckConfig, 'backends = ["a:80"]\n'),
}
WRONG = [f"{prefix}{key}" for prefix, (model, _) in OWNERS.items() for key in sorted(keys_of(model))]


# What is of no kind that a key may have.
OF_NO_KIND = ("nan", "[[1]]", "{x = 1}", "1979-05-27")


@pytest.mark.parametrize("key", WRONG)
def test_a_value_of_a_wrong_kind_is_a_problem_by_the_name_of_its_key(tmp_path: Path, key: str) -> None:
    prefix = max((one for one in OWNERS if key.startswith(one)), key=len)
    needed = "".join(f"{line}\n" for line in OWNERS[prefix][1].splitlines() if not line.startswith(f"{key} ="))
    for value in OF_NO_KIND:
        named_by(f"{needed}{key} = {value}", key, tmp_path)


# A split of `{ x = 1 }` is one.
@pytest.mark.parametrize("key", [one for one in keys_of(RouteConfig) if one not in ("deny", "split")])
def test_a_wrong_value_of_a_route_is_a_problem_by_the_name_of_its_key(tmp_path: Path, key: str) -> None:
    for value in OF_NO_KIND:
        named_by(f"[[routes]]\ndeny = true\n{key} = {value}", f"routes[0].{key}", tmp_path)


def named_by(text: str, key: str, folder: Path) -> None:
    """One problem, or, of a table, one for each of its keys that is wrong or missing."""
    with pytest.raises(ConfigError) as caught:
        load_toml(written(folder, text))
    places = [re.sub(r"^.*lb\.toml:[0-9]+:[0-9]+: ", "", str(one)).partition(": ")[0] for one in caught.value.problems]
    assert all(place == key or place.startswith((f"{key}.", f"{key}[")) for place in places), text
    assert len(places) == 1 or "= {x = 1}" in text, text


def test_the_reference_speaks_as_the_file_does() -> None:
    text = reference()
    assert '| `upstream.max_idle` | integer from 0 to 100000 or `"auto"` | `"auto"` |' in text
    assert "| `move` | boolean | `true` |" in text
    assert "| `headers` | table | `{}` |" in text
    # A summary goes on to the end of its paragraph.
    assert "twistd's command line says where it goes" in text


def test_programs_may_give_addresses_in_place_of_specs() -> None:
    config = LoadBalancerConfig.model_validate({"backends": ["a:80", BackendSpec.parse("b:80")]})
    assert [spec.name for spec in config.backends] == ["a:80", "b:80"]


def test_the_schema_names_every_table() -> None:
    properties = LoadBalancerConfig.model_json_schema()["properties"]
    assert list(properties) == list(LoadBalancerConfig.model_fields)


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert all(len(row.rstrip(" |").split(" | ")[-1]) > 10 for row in rows)


def test_the_published_reference_is_up_to_date() -> None:
    published = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert published == reference(), "python -m twisted_lb.config.reference >docs/configuration.md"


def test_the_sibling_has_flags_of_its_own() -> None:
    config = sibling_from_flags({"--port": "0", "--name": "blue"})
    assert (config.port, config.name) == (0, "blue")
    for flags, said in [({"--port": "x"}, "--port: "), ({"--name": "a b"}, "--name: ")]:
        with pytest.raises(ConfigError, match=said):
            sibling_from_flags(flags)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leastconn", 'did you mean "least"?'),  # HAProxy
        ("static-rr", 'did you mean "rr"?'),
        ("source", 'that is maglev here, and key = "client" of the route'),
        ("uri", 'that is maglev here, and key = "path" of the route'),
        ("least_conn", 'did you mean "least"?'),  # NGINX
        ("ip_hash", 'that is maglev here, and key = "client" of the route'),
        ("RING_HASH", 'did you mean "ring"?'),  # Envoy
        ("Least", 'did you mean "least"?'),
        ("rendevous", 'did you mean "rendezvous"?'),
        ("fewer.Fewer", "a class of your own is package.module:Class"),
    ],
)
def test_a_policy_that_has_another_name_elsewhere_is_told_by_ours(name: str, said: str) -> None:
    assert refusal({**GOOD, "--strategy": name}).endswith(f"not {name!r}; {said}")


def test_the_reference_has_the_default_of_a_cost() -> None:
    of_a_route, flat = [line for line in reference().splitlines() if line.startswith("| `cost` |")]
    assert of_a_route.split(" | ")[2] == "`1`"
    assert flat == "| `cost` | `cost` of the route |"


def test_every_name_from_elsewhere_leads_to_a_policy_that_there_is() -> None:
    for name in policies._ELSEWHERE:
        assert name not in POLICIES
    assert set(policies._ELSEWHERE.values()) <= set(POLICIES)
