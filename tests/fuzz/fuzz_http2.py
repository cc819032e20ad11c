"""A coverage-guided fuzz target for HTTP/2: frames, HPACK, and what becomes of its messages in HTTP/1.1; run by scripts/fuzz.

Laws: no exception but Http2Error, and BadMessage of a message; the same frames are told however the bytes are split, or held back for a
while, and what is kept of them is bounded; HPACK is what another implementation (hpack) makes of it, or both refuse, and its table is
bounded; what is forwarded of a request is, read again by us and by h11, exactly one request with the method, target, host, fields and
framing that were said (downgrade), and said again in HTTP/2 it means the same; a response is one response.

The first byte of an input says what it is, the second and third where it is split, or how its blocks are.
"""

import sys
from contextlib import nullcontext
from importlib import import_module

from hpack import Decoder, HPACKError

# In the suite nothing is instrumented.
atheris = import_module("atheris") if __name__ == "__main__" else None

with nullcontext() if atheris is None else atheris.instrument_imports(include=["twisted_lb.wire"]):
    from fuzz.fuzz_http1 import CLIENTS, LIMITS, TOLD, check_forwarded, check_one_response, names, written_for

    from twisted_lb.wire.grammar import CHUNKED, CRLF, BadMessage, Limits
    from twisted_lb.wire.http2.errors import Http2Error
    from twisted_lb.wire.http2.frames import BLOCK_BYTES, FRAME_BYTES, HEAD_BYTES, PREFACE, FrameReader, FrameReceiver
    from twisted_lb.wire.http2.hpack import A_PATH, TABLE_BYTES, HpackDecoder, literal
    from twisted_lb.wire.http2.request_heads import RequestEncoder
    from twisted_lb.wire.http2.requests import RequestReader, read_trailers
    from twisted_lb.wire.http2.responses import ResponseReader
    from twisted_lb.wire.request import RequestHead
    from twisted_lb.wire.response import parse_response

MUCH = 1 << 20
MANY = 1 << 12
# What we refuse alone: integers that are of no use to anybody, and a size of a table that changes where it may not (RFC 7541 4.2).
STRICTER = ("integer that is too long", "size of the table changed within a block")
# A field as text: what separates fields is in no message, and what separates names from values neither.
FIELD, VALUE = b"\x1e", b"\x1f"
OURS = Limits(fields=LIMITS.fields + 16, line_bytes=1 << 16, head_bytes=1 << 17)
# What the translation says itself.
OF_OURS = (b"host", b"content-length", b"transfer-encoding", b"cookie", b"te")


