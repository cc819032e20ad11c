"""Bindings that processes share: what one learns all know, and nobody is ever led to where nobody bound him."""

import mmap
import os
import random
from dataclasses import replace

import pytest

from twisted_lb.core.affinity import AffinityRules, Bindings, Bond
from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.held import Held
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.shared_bindings import Census, SharedBindings
from twisted_lb.core.succession import Succession

RULES = AffinityRules("the learned header x", 60.0, 1000)
SECRET = bytes(32)
KEY = 0xFFFF_FFFF_FFFF_FF01


def memory(cells: int = 256) -> memoryview:
    return memoryview(bytearray(32 * cells))


def table(of: memoryview, rules: AffinityRules = RULES, pool: str = "p", *, counts: bool = True) -> SharedBindings:
    return SharedBindings(rules, of, pool, SECRET, Census(of) if counts else None)


def pools(count: int, *texts: str, rules: AffinityRules = RULES, cells: int = 256) -> list[Pool]:
    """The same pool in so many processes."""
    of, found = memory(cells), []
    for number in range(count):
        pool = Pool(
            "p",
            POLICIES["rr"],
            PoolSettings(checked=False, affinity=rules),
            random.Random(number),
            lambda event: None,
            bind=lambda rules: table(of, rules),
        )
        pool.update([BackendSpec.parse(text) for text in texts], 0.0)
        found.append(pool)
    return found


def bindings_of(pool: Pool) -> Bindings:
    assert pool.bindings is not None
    return pool.bindings


def led(pool: Pool, now: float, key: int = KEY) -> str | None:
    """Where a key leads: the name of a backend, `-` for one that is gone, None where it is not bound."""
    home = bindings_of(pool).find(key, now)
    if home is None:
        return None
    return "-" if home.backend is None else home.backend.name


def test_what_one_process_binds_is_known_to_the_others_at_once():
    one, other = pools(2, "a:1", "b:1")
    bindings_of(one).bind(KEY, one.backends["b:1"], 1.0)
    assert (led(one, 1.0), led(other, 1.0), led(other, 1.0, KEY - 1)) == ("b:1", "b:1", None)
    bindings_of(other).bind(KEY, other.backends["a:1"], 2.0)
    assert led(one, 2.0) == "a:1"


def test_a_request_goes_where_another_process_has_bound_its_key():
    one, other = pools(2, "a:1", "b:1", "c:1")
    bindings_of(one).bind(KEY, one.backends["c:1"], 1.0)
    for now in (1.0, 2.0, 3.0):
        bond = Bond(bindings_of(other).find(KEY, now), Held.UNKNOWN, KEY)
        lease = other.claim(ANY.bound_by(bond), now)
        assert isinstance(lease, Lease)
        assert (lease.backend.name, bond.held) == ("c:1", Held.KEPT)
        other.settle(lease, Outcome.OK, now)


def test_a_session_that_has_ended_is_bound_in_no_process():
    one, other = pools(2, "a:1")
    bindings_of(one).bind(KEY, one.backends["a:1"], 1.0)
    bindings_of(other).forget(KEY)
    bindings_of(other).forget(KEY)
    assert (led(one, 1.0), led(other, 1.0)) == (None, None)
    bindings_of(one).bind(KEY, one.backends["a:1"], 2.0)
    assert led(other, 2.0) == "a:1"


def test_a_use_in_any_process_prolongs_it():
    one, other = pools(2, "a:1")
    bindings_of(one).bind(KEY, one.backends["a:1"], 0.0)
    assert bindings_of(other).find(KEY, 59.0, touch=False) is not None
    assert led(other, 59.0) == "a:1"
    assert led(one, 118.0) == "a:1"
    assert led(other, 178.0) is None


def test_a_backend_that_is_gone_is_told_from_a_key_that_is_not_bound():
    one, other = pools(2, "a:1", "b:1")
    bindings_of(one).bind(KEY, one.backends["a:1"], 0.0)
    other.update([BackendSpec.parse("b:1")], 1.0)
    assert (led(one, 1.0), led(other, 1.0)) == ("a:1", "-")
    bond = Bond(bindings_of(other).find(KEY, 1.0), Held.UNKNOWN, KEY)
    lease = other.claim(ANY.bound_by(bond), 1.0)
    assert isinstance(lease, Lease)
    assert (lease.backend.name, bond.held) == ("b:1", Held.REMOVED)
    other.settle(lease, Outcome.OK, 1.0)


def test_a_server_that_is_called_otherwise_keeps_its_own():
    one, other = pools(2, "a:1", "b:1")
    bindings_of(one).bind(KEY, one.backends["a:1"], 0.0)
    succession = Succession()
    succession.heirs["z"] = "a:1"
    renamed = replace(BackendSpec.parse("a:1"), name="z")
    other.update([renamed, BackendSpec.parse("b:1")], 1.0, succession)
    assert (led(other, 1.0), led(one, 1.0)) == ("z", "a:1")


def test_another_server_under_the_same_name_has_none_of_it():
    one, other = pools(2, "a:1", "b:1")
    bindings_of(one).bind(KEY, one.backends["a:1"], 0.0)
    moved = replace(BackendSpec.parse("a:2"), name="a:1")
    other.update([moved, BackendSpec.parse("b:1")], 1.0)
    assert led(other, 1.0) == "-"


