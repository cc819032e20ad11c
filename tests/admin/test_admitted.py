"""What is said of states, and of what follows when a backend is to get requests."""

import pytest
from watched import backend, pool

from twisted_lb.admin.words import admitted, is_so


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
