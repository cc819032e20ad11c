"""The table `health_check`: what may be asked and expected, and how a wrong value is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from twisted_lb.config import HealthCheckConfig
from twisted_lb.config.load import load_toml
from twisted_lb.config.problems import report
from twisted_lb.errors import ConfigError
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.plan_diff import plan_diff


def written(path: Path, *lines: str) -> Path:
    file = path / "lb.toml"
    file.write_text("\n".join(['backends = ["a:80"]', "[health_check]", *lines]), encoding="utf-8")
    return file


def test_by_itself_it_asks_for_the_first_page_and_takes_any_2xx_or_3xx() -> None:
    config = HealthCheckConfig()
    assert (config.kind, config.method, config.path, config.host, config.headers) == ("http", "GET", "/", None, {})
    assert (config.statuses, config.expect_text, config.port) == (frozenset(range(200, 400)), None, None)


def test_everything_can_be_said_in_a_file(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'method = "OPTIONS"',
        'host = "app.example.org:8443"',
        'expect_statuses = ["200-299", 401, "404-404"]',
        'expect_text = "all is well"',
        "port = 9000",
        'headers = { Authorization = "Bearer x", X-Empty = "" }',
    )
    check = load_toml(file).health_check
    assert (check.method, check.host, check.port) == ("OPTIONS", "app.example.org:8443", 9000)
    assert check.statuses == {*range(200, 300), 401, 404}
    assert (check.expect_text, check.headers) == ("all is well", {"Authorization": "Bearer x", "X-Empty": ""})


@pytest.mark.parametrize(
    "host",
    ["app", "app.example.org", "my_app", "app:80", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:8000", "a.b."],
)
def test_a_host_is_a_name_or_an_address_with_a_port_or_without(host: str) -> None:
    assert HealthCheckConfig(host=host).host == host


@pytest.mark.parametrize("method", ["HEAD", "PROPFIND", "VERSION-CONTROL"])
def test_a_method_is_a_word_in_capitals(method: str) -> None:
    assert HealthCheckConfig(method=method).method == method


HOST = "health_check.host: should be a name or an address, such as app.example.org or [::1]:8000"
STATUS = "should be a status from 200 to 599, such as 401, or a range of them, such as"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('host = "http://app"', f"3:8: {HOST}, not 'http://app'"),
        ('host = ""', f"3:8: {HOST}"),
        ('host = "a b"', f"3:8: {HOST}"),
        ('host = "::1"', f"3:8: {HOST}"),
        ('host = "[::1"', f"3:8: {HOST}"),
        ('host = "*"', f"3:8: {HOST}"),
        ('host = ".example.org"', f"3:8: {HOST}"),
        ('host = "app:0"', f"3:8: {HOST}"),
        ('host = "app:"', f"3:8: {HOST}"),
        ('host = "app/"', f"3:8: {HOST}"),
        ('host = "u@app"', f"3:8: {HOST}"),
        ('host = "unix:/run/app.sock"', f"3:8: {HOST}"),
        ('host = "a\\r\\nX: y"', f"3:8: {HOST}"),
        ('host = "süß"', f"3:8: {HOST}"),
        ("host = 1", "3:8: health_check.host: should be a "),
        ('method = "get"', "3:10: health_check.method: should be a method in capitals, such as HEAD, not 'get'"),
        ('method = ""', "3:10: health_check.method: should be a method in capitals"),
        ('method = "GET /"', "3:10: health_check.method: should be a method in capitals"),
        ('method = "CONNECT"', "3:10: health_check.method: should ask for a page, which CONNECT does not"),
        ("port = 0", "3:8: health_check.port: should be greater than or equal to 1, not 0"),
        ("port = 65536", "3:8: health_check.port: should be less than or equal to 65535"),
        ('port = "80"', "3:8: health_check.port: should be a "),
        ('headers = "X-A: b"', "3:11: health_check.headers: should be a "),
        ('headers = { "X A" = "b" }', "3:13: health_check.headers.\"X A\": 'X A' should be the name of a header field"),
        ('headers = { "" = "b" }', "3:13: health_check.headers.\"\": '' should be the name of a header field"),
        (
            'headers = { X-A = "b\\nc" }',
            "3:13: health_check.headers.X-A: X-A should have a value in ASCII, on one line, without space around it",
        ),
        (
            'headers = { X-A = " b" }',
            "3:13: health_check.headers.X-A: X-A should have a value in ASCII, on one line, without space around it",
        ),
        (
            'headers = { X-A = "süß" }',
            "3:13: health_check.headers.X-A: X-A should have a value in ASCII, on one line, without space around it",
        ),
        ("headers = { X-A = 1 }", "3:19: health_check.headers.X-A: should be a "),
        ('headers = { Host = "app" }', "3:13: health_check.headers.Host: Host is set by health_check.host"),
        (
            'headers = { CONNECTION = "close" }',
            "3:13: health_check.headers.CONNECTION: CONNECTION cannot be set: it is ours to say how a check is framed and ends",
        ),
        (
            'headers = { Content-Length = "1" }',
            "3:13: health_check.headers.Content-Length: Content-Length cannot be set: it is ours to say how a check is framed and ends",
        ),
        (
            'headers = { Expect = "100-continue" }',
            "3:13: health_check.headers.Expect: Expect cannot be set: it is ours to say how a check is framed and ends",
        ),
        ('headers = { X-A = "1", x-a = "2" }', "3:24: health_check.headers.x-a: x-a is there twice"),
        (f'headers = {{ X-A = "{"y" * 5000}" }}', "3:11: health_check.headers: should be at most 4096 bytes together"),
        (
            "expect_statuses = []",
            "3:19: health_check.expect_statuses: should hold at least one status, or nothing would pass",
        ),
        ("expect_statuses = 200", "3:19: health_check.expect_statuses: should be a list"),
        ('expect_statuses = "200"', "3:19: health_check.expect_statuses: should be a list"),
        ("expect_statuses = [200, 600]", f"3:25: health_check.expect_statuses[1]: {STATUS}"),
        ("expect_statuses = [101]", f'3:20: health_check.expect_statuses[0]: {STATUS} "200-299", not 101'),
        ("expect_statuses = [true]", f"3:20: health_check.expect_statuses[0]: {STATUS}"),
        ("expect_statuses = [200.0]", f"3:20: health_check.expect_statuses[0]: {STATUS}"),
        ('expect_statuses = ["2xx"]', f"3:20: health_check.expect_statuses[0]: {STATUS} \"200-299\", not '2xx'"),
        ('expect_statuses = ["200"]', f"3:20: health_check.expect_statuses[0]: {STATUS}"),
        ('expect_statuses = ["299-200"]', f"3:20: health_check.expect_statuses[0]: {STATUS}"),
        ('expect_statuses = ["200-600"]', f"3:20: health_check.expect_statuses[0]: {STATUS}"),
        ('expect_statuses = ["200-399 "]', f"3:20: health_check.expect_statuses[0]: {STATUS}"),
        ('expect_text = ""', "3:15: health_check.expect_text: "),
        (
            'method = "HEAD"\nexpect_text = "a"',
            "4:1: health_check.expect_text: expect_text needs another method: an answer to HEAD has no body",
        ),
        (
            'kind = "tcp"\nmethod = "HEAD"',
            '4:1: health_check.method: method needs kind = "http": a tcp check only connects',
        ),
        ('kind = "tcp"\nhost = "a"', '4:1: health_check.host: host needs kind = "http": a tcp check only connects'),
        (
            'kind = "tcp"\nheaders = { X-A = "b" }',
            '4:1: health_check.headers: headers needs kind = "http": a tcp check only connects',
        ),
        (
            'kind = "tcp"\nexpect_statuses = [200]',
            '4:1: health_check.expect_statuses: expect_statuses needs kind = "http": a tcp check only connects',
        ),
        (
            'kind = "tcp"\nexpect_text = "a"',
            '4:1: health_check.expect_text: expect_text needs kind = "http": a tcp check only connects',
        ),
        ("expected_status = [200]", "3:1: health_check.expected_status: unknown key"),
    ],
    ids=lambda one: one[:40],
)
def test_a_wrong_value_is_named_in_one_line(tmp_path: Path, line: str, said: str) -> None:
    file = written(tmp_path, line)
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert str(caught.value).startswith(f"{file}:{said}")
    assert "\n" not in str(caught.value)


def test_a_value_that_may_be_a_secret_is_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path, 'headers = { Authorization = "Bearer s\\u00e9cret" }')
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert "Bearer" not in str(caught.value)
    assert "Bearer" not in report(caught.value.problems, "nothing was started")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['agent = "trailer"'], "lb.toml:3:9: health_check.agent: should be 'off', 'header' or 'body'"),
        (['agent_header = "X State"'], "lb.toml:3:16: health_check.agent_header: should be the name of a header field"),
        (["agent_port = 0"], "lb.toml:3:14: health_check.agent_port: should be"),
        (["agent_port = 70000"], "lb.toml:3:14: health_check.agent_port: should be"),
        (["busy_statuses = [99]"], "lb.toml:3:18: health_check.busy_statuses[0]: " + STATUS),
        (["busy_statuses = 429"], "lb.toml:3:17: health_check.busy_statuses: should be"),
        (
            ['kind = "tcp"', 'agent = "header"'],
            'health_check.agent: agent needs kind = "http": a tcp check only connects',
        ),
        (['kind = "tcp"', "busy_statuses = [429]"], 'busy_statuses needs kind = "http": a tcp check only connects'),
        (['agent = "body"', 'method = "HEAD"'], 'agent = "body" needs another method: an answer to HEAD has no body'),
        (
            ['agent = "body"', "agent_port = 9"],
            'agent_port asks agents at a port of their own, and agent = "body" does not',
        ),
    ],
    ids=repr,
)
def test_what_says_how_backends_are_heard_is_held_to_that(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_toml(written(tmp_path, *lines))
    assert said in report(caught.value.problems, "nothing was started")


def test_a_tcp_check_may_have_an_agent_at_a_port_of_its_own(tmp_path: Path) -> None:
    check = load_toml(written(tmp_path, 'kind = "tcp"', "agent_port = 9999")).health_check
    assert (check.kind, check.agent_port) == ("tcp", 9999)


def test_a_tcp_check_may_have_a_path_and_another_port() -> None:
    config = HealthCheckConfig(kind="tcp", path="/health", port=9)
    assert (config.kind, config.port) == ("tcp", 9)


def test_in_python_a_mistake_is_one_too() -> None:
    with pytest.raises(ValidationError, match="expect_text needs another method"):
        HealthCheckConfig(method="HEAD", expect_text="x")


def secretly(tmp_path: Path, value: str) -> Path:
    return written(tmp_path, "[health_check.headers]", f"Authorization = {value}")


@pytest.mark.parametrize("kind", ["file", "env", "credential"])
def test_what_a_check_says_may_be_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    (tmp_path / "token").write_text("Bearer s3cret\n")
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("TOKEN", "Bearer s3cret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    name = "TOKEN" if kind == "env" else "token"
    config = load_toml(secretly(tmp_path, f'{{ {kind} = "{name}" }}'))
    checks = plan_of(config).pools[DEFAULT].checks
    assert checks is not None
    assert checks.http is not None
    assert checks.http.fields == (b"Authorization: Bearer s3cret",)
    assert "s3cret" not in repr(config) + str(config.model_dump()) + config.model_dump_json()


def test_another_secret_is_another_plan_and_the_same_one_is_not(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("Bearer one")
    token.chmod(0o600)
    file = secretly(tmp_path, '{ file = "token" }')
    before = plan_of(load_toml(file))
    assert plan_of(load_toml(file), before).pools[DEFAULT] is before.pools[DEFAULT]
    token.write_text("Bearer two")
    after = plan_of(load_toml(file), before)
    assert plan_diff(before, after).changes == ("changes pool default: health_check.headers: other values",)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{ file = "nowhere" }', "nowhere: No such file or directory"),
        ('{ env = "NOT_SET_HERE" }', "there is no NOT_SET_HERE in the environment"),
        ('{ vault = "x" }', "should be a string, or a table such as"),
        ("5", "should be a string, or a table such as"),
        ('"s3cret\\n"', "Authorization: should have a value in ASCII, on one line, without space around it"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_at_its_place_and_not_shown(tmp_path: Path, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_toml(secretly(tmp_path, value))
    text = report(caught.value.problems, "nothing was started")
    assert said in text
    assert "lb.toml:4:" in text
    assert "s3cret" not in text
