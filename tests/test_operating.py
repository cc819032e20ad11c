"""Operating a balancer: what is seen of it, what each command does and refuses, and what the audit log says."""

import dataclasses
import datetime as dt
import json

import pytest
from authority import DAY, Authority, chain_of, key_of
from http2_backend import Http2Backend
from operated import ALICE, DRAIN, GET, MAINT, READY, SWITCHED, UPGRADE, Operated, at_once
from twisted.python.failure import Failure

from twisted_lb.admin.operator import (
    Actor,
    Command,
    ConnectionsView,
    NotFound,
    Refused,
    Reloaded,
    ReportView,
    WorkerView,
    merged,
)
from twisted_lb.admin.readiness import Verdict
from twisted_lb.core.histogram import Histogram
from twisted_lb.core.measures import Beside, Measures
from twisted_lb.operating import Operating, clean
from twisted_lb.plan_diff import diff_of
from twisted_lb.testing import CLOSE, response
from twisted_lb.testing.backends import NEVER_ANSWER

BOB = Actor("bob")


@pytest.fixture
def operate():
    """Makes operated balancers, which are closed behind the test."""
    made = []

    def one(*names, **options):
        made.append(Operated(*names, **options))
        return made[-1]

    yield one
    for operated in made:
        operated.close()


@pytest.fixture
def three(operate):
    return operate("a:80", "b:80", {"name": "c", "address": "c:80", "weight": 2, "labels": {"zone": "b"}})


def command(operated, name, admin=None, actor=ALICE, **more):
    pool, _, backend = name.partition("/")
    dry_run = more.pop("dry_run", False)
    return operated.operating.command(Command(pool, backend, admin, **more), actor, dry_run=dry_run)


def refusal(call, *args, **more):
    with pytest.raises(Refused) as caught:
        call(*args, **more)
    return caught.value


def kinds(operated, after=0):
    return [(one.kind, one.subject, one.text, one.actor) for one in operated.operating.events(after)]


# What is seen.


def test_a_backend_that_nobody_has_touched_is_what_the_file_says(three):
    one = three.view("app/c")
    assert (one.name, one.pool, one.backend, one.address) == ("app/c", "app", "c", "c:80")
    assert (one.labels, one.weight, one.weight_effective, one.limit) == ({"zone": "b"}, 2, 2.0, 0)
    assert (one.admin, one.state, one.reason, one.by, one.usable) == ("ready", "ready", "", None, True)
    assert one.sources == {"admin": "default", "weight": "default", "limit": "default", "backend": "default"}
    assert (one.rate, one.share, one.errors_60s) == (None, None, None)
    assert one.intended == 50.0


def test_connections_to_backends_are_seen_by_what_is_spoken_on_them(operate):
    none = {"health_check": {"interval_s": 0.0}}
    both = operate(
        pools={"app": {"backends": ["a:80"], "protocol": "h2", **none}, "old": {"backends": ["b:80"], **none}},
        routes=[{"path_prefix": "/old", "pool": "old"}, {"pool": "app"}],
    )
    Http2Backend(both.network, "a:80", otherwise=lambda _: None)
    both.backend("b:80", [NEVER_ANSWER, response()])
    assert both.view("app/a:80").connections == both.view("old/b:80").connections == ConnectionsView()
    old = GET.replace(b" / ", b" /old ")
    for request in (GET, GET, GET, old, old):
        both.ask(request)
    assert [one.protocol for one in both.operating.snapshot().pools] == ["h2", "h1"]
    assert both.view("app/a:80").connections == ConnectionsView(http2=1, calls=3)
    assert both.view("old/b:80").connections == ConnectionsView(http1=2)


def test_connections_of_several_processes_add_up_and_what_was_taken_is_said_once():
    one, other = ConnectionsView(1, 2, 30, "h2"), ConnectionsView(4, 5, 60, "")
    assert one.with_more(other) == other.with_more(one) == ConnectionsView(5, 7, 90, "h2")


def test_the_whole_is_seen(operate):
    two = operate(
        listeners={"web": {"address": "127.0.0.1:8080"}},
        pools={
            "app": {
                "backends": ["a:80"],
                "health_check": {"path": "/health", "interval_s": 2.0},
                "queue": {"length": 9},
            },
            "api": {"backends": ["b:80"], "health_check": {"interval_s": 0.0}, "policy": "rand"},
            "tcp": {"backends": ["c:80"], "health_check": {"kind": "tcp", "interval_s": 5.0}},
            "cache": {"backends": ["d:80"], "health_check": {"script": "redis"}},
            "own": {"backends": ["e:80"], "health_check": {"script": [{"send": "x"}, {"expect": "y"}]}},
        },
        routes=[
            {"name": "v1", "host": "api.example", "path_prefix": "/v1", "method": "GET", "pool": "api"},
            {"path": "/old", "redirect": {"to": "https://x.example/"}},
            {"path": "/none", "deny": True},
            {"split": {"api": 1, "app": 3}, "path_prefix": "/s"},
            {"pool": "app"},
        ],
    )
    two.owner.sources[("routes", 0)] = "lb.toml:34"
    seen = two.operating.snapshot()
    assert [(one.name, one.limit) for one in seen.listeners] == [("web", 1 << 62)]
    assert [(one.n, one.name, one.to) for one in seen.routes] == [
        (1, "v1", "api"),
        (2, "routes[1]", "redirect"),
        (3, "routes[2]", "deny"),
        (4, "routes[3]", "api 25 %, app 75 %"),
        (5, "routes[4]", "app"),
    ]
    first = seen.routes[0]
    assert (first.host, first.path, first.path_prefix, first.method) == (["api.example"], [], ["/v1"], ["GET"])
    assert (first.place, seen.routes[1].place, first.listeners) == ("lb.toml:34", "", ["web"])
    assert [(one.name, one.policy, one.check) for one in seen.pools] == [
        ("app", "rr", "GET /health every 2 s"),
        ("api", "rand", "none"),
        ("tcp", "rr", "connect every 5 s"),
        ("cache", "rr", "script redis every 2 s"),
        ("own", "rr", "script of 2 steps every 2 s"),
    ]
    assert json.dumps(dataclasses.asdict(seen))


