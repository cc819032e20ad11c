"""The key `script` of checks: presets, steps, secrets; what goes together, and how what does not is named."""

from pathlib import Path

import pytest

from twisted_lb.config import HealthCheckConfig, LoadBalancerConfig
from twisted_lb.config.load import Source, load_toml
from twisted_lb.config.problems import report
from twisted_lb.config.scripts import ScriptConfig
from twisted_lb.core.script import PRESETS, Script
from twisted_lb.errors import ConfigError
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.plan_diff import plan_diff


def written(path: Path, *lines: str) -> Path:
    file = path / "lb.toml"
    file.write_text("\n".join(['backends = ["a:80"]', "[health_check]", *lines]), encoding="utf-8")
    return file


def steps_of(script: object) -> list[tuple[bytes, bytes, bytes, bytes]]:
    made = ScriptConfig.model_validate(script).script
    return [(one.send, one.expect, one.matches, one.unless) for one in made.steps]


def test_the_presets_of_the_table_and_of_the_key_are_the_same():
    schema = ScriptConfig.model_json_schema()
    assert schema["anyOf"][0]["enum"] == list(PRESETS)
    for name in PRESETS:
        assert ScriptConfig.model_validate(name).script.preset == name
    assert set(PRESETS) == set(ScriptConfig.model_fields["preset"].annotation.__args__[0].__args__)


def test_a_script_is_a_kind_by_itself(tmp_path):
    check = load_toml(written(tmp_path, 'script = "redis"')).health_check
    assert (check.kind, check.script) == ("script", ScriptConfig(preset="redis"))
    said = HealthCheckConfig(kind="script", script=[{"expect": "x"}])
    assert said.script is not None
    assert said.script.script.preset == ""


def test_texts_are_bytes(tmp_path):
    steps = r"""[{ send = "\u0000\u00ff\r\n" }, { expect = "\u00e9" }, { matches = '^\xff.+\n', unless = '\x00' }]"""
    file = written(tmp_path, f"script = {steps}")
    script = load_toml(file).health_check.script
    assert script is not None
    assert [(s.send, s.expect, s.matches, s.unless) for s in script.script.steps] == [
        (b"\x00\xff\r\n", b"", b"", b""),
        (b"", b"\xe9", b"", b""),
        (b"", b"", rb"^\xff.+\n", rb"\x00"),
    ]


