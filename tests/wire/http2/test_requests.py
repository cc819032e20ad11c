"""Requests of HTTP/2: what they become, and that no field block becomes an ambiguous request of HTTP/1.1 (downgrade)."""

from random import Random

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.grammar import CHUNKED, BadMessage, Limits
from twisted_lb.wire.http2.hpack import Entry, HpackDecoder, literal
from twisted_lb.wire.http2.requests import RequestReader, read_trailers
from twisted_lb.wire.request import RequestHead, parse_request

LIMITS = Limits()
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/a?b=c"), (b":authority", b"www.example.com")]
POST = [(b":method", b"POST"), *GET[1:]]

Pairs = list[tuple[bytes, bytes]]


def read(
    pairs: Pairs, *, ended: bool = True, reader: RequestReader | None = None, limits: Limits = LIMITS
) -> RequestHead:
    """The request that fields say."""
    decoder = HpackDecoder()
    entries = decoder.decode(b"".join(literal(name, value) for name, value in pairs), 1 << 20, 1 << 10)
    return (reader or RequestReader()).read(entries, decoder.path, limits, ended=ended)


def refused(pairs: Pairs, *, ended: bool = True) -> tuple[int, str]:
    """How a request is refused that is none."""
    with pytest.raises(BadMessage) as caught:
        read(pairs, ended=ended)
    return caught.value.status, caught.value.reason


def upstream(head: RequestHead) -> bytes:
    """The head as a backend gets it, but for what we say ourselves."""
    coding = b"transfer-encoding: chunked\r\n" if head.fields.framing == CHUNKED else b""
    return head.line + head.lines + coding


# What they become.


def test_a_get_is_one_of_http_1_1():
    head = read([*GET, (b"accept", b"*/*"), (b"x-empty", b"")])
    assert upstream(head) == b"GET /a?b=c HTTP/1.1\r\nhost: www.example.com\r\naccept: */*\r\nx-empty: \r\n"
    fields = head.fields
    assert (fields.version, fields.framing, fields.keep_alive, fields.host) == (20, 0, True, b"www.example.com")


def test_a_body_without_a_length_is_chunked_and_one_with_a_length_has_it():
    assert read(POST, ended=False).fields.framing == CHUNKED
    head = read([*POST, (b"content-length", b"5")], ended=False)
    assert (head.fields.framing, b"content-length: 5\r\n" in head.lines) == (5, True)
    assert read([*POST, (b"content-length", b"0")]).fields.framing == 0
    assert read([*POST, (b"content-length", b"0")], ended=False).fields.framing == 0


def test_crumbs_of_cookies_are_one_field():
    head = read([*GET, (b"cookie", b"a=b"), (b"accept", b"x"), (b"cookie", b"c=d; e=f")])
    assert head.lines.endswith(b"\r\naccept: x\r\ncookie: a=b; c=d; e=f\r\n")


def test_te_says_trailers_and_expectations_are_heard():
    head = read([*POST, (b"te", b"trailers"), (b"expect", b"100-continue")], ended=False)
    assert (head.fields.te_trailers, head.fields.expects) == (True, True)


@pytest.mark.parametrize("host", [b"www.example.com", b"WWW.example.com:443"])
def test_host_may_say_the_same_as_authority_and_is_enough_alone(host):
    assert read([*GET, (b"host", host)]).fields.host == b"www.example.com"
    assert read([*GET[:3], (b"host", host)]).fields.host == host


def test_options_may_ask_of_the_server():
    assert read([(b":method", b"OPTIONS"), GET[1], (b":path", b"*"), GET[3]]).line == b"OPTIONS * HTTP/1.1\r\n"


def test_what_only_a_proxy_may_say_is_a_claim():
    head = read([*GET, (b"x-forwarded-for", b"9.9.9.9"), (b"x_forwarded_for", b"9.9.9.9")])
    assert b"9.9.9.9" not in head.lines
    assert head.fields.claims == {b"x-forwarded-for": b"9.9.9.9"}


def test_an_extended_connect_is_a_get_that_offers_to_switch():
    reader = RequestReader()
    head = read([(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"websocket")], ended=False, reader=reader)
    assert (head.method, head.target, reader.protocol) == (b"GET", b"/a?b=c", b"websocket")
    assert (head.fields.upgrade.strip(b","), head.fields.framing) == (b"websocket", 0)
    head = read(GET, reader=reader)
    assert (reader.protocol, head.fields.upgrade) == (b"", b"")


def test_the_key_of_a_client_is_not_passed_on():
    asked = [
        (b":method", b"CONNECT"),
        *GET[1:],
        (b":protocol", b"websocket"),
        (b"sec-websocket-key", b"x"),
        (b"a", b"b"),
    ]
    assert read(asked, ended=False).lines == b"host: www.example.com\r\na: b\r\n"


