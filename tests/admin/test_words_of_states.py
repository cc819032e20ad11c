"""What is said of states and of what follows."""

import pytest
from watched import backend, pool

from twisted_lb.admin.words import admitted, consequences, duration, is_so


def test_a_state_ends_a_sentence():
    assert [is_so(state) for state in ("down", "drained", "slow start", "maint", "unknown", "full")] == [
        "is down",
        "is drained",
        "starts slowly",
        "is out for maintenance",
        "was not checked yet",
        "is full",
    ]


def test_who_is_taken_back_gets_his_part():
    out = backend("b1", usable=False, admin="drain", weight_effective=0.0)
    others = [backend("b2"), backend("b3", weight=2, weight_effective=2.0)]
    assert admitted(pool(out, *others), out, 1) == ["app/b1 is meant to take 25.0 % of new requests to app, now 0.0 %"]
    assert admitted(pool(out), out, 1) == ["app/b1 is meant to take 100.0 % of new requests to app, now 0.0 %"]


def test_another_weight_is_another_part():
    one = backend("b1")
    assert admitted(pool(one, backend("b2")), one, 3) == [
        "app/b1 is meant to take 75.0 % of new requests to app, now 50.0 %"
    ]
    assert admitted(pool(one, backend("b2")), one, 1) == []


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"up": False}, "down by its checks"),
        ({"up": False, "known": False}, "not checked yet"),
        ({"ejected": True}, "ejected"),
    ],
)
def test_who_is_out_for_another_reason_stays_out(facts, why):
    out = backend("b1", usable=False, weight_effective=0.0, **facts)
    assert admitted(pool(out, backend("b2")), out, 1) == [f"app/b1 still gets nothing: it is {why}"]


def test_who_goes_leaves_his_part_to_the_others():
    gone = backend("b1", in_flight=6, tunnels=2)
    assert consequences(pool(gone, backend("b2"), backend("b3")), gone) == [
        "4 requests and 2 tunnels go on",
        "app keeps 2 of 3",
        "new load on the other two +50 %",
    ]


def test_lengths_of_time_read_as_in_the_script():
    assert [duration(one) for one in (0.4, 41, 99.4, 100, 5999, 6000, 7200, 172800)] == [
        "0 s",
        "41 s",
        "99 s",
        "2 min",
        "100 min",
        "2 h",
        "2 h",
        "2 d",
    ]
