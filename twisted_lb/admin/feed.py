"""The feed of the page: all that it shows, and then, each second, what has changed; made once for all who look."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.server import Request

from twisted_lb.admin.as_json import plain
from twisted_lb.admin.chart_history import FINE_S, MARKED, ChartHistory, marked
from twisted_lb.admin.endpoints import Call
from twisted_lb.admin.operator import BackendView, EventView, Operator, Refused, Snapshot
from twisted_lb.admin.page_requests import bad_and_slow
from twisted_lb.admin.streams import EventStream, encoded
from twisted_lb.admin.words import is_so
from twisted_lb.portions import AT_ONCE, Making, Portions

# So many requests are explained on the page.
MOST_BAD: Final = 20
MOST_SLOW: Final = 10
# And so much of what is wrong with the certificates of a listener is told.
MOST_FLAWS: Final = 20
# So many events the page begins with.
_MOST_EVENTS: Final = 50
# Moments that are worked out from lengths tremble.
_TREMBLES_S: Final = 1.5
_MOMENTS: Final = ("since", "began", "changed_at")

_log = Logger()

Shown = dict[str, Any]


class Feed:
    """What the page shows. While somebody looks, a snapshot a second is compared with the one before."""

    def __init__(self, operator: Operator, history: ChartHistory, time: Any) -> None:
        self._operator: Final = operator
        self._history: Final = history
        self._viewers: Final[dict[Viewer, None]] = {}
        self._told: Shown = {}
        self._config: list[Shown] = []
        self._last: int = 0
        self._charted: int = 0  # the last second of the charts that was told
        self.portions: Final = Portions(time)
        self._looking = False
        self._ticking: Final = LoopingCall(self._tick)
        self._ticking.clock = time

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def look(self) -> "Deferred[None]":
        """Have something to show: while somebody looks already, that is what he sees. Fires when it is so; or with Refused."""
        if self._viewers:
            return succeed(None)
        return self._seen().addCallback(self._begin)

    def _seen(self) -> "Deferred[Shown]":
        """The state as the page wants it; with thousands of backends it is made in portions."""
        return self._operator.look().addCallback(lambda snapshot: self.portions.make(shown(snapshot)))

    def _begin(self, now: Shown) -> None:
        # Who looks by now has begun with what another one has brought: changes are told him of that.
        if not self._viewers:
            self._take(now)
            self._charted = self._history.last

    def whole(self, call: Call) -> Shown:
        """All that the page shows to whom this call is of, behind a `look`."""
        events = [one for one in self._operator.events(self._last - _MOST_EVENTS) if one.id <= self._last]
        return {
            "status": self._told,
            "history": self._history.window(FINE_S),
            "events": [asdict(one) for one in events],
            "config": self._config,
            "sparks": self._history.sparks(),
            "scope": call.scope,
            "actor": call.actor.name,
        }

    def refresh(self) -> "Deferred[None]":
        """Have all that is counted as it is now, and something to show; fires when it is so, or with Refused."""
        return self._operator.refresh().addCallback(lambda _: self.look())

    @inlineCallbacks
    def requests(self) -> Any:
        """Fires with requests that went wrong, and the slowest, explained."""
        bad = yield self._operator.explained("failed", MOST_BAD)
        slow = yield self._operator.explained("slowest", MOST_SLOW)
        return bad_and_slow(bad["requests"], slow["requests"])

    def _take(self, now: Shown) -> tuple[Shown, bool, list[EventView]]:
        """Show this from now on; what was shown before, whether the configuration is another one, and what has happened."""
        before, happened = self._told, list(self._operator.events(self._last))
        self._told = _steady(before, now)
        self._last = happened[-1].id if happened else self._last
        loaded = before.get("etag") != self._told["etag"]
        if loaded:
            self._config = [asdict(one) for one in self._operator.config()]
        return before, loaded, happened

    def add(self, viewer: "Viewer") -> None:
        """Somebody looks."""
        self._viewers[viewer] = None
        if not self._ticking.running:
            self._ticking.start(1.0, now=False).addErrback(self._failed)

    def remove(self, viewer: "Viewer") -> None:
        """He looks no more."""
        self._viewers.pop(viewer, None)
        if not self._viewers and self._ticking.running:
            self._ticking.stop()

    def _tick(self) -> None:
        if self._looking:
            return
        self._looking = True
        self._seen().addCallback(self._tell).addErrback(self._not_told).addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._looking = False

    def _not_told(self, failure: Any) -> None:
        if failure.check(Refused):  # it stops
            return
        if self._ticking.running:
            self._ticking.stop()
        self._failed(failure)

    def _tell(self, now: Shown) -> None:
        """Tell whoever looks what has changed."""
        if not self._viewers:
            return
        before, loaded, happened = self._take(now)
        delta = changed(before, self._told)
        if delta is None:  # what there is, and not only how it is
            for viewer in list(self._viewers):
                viewer.tell("snapshot", self.whole(viewer.call))
            return
        delta["history"] = self._history.after(self._charted)
        self._charted = self._history.last
        delta["sparks"] = self._history.last_sparks()
        if happened:
            delta["events"] = [asdict(one) for one in happened]
            delta["marks"] = [marked(one) for one in happened if one.kind in MARKED]
        if loaded:
            delta["config"] = self._config
        data = encoded("delta", delta)
        for viewer in list(self._viewers):
            viewer.write(data)

    def _failed(self, failure: Any) -> None:
        """Nobody is to take what stands there for the present: each page is cut off, says so, and asks again."""
        _log.failure("the feed of the page failed, a bug", failure=failure)
        for viewer in list(self._viewers):
            viewer.close()


class Viewer(EventStream):
    """Somebody who looks at the page."""

    def __init__(self, request: Request, feed: Feed, call: Call, time: Any) -> None:
        super().__init__(request, time)
        self.call: Final = call
        self._feed: Final = feed

    def begin(self) -> None:
        """Show all, and then what changes."""
        first = self._feed.whole(self.call)  # it may refuse
        super().begin()
        self.tell("snapshot", first)
        self._feed.add(self)

    def end(self) -> None:
        """He is gone."""
        super().end()
        self._feed.remove(self)


def shown(snapshot: Snapshot) -> Making[Shown]:
    """A snapshot as the page wants it: with moments in the place of lengths of time, which differ each second; with the last
    check of each backend only; with the words of the verdict; of certificates with what is worst about them.
    """
    status: Shown = {key: plain(value) for key, value in vars(snapshot).items() if key != "pools"}
    now = status["now"]
    status["began"] = now - status.pop("uptime_s")
    file = status["file"]
    if file is not None and file.get("changed_s") is not None:
        changed = file.get("changed") or file["path"]
        status["file"] = {"path": file["path"], "changed": changed, "changed_at": round(now - file["changed_s"])}
    for listener in status["listeners"]:
        listener["tls"] = _secured(listener.pop("certificates"), listener.pop("flaws"))
    for clause in status["verdict"]["clauses"]:
        clause["is"] = is_so(clause["state"])
    for worker in status["workers"]:
        uptime_s = worker.pop("uptime_s")
        worker["since"] = now - uptime_s if worker["pid"] else None
    pools = status["pools"] = []
    for pool in snapshot.pools:
        made = {key: plain(value) for key, value in vars(pool).items() if key not in ("backends", "leaving")}
        made["leaving"] = [_backend(one, now) for one in pool.leaving]
        backends = made["backends"] = []
        for begin in range(0, len(pool.backends), AT_ONCE):
            backends += [_backend(one, now) for one in pool.backends[begin : begin + AT_ONCE]]
            if begin + AT_ONCE < len(pool.backends):
                yield
        pools.append(made)
    return status


def _backend(view: BackendView, now: float) -> Shown:
    made: Shown = {key: plain(value) for key, value in vars(view).items() if key not in ("checks", "since_s")}
    return made | {"since": now - view.since_s, "checks": plain(view.checks[:1])}


def _secured(certificates: Sequence[Shown], flaws: Sequence[Shown]) -> Shown | None:
    """The TLS of a listener: when the first of its certificates expires, and all that is wrong, the gravest first; None without TLS."""
    if not certificates:
        return None
    every = [*(flaw for one in certificates for flaw in one["flaws"]), *flaws]
    return {
        "expires_at": min(one["expires_at"] for one in certificates),
        "flaws": sorted(every, key=lambda one: not one["grave"])[:MOST_FLAWS],
    }


def _steady(before: Shown, now: Shown) -> Shown:
    """The new state, with moments that are those of before where they only tremble."""
    for key in _MOMENTS:
        if now.get(key) is not None and abs(now[key] - (before.get(key) or 0.0)) < _TREMBLES_S:
            now[key] = before[key]
    processes = {one["pid"]: one for one in before.get("workers", ())}
    for one in now.get("workers", ()):
        _steady(processes.get(one["pid"], {}), one)
    old = {one["name"]: one for pool in before.get("pools", ()) for one in pool["backends"]}
    for pool in now.get("pools", ()):
        for one in pool["backends"]:
            if one["name"] in old:
                _steady(old[one["name"]], one)
    return now


def changed(before: Shown, now: Shown) -> Shown | None:
    """What has changed: the keys with another value, of pools and their backends by name. None where there are others now."""
    pools, backends = {}, {}
    if [_names(one) for one in before.get("pools", ())] != [_names(one) for one in now["pools"]]:
        return None
    if any(
        [one["name"] for one in before[key]] != [one["name"] for one in now[key]] for key in ("routes", "listeners")
    ):
        return None
    for old, new in zip(before["pools"], now["pools"], strict=True):
        other = _others(old, new, ("backends",))
        if other:
            pools[new["name"]] = other
        for was, one in zip(old["backends"], new["backends"], strict=True):
            other = _others(was, one, ())
            if other:
                backends[one["name"]] = other
    return {"status": _others(before, now, ("pools",)), "pools": pools, "backends": backends}


def _names(pool: Mapping[str, Any]) -> tuple[str, list[str]]:
    return pool["name"], [one["name"] for one in pool["backends"]]


def _others(old: Shown, new: Shown, but: tuple[str, ...]) -> Shown:
    return {key: value for key, value in new.items() if key not in but and old.get(key) != value}
