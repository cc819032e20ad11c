"""A coverage-guided fuzz target for heads and chunks; run by scripts/fuzz. The suite tries its laws on what is known.

Laws: no exception but BadMessage; what is forwarded means the same when read again, by us and by h11, and is exactly one
message; no field that we write comes from an untrusted client, in whatever spelling, and what we write of the client is the
same in both families of fields, and an address; a length is written as its number, and a hop is counted; a chunked body is the same however it is split.

The first byte of an input says what it is, the second and third where it is split.
"""

import re
import sys
from contextlib import nullcontext
from importlib import import_module
from ipaddress import ip_address

import h11

from twisted_lb.core.networks import Networks

# In the suite nothing is instrumented.
atheris = import_module("atheris") if __name__ == "__main__" else None

with nullcontext() if atheris is None else atheris.instrument_imports(include=["twisted_lb.wire"]):
    from twisted_lb.wire.chunked import ChunkDecoder, chunk, last_chunk
    from twisted_lb.wire.fields import parse_fields
    from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, CRLF, BadMessage, Limits
    from twisted_lb.wire.names import folded
    from twisted_lb.wire.origin import Client, Origin, Trust
    from twisted_lb.wire.request import RequestHead, origin_form, parse_request, target_authority
    from twisted_lb.wire.response import ResponseHead, parse_response
    from twisted_lb.wire.rewrite import Forwarding, upstream_head, upstream_tail, with_host, with_lines

LIMITS = Limits(claims=(b"x-forwarded-*", b"x-real-ip"))
CLIENTS = [
    Client(b"192.0.2.1", b"http", b"80"),
    Client(b"2001:db8::1", b"https", b"443", trusted=True, trust=Trust(Networks(["2001:db8::/32"]))),
    Client(b"10.0.0.1", b"http", b"80", trusted=True, trust=Trust(Networks(["10.0.0.0/8"]), "forwarded")),
]
TOLD = [Forwarding(), Forwarding(forwarded=True, real_ip=True, via=b"lb")]
# What only we, or a proxy that is trusted, may tell a backend, by its folded name.
TOLD_OF_CLIENTS = re.compile(rb"x-forwarded-.*|x-real-ip|forwarded")
FRAMING = (b"content-length", b"transfer-encoding")
# Longer bodies are not made up to see what h11 says of them.
MOST_BODY = 4096
H11_LIMIT = 1 << 20


def check_request(data: bytes) -> None:
    block, _, body = data.partition(BLANK_LINE)
    try:
        head = parse_request(block, LIMITS)
    except BadMessage:
        return
    authority = target_authority(head.target)
    if authority and head.fields.has_host and authority.lower() != head.fields.host.lower():
        return  # the connection refuses it
    for client in CLIENTS:
        for told in TOLD:
            check_forwarded(head, written_for(head, client, told), body, client, told)


def names(lines: bytes) -> list[bytes]:
    """The field names of lines that are each ended by CRLF, read as plainly as can be."""
    return [line.partition(b":")[0].lower() for line in lines.split(CRLF)[:-1]]


def written_for(head: RequestHead, client: Client, told: Forwarding) -> bytes:
    """The head as the exchange writes it."""
    lines = upstream_head(head.lines, upstream_tail(head.fields, client, told, head.fields.upgrade))
    if not head.fields.has_host:
        lines = with_host(lines, b"backend:80")
    if not head.fields.request_id:
        lines = with_lines(lines, b"X-Request-ID: 1\r\n")
    return RequestHead(head.method, origin_form(head.target, head.method), head.fields, head.lines).line + lines


def check_told(head: RequestHead, written: bytes, client: Client, told: Forwarding) -> None:
    """A backend hears of the client what we say, in one spelling each; and the same in both families of fields."""
    tail = upstream_tail(head.fields, client, told, head.fields.upgrade)
    found = [name for name in names(written[:-2]) if TOLD_OF_CLIENTS.fullmatch(folded(name))]
    assert found == [name for name in names(tail[:-2]) if TOLD_OF_CLIENTS.fullmatch(name)], written
    if not client.trusted:
        expected = [b"x-forwarded-for", b"x-forwarded-proto"]
        expected += [b"x-forwarded-host"] * bool(head.fields.host) + [b"x-forwarded-port"]
        assert found == expected + [b"forwarded", b"x-real-ip"] * told.forwarded, written
    # Behind our own lines stand those that a trusted client may pass, which are as it wrote them.
    said = {name: value for name, _, value in (line.partition(b": ") for line in tail.split(CRLF))}
    assert said[b"X-Forwarded-For"].rpartition(b", ")[2] == client.address, written
    if told.forwarded:
        ours = b";proto=" + said[b"X-Forwarded-Proto"]
        host = said.get(b"X-Forwarded-Host", b"")
        ours += (
            (b';host="%b"' % host if re.search(rb"[^!#$%&'*+.^_`|~0-9A-Za-z-]", host) else b";host=" + host)
            if host
            else b""
        )
        assert said[b"Forwarded"].endswith(ours), written
    address = Origin(client, head.fields.host, head.fields.claims).address
    assert ip_address(address.decode("ascii")), written  # fit for a log, whatever was claimed
    assert client.trusted or address == client.address, written
    if head.fields.max_forwards >= 0:
        one_less = max(head.fields.max_forwards - 1, 0) if head.method in (b"OPTIONS", b"TRACE") else None
        hops = re.findall(rb"(?i)\r\nmax-forwards:(.*)(?=\r\n)", written)
        assert one_less is None or hops == [b" %d" % one_less], written
    for name in (b"content-length", b"x-request-id", b"max-forwards", b"transfer-encoding"):
        assert all(one == name for one in names(written[:-2]) if folded(one) == name), written
    lengths = re.findall(rb"(?i)\r\ncontent-length:(.*)(?=\r\n)", written)
    assert lengths == [b" %d" % head.fields.framing] * len(lengths), written


