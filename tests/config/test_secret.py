"""Secrets: where they are read, and that nothing shows them."""

import copy
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from twisted_lb.config import LoadBalancerConfig, Model
from twisted_lb.config.document import read_document
from twisted_lb.config.load import from_flags
from twisted_lb.config.locator import KeyPath
from twisted_lb.config.origins import Origins
from twisted_lb.config.problems import report
from twisted_lb.config.reasons import problems
from twisted_lb.config.secret import HIDDEN, Secret, Sources, exposed, hides, secrets_in
from twisted_lb.errors import ConfigError

TEXT = "hunter2"


class Admin(Model):
    """A table with a secret."""

    token: Secret | None = None
    name: str = Field(default="", max_length=3)


class Config(Model):
    """Tables, lists and mappings of them."""

    admin: Admin = Admin()
    keys: tuple[Secret, ...] = Field(default=(), strict=False)
    more: dict[str, Admin] = Field(default={})
    headers: Annotated[dict[str, str], HIDDEN] = Field(default={})
    plain: str | None = None


def secret(value: object, environment: Mapping[str, str], folder: Path = Path()) -> str:
    read: Secret = TypeAdapter(Secret).validate_python(value, context=Sources(environment, folder))
    return read.reveal()


def test_a_secret_is_read_where_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TEXT}\n")
    assert secret(TEXT, {}) == TEXT
    assert secret({"env": "TOKEN"}, {"TOKEN": TEXT}) == TEXT
    assert secret({"file": "token"}, {}, tmp_path) == TEXT
    assert secret({"file": str(tmp_path / "token")}, {}) == TEXT
    assert secret({"credential": "token"}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == TEXT


def test_a_secret_may_be_given_in_python() -> None:
    given = Secret(TEXT)
    assert Admin(token=given).token is given


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"a", "a"), (b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a b ", " a b "), ("ü".encode(), "ü")],
)
def test_of_a_file_the_end_of_the_last_line_is_not_part_of_the_secret(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "token").write_bytes(data)
    assert secret({"file": "token"}, {}, tmp_path) == text


