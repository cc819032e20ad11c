"""What `lbctl top` knows: the last answer, the numbers of the last minutes, and where the operator is."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.names import backends_of
from twisted_lb.ctl.session import items, number_of, text_of

# A sample a second; graphs show a minute or two.
SAMPLES: Final = 240

# What backends can be sorted by: the name of it, and the key.
SORTS: Final = (
    ("file order", ""),
    ("requests", "rate"),
    ("in flight", "in_flight"),
    ("errors", "errors_60s"),
    ("p99", "p99_ms"),
    ("state", "state"),
)


@dataclass
class Model:
    """What is known: the last answer and when it came, a minute or more of numbers, and where the operator is."""

    status: Answer = field(default_factory=dict)
    events: list[Answer] = field(default_factory=list)
    heard_at: float = 0.0
    history: dict[str, deque[float | None]] = field(default_factory=dict)
    changed_at: dict[str, float] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    tab: int = 0
    cursor: int = 0
    sort: int = 0
    filter: str = ""
    # What is typed after `/`; None: nobody types.
    typing: str | None = None
    # A question on the last line, and what was answered there.
    question: str = ""
    said: str = ""
    paused: bool = False
    helping: bool = False
    checks_of: str = ""

    def hear(self, status: Answer, now: float) -> None:
        """Take in an answer."""
        first = not self.states
        self.status, self.heard_at = status, now
        of_pools = items(status, "pools")
        self._add("rate", _total(of_pools, "rate"))
        self._add("p99", max((one["p99_ms"] for one in of_pools if _known(one, "p99_ms")), default=None))
        self._add("errors", _total(of_pools, "errors_60s"))
        self._add("in_flight", _total(of_pools, "in_flight"))
        for one in backends_of(status):
            name, state = text_of(one, "name"), text_of(one, "state")
            self._add(f"of {name}", one["rate"] if _known(one, "rate") else None)
            if self.states.get(name) != state and not first:
                self.changed_at[name] = now
            self.states[name] = state

    def _add(self, key: str, value: float | None) -> None:
        self.history.setdefault(key, deque(maxlen=SAMPLES)).append(value)

    def of(self, key: str) -> list[float | None]:
        """The numbers of the last minutes."""
        return list(self.history.get(key, ()))

    def rows(self) -> list[Answer]:
        """The backends that are shown, in their order."""
        found = [one for one in backends_of(self.status) if self.filter.lower() in text_of(one, "name").lower()]
        key = SORTS[self.sort][1]
        if key == "state":
            return sorted(found, key=lambda one: (text_of(one, "state") == "ready", text_of(one, "state")))
        return sorted(found, key=lambda one: -number_of(one, key)) if key else found

    def chosen(self) -> Answer:
        """The backend under the cursor; an empty one where there is none."""
        rows = self.rows()
        return rows[min(self.cursor, len(rows) - 1)] if rows else {}


def _known(answer: Answer, key: str) -> bool:
    return isinstance(answer.get(key), int | float)


def _total(answers: Sequence[Answer], key: str) -> float | None:
    known = [answer[key] for answer in answers if _known(answer, key)]
    return sum(known) if known else None
