"""A pipe: one direction of a connection in memory."""

from collections.abc import Callable
from typing import Final


def _nothing() -> None:
    """The callback of a pipe's end that has no transport yet."""


class Pipe:
    """One direction of a connection: bytes on their way, at most `capacity` of them, and how they end.

    `bytes`, `ended` and `reset` are what has arrived. The transports at its ends set `when_readable` and `when_room`,
    and are told when it is worth to look again; neither may call back at once. `back` is the other direction.
    """

    back: "Pipe"

    def __init__(self, capacity: int) -> None:
        self.bytes = bytearray()
        self.ended = False  # a FIN follows the bytes
        self.reset = False  # a RST came; what was queued before it can still be read
        self.closed = False  # there is no reader any more
        self.when_readable: Callable[[], None] = _nothing
        self.when_room: Callable[[], None] = _nothing
        self._capacity: Final = capacity

    @property
    def room(self) -> int:
        """How many bytes the pipe takes now."""
        return max(self._capacity - len(self.bytes), 0)

    def put(self, data: bytes | bytearray) -> int:
        """Put in what there is room for; returns how much that was. `when_room` tells when there is more."""
        if self.closed:
            self.back.cut()  # the reader is gone: the answer to bytes is a reset
            return len(data)
        taken = min(self.room, len(data))
        if taken:
            self._arrived(data[:taken])
        return taken

    def _arrived(self, data: bytes | bytearray) -> None:
        self.bytes += data
        self.when_readable()

    def take(self, most: int) -> bytes:
        """Take the next bytes out, none when there are none."""
        data = bytes(self.bytes[:most])
        del self.bytes[:most]
        if data:
            self.when_room()
        return data

    def end(self) -> None:
        """End the direction in order: a FIN. Nothing, after a reset."""
        self.ended = self.ended or not self.reset
        self.when_readable()

    def cut(self) -> None:
        """Cut the direction: a RST, since the sender is gone, or never knew of this connection."""
        self.reset = True
        self.when_readable()

    def close(self) -> None:
        """Close the reader's end; bytes that are here are lost."""
        self.closed = True
        self.bytes.clear()
        self.when_room()
