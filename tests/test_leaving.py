"""Who is leaving: the time that what runs there has, also when the process itself was paused."""

import pytest
from house import House

from twisted_lb.testing import NEVER_ANSWER, ScriptedClient

DRAIN_S = 5.0


def status(client: ScriptedClient) -> int:
    """That of the answer since the last look, 0 for none."""
    heard = client.take()
    return int(heard[9:12]) if heard.startswith(b"HTTP/1.1 ") else 0


@pytest.fixture
def house():
    one = House("a:80", "b:80")
    one.backend("a:80", [NEVER_ANSWER])
    yield one
    one.close()


@pytest.fixture
def client(house):
    """Whose request is at a backend that was removed."""
    one = house.ask()
    house.apply(backends=["b:80"])
    return one


def tick(house, since_s: float) -> None:
    """The process looks who has had its time, so long after the removal."""
    plane = house.plane
    plane.leaving.tick(
        house.clock.seconds() + since_s, DRAIN_S, 60.0, plane.frontends.values(), plane.clusters.values()
    )
    house.clock.settle()


def test_what_runs_at_a_removed_backend_is_cut_when_its_time_is_over(house, client):
    for quarters in range(20):
        tick(house, quarters / 4)
    assert status(client) == 0
    tick(house, DRAIN_S)
    assert status(client) == 503


def test_after_a_pause_of_the_process_what_has_come_meanwhile_is_read_before_anything_is_cut(house, client):
    tick(house, 0.25)
    tick(house, 60)
    assert status(client) == 0
    tick(house, 60.25)
    assert status(client) == 503


def test_a_process_that_is_always_late_cuts_all_the_same(house, client):
    tick(house, 0.25)
    tick(house, 60)
    tick(house, 120)
    assert status(client) == 503
