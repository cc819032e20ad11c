"""What everything of one process shares: chance in streams that repeat, ids, and the date."""

import pytest

from twisted_lb.net.clock import Clock
from twisted_lb.net.runtime import Runtime
from twisted_lb.testing import HeapClock, MemoryNetwork
from twisted_lb.testing.balanced import WALL_TIME, runtime_of


def runtime(seed: int = 1) -> Runtime:
    clock = HeapClock()
    return runtime_of(clock, MemoryNetwork(clock), seed=seed)


def draws(one: Runtime, name: str) -> list[int]:
    rng = one.stream(name)
    return [rng.getrandbits(32) for _ in range(5)]


def test_a_stream_repeats_by_seed_and_name():
    assert draws(runtime(7), "pool api") == draws(runtime(7), "pool api")


def test_streams_of_other_names_and_seeds_are_others():
    all_draws = [draws(runtime(seed), name) for seed in (1, 2, 12) for name in ("pool a", "pool b", "checks a", "")]
    assert len({tuple(one) for one in all_draws}) == len(all_draws)


def test_a_draw_more_in_one_stream_moves_no_other():
    one, two = runtime(), runtime()
    disturbed = one.stream("pool a")
    disturbed.random()
    one.new_id()
    assert draws(one, "pool b") == draws(two, "pool b")


def test_ids_repeat_by_seed_and_are_distinct():
    one, two = runtime(), runtime()
    ids = [one.new_id() for _ in range(100)]
    assert ids == [two.new_id() for _ in range(100)]
    assert len(set(ids)) == 100


@pytest.mark.parametrize("bits", [64, 128])
def test_an_id_is_as_long_as_its_bits_in_hexadecimal(bits):
    one = runtime()
    for _ in range(300):  # 1 of 16 begins with a zero
        made = one.new_id(bits)
        assert len(made) == bits // 4
        assert int(made, 16) > 0


def test_an_id_is_never_all_zeros():
    """W3C trace context forbids it."""
    one = runtime()
    one._ids.getrandbits = lambda bits: 0
    assert one.new_id(64) == b"0000000000000001"


class Dated:
    """A runtime whose monotonic and whose wall clock a test moves."""

    def __init__(self, wall: float) -> None:
        self.seconds, self.wall, self.asked = 50.0, wall, 0
        clock = HeapClock()
        base = runtime_of(clock, MemoryNetwork(clock))
        self.clock = Clock(lambda: self.seconds)
        self.runtime = Runtime(
            clock=self.clock, wall=Clock(self._read_wall), later=base.later, soon=base.soon, time=clock, dial=base.dial,
            names=base.names, deadlines=base.deadlines, poller=None, seed=1,
        )  # fmt: skip

    def _read_wall(self) -> float:
        self.asked += 1
        return self.wall

    def after(self, seconds: float) -> bytes:
        self.seconds += seconds
        self.wall += seconds
        self.clock.read()
        return self.runtime.http_date()


def test_the_date_is_that_of_rfc_9110():
    assert Dated(WALL_TIME).runtime.http_date() == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_the_date_changes_with_the_second_and_the_clock_is_read_once_in_each():
    dated = Dated(WALL_TIME + 0.75)
    before = dated.asked
    assert [dated.after(s)[-6:-4] for s in (0, 0.1, 0.1, 0.1, 0.5, 0.4, 0.1)] == [b"37"] * 3 + [b"38"] * 3 + [b"39"]
    assert dated.asked - before == 3


def test_the_date_follows_a_wall_clock_that_is_set():
    dated = Dated(WALL_TIME)
    dated.after(0)
    dated.wall += 3600
    assert dated.after(1) == b"Sun, 06 Nov 1994 09:49:38 GMT"


def test_a_moment_is_called_the_same_whenever_it_is_asked_for_until_the_wall_clock_steps():
    """Two clocks are never read at one moment, and who tells requests of one id apart goes by when they began."""
    clock, off = HeapClock(), [1e9]
    one = runtime_of(clock, MemoryNetwork(clock), wall=Clock(lambda: off[0] + clock.seconds()))
    first = one.epoch()
    for late in (0.0004, -0.0003, 0.02):
        off[0] = 1e9 + late
        clock.advance(1.0)
        assert one.epoch() == first
    off[0] = 1e9 + 60
    assert one.epoch() == 1e9 + 60
