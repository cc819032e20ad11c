"""Who is let in at the admin door: tokens, users of this machine, and pages of other sites, which are not."""

import hmac
import os
import pwd
import socket

import pytest

from twisted_lb.admin import scopes
from twisted_lb.admin.operator import Refused
from twisted_lb.admin.scopes import CHANGE, READ, Tokens, Visitor, _name_of, refuse_stranger, user_at

OPS, SEE = "the-token-of-ops", "the-token-of-see"


@pytest.fixture
def tokens():
    return Tokens({"ops": OPS, "ci": "the-token-of-ci!"}, {"see": SEE}, local=False)


def refusal(call, *args):
    with pytest.raises(Refused) as caught:
        call(*args)
    return caught.value.code


def test_a_token_brings_its_scope_and_its_name(tokens):
    assert tokens.visitor(f"Bearer {OPS}", "10.0.0.1") == Visitor(CHANGE, "ops", "10.0.0.1")
    assert tokens.visitor(f"bearer  {SEE} ", "10.0.0.1") == Visitor(READ, "see", "10.0.0.1")


@pytest.mark.parametrize(
    "field",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {OPS}x",
        f"Bearer {OPS[:-1]}",
        f"Basic {OPS}",
        OPS,
        f"Bearer x {OPS}",
        "Bearer ä",
    ],
)
def test_what_is_no_token_is_refused_everywhere(tokens, field):
    assert refusal(tokens.visitor, field, "127.0.0.1") == "no_token"
    assert refusal(Tokens({"ops": OPS}, {}, local=True).visitor, field, "127.0.0.1") == "no_token"


def test_without_a_token_only_this_machine_may_read(tokens):
    assert refusal(tokens.visitor, None, "10.0.0.1") == "no_token"
    local = Tokens({"ops": OPS}, {}, local=True)
    assert local.visitor(None, "127.0.0.1") == Visitor(READ, "reader", "127.0.0.1")


def test_where_there_is_no_token_for_changes_one_is_made():
    one, other = (Tokens({}, {"see": SEE}, local=True) for _ in range(2))
    assert one.made != other.made
    assert len(one.made) >= 32
    assert one.visitor(f"Bearer {one.made}", "::1") == Visitor(CHANGE, "start-token", "::1")
    assert Tokens({"ops": OPS}, {}, local=True).made == ""


def test_every_token_is_compared_in_constant_time(tokens, monkeypatch):
    compared = []

    class Counted:
        @staticmethod
        def compare_digest(one, other):
            compared.append(other)
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(scopes, "hmac", Counted)
    tokens.visitor(f"Bearer {OPS}", "10.0.0.1")
    assert len(compared) == 2  # also the one behind it
    refusal(tokens.visitor, "Bearer none", "10.0.0.1")
    assert len(compared) == 5


def test_the_other_end_of_a_unix_connection_may_change_things_under_its_users_name():
    near, far = socket.socketpair()
    with near, far:
        mine = pwd.getpwuid(os.geteuid()).pw_name
        assert user_at(near) == Visitor(CHANGE, mine, f"uid {os.geteuid()} pid {os.getpid()}")


@pytest.fixture
def asked(monkeypatch):
    """Who was looked up, in a directory of users that knows nobody."""
    uids = []

    def nobody(uid):
        uids.append(uid)
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    _name_of.cache_clear()
    yield uids
    _name_of.cache_clear()


def test_a_user_without_a_name_is_called_by_number_and_is_looked_up_once(asked):
    near, far = socket.socketpair()
    with near, far:
        assert [user_at(near).name for _ in range(3)] == [f"uid {os.geteuid()}"] * 3
    assert asked == [os.geteuid()]


HOSTS = frozenset({"lb.example"})


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8090",
        "localhost.",
        "127.0.0.1:8090",
        "10.0.0.1",
        "[::1]:8090",
        "[::1]",
        "lb.example:8090",
    ],
)
def test_hosts_that_are_ours(host):
    refuse_stranger(host, None, None, HOSTS)
    refuse_stranger(host, f"http://{host}", "same-origin", HOSTS)
    refuse_stranger(host, None, "none", HOSTS)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8090",
        "localhost.evil.example",
        "evil.example@localhost.evil.example",
        "127.0.0.1.evil.example",
        "lb.example.evil",
        "[::1",
        "[evil]",
        "]",
        "127.0.0.1 evil",
        "127.1",
        "0x7f000001",
        "\uff4cocalhost/",
        "\xff",
    ],
)
def test_hosts_that_are_not(host):
    assert refusal(refuse_stranger, host, None, None, HOSTS) == "bad_host"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "?", "none "])
def test_requests_that_a_browser_marks_as_another_sites(site):
    assert refusal(refuse_stranger, "localhost", None, site, HOSTS) == "cross_site"


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "http://localhost",
        "http://localhost:8091",
        "http://localhost:8090.evil.example",
        "http://[",
        "localhost:8090",
    ],
)
def test_origins_that_are_not_the_host(origin):
    assert refusal(refuse_stranger, "localhost:8090", origin, None, HOSTS) == "cross_site"