def test_certificates_are_seen_with_what_is_wrong_with_them_now(operate, tmp_path):
    house = Authority(tmp_path)
    now = dt.datetime.fromtimestamp(1_000_000.0, dt.UTC)
    paths = []
    for name, days in (("good", 90), ("soon", 12.5), ("gone", -3)):
        leaf = house.leaf(f"{name}.test", f"www.{name}.test", not_before=now - 30 * DAY, not_after=now + days * DAY)
        paths.append(house.write(f"{name}.pem", chain_of(leaf), key_of(leaf)))
    crl = house.write("clients.crl", house.crl(ends=now - DAY))
    tls = {"certificates": paths, "client_certificate": "request", "client_ca": house.path, "crl": crl}
    lb = operate("a:80", listeners={"web": {"address": "127.0.0.1:8080", "default_pool": "app", "tls": tls}})
    lb.wait(0)
    seen = lb.operating.snapshot()
    [web] = seen.listeners
    good, soon, gone = web.certificates
    assert (good.listener, good.names, good.key_type, good.file) == (
        "web",
        ("good.test", "www.good.test"),
        "ECDSA",
        paths[0],
    )
    assert (good.not_before, good.expires_at) == (1_000_000.0 - 30 * 86_400, 1_000_000.0 + 90 * 86_400)
    assert "O=ca" in good.issuer
    assert len(good.fingerprint) == 64
    assert (good.flaws, [(one.kind, one.grave) for one in soon.flaws]) == ([], [("expires soon", False)])
    assert [(one.kind, one.text, one.grave) for one in gone.flaws] == [
        ("expired", f"{paths[2]}: has expired on {now - 3 * DAY:%Y-%m-%d}: clients refuse it", True)
    ]
    assert [(one.kind, one.grave) for one in web.flaws] == [("stale revocation list", True)]
    assert (seen.verdict.level, seen.verdict.text) == ("partly", f"{gone.flaws[0].text}. And 1 more.")
    assert json.dumps(dataclasses.asdict(seen))
    lb.owner.log_dropped = lb.owner.spans_sent = lb.owner.spans_dropped = 0
    _, process = lb.operating.measures()
    assert {one.certificate: one.expires_at for one in process.certificates} == {
        "good.test (ECDSA)": good.expires_at,
        "soon.test (ECDSA)": soon.expires_at,
        "gone.test (ECDSA)": gone.expires_at,
    }
    values = repr(seen) + repr(process)
    assert "PRIVATE" not in values
    assert "BEGIN" not in values


def test_what_backends_report_is_seen_with_its_age(operate):
    pool = {
        "backends": ["a:80", "b:80"],
        "policy": {"choose": "two", "load": "reported"},
        "health_check": {"interval_s": 0.0},
    }
    one = operate(pools={"app": pool})
    pool = one.plane.clusters["app"].pool
    for said in (b"TEXT cpu_utilization=0.25", b"nonsense"):
        pool.hear_load(pool.backends["a:80"], said, one.clock.seconds())
    one.wait(4.0)
    assert one.view("app/a:80").reported == ReportView(0.25, 4.0, True, 1, 1)
    assert one.view("app/b:80").reported == ReportView(None, None, False, 0, 0)
    one.wait(6.0)
    assert one.view("app/a:80").reported == ReportView(0.25, 10.0, False, 1, 1)
    assert operate("a:80").view("app/a:80").reported is None


def test_a_limit_of_the_file_is_the_files(operate):
    one = operate(pools={"app": {"backends": ["a:80"], "max_in_flight": 7, "health_check": {"interval_s": 0.0}}})
    assert one.config.pools["app"].max_in_flight == 7
    one.owner.sources["pools", "app", "max_in_flight"] = "lb.toml:3"
    assert one.view("app/a:80").sources["limit"] == "lb.toml:3"


def test_the_verdict_speaks_of_readiness_and_of_backends(three):
    assert three.operating.snapshot().verdict.level == "well"
    three.owner.verdict = Verdict(False, "not ready: stopping\n")
    seen = three.operating.snapshot()
    assert (seen.ready, seen.ready_text, seen.verdict.text) == (False, "stopping", "Not ready: stopping.")


def test_time_and_file_are_told(three):
    three.owner.file = ("lb.toml", 178.0, "tls/www.pem")
    three.wait(41)
    seen = three.operating.snapshot()
    assert (seen.now, seen.uptime_s, seen.loaded_at) == (1_000_041.0, 41.0, 1_000_000.0)
    assert (seen.loaded_by, seen.generation, seen.etag) == ("start", 1, "3b9aca00.1.0")
    assert seen.file == {"path": "lb.toml", "changed_s": 178.0, "changed": "tls/www.pem"}
    assert three.view("app/c").since_s == 41.0


def test_the_first_errors_of_a_route_count(operate):
    one = operate("a:80", routes=[{"name": "all", "pool": "app"}])
    one.backend("a:80", [response(status=500)] * 3)
    one.wait(1)
    for _ in range(3):
        one.ask()
    one.wait(10)
    assert one.operating.snapshot().routes[0].errors_60s == 3


def test_refusals_and_warnings_are_told(operate):
    one = operate("a:80", routes=[{"path": "/", "deny": True}])
    one.owner.warnings = ["lb.toml:3: warning[W01]: x"]
    one.wait(1)
    for _ in range(3):
        one.ask()
    one.wait(1)
    seen = one.operating.snapshot()
    assert (seen.listeners[0].refused_60s, seen.warnings) == (3, ["lb.toml:3: warning[W01]: x"])


def test_requests_of_the_last_minute_are_rates_and_shares(operate):
    two = operate("a:80", "b:80")
    two.backend("a:80", [response(status=500), *[response()] * 9])
    two.backend("b:80")
    two.wait(1)
    for _ in range(8):
        two.ask()
    two.wait(1)
    one, other = two.view("app/a:80"), two.view("app/b:80")
    assert (one.rate, other.rate, one.share, other.share) == (2.0, 2.0, 50.0, 50.0)
    assert one.requests == 4
    pool = two.operating.snapshot().pools[0]
    assert (pool.rate, pool.errors_60s) == (4.0, 0)
    two.wait(120)
    assert two.view("app/a:80").rate == 0.0
    assert two.view("app/a:80").share is None


def test_a_share_stands_beside_what_was_meant_of_the_same_requests(operate):
    """A backend that was drained a moment ago had its share of the last minute; nobody else is short of anything."""
    three = operate("a:80", "b:80", {"name": "c", "address": "c:80", "weight": 2})
    for name in ("a:80", "b:80", "c:80"):
        three.backend(name)
    three.wait(1)
    for _ in range(3):
        for _ in range(8):
            three.ask()
        three.wait(1)
    assert shares_of(three) == {"a:80": (25.0, 25.0), "b:80": (25.0, 25.0), "c": (50.0, 50.0)}
    command(three, "app/a:80", DRAIN)
    assert shares_of(three) == {"a:80": (25.0, 25.0), "b:80": (25.0, 25.0), "c": (50.0, 50.0)}
    for _ in range(24):
        three.ask()
    three.wait(1)
    assert shares_of(three) == {"a:80": (12.5, 12.5), "b:80": (29.2, 29.2), "c": (58.3, 58.3)}
    three.wait(65)
    assert shares_of(three) == {"a:80": (None, 0.0), "b:80": (None, 33.3), "c": (None, 66.7)}


def shares_of(operated):
    return {
        one.backend: (None if one.share is None else round(one.share, 1), round(one.intended, 1))
        for one in operated.operating.snapshot().pools[0].backends
    }


