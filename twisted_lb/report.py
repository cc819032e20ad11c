"""Middleware for WSGI and ASGI that reports load: the field `endpoint-load-metrics` (ORCA) in the head of every answer.

    from twisted_lb.report import wsgi  # or asgi
    application = wsgi(application)

This file needs the standard library alone, and Python 3.9: it may be copied beside an application that has no twisted_lb.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import count
from math import exp, isfinite
from typing import Any, Final, NamedTuple

__all__ = ["Asgi", "Load", "Wsgi", "asgi", "wsgi"]

_log: Final = logging.getLogger(__name__)

Metrics = Callable[[], Mapping[str, float]]
_Environ = dict[str, Any]
_StartResponse = Callable[..., Any]
_WsgiApp = Callable[[_Environ, _StartResponse], Iterable[bytes]]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_AsgiApp = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

FIELD: Final = "endpoint-load-metrics"
ASKED: Final = "endpoint-load-metrics-format"
# An application that answers with one of these reports by itself.
_FIELDS: Final = (FIELD, f"{FIELD}-bin", f"{FIELD}-json")
FORMS: Final = ("TEXT", "JSON")
# Who reads reports need not read longer ones.
MOST_BYTES: Final = 4096

APPLICATION: Final = "application_utilization"
METRICS: Final = (APPLICATION, "cpu_utilization", "mem_utilization", "rps_fractional", "eps")
NAMED: Final = "named_metrics."
RUNNING: Final = f"{NAMED}num_requests_running"  # as vLLM names them
WAITING: Final = f"{NAMED}num_requests_waiting"
_NAME: Final = re.compile(r"[!-+\--9;<>-~]+")  # visible, and none of `,:=`

# Utilization is that of the last second: a worker that serves one request at a time is always full while it answers.
BUSY_S: Final = 1.0
# What waited before it came here is known when it comes: over a longer time, so that a few of them are an average.
WAITED_S: Final = 10.0
# A clock that is so far away is another one's.
_MOST_WAIT_S: Final = 600.0
_STARTED: Final = re.compile(r"(?:t=)?([0-9]{1,20}(?:\.[0-9]{0,9})?)")
_THE_LARGEST_IN_SECONDS: Final = 1e11  # the year 5138; as milliseconds, 1973
# So much of a body is read while a request waits for its turn.
READ_AHEAD_BYTES: Final = 65536


class Seen(NamedTuple):
    """A process at one moment: requests that run, and that wait for their turn here; on average of late, how many of both there
    were, and how many waited before they came here, -1 where nobody says.
    """

    running: int
    waiting: int
    busy: float
    waited: float


class Load:
    """The requests of one process. For threads and event loops; applications that share their workers share one of these.

    Who runs and who waits are sets of keys, which change by one call each: a count cannot leak, whatever is raised in between, and
    a request that is forgotten is discarded by the garbage collector, which may come while the lock is held.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock: Final = clock
        self._wall: Final = wall
        self._lock: Final = threading.Lock()  # of the averages
        self._keys: Final = count()
        self._running: Final[set[int]] = set()
        self._waiting: Final[set[int]] = set()
        self._busy = 0.0
        self._waited = -1.0
        self._at = clock()
        self.most_running = 0

    def begin(self, started: str = "", *, waiting: bool = False) -> Request:
        """A request is here; `started`, when it was at the proxy in front, as its header says. Whoever begins it ends it."""
        request = Request(self, next(self._keys))
        waited_s = _waited_s(started, self._wall()) if started else -1.0
        with self._lock:
            self._pass()
            (self._waiting if waiting else self._running).add(request.key)
            self.most_running = max(self.most_running, len(self._running))
            if waited_s >= 0:
                self._waited = max(self._waited, 0.0) + waited_s / WAITED_S
        return request

    def run(self, key: int) -> None:
        """One that waited has its turn."""
        with self._lock:
            self._pass()
            self._waiting.discard(key)
            self._running.add(key)
            self.most_running = max(self.most_running, len(self._running))

    def end(self, key: int) -> None:
        """A request has ended; nothing if it had already."""
        with self._lock:
            self._pass()
            self.forget(key)

    def forget(self, key: int) -> None:
        """Discard a request without the lock."""
        self._waiting.discard(key)
        self._running.discard(key)

    def seen(self) -> Seen:
        """How it is now."""
        with self._lock:
            self._pass()
            return Seen(len(self._running), len(self._waiting), self._busy, self._waited)

    def _pass(self) -> None:
        """Time has passed since the last change."""
        now = self._clock()
        here = len(self._running) + len(self._waiting)
        passed_s = max(now - self._at, 0.0)
        self._busy = here + (self._busy - here) * exp(-passed_s / BUSY_S)
        if self._waited > 0:
            self._waited *= exp(-passed_s / WAITED_S)
        self._at = now

    def __repr__(self) -> str:
        return f"<Load {len(self._running)} running, {len(self._waiting)} waiting>"


