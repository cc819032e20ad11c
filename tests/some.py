"""Cases of which each run tries some, and the long tests the rest: see CONTRIBUTING.md."""

from collections.abc import Iterable
from typing import Any

import pytest


def some(count: int, cases: Iterable[Any]) -> list[Any]:
    """Parameters: `count` of the cases, spread over all of them, and the rest marked `long`. A tuple is several arguments."""
    all_of_them = [case if isinstance(case, tuple) else (case,) for case in cases]
    chosen = {number * len(all_of_them) // count for number in range(count)}
    return [
        pytest.param(*case, marks=() if number in chosen else pytest.mark.long)
        for number, case in enumerate(all_of_them)
    ]
