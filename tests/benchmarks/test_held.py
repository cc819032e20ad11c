"""What a process holds, as the bad days measure it: to the byte, and no more once it is freed."""

import platform

import pytest
from bad_days.held import held_kib

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="another malloc does not tell what it has given out"
)


def grown_kib(make):
    """How much more is held while it is there, and how much of that after it is gone."""
    held_kib()  # what the first call itself leaves
    before = held_kib()
    kept = make()
    during = held_kib()
    del kept
    return during - before, held_kib() - before


@pytest.mark.parametrize(
    ("count", "size", "least", "most"),
    [
        # bytes of 100 have 33 more as an object, and the list 8 for each.
        pytest.param(10_000, 100, 1_400, 1_600, id="small objects, of Python's allocator"),
        pytest.param(1_000, 2_000, 1_980, 2_030, id="objects of malloc", marks=glibc),
        pytest.param(1, 4 << 20, 4_096, 4_110, id="one that has pages of its own", marks=glibc),
    ],
)
def test_what_is_kept_is_held_until_it_is_freed(count, size, least, most):
    kept, left = grown_kib(lambda: [bytes(size) for _ in range(count)])
    assert least <= kept <= most
    assert abs(left) <= 16


def test_cycles_that_nobody_refers_to_are_not_held():
    def make():
        for _ in range(10_000):
            ring = []
            ring.append(ring)

    kept, _ = grown_kib(make)
    assert abs(kept) <= 16


def test_what_the_process_says_on_stderr_is_not_disturbed(capfd):
    held_kib()
    assert capfd.readouterr().err == ""
