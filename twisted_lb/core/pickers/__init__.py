"""The policies, by the name that the configuration gives them: a new one is a module here and a line below."""

from typing import Final

from twisted_lb.core.pickers.base import Picker, Policy
from twisted_lb.core.pickers.by_chance import RandomPolicy
from twisted_lb.core.pickers.by_turns import RoundRobinPolicy

POLICIES: Final[dict[str, Policy]] = {
    "rr": RoundRobinPolicy(),
    "rand": RandomPolicy(),
}

__all__ = ["POLICIES", "Picker", "Policy"]
