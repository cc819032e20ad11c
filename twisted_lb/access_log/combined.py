"""The combined form of Apache and NGINX, with the duration behind it."""

from typing import Final

from twisted_lb.access_log.around import Around, Form, request_line
from twisted_lb.access_log.digits import micros, number
from twisted_lb.access_log.escapes import in_quotes
from twisted_lb.access_log.heads import Head, Heads
from twisted_lb.access_log.moments import Moments, Stamps, day_and_time_with_zone
from twisted_lb.access_log.privacy import Privacy
from twisted_lb.core.record import Record


class CombinedForm(Form):
    """`%h - - %t "%r" %>s %B "%{Referer}i" "%{User-Agent}i" %D` of Apache: the duration is in microseconds."""

    def __init__(self, around: Around) -> None:
        self._moments: Final[Moments] = around.moments
        self._privacy: Final[Privacy] = around.privacy
        self._stamps: Final = Stamps(_stamp)
        self._heads: Final = Heads()

    def line(self, record: Record) -> bytes:
        """See Form."""
        head = self._heads.of(record.fields)
        if not head.repeats(record):
            head.keep(record, self._asked(record))
        words = head.words
        if words is None:
            words = head.words = self._words(head)
        return b"%b%b%b%b %b%b%b\n" % (
            self._privacy.address(record.client).encode("ascii", "backslashreplace"),
            self._stamps.at(int(self._moments.began(record))),
            head.asked,
            number(record.told_status) if record.told_status else b"-",  # as Apache, which has this form
            number(record.response_bytes),
            words,
            number(micros(record.ended_at - record.began)),
        )

    def _asked(self, record: Record) -> bytes:
        request = in_quotes(request_line(record, self._privacy.uri(record.target)))
        return f'{request or "-"}" '.encode("ascii")

    def _words(self, head: Head) -> bytes:
        referer = in_quotes(self._privacy.uri(head.referer))
        return f' "{referer or "-"}" "{in_quotes(head.user_agent) or "-"}" '.encode("ascii")


def _stamp(second: int) -> str:
    return f' - - [{day_and_time_with_zone(second)}] "'
