"""Header blocks: one validation, and one pass that finds the few fields that a proxy must understand.

Every other line passes untouched, in order and case. A block is taken without its final CRLF. What could make two
readers see two messages (request smuggling) is refused: folded lines, spaces before a colon, two lengths.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.wire.authentication import challenges_bind, credentials_bind
from twisted_lb.wire.grammar import CRLF, DIGITS, FIELD, LENGTH_DIGITS, BadMessage, Limits, content_length
from twisted_lb.wire.names import (
    AUTHENTICATE,
    AUTHORIZATION,
    CLAIM,
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    EXPECT,
    FORWARDED,
    HOST,
    KEEP_ALIVE,
    LOAD_REPORT,
    LOAD_REPORT_JSON,
    MAX_FORWARDS,
    PLAIN,
    PROXY_AUTHENTICATE,
    REQUEST_ID,
    TE,
    TRACEPARENT,
    TRANSFER_ENCODING,
    UPGRADE,
    kind_of,
)

# Fields that a Connection option cannot take away: they frame, route or identify the message.
_NOT_REMOVABLE: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"content-range",
        b"range",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"cache-control",
        b"date",
        b"via",
        b"trailer",
        b"expect",
        b"max-forwards",
        b"x-request-id",
        b"x-real-ip",
        b"traceparent",
        b"tracestate",
    )
)

# Names are remembered as of their kind in any spelling that clients use, up to so many, and none that is longer; those that
# are made up to fill the memory cost their users one more look each.
_SEEN_MOST: Final = 2048
_SEEN_BYTES: Final = 64


def _classify(name: bytes, limits: Limits) -> int:
    """The kind of a field name never seen before; BadMessage unless it is a token."""
    kind = kind_of(name, limits.claims)
    seen = limits.kinds
    if len(name) <= _SEEN_BYTES:
        if len(seen) >= _SEEN_MOST:
            seen.clear()
        seen[name] = kind
    return kind


@mypyc_attr(acyclic=True, free_list_len=1)
class Fields:
    """What a proxy must understand of one header block; the same for requests and responses.

    `lines` are those that go on to the other side, joined by CRLF and ended by one: without hop-by-hop fields, framing
    of a chunked body, and what only a proxy may say of its client. `length` is -1 when there is no Content-Length.
    """

    def __init__(self) -> None:
        self.lines: bytes = b""
        self.hosts: int = 0
        self.host: bytes = b""
        self.length: int = -1
        self.codings: bytes = b""
        self.close: bool = False
        self.keep_alive: bool = False
        self.upgrade: bytes = b""
        self.te_trailers: bool = False
        self.expects: bool = False
        self.dated: bool = False
        self.request_id: bytes = b""
        self.traced: bool = False
        # Whether it authenticates the connection, or asks for that (NTLM, Negotiate).
        self.binds: bool = False
        # For how many seconds the sender says that it keeps an idle connection; -1: it does not say.
        self.keep_s: int = -1
        # A proxy's claims about its client (X-Forwarded-*, Forwarded), by lower-case name; they count if it is trusted.
        self.claims: dict[bytes, bytes] | None = None
        # The lines that pass only if it is trusted (X-Real-IP), each ended by CRLF.
        self.claimed: bytes = b""
        # Max-Forwards; -1: there is none, -2: what there is is no number, or more than one.
        self.max_forwards: int = -1
        # What the sender says of its load (ORCA), empty for nothing.
        self.load_report: bytes = b""


@mypyc_attr(acyclic=True, free_list_len=1)
class Memory:
    """The memory of a connection's header fields: the lines of its last block, by position, and its Host. A browser
    sends most of them again, and what has not changed need not be looked at again. A line is empty where it must be
    understood each time.
    """

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.host: bytes = b""


def parse_fields(block: bytes, limits: Limits, memory: Memory | None = None) -> Fields:  # noqa: PLR0912, PLR0915 - the one pass
    """Parse a header block of at most `limits.fields` fields; BadMessage if it is not one by RFC 9112 section 5.

    The result does not depend on `memory`, which should hold what the same connection sent before, by the same limits.
    """
    fields = Fields()
    if not block:
        return fields
    lines = block.split(CRLF)
    if len(lines) > limits.fields:
        raise BadMessage(431, "too many fields")
    # Taken out of the memory, so that nothing stays there of a block that is found to be broken.
    before = _taken_out(memory, len(lines))
    unseen: list[bytes] = []
    some_end_here = False
    seen = limits.kinds
    options: bytes = b""
    upgrades: bytes = b""
    for index in range(len(lines)):
        line = lines[index]
        if line and line == before[index]:
            continue
        unseen.append(line)
        # RFC 9112 5.1 and 5.2: a space before the colon and a folded line both put a space into the name.
        name, colon, value = line.partition(b":")
        kind = seen.get(name, -1)
        if kind < 0:
            kind = _classify(name, limits)
        if not colon:
            raise BadMessage(400, "field line without a colon")
        if kind == PLAIN:
            before[index] = line
            continue
        before[index] = b""
        value = value.strip(b" \t")
        if kind == CONNECTION:
            options += b"," + value
        elif kind == UPGRADE:
            upgrades += b"," + value
        elif kind == CONTENT_LENGTH:
            lines[index] = name + b": %d" % _note_length(fields, value)
            continue
        elif kind == AUTHORIZATION and not credentials_bind(value):
            before[index] = line
            continue
        elif kind == CLAIM:
            fields.claimed += line + CRLF
            fields.binds = fields.binds or credentials_bind(value)  # Authorization may be one of them
        elif _note_field(fields, kind, name, value):
            continue
        lines[index] = b""
        some_end_here = True
    # No bare CR or LF, no NUL, no control.
    fresh = b"".join(unseen)
    if fresh.translate(FIELD) != fresh:
        raise BadMessage(400, "illegal character in the head")
    if memory is not None:
        memory.lines = before
    kept = [line for line in lines if line] if some_end_here else lines
    if options or fields.te_trailers:
        kept = _apply_connection(fields, options, upgrades, kept)
    if kept:
        fields.lines = CRLF.join(kept) + CRLF
    return fields


def _taken_out(memory: Memory | None, count: int) -> list[bytes]:
    """Take that many lines out of a memory, empty ones where it has none."""
    if memory is None:
        return [b""] * count
    before = memory.lines
    memory.lines = []
    have = len(before)
    if have < count:
        before.extend([b""] * (count - have))
    elif have > count:
        del before[count:]
    return before


def _note_length(fields: Fields, value: bytes) -> int:
    """Note the length of the body, which goes on as the number that it was understood to be: some take `010` for 8."""
    length = content_length(value)
    # RFC 9112 6.3: repeated lengths may be refused even when they agree: two readers may take different ones.
    if fields.length >= 0:
        how = "the same" if length == fields.length else "different"
        raise BadMessage(400, f"Content-Length twice, {how}")
    fields.length = length
    return length


def unsafe_framing(version: int, fields: Fields) -> str:
    """Why a message with a Transfer-Encoding has no end that all readers would agree on; "" where it has one and is merely
    coded otherwise than chunked alone.
    """
    if fields.length >= 0:
        return "both Content-Length and Transfer-Encoding"
    if version == 10:
        return "Transfer-Encoding on HTTP/1.0"
    codings = tokens(fields.codings)
    if codings.count(b"chunked") > 1:
        return "chunked twice"  # RFC 9112 6.1
    if codings == [b"chunked"]:
        return "an empty transfer coding beside chunked"
    if not codings or codings[-1] != b"chunked":
        return "the last transfer coding is not chunked"  # RFC 9112 6.3: nobody can say where the body ends
    return ""


def _note_field(fields: Fields, kind: int, name: bytes, value: bytes) -> bool:  # noqa: PLR0912 - one for each kind
    """Note one special field; True if its line goes on to the other side."""
    if kind == HOST:
        fields.hosts += 1
        fields.host = value
        return True
    if kind == TRANSFER_ENCODING:
        fields.codings = value if not fields.codings else fields.codings + b"," + value
        if not value:
            fields.codings += b","
        return False
    if kind == EXPECT:
        fields.expects = True
        return True
    if kind == DATE:
        fields.dated = True
        return True
    if kind == REQUEST_ID:
        fields.request_id = value
        return True
    if kind == TRACEPARENT:
        fields.traced = True
        return True
    if kind == MAX_FORWARDS:
        fields.max_forwards = _hops(value) if fields.max_forwards == -1 else -2
        return True
    if kind in (AUTHORIZATION, AUTHENTICATE, PROXY_AUTHENTICATE):
        fields.binds = fields.binds or kind == AUTHORIZATION or challenges_bind(value)
        return kind != PROXY_AUTHENTICATE
    if kind == FORWARDED:
        _claim(fields, name.lower(), value)
    elif kind == KEEP_ALIVE:
        fields.keep_s = keep_seconds(value)
    elif kind in (LOAD_REPORT, LOAD_REPORT_JSON):
        _report(fields, value if kind == LOAD_REPORT else _with_form(value))
    elif kind == TE:
        fields.te_trailers = fields.te_trailers or b"trailers" in tokens(value)
    return False


def parse_trailers(block: bytes, limits: Limits) -> bytes:
    """Parse a trailer section, given without its last CRLF: the lines of it that go on; BadMessage where it may not be one."""
    fields = parse_fields(block, limits)
    # RFC 9110 6.5.1: fields that frame, route or identify a message must not come in trailers.
    if fields.length >= 0 or fields.codings or fields.hosts:
        what = "Host" if fields.hosts else "Transfer-Encoding" if fields.codings else "Content-Length"
        raise BadMessage(400, f"{what} in the trailers")
    return fields.lines


def _report(fields: Fields, value: bytes) -> None:
    """Note a report of load. Two of them, by whichever names, are none, however they are read."""
    fields.load_report = value if not fields.load_report else fields.load_report + b", " + value


def _with_form(value: bytes) -> bytes:
    """The value of endpoint-load-metrics-json as that of endpoint-load-metrics would be: some write the form in both."""
    return value if not value or value.startswith(b"JSON ") else b"JSON " + value


def _hops(value: bytes) -> int:
    """A Max-Forwards value; -2 where it is no number. RFC 9110 7.6.2: beyond the greatest that we know it is that one."""
    if not value or value.translate(DIGITS) != value:
        return -2
    return int(value) if len(value) <= LENGTH_DIGITS else 10**LENGTH_DIGITS


def _claim(fields: Fields, name: bytes, value: bytes) -> None:
    if fields.claims is None:
        fields.claims = {}
    before = fields.claims.get(name)
    fields.claims[name] = value if before is None else before + b", " + value


def keep_seconds(value: bytes) -> int:
    """The `timeout` of a Keep-Alive field (RFC 2068 19.7.1.1) in seconds, -1 where it has none that is a number."""
    for member in tokens(value):
        name, _, number = member.partition(b"=")
        if name.rstrip(b" \t") == b"timeout":
            number = number.strip(b' \t"')
            if number and len(number) <= LENGTH_DIGITS and number.translate(DIGITS) == number:
                return int(number)
    return -1


def without(lines: bytes, name: bytes) -> bytes:
    """Field lines, each ended by CRLF, less those of this lower-case name."""
    return CRLF.join([line for line in lines.split(CRLF) if line.partition(b":")[0].lower() != name])


def tokens(value: bytes) -> list[bytes]:
    """The lower-case members of a comma-separated list (RFC 9110 5.6.1: empty ones do not count)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def _apply_connection(fields: Fields, options: bytes, upgrades: bytes, kept: list[bytes]) -> list[bytes]:
    """Apply the Connection field: note its options, and take out the hop-by-hop fields that it names."""
    named: set[bytes] = set()
    upgrade = False
    for option in tokens(options):
        if option == b"close":
            fields.close = True
        elif option == b"keep-alive":
            fields.keep_alive = True
        elif option == b"upgrade":
            upgrade = True
        elif option not in _NOT_REMOVABLE:
            named.add(option)
    if upgrade:
        fields.upgrade = upgrades
    if b"te" not in named:
        # RFC 9110 10.1.4: TE without its Connection option was meant for a hop before us.
        fields.te_trailers = False
    if named:
        kept = [line for line in kept if line.partition(b":")[0].lower() not in named]
    return kept
