"""HAProxy's line for HTTP (`option httplog`), byte for byte, so that `halog` and others read it."""

from typing import Final

from twisted_lb.access_log.around import Around, request_line
from twisted_lb.access_log.escapes import hashed
from twisted_lb.access_log.moments import Stamps, day_and_time
from twisted_lb.access_log.termination import termination
from twisted_lb.core.never import NEVER
from twisted_lb.core.record import Record


class HaproxyForm:
    """`%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %{+Q}r`.

    No captured fields (`%hr %hs`) and no cookies are there: HAProxy writes nothing for the former, `-` for the latter.
    """

    def __init__(self, around: Around) -> None:
        self._around: Final = around
        self._stamps: Final = Stamps(day_and_time)

    def __call__(self, record: Record) -> bytes:
        """The line of a request."""
        around = self._around
        # As of HAProxy's `set-src`: the port of somebody else is not this client's.
        port = record.peer_port if record.client == record.peer else 0
        second, millis = divmod(round(around.moments.began(record) * 1000), 1000)
        listener = record.listener + ("~" if record.scheme == b"https" else "")
        request = hashed(request_line(record, around.privacy.uri(record.target))) if record.version else "<BADREQ>"
        return (
            f"{around.privacy.address(record.client)}:{port} [{self._stamps.at(second)}.{millis:03}] "
            f"{listener} {record.pool or listener}/{record.backend_name or '<NOSRV>'} {_times(record)} "
            f"{record.status or -1} {record.response_bytes} - - {termination(record)}-- {self._numbers(record)} "
            f'0/{record.queued_behind} "{request}"\n'
        ).encode("ascii", "backslashreplace")

    def _numbers(self, record: Record) -> str:
        """Connections to the process and to the listener, requests in the pool and at the backend, retries."""
        standing, attempts = self._around.standing, record.attempts
        at_backend, retries = 0, "0"
        if attempts:
            last = attempts[-1].lease.backend
            at_backend = last.in_flight
            if len(attempts) > 1:
                # A plus: another backend was asked.
                moved = any(one.lease.backend is not last for one in attempts)
                retries = f"{'+' if moved else ''}{len(attempts) - 1}"
        in_pool = standing.requests_of(record.pool) if record.pool else 0
        return f"{standing.clients}/{standing.clients_of(record.listener)}/{in_pool}/{at_backend}/{retries}"


def _times(record: Record) -> str:
    """Milliseconds for the head, in the queue, to connect, for the answer's head, and all in all; -1 for what never was."""
    took = round(record.took_s * 1000)
    if not record.version:
        return f"-1/-1/-1/-1/{took}"
    began = record.began
    if not record.attempts:
        waited = (
            round(record.queued_s * 1000) if record.queued_s or (record.pool and record.local_reply is None) else -1
        )
        return f"0/{waited}/-1/-1/{took}"
    queued, connected_at, head_at = record.queued_s, record.connected_at, record.head_at
    if connected_at == NEVER:
        return f"0/{round(queued * 1000)}/-1/-1/{took}"
    connect = round((connected_at - began - queued) * 1000)
    answer = -1 if head_at == NEVER else round((head_at - connected_at) * 1000)
    return f"0/{round(queued * 1000)}/{connect}/{answer}/{took}"
