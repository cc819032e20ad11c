"""The chunked transfer coding (RFC 9112 section 7.1), strictly read and plainly written."""

import enum
import re
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.fields import parse_trailers
from twisted_lb.wire.grammar import BLANK_LINE, CRLF, FIELD, HEX_DIGITS, ILLEGAL_IN_HEAD, BadMessage, Limits

# RFC 9112 7.1.1 has unknown extensions ignored, and their length bounded. Those of one chunk may be so long; and those of a
# body longer than their chunks by so much in all, so that a message of one-byte chunks is not mostly something else.
_EXTENSION_BYTES: Final = 256
_EXTENSION_BYTES_BODY: Final = 16384
# RFC 9112 7.1.1: *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), from behind the first semicolon.
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_ONE: Final = (
    rb"[ \t]*+"
    + _TOKEN
    + rb"(?:[ \t]*+=[ \t]*+(?:"
    + _TOKEN
    + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"))?+'
)
_EXTENSION: Final = re.compile(_ONE + rb"(?:[ \t]*+;" + _ONE + rb")*+")
# 15 hexadecimal digits stay below 2**60.
_SIZE_DIGITS: Final = 15

# From here on a view of the bytes is less than a copy: a long payload is copied only once, when the pieces are joined.
_WORTH_A_VIEW: Final = 4096


class State(enum.Enum):
    """What a decoder of the chunked coding reads next."""

    SIZE = "a chunk's size, with its extensions"
    DATA = "a chunk's payload"
    DATA_END = "the CRLF behind a payload"
    TRAILERS = "the trailer section"
    DONE = "nothing: the body is complete"


# Looked up once, not at each chunk.
_SIZE: Final = State.SIZE
_DATA: Final = State.DATA
_DATA_END: Final = State.DATA_END
_TRAILERS: Final = State.TRAILERS
_DONE: Final = State.DONE

LAST_CHUNK: Final = b"0\r\n"


def chunk(payload: bytes) -> bytes:
    """One chunk around a payload, which must not be empty: an empty chunk would end the body."""
    return chunk_begin(len(payload)) + payload + CRLF


