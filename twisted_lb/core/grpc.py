"""The statuses of gRPC (its own, in trailers), and which of them an answer of ours has."""

from typing import Final

# In their order: the place of a name is its code.
NAMES: Final = (
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
)
CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
# The place of those that have no name, where they are counted.
OTHER: Final = len(NAMES)

# Of what a local reply would say in HTTP. What may not have been done is UNAVAILABLE, which clients repeat; of what took too long
# nobody knows, and DEADLINE_EXCEEDED is not repeated.
_OF_STATUS: Final[dict[int, int]] = {
    400: INTERNAL,
    403: PERMISSION_DENIED,
    404: UNIMPLEMENTED,
    408: CANCELLED,
    413: RESOURCE_EXHAUSTED,
    414: INTERNAL,
    421: UNAVAILABLE,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    501: UNIMPLEMENTED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
    505: INTERNAL,
}


def code_of(status: int) -> int:
    """The code of a local reply that would have this status of HTTP."""
    return _OF_STATUS.get(status, UNKNOWN)


def slot_of_code(code: int) -> int:
    """The place of a code where they are counted."""
    return code if 0 <= code < OTHER else OTHER