def test_what_runs_is_counted_with_its_tunnels_apart(operate):
    one = operate("a:80")
    one.backend("a:80", [NEVER_ANSWER, SWITCHED])
    one.ask()
    one.ask(UPGRADE)
    left = one.operating.left("app", "a:80")
    assert (left.requests, left.tunnels, left.unsent, left.empty) == (1, 1, 0, False)
    view = one.view("app/a:80")
    assert (view.in_flight, view.tunnels) == (2, 1)


def test_requests_whose_connection_is_being_made_are_not_sent_yet(operate):
    one = operate("a:80")
    one.backend("a:80", [NEVER_ANSWER])
    one.network.hang("a:80")
    client = one.ask()
    left = one.operating.left("app", "a:80")
    assert (left.requests, left.unsent) == (1, 1)
    client.transport.abortConnection()
    one.wait(1)
    assert one.operating.left("app", "a:80").empty


# Admin states.


def test_a_drain_is_in_force_with_who_and_why(three):
    done = command(three, "app/a:80", DRAIN)
    assert done.changes == ["ready → drain"]
    assert done.follows == ["app keeps 2 of 3", "new load on the other two +33 %"]
    one = three.view("app/a:80")
    assert (one.admin, one.usable, one.state, one.reason) == ("drain", False, "drained", "alice: “deploy”")
    assert one.by is not None
    assert (one.by.actor, one.by.reason, one.by.at) == ("alice", "deploy", 1_000_000.0)
    assert one.sources["admin"] == "runtime"
    assert kinds(three) == [("admin", "app/a:80", "ready → drain: “deploy”", "alice")]
    assert three.said == ["admin: alice (uid 1004 pid 7): app/a:80 ready → drain: “deploy”"]
    seen = three.operating.snapshot()
    assert [(one.subject, one.change, one.actor, one.reason) for one in seen.changes] == [
        ("app/a:80", "admin drain", "alice", "deploy")
    ]


def test_one_command_after_the_other(three):
    assert command(three, "app/a:80", MAINT, BOB).changes == ["ready → maint"]
    assert three.view("app/a:80").state == "maint"
    assert command(three, "app/a:80", DRAIN).changes == ["maint → drain"]
    assert command(three, "app/a:80", READY).changes == ["drain → ready"]
    one = three.view("app/a:80")
    assert (one.state, one.by, one.usable) == ("ready", None, True)
    assert three.operating.snapshot().changes == []


def test_as_it_was_is_said_and_changes_nobodys_name(three):
    command(three, "app/a:80", DRAIN)
    assert command(three, "app/a:80", DRAIN, BOB).changes == []
    one = three.view("app/a:80")
    assert one.by is not None
    assert one.by.actor == "alice"
    assert three.said[-1] == "admin: bob: app/a:80 as it was"


def test_weights_alone_and_beside_a_state(three):
    assert command(three, "app/c", weight=0).changes == ["weight 2 → 0"]
    one = three.view("app/c")
    assert (one.state, one.reason, one.sources["weight"]) == ("weight 0", "alice: “deploy”", "runtime")
    assert command(three, "app/c", DRAIN, weight=3).changes == ["ready → drain", "weight 0 → 3"]
    assert three.said[-1].endswith(": app/c ready → drain; weight 0 → 3: “deploy”")
    assert command(three, "app/c", READY).changes == ["drain → ready"]
    assert three.view("app/c").by is not None  # the weight is still somebody's
    assert command(three, "app/c", weight=2).changes == ["weight 3 → 2"]
    assert three.operating.snapshot().changes == []


def test_a_limit_is_a_change_like_a_weight(three):
    assert command(three, "app/c", limit=50).changes == ["limit 0 → 50"]
    one = three.view("app/c")
    assert (one.limit, one.state, one.sources["limit"], one.sources["weight"]) == (50, "ready", "runtime", "default")
    assert three.said == ["admin: alice (uid 1004 pid 7): app/c limit 0 → 50: “deploy”"]
    assert kinds(three) == [("changed", "app/c", "limit 0 → 50: “deploy”", "alice")]
    assert [(one.subject, one.change, one.actor) for one in three.operating.snapshot().changes] == [
        ("app/c", "limit 50", "alice")
    ]
    assert [(one.key, one.value, one.source) for one in three.operating.config()] == [
        ("pools.app.backends.c.limit", "50", "runtime by alice, “deploy”; by default 0")
    ]
    assert command(three, "app/c", limit=50).changes == []
    assert command(three, "app/c", DRAIN, weight=5, limit=7).changes == [
        "ready → drain",
        "weight 2 → 5",
        "limit 50 → 7",
    ]
    assert three.operating.reset("app", "c", ALICE) == [
        "admin drain of app/c",
        "weight 5 of app/c",
        "limit 7 of app/c",
    ]
    one = three.view("app/c")
    assert (one.limit, one.weight, one.by, one.sources["limit"]) == (0, 2, None, "default")


def test_no_bound_again_is_what_the_file_says_and_nobodys(three):
    command(three, "app/c", limit=5)
    assert command(three, "app/c", limit=0).changes == ["limit 5 → 0"]
    assert (three.operating.snapshot().changes, three.view("app/c").by) == ([], None)


def test_a_backend_that_was_added_can_be_without_the_bound_of_its_pool(operate):
    one = operate("a:80", "b:80", max_in_flight=3)
    one.operating.add("app", {"address": "c:80"}, ALICE)
    assert command(one, "app/c:80", limit=0).changes == ["limit 3 → 0"]
    assert (one.view("app/c:80").limit, one.view("app/c:80").sources["limit"]) == (0, "runtime")
    assert command(one, "app/c:80", limit=3).changes == ["limit 0 → 3"]
    assert [change.change for change in one.operating.snapshot().changes] == ["added"]


def test_the_limit_of_the_configuration_is_what_a_runtime_limit_is_over(operate):
    one = operate("a:80", "b:80", max_in_flight=3)
    assert command(one, "app/a:80", limit=0).changes == ["limit 3 → 0"]
    assert [view.limit for view in one.operating.snapshot().pools[0].backends] == [0, 3]
    assert command(one, "app/a:80", limit=3).changes == ["limit 0 → 3"]
    assert one.operating.snapshot().changes == []


def test_who_is_full_by_a_runtime_limit_is_skipped_by_name_and_the_rest_goes_on(operate):
    two = operate("a:80", "b:80")
    two.backend("a:80", [NEVER_ANSWER] * 9)
    two.backend("b:80", [NEVER_ANSWER] * 9)
    for _ in range(4):
        two.ask()
    assert command(two, "app/a:80", limit=1).follows == [
        "app/a:80 has 2 requests in flight: they go on, and no new one comes before fewer than 1 are left"
    ]
    view = two.view("app/a:80")
    assert (view.state, view.reason, view.in_flight, view.usable) == ("full", "2 of 1 in flight", 2, True)
    for _ in range(3):
        two.ask()
    assert [one.in_flight for one in two.operating.snapshot().pools[0].backends] == [2, 5]
    skipped = [one for one in at_once(two.operating.explain_next("app"))["candidates"] if one["skipped"]]
    assert [(one["backend"], one["state"], one["load"], one["limit"]) for one in skipped] == [
        ("app/a:80", "full", 2, 1)
    ]
    command(two, "app/b:80", limit=5)
    two.ask()
    assert two.operating.snapshot().pools[0].queued == 1
    command(two, "app/a:80", limit=3)
    two.wait(0)
    assert (two.operating.snapshot().pools[0].queued, two.view("app/a:80").in_flight) == (0, 3)