class Request:
    """A request from its beginning to its end. One that nobody ended ends when nobody knows it any more."""

    __slots__ = ("_load", "key")

    def __init__(self, load: Load, key: int) -> None:
        self._load: Final = load
        self.key: Final = key

    def run(self) -> None:
        """It has its turn."""
        self._load.run(self.key)

    def end(self) -> None:
        """It has ended; a second time does nothing."""
        self._load.end(self.key)

    def __del__(self) -> None:
        self._load.forget(self.key)


def _waited_s(started: str, now: float) -> float:
    """For how long a request has waited, by X-Request-Start: `t=` or nothing, and seconds, milliseconds, microseconds or nanoseconds
    since 1970, as New Relic, Scout and Heroku have it; -1 for what is none.
    """
    found = _STARTED.fullmatch(started.partition(",")[0].strip())
    if not found:
        return -1.0
    at = float(found[1])
    while at > _THE_LARGEST_IN_SECONDS:
        at /= 1000
    waited_s = now - at
    # Two clocks differ a little: who comes from the future has not waited.
    return max(waited_s, 0.0) if -_MOST_WAIT_S < waited_s < _MOST_WAIT_S else -1.0


def _form(asked: str) -> str:
    """In which form somebody who asks like this wants a report; "" for none that is spoken here."""
    forms = [form for form in (one.strip().upper() for one in asked.split(",")) if form]
    return next((form for form in forms if form in FORMS), "") if forms else FORMS[0]


def _written(form: str, metrics: Mapping[str, float]) -> str:
    """The value of the field."""
    if form == "TEXT":
        return "TEXT " + ", ".join(f"{name}={number}" for name, number in metrics.items())
    named = {name[len(NAMED) :]: number for name, number in metrics.items() if name.startswith(NAMED)}
    plain: dict[str, object] = {name: number for name, number in metrics.items() if not name.startswith(NAMED)}
    return "JSON " + json.dumps({**plain, "named_metrics": named} if named else plain)


def _readable(value: str) -> str:
    """The value, if it is no longer than is read."""
    if len(value) > MOST_BYTES:
        raise ValueError(f"a report of {len(value)} bytes, and no more than {MOST_BYTES} are read")
    return value


def _number(name: str, said: float) -> float:
    """A number as it is written: a whole one without a point."""
    number = float(f"{float(said):.9g}")
    if not isfinite(number) or number < 0:
        raise ValueError(f"{name} is {said}, and a load is a finite number, not negative")
    return int(number) if number.is_integer() and number < 1e15 else number


def _full_name(name: str) -> str:
    """The name of a metric as ORCA has it: one of its own, or a named one."""
    if name in METRICS:
        return name
    own = name.removeprefix(NAMED)
    if not _NAME.fullmatch(own):
        raise ValueError(f"{name!r} is no name of a metric: visible characters, and none of , : =")
    return NAMED + own


def _how_many(name: str, number: int | None) -> int:
    """An option that counts requests; 0 where it is not given."""
    if number is None:
        return 0
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{name} should be a whole number of requests, 1 or more, not {number!r}")
    return number


class _Reporter:
    """What both kinds of middleware are: an application, its load, and what is said of it."""

    def __init__(
        self, app: Callable[..., Any], capacity: int | None, metrics: Metrics | None, load: Load | None
    ) -> None:
        for name, given in (("the application", app), *([("metrics", metrics)] if metrics is not None else [])):
            if not callable(given):
                raise TypeError(f"{name} should be callable, and {given!r} is not")
        self._capacity: Final = _how_many("capacity", capacity)
        self._metrics: Final = metrics
        self._failing = False
        self.load: Final = load or Load()

    def report(self, asked: str, capacity: int, *, queues: bool) -> str:
        """The value of the field for a request that asks like this; "" for none. `queues`: whether requests wait here, if any do."""
        form = _form(asked)
        if not form:
            return ""
        seen = self.load.seen()
        metrics: dict[str, float] = {}
        if capacity:
            metrics[APPLICATION] = _number(APPLICATION, round(seen.busy / capacity, 4))
        metrics[RUNNING] = seen.running
        if queues or seen.waited >= 0:
            metrics[WAITING] = _number(WAITING, round(seen.waiting + max(seen.waited, 0.0), 4))
        return self._with_own(form, metrics)

    def _with_own(self, form: str, metrics: dict[str, float]) -> str:
        """A report with what the application adds. Where that is wrong it is left out, and said once until it is right again."""
        if self._metrics is None:
            return _written(form, metrics)
        try:
            own = {_full_name(name): _number(name, said) for name, said in self._metrics().items()}
            value = _readable(_written(form, {**metrics, **own}))
        except Exception as error:
            if not self._failing:
                self._failing = True
                said = f"{type(error).__name__}: {error}"
                _log.warning("metrics=%r is left out of reports: %s", self._metrics, said, exc_info=error)
            return _written(form, metrics)
        self._failing = False
        return value


