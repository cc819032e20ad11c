"""Judges how connections begin and end over TLS and behind the PROXY protocol, by what was on the wire."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from faults.certificates import RIGHT
from faults.securing import HANDSHAKE_S, source_of
from faults.tape import ENDS, HEARD, LATE_S, PUT, ROUNDED_S, SAID, SAID_CUT, Check, Dialled, Tape

if TYPE_CHECKING:
    from faults.oracle import Oracle

# How a connection of a client may end that does not arrive.
FAILURES = {"timed_out", "left"}
VERIFY_FAILED = "TLS: CERTIFICATE_VERIFY_FAILED: "


class Handshaking:
    """Nothing but TLS passes where TLS is spoken, no plain text before a handshake is over, and whoever ends a connection in order says so. A
    handshake is waited for as long as it may be, and no longer; who shows a certificate that nobody may believe is refused, for that reason.
    Each backend is told whose connection it is, and it is that client's alone.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain

    def judge(self) -> None:
        town, network = self._town, self._town.network
        if not town.securing.on:
            return
        for tape in network.tapes.all:
            self._judge_wire(tape)
        if town.securing.arrives:
            for tape in town.client_tapes:
                self._judge_arrival(tape)
            self._count()
        dials: list[Dialled | Check] = [*network.dials, *network.checked, *network.agents, *network.mirrored]
        for dialled in dials:
            if dialled.tape is not None and dialled.tape.wire is not None and dialled.tape.wire.tls:
                self._judge_connect(dialled, dialled.tape)
        if town.securing.greets:
            self._judge_introductions()

    def _judge_wire(self, tape: Tape) -> None:
        """What was on the wire."""
        wire = tape.wire
        if wire is None:
            return
        if wire.tls and tape.first("said no tls", "heard no tls"):
            self.complain(f"{tape} carries what is no TLS: {wire.from_client.broken or wire.from_server.broken}")
        ours = tape.outgoing.way
        if tape.first(SAID_CUT) and not ours.alert:
            self.complain(f"{tape} was closed without a good-bye")

    # Clients.

    def _judge_arrival(self, tape: Tape) -> None:
        if self._has_arrived(tape):
            return
        said, heard = tape.first(*SAID), tape.first(*HEARD)
        if tape.first("said alert"):
            self.complain(f"{tape} was refused in its handshake")
        closed = self._town.closed
        if said is not None and (heard is None or said.at < heard.at):
            took = said.when - tape.began_when
            if took < HANDSHAKE_S - ROUNDED_S and (closed is None or said.when < closed.when):
                self.complain(f"{tape} was closed {took} s after its handshake began, {HANDSHAKE_S} are set")
        over = tape.first(*ENDS)
        until = self._town.clock.seconds() if over is None else over.when
        most = HANDSHAKE_S + LATE_S + self._town.process.lost_s(tape.began_when, until)
        if until - tape.began_when > most:
            self.complain(f"{tape} was waited for {until - tape.began_when} s in its handshake")

    def _has_arrived(self, tape: Tape) -> bool:
        return tape.first("heard finished" if self._town.securing.clients else "heard header") is not None

    def _count(self) -> None:
        """What is counted of handshakes is what the tapes show."""
        counts = self._town.frontend.handshaken
        done = sum(counts.done.values())
        shaken = sum(bool(tape.first("heard finished")) for tape in self._town.client_tapes)
        if done != shaken:
            self.complain(f"{done} handshakes are counted, {shaken} are seen")
        if counts.failures.keys() - FAILURES:
            self.complain(f"handshakes failed, as it is counted, for {counts.failures}")

    # Backends.

    def _judge_connect(self, dialled: Dialled | Check, tape: Tape) -> None:
        if tape.shows != RIGHT:
            if tape.up or tape.first(PUT):
                self.complain(f"{tape} shows {tape.shows}, and is believed")
            if tape.first("said alert") and not dialled.detail.startswith(VERIFY_FAILED):
                self.complain(f"{tape} shows {tape.shows}, and is refused for {dialled.detail!r}")
        elif tape.first("said alert"):
            self.complain(f"{tape} shows what it should, and is refused for {dialled.detail!r}")
        if tape.up:
            if dialled.failed:
                self.complain(f"{tape} is up, and failed as {dialled.failed}")
            return
        over = tape.first(*ENDS)
        until = self._town.clock.seconds() if over is None else over.when
        waited = until - dialled.when
        if waited > dialled.timeout_s + LATE_S + self._town.process.lost_s(dialled.when, until):
            self.complain(f"{tape} was waited for {waited} s in its handshake, {dialled.timeout_s} are set")

    def _judge_introductions(self) -> None:
        for name, tape in self._requests():
            client = self._oracle.asks[name][0]
            told = "" if tape.wire is None else source_of(tape.wire.from_client.header)
            if told != client.shown:
                self.complain(f"{tape} was told of {told!r}, and serves {name} of {client.shown}")
        for check in self._town.network.checked:
            if check.tape is not None and check.tape.wire is not None:
                header = check.tape.wire.from_client.header
                if source_of(header):
                    self.complain(f"{check.tape} tells of {source_of(header)}")

    def _requests(self) -> Iterator[tuple[str, Tape]]:
        """Each request that was begun at a backend, and on which connection."""
        for name, attempts in self._oracle.backends.attempts.items():
            for attempt in attempts:
                if attempt.tape is not None and attempt.reached:
                    yield name, attempt.tape