def test_steps_may_be_tables_of_an_array(tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text('backends = ["a:80"]\n[[health_check.script]]\nsend = "x"\n[[health_check.script]]\nexpect = "y"\n')
    script = load_toml(file).health_check.script
    assert script is not None
    assert [one.expect for one in script.script.steps] == [b"", b"y"]


LATIN = "has a character above U+00FF: each stands for the byte of its number, and UTF-8 has to be written so"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("script = 5", '3:10: health_check.script: should be the name of a preset, such as "redis", a list of steps, or a table such as'),
        ('script = "pop3"', "3:10: health_check.script: should be 'memcached', 'mysql', 'postgresql', 'redis' or 'smtp', not 'pop3'"),
        ("script = []", "3:10: health_check.script: should have a preset, or steps"),
        ("script = {}", "3:10: health_check.script: should have a preset, or steps"),
        ('script = [{ send = "x" }]', "3:10: health_check.script: should expect something, or whoever accepts connections would pass"),
        ("script = [{}]", "3:11: health_check.script[0]: should have one of send, expect and matches"),
        ('script = [{ unless = "x" }]', "3:11: health_check.script[0]: should have one of send, expect and matches"),
        ('script = ["x"]', "3:11: health_check.script[0]: should be a table"),
        ('script = [{ expect = "x", matches = "y" }]', "3:27: health_check.script[0].matches: expect and matches are a step each"),
        ('script = [{ expect = "" }]', "3:13: health_check.script[0].expect: should not be empty"),
        ('script = [{ send = "" }, { expect = "x" }]', "3:13: health_check.script[0].send: should not be empty"),
        ('script = [{ send = "x", unless = "y" }]', "3:25: health_check.script[0].unless: unless goes with expect or matches"),
        ('script = [{ expect = "x" }, { expct = "y" }]', '3:31: health_check.script[1].expct: unknown key; did you mean "expect"?'),
        ('script = [{ expect = "\u20ac" }]', f"3:22: health_check.script[0].expect: {LATIN}"),
        ('script = [{ matches = "\u20ac" }]', f"3:23: health_check.script[0].matches: {LATIN}"),
        ('script = [{ matches = "(" }]', "3:23: health_check.script[0].matches: should be a regular expression: missing ), unterminated"),
        ('script = [{ matches = "[[a]" }]', "3:23: health_check.script[0].matches: should be a regular expression: Possible nested set"),
        ('script = [{ matches = "a{9999999999999}" }]', "3:23: health_check.script[0].matches: should be a regular expression: "),
        ('script = [{ matches = "x*" }]', "3:23: health_check.script[0].matches: should not match what is empty"),
        ('script = [{ expect = "x", unless = "y?" }]', "3:36: health_check.script[0].unless: should not match what is empty"),
        (f'script = [{{ expect = "{"x" * 1001}" }}]', "3:22: health_check.script[0].expect: should have at most 1000 characters"),
        (f'script = [{{ send = "{"x" * 4097}" }}, {{ expect = "x" }}]', "3:10: health_check.script: should send at most 4096 bytes together"),
        ("script = [" + '{ expect = "x" },' * 33 + "]", "3:10: health_check.script: should have at most 32 steps"),
        ('script = { steps = [{ expect = "x" }], user = "u" }', "3:40: health_check.script.user: user goes with a preset"),
        ('script = { preset = "redis", steps = [] }', "3:30: health_check.script.steps: preset and steps are a script each"),
        ('script = { preset = "smtp", user = "u" }', "3:29: health_check.script.user: smtp has no user; it takes hello"),
        ('script = { preset = "memcached", hello = "x" }', "3:34: health_check.script.hello: memcached has no hello; it takes no other key"),
        ('script = { preset = "postgresql", password = "p" }', "health_check.script.password: postgresql has no password; it takes user and database"),
        ('script = { preset = "redis", user = "u" }', "3:30: health_check.script.user: user needs a password: Redis asks for both"),
        ('script = { preset = "mysql", user = "a\\u0000" }', "3:37: health_check.script.user: should have no NUL in it"),
        ('script = { preset = "smtp", hello = "a b" }', "3:37: health_check.script.hello: should be the name of a host"),
        ('kind = "script"', '3:1: health_check.kind: kind = "script" needs a script'),
        ('kind = "http"\nscript = "redis"', '4:1: health_check.script: script needs kind = "script", or none: an http check sends a request'),
        ('kind = "tcp"\nscript = "redis"', '4:1: health_check.script: script needs kind = "script", or none: a tcp check only connects'),
        ('script = "redis"\nexpect_text = "x"', '4:1: health_check.expect_text: expect_text needs kind = "http": a script sends'),
        ('script = "redis"\nmethod = "HEAD"', '4:1: health_check.method: method needs kind = "http": a script sends'),
        ('script = "redis"\nbusy_statuses = [429]', '4:1: health_check.busy_statuses: busy_statuses needs kind = "http": a script sends'),
        ('script = "redis"\nagent = "body"', '4:1: health_check.agent: agent needs kind = "http": a script sends'),
    ],
    ids=lambda one: one[:50],
)  # fmt: skip
def test_a_wrong_value_is_named_in_one_line(tmp_path, line, said):
    file = written(tmp_path, line)
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    text = str(caught.value)
    assert said in text
    assert "\n" not in text


def test_an_agent_at_a_port_of_its_own_goes_with_a_script(tmp_path):
    check = load_toml(written(tmp_path, 'script = "redis"', "agent_port = 9999", "port = 6380")).health_check
    assert (check.agent_port, check.port) == (9999, 6380)


# Secrets.


@pytest.mark.parametrize("kind", ["file", "env", "credential"])
def test_what_is_sent_may_be_kept_elsewhere(tmp_path, monkeypatch, kind):
    (tmp_path / "token").write_text("s3crét\n", encoding="utf-8")
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("TOKEN", "s3crét")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    name = "TOKEN" if kind == "env" else "token"
    steps = f'script = [{{ send = "AUTH " }}, {{ send = {{ {kind} = "{name}" }} }}, {{ send = "\\r\\n" }}, {{ expect = "+OK" }}]'
    config = load_toml(written(tmp_path, steps))
    asked = config.health_check.script
    assert asked is not None
    secret = "s3crét".encode()
    assert [one.send for one in asked.script.steps] == [b"AUTH ", secret, b"\r\n", b""]
    assert asked.script.secrets == (secret,)
    table = f'script = {{ preset = "redis", password = {{ {kind} = "{name}" }} }}'
    config = load_toml(written(tmp_path, table))
    assert config.health_check.script is not None
    assert config.health_check.script.script.secrets == (secret,)
    for shown in (repr(config), str(config.model_dump()), config.model_dump_json(), repr(plan_of(config))):
        assert "s3cr" not in shown


