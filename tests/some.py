"""Cases of which each run tries some, and the long tests the rest: see CONTRIBUTING.md."""

from collections.abc import Iterable
from typing import Any

import pytest


def some(count: int, cases: Iterable[Any]) -> list[Any]:
    """Parameters: `count` of the cases, spread over all of them, and the rest marked `long`. A tuple is several arguments."""
    cases = list(cases)
    chosen = {number * len(cases) // count for number in range(count)}
    return [
        case
        if number in chosen
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long)
        for number, case in enumerate(cases)
    ]