def test_where_all_are_full_and_nobody_waits_a_request_is_refused_and_says_why(operate):
    one = operate(pools={"app": {"backends": ["a:80"], "health_check": {"interval_s": 0.0}, "queue": {"length": 0}}})
    one.backend("a:80", [NEVER_ANSWER])
    command(one, "app/a:80", limit=1)
    one.ask()
    assert one.ask().received.startswith(b"HTTP/1.1 503 ")
    [told] = at_once(one.operating.explained("last", 1))["requests"]
    assert told["outcome"] == "ALL_FULL"
    assert [(each["backend"], each["state"], each["load"], each["limit"]) for each in told["skipped"]] == [
        ("app/a:80", "full", 1, 1)
    ]


def test_a_reload_keeps_a_limit_and_drops_it_with_its_backend(three):
    command(three, "app/c", limit=50)
    plan = three.plane.plan
    pool = plan.pools["app"]
    three.plane.apply(dataclasses.replace(plan, pools={"app": dataclasses.replace(pool)}))
    assert three.view("app/c").limit == 50
    less = dataclasses.replace(pool, backends=pool.backends[:2])
    changed = dataclasses.replace(plan, pools={"app": less})
    assert "limit 50 of c in app" in "\n".join(diff_of(three.plane, changed).lines)
    three.plane.apply(changed)
    assert three.operating.snapshot().changes == []


@pytest.mark.parametrize("wanted", [{"weight": 3}, {"limit": 3}])
def test_an_endpoint_has_no_numbers_of_its_own_and_a_dry_run_says_so_too(named, wanted):
    for dry_run in (True, False):
        refused = refusal(command, named, "app/web:80@10.0.0.1:80", dry_run=dry_run, **wanted)
        assert refused.detail == f"app/web:80@10.0.0.1:80: an endpoint has no {next(iter(wanted))} of its own"
    assert named.said == []


@pytest.mark.parametrize(("wanted", "what"), [({"weight": 257}, "weight"), ({"limit": -2}, "limit")])
def test_a_number_that_is_none_is_refused_by_a_dry_run_too(three, wanted, what):
    for dry_run in (True, False):
        refused = refusal(command, three, "app/a:80", DRAIN, dry_run=dry_run, **wanted)
        assert (refused.code, f"is not a {what}" in refused.detail) == ("bad_value", True)
    assert (three.view("app/a:80").admin, three.said) == ("ready", [])


def test_a_limit_holds_for_each_endpoint_of_a_name(named):
    assert command(named, "app/web:80", limit=4).changes == ["limit 0 → 4"]
    limits = {one.backend: one.limit for one in named.operating.snapshot().pools[0].backends}
    assert limits == {"web:80@10.0.0.1:80": 4, "web:80@10.0.0.2:80": 4, "z:80": 0}


def test_what_follows_of_a_change_is_nobodys_deed(operate):
    two = operate("a:80", "b:80")
    command(two, "app/a:80", DRAIN)
    command(two, "app/b:80", MAINT, BOB, force=True)
    command(two, "app/b:80", READY)
    assert kinds(two) == [
        ("admin", "app/a:80", "ready → drain: “deploy”", "alice"),
        ("admin", "app/b:80", "ready → maint", "bob"),
        ("exhausted", "app", "pool app has no usable backend", ""),
        ("admin", "app/b:80", "maint → ready: “deploy”", "alice"),
        ("recovered", "app", "pool app has a usable backend again", ""),
    ]


def test_what_would_follow_is_said_and_nothing_is_done(three):
    before = three.operating.etag
    done = command(three, "app/a:80", DRAIN, weight=5, dry_run=True)
    assert done.changes == ["ready → drain", "weight 1 → 5"]
    assert done.follows[0] == "app keeps 2 of 3"
    assert three.view("app/a:80").usable
    assert (three.operating.etag, three.said, kinds(three)) == (before, [], [])


@pytest.mark.parametrize("how", [{"admin": DRAIN}, {"admin": MAINT}, {"weight": 0}])
def test_the_last_usable_backend_stays_unless_it_is_forced(three, how):
    for name in ("app/a:80", "app/b:80"):
        command(three, name, DRAIN)
    before = three.operating.etag
    for dry_run in (True, False):
        refused = refusal(command, three, "app/c", dry_run=dry_run, **how)
        assert refused.code == "last_usable"
        assert refused.detail == (
            "app/c is the last usable backend of app; every request to app would be refused. Nothing was changed."
        )
    assert three.operating.etag == before
    assert three.view("app/c").usable
    command(three, "app/c", force=True, **how)
    assert not three.view("app/c").usable
    assert three.operating.snapshot().verdict.level == "failing"


def test_the_last_usable_backend_is_not_removed_either(three):
    for name in ("app/a:80", "app/b:80"):
        command(three, name, DRAIN)
    assert refusal(three.operating.remove, "app", "c", ALICE).code == "last_usable"
    assert three.operating.remove("app", "c", ALICE, force=True).changes == ["removed app/c"]


def test_who_is_out_already_may_go_further(three):
    for name in ("app/a:80", "app/b:80"):
        command(three, name, DRAIN)
    assert command(three, "app/a:80", MAINT).follows == [
        "app/a:80 gets no requests as it is (drained); app keeps 1 of 3"
    ]


def test_the_last_one_may_be_weighed_and_made_ready(operate):
    one = operate("a:80")
    assert command(one, "app/a:80", READY, weight=7).changes == ["weight 1 → 7"]


@pytest.mark.parametrize(
    ("name", "code", "detail", "hint"),
    [
        ("ap/a:80", "no_such_pool", 'there is no pool "ap"', 'did you mean "app"?'),
        ("app/a:81", "no_such_backend", 'there is no backend "app/a:81"', 'did you mean "app/a:80"?'),
        ("app/quite different", "no_such_backend", 'there is no backend "app/quite different"', ""),
        ("app/\n\x1b[2J", "no_such_backend", 'there is no backend "app/\\n\\x1b[2J"', ""),
    ],
)
def test_what_there_is_not_is_named_with_what_was_meant(three, name, code, detail, hint):
    pool, _, backend = name.partition("/")
    for call in (
        lambda: command(three, name, DRAIN),
        lambda: command(three, name, DRAIN, dry_run=True),
        lambda: three.operating.remove(pool, backend, ALICE),
        lambda: three.operating.reset(pool, backend, ALICE),
    ):
        refused = refusal(call)
        assert isinstance(refused, NotFound)
        assert (refused.code, refused.detail, refused.hint) == (code, detail, hint)


