"""Rendezvous (highest random weight): each member draws a number for a key, and the highest one for its weight has it.

Thaler and Ravishankar: Using Name-Based Mappings to Increase Hit Rates (1998); by weight: Schindelhauer and Schomaker (2005).
"""

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import Picker
from twisted_lb.core.pickers.by_key import ByKey
from twisted_lb.core.pickers.members import Members


class Rendezvous(ByKey):
    """Rendezvous: O(n) a pick, nothing to build but two numbers for each member.

    When a member goes, its keys move and no others; when a weight changes, as many as its share does. Shares are as even as
    chance is. With equal weights whole numbers are compared, and the same in every process; with others logarithms, of which
    the last digit is the C library's: two of these may disagree over one key in 10^13.
    """

    def __init__(self, members: Members) -> None:
        super().__init__(members, "rendezvous")

    @classmethod
    def built(cls, members: Members, _previous: Picker | None) -> "Rendezvous":
        """The picker over these members."""
        members.seed()
        return cls(members)

    def owner(self, key: int) -> int:
        """Who has the highest score."""
        return self.members.highest(key)

    def following(self, key: int) -> list[int]:
        """All members by their scores."""
        return self.members.order(key)

    def ranked(self, key: int) -> list[tuple[Backend, float]]:
        """All members by their scores, with these."""
        scores = self.members.scores(key)
        return [(self.members.all[index], scores[index]) for index in self.following(key)]

    def shares(self) -> list[tuple[Backend, float]]:
        """The members by weight, which is what they have of all keys."""
        members = self.members
        total = sum(members.weights)
        shares = [(backend, members.weights[index] / total) for index, backend in enumerate(members.all)]
        return sorted(shares, key=lambda one: -one[1])

    def fork(self) -> Picker:
        """A copy: the picker has no memory but of its last pick."""
        return Rendezvous(self.members)
