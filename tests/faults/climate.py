"""What a town is like: how bad its network is, and what its balancer is configured to do."""

import random
from collections.abc import Sequence
from typing import Any

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.routes import RouteRulesConfig
from twisted_lb.core.pickers import POLICIES
from twisted_lb.testing import Chances

# Short: virtual time is cheap, but each of its seconds is ten ticks of the wheel.
TIMEOUTS = {
    "first_byte_s": 3.0,
    "head_s": 3.0,
    "body_idle_s": 4.0,
    "connect_s": 1.0,
    "response_head_s": 6.0,
    "response_idle_s": 5.0,
    "client_idle_s": 3.0,
    "tunnel_idle_s": 8.0,
    "half_open_s": 5.0,
}
CHECK_INTERVAL_S = 2.0
CHECK_TIMEOUT_S = 1.0


def weather(rng: random.Random) -> Chances:
    """How bad the network is: mostly not very."""
    bad = rng.choice([0.0, 0.3, 1.0])
    torn = rng.choice([0.0, 0.3, 1.0])
    return Chances(
        refused=0.05 * bad,
        hanging=0.03 * bad,
        local_failure=0.02 * bad,
        no_port=0.02 * bad,
        partial_write=0.3 * torn,
        split=0.3 * torn,
        delayed=0.3 * torn,
        longest_delay_s=rng.choice([0.0, 0.01, 0.3]),
        overtaken=0.5,
        reset=0.05 * bad,
        closed=0.05 * bad,
        half_closed=0.03 * bad,
        stalled=0.05 * bad,
        longest_stall_s=rng.choice([1.0, 10.0]),
        within_bytes=50_000,
    )


def affinity(apart: random.Random) -> dict[str, Any]:
    """By what requests are bound to backends, by chance; in most towns by nothing."""
    by = apart.choice(
        [{}, {}, {}, {"cookie": True}, {"client": True}, {"header": "X-Filler-0"}, {"learn": {"header": "X-Name"}}]
    )
    rest = {
        "when_full": apart.choice(["rebind", "wait"]),
        "drain_s": apart.choice([0.0, 2.0, 300.0]),
        "most": apart.choice([2, 1000]),
    }
    return {**by, **rest} if by else {}


def settings(rng: random.Random, names: Sequence[str], *, finish_half_closed: bool) -> LoadBalancerConfig:
    """Settings by chance; short times."""
    checked = rng.random() < 0.7
    apart = random.Random()  # what it draws moves nothing else of the story
    apart.setstate(rng.getstate())
    queue = {"no_backend_s": apart.choice([0.0, 0.3, 1.0, 1.0, 3.0]), "length": apart.choice([1, 3, 1000])}
    reuse = apart.choice(["safe", "always", "always"])
    auto = {"max_idle": "auto"} if apart.random() < 0.3 else {}
    budget = {} if apart.random() < 0.7 else {"budget_percent": 0, "budget_per_s": 0}
    roads = routes(apart)
    traffic = ejection(apart)
    slow_start = {"window_s": apart.choice([0.0, 0.5, 5.0])}
    levels = apart.random() < 0.3
    most = apart.choice([0, 0, 0, 1, 2, 3])
    queue |= {"timeout_s": apart.choice([0.0, 0.5, 3.0]), **apart.choice([{}, {"fair_by": "client"}])}
    held, memory = buffers(apart)
    bound = affinity(apart)
    return LoadBalancerConfig.model_validate(
        {
            **roads,
            "affinity": bound,
            "backends": [{"address": name, **level(apart)} for name in names] if levels else names,
            "slow_start": slow_start,
            "policy": rng.choice(sorted(POLICIES)),
            "timeouts": TIMEOUTS,
            "limits": {"replay_body_bytes": 8192, "client_bytes_per_s": 0, **memory},
            **held,
            "queue": queue,
            "max_in_flight": most,
            "ejection": traffic,
            "retry": {"more_attempts": 2, **budget},
            "upstream": {
                "max_idle": rng.choice([0, 1, 8]),
                "idle_s": 4.0,
                "max_requests": 8,
                "max_age_s": 20.0,
                "reuse": reuse,
                **auto,
            },
            "health_check": {
                "interval_s": CHECK_INTERVAL_S if checked else 0.0,
                "timeout_s": CHECK_TIMEOUT_S,
                "path": "/health",
                "rise": rng.choice([1, 2]),
                "fall": rng.choice([1, 3]),
            },
            "client_half_close": "finish" if finish_half_closed else "abort",
        }
    )


def ejection(rng: random.Random) -> dict[str, object]:
    """For what traffic takes a backend out: in half of the towns for what is usual, in the others for less, by all of the rules."""
    if rng.random() < 0.5:
        return {}
    return {
        "consecutive_failures": rng.choice([0, 1, 1, 2, 3]),
        "min_clients": rng.choice([1, 1, 2]),
        "failure_percent": rng.choice([0, 30, 60]),
        "failure_percent_requests": rng.choice([1, 3]),
        "success_rate_factor": rng.choice([0, 0.5, 0.9]),
        "success_rate_requests": rng.choice([1, 3]),
        "min_backends": rng.choice([1, 2]),
        "window_s": rng.choice([1.0, 5.0, 30.0]),
        "base_s": rng.choice([0.5, 2.0, 10.0]),
        "longest_s": rng.choice([10.0, 300.0]),
        "max_percent": rng.choice([30, 50, 100]),
        "checks_end": rng.random() < 0.7,
    }


