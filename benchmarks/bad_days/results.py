"""What a scenario found, as docs/reliability.json holds it."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bad_days.load import Seen

Errors = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of a scenario that has several, for one contender; `cannot` says why there are no figures.

    `within_s` is for lines that only say whether something happens as it should: how long it may take, and `took_s` is
    left out where it did not happen at all.
    """

    requests: int = 0
    errors: Errors | None = None
    first_s: float | None = None
    slowest_s: float | None = None
    back_s: list[float] | None = None
    took_s: float | None = None
    within_s: float | None = None
    note: str = ""
    cannot: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a scenario did to its clients."""

    requests: int
    errors: Errors
    slowest_s: float | None = None
    gap_s: float | None = None
    back_s: list[float] | None = None
    moved_s: float | None = None
    memory_kib: float | None = None
    note: str = ""
    cases: dict[str, Case] | None = None


def result(seen: Seen, **more: object) -> Result:
    """Of a load that is over, and what else the scenario measured."""
    return Result(len(seen.answers), seen.errors, round(seen.slowest_s, 3), **more)


def result_of(cases: dict[str, Case]) -> Result:
    """Of several lines: their sums."""
    errors: Counter[str] = Counter()
    for case in cases.values():
        errors.update(case.errors or {})
    return Result(sum(case.requests for case in cases.values()), dict(sorted(errors.items())), cases=cases)


def side_by_side(cases: dict[str, Callable[[], Case]]) -> dict[str, Case]:
    """Each case in a thread of its own: they mostly wait."""
    with ThreadPoolExecutor(len(cases)) as pool:
        running = {title: pool.submit(case) for title, case in cases.items()}
        return {title: one.result() for title, one in running.items()}


def recorded(done: object) -> object:
    """A result for JSON, without what it does not have."""
    if not isinstance(done, dict):
        return done
    return {name: recorded(value) for name, value in done.items() if value not in (None, "")}