def test_a_weight_that_is_none_is_refused_and_the_state_stays(three):
    refused = refusal(command, three, "app/a:80", DRAIN, weight=257)
    assert (refused.code, three.view("app/a:80").admin) == ("bad_value", "ready")


# Who and why, in explanations.


def test_who_took_a_backend_out_is_told_by_explanations(three):
    command(three, "app/a:80", DRAIN)
    command(three, "app/c", weight=0, actor=BOB)
    three.wait(300)
    three.backend("b:80")
    three.ask()
    told = at_once(three.operating.explained("last", 1))["requests"][0]
    command(three, "app/a:80", READY, BOB)
    for skipped in (told["skipped"], at_once(three.operating.explained("last", 1))["requests"][0]["skipped"]):
        assert {one["backend"]: (one["state"], one["reason"], one["for_s"]) for one in skipped} == {
            "app/a:80": ("drained", "by alice: “deploy”", 300.0),
            "app/c": ("weight 0", "by bob", 300.0),
        }
    out = [one for one in at_once(three.operating.explain_next("app"))["candidates"] if one["skipped"]]
    assert [(one["backend"], one["reason"]) for one in out] == [("app/c", "by bob")]


def test_what_an_attempt_has_brought_about_is_told(operate):
    two = operate("a:80", "b:80")
    two.backend("b:80")
    two.ask()
    two.ask()
    attempts = [one for told in at_once(two.operating.explained("last", 2))["requests"] for one in told["attempts"]]
    assert [(one["backend"], one["outcome"], one["then"]) for one in attempts if one["then"]] == [
        ("app/a:80", "REFUSED", "ejected for 1 s: connection refused")
    ]
    two.backend("a:80")
    two.wait(1)
    for _ in range(2):
        two.ask()
    attempts = [one for told in at_once(two.operating.explained("last", 2))["requests"] for one in told["attempts"]]
    assert [(one["backend"], one["then"]) for one in attempts if one["then"]] == [
        ("app/a:80", "used again: it accepts connections again")
    ]


# Names that stand for several.


@pytest.fixture
def named(operate):
    one = operate("web:80", "z:80", resolved={"web": ["10.0.0.1", "10.0.0.2"], "later": []})
    one.wait(1)
    return one


def test_a_name_is_drained_with_all_that_it_leads_to(named):
    done = command(named, "app/web:80", DRAIN)
    assert done.changes == ["ready → drain"]
    assert done.follows == ["app keeps 1 of 2", "new load on the other +200 %"]
    for one in ("app/web:80@10.0.0.1:80", "app/web:80@10.0.0.2:80"):
        view = named.view(one)
        assert (view.state, view.reason, view.sources["admin"]) == ("drained", "alice: “deploy”", "runtime")
    assert named.view("app/z:80").usable
    assert named.operating.reset("app", "web:80", ALICE) == ["admin drain of app/web:80"]
    assert named.view("app/web:80@10.0.0.1:80").usable


def test_one_of_them_is_drained_alone(named):
    name = "web:80@10.0.0.1:80"
    assert command(named, f"app/{name}", DRAIN).changes == ["ready → drain"]
    assert named.view(f"app/{name}").reason == "alice: “deploy”"
    assert named.view("app/web:80@10.0.0.2:80").usable
    assert command(named, "app/web:80", MAINT, BOB).changes == ["drain/ready → maint"]
    assert command(named, "app/web:80", READY, BOB).changes == ["maint → ready"]
    assert named.operating.snapshot().changes == []


def test_one_of_them_has_no_weight_and_is_not_removed_alone(named):
    refused = refusal(command, named, "app/web:80@10.0.0.1:80", weight=3)
    assert (refused.code, refused.detail) == (
        "bad_value",
        "app/web:80@10.0.0.1:80: an endpoint has no weight of its own",
    )
    refused = refusal(named.operating.remove, "app", "web:80@10.0.0.1:80", ALICE)
    assert (refused.code, refused.detail) == (
        "bad_value",
        "app/web:80@10.0.0.1:80: an endpoint of a name cannot be removed alone",
    )
    assert named.said == []


def test_a_name_without_an_address_is_a_backend_of_its_own(operate):
    one = operate("later:80", "z:80", resolved={"later": []})
    one.wait(1)
    assert command(one, "app/later:80", DRAIN, weight=4).changes == ["ready → drain", "weight 1 → 4"]
    assert one.view("app/later:80").state == "drained"


def test_a_name_is_removed_and_reset(named):
    assert named.operating.remove("app", "web:80", ALICE).follows[0] == "app keeps 1 of 2"
    assert [one.backend for one in named.operating.snapshot().pools[0].backends] == ["z:80"]
    assert named.operating.reset(None, None, ALICE) == ["removed of app/web:80"]
    named.wait(1)
    assert len(named.operating.snapshot().pools[0].backends) == 3


# Layers.


@pytest.fixture
def checked(operate):
    """Two backends that are checked; `a` fails."""
    check = {"path": "/health", "interval_s": 1.0, "fall": 2, "rise": 1}
    two = operate(pools={"app": {"backends": ["a:80", "b:80"], "health_check": check}})
    two.backend("a:80", lambda request: [response(status=503)])
    two.backend("b:80")
    two.wait(5.5)
    return two


def test_what_checks_say_is_seen(checked):
    one, other = checked.view("app/a:80"), checked.view("app/b:80")
    assert (one.state, one.up, one.known, one.usable) == ("down", False, True, False)
    assert one.reason.startswith("check: ")
    assert one.reason.endswith(" times")
    assert not one.checks[0].passed
    assert one.checks[0].at >= one.checks[1].at
    assert one.checks[0].ms is not None
    assert (other.state, other.checks[0].passed) == ("ready", True)
    assert ("down", "app/a:80") in [one[:2] for one in kinds(checked)]


def test_the_gravest_layer_is_the_state_and_the_others_are_told_too(checked):
    command(checked, "app/a:80", MAINT)
    one = checked.view("app/a:80")
    assert one.state == "maint"
    assert one.reason.startswith("alice: “deploy”; also down (check: ")


@pytest.mark.parametrize(("initial", "state"), [("up", "ready"), ("down", "unknown")])
def test_whom_nobody_has_heard_of_is_not_known(operate, initial, state):
    check = {"interval_s": 1.0, "initial": initial}
    view = operate(pools={"app": {"backends": ["a:80"], "health_check": check}}).view("app/a:80")
    assert (view.known, view.state, view.reason) == (False, state, "")


def test_in_maintenance_nobody_is_checked_and_ready_again_at_once(checked):
    backend = checked.backend("c:80")
    checked.operating.add("app", {"address": "c:80"}, ALICE)
    checked.wait(3)
    assert backend.requests
    command(checked, "app/c:80", MAINT)
    asked = len(backend.requests)
    checked.wait(30)
    assert len(backend.requests) == asked
    command(checked, "app/c:80", READY)
    checked.wait(0.1)
    assert len(backend.requests) == asked + 1
    checked.wait(3)
    assert checked.view("app/c:80").usable


