"""Ring: libketama's own test data, how uneven it is, what moves, and what a rebuild costs."""

import hashlib
import math
import random

import pytest
from keyed import KEYS, members, owners, unbounded

from twisted_lb.core.ask import key_of
from twisted_lb.core.backend import Backend, BackendSpec
from twisted_lb.core.counts import Counts
from twisted_lb.core.pickers.members import Members
from twisted_lb.core.pickers.ring import Ring, digests_of, points_of

# https://github.com/RJ/ketama: ketama.servers, and the first lines of what libketama/ketama_test.c says of them, as MediaWiki's
# HashRingTest (testHashRingKetamaMode) has them: the hash of the key, the point that it falls to, and whose that is.
SERVERS = {
    "10.0.1.1:11211": 600,
    "10.0.1.2:11211": 300,
    "10.0.1.3:11211": 200,
    "10.0.1.4:11211": 350,
    "10.0.1.5:11211": 1000,
    "10.0.1.6:11211": 800,
    "10.0.1.7:11211": 950,
    "10.0.1.8:11211": 100,
}
KETAMA = """\
2216742351 2217271743 10.0.1.1:11211
943901380 949045552 10.0.1.5:11211
2373066440 2374693370 10.0.1.6:11211
2127088620 2130338203 10.0.1.6:11211
2046197672 2051996197 10.0.1.7:11211
2134629092 2135172435 10.0.1.1:11211
470382870 472541453 10.0.1.7:11211
1608782991 1609789509 10.0.1.3:11211
2516119753 2520092206 10.0.1.2:11211
3465331781 3466294492 10.0.1.4:11211
1749342675 1753760600 10.0.1.5:11211
1136464485 1137779711 10.0.1.1:11211
3620997826 3621580689 10.0.1.7:11211
283385029 285581365 10.0.1.6:11211
2300818346 2302165654 10.0.1.5:11211
2132603803 2134614475 10.0.1.8:11211
2962705863 2969767984 10.0.1.2:11211
786427760 786565633 10.0.1.5:11211
4095887727 4096760944 10.0.1.6:11211
2906459679 2906987515 10.0.1.6:11211
"""


def ring(those: list[Backend], previous: Ring | None = None) -> Ring:
    return Ring.built(Members(those, 0), previous)


def weighed(weights: dict[str, int]) -> list[Backend]:
    """Backends with weights that no configuration may give them: those of others' test data."""
    counts = Counts()
    found = []
    for name, weight in weights.items():
        found.append(Backend(BackendSpec.parse(name), counts))
        found[-1].weight = weight
    return found


def ketama(number: int) -> str:
    """What libketama's test says of so many keys, `0`, `1` and so on."""
    made = ring(weighed(SERVERS))
    names = sorted(SERVERS)
    keys = [key_of(b"%d" % at) for at in range(number)]
    return "".join(f"{key & 0xFFFFFFFF} {made.point(key)} {names[made.owner(key)]}\n" for key in keys)


def test_keys_find_the_servers_that_they_find_with_libketama():
    assert ketama(20) == KETAMA


def test_a_thousand_keys_find_them():
    said = hashlib.md5(f"\n{ketama(1000)}".encode(), usedforsecurity=False)
    assert said.hexdigest() == "d1a4912a80e4654ec2e4e462c8b911c6"


def test_the_points_of_a_server_are_the_parts_of_digests_of_its_name_and_a_number():
    # md5sum of `a:1-0`: 4 words, the least significant byte of each first.
    digest = hashlib.md5(b"a:1-0", usedforsecurity=False).digest()
    assert points_of("a:1", 2)[:4] == [int.from_bytes(digest[at : at + 4], "little") for at in (0, 4, 8, 12)]
    assert len(points_of("a:1", 2)) == 8


@pytest.mark.parametrize("number", [2, 10, 50])
def test_with_equal_weights_exactly_the_keys_of_who_leaves_move(number):
    those = members(number)
    before = owners(unbounded("ring", those))
    for gone in those[:5]:
        after = owners(unbounded("ring", [one for one in those if one is not gone]))
        assert all(new == old for old, new in zip(before, after, strict=True) if old != gone.name)


def test_shares_are_as_uneven_as_160_points_make_them():
    """Relative standard deviation sqrt((N - 1) / (N v + 1)), of v points each on a circle: 0.075 of ten. From 60 rings of ten the
    variance is known to sqrt(2 / 600) = 5.8 % of it; 4 of these.
    """
    squares = []
    for at in range(60):
        shares = ring(weighed({f"10.{at}.0.{host}:80": 1 for host in range(10)})).shares()
        assert math.isclose(sum(share for _, share in shares), 1.0)
        squares += [(10 * share - 1) ** 2 for _, share in shares]
    expected = 9 / (10 * 160 + 1)
    assert abs(sum(squares) / len(squares) / expected - 1) < 4 * 0.058


def test_shares_follow_weights():
    """Of weights 1, 2, 5 by turns, 24 in all for nine: each within 5 of the standard deviations that its points give it, 1 / sqrt(v),
    and the sum of all that are alike.
    """
    those = members(9, (1, 2, 5))
    for backend, share in ring(those).shares():
        expected = backend.weight / 24
        points = 160 * 9 * expected
        assert abs(share / expected - 1) < 5 / math.sqrt(points)


def test_the_points_are_40_digests_by_weight_rounded_down_and_one_at_least():
    # libketama: floor(weight / total * servers * 40); of SERVERS these, which its data above proves.
    assert digests_of(list(SERVERS.values())) == [44, 22, 14, 26, 74, 59, 70, 7]
    assert digests_of([1, 1, 1]) == [40, 40, 40]
    assert digests_of([256] * 99 + [1])[-1] == 1


def test_a_backend_of_the_least_weight_among_the_heaviest_has_keys_all_the_same():
    counts = Counts()
    texts = [f"10.0.0.{at}:80,weight=256" for at in range(60)] + ["light:80"]
    those = [Backend(BackendSpec.parse(text), counts) for text in texts]
    shares = {backend.name: share for backend, share in ring(those).shares()}
    assert shares["light:80"] > 0


@pytest.mark.parametrize("weights", [(1,), (1, 2, 5)], ids=["equal", "unequal"])
def test_a_ring_that_takes_over_points_is_the_one_that_is_made_anew(weights):
    those, rng = members(40, weights), random.Random(2)
    made: Ring | None = None
    for _ in range(12):
        some = rng.sample(those, rng.randint(1, 40))
        for backend in some[:2]:
            backend.weight = rng.choice(weights)
        made = ring(some, made)
        fresh = ring(some)
        assert [made.owner(key) for key in KEYS[:300]] == [fresh.owner(key) for key in KEYS[:300]]
        assert made.whose(made.owners) == fresh.whose(fresh.owners)


def test_what_is_made_of_many_is_counted():
    """A digest gives four points; whoever stays with as many digests is taken over, point by point."""
    assert sum(digests_of([1] * 10_000)) == 400_000
    those = [*members(250), Backend(BackendSpec.parse("new:80"), Counts())]
    first = ring(those[:250])
    assert len(first.owners) == 160 * 250
    second = ring(those, first)
    assert len(second.owners) - len(first.owners) == 160


def test_a_point_takes_8_bytes():
    made = ring(members(10))
    assert made.owners.itemsize == 4
    assert len(made.owners) * 8 == 10 * 1280
