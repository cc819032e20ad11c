"""A list behind a URL (http_sd): a GET every now and then, which costs nothing where the server knows ETag or Last-Modified
(conditional requests, RFC 9110 13).
"""

from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.prometheus import MOST_BYTES, Malformed, read_targets
from twisted_lb.discovery.provider import NoList
from twisted_lb.outgoing_http import Client, words_of

# What a server is asked with, beside the conditions.
_ASKED: Final = {b"User-Agent": [b"twisted_lb"], b"Accept": [b"application/json"]}


class UrlSource:
    """The list at `url`. Redirects are not followed: whoever keeps the list says where it is."""

    def __init__(self, url: str, client: Client, refresh_s: float, *, weight: int = 1) -> None:
        self.where: Final = url
        self.pause_s: float = refresh_s
        self._url: Final = url.encode("ascii")
        self._client: Final = client
        self._weight: Final = weight
        # http_sd tells the server how often it is asked.
        self._asked: Final = {**_ASKED, b"X-Prometheus-Refresh-Interval-Seconds": [b"%g" % refresh_s]}
        # What the last good answer is called, by the field that asks for another one.
        self._conditions: dict[bytes, list[bytes]] = {}

    def look(self) -> Deferred[list[BackendSpec] | None]:
        """See Source."""
        return Deferred.fromCoroutine(self._look())

    def close(self) -> None:
        """See Source."""
        self._client.hang_up()

    async def _look(self) -> list[BackendSpec] | None:
        try:
            response = await self._client.request(b"GET", self._url, Headers({**self._asked, **self._conditions}))
            if response.code == 304 and self._conditions:
                return None
            return await self._take(response)
        except (CancelledError, NoList):
            raise
        except Exception as error:
            raise NoList(words_of(error)) from None
        finally:
            self._client.hang_up()

    async def _take(self, response: Any) -> list[BackendSpec]:
        if response.code != 200:
            what = ": a redirect, which is not followed" if 300 <= response.code < 400 and response.code != 304 else ""
            raise NoList(f"status {response.code}{what}")
        coding = b", ".join(response.headers.getRawHeaders(b"content-encoding", []))
        if coding not in (b"", b"identity"):
            raise NoList(f"encoded as {coding.decode('latin-1')!r}, which nobody asked for")
        if response.length is not UNKNOWN_LENGTH and response.length > MOST_BYTES:
            raise NoList(f"{response.length} bytes, {MOST_BYTES} are the most")
        body = _Body()
        response.deliverBody(body)
        try:
            specs = read_targets(await body.done, sockets=False, weight=self._weight)
        except Malformed as error:
            raise NoList(str(error)) from None
        # Only now: an answer that was refused is asked for again as a whole.
        self._conditions = _conditions(response.headers)
        return specs


def _conditions(headers: Headers) -> dict[bytes, list[bytes]]:
    """The fields that ask for an answer only where it is another one than this."""
    found = {}
    for ask, name in ((b"If-None-Match", b"etag"), (b"If-Modified-Since", b"last-modified")):
        values = headers.getRawHeaders(name)
        if values:
            found[ask] = [values[-1]]
    return found


class _Body(TwistedProtocol):
    """Receives a body up to its bound; `done` has it, or fails with NoList."""

    def __init__(self) -> None:
        self.done: Final[Deferred[bytes]] = Deferred()
        self._parts: list[bytes] = []
        self._bytes = 0

    def dataReceived(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes <= MOST_BYTES:
            self._parts.append(data)
        elif not self.done.called:
            self.done.errback(NoList(f"longer than {MOST_BYTES} bytes"))

    def connectionLost(self, reason: Any = None) -> None:
        if self.done.called:
            return
        # One that is ended by the end of its connection may be cut short; then it is no JSON.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(NoList("the answer was cut short"))