def buffers(rng: random.Random) -> tuple[dict[str, int], dict[str, int]]:
    """What is held for slow clients, in half of the towns nothing; and in some of the others little memory for that."""
    if rng.random() < 0.5:
        return {}, {}
    held = {
        "buffer_request_bytes": rng.choice([0, 1, 300, 4096, 65536]),
        "buffer_response_bytes": rng.choice([0, 1, 2000, 30_000, 1 << 20]),
    }
    return held, rng.choice([{}, {"memory_bytes": 5000}, {"memory_bytes": 200_000}])


def level(rng: random.Random) -> dict[str, object]:
    """The level of a backend by chance: requests go to others than they would, and nothing else is changed by it."""
    return rng.choice([{}, {}, {"priority": 1}, {"backup": True}])


def routes(rng: random.Random) -> dict[str, object]:
    """Routes by chance, in most towns none: whichever a request takes, it leads to the one pool, by the same rules. What edits
    they make shows nowhere but in fields that nobody reads.
    """
    if rng.random() < 0.6:
        return {}
    matches: list[dict[str, object]] = [
        {"path": [f"/r/c{client}r{ask}" for client in range(4) for ask in range(3)]},
        {"path_prefix": "/r", "method": ["POST", "PUT"]},
        {"path_prefix": "/r", "clients": ["10.0.0.1", "10.0.0.3"]},
        {"host": ["app", "*.app"], "headers": {"X-Filler-0": {"present": True}}},
        {"host": "app"},
    ]
    edits: list[dict[str, object]] = [
        {},
        {"set_request_headers": {"X-Route": "{client} {backend} {pool} {host}"}},
        {"set_response_headers": {"X-Backend": "{backend}", "X-Pool": "{pool}"}, "remove_response_headers": "Server"},
        {"set_request_headers": {"X-Pool": "{pool}"}, "rate_limits": [{"per_s": 0.1, "dry_run": True}]},
        {"requests_per_client": 1000, "rate_limits": [{"per_s": 1000.0, "burst": 1000}], "encoded_slash": "refuse"},
    ]
    taken = rng.sample(matches, rng.randrange(1, len(matches)))
    deny = {"path_prefix": "/elsewhere", "deny": True}
    return {
        "routes": [*({**match, **rng.choice(edits), "pool": "default"} for match in taken), deny],
        "defaults": {"route": of_routes(TIMEOUTS, {"replay_body_bytes": 8192})},
    }


def of_routes(timeouts: dict[str, float], limits: dict[str, object]) -> dict[str, object]:
    """What of these is a route's."""
    ours = ("response_head_s", "response_idle_s", "tunnel_idle_s", "half_open_s")
    return {"timeouts": {name: timeouts[name] for name in ours}, "limits": limits}


def other_settings(rng: random.Random, now: LoadBalancerConfig) -> LoadBalancerConfig:
    """A generation after this one: other times and limits, now and then all of it, or nothing, as it was."""

    def other(**tables: dict[str, object]) -> dict[str, object]:
        return {
            name: getattr(now, name).model_copy(update=values) for name, values in tables.items() if rng.random() < 0.7
        }

    changes = other(
        timeouts={name: value * rng.choice([0.3, 0.7, 1.0, 1.2]) for name, value in TIMEOUTS.items()},
        limits={
            "replay_body_bytes": rng.choice([0, 100, 8192, 65536]),
            "body_bytes": rng.choice([None, None, 2000, 50_000]),
        },
        retry={"more_attempts": rng.choice([0, 1, 2, 3])},
        upstream={
            "max_idle": rng.choice([0, 1, 8]),
            "idle_s": rng.choice([0.5, 4.0]),
            "max_requests": rng.choice([1, 8]),
            "max_age_s": rng.choice([2.0, 20.0]),
        },
        health_check={"rise": rng.choice([1, 2]), "fall": rng.choice([1, 3])},
    )
    if rng.random() < 0.3:
        changes["client_half_close"] = rng.choice(["finish", "abort"])
    if rng.random() < 0.3:
        changes["policy"] = rng.choice(sorted(POLICIES))
    if now.routes:
        after = now.model_copy(update=changes)
        timeouts = {name: getattr(after.timeouts, name) for name in TIMEOUTS}
        limits = {name: getattr(after.limits, name) for name in ("replay_body_bytes", "body_bytes")}
        route = RouteRulesConfig.model_validate(of_routes(timeouts, limits))
        changes["defaults"] = now.defaults.model_copy(update={"route": route})
    return now.model_copy(update=changes)


def with_hedging(seed: int, config: LoadBalancerConfig) -> LoadBalancerConfig:
    """The same with hedging in three towns of five, and with waits before retries in one of three, from a stream of its own."""
    rng = random.Random(f"{seed}/hedging")
    hedges, waits = rng.random() < 0.6, rng.random() < 0.35
    delay_s, backoff_s = rng.choice([0.001, 0.005, 0.02, 0.1]), rng.choice([0.005, 0.05, 0.5])
    tables: dict[str, object] = {}
    if hedges:
        tables["hedge"] = config.hedge.model_copy(update={"delay_s": delay_s})
    if hedges and rng.random() < 0.15:  # and nobody pays for it
        tables["retry"] = config.retry.model_copy(update={"budget_percent": 0, "budget_per_s": 0})
    elif waits:
        tables["retry"] = config.retry.model_copy(update={"backoff_s": backoff_s})
    return config.model_copy(update=tables)
