"""NEVER, the moment that does not come: a deadline that is not armed, an event that has not happened."""

from typing import Final

NEVER: Final = float("inf")
