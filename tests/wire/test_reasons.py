"""What the log says of a message whose end is not beyond doubt: which of the causes it was, alike for both directions."""

import pytest

from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import BadMessage, Limits
from twisted_lb.wire.request import parse_request
from twisted_lb.wire.response import parse_response

LIMITS = Limits()
TE = b"Transfer-Encoding: "
LENGTH = b"Content-Length: "

FRAMING = [
    ([LENGTH + b"5", LENGTH + b"6"], "Content-Length twice, different"),
    ([LENGTH + b"5", LENGTH + b"05"], "Content-Length twice, the same"),
    ([LENGTH + b"5, 5"], "Content-Length is a list"),
    ([LENGTH], "Content-Length is empty"),
    ([LENGTH + b"-5"], "Content-Length is not a plain number"),
    ([LENGTH + b"5", LENGTH + b"0x5"], "Content-Length is not a plain number"),
    ([LENGTH + b"9" * 19], "Content-Length is too large"),
    ([LENGTH + b"5", TE + b"chunked"], "both Content-Length and Transfer-Encoding"),
    ([TE + b"chunked", TE + b"chunked"], "chunked twice"),
    ([TE + b"chunked, chunked"], "chunked twice"),
    ([TE + b"chunked,"], "an empty transfer coding beside chunked"),
    ([TE, TE + b"chunked"], "an empty transfer coding beside chunked"),
    ([TE], "the last transfer coding is not chunked"),
    ([TE + b"identity"], "the last transfer coding is not chunked"),
    ([TE + b"chunked, gzip"], "the last transfer coding is not chunked"),
    ([TE + b"gzip, chunked"], "unknown transfer coding"),
    ([TE[:-2] + b" : chunked"], "space before the colon of a field"),
    ([LENGTH + b"5", b" " + TE + b"chunked"], "folded field line"),
    ([b": 5"], "illegal field name"),
]
ids = [b" | ".join(lines).decode() for lines, _ in FRAMING]


@pytest.mark.parametrize(("lines", "reason"), FRAMING, ids=ids)
def test_the_reason_names_the_cause_alike_for_requests_and_responses(lines, reason):
    block = b"\r\n".join(lines)
    with pytest.raises(BadMessage) as of_request:
        parse_request(b"POST / HTTP/1.1\r\nHost: x\r\n" + block, LIMITS)
    with pytest.raises(BadMessage) as of_response:
        parse_response(b"HTTP/1.1 200 OK\r\n" + block, LIMITS)
    assert (of_request.value.reason, of_response.value.reason) == (reason, reason)
    assert of_request.value.status == (501 if reason == "unknown transfer coding" else 400)


def test_chunked_has_no_place_in_version_1_0():
    with pytest.raises(BadMessage, match=r"^Transfer-Encoding on HTTP/1\.0$"):
        parse_request(b"POST / HTTP/1.0\r\n" + TE + b"chunked", LIMITS)
    with pytest.raises(BadMessage, match=r"^Transfer-Encoding on HTTP/1\.0$"):
        parse_response(b"HTTP/1.0 200 OK\r\n" + TE + b"chunked", LIMITS)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"x\r\n", "illegal chunk size"),
        (b";a\r\n", "illegal chunk size"),
        (b"5;\0", "illegal chunk extension"),
        (b"5;\0\r\n", "illegal chunk extension"),
        (b"5\r\nhello!", "chunk longer than its size"),
        (b"0\r\nHost: x\r\n\r\n", "Host in the trailers"),
        (b"0\r\nContent-Length: 5\r\n\r\n", "Content-Length in the trailers"),
        (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding in the trailers"),
    ],
)
def test_the_reason_names_what_is_wrong_with_a_chunked_body(body, reason):
    with pytest.raises(BadMessage) as bad:
        ChunkDecoder(LIMITS).feed(body)
    assert bad.value.reason == reason