def check_forwarded(head: RequestHead, written: bytes, body: bytes, client: Client, told: Forwarding) -> None:
    assert written.find(BLANK_LINE) == len(written) - 4, written
    found = names(written[:-2])
    assert found.count(b"host") == 1, written
    assert sum(found.count(name) for name in FRAMING) <= 1, written
    again = parse_request(written[:-4], Limits(fields=LIMITS.fields + 16, line_bytes=1 << 16))
    target = origin_form(head.target, head.method)
    assert (again.method, again.target, again.fields.framing) == (head.method, target, head.fields.framing), written
    assert again.fields.host == (head.fields.host if head.fields.has_host else b"backend:80"), written
    assert again.fields.version == 11, written
    assert again.fields.expects == head.fields.expects, written
    check_told(head, written, client, told)
    sent = forwarded_body(head.fields.framing, body)
    if sent is None:
        return
    check_one_request(written + sent[0], head, target, sent[1])


def forwarded_body(framing: int, body: bytes) -> tuple[bytes, bytes] | None:
    """A complete body of this framing, made of these bytes: as it is written, and its payload; None: too long."""
    if framing == CHUNKED:
        decoder = ChunkDecoder(LIMITS)
        try:
            payload = decoder.feed(body) if body else b""
        except BadMessage:
            return last_chunk(b""), b""
        trailers = decoder.trailers if decoder.done else b""
        return (chunk(payload) if payload else b"") + last_chunk(trailers), payload
    if framing > MOST_BODY:
        return None
    payload = (body + b"x" * framing)[:framing]
    return payload, payload


def check_one_request(written: bytes, head: RequestHead, target: bytes, payload: bytes) -> None:
    """h11 takes it for one request with this body, and finds nothing behind it."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=H11_LIMIT)
    reader.receive_data(written)
    event = reader.next_event()
    assert isinstance(event, h11.Request), written
    assert (event.method, event.target, event.http_version) == (head.method, target, b"1.1"), written
    seen = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), written
        seen += bytes(event.data)
    assert seen == payload, written
    assert reader.trailing_data == (b"", False), written


METHODS = [b"GET", b"HEAD"]


def check_response(data: bytes) -> None:
    block, _, body = data.partition(BLANK_LINE)
    try:
        head = parse_response(block, LIMITS)
    except BadMessage:
        return
    found = names(head.wire)
    assert sum(found.count(name) for name in FRAMING) <= 1, head.wire
    again = parse_response(head.wire[:-2], LIMITS)
    assert (again.status, again.lines) == (head.status, head.lines), head.wire
    assert again.persistent, head.wire
    for method in METHODS:
        assert again.body_of(method) == (head.body_of(method) if head.framing >= 0 else again.body_of(method)), (
            head.wire
        )
        check_one_response(head, method, body)


def check_one_response(head: ResponseHead, method: bytes, body: bytes) -> None:
    """What a client of HTTP/1.1 gets is one answer to h11 too."""
    framing = head.body_of(method)
    if head.status < 200 or framing > MOST_BODY:
        return
    payload = body if framing < 0 else (body + b"x" * framing)[:framing]
    sent = payload
    if framing < 0:
        sent = (chunk(payload) if payload else b"") + last_chunk(b"")
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=H11_LIMIT)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(head.wire + CRLF + sent)
    event = reader.next_event()
    assert isinstance(event, h11.Response), head.wire
    assert event.status_code == head.status, head.wire
    seen = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), head.wire
        seen += bytes(event.data)
    assert seen == payload, head.wire
    assert reader.trailing_data == (b"", False), head.wire


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


def check_chunks(body: bytes, cut: int) -> None:
    if not body:
        return
    whole = decoded(body)
    first, second = body[: cut % len(body)], body[cut % len(body) :]
    assert decoded(*[part for part in (first, second) if part]) == whole, (cut, body)
    assert decoded(*[body[at : at + 1] for at in range(len(body))]) == whole, body
    if whole == "refused" or not whole[1]:
        return
    payload, _, trailers, _ = whole
    assert not set(names(trailers)) & {b"host", *FRAMING}, body
    # Written as we write it, it is read the same, by us and by h11.
    written = (chunk(payload) if payload else b"") + last_chunk(trailers)
    assert decoded(written) == (payload, True, trailers, b""), body
    assert parse_fields(trailers[:-2], LIMITS).lines == trailers, body
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=H11_LIMIT)
    reader.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + written)
    assert isinstance(reader.next_event(), h11.Request)
    seen = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), body
        seen += bytes(event.data)
    assert seen == payload, body
    assert reader.trailing_data == (b"", False), body


def one(data: bytes) -> None:
    if len(data) < 4:
        return
    kind, cut, rest = data[0], data[1] * 256 + data[2], data[3:]
    if kind % 3 == 2:
        check_chunks(rest, cut)
    else:
        (check_request, check_response)[kind % 3](rest)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
