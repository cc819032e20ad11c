"""Templates: lines in a form of one's own, `{client} {method} {path} {status}`."""

import re
from collections.abc import Callable
from typing import Final

from twisted_lb.access_log.around import Around, Form
from twisted_lb.access_log.escapes import as_word, in_quotes
from twisted_lb.access_log.moments import Stamps, iso
from twisted_lb.access_log.termination import termination
from twisted_lb.core.agreed import Agreed, ToldByProxy
from twisted_lb.core.never import NEVER
from twisted_lb.core.record import Record, version_name

Value = Callable[[Around, Record], object]

_MICROS: Final = 1_000_000
# A placeholder, or a brace that stands for itself.
_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def _port(_: Around, record: Record) -> object:
    return record.peer_port if record.client == record.peer else 0


def _tls(value: Callable[[Agreed], str]) -> Value:
    """What TLS has agreed on; nothing of a client that came without."""
    return lambda _, record: "" if record.agreed is None or not record.agreed.version else value(record.agreed)


def _proxy(value: Callable[[ToldByProxy], str]) -> Value:
    """What a balancer in front has told; nothing of a client of whom none has."""
    return lambda _, record: "" if record.agreed is None or record.agreed.told is None else value(record.agreed.told)


def _verified(told: ToldByProxy) -> str:
    return "" if not told.client_cn else "yes" if told.client_verified else "no"


def _last_address(_: Around, record: Record) -> object:
    return "" if record.last is None else str(record.last.lease.backend.address)


def _since(moment: float, record: Record, before: float = 0.0) -> object:
    return "" if moment == NEVER else f"{(moment - record.began - before) * 1000:.3f}"


def _trace(around: Around, record: Record) -> object:
    return record.trace_id or around.heads.of(record.fields).trace_id


def _query(around: Around, record: Record) -> object:
    return record.target.partition(b"?")[2] if around.privacy.query else b""


def _version(_: Around, record: Record) -> object:
    return version_name(record.version) if record.version else ""


# What stands for each placeholder but the time: bytes of a client, or words and numbers of ours. Nothing becomes a `-`.
VALUES: Final[dict[str, Value]] = {
    "client": lambda around, record: around.privacy.address(record.client),
    "client_port": _port,
    "peer": lambda around, record: around.privacy.address(record.peer),
    "listener": lambda _, record: record.listener,
    "scheme": lambda _, record: record.scheme,
    "tls_version": _tls(lambda agreed: agreed.version),
    "tls_cipher": _tls(lambda agreed: agreed.cipher),
    "tls_name": _tls(lambda agreed: agreed.server_name),
    "tls_resumed": _tls(lambda agreed: "yes" if agreed.resumed else "no"),
    "client_subject": _tls(lambda agreed: agreed.subject),
    "client_fingerprint": _tls(lambda agreed: agreed.fingerprint),
    "proxy_unique_id": _proxy(lambda told: told.unique_id),
    "proxy_authority": _proxy(lambda told: told.authority),
    "proxy_alpn": _proxy(lambda told: told.alpn),
    "proxy_tls_version": _proxy(lambda told: told.tls_version),
    "proxy_tls_cipher": _proxy(lambda told: told.tls_cipher),
    "proxy_client_cn": _proxy(lambda told: told.client_cn),
    "proxy_client_verified": _proxy(_verified),
    "proxy_aws_vpce_id": _proxy(lambda told: told.aws_vpce_id),
    "proxy_azure_pel_id": _proxy(lambda told: told.azure_pel_id),
    "proxy_gcp_conn_id": _proxy(lambda told: told.gcp_conn_id),
    "version": _version,
    "host": lambda _, record: record.host,
    "method": lambda _, record: record.method,
    "target": lambda around, record: around.privacy.uri(record.target),
    "path": lambda _, record: record.target.partition(b"?")[0],
    "query": _query,
    "referer": lambda around, record: around.privacy.uri(around.heads.of(record.fields).referer),
    "user_agent": lambda around, record: around.heads.of(record.fields).user_agent,
    "request_id": lambda _, record: record.request_id,
    "trace_id": _trace,
    "route": lambda _, record: record.route,
    "pool": lambda _, record: record.pool,
    "backend": lambda _, record: record.backend_name,
    "backend_address": _last_address,
    "status": lambda _, record: record.told_status or "",
    "grpc_status": lambda _, record: "" if record.grpc_status < 0 else record.grpc_status,
    "outcome": lambda _, record: "" if record.ended_by is None else record.ended_by.name,
    "state": lambda _, record: f"{termination(record)}--",
    "detail": lambda _, record: record.detail,
    "attempts": lambda _, record: len(record.attempts),
    "retries": lambda _, record: max(0, len(record.attempts) - 1),
    "request_bytes": lambda _, record: record.request_bytes,
    "response_bytes": lambda _, record: record.response_bytes,
    "took_s": lambda _, record: f"{record.took_s:.6f}",
    "took_ms": lambda _, record: f"{record.took_s * 1000:.3f}",
    "took_us": lambda _, record: round(record.took_s * 1_000_000),
    "body_ms": lambda _, record: f"{record.gathered_s * 1000:.3f}",
    "queue_ms": lambda _, record: f"{record.queued_s * 1000:.3f}",
    "connect_ms": lambda _, record: _since(record.connected_at, record, record.gathered_s + record.queued_s),
    "first_byte_ms": lambda _, record: _since(record.first_byte_at, record),
}


class TemplateForm(Form):
    """A line by a template, which the configuration has checked. What stands in double quotes there may have spaces; elsewhere
    they are escaped, so that a line has as many words as its template.
    """

    def __init__(self, template: str, around: Around) -> None:
        self._around: Final = around
        self._stamps: Final = Stamps(iso)
        # Literal text, and the value behind it, if there is one, and whether that stands in quotes.
        self._parts: Final[list[tuple[str, Value | None, bool]]] = []
        literal, quoted, at = "", False, 0
        for part in _PART.finditer(template):
            text = template[at : part.start()]
            at = part.end()
            literal += text
            quoted ^= text.count('"') % 2 == 1
            if part[1] is None:
                literal += part[0][0]
                continue
            self._parts.append((literal, self._time if part[1] == "time" else VALUES[part[1]], quoted))
            literal = ""
        self._parts.append((literal + template[at:] + "\n", None, False))

    def _time(self, around: Around, record: Record) -> object:
        """When it began, as RFC 3339 has it, in UTC."""
        second, micros = divmod(round(around.moments.began(record) * _MICROS), _MICROS)
        return b"%b.%06dZ" % (self._stamps.at(second), micros)

    def line(self, record: Record) -> bytes:
        """See Form."""
        around = self._around
        words: list[str] = []
        for literal, value, quoted in self._parts:
            words.append(literal)
            if value is not None:
                found = value(around, record)
                data = found if isinstance(found, bytes) else str(found).encode("utf-8", "backslashreplace")
                words.append((in_quotes(data) or "-") if quoted else as_word(data))
        return "".join(words).encode("utf-8", "backslashreplace")
