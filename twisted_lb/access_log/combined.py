"""The combined form of Apache and NGINX, with the duration behind it."""

from typing import Final

from twisted_lb.access_log.around import Around, request_line, told_status
from twisted_lb.access_log.escapes import in_quotes
from twisted_lb.access_log.moments import Stamps, day_and_time_with_zone
from twisted_lb.core.record import Record


class CombinedForm:
    """`%h - - %t "%r" %>s %B "%{Referer}i" "%{User-Agent}i" %D` of Apache: the duration is in microseconds."""

    def __init__(self, around: Around) -> None:
        self._around: Final = around
        self._stamps: Final = Stamps(day_and_time_with_zone)

    def __call__(self, record: Record) -> bytes:
        """The line of a request."""
        around = self._around
        privacy, head = around.privacy, around.heads.of(record.fields)
        when = self._stamps.at(int(around.moments.began(record)))
        request = in_quotes(request_line(record, privacy.uri(record.target))) or "-"
        referer = in_quotes(privacy.uri(head.referer)) or "-"
        return (
            f'{privacy.address(record.client)} - - [{when}] "{request}" {told_status(record)} {record.response_bytes} '
            f'"{referer}" "{in_quotes(head.user_agent) or "-"}" {round(record.took_s * 1_000_000)}\n'
        ).encode("ascii", "backslashreplace")
