"""Last words: what a program has said that could not start, in short."""

import re
from typing import Final

_TRACEBACK: Final = "Traceback (most recent call last):"
_PLACE: Final = re.compile(r'  File "(.+)", line (\d+)')


def gist(said: str) -> str:
    """The error of a traceback with its place, in one line; anything else as it is."""
    if _TRACEBACK not in said:
        return said.strip()
    lines = said.rpartition(_TRACEBACK)[2].strip("\n").splitlines()
    errors = [line for line in lines if line and not line.startswith(" ")]
    places = [found for found in map(_PLACE.match, lines) if found]
    error = errors[0] if errors else "a traceback without an end"
    return f"{error} ({places[-1][1]}, line {places[-1][2]})" if places else error
