"""Judges who comes on a connection on which somebody may be logged in (NTLM, Negotiate): one client, and nobody else."""

from typing import TYPE_CHECKING

from faults.attempts import name_of
from faults.reader import Message, Reader
from faults.tape import Tape

if TYPE_CHECKING:
    from faults.oracle import Oracle


def binds(request: Message, answer: Message | None) -> bool:
    """Whether the connection is one client's from here on: it may have logged in, or was asked to."""
    asks = answer is not None and answer.head_ends_at is not None and answer.status == 401
    return request.get("authorization").startswith(("NTLM ", "Negotiate ")) or (
        asks and answer is not None and "NTLM" in answer.get("www-authenticate")
    )


def bound_from(asked: Reader, answered: Reader) -> int | None:
    """The index of the request by which a connection became one client's; None: it is everybody's."""
    for index, request in enumerate(asked.messages):
        answer = answered.messages[index] if index < len(answered.messages) else None
        if request.head_ends_at is not None and binds(request, answer):
            return index
    return None


class Logins:
    """Whose requests go on which connection to a backend. A resource in twisted.web knows no client from another."""

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle

    def judge(self) -> None:
        for tape, (asked, answered) in self._oracle.backends.readers.items():
            first = bound_from(asked, answered)
            if first is not None:
                self._judge_bound(
                    tape, [name_of(one) for one in asked.messages[first:] if one.head_ends_at is not None]
                )

    def _judge_bound(self, tape: Tape, names: list[str]) -> None:
        if len(names) > 1 and self._oracle.town.web:
            self._oracle.complain(f"{tape} is used for {names[1]}, and {names[0]} may be logged in there")
        owner, _ = self._oracle.asks[names[0]]
        for name in names[1:]:
            client, _ = self._oracle.asks[name]
            if client is not owner:
                self._oracle.complain(f"{tape} is used for {name}, and {owner.name} may be logged in there")
