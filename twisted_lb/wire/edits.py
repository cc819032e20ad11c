"""Edits of header fields (header rewriting): some are removed, in every spelling, others set, with placeholders in their values.

No edit can touch what frames a message or leads it, and no value can begin another line (header injection).
"""

import re
from collections.abc import Sequence
from typing import Final

from twisted_lb.wire.grammar import CRLF, TOKEN
from twisted_lb.wire.names import folded

# What frames a message, belongs to a connection, or is the balancer's own to say; folded.
PROTECTED: Final = frozenset(
    (
        b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"te", b"trailer", b"date",
        b"keep-alive", b"proxy-connection", b"forwarded", b"via",
    )
)  # fmt: skip

_PLACEHOLDER: Final = re.compile(rb"\{(client|host|request_id|backend|pool)\}")
# The characters of a value (RFC 9110 5.5); any other becomes `_`.
_VALUE: Final = bytes(code if code == 0x09 or 0x20 <= code != 0x7F else 0x5F for code in range(256))
# These may be others at each attempt.
_VARYING: Final = (b"request_id", b"backend")

# The field of RFC 6797, in lower case.
HSTS: Final = b"strict-transport-security"


class Words:
    """What placeholders stand for: the client's address, the host that was asked, the pool; and, of one attempt, the request's
    id and the name of the backend.
    """

    __slots__ = ("backend", "client", "host", "pool", "request_id")

    def __init__(
        self,
        *,
        client: bytes = b"",
        host: bytes = b"",
        pool: bytes = b"",
        request_id: bytes = b"",
        backend: bytes = b"",
    ) -> None:
        self.client: Final = client
        self.host: Final = host
        self.pool: Final = pool
        self.request_id: Final = request_id
        self.backend: Final = backend

    def of(self, name: bytes) -> bytes:
        """The word for a placeholder."""
        if name == b"client":
            return self.client
        if name == b"host":
            return self.host
        if name == b"pool":
            return self.pool
        return self.request_id if name == b"request_id" else self.backend


class SetField:
    """A field that is set: its name, and its value with placeholders. `varies`: the value may be another one at each attempt."""

    __slots__ = ("_parts", "names", "varies")

    def __init__(self, name: bytes, value: bytes) -> None:
        # By turns text and the name of a placeholder.
        parts = _PLACEHOLDER.split(value)
        parts[0] = name + b": " + parts[0]
        self._parts: Final[list[bytes]] = parts
        self.names: Final = frozenset(parts[1::2])
        self.varies: Final = any(one in self.names for one in _VARYING)

    def line(self, words: Words) -> bytes:
        """The field line, ended by CRLF."""
        parts = self._parts
        if len(parts) == 1:
            return parts[0] + CRLF
        said = [words.of(part) if index % 2 else part for index, part in enumerate(parts)]
        return b"".join(said).translate(_VALUE) + CRLF


class FieldEdits:
    """The edits of one direction. `removed` are the folded names of what is taken out, those that are set among them. ValueError
    for a name that is none, or is not to be edited.
    """

    __slots__ = ("_constant", "_removed", "_set", "_varying", "removed", "wants_id")

    def __init__(self, set_: Sequence[tuple[bytes, bytes]] = (), removed: Sequence[bytes] = ()) -> None:
        fields = [SetField(name, value) for name, value in set_ if _checked(name)]
        names = [name for name, _ in set_] + [name for name in removed if _checked(name)]
        self.removed: Final = frozenset(folded(name) for name in names)
        self._constant: Final = [one for one in fields if not one.varies]
        self._varying: Final = [one for one in fields if one.varies]
        self.wants_id: Final = any(b"request_id" in one.names for one in fields)
        self._set: Final = tuple(set_)
        self._removed: Final = tuple(removed)

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {"set_": self._set, "removed": self._removed}

    @property
    def varies(self) -> bool:
        """Whether lines differ from one attempt to the next."""
        return bool(self._varying)

    def kept(self, lines: bytes) -> bytes:
        """Field lines, each ended by CRLF, less those that are removed: in every spelling that a backend may take for one."""
        removed = self.removed
        if not removed:
            return lines
        return CRLF.join([line for line in lines.split(CRLF) if folded(line.partition(b":")[0]) not in removed])

    def constant(self, words: Words) -> bytes:
        """The lines that are set and do not vary, each ended by CRLF."""
        return b"".join([one.line(words) for one in self._constant])

    def varying(self, words: Words) -> bytes:
        """The lines that are set for one attempt, each ended by CRLF."""
        return b"".join([one.line(words) for one in self._varying])


def _checked(name: bytes) -> bool:
    """True; ValueError for a name that cannot be edited."""
    plain = folded(name)
    if not name or name.translate(TOKEN) != name:
        raise ValueError(f"{name!r} is no field name")
    if plain in PROTECTED or plain.startswith(b"x-forwarded-"):
        raise ValueError(f"{name.decode('ascii')} is not for anybody to set: the balancer writes it itself")
    return True


NO_EDITS: Final = FieldEdits()
