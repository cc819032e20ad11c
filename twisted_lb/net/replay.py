"""The replay buffer: the part of a request body that is held, so that another attempt can send it again."""

from mypy_extensions import mypyc_attr


@mypyc_attr(acyclic=True, free_list_len=1)
class Replay:
    """Pieces of a request body, from its first byte on, until they are `max_bytes` or dropped; one more at most."""

    __slots__ = ("_max_bytes", "bytes", "dropped", "pieces")

    def __init__(self, max_bytes: int) -> None:
        self.pieces: list[bytes] = []
        self.bytes: int = 0
        self.dropped: bool = False
        self._max_bytes: int = max_bytes

    def keep(self, piece: bytes) -> None:
        """Hold one more piece; nothing once dropped."""
        if not self.dropped:
            self.pieces.append(piece)
            self.bytes += len(piece)

    def bound(self, max_bytes: int) -> None:
        """Replace the bound; what is held stays."""
        self._max_bytes = max_bytes

    @property
    def full(self) -> bool:
        """Whether as much is held as may be."""
        return self.bytes > self._max_bytes

    def drop(self) -> None:
        """Drop the pieces, and hold no more: the body cannot be sent again."""
        self.pieces = []
        self.dropped = True
