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
    """A pattern of header blocks, with gaps, each for one line of a known name that a proxy passes untouched; and the
    meaning of the block, whatever stands in the gaps. A pure function of the two blocks that it was learnt from.
    """

    __slots__ = ("_begun", "_credentials", "_names", "_runs", "_sent", "fields", "version")

    def __init__(
        self, version: int, fields: RequestFields, runs: list[bytes], names: list[bytes], sent: list[bytes] | None
    ) -> None:
        self.version: Final = version
        self.fields: Final = fields
        # The text before each gap, and behind the last one; `sent` is what goes on of it, None: all of it.
        self._runs: Final = runs
        self._names: Final = names
        # Each run with the name behind it: one comparison.
        self._begun: Final = [run + name for run, name in zip(runs, names, strict=False)]
        self._sent: Final = sent
        self._credentials: Final = _credentials_among(names)  # in which gap they vary; -1: in none

    def fill(self, block: bytes) -> bytes | None:
        """The lines that go on to a backend, of a block with its last CRLF; None when it is another block, or is none."""
        at = 0
        runs, begun = self._runs, self._begun
        gaps: list[bytes] = []
        for index in range(len(begun)):
            if not block.startswith(begun[index], at):
                return None
            at += len(runs[index])
            end = block.find(CRLF, at)
            gaps.append(block[at:end])
            at = end + 2
        if not block.endswith(runs[-1]) or len(block) - at != len(runs[-1]):
            return None
        varied = gaps[0] if len(gaps) == 1 else b"".join(gaps)
        if varied.translate(FIELD) != varied:
            return None  # an illegal character: the parser has the words for it
        if self._credentials >= 0 and _binds(gaps[self._credentials]):
            return None  # others authenticate a request, these a connection
        sent = self._sent
        if sent is None:
            return block
        parts: list[bytes] = []
        for index in range(len(gaps)):
            parts += (sent[index], gaps[index], CRLF)
        parts.append(sent[-1])
        return b"".join(parts)


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