def test_other_protocols_are_well_formed_and_not_offered():
    with pytest.raises(BadMessage) as caught:
        read([(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"connect-udp")], ended=False)
    assert caught.value.status == 501


# What they are not.


@pytest.mark.parametrize("missing", [b":method", b":scheme", b":path", b":authority"])
def test_each_pseudo_field_is_needed(missing):
    status, reason = refused([pair for pair in GET if pair[0] != missing])
    assert status == 400
    assert missing.decode() in reason


@pytest.mark.parametrize("name", [b":method", b":scheme", b":path", b":authority"])
@pytest.mark.parametrize("change", ["twice", "empty", "behind a field"])
def test_each_pseudo_field_comes_once_first_and_with_a_value(name, change):
    value = dict(GET)[name]
    rest = [pair for pair in GET if pair[0] != name]
    pairs = {
        "twice": [*GET, (name, value)],
        "empty": [*rest, (name, b"")],
        "behind a field": [*rest, (b"accept", b"x"), (name, value)],
    }[change]
    assert refused(pairs)[0] == 400


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([*GET, (b":status", b"200")], id="a pseudo-field of responses"),
        pytest.param([*GET, (b":unknown", b"x")], id="a pseudo-field of nobody"),
        pytest.param([*GET, (b"Accept", b"x")], id="upper case"),
        pytest.param([*GET, (b"connection", b"close")], id="connection"),
        pytest.param([*GET, (b"transfer-encoding", b"chunked")], id="transfer-encoding"),
        pytest.param([*GET, (b"te", b"gzip")], id="te"),
        pytest.param([*GET, (b"x", b"a\r\nb: c")], id="CRLF in a value"),
        pytest.param([*GET, (b"x\r\nb", b"c")], id="CRLF in a name"),
        pytest.param([*GET, (b"x", b"a\0")], id="NUL in a value"),
        pytest.param([*GET, (b"host", b"other.example.com")], id="another host"),
        pytest.param([*GET, (b"host", b"www.example.com"), (b"host", b"www.example.com")], id="two hosts"),
        pytest.param([*GET[:3], (b":authority", b"user@www.example.com")], id="userinfo"),
        pytest.param([*GET[:3], (b":authority", b"a,b")], id="two authorities"),
        pytest.param([GET[0], (b":scheme", b"ftp"), *GET[2:]], id="another scheme"),
        pytest.param([(b":method", b"GE T"), *GET[1:]], id="a method of two words"),
        pytest.param([(b":method", b"GET\r\n"), *GET[1:]], id="a method with a line end"),
        pytest.param([(b":method", b"GET / HTTP/1.1\r\nx: y\r\n\r\n"), *GET[1:]], id="a method that is a request"),
        pytest.param([*GET[:2], (b":path", b"a"), GET[3]], id="a path without its slash"),
        pytest.param([*GET[:2], (b":path", b"*"), GET[3]], id="the server, by GET"),
        pytest.param([*GET[:2], (b":path", b"https://www.example.com/"), GET[3]], id="an absolute path"),
        pytest.param([*GET[:2], (b":path", b"/ HTTP/1.1"), GET[3]], id="a path with a space"),
        pytest.param([*GET[:2], (b":path", b"/a#b"), GET[3]], id="a fragment"),
        pytest.param([*GET, (b"content-length", b"5")], id="a length without a body"),
        pytest.param([*GET, (b"content-length", b"0"), (b"content-length", b"5")], id="two lengths"),
        pytest.param([*GET, (b"content-length", b"+0")], id="a length that is no number"),
        pytest.param([*GET, (b":protocol", b"websocket")], id="a protocol without CONNECT"),
        pytest.param([(b":method", b"CONNECT"), *GET[1:]], id="CONNECT with a path"),
        pytest.param([(b":method", b"CONNECT"), GET[3], (b":protocol", b"x")], id="an extended CONNECT without a path"),
    ],
)
def test_what_is_no_request_is_malformed(pairs):
    assert refused(pairs)[0] == 400


def test_what_is_well_formed_and_not_offered_has_its_status():
    assert refused([(b":method", b"CONNECT"), (b":authority", b"a:443")]) == (501, "CONNECT is not offered")
    assert refused([*GET[:2], (b":path", b"/" + b"a" * 8192), GET[3]])[0] == 414
    assert refused([*GET, (b"x", b"y" * 40), *[(b"z", b"1")] * 128])[0] == 431


# What is remembered of the last request changes nothing.

