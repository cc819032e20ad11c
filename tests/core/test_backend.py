"""Specs as people write them, and the record of a backend."""

import pytest

from twisted_lb.core.address import TcpAddress, parse_address
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.counts import Counts


def test_a_spec_has_a_weight_if_it_says_so():
    assert BackendSpec.parse("a:80") == BackendSpec("a:80", TcpAddress("a", 80), 1)
    assert BackendSpec.parse("a:80,weight=0").weight == 0
    assert BackendSpec.parse("a:80,weight=3") == BackendSpec("a:80", TcpAddress("a", 80), 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a:80,weight=257", "a whole number from 0 to 256"),
        ("a:80,weight=-1", "a whole number from 0 to 256"),
        ("a:80,weight=1.5", "a whole number from 0 to 256"),
        ("a:80,weight=", "a whole number from 0 to 256"),
        ("a:80,weight", "not an option"),
        ("a:80,wait=1", "not an option"),
        ("a:80,", "not an option"),
        ("a:80,weight=1,weight=2", "twice"),
        ("a:80,b:80", "separated by spaces"),
        ("a:80,weight=2,b:80", "separated by spaces"),
    ],
)
def test_a_bad_option_is_named(text, why):
    with pytest.raises(ValueError, match=why):
        BackendSpec.parse(text)


@pytest.mark.parametrize("weight", [-1, -3, 257])
def test_a_spec_made_by_hand_has_bounds_too(weight):
    with pytest.raises(ValueError, match=f"'x': {weight} is not a weight, a whole number from 0 to 256"):
        BackendSpec("x", TcpAddress("h", 1), weight)


def make() -> Backend:
    return Backend(BackendSpec.parse("a:80"), Counts())


@pytest.mark.parametrize("admin", AdminState)
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("ejected", [True, False])
def test_usable_is_three_facts_and_nothing_else(admin, up, ejected):
    backend = make()
    backend.admin = admin
    backend.health.up = up
    backend.ejection.active = ejected
    backend.refresh_usable()
    assert backend.usable == (admin is AdminState.READY and up and not ejected)


def test_available_is_usable_and_not_full():
    backend = make()
    backend.bound(1, 0)
    assert backend.available
    backend.counts.claim(backend.slot)
    backend.refresh_usable()
    assert (backend.full, backend.usable, backend.available) == (True, True, False)
    backend.counts.release(backend.slot)
    backend.admin = AdminState.DRAIN
    backend.refresh_usable()
    assert (backend.full, backend.usable, backend.available) == (False, False, False)


def test_who_is_ejected_is_available_for_one_trial_once_it_is_due():
    backend = make()
    backend.ejection.eject(1.0, checked=False)
    steps = []
    for step in (lambda: None, backend.ejection.wake, lambda: backend.ejection.begin_trial(0.0)):
        step()
        backend.refresh_usable()
        steps.append((backend.usable, backend.available))
    assert steps == [(False, False), (False, True), (False, False)]


@pytest.mark.parametrize("fact", ["admin", "health", "full"])
def test_a_trial_that_is_due_does_not_overrule_anything_else(fact):
    backend = make()
    backend.ejection.eject(1.0, checked=False)
    backend.ejection.wake()
    if fact == "admin":
        backend.admin = AdminState.MAINT
    elif fact == "health":
        backend.health.up = False
    else:
        backend.bound(1, 0)
        backend.counts.claim(backend.slot)
    backend.refresh_usable()
    assert not backend.available


def test_who_was_removed_is_not_available_whatever_becomes_of_it():
    backend = make()
    backend.counts.claim(backend.slot)
    backend.leave()
    backend.refresh_usable()
    assert not backend.available


def test_its_slot_is_given_back_when_it_is_removed_and_its_last_request_has_ended():
    backend = make()
    backend.counts.claim(backend.slot)
    backend.leave()
    assert backend.slot >= 0
    backend.counts.release(backend.slot)
    backend.leave()
    backend.leave()
    assert (backend.slot, backend.in_flight, backend.load_now) == (-1, 0, 0)
    other = Backend(BackendSpec.parse("b:80"), backend.counts)
    other.counts.claim(other.slot)
    assert backend.in_flight == 0


def test_its_repr_shows_how_it_stands():
    backend = make()
    assert repr(backend) == "<Backend a:80: ready, up, 0 in flight>"
    backend.ejection.eject(1.0, checked=True)
    assert repr(backend) == "<Backend a:80: ready, up, ejected, 0 in flight>"


@pytest.mark.parametrize(
    ("address", "own", "of_all", "where"),
    [
        ("a:80", None, None, "a:80"),
        ("a:80", None, 9000, "a:9000"),
        ("a:80", 9001, 9000, "a:9001"),
        ("[::1]:80", 9001, None, "[::1]:9001"),
        ("unix:/run/x", None, 9000, "unix:/run/x"),
    ],
)
def test_checks_may_ask_at_another_port_of_the_same_host(address, own, of_all, where):
    spec = BackendSpec("x", parse_address(address), check_port=own)
    assert str(spec.check_address(of_all)) == where


@pytest.mark.parametrize(
    ("address", "port", "said"),
    [
        ("a:80", 0, "'x': 0 is not a port between 1 and 65535"),
        ("a:80", 65536, "'x': 65536 is not a port between 1 and 65535"),
        ("unix:/run/x", 9000, "'x': a unix socket has no check_port"),
    ],
)
def test_a_port_for_checks_that_is_none_is_refused(address, port, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        BackendSpec("x", parse_address(address), check_port=port)