class Wsgi(_Reporter):
    """A WSGI application that reports. A request runs until its answer is closed: the server does that whatever happens.

    `capacity`: how many requests this process works at at a time (gunicorn's --threads); of that is `application_utilization`.
    Where the server says that there is one thread it is 1. `queue_times`: count those that waited before they came here, by
    X-Queue-Start or X-Request-Start; only behind a proxy that sets it itself. `metrics`: what is said beside, by name: ORCA's own
    five as they are, others become named ones. It is called for each answer, in any thread. `load`: one that several applications
    of this process share.
    """

    def __init__(
        self,
        app: _WsgiApp,
        *,
        capacity: int | None = None,
        queue_times: bool = False,
        metrics: Metrics | None = None,
        load: Load | None = None,
    ) -> None:
        super().__init__(app, capacity, metrics, load)
        self._app: Final = app
        self._queue_times: Final = queue_times

    def __call__(self, environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        started = ""
        if self._queue_times:
            started = environ.get("HTTP_X_QUEUE_START") or environ.get("HTTP_X_REQUEST_START") or ""
        request = self.load.begin(started)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            told = self._told(environ, headers)
            return start_response(status, told, exc_info) if exc_info else start_response(status, told)

        try:
            return _counted(self._app(environ, start), request, environ.get("wsgi.file_wrapper"))
        except BaseException:
            request.end()
            raise

    def _told(self, environ: _Environ, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The header of an answer with one report: the application's own, if there is one."""
        if any(name.lower() in _FIELDS for name, _ in headers):
            return _once(headers, FIELD)
        capacity = self._capacity or self._evident(environ)
        value = self.report(environ.get(f"HTTP_{ASKED.upper().replace('-', '_')}", ""), capacity, queues=False)
        return [*headers, (FIELD, value)] if value else headers

    def _evident(self, environ: _Environ) -> int:
        """1 where the server says that there is one thread, and that was true so far: greenlets are none to some servers; else 0."""
        alone = not environ.get("wsgi.multithread", True) and not environ.get("wsgi.run_once", False)
        return 1 if alone and self.load.most_running <= 1 else 0


def _once(headers: Iterable[Any], field: Any) -> list[Any]:
    """A header whose fields of this name are one: the first."""
    told: list[Any] = []
    found = False
    for one in headers:
        is_it = one[0].lower() == field
        if not (is_it and found):
            told.append(one)
        found = found or is_it
    return told


class _Answer:
    """The body of an answer; its request ends when it is closed, or forgotten."""

    __slots__ = ("_answer", "_parts", "_request")

    def __init__(self, answer: Iterable[bytes], request: Request) -> None:
        self._answer: Final = answer
        self._request: Final = request
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        self._parts = iter(self._answer)
        return self

    def __next__(self) -> bytes:
        if self._parts is None:
            self._parts = iter(self._answer)
        return next(self._parts)

    def close(self) -> None:
        """The server is through with it, or the client has left."""
        _close(getattr(self._answer, "close", None), self._request)


class _SizedAnswer(_Answer):
    """One that knows of how many parts it is: of one, the server knows the Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._answer)  # type: ignore[arg-type]  # made for those only


def _close(close: Callable[[], object] | None, request: Request) -> None:
    """Close an answer, and end its request whatever comes of that."""
    try:
        if close is not None:
            close()
    finally:
        request.end()


def _counted(answer: Iterable[bytes], request: Request, wrapper: object) -> Iterable[bytes]:
    """The answer that ends the request. A file that the server sends by itself has to be what the server knows: only its close()
    is another one.
    """
    if isinstance(wrapper, type) and isinstance(answer, wrapper):
        file: Any = answer
        own = getattr(file, "close", None)
        try:
            file.close = lambda: _close(own, request)
        except AttributeError:
            pass  # it has slots, and is sent piece by piece
        else:
            return answer
    return _SizedAnswer(answer, request) if hasattr(answer, "__len__") else _Answer(answer, request)


class Asgi(_Reporter):
    """An ASGI 3 application that reports. A request runs until the application returns: what it does after its answer is work too.
    Whatever is not HTTP (lifespan, WebSockets) is passed on as it is.

    `limit`: at most so many requests run at a time, others wait for their turn, in the order in which they came; needs asyncio, and
    is of one event loop. `capacity`: how many it works at well, where that is not `limit`. Everything else as for `Wsgi`.
    """

    def __init__(
        self,
        app: _AsgiApp,
        *,
        limit: int | None = None,
        capacity: int | None = None,
        queue_times: bool = False,
        metrics: Metrics | None = None,
        load: Load | None = None,
    ) -> None:
        super().__init__(app, capacity, metrics, load)
        self._app: Final = app
        self._queue_times: Final = queue_times
        self._limit: Final = _how_many("limit", limit)
        self._turns: Final = _Turns(self._limit) if limit else None

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fields = {bytes(name).lower(): bytes(value) for name, value in scope.get("headers", ())}
        asked = fields.get(ASKED.encode(), b"").decode("latin-1")

        async def told(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._told(asked, message.get("headers", ()))}
            await send(message)

        started = (fields.get(b"x-queue-start") or fields.get(b"x-request-start") or b"") if self._queue_times else b""
        request = self.load.begin(started.decode("latin-1"), waiting=self._turns is not None)
        try:
            if self._turns is None:
                await self._app(scope, receive, told)
            else:
                await self._in_turn(self._turns, request, scope, (receive, told))
        finally:
            request.end()

    async def _in_turn(
        self, turns: _Turns, request: Request, scope: MutableMapping[str, Any], ways: tuple[_Receive, _Send]
    ) -> None:
        receive, send = ways
        turn = turns.take()
        ahead = _Ahead(receive)
        try:
            if turn.done() or await ahead.until(turn):
                request.run()
                await self._app(scope, ahead.receive, send)
        finally:
            ahead.close()
            turns.give(turn)

    def _told(self, asked: str, headers: Iterable[Any]) -> list[Any]:
        """The header of an answer with one report: the application's own, if there is one."""
        said = list(headers)
        if any(bytes(name).lower().decode("latin-1") in _FIELDS for name, _ in said):
            return _once(said, FIELD.encode())
        value = self.report(asked, self._capacity or self._limit, queues=True)
        return [*said, (FIELD.encode(), value.encode())] if value else said


class _Turns:
    """Whose turn it is, first come, first served; of one event loop, like the application that it belongs to."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: Final[OrderedDict[asyncio.Future[None], None]] = OrderedDict()

    def take(self) -> asyncio.Future[None]:
        """What is done when it is one's turn. Whoever takes it gives it back, whether the turn has come or not."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._free:
            self._free -= 1
            turn.set_result(None)
        else:
            self._waiting[turn] = None
        return turn

    def give(self, turn: asyncio.Future[None]) -> None:
        """Somebody is through, or does not wait any more."""
        if turn in self._waiting:
            del self._waiting[turn]
        elif self._waiting:
            self._waiting.popitem(last=False)[0].set_result(None)
        else:
            self._free += 1


class _Ahead:
    """Receives while a request waits for its turn, so that a client who leaves is noticed; the application gets all of it later."""

    def __init__(self, receive: _Receive) -> None:
        self._receive: Final = receive
        self._came: Final[deque[_Message]] = deque()
        self._bytes = 0
        self._coming: asyncio.Future[_Message] | None = None

    async def until(self, turn: asyncio.Future[None]) -> bool:
        """Wait for the turn. False where the client leaves before."""
        while not turn.done():
            if self._coming is None and self._bytes < READ_AHEAD_BYTES:
                self._coming = asyncio.ensure_future(self._receive())
            coming = self._coming
            both: list[asyncio.Future[Any]] = [turn] if coming is None else [turn, coming]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if coming is not None and coming.done():
                self._coming = None
                message = coming.result()
                if message["type"] == "http.disconnect":
                    return False
                self._bytes += len(message.get("body", b""))
                self._came.append(message)
        return True

    async def receive(self) -> _Message:
        """The application's turn to receive."""
        if self._came:
            return self._came.popleft()
        if self._coming is not None:
            coming, self._coming = self._coming, None
            return await coming
        return await self._receive()

    def close(self) -> None:
        """Nobody asks for more."""
        if self._coming is not None and not self._coming.cancel() and not self._coming.cancelled():
            self._coming.exception()  # whose client is gone: nobody is left to hear of it


# Whoever wraps an application calls a function.
wsgi = Wsgi
asgi = Asgi