def test_pools_and_what_they_bind_by_do_not_meet():
    of = memory()
    [pool] = pools(1, "a:1")
    backend = pool.backends["a:1"]
    one, other, otherwise = table(of), table(of, pool="q"), table(of, replace(RULES, by="the client"))
    for each in (one, other, otherwise):
        each.follow([backend])
    one.bind(KEY, backend, 0.0)
    assert other.find(KEY, 0.0) is None
    assert otherwise.find(KEY, 0.0) is None
    one.configure(replace(RULES, by="the client"))
    assert one.find(KEY, 0.0) is None
    one.configure(replace(RULES, max_age_s=5.0))
    assert one.find(KEY, 4.0, touch=False) is not None
    assert one.find(KEY, 5.0) is None


def test_how_many_there_are_is_said_by_one_of_them():
    of = memory()
    [pool] = pools(1, "a:1")
    one, other, another = table(of), table(of, counts=False), table(of, pool="q")
    for key in range(1, 41):
        other.bind(key, pool.backends["a:1"], float(key))
    another.bind(1, pool.backends["a:1"], 1.0)
    assert (one.count(50.0), other.count(50.0), another.count(50.0)) == (40, 0, 1)
    # All are looked at once for all that ask at one moment.
    other.forget(40)
    assert (one.count(50.0), one.count(50.1)) == (40, 39)
    assert one.count(70.0) == 29  # those of the first ten seconds are too old


def test_many_are_counted_wherever_they_are():
    of = memory(cells=1 << 15)
    [pool] = pools(1, "a:1")
    pools_ = [table(of, pool=f"p{number}") for number in range(3)]
    for number, one in enumerate(pools_):
        for key in range(1, 100 * (number + 1)):
            one.bind(key, pool.backends["a:1"], 1.0)
    census = Census(of)
    asked = [SharedBindings(RULES, of, f"p{number}", SECRET, census) for number in range(3)]
    assert [one.count(2.0) for one in asked] == [99, 199, 299]
    assert [one.count(100.0) for one in asked] == [0, 0, 0]


def test_of_those_that_meet_the_one_that_was_used_least_recently_makes_room():
    of = memory(cells=16)
    [pool] = pools(1, "a:1")
    one, backend = table(of), pool.backends["a:1"]
    one.follow([backend])
    for key in range(1, 17):
        one.bind(key, backend, float(key))
    assert one.find(1, 17.0) is not None
    one.bind(99, backend, 18.0)
    assert [key for key in (*range(1, 17), 99) if one.find(key, 18.0, touch=False) is None] == [2]
    assert one.forgotten == 1
    one.forget(5)
    one.bind(100, backend, 19.0)
    assert (one.forgotten, one.find(100, 19.0) is not None, one.count(19.0)) == (1, True, 16)
    one.bind(101, backend, 500.0)
    assert one.forgotten == 1  # nobody has used those for long


def test_with_half_of_the_cells_in_use_hardly_anybody_is_forgotten():
    of = memory(cells=1 << 14)
    [pool] = pools(1, "a:1")
    one = table(of)
    for key in range(1, (1 << 13) + 1):
        one.bind(key, pool.backends["a:1"], 1.0)
    # Of 1,024 buckets with 8 keys on average 0.4 % have more than 16, and then one or two.
    assert one.forgotten <= 20


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_they_do_what_one_process_does(seed):
    rng = random.Random(seed)
    crew = pools(3, "a:1", "b:1", "c:1", cells=4096)
    [pool] = pools(1, "a:1", "b:1", "c:1")
    alone, now = Bindings(RULES), 0.0
    for _ in range(3000):
        now += rng.random() * 2
        one, key = rng.choice(crew), rng.randint(1, 60)
        what = rng.random()
        if what < 0.4:
            name = rng.choice(["a:1", "b:1", "c:1"])
            alone.bind(key, pool.backends[name], now)
            bindings_of(one).bind(key, one.backends[name], now)
        elif what < 0.5:
            alone.forget(key)
            bindings_of(one).forget(key)
        else:
            home = alone.find(key, now)
            expected = None if home is None or home.backend is None else home.backend.name
            assert led(one, now, key) == expected
    assert not any(bindings_of(one).forgotten for one in crew)


def test_processes_that_write_one_cell_at_a_time_lead_nobody_where_nobody_bound_him():
    """Eight keys of each of four processes in one bucket of 16 cells, which change hands all the time. The keys of process n lead to
    its own backend alone.
    """
    count, size = 4, 32 * 16
    fd = os.memfd_create("hammer")
    os.ftruncate(fd, 4096)
    [pool] = pools(1, *[f"b{number}:1" for number in range(count)])
    backends = list(pool.backends.values())
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                one = table(memoryview(mmap.mmap(fd, 4096))[:size])
                one.follow(backends)
                wrong = found = 0
                for turn in range(20_000):
                    now = turn / 1000
                    one.bind(1 + number + count * (turn % 8), backends[number], now)
                    key = 1 + turn * 7 % (8 * count)
                    home = one.find(key, now)
                    if home is not None:
                        found += 1
                        wrong += home.backend is not backends[(key - 1) % count]
                status = min(wrong, 98) if found else 97
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * count
    os.close(fd)
