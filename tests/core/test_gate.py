"""Who is in, who waits, and who has its share already."""

import pytest

from twisted_lb.core.gate import Gate, client_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "20010db800010002/64"),
        ("2001:db8:1:2:ffff::9", "20010db800010002/64"),
        ("2001:db8:1:3::1", "20010db800010003/64"),
        ("fe80::1%eth0", "fe80000000000000/64"),
        ("unix", ""),
        ("unknown", ""),
    ],
)
def test_a_client_is_its_address_or_its_64(address, key):
    assert client_key(address) == key


def test_a_client_gets_no_more_than_its_share_and_others_theirs():
    gate = Gate(100, per_client=2)
    assert [gate.enter("a") for _ in range(3)] == [True, True, False]
    assert gate.enter("b")
    assert (gate.open, gate.turned_away) == (3, 1)
    gate.leave("a")
    assert gate.enter("a")


def test_nobody_in_particular_has_no_share():
    gate = Gate(100, per_client=1)
    assert gate.enter("")
    assert gate.enter("")
    gate.leave("")
    assert gate.open == 1


def test_the_table_holds_only_who_is_in():
    gate = Gate(100, per_client=5)
    for client in ("a", "b", "c"):
        gate.enter(client)
    for client in ("a", "b", "c"):
        gate.leave(client)
    assert repr(gate) == "<Gate 0 of 100 open, 0 clients>"


def test_who_waits_is_told_once_when_there_is_room():
    told: list[str] = []
    gate = Gate(2)
    gate.enter("")
    assert not gate.full
    gate.enter("")
    assert gate.full
    gate.wait(lambda: told.append("room"))
    gate.enter("")  # who was at the door already
    gate.leave("")
    assert told == []
    gate.leave("")
    assert told == ["room"]
    gate.leave("")
    assert told == ["room"]
