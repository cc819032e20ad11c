"""Judges whom the balancer takes out for serving badly: for failures that there were, few enough at once, and for so long."""

from typing import TYPE_CHECKING

from faults.attempts import Attempt
from faults.ledger import TakenOut
from faults.tape import HEARD_RST

from twisted_lb.core.ejection import EjectionRule

if TYPE_CHECKING:
    from faults.oracle import Oracle

ROUNDED_S = 1e-6
# Of whoever rests by chance up to so much longer.
LONGER = 1.1


class Outlying:
    """Nobody is taken out without as many failed attempts as a rule wants; of a pool no more than the share that may be, and never the
    last usable one, nor for the failures of fewer clients than it takes; whoever is told to be back is back; and while it rests it gets nothing, unless nobody is usable and somebody waits.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self._rules = [settings.ejection for _, settings in oracle.town.generations.all]
        self.complain = oracle.complain

    def judge(self) -> None:
        for told in self._town.still_out:
            self.complain(told)
        for one in self._town.taken_out:
            self._judge_share(one)
            self._judge_time(one)
            self._judge_reason(one)
            self._judge_rest(one)

    def _judge_share(self, ejected: TakenOut) -> None:
        most = max(rules.max_percent for rules in self._rules)
        if not ejected.trial and ejected.out > ejected.wanted * most // 100:
            self.complain(f"{ejected.event}: {ejected.out} of {ejected.wanted} are out")
        if not ejected.trial and not ejected.usable:
            self.complain(f"{ejected.event}: it was the last one")

    def _judge_time(self, ejected: TakenOut) -> None:
        assert ejected.event.until is not None
        rest_s = ejected.event.until - ejected.event.at
        least = min(min(rules.base_s, rules.longest_s) for rules in self._rules)
        most = max(rules.longest_s for rules in self._rules)
        if not least - ROUNDED_S <= rest_s <= most * LONGER + ROUNDED_S:
            self.complain(f"{ejected.event}: for {rest_s} s")

    def _judge_reason(self, ejected: TakenOut) -> None:
        """As many attempts there have not ended well, or not yet, as the rule wants at least."""
        least = {
            EjectionRule.CONSECUTIVE_FAILURES: min(rules.consecutive_failures or 1 for rules in self._rules),
            EjectionRule.SUCCESS_RATE: 1,
            EjectionRule.FAILURE_PERCENT: 1,
        }
        failed = [
            self._oracle.asks[name][0]
            for name, one in self._attempts_at(ejected)
            if one.at < ejected.moment.at and not _good(one)
        ]
        if not ejected.trial and ejected.event.rule is EjectionRule.CONSECUTIVE_FAILURES:
            clients, least_clients = len({client.host for client in failed}), min(r.min_clients for r in self._rules)
            if clients < least_clients:
                self.complain(f"{ejected.event}: of {clients} clients, {least_clients} are needed")
        if len(failed) < (1 if ejected.trial else least[ejected.event.rule]):
            self.complain(f"{ejected.event}: {len(failed)} attempts there have not ended well")

    def _judge_rest(self, ejected: TakenOut) -> None:
        """No request is begun there before its time, nor before it is back. A name that moves ends the rest."""
        until = ejected.event.until
        assert until is not None
        ends = min(until, ejected.back)
        for _, attempt in [] if self._town.naming.on else self._attempts_at(ejected):
            early = ejected.moment.at < attempt.at and attempt.when < ends - ROUNDED_S
            if early and attempt.backend in self._oracle.change(attempt.at).panicked:
                continue
            if early and not self._exhausted(ejected.moment.when, attempt.when):
                self.complain(f"{attempt.backend} is asked at {attempt.when}, and rests until {ends}: {ejected.event}")

    def _exhausted(self, since: float, until: float) -> bool:
        """Whether nobody was usable, at some moment between these."""
        changes = self._town.changes
        return any(
            not change.usable and change.when <= until and (later is None or later.when >= since)
            for change, later in zip(changes, [*changes[1:], None], strict=True)
        )

    def _attempts_at(self, ejected: TakenOut) -> list[tuple[str, Attempt]]:
        """Those at the server that was taken out, with the names of their requests."""
        return [
            (name, one)
            for name, attempts in self._oracle.backends.attempts.items()
            for one in attempts
            if one.member is not None
            # What is known of a server goes with it to another name.
            and (one.member.record is ejected.record or (self._town.naming.on and one.backend in ejected.places))
        ]


def _good(attempt: Attempt) -> bool:
    answer = attempt.answer
    if answer is None or not answer.complete or not 200 <= (answer.status or 0) < 500:
        return False
    # A reset may overtake the FIN that would have been the end of it.
    return attempt.tape is None or attempt.tape.first(HEARD_RST) is None
