"""Members, as a policy of one's own sees them."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts


class Member:
    """A member of a pool, as a policy of one's own sees it: a backend that the operator wants, to be read only. It is the same one,
    and equal, for as long as the backend is in the pool, whatever is built anew.
    """

    __slots__ = ("_backend", "_counts")

    def __init__(self, backend: Backend, counts: Counts) -> None:
        self._backend: Final = backend
        self._counts: Final = counts

    @property
    def name(self) -> str:
        """What logs call it."""
        return self._backend.name

    @property
    def address(self) -> str:
        """Where it is, as in the configuration."""
        return str(self._backend.address)

    @property
    def weight(self) -> float:
        """Its share relative to the others: its weight, 1 to 256, and less while slow start lasts."""
        return self._backend.weighing.effective

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, a copy: to be looked at once, when the policy is made."""
        return dict(self._backend.labels)

    @property
    def in_flight(self) -> int:
        """How many requests it has in flight now."""
        slot = self._backend.slot
        return 0 if slot < 0 else self._counts.load(slot)

    @property
    def limit(self) -> int:
        """How many requests it may have in flight, 0 for no bound."""
        return self._backend.limit

    @property
    def available(self) -> bool:
        """Whether it may be picked now: wanted, up, not ejected and not full."""
        return self._backend.available

    def open_to(self, tried: Sequence["Member"]) -> bool:
        """Whether a request may go there: it is available, and not among those that were tried."""
        return self._backend.available and (not tried or self not in tried)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Member) and other._backend is self._backend

    def __hash__(self) -> int:
        return hash(self._backend)

    def __copy__(self) -> "Member":
        return self

    def __deepcopy__(self, memo: object) -> "Member":
        # A copy of a policy, for `explain`, looks at the same members.
        return self

    def __repr__(self) -> str:
        return f"<Member {self.name}, {self.in_flight} in flight>"
