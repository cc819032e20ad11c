"""The prefix of a request: how its body begins, in blocks, for backends that cache by it (the prompt cache of a language model:
vLLM, SGLang, llama.cpp).

No tokenizer and no JSON parser: encoders are deterministic, so that equal prompts are equal bytes. What stands before the prompt, as
`model` and `temperature`, is passed over.
"""

import enum
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

# Where a prompt may begin: OpenAI's chat and completions, llama.cpp's own; Anthropic's `system` and OpenAI's `input` are a part of it too.
_BEGINNINGS: Final = (b'"messages"', b'"prompt"', b'"system"', b'"input"')
# 8 bytes, of which Python keeps 60 bits in the smallest number that has room for a hash. Of a million blocks two are alike by
# chance once in two million times, and then one request goes where its prompt is not.
_BITS: Final = (1 << 60) - 1


class Seen(enum.IntEnum):
    """How much of a body was looked at, before a backend was picked."""

    NOTHING = 0  # there is no body, or nobody has waited for it
    WHOLE = 1
    CUT = 2  # it is longer than the peek, or was not all here
    ENCODED = 3  # it has a Content-Encoding, and is not looked into


# What is said of them, in explanations and as labels of metrics.
SEEN_LABELS: Final = ("nothing", "whole", "cut", "encoded")


class Prefix:
    """The prefix of a request, immutable: the hashes of its whole `blocks`, each of all that comes before it too, so that two requests
    have as many in common as they begin alike; how much of the body was `seen`, and of how many `bytes` at most.
    """

    __slots__ = ("blocks", "bytes", "seen")

    def __init__(self, blocks: tuple[int, ...], seen: Seen, seen_bytes: int = 0) -> None:
        self.blocks: Final = blocks
        self.seen: Final = seen
        self.bytes: Final = seen_bytes

    def __repr__(self) -> str:
        return f"<Prefix of {len(self.blocks)} blocks, {SEEN_LABELS[self.seen]}>"


# Of a request without a body, or whose pool does not look at it.
NO_PREFIX: Final = Prefix((), Seen.NOTHING)
ENCODED_PREFIX: Final = Prefix((), Seen.ENCODED)


class Peek:
    """How a pool looks at the bodies of requests: at so many bytes at most, in blocks of so many."""

    __slots__ = ("block_bytes", "bytes")

    def __init__(self, peek_bytes: int, block_bytes: int) -> None:
        self.bytes: Final = peek_bytes
        self.block_bytes: Final = block_bytes

    def prefix(self, pieces: Sequence[bytes], *, complete: bool) -> Prefix:
        """The prefix of a body of which these pieces are here, `complete`: all of them. What is less than a block at the end counts
        for nothing, nor do caches keep it. O(bytes): about 2.3 µs for each 512 of them.
        """
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(body) > self.bytes:
            body, complete = body[: self.bytes], False
        seen = Seen.WHOLE if complete else Seen.CUT
        return Prefix(blocks_of(body, self.block_bytes), seen, len(body))


def blocks_of(body: bytes, block_bytes: int) -> tuple[int, ...]:
    """The hashes of the blocks of the prompt in this body, of the whole body where no prompt is found in it."""
    found = [at for at in [body.find(word) for word in _BEGINNINGS] if at >= 0]
    first = min(found) if found else 0
    chain = blake2b(digest_size=8)
    blocks: list[int] = []
    for at in range(first, len(body) - block_bytes + 1, block_bytes):
        chain.update(body[at : at + block_bytes])
        blocks.append(int.from_bytes(chain.digest(), "little") & _BITS)
    return tuple(blocks)
