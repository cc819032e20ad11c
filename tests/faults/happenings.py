"""What came about in a story, counted: so that a test can ask whether the stories have everything in them."""

import math
from collections import Counter

from faults.logins import bound_from
from faults.reader import read_both
from faults.securing import source_of
from faults.tape import ENDS, HEARD_CUT, PUT, SAID_FIN, TOOK, Tape
from faults.town import Town

from twisted_lb.core.hedging import Hedged
from twisted_lb.core.held import Held


def happenings(town: Town) -> Counter[str]:
    """Of a town that has run."""
    return Counter(
        {
            **{f"the operator {what}": count for what, count in town.operator.done.items()},
            **_members(town),
            "an endpoint is back": town.members.back,
            "a request is led by a route": town.led,
            **_settings(town),
            **_stop(town),
            **_time(town),
            **_backends(town),
            **_taken_out(town),
            **_queue(town),
            **_logins(town),
            **(_securing(town) if town.securing.on else {}),
            **{f"a hedge: {what.name}": town.pool.totals.hedges[what] for what in Hedged},
            "a request waits before it is tried again": town.paused,
            **(_web(town) if town.web else {}),
        }
    )


def _members(town: Town) -> Counter[str]:
    seen: Counter[str] = Counter()
    begin = town.members.all[0].since
    for member in town.members.all:
        asked = any(
            dialled.address == member.address and member.there(dialled.at) and dialled.tape is not None
            for dialled in town.network.dials
        )
        earlier = [one for one in town.members.all if one.since < member.since]
        if member.since > begin and asked:
            seen["a newcomer is asked"] += 1
            seen["a newcomer under an old name is asked"] += any(one.spec.name == member.spec.name for one in earlier)
            seen["somebody who comes back is asked"] += any(one.address == member.address for one in earlier)
        assert member.until is not None
        assert town.closed is not None
        if member.until.when < town.closed.when:
            left = [tape for tape in member.begun if tape not in member.busy]
            seen["somebody goes who serves"] += bool(member.busy)
            seen["somebody goes with idle connections"] += any(_ended_at(tape) >= member.until.at for tape in left)
    return seen


def _taken_out(town: Town) -> Counter[str]:
    seen: Counter[str] = Counter(
        f"somebody is taken out: {one.event.rule.name}" for one in town.taken_out if not one.trial
    )
    seen["somebody is taken out by a trial"] = sum(one.trial for one in town.taken_out)
    seen["who was taken out is back"] = sum(one.back < math.inf for one in town.taken_out)
    seen["somebody is not taken out, since others are"] = town.withheld
    return seen


def _ended_at(tape: Tape) -> float:
    end = tape.first(*ENDS)
    return float("inf") if end is None else end.at


def _settings(town: Town) -> Counter[str]:
    began = {}
    for dialled in town.network.dials:
        began.setdefault(dialled.wanted_by, dialled.at)
    changes = [moment.at for moment, _ in town.generations.all[1:]]
    return Counter(
        {
            "settings change while a request runs": sum(
                record.name in began and began[record.name] < at < record.at
                for at in changes
                for record in town.records
            )
        }
    )


def _stop(town: Town) -> Counter[str]:
    stop = town.operator.stop
    seen: Counter[str] = Counter()
    seen["a client is refused at a stop"] = sum(client.left == "refused" for client in town.clients)
    if stop is None or stop.began is None or stop.ended is None:
        return seen
    running = [record for record in town.records if record.at > stop.began.at]
    seen["a request ends well during a stop"] = sum(
        record.ended_by == "OK" and record.when < stop.ended.when for record in running
    )
    seen["a request is cut by a stop"] = sum(
        record.ended_by in ("CLIENT_GONE", "CANCELLED") and record.when == stop.ended.when for record in running
    )
    seen["a connection is idle at a stop"] = len(stop.idle)
    seen["an idle connection asks at a stop"] = sum(
        any(entry.what == TOOK and entry.at > stop.began.at for entry in tape.entries) for tape in stop.idle
    )
    return seen


def _time(town: Town) -> Counter[str]:
    return Counter(
        {
            f"a process is {town.hours.kind}": 1,
            "the wall clock steps": len(town.wall.ahead_s) - 1,
            "the process is held": len(town.process.held),
            "a request runs while the process is held": sum(
                any(record.began < ends and begins < record.when for begins, ends in town.process.held)
                for record in town.records
            ),
        }
    )


