"""A balancer as its admin API tells of it: 19 backends in 3 pools, some of them in trouble, on the 25th of November 2026."""

from typing import Any

NOW = 1795616220.0
UP_S = 533000.0

# name, address, weight, limit, in flight, tunnels, rate, share, meant, errors, p50, p99, reuse, last check in ms
BACKENDS = """\
app/b1     10.0.0.11:8000          1 64  7 0  88.4 25.1 25.0  0  11  118 .992 3.9
app/b2     10.0.0.12:8000          1 64  5 0  87.9 24.9 25.0  0  10  112 .993 4.6
app/b3     10.0.0.13:8000          1 64  4 2  88.6 25.1 25.0  1  12  131 .989 4.3
app/b4     10.0.0.14:8000          1 64  6 1  87.7 24.9 25.0  0  11  121 .991 3.2
api/a1     10.0.1.21:9000          2 64  8 0 118.4 18.3 18.2  0  10  125 .984 5.9
api/a2     10.0.1.22:9000          2 64  8 0 118.1 18.3 18.2  0  10  142 .982 5.2
api/a3     10.0.1.23:9000          1 32  2 0  58.8  9.1  9.1  0  12  149 .992 5.3
api/a4     10.0.1.24:9000          1 32  0 1     0    0    0  0   -    -    - 4.3
api/a5     10.0.1.25:9000          1 32 31 0  52.8  8.2  9.1  2  24  412 .989 6.6
api/a6     10.0.1.26:9000          1 32  2 0  60.0  9.3  9.1  0   9  136 .988 5.9
api/a7     10.0.1.27:9000          1 32  0 0     0    0    0  9   -    -    - 3.1
api/a8     10.0.1.28:9000          1 32  4 0  60.0  9.3  9.1  0  11  128 .981 4.9
api/a9     10.0.1.29:9000          1 32  1 0     0    0    0 31   -    -    - 7.7
api/a10    10.0.1.30:9000          1 32  2 0  59.8  9.2  9.1  0  10  118 .987 5.3
api/a11    10.0.1.31:9000          1 32  4 0  59.4  9.2  9.1  0   9  127 .992 5.6
api/a12    10.0.1.32:9000          1 32  2 0  59.5  9.2  9.1  0  10  129 .984 5.0
static/s1  unix:/run/static-1.sock 1 64  4 0 120.9 41.6 41.7  0 2.1   18 .998 1.0
static/s2  unix:/run/static-2.sock 1 64  1 0  47.2 16.3 16.7  0 2.4   22 .924 1.0
static/s3  unix:/run/static-3.sock 1 64  3 0 122.3 42.1 41.7  0 2.0   17 .998 1.0
"""
# Those that are not plainly ready: state, since, effective weight, whether usable, reason.
TROUBLE = {
    "api/a4": ("drained", 296.0, 0.0, False, ""),
    "api/a5": ("ready", UP_S, 1.0, True, "full, passed over 388 times in a minute"),
    "api/a7": ("down", 41.0, 0.0, False, "check: 500 Internal Server Error, 44 times"),
    "api/a9": ("ejected", 48.0, 0.0, False, "5 failures in a row: no response; back in 12 s"),
    "static/s2": ("slow start", 24.0, 0.4, True, "40 % of its weight, full in 36 s"),
}
CLAUSES = [
    ("api/a4", "drained", "for 5 min, alice: “deploy 2026.11.4”; 1 tunnel left"),
    ("api/a7", "down", "for 41 s, check: 500 Internal Server Error, 44 times"),
    ("api/a9", "ejected", "for 48 s, 5 failures in a row; back in 12 s"),
    ("api/a5", "full", "31 of 32, passed over 388 times in a minute"),
    ("static/s2", "slow start", "for 24 s, 40 % of its weight, full in 36 s"),
]
POOLS = {
    "app": ("least", "GET /health every 2 s", 200, 4, 352.6, 1, 126.0),
    "api": ("rr", "GET /ready every 1 s", 400, 9, 646.8, 42, 204.0),
    "static": ("rr", "GET / every 2 s", 200, 3, 290.4, 0, 19.0),
}
DEPLOY = {"actor": "alice (uid 1004)", "at": 1795615924.0, "reason": "deploy 2026.11.4"}