def test_drained_one_is_still_checked(checked):
    command(checked, "app/a:80", DRAIN)
    asked = len(checked.view("app/a:80").checks)
    checked.wait(4)
    assert len(checked.view("app/a:80").checks) > asked


def test_ejected_for_serving_badly_by_which_rule_and_who_stays_in(operate):
    rules = {"ejection": {"min_clients": 1}, "retry": {"more_attempts": 0}}
    two = operate("a:80", "b:80", defaults={"pool": rules})
    for name in ("a:80", "b:80"):
        two.backend(name, [CLOSE] * 100)
    for _ in range(40):
        two.ask()
    out, stays = two.view("app/a:80"), two.view("app/b:80")
    if stays.ejected:
        out, stays = stays, out
    assert (out.state, out.ejected_by, out.failing) == ("ejected", "consecutive_failures", "")
    assert out.reason.startswith("5 failures in a row of 1 client: 5 NO_RESPONSE; back in ")
    assert (stays.state, stays.usable, stays.ejected_by) == ("ready", True, "")
    assert stays.failing.startswith("35 failures in a row of 1 client")
    assert stays.reason == f"would be ejected: {stays.failing}"
    assert [one[1] for one in kinds(two) if one[0] == "withheld"] == [stays.name]


def test_ejected_by_its_traffic(operate):
    two = operate("a:80", "b:80")  # nobody is there
    two.backend("b:80")
    for _ in range(40):
        two.ask()
    one = two.view("app/a:80")
    assert (one.state, one.ejected, one.usable) == ("ejected", True, False)
    assert "back in" in one.reason
    assert (one.ejected_by, one.failing) == ("refused", "")
    assert two.view("app/b:80").ejected_by == ""
    assert ("ejected", "app/a:80") in [event[:2] for event in kinds(two)]
    command(two, "app/a:80", DRAIN)
    assert two.view("app/a:80").state == "drained"
    assert "; also ejected (" in two.view("app/a:80").reason


def test_full_is_a_state_and_no_reason_to_be_unusable(operate):
    one = operate("a:80", max_in_flight=1)
    one.backend("a:80", [NEVER_ANSWER])
    one.ask()
    view = one.view("app/a:80")
    assert (view.state, view.reason, view.usable, view.limit) == ("full", "1 of 1 in flight", True, 1)


def test_drained_with_something_under_way_says_what(operate):
    two = operate("a:80")
    two.backend("a:80", [NEVER_ANSWER, SWITCHED])
    two.ask()
    two.ask(UPGRADE)
    done = command(two, "app/a:80", DRAIN, force=True)
    assert done.follows[0] == "1 request and 1 tunnel go on"
    assert two.view("app/a:80").reason == "alice: “deploy”; 1 request and 1 tunnel left"


# Added and removed.


def test_added_it_is_there_and_in_the_books(three):
    assert three.operating.add("app", {"address": "10.0.0.9:80", "name": "b9", "weight": 2}, ALICE) == "b9"
    one = three.view("app/b9")
    assert (one.weight, one.address, one.sources["backend"]) == (2, "10.0.0.9:80", "runtime")
    assert one.by is not None
    assert [(one.subject, one.change) for one in three.operating.snapshot().changes] == [("app/b9", "added")]
    assert kinds(three) == [("added", "app/b9", "added: “deploy”", "alice")]
    assert three.said == ["admin: alice (uid 1004 pid 7): app/b9 added: “deploy”"]


def test_added_and_removed_again_nothing_is_left(three):
    for n in range(5):
        three.operating.add("app", {"address": f"n{n}.example:80"}, ALICE)
        three.operating.remove("app", f"n{n}.example:80", ALICE)
    assert three.operating.snapshot().changes == []
    assert not three.plane.overlay.pools
    assert not three.operating._states._by


def test_removed_it_is_gone_until_it_is_reset(three):
    three.operating.remove("app", "a:80", ALICE)
    assert three.operating.snapshot().backend("app/a:80") is None
    assert [(one.subject, one.change, one.actor) for one in three.operating.snapshot().changes] == [
        ("app/a:80", "removed", "alice")
    ]
    assert three.said == ["admin: alice (uid 1004 pid 7): app/a:80 removed: “deploy”"]
    assert refusal(three.operating.remove, "app", "a:80", ALICE).code == "no_such_backend"
    assert three.operating.reset("app", "a:80", BOB) == ["removed of app/a:80"]
    assert three.view("app/a:80").usable
    assert kinds(three)[-1] == ("added", "app/a:80", "added", "bob")


NOBODY = "app has no usable backend without these changes; every request to app would be refused. Nothing was changed."


def test_a_reset_that_would_leave_nobody_is_refused_unless_forced(operate):
    one = operate("a:80")
    one.operating.add("app", {"address": "n:80", "name": "n"}, ALICE)
    command(one, "app/a:80", DRAIN)
    caught = refusal(one.operating.reset, "app", "n", ALICE)
    assert (caught.code, caught.detail, caught.hint) == ("last_usable", NOBODY, "All the same: --force")
    assert one.view("app/n").usable
    assert one.operating.reset("app", "n", ALICE, force=True) == ["added of app/n"]
    assert one.operating.reset(None, None, ALICE) == ["admin drain of app/a:80"]


def test_a_reset_of_a_weight_that_was_none_brings_somebody_back(operate):
    one = operate("a:80")
    command(one, "app/a:80", weight=0, force=True)
    one.operating.add("app", {"address": "n:80", "name": "n"}, ALICE)
    assert refusal(one.operating.reset, "app", "n", ALICE).code == "last_usable"
    assert one.operating.reset(None, None, ALICE) == ["weight 0 of app/a:80", "added of app/n"]
    assert one.view("app/a:80").usable


def test_a_reset_of_all_counts_who_comes_back(operate):
    two = operate("a:80", "b:80")
    two.operating.add("app", {"address": "n:80", "name": "n"}, ALICE)
    command(two, "app/a:80", DRAIN)
    two.operating.remove("app", "b:80", ALICE)
    assert refusal(two.operating.reset, "app", "n", ALICE).code == "last_usable"
    assert len(two.operating.reset(None, None, ALICE)) == 3
    assert two.view("app/b:80").usable


def test_where_nobody_is_usable_anyway_a_reset_is_free(operate):
    one = operate("a:80")
    one.operating.add("app", {"address": "n:80", "name": "n"}, ALICE)
    command(one, "app/n", DRAIN)
    command(one, "app/a:80", DRAIN, force=True)
    assert one.operating.reset("app", "n", ALICE) == ["admin drain of app/n", "added of app/n"]


def test_a_reset_of_one_address_leaves_what_was_wanted_of_its_name(named):
    command(named, "app/z:80", DRAIN)
    command(named, "app/web:80@10.0.0.2:80", MAINT)
    assert named.operating.reset("app", "web:80@10.0.0.2:80", ALICE)
    assert named.operating.reset("app", "z:80", ALICE)


