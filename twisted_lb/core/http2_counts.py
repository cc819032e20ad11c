"""What clients of a listener do over HTTP/2: connections, streams, resets of either side, and connections that we had to end."""

from typing import Final

from mypy_extensions import mypyc_attr

# Codes that are in no RFC are as many as a client likes; they are counted as one.
_OTHER: Final = "other"


@mypyc_attr(acyclic=True)
class Http2Counts:
    """The counts of one listener. `connections`, `streams`: open now; the others since it is there. `resets`: by who has reset a stream,
    `client` or `us`, and the error code (RFC 9113 7); `ended`: connections, by the code in our GOAWAY.
    """

    def __init__(self) -> None:
        self.connections: int = 0
        self.connections_total: int = 0
        self.streams: int = 0
        self.streams_total: int = 0
        self.resets: Final[dict[tuple[str, str], int]] = {}
        self.ended: Final[dict[str, int]] = {}

    def reset_by_client(self, code: str) -> None:
        """Count a RST_STREAM that has come."""
        self._count_reset("client", code)

    def reset_by_us(self, code: str) -> None:
        """Count a RST_STREAM of ours."""
        self._count_reset("us", code)

    def _count_reset(self, by: str, code: str) -> None:
        key = (by, _OTHER if code.startswith("0x") else code)
        self.resets[key] = self.resets.get(key, 0) + 1

    def end(self, code: str) -> None:
        """Count a connection that was ended for what its client has done."""
        self.ended[code] = self.ended.get(code, 0) + 1

    def __repr__(self) -> str:
        return f"<Http2Counts {self.connections} connections, {self.streams} streams>"
