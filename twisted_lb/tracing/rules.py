"""What a plan says of traces."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TraceRules:
    """Where spans go: the URL of a collector, with the fields that it wants; `ratio` is the share of traces that begin here whose
    spans are wanted; `service` what this balancer is called there.
    """

    endpoint: str
    ratio: float
    service: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
