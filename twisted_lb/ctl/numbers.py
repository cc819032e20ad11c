"""Numbers: arguments that are whole numbers, and what is said of others."""

from argparse import ArgumentTypeError
from collections.abc import Callable

# No number that is typed here has more digits.
_MOST_DIGITS = 15


def whole(least: int, most: int, what: str = "it") -> Callable[[str], int]:
    """The type of an argument that is a whole number from `least` to `most`; `what` messages call it: `a weight`."""

    def typed(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and least <= int(text) <= most:
            return int(text)
        raise ArgumentTypeError(f"{what} is a whole number from {least} to {most}, not {text!r}")

    return typed
