"""Streams: answers that do not end, as server-sent events."""

import json
from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.server import Request

# So much of a stream may wait for a listener that does not read; then it is over, and he comes again.
_MOST_BEHIND: Final = 1 << 20
_BEAT_S: Final = 15.0

_log = Logger()


def encoded(kind: str, data: Mapping[str, Any], number: int | None = None) -> bytes:
    """One event of a stream."""
    line = "" if number is None else f"id: {number}\n"
    return f"{line}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class EventStream:
    """One listener of a stream, from `begin` until he is gone (`end`)."""

    def __init__(self, request: Request, time: Any) -> None:
        self._request: Final = request
        self._beat: Final = LoopingCall(lambda: self.write(b": still here\n\n"))
        self._beat.clock = time
        self._over = False

    def begin(self) -> None:
        """Tell whatever there is to tell, and go on."""
        self._request.setHeader(b"content-type", b"text/event-stream")
        self.write(b"retry: 1000\n\n")
        self._beat.start(_BEAT_S, now=False).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        _log.failure("a stream of the admin door failed, a bug", failure=failure)
        self.close()

    def tell(self, kind: str, data: Mapping[str, Any], number: int | None = None) -> None:
        """Tell of one event."""
        self.write(encoded(kind, data, number))

    def write(self, data: bytes) -> None:
        """Pass on what is encoded already."""
        if self._over:
            return
        self._request.write(data)
        transport: Any = self._request.transport
        if transport is not None and transport.unsent > _MOST_BEHIND:  # the Transport of the door's Listener
            self.close()

    def close(self) -> None:
        """End the stream; whoever listens comes again, and resumes."""
        transport: Any = self._request.transport
        if not self._over and transport is not None:
            transport.abortConnection()

    def end(self) -> None:
        """The listener is gone."""
        self._over = True
        if self._beat.running:
            self._beat.stop()
