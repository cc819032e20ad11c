"""Cases of which each run tries some, and the long tests the rest: see CONTRIBUTING.md."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import settings

# Whether the long tests are run: conftest.py says so, before any test is read.
LONG = False


def some(count: int, cases: Iterable[Any]) -> list[Any]:
    """Parameters: `count` of the cases, spread over all of them, and the rest marked `long`. A tuple is several arguments."""
    all_of_them = [case if isinstance(case, tuple) else (case,) for case in cases]
    chosen = {number * len(all_of_them) // count for number in range(count)}
    return [
        pytest.param(*case, marks=() if number in chosen else pytest.mark.long)
        for number, case in enumerate(all_of_them)
    ]


def examples(number: int) -> Callable[[Any], Any]:
    """Of a test by Hypothesis: a fifth of so many examples at each run, all of them in the long tests."""

    def decorate(test: Any) -> Any:
        tried = settings(max_examples=number if LONG else number // 5)(test)
        return pytest.mark.long(tried) if LONG else tried

    return decorate
