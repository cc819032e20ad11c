"""Judges how kept connections are used again: what a backend that closes them without a word may cost (keep-alive race)."""

from itertools import pairwise
from typing import TYPE_CHECKING

from faults.attempts import Attempt, begun
from faults.crowding import Crowding
from faults.ledger import Member, Record
from faults.logins import bound_from
from faults.reader import UNTIL_CLOSE
from faults.tape import SAID, TOOK, Dialled

if TYPE_CHECKING:
    from faults.oracle import Oracle

# A close so soon behind an answer that did not announce it is early, and so long nothing unrepeatable follows.
EARLY_S = 1.0
WARY_S = 60.0
# What is written to a connection may wait for room in the kernel before it is seen.
ON_ITS_WAY_S = 0.35
# Where time is running out a request is given up, be it as soon as it may.
NEARLY_S = 0.5
ROUNDED_S = 1e-6


class Keeping:
    """Whoever meets a closed kept connection is asked again, on a new one, whatever is in the budget; where reuse is safe
    nothing that must not be repeated is risked: neither a client's first request, nor where a backend has closed early.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self._crowding = Crowding(oracle)
        self.complain = oracle.complain

    def judge(self) -> None:
        for name, attempts in self._oracle.backends.attempts.items():
            for before, after in pairwise(attempts):
                beside = after.hedge or before.hedge
                if met_closed(before) and after.index and not beside:
                    self.complain(f"{name}: met a closed kept connection, then {after.tape} is used again")
            record = self._oracle.records.get(name)
            if record is not None and record.outcome == "STALE_REUSE":
                self._judge_lost(name, record, attempts)
        if self._town.generations.now.upstream.reuse == "safe":
            self._judge_safe()

    def _judge_lost(self, name: str, record: Record, attempts: list[Attempt]) -> None:
        """Lost in a keep-alive race: only what must not, or cannot, be repeated."""
        ask = self._oracle.asks[name][1]
        if not self._oracle.idempotent(name) or record.status != 502:
            return
        if self._oracle.bounded and record.tries and record.when > record.tries[-1].ended:
            return  # it has waited for a place, in vain
        if record.when - record.began >= ask.mark.wait_s - ROUNDED_S:
            return  # nobody waits for it any more
        for settings in self._oracle.settings(name):
            if not settings.retry.more_attempts or len(ask.body) > settings.limits.replay_body_bytes:
                return
            if record.when - begun(attempts).when >= settings.timeouts.response_head_s - NEARLY_S:
                return
        tried = {one.backend for one in attempts if one.member and one.member.there(record.at) and not met_closed(one)}
        left = {place for place in self._oracle.open(record.at) - tried if not self._crowding.full(place, record)}
        if left:
            self.complain(f"{name}, a {ask.method}, met a closed kept connection and was not repeated at {set(left)}")

    def _judge_safe(self) -> None:
        wary = self._wary()
        for name, attempts in self._oracle.backends.attempts.items():
            if self._oracle.idempotent(name):
                continue
            for attempt in attempts:
                if not attempt.index or attempt.member is None or self._own(attempt):
                    continue
                if name.endswith("r0"):
                    self.complain(f"{name}, its client's first, must not be repeated and is risked on {attempt.tape}")
                for since in wary.get(attempt.member, []):
                    if ON_ITS_WAY_S < attempt.when - since < WARY_S:
                        self.complain(f"{name} must not be repeated, and is risked on {attempt.tape}")

    def _own(self, attempt: Attempt) -> bool:
        """Whether it went on its client's own connection, on which that may be logged in: elsewhere it would not be."""
        assert attempt.tape is not None
        first = bound_from(*self._oracle.backends.readers[attempt.tape])
        return first is not None and first < attempt.index

    def _wary(self) -> dict[Member, list[float]]:
        """When the balancer had seen early closes, for each backend."""
        wary: dict[Member, list[float]] = {}
        for dialled in self._town.network.dials:
            member = self._town.members.at(dialled.address, dialled.at)
            seen_at = self._closed_early(dialled)
            if member is not None and seen_at is not None:
                wary.setdefault(member, []).append(seen_at)
        return wary

    def _closed_early(self, dialled: Dialled) -> float | None:
        """When it was seen that the backend closed this connection soon after an answer, None if it did not."""
        tape = dialled.tape
        if tape is None or tape.left_by_peer is None:
            return None
        asked, answered = self._oracle.backends.readers[tape]
        whole = [message for message in answered.messages if message.complete]
        if not whole or answered.broken or answered.tunnel is not None or whole[-1] is not answered.messages[-1]:
            return None
        bound = bound_from(asked, answered)
        if bound is not None and bound < len(whole):
            return None  # the end of a login says nothing of other connections
        ended_at = whole[-1].ends_at
        assert ended_at is not None
        last = tape.entry_of(TOOK, ended_at - 1)
        seen = tape.first(*SAID)
        assert last is not None
        if seen is None or answered.unread or len(asked.messages) < len(whole):
            return None
        # What ends in the moment of the answer may have been closed by both sides.
        soon = last.when < tape.left_by_peer.when <= seen.when < last.when + EARLY_S - ON_ITS_WAY_S
        announced = whole[-1].closes or whole[-1].framing == UNTIL_CLOSE
        return seen.when if soon and not announced else None


def met_closed(attempt: Attempt) -> bool:
    """Whether it was given to a kept connection that turned out to be closed, with no word for it."""
    return (
        attempt.index > 0
        and attempt.answer is None
        and attempt.tape is not None
        and attempt.tape.left_by_peer is not None
    )
