"""The table `health_check`: what may be asked and expected, and how a wrong value is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from twisted_lb.config import HealthCheckConfig
from twisted_lb.config.load import load_toml
from twisted_lb.errors import ConfigError


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
        ('host = "http://app"', f"{HOST}, not 'http://app'"),
        ('host = ""', HOST),
        ('host = "a b"', HOST),
        ('host = "::1"', HOST),
        ('host = "[::1"', HOST),
        ('host = "*"', HOST),
        ('host = ".example.org"', HOST),
        ('host = "app:0"', HOST),
        ('host = "app:"', HOST),
        ('host = "app/"', HOST),
        ('host = "u@app"', HOST),
        ('host = "unix:/run/app.sock"', HOST),
        ('host = "a\\r\\nX: y"', HOST),
        ('host = "süß"', HOST),
        ("host = 1", "health_check.host: should be a "),
        ('method = "get"', "health_check.method: should be a method in capitals, such as HEAD, not 'get'"),
        ('method = ""', "health_check.method: should be a method in capitals"),
        ('method = "GET /"', "health_check.method: should be a method in capitals"),
        ('method = "CONNECT"', "health_check.method: should ask for a page, which CONNECT does not"),
        ("port = 0", "health_check.port: should be greater than or equal to 1, not 0"),
        ("port = 65536", "health_check.port: should be less than or equal to 65535"),
        ('port = "80"', "health_check.port: should be a "),
        ('headers = "X-A: b"', "health_check.headers: should be a "),
        ('headers = { "X A" = "b" }', "health_check.headers: 'X A' should be the name of a header field"),
        ('headers = { "" = "b" }', "health_check.headers: '' should be the name of a header field"),
        ('headers = { X-A = "b\\nc" }', "health_check.headers: X-A should have a value in ASCII, on one line"),
        ('headers = { X-A = " b" }', "health_check.headers: X-A should have a value in ASCII, on one line"),
        ('headers = { X-A = "süß" }', "health_check.headers: X-A should have a value in ASCII, on one line"),
        ("headers = { X-A = 1 }", "health_check.headers.X-A: should be a "),
        ('headers = { Host = "app" }', "health_check.headers: Host is set by health_check.host"),
        ('headers = { CONNECTION = "close" }', "health_check.headers: CONNECTION cannot be set: it is ours"),
        ('headers = { Content-Length = "1" }', "health_check.headers: Content-Length cannot be set: it is ours"),
        ('headers = { Expect = "100-continue" }', "health_check.headers: Expect cannot be set: it is ours"),
        ('headers = { X-A = "1", x-a = "2" }', "health_check.headers: x-a is there twice"),
        (f'headers = {{ X-A = "{"y" * 5000}" }}', "health_check.headers: should be at most 4096 bytes together"),
        (
            "expect_statuses = []",
            "health_check.expect_statuses: should hold at least one status, or nothing would pass",
        ),
        ("expect_statuses = 200", "health_check.expect_statuses: should be a list"),
        ('expect_statuses = "200"', "health_check.expect_statuses: should be a list"),
        ("expect_statuses = [200, 600]", f"health_check.expect_statuses.1: {STATUS}"),
        ("expect_statuses = [101]", f'health_check.expect_statuses.0: {STATUS} "200-299", not 101'),
        ("expect_statuses = [true]", f"health_check.expect_statuses.0: {STATUS}"),
        ("expect_statuses = [200.0]", f"health_check.expect_statuses.0: {STATUS}"),
        ('expect_statuses = ["2xx"]', f"health_check.expect_statuses.0: {STATUS} \"200-299\", not '2xx'"),
        ('expect_statuses = ["200"]', f"health_check.expect_statuses.0: {STATUS}"),
        ('expect_statuses = ["299-200"]', f"health_check.expect_statuses.0: {STATUS}"),
        ('expect_statuses = ["200-600"]', f"health_check.expect_statuses.0: {STATUS}"),
        ('expect_statuses = ["200-399 "]', f"health_check.expect_statuses.0: {STATUS}"),
        ('expect_text = ""', "health_check.expect_text: "),
        (
            'method = "HEAD"\nexpect_text = "a"',
            "health_check: expect_text needs another method: an answer to HEAD has no",
        ),
        ('kind = "tcp"\nmethod = "HEAD"', 'health_check: method needs kind = "http": a tcp check only connects'),
        ('kind = "tcp"\nhost = "a"', 'health_check: host needs kind = "http": a tcp check only connects'),
        ('kind = "tcp"\nheaders = { X-A = "b" }', 'health_check: headers needs kind = "http"'),
        ('kind = "tcp"\nexpect_statuses = [200]', 'health_check: expect_statuses needs kind = "http"'),
        ('kind = "tcp"\nexpect_text = "a"', 'health_check: expect_text needs kind = "http"'),
        ("expected_status = [200]", "health_check.expected_status: unknown key"),
    ],
    ids=lambda one: one[:40],
)
def test_a_wrong_value_is_named_in_one_line(tmp_path: Path, line: str, said: str) -> None:
    file = written(tmp_path, line)
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert str(caught.value).startswith(f"{file}: {said}")
    assert "\n" not in str(caught.value)


def test_a_value_that_may_be_a_secret_is_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path, 'headers = { Authorization = "Bearer s\\u00e9cret" }')
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    assert "Bearer" not in str(caught.value)


def test_a_tcp_check_may_have_a_path_and_another_port() -> None:
    config = HealthCheckConfig(kind="tcp", path="/health", port=9)
    assert (config.kind, config.port) == ("tcp", 9)


def test_in_python_a_mistake_is_one_too() -> None:
    with pytest.raises(ValidationError, match="expect_text needs another method"):
        HealthCheckConfig(method="HEAD", expect_text="x")
