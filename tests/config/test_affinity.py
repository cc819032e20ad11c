"""Affinity in a configuration: by one thing alone, and what is wrong with it in one line that says where."""

from pathlib import Path

import pytest

from twisted_lb.check import check
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.load import Source
from twisted_lb.config.objects import objects_of
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.plan_diff import plan_diff

SECRET = "a secret of the house"


def said(path: Path, affinity: str) -> list[str]:
    """What `--check` says of a file with this table, without the path of the file."""
    path.write_text(f'backends = ["a:80"]\n[affinity]\n{affinity}\n')
    status, text = check(Source({}, path, {}))
    assert status == 1
    return [line.partition(f"{path}:")[2] for line in text.splitlines() if line.startswith(str(path))]


@pytest.mark.parametrize(
    ("affinity", "wrong"),
    [
        ('cookie = true\nheader = "X-User"', "cookie and header: requests are bound by one of them alone"),
        ('client = true\nlearn = { cookie = "A" }', "client and learn: requests are bound by one of them alone"),
        ("cookie = 5", 'should be true, a name, or a table, as { name = "lb", domain = "example.com" }'),
        ('cookie = "a b"', "'a b' should be the name of a cookie: letters, digits and !#$%&'*+-.^_`|~"),
        ('cookie = { name = "a;b" }', "should be letters, digits and !#$%&'*+-.^_`|~"),
        ('cookie = { path = "app" }', "should begin with a slash"),
        ('cookie = { domain = "a b" }', "should be printable ASCII without spaces, commas and semicolons"),
        ('cookie = { path = "/a;x" }', "should be printable ASCII without spaces, commas and semicolons"),
        ('cookie = { nme = "lb" }', 'unknown key; did you mean "name"?'),
        (
            'cookie = { name = "__Host-lb", domain = "x.org" }',
            '__Host-lb: browsers take a cookie of this name only with path = "/" and without domain',
        ),
        (
            'cookie = { name = "__Secure-lb", secure = "never" }',
            '__Secure-lb: browsers take a cookie of this name only where it is secure, not "never"',
        ),
        ('learn = "X"', 'should be a table with one of header and cookie, as { header = "Mcp-Session-Id" }'),
        (
            'learn = { query = "x" }',
            'should be a table with one of header and cookie, as { header = "Mcp-Session-Id" }',
        ),
        ('learn = { header = "a b" }', "'a b' should be the name of a header: letters, digits and !#$%&'*+-.^_`|~"),
        ('secret = "short"', "should have 16 characters at least: who guesses it signs cookies"),
        (f'secret = ["{SECRET}", "short"]', "should have 16 characters at least: who guesses it signs cookies"),
        ('secret = { env = "NOT_THERE" }', "there is no NOT_THERE in the environment"),
        ("max_age_s = 0", "should be greater than or equal to 1"),
        ("most = 0", "should be greater than or equal to 1"),
        ('when_full = "spill"', "should be 'rebind' or 'wait'"),
        ("drain_s = -1", "should be greater than or equal to 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(tmp_path, affinity, wrong):
    [line] = said(tmp_path / "lb.toml", affinity)
    assert wrong in line
    assert "affinity" in line
    assert "short" not in line


def affinity_of(**tables):
    return plan_of(LoadBalancerConfig.model_validate(tables)).pools[DEFAULT].affinity


@pytest.mark.parametrize("cookie", [True, "lb", {"name": "lb"}, {}])
def test_a_cookie_is_true_a_name_or_a_table(cookie):
    affinity = affinity_of(backends=["a:80"], affinity={"cookie": cookie})
    assert affinity is not None
    assert affinity.cookie.name == (b"lb" if "lb" in str(cookie) else affinity.cookie.name)


def test_without_any_of_the_four_there_is_no_affinity():
    assert affinity_of(backends=["a:80"]) is None
    assert affinity_of(backends=["a:80"], affinity={"cookie": False, "drain_s": 5.0}) is None


def test_a_pool_may_take_back_what_its_defaults_say():
    tables = {"defaults": {"pool": {"affinity": {"cookie": True, "secret": SECRET}}}}
    own = affinity_of(**tables, pools={DEFAULT: {"backends": ["a:80"], "affinity": {"cookie": False, "client": True}}})
    assert own is not None
    assert own.label == "the client"
    inherited = affinity_of(**tables, pools={DEFAULT: {"backends": ["a:80"]}})
    assert inherited is not None
    assert inherited.secrets == (SECRET.encode(),)


def test_a_secret_is_read_from_a_file_and_several_are_a_list(tmp_path):
    (tmp_path / "new").write_text("the new secret of the house\n")
    file = tmp_path / "lb.toml"
    secrets = '[{ file = "new" }, "the old secret of the house"]'
    file.write_text(f'backends = ["a:80"]\n[affinity]\ncookie = true\nsecret = {secrets}\n')
    config = Source({}, file, {}).load()
    assert [one.reveal() for one in objects_of(config).pools[DEFAULT].affinity.secret] == [
        "the new secret of the house",
        "the old secret of the house",
    ]


def test_another_secret_is_said_without_its_words():
    plans = [
        plan_of(LoadBalancerConfig.model_validate({"backends": ["a:80"], "affinity": {"cookie": "lb", "secret": one}}))
        for one in (SECRET, [SECRET, "another secret of it"])
    ]
    assert plan_diff(*plans).changes == ("changes pool default: affinity.secret: other values",)
    assert SECRET not in repr(plans)
