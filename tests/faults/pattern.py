"""Bytes that say whose they are."""

import random
import zlib
from itertools import pairwise


def pattern(name: str, size: int) -> bytes:
    """A body that belongs to one request or one answer: no piece of it occurs in another's."""
    return random.Random(zlib.crc32(name.encode())).randbytes(size)


def size(rng: random.Random, *, bulky: bool = False) -> int:
    """Mostly small, now and then beyond every buffer; bulky, mostly beyond."""
    large = int(600_000 ** rng.random())
    if bulky:
        return rng.choice([large, rng.randrange(300_000)])
    return rng.choice([0, 1, rng.randrange(100), rng.randrange(3000), rng.randrange(3000), large])


def in_chunks(rng: random.Random, body: bytes, trailers: bytes = b"", *, broken: bool = False) -> bytes:
    """The chunked coding, in chunks of any sizes; broken somewhere if asked for."""
    pieces = []
    while body:
        length = len(body) if len(pieces) > 20 else rng.choice([1, 10, 1000, len(body)])
        piece, body = body[:length], body[length:]
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    if broken:
        return b"".join(pieces[: rng.randint(0, len(pieces))]) + b"zz\r\n"
    return b"".join(pieces) + b"0\r\n" + trailers + b"\r\n"


def in_pieces(rng: random.Random, data: bytes, most: int = 5) -> list[bytes]:
    """Cut anywhere."""
    cuts = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(most)))})
    return [data[start:end] for start, end in pairwise(cuts)]
