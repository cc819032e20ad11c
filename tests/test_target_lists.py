"""Target lists at work: the backends of a pool's list while the balancer runs, beside its own and what was changed at run time."""

import itertools
import random

import pytest
from house import GET, House
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.admin.readiness import Readiness
from twisted_lb.core.address import parse_address
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.overlay import Overlay
from twisted_lb.core.snapshot import TargetsSnapshot
from twisted_lb.data_plane import DataPlane
from twisted_lb.plan import plan_of
from twisted_lb.plan_diff import diff_of
from twisted_lb.testing import ScriptedClient, Wait, response

FILE = {"file": "/lists/api.json"}
URL = {"url": "http://registry/api"}


class Site:
    """A house before a pool `api` whose backends are in a list: a listener `web` leads there."""

    def __init__(self, targets: object = FILE, *own: object, **options: object) -> None:
        self.api: dict = {"health_check": {"interval_s": 0.0}, "queue": {"no_backend_s": 0.0}, "backends": list(own)}
        self.house = House(
            listen={"port": 8080},
            listeners={"web": {"address": "127.0.0.1:80", "default_pool": "api"}},
            **self.tables(targets=targets),
            **options,
        )
        self.house.open("web", "lb:80")
        self.plane = self.house.plane

    def tables(self, **changes: object) -> dict:
        """The pools, with these keys of `api` from now on; None: without."""
        self.api.update(changes)
        return {"pools": {"api": {key: value for key, value in self.api.items() if value is not None}}}

    def reload(self, **changes: object) -> None:
        self.house.apply(**self.tables(**changes))

    @property
    def follower(self):
        """The provider that was made last."""
        return self.house.balanced.lists["api"]

    @property
    def cluster(self):
        return self.plane.clusters["api"]

    @property
    def names(self) -> list[str]:
        return list(self.cluster.pool.backends)

    @property
    def weights(self) -> dict[str, int]:
        return {name: one.weight for name, one in self.cluster.pool.backends.items()}

    def spec(self, name: str) -> BackendSpec:
        return next(one for one in self.plane._specs["api"] if one.name == name)

    def ask(self, client: ScriptedClient | None = None) -> bytes:
        """The status of the answer to a request, and its body."""
        answer = self.house.ask(GET, client or self.house.client("lb:80")).take()
        return answer[9:12] + b" " + answer.partition(b"\r\n\r\n")[2]


@pytest.fixture
def site():
    sites = []

    def one(*words, **options):
        sites.append(Site(*words, **options))
        return sites[-1]

    yield one
    for each in sites:
        each.house.close()


@pytest.fixture
def said():
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.target_lists":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


# A list alone.


def test_before_its_list_is_known_a_pool_has_nobody(site):
    one = site()
    assert (one.names, one.ask()[:3]) == ([], b"503")


def test_who_is_in_the_list_is_used_and_who_has_left_it_finishes(site):
    one = site()
    one.house.backend("a:80", [[Wait(3), response(b"late")]])
    one.house.backend("b:80", [response(b"b")])
    one.follower.tell("a:80")
    slow = one.house.ask(GET, one.house.client("lb:80"))
    one.follower.tell("b:80")
    assert one.ask() == b"200 b"
    assert (one.names, slow.received) == (["b:80"], b"")
    one.house.wait(3)
    assert slow.received.endswith(b"late")


def test_who_stays_in_the_list_keeps_its_record_whoever_joins(site):
    one = site()
    one.follower.tell("b:80")
    record = one.cluster.pool.backends["b:80"]
    one.follower.tell("a:80", "b:80,weight=5")
    assert one.cluster.pool.backends["b:80"] is record
    assert one.weights == {"a:80": 1, "b:80": 5}


def test_an_empty_list_leaves_nobody(site):
    one = site()
    one.follower.tell("a:80")
    one.follower.tell()
    assert one.names == []


def test_a_provider_that_fails_removes_nothing(site):
    one = site()
    one.follower.tell("a:80")
    one.house.wait(2)
    one.follower.fail("status 500")
    assert one.names == ["a:80"]
    assert one.plane.snapshot("api").targets == TargetsSnapshot(
        where="file:/lists/api.json", backends=1, failing=True, error="status 500", doubt="", age_s=2.0
    )


def test_a_pool_without_a_list_says_so_in_its_snapshot(site):
    one = site(None, "a:80")
    assert one.plane.snapshot("api").targets is None
    assert [backend.name for backend in one.plane.snapshot("api").backends] == ["a:80"]
    with pytest.raises(KeyError, match="no pool is called web"):
        one.plane.snapshot("web")


