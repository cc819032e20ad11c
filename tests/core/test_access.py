"""Access rules: who may come in."""

import pytest

from twisted_lb.core.access import Access, AccessRule, AccessRules, Denied
from twisted_lb.core.networks import Networks


def allow(*networks: str) -> AccessRule:
    return AccessRule(Networks(networks), allow=True)


def deny(*networks: str) -> AccessRule:
    return AccessRule(Networks(networks), allow=False)


def test_the_first_rule_that_covers_an_address_decides():
    rules = AccessRules([deny("10.0.0.66"), allow("10.0.0.0/24"), deny("10.0.0.0/8")], otherwise=True)
    asked = ("10.0.0.66", "10.0.0.65", "10.0.1.1", "192.0.2.1")
    assert [rules.allows(one) for one in asked] == [False, True, False, True]


def test_a_rule_behind_one_that_covers_the_same_is_never_reached():
    rules = AccessRules([allow("10.0.0.0/8"), deny("10.0.0.66")], otherwise=False)
    assert rules.allows("10.0.0.66")


@pytest.mark.parametrize("otherwise", [True, False])
def test_what_holds_where_no_rule_covers_is_said(otherwise):
    assert AccessRules([], otherwise=otherwise).allows("10.0.0.1") is otherwise
    assert AccessRules([allow("10.0.0.1")], otherwise=otherwise).allows("10.0.0.2") is otherwise
    assert AccessRules([deny("10.0.0.1")], otherwise=otherwise).allows("10.0.0.2") is otherwise


@pytest.mark.parametrize("text", ["", "unix:", "unknown"])
@pytest.mark.parametrize("otherwise", [True, False])
def test_no_rule_covers_what_is_no_address(text, otherwise):
    everybody = ("0.0.0.0/0", "::/0")
    assert AccessRules([allow(*everybody)], otherwise=otherwise).allows(text) is otherwise
    assert AccessRules([deny(*everybody)], otherwise=otherwise).allows(text) is otherwise


def test_an_ipv4_client_in_an_ipv6_socket_is_the_ipv4_client():
    assert not AccessRules([deny("10.0.0.0/8")], otherwise=True).allows("::ffff:10.0.0.1")


def test_rules_in_a_row_that_say_the_same_are_looked_at_as_one():
    rules = AccessRules([*(deny(f"10.{one}.0.0/16") for one in range(200)), allow("10.0.0.0/8")], otherwise=False)
    assert repr(rules) == "<AccessRules [<AccessRule deny 200>, <AccessRule allow 1>], otherwise deny>"
    assert [rules.allows(f"10.{one}.0.1") for one in (0, 199, 200)] == [False, False, True]


def test_peer_and_client_have_rules_of_their_own_and_both_must_allow():
    access = Access(
        client=AccessRules([deny("192.0.2.0/24")], otherwise=True),
        peer=AccessRules([allow("10.0.0.1")], otherwise=False),
    )
    assert access.denies(client="198.51.100.1", peer="10.0.0.1") is None
    assert access.denies(client="192.0.2.1", peer="10.0.0.1") is Denied.CLIENT
    assert access.denies(client="198.51.100.1", peer="10.0.0.2") is Denied.PEER
    assert access.denies(client="192.0.2.1", peer="10.0.0.2") is Denied.PEER


def test_without_rules_everybody_is_allowed():
    assert Access().denies(client="192.0.2.1", peer="") is None
