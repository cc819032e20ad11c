"""How much a call does: lines of Python that run in it, loops of comprehensions among them. It counts and takes no time, so that it is
the same on a busy machine.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_of(call: Callable[[], Any]) -> int:
    """How many lines have run in a call."""
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def is_linear(work: Callable[[int], int]) -> bool:
    """Whether twice as many cost twice as much, up to a twentieth, beside what the first ones cost. `work` does it with so many."""
    first, second, fourth = work(50), work(100), work(200)
    return fourth - second <= 2.1 * (second - first)
