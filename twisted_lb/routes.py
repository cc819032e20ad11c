"""The routes of the data path, made of a plan's: what equals a part of the plan before stays the object that it was."""

import secrets
from collections.abc import Mapping
from typing import Final

from twisted_lb.core.access import AccessRules
from twisted_lb.core.events import LimitSpared
from twisted_lb.core.never import NEVER
from twisted_lb.core.rate import Rates
from twisted_lb.core.rate_limits import RateLimit, RateLimits, Tally
from twisted_lb.core.routing import RouteMatch
from twisted_lb.core.running import Running
from twisted_lb.core.session_routing import SessionMatch
from twisted_lb.core.split import Split, StickySplit
from twisted_lb.net.admission import Admission
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.own_answers import OwnAnswer
from twisted_lb.net.route import Fallback, Route
from twisted_lb.net.routing import Action, RouteTable
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.session_table import SessionTable, Way
from twisted_lb.planned import ANYTHING, AdmissionPlan, LeadPlan, ListenerPlan, Plan, RoutePlan

_SECRET_BYTES: Final = 32
# A limit in dry run is said so often, at most.
_EVERY_S: Final = 1.0


class Routes:
    """The routes of a data plane, and what outlives each generation of them: whose turn it is in splits, what was spent in
    rate limits, what runs for whom, and how many were refused.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.actions: dict[str, Action] = {}
        self.sessions: dict[str, SessionTable] = {}  # by listener, of those that have any
        self.tallies: Final[dict[str, Tally]] = {}  # by limit
        self.denials: Final[dict[tuple[str, str], Tally]] = {}  # by listener and route
        self.running: Final[dict[str, Running]] = {}  # by listener or route
        self.rates: Rates | None = None
        self._runtime: Final = runtime
        self._secret: Final = runtime.share.secret or secrets.token_bytes(_SECRET_BYTES)
        self._spared: Final[dict[str, int]] = {}  # by limit, as it was said
        self._said_at: float = -NEVER
        self._made_of: dict[str, tuple[RoutePlan, tuple[Cluster, ...]]] = {}

    def follow(self, plan: Plan, clusters: Mapping[str, Cluster]) -> dict[str, RouteTable]:
        """The tables of the plan's listeners, by name. The clusters are those of its pools."""
        made_of = {name: (route, _clusters_of(route, clusters)) for name, route in plan.routes.items()}
        self.actions = {
            name: self.actions[name]
            if made_of[name] == self._made_of.get(name)
            else self._action(name, route, clusters)
            for name, route in plan.routes.items()
        }
        self._made_of = made_of
        self._bound(plan)
        tables = {name: self._table(name, listener, plan) for name, listener in plan.listeners.items()}
        self.sessions = {
            name: self._session_table(name, listener, plan)
            for name, listener in plan.listeners.items()
            if listener.tcp or listener.sessions
        }
        self._forget(plan)
        return tables

    def tick(self, now: float) -> list[LimitSpared]:
        """What limits in dry run would have refused since it was said last; at most once a second."""
        if not self.tallies or now < self._said_at + _EVERY_S:
            return []
        news = []
        for name, tally in self.tallies.items():
            more = tally.spared - self._spared.get(name, 0)
            if more:
                self._spared[name] = tally.spared
                news.append(LimitSpared(name, more, now))
        if news:
            self._said_at = now
        return news

    def _action(self, name: str, plan: RoutePlan, clusters: Mapping[str, Cluster]) -> Action:
        fallback = self._fallback(name, plan.fallback, clusters)
        routes = {lead.pool: self._route(name, lead, clusters, fallback) for lead in plan.leads if lead.weight}
        return Action(
            name,
            plan.leads[0].rules if plan.leads else plan.rules,
            self._runtime,
            routes=routes,
            split=self._split(name, plan) if len(routes) > 1 else None,
            split_by=plan.split_by,
            answer=plan.answer,
        )

    def _route(
        self, name: str, lead: LeadPlan, clusters: Mapping[str, Cluster], fallback: Fallback | None = None
    ) -> Route:
        mirror = None if lead.mirror is None else self._route(name, lead.mirror, clusters)
        return Route(name, lead.rules, clusters[lead.pool], self._runtime, fallback, mirror)

    def _fallback(
        self, name: str, plan: LeadPlan | OwnAnswer | None, clusters: Mapping[str, Cluster]
    ) -> Fallback | None:
        if isinstance(plan, LeadPlan):
            return Fallback(self._route(name, plan, clusters))
        return None if plan is None else Fallback(answer=plan)

    def _split(self, name: str, plan: RoutePlan) -> Split | StickySplit:
        shares = [(lead.pool, lead.weight) for lead in plan.leads]
        if plan.split_by is not None:
            return StickySplit(shares)
        split = Split(shares)
        before = self.actions.get(name)
        if before is not None and isinstance(before.split, Split):
            split.take_over(before.split)
        return split

    def _forget(self, plan: Plan) -> None:
        """Forget the counts of what there is no more."""
        asked = [one.admission for one in plan.listeners.values()] + [one.admission for one in plan.routes.values()]
        limits = {limit.name for one in asked for limit in one.limits}
        for name in self.tallies.keys() - limits:
            del self.tallies[name]
            self._spared.pop(name, None)
        for listener, route in list(self.denials):
            if listener not in plan.listeners or (route and route not in plan.routes):
                del self.denials[listener, route]

    # What is asked before.

    def _bound(self, plan: Plan) -> None:
        """Bounds of what runs at once, as they are now; what runs stays counted."""
        wanted = {
            **{f"listener {name}": one.admission.requests_per_client for name, one in plan.listeners.items()},
            **{f"route {name}": one.admission.requests_per_client for name, one in plan.routes.items()},
        }
        for name in [name for name in self.running if not wanted.get(name)]:
            del self.running[name]
        for name, most in wanted.items():
            if most:
                running = self.running.get(name)
                if running is None:
                    running = self.running[name] = self._runtime.share.running(f"requests of {name}", most)
                running.most = most

    def _table(self, name: str, listener: ListenerPlan, plan: Plan) -> RouteTable:
        names: list[str] = []
        matches: list[RouteMatch] = []
        for one in listener.routes:
            names.append(one)
            matches.append(plan.routes[one].match)
            if matches[-1].everything:
                break  # what is behind is never reached, and is no reason to look at a path
        else:
            if listener.route is not None and not listener.tcp:
                names.append(listener.route)
                matches.append(ANYTHING)
        return RouteTable(
            matches,
            [self.actions[one] for one in names],
            [self._admission(name, listener.admission, one, plan.routes[one].admission) for one in names],
            self._admission(name, listener.admission, "", AdmissionPlan()),
        )

    def _session_table(self, name: str, listener: ListenerPlan, plan: Plan) -> SessionTable:
        routes = [plan.routes[one] for one in listener.sessions]
        otherwise = listener.route if listener.tcp else None
        return SessionTable(
            [SessionMatch(one.server_names, one.match.clients) for one in routes],
            [self._way(name, listener, one, plan) for one in listener.sessions],
            None if otherwise is None else self._way(name, listener, otherwise, plan),
        )

    def _way(self, listener_name: str, listener: ListenerPlan, name: str, plan: Plan) -> Way:
        route = plan.routes[name]
        admission = self._admission(listener_name, listener.admission, name, route.admission)
        return Way(self.actions[name], admission, terminates=route.terminates or not route.server_names)

    def _admission(self, listener: str, ours: AdmissionPlan, route: str, its: AdmissionPlan) -> Admission | None:
        accesses: list[AccessRules] = [one.access for one in (ours, its) if one.access is not None]
        running = [self.running[one] for one in (f"listener {listener}", f"route {route}") if one in self.running]
        limits = [*ours.limits, *its.limits]
        if not (accesses or running or limits):
            return None
        denials = self.denials.setdefault((listener, route), Tally())
        return Admission(accesses, running, self._limits(limits) if limits else None, denials)

    def _limits(self, limits: list[RateLimit]) -> RateLimits:
        if self.rates is None:
            self.rates = self._runtime.share.new_rates()
        made = RateLimits(limits, self.rates, self._secret)
        for name in made.tallies:
            made.tallies[name] = self.tallies.setdefault(name, made.tallies[name])
        return made

    def __repr__(self) -> str:
        return f"<Routes {list(self.actions.values())}>"


def _clusters_of(plan: RoutePlan, clusters: Mapping[str, Cluster]) -> tuple[Cluster, ...]:
    fallback = (plan.fallback,) if isinstance(plan.fallback, LeadPlan) else ()
    leads = (*plan.leads, *fallback)
    mirrors = (lead.mirror for lead in leads if lead.mirror is not None)
    return tuple(clusters[lead.pool] for lead in (*leads, *mirrors))