def test_what_may_be_a_secret_is_not_shown_in_an_error(tmp_path):
    for line in ('script = [{ send = "AUTH s3cret \u20ac" }]', 'script = [{ send = "AUTH s3cret", expect = "x" }]'):
        with pytest.raises(ConfigError) as caught:
            load_toml(written(tmp_path, line))
        assert "s3cret" not in str(caught.value) + report(caught.value.problems, "nothing was started")


def test_a_secret_that_cannot_be_had_is_told(tmp_path):
    line = 'script = { preset = "redis", password = { env = "NOT_SET_HERE" } }'
    with pytest.raises(ConfigError, match="there is no NOT_SET_HERE in the environment"):
        load_toml(written(tmp_path, line))
    line = 'script = [{ send = { env = "NOT_SET_HERE" } }, { expect = "x" }]'
    with pytest.raises(ConfigError, match="there is no NOT_SET_HERE in the environment"):
        load_toml(written(tmp_path, line))


def test_a_file_that_everybody_may_read_is_doubtful(tmp_path):
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "token").chmod(0o644)
    source = Source({}, written(tmp_path, 'script = [{ send = { file = "token" } }, { expect = "x" }]'))
    config = source.load()
    assert [one.code for one in source.warnings(config)] == ["W01"]


# In which table it stands, and what becomes of it at a reload.


def script_of(tables: dict[str, object]) -> Script:
    checks = plan_of(LoadBalancerConfig.model_validate(tables)).pools["api"].checks
    assert checks is not None
    assert checks.script is not None
    assert checks.http is None
    return checks.script


def test_it_may_be_said_in_checks_of_a_name_in_a_pool_and_in_defaults():
    pool = {"backends": ["a:80"]}
    for tables in (
        {"pools": {"api": {**pool, "health_check": {"script": "redis"}}}},
        {"pools": {"api": {**pool, "check": "cache"}}, "checks": {"cache": {"script": "redis"}}},
        {"pools": {"api": pool}, "checks": {"default": {"script": "redis"}}},
        {"pools": {"api": pool}, "defaults": {"pool": {"health_check": {"script": "redis"}}}},
        {"pools": {"api": {**pool, "health_check": {"interval_s": 5}}}, "checks": {"default": {"script": "redis"}}},
    ):
        assert script_of(tables).preset == "redis"


def test_a_script_is_one_value_and_nothing_is_added_to_it():
    tables = {
        "pools": {"api": {"backends": ["a:80"], "health_check": {"script": {"preset": "postgresql", "user": "u"}}}},
        "checks": {"default": {"script": {"preset": "redis", "password": "p"}}},
    }
    script = script_of(tables)
    assert (script.preset, script.secrets) == ("postgresql", ())


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"redis"', '"memcached"', ("health_check.script.preset redis -> memcached",)),
        ('[{ expect = "x" }]', '[{ expect = "y" }]', ("health_check.script.steps: other values",)),
        (
            '{ preset = "redis", password = "one" }',
            '{ preset = "redis", password = "two" }',
            ("health_check.script.password: other values",),
        ),
        ('{ preset = "smtp" }', '{ preset = "smtp", hello = "x" }', ("health_check.script.hello  -> x",)),
    ],
)
def test_another_script_is_another_plan_that_says_so(tmp_path, before, after, said):
    first = plan_of(load_toml(written(tmp_path, f"script = {before}")))
    same = plan_of(load_toml(written(tmp_path, f"script = {before}")), first)
    assert same.pools[DEFAULT] is first.pools[DEFAULT]
    second = plan_of(load_toml(written(tmp_path, f"script = {after}")), first)
    assert second.pools[DEFAULT] is not first.pools[DEFAULT]
    assert plan_diff(first, second).changes == (f"changes pool default: {', '.join(said)}",)
