"""Who wants to hear of a reset (RST) even while it reads nothing. Not compiled: mypyc knows no protocol that is asked for at run time."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class ResetAware(Protocol):
    """A protocol whose transport tells it of a reset also while reading is paused."""

    def connectionBroken(self) -> None:
        """The peer reset the connection: what it sent before may still be read."""
