"""A queue in a town: who is urgent, who shares a lane, who has a deadline, and in which order they may be served, in words of our own."""

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faults.ledger import Record
from faults.marks import USUAL, Mark

from twisted_lb.config import LoadBalancerConfig

if TYPE_CHECKING:
    from faults.oracle import Oracle

# A deadline may be a tick of the wheel late.
LATE_S = 0.11
ROUNDED_S = 1e-6


class Line:
    """What a town's requests say of their places in the queue, where it bounds what a backend has at a time: half of those towns are
    `on`. `more`: how many clients come besides, all in one second. From a stream of its own.
    """

    def __init__(self, seed: int, config: LoadBalancerConfig) -> None:
        self._rng = rng = random.Random(f"{seed}/line")
        drawn = rng.random() < 0.6, rng.random() < 0.7, rng.random() < 0.6, rng.random() < 0.5
        self.on = bool(config.max_in_flight) and drawn[0]
        self.fair, self.urgent = self.on and drawn[1], self.on and drawn[2]
        self.late = self.on and drawn[3] and not config.routes
        self.more = rng.choice([0, 4, 6]) if self.on else 0
        self.abandoned_s = rng.choice([0.0, 2.0, 9.0]) if config.max_in_flight else 0.0
        self.rush_s = rng.uniform(0.5, 5.0)

    def configured(self, config: LoadBalancerConfig) -> LoadBalancerConfig:
        """These settings, and what the requests are marked for."""
        keys: dict[str, Any] = {}
        if self.fair:
            keys["fair_by"] = {"header": "X-Lane"}
        if self.urgent:
            keys["priority_by"] = {"header": "Priority"}
        made = type(config.queue).model_validate(keys)
        queue = config.queue.model_copy(update={key: getattr(made, key) for key in keys})
        changes: dict[str, Any] = {"queue": queue, "abandoned_s": self.abandoned_s}
        if self.late:
            changes["timeouts"] = config.timeouts.model_copy(update={"deadline_header": "X-Wait"})
        return config.model_copy(update=changes)

    def mark(self) -> Mark:
        """That of a request."""
        rng = self._rng
        lane, urgency = rng.choice("aaab"), rng.choice([USUAL, USUAL, 0, 6])
        wait_s = rng.choice([math.inf, math.inf, 0.0, 0.2, 1.0, 3.0])
        return Mark(lane if self.fair else "", urgency if self.urgent else USUAL, wait_s if self.late else math.inf)


@dataclass(frozen=True)
class Wait:
    """The wait of a request before its first attempt: from when until when, and whom it was served by (None: by nobody)."""

    name: str
    mark: Mark
    begins: float
    ends: float
    served_by: object | None


class Turns:
    """Who waits is served in its order: whoever has had an attempt first, then the urgent, of one urgency lane by lane, a request
    of each in turn, and in a lane whoever came first. Whoever comes goes past nobody. Nobody is asked for what is late.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain

    def judge(self) -> None:
        town = self._town
        for record in town.records:
            self._judge_deadline(record)
        if not is_bounded(town.generations.all) or town.operator.logins is not None:
            return  # who is logged in goes past others, to its own
        if any(one.affinity.said for _, one in town.generations.all):
            return  # so does who is bound to one that has room
        firsts = [self._first(record) for record in town.records]
        served = sorted((one for one in firsts if one.served_by is not None), key=lambda one: one.ends)
        for one in firsts:
            if one.ends > one.begins:
                self._judge_wait(one, served, sure=not any(_was_ahead(other, one) for other in firsts))
        for record in town.records:
            self._judge_retries(record, served)

    def _mark(self, name: str) -> Mark:
        found = self._oracle.asks.get(name)
        return Mark() if found is None else found[1].mark

    def _first(self, record: Record) -> Wait:
        tries = record.tries
        ends = tries[0].began if tries else record.when
        begins = record.began + record.gathered_s
        return Wait(record.name, self._mark(record.name), begins, ends, tries[0].record if tries else None)

    def _judge_wait(self, one: Wait, served: list[Wait], *, sure: bool) -> None:
        """Whether it was overtaken while it waited. What is of one moment is of one turn. `sure`: it is seen since when it was the first
        of its lane.
        """
        mark = one.mark
        head_since, others = one.begins, Counter[str]()
        for other in served:
            if not one.begins < other.ends < one.ends:
                continue
            if other.mark.urgency > mark.urgency:
                self.complain(f"{other.name} was served while {one.name} waited, which is more urgent")
            if other.mark.urgency != mark.urgency:
                continue
            if other.mark.lane == mark.lane and other.begins > one.begins:
                self.complain(f"{other.name} went past {one.name} in its lane")
            elif other.mark.lane == mark.lane:
                head_since, others = other.ends, Counter()
            elif other.ends > head_since:
                others[other.mark.lane] += 1
                if sure and others[other.mark.lane] > 1:
                    self.complain(f"{other.name} had a second turn while {one.name} waited for the first of its lane")

    def _judge_retries(self, record: Record, served: list[Wait]) -> None:
        """Whoever has had an attempt waits in front of all that have had none, for whom it has not tried."""
        if record.hedge is not None or any(one.retry.backoff_s for _, one in self._town.generations.all):
            return  # it was at two at a time, or waited for its time to come
        for place, last in enumerate(record.tries):
            behind = record.tries[place + 1 :]
            ends = behind[0].began if behind else record.when
            tried = [one.record for one in record.tries[: place + 1]]
            for other in served:
                if last.ended < other.ends < ends and other.served_by not in tried:
                    self.complain(f"{other.name} was served while {record.name} waited for another attempt")

    def _judge_deadline(self, record: Record) -> None:
        wait_s = self._mark(record.name).wait_s
        for one in record.tries:
            if one.began >= record.began + wait_s:
                self.complain(
                    f"{record.name} was sent {one.began - record.began} s after it came, {wait_s} s were its time"
                )
        waited = record.when - record.began - record.gathered_s
        least = min(min(one.queue.timeout_s, one.queue.no_backend_s) for _, one in self._town.generations.all)
        if record.ended_by == "ALL_FULL" and not record.tries and 0 < waited < least - ROUNDED_S:
            self.complain(f"{record.name} was refused after {waited} s, {least} may be waited")
        late = record.when - record.began - self._town.process.lost_s(record.began, record.when) - wait_s
        if record.ended_by == "LATE" and wait_s == math.inf:
            self.complain(f"{record.name} was late, and had no deadline")
        elif record.status in (503, 504) and late > LATE_S:
            self.complain(f"{record.name} was told {late} s after its deadline")


def _was_ahead(other: Wait, one: Wait) -> bool:
    """Whether somebody of the same lane was before it and left without being served."""
    alike = (other.mark.lane, other.mark.urgency) == (one.mark.lane, one.mark.urgency) and other is not one
    return alike and other.served_by is None and other.begins <= one.begins <= other.ends


def is_bounded(generations: list[tuple[Any, LoadBalancerConfig]]) -> bool:
    """Whether a backend never had more than so many at a time, whatever was set."""
    return all(isinstance(one.max_in_flight, int) and one.max_in_flight for _, one in generations)