def backend(line: str) -> dict[str, Any]:
    name, address, *numbers = line.split()
    weight, limit, in_flight, tunnels, rate, share, meant, errors, p50, p99, reuse, ms = (
        None if one == "-" else float(one) for one in numbers
    )
    state, since, effective, usable, reason = TROUBLE.get(name, ("ready", UP_S, weight, True, ""))
    drained, passed = state == "drained", state != "down"
    return {
        "name": name,
        "pool": name.partition("/")[0],
        "backend": name.partition("/")[2],
        "address": address,
        "labels": {},
        "weight": int(weight),
        "weight_effective": effective,
        "limit": int(limit),
        "in_flight": int(in_flight),
        "tunnels": int(tunnels),
        "requests": 100_000,
        "failures": 3,
        "outcomes": {"OK": 99_997, "REFUSED": 3},
        "admin": "drain" if drained else "ready",
        "up": passed,
        "known": True,
        "ejected": state == "ejected",
        "usable": usable,
        "available": usable,
        "state": state,
        "since_s": since,
        "reason": reason,
        "by": DEPLOY if drained else None,
        "rate": rate,
        "share": share,
        "intended": meant,
        "errors_60s": int(errors),
        "p50_ms": p50,
        "p99_ms": p99,
        "reuse": reuse,
        "checks": [{"at": NOW - 1, "passed": passed, "what": "200" if passed else "500", "ms": ms}],
        "connections": {"http1": 4, "http2": 0, "calls": 0, "chose": ""},
        "sources": {"admin": "runtime" if drained else "default", "weight": "lb.toml:14", "backend": "lb.toml:14"},
    }


def pool(name: str) -> dict[str, Any]:
    policy, check, queue, usable, rate, errors, p99 = POOLS[name]
    backends = [backend(line) for line in BACKENDS.splitlines() if line.startswith(f"{name}/")]
    return {
        "name": name,
        "policy": policy,
        "check": check,
        "queued": 0,
        "queue": queue,
        "usable": usable,
        "rate": rate,
        "errors_60s": errors,
        "p99_ms": p99,
        "in_flight": sum(one["in_flight"] for one in backends),
        "targets": None,
        "backends": backends,
        "leaving": [],
    }


def listener(name: str, address: str, connections: int, rate: float) -> dict[str, Any]:
    counted = {"connections": connections, "limit": 8112, "accepted": 99_999, "rate": rate, "refused": 1}
    return {"name": name, "addresses": [address], **counted}


def status() -> dict[str, Any]:
    """What GET /v1/status answers."""
    return {
        "now": NOW,
        "name": "edge-1",
        "version": "0.9.0",
        "build": "compiled",
        "pid": 1,
        "ready": True,
        "ready_text": "ready",
        "workers": [],
        "worker_restarts": 0,
        "uptime_s": UP_S,
        "generation": 42,
        "loaded_at": 1795615510.0,
        "loaded_by": "bob (uid 1005)",
        "etag": "19ab1f2.42.2",
        "scope": "change",
        "actor": "alice (uid 1004)",
        "file": {"path": "lb.toml", "changed_s": 178.0},
        "verdict": {
            "level": "partly",
            "text": "3 of 19 backends are not used; every pool answers.",
            "clauses": [dict(zip(("subject", "state", "text"), one, strict=True)) for one in CLAUSES],
        },
        "listeners": [listener("web", "0.0.0.0:8080", 412, 37.0), listener("internal", "127.0.0.1:8081", 9, 0.4)],
        "routes": [],
        "pools": [pool(name) for name in POOLS],
        "changes": [
            {**DEPLOY, "subject": "api/a4", "change": "ready → drain"},
            {**DEPLOY, "subject": "api/a1", "change": "weight 1 → 2", "reason": "bigger machine"},
        ],
    }


