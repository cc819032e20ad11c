"""HPACK (RFC 7541): what a field block says, and blocks of our own, which leave nothing in anybody's table.

A field is understood once, when it enters the table: what a peer repeats by index costs a look-up, and no parsing.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.grammar import FIELD, LOWER_TOKEN
from twisted_lb.wire.http2.errors import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Http2Error
from twisted_lb.wire.http2.huffman import huffman_decode

# What a field is to a proxy.
LINE: Final = 0
METHOD: Final = 1
PATH: Final = 2
SCHEME: Final = 3
AUTHORITY: Final = 4
PROTOCOL: Final = 5  # RFC 8441
STATUS: Final = 6
COOKIE: Final = 7
LENGTH: Final = 8
HOST: Final = 9
TE: Final = 10
MALFORMED: Final = 11  # it makes its message malformed (RFC 9113 8.1.1)

_KINDS: Final[dict[bytes, int]] = {
    b":method": METHOD,
    b":path": PATH,
    b":scheme": SCHEME,
    b":authority": AUTHORITY,
    b":protocol": PROTOCOL,
    b":status": STATUS,
    b"cookie": COOKIE,
    b"content-length": LENGTH,
    b"host": HOST,
    b"te": TE,
    # RFC 9113 8.2.2: these are of a connection, and are no fields here.
    b"connection": MALFORMED,
    b"keep-alive": MALFORMED,
    b"proxy-connection": MALFORMED,
    b"transfer-encoding": MALFORMED,
    b"upgrade": MALFORMED,
    b"http2-settings": MALFORMED,
}
_OF_CONNECTIONS: Final = frozenset(name for name, kind in _KINDS.items() if kind == MALFORMED)
_AS_LINES: Final = frozenset((LINE, COOKIE, LENGTH, HOST, TE))
# RFC 7541 7.1.3: no hop behind us is to put them into a table either.
_SECRET: Final = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))

# Names are remembered as of their kind, so many, and none that is longer.
_NAMES_MOST: Final = 2048
_NAME_BYTES: Final = 64
_names: Final[dict[bytes, int]] = {}

# RFC 7541 4.1: what a field counts beside its octets.
FIELD_OVERHEAD: Final = 32
# RFC 9113 6.5.2: the size of a table until somebody says another one.
TABLE_BYTES: Final = 4096
# Integers of more than four bytes behind their prefix are of no use to anybody.
_SHIFT_MOST: Final = 28


def _kind_of(name: bytes) -> int:
    """What a field of this name is; MALFORMED unless it is a token without upper case, or a pseudo-field that is known."""
    kind = _names.get(name, -1)
    if kind >= 0:
        return kind
    kind = _KINDS.get(name, LINE)
    if kind == LINE and (not name or name.translate(LOWER_TOKEN) != name):
        kind = MALFORMED
    if len(name) <= _NAME_BYTES:
        if len(_names) >= _NAMES_MOST:
            _names.clear()
        _names[name] = kind
    return kind


@mypyc_attr(acyclic=True)
class Entry:
    """A field as HPACK has it, and what it is: `kind` to a proxy, `line` in HTTP/1.1, ready made, with its CRLF; empty where it is none
    there. `size` is what it counts, in bytes.
    """

    __slots__ = ("kind", "line", "name", "size", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name: Final = name
        self.value: Final = value
        self.size: Final = len(name) + len(value) + FIELD_OVERHEAD
        kind = _kind_of(name)
        # RFC 9113 8.2.1: nothing that ends a line, and no blanks around; other controls neither, as in HTTP/1.1.
        if value and (value.translate(FIELD) != value or value[0] in (0x20, 0x09) or value[-1] in (0x20, 0x09)):
            kind = MALFORMED
        # RFC 9113 8.2.2
        if kind == TE and value.lower() != b"trailers":
            kind = MALFORMED
        self.kind: Final = kind
        self.line: Final = name + b": " + value + b"\r\n" if kind in _AS_LINES else b""

    def __repr__(self) -> str:
        return f"<Entry {self.name!r}: {self.value!r}>"


_STATIC: Final = (
    b":authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|"
    b":status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|"
    b"accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|"
    b"content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|"
    b"cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|"
    b"last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|"
    b"server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)
# RFC 7541 appendix A; index 0 is none.
STATIC: Final[list[Entry]] = [
    Entry(name, value) for name, _, value in (field.partition(b" ") for field in (b"-", *_STATIC.split(b"|")))
]
_STATIC_LAST: Final = 61
_STATIC_INDEX: Final[dict[bytes, int]] = {STATIC[index].name: index for index in range(_STATIC_LAST, 0, -1)}
_STATUS_BLOCK: Final[dict[int, bytes]] = {int(STATIC[index].value): bytes((0x80 | index,)) for index in range(8, 15)}
# It stands for the path in a list of entries: paths differ, and all the rest mostly does not.
A_PATH: Final = Entry(b":path", b"/")


@mypyc_attr(acyclic=True)
class HpackDecoder:
    """A decoder of the field blocks of one peer, in their order; all of them, also of streams that are of no interest. A block that is the last
    one but for its path, as those of a page are, is not read again: it says the same while nothing enters the table.

    `table_bytes`: the size of the table that the peer may have at the most. A block of more than `list_bytes`, as its fields count,
    or of more than `fields` of them is read to its end, and only then `excess` says why it is not to be used; what is returned is
    not all of it, and `excess_cost` what that has cost, in the pieces of 16 KiB and of 64 fields that it had (HPACK bomb). `excess_times`: of
    a block that is more than so many times as long nothing more is read, and the connection is over; 0: any is. After each block `path` is the value of its :path, which stands in the list as A_PATH.
    """

    __slots__ = (
        "_agreed", "_at", "_before", "_behind", "_bytes", "_entries", "_fields", "_left", "_limit", "_list_bytes", "_path", "_table",
        "_times", "excess", "excess_cost", "path",
    )  # fmt: skip

    def __init__(self, table_bytes: int = TABLE_BYTES, excess_times: int = 0) -> None:
        self.path: bytes = b""
        self.excess: str = ""
        self.excess_cost: int = 0
        self._times: Final = excess_times
        self._table: Final[list[Entry]] = []  # the newest is the last
        self._bytes: int = 0
        self._limit: int = table_bytes
        self._agreed: Final = table_bytes
        self._at: int = 0  # where the last integer or text ended
        # The last block, what it says, and by which bounds: its text before and behind its path, and how long that may be; where the path
        # is an index, all of it, and -1.
        self._before: bytes = b""
        self._behind: bytes = b""
        self._path: bytes = b""
        self._entries: list[Entry] = []
        self._left: int = -1
        self._list_bytes: int = 0
        self._fields: int = 0

    @property
    def table_bytes(self) -> int:
        """How much the table holds now."""
        return self._bytes

    def decode(self, block: bytes, list_bytes: int, fields: int) -> list[Entry]:  # noqa: PLR0912, PLR0915 - the one pass
        """The fields of a block. Http2Error where it cannot be decoded: the connection is over (COMPRESSION_ERROR)."""
        self.excess = ""
        before = self._before
        if before and block.startswith(before) and list_bytes == self._list_bytes and fields == self._fields:
            if self._left >= 0:
                path = self._text(block, len(before))
                if len(path) <= self._left and block[self._at :] == self._behind:
                    self.path = path
                    return self._entries
            elif len(block) == len(before):
                self.path = self._path
                return self._entries
        self._before = b""
        entries: list[Entry] = []
        end = len(block)
        at = 0
        left = list_bytes
        over = 0  # fields that are not returned
        path_at = path_end = 0  # where its text stands, where it is no index
        steady = True  # nothing enters the table
        while at < end:
            first = block[at]
            at += 1
            if first & 0x80:
                index = first & 0x7F
                if index == 0x7F:
                    index = self._integer(block, at, 0x7F)
                    at = self._at
                entry = STATIC[index] if 0 < index <= _STATIC_LAST else self._entry(index)
            elif first & 0xE0 == 0x20:
                size = first & 0x1F
                if size == 0x1F:
                    size = self._integer(block, at, 0x1F)
                    at = self._at
                if entries or self.excess:
                    raise Http2Error(COMPRESSION_ERROR, "size of the table changed within a block")
                self._resize(size)
                continue
            else:
                mask = 0x3F if first & 0x40 else 0x0F
                index = first & mask
                if index == mask:
                    index = self._integer(block, at, mask)
                    at = self._at
                if index:
                    name = (STATIC[index] if index <= _STATIC_LAST else self._entry(index)).name
                else:
                    name = self._text(block, at)
                    at = self._at
                begin = at
                value = self._text(block, at)
                at = self._at
                entry = Entry(name, value)
                if first & 0x40:
                    self._insert(entry)
                    steady = False
                elif entry.kind == PATH:
                    steady = steady and not path_at
                    path_at, path_end = begin, at
            left -= entry.size
            if left < 0:
                self.excess = "header list too long"
                over += 1
            elif len(entries) >= fields:
                self.excess = "too many fields"
                over += 1
            else:
                if entry.kind == PATH:
                    self.path = entry.value
                    entry = A_PATH
                entries.append(entry)
                continue
            if self._times and (over > self._times * fields or left < -self._times * list_bytes):
                raise Http2Error(ENHANCE_YOUR_CALM, "a head that is far too long")
        if over:
            self.excess_cost = 1 + ((list_bytes - left) >> 14) + ((len(entries) + over) >> 6)
        elif steady:
            self._before = block[:path_at] if path_at else block
            self._behind = block[path_end:] if path_at else b""
            self._left = left + len(self.path) if path_at else -1
            self._path = self.path
            self._entries = entries
            self._list_bytes = list_bytes
            self._fields = fields
        return entries

    def _entry(self, index: int) -> Entry:
        """The field at an index behind those of the static table."""
        index -= _STATIC_LAST
        table = self._table
        if index < 1 or index > len(table):
            raise Http2Error(COMPRESSION_ERROR, "index of no field")
        return table[len(table) - index]

    def _integer(self, block: bytes, at: int, value: int) -> int:
        """An integer whose prefix was full (RFC 7541 5.1)."""
        shift = 0
        while True:
            if at >= len(block):
                raise Http2Error(COMPRESSION_ERROR, "field block that is cut off")
            if shift > _SHIFT_MOST:
                raise Http2Error(COMPRESSION_ERROR, "integer that is too long")
            byte = block[at]
            at += 1
            value += (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                self._at = at
                return value

    def _text(self, block: bytes, at: int) -> bytes:
        """A text (RFC 7541 5.2)."""
        if at >= len(block):
            raise Http2Error(COMPRESSION_ERROR, "field block that is cut off")
        first = block[at]
        at += 1
        length = first & 0x7F
        if length == 0x7F:
            length = self._integer(block, at, 0x7F)
            at = self._at
        end = at + length
        if end > len(block):
            raise Http2Error(COMPRESSION_ERROR, "field block that is cut off")
        self._at = end
        text = block[at:end]
        return huffman_decode(text) if first & 0x80 else text

    def _insert(self, entry: Entry) -> None:
        self._bytes += entry.size
        self._table.append(entry)
        if self._bytes > self._limit:
            self._evict()

    def _resize(self, size: int) -> None:
        if size > self._agreed:
            raise Http2Error(COMPRESSION_ERROR, "table larger than was agreed")
        self._limit = size
        self._evict()

    def _evict(self) -> None:
        """Give up the oldest fields; one that is larger than the table leaves it empty (RFC 7541 4.4)."""
        table = self._table
        gone = 0
        while self._bytes > self._limit:
            self._bytes -= table[gone].size
            gone += 1
        del table[:gone]


# RFC 7541 6.3: the table is of size 0 from here on. It has to be said in the next block, to whoever has told of less than 4,096.
NO_TABLE: Final = b"\x20"
# Blocks of our own: the static table, literals that nobody is to remember, no Huffman code. So a block means the same wherever it is
# sent, and may be remembered with the head that it was made of.


def _prefixed(value: int, mask: int, flags: int) -> bytes:
    """An integer (RFC 7541 5.1) with these flags in front."""
    if value < mask:
        return bytes((flags | value,))
    out = bytearray((flags | mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes) -> bytes:
    """A field, its name in lower case, as a literal without indexing; of a secret one, never indexed."""
    flags = 0x10 if name in _SECRET else 0
    index = _STATIC_INDEX.get(name, 0)
    if index:
        return _prefixed(index, 0x0F, flags) + _prefixed(len(value), 0x7F, 0) + value
    return bytes((flags,)) + _prefixed(len(name), 0x7F, 0) + name + _prefixed(len(value), 0x7F, 0) + value


def encode_status(status: int) -> bytes:
    """The field with which the block of a response begins."""
    return _STATUS_BLOCK.get(status) or literal(b":status", b"%d" % status)


def encode_lines(lines: bytes) -> bytes:
    """Field lines of HTTP/1.1, each ended by CRLF, as a part of a block; those that are of a connection are left out."""
    fields: list[bytes] = []
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name and name not in _OF_CONNECTIONS:
            fields.append(literal(name, value.strip(b" \t")))
    return b"".join(fields)
