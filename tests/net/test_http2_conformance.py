"""HTTP/2 by its standards, RFC 9113 sections 3.4 to 8.5 and RFC 7541: for each rule, what a client sends and what it hears.

What h2spec asks stands here, and stricter: it takes a closed connection, or a timeout, for most answers; here each code is looked at. Where
a standard leaves the choice between an error of a stream and one of its connection, the table says which one is ours.
"""

import pytest
from http2_client import HOST, Http2Town, block_of, frame, request

from twisted_lb.testing import NEVER_ANSWER, response
from twisted_lb.wire.http2.errors import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from twisted_lb.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
)
from twisted_lb.wire.http2.hpack import literal


def u32(value):
    return value.to_bytes(4, "big")


def setting(name, value):
    return name.to_bytes(2, "big") + value.to_bytes(4, "big")


def head(stream, block=None, flags=END_HEADERS | END_STREAM):
    return frame(HEADERS, flags, stream, block_of() if block is None else block)


def fields(*pairs):
    return b"".join(literal(name.encode(), value.encode()) for name, value in pairs)


METHOD, SCHEME, AUTHORITY, PATH = (":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/")
USUAL = (METHOD, SCHEME, AUTHORITY, PATH)
POST = block_of("POST")
OPEN = head(1, POST, END_HEADERS)  # a request whose body is to come
DONE = request(1)  # one that is answered as soon as it is here
WAITS = head(1)  # the same, of a backend that does not answer
RESET = OPEN + frame(RST_STREAM, 0, 1, u32(8))
HALF = len(block_of()) // 2
POOL = {"backends": ["b:80"], "health_check": {"interval_s": 0}, "limits": {"head_bytes": 40_000}}

