"""Closed forms, against published numbers and against one another."""

import pytest

from twisted_lb.sim import theory


@pytest.mark.parametrize(("backends", "mean"), [(2, 7.588), (5, 6.142), (10, 5.660), (20, 5.419)])
def test_round_robin_is_e_n_m_1(backends, mean):
    assert theory.round_robin(backends, 0.9) == pytest.approx(mean, abs=0.001)


def test_round_robin_over_one_backend_is_m_m_1():
    assert theory.round_robin(1, 0.8) == pytest.approx(theory.m_m_1(0.8))


@pytest.mark.parametrize(
    ("load", "one", "two", "three"),
    [
        (0.5, 2.0, 1.2657, 1.1252),
        (0.7, 3.3333, 1.6145, 1.3568),
        (0.8, 5.0, 1.9474, 1.5809),
        (0.9, 10.0, 2.6141, 2.0279),
        (0.95, 20.0, 3.3830, 2.5351),
        (0.99, 100.0, 5.4320, 3.8578),
    ],
)
def test_the_supermarket_model(load, one, two, three):
    """Mitzenmacher 1996; one choice is M/M/1."""
    assert theory.m_m_1(load) == pytest.approx(one, abs=1e-3)
    assert theory.choices(load, 2) == pytest.approx(two, abs=1e-4)
    assert theory.choices(load, 3) == pytest.approx(three, abs=1e-4)


@pytest.mark.parametrize(("load", "mean"), [(0.5, 1.007), (0.8, 1.205), (0.9, 1.669)])
def test_m_m_10(load, mean):
    assert theory.m_m_c(10, load) == pytest.approx(mean, abs=0.001)


def test_m_m_c_of_one_server_is_m_m_1():
    assert theory.m_m_c(1, 0.7) == pytest.approx(theory.m_m_1(0.7))


@pytest.mark.parametrize(("servers", "erlangs", "lost"), [(1, 1.0, 0.5), (2, 1.0, 0.2), (10, 5.0, 0.018385)])
def test_erlang_b(servers, erlangs, lost):
    """A^c/c! over the sum of A^k/k!: 1/2, (1/2)/(5/2), and the tables of 1917."""
    assert theory.erlang_b(servers, erlangs) == pytest.approx(lost, abs=1e-6)


def test_service_that_does_not_vary_waits_half_as_long_as_exponential_service():
    assert theory.m_d_1(0.8) - 1 == pytest.approx((theory.m_m_1(0.8) - 1) / 2)
    assert theory.m_g_1(0.8, 1.0) == pytest.approx(theory.m_m_1(0.8))
