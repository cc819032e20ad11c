"""The response heads of a connection: found in its bytes, parsed, and not parsed again while they stay the same."""

from twisted_lb.wire.grammar import BLANK_LINE, BadMessage, Limits
from twisted_lb.wire.response import ResponseHead, parse_response


class ResponseHeads:
    """A reader of the response heads of one upstream connection. `last` is the last final head; `end`, after each
    `take`, where the head ends, its blank line included. A head is a pure function of its bytes and the limits.
    """

    __slots__ = ("_bytes", "_limits", "_searched", "end", "last")

    def __init__(self) -> None:
        self.last: ResponseHead | None = None
        self.end: int = 0
        self._searched: int = 0
        self._limits: Limits | None = None
        self._bytes: bytes = b""

    def take(self, data: bytes, limits: Limits) -> ResponseHead | None:
        """The head that `data` begins with; None while it is incomplete. BadMessage as soon as it cannot become one."""
        last = self.last
        if last is not None and limits is self._limits and data.startswith(self._bytes):
            # The same as the last head to the byte: what was checked then is true now.
            self._searched = 0
            self.end = len(self._bytes)
            return last
        end = data.find(BLANK_LINE, self._searched)
        max_bytes = limits.head_bytes
        if end > max_bytes or (end < 0 and len(data) > max_bytes + 3):
            raise BadMessage(502, "response head too long")
        if end < 0:
            if data.count(b"\n") != data.count(b"\r\n"):
                raise BadMessage(502, "bare LF")
            self._searched = max(len(data) - 3, 0)
            return None
        self._searched = 0
        self.end = end + len(BLANK_LINE)
        head = parse_response(data[:end], limits)
        if head.status >= 200:
            self._limits = limits
            self._bytes = data[: self.end]
            self.last = head
        return head