def test_what_runs_at_a_removed_one_is_seen_leaving(operate):
    two = operate("a:80", "b:80")
    two.backend("a:80", [NEVER_ANSWER])
    two.backend("b:80", [NEVER_ANSWER])
    client = two.ask()
    name = next(one.backend for one in two.operating.snapshot().pools[0].backends if one.in_flight)
    assert two.operating.remove("app", name, ALICE).follows[0] == "1 request goes on"
    assert two.operating.left("app", name).requests == 1
    assert [one.backend for one in two.operating.snapshot().pools[0].leaving] == [name]
    client.transport.abortConnection()
    two.wait(1)
    assert two.operating.left("app", name).empty


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ({"address": "a:80"}, "exists"),
        ({"address": "z:80", "name": "c"}, "exists"),
        ({"address": "z"}, "bad_value"),
        ({"address": "z:80", "wieght": 3}, "bad_value"),
        ({"address": "z:80", "weight": 2.5}, "bad_value"),
        ({"address": "z:80", "name": "\ud800"}, "bad_value"),
        ({"address": "z:80\x1b[2J"}, "bad_value"),
        ({}, "bad_value"),
    ],
)
def test_what_cannot_be_added_says_why_on_one_line(three, table, code):
    refused = refusal(three.operating.add, "app", table, ALICE)
    assert refused.code == code
    assert refused.detail.isprintable()
    assert three.operating.etag == "3b9aca00.1.0"
    assert (three.said, kinds(three)) == ([], [])


def test_nothing_is_added_to_a_pool_that_there_is_not(three):
    assert refusal(three.operating.add, "apq", {"address": "z:80"}, ALICE).hint == 'did you mean "app"?'


# Reset.


def test_all_changes_are_dropped(three):
    command(three, "app/a:80", DRAIN)
    command(three, "app/a:80", weight=4)
    command(three, "app/b:80", MAINT)
    three.operating.add("app", {"address": "n:80"}, ALICE)
    three.operating.remove("app", "c", ALICE, force=True)
    three.said.clear()
    lines = three.operating.reset(None, None, BOB)
    assert sorted(lines) == [
        "added of app/n:80",
        "admin drain of app/a:80",
        "admin maint of app/b:80",
        "removed of app/c",
        "weight 4 of app/a:80",
    ]
    seen = three.operating.snapshot()
    assert [one.name for one in seen.pools[0].backends] == ["app/a:80", "app/b:80", "app/c"]
    assert all(one.usable and one.by is None for one in seen.pools[0].backends)
    assert seen.changes == []
    assert len(three.said) == 5
    assert all(line.startswith("admin: bob: app/") for line in three.said)
    assert three.operating.reset(None, None, BOB) == []


def test_those_of_one_backend_are_dropped_and_no_others(three):
    command(three, "app/a:80", DRAIN)
    command(three, "app/b:80", DRAIN)
    assert three.operating.reset("app", "a:80", BOB) == ["admin drain of app/a:80"]
    assert (three.view("app/a:80").usable, three.view("app/b:80").usable) == (True, False)
    assert three.operating.reset("app", "a:80", BOB) == []


# The log.


def test_nobody_forges_a_line_or_a_field_of_it(three):
    evil = Actor("eve\nadmin: root: app/b:80", "x”\r\nadmin: root, uid=0: app/b:80 removed: “y\x1b[2J\u2028", "a=b, c")
    command(three, "app/a:80", DRAIN, evil)
    assert three.said == [
        (
            "admin: eve admin: root: app/b:80 (a b  c): app/a:80 ready → drain: "
            '“x"  admin: root  uid 0: app/b:80 removed: "y?[2J?”'
        )
    ]


def test_text_from_outside_is_short_and_on_one_line():
    assert clean("a\x00b\tc\nd,e=f“g”") == 'a?b c d e f"g"'
    assert len(clean("x" * 1000)) == 200


# Etag.


def test_every_change_is_another_etag_and_looking_is_none(three):
    seen = [three.operating.etag]

    def changed():
        seen.append(three.operating.etag)
        assert seen[-1] != seen[-2]

    command(three, "app/a:80", DRAIN)
    changed()
    command(three, "app/a:80", weight=2)
    changed()
    three.operating.add("app", {"address": "n:80"}, ALICE)
    changed()
    three.operating.remove("app", "n:80", ALICE)
    changed()
    three.operating.reset(None, None, ALICE)
    changed()
    three.operating.loaded(["changes pool app: +x:80"])
    changed()
    three.operating.snapshot()
    three.operating.config()
    three.operating.reset(None, None, ALICE)
    assert three.operating.etag == seen[-1]


def test_another_start_has_no_etag_of_this_one(operate):
    one = operate("a:80")
    before = one.operating.etag
    one.wait(1)
    other = Operating(one.owner, lambda: 999_000.0 + one.clock.seconds(), one.clock)
    assert before.split(".")[1:] == other.etag.split(".")[1:]
    assert before != other.etag


# Workers.


class TwoWorkers:
    """Workers that have counted what a test says."""

    measures, beside, restarts = Measures((), ()), Beside(), 4

    def __init__(self):
        self.requests, self.lag = 0, Histogram()

    def workers(self):
        return [WorkerView(0, 71, "serves", 9.0, 1, 0, self.requests), WorkerView(1, 0, "waits", 0.0, 0, 0, 0, 0)]

    def lags(self):
        return {71: self.lag.reading()}


def test_of_each_worker_the_requests_a_second_and_the_loop_lag_of_the_last_minute_are_seen(operate):
    workers = TwoWorkers()
    one = operate("a:80", elsewhere=workers)
    view, missing = one.operating.snapshot().workers
    assert (view.rate, view.lag_p99_ms, view.covered_by) == (None, None, None)
    workers.requests = 1000
    workers.lag.add(3.0)
    one.wait(10)
    for _ in range(100):
        one.wait(1)
        workers.requests += 3
        workers.lag.add(0.1)
    snapshot = one.operating.snapshot()
    view, missing = snapshot.workers
    assert view.rate == pytest.approx(3.0)
    assert 100.0 <= view.lag_p99_ms <= 112.5  # a slot of the histogram is an eighth wide
    assert (view.slot, view.pid, view.requests) == (0, 71, 1300)
    assert missing == WorkerView(1, 0, "waits", 0.0, 0, 0, 0, 0)
    assert snapshot.worker_restarts == 4


# Reloads.


def test_a_reload_is_loaded_by_who_asked(three):
    done = three.operating.apply(ALICE)
    dry_run, deferred = three.owner.reloads[0]
    assert not dry_run
    three.operating.loaded(["changes pool app: +x:80"])
    told = Reloaded(True, ["changes pool app: +x:80"], True)
    deferred.callback(told)
    assert done.result == told
    seen = three.operating.snapshot()
    assert (seen.loaded_by, seen.generation) == ("alice", 2)
    assert kinds(three) == [("reload", "", "generation 2: changes pool app: +x:80", "alice")]
    assert three.said == ["admin: alice (uid 1004 pid 7): reload: “deploy”"]
    three.operating.loaded([])
    assert three.operating.snapshot().loaded_by == "reload"


