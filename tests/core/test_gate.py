"""Who is in, who waits, and who has its share already."""

from array import array

import pytest

from twisted_lb.core.gate import Gate, client_key, spare_first
from twisted_lb.core.never import NEVER
from twisted_lb.core.share import Share
from twisted_lb.core.tallies import Tallies


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


def test_the_share_of_a_client_counts_what_it_claims_through_a_proxy_and_what_is_its_own():
    gate = Gate(100, per_client=2)
    assert (gate.claim("a"), gate.enter("a"), gate.claim("a")) == (True, True, False)
    assert (gate.open, gate.turned_away) == (1, 1)
    gate.release("a")
    assert gate.claim("a")
    gate.release("a")
    gate.leave("a")
    assert repr(gate) == "<Gate 0 of 100 open, 0 clients>"


def test_without_a_limit_nobody_is_refused():
    gate = Gate(100)
    assert all(gate.claim("a") for _ in range(5))


def test_other_bounds_leave_everybody_in_and_hold_for_who_comes():
    gate = Gate(100, per_client=2)
    assert gate.enter("a")
    assert gate.enter("a")
    gate.configure(2, 1)
    assert gate.full
    assert not gate.enter("a")
    gate.leave("a")
    assert not gate.enter("a")
    gate.leave("a")
    assert gate.enter("a")


def test_a_client_that_was_counted_is_uncounted_though_there_is_no_limit_any_more():
    gate = Gate(100, per_client=1)
    gate.enter("a")
    gate.configure(100, 0)
    assert gate.claim("a")
    gate.leave("a")
    gate.release("a")
    gate.configure(100, 1)
    assert gate.enter("a")


def test_who_waits_for_room_is_told_when_there_may_be_more():
    told: list[str] = []
    gate = Gate(1)
    gate.enter("")
    gate.wait(lambda: told.append("room"))
    gate.configure(1, 0)
    assert told == []
    gate.configure(2, 0)
    assert told == ["room"]


@pytest.mark.parametrize(
    ("connections", "order"),
    [
        ([], []),
        ([("a", NEVER), ("b", NEVER)], []),
        ([("a", 3.0), ("a", 1.0), ("a", 2.0)], [1, 2, 0]),
        # Of two that have as many the one whose is idle for longest, then in turns.
        ([("a", 2.0), ("b", 1.0), ("a", 3.0), ("b", 4.0)], [1, 0, 2, 3]),
        # Those in use count.
        ([("a", 1.0), ("b", 4.0), ("b", NEVER), ("b", NEVER)], [1, 0]),
        ([("a", 1.0), ("b", 2.0), ("b", 3.0), ("b", 4.0)], [1, 2, 0, 3]),
        # Idle for less than is asked for.
        ([("a", 5.0), ("b", 5.1)], [0]),
    ],
)
def test_room_is_made_by_the_client_with_most_connections_and_its_longest_idle_one(connections, order):
    assert spare_first(connections, 5.0) == order


def shared(
    most: int, per_client: int = 0, *, together: bool = True, on_their_way: list[int] | None = None
) -> list[Gate]:
    """The gates of one listener in two processes."""
    rows = [memoryview(array("q", [0] * 256)) for _ in range(4)]
    moving = [0] if on_their_way is None else on_their_way
    return [
        Gate(
            most,
            per_client,
            "web",
            Share(
                number,
                2,
                secret=bytes(32),
                clients=Tallies(rows[:2], number),
                sums=Tallies(rows[2:], number),
                on_their_way=lambda: moving[0],
            ),
            together=together,
        )
        for number in range(2)
    ]


def test_a_client_gets_no_more_than_its_share_from_all_processes():
    one, other = shared(100, per_client=2)
    assert [one.enter("a"), other.enter("a"), one.enter("a"), other.enter("a")] == [True, True, False, False]
    assert other.enter("b")
    one.leave("a")
    assert other.enter("a")
    assert (one.turned_away, other.turned_away, one.open, other.open) == (1, 1, 0, 3)


def test_a_request_of_a_proxys_client_counts_where_it_is_connected_itself():
    one, other = shared(100, per_client=1)
    assert one.enter("a")
    assert not other.claim("a")
    one.leave("a")
    assert other.claim("a")
    assert not one.enter("a")


def test_who_is_on_their_way_counts_in_all_processes():
    one, other = shared(100, per_client=1)
    assert one.arriving.claim("a")
    assert not other.arriving.claim("a")
    assert other.enter("a")


def test_a_listener_is_full_by_the_connections_of_all_processes():
    one, other = shared(2)
    one.enter("")
    other.arrive()
    assert (one.full, other.full, one.held) == (True, True, 2)
    other.depart()
    assert not one.full


def test_a_bound_of_descriptors_is_one_process_s_own():
    one, other = shared(2, together=False)
    for _ in range(2):
        one.enter("")
    assert (one.full, other.full) == (True, False)
    other.configure(2, 0, together=True)
    assert other.full


def test_who_is_handed_on_counts_before_anybody_has_taken_it_in():
    moving = [0]
    one, other = shared(2, on_their_way=moving)
    one.enter("")
    assert not other.full
    moving[0] = 1
    assert other.full


def test_who_waits_goes_on_when_another_process_has_made_room():
    one, other = shared(1)
    one.enter("")
    went = []
    other.wait(lambda: went.append(True))
    other.look_elsewhere()
    assert (went, one.awaited_elsewhere, other.awaited_elsewhere) == ([], True, False)
    one.leave("")
    assert not one.awaited_elsewhere
    other.look_elsewhere()
    assert went == [True]
    one.enter("")
    assert not one.awaited_elsewhere
