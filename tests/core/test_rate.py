"""Rates by GCRA: closed forms, published vectors, oracles, and a table that neither grows nor forgets who owes."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.never import NEVER
from twisted_lb.core.rate import ROW, Hashes, Rate, Rates

SECRET = bytes(range(32))
NS = 10**9
KEY = Hashes("limit", SECRET).of(b"key")


def address(number: int) -> bytes:
    return b"10.%d.%d.%d" % (number >> 16, number >> 8 & 255, number & 255)


def keys(count: int, limit: str = "limit") -> list[int]:
    hashes = Hashes(limit, SECRET)
    return [hashes.of(address(number)) for number in range(count)]


def taken(rates: Rates, key: int, rate: Rate, now: float, most: int = 10_000) -> int:
    """How many requests one after the other are admitted now."""
    return next((count for count in range(most) if rates.take(key, rate, 1, now)), most)


# The algorithm.


@pytest.mark.parametrize(
    ("per_s", "period_ns"), [(10, 10**8), (5 / 60, 12 * NS), (0.1, 10 * NS), (3, 333_333_333), (1 / 86400, 86400 * NS)]
)
def test_a_period_is_a_whole_number_of_nanoseconds_rounded_down(per_s, period_ns):
    assert Rate(per_s, 1).period_ns == period_ns


@pytest.mark.parametrize("burst", [1, 2, 5, 100])
def test_a_quiet_key_may_spend_its_burst_at_once_and_not_one_more(burst):
    rates, rate = Rates(64), Rate(10, burst)
    assert taken(rates, KEY, rate, 1000.0) == burst


@pytest.mark.parametrize("burst", [1, 3, 50])
@pytest.mark.parametrize("per_s", [0.5, 3, 7, 1000])
def test_over_a_long_time_a_greedy_key_gets_its_burst_and_its_rate_exactly(per_s, burst):
    rates, rate = Rates(64), Rate(per_s, burst)
    step_ns = rate.period_ns // 3 + 1  # it asks about three times as often as it may
    asked = 3_000
    admitted = sum(not rates.take(KEY, rate, 1, number * step_ns / NS) for number in range(asked))
    assert admitted == min(asked, burst + (asked - 1) * step_ns // rate.period_ns)


@pytest.mark.parametrize("per_s", [3, 6, 7, 10, 1000, 5 / 60])
def test_who_keeps_to_the_rate_is_never_refused_even_without_a_burst(per_s):
    rates, rate = Rates(64), Rate(per_s, 1)
    assert not any(rates.take(KEY, rate, 1, 12_345.678 + number / per_s) for number in range(2_000))


def test_sums_of_floats_cost_nobody_a_request():
    rates, rate = Rates(64), Rate(10, 5)
    now = 0.0
    assert taken(rates, KEY, rate, now) == 5
    for _ in range(5):
        now += 0.1  # 0.5 in the end, or a bit less
    assert taken(rates, KEY, rate, now) == 5


@pytest.mark.parametrize(
    ("idle_s", "back"), [(0.0, 0), (0.099, 0), (0.1, 1), (0.25, 2), (0.5, 5), (0.6, 5), (3600.0, 5)]
)
def test_an_idle_key_gets_its_burst_back_one_a_period_and_not_more(idle_s, back):
    rates, rate = Rates(64), Rate(10, 5)
    assert taken(rates, KEY, rate, 1000.0) == 5
    assert taken(rates, KEY, rate, 1000.0 + idle_s) == back


def test_a_refused_request_is_admitted_after_just_the_time_that_it_was_told():
    rates, rate = Rates(64), Rate(4, 2)
    assert taken(rates, KEY, rate, 10.0) == 2
    wait_s = rates.look(KEY, rate, 2, 10.125)
    assert wait_s == 0.375
    assert rates.look(KEY, rate, 2, 10.125 + wait_s - 1e-8) > 0
    assert rates.take(KEY, rate, 2, 10.125 + wait_s) == 0


def test_who_is_refused_pays_nothing():
    rates, rate = Rates(64), Rate(1, 1)
    rates.take(KEY, rate, 1, 0.0)
    assert [rates.take(KEY, rate, 1, 0.5) for _ in range(100)] == [0.5] * 100
    assert rates.take(KEY, rate, 1, 1.0) == 0


def test_what_costs_more_than_the_burst_is_never_admitted_and_says_so():
    rates, rate = Rates(64), Rate(1, 5)
    assert rates.take(KEY, rate, 6, 0.0) == rates.look(KEY, rate, 6, 1e6) == NEVER
    assert rates.take(KEY, rate, 5, 1e6) == 0


# (seconds, cost, what could still be spent afterwards, refused, seconds to wait): one a second, a burst of five. The table
# that the tests of throttled (Go) and redis-cell (Rust) share.
VECTORS = [
    (0.0, 6, 5, True, NEVER),
    (0.0, 1, 4, False, 0),
    (0.0, 1, 3, False, 0),
    (0.0, 1, 2, False, 0),
    (0.0, 1, 1, False, 0),
    (0.0, 1, 0, False, 0),
    (0.0, 1, 0, True, 1),
    (3.0, 1, 2, False, 0),
    (3.1, 1, 1, False, 0),
    (4.0, 1, 1, False, 0),
    (8.0, 1, 4, False, 0),
    (9.5, 1, 4, False, 0),
    (9.5, 0, 4, False, 0),
    (9.5, 2, 2, False, 0),
    (9.5, 5, 2, True, 3),
]


def test_published_vectors():
    rates, rate = Rates(64), Rate(1, 5)
    for number, (now, cost, left, refused, wait_s) in enumerate(VECTORS):
        told_s = rates.take(KEY, rate, cost, now)
        assert (told_s > 0, told_s) == (refused, wait_s), number
        assert max(cost for cost in range(6) if not rates.look(KEY, rate, cost, now)) == left, number


class TokenBucket:
    """The oracle: tokens as exact fractions."""

    def __init__(self, rate: Rate) -> None:
        self.period = Fraction(rate.period_ns)
        self.burst = rate.burst
        self.tokens = Fraction(rate.burst)
        self.at = 0

    def take(self, cost: int, now_ns: int) -> Fraction | float:
        self.tokens = min(Fraction(self.burst), self.tokens + (now_ns - self.at) / self.period)
        self.at = now_ns
        if cost > self.burst:
            return NEVER
        if self.tokens < cost:
            return (cost - self.tokens) * self.period
        self.tokens -= cost
        return Fraction(0)


class LeakyBucket:
    """The other form in which I.371 defines GCRA: continuous-state leaky bucket, for requests that cost 1."""

    def __init__(self, rate: Rate) -> None:
        self.increment, self.tolerance = rate.period_ns, (rate.burst - 1) * rate.period_ns
        self.level = 0
        self.last_ns = 0

    def conforms(self, now_ns: int) -> bool:
        left = max(0, self.level - (now_ns - self.last_ns))
        if left > self.tolerance:
            return False
        self.level, self.last_ns = left + self.increment, now_ns
        return True


some_rates = st.builds(Rate, st.sampled_from([0.1, 1 / 3, 1, 3, 7, 10, 1000, 99_999, 1_000_000]), st.integers(1, 12))


@st.composite
def some_gaps(draw, costs):
    """A rate, and (gap in ns, cost) of requests, many of them just on the border of being admitted."""
    rate = draw(some_rates)
    period = rate.period_ns
    gap = st.one_of(
        st.sampled_from([0, 1, period - 1, period, period + 1, rate.burst_ns - 1, rate.burst_ns, rate.burst_ns + 1]),
        st.integers(0, 3 * period),
    )
    return rate, draw(st.lists(st.tuples(gap, costs), max_size=40))


@given(some_gaps(st.integers(0, 14)))
def test_it_is_an_exact_token_bucket(drawn):
    rate, requests = drawn
    rates, oracle = Rates(64), TokenBucket(rate)
    now_ns = 0
    for gap_ns, cost in requests:
        now_ns += gap_ns
        told_s, expected_ns = rates.take(KEY, rate, cost, now_ns / NS), oracle.take(cost, now_ns)
        assert told_s == (NEVER if expected_ns == NEVER else int(expected_ns) / NS)


@given(some_gaps(st.just(1)))
def test_it_is_the_leaky_bucket_of_the_recommendation(drawn):
    rate, requests = drawn
    rates, oracle = Rates(64), LeakyBucket(rate)
    now_ns = 0
    for gap_ns, _ in requests:
        now_ns += gap_ns
        assert (rates.take(KEY, rate, 1, now_ns / NS) == 0) is oracle.conforms(now_ns)


@given(some_rates, st.lists(st.floats(0, 100), max_size=30))
def test_a_clock_that_goes_back_admits_nobody_who_would_not_be_admitted_if_it_stood(rate, times):
    back, forward = Rates(64), Rates(64)
    latest = 0.0
    for now in times:
        latest = max(latest, now)
        assert back.take(KEY, rate, 1, now) == forward.take(KEY, rate, 1, latest)


def test_looking_charges_nothing_and_taking_is_a_look_and_a_charge():
    looked, took, rate = Rates(64), Rates(64), Rate(10, 3)
    for number in range(60):
        now = number * 0.03
        assert [looked.look(KEY, rate, 1, now) for _ in range(3)] == [looked.look(KEY, rate, 1, now)] * 3
        wait_s = looked.look(KEY, rate, 1, now)
        if not wait_s:
            looked.charge(KEY, rate, 1, now)
        assert took.take(KEY, rate, 1, now) == wait_s
    assert bytes(looked._cells) == bytes(took._cells)


@pytest.mark.parametrize(
    ("per_s", "burst", "says"),
    [
        (0, 1, "a rate of 0 a second is not between 1e-06 and 1,000,000"),
        (-1, 1, "a rate of -1 a second is not between 1e-06 and 1,000,000"),
        (2_000_000, 1, "a rate of 2e+06 a second is not between 1e-06 and 1,000,000"),
        (float("nan"), 1, "a rate of nan a second is not between 1e-06 and 1,000,000"),
        (float("inf"), 1, "a rate of inf a second is not between 1e-06 and 1,000,000"),
        (1, 0, "a burst of 0 admits nobody; it should be at least 1"),
        (0.001, 1_000_000, "a burst of 1,000,000 at 0.001 a second takes more than a year to come back"),
    ],
)
def test_what_is_no_rate_is_said_in_one_line(per_s, burst, says):
    with pytest.raises(ValueError) as raised:
        Rate(per_s, burst)
    assert str(raised.value) == says


def test_rates_of_the_same_content_are_equal():
    assert Rate(5 / 60, 3) == Rate(1 / 12, 3)
    assert len({Rate(1, 3), Rate(1, 3), Rate(1, 4), Rate(2, 3)}) == 3


# The table.


def test_keys_do_not_spend_together():
    rates, rate = Rates(1024), Rate(1, 3)
    assert [taken(rates, key, rate, 0.0) for key in keys(100)] == [3] * 100
    assert (rates.full, rates.replaced, rates.busy(0.0)) == (0, 0, 100)


def test_one_key_in_two_limits_spends_in_each():
    rates, rate = Rates(1024), Rate(1, 3)
    [one], [other] = keys(1, "one"), keys(1, "other")
    assert (taken(rates, one, rate, 0.0), taken(rates, other, rate, 0.0)) == (3, 3)


def test_of_a_row_without_an_empty_cell_the_one_that_was_paid_off_first_is_replaced():
    rates, rate = Rates(ROW), Rate(1, 5)
    old = keys(ROW + 1)
    new = old.pop()
    for number, key in enumerate(old):
        for _ in range(1 + (number + 5) % ROW // 2):
            rates.take(key, rate, 1, 0.0)
    tats = dict(zip(rates._cells[::2], rates._cells[1::2], strict=True))
    first = min(old, key=lambda key: tats[key])
    assert tats[first] == NS
    assert rates.take(new, rate, 1, 1.0) == 0
    assert set(rates._cells[::2]) == {*old, new} - {first}
    assert (rates.replaced, rates.full) == (1, 0)


def test_who_was_replaced_is_as_if_never_gone():
    rates, rate = Rates(ROW), Rate(1, 2)
    for key in keys(100):
        assert taken(rates, key, rate, 0.0) <= 2
    late = keys(200)[100:]
    assert [taken(rates, key, rate, 1000.0 * number) for number, key in enumerate(late, 1)] == [2] * 100


def test_a_flood_by_ten_thousand_addresses_frees_no_attacker_and_the_table_does_not_grow():
    rates, rate = Rates(16_384), Rate(1 / 60, 5)
    attacker = Hashes("limit", SECRET).of(b"192.0.2.66")
    assert taken(rates, attacker, rate, 0.0) == 5
    for key in keys(10_000):
        assert taken(rates, attacker, rate, 0.0) == 0
        rates.take(key, rate, 1, 0.0)
    assert rates.busy(0.0) == 10_001 - rates.full
    assert (rates.replaced, rates.uncounted, len(rates._cells)) == (0, 0, 2 * 16_384)
    assert taken(rates, attacker, rate, 59.0) == 0
    assert taken(rates, attacker, rate, 60.0) == 1


def test_a_flood_of_more_keys_than_cells_gets_what_the_cells_allow_and_no_more():
    rates, rate = Rates(1024), Rate(1 / 60, 3)
    flood = keys(10_000)
    admitted = sum(not rates.take(key, rate, 1, 0.0) for _ in range(5) for key in flood)
    assert admitted == 1024 * 3
    assert (rates.busy(0.0), rates.replaced, rates.uncounted) == (1024, 0, 0)
    assert rates.full > 0
    # A minute later each cell has one again, whoever asks for it.
    assert sum(not rates.take(key, rate, 1, 60.0) for _ in range(5) for key in flood) == 1024


def test_in_a_full_row_a_newcomer_spends_with_a_key_of_its_limit():
    rates, rate = Rates(ROW), Rate(1, 3)
    old = keys(ROW + 1)
    new = old.pop()
    for key in old:
        rates.take(key, rate, 1, 0.0)
    assert taken(rates, new, rate, 0.0) == 2
    assert sorted(taken(rates, key, rate, 0.0) for key in old) == [0, *[2] * 7], (
        "one of them has lost what it might spend"
    )
    assert set(rates._cells[::2]) == set(old)
    assert (rates.full, rates.replaced, rates.uncounted) == (3, 0, 0)
    # As soon as one has paid off what it owes, the newcomer has a cell of its own.
    assert taken(rates, new, rate, 3.0) == 3
    assert rates.replaced == 1


def test_a_limit_that_fills_the_table_does_not_lock_the_clients_of_another_one_out():
    rates, slow, fast = Rates(ROW), Rate(1 / 3600, 5), Rate(10, 5)
    for key in keys(ROW, "login"):
        assert taken(rates, key, slow, 0.0) == 5
    [new] = keys(1, "all")
    assert taken(rates, new, fast, 0.0, most=20) == 20
    assert (rates.full, rates.uncounted, rates.replaced) == (20, 20, 0)
    [guest] = keys(ROW + 1, "login")[ROW:]
    assert taken(rates, guest, slow, 0.0) == 0
    assert taken(rates, new, fast, 3600.0 * 5) == 5


def test_a_rate_that_was_raised_holds_for_who_owes_already():
    rates = Rates(64)
    before, after = Rate(1 / 60, 100), Rate(10, 20)
    assert taken(rates, KEY, before, 0.0) == 100
    assert rates.look(KEY, before, 1, 0.0) == 60
    assert rates.look(KEY, after, 1, 0.0) == 0.1
    assert taken(rates, KEY, after, 0.1) == 1
    assert taken(rates, KEY, after, 2.1) == 20


def test_a_rate_that_was_lowered_forgives_no_debt():
    rates = Rates(64)
    before, after = Rate(10, 20), Rate(1, 2)
    assert taken(rates, KEY, before, 0.0) == 20  # two seconds of it
    assert taken(rates, KEY, after, 0.0) == 0
    assert taken(rates, KEY, after, 1.0) == 1


def test_a_table_in_given_memory_is_the_same_for_all_who_have_it():
    memory = bytearray(16 * 64)
    one, other, rate = Rates(64, memoryview(memory)), Rates(64, memoryview(memory)), Rate(1, 4)
    assert [bool(table.take(KEY, rate, 1, 0.0)) for table in (one, other) * 3] == [False] * 4 + [True] * 2
    assert one.busy(0.0) == other.busy(0.0) == 1


@pytest.mark.parametrize("cells", [0, -8, 4, 12])
def test_a_table_is_made_of_whole_rows(cells):
    with pytest.raises(ValueError) as raised:
        Rates(cells)
    assert str(raised.value) == f"{cells} cells are no rows of 8"


# Hashes.


def test_hashes_follow_from_limit_key_and_secret_and_from_nothing_else():
    assert Hashes("limit", SECRET).of(b"key") == Hashes("limit", SECRET).of(b"key")
    others = {
        Hashes("other", SECRET).of(b"key"),
        Hashes("limit", SECRET[1:]).of(b"key"),
        Hashes("limit", SECRET).of(b""),
    }
    assert len({KEY, *others}) == 4


def test_no_limit_and_key_run_into_those_of_another_limit():
    assert Hashes("ab", SECRET).of(b"c") & (1 << 45) - 1 != Hashes("a", SECRET).of(b"bc") & (1 << 45) - 1


@given(st.text(max_size=20), st.binary(max_size=40))
def test_a_hash_is_never_that_of_an_empty_cell_and_fits_a_cell(limit, key):
    assert 0 < Hashes(limit, SECRET).of(key) < 1 << 61


@pytest.mark.parametrize("secret", [b"", bytes(15), bytes(65)])
def test_a_secret_that_is_none_is_refused(secret):
    with pytest.raises(ValueError) as raised:
        Hashes("limit", secret)
    assert str(raised.value) == f"a secret of {len(secret)} bytes does not have 16 to 64"


def test_the_rows_of_many_keys_are_spread():
    rows = [key % 128 for key in keys(12_800)]
    # 100 a row on average, with a deviation of 10: none of 128 is 5 deviations away.
    assert all(50 < rows.count(row) < 150 for row in range(128))
