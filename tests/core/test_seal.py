"""Seals: signed values that tell a backend to nobody but whoever has the secret."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest

from twisted_lb.core.seal import Seals

ONE, TWO, THREE = b"the first secret", b"the second secret", b"the third secret"
NOW = 1_800_000_000.5


def sealed(seals: Seals, address: str = "10.0.0.1:80", now: float = NOW) -> bytes:
    return seals.seal(seals.ids_of(address)[0], now)


def test_what_is_sealed_opens_and_says_whose_it_is_and_since_when():
    seals = Seals([ONE], "app")
    opened = seals.open(sealed(seals))
    assert opened is not None
    assert [opened.backend_id] == seals.ids_of("10.0.0.1:80")
    assert (opened.sealed_at, opened.secret) == (1_800_000_000, 0)


def test_a_value_holds_letters_digits_and_two_signs_and_nothing_of_the_backend():
    value = sealed(Seals([ONE], "app"), "db.internal:80")
    assert len(value) == 40
    assert set(value) <= set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert b"internal" not in urlsafe_b64decode(value)


def test_the_id_of_a_backend_is_the_same_after_a_restart_and_another_one_by_another_secret_or_in_another_pool():
    ids = {
        Seals([secret], pool).ids_of(address)[0]
        for secret in (ONE, TWO)
        for pool in ("app", "api")
        for address in ("a:80", "b:80")
    }
    assert len(ids) == 8
    assert Seals([ONE], "app").ids_of("a:80") == Seals([ONE], "app").ids_of("a:80")


def test_what_is_sealed_for_one_pool_is_nothing_in_another():
    assert Seals([ONE], "b").open(sealed(Seals([ONE], "a"))) is None


def test_the_first_secret_seals_and_all_of_them_open():
    old, new = Seals([ONE], "app"), Seals([TWO, ONE], "app")
    opened = new.open(sealed(old))
    assert opened is not None
    assert opened.secret == 1
    assert opened.backend_id == new.ids_of("10.0.0.1:80")[1]
    assert old.open(sealed(new)) is None
    assert Seals([TWO], "app").open(sealed(new)) is not None
    assert Seals([THREE, TWO], "app").open(sealed(old)) is None


def test_no_value_with_a_changed_bit_opens():
    seals = Seals([ONE], "app")
    raw = urlsafe_b64decode(sealed(seals))
    for place in range(len(raw)):
        for bit in range(8):
            changed = bytearray(raw)
            changed[place] ^= 1 << bit
            assert seals.open(urlsafe_b64encode(bytes(changed))) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"a" * 39,
        b"a" * 40,
        b"a" * 41,
        b"!" * 40,
        b"\xff" * 40,
        b"=" * 40,
        b"a" * 38 + b"==",
        b"A" * 100_000,
        b"{'a': 1}" * 5,
    ],
)
def test_garbage_is_nothing(value):
    assert Seals([ONE], "app").open(value) is None


@pytest.mark.parametrize(("now", "told"), [(-1e9, 0), (1e30, 2**48 - 1)])
def test_a_clock_that_is_far_off_is_bounded(now, told):
    seals = Seals([ONE], "app")
    opened = seals.open(sealed(seals, now=now))
    assert opened is not None
    assert opened.sealed_at == told
