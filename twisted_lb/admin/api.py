"""The API: what each endpoint answers, as values for JSON. It speaks to an Operator and knows no HTTP."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from twisted_lb.admin.chart_history import ChartHistory
from twisted_lb.admin.endpoints import KINDS, Call
from twisted_lb.admin.feed import Feed
from twisted_lb.admin.openapi import document
from twisted_lb.admin.operator import Actor, BackendView, Changed, Command, NotFound, Operator, Refused, Reloaded
from twisted_lb.core.backend import ADAPTIVE, AdminState

# How often it is looked whether what is waited for is so: at first, and less often the longer it takes already, since a look
# costs more the more clients there are.
_LOOK_S: Final = 0.02
_SELDOM_S: Final = 0.25
_PART: Final = 0.1
# Requests whose connection is being made reach a backend that is taken out; so long an answer waits for them at most.
_MOST_UNSENT_S: Final = 30.0
_MOST_EXPLAINED: Final = 1000
_EXPLAINED: Final = 10

# Calls whose answers are made of what is counted.
_COUNTED: Final = ("status", "backends", "backend", "history", "stream", "change", "remove")

Answer = dict[str, Any]


class Api:
    """The answers of the API. `time` (IReactorTime) is for answers that wait, `history` and `feed` for those of the page."""

    def __init__(self, operator: Operator, time: Any, history: ChartHistory, feed: Feed) -> None:
        self._operator: Final = operator
        self._history: Final = history
        self._feed: Final = feed
        self._time: Final = time
        self._waiting: Final[dict[Deferred[Answer], Callable[[], None]]] = {}  # and what ends the wait

    def answer(self, name: str, call: Call) -> Deferred[Answer]:
        """The answer of the endpoint with this call; fires with Refused where there is none."""
        if name not in _COUNTED:
            return maybeDeferred(getattr(self, name), call)
        answer: Deferred[Answer] = self._operator.refresh().addCallback(lambda _: getattr(self, name)(call))
        return answer

    @property
    def etag(self) -> str:
        """Changes with everything that can be changed here."""
        return self._operator.etag

    # What is.

    def status(self, call: Call) -> Deferred[Answer]:
        """The state of everything."""
        more = {"scope": call.scope, "actor": call.actor.name}
        return self._operator.look().addCallback(lambda snapshot: {**vars(snapshot), **more})

    def backends(self, _: Call) -> Deferred[Answer]:
        """All backends."""
        return self._operator.look().addCallback(
            lambda snapshot: {"backends": [one for pool in snapshot.pools for one in pool.backends]}
        )

    def backend(self, call: Call) -> Answer:
        """One backend."""
        return asdict(self._view(call.names["pool"], call.names["backend"]))

    def _view(self, pool: str, backend: str) -> BackendView:
        name = f"{pool}/{backend}"
        found = next((one for one in self._operator.backends_called(pool, backend) if one.name == name), None)
        if found is None:
            self._operator.command(Command(pool, backend), Actor(""), dry_run=True)  # it says what is wrong
            raise NotFound("no_such_backend", f'"{name}" stands for several backends', f"such as those of {pool}")
        return found

    def config(self, _: Call) -> Answer:
        """The configuration in force."""
        return {"values": [asdict(one) for one in self._operator.config()]}

    def events(self, call: Call) -> Answer:
        """What has happened."""
        every = self._operator.events(int(call.query.get("after", "0")))
        kind = call.query.get("kind")
        return {
            "events": [asdict(one) for one in every if kind in (None, one.kind)],
            "last": every[-1].id if every else int(call.query.get("after", "0")),
        }

    @inlineCallbacks
    def explain(self, call: Call) -> Any:
        """One request, explained."""
        found = yield self._operator.explain(call.names["id"])
        if found is None:
            held = yield self._operator.explained("last", 0)
            detail = f"no longer known: {held['held']} requests are held"
            raise NotFound("not_held", detail, "failed and slow ones are held longer")
        return dict(found)

    def explained(self, call: Call) -> "Deferred[Answer]":
        """The last requests of a kind, explained."""
        asked = [(kind, int(call.query[kind])) for kind in KINDS if kind in call.query]
        if len(asked) > 1:
            raise Refused("bad_value", f"which requests? one of {', '.join(KINDS)} says so", "such as ?last=10")
        kind, count = asked[0] if asked else ("last", _EXPLAINED)
        decisions = call.query.get("decisions") not in ("0", "false")
        return self._operator.explained(kind, min(count, _MOST_EXPLAINED), decisions=decisions).addCallback(dict)

    def explain_next(self, call: Call) -> "Answer | Deferred[Answer]":
        """Which backend the next request would get."""
        pool = call.query.get("pool")
        if (pool is None) is ("url" not in call.query):
            raise Refused("bad_value", "a pool or a url is wanted, and one of them")
        if pool is not None:
            return self._operator.explain_next(pool).addCallback(dict)
        return self.route(call).addCallback(_decided)

    def route(self, call: Call) -> "Deferred[Answer]":
        """Which route and backends a request would get."""
        query = call.query
        headers = []
        for line in query["header"].split("\n") if "header" in query else []:
            name, colon, value = line.partition(":")
            if not colon:
                raise Refused("bad_value", "header: should be NAME:VALUE")
            headers.append((name.strip(), value.strip()))
        client, listener = query.get("client", "127.0.0.1"), query.get("listener")
        return self._operator.route(query.get("method", "GET"), query["url"], headers, client, listener).addCallback(
            dict
        )

    def history(self, call: Call) -> Answer:
        """What the charts show."""
        return self._history.window(int(call.query.get("window", "900")))

    def stream(self, call: Call) -> Deferred[Answer]:
        """All that the page shows."""
        return self._feed.look().addCallback(lambda _: self._feed.whole(call))

    def openapi(self, _: Call) -> Answer:
        """The description of all of this."""
        return document()

    def plan(self, _: Call) -> Deferred[Answer]:
        """What a reload would do."""
        return self._operator.plan().addCallback(self._reloaded)

    # What is changed.

    def change(self, call: Call) -> Answer | Deferred[Answer]:
        """Set what is wanted of a backend."""
        pool, backend, body = call.names["pool"], call.names["backend"], call.body
        if not {"admin", "weight", "limit"} & set(body):
            raise Refused("bad_value", "nothing to change: admin, weight or limit is wanted")
        admin = AdminState(body["admin"]) if "admin" in body else None
        limit = ADAPTIVE if body.get("limit") == "adaptive" else body.get("limit")
        command = Command(pool, backend, admin, body.get("weight"), limit, force=bool(body.get("force")))
        dry_run = call.flag("dry_run")
        changed = self._operator.command(command, call.actor, dry_run=dry_run)
        if dry_run:
            return self._changed(pool, backend, changed)
        out = admin in (AdminState.DRAIN, AdminState.MAINT) or command.weight == 0
        return self._when_out(pool, backend, call.wait_s if out else None, sent=out).addCallback(
            self._refreshed, lambda over: {**self._changed(pool, backend, changed), **over}
        )

    def _refreshed(self, over: Answer, answer: Callable[[Answer], Answer]) -> Deferred[Answer]:
        """An answer that is made of what is counted now, after a wait."""
        return self._operator.refresh().addCallback(lambda _: answer(over))

    def _changed(self, pool: str, backend: str, changed: Changed) -> Answer:
        views = [asdict(one) for one in self._operator.backends_called(pool, backend)]
        more = {"backends": views} if len(views) > 1 else {}
        return {"backend": views[0] if views else None, **more, **asdict(changed)}

    def add(self, call: Call) -> Answer | Deferred[Answer]:
        """Add a backend."""
        pool = call.names["pool"]
        table = {key: value for key, value in call.body.items() if key != "reason"}
        name = self._operator.add(pool, table, call.actor)
        return {"name": name, **self._changed(pool, name, Changed([f"added {pool}/{name}"], []))}

    def remove(self, call: Call) -> Deferred[Answer]:
        """Remove a backend."""
        pool, backend = call.names["pool"], call.names["backend"]
        changed = self._operator.remove(pool, backend, call.actor, force=call.flag("force"))

        def removed(over: Answer) -> Answer:
            left = self._operator.left(pool, backend, removed=True)
            return {
                "removed": f"{pool}/{backend}",
                "left": {"requests": left.requests, "tunnels": left.tunnels},
                "follows": list(changed.follows),
                **over,
            }

        return self._when_out(pool, backend, call.wait_s, sent=True, removed=True).addCallback(self._refreshed, removed)

    def reset_one(self, call: Call) -> Answer:
        """Drop the runtime changes of a backend."""
        pool, backend = call.names["pool"], call.names["backend"]
        lines = self._operator.reset(pool, backend, call.actor, force=call.flag("force"))
        return self._changed(pool, backend, Changed(lines, []))

    def reset(self, call: Call) -> Answer:
        """Drop all runtime changes."""
        return {"changes": list(self._operator.reset(None, None, call.actor, force=call.flag("force")))}

    def reload(self, call: Call) -> Deferred[Answer]:
        """Read the configuration anew."""
        dry_run = bool(call.body.get("dry_run"))
        done = self._operator.plan() if dry_run else self._operator.apply(call.actor)
        return done.addCallback(self._reloaded)

    def upgrade(self, call: Call) -> Deferred[Answer]:
        """Become another program."""
        return self._operator.upgrade(call.actor).addCallback(lambda program: {"program": program, "pid": os.getpid()})

    def _reloaded(self, reloaded: Reloaded) -> Answer:
        if reloaded.problems:
            raise BadConfiguration(reloaded.problems, reloaded.report)
        return {
            "applied": reloaded.applied,
            "changed": reloaded.changed,
            "lines": list(reloaded.lines),
            "warnings": list(reloaded.warnings),
            "generation": int(self.etag.split(".")[-2]),
            "etag": self.etag,
        }

    def _when_out(
        self, pool: str, backend: str, wait_s: float | None, *, sent: bool, removed: bool = False
    ) -> Deferred[Answer]:
        """Fires when no new request can arrive at a backend, and, with `wait_s`, when it is empty or that time is over."""
        began, seen_s = self._time.seconds(), 0.0

        def stop() -> None:
            self._waiting.pop(done, None)
            if loop.running:
                loop.stop()

        done: Deferred[Answer] = Deferred(lambda _: stop())

        def look(*, now: bool = False) -> None:
            nonlocal seen_s
            waited_s = self._time.seconds() - began
            over = now or (wait_s is not None and waited_s >= wait_s)
            if not over and waited_s - seen_s < min(_PART * waited_s, _SELDOM_S):
                return
            seen_s = waited_s
            left = self._operator.left(pool, backend, removed=removed)
            if sent and left.unsent and waited_s < _MOST_UNSENT_S and not over:
                return
            if wait_s is None or left.empty or over:
                stop()
                late = {"time_over": True} if over and not left.empty else {}
                done.callback({"waited_s": round(waited_s, 3), **late})

        loop = LoopingCall(look)
        loop.clock = self._time

        def failed(why: Any) -> None:
            # Nobody is there any more to be asked.
            stop()
            done.errback(why)

        def end() -> None:
            try:
                look(now=True)
            except Refused:
                failed(Failure())

        self._waiting[done] = end
        loop.start(_LOOK_S).addErrback(failed)
        return done

    def close(self) -> None:
        """Whoever waits is answered with what is so now: another instance answers from now on."""
        for end in list(self._waiting.values()):
            end()


class BadConfiguration(Refused):
    """A configuration that is not applied, with everything that is wrong in it."""

    def __init__(self, problems: Sequence[Mapping[str, str]], report: str) -> None:
        first = problems[0]["text"]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__("bad_configuration", f"{first}{more}", "lbctl check says all of it; nothing was changed")
        self.problems: Final = [dict(one) for one in problems]
        self.report: Final = report


def _decided(routed: Answer) -> Answer:
    """The decision for a request that would be routed so; Refused where it needs none."""
    decision = routed["decision"]
    if decision is None:
        raise Refused(
            "bad_value", f"that request goes to no pool: {routed['why'] or routed['action']}", "see /v1/route"
        )
    return dict(decision)
