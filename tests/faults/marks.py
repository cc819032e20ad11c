"""What a request says of its place in the queue: how urgent it is, whose turn it takes, and how long it is of use."""

import math
from dataclasses import dataclass

USUAL = 3


@dataclass(frozen=True)
class Mark:
    """What a request says of its place in the queue."""

    lane: str = ""
    urgency: int = USUAL
    wait_s: float = math.inf

    @property
    def lines(self) -> list[str]:
        said = [f"X-Lane: {self.lane}"] if self.lane else []
        said += [f"Priority: u={self.urgency}"] if self.urgency != USUAL else []
        return said + ([f"X-Wait: {self.wait_s * 1000:.0f}"] if self.wait_s < math.inf else [])


PLAIN = Mark()
