"""A coverage-guided fuzz target for heads and chunks; run by scripts/fuzz, not by the suite.

Laws: no exception but BadMessage; what is forwarded is exactly one message and means the same when read again, by us and
by h11; a chunked body is the same however it is split.
"""

import sys

import atheris

with atheris.instrument_imports(include=["twisted_lb"]):
    from twisted_lb.wire.chunked import ChunkDecoder
    from twisted_lb.wire.grammar import BadMessage, Limits
    from twisted_lb.wire.request import origin_form, parse_request
    from twisted_lb.wire.response import parse_response
    from twisted_lb.wire.rewrite import Client, upstream_tail, with_host

import h11

LIMITS = Limits()
CLIENT = Client(b"192.0.2.1", b"http", b"80")


def check_request(data: bytes) -> None:
    if b"\r\n\r\n" in data:
        data = data[: data.index(b"\r\n\r\n")]
    try:
        head = parse_request(data, LIMITS)
    except BadMessage:
        return
    tail = upstream_tail(head.fields, CLIENT)
    if not head.fields.has_host:
        tail = with_host(tail, b"backend:80")
    target = origin_form(head.target)
    written = head.method + b" " + target + tail
    assert written.count(b"\r\n\r\n") == 1 and written.endswith(b"\r\n\r\n"), written
    again = parse_request(written[:-4], LIMITS)
    assert (again.method, again.target, again.fields.framing) == (head.method, target, head.fields.framing), written
    assert not head.fields.has_host or again.fields.host == head.fields.host, written
    if head.fields.framing > 10_000_000:
        return
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reader.receive_data(written)
    event = reader.next_event()
    assert isinstance(event, h11.Request), written
    assert (event.method, event.target) == (head.method, target), written
    if head.fields.framing == 0:
        assert isinstance(reader.next_event(), h11.EndOfMessage), written
        assert reader.trailing_data == (b"", False), written


def check_response(data: bytes) -> None:
    try:
        head = parse_response(data, LIMITS)
    except BadMessage:
        return
    again = parse_response(head.wire[:-2], LIMITS)
    assert again.status == head.status
    assert again.lines == head.lines


def decoded(*pieces: bytes) -> object:
    decoder = ChunkDecoder(LIMITS)
    payload = rest = b""
    try:
        for piece in pieces:
            if decoder.done:
                rest += piece
            else:
                payload += decoder.feed(piece)
    except BadMessage:
        return "refused"
    return payload, decoder.done, decoder.trailers, decoder.rest + rest


def check_chunks(data: bytes) -> None:
    cut = data[0] if data else 0
    body = data[1:]
    if body:
        parts = [part for part in (body[:cut], body[cut:]) if part]
        assert decoded(*parts) == decoded(body), (cut, body)


def one(data: bytes) -> None:
    kind, data = data[:1], data[1:]
    (check_request, check_response, check_chunks)[(kind or b"\0")[0] % 3](data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