def _backends(town: Town) -> Counter[str]:
    network = town.network
    seen: Counter[str] = Counter(f"a connect is {one.meant}" for one in network.dials if one.meant)
    seen["a connect meets a full backlog"] = network.connects.waited
    seen["a backend freezes"] = sum(server.froze for server in town.servers)
    seen["a backend closes behind its answer"] = sum(server.hasty for server in town.servers)
    seen["a request is mirrored"] = town.mirroring.sent
    seen["a mirrored request fails"] = town.mirroring.failed
    seen["a request that is to be mirrored is not"] = town.mirroring.unsent
    seen["a request waits in the queue"] = sum(
        any(ends > begins for begins, ends in record.waits) for record in town.records
    )
    bound = town.pool.totals.affinity
    seen["a request goes where it is bound"] = bound[Held.KEPT]
    seen["a request has to leave where it is bound"] = sum(bound[Held.REMOVED :])
    outages = sum(server.outages for server in town.servers)
    seen[f"the only backend goes down, {'checked' if town.checked else 'not checked'}"] = outages
    queue = town.generations.now.queue
    seen["the only backend goes down, and requests may wait"] = outages if queue.no_backend_s else 0
    return seen


def _queue(town: Town) -> Counter[str]:
    seen: Counter[str] = Counter()
    marks = {ask.name: ask.mark for client in town.clients for ask in client.asks}
    firsts = [
        (record.began, record.tries[0].began if record.tries else record.when, marks[record.name], bool(record.tries))
        for record in town.records
        if record.name in marks and town.line.on
    ]
    for begins, ends, mark, _ in firsts:
        seen["a request waits for a place"] += ends > begins
        for other_begins, other_ends, other, served in firsts:
            if served and begins < other_ends < ends and other_begins > begins:
                seen["who is more urgent goes past"] += other.urgency < mark.urgency
                seen["another lane has its turn"] += other.urgency == mark.urgency and other.lane != mark.lane
    seen["a request is too late"] = sum(record.ended_by == "LATE" for record in town.records)
    for dialled in town.network.dials if town.line.abandoned_s else ():
        told = None if dialled.tape is None else dialled.tape.first(SAID_FIN)
        if told is not None and dialled.tape is not None:
            seen["a backend answers for nobody"] += any(
                one.what == TOOK and one.at > told.at for one in dialled.tape.entries
            )
    return seen


def _logins(town: Town) -> Counter[str]:
    seen: Counter[str] = Counter()
    for dialled in town.network.dials:
        if dialled.tape is not None:
            asked, answered = read_both(dialled.tape.all(PUT), dialled.tape.all(TOOK))
            first = bound_from(asked, answered)
            seen["a client may be logged in"] += first is not None
            seen["a request comes where its client may be logged in"] += (
                first is not None and len(asked.messages) > first + 1
            )
    return seen


def _securing(town: Town) -> Counter[str]:
    securing, tapes = (
        town.securing,
        [tape for tape in town.network.tapes.all if tape.wire is not None and tape.wire.tls],
    )
    seen: Counter[str] = Counter(
        f"a backend shows {what}" for what, count in securing.shown.items() for _ in range(count)
    )
    counts = town.frontend.handshaken
    seen["a client's handshake is over"] = sum(counts.done.values())
    seen["a client's handshake resumes a session"] = sum(counts.done[key] for key in counts.done if key[2])
    seen["a client's handshake takes too long"] = counts.failures.get("timed_out", 0)
    seen["a client leaves in its handshake"] = counts.failures.get("left", 0)
    seen["a handshake with a backend is over"] = sum(
        tape.up for tape in tapes if tape.name.startswith(("backend ", "check "))
    )
    dials = [one for one in town.network.dials if one.detail.startswith("TLS: ")]
    seen["a handshake with a backend fails"] = sum(one.failed == "REFUSED" for one in dials)
    seen["a handshake with a backend takes too long"] = sum(one.failed == "CONNECT_TIMEOUT" for one in dials)
    seen["a connection over TLS is cut by a FIN"] = sum(tape.first(HEARD_CUT) is not None for tape in tapes)
    seen["a client is introduced"] = len(town.client_tapes) if securing.proxied else 0
    seen["a client is introduced to a backend"] = sum(
        bool(one.tape is not None and one.tape.wire is not None and source_of(one.tape.wire.from_client.header))
        for one in town.network.dials
    )
    return seen


def _web(town: Town) -> Counter[str]:
    outcomes = Counter(f"a resource's request is {record.outcome or 'refused'}" for record in town.records)
    uploads = sum(bool(ask.body) for client in town.clients for ask in client.asks)
    return outcomes + Counter({"a resource gets an upload": uploads})
