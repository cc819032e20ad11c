"""JSON lines, with the names of OpenTelemetry's conventions and ECS, and `lb.` for what only a balancer knows."""

from json.encoder import encode_basestring_ascii
from typing import Final

from twisted_lb.access_log.around import Around
from twisted_lb.access_log.escapes import as_json
from twisted_lb.access_log.heads import Head
from twisted_lb.access_log.moments import Stamps, iso
from twisted_lb.core.attempts import Attempt
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record

# So many are kept: combinations of listener, route, pool and backend, and of method, version, scheme and host.
_MOST_KEPT: Final = 1024


class JsonForm:
    """An object of flat, dotted keys; what is not known is left out."""

    def __init__(self, around: Around) -> None:
        self._around: Final = around
        self._stamps: Final = Stamps(iso)
        # Where requests go, and how they come, repeats: what is said of it is kept, bounded.
        self._named: Final[dict[tuple[str, str, str, str], str]] = {}
        self._asked: Final[dict[tuple[bytes, int, bytes, bytes], str]] = {}

    def __call__(self, record: Record) -> bytes:
        """The line of a request."""
        around = self._around
        second, micros = divmod(round(around.moments.began(record) * 1_000_000), 1_000_000)
        path, mark, query = record.target.partition(b"?")
        line = (
            f'{{"@timestamp":"{self._stamps.at(second)}.{micros:06}Z",'
            f'"client.address":{_text(around.privacy.address(record.client))},'
            f'"url.path":{as_json(path)}'
        )
        if mark and around.privacy.query:
            line += f',"url.query":{as_json(query)}'
        if record.status:
            line += f',"http.response.status_code":{record.status}'
        line += (
            f',"http.request.body.size":{record.request_bytes},"http.response.body.size":{record.response_bytes}'
            f"{self._times(record)}{self._places(record)}{self._origin(record)}"
        )
        if not record.plain or record.status >= 500:
            line += self._failure(record)
        return f"{line}}}\n".encode("ascii", "backslashreplace")

    def _times(self, record: Record) -> str:
        """How long it took, in seconds."""
        began = record.began
        said = f',"lb.times.total":{record.took_s:.6f}'
        if record.queued_s:
            said += f',"lb.times.queue":{record.queued_s:.6f}'
        if record.connected_at != NEVER:
            said += f',"lb.times.connect":{record.connected_at - began - record.queued_s:.6f}'
        if record.head_at != NEVER:
            said += f',"lb.times.head":{record.head_at - began:.6f}'
        if record.first_byte_at != NEVER:
            said += f',"lb.times.first_byte":{record.first_byte_at - began:.6f}'
        return said

    def _places(self, record: Record) -> str:
        """Where it came to, and where it went."""
        backend = record.attempts[-1].lease.backend.name if record.attempts else ""
        names = record.listener, record.route, record.pool, backend
        said = self._named.get(names)
        if said is None:
            if len(self._named) >= _MOST_KEPT:
                self._named.clear()
            keys = "lb.listener", "http.route", "lb.pool", "lb.backend"
            said = "".join(f',"{key}":{_text(name)}' for key, name in zip(keys, names, strict=True) if name)
            self._named[names] = said
        if backend:
            said = f'{said},"lb.attempt_count":{len(record.attempts)}'
        if record.ended_by is not None:
            said = f'{said},"lb.outcome":"{record.ended_by.name}"'
        return said

    def _origin(self, record: Record) -> str:
        """Who asked, and for what host."""
        said = ""
        if record.peer_port and record.client == record.peer:
            said = f',"client.port":{record.peer_port}'
        elif record.peer != record.client:
            said = f',"network.peer.address":{_text(self._around.privacy.address(record.peer))}'
        key = record.method, record.version, record.scheme, record.host
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= _MOST_KEPT:
                self._asked.clear()
            asked = self._asked[key] = _asked(record)
        said += asked
        if record.request_id:
            said += f',"http.request.id":{as_json(record.request_id)}'
        head = self._around.heads.of(record.fields)
        words = head.json
        if words is None:
            words = head.json = self._words(head)
        if record.trace_id:
            said += f',"trace_id":{as_json(record.trace_id)}'
        return said + words

    def _words(self, head: Head) -> str:
        said = ""
        if head.trace_id:
            said = f',"trace_id":{as_json(head.trace_id)}'
        if head.user_agent:
            said += f',"user_agent.original":{as_json(head.user_agent)}'
        if head.referer:
            said += f',"http.request.referrer":{as_json(self._around.privacy.uri(head.referer))}'
        return said

    def _failure(self, record: Record) -> str:
        """What did not go well: with it all, and at each backend that was asked."""
        kind = str(record.status) if record.plain or record.ended_by is None else record.ended_by.name
        said = f',"error.type":"{kind}"' if _failed(record) else ""
        if record.detail:
            said += f',"lb.why":{_text(record.detail)}'
        if record.attempts and not record.plain:
            tried = ",".join(_attempt(one, record) for one in record.attempts)
            said += f',"lb.attempts":[{tried}]'
        return said


def _asked(record: Record) -> str:
    """By which method, how and for what host a request came."""
    said = f',"http.request.method":{as_json(record.method)}'
    if record.version:
        said += f',"network.protocol.version":"{"1.1" if record.version == 11 else "1.0"}"'
    if record.scheme:
        said += f',"url.scheme":{as_json(record.scheme)}'
    if record.host:
        said += f',"server.address":{as_json(record.host)}'
    return said


def _failed(record: Record) -> bool:
    """Whether it is an error: a retry that went well is none."""
    return record.status >= 500 or not (record.plain or record.ended_by is Outcome.OK)


def _attempt(attempt: Attempt, record: Record) -> str:
    """One attempt, its times in seconds since the request began."""
    began = record.began
    said = f'{{"backend":{_text(attempt.lease.backend.name)},"began":{attempt.began - began:.6f}'
    if attempt.connected_at != NEVER:
        said += f',"connected":{attempt.connected_at - began:.6f}'
    ended = record.ended_at if attempt.ended_at == NEVER else attempt.ended_at
    said += f',"ended":{ended - began:.6f}'
    if attempt.outcome is not None:
        said += f',"outcome":"{attempt.outcome.name}"'
    if attempt.detail:
        said += f',"why":{_text(attempt.detail)}'
    return said + "}"


def _text(text: str) -> str:
    """A string of JSON that no client has said."""
    return encode_basestring_ascii(text)
