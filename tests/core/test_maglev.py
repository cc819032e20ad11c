"""Maglev: the tables of the paper and of Envoy's tests, how even it is, by weight too, and what moves."""

import math
from collections import Counter

import pytest
from keyed import members, unbounded

from twisted_lb.core.pickers.maglev import SIZE, Maglev, chosen, filled

_PRIMES = (11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579, 2870177450012600261)
_MASK = (1 << 64) - 1


def rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK


def xxh64(data: bytes, seed: int) -> int:
    """XXH64 of less than 32 bytes, by its specification (Yann Collet, doc/xxhash_spec.md): what Envoy hashes by."""
    one, two, three, four, five = _PRIMES
    acc = (seed + five + len(data)) & _MASK
    at = 0
    while at + 8 <= len(data):
        lane = int.from_bytes(data[at : at + 8], "little") * two & _MASK
        acc = (rotated(acc ^ (rotated(lane, 31) * one & _MASK), 27) * one + four) & _MASK
        at += 8
    if at + 4 <= len(data):
        acc = (rotated(acc ^ (int.from_bytes(data[at : at + 4], "little") * one & _MASK), 23) * two + three) & _MASK
        at += 4
    for byte in data[at:]:
        acc = rotated(acc ^ (byte * five & _MASK), 11) * one & _MASK
    acc = (acc ^ (acc >> 33)) * two & _MASK
    acc = (acc ^ (acc >> 29)) * three & _MASK
    return acc ^ (acc >> 32)


def envoys(hosts: list[str], weights: list[int], size: int) -> list[int]:
    """Our table with Envoy's two numbers for each host (maglev_lb.cc)."""
    offsets = [xxh64(host.encode(), 0) % size for host in hosts]
    skips = [xxh64(host.encode(), 1) % (size - 1) + 1 for host in hosts]
    return filled(offsets, skips, weights, size)


def test_xxh64_is_as_published():
    # The specification's own values, of nothing, `a` and `abc`.
    assert [xxh64(data, 0) for data in (b"", b"a", b"abc")] == [
        0xEF46DB3751D8E999,
        0xD24EC4F1A98C6E5B,
        0x44BC2CF5AD770999,
    ]


def test_the_tables_of_the_paper():
    """Table 1 of Eisenbud and others, NSDI 2016: offsets 3, 0, 3 and skips 4, 2, 1; before and after B1 has gone."""
    assert filled([3, 0, 3], [4, 2, 1], [1, 1, 1], 7) == [1, 0, 1, 0, 2, 2, 0]
    assert filled([3, 3], [4, 1], [1, 1], 7) == [0, 0, 0, 0, 1, 1, 1]


def test_the_tables_of_envoys_tests():
    """maglev_lb_test.cc: Basic, BasicWithHostName, Weighted."""
    assert envoys([f"127.0.0.1:{port}" for port in range(90, 96)], [1] * 6, 7) == [2, 4, 0, 1, 5, 0, 3]
    assert envoys([str(port) for port in range(90, 96)], [1] * 6, 7) == [2, 5, 0, 3, 4, 1, 0]
    weighted = envoys(["127.0.0.1:90", "127.0.0.1:91"], [1, 2], 17)
    assert weighted == [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]


def round_by_round(weights: list[int], turns: int) -> list[int]:
    """Envoy's loop as it is written: each round asks everybody whether it is its turn."""
    heaviest, target, found, number = max(weights), [0] * len(weights), [], 0
    while len(found) < turns:
        number += 1
        for index, weight in enumerate(weights):
            if number * weight >= target[index]:
                target[index] += heaviest
                found.append(index)
    return found[:turns]


@pytest.mark.parametrize(
    "weights", [[1], [1, 1, 1], [1, 2], [5, 1, 1], [3, 7, 2, 7], [256, 1, 1, 1], [1, 256, 100], [2, 2, 4, 4]]
)
def test_turns_are_taken_in_the_order_of_envoys_rounds(weights):
    assert list(chosen(weights, 2000)) == round_by_round(weights, 2000)


def entries(those) -> Counter:
    return Counter(unbounded("maglev", those).owners)


@pytest.mark.parametrize(("number", "most"), [(10, 1.00005), (100, 1.001), (1000, 1.0071)])
def test_shares_are_even_to_one_entry(number, most):
    counts = entries(members(number))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(counts) == number
    # The largest is 65,537 / n rounded up.
    assert max(counts.values()) * number / SIZE == pytest.approx(math.ceil(SIZE / number) * number / SIZE)
    assert max(counts.values()) * number / SIZE <= most


def test_weights_of_1_to_2_have_21846_and_43691_entries():
    """Envoy's test of a table of 65,537 with these weights."""
    assert sorted(entries(members(2, (1, 2))).values()) == [21846, 43691]


def test_each_has_its_share_by_weight_to_an_entry_or_two():
    """After round R one of weight w has R * w / h turns rounded up, where h is the heaviest: up to one more than that, and all n
    together up to n more, of which w / 24 is its share.
    """
    counts = entries(members(9, (1, 2, 5)))
    for index, count in counts.items():
        weight = (1, 2, 5)[index % 3]
        assert abs(count - SIZE * weight / 24) <= max(1, 9 * weight / 24)


@pytest.mark.parametrize(("number", "beyond"), [(10, 0.0026), (100, 0.0058), (1000, 0.0057)])
def test_when_one_leaves_its_keys_move_and_a_few_more(number, beyond):
    """How many more is known of own measurements, of other names. Here the mean of four that leave is within a third of that."""
    those = members(number)
    before = unbounded("maglev", those)
    names = [one.name for one in before.members.all]
    moved = []
    for gone in those[:: number // 4][:4]:
        after = unbounded("maglev", [one for one in those if one is not gone])
        others = [one.name for one in after.members.all]
        pairs = [(names[old], others[new]) for old, new in zip(before.owners, after.owners, strict=True)]
        assert sum(old == gone.name for old, _ in pairs) in (SIZE // number, SIZE // number + 1)
        moved.append(sum(old not in (gone.name, new) for old, new in pairs) / SIZE)
    assert sum(moved) / 4 == pytest.approx(beyond, rel=1 / 3)


def test_10000_members_have_a_table_of_the_same_size():
    made = unbounded("maglev", members(10_000))
    assert isinstance(made, Maglev)
    assert (len(made.owners), made.owners.itemsize) == (SIZE, 4)
    counts = Counter(made.owners)
    assert set(counts.values()) == {6, 7}
    assert max(counts.values()) * 10_000 / SIZE < 1.07


def test_of_more_members_than_entries_the_first_have_one_each():
    assert filled([0, 1, 2, 3], [1, 1, 1, 1], [1, 1, 1, 1], 3) == [0, 1, 2]
