"""JSON lines, with the names of OpenTelemetry's conventions and ECS, and `lb.` for what only a balancer knows."""

from json.encoder import encode_basestring_ascii
from typing import Final

from mypy_extensions import i64

from twisted_lb.access_log.around import Around, Form
from twisted_lb.access_log.digits import THREE, micros, number, seconds_of, whole_of
from twisted_lb.access_log.escapes import as_json
from twisted_lb.access_log.heads import Head, Heads
from twisted_lb.access_log.moments import Moments, Stamps, iso
from twisted_lb.access_log.privacy import Privacy
from twisted_lb.core.agreed import Agreed, ToldByProxy
from twisted_lb.core.attempts import Attempt
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record, version_name

_OK: Final = Outcome.OK
# So many are kept, of each kind.
_MOST_KEPT: Final = 1024
_MOST_CONNECTIONS: Final = 4096


class JsonForm(Form):
    """An object of flat, dotted keys; what is not known is left out.

    Who asks, where requests go and how they come repeats: what is said of it is kept, bounded.
    """

    def __init__(self, around: Around) -> None:
        self._moments: Final[Moments] = around.moments
        self._privacy: Final[Privacy] = around.privacy
        self._heads: Final = Heads()
        self._stamps: Final = Stamps(_stamp)
        self._connections: Final[dict[int, Connection]] = {}  # by the port that they come from
        self._statuses: Final[list[bytes]] = [_status(status) for status in range(1000)]
        # By listener, route and pool, what is said of them and a backend.
        self._places: Final[dict[tuple[str, str, str], Places]] = {}
        self._there: Places = Places("", "", "")  # those of the last request: as a rule there are few
        self._hows: Final[dict[tuple[bytes, int, bytes, bytes], str]] = {}

    def line(self, record: Record) -> bytes:
        """See Form."""
        at: i64 = micros(self._moments.began(record))
        rest: i64 = at % 1_000_000
        head = self._heads.of(record.fields)
        if not head.repeats(record):
            head.keep(record, self._asked(record, head))
        status = record.status
        return b"%b%b%b%b%b%b%b%b%b%b%b" % (
            self._stamps.at(at // 1_000_000),
            THREE[rest // 1000],
            THREE[rest % 1000],
            self._client(record),
            head.asked,
            self._statuses[status] if 0 <= status < 1000 else _status(status),
            number(record.response_bytes),
            _times(record),
            _rare(record),
            self._where(record),
            b"}\n" if status < 500 and record.plain else self._failure(record),
        )

    def _client(self, record: Record) -> bytes:
        """Whose request it is."""
        client, peer, port = record.client, record.peer, record.peer_port
        known = self._connections.get(port)
        agreed = record.agreed
        if known is not None and known.client is client and known.peer is peer and known.agreed is agreed:
            return known.said
        said = f'Z","client.address":{_text(self._privacy.address(client))}'
        if client != peer:
            said += f',"network.peer.address":{_text(self._privacy.address(peer))}'
        elif port:
            said += f',"client.port":{port}'
        if agreed is not None:
            said += _tls(agreed) if agreed.version else ""
            said += _told(agreed.told) if agreed.told is not None else ""
        if len(self._connections) >= _MOST_CONNECTIONS:
            self._connections.clear()
        self._connections[port] = known = Connection(client, peer, agreed, said.encode("ascii"))
        return known.said

    def _asked(self, record: Record, head: Head) -> bytes:
        """For what a request asks, by which method, how it came, and what its header block says."""
        said, mark, query = "", b"", b""
        if record.target and not record.session:  # of a session it is the name that its client has said, its host
            path, mark, query = record.target.partition(b"?")
            said = f',"url.path":{as_json(path)}'
        if mark and self._privacy.query:
            said += f',"url.query":{as_json(query)}'
        key = record.method, record.version, record.scheme, record.host
        how = self._hows.get(key)
        if how is None:
            if len(self._hows) >= _MOST_KEPT:
                self._hows.clear()
            how = self._hows[key] = _how(record)
        return f"{said}{how}{self._words(head)}".encode("ascii")

    def _words(self, head: Head) -> str:
        said = ""
        if head.trace_id:
            said = f',"trace_id":{as_json(head.trace_id)}'
        if head.user_agent:
            said += f',"user_agent.original":{as_json(head.user_agent)}'
        if head.referer:
            said += f',"http.request.referrer":{as_json(self._privacy.uri(head.referer))}'
        return said

    def _where(self, record: Record) -> bytes:
        """Where it came to, where it went, and what came of it."""
        there = self._there
        if not there.are_of(record):
            key = record.listener, record.route, record.pool
            known = self._places.get(key)
            if known is None:
                if len(self._places) >= _MOST_KEPT:
                    self._places.clear()
                known = self._places[key] = Places(*key)
            there = self._there = known
        last, ended_by = record.last, record.ended_by
        if last is not None and last.before is None and ended_by is _OK:
            return there.well_at(last.lease.backend.name)
        said = there.at("" if last is None else last.lease.backend.name)
        if last is not None:
            said += f',"lb.attempt_count":{len(record.attempts)}'
        if ended_by is not None:
            said += f',"lb.outcome":"{ended_by.name}"'
        return said.encode("ascii")

    def _failure(self, record: Record) -> bytes:
        """What did not go well: with it all, and at each backend that was asked."""
        plain, ended_by = record.plain, record.ended_by
        kind = str(record.status) if plain or ended_by is None else ended_by.name
        said = f',"error.type":"{kind}"' if record.status >= 500 or not (plain or ended_by is _OK) else ""
        if record.detail:
            said += f',"lb.why":{_text(record.detail)}'
        if record.last is not None and not plain:
            tried = ",".join([_attempt(one, record) for one in record.attempts])
            said += f',"lb.attempts":[{tried}]'
        return (said + "}\n").encode("ascii")


class Connection:
    """What is said of a connection of a client, whose requests have these very texts."""

    __slots__ = ("agreed", "client", "peer", "said")

    def __init__(self, client: str, peer: str, agreed: Agreed | None, said: bytes) -> None:
        self.client: Final = client
        self.peer: Final = peer
        self.agreed: Final = agreed
        self.said: Final = said


class Places:
    """What is said of a listener, a route and a pool, and of each of its backends; bounded."""

    __slots__ = ("_listener", "_pool", "_route", "_well")

    def __init__(self, listener: str, route: str, pool: str) -> None:
        self._listener: Final = listener
        self._route: Final = route
        self._pool: Final = pool
        self._well: Final[dict[str, bytes]] = {}

    def are_of(self, record: Record) -> bool:
        """Whether they are those of a request, as far as a quick look tells."""
        return record.listener is self._listener and record.route is self._route and record.pool is self._pool

    def at(self, backend: str) -> str:
        """What is said of them and of this backend, "" for none."""
        keys = "lb.listener", "http.route", "lb.pool", "lb.backend"
        names = self._listener, self._route, self._pool, backend
        return "".join([f',"{key}":{_text(name)}' for key, name in zip(keys, names, strict=True) if name])

    def well_at(self, backend: str) -> bytes:
        """The same of a request that went well at once."""
        said = self._well.get(backend)
        if said is None:
            if len(self._well) >= _MOST_KEPT:
                self._well.clear()
            said = f'{self.at(backend)},"lb.attempt_count":1,"lb.outcome":"OK"'.encode("ascii")
            self._well[backend] = said
        return said


def _tls(agreed: Agreed) -> str:
    """How the connection is secured, and what the certificate of its client says."""
    said = f',"tls.protocol.version":{_text(agreed.version.removeprefix("TLSv"))},"tls.cipher":{_text(agreed.cipher)}'
    said += f',"tls.resumed":{"true" if agreed.resumed else "false"}'
    names = "tls.client.server_name", "tls.client.subject", "tls.client.hash.sha256"
    values = agreed.server_name, agreed.subject, agreed.fingerprint.upper()
    return said + "".join([f',"{name}":{_text(value)}' for name, value in zip(names, values, strict=True) if value])


def _told(told: ToldByProxy) -> str:
    """What a balancer in front has told of the connection."""
    names = (
        "unique_id",
        "authority",
        "alpn",
        "tls.version",
        "tls.cipher",
        "client.cn",
        "aws_vpce_id",
        "azure_pel_id",
        "gcp_conn_id",
    )
    values = (
        told.unique_id, told.authority, told.alpn, told.tls_version.removeprefix("TLSv"), told.tls_cipher, told.client_cn,
        told.aws_vpce_id, told.azure_pel_id, told.gcp_conn_id,
    )  # fmt: skip
    said = "".join([f',"lb.proxy.{name}":{_text(value)}' for name, value in zip(names, values, strict=True) if value])
    verified = "true" if told.client_verified else "false"
    return said + (f',"lb.proxy.client.verified":{verified}' if told.client_cn else "")


def _stamp(second: int) -> str:
    return f'{{"@timestamp":"{iso(second)}.'


def _status(status: int) -> bytes:
    told = b',"http.response.status_code":%d' % status if status else b""
    return told + b',"http.response.body.size":'


def _times(record: Record) -> bytes:
    """How long it took, in seconds."""
    began, head_at = record.began, record.head_at
    connect_s = record.connected_at - began
    if record.queued_s or record.gathered_s or max(head_at, connect_s) == NEVER:
        return _odd_times(record)
    total: i64 = micros(record.ended_at - began)
    total_rest: i64 = total % 1_000_000
    head: i64 = micros(head_at - began)
    head_rest: i64 = head % 1_000_000
    head_whole, head_ms, head_us = whole_of(head), THREE[head_rest // 1000], THREE[head_rest % 1000]
    if connect_s == 0.0 and record.first_byte_at == head_at:
        # As a rule: the connection was kept, and the body has come with its head.
        return b',"lb.times.total":%b%b%b,"lb.times.connect":0.000000,"lb.times.head":%b%b%b,"lb.times.first_byte":%b%b%b' % (
            whole_of(total), THREE[total_rest // 1000], THREE[total_rest % 1000],
            head_whole, head_ms, head_us, head_whole, head_ms, head_us,
        )  # fmt: skip
    return b',"lb.times.total":%b%b%b,"lb.times.connect":%b,"lb.times.head":%b%b%b%b' % (
        whole_of(total), THREE[total_rest // 1000], THREE[total_rest % 1000],
        seconds_of(connect_s), head_whole, head_ms, head_us, _first_byte(record),
    )  # fmt: skip


def _odd_times(record: Record) -> bytes:
    """The same of one that waited, or had no answer of a backend."""
    began = record.began
    said = b',"lb.times.total":' + seconds_of(record.ended_at - began)
    if record.gathered_s:
        said += b',"lb.times.body":' + seconds_of(record.gathered_s)
    if record.queued_s:
        said += b',"lb.times.queue":' + seconds_of(record.queued_s)
    if record.connected_at != NEVER:
        said += b',"lb.times.connect":' + seconds_of(record.connected_at - began - record.gathered_s - record.queued_s)
    if record.head_at != NEVER:
        said += b',"lb.times.head":' + seconds_of(record.head_at - began)
    return said + _first_byte(record)


def _first_byte(record: Record) -> bytes:
    at = record.first_byte_at
    return b"" if at == NEVER else b',"lb.times.first_byte":' + seconds_of(at - record.began)


def _rare(record: Record) -> bytes:
    """What most requests have not: a body, an id, a trace of our own."""
    if not (record.request_bytes or record.request_id or record.trace_id or record.grpc_status >= 0):
        return b',"http.request.body.size":0'
    said = f',"http.request.body.size":{record.request_bytes}'
    if record.request_id:
        said += f',"http.request.id":{as_json(record.request_id)}'
    if record.trace_id:
        said += f',"trace_id":{as_json(record.trace_id)}'
    if record.grpc_status >= 0:
        said += f',"rpc.grpc.status_code":{record.grpc_status}'
    return said.encode("ascii")


def _how(record: Record) -> str:
    """By which method, how and for what host a request came."""
    said = f',"http.request.method":{as_json(record.method)}'
    if record.version:
        said += f',"network.protocol.version":"{version_name(record.version)}"'
    if record.scheme:
        said += f',"url.scheme":{as_json(record.scheme)}'
    if record.host:
        said += f',"server.address":{as_json(record.host)}'
    return said


def _attempt(attempt: Attempt, record: Record) -> str:
    """One attempt, its times in seconds since the request began."""
    began = record.began
    said = f'{{"backend":{_text(attempt.lease.backend.name)},"began":{_seconds(attempt.began - began)}'
    if attempt.connected_at != NEVER:
        said += f',"connected":{_seconds(attempt.connected_at - began)}'
    ended = record.ended_at if attempt.ended_at == NEVER else attempt.ended_at
    said += f',"ended":{_seconds(ended - began)}'
    if attempt.outcome is not None:
        said += f',"outcome":"{attempt.outcome.name}"'
    if attempt.detail:
        said += f',"why":{_text(attempt.detail)}'
    return said + "}"


def _seconds(seconds: float) -> str:
    return seconds_of(seconds).decode("ascii")


def _text(text: str) -> str:
    """A string of JSON that no client has said."""
    return encode_basestring_ascii(text)