def chunk_begin(size: int) -> bytes:
    """The size line of a chunk of so many bytes, never 0. Its payload comes behind it, then a CRLF."""
    return b"%x\r\n" % size


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body; `trailers` are field lines, each ended by CRLF, or nothing."""
    return LAST_CHUNK + trailers + CRLF


def _cut(data: bytes, begin: int, end: int) -> bytes | memoryview:
    if end - begin < _WORTH_A_VIEW:
        return data[begin:end]
    return memoryview(data)[begin:end]


@mypyc_attr(acyclic=True, free_list_len=1)
class ChunkDecoder:
    """A decoder of the chunked coding: takes a body apart as it arrives.

    `feed` returns the payload it found; once `done`, `trailers` are the field lines after the body (each ended by CRLF)
    and `rest` is what came behind it. BadMessage at the first byte that a strict reader does not expect.
    """

    def __init__(self, limits: Limits) -> None:
        self.done: bool = False
        self.trailers: bytes = b""
        self.rest: bytes = b""
        self._limits: Final = limits
        self._state: State = _SIZE
        self._left: int = 0
        self._partial: bytes = b""
        self._extensions: int = 0  # by how many bytes they are longer than the chunks that they came with
        self._searched: int = 0  # of the trailer section

    def feed(self, data: bytes, at: int = 0) -> bytes:
        """Decode the next bytes of the body, those of `data` from `at` on, and return their payload, maybe none. Not to
        be called once `done`.
        """
        if self._partial:
            data = self._partial + data[at:]
            self._partial = b""
            at = 0
        pieces: list[bytes | memoryview] = []
        size = len(data)
        while at < size and self._state is not _DONE:
            if self._state is _DATA:
                length = min(self._left, size - at)
                pieces.append(_cut(data, at, at + length))
                at += length
                self._left -= length
                if self._left == 0:
                    self._state = _DATA_END
                continue
            if self._state is _SIZE:
                # A whole chunk without extensions, by far the most usual one: the rest of this class is for what is not.
                end = data.find(CRLF, at, at + _SIZE_DIGITS + 2)
                digits = data[at:end]
                if end > at and digits.translate(HEX_DIGITS) == digits:
                    begin = end + 2
                    behind = begin + int(digits, 16)
                    if begin < behind < size and data[behind : behind + 2] == CRLF:
                        pieces.append(_cut(data, begin, behind))
                        at = behind + 2
                        continue
            ahead = self._read_line(data, at)
            if ahead < 0:
                self._partial = data[at:]
                break
            at = ahead
        if self.done:
            self.rest = data[at:]
        if len(pieces) == 1:
            return bytes(pieces[0])
        return b"".join(pieces)

    def _read_line(self, data: bytes, at: int) -> int:
        """Read what stands between payloads; the index behind it, or -1 when it is not complete."""
        if self._state is _TRAILERS:
            return self._read_trailers(data, at)
        if self._state is _DATA_END:
            if data[at : at + 2] == CRLF:
                self._state = _SIZE
                return at + 2
            if data[at : at + 1] == b"\r" and at + 1 == len(data):
                return -1
            raise BadMessage(400, "chunk longer than its size")
        end = data.find(CRLF, at, at + _EXTENSION_BYTES + _SIZE_DIGITS + 3)
        if end < 0:
            self._check_unfinished(data[at:])
            return -1
        self._begin_chunk(data[at:end])
        return end + 2

    def _check_unfinished(self, line: bytes) -> None:
        """Refuse an unfinished line that can no longer become a chunk's size, so that it is not waited for."""
        if len(line) > _EXTENSION_BYTES + _SIZE_DIGITS + 2:
            raise BadMessage(400, "chunk size line too long")
        if line.endswith(b"\r"):
            line = line[:-1]
        digits, semicolon, extension = line.partition(b";")
        if len(digits) > _SIZE_DIGITS or digits.translate(HEX_DIGITS) != digits or (semicolon and not digits):
            raise BadMessage(400, "illegal chunk size")
        if extension.translate(FIELD) != extension:
            raise BadMessage(400, "illegal chunk extension")

    def _begin_chunk(self, line: bytes) -> None:
        digits, semicolon, extension = line.partition(b";")
        if not digits or len(digits) > _SIZE_DIGITS or digits.translate(HEX_DIGITS) != digits:
            raise BadMessage(400, "illegal chunk size")
        self._left = int(digits, 16)
        if semicolon:
            self._extensions = max(0, self._extensions + len(extension) + 1 - self._left)
            if len(extension) >= _EXTENSION_BYTES or self._extensions > _EXTENSION_BYTES_BODY:
                raise BadMessage(400, "chunk extensions too long")
            if not _EXTENSION.fullmatch(extension):
                raise BadMessage(400, "illegal chunk extension")
        self._state = _DATA if self._left else _TRAILERS

    def _read_trailers(self, data: bytes, at: int) -> int:
        if data[at : at + 2] == CRLF:
            return self._finish(b"", at + 2)
        searched = at + self._searched
        end = data.find(BLANK_LINE, searched, at + self._limits.trailer_bytes + 4)
        if end < 0:
            # A section that can no longer become one is refused now: a bare LF ends no line, and is not waited behind.
            if ILLEGAL_IN_HEAD.search(data, searched):
                raise BadMessage(400, "illegal character in the trailers")
            if len(data) - at > self._limits.trailer_bytes + 3:
                raise BadMessage(431, "trailers too long")
            self._searched = max(len(data) - at - 3, 0)
            return -1
        return self._finish(data[at:end], end + 4)

    def _finish(self, block: bytes, behind: int) -> int:
        if block:
            self.trailers = parse_trailers(block, self._limits)
        self._state = _DONE
        self.done = True
        return behind

    def __repr__(self) -> str:
        return f"<ChunkDecoder {self._state.name}>"