DAY_S = 86_400.0
WWW = "/etc/letsencrypt/live/www.example.com/fullchain.pem"


def certificate(*names, days, file=WWW, flaws=(), listener="web", key_type="ECDSA"):
    return {
        "listener": listener,
        "names": list(names),
        "key_type": key_type,
        "issuer": "CN=R11,O=Let's Encrypt,C=US",
        "not_before": NOW - 60 * DAY_S,
        "expires_at": NOW + days * DAY_S,
        "file": file,
        "fingerprint": "90d7e3c1" * 8,
        "flaws": list(flaws),
    }


def flaw(text, *, kind="expires soon", grave=False):
    return {"kind": kind, "text": text, "grave": grave}


SOON = flaw("/etc/twisted-lb/tls/api.pem: expires in 12 days, on 2026-12-08")

EVENTS = [
    {"id": at, "at": NOW - before, "kind": kind, "subject": subject, "text": text, "actor": actor}
    for at, (before, kind, subject, text, actor) in enumerate(
        [
            (509, "ejected", "api/a9", "5 failures in a row: no response; out for 30 s", ""),
            (479, "up", "api/a9", "its 30 s are over; on trial", ""),
            (464, "admin", "api/a1", "weight 1 → 2: “bigger machine”", "alice (uid 1004)"),
            (296, "admin", "api/a4", "ready → drain: “deploy 2026.11.4”", "alice (uid 1004)"),
            (178, "changed", "lb.toml", "changed on disk; not loaded", ""),
            (100, "down", "static/s2", "3 checks failed in a row: connection refused", ""),
            (48, "ejected", "api/a9", "5 failures in a row: no response; out for 60 s (2nd time)", ""),
            (41, "down", "api/a7", "3 checks failed in a row: 500 Internal Server Error", ""),
            (24, "up", "static/s2", "2 checks passed in a row", ""),
        ],
        start=801,
    )
]

# What a reload would do.
LINES = [
    "+ backend app/b5 10.0.0.15:8000           shares in app 25 % → 20 % each",
    "~ pool api: slow_start.window_s 60.0 -> 30.0",
    "- backend static/s3                       3 requests go on; the other two +71 %",
    "= keeps: drain of api/a4, weight 2 of api/a1 (alice)",
    "0 connections are cut, 0 % of hash keys move, no listener changes",
]
PLAN = {"applied": False, "changed": True, "lines": LINES, "generation": 42, "etag": "19ab1f2.42.2"}

# The configuration as `lbctl config --sources` prints it.
CONFIG = """\
KEY                            VALUE           SOURCE
listeners.web.address          0.0.0.0:8080    lb.toml:6
listeners.internal.address     127.0.0.1:8081  lb.toml:9
limits.connections_per_client  100             lb.toml:12
limits.connections             8,112           default: half of the descriptors
pools.app.policy               least           lb.toml:16
pools.api.policy               rr              lb.toml:23
pools.api.queue.no_backend_s   5               lb.toml:27
pools.api.backends.a1.weight   2               runtime by alice, 14:09, “bigger machine”
pools.api.backends.a4.admin    drain           runtime by alice, 14:12, “deploy 2026.11.4”
pools.api.slow_start.window_s  60              lb.toml:28
retry.more_attempts            2               default
retry.budget_percent           20              default
timeouts.attempt_s             30              --attempt-timeout
admin.address                  127.0.0.1:8090  --admin
admin.tokens.ops               ***             credential admin-token
log.format                     json            env LB_LOG_FORMAT
"""
VALUES = [dict(zip(("key", "value", "source"), line.split(None, 2), strict=True)) for line in CONFIG.splitlines()[1:]]


def candidate(name: str, load: int, limit: int, **more: Any) -> dict[str, Any]:
    told = {"backend": name, "skipped": None, "state": "ready", "rank": 1.0, "load": load, "limit": limit}
    return told | {"weight": 1, "reason": "", "for_s": 0.0, "left_s": None} | more


