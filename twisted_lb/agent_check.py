"""Agent checks: what a port of a backend's host says of it, in one line and without being asked (HAProxy's agent-check)."""

from twisted_lb.core.address import Address
from twisted_lb.core.agent import MOST_BYTES, line_in
from twisted_lb.probes import Hearing, ProbeResult


class AgentCheck:
    """The question of an agent check: whoever connects is told a line, ended by CR or LF."""

    def request(self, address: Address) -> bytes:
        """See Question."""
        return b""

    def hear(self, address: Address) -> Hearing:
        """See Question."""
        return _Line()


class _Line:
    """The answer to an AgentCheck: its first line, of MOST_BYTES at most. What is longer, or is not ended, says nothing."""

    def __init__(self) -> None:
        self.result: ProbeResult | None = None
        self.over = False
        self.reply = b""
        self._received = b""

    def feed(self, data: bytes) -> None:
        """See Hearing."""
        self._received = (self._received + data)[: MOST_BYTES + 1]
        line = line_in(self._received)
        if line is not None:
            self.over = True
            self.result = ProbeResult(True, "a line")
            self.result.said = line
        elif len(self._received) > MOST_BYTES:
            self.cut(f"a line of more than {MOST_BYTES} bytes")

    def end(self) -> None:
        """See Hearing."""
        self.cut("closed before the end of a line")

    def cut(self, reason: str) -> None:
        """See Hearing."""
        self.over = True
        self.result = ProbeResult(False, reason)
