"""Resets (RST) of connections that are not read from. Not compiled: mypyc knows no protocol asked for at run time."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class ResetAware(Protocol):
    """A protocol whose transport tells it of a reset also while reading is paused."""

    def connectionBroken(self) -> None:
        """The peer reset the connection: what it sent before may still be read."""
