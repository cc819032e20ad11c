"""One direction of a connection in memory."""

from collections.abc import Callable
from typing import Final


def _nothing() -> None:
    """Nobody is at this end yet."""


class Pipe:
    """One direction: bytes on their way, at most `capacity` of them, and how they end.

    `bytes`, `ended` and `reset` are what has arrived. Whoever is at its ends sets `when_readable` and `when_room`, and is
    told when it is worth to look again; neither may call back at once. `back` is the other direction.
    """

    back: "Pipe"

    def __init__(self, capacity: int) -> None:
        self.bytes = bytearray()
        self.ended = False  # a FIN follows the bytes
        self.reset = False  # a RST came; what was queued before it can still be read
        self.closed = False  # nobody reads any more
        self.when_readable: Callable[[], None] = _nothing
        self.when_room: Callable[[], None] = _nothing
        self._capacity: Final = capacity

    @property
    def room(self) -> int:
        """How many bytes it takes now."""
        return max(self._capacity - len(self.bytes), 0)

    def put(self, data: bytes | bytearray) -> int:
        """Take what there is room for; how much that was. `when_room` tells when there is more."""
        if self.closed:
            self.back.cut()  # nobody is there any more: the answer to bytes is a reset
            return len(data)
        taken = min(self.room, len(data))
        if taken:
            self._arrived(data[:taken])
        return taken

    def _arrived(self, data: bytes | bytearray) -> None:
        self.bytes += data
        self.when_readable()

    def take(self, most: int) -> bytes:
        """The next bytes, none when there are none."""
        data = bytes(self.bytes[:most])
        del self.bytes[:most]
        if data:
            self.when_room()
        return data

    def end(self) -> None:
        """Nothing more comes: a FIN. Nothing, after a reset."""
        self.ended = self.ended or not self.reset
        self.when_readable()

    def cut(self) -> None:
        """The sender is gone, or never knew of this connection: a RST."""
        self.reset = True
        self.when_readable()

    def close(self) -> None:
        """The reader is gone; what is here is lost."""
        self.closed = True
        self.bytes.clear()
        self.when_room()
