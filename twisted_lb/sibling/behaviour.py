"""How a sibling backend misbehaves: the query parameters, their bounds, and the bytes they ask for.

On every path these shape the answer; a wrong one is answered 400:

    delay=SECONDS    wait first, at most 60
    status=CODE      answer with that status, 200 to 599
    size=BYTES       a body of that many bytes, see `pattern`, at most 10 GiB
    chunked=1        no Content-Length
    close=BYTES      promise the whole body, close the connection after that much of it
    close=head       close the connection without an answer
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

BLOCK = 65536
LONGEST_DELAY_S = 60.0
LONGEST_BODY = 10 * 2**30


class BadParameterError(ValueError):
    """A query parameter that cannot be obeyed."""


@dataclass(frozen=True)
class Behaviour:
    """What the query parameters of one request ask for."""

    delay_s: float = 0.0
    status: int | None = None
    size: int | None = None
    chunked: bool = False
    close: int | None = None
    close_at_head: bool = False


PLAIN = Behaviour()

Args = Mapping[bytes, list[bytes]]


def behaviour(args: Args) -> Behaviour:
    """The behaviour that a query string asks for; BadParameterError for what is out of bounds."""
    if not args:
        return PLAIN
    at_head = _one(args, "close") == "head"
    return Behaviour(
        delay_s=seconds(args, "delay", LONGEST_DELAY_S, 0.0),
        status=_whole(args, "status", 200, 599),
        size=_whole(args, "size", 0, LONGEST_BODY),
        chunked=bool(_whole(args, "chunked", 0, 1)),
        close=None if at_head else _whole(args, "close", 0, LONGEST_BODY),
        close_at_head=at_head,
    )


def _one(args: Args, name: str) -> str | None:
    values = args.get(name.encode(), [])
    if len(values) > 1:
        raise BadParameterError(f"{name} is there {len(values)} times")
    return values[0].decode("latin-1") if values else None


def _whole(args: Args, name: str, low: int, high: int) -> int | None:
    text = _one(args, name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise BadParameterError(f"{name} should be a whole number from {low} to {high}")
    return int(text)


def seconds(args: Args, name: str, high: float, default: float) -> float:
    """A number of seconds out of a query string; BadParameterError for what is out of bounds."""
    text = _one(args, name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= high:
        raise BadParameterError(f"{name} should be seconds from 0 to {high:g}")
    return value


def words(args: Args, name: str, most: int) -> str:
    """Words on one line out of a query string, none if it is not there; BadParameterError for what no header field can say."""
    text = _one(args, name) or ""
    if len(text) > most or not (text.isascii() and text.isprintable()):
        raise BadParameterError(f"{name} should be at most {most} printable ASCII characters")
    return text.strip()


_NOISE = random.Random(26).randbytes(BLOCK)


def pattern(start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` to `stop` of an endless body that no two blocks of look alike.

    Each 64 KiB block is the same noise behind its own offset in 16 digits: bytes lost, doubled
    or moved show up as bytes that differ.
    """
    while start < stop:
        offset = start % BLOCK
        end = min(BLOCK, offset + stop - start)
        yield (b"%016d" % (start - offset) + _NOISE[16:])[offset:end]
        start += end - offset


def up_to(count: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The first `count` bytes of some blocks."""
    for block in blocks:
        yield block[:count]
        count -= len(block)
        if count <= 0:
            return
