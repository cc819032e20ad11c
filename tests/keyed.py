"""What tests of policies by key have in common: keys, members, and who owns what."""

import hashlib
import random

from builders import specs

from twisted_lb.core.ask import Ask, key_of
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.pickers import Picker, by_key
from twisted_lb.core.pickers.by_key import ByKey

KEYS = [key_of(b"key %d" % number) for number in range(5000)]
ASKS = [Ask(key, by="client") for key in KEYS]


def members(number: int, weights: tuple[int, ...] = (1,), counts: Counts | None = None) -> list[Backend]:
    """So many backends, of these weights by turns."""
    counts = counts or Counts()
    texts = [f"10.0.{at >> 8}.{at & 255}:80,weight={weights[at % len(weights)]}" for at in range(number)]
    return [Backend(spec, counts) for spec in specs(*texts)]


def unbounded(choose: str, those: list[Backend], previous: Picker | None = None) -> ByKey:
    picker = by_key(choose, 0).build(those, previous, random.Random(1), 0.0)
    assert isinstance(picker, ByKey)
    return picker


def owners(picker: Picker, tried=()) -> list[str]:
    found = [picker.pick(ask, 0.0, random.Random(1), tried) for ask in ASKS]
    return [backend.name for backend in found if backend is not None]


def out(backend: Backend, *, out: bool = True) -> None:
    """Let its checks find it down, or well."""
    backend.health.up = not out
    backend.refresh_usable()


def digest(choose: str) -> str:
    lines = [*owners(unbounded(choose, members(10))), *owners(unbounded(choose, members(10, (1, 2, 5))))]
    return hashlib.md5("\n".join(lines).encode(), usedforsecurity=False).hexdigest()
