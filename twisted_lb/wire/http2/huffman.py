"""The Huffman code of HPACK (RFC 7541 5.2 and appendix B), by a state machine that takes four bits at a time."""

from typing import Final

from twisted_lb.wire.http2.errors import COMPRESSION_ERROR, Http2Error

# The code is canonical: how long each symbol's is says all of it. The last one is EOS.
_BITS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b08060606050505060606060606060708"
    "0f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f0506050605060606050707060606050607060505060707"
    "0707070f0b0e0d1c14161414161616171617171717171817181816171817171717151617161717181615141616171715171616181516171715151615"
    "1716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b14181415161515171616191918181a17"
    "1a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_SYMBOLS: Final = 256
_EOS: Final = 256
# What a step gives out: nothing, a symbol, or the end that must not come.
_SYMBOL: Final = 1
_END: Final = 2

# Texts that come again, mostly values of a client's fields, are remembered: so many, and none that is longer.
_KNOWN_MOST: Final = 2048
_KNOWN_BYTES: Final = 64


def _codes() -> list[int]:
    """The code of each symbol: shorter codes come first, and those of a length by symbol."""
    codes = [0] * (_SYMBOLS + 1)
    code = last = 0
    for symbol in sorted(range(_SYMBOLS + 1), key=lambda one: (_BITS[one], one)):
        code <<= _BITS[symbol] - last
        last = _BITS[symbol]
        codes[symbol] = code
        code += 1
    return codes


def _tree(codes: list[int]) -> list[list[int]]:
    """Its inner nodes, by bit: another node, or below -1 a symbol, as -2 less that. The root is 0."""
    nodes: list[list[int]] = [[-1, -1]]
    for symbol in range(_SYMBOLS + 1):
        node = 0
        for bit in range(_BITS[symbol] - 1, 0, -1):
            way = codes[symbol] >> bit & 1
            if nodes[node][way] == -1:
                nodes.append([-1, -1])
                nodes[node][way] = len(nodes) - 1
            node = nodes[node][way]
        nodes[node][codes[symbol] & 1] = -2 - symbol
    return nodes


def _steps(nodes: list[list[int]]) -> tuple[bytes, bytes, bytes]:
    """For each node and half of a byte: the node that it leads to, what is given out on the way, and which symbol. No code is
    shorter than five bits, so that it is one at the most.
    """
    following, gives, symbols = bytearray(), bytearray(), bytearray()
    for begin in range(len(nodes)):
        for half in range(16):
            node, given, symbol = begin, 0, 0
            for bit in (3, 2, 1, 0):
                to = nodes[node][half >> bit & 1]
                node = max(to, 0)
                if to < -1:
                    symbol = -2 - to
                    given = _END if symbol == _EOS else _SYMBOL
                if given == _END:
                    break
            following.append(node)
            gives.append(given)
            symbols.append(symbol & 0xFF)
    return bytes(following), bytes(gives), bytes(symbols)


def _ends(nodes: list[list[int]]) -> bytes:
    """Of each node whether a text may end there: behind fewer than eight bits, all ones, which begin EOS."""
    ends = bytearray(len(nodes))
    node = 0
    for _ in range(8):
        ends[node] = 1
        node = nodes[node][1]
    return bytes(ends)


_CODES: Final = _codes()
_NODES: Final = _tree(_CODES)
_FOLLOWING, _GIVES, _GIVEN = _steps(_NODES)
_MAY_END: Final = _ends(_NODES)
_known: Final[dict[bytes, bytes]] = {}


def huffman_decode(data: bytes) -> bytes:
    """The text that `data` is the code of. Http2Error where it is none: EOS in it, or an end that is no padding."""
    known = _known.get(data)
    if known is not None:
        return known
    following: bytes = _FOLLOWING
    gives: bytes = _GIVES
    given: bytes = _GIVEN
    out = bytearray()
    node = 0
    for index in range(len(data)):
        byte = data[index]
        at = node << 4 | byte >> 4
        if gives[at]:
            if gives[at] == _END:
                raise Http2Error(COMPRESSION_ERROR, "EOS in a Huffman code")
            out.append(given[at])
        at = following[at] << 4 | byte & 15
        if gives[at]:
            if gives[at] == _END:
                raise Http2Error(COMPRESSION_ERROR, "EOS in a Huffman code")
            out.append(given[at])
        node = following[at]
    if not _MAY_END[node]:
        raise Http2Error(COMPRESSION_ERROR, "padding of a Huffman code that is not all ones, or of a byte and more")
    text = bytes(out)
    if len(data) <= _KNOWN_BYTES:
        if len(_known) >= _KNOWN_MOST:
            _known.clear()
        _known[data] = text
    return text


def huffman_encode(text: bytes) -> bytes:
    """The code of a text, padded to whole bytes."""
    code = bits = 0
    for byte in text:
        code = code << _BITS[byte] | _CODES[byte]
        bits += _BITS[byte]
    padding = -bits % 8
    return (code << padding | (1 << padding) - 1).to_bytes((bits + padding) // 8, "big")