def test_who_is_there_twice_is_refused_and_everybody_stays(site):
    one = site()
    one.follower.tell("a:80")
    with pytest.raises(ValueError, match="b:80 is there twice"):
        one.follower.tell("b:80", "b:80")
    one.reload(policy="rand")
    assert one.names == ["a:80"]


def test_a_list_that_the_pool_does_not_take_stays_what_it_was(site, monkeypatch):
    one = site()
    one.follower.tell("a:80")
    monkeypatch.setattr(one.cluster.__class__, "update", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.follower.tell("b:80")
    monkeypatch.undo()
    one.plane.update("api", [BackendSpec.parse("own:80")])
    assert one.names == ["own:80", "a:80"]


def test_backends_of_a_list_are_checked_as_all_others(site):
    one = site(FILE, "own:80")
    one.reload(health_check={"interval_s": 1.0})
    served = [one.house.backend(name) for name in ("own:80", "a:80")]
    one.follower.tell("a:80")
    one.house.wait(1.5)
    assert all(backend.requests for backend in served)


# What holds for its backends.


DEFAULTS = {"weight": 4, "check_port": 9, "resolve": "first", "family": "ipv4", "labels": {"zone": "z", "rack": "1"}}


def test_what_a_list_does_not_say_the_defaults_of_the_file_say(site):
    one = site(defaults={"backend": DEFAULTS})
    assert one.follower.rules.weight == 4
    said = (("zone", "a"),)
    one.follower.tell(
        BackendSpec("named", parse_address("a.internal:80"), labels=said),
        BackendSpec("own", parse_address("b.internal:80"), check_port=7, resolve="auto", family="ipv6"),
        BackendSpec("ip", parse_address("10.0.0.1:80")),
        BackendSpec("unix", parse_address("unix:/run/a")),
    )
    named, own, ip, unix = one.plane._specs["api"]
    assert (named.check_port, named.resolve, named.family, named.labels) == (
        9,
        "first",
        "ipv4",
        (("zone", "a"), ("rack", "1")),
    )
    assert (own.check_port, own.resolve, own.family) == (7, "auto", "ipv6")
    assert (ip.check_port, ip.resolve, ip.family, ip.labels) == (9, "", "", (("zone", "z"), ("rack", "1")))
    assert (unix.check_port, unix.resolve, unix.family) == (None, "", "")


def test_other_defaults_hold_at_once_for_who_is_in_the_list(site):
    one = site(defaults={"backend": {"labels": {"zone": "a"}}})
    one.follower.tell("a:80")
    first = one.follower
    one.house.apply(defaults={"backend": {"labels": {"zone": "b"}, "check_port": 9}})
    spec = one.spec("a:80")
    assert (spec.labels, spec.check_port) == ((("zone", "b"),), 9)
    assert one.follower is first


def test_another_usual_weight_is_read_anew_and_the_list_stays_meanwhile(site):
    one = site()
    one.follower.tell("a:80")
    first = one.follower
    one.house.apply(defaults={"backend": {"weight": 3}})
    assert first.stopped
    assert one.weights == {"a:80": 1}
    one.follower.tell("a:80,weight=3")
    assert one.weights == {"a:80": 3}


# Beside the pool's own backends.


def test_the_pools_own_backends_come_first_and_its_list_behind_them(site):
    one = site(FILE, "own:80")
    assert one.names == ["own:80"]
    one.follower.tell("a:80")
    assert one.names == ["own:80", "a:80"]
    one.follower.tell()
    assert one.names == ["own:80"]


def test_who_is_in_the_list_too_is_what_the_file_says_and_that_is_said_once(site, said):
    one = site(FILE, "own:80,weight=3", {"address": "[2001:db8::1]:80", "name": "six"})
    again = BackendSpec("own:80", parse_address("elsewhere:80"))
    six = BackendSpec("other", parse_address("[2001:db8:0:0::1]:80"))
    one.follower.tell(again, six, "a:80")
    one.follower.tell(again, six)
    one.reload(policy="rand")
    one.plane.update("api", one.plane.plan.pools["api"].backends)
    assert one.weights == {"own:80": 3, "six": 1}
    assert said == ["pool api: own:80, other of file:/lists/api.json are among its own backends too, which hold"]


def test_many_who_are_there_twice_are_counted(site, said):
    many = [f"b{number}:80" for number in range(9)]
    one = site(FILE, *many)
    one.follower.tell(*many)
    assert said == ["pool api: 9 backends of file:/lists/api.json are among its own backends too, which hold"]


def test_one_of_the_list_that_the_file_names_and_forgets_keeps_its_record(site, said):
    one = site(FILE, "own:80")
    one.follower.tell("a:80")
    record = one.cluster.pool.backends["a:80"]
    one.reload(backends=["own:80", "a:80,weight=2"])
    assert (one.weights, len(said)) == ({"own:80": 1, "a:80": 2}, 1)
    one.reload(backends=["own:80"])
    assert one.weights == {"own:80": 1, "a:80": 1}
    assert one.cluster.pool.backends["a:80"] is record


def test_an_update_replaces_the_pools_own_backends_and_not_its_list(site):
    one = site(FILE, "own:80")
    one.follower.tell("a:80")
    one.plane.update("api", [BackendSpec.parse("new:80")])
    assert one.names == ["new:80", "a:80"]
    one.follower.tell("b:80")
    assert one.names == ["new:80", "b:80"]
    one.reload(policy="rand")
    assert one.names == ["new:80", "b:80"]


# Beside what was changed at run time.


def test_what_was_changed_at_run_time_lies_over_the_list(site):
    one = site(FILE, "own:80")
    one.follower.tell("a:80", "b:80,weight=2", "c:80")
    one.plane.command("api", "a:80", AdminState.DRAIN)
    one.plane.set_weight("api", "b:80", 0)
    one.plane.remove_backend("api", "c:80")
    one.plane.add_backend("api", BackendSpec.parse("more:80"))
    one.follower.tell("a:80,weight=9", "b:80,weight=2", "c:80", "d:80")
    assert one.weights == {"own:80": 1, "a:80": 9, "b:80": 0, "d:80": 1, "more:80": 1}
    assert one.cluster.pool.backends["a:80"].admin is AdminState.DRAIN
    assert one.plane.source("api", "b:80", "weight") == "runtime"


def test_another_weight_in_the_list_wins_over_one_of_run_time_and_the_log_says_so(site, said):
    one = site()
    one.follower.tell("a:80")
    one.plane.set_weight("api", "a:80", 0)
    one.follower.tell("a:80,weight=2")
    assert one.weights == {"a:80": 2}
    assert said == ["pool api: its list has changed, which drops: weight 0 of a:80 in api"]
    assert one.plane.overlay.lines() == []


def test_one_that_was_added_at_run_time_and_is_in_the_list_is_the_lists_with_its_record(site):
    one = site()
    one.follower.tell("a:80")
    one.plane.add_backend("api", BackendSpec.parse("b:80"))
    record = one.cluster.pool.backends["b:80"]
    one.follower.tell("a:80", "b:80")
    assert one.plane.source("api", "b:80", "backend") == ""
    one.follower.tell("b:80")
    assert one.cluster.pool.backends == {"b:80": record}


def test_after_a_restart_what_was_changed_waits_for_the_list_and_is_in_force_with_it(site):
    old = site(FILE, "own:80")
    old.follower.tell("a:80", "b:80", "c:80", "d:80")
    old.plane.command("api", "a:80", AdminState.MAINT)
    old.plane.set_weight("api", "b:80", 7)
    old.plane.remove_backend("api", "c:80")
    old.plane.set_weight("api", "own:80", 5)
    overlay = Overlay.of_values(old.plane.overlay.values())

    balanced = old.house.balanced
    changes: list[None] = []
    new = DataPlane(
        old.house.balanced.runtime,
        plan_of(old.house.config()),
        hear=lambda event: None,
        overlay=overlay,
        changed=lambda: changes.append(None),
        provide=balanced._list,
    )
    try:
        assert changes == []
        balanced.lists["api"].tell("a:80", "b:80", "c:80")
        pool = new.clusters["api"].pool
        assert {name: one.weight for name, one in pool.backends.items()} == {"own:80": 5, "a:80": 1, "b:80": 7}
        assert pool.backends["a:80"].admin is AdminState.MAINT
        assert new.overlay.lines() == overlay.lines()
        balanced.lists["api"].tell("c:80")
        assert new.overlay.lines() == ["weight 5 of own:80 in api", "removed c:80 in api"]
        assert changes == [None]
    finally:
        new.close()


def test_a_plan_before_the_first_list_drops_nothing_of_what_the_list_may_have(site):
    one = site(FILE, "own:80,weight=2")
    one.plane.overlay.command("api", "a:80", AdminState.DRAIN)
    one.plane.set_weight("api", "own:80", 7)
    assert diff_of(one.plane, one.house.plan(**one.tables(backends=["own:80,weight=3"]))).dropped == (
        "weight 7 of own:80 in api",
    )
    one.reload()
    assert one.plane.overlay.lines() == ["drain of a:80 in api"]
    one.follower.tell("a:80")
    assert one.cluster.pool.backends["a:80"].admin is AdminState.DRAIN


# Reloads.


def test_a_reload_keeps_a_provider_whose_table_is_what_it_was(site):
    one = site(FILE, "own:80")
    one.follower.tell("a:80")
    provider, record = one.follower, one.cluster.pool.backends["a:80"]
    one.reload(backends=["new:80"], health_check={"interval_s": 5.0})
    assert one.follower is provider
    assert not provider.stopped
    assert one.names == ["new:80", "a:80"]
    assert one.cluster.pool.backends["a:80"] is record


@pytest.mark.parametrize("targets", [URL, {**FILE, "refresh_s": 9.0}, {**FILE, "allow_empty": True}])
def test_a_provider_that_changes_takes_over_with_the_list_that_is_known(site, targets):
    one = site()
    one.follower.tell("a:80", "b:80")
    old, record = one.follower, one.cluster.pool.backends["b:80"]
    one.reload(targets=targets)
    assert old.stopped
    assert one.names == ["a:80", "b:80"]
    assert one.plane.snapshot("api").targets.backends == 2
    one.follower.tell("b:80", "c:80")
    assert one.names == ["b:80", "c:80"]
    assert one.cluster.pool.backends["b:80"] is record


def test_a_provider_that_was_stopped_is_not_heard_any_more(site):
    one = site()
    old = one.follower
    one.reload(targets=URL)
    one.follower.tell("b:80")
    old._update([BackendSpec.parse("a:80")])
    assert one.names == ["b:80"]


def test_a_list_that_goes_takes_its_backends_and_its_provider_along(site):
    one = site(FILE, "own:80")
    one.follower.tell("a:80")
    one.plane.command("api", "a:80", AdminState.DRAIN)
    plan = one.house.plan(**one.tables(targets=None))
    assert diff_of(one.plane, plan).lines[:2] == [
        "changes pool api: targets file:/lists/api.json -> none",
        "drops: drain of a:80 in api",
    ]
    one.plane.apply(plan)
    assert (one.names, one.follower.stopped, one.plane.snapshot("api").targets) == (["own:80"], True, None)


def test_a_list_that_comes_adds_to_what_is_there(site):
    one = site(None, "own:80")
    record = one.cluster.pool.backends["own:80"]
    one.reload(targets=FILE)
    assert one.names == ["own:80"]
    one.follower.tell("a:80")
    assert one.names == ["own:80", "a:80"]
    assert one.cluster.pool.backends["own:80"] is record


def test_a_pool_that_goes_stops_its_provider_and_one_of_its_name_begins_anew(site):
    one = site()
    one.follower.tell("a:80")
    old = one.follower
    web = {"address": "127.0.0.1:80", "default_pool": "default"}
    one.house.apply(pools={"other": {"backends": ["x:80"]}}, listeners={"web": web})
    one.house._options["pools"] = {}
    one.plane.apply(one.house.plan())
    assert old.stopped
    one.house.apply(listeners={"web": {**web, "default_pool": "api"}}, **one.tables())
    assert (one.follower is old, one.names) == (False, [])


def test_a_plan_whose_list_nobody_follows_changes_nothing(site, monkeypatch):
    one = site()
    one.follower.tell("a:80")

    def refuse(pool, targets):
        raise ValueError(f"pool {pool}: no provider")

    monkeypatch.setattr(one.plane.targets, "_provide", refuse, raising=False)
    before = one.plane.plan
    with pytest.raises(ValueError, match="pool api: no provider"):
        one.reload(targets=URL, policy="rand")
    monkeypatch.undo()
    assert (one.names, one.plane.clusters["api"].pool.policy is before.pools["api"].policy) == (["a:80"], True)


def test_without_somebody_to_follow_it_a_list_is_an_error_that_names_both(site):
    one = site()
    with pytest.raises(ValueError) as refused:
        DataPlane(one.house.balanced.runtime, one.plane.plan, hear=lambda event: None)
    assert str(refused.value) == "pool api: nobody follows file:/lists/api.json here"


def test_a_pool_that_comes_is_said_with_its_list(site):
    one = site(None, "own:80")
    more = {"backends": ["x:80"], "targets": FILE}
    plan = one.house.plan(pools={"more": more})
    assert "adds pool more: x:80, those of file:/lists/api.json" in diff_of(one.plane, plan).lines


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_in_whatever_order_the_members_are_those_that_all_layers_say(site, seed):
    """The pool's own, its list's, what was added and removed at run time: each name once, and who stays is who he was."""
    rng = random.Random(seed)
    names = [f"b{number}:80" for number in range(6)]
    own, listed, added, removed = {"own:80": None}, {}, {}, {}
    followed, known, places = True, False, itertools.cycle(({"file": "/lists/api.json"}, URL))
    one = site(FILE, *own)

    def some() -> dict[str, None]:
        return dict.fromkeys(sorted(rng.sample(names, rng.randrange(len(names)))))

    for _ in range(60):
        before = dict(one.cluster.pool.backends)
        step = rng.choice(["list", "own", "targets", "add", "remove", "reset", "another"])
        if step == "list" and followed:
            listed, known = some(), True
            one.follower.tell(*listed)
        elif step == "own":
            own = {"own:80": None, **some()}
            one.reload(backends=list(own))
        elif step == "targets":
            followed, known, listed = not followed, False, {}
            one.reload(targets=FILE if followed else None)
        elif step == "another" and followed:
            one.reload(targets=next(places))
        elif step == "add" and (free := [name for name in names if name not in before]):
            name = rng.choice(free)
            one.plane.add_backend("api", BackendSpec.parse(name))
            removed.pop(name, None)
            added[name] = None
        elif step == "remove" and len(before) > 1:
            name = rng.choice(list(before))
            one.plane.remove_backend("api", name)
            if name in added:
                del added[name]
            else:
                removed[name] = None
        elif step == "reset":
            name = rng.choice(names)
            one.plane.reset("api", name)
            added.pop(name, None)
            removed.pop(name, None)
        base = {**own, **(listed if followed else {})}
        added = {name: None for name in added if name not in base}
        # A removal of one that is nowhere is forgotten, but while a list that may have it is not known.
        removed = {name: None for name in removed if name in base or (followed and not known)}
        wanted = [name for name in base if name not in removed] + list(added)
        assert one.names == wanted, step
        now = one.cluster.pool.backends
        assert all(now[name] is before[name] for name in wanted if name in before)
        assert one.follower.stopped is not followed


# What follows from it.


def test_clients_have_the_room_that_is_left_beside_the_backends_of_lists(site):
    one = site(FILE, "own:80")
    balanced = one.house.balanced
    plane = DataPlane(
        balanced.runtime,
        one.plane.plan,
        hear=lambda event: None,
        room=lambda backends: 100 - backends,
        provide=balanced._list,
    )
    gate = plane.frontends["web"].gate
    assert gate.most == 98  # one backend of each pool
    balanced.lists["api"].tell("a:80", "b:80")
    assert gate.most == 96
    plane.remove_backend("api", "a:80")
    assert gate.most == 97
    balanced.lists["api"].tell()
    assert gate.most == 98
    plane.apply(one.house.plan(pools={"api": {"backends": ["own:80", "more:80"]}}))
    assert gate.most == 97
    plane.close()


# The end.


def test_a_drain_ends_all_following_and_leaves_what_is_known(site):
    one = site()
    one.follower.tell("a:80")
    one.plane.drain(5.0)
    assert one.follower.stopped
    assert one.names == ["a:80"]
    one.follower._update([BackendSpec.parse("b:80")])
    assert one.names == ["a:80"]


def test_the_end_of_a_data_plane_is_the_end_of_its_providers():
    one = Site()
    one.house.close()
    assert one.follower.stopped


# Readiness.


def test_readiness_waits_for_the_first_list_and_the_checks_of_who_is_in_it(site):
    one = site()
    one.reload(health_check={"interval_s": 1.0})
    plane = one.plane
    ready = Readiness(
        lambda: {"api": one.cluster.pool},
        one.house.clock.seconds,
        start_s=5.0,
        unlisted=lambda: plane.targets.unknown(plane.plan.pools),
    )
    one.house.backend("a:80")
    assert ready.verdict().text.startswith("not ready: starting, no list yet of the backends of api\n")
    one.follower.tell("a:80")
    assert ready.verdict().text == "not ready: starting, no check yet of a:80\n"
    one.house.wait(1)
    assert ready.verdict() == (True, "ready\n")


def test_readiness_waits_for_a_list_no_longer_than_it_may(site):
    one = site(FILE, "own:80")
    ready = Readiness(
        lambda: {"api": one.cluster.pool},
        one.house.clock.seconds,
        start_s=5.0,
        unlisted=lambda: one.plane.targets.unknown(one.plane.plan.pools),
    )
    one.house.wait(4.9)
    assert ready.starting
    one.house.wait(0.2)
    assert ready.verdict() == (True, "ready\n")
