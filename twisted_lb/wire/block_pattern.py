"""Block patterns: header blocks of a client that differ in a few lines (a browser's Cookie), matched, not parsed."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.authentication import credentials_bind
from twisted_lb.wire.grammar import CRLF, FIELD
from twisted_lb.wire.names import passes_untouched
from twisted_lb.wire.request import RequestFields

# With more lines that vary, comparing costs as much as parsing.
_VARYING_MOST: Final = 4
_AUTHORIZATION: Final = b"authorization:"


@mypyc_attr(acyclic=True)
class BlockPattern:
    """A pattern of header blocks, with gaps, each for the value of a field of a known name that a proxy passes untouched; and
    the meaning of the block, whatever stands in the gaps. A pure function of the two blocks that it was learnt from.
    """

    __slots__ = ("_begun", "_credentials", "_ended", "_names", "_sent", "fields", "version")

    def __init__(
        self, version: int, fields: RequestFields, runs: list[bytes], names: list[bytes], sent: list[bytes] | None
    ) -> None:
        self.version: Final = version
        self.fields: Final = fields
        self._names: Final = names
        # The text before each gap, the name of the field included, and behind the last one, up to the end of the head: a
        # gap ends before a CR.
        self._begun: Final = [b"\n" + run + name for run, name in zip(runs, names, strict=False)]
        self._ended: Final = b"\n" + runs[-1] + CRLF
        # What goes on of it, in the same way; None: all of it.
        self._sent: Final = None if sent is None else _around_gaps(sent, names)
        self._credentials: Final = _credentials_among(names)  # in which gap they vary; -1: in none

    def fill(self, rest: bytes) -> bytes | None:
        """The lines that go on to a backend, of the `rest` of a head behind the CR of its first line; None when it has another
        block, or none. Its end needs not be known: in what the pattern fits there is no blank line before it.
        """
        gaps: list[bytes] = []
        behind = rest
        # These methods take one argument each, which costs a third of what `find` and `startswith` with a place do.
        for begun in self._begun:
            value = behind.removeprefix(begun)
            if len(value) == len(behind):
                return None
            gap, _, behind = value.partition(b"\r")
            gaps.append(gap)
        if behind != self._ended:
            return None
        varied = gaps[0] if len(gaps) == 1 else b"".join(gaps)
        if varied.translate(FIELD) != varied:
            return None  # an illegal character: the parser has the words for it
        if self._credentials >= 0 and credentials_bind(gaps[self._credentials].strip(b" \t")):
            return None  # others authenticate a request, these a connection
        sent = self._sent
        if sent is None:
            return rest[1:-2]
        parts: list[bytes] = []
        for index in range(len(gaps)):
            parts.append(sent[index])
            parts.append(gaps[index])
        parts.append(sent[-1])
        return b"".join(parts)


def _around_gaps(texts: list[bytes], names: list[bytes]) -> list[bytes]:
    """What stands before each gap and behind the last one, from a line's end to the name of a field."""
    between = [CRLF + texts[index] + names[index] for index in range(1, len(names))]
    return [texts[0] + names[0], *between, CRLF + texts[-1]]


def _credentials_among(names: list[bytes]) -> int:
    for index in range(len(names)):
        if names[index].lower() == _AUTHORIZATION:
            return index
    return -1


def _binds(line: bytes) -> bool:
    """Whether a line of Authorization authenticates the connection."""
    return credentials_bind(line[len(_AUTHORIZATION) :].strip(b" \t"))


def _may_vary(line: bytes, name: bytes, names: list[bytes]) -> bool:
    """Whether a line, which `name` and a colon begin, means nothing to a proxy, whatever else stands in it."""
    if name.lower() == _AUTHORIZATION:
        return not _binds(line) and _credentials_among(names) < 0
    return passes_untouched(name[:-1])


def learn(
    version: int, fields: RequestFields, block: bytes, lines: bytes, before: bytes, known: BlockPattern | None
) -> BlockPattern | None:
    """A pattern for blocks like this one, whose `lines` go on, and the one before; None when they differ otherwise than in a
    few lines that pass untouched. All three end with CRLF. `known`, an older pattern, says what has varied too.
    """
    if block.count(CRLF) != before.count(CRLF):
        return None
    mine, theirs = block.split(CRLF), before.split(CRLF)
    varied = known._names if known is not None else []
    runs: list[bytes] = []
    names: list[bytes] = []
    sent: list[bytes] = []
    run = kept = b""
    passed = 0
    for index in range(len(mine) - 1):
        line = mine[index]
        whole = line + CRLF
        goes_on = lines.startswith(whole, passed)
        name = line[: line.find(b":") + 1]
        differs = line != theirs[index]
        if differs or name in varied:
            if not (goes_on and _may_vary(line, name, names) and theirs[index].startswith(name)):
                if differs:
                    return None
            else:
                runs.append(run)
                sent.append(kept)
                names.append(name)
                run = kept = b""
                passed += len(whole)
                continue
        run += whole
        if goes_on:
            passed += len(whole)
            kept += whole
    if not names or len(names) > _VARYING_MOST or passed != len(lines):
        return None
    runs.append(run)
    sent.append(kept)
    return BlockPattern(version, fields, runs, names, None if sent == runs else sent)
