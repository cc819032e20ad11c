"""Closed forms of queueing theory, against which the simulation is proved. The mean service time is 1, and `load`
(rho) is that of each server.
"""

from typing import Final

# Iterations of a fixed point that shrinks by rho at worst; at .99 it has converged to the last bit by then.
_STEPS: Final = 10_000


def m_m_1(load: float) -> float:
    """The mean time in system of M/M/1, and of random picks among any number of backends: 1 / (1 - rho)."""
    return 1.0 / (1.0 - load)


def m_d_1(load: float) -> float:
    """The mean time in system of M/D/1, fixed service times: 1 + rho / (2 (1 - rho)) (Pollaczek, Khinchine)."""
    return m_g_1(load, 0.0)


def m_g_1(load: float, cv: float) -> float:
    """The mean time in system of M/G/1, service times with this coefficient of variation: 1 + rho (1 + cv²) / (2 (1 - rho))."""
    return 1.0 + load * (1.0 + cv * cv) / (2.0 * (1.0 - load))


def m_g_1_sharing(load: float) -> float:
    """The mean time in system of M/G/1 with processor sharing: 1 / (1 - rho), whatever the law of service is (insensitivity)."""
    return 1.0 / (1.0 - load)


def round_robin(backends: int, load: float) -> float:
    """The mean time in system of round robin over FIFO servers, each of which is E_n/M/1: 1 / (1 - sigma), where
    sigma = (n rho / (n rho + 1 - sigma))^n.
    """
    sigma, rate = 0.5, backends * load
    for _ in range(_STEPS):
        sigma = (rate / (rate + 1.0 - sigma)) ** backends
    return 1.0 / (1.0 - sigma)


def erlang_b(servers: int, erlangs: float) -> float:
    """The share of requests that find all servers busy and are lost (M/G/c/c): Erlang's B formula, whatever the law of service."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = erlangs * blocked / (number + erlangs * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that have to wait in M/M/c: Erlang's C formula."""
    blocked = erlang_b(servers, servers * load)
    return blocked / (1.0 - load * (1.0 - blocked))


def m_m_c(servers: int, load: float) -> float:
    """The mean time in system of M/M/c, one queue for all servers: no policy that picks at arrival does better."""
    return 1.0 + erlang_c(servers, load) / (servers * (1.0 - load))


def choices(load: float, drawn: int = 2) -> float:
    """The mean time in system of the least loaded of so many that are drawn, with endlessly many backends (supermarket model;
    Vvedenskaya, Dobrushin and Karpelevich 1996, Mitzenmacher 1996).
    """
    total = 0.0
    for number in range(1, 64):
        total += load ** ((drawn**number - drawn) / (drawn - 1))
    return total
