"""The admin door in the configuration: what may be said of it, and what is wrong."""

import pytest
from pydantic import ValidationError

from twisted_lb.config.admin import AdminConfig

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({"socket": "/" + "x" * 97}, "should be a path of at most 96 bytes"),
        ({"socket": "/" + "ä" * 48 + "x"}, "should be a path of at most 96 bytes"),
        ({"mode": "0999"}, 'should be a file mode in octal, such as "0660"'),
        ({"mode": "rw"}, 'should be a file mode in octal, such as "0660"'),
        ({"mode": "1777"}, 'should be a file mode in octal, such as "0660"'),
        ({"address": "unix:/run/a.sock"}, 'is for the port, such as "127.0.0.1:8090"; the unix socket is `socket`'),
        ({"hosts": ["http://x"]}, "'http://x' is no host name"),
        ({"hosts": ["x:80"]}, "'x:80' is no host name"),
        ({"tokens": {"ops": "short"}}, "ops should have at least 16 characters"),
        ({"read_tokens": {"see": TOKEN[:15]}}, "see should have at least 16 characters"),
        (
            {"tokens": {"ops": "pässwört" * 3}},
            "ops should be printable ASCII without spaces: others come in several encodings, or not at all",
        ),
        (
            {"read_tokens": {"see": f"{TOKEN} {TOKEN}"}},
            "see should be printable ASCII without spaces: others come in several encodings, or not at all",
        ),
        ({"tokens": {"a": TOKEN}, "read_tokens": {"a": TOKEN}}, "a is among tokens and read_tokens"),
        ({"tokens": {"a b": TOKEN}}, "should be 1 to 100 letters, digits and -_., a letter or digit first"),
    ],
)
def test_what_is_wrong_is_said(said, wrong):
    with pytest.raises(ValidationError) as caught:
        AdminConfig.model_validate(said)
    assert wrong in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_socket_may_be_written_as_an_address_is():
    assert AdminConfig(socket="unix:/run/a.sock").socket == AdminConfig(socket="/run/a.sock").socket == "/run/a.sock"
    assert AdminConfig(socket="").socket == ""


def test_names_of_hosts_are_compared_as_browsers_send_them():
    assert AdminConfig(hosts=("LB.Example.", "a")).hosts == ("lb.example", "a")


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1:8090", True), ("[::1]:8090", True), ("0.0.0.0:8090", False), (":8090", False), ("10.0.0.1:1", False)],
)
def test_only_a_loopback_address_is_local(address, local):
    assert AdminConfig(address=address).local is local
    assert not AdminConfig().local


def test_tokens_are_not_shown():
    assert TOKEN not in repr(AdminConfig.model_validate({"tokens": {"ops": TOKEN}}))
