"""Judges a town by its tapes: who was asked what, what came of it, and what the client was told, each by rules of its own.

Nothing of the package decides here: the outcome table stands below once more.
"""

from bisect import bisect_right
from collections import Counter
from itertools import pairwise

from faults.agents import Agreeing
from faults.attempts import Attempt, Backends, begun, name_of, stale
from faults.clients import Ask, Client
from faults.conversation import Conversation
from faults.crowding import Crowding
from faults.dates import Dates
from faults.handshaking import Handshaking
from faults.hedging import Hedging
from faults.keeping import Keeping
from faults.ledger import Change, Record
from faults.logins import Logins, bound_from
from faults.membership import Membership
from faults.outlying import Outlying
from faults.patience import Patience
from faults.reader import UNTIL_CLOSE
from faults.returning import Returning
from faults.stopping import Stopping
from faults.tape import ENDS, SAID, TOOK
from faults.town import Town
from faults.turns import Turns
from faults.web_conversation import WebConversation

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.outcome import Outcome

IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
ALWAYS = {"REFUSED", "CONNECT_TIMEOUT", "NO_PORT", "BACKLOG_FULL"}
IF_IDEMPOTENT = {"STALE_REUSE", "NO_RESPONSE", "BAD_RESPONSE", "TIMED_OUT", "BACKEND_DOWN"}
# A deadline may be a tick of the wheel late.
TICK_S = 0.25
# What one direction may hold: the mark, and what was sent ahead with one receive beyond it; and the framing around it.
MOST_UNSENT = 65536 + 2 * 65536 + 32768