class Heard(FrameReceiver):
    """Notes what it is told. `holds`: after so many frames each time nothing more is read for now."""

    def __init__(self, reader: FrameReader, holds: int = 0) -> None:
        self.told: list[object] = []
        self._reader = reader
        self._holds = holds

    def _note(self, *what: object) -> None:
        self.told.append(what)
        if self._holds and len(self.told) % self._holds == 0:
            self._reader.hold()

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        assert len(block) <= BLOCK_BYTES
        self._note("block", stream, block, ended)

    def data_received(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        assert len(data) <= size <= FRAME_BYTES
        self._note("data", stream, data, size, ended)

    def reset_received(self, stream: int, code: int) -> None:
        self._note("reset", stream, code)

    def settings_received(self, settings: list[tuple[int, int]]) -> None:
        self._note("settings", *settings)

    def settings_acknowledged(self) -> None:
        self._note("acknowledged")

    def ping_received(self, payload: bytes, *, ack: bool) -> None:
        assert len(payload) == 8
        self._note("ping", payload, ack)

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        self._note("goaway", last, code, reason)

    def window_opened(self, stream: int, more: int) -> None:
        self._note("window", stream, more)

    def priority_received(self, stream: int, fault: str) -> None:
        self._note("priority", stream, fault)

    def unknown_received(self, kind: int) -> None:
        self._note("unknown", kind)


def frames_of(pieces: list[bytes], *, of_client: bool, holds: int = 0) -> list[object]:
    """What a reader tells of these bytes, and how it ends."""
    reader = FrameReader(of_client=of_client)
    heard = Heard(reader, holds)
    try:
        for piece in pieces:
            reader.feed(piece, heard)
            for _ in range(len(piece) + 1 if holds else 0):
                reader.go_on(heard)
            assert reader.held <= BLOCK_BYTES + FRAME_BYTES + HEAD_BYTES, reader.held
    except Http2Error as error:
        return [*heard.told, (error.code, error.reason)]
    return [*heard.told, reader.held, reader.in_head]


def check_frames(data: bytes, cut: int, *, of_client: bool) -> None:
    if of_client and cut & 1:
        data = PREFACE + data
    whole = frames_of([data], of_client=of_client)
    at = cut % (len(data) + 1)
    assert frames_of([data[:at], data[at:]], of_client=of_client) == whole, data
    assert frames_of([data], of_client=of_client, holds=1 + cut % 3) == whole, data
    if len(data) < 600:
        assert frames_of([data[at : at + 1] for at in range(len(data))], of_client=of_client) == whole, data
    for one in whole:
        if isinstance(one, tuple) and one[0] in ("block", "data", "reset"):
            assert one[1], "a frame of a stream on no stream"


def check_hpack(data: bytes, sizes: bytes) -> None:
    """Blocks of these sizes, in the order of one connection."""
    ours, theirs = HpackDecoder(), Decoder(max_header_list_size=MUCH)
    at = 0
    for size in [*sizes, len(data)]:
        block = data[at : at + size]
        at += size
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except (HPACKError, IndexError):
            expected = None
        try:
            entries = ours.decode(block, MUCH, MANY)
        except Http2Error as error:
            if expected is not None and error.reason not in STRICTER:
                raise
            return
        assert ours.table_bytes <= TABLE_BYTES
        assert expected is not None, block
        assert ours.excess == "", block
        said = [(entry.name, b"" if entry is A_PATH else entry.value) for entry in entries]
        assert said == [(name, b"" if name == b":path" else value) for name, value in expected], block
        assert all(entry.line.count(CRLF) == (entry.line != b"") for entry in entries), block
        assert not any(entry.line and set(b"\r\n\0") & set(entry.line[:-2]) for entry in entries), block
        few = HpackDecoder()
        try:
            some = few.decode(block, 100, 2)
        except Http2Error:
            continue  # it needs what came before
        assert len(some) <= 2
        assert sum(entry.size for entry in some if entry is not A_PATH) <= 100


def block_of(text: bytes) -> bytes:
    """A field block of fields as text."""
    fields = [field.partition(VALUE) for field in text.split(FIELD)]
    return b"".join(literal(name, value) for name, _, value in fields)


def plainly(block: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a block, by another implementation."""
    return [(bytes(name), bytes(value)) for name, value in Decoder(max_header_list_size=MUCH).decode(block, raw=True)]


def check_request(block: bytes, body: bytes, *, ended: bool) -> None:
    reader, decoder = RequestReader(), HpackDecoder()
    try:
        entries = decoder.decode(block, LIMITS.head_bytes, LIMITS.fields)
        if decoder.excess:
            return
        head = reader.read(entries, decoder.path, LIMITS, ended=ended)
    except (Http2Error, BadMessage):
        return
    if reader.protocol:
        return  # an extended CONNECT is no request that is forwarded as it is
    fields = plainly(block)
    check_meaning(head, fields, ended=ended)
    for client in CLIENTS:
        for told in TOLD:
            written = written_for(head, client, told)
            check_forwarded(head, written, body, client, told)
            check_said_again(head, written)


def check_meaning(head: RequestHead, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
    """The head says what the fields do, and nothing else."""
    said = dict(fields)
    assert sum(name.startswith(b":") for name, _ in fields) == len({n for n, _ in fields if n.startswith(b":")}), fields
    assert (head.method, head.target) == (said[b":method"], said[b":path"]), fields
    hosts = {value.lower() for name, value in fields if name in (b":authority", b"host")}
    assert head.fields.host.lower() in hosts, fields
    lengths = {int(value) for name, value in fields if name == b"content-length"}
    assert len(lengths) <= 1, fields
    assert head.fields.framing == (0 if ended else lengths.pop() if lengths else CHUNKED), fields
    # What goes on is of what was said; each line stands alone.
    lines = [line.partition(b": ") for line in head.lines.split(CRLF)]
    for name, _, value in lines:
        if name and name.lower() not in OF_OURS:
            assert (name, value) in fields, (name, value, fields)
    cookies = [value for name, value in fields if name == b"cookie"]
    told = [value for name, _, value in lines if name == b"cookie"]
    assert told in ([], [b"; ".join(cookies)]), fields
    assert not set(names(head.lines)) & {b"connection", b"upgrade", b"keep-alive", b"http2-settings"}, fields


def check_said_again(head: RequestHead, written: bytes) -> None:
    """To a backend of HTTP/2 it is the same request."""
    fields = plainly(RequestEncoder(secure=False).encode(head.method, written))
    pseudo = fields[:4]
    assert sorted(name for name, _ in pseudo) == [b":authority", b":method", b":path", b":scheme"], fields
    said = dict(pseudo)
    assert (said[b":method"], said[b":path"], said[b":scheme"]) == (head.method, head.target, b"http"), fields
    assert said[b":authority"].lower() == (head.fields.host if head.fields.has_host else b"backend:80").lower(), fields
    assert not any(name.startswith(b":") for name, _ in fields[4:]), fields
    decoder = HpackDecoder()
    block = b"".join(literal(name, value) for name, value in fields)
    entries = decoder.decode(block, MUCH, MANY)
    framing = head.fields.framing
    again = RequestReader().read(entries, decoder.path, OURS, ended=framing == 0)
    assert (again.method, again.target, again.fields.framing) == (head.method, head.target, framing), fields


def check_response(block: bytes, body: bytes, *, empty: bool) -> None:
    try:
        head = ResponseReader().read(block, LIMITS, empty=empty)
    except (Http2Error, BadMessage):
        return
    said = dict(plainly(block))
    assert head.status == int(said[b":status"]) != 101, said
    lengths = {int(value) for name, value in plainly(block) if name == b"content-length"}
    bodiless = head.status < 200 or head.status in (204, 304)
    if not bodiless:
        assert head.framing == (lengths.pop() if lengths else 0 if empty else CHUNKED), said
    again = parse_response(head.wire[:-2], OURS)
    # Where nobody has said so, that there is no body is for clients of HTTP/1.1 alone.
    assert again.lines.removesuffix(b"Content-Length: 0\r\n" if head.empty else b"") == head.lines, head.wire
    assert (again.status, again.framing) == (head.status, head.framing), head.wire
    for method in (b"GET", b"HEAD"):
        check_one_response(head, method, body)


def check_trailers(block: bytes) -> None:
    decoder = HpackDecoder()
    try:
        entries = decoder.decode(block, LIMITS.head_bytes, LIMITS.fields)
        lines = read_trailers(entries, LIMITS) if not decoder.excess else b""
    except (Http2Error, BadMessage):
        return
    assert b"\0" not in lines
    assert lines[-2:] in (b"", CRLF)
    assert not any(name in (b"", b"host", b"content-length", b"transfer-encoding") for name in names(lines)), lines


def one(data: bytes) -> None:
    if len(data) < 4:
        return
    kind, cut, rest = data[0] % 8, data[1] * 256 + data[2], data[3:]
    flag = bool(data[1] & 1)
    if kind < 2:
        check_frames(rest, cut, of_client=kind == 0)
    elif kind == 2:
        check_hpack(rest, data[1:3])
    elif kind in (3, 4):
        block, _, body = rest.partition(b"\xff\xff")
        check_request(block if kind == 3 else block_of(block), body, ended=flag)
    elif kind in (5, 6):
        block, _, body = rest.partition(b"\xff\xff")
        check_response(block if kind == 5 else block_of(block), body, empty=flag)
    else:
        check_trailers(block_of(rest))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
