"""Judges a stop in the middle: how long it took, what it waited for, and how the connections of clients ended."""

from typing import TYPE_CHECKING

from faults.attempts import begun
from faults.ledger import Moment
from faults.operator import Stop
from faults.tape import ENDS, HEARD, HEARD_FIN, HEARD_RST, SAID_FIN, SAID_RST, TOOK, Tape
from faults.timing import LONG_S

from twisted_lb.net.client_connection import LINGER_S

if TYPE_CHECKING:
    from faults.oracle import Oracle

# The end of a drain is looked for so often; sums of floating point are a little off.
LOOK_S = 0.02 + 1e-6
# How long an idle connection is left open; its deadline may be a tick of the wheel late.
GRACE_S = 0.5
LATE_S = 0.11


class Stopping:
    """A stop takes as long as it needs and no longer than it may: who is served is served to the end, who is idle may ask
    once more, and each answer says that it is the last.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain
        self._lost_s = oracle.town.process.lost_s

    def judge(self) -> None:
        stop = self._town.operator.stop
        if stop is None:
            return
        if stop.began is None or stop.ended is None:
            self.complain(f"a stop has no end: {stop}")
            return
        began, ended = stop.began, stop.ended
        self._judge_length(stop, began, ended)
        self._judge_pause(stop, began, ended)
        if self._town.web:
            self._judge_requests(stop, began, ended)
        else:
            self._judge_clients(stop, began, ended)
        for tape in self._town.client_tapes:
            if tape.began > began.at:
                self.complain(f"{tape} was taken in during a stop")
        for dialled in self._town.network.dials:
            if dialled.at > ended.at:
                self.complain(f"{dialled.wanted_by}: {dialled.address} was asked after the stop")

    def _judge_length(self, stop: Stop, began: Moment, ended: Moment) -> None:
        """Not longer than it may."""
        by = began.when + stop.most_s if stop.hurried is None else stop.hurried.when
        if ended.when > by + LOOK_S + self._lost_s(by, ended.when):
            self.complain(f"a stop of {stop.most_s} s took {ended.when - began.when}")

    def _judge_pause(self, stop: Stop, began: Moment, ended: Moment) -> None:
        """What has come while the process was held is read before anything is cut."""
        held = [ends for begins, ends in self._town.process.held if begins >= began.when and ends - begins >= LONG_S]
        for record in self._town.records:
            if stop.hurried is None and ended.when in held and record.at > ended.at and record.when == ended.when:
                self.complain(f"{record.name} is cut at the end of a stop, as soon as the process goes on")

    def _judge_clients(self, stop: Stop, began: Moment, ended: Moment) -> None:
        """Our own connections are waited for, from the first to the last one."""
        for tape in stop.idle:
            self._judge_idle(tape, began, ended)
        if not _whole(stop, began, ended) and stop.standing:
            self.complain(f"a stop ended after {ended.when - began.when} s, connected were {stop.standing}")
        last = max([began.when, *(_left_at(tape) or ended.when for tape in self._town.client_tapes)])
        if ended.when > last + LOOK_S + self._lost_s(last, ended.when):
            self.complain(f"a stop took until {ended.when}, the last client left at {last}")

    def _judge_requests(self, stop: Stop, began: Moment, ended: Moment) -> None:
        """The connections of twisted.web are its own business, what it has brought is waited for."""
        records = self._oracle.records
        for name, attempts in self._oracle.backends.attempts.items():
            cut = begun(attempts).at < ended.at and name in records and records[name].at > ended.at
            if cut and not _whole(stop, began, ended):
                self.complain(f"a stop ended after {ended.when - began.when} s, {name} was under way")
        last = max([began.when, *(record.when for record in records.values() if record.at < ended.at)])
        if ended.when > last + LOOK_S and not _whole(stop, began, ended):
            self.complain(f"a stop took until {ended.when}, the last request ended at {last}")

    def _judge_idle(self, tape: Tape, began: Moment, ended: Moment) -> None:
        """On this connection nothing was under way."""
        took = next((entry for entry in tape.entries if entry.what == TOOK and entry.at > began.at), None)
        end = tape.first(*ENDS)
        if took is not None and (end is None or took.at < end.at):
            return  # it has asked once more, and is judged by that
        until = ended.when if end is None else end.when
        left = end is not None and end.what in HEARD
        if not left and until < min(began.when + GRACE_S, ended.when):
            self.complain(f"{tape} was idle, and left open for {until - began.when} s of a stop")
        # What TLS says at a close waits for room as all else does, and for so long.
        room_s = 0.0 if tape.outgoing.way is None else LINGER_S
        if until > began.when + GRACE_S + LATE_S + room_s + self._lost_s(began.when, until):
            self.complain(f"{tape} was idle, and left open for {until - began.when} s of a stop")


def _whole(stop: Stop, began: Moment, ended: Moment) -> bool:
    """Whether it lasted as long as it might, or somebody was in a hurry."""
    return stop.hurried is not None or ended.when >= began.when + stop.most_s


def _left_at(tape: Tape) -> float | None:
    """When nothing was left of a connection, None while there is."""
    reset = tape.first(SAID_RST, HEARD_RST)
    said, heard = tape.first(SAID_FIN), tape.first(HEARD_FIN)
    if reset is not None:
        return reset.when
    return max(said.when, heard.when) if said is not None and heard is not None else None
