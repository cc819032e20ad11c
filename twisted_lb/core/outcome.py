"""Outcomes: how an attempt can end, and what follows: retry, blame and status are columns of one table."""

import enum
from typing import Final


class Outcome(enum.IntEnum):
    """How an attempt ended; each attempt has exactly one outcome. The value indexes a backend's `outcomes`, so it never
    changes: new ones are appended.
    """

    OK = 0
    BAD_STATUS = 1
    REFUSED = 2
    CONNECT_TIMEOUT = 3
    LOCAL_FAILURE = 4
    STALE_REUSE = 5
    NO_RESPONSE = 6
    BAD_RESPONSE = 7
    TIMED_OUT = 8
    CUT_SHORT = 9
    CLIENT_GONE = 10
    CLIENT_FAULT = 11
    CANCELLED = 12
    UNPROCESSED = 13
    BACKEND_DOWN = 14
    NO_PORT = 15
    BACKLOG_FULL = 16
    LATE = 17
    NO_SWITCH = 18


# The detail of a CUT_SHORT whose backend has just gone silent: what tells it from one that has closed.
STALLED: Final = "the response stalled"


class Retry(enum.Enum):
    """When an outcome may be retried: followed by another attempt."""

    NEVER = "never"
    ALWAYS = "always"
    IF_IDEMPOTENT = "if idempotent"
    IF_CONFIGURED = "if configured"


class Blame(enum.Enum):
    """What an outcome says about the backend: nothing, a failure, or a reason for ejection."""

    NONE = "none"
    FAILURE = "failure"
    EJECT = "eject"


class Consequence:
    """What follows from an outcome: a row of the table.

    `status` is what the client sees when nothing was relayed and nothing is retried; None: the response itself, or no
    client is left. `alive`: whether a server listens there, however badly; None: the outcome does not tell.
    `new_connection`: another attempt needs a new connection, and may use it to the same backend. `in_a_row`: it counts among
    the failures in a row that eject a backend, where that is configured.
    """

    def __init__(
        self,
        retry: Retry,
        blame: Blame,
        status: int | None,
        *,
        alive: bool | None,
        new_connection: bool = False,
        in_a_row: bool = False,
    ) -> None:
        self.retry: Final = retry
        self.blame: Final = blame
        self.status: Final = status
        self.alive: Final = alive
        self.new_connection: Final = new_connection
        self.in_a_row: Final = in_a_row


_NEVER: Final = Retry.NEVER
_SAFE: Final = Retry.IF_IDEMPOTENT

CONSEQUENCE: Final[dict[Outcome, Consequence]] = {
    Outcome.OK: Consequence(_NEVER, Blame.NONE, None, alive=True),
    Outcome.BAD_STATUS: Consequence(Retry.IF_CONFIGURED, Blame.FAILURE, None, alive=True, in_a_row=True),
    Outcome.REFUSED: Consequence(Retry.ALWAYS, Blame.EJECT, 502, alive=False),
    Outcome.CONNECT_TIMEOUT: Consequence(Retry.ALWAYS, Blame.FAILURE, 504, alive=False, in_a_row=True),
    Outcome.LOCAL_FAILURE: Consequence(_NEVER, Blame.NONE, 503, alive=None),
    Outcome.STALE_REUSE: Consequence(_SAFE, Blame.NONE, 502, alive=None, new_connection=True),
    Outcome.NO_RESPONSE: Consequence(_SAFE, Blame.FAILURE, 502, alive=True, in_a_row=True),
    Outcome.BAD_RESPONSE: Consequence(_SAFE, Blame.FAILURE, 502, alive=True, in_a_row=True),
    Outcome.TIMED_OUT: Consequence(_SAFE, Blame.FAILURE, 504, alive=True, in_a_row=True),
    Outcome.CUT_SHORT: Consequence(_NEVER, Blame.FAILURE, None, alive=True),
    Outcome.CLIENT_GONE: Consequence(_NEVER, Blame.NONE, None, alive=None),
    Outcome.CLIENT_FAULT: Consequence(_NEVER, Blame.NONE, None, alive=None),
    Outcome.CANCELLED: Consequence(_NEVER, Blame.NONE, None, alive=None),
    # RFC 9113 8.7: REFUSED_STREAM, or a stream above the last one that GOAWAY names.
    Outcome.UNPROCESSED: Consequence(Retry.ALWAYS, Blame.NONE, 502, alive=True, new_connection=True),
    # Probes have taken the backend out; traffic adds nothing.
    Outcome.BACKEND_DOWN: Consequence(_SAFE, Blame.NONE, 504, alive=None),
    # No port of ours is left for that address: another one may have some.
    Outcome.NO_PORT: Consequence(Retry.ALWAYS, Blame.NONE, 503, alive=None),
    # The queue of a unix socket stays full: who listens there is busy.
    Outcome.BACKLOG_FULL: Consequence(Retry.ALWAYS, Blame.FAILURE, 504, alive=True),
    # The client's own deadline is over, however short it was.
    Outcome.LATE: Consequence(_NEVER, Blame.NONE, 504, alive=None),
    # RFC 9113 8.6: there is no Upgrade in HTTP/2.
    Outcome.NO_SWITCH: Consequence(_NEVER, Blame.NONE, 501, alive=None),
}


class Refusal(enum.Enum):
    """Why a request is answered by a local reply and reaches no backend, with the status of that reply."""

    BAD_REQUEST = (400, "bad request")
    FORBIDDEN = (403, "forbidden")
    NO_ROUTE = (404, "no route")
    TOO_SLOW = (408, "too slow")
    BODY_TOO_LARGE = (413, "body too large")
    URI_TOO_LONG = (414, "target too long")
    MISDIRECTED = (421, "misdirected request")
    RATE_LIMITED = (429, "rate limited")
    HEAD_TOO_LARGE = (431, "head too large")
    NOT_IMPLEMENTED = (501, "not implemented")
    OVERLOADED = (503, "overloaded")
    NO_BACKEND = (503, "no usable backend")
    ALL_FULL = (503, "all backends are full")
    LATE = (504, "too late for its deadline")
    VERSION = (505, "HTTP version not supported")

    @property
    def status(self) -> int:
        """The status of the local reply."""
        return self.value[0]

    @property
    def reason(self) -> str:
        """The reason in a few words."""
        return self.value[1]


class Reply(enum.Enum):
    """A local reply that is what the route is for: nothing has gone wrong."""

    ANSWER = "answer"
    REDIRECT = "redirect"


# What the deadline of a request itself brings about, and is then no fault of the backend.
TOO_SLOW: Final = (Outcome.TIMED_OUT, Outcome.CONNECT_TIMEOUT, Outcome.BACKLOG_FULL)

_BY_STATUS: Final = {refusal.status: refusal for refusal in Refusal if refusal.status not in (503, 504)}


def refusal_of(status: int) -> Refusal:
    """The refusal of what is no request, by the status that its reader names."""
    return _BY_STATUS.get(status, Refusal.BAD_REQUEST)