some_fields = st.lists(
    st.sampled_from(
        [(b"accept", b"a"), (b"accept", b"b"), (b"cookie", b"a=b"), (b"te", b"trailers"), (b"bad", b"a\nb")]
    ),
    max_size=3,
)
some_paths = st.sampled_from([b"/", b"/a", b"/b", b"bad", b"/ "])


@given(st.lists(st.tuples(some_paths, some_fields, st.booleans(), st.booleans()), max_size=8))
def test_a_request_means_the_same_whatever_came_before(asked):
    encoder, decoder, reader = Encoder(), HpackDecoder(), RequestReader()
    other = Limits(line_bytes=8000)
    for path, fields, ended, limited in asked:
        pairs = [GET[0], GET[1], (b":path", path), GET[3], *fields]
        entries = decoder.decode(encoder.encode(pairs), 1 << 20, 99)  # what comes again is the same entry
        limits = other if limited else LIMITS
        assert said_by(reader, entries, decoder.path, limits, ended=ended) == said_by(
            RequestReader(), entries, decoder.path, limits, ended=ended
        )


def said_by(reader: RequestReader, entries: list[Entry], path: bytes, limits: Limits, *, ended: bool) -> object:
    """What a reader makes of fields, or why it does not."""
    try:
        head = reader.read(entries, path, limits, ended=ended)
    except BadMessage as bad:
        return bad.status, bad.reason
    return upstream(head), head.fields.framing, head.fields.te_trailers


def test_the_same_request_again_is_the_same_object_and_another_path_shares_what_it_means():
    decoder, reader = HpackDecoder(), RequestReader()
    first_block = b"\x82\x87\x84\x41\x01a\x40\x01x\x01y"
    again = b"\x82\x87\x84\xbf\xbe"
    heads = [
        reader.read(decoder.decode(block, 4096, 64), decoder.path, LIMITS, ended=True)
        for block in (first_block, again, again, b"\x82\x87\x04\x02/b\xbf\xbe")
    ]
    assert heads[1] is heads[2]
    assert heads[3].target == b"/b"
    assert heads[3].fields is heads[2].fields


# Trailers.


def trailers(pairs: Pairs) -> bytes:
    entries = HpackDecoder().decode(b"".join(literal(name, value) for name, value in pairs), 1 << 20, 1 << 10)
    return read_trailers(entries, LIMITS)


def test_trailers_are_lines():
    assert trailers([(b"grpc-status", b"0"), (b"x", b"")]) == b"grpc-status: 0\r\nx: \r\n"
    assert trailers([]) == b""


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        ([(b":path", b"/")], 400),
        ([(b":status", b"200")], 400),
        ([(b"connection", b"close")], 400),
        ([(b"content-length", b"5")], 400),
        ([(b"host", b"a")], 400),
        ([(b"x", b"a\r\nb")], 400),
        ([(b"x", b"y" * 9000)], 431),
    ],
)
def test_what_may_not_be_a_trailer_is_none(pairs, status):
    with pytest.raises(BadMessage) as caught:
        trailers(pairs)
    assert caught.value.status == status


# A thousand hostile blocks.

PIECES = [
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b":",
    b"\t",
    b"HTTP/1.1",
    b"a",
    b"/",
    b"chunked",
    b"0",
    b"5",
    b"host",
    b"x",
    b"\xff",
    b",",
    b"@",
]
NAMES = [
    *dict(GET),
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"te",
    b"cookie",
    b"x",
    b"expect",
    b"upgrade",
]


@pytest.mark.parametrize("seed", range(10))
def test_no_hostile_block_becomes_an_ambiguous_request(seed):
    rng = Random(seed)
    taken = 0
    for _ in range(300):
        pairs = [pair for pair in GET if rng.random() < 0.97]
        for _ in range(rng.randrange(4)):
            name = rng.choice(NAMES)
            if rng.random() < 0.2:
                name += rng.choice(PIECES)
            value = b"".join(rng.choice(PIECES) for _ in range(rng.randrange(4)))
            pairs.insert(rng.choice([len(pairs), rng.randrange(len(pairs) + 1)]), (name, value))
        ended = rng.random() < 0.5
        try:
            head = read(pairs, ended=ended)
        except BadMessage:
            continue
        taken += 1
        said = upstream(head)
        # One request of HTTP/1.1 and no more, which means the same when it is read anew.
        assert said.count(b"\r\n\r\n") == 0
        assert len(said.splitlines()) == said.count(b"\r\n") == said.count(b"\n") == said.count(b"\r")
        anew = parse_request(said[:-2], LIMITS)
        assert (anew.method, anew.target) == (head.method, head.target)
        assert (anew.fields.framing, anew.fields.host) == (head.fields.framing, head.fields.host)
        assert not anew.fields.upgrade
        assert anew.fields.framing == CHUNKED or not ended or anew.fields.framing == 0
    assert taken > 20
