"""HPACK: what another implementation has encoded is decoded as that one decodes it, and its errors are errors."""

import pytest
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.http2 import hpack
from twisted_lb.wire.http2.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Http2Error, error_name
from twisted_lb.wire.http2.hpack import A_PATH, STATIC, Entry, HpackDecoder, encode_lines, encode_status, literal
from twisted_lb.wire.http2.huffman import huffman_decode, huffman_encode

MUCH = 1 << 20
MANY = 1 << 10

names = st.one_of(
    st.sampled_from([entry.name for entry in STATIC[1:]]),
    st.from_regex(rb"[a-z0-9-]{1,30}", fullmatch=True),
)
values = st.one_of(st.binary(max_size=60), st.from_regex(rb"[ -~]{0,200}", fullmatch=True))
fields = st.lists(st.tuples(names, values), max_size=20)


def decoded(decoder: HpackDecoder, block: bytes) -> list[tuple[bytes, bytes]]:
    """All fields of a block, with its path where it stood."""
    entries = decoder.decode(block, MUCH, MANY)
    assert decoder.excess == ""
    return [(entry.name, decoder.path if entry is A_PATH else entry.value) for entry in entries]


def one_path(block: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The same with its last path in the place of all of them, as a decoder tells it."""
    path = ([b"/"] + [value for name, value in block if name == b":path"])[-1]
    return [(name, path if name == b":path" else value) for name, value in block]


def decoded_or_not(decoder: HpackDecoder, block: bytes) -> tuple[list[Entry], bool]:
    """The fields of a block, and whether it has an integer that only we refuse, since it is of no use to anybody."""
    try:
        return decoder.decode(block, MUCH, MANY), False
    except Http2Error as error:
        if error.reason != "integer that is too long":
            raise
        return [], True


# The Huffman code.


@given(st.binary(max_size=200))
def test_the_huffman_code_is_that_of_another_implementation(text):
    code = huffman_encode(text)
    assert code == HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    assert huffman_decode(code) == text
    assert huffman_decode(code) == text  # as it is remembered


@given(st.binary(max_size=12))
def test_bytes_by_chance_are_a_code_where_they_are_one_to_another_implementation(data):
    try:
        expected = decode_huffman(data)
    except HPACKError:
        with pytest.raises(Http2Error):
            huffman_decode(data)
    else:
        assert huffman_decode(data) == expected


def test_every_symbol_has_its_code():
    for symbol in range(256):
        text = bytes((symbol,)) * 3
        assert huffman_decode(huffman_encode(text)) == text


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff\xff\xff", id="EOS"),
        pytest.param(huffman_encode(b"www") + b"\xff", id="a byte of padding"),
        pytest.param(b"\x00", id="padding of zeros"),
        pytest.param(b"\xff\xff", id="padding alone, two bytes"),
    ],
)
def test_what_is_no_huffman_code_ends_the_connection(data):
    with pytest.raises(Http2Error) as caught:
        huffman_decode(data)
    assert caught.value.code == COMPRESSION_ERROR


# Blocks of others.


@given(st.lists(fields, min_size=1, max_size=6), st.booleans(), st.sampled_from([None, 0, 100, 4096]))
def test_blocks_of_another_implementation_are_decoded_in_their_order(blocks, huffman, table):
    encoder, decoder = Encoder(), HpackDecoder()
    if table is not None:
        encoder.header_table_size = table
    for block in blocks:
        assert decoded(decoder, encoder.encode(block, huffman=huffman)) == one_path(block)
    assert decoder.table_bytes == sum(32 + len(n) + len(v) for n, v in encoder.header_table.dynamic_entries)


@given(st.lists(fields, min_size=1, max_size=4))
def test_sensitive_fields_are_decoded_and_leave_nothing(blocks):
    encoder, decoder = Encoder(), HpackDecoder()
    for block in blocks:
        assert decoded(decoder, encoder.encode([NeverIndexedHeaderTuple(*one) for one in block])) == one_path(block)
    assert decoder.table_bytes == 0


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
def test_bytes_by_chance_are_a_block_where_they_are_one_to_another_implementation(blocks):
    theirs, ours = Decoder(MUCH), HpackDecoder()
    for block in blocks:
        try:
            expected = theirs.decode(block, raw=True)
        except (HPACKError, IndexError):
            with pytest.raises(Http2Error):
                ours.decode(block, MUCH, MANY)
            return
        entries, stricter = decoded_or_not(ours, block)
        if stricter:
            return
        said = [(entry.name, b"" if entry is A_PATH else entry.value) for entry in entries]
        assert said == [(name, b"" if name == b":path" else value) for name, value in expected]


def test_the_examples_of_the_rfc():
    """RFC 7541 C.4: three requests, with the Huffman code; the table holds what they have brought."""
    decoder = HpackDecoder()
    assert decoded(decoder, bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ]
    assert decoder.table_bytes == 57
    assert decoded(decoder, bytes.fromhex("828684be5886a8eb10649cbf"))[-1] == (b"cache-control", b"no-cache")
    assert decoder.table_bytes == 110
    third = decoded(decoder, bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third[2:] == [
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ]
    assert decoder.table_bytes == 164


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\x80", id="index 0"),
        pytest.param(b"\xbe", id="index of an empty table"),
        pytest.param(b"\x7f\x80", id="index that is cut off"),
        pytest.param(b"\x00\x03ab", id="name that is cut off"),
        pytest.param(b"\x00\x01a", id="no value"),
        pytest.param(b"\x00\x01a\x05b", id="value that is cut off"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\x01", id="integer of six bytes"),
        pytest.param(b"\x3f\xe2\x1f", id="table of 4,097 bytes"),
        pytest.param(b"\x82\x20", id="size of the table behind a field"),
        pytest.param(b"\x7e\x00", id="name by an index of an empty table"),
    ],
)
def test_what_is_no_block_ends_the_connection(block):
    with pytest.raises(Http2Error) as caught:
        HpackDecoder().decode(block, MUCH, MANY)
    assert (caught.value.code, error_name(caught.value.code)) == (COMPRESSION_ERROR, "COMPRESSION_ERROR")


def test_a_peer_to_whom_no_table_was_granted_has_none():
    decoder = HpackDecoder(0)
    assert decoded(decoder, b"\x20" + b"\x40\x01a\x01b") == [(b"a", b"b")]
    assert decoder.table_bytes == 0
    with pytest.raises(Http2Error, match="larger than was agreed"):
        decoder.decode(b"\x21", MUCH, MANY)


def test_a_field_larger_than_the_table_leaves_it_empty():
    decoder = HpackDecoder()
    decoded(decoder, b"\x40\x01a\x01b")
    assert decoder.table_bytes == 34
    decoded(decoder, b"\x40\x01a\x7f\x81\x1f" + b"b" * 4096)
    assert decoder.table_bytes == 0


# Blocks that are the last one but for their path are not read again.


def of_page(path: bytes) -> bytes:
    """What a browser asks of a page, one thing after the other: its fields are in the table, and each path is a literal."""
    return b"\x82\x86\x04" + bytes((len(path),)) + path + b"\xbf\xbe"


@pytest.fixture
def of_a_page():
    """A decoder that knows the fields of the page, and has read a block of it."""
    decoder = HpackDecoder()
    decoded(decoder, b"\x40\x01a\x011\x40\x01b\x012")
    decoded(decoder, of_page(b"/1"))
    return decoder


@given(
    st.lists(fields, min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 2), values, st.booleans()), max_size=12)
)
def test_blocks_that_come_again_with_other_paths_are_those_of_another_implementation(blocks, asked):
    encoder, decoder = Encoder(), HpackDecoder()
    for at, path, huffman in asked:
        others = [one for one in blocks[at % len(blocks)] if one[0] != b":path"]
        block = encoder.encode([*others, NeverIndexedHeaderTuple(b":path", path), *others], huffman=huffman)
        assert decoded(decoder, block) == [*others, (b":path", path), *others]


def test_a_block_that_is_the_last_one_but_for_its_path_is_not_read_again(of_a_page):
    entries = of_a_page.decode(of_page(b"/2"), MUCH, MANY)
    assert of_a_page.decode(of_page(b"/a/longer/one"), MUCH, MANY) is entries
    assert of_a_page.path == b"/a/longer/one"
    assert [entry.name for entry in entries] == [b":method", b":scheme", b":path", b"a", b"b"]


def test_a_block_whose_path_is_an_index_is_not_read_again_either(of_a_page):
    entries = of_a_page.decode(b"\x82\x84\xbf", MUCH, MANY)
    assert of_a_page.decode(b"\x82\x84\xbf", MUCH, MANY) is entries
    assert of_a_page.path == b"/"
    assert decoded(of_a_page, b"\x82\x84\xbf\xbe") == [
        (b":method", b"GET"),
        (b":path", b"/"),
        (b"a", b"1"),
        (b"b", b"2"),
    ]


@pytest.mark.parametrize("changing", [b"\x40\x01c\x013", of_page(b"/3") + b"\x40\x01c\x013"])
def test_when_something_has_entered_the_table_a_block_is_read_again(of_a_page, changing):
    of_a_page.decode(changing, MUCH, MANY)
    assert decoded(of_a_page, of_page(b"/4"))[2:] == [(b":path", b"/4"), (b"b", b"2"), (b"c", b"3")]


def test_when_the_table_has_become_smaller_a_block_is_read_again(of_a_page):
    decoded(of_a_page, b"\x20\x82")
    with pytest.raises(Http2Error) as caught:
        of_a_page.decode(of_page(b"/4"), MUCH, MANY)
    assert caught.value.code == COMPRESSION_ERROR


def test_a_path_that_is_cut_off_or_of_no_code_ends_the_connection_also_where_the_rest_is_known(of_a_page):
    for path in (b"\x7f", b"\x05/", b"\x81\x00"):
        with pytest.raises(Http2Error) as caught:
            of_a_page.decode(b"\x82\x86\x04" + path, MUCH, MANY)
        assert caught.value.code == COMPRESSION_ERROR


def test_the_bounds_of_a_head_hold_where_it_is_known_but_for_its_path(of_a_page):
    counts = sum(entry.size for entry in of_a_page.decode(of_page(b"/1"), MUCH, MANY)) - 1  # A_PATH has one byte
    for path, excess in ((b"/23", ""), (b"/234", "header list too long"), (b"/32", "")):
        of_a_page.decode(of_page(path), counts + 3, MANY)
        assert of_a_page.excess == excess
    of_a_page.decode(of_page(b"/"), MUCH, 4)
    assert of_a_page.excess == "too many fields"


# Bounds: what is too much is read to its end, so that the table stays that of the peer.


def test_a_list_that_is_too_long_is_read_to_its_end_and_not_kept():
    decoder = HpackDecoder()
    big = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000  # 3,999 bytes of value into the table
    decoded(decoder, big)
    entries = decoder.decode(b"\xbe" * 10_000 + b"\x40\x01n\x01v", 32768, 128)
    assert decoder.excess == "header list too long"
    assert len(entries) == 8
    assert decoded(decoder, b"\xbe") == [(b"n", b"v")]


@pytest.mark.parametrize(
    ("field", "times", "cost"),
    [
        (b"\x40\x01n\x01v", 3, 1),  # 3 times 34 bytes
        (b"\x40\x01n\x01v", 1000, 1 + 2 + 15),
        (b"\x40\x01n\x7f\xa1\x1e" + b"v" * 4000, 100, 1 + 24 + 1),  # 4,033 bytes each
    ],
)
def test_what_is_too_much_costs_what_it_was_decoded_to(field, times, cost):
    decoder = HpackDecoder()
    decoder.decode(field + b"\xbe" * (times - 1), 100, 128)
    assert (decoder.excess, decoder.excess_cost) == ("header list too long", cost)
    decoder.decode(b"\xbe" * 2, MUCH, 128)
    assert decoder.excess == ""


@pytest.mark.parametrize(("times", "ends"), [(8, False), (9, False), (10, True)])
def test_of_what_is_many_times_too_long_no_more_is_read(times, ends):
    block = b"\x40\x01n\x01v" + b"\xbe" * (10 * times - 1)
    for list_bytes, fields in ((340, 128), (MUCH, 10)):
        decoder = HpackDecoder(excess_times=8)
        if ends:
            with pytest.raises(Http2Error) as caught:
                decoder.decode(block + b"\xff", list_bytes, fields)
            assert (caught.value.code, caught.value.reason) == (ENHANCE_YOUR_CALM, "a head that is far too long")
        else:
            decoder.decode(block, list_bytes, fields)
            assert decoder.excess


def test_of_fields_alone_each_64_cost_one():
    decoder = HpackDecoder()
    decoder.decode(b"\x40\x01n\x01v" + b"\xbe" * 639, MUCH, 128)
    assert (decoder.excess, decoder.excess_cost) == ("too many fields", 1 + 1 + 10)


def test_more_fields_than_there_may_be_are_not_kept_crumbs_of_cookies_included():
    decoder = HpackDecoder()
    entries = decoder.decode(b"\x60\x01c" + b"\xbe" * 200, MUCH, 128)
    assert (decoder.excess, len(entries)) == ("too many fields", 128)
    decoder.decode(b"\xbe" * 128, MUCH, 128)
    assert decoder.excess == ""


# What a field is.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Upper", b"x"),
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a:b", b"x"),
        (b"a\r\nb", b"x"),
        (b":unknown", b"x"),
        (b"connection", b"close"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"te", b"trailers, gzip"),
        (b"x", b"a\r\nb"),
        (b"x", b"a\nb"),
        (b"x", b"a\0b"),
        (b"x", b"a\x7f"),
        (b"x", b" a"),
        (b"x", b"a\t"),
        (b":path", b"/a\r\nb"),
        (b":authority", b"a\nb"),
    ],
)
def test_what_no_message_may_have_makes_it_malformed(name, value):
    entry = Entry(name, value)
    assert (entry.kind, entry.line) == (hpack.MALFORMED, b"")


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        (b"accept", b"*/*", hpack.LINE),
        (b"x", b"", hpack.LINE),
        (b"x", b"a \t b\xff", hpack.LINE),
        (b"cookie", b"a=b", hpack.COOKIE),
        (b"content-length", b"5", hpack.LENGTH),
        (b"host", b"a", hpack.HOST),
        (b"te", b"Trailers", hpack.TE),
    ],
)
def test_a_field_has_its_line_of_http_1_1(name, value, kind):
    entry = Entry(name, value)
    assert (entry.kind, entry.line) == (kind, name + b": " + value + b"\r\n")


# Blocks of our own.


@given(st.sampled_from([100, 103, 200, 204, 206, 304, 400, 404, 418, 500, 599]), fields)
def test_a_block_of_ours_is_read_by_another_implementation_and_leaves_nothing(status, block):
    kept = [(name, value.strip(b" \t")) for name, value in block if name[:1] != b":" and not set(value) & set(b"\r\n")]
    kept = [one for one in kept if one[0] not in (b"transfer-encoding", b"connection", b"upgrade", b"keep-alive")]
    lines = b"".join(name.title() + b": " + value + b"\r\n" for name, value in kept)
    theirs = Decoder(MUCH)
    said = theirs.decode(encode_status(status) + encode_lines(lines), raw=True)
    assert list(said) == [(b":status", b"%d" % status), *kept]
    assert not theirs.header_table.dynamic_entries


def test_fields_of_a_connection_are_left_out_and_secrets_are_never_indexed():
    lines = b"Connection: close\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=b\r\nX: y\r\n"
    (secret, plain) = Decoder(MUCH).decode(encode_lines(lines), raw=True)
    assert (secret, type(secret)) == ((b"set-cookie", b"a=b"), NeverIndexedHeaderTuple)
    assert (plain, isinstance(plain, NeverIndexedHeaderTuple)) == ((b"x", b"y"), False)


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 16384])
def test_a_literal_of_any_length(size):
    assert decoded(HpackDecoder(), literal(b"x", b"y" * size)) == [(b"x", b"y" * size)]
    assert decoded(HpackDecoder(), literal(b"x" * size or b"x", b"y")) == [(b"x" * size or b"x", b"y")]
