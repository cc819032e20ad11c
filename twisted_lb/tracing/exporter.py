"""The exporter of spans: batches to a collector over OTLP/HTTP, from a bounded queue, and never in anybody's way."""

import json
from collections import deque
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from twisted_lb import __version__
from twisted_lb.outgoing_http import Client, Whole, words_of
from twisted_lb.tracing.rules import TraceRules

# As OpenTelemetry's SDKs have them: so many spans wait, in so many bytes; a batch is so many of them, and is sent after so long.
MOST_SPANS: Final = 2048
MOST_BYTES: Final = 4 * 1024 * 1024
BATCH_SPANS: Final = 512
BATCH_BYTES: Final = 512 * 1024
INTERVAL_S: Final = 5.0
TIMEOUT_S: Final = 10.0
# At the end what is left has so long.
LAST_S: Final = 2.0
# OTLP 1.9, failures: these may be sent again; so often, after a pause that doubles, or as long as the collector wants.
_AGAIN: Final = (429, 502, 503, 504)
MOST_TRIES: Final = 5
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_ANSWER_BYTES: Final = 65536

_log = Logger()


class _Refused(Exception):
    """The collector does not take a batch, which may be sent `again`, or not; `pause_s`: when, if the collector has said that."""

    def __init__(self, reason: str, pause_s: float | None = None, *, again: bool = False) -> None:
        super().__init__(reason)
        self.pause_s: Final = pause_s
        self.again: Final = again


