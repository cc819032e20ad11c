"""The chances of faults in the network in memory: how often things go wrong, and how badly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chances:
    """The chances of faults, as probabilities, and how bad they are, in seconds and bytes. By default there are none.

    The first group is drawn for each attempt to connect, the second for each write, the third once for each connection.
    Connections are those of dialers (the balancer's to its backends) and of clients: what befalls one happens to the
    peer, never to the side that is tried out.
    """

    # The connect is refused, as if nobody listened.
    refused: float = 0.0
    # The connect gets no answer: it ends by its timeout.
    hanging: float = 0.0
    # This machine has nothing left to connect with (descriptors, buffers).
    local_failure: float = 0.0
    # This machine has no port left for that address.
    no_port: float = 0.0

    # The kernel takes a part only, at least a byte, and for a moment no more.
    partial_write: float = 0.0
    # A write arrives in pieces.
    split: float = 0.0
    # A write, and all behind it, arrives late, by at most `longest_delay_s`; so does the answer to a connect.
    delayed: float = 0.0
    longest_delay_s: float = 0.5
    # A reset takes away what is still on its way, rather than follow it.
    overtaken: float = 0.0

    # Both sides are told that the other one reset the connection.
    reset: float = 0.0
    # The peer closes the connection, as a process that ends does.
    closed: float = 0.0
    # The peer sends its FIN and listens on.
    half_closed: float = 0.0
    # Nothing arrives at the peer for a while, at most `longest_stall_s`: it reads slowly.
    stalled: float = 0.0
    longest_stall_s: float = 10.0
    # When one of the last four happens: behind a byte of either direction, small numbers more often, or after a time.
    within_bytes: int = 100_000
    within_s: float = 5.0

    def __post_init__(self) -> None:
        """ValueError when the chances of a group are more than 1 together."""
        for group in (self.of_a_connect, self.of_a_connection):
            if sum(group) > 1 or min(group) < 0:
                raise ValueError(f"{group} are not probabilities that exclude each other")

    @property
    def of_a_connect(self) -> tuple[float, ...]:
        """The chances of how a connect fails: refused, hanging, local failure, no port."""
        return self.refused, self.hanging, self.local_failure, self.no_port

    @property
    def of_a_connection(self) -> tuple[float, ...]:
        """The chances of what befalls a connection once: reset, closed, half-closed, stalled."""
        return self.reset, self.closed, self.half_closed, self.stalled