SHAPE = 'should be a string, or a table such as { file = "/run/secrets/token" }, { env = "TOKEN" } or { credential = "token" }'


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, SHAPE),
        ([TEXT], SHAPE),
        ({}, SHAPE),
        ({"file": "a", "env": "b"}, SHAPE),
        ({"vault": TEXT}, SHAPE),
        ({"env": 5}, SHAPE),
        ({"file": ""}, "file should not be empty"),
        ("", "a secret should not be empty"),
        ({"env": "NONE"}, "there is no NONE in the environment"),
        ({"env": "EMPTY"}, "EMPTY in the environment should not be empty"),
        ({"env": "BYTES"}, "BYTES in the environment is not UTF-8"),
        ({"file": "none"}, "{folder}/none: No such file or directory"),
        ({"file": "."}, "{folder}: Is a directory"),
        ({"file": "a\0b"}, "{folder}/a\0b: embedded null byte"),
        ({"file": "empty"}, "{folder}/empty should not be empty"),
        ({"file": "bytes"}, "{folder}/bytes: is not UTF-8"),
        ({"file": "long"}, "{folder}/long: should be at most 1048576 bytes"),
        ({"credential": "../a"}, "'../a' should be the name of a credential, without a folder"),
        ({"credential": ".."}, "'..' should be the name of a credential, without a folder"),
        ({"credential": "none"}, "{folder}/none: No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_named_and_the_secret_is_not(tmp_path: Path, value: object, said: str) -> None:
    for name, data in {"empty": b"\n", "bytes": b"hunter2\xff", "long": b"x" * (2**20 + 1)}.items():
        (tmp_path / name).write_bytes(data)
    environment = {"EMPTY": "", "BYTES": "hunter2\udcff", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(ValidationError) as caught:
        Admin.model_validate({"token": value}, context=Sources(environment, tmp_path))
    [error] = caught.value.errors()
    assert error["msg"] == "Value error, " + said.replace("{folder}", str(tmp_path))
    assert TEXT not in str(caught.value)


def test_a_credential_without_systemd_says_what_is_missing() -> None:
    with pytest.raises(
        ValidationError, match="there is no credential a: CREDENTIALS_DIRECTORY is not set, see systemd"
    ):
        secret({"credential": "a"}, {})


def test_a_secret_is_shown_as_three_stars_everywhere() -> None:
    config = Config.model_validate({"admin": {"token": TEXT}, "keys": [TEXT], "more": {"a": {"token": TEXT}}})
    shown = [repr(config), str(config), f"{config.admin.token}", str(config.model_dump()), config.model_dump_json()]
    for text in shown:
        assert TEXT not in text
        assert "***" in text
    assert repr(config.admin.token) == "Secret('***')"


def test_secrets_are_compared_by_what_they_are_and_survive_a_copy() -> None:
    one = Admin.model_validate({"token": TEXT})
    assert one == Admin.model_validate({"token": TEXT})
    assert one != Admin.model_validate({"token": "other"})
    assert one.token != TEXT
    assert hash(Secret("a")) == hash(Secret("a"))
    for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert copied == one


class Strict(Model):
    """A model whose validators are not content with anything."""

    token: Secret
    name: str = ""

    @field_validator("name")
    @classmethod
    def _never(cls, value: str) -> str:
        raise ValueError("no name is good")

    @model_validator(mode="after")
    def _nothing(self) -> Any:
        raise ValueError("nothing is good")


@pytest.mark.parametrize("values", [{"token": TEXT}, {"token": TEXT, "x": 1}, {"token": TEXT, "name": "a"}])
def test_errors_of_pydantic_do_not_show_the_table_that_a_secret_is_in(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Strict.model_validate(values)
    assert TEXT not in str(caught.value)
    assert TEXT not in repr(caught.value)


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        (("admin", "token"), True),
        (("admin", "token", "vault"), True),
        (("admin", "token", "file"), False),
        (("admin", "token", "env"), False),
        (("admin", "name"), False),
        (("admin", "tokn"), True),
        (("admin",), True),
        (("keys",), True),
        (("kys",), True),
        (("admn", "token"), True),
        (("keys", 3), True),
        (("more", "a", "token"), True),
        (("more", "a", "name"), False),
        (("more", "a"), True),
        (("headers",), True),
        (("headers", "Authorization"), True),
        (("plain",), False),
        (("plan",), True),
    ],
)
def test_what_is_hidden_follows_from_the_model(path: KeyPath, hidden: bool) -> None:
    assert hides(Config, path) is hidden


def test_of_today_s_configuration_the_headers_of_checks_are_hidden() -> None:
    assert hides(LoadBalancerConfig, ("health_check", "headers", "Authorization"))
    assert hides(LoadBalancerConfig, ("helth_check", "headers", "Authorization"))
    for path in [("retries",), ("include", 0), ("bakends", 0)]:
        assert not hides(LoadBalancerConfig, path)
    assert not hides(LoadBalancerConfig, ("backends", 0, "address"))
    assert not hides(LoadBalancerConfig, ("backends", 0, "adress"))


def said_of(tmp_path: Path, text: str) -> str:
    """All that is printed about a file as a Config."""
    file = tmp_path / "lb.toml"
    file.write_text(text, encoding="utf-8")
    try:
        document = read_document(file, {}, lambda path: hides(Config, path))
        found = list(document.problems)
        try:
            Config.model_validate(document.values, context=Sources({}, tmp_path))
        except ValidationError as error:
            found += map(document.placed, problems(Config, error.errors(), document.values, {}))
    except ConfigError as error:
        found = list(error.problems)
    assert found
    return report(found, "nothing was started").replace(str(file), "lb.toml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[admin]\ntokn = 'hunter2'", "    2 | tokn = ***\n      | ^^^^\n"),
        ("admin = { token = 'hunter2', nam = 1 }", "    1 | admin = { token = ***, nam = *** }\n      |                        ^^^\n"),
        ("admin = { token = 'hunter2', name = 'long' }", "    1 | admin = { token = ***, name = 'long' }\n      |                               ^^^^^^\n"),
        ("admin = { token = { vault = 'hunter2' } }", "    1 | admin = { token = { vault = *** } }\n      |                   ^^^^^^^^^^^^^^^\n"),
        ("keys = ['hunter2', 5, 'hunter2']", "    1 | keys = [***, ***, ***]\n      |              ^^^\n"),
        ("keys = 'hunter2'", "    1 | keys = ***\n      |        ^^^\n"),
        ("headers = { A = 5, B = 'hunter2' }", "    1 | headers = { A = ***, B = *** }\n      |                 ^^^\n"),
        ("headers = { A = '''\nhunter2''', B = 5 }", "    2 | ***, B = *** }\n      |          ^^^\n"),
        ("[admin]\ntoken = 'hunter2 ${NONE}'", "    2 | token = ***\n      |         ^^^\n"),
        # Of what is no TOML nobody can tell where it ends.
        ("[admin]\ntoken = 'hunter2' 'hunter2'", ""),
        ("[admin]\ntoken = hunter2", ""),
        ("[admin]\ntoken = 'a'\ntoken = 'hunter2'", ""),
        ("admin = { name = ?, token = 'hunter2' }", "    1 | admin = { name = ?…\n      |                  ^\n"),
        ("admin = { token = 'hunter2', name = ? }", ""),
        ("plain = 'a' token = 'hunter2'", "    1 | plain = 'a' token…\n      |             ^\n"),
        ("[admin]\nname = 'a'\nname = 'b'", "    3 | name = 'b'\n      | ^^^^\n"),
        ("[admin]\n[admin] # hunter2", "    2 | [admin]…\n      |  ^^^^^\n"),
        ("[admin]\ntoken = '''\nhunter2\n''' x", ""),
    ],
)  # fmt: skip
def test_no_line_of_an_error_shows_a_secret(tmp_path: Path, text: str, line: str) -> None:
    said = said_of(tmp_path, text)
    assert TEXT not in said
    assert said.partition("\n")[2] == f"{line}1 error; nothing was started\n"


