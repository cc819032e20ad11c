"""What the backends of some towns are like beside their manners: hasty, frozen for a while, or down again and again.

It is drawn from streams of their own: a town without any of it is as it would be if there were none.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted_lb.testing import HeapClock


@dataclass(frozen=True)
class Haste:
    """Closes behind `share` of its complete answers, `pause_s` later, and has said nothing of it (keep-alive race)."""

    share: float
    pause_s: float


@dataclass(frozen=True)
class Spell:
    """Something that lasts: frozen, or down."""

    at_s: float
    lasts_s: float


@dataclass(frozen=True)
class Temper:
    """Of one backend. `slow_to_thaw`: of what was asked while it was frozen it answers nothing, but closes."""

    haste: Haste | None = None
    frosts: tuple[Spell, ...] = ()
    outages: tuple[Spell, ...] = ()
    slow_to_thaw: bool = False


def tempers(seed: int, addresses: Sequence[str]) -> dict[str, Temper]:
    """Those of a town's first backends; whoever comes later has none. The only one of a town is often down."""
    rng = random.Random(f"{seed}/tempers")
    hasty, frosty, down = rng.random() < 0.3, rng.random() < 0.2, rng.random() < 0.6
    drawn = {}
    for address in addresses:
        haste = Haste(rng.choice([0.15, 1.0]), rng.choice([0.0, 0.001, 0.01])) if rng.random() < 0.8 else None
        frosts = _spells(rng, rng.choice([0, 1, 1, 2]), 8.0)
        outages = _spells(rng, rng.choice([1, 2, 3]), rng.choice([0.5, 3.0]))
        drawn[address] = Temper(
            haste if hasty else None,
            frosts if frosty else (),
            outages if down and len(addresses) == 1 else (),
            rng.random() < 0.3,
        )
    return drawn


def _spells(rng: random.Random, count: int, longest_s: float) -> tuple[Spell, ...]:
    return tuple(Spell(rng.uniform(0.0, 7.0), rng.uniform(0.05, longest_s)) for _ in range(count))


def begin_spells(clock: HeapClock, spells: Sequence[Spell], begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Let all of it come and go; where two overlap, the first end ends both."""
    for spell in spells:
        clock.callLater(spell.at_s, begin)
        clock.callLater(spell.at_s + spell.lasts_s, end)
