"""What an operator changes: state and weight of backends, which there are, and the way back."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from twisted.logger import Logger

from twisted_lb.admin.history import States
from twisted_lb.admin.operator import Actor, BackendView, By, Changed, Command, NotFound, Refused
from twisted_lb.admin.words import admitted, consequences, limited
from twisted_lb.core.backend import AdminState, limit_said
from twisted_lb.core.overlay import name_of
from twisted_lb.data_plane import DataPlane
from twisted_lb.errors import one_line
from twisted_lb.net.cluster import Cluster
from twisted_lb.operating.owner import Owner
from twisted_lb.operating.signatures import is_changed
from twisted_lb.operating.texts import changes_of, clean, hint, one_of, told
from twisted_lb.operating.views import Views
from twisted_lb.portions import whole

# Kinds of events that somebody brings about.
_DEEDS: Final = ("admin", "changed", "added", "removed")

_log = Logger()


class Steering:
    """Carries out commands on the plane that `running` answers, each with its line in the log (audit)."""

    def __init__(
        self, owner: Owner, running: Callable[[], DataPlane], views: Views, states: States, wall: Callable[[], float]
    ) -> None:
        self._owner: Final = owner
        self._running: Final = running
        self._views: Final = views
        self._states: Final = states
        self._wall: Final = wall
        self._acting: tuple[str, Actor] | None = None  # at which backend

    def command(self, command: Command, actor: Actor, *, dry_run: bool = False) -> Changed:
        """See Operator."""
        plane = self.steerable()
        pool, name = command.pool, command.backend
        cluster = self.cluster(pool)
        self._known(cluster, name)
        views = self._views.backends_called(cluster, name)
        self._refuse_numbers(plane, command)
        follows = [*self._follows(cluster, views, command), *self._own(cluster, command)]
        wanted = (
            ("", None if command.admin is None else command.admin.value, [one.admin for one in views]),
            ("weight ", command.weight, [one.weight for one in views]),
            (
                "limit ",
                None if command.limit is None else limit_said(command.limit),
                ["adaptive" if one.limit_why else one.limit for one in views],
            ),
        )
        changes = [
            f"{word}{one_of([str(one) for one in before])} → {now}"
            for word, now, before in wanted
            if now is not None and any(str(one) != str(now) for one in before)
        ]
        if dry_run:
            return Changed(changes, follows)
        with self._by(actor, pool, name):
            if command.weight is not None:
                plane.set_weight(pool, name, command.weight, told(actor.name, actor.reason))
            if command.limit is not None:
                plane.set_limit(pool, name, command.limit)
            if changes:
                self._states.changed(pool, name, By(actor.name, self._wall(), actor.reason))
            if command.admin is not None:
                plane.command(pool, name, command.admin, told(actor.name, actor.reason))
        if not is_changed(plane.overlay, pool, name):
            self._states.forget(pool, name)
        self.audit(actor, f"{pool}/{name}", "; ".join(changes) or "as it was")
        return Changed(changes, follows)

    def _refuse_numbers(self, plane: DataPlane, command: Command) -> None:
        """Refused for a weight or a limit that is none, or of what has none of its own."""
        found = next((one for one in plane.specs_of(command.pool) if one.name == command.backend), None)
        for word, number in (("weight", command.weight), ("limit", command.limit)):
            if number is None:
                continue
            if found is None:
                detail = f"{command.pool}/{command.backend}: an endpoint has no {word} of its own"
                raise Refused("bad_value", detail)
            try:
                replace(found, **{word: number})  # type: ignore[arg-type]  # it is checked there
            except ValueError as error:
                raise Refused("bad_value", one_line(str(error))) from None

    def _follows(self, cluster: Cluster, views: Sequence[BackendView], command: Command) -> list[str]:
        """What follows of it; Refused where the pool would have nobody left."""
        out = command.admin in (AdminState.DRAIN, AdminState.MAINT) or command.weight == 0
        if not views:
            return []
        pool = whole(self._views.pool(cluster, self._running().plan.pools[cluster.name]))
        if not out:
            wanted = views[0].admin if command.admin is None else command.admin.value
            weight = views[0].weight if command.weight is None else command.weight
            said = [] if command.limit is None else [line for one in views for line in limited(one, command.limit)]
            if command.admin is None and command.weight is None:
                return said
            # Several endpoints of one name are not said to take parts.
            return [
                *(admitted(pool, views[0], weight) if wanted == "ready" and weight and len(views) == 1 else []),
                *said,
            ]
        names = {one.name for one in views}
        gone = replace(
            views[0],
            in_flight=sum(one.in_flight for one in views),
            tunnels=sum(one.tunnels for one in views),
            usable=any(one.usable for one in views),
            weight_effective=sum(one.weight_effective for one in views),
        )
        rest = [one for one in pool.backends if one.name not in names or one.name == gone.name]
        said = consequences(replace(pool, backends=rest), gone)
        others = any(one.usable for one in pool.backends if one.name not in names)
        if gone.usable and not others and not command.force:
            raise Refused("last_usable", f"{said[-1]}. Nothing was changed.", "All the same: --force")
        return said

    def _own(self, cluster: Cluster, command: Command) -> list[str]:
        """What is said of requests that are bound to a backend that is drained (affinity)."""
        bindings = cluster.pool.bindings
        drained = command.admin is AdminState.DRAIN or (command.admin is None and command.weight == 0)
        if bindings is None or not drained or not bindings.rules.drain_s:
            return []
        return [f"what is bound to it still comes, for {bindings.rules.drain_s:g} s (affinity.drain_s)"]

    def add(self, pool: str, backend: Mapping[str, Any], actor: Actor) -> str:
        """See Operator."""
        plane = self.steerable()
        self.cluster(pool)
        before = {spec.name for spec in plane.specs_of(pool)}
        try:
            with self._by(actor, pool):
                self._owner.add_backend(pool, backend)
        except ValueError as error:
            text = one_line(str(error))
            raise Refused("exists" if "is there already" in text else "bad_value", text) from None
        name = next(spec.name for spec in plane.specs_of(pool) if spec.name not in before)
        self._states.changed(pool, name, By(actor.name, self._wall(), actor.reason))
        self.audit(actor, f"{pool}/{name}", "added")
        return name

    def remove(self, pool: str, backend: str, actor: Actor, *, force: bool = False) -> Changed:
        """See Operator."""
        plane = self.steerable()
        cluster = self.cluster(pool)
        self._known(cluster, backend)
        views = self._views.backends_called(cluster, backend)
        follows = self._follows(cluster, views, Command(pool, backend, AdminState.DRAIN, force=force))
        try:
            with self._by(actor, pool, backend):
                plane.remove_backend(pool, backend)
        except KeyError:
            raise Refused("bad_value", f"{pool}/{backend}: an endpoint of a name cannot be removed alone") from None
        if plane.source(pool, backend, "backend"):  # else it was added at run time, and nothing of it is left
            self._states.changed(pool, backend, By(actor.name, self._wall(), actor.reason))
        else:
            self._states.forget(pool, backend)
        self.audit(actor, f"{pool}/{backend}", "removed")
        return Changed([f"removed {pool}/{backend}"], follows)

    def reset(self, pool: str | None, backend: str | None, actor: Actor, *, force: bool = False) -> Sequence[str]:
        """See Operator."""
        plane = self.steerable()
        if pool is not None:
            self.cluster(pool)
        wanted = [
            (name, one, change)
            for name, changes in plane.overlay.pools.items()
            for one, change in changes_of(changes)
            if pool in (None, name) and (backend is None or one == backend)
        ]
        if backend is not None and not wanted:
            self._known(self.cluster(pool or ""), backend)
        if not force:
            for name in dict.fromkeys(name for name, _, _ in wanted):
                self._refuse_nobody(name, {one for at, one, _ in wanted if at == name})
        lines = []
        for name, one, change in wanted:
            with self._by(actor, name, one):
                plane.reset(name, one)
            self._states.forget(name, one)
            lines.append(f"{change} of {name}/{one}")
            self.audit(actor, f"{name}/{one}", f"reset: {change}")
        return lines

    def _refuse_nobody(self, pool: str, reset: set[str]) -> None:
        """Refuse to drop the changes of these backends where the pool has somebody usable, and would have nobody by the file. Who is
        back at all counts as somebody.
        """
        plane = self._running()
        changes = plane.overlay.of(pool)
        views = whole(self._views.pool(self.cluster(pool), plane.plan.pools[pool])).backends
        if changes.removed.keys() & reset or not any(one.usable for one in views):
            return
        admin = {name: one for name, one in changes.admin.items() if not {name, name_of(name)} & reset}
        for one in views:
            owner = name_of(one.backend) or one.backend
            weight = changes.weights[owner].was if owner in changes.weights.keys() & reset else one.weight
            gone = owner in reset and owner in changes.added
            ready = admin.get(one.backend, admin.get(owner, AdminState.READY)) is AdminState.READY
            if ready and not gone and weight and one.up and not one.ejected:
                return
        detail = f"{pool} has no usable backend without these changes; every request to {pool} would be refused. Nothing was changed."
        raise Refused("last_usable", detail, "All the same: --force")

    def cluster(self, pool: str) -> Cluster:
        """The pool of that name; NotFound else."""
        clusters = self._running().clusters
        if pool not in clusters:
            raise NotFound("no_such_pool", f'there is no pool "{one_line(pool)}"', hint(pool, clusters))
        return clusters[pool]

    def _known(self, cluster: Cluster, backend: str) -> None:
        names = list(cluster.pool.backends)
        if backend not in names and backend not in {spec.name for spec in self._running().specs_of(cluster.name)}:
            full = [f"{pool.name}/{name}" for pool in self._running().clusters.values() for name in pool.pool.backends]
            wanted = f"{cluster.name}/{backend}"
            raise NotFound("no_such_backend", f'there is no backend "{one_line(wanted)}"', hint(wanted, full))

    @contextlib.contextmanager
    def _by(self, actor: Actor, pool: str, backend: str = "") -> Iterator[None]:
        """What happens meanwhile to this backend this one has done; without a name: to any of the pool."""
        self._acting = f"{pool}/{backend}", actor
        try:
            yield
        finally:
            self._acting = None

    def whose(self, kind: str, subject: str) -> Actor | None:
        """Who has done it, where an event of this kind about this subject is somebody's deed: not what follows of it, as that a
        pool has nobody any more.
        """
        if self._acting is None or kind not in _DEEDS:
            return None
        at, actor = self._acting
        return actor if at.endswith("/") or subject == at or subject.startswith(f"{at}@") else None

    def audit(self, actor: Actor, subject: str, what: str) -> None:
        """Say in the log who has changed what, and why."""
        _log.info(
            "admin: {actor}{where}: {subject}{what}{reason}",
            actor=clean(actor.name),
            where=f" ({clean(actor.where)})" if actor.where else "",
            subject=f"{clean(subject)} " if subject else "",
            what=clean(what),
            reason=f": “{clean(actor.reason)}”" if actor.reason else "",
        )

    def steerable(self) -> DataPlane:
        """The plane, Refused where nothing is changed any more."""
        if self._owner.stopping:
            raise Refused("stopping", "the balancer stops; nothing is changed any more")
        return self._running()