def test_two_who_ask_at_once_are_both_named(three):
    three.operating.apply(ALICE)
    three.operating.apply(BOB)
    three.operating.loaded([])
    assert three.operating.snapshot().loaded_by == "alice and bob"
    for _, deferred in three.owner.reloads:
        deferred.callback(Reloaded(True))
    three.operating.loaded([])
    assert three.operating.snapshot().loaded_by == "reload"


def test_who_asked_for_a_reload_that_failed_has_loaded_nothing(three):
    done = three.operating.apply(ALICE)
    three.owner.reloads[0][1].errback(Failure(Refused("busy", "no")))
    done.addErrback(lambda failure: failure.trap(Refused))
    three.operating.loaded([])
    assert three.operating.snapshot().loaded_by == "reload"


def test_a_reload_that_is_refused_at_once_is_nobodys(three):
    def refuse(*, dry_run):
        raise Refused("busy", "there is no file")

    three.owner.reload_now = refuse
    assert refusal(three.operating.apply, ALICE).code == "busy"
    three.operating.loaded([])
    assert three.operating.snapshot().loaded_by == "reload"
    assert three.said == []


def test_a_plan_is_a_reload_that_does_nothing(three):
    three.operating.plan()
    assert [dry_run for dry_run, _ in three.owner.reloads] == [True]
    assert three.said == []


# During a stop, and behind it.


def test_during_a_stop_everything_is_seen_and_nothing_changed(three):
    three.owner.stopping = True
    for call in (
        lambda: command(three, "app/a:80", DRAIN),
        lambda: three.operating.add("app", {"address": "n:80"}, ALICE),
        lambda: three.operating.remove("app", "a:80", ALICE),
        lambda: three.operating.reset(None, None, ALICE),
        lambda: three.operating.apply(ALICE),
    ):
        assert refusal(call).code == "stopping"
    assert three.operating.snapshot().pools
    assert three.said == []


def test_behind_a_stop_there_is_nobody_to_ask(three):
    three.operating.end()
    assert refusal(three.operating.snapshot).code == "stopping"
    assert refusal(three.operating.left, "app", "a:80").code == "stopping"
    three.operating.end()
    three.wait(3)


# The configuration.


def test_values_are_texts_with_their_sources_and_those_of_run_time(three):
    three.owner.values = [
        ("watch", False, "default"),
        ("seed", None, "default"),
        ("listen.port", 8080, "--port"),
        ("hosts", ("a", "b"), "lb.toml:3"),
        ("labels", {"zone": "b", "x": True}, "lb.toml:4"),
        ("pools.app.backends.c.weight", 2, "lb.toml:9"),
    ]
    three.owner.sources["pools", "app", "backends", "c", "weight"] = "lb.toml:9"
    command(three, "app/a:80", DRAIN)
    command(three, "app/c", weight=5, actor=BOB)
    assert [(one.key, one.value, one.source) for one in three.operating.config()] == [
        ("watch", "false", "default"),
        ("seed", "", "default"),
        ("listen.port", "8080", "--port"),
        ("hosts", "a, b", "lb.toml:3"),
        ("labels", "zone: b, x: true", "lb.toml:4"),
        ("pools.app.backends.a:80.admin", "drain", "runtime by alice, “deploy”"),
        ("pools.app.backends.c.weight", "5", "runtime by bob; 2 in lb.toml:9"),
    ]


def test_who_was_added_or_removed_at_run_time_is_a_value_too(three):
    three.operating.add("app", {"address": "n:80", "name": "n"}, BOB)
    three.operating.remove("app", "a:80", ALICE)
    assert [(one.key, one.value, one.source) for one in three.operating.config()] == [
        ("pools.app.backends.n", "added", "runtime by bob"),
        ("pools.app.backends.a:80", "removed", "runtime by alice, “deploy”"),
    ]


# Several processes.


def test_what_several_see_is_added_up(operate):
    one, other = (operate("a:80", "b:80") for _ in range(2))
    for each in (one, other):
        each.backend("a:80", [NEVER_ANSWER, response(), response()])
        each.backend("b:80", [response()] * 9)
        each.wait(1)
        for _ in range(4):
            each.ask()
        each.wait(1)
    other.owner.verdict = Verdict(False, "not ready: stopping\n")
    command(other, "app/b:80", DRAIN)
    both = merged([one.operating.snapshot(), other.operating.snapshot()])
    a, b = both.pools[0].backends
    assert (a.requests + b.requests, a.in_flight + b.in_flight) == (
        sum(view.requests for each in (one, other) for view in each.operating.snapshot().pools[0].backends),
        2,
    )
    assert (a.usable, b.usable, both.pools[0].usable) == (True, False, 1)
    assert sum(a.outcomes.values()) + sum(b.outcomes.values()) == 6
    assert a.rate is not None
    assert b.rate is not None
    assert a.rate + b.rate == 4.0
    assert (both.ready, both.ready_text) == (False, "stopping")
    assert both.listeners[0].connections == 8
    assert both.pools[0].in_flight == 2
    assert (both.pools[0].errors_60s, a.errors_60s) == (0, 0)
    route, alone = both.routes[0], one.operating.snapshot().routes[0]
    assert (route.requests, alone.requests) == (8, 4)


def test_errors_of_a_pool_and_of_a_route_are_added_up(operate):
    one, other = (operate("a:80").operating.snapshot() for _ in range(2))

    def counted(snapshot, errors):
        pools = [dataclasses.replace(snapshot.pools[0], errors_60s=errors)]
        return dataclasses.replace(
            snapshot, pools=pools, routes=[dataclasses.replace(snapshot.routes[0], errors_60s=errors, rate=2.5)]
        )

    both = merged([counted(one, 3), counted(other, 4)])
    assert (both.pools[0].errors_60s, both.routes[0].errors_60s, both.routes[0].rate) == (7, 7, 5.0)
    unknown = merged([counted(one, 3), counted(other, None)])
    assert (unknown.pools[0].errors_60s, unknown.routes[0].errors_60s) == (None, None)


def test_of_one_alone_nothing_changes(three):
    alone = three.operating.snapshot()
    assert merged([alone]) == alone


def test_whom_only_one_process_has_is_told_as_it_is(operate):
    one, other = operate("a:80", "b:80"), operate("a:80")
    both = merged([one.operating.snapshot(), other.operating.snapshot()])
    assert [view.name for view in both.pools[0].backends] == ["app/a:80", "app/b:80"]


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ({"address": "nonsense"}, "'nonsense': no port, expected HOST:PORT"),
        ({"address": "c:80", "wieght": 2}, 'wieght: unknown key; did you mean "weight"?'),
        ({"address": "c:80", "weight": -1}, "weight: should be"),
        ({}, "address: is missing"),
    ],
)
def test_what_is_no_backend_is_refused_in_words_that_name_the_key(three, backend, said):
    refused = refusal(three.operating.add, "app", backend, ALICE)
    assert (refused.code, said in str(refused)) == ("bad_value", True), str(refused)