class Exporter:
    """Sends spans where `rules` say, one batch at a time, each on a connection of its own, until `close`. `sent` and `dropped`
    count spans. `time` is Twisted's IReactorTime, `wall` the clock on the wall, `rng` spreads the pauses.
    """

    def __init__(self, rules: TraceRules, client: Client, time: Any, wall: Callable[[], float], rng: Random) -> None:
        self.sent: int = 0
        self.dropped: int = 0
        self._rules: Final = rules
        self._client: Final = client
        self._time: Final = time
        self._wall: Final = wall
        self._rng: Final = rng
        self._begin, self._end = _envelope(rules)
        self._headers: Final = Headers(
            {
                "User-Agent": [f"twisted_lb/{__version__}"],
                "Content-Type": ["application/json"],
                **{name: [value] for name, value in rules.headers.items()},
            }
        )
        self._queue: Final[deque[tuple[bytes, int]]] = deque()
        self._spans: int = 0
        self._bytes: int = 0
        self._tries: int = 0
        self._failing: bool = False
        self._call: IDelayedCall | None = None
        self._pausing: bool = False
        self._sending: Deferred[Any] | None = None
        self._closed: bool = False

    @property
    def waiting(self) -> int:
        """How many spans wait."""
        return self._spans

    def take(self, texts: bytes, count: int) -> None:
        """Take the spans of a request, JSON texts between commas; what finds no room is dropped and counted."""
        if self._closed or self._spans + count > MOST_SPANS or self._bytes + len(texts) > MOST_BYTES:
            self.dropped += count
            return
        self._put((texts, count), first=False)
        if self._sending is None and not self._pausing:
            full = self._spans >= BATCH_SPANS or self._bytes >= BATCH_BYTES
            if self._call is None:
                self._call = self._time.callLater(0.0 if full else INTERVAL_S, self._send)
            elif full and self._call.getTime() > self._time.seconds():
                self._call.reset(0.0)

    def close(self) -> Deferred[None]:
        """Send what is left, as far as the collector takes it within LAST_S; the Deferred fires when that is over."""
        if self._closed:
            return succeed(None)
        self._closed = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._sending is None and self._queue and not self._pausing:
            self._send()
        if self._sending is None:
            self._drop_all()
            return succeed(None)
        done: Deferred[None] = Deferred()
        late = self._time.callLater(LAST_S, self._sending.cancel)

        def over(result: Any) -> Any:
            if late.active():
                late.cancel()
            self._drop_all()
            done.callback(None)
            return result

        self._sending.addBoth(over)
        return done

    # One batch.

    def _put(self, one: tuple[bytes, int], *, first: bool) -> None:
        (self._queue.appendleft if first else self._queue.append)(one)
        self._spans += one[1]
        self._bytes += len(one[0])

    def _batch(self) -> list[tuple[bytes, int]]:
        """The oldest ones that go together, at least one."""
        batch: list[tuple[bytes, int]] = []
        spans = size = 0
        while self._queue:
            texts, count = self._queue[0]
            if batch and (spans + count > BATCH_SPANS or size + len(texts) > BATCH_BYTES):
                break
            batch.append(self._queue.popleft())
            spans, size = spans + count, size + len(texts)
        self._spans -= spans
        self._bytes -= size
        return batch

    def _send(self) -> None:
        self._call, self._pausing = None, False
        batch = self._batch()
        if not batch:
            return
        count = sum(one[1] for one in batch)
        sending: Deferred[Any] = Deferred.fromCoroutine(self._deliver(batch))
        sending.addTimeout(TIMEOUT_S, self._time)
        self._sending = sending
        sending.addCallbacks(
            lambda rejected: self._delivered(count, rejected), lambda failure: self._failed(batch, count, failure.value)
        )
        sending.addErrback(lambda failure: _log.failure("an export of spans failed, a bug", failure=failure))

    async def _deliver(self, batch: list[tuple[bytes, int]]) -> int:
        """Send a batch; how many of its spans the collector has rejected."""
        body = self._begin + b",".join(texts for texts, _ in batch) + self._end
        try:
            url = self._rules.endpoint.encode("ascii")
            response: Any = await self._client.request(b"POST", url, self._headers, Whole(body))
            answer = _Answer()
            response.deliverBody(answer)
            content = await answer.done
        finally:
            self._client.hang_up()
        if response.code == 200:
            return _rejected(content)
        pause_s = self._wanted_pause_s(response.headers)
        raise _Refused(f"status {response.code}", pause_s, again=response.code in _AGAIN)

    def _delivered(self, count: int, rejected: int) -> None:
        self._sending = None
        self._tries = 0
        rejected = min(rejected, count)
        self.sent += count - rejected
        self.dropped += rejected
        if rejected:
            self._complain(f"{rejected} of {count} spans were rejected")
        elif self._failing:
            self._failing = False
            _log.info("traces: {where} takes spans again", where=self._rules.endpoint)
        if self._queue and not self._closed:
            full = self._spans >= BATCH_SPANS or self._bytes >= BATCH_BYTES
            self._call = self._time.callLater(0.0 if full else INTERVAL_S, self._send)

    def _failed(self, batch: list[tuple[bytes, int]], count: int, error: BaseException) -> None:
        self._sending = None
        self._tries += 1
        final = isinstance(error, CancelledError) or (isinstance(error, _Refused) and not error.again)
        self._complain(
            f"no answer within {TIMEOUT_S:g} s" if isinstance(error, defer.TimeoutError) else words_of(error)
        )
        if self._closed or final or self._tries >= MOST_TRIES:
            self.dropped += count
            self._tries = 0
        else:
            for one in reversed(batch):
                self._put(one, first=True)
        if self._queue and not self._closed:
            pause_s = error.pause_s if isinstance(error, _Refused) and error.pause_s is not None else self._pause_s()
            self._pausing = True
            self._call = self._time.callLater(pause_s, self._send)

    def _pause_s(self) -> float:
        """The pause behind a failure: twice as long each time, and up to half of it less, so that not all come back at once."""
        longest_s: float = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** max(0, self._tries - 1))
        return longest_s * (1 - self._rng.random() / 2)

    def _wanted_pause_s(self, headers: Headers) -> float | None:
        """What Retry-After says (RFC 9110 10.2.3): seconds, or a date. Not over a minute; None where it says nothing."""
        said = (headers.getRawHeaders("retry-after") or [""])[-1].strip()
        try:
            seconds = float(int(said)) if said.isdigit() else parsedate_to_datetime(said).timestamp() - self._wall()
        except (ValueError, TypeError, OverflowError):
            return None
        return min(max(seconds, 0.0), _LONGEST_PAUSE_S)

    def _complain(self, reason: str) -> None:
        """Say once that spans do not arrive, until they do again."""
        if not self._failing:
            self._failing = True
            _log.warn("traces: {where} does not take spans: {reason}", where=self._rules.endpoint, reason=reason)

    def _drop_all(self) -> None:
        self.dropped += self._spans
        self._queue.clear()
        self._spans = self._bytes = 0


class _Answer(TwistedProtocol):
    """Receives an answer; `done` has its first bytes."""

    def __init__(self) -> None:
        self.done: Final[Deferred[bytes]] = Deferred()
        self._content = b""

    def dataReceived(self, data: bytes) -> None:
        self._content = (self._content + data)[:_ANSWER_BYTES]

    def connectionLost(self, reason: Any = None) -> None:
        if not self.done.called:
            self.done.callback(self._content)


def _envelope(rules: TraceRules) -> tuple[bytes, bytes]:
    """What stands before and behind the spans of a request (ExportTraceServiceRequest)."""
    resource = [
        {"key": key, "value": {"stringValue": value}}
        for key, value in (("service.name", rules.service), ("service.version", __version__))
    ]
    scope = {"name": "twisted_lb", "version": __version__}
    text = json.dumps(
        {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"scope": scope, "spans": []}]}]},
        separators=(",", ":"),
    )
    begin, _, end = text.rpartition("[]")
    return f"{begin}[".encode("ascii"), f"]{end}".encode("ascii")


def _rejected(content: bytes) -> int:
    """How many spans an answer says were rejected (partial success)."""
    try:
        told = json.loads(content or b"{}")
        return max(0, int(told.get("partialSuccess", {}).get("rejectedSpans", 0)))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return 0  # it said 200