ROUTED = {
    "listener": "web",
    "looked_at": [
        {"n": 1, "name": "v1", "matches": False, "why": "host is x.org, not api.example.com", "place": "lb.toml:34"},
        {"n": 2, "name": "v2", "matches": False, "why": "path does not begin with /static/", "place": "lb.toml:39"},
        {"n": 3, "name": "v3", "matches": True, "why": "POST /upload*", "place": "lb.toml:43"},
    ],
    "route": "v3",
    "action": "pool",
    "status": None,
    "pool": "app",
    "decision": {
        "pool": "app",
        "picked": "app/b3",
        "waits": False,
        "trial": False,
        "rule": "least; no key",
        "candidates": [
            candidate(f"app/{name}", load, 64) for name, load in (("b3", 4), ("b2", 5), ("b4", 6), ("b1", 7))
        ],
    },
}
DRAINED = "by alice: “deploy 2026.11.4”"
_TIMES = {
    "queue_s": 0.0,
    "connect_s": 0.001,
    "first_byte_s": 1.203,
    "rest_s": None,
    "began_s": 0.0,
    "took_s": 1.204,
}
RETRIED = {
    "id": "9f2c41d07be6a853",
    "at": NOW - 47.896,
    "method": "GET",
    "path": "/v1/items",
    "query": False,
    "status": 200,
    "outcome": "OK",
    "running": False,
    "local_reply": False,
    "detail": "",
    "client": "203.0.113.40",
    "listener": "web",
    "route": "v1",
    "pool": "api",
    "attempts": [
        {
            "backend": "api/a9",
            "outcome": "NO_RESPONSE",
            "reason": "closed before the head of its answer",
            "number": 1,
            "most": 3,
            "retried": "",
            "reused": False,
            "budget_left": None,
            **_TIMES,
            "then": "ejected for 60 s: 5 failures in a row",
            "decision": {"rule": "its turn, the highest current value (12); next a2 (11), a1 (9)"},
        },
        {
            "backend": "api/a2",
            "outcome": "OK",
            "reason": "",
            "number": 2,
            "most": 3,
            "retried": "GET may be repeated",
            "reused": True,
            "budget_left": 14,
            **_TIMES,
            "first_byte_s": 0.031,
            "rest_s": 0.002,
            "began_s": 1.204,
            "took_s": 0.033,
            "decision": {"rule": "its turn without a9 (11)"},
        },
    ],
    "skipped": [
        candidate("api/a4", 0, 32, skipped="taken out by the operator", state="drained", reason=DRAINED, for_s=248.0)
    ],
    "candidates": [
        candidate(f"api/{name}", load, 64 if name in ("a1", "a2") else 32)
        for name, load in zip(
            ("a1", "a2", "a3", "a5", "a6", "a8", "a7", "a10", "a11", "a12"),
            (6, 5, 3, 30, 2, 2, 2, 2, 2, 2),
            strict=True,
        )
    ],
    "note": [],
    "queue_s": 0.0,
    "head_s": 1.235,
    "took_s": 1.237,
    "response_bytes": 4198,
}
EJECTED = "5 failures in a row: no response"
FULL = "as many requests in flight as it may have"
OVERLOADED = RETRIED | {
    "id": "c3519af07d2e8b64",
    "at": NOW - 495.69,
    "path": "/v1/search",
    "status": 503,
    "outcome": "OVERLOADED",
    "local_reply": True,
    "client": "198.51.100.23",
    "attempts": [],
    "skipped": [
        *(
            candidate(f"api/a{n}", limit, limit, skipped=FULL, state="full")
            for n, limit in [(1, 64), (2, 64), *((n, 32) for n in (3, 4, 5, 6, 7, 8, 10, 11, 12))]
        ),
        candidate("api/a9", 2, 32, skipped="ejected by traffic", state="ejected", reason=EJECTED, left_s=17.2),
    ],
    "candidates": [],
    "note": [
        "it came to the queue as number 23, and waited 5.00 s",
        "no backend was asked",
        "11 of 12 usable, all full: 416 of 416 in flight",
    ],
    "took_s": 5.0,
}
