"""How requests wait in a queue: how urgent each is, in which lane it waits, and until when its client wants an answer."""

import re
from collections.abc import Mapping
from typing import Final

from twisted_lb.core.never import NEVER
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.net.request_keys import RequestKey

# RFC 9218, 4.1, as it stands in a dictionary of structured fields (RFC 9651): `u=1`, `u=1, i`, `i;x=2,u=5`.
_URGENCY: Final = re.compile(rb"(?:^|,)[ \t]*u=([0-7])[ \t]*(?=$|[,;])")

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun]?)")
_UNITS: Final = {b"": 1e-3, b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class UrgencyField:
    """The urgency that a field of the request says (its name in lower case): by the words of `classes`, in any case, or, where there
    are none, as RFC 9218 has it (`Priority: u=1`). The last one counts, as in any dictionary.
    """

    __slots__ = ("_classes", "_field", "_name")

    def __init__(self, field: bytes, classes: Mapping[bytes, int]) -> None:
        self._name: Final = field
        self._field: Final = RequestKey(RateKey.HEADER, field)
        self._classes: Final = {word.lower(): urgency for word, urgency in classes.items()}

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {"field": self._name, "classes": self._classes}

    def urgency(self, lines: bytes, otherwise: int) -> int:
        """The urgency of a request with these field lines; `otherwise` where it says none that is known."""
        value = self._field.value(b"", lines)
        if value is None:
            return otherwise
        if self._classes:
            return self._classes.get(value.lower(), otherwise)
        found: list[bytes] = _URGENCY.findall(value)
        return int(found[-1]) if found else otherwise


class Queueing:
    """How requests wait in a pool's queue: what lane each is in (`fair`; None: all are in one), how urgent each
    is (`urgent`; None: as its route says), and the status of those that find it full.
    """

    __slots__ = ("fair", "full_status", "tells_apart", "urgent")

    def __init__(
        self, *, fair: RequestKey | None = None, urgent: UrgencyField | None = None, full_status: int = 503
    ) -> None:
        self.fair: Final = fair
        self.urgent: Final = urgent
        self.full_status: Final = full_status
        self.tells_apart: Final = fair is not None or urgent is not None


# Those of a queue in which all wait in one lane.
NO_LANES: Final = Queueing()


class DeadlineField:
    """A field in which clients say for how long they wait: whole milliseconds (`250`), or as gRPC has it, a number of at most eight
    digits and a unit (`100m`, `2S`; https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
    """

    __slots__ = ("_field", "_name")

    def __init__(self, field: bytes) -> None:
        self._name: Final = field
        self._field: Final = RequestKey(RateKey.HEADER, field)

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {"field": self._name}

    def seconds(self, lines: bytes) -> float:
        """For how long the client of a request with these field lines waits; NEVER ends where it says nothing that is a time."""
        value = self._field.value(b"", lines)
        found = None if value is None else _TIMEOUT.fullmatch(value)
        if found is None:
            return NEVER
        number, unit = found.groups()
        return int(number) * _UNITS[unit]
