"""The peek: how a request body begins, as far as it is here, for a pool whose policy goes by that."""

from typing import Final

from twisted_lb.core.prefix import ENCODED_PREFIX, NO_PREFIX, Peek, Prefix
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.net.replay import Replay
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.wire.request import RequestHead

_ENCODING: Final = RequestKey(RateKey.HEADER, b"content-encoding")


def peeked(peek: Peek, head: RequestHead, held: Replay | None, *, ended: bool) -> Prefix:
    """The prefix of a request by what is held of its body; `ended`: no more is to come. Of a body that is encoded nothing is said, nor
    of one that nobody holds.
    """
    framing = head.fields.framing
    if framing == 0 or held is None or held.dropped:
        return NO_PREFIX
    value = _ENCODING.value(b"", head.lines)
    if value is not None and value.strip().lower() not in (b"", b"identity"):
        return ENCODED_PREFIX
    # The last byte may be here before it is said that it was the last one.
    return peek.prefix(held.pieces, complete=ended or 0 < framing <= held.bytes)
