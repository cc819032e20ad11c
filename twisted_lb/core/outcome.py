"""How an attempt can end, and what follows: retry, blame and what the client sees are columns of one table."""

import enum
from typing import Final


class Outcome(enum.IntEnum):
    """How one attempt ended; each ends in exactly one of these. The value indexes a backend's `outcomes`."""

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


class Retry(enum.Enum):
    """When another attempt may follow."""

    NEVER = "never"
    ALWAYS = "always"
    IF_IDEMPOTENT = "if idempotent"
    IF_CONFIGURED = "if configured"


class Blame(enum.Enum):
    """What an outcome says about the backend."""

    NONE = "none"
    FAILURE = "failure"
    EJECT = "eject"


class Consequence:
    """A row of the table. `status` is what the client sees when nothing was relayed and nothing is retried; None: the
    response itself, or nobody is there to see. `fresh`: another attempt needs a new connection, and may use it to the
    same backend.
    """

    def __init__(self, retry: Retry, blame: Blame, status: int | None, reason: str, *, fresh: bool = False) -> None:
        self.retry: Final = retry
        self.blame: Final = blame
        self.status: Final = status
        self.reason: Final = reason
        self.fresh: Final = fresh


_NEVER: Final = Retry.NEVER
_SAFE: Final = Retry.IF_IDEMPOTENT

CONSEQUENCE: Final[dict[Outcome, Consequence]] = {
    Outcome.OK: Consequence(_NEVER, Blame.NONE, None, "answered"),
    Outcome.BAD_STATUS: Consequence(Retry.IF_CONFIGURED, Blame.FAILURE, None, "answered with a failure"),
    Outcome.REFUSED: Consequence(Retry.ALWAYS, Blame.EJECT, 502, "connection refused"),
    Outcome.CONNECT_TIMEOUT: Consequence(Retry.ALWAYS, Blame.FAILURE, 504, "no answer to the connect"),
    Outcome.LOCAL_FAILURE: Consequence(_NEVER, Blame.NONE, 503, "out of local resources"),
    Outcome.STALE_REUSE: Consequence(_SAFE, Blame.NONE, 502, "idle connection was closed", fresh=True),
    Outcome.NO_RESPONSE: Consequence(_SAFE, Blame.FAILURE, 502, "closed without a response"),
    Outcome.BAD_RESPONSE: Consequence(_SAFE, Blame.FAILURE, 502, "unsafe response"),
    Outcome.TIMED_OUT: Consequence(_SAFE, Blame.FAILURE, 504, "no response in time"),
    Outcome.CUT_SHORT: Consequence(_NEVER, Blame.FAILURE, None, "response cut short"),
    Outcome.CLIENT_GONE: Consequence(_NEVER, Blame.NONE, None, "client left"),
    Outcome.CLIENT_FAULT: Consequence(_NEVER, Blame.NONE, None, "client broke its message"),
    Outcome.CANCELLED: Consequence(_NEVER, Blame.NONE, None, "taken back"),
}


class Refusal(enum.Enum):
    """Why a request got no backend at all, with the status that its client sees."""

    BAD_REQUEST = (400, "bad request")
    FORBIDDEN = (403, "forbidden")
    NO_ROUTE = (404, "no route")
    TOO_SLOW = (408, "too slow")
    BODY_TOO_LARGE = (413, "body too large")
    URI_TOO_LONG = (414, "target too long")
    RATE_LIMITED = (429, "rate limited")
    HEAD_TOO_LARGE = (431, "head too large")
    NOT_IMPLEMENTED = (501, "not implemented")
    OVERLOADED = (503, "overloaded")
    NO_BACKEND = (503, "no usable backend")
    VERSION = (505, "HTTP version not supported")

    @property
    def status(self) -> int:
        """The status that the client sees."""
        return self.value[0]

    @property
    def reason(self) -> str:
        """A few words for the log."""
        return self.value[1]
