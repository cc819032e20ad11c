"""How often things go wrong in the network in memory, and how badly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chances:
    """How often things go wrong, as probabilities, and how badly, in seconds and bytes. By default nothing does.

    The first group is drawn for each attempt to connect, the second for each write, the third once for each connection.
    Connections are those of whoever dials (the balancer's to its backends) and of whoever connects (its clients): what
    befalls one happens to the peer, never to the side that is tried out.
    """

    # Nobody listens, for once.
    refused: float = 0.0
    # No answer to the connect: it ends by its timeout.
    hanging: float = 0.0
    # We have nothing left to connect with.
    local_failure: float = 0.0

    # The kernel takes a part only, at least a byte, and for a moment no more.
    partial_write: float = 0.0
    # It arrives in pieces.
    split: float = 0.0
    # It, and all behind it, arrives late, by at most `longest_delay_s`; so does the answer to a connect.
    delayed: float = 0.0
    longest_delay_s: float = 0.5
    # A reset takes away what is still on its way, rather than follow it.
    overtaken: float = 0.0

    # Both sides are told that the other one reset the connection.
    reset: float = 0.0
    # The peer closes it, as a process that ends does.
    closed: float = 0.0
    # The peer sends its FIN and listens on.
    half_closed: float = 0.0
    # Nothing arrives at the peer for a while, at most `longest_stall_s`: it reads slowly.
    stalled: float = 0.0
    longest_stall_s: float = 10.0
    # When that is: behind a byte of either direction, small numbers more often, or after a time.
    within_bytes: int = 100_000
    within_s: float = 5.0

    def __post_init__(self) -> None:
        """ValueError when the chances of a group are more than 1 together."""
        for group in ((self.refused, self.hanging, self.local_failure), self.of_a_connection):
            if sum(group) > 1 or min(group) < 0:
                raise ValueError(f"{group} are not probabilities that exclude each other")

    @property
    def of_a_connection(self) -> tuple[float, ...]:
        """Reset, closed, half-closed, stalled: what befalls a connection once."""
        return self.reset, self.closed, self.half_closed, self.stalled
