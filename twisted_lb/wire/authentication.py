"""Connection-oriented authentication: NTLM and Negotiate (RFC 4559) authenticate a connection, and not each request on it.

Whatever else comes on such a connection has the rights of whoever logged in there, so nobody else's requests may.
"""

import re
from typing import Final

# "nego2" is a variant that IIS offers beside the others.
_SCHEMES: Final = frozenset((b"ntlm", b"negotiate", b"nego2"))
# What the credentials of these schemes begin with. HAProxy and NGINX compare beginnings too: no spelling that a server may
# still take gets around it.
_BEGINNINGS: Final = (b"ntlm", b"nego")

# RFC 9110 5.6.4: a quoted-string; one that does not end takes in the rest.
_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
# RFC 9110 11.3: challenge = auth-scheme [ 1*SP ( token68 / #auth-param ) ]. A token before a `=` names a parameter.
_SCHEME: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++)(?:[ \t]++(?!=)|\Z)")


def credentials_bind(value: bytes) -> bool:
    """Whether the credentials in an Authorization field may authenticate the connection that they come on."""
    return value[:4].lower() in _BEGINNINGS


def challenges_bind(value: bytes) -> bool:
    """Whether one of the challenges in a WWW-Authenticate or Proxy-Authenticate field authenticates connections."""
    for member in _QUOTED.sub(b"", value).split(b","):
        scheme = _SCHEME.match(member.strip(b" \t"))
        if scheme is not None and scheme[1].lower() in _SCHEMES:
            return True
    return False
