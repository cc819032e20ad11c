"""What became of the connections of a listener before their first request: handshakes by what was agreed on, failures by their reason."""

import enum
from typing import Final

# Reasons are OpenSSL's words, and there are hundreds; of so many each is counted by itself.
_MOST_REASONS: Final = 64
_OTHER: Final = "other"


class Failure(enum.Enum):
    """Why a connection did not arrive, apart from what OpenSSL says."""

    TIMED_OUT = "timed_out"
    LEFT = "left"
    NO_PROXY = "not_a_proxy"
    BAD_PROXY = "bad_proxy_header"
    PLAIN_HTTP = "plain_http"
    NO_TLS = "no_tls"
    NO_CERTIFICATE = "no_certificate"
    NO_ROUTE = "no_route"
    TOO_MANY = "too_many"


class HandshakeCounts:
    """The counts of one listener. `done`: by version, cipher and whether a session was resumed; `failures`: by reason, in OpenSSL's
    words or those of `Failure`.
    """

    def __init__(self) -> None:
        self.done: Final[dict[tuple[str, str, bool], int]] = {}
        self.failures: Final[dict[str, int]] = {}

    def succeeded(self, version: str, cipher: str, *, resumed: bool) -> None:
        """Count a handshake that was completed."""
        key = (version, cipher, resumed)
        self.done[key] = self.done.get(key, 0) + 1

    def failed(self, failure: Failure) -> None:
        """Count a connection that did not arrive."""
        self._count(failure.value)

    def refused(self, reason: str) -> None:
        """Count a handshake that failed, for a reason as `net.tls.reason_of` words it: what follows its colon is not counted by."""
        self._count(reason.partition(":")[0].lower())

    def _count(self, reason: str) -> None:
        failures = self.failures
        if reason not in failures and len(failures) >= _MOST_REASONS:
            reason = _OTHER
        failures[reason] = failures.get(reason, 0) + 1

    def __repr__(self) -> str:
        return f"<HandshakeCounts {sum(self.done.values())} done, {sum(self.failures.values())} failed>"
