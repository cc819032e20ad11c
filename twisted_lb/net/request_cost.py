"""Costs of requests: how much work each is, for policies that compare what is in flight by cost."""

from typing import Final

from twisted_lb.core.ask import ANY, MOST_COST, Ask
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.wire.request import RequestHead

# So many bytes of a body are as much work as a request without any.
BYTES_EACH: Final = 4096
# A longer number is more than the most, whatever it is.
_DIGITS: Final = len(str(MOST_COST))


class RequestCost:
    """The cost of a route's requests: a number; that of the bytes of their bodies, as far as they are announced; or what a header
    field says (its name in lower case), 1 where it says no number.
    """

    __slots__ = ("_always", "_field")

    def __init__(self, number: int = 1, *, by_bytes: bool = False, field: bytes = b"") -> None:
        self._field: Final = RequestKey(RateKey.HEADER, field) if field else None
        self._always: Final = None if field or by_bytes else ANY if number == 1 else Ask(cost=number)

    def ask(self, head: RequestHead, lines: bytes) -> Ask:
        """What a request with this head, and these field lines, asks of a policy."""
        always = self._always
        if always is not None:
            return always
        cost = 1 + max(head.fields.framing, 0) // BYTES_EACH if self._field is None else self._said(head, lines)
        return ANY if cost == 1 else Ask(cost=min(cost, MOST_COST))

    def _said(self, head: RequestHead, lines: bytes) -> int:
        field = self._field
        value = None if field is None else field.value(head.target, lines)
        if value is None or not (value.isascii() and value.isdigit()):
            return 1
        digits = value.lstrip(b"0")
        return MOST_COST if len(digits) > _DIGITS else max(int(digits or b"0"), 1)