class Oracle:
    """`complaints` are what is wrong with a town's story: none, or there is a bug, here or there."""

    def __init__(self, town: Town) -> None:
        self.complaints: list[str] = []
        self.town = town
        self.backends = Backends(town, self.complain)
        self.answers = {nonce: (server, a) for server in town.servers for nonce, a in server.answers.items()}
        self.asks: dict[str, tuple[Client, Ask]] = {a.name: (c, a) for c in town.clients for a in c.asks}
        self.records: dict[str, Record] = {}
        self.end = float("inf")
        self._spans: dict[str, tuple[int, float]] = {}
        self._judge()

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def _judge(self) -> None:
        town = self.town
        for name, thing in town.left.items():
            self.complain(f"left over: {name}: {thing}")
        for event in town.logged:
            failure = event.get("log_failure")
            text = failure.getTraceback() if failure is not None else ""
            self.complain(f"logged: {event.get('log_format')}\n{text}")
        for client in town.clients:
            if client.given_up:
                self.complain(f"{client} waited in vain for {client.given_up}")
        ahead = max(config.buffer_response_bytes for _, config in town.generations.all)
        if town.network.largest_unsent > MOST_UNSENT + ahead:
            self.complain(f"{town.network.largest_unsent} bytes were held for somebody who takes none")
        for record in town.records:
            if record.name in self.records:
                self.complain(f"{record.name} ended twice")
            self.records[record.name] = record
            self.backends.arrange(record)
        tapes = {str(tape.name): tape for tape in town.network.tapes.all}
        kind = WebConversation if town.web else Conversation
        conversations = []
        for client in town.clients:
            if client.transport is not None:
                host = client.transport.getHost()
                conversations.append(kind(self, client, tapes[f"client {host.host}:{host.port}"]))
        for conversation in conversations:
            self._spans.update(conversation.spans())
        for conversation in conversations:
            conversation.judge()
        if not town.web:
            Dates(self).judge([conversation.both for conversation in conversations])
        for name, attempts in self.backends.attempts.items():
            self._judge_attempts(name, attempts)
        self._count_outcomes()
        Keeping(self).judge()
        Membership(self).judge()
        Patience(self).judge()
        Returning(self).judge()
        Crowding(self).judge()
        Turns(self).judge()
        Outlying(self).judge()
        Agreeing(self).judge()
        Hedging(self).judge()
        Stopping(self).judge()
        Logins(self).judge()
        Handshaking(self).judge()

    def idempotent(self, name: str) -> bool:
        """Whether a request may be repeated."""
        return self.asks[name][1].method in IDEMPOTENT

    def settings(self, name: str) -> list[LoadBalancerConfig]:
        """Those that this request may have been led by: in force at some moment between which it began."""
        return list(self.town.generations.between(*self._spans.get(name, (0, float("inf")))))

    def left_behind(self, record: Record) -> bool:
        """Whether its backend had been gone for so long, when it ended, that what still ran there was cut."""
        member = record.member
        if member is None or member.until is None or member.rests:
            return False
        return record.when >= member.until.when + min(one.timeouts.drain_s for _, one in self.town.generations.all)

    # Attempts.

    def _judge_attempts(self, name: str, attempts: list[Attempt]) -> None:
        client, ask = self.asks[name]
        record = self.records.get(name)
        if record is None:
            self.complain(f"{name} was begun and never ended")
            return
        # On a connection that is used again not even one byte may have left when it turned out to be closed.
        if not len(attempts) <= record.attempts <= len(attempts) + (1 if record.hedge is None else 2):
            self.complain(f"{name}: {record.attempts} attempts, {len(attempts)} are seen")
        generations = self.settings(name)
        # What met a closed kept connection is no attempt. Where it may wait, nor is what nobody has listened to: it waits as
        # if it were new.
        waits = any(settings.queue.no_backend_s and settings.queue.length for settings in generations)
        counted = [attempt for attempt in attempts if (attempt.reached or not waits) and not stale(attempt)]
        if len(counted) > 1 + max(settings.retry.more_attempts for settings in generations):
            self.complain(f"{name}: {len(counted)} attempts")
        reached = [attempt for attempt in attempts if attempt.reached]
        if not self.idempotent(name) and len(reached) > 1:
            self.complain(f"{name}: a {ask.method} went to {', '.join(a.backend for a in reached)}")
        for before, after in pairwise(attempts):
            # While nobody was usable it waited, be it for no time at all, and whoever came back first might have it.
            waited = record.queued or (waits and (not before.reached or self.exhausted_between(before.at, after.at)))
            again = stale(before) or waited
            if before.member is after.member and not again and record.attempts == len(attempts):
                self.complain(f"{name}: {after.backend} is asked twice")
            beside = after.hedge or (before.hedge and before.at > after.at)
            if before.tape is not None and not beside and not self._over(before, after.at):
                self.complain(f"{name}: another attempt before the one at {before.backend} had ended")
        if attempts and record.attempts == len(attempts):
            self._judge_level(name, begun(attempts))
        for attempt in attempts:
            self._judge_request(name, ask, client, attempt)
            self._judge_choice(name, attempt)

    def _over(self, attempt: Attempt, at: int) -> bool:
        """Whether the balancer had let go of it by then."""
        assert attempt.tape is not None
        said = attempt.tape.first(*ENDS)
        return said is not None and said.at < at + 1000  # closing the socket comes after the batch

    def _judge_request(self, name: str, ask: Ask, client: Client, attempt: Attempt) -> None:
        request = attempt.request
        if request is None or request.head_ends_at is None:
            return
        if name_of(request) != name or request.method.decode() != ask.method:
            self.complain(f"{attempt.backend} was asked {request} for {name}")
        if request.get("x-forwarded-for") != client.shown:
            self.complain(f"{attempt.backend} was told of another client of {name}")
        if bytes(request.body) != ask.body[: len(request.body)]:
            self.complain(f"{attempt.backend} was sent another body of {name}")
        if request.complete and len(request.body) != len(ask.body):
            self.complain(f"{attempt.backend} was sent {len(request.body)} bytes as the whole body of {name}")

    def _judge_choice(self, name: str, attempt: Attempt) -> None:
        if attempt.backend in self.change(attempt.at).keeping:
            return
        if (
            attempt.dialled is not None
            and not self.town.naming.on
            and attempt.backend in self.change(attempt.at).unwanted
        ):
            self.complain(f"{name}: {attempt.backend} was asked, and is drained or in maintenance")
        if not self.town.checked:
            return  # then a request tries whether somebody is back
        usable = self.open(attempt.at)
        if attempt.dialled is not None and self.town.naming.on:
            usable |= self.open_since(attempt.dialled.claimed_at, attempt.at)
        if attempt.dialled is not None and self._chosen(attempt) not in usable and not self._may_try(attempt):
            self.complain(f"{name}: {attempt.backend} was asked, usable were {set(usable)}")

    def _chosen(self, attempt: Attempt) -> str:
        """Where the backend was that was claimed. A name that has become several between claim and connect leads the attempt to any of
        them, and who was claimed is judged.
        """
        member, dialled = attempt.member, attempt.dialled
        if member is None or dialled is None or member.until is None:
            return attempt.backend
        went = member.since.when <= dialled.claimed_at <= member.until.when and member.until.at < attempt.at
        return member.address if went else attempt.backend

    def _judge_level(self, name: str, first: Attempt) -> None:
        """A request that has tried nobody yet goes to no backup while others are usable, unless its client is logged in there. A name
        may move between claim and connect.
        """
        if self.town.naming.on or first.backend not in self.change(first.at).standing_by:
            return
        bound = None if first.tape is None else bound_from(*self.backends.readers[first.tape])
        if bound is None or bound >= first.index:
            self.complain(f"{name}: {first.backend} was asked, which stands by")

    def _may_try(self, attempt: Attempt) -> bool:
        """Whether an attempt may be the trial of a backend that served badly: its time is over, or nobody was usable since, which hastens it. It may have
        another name by now, and what is known of it goes with the place, and with its heirs wherever they move.
        """
        if attempt.member is None:
            return False
        records = self.town.members.known_as(attempt.member)
        return any(
            (attempt.backend in ejected.places or any(ejected.record is one for one in records))
            and ejected.moment.at < attempt.at
            and (
                ejected.event.until is None
                or attempt.when >= ejected.event.until
                or self.exhausted_between(ejected.moment.at, attempt.at)
            )
            for ejected in self.town.taken_out
        )

    @property
    def bounded(self) -> bool:
        """Whether who is usable may be full."""
        return any(settings.max_in_flight for _, settings in self.town.generations.all)

    def change(self, at: int) -> Change:
        """How the backends stood then."""
        last = bisect_right(self.town.changes, at, key=lambda change: change.at)
        return self.town.changes[last - 1] if last else Change(0, 0.0, frozenset())

    def usable(self, at: int) -> frozenset[str]:
        return self.change(at).usable

    def open(self, at: int) -> frozenset[str]:
        """Who might have been asked then: who was usable, and in panic others."""
        return self.change(at).open

    def exhausted_between(self, first: int, last: int) -> bool:
        """Whether nobody was usable at some moment of these."""
        return not self.usable(first) or any(
            first < change.at <= last and not change.usable for change in self.town.changes
        )

    def open_since(self, when: float, at: int) -> frozenset[str]:
        """Who might have been asked at any moment from this one on: a name is asked for between a claim and its connect."""
        usable = [change.open for change in self.town.changes if change.when >= when and change.at <= at]
        before = [change.open for change in self.town.changes if change.when < when]
        return frozenset().union(*usable, *before[-1:])

    # Outcomes.

    def allowed(self, name: str, attempt: Attempt, began: float) -> set[str]:
        """How an attempt may have ended by what the balancer saw of its backend; what the client did comes on top."""
        wait_s = self.asks[name][1].mark.wait_s
        if attempt.dialled is not None and attempt.dialled.failed:
            late = wait_s < float("inf") and attempt.dialled.failed in ("CONNECT_TIMEOUT", "BACKLOG_FULL")
            return {attempt.dialled.failed, *attempt.dialled.earlier} | ({"LATE"} if late else set())
        if attempt.tape is None:
            return set()
        tape, answer = attempt.tape, attempt.answer
        _, answered = self.backends.readers[tape]
        ended = tape.left_by_peer is not None
        rst = tape.first(*SAID)
        cut_at = rst.when if rst is not None else self.town.clock.seconds()
        timeouts = [settings.timeouts for settings in self.settings(name)]
        allowed = set()
        if answer is None or answer.head_ends_at is None or answered.broken:
            if cut_at - began >= min(one.response_head_s for one in timeouts) - TICK_S:
                allowed.add("TIMED_OUT")
            if name in self.records and cut_at - self.records[name].began >= wait_s - TICK_S:
                allowed.add("LATE")
            if ended:
                allowed.add("NO_RESPONSE")
                if attempt.index and answer is None:
                    allowed.add("STALE_REUSE")
        if answer is None:
            if self._went_down(attempt, cut_at):
                allowed.add("BACKEND_DOWN")
            return allowed
        is_last = answer is answered.messages[-1]
        if is_last and answered.broken and answered._state == "head":
            allowed.add("BAD_RESPONSE")
        elif answer.status == 101 and (attempt.request is None or answer.get("upgrade") != "websocket"):
            allowed = {"BAD_RESPONSE"}
        elif answer.complete:
            allowed.add("OK")
            if answer.framing == UNTIL_CLOSE:
                allowed.add("CUT_SHORT")
        elif answer.head_ends_at is not None:
            took = [entry for entry in tape.entries if entry.what == TOOK]
            last = ([entry for entry in took if rst is None or entry.at < rst.at] or took)[-1]
            stalled = cut_at - last.when >= min(one.response_idle_s for one in timeouts) - TICK_S
            if ended or stalled or (is_last and answered.broken):
                allowed.add("CUT_SHORT")
        return allowed

    def _went_down(self, attempt: Attempt, until: float) -> bool:
        """Whether checks took its backend out while it waited there for an answer."""
        return any(
            attempt.backend in places and attempt.when < moment.when <= until for moment, places in self.town.downs
        )

    def _count_outcomes(self) -> None:
        """The counters of the backends say the same as the ends of the exchanges and the tapes."""
        # One backend is several members where its name moves, or where it went and came back.
        for member in {id(one.record): one for one in self.town.members.all}.values():
            counts = Counter({o.name: n for o, n in zip(Outcome, member.record.outcomes, strict=True) if n})
            earlier: list[set[str]] = []
            for name, record in self.records.items():
                attempts = self.backends.attempts.get(name, [])
                if record.member is not None and record.member.record is member.record:
                    counts[record.outcome] -= 1
                earlier += [
                    self._ended_by(record, attempt, attempts)
                    for attempt in attempts[: record.attempts - 1]
                    if attempt.member is not None
                    and attempt.member.record is member.record
                    and attempt is not attempts[-1]
                ]
            missing = sum(counts.values()) - len(earlier)
            seen = sum(len(self.backends.attempts.get(name, [])) for name in self.records)
            hidden = sum(record.attempts for record in self.records.values()) - seen
            if min(counts.values(), default=0) < 0 or not 0 <= missing <= max(hidden, 0):
                self.complain(f"{member} counts {dict(counts)} beside the last attempts, seen are {earlier}")
            elif not missing and not _matches(+counts, earlier):
                self.complain(f"{member} counts {dict(counts)} for attempts that may have ended {earlier}")

    def _ended_by(self, record: Record, attempt: Attempt, attempts: list[Attempt]) -> set[str]:
        """How an attempt may have ended whose answer was not waited for any more, or in the end. One of two that were under way at a time
        may have been taken back, or ended with its request; and the hedge may have failed whatever would follow from that.
        """
        allowed = self.allowed(record.name, attempt, begun(attempts).when)
        if record.hedge is None:
            return allowed & self._retryable(record.name)
        if record.ended_by in ("CLIENT_GONE", "CLIENT_FAULT", "CANCELLED"):
            allowed |= {record.ended_by}
        return allowed - {"OK", "CUT_SHORT"} | {"CANCELLED"}

    def _retryable(self, name: str) -> set[str]:
        return ALWAYS | (IF_IDEMPOTENT if self.idempotent(name) else set())

    def might_have_retried(self, record: Record, attempts: list[Attempt], taken: int) -> frozenset[str]:
        """Whom it could have asked instead of giving up."""
        if record.ended_by not in self._retryable(record.name) - {"TIMED_OUT"}:
            return frozenset()
        if self.bounded:
            return frozenset()
        for settings in self.settings(record.name):
            if not (settings.retry.budget_percent or settings.retry.budget_per_s):
                return frozenset()  # such a retry is paid for
            if record.attempts > settings.retry.more_attempts or taken > settings.limits.replay_body_bytes:
                return frozenset()
            longest_s = 0.0 if not settings.retry.backoff_s else settings.retry.longest_s
            if record.when - begun(attempts).when >= settings.timeouts.response_head_s - longest_s - 2 * TICK_S:
                return frozenset()
        asked = [attempt.member for attempt in attempts if attempt.member is not None]
        tried = {member.address for member in asked if member.there(record.at)}
        # Where its name has moved it is still the same backend.
        tried |= {one.address for one in self.town.members.all if any(one.record is member.record for member in asked)}
        return self.open(record.at) - tried


def _matches(counts: Counter, attempts: list[set[str]]) -> bool:
    """Whether each attempt can be given one of its outcomes so that these are the counts."""
    # Those that leave no choice first: there may be hundreds, as where each connect is refused.
    counts = counts - Counter()
    for (outcome,) in (attempt for attempt in attempts if len(attempt) == 1):
        counts[outcome] -= 1
    if min(counts.values(), default=0) < 0:
        return False
    attempts = [attempt for attempt in attempts if len(attempt) != 1]
    if not attempts:
        return not +counts
    first, *rest = sorted(attempts, key=len)
    return any(counts[outcome] > 0 and _matches(counts - Counter([outcome]), rest) for outcome in first)


def judge(town: Town) -> list[str]:
    """What is wrong with a town that has run."""
    return Oracle(town).complaints
