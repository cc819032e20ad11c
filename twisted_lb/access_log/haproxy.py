"""HAProxy's lines for HTTP (`option httplog`) and TCP (`option tcplog`), byte for byte, so that `halog` and others read them."""

from typing import Final

from mypy_extensions import i64

from twisted_lb.access_log.around import Around, Form, Standing, request_line
from twisted_lb.access_log.digits import THREE, millis, number
from twisted_lb.access_log.escapes import hashed
from twisted_lb.access_log.moments import Moments, Stamps, day_and_time
from twisted_lb.access_log.privacy import Privacy
from twisted_lb.access_log.termination import termination
from twisted_lb.core.attempts import Attempt
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record

_BAD: Final = b' "<BADREQ>"\n'
_PLAIN: Final = b" - - ---- "
_OK: Final = Outcome.OK
_NO_BACKEND: Final = "<NOSRV>"
# So many combinations of listener, pool and backend are kept.
_MOST_KEPT: Final = 1024


class HaproxyForm(Form):
    """`%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r`.

    No captured fields (`%hr %hs`) and no cookies are there: HAProxy writes nothing for the former, `-` for the latter. Of a session:
    `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq`.
    """

    def __init__(self, around: Around) -> None:
        self._standing: Final[Standing] = around.standing
        self._moments: Final[Moments] = around.moments
        self._privacy: Final[Privacy] = around.privacy
        self._stamps: Final = Stamps(_stamp)
        # Of the last request: clients ask for the same again, and to look is cheaper than to escape.
        self._method: bytes = b""
        self._target: bytes = b""
        self._version: int = 0
        self._asked: bytes = _BAD
        # By listener, scheme, pool and backend: what is said of them.
        self._places: Final[dict[tuple[str, bytes, str, str], bytes]] = {}

    def line(self, record: Record) -> bytes:
        """See Form."""
        # As of HAProxy's `set-src`: the port of somebody else is not this client's.
        port: i64 = record.peer_port if record.client == record.peer else 0
        at: i64 = millis(self._moments.began(record))
        standing, last = self._standing, record.last
        at_backend: i64 = 0
        retries = b"0"
        if last is not None:
            at_backend = last.lease.backend.in_flight
            if last.before is not None:
                retries = _retries(last)
        in_pool: i64 = standing.requests_of(record.pool) if record.pool else 0
        if record.session:
            times = _times_of_session(record)
            ended = f" {termination(record)} ".encode("ascii")
            request = b"\n"
        else:
            times = b"%b%b " % (_times(record), number(record.status) if record.status else b"-1")
            ended = _PLAIN if record.ended_by is _OK else f" - - {termination(record)}-- ".encode("ascii")
            request = self._request(record)
        return b"%b:%b%b%b%b%b%b%b%b/%b/%b/%b/%b 0/%b%b" % (
            self._privacy.address(record.client).encode("ascii", "backslashreplace"),
            number(port),
            self._stamps.at(at // 1000),
            THREE[at % 1000],
            self._where(record),
            times,
            number(record.response_bytes),
            ended,
            number(standing.clients()),
            number(standing.clients_of(record.listener)),
            number(in_pool),
            number(at_backend),
            retries,
            number(record.queued_behind),
            request,
        )

    def _where(self, record: Record) -> bytes:
        """Listener, pool and backend, with what stands around them."""
        last = record.last
        key = record.listener, record.scheme, record.pool, _NO_BACKEND if last is None else last.lease.backend.name
        said = self._places.get(key)
        if said is None:
            if len(self._places) >= _MOST_KEPT:
                self._places.clear()
            listener = record.listener + ("~" if record.scheme == b"https" else "")
            told = f"] {listener} {record.pool or listener}/{key[3]} "
            said = self._places[key] = told.encode("ascii", "backslashreplace")
        return said

    def _request(self, record: Record) -> bytes:
        """The request line in quotes, and the end of the line."""
        version, method, target = record.version, record.method, record.target
        if not version:
            return _BAD
        if target != self._target or method != self._method or version != self._version:
            request = hashed(request_line(record, self._privacy.uri(target)))
            self._asked = f' "{request}"\n'.encode("ascii")
            self._target, self._method, self._version = target, method, version
        return self._asked


def _stamp(second: int) -> str:
    return f" [{day_and_time(second)}."


def _retries(last: Attempt) -> bytes:
    """How often it was tried again; with a plus where another backend was asked."""
    count, moved, before = 0, False, last.before
    while before is not None:
        count += 1
        moved |= before.lease.backend is not last.lease.backend
        before = before.before
    return b"+%d" % count if moved else b"%d" % count


def _times(record: Record) -> bytes:
    """Milliseconds for a body that was gathered, in the queue, to connect, for the answer's head, and all in all; -1 for what never was. A space
    behind them.
    """
    began, connected_at, head_at = record.began, record.connected_at, record.head_at
    took = number(millis(record.ended_at - began))
    if not record.version:
        return b"-1/-1/-1/-1/%b " % took
    gathered, queued = number(millis(record.gathered_s)), number(millis(record.queued_s))
    if record.last is None:
        if not record.queued_s and not (record.pool and record.local_reply is None):
            queued = b"-1"
        return b"%b/%b/-1/-1/%b " % (gathered, queued, took)
    if connected_at == NEVER:
        return b"%b/%b/-1/-1/%b " % (gathered, queued, took)
    connect = number(millis(connected_at - began - record.gathered_s - record.queued_s))
    answer = b"-1" if head_at == NEVER else number(millis(head_at - connected_at))
    return b"%b/%b/%b/%b/%b " % (gathered, queued, connect, answer, took)


def _times_of_session(record: Record) -> bytes:
    """Milliseconds in the queue, to connect, and all in all; -1 for what never was. A space behind them."""
    began, connected_at = record.began, record.connected_at
    took = number(millis(record.ended_at - began))
    queued = number(millis(record.queued_s)) if record.last is not None or record.queued_s else b"-1"
    connect = b"-1" if connected_at == NEVER else number(millis(connected_at - began - record.queued_s))
    return b"%b/%b/%b " % (queued, connect, took)