def test_bytes_that_are_no_text_do_not_show_the_secret_that_they_are_in(tmp_path: Path) -> None:
    (tmp_path / "lb.toml").write_bytes(b"[admin]\ntoken = 'hunter2\xff'")
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / "lb.toml", {}, lambda path: hides(Config, path))
    assert TEXT not in report(caught.value.problems, "nothing was started")


def test_of_a_check_s_headers_no_error_shows_what_they_say(tmp_path: Path) -> None:
    file = tmp_path / "lb.toml"
    file.write_text('backends = ["a:80"]\n[health_check.headers]\nAuthorization = "Bearer hunter2\\n"\n')
    with pytest.raises(ConfigError) as caught:
        from_flags({}, file, {})
    assert report(caught.value.problems, "nothing was started").replace(str(file), "lb.toml") == (
        "lb.toml:3:1: health_check.headers.Authorization: should have a value in ASCII, on one line, without "
        "space around it\n"
        "    3 | Authorization = ***\n"
        "      | ^^^^^^^^^^^^^\n"
        "1 error; nothing was started\n"
    )


def test_a_secret_file_that_everybody_may_read_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "lb.toml"
    file.write_text('[more.a]\ntoken = { file = "token" }\n[admin]\ntoken = { credential = "token" }\n')
    kept = tmp_path / "token"
    kept.write_text(TEXT)
    document = read_document(file, {})

    def warnings() -> list[str]:
        sources = Sources({"CREDENTIALS_DIRECTORY": str(tmp_path)}, tmp_path)
        config = Config.model_validate(document.values, context=sources)
        return [str(document.placed(problem)) for problem in exposed(config)]

    kept.chmod(0o640)
    assert warnings() == []
    kept.chmod(0o644)
    assert warnings() == [
        f"{file}:2:9: more.a.token: {kept} can be read by everybody on this machine; chmod o-r {kept}   [W01]"
    ]


def test_all_secrets_of_a_configuration_are_found_by_their_paths() -> None:
    config = Config.model_validate({"admin": {"token": "a"}, "keys": ["b"], "more": {"x": {"token": "c"}}})
    found = {path: one.reveal() for path, one in secrets_in(config)}
    assert found == {("admin", "token"): "a", ("keys", 0): "b", ("more", "x", "token"): "c"}


def test_editors_are_told_what_a_secret_may_be() -> None:
    schema = json.dumps(Config.model_json_schema())
    assert '{"type": "string"}' in schema
    for kind in ("file", "env", "credential"):
        assert f'"required": ["{kind}"]' in schema


def test_what_is_hidden_does_not_depend_on_the_names_of_listeners_routes_and_pools():
    """So that it is found out once for all of them."""
    config = LoadBalancerConfig.model_validate(
        {
            "listeners": {"web": {"address": "127.0.0.1:8080"}},
            "routes": [{"path": "/a", "pool": "app"}, {"name": "status", "path": "/b", "pool": "app"}],
            "pools": {"app": {"backends": ["a:80"], "health_check": {"headers": {"Authorization": "x"}}}},
        }
    )
    paths = [path for path, _, _ in Origins(config, {}, {}, str).every()]
    named = [path for path in paths if path[0] in ("listeners", "routes", "pools")]
    assert {path[:2] for path in named} == {
        ("listeners", "web"),
        ("routes", "status"),
        ("routes", "routes[0]"),
        ("pools", "app"),
    }
    for path in named:
        assert hides(LoadBalancerConfig, path) == hides(LoadBalancerConfig, (path[0], "", *path[2:]))
    assert hides(LoadBalancerConfig, ("pools", "", "health_check", "headers"))