# What comes, by the section of the standard.
CONNECTION_ERRORS = {
    # 3.4: the preface.
    "3.4 no SETTINGS behind the preface": (None, PREFACE + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "3.4 no preface": (None, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(20), PROTOCOL_ERROR),
    "3.4 acknowledgement in place of SETTINGS": (None, PREFACE + frame(SETTINGS, ACK, 0), PROTOCOL_ERROR),
    # 4.2: frame size.
    "4.2 DATA too large": (OPEN, frame(DATA, 0, 1, bytes(16385)), FRAME_SIZE_ERROR),
    "4.2 HEADERS too large": (b"", frame(HEADERS, 5, 1, bytes(16385)), FRAME_SIZE_ERROR),
    "4.2 SETTINGS too large": (b"", frame(SETTINGS, 0, 0, setting(0xFF, 0) * 2731), FRAME_SIZE_ERROR),
    "4.2 unknown frame too large": (b"", frame(0xEE, 0, 0, bytes(16385)), FRAME_SIZE_ERROR),
    # 4.3: field blocks.
    "4.3 block that cannot be decoded": (b"", head(1, b"\x8a\xff\xff\xff\xff\x0f"), COMPRESSION_ERROR),
    "4.3 block cut off": (b"", head(1, block_of()[:-1]), COMPRESSION_ERROR),
    "4.3 PRIORITY within a block": (
        head(1, flags=END_STREAM),
        frame(PRIORITY, 0, 1, u32(0) + b"\0"),
        PROTOCOL_ERROR,
    ),
    "4.3 HEADERS of another stream within a block": (head(1, flags=END_STREAM), head(3), PROTOCOL_ERROR),
    "4.3 DATA within a block": (head(1, POST, 0), frame(DATA, END_STREAM, 1, b"x"), PROTOCOL_ERROR),
    "4.3 PING within a block": (head(1, flags=END_STREAM), frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "5.5 unknown frame within a block": (head(1, flags=END_STREAM), frame(0x16, 0, 0, b"x"), PROTOCOL_ERROR),
    # 5.1: states of streams.
    "5.1 idle: DATA": (b"", frame(DATA, END_STREAM, 1, b"x"), PROTOCOL_ERROR),
    "5.1 idle: RST_STREAM": (b"", frame(RST_STREAM, 0, 1, u32(8)), PROTOCOL_ERROR),
    "5.1 idle: WINDOW_UPDATE": (b"", frame(WINDOW_UPDATE, 0, 1, u32(100)), PROTOCOL_ERROR),
    "5.1 idle: CONTINUATION": (b"", frame(CONTINUATION, END_HEADERS, 1, block_of()), PROTOCOL_ERROR),
    "5.1 idle: DATA behind another stream": (DONE, frame(DATA, END_STREAM, 3, b"x"), PROTOCOL_ERROR),
    "5.1 half-closed: DATA": ("waits", frame(DATA, END_STREAM, 1, b"x"), STREAM_CLOSED),
    "5.1 half-closed: HEADERS": ("waits", head(1), STREAM_CLOSED),
    "5.1 half-closed: CONTINUATION": ("waits", frame(CONTINUATION, END_HEADERS, 1, block_of()), PROTOCOL_ERROR),
    "5.1 closed by RST_STREAM: DATA": (RESET, frame(DATA, END_STREAM, 1, b"x"), STREAM_CLOSED),
    "5.1 closed by RST_STREAM: HEADERS": (RESET, head(1), STREAM_CLOSED),
    "5.1 closed by RST_STREAM: CONTINUATION": (RESET, frame(CONTINUATION, 4, 1, b""), PROTOCOL_ERROR),
    "5.1 closed: DATA": (DONE, frame(DATA, END_STREAM, 1, b"x"), STREAM_CLOSED),
    "5.1 closed: HEADERS": (DONE, head(1), STREAM_CLOSED),
    "5.1 closed: CONTINUATION": (DONE, frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    # 5.1.1: identifiers. A stream that was passed over is closed.
    "5.1.1 even": (b"", head(2), PROTOCOL_ERROR),
    "5.1.1 even, later": (DONE, head(4), PROTOCOL_ERROR),
    "5.1.1 smaller than one before": (request(5), head(3), STREAM_CLOSED),
    # 6.1: DATA.
    "6.1 on no stream": (b"", frame(DATA, END_STREAM, 0, b"x"), PROTOCOL_ERROR),
    "6.1 padding as long as its frame": (OPEN, frame(DATA, PADDED, 1, b"\x05data"), PROTOCOL_ERROR),
    "6.1 padding longer than its frame": (OPEN, frame(DATA, PADDED, 1, b"\xffdata"), PROTOCOL_ERROR),
    "6.1 no length of its padding": (OPEN, frame(DATA, PADDED, 1, b""), FRAME_SIZE_ERROR),
    # 6.2: HEADERS.
    "6.2 on no stream": (b"", head(0), PROTOCOL_ERROR),
    "6.2 padding longer than its frame": (b"", frame(HEADERS, 0xD, 1, b"\xff" + block_of()), PROTOCOL_ERROR),
    "6.2 no room for its priority": (b"", frame(HEADERS, 0x25, 1, b"\0\0\0"), FRAME_SIZE_ERROR),
    # 6.3: PRIORITY.
    "6.3 on no stream": (b"", frame(PRIORITY, 0, 0, u32(1) + b"\0"), PROTOCOL_ERROR),
    "6.3 of another size, idle": (b"", frame(PRIORITY, 0, 1, u32(0)), FRAME_SIZE_ERROR),
    "5.3.1 idle stream depends on itself": (b"", frame(PRIORITY, 0, 1, u32(1) + b"\0"), PROTOCOL_ERROR),
    # 6.4: RST_STREAM.
    "6.4 on no stream": (b"", frame(RST_STREAM, 0, 0, u32(8)), PROTOCOL_ERROR),
    "6.4 of another size": (OPEN, frame(RST_STREAM, 0, 1, b"\0\0\0"), FRAME_SIZE_ERROR),
    # 6.5: SETTINGS.
    "6.5 acknowledgement with a payload": (b"", frame(SETTINGS, ACK, 0, setting(3, 1)), FRAME_SIZE_ERROR),
    "6.5 on a stream": (b"", frame(SETTINGS, 0, 1, setting(3, 1)), PROTOCOL_ERROR),
    "6.5 of another size": (b"", frame(SETTINGS, 0, 0, b"\0\0\0"), FRAME_SIZE_ERROR),
    "6.5.2 ENABLE_PUSH of 2": (b"", frame(SETTINGS, 0, 0, setting(ENABLE_PUSH, 2)), PROTOCOL_ERROR),
    "6.5.2 INITIAL_WINDOW_SIZE too large": (
        b"",
        frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 1 << 31)),
        FLOW_CONTROL_ERROR,
    ),
    "6.5.2 MAX_FRAME_SIZE too small": (b"", frame(SETTINGS, 0, 0, setting(MAX_FRAME_SIZE, 16383)), PROTOCOL_ERROR),
    "6.5.2 MAX_FRAME_SIZE too large": (b"", frame(SETTINGS, 0, 0, setting(MAX_FRAME_SIZE, 1 << 24)), PROTOCOL_ERROR),
    "RFC 8441 3 ENABLE_CONNECT_PROTOCOL of 2": (b"", frame(SETTINGS, 0, 0, setting(8, 2)), PROTOCOL_ERROR),
    # 6.6, 8.4: nobody pushes to a server.
    "6.6 PUSH_PROMISE": (b"", frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + block_of()), PROTOCOL_ERROR),
    # 6.7: PING.
    "6.7 on a stream": (b"", frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "6.7 of another size": (b"", frame(PING, 0, 0, bytes(6)), FRAME_SIZE_ERROR),
    # 6.8: GOAWAY.
    "6.8 on a stream": (b"", frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "6.8 too short": (b"", frame(GOAWAY, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    # 6.9: WINDOW_UPDATE.
    "6.9 of 0": (b"", frame(WINDOW_UPDATE, 0, 0, u32(0)), PROTOCOL_ERROR),
    "6.9 of another size": (b"", frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE_ERROR),
    "6.9.1 window of the connection too large": (
        b"",
        frame(WINDOW_UPDATE, 0, 0, u32(0x7FFFFFFF)) * 2,
        FLOW_CONTROL_ERROR,
    ),
    "6.9.2 window of a stream too large by SETTINGS": (
        "waits",
        frame(WINDOW_UPDATE, 0, 1, u32(0x7FFFFFFF - 65_535))
        + frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 65_536)),
        FLOW_CONTROL_ERROR,
    ),
    # 6.10: CONTINUATION.
    "6.10 on no stream": (head(1, b"", END_STREAM), frame(CONTINUATION, END_HEADERS, 0, block_of()), PROTOCOL_ERROR),
    "6.10 of another stream": (head(1, b"", END_STREAM), frame(CONTINUATION, 4, 3, block_of()), PROTOCOL_ERROR),
    "6.10 behind HEADERS that have ended": (OPEN, frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    "6.10 behind CONTINUATION that has ended": (
        head(1, POST[:HALF], 0) + frame(CONTINUATION, END_HEADERS, 1, POST[HALF:]),
        frame(CONTINUATION, END_HEADERS, 1, b""),
        PROTOCOL_ERROR,
    ),
    "6.10 behind DATA": (OPEN + frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    # 8.1: messages.
    "8.1 fields within a body": (OPEN, head(1, fields(("x", "y")), END_HEADERS), PROTOCOL_ERROR),
    # RFC 7541.
    "HPACK 2.3.3 index behind the tables": (b"", head(1, b"\xc6" + block_of()), COMPRESSION_ERROR),
    "HPACK 2.3.3 name behind the tables": (b"", head(1, block_of() + b"\x7f\x20\x01a"), COMPRESSION_ERROR),
    "HPACK 4.2 size of the table at the end": (b"", head(1, block_of() + b"\x21"), COMPRESSION_ERROR),
    "HPACK 5.1 integer too long": (b"", head(1, b"\xff" + b"\x80" * 10 + b"\1"), COMPRESSION_ERROR),
    "HPACK 5.2 padding of a byte": (b"", head(1, block_of() + b"\0\1a\x82\x07\xff"), COMPRESSION_ERROR),
    "HPACK 5.2 padding of zeros": (b"", head(1, block_of() + b"\0\1a\x81\x00"), COMPRESSION_ERROR),
    "HPACK 5.2 end of string": (b"", head(1, block_of() + b"\0\1a\x84\xff\xff\xff\xff"), COMPRESSION_ERROR),
    "HPACK 5.2 text cut off": (b"", head(1, block_of() + b"\0\1a\x05abc"), COMPRESSION_ERROR),
    "HPACK 6.1 index 0": (b"", head(1, b"\x80" + block_of()), COMPRESSION_ERROR),
    "HPACK 6.3 table too large": (b"", head(1, b"\x3f\xe2\x1f" + block_of()), COMPRESSION_ERROR),
}


def prepared(before):
    """A client that has said this."""
    if before is None:
        return Http2Town().raw(preface=False)
    if before == "waits":
        client = Http2Town([NEVER_ANSWER]).raw()
        client.send(WAITS)
        return client
    # A body that does not end here keeps its stream open, and a backend that waits for its end too.
    client = Http2Town().raw()
    if before:
        client.send(before)
    return client


@pytest.mark.parametrize("rule", CONNECTION_ERRORS)
def test_a_connection_error_is_told_with_its_code_and_is_the_end(rule):
    before, sent, code = CONNECTION_ERRORS[rule]
    client = prepared(before)
    heard = len(client.heard)
    client.send(sent)
    assert client.goaway is not None
    assert client.goaway[0] == code
    assert client.goaway[1], "in words too"
    assert not client.open
    last = [one for one in client.heard[heard:] if one[0] != WINDOW_UPDATE]
    assert last[-1][0] == GOAWAY


@pytest.mark.parametrize("rule", CONNECTION_ERRORS)
def test_it_is_the_same_however_it_is_cut_into_segments(rule):
    before, sent, code = CONNECTION_ERRORS[rule]
    client = prepared(before)
    step = max(len(sent) // 7, 1)
    for at in range(0, len(sent), step):
        client.send(sent[at : at + step])
    assert client.goaway[0] == code


STREAM_ERRORS = {
    "5.1.2 more streams than it may have": (b"".join(head(2 * n + 1) for n in range(129)), 257, REFUSED_STREAM),
    "5.3.1 HEADERS depends on itself": (frame(HEADERS, 0x25, 1, u32(1) + b"\0" + block_of()), 1, PROTOCOL_ERROR),
    "5.3.1 PRIORITY depends on itself": (OPEN + frame(PRIORITY, 0, 1, u32(1) + b"\0"), 1, PROTOCOL_ERROR),
    "6.3 PRIORITY of another size": (OPEN + frame(PRIORITY, 0, 1, u32(0)), 1, FRAME_SIZE_ERROR),
    "6.9 WINDOW_UPDATE of 0": (OPEN + frame(WINDOW_UPDATE, 0, 1, u32(0)), 1, PROTOCOL_ERROR),
    "6.9.1 window too large": (OPEN + frame(WINDOW_UPDATE, 0, 1, u32(0x7FFFFFFF)) * 2, 1, FLOW_CONTROL_ERROR),
    "8.1.1 DATA longer than content-length": (
        head(1, block_of("POST", "/", ("content-length", "1")), 4) + frame(DATA, END_STREAM, 1, b"ab"),
        1,
        PROTOCOL_ERROR,
    ),
    "8.1.1 DATA shorter than content-length": (
        head(1, block_of("POST", "/", ("content-length", "3")), 4) + frame(DATA, END_STREAM, 1, b"ab"),
        1,
        PROTOCOL_ERROR,
    ),
    "8.1.1 frames of DATA longer than content-length": (
        head(1, block_of("POST", "/", ("content-length", "1")), 4) + frame(DATA, 0, 1, b"a") + frame(DATA, 1, 1, b"b"),
        1,
        PROTOCOL_ERROR,
    ),
    "8.1.1 content-length without a body": (head(1, block_of("POST", "/", ("content-length", "1"))), 1, PROTOCOL_ERROR),
    "8.1.1 content-length and trailers": (
        head(1, block_of("POST", "/", ("content-length", "1")), 4) + head(1, fields(("x", "y"))),
        1,
        PROTOCOL_ERROR,
    ),
    "8.1 pseudo-field in trailers": (OPEN + head(1, fields((":method", "GET"))), 1, PROTOCOL_ERROR),
    "8.1 connection in trailers": (OPEN + head(1, fields(("connection", "close"))), 1, PROTOCOL_ERROR),
}
MALFORMED = {
    "8.2.1 upper case": (*USUAL, ("X-Test", "ok")),
    "8.2.1 space in a name": (*USUAL, ("x test", "ok")),
    "8.2.1 colon in a name": (*USUAL, ("x:test", "ok")),
    "8.2.1 empty name": (*USUAL, ("", "ok")),
    "8.2.1 CR": (*USUAL, ("x", "a\rb")),
    "8.2.1 LF": (*USUAL, ("x", "a\nb")),
    "8.2.1 CRLF and a field": (*USUAL, ("x", "a\r\ny: b")),
    "8.2.1 NUL": (*USUAL, ("x", "a\0b")),
    "8.2.1 blank in front": (*USUAL, ("x", " a")),
    "8.2.1 blank behind": (*USUAL, ("x", "a\t")),
    "8.2.2 connection": (*USUAL, ("connection", "keep-alive")),
    "8.2.2 keep-alive": (*USUAL, ("keep-alive", "timeout=5")),
    "8.2.2 proxy-connection": (*USUAL, ("proxy-connection", "keep-alive")),
    "8.2.2 transfer-encoding": (*USUAL, ("transfer-encoding", "chunked")),
    "8.2.2 upgrade": (*USUAL, ("upgrade", "h2c")),
    "8.2.2 te": (*USUAL, ("te", "trailers, deflate;q=0.5")),
    "8.3 unknown pseudo-field": (*USUAL, (":test", "ok")),
    "8.3 pseudo-field of responses": (*USUAL, (":status", "200")),
    "8.3 pseudo-field behind a field": (METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH),
    "8.3.1 empty :path": (METHOD, SCHEME, AUTHORITY, (":path", "")),
    "8.3.1 :path without slash": (METHOD, SCHEME, AUTHORITY, (":path", "x")),
    "8.3.1 absolute :path": (METHOD, SCHEME, AUTHORITY, (":path", "http://a/")),
    "8.3.1 space in :path": (METHOD, SCHEME, AUTHORITY, (":path", "/a b")),
    "8.3.1 * for GET": (METHOD, SCHEME, AUTHORITY, (":path", "*")),
    "8.3.1 no :method": (SCHEME, AUTHORITY, PATH),
    "8.3.1 no :scheme": (METHOD, AUTHORITY, PATH),
    "8.3.1 no :path": (METHOD, SCHEME, AUTHORITY),
    "8.3.1 :method twice": (METHOD, *USUAL),
    "8.3.1 :scheme twice": (SCHEME, *USUAL),
    "8.3.1 :path twice": (PATH, *USUAL),
    "8.3.1 :authority twice": (AUTHORITY, *USUAL),
    "8.3.1 no host at all": (METHOD, SCHEME, PATH),
    "8.3.1 two hosts": (METHOD, SCHEME, PATH, ("host", "a"), ("host", "b")),
    "8.3.1 :authority and host disagree": (*USUAL, ("host", "other.example")),
    "8.3.1 userinfo in :authority": (METHOD, SCHEME, (":authority", "user@www.example.com"), PATH),
    "8.3.1 illegal :method": ((":method", "G T"), SCHEME, AUTHORITY, PATH),
    "8.5 CONNECT with :path": ((":method", "CONNECT"), AUTHORITY, PATH),
    "8.5 CONNECT with :scheme": ((":method", "CONNECT"), SCHEME, AUTHORITY),
    "RFC 8441 4 :protocol without CONNECT": (*USUAL, (":protocol", "websocket")),
    "RFC 8441 4 extended CONNECT without :path": (
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        SCHEME,
        AUTHORITY,
    ),
    "9110 8.6 content-length that is no number": (*USUAL, ("content-length", "+0")),
    "9110 8.6 content-length twice": (*USUAL, ("content-length", "0"), ("content-length", "0")),
}


@pytest.mark.parametrize("rule", STREAM_ERRORS)
def test_a_stream_error_is_told_with_its_code_and_the_connection_lives(rule):
    sent, stream, code = STREAM_ERRORS[rule]
    town = Http2Town(*[[NEVER_ANSWER]] * 200)
    client = town.raw()
    client.send(sent)
    assert client.resets() == {stream: code}
    assert (client.goaway, client.open) == (None, True)
    town.backend.script = ()
    client.send(frame(PING, 0, 0, b"12345678"))
    assert client.of(PING) == [b"12345678"]
    assert stream not in town.connections[0]._streams


@pytest.mark.parametrize("rule", MALFORMED)
def test_a_malformed_request_is_reset_and_goes_nowhere(rule):
    town = Http2Town()
    client = town.raw()
    client.send(head(1, fields(*MALFORMED[rule])))
    assert client.resets() == {1: PROTOCOL_ERROR}
    assert town.requests == []
    assert town.frontend.exchanges == 0
    client.send(request(3))
    assert client.of(HEADERS, 3), "the connection lives"


# What has to be taken.
TAKEN = {
    "4.1 unknown kind of frame": frame(0xFF, 0xFF, 0, b"x") + DONE,
    "4.1 flags that nobody knows": frame(PING, 0x16, 0, b"12345678") + DONE,
    "4.1 reserved bit": frame(PING, 0, 1 << 31, b"12345678") + DONE,
    "4.1 reserved bit of a stream": request(1 | 1 << 31),
    "4.2 DATA as large as may be": OPEN + frame(DATA, END_STREAM, 1, bytes(16384)),
    "4.3 block in many parts": head(1, block_of()[:10], END_STREAM)
    + frame(CONTINUATION, 0, 1, block_of()[10:20])
    + frame(CONTINUATION, END_HEADERS, 1, block_of()[20:]),
    "5.1 idle: PRIORITY": frame(PRIORITY, 0, 1, u32(0) + b"\x10") + DONE,
    "5.1 closed: PRIORITY": DONE + frame(PRIORITY, 0, 1, u32(0) + b"\x10"),
    "5.1 closed: WINDOW_UPDATE": DONE + frame(WINDOW_UPDATE, 0, 1, u32(1)),
    "5.1 trailers": OPEN + frame(DATA, 0, 1, b"x") + head(1, fields(("x", "y"))),
    "5.1 trailers without a body": OPEN + head(1, fields(("x", "y"))),
    "5.1.1 streams that are passed over": request(1) + request(99),
    "5.5 unknown frame on a stream": OPEN + frame(0xEE, 0, 1, b"x") + frame(DATA, END_STREAM, 1, b""),
    "6.1 DATA with padding": OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\4data\0\0\0\0"),
    "6.2 HEADERS with padding": frame(HEADERS, 0xD, 1, b"\2" + block_of() + b"\0\0"),
    "6.2 HEADERS with a priority": frame(HEADERS, 0x25, 1, u32(7) + b"\xff" + block_of()),
    "6.2 HEADERS with both": frame(HEADERS, 0x2D, 1, b"\1" + u32(0x80000000) + b"\0" + block_of() + b"\0"),
    "6.4 RST_STREAM with a code that nobody knows": head(3, POST, 4) + frame(RST_STREAM, 0, 3, u32(0xFF)) + request(5),
    "6.5.2 setting that nobody knows": frame(SETTINGS, 0, 0, setting(0xFF, 1)) + DONE,
    "6.5.2 all settings": frame(
        SETTINGS,
        0,
        0,
        setting(HEADER_TABLE_SIZE, 0)
        + setting(ENABLE_PUSH, 1)
        + setting(MAX_CONCURRENT_STREAMS, 0)
        + setting(INITIAL_WINDOW_SIZE, 65_535)
        + setting(MAX_FRAME_SIZE, 0xFFFFFF),
    )
    + DONE,
    "6.8 GOAWAY with a code that nobody knows": frame(GOAWAY, 0, 0, u32(0) + u32(0xFF)) + DONE,
    "8.3.1 * for OPTIONS": head(1, fields((":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*"))),
    "8.3.1 host in place of :authority": head(1, fields(METHOD, SCHEME, PATH, ("host", HOST))),
    "8.3.1 host beside the same :authority": head(1, fields(*USUAL, ("host", HOST.upper() + ":80"))),
    "8.3.1 pseudo-fields in any order": head(1, fields(PATH, AUTHORITY, METHOD, SCHEME)),
    "8.2.2 te: trailers": head(1, fields(*USUAL, ("te", "trailers"))),
    "8.2.1 empty value": head(1, fields(*USUAL, ("x", ""))),
    "HPACK C.3 indexed fields": head(1, b"\x82\x86\x84\x41\x0fwww.example.com"),
    "HPACK C.4 Huffman": head(1, bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")),
    "HPACK 4.2 sizes of the table in front": head(1, b"\x20\x3f\xe1\x1f" + block_of()),
    "HPACK 6.2.3 never indexed": head(1, block_of() + b"\x10\x01a\x01b"),
}


@pytest.mark.parametrize("rule", TAKEN)
def test_what_has_to_be_taken_is_answered(rule):
    town = Http2Town()
    client = town.raw()
    client.send(TAKEN[rule])
    asked = [one[2] for one in client.heard if one[0] == HEADERS]
    assert asked
    # Behind what tells a smaller table that we go by it.
    assert all(client.of(HEADERS, stream)[0].removeprefix(b"\x20")[:1] == b"\x88" for stream in asked)
    assert {one[2] for one in client.heard if one[1] & END_STREAM and one[0] in (DATA, HEADERS)} == set(asked)
    assert client.resets() == {}
    assert client.goaway is None or client.goaway[0] == 0
    if frame(PING, 0, 0, b"12345678")[9:] in TAKEN[rule]:
        assert client.of(PING) == [b"12345678"]


def test_a_reset_that_has_met_the_end_of_its_stream_is_nothing():
    """RFC 9113 5.1: both were on their way."""
    client = Http2Town().raw()
    client.send(DONE)
    client.send(frame(RST_STREAM, 0, 1, u32(8)))
    client.send(request(3))
    assert client.of(HEADERS, 3)


def test_the_first_frame_is_settings_and_theirs_are_acknowledged():
    """RFC 9113 3.4, 6.5.3"""
    client = Http2Town().raw(settings=setting(MAX_CONCURRENT_STREAMS, 100))
    assert client.heard[0][:3] == (SETTINGS, 0, 0)
    assert (SETTINGS, ACK, 0, b"") in client.heard


def test_what_is_announced_is_what_holds():
    client = Http2Town(listener={"limits": {"head_bytes": 5000}}).raw()
    payload = client.heard[0][3]
    told = {int.from_bytes(payload[at : at + 2], "big"): payload[at + 2 : at + 6] for at in range(0, len(payload), 6)}
    assert {name: int.from_bytes(value, "big") for name, value in told.items()} == {
        3: 128,
        4: 65_536,
        6: 5000,
        8: 1,
        9: 1,
    }
    update = client.of(WINDOW_UPDATE, 0)[0]
    assert 65_535 + int.from_bytes(update, "big") == 1 << 20


def test_a_ping_comes_back_once_and_its_answer_does_not():
    """RFC 9113 6.7"""
    client = Http2Town().raw()
    client.send(frame(PING, 0, 0, b"\1\2\3\4\5\6\7\x08"))
    assert [one for one in client.heard if one[0] == PING] == [(PING, ACK, 0, b"\1\2\3\4\5\6\7\x08")]
    client.send(frame(PING, ACK, 0, b"\1\2\3\4\5\6\7\x08"))
    assert len(client.of(PING)) == 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_more_is_sent_than_a_window_takes(size):
    """RFC 9113 6.9: the window of a stream, whichever frame of SETTINGS says it."""
    town = Http2Town([response(b"hello")])
    client = town.raw(settings=setting(INITIAL_WINDOW_SIZE, 9) + setting(INITIAL_WINDOW_SIZE, size))
    client.send(request(1))
    assert b"".join(client.of(DATA, 1)) == b"hello"[:size]
    client.send(frame(WINDOW_UPDATE, 0, 1, u32(1)))
    assert b"".join(client.of(DATA, 1)) == b"hello"[: size + 1]


def test_windows_follow_the_settings_also_below_zero():
    """RFC 9113 6.9.2"""
    town = Http2Town([response(b"0123456789")])
    client = town.raw(settings=setting(INITIAL_WINDOW_SIZE, 3))
    client.send(request(1))
    client.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 0)))
    client.send(frame(WINDOW_UPDATE, 0, 1, u32(3)))
    assert b"".join(client.of(DATA, 1)) == b"012", "it has come to 0"
    client.send(frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, 1)))
    assert b"".join(client.of(DATA, 1)) == b"0123"
    client.send(frame(WINDOW_UPDATE, 0, 1, u32(100)))
    assert b"".join(client.of(DATA, 1)) == b"0123456789"


def test_padding_counts_in_the_windows_and_comes_back():
    """RFC 9113 6.9.1: all of a frame of DATA counts."""
    town = Http2Town()
    client = town.raw()
    client.send(OPEN)
    for _ in range(200):
        client.send(frame(DATA, PADDED, 1, b"\xfe" + b"x" + bytes(254)))
    connection = town.connections[0]
    credited = sum(int.from_bytes(one, "big") for one in client.of(WINDOW_UPDATE, 1))
    assert credited + connection._streams[1]._credit == 200 * 256
    client.send(frame(DATA, END_STREAM, 1, b""))
    assert town.requests[0].count(b"x") >= 200
    assert client.of(HEADERS, 1)


def test_no_frame_is_larger_than_it_may_be_whatever_the_client_would_take():
    """RFC 9113 4.2: 16,384 octets is what everybody takes."""
    town = Http2Town([response(bytes(100_000), 200, b"X-Big: " + b"b" * 20_000)], pools={"default": POOL})
    client = town.raw(settings=setting(INITIAL_WINDOW_SIZE, 1 << 20) + setting(MAX_FRAME_SIZE, 1 << 20))
    client.send(request(1))
    client.send(frame(WINDOW_UPDATE, 0, 0, u32(1 << 20)))
    assert max(len(one[3]) for one in client.heard) == 16_384
    kinds = [one[0] for one in client.heard if one[2] == 1]
    assert kinds[:2] == [HEADERS, CONTINUATION]
    assert sum(map(len, client.of(DATA, 1))) == 100_000


def test_goaway_names_the_last_stream_that_was_looked_at():
    """RFC 9113 6.8"""
    town = Http2Town([NEVER_ANSWER], [NEVER_ANSWER])
    client = town.raw()
    client.send(request(1), request(7), frame(PING, 0, 0, b""))
    assert int.from_bytes(client.of(GOAWAY)[0][:4], "big") == 7


def test_connect_is_well_formed_and_not_offered():
    """RFC 9113 8.5"""
    town = Http2Town()
    client = town.raw()
    client.send(head(1, fields((":method", "CONNECT"), (":authority", "a:443"))))
    assert b"501" in client.of(HEADERS, 1)[0]
    assert client.resets() == {}


def test_frames_of_a_stream_that_we_have_reset_are_thrown_away():
    """RFC 9113 5.1: they may have been on their way."""
    town = Http2Town([NEVER_ANSWER])
    client = town.raw()
    client.send(OPEN, frame(WINDOW_UPDATE, 0, 1, u32(0)))
    assert client.resets() == {1: PROTOCOL_ERROR}
    client.send(
        frame(DATA, 0, 1, bytes(16_000)),
        frame(WINDOW_UPDATE, 0, 1, u32(5)),
        head(1, fields(("x", "y"))),
        frame(RST_STREAM, 0, 1, u32(8)),
    )
    assert client.goaway is None
    client.send(request(3))
    assert client.open
    assert town.connections[0]._room == (1 << 20) - 16_000, "and their bytes counted"


def test_the_fields_of_a_request_that_is_refused_are_in_the_table_of_the_next():
    """RFC 9113 4.3: a block is decoded whatever becomes of its request."""
    town = Http2Town()
    client = town.raw()
    client.send(head(1, block_of() + b"\x40\x06x-kept\x03yes" + b"\x00\x0aconnection\x01x"))
    assert client.resets() == {1: PROTOCOL_ERROR}
    client.send(head(3, block_of() + b"\xbe"))
    assert b"x-kept: yes\r\n" in town.requests[0]


@pytest.mark.parametrize("flags", [0, END_STREAM, END_HEADERS, WITH_PRIORITY])
def test_what_ends_in_the_middle_of_a_frame_is_nothing(flags):
    town = Http2Town()
    client = town.raw()
    client.send(frame(HEADERS, flags, 1, block_of())[:-1])
    client.scripted.close()
    client.take()
    assert not town.frontend.clients
    assert town.requests == []
