"""The engine broken on purpose, each time in one place, to see that the fault network notices.

A mutation is a piece of text of one definition of the package and what stands there instead; it is applied to a copy. The
definition is found by its qualified name, in whatever file it stands, so that moving it breaks nothing. A name that is not
defined exactly once in the package, or text that is not exactly once in it, is an error: the mutation has to follow the code.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "twisted_lb"


class Change(NamedTuple):
    """`old` stands once in the definition `where`, such as `Exchange._drop` or `IDEMPOTENT`; `new` is put in its place."""

    where: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """Changes that belong together."""

    name: str
    changes: tuple[Change, ...]

    @property
    def where(self) -> tuple[str, ...]:
        """The definitions that it changes, each once."""
        return tuple(dict.fromkeys(change.where for change in self.changes))


def once(name: str, where: str, old: str, new: str = "pass") -> Mutation:
    """A mutation of one change; left out, `new` makes a statement do nothing."""
    return Mutation(name, (Change(where, old, new),))


MUTATIONS = (
    once("a POST is sent again", "IDEMPOTENT", 'b"DELETE"', 'b"DELETE", b"POST"'),
    once("a request whose client left is not settled", "Exchange._drop", "self._settle(outcome, detail)"),
    once(
        "who is in maintenance is checked",
        "Cluster.point_checks",
        "if backends[one.name].admin is not AdminState.MAINT",
        "",
    ),
    once(
        "the deadline of an idle client stays armed while it is answered",
        "ClientConnection.begin_request",
        "self._deadline.due = NEVER",
    ),
    once(
        "a connection with bytes that nobody asked for is used again",
        "Http1Upstream._complete",
        "not rest and self._persistent",
        "self._persistent",
    ),
    Mutation(
        "bytes on an idle connection are overlooked",
        (
            Change("Http1Upstream.dataReceived", "self._closed_while_idle()", "pass"),
            Change("Http1Upstream.dataReceived", "self.close()", "pass"),
        ),
    ),
    once(
        "a chunked answer needs no last chunk",
        "Http1Upstream.readConnectionLost",
        "self._state is _UNTIL_CLOSE",
        "self._state in (_UNTIL_CLOSE, _CHUNKS)",
    ),
    once(
        "what is held of a body is sent in another order",
        "Exchange._send_held",
        "in replay.pieces:",
        "in replay.pieces[::-1]:",
    ),
    once(
        "a body is replayed of which a part is gone",
        "Exchange._replayable",
        "return self._replay is None or not self._replay.dropped",
        "return True",
    ),
    once("a client that does not read does not slow its backend", "Exchange._read_ahead", "upstream.pause()"),
    once(
        "there is no end to what is read ahead of a client",
        "Holding.read_ahead",
        "if self._ahead >= most:",
        "if False:",
    ),
    once("what an exchange held is not given back", "Exchange._count", "self._holding.end()"),
    once("who waits for room to be held is told nothing", "Memory._serve", "first.granted()"),
    once(
        "who takes the last of its answer is told nothing",
        "Exchange.client_drained",
        "self._delivered(self._delivering)",
    ),
    once("a body that is complete is gathered on", "Exchange.end_request", "self._gathered(holding)", "pass"),
    once("a body that is gathered goes on twice", "Exchange._gathered", "holding.gathering = False"),
    once("a backend that does not read does not slow its client", "Exchange.upstream_full", "self._pause_client()"),
    once("a client that was paused is not resumed", "Exchange.upstream_drained", "self._resume_client()"),
    once(
        "a connection that the backend closes is kept",
        "Http1Upstream._complete",
        "self._persistent and self._request_ended",
        "self._request_ended",
    ),
    once(
        "a connection is kept in the middle of a request",
        "Http1Upstream._complete",
        "self._persistent and self._request_ended",
        "self._persistent",
    ),
    once("another backend is asked after bytes were relayed", "Exchange.failed", "if self.started:", "if False:"),
    once(
        "a client whose answer was cut short is not closed",
        "Http1.abort",
        "self._connection.linger(half_close=False)",
    ),
    once(
        "an answer until the close is cut by a FIN",
        "Http1.abort",
        "self._connection.abort()",
        "self._connection.linger(half_close=False)",
    ),
    once("the backend that failed is asked again", "Attempts._remember", "self.tried = (*self.tried, backend)"),
    once("a backend that refuses stays in", "Backend.refresh_usable", " and (ejection.due or not ejection.active)", ""),
    once(
        "the header block of the last request is not compared",
        "Http1Reader._take_alike",
        "rest != self._rest or ",
        "",
    ),
    once("a connect goes on when its client is gone", "Exchange._drop", "cast(Dialling, way).cancel()"),
    once(
        "a byte is lost where the kernel took a part",
        "Transport.write",
        "memoryview(data)[sent:]",
        "memoryview(data)[sent + 1 :]",
    ),
    once(
        "a byte is lost where the kernel took the first of several buffers",
        "Transport.write_pieces",
        "memoryview(piece)[sent:]",
        "memoryview(piece)[sent + 1 :]",
    ),
    once(
        "a deadline that was moved is forgotten",
        "Deadlines._visit",
        "self._put(deadline, int(deadline.due / TICK_S) + 1)",
    ),
    once(
        "a backend that is too slow is a 502",
        "CONSEQUENCE",
        "Outcome.TIMED_OUT: Consequence(_SAFE, Blame.FAILURE, 504",
        "Outcome.TIMED_OUT: Consequence(_SAFE, Blame.FAILURE, 502",
    ),
    once(
        "a request for which no port is left is not sent elsewhere",
        "CONSEQUENCE",
        "Outcome.NO_PORT: Consequence(Retry.ALWAYS",
        "Outcome.NO_PORT: Consequence(_NEVER",
    ),
    once("what is to come waits for the wall clock", "_alarm", "return TimerAlarm(poller, timers.ring)"),
    once("a reactor of ours counts by the wall clock", "make_monotonic", "reactor.seconds = time.monotonic"),
    once(
        "after a pause of the process deadlines come before what is here",
        "Deadlines.tick",
        "current - self._visited > _PAUSE_TICKS and not self._graced",
        "False",
    ),
    once(
        "a connect error of ours is blamed on a backend",
        "outcome_of",
        "if code in _OURS:",
        "if code in _OURS and code != errno.ENOBUFS:",
    ),
    once("a backlog that stays full is a refusal", "outcome_of", "if unix and code == errno.EAGAIN:", "if False:"),
    once(
        "a backend is ejected because no port is left for it",
        "CONSEQUENCE",
        "Outcome.NO_PORT: Consequence(Retry.ALWAYS, Blame.NONE",
        "Outcome.NO_PORT: Consequence(Retry.ALWAYS, Blame.EJECT",
    ),
    once("who waits is not served when somebody returns", "Cluster._heard", "self.freed()"),
    once(
        "a request that nobody has listened to does not wait",
        "Attempts.again",
        "self.pool.await_return(self.ask, now, self._wait_until, self.deadline)",
        "None",
    ),
    once(
        "whom checks should bring back is asked after a while",
        "Ejection.eject",
        "NEVER if checked else now + self._rest_s",
        "now + self._rest_s",
    ),
    once("nobody is checked more often because requests wait", "_AWAITED_S", "0.2", "1.0"),
    once("who fails all checks is asked", "Backend.refresh_usable", " and self.health.up", ""),
    once("whoever was refused is tried again at once", "_TRIAL_EVERY_S", "0.25", "0.01"),
    once(
        "behind a closed kept connection another kept one is tried",
        "Exchange.failed",
        "new_connection=CONSEQUENCE[outcome].new_connection",
        "new_connection=False",
    ),
    once(
        "a closed kept connection is paid for by the budget",
        "Attempts.again",
        "(outcome is _STALE or outcome is _UNPROCESSED) and",
        "outcome is _UNPROCESSED and",
    ),
    once(
        "a client's first POST is risked on a kept connection",
        "Cluster.take",
        "(first and not kept.trusted(now))",
        "False",
    ),
    once(
        "a POST is risked where connections are closed early",
        "Cluster.take",
        "now < kept.wary_until",
        "False",
    ),
    Mutation(
        "an upload that was sent far ahead is not read on",
        (
            Change("Http1._begin", "self._take_more()", "pass"),
            Change("Http1.resume", "self._ahead_paused = False", "pass"),
        ),
    ),
    once("a connection of a removed backend is kept", "Cluster.put", "or upstream.backend.removed", "or False"),
    once("idle connections to a removed backend stay open", "Cluster._close_removed", "self._close_at(place)"),
    once("the slot of a removed backend is not given back", "Pool.settle", "if backend.removed:", "if False:"),
    once(
        "a backend that moved keeps its record",
        "Pool._adopt",
        "if backend is None or backend.address != spec.address:",
        "if backend is None:",
    ),
    once(
        "idle connections to where a name has led stay open",
        "Cluster._place",
        "self._close_kept(backend)",
    ),
    once(
        "a connection to where a name has led is kept after its answer",
        "Cluster._place",
        "upstream.opened_at = -NEVER",
    ),
    once("checks of a name that has moved wait for their turn", "Cluster._place", "self.checks.check_anew(name)"),
    once("a name is looked up only for who connects", "Cluster.tick", "self.runtime.names.refresh()"),
    once("an address that is missing in one answer leaves", "LEAVES_AFTER", "3", "1"),
    once(
        "an endpoint that is back is a new one",
        "Pool._begin",
        "self._resting.take(spec) if heir_of is None else None",
        "None",
    ),
    once(
        "who was alone at an address begins anew as its endpoint",
        "Pool._begin",
        "record.inherit(heir_of, now, checked=self.settings.checked)",
    ),
    once("new connection settings are not heeded", "Cluster.configure", "self.upstream_rules = rules"),
    once(
        "an answer does not say that the balancer stops",
        "Http1.start",
        "self._frontend.draining or self._state is _BODY",
        "self._state is _BODY",
    ),
    once("a stop leaves idle clients alone", "DataPlane.drain", "frontend.drain()"),
    once("a stop tells nobody who still waits", "Http1._refuse_at_last", "connection.takes_more", "False"),
    once(
        "a connection on which somebody is logged in is kept for whoever comes",
        "Http1Upstream._complete",
        "if self.bound:",
        "if False:",
    ),
    once(
        "credentials that log a client in are overlooked",
        "Http1Upstream.begin",
        "self.bound or fields.binds",
        "self.bound",
    ),
    once(
        "a challenge that asks a client to log in is overlooked",
        "Http1Upstream._read_head",
        "self.bound or head.binds",
        "self.bound",
    ),
    once("what leaves a frozen backend is not taken back there", "Exchange._leave", "upstream.abandon()"),
    once(
        "what was sent after the first failed check leaves a frozen backend",
        "Moving._move",
        "sent_at < self._overdue_before(upstream)",
        "True",
    ),
    once("a login outlives its client", "ClientConnection._close_bound", "bound.close()"),
    once(
        "an answer that is cut short is finished by a resource",
        "_RequestClient.abort",
        "request.loseConnection()",
        "request.finish()",
    ),
    once(
        "a client of a resource that reads no more does not slow its backend",
        "_RequestClient.pauseProducing",
        "self._exchange.client_full()",
    ),
    once(
        "the last usable one is taken out for serving badly",
        "Outliers._stays",
        'return "" if others else',
        'return "" if True else',
    ),
    once("more are taken out for serving badly than may be", "Outliers._stays", "if out >= most:", "if False:"),
    once(
        "the trial of who serves badly never ends",
        "Outliers.returned",
        "backend.ejection.end_trial(now, listens=True, checked=False)",
    ),
    once("a slow start never ends", "Weighing.follow", "if part >= 1.0:", "if False:"),
    once(
        "one client alone has a backend taken out",
        "Outliers.judge",
        " or streak.clients < rules.min_clients",
        "",
    ),
    once(
        "a backup that stands by is asked",
        "Levels.count",
        "self.sole = next((at for at, share in enumerate(self.shares) if share == 100), -1)",
        "self.sole = len(self.shares) - 1",
    ),
    once(
        "who is in maintenance is asked in panic",
        "Backend.wanted",
        "self.admin is AdminState.READY",
        "(self.admin is AdminState.READY or self.panicked > 0)",
    ),
    once(
        "who is down by checks is asked in panic",
        "Backend.used_in_panic",
        "self.panicked > 0 and self.out is None",
        "self.panicked > 0 and self.wanted",
    ),
    once("panic never ends", "Levels.mark", "0 if not self.panics[at] else", "1 if not self.panics[at] else"),
    once(
        "there is panic though enough are usable",
        "Census.fewer_than",
        "100 * self.usable < percent * self.wanted",
        "True",
    ),
    once("there is no panic below the threshold", "Census.fewer_than", "percent > 0 and", "False and"),
    once("the agent of a backend is not heeded", "Agent._follow", "bool(self.down) or self.withdrawn", "False"),
    once(
        "an agent takes nothing back",
        "Agent.hear",
        '"" if said.wish == "ready" else said.wish',
        'self.wish if said.wish == "ready" else said.wish',
    ),
    once(
        "who wants no weight by its agent is asked",
        "Agent._weightless",
        "return self.percent == 0 or self.weight == 0",
        "return False",
    ),
    once("who says that it is busy is asked", "Agent.withdrawn", "self.busy or ", ""),
    once("a lane is served to its end before the next", "_Turns.first", "self.lanes.move_to_end(number)"),
    once("the least urgent are served first", "Queue._first", "in self._classes:", "in reversed(self._classes):"),
    once("retries wait behind whoever is new", "Ticket.__init__", "again or len(tried) > 0", "False"),
    once(
        "whoever comes overtakes those that wait",
        "Pool._overtaking",
        "self._queue.for_anyone > 0 or self._somebody_unserved()",
        "False",
    ),
    once(
        "what is late is sent",
        "Pool.claim",
        "deadline != NEVER and now + self.quickest_s(now) >= deadline",
        "False",
    ),
    once(
        "a ticket is left behind by a client that leaves",
        "Exchange._drop",
        "self._cluster.leave(self.attempts.waiting)\n            self.attempts.withdraw()",
        "self._cluster.leave(self.attempts.waiting)",
    ),
    once("a backend that is at work for nobody has room", "Cluster.holds", " and upstream.sent_all", " and False"),
    once("a place that was held is never free", "Abandoned.end", "self._ended(self)"),
    once(
        "a place that was held is free twice",
        "Pool.let_go",
        "self.counts.release(backend.slot)",
        "self.counts.release(backend.slot), self.counts.release(backend.slot)",
    ),
    Mutation(
        "one more is at a backend than may be",
        (
            Change("Backend.full", "0 < self.limit <= self.load_now", "0 < self.limit < self.load_now"),
            Change(
                "Counts.claim", "0 < self._most[slot] < self.load(slot)", "0 < self._most[slot] < self.load(slot) - 1"
            ),
        ),
    ),
    once(
        "a mirrored request that is cut keeps its place", "Mirror.cut", "self._end(Outcome.CANCELLED, detail)", "pass"
    ),
    once("what is mirrored outlives the balancer", "Cluster.close_all", 'mirror.cut("the pool is closed")', "pass"),
    once(
        "a mirror waits for a body for ever",
        "Mirror.left",
        "self._unsent(Unmirrored.INCOMPLETE)",
        "pass",
    ),
    once("a hedge is not paid for", "Attempts.hedge", "not pool.budget.withdraw(now)", "False"),
    Mutation(
        "a hedge goes to the backend that has the request already",
        (Change("Attempts.hedge", "tried = (*self.tried, current.lease.backend)", "tried = self.tried"),),
    ),
    once(
        "the attempt that a hedge leaves behind is not settled", "Hedge._leave", "self._end(attempt, outcome, detail)"
    ),
    once("the attempt that a hedge leaves behind is not taken back", "Hedge._leave", "way.abandon()"),
    once("a hedge that is heard is not the attempt that ends", "Hedge._win", "self._attempts.stand_in()"),
    once("who answers first is not heard alone", "Exchange.response_started", "self._hedge.answered()"),
    once("a client that leaves leaves its hedge behind", "Exchange._drop", "self._hedge.cut(outcome, detail)"),
    once("a request whose answer has begun is hedged", "Exchange.owes_answer", "upstream.owes_all and ", ""),
    Mutation(
        "what must not be repeated is hedged",
        (
            Change("Attempts.hedge", "or not self.idempotent ", ""),
            Change("Exchange._hedge_later", "or not attempts.idempotent ", ""),
        ),
    ),
    once(
        "an end without a good-bye is one in order",
        "Http1Upstream.readConnectionLost",
        "isinstance(transport, TlsTransport) and transport.truncated",
        "False",
    ),
    once("nobody says good-bye before it closes", "TlsTransport.loseConnection", "self._say_good_bye()"),
    once("a backend is believed whatever it shows", "_context", "if not settings.verify:", "if True:"),
    Mutation(
        "behind a handshake that fails it goes on in the clear",
        (
            Change("_Dialling.failed", "self._drop_tls()", "self.secured(transport)\n        return"),
            Change("TlsTransport._fail", "self._discarding = True", "handshake.failed(self, reason)\n        return"),
            Change(
                "TlsTransport.write",
                "if len(data) <= _RECORD_BYTES:",
                "if not self._up:\n            super().write(data)\n            return\n        if len(data) <= _RECORD_BYTES:",
            ),
        ),
    ),
    once(
        "a handshake that fails is one that takes too long",
        "_Dialling.failed",
        "Outcome.REFUSED",
        "Outcome.CONNECT_TIMEOUT",
    ),
    once(
        "a handshake with a backend has no end",
        "_Dialling._timed_out",
        "if self._transport is not None:",
        "if self._transport is not None:\n            return\n        if False:",
    ),
    once(
        "a handshake with a client has no end",
        "Arrival.begin",
        "frontend.deadlines.arm(self._deadline, frontend.clock.now + rules.patience_s)",
    ),
    once("the place of a handshake is given back twice", "Arrival._end_handshake", "self._handshaking = False"),
    once("the place of a handshake is never given back", "Arrival._end_handshake", "self._frontend.handshakes.end()"),
    once(
        "what comes with the end of a handshake waits for more",
        "TlsTransport.ready",
        "if self._up or self._shake():",
        "if self._up or (self._shake() and False):",
    ),
    once(
        "the second record of a receive waits for more",
        "TlsTransport._decrypt",
        "elif self._inbound.pending:",
        "elif False:",
    ),
    once(
        "a backend is told of the balancer in front, and not of the client",
        "ClientConnection.proxy_header",
        "self.client.name",
        '"10.8.0.1"',
    ),
    once("the header of a balancer in front is read and not heeded", "Arrival._go_on", "self._go_by(header)"),
)


@cache
def definitions(source: str) -> dict[str, list[ast.stmt]]:
    """The classes, functions and assignments by their qualified names, those under an `if` or `try` included."""
    found: dict[str, list[ast.stmt]] = {}
    pending: list[tuple[str, ast.AST]] = [("", ast.parse(source))]
    while pending:
        prefix, parent = pending.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.expr):
                continue
            names = _names(node)
            if isinstance(node, ast.stmt):
                for name in names:
                    found.setdefault(prefix + name, []).append(node)
            below = f"{prefix}{names[0]}." if isinstance(node, ast.ClassDef | ast.FunctionDef) else prefix
            pending.append((below, node))
    return found


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def changed(sources: Mapping[Path, str], change: Change) -> tuple[Path, str]:
    """Which of the files it is that has the definition, and that file, broken; LookupError when there is not just one."""
    parts = change.where.split(".")
    found = [
        (path, node)
        for path, source in sources.items()
        if all(part in source for part in parts)  # parsing takes a hundred times as long
        for node in definitions(source).get(change.where, ())
    ]
    if len(found) != 1:
        files = ", ".join(sorted(path.name for path, _ in found))
        raise LookupError(f"{change.where} is defined {len(found)} times, not once: {files}")
    path, node = found[0]
    lines = sources[path].splitlines(keepends=True)
    before, own, after = (
        "".join(part)
        for part in (lines[: node.lineno - 1], lines[node.lineno - 1 : node.end_lineno], lines[node.end_lineno :])
    )
    if own.count(change.old) != 1:
        raise LookupError(f"{change.where} has this {own.count(change.old)} times, not once:\n{change.old}")
    return path, before + own.replace(change.old, change.new) + after


def broken(mutation: Mutation, package: Path) -> dict[Path, str]:
    """The files of the package that the mutation changes, broken; LookupError when one is not what it was."""
    sources = {path: path.read_text() for path in package.rglob("*.py")}
    files: dict[Path, str] = {}
    for change in mutation.changes:
        path, source = changed(sources | files, change)
        files[path] = source
    return files


def broken_copy(mutation: Mutation, where: Path) -> Path:
    """A copy of the package with the mutation in it; the folder to import it from."""
    copy = where / "twisted_lb"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for path, source in broken(mutation, copy).items():
        path.write_text(source)
    return where


def caught_at(mutation: Mutation, where: Path, most: int) -> tuple[int | None, str]:
    """How many seeds it takes until the fault network complains, None when it does not; and what it says."""
    paths = [str(broken_copy(mutation, where)), str(TESTS)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "faults", "0", str(most - 1), "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None, done.stdout
    assert done.stdout.startswith("seed "), done.stdout + done.stderr
    return int(done.stdout.partition(":")[0].removeprefix("seed ")) + 1, done.stdout
