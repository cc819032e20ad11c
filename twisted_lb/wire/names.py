"""Field names: of which kind each is to a proxy, and which names are spellings of one that a proxy sets itself.

CGI, WSGI and PHP make one variable of `X-Forwarded-For`, `X_Forwarded_For` and `X.Forwarded.For`: to a backend the last two
could forge the first (spoofing). So names are compared by their folded form, and of a name that matters the canonical
spelling alone is understood.
"""

from typing import Final

from twisted_lb.wire.grammar import TOKEN, BadMessage

# The kinds of field names; PLAIN passes untouched.
PLAIN: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
HOP: Final = 5
UPGRADE: Final = 6
TE: Final = 7
EXPECT: Final = 8
FORWARDED: Final = 9
DATE: Final = 10
REQUEST_ID: Final = 11
TRACEPARENT: Final = 12
KEEP_ALIVE: Final = 13
MAX_FORWARDS: Final = 14
CLAIM: Final = 15
AUTHORIZATION: Final = 16
AUTHENTICATE: Final = 17
PROXY_AUTHENTICATE: Final = 18
LOAD_REPORT: Final = 19
LOAD_REPORT_JSON: Final = 20

KINDS: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    # RFC 9110 7.6.1 names these beside what Connection lists; the Proxy-Auth pair is for a proxy that asked (11.7).
    b"keep-alive": KEEP_ALIVE,
    b"proxy-connection": HOP,
    b"proxy-authenticate": PROXY_AUTHENTICATE,
    b"proxy-authorization": HOP,
    b"proxy-authentication-info": HOP,
    b"http2-settings": HOP,
    b"upgrade": UPGRADE,
    b"te": TE,
    b"expect": EXPECT,
    # Only a proxy may say this about the client; a client's own claims count when it is trusted.
    b"forwarded": FORWARDED,
    b"x-forwarded-for": FORWARDED,
    b"x-forwarded-proto": FORWARDED,
    b"x-forwarded-host": FORWARDED,
    b"x-forwarded-port": FORWARDED,
    # The scheme by other names, which must not contradict the one that we write.
    b"x-forwarded-ssl": FORWARDED,
    b"x-forwarded-protocol": FORWARDED,
    b"x-forwarded-scheme": FORWARDED,
    b"date": DATE,
    b"x-request-id": REQUEST_ID,
    b"traceparent": TRACEPARENT,
    b"max-forwards": MAX_FORWARDS,
    b"www-authenticate": AUTHENTICATE,
    # What a backend says of its load (ORCA) is for whoever balances it, and for nobody behind that: a second balancer would take
    # it for the load of all of us.
    b"endpoint-load-metrics": LOAD_REPORT,
    b"endpoint-load-metrics-bin": HOP,
    # Envoy had it before the form stood in the value; samples of Google Cloud write it.
    b"endpoint-load-metrics-json": LOAD_REPORT_JSON,
}

# What we write ourselves, or frame a message by: nothing that a backend could take for it passes.
_NOT_TO_BE_IMITATED: Final = frozenset((CONTENT_LENGTH, TRANSFER_ENCODING, FORWARDED, REQUEST_ID, MAX_FORWARDS))

# Everything in a token that is no letter or digit: mod_cgi makes an underscore of each, PHP of dots.
_FOLDING: Final = bytes(
    code if chr(code).isalnum() and code < 128 else 0x2D if bytes((code,)).translate(TOKEN) == bytes((code,)) else code
    for code in range(256)
)


def folded(name: bytes) -> bytes:
    """A name as backends may compare it: in lower case, with `-` for everything that is no letter or digit."""
    return name.lower().translate(_FOLDING)


def kind_of(name: bytes, claims: tuple[bytes, ...] = ()) -> int:
    """The kind of a field name; BadMessage unless it is a token.

    `claims` are lower-case names, `*` at the end for any rest, of further fields that count only from a trusted proxy.
    """
    if not name or name.translate(TOKEN) != name:
        raise BadMessage(400, _no_name(name))
    lower = name.lower()
    kind = KINDS.get(lower, PLAIN)
    if kind != PLAIN:
        return kind
    plain = folded(name)
    if plain != lower and KINDS.get(plain, PLAIN) in _NOT_TO_BE_IMITATED:
        return HOP
    for claim in claims:
        if claim[-1:] == b"*":
            if plain.startswith(folded(claim[:-1])):
                return CLAIM if plain == lower else HOP
        elif plain == folded(claim):
            return CLAIM if lower == claim else HOP
    return AUTHORIZATION if lower == b"authorization" else PLAIN


def _no_name(name: bytes) -> str:
    """What is wrong with what stands where a field name should."""
    if name[:1] in (b" ", b"\t"):
        return "folded field line"
    if name[-1:] in (b" ", b"\t"):
        return "space before the colon of a field"
    return "illegal field name"


def passes_untouched(name: bytes) -> bool:
    """Whether a field of this name, a token, means nothing to any proxy and passes as it is."""
    return kind_of(name) == PLAIN
