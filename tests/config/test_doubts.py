"""What a configuration may say, and probably does not mean."""

from typing import Any

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import CODES, doubts, not_resolved, older_names
from twisted_lb.config.load import from_flags

WEB = {"web": {"address": ":1"}}
FOUR = [f"10.0.0.{n}:80" for n in range(1, 5)]
APP = {"app": {"backends": ["a:80", "b:80"]}}
TO_APP = [{"pool": "app"}]
SECRET = "a secret of the house"
# What is doubted about the files of certificates: see test_certificate_doubts.
IN_FILES = {"W61", "W62", "W63", "W64", "W65", "W66"}
MIRRORED = {"live": {"backends": ["a:80"], "mirror": {"to": "next"}}}
TO_MIRRORED = {"listeners": WEB, "routes": [{"pool": "live"}]}


def doubted(**tables: Any) -> list[str]:
    if "pools" not in tables:
        tables = {"backends": ["a:80"], **tables}
    return [str(one) for one in doubts(LoadBalancerConfig.model_validate(tables), 20_000, 9_980, cpus=2)]


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"listeners": WEB, "pools": APP, "routes": TO_APP},
        {"listeners": {"web": {"address": ":1", "default_pool": "app"}}, "pools": APP},
        {"pools": {**MIRRORED, "next": {"backends": ["b:80"]}}, **TO_MIRRORED},
        {"profile": "wsgi"},
        {"profile": "inference", "timeouts": {"response_head_s": 900.0}},
    ],
    ids=["flat", "by name", "a pool by default", "a mirror", "a profile", "another one"],
)
def test_nothing_is_doubtful_about_the_defaults(tables):
    assert doubted(**tables) == []


def passed_as(path: str, who: str, remedy: str = "there", number: int = 0) -> str:
    return (
        f"routes[{number}]: {path} is led past it by {who}, and many servers read %2F as a slash: "
        f'encoded_slash = "refuse" {remedy} gives it 400   [W17]'
    )


UNSAID = "listeners: none is given: port 80 is listened on; [listeners.NAME], [listen] or --port says where   [W19]"

FLAGGED: dict[str, dict[str, str | list[str]]] = {"none": {}, "port": {"--port": "8080"}}

DOUBTFUL: list[tuple[dict[str, Any], str]] = [
    (
        {"workers": 3},
        "workers: 3 workers, and there are 2 CPUs for them: each request costs more, and none is faster   [W81]",
    ),
    (
        {
            "listen": {"port": 443},
            "tls": {"certificates": "self-signed", "policy": "modern", "ciphers": "ECDHE+AESGCM"},
        },
        'tls.ciphers: has no effect: policy = "modern" speaks TLS 1.3 alone, whose ciphers are OpenSSL\'s own   [W60]',
    ),
    (
        {
            "listeners": {
                "web": {
                    "address": ":443",
                    "tls": {"certificates": "self-signed", "hosts": {"a.b": {"client_ca": "ca.pem"}}},
                }
            },
            "pools": APP,
            "routes": TO_APP,
        },
        'listeners.web.tls.hosts."a.b".client_ca: has no effect: client_certificate = "off" asks nobody for one   [W60]',
    ),
    (
        {"tls": {"certificates": "off", "crl": "revoked.pem"}},
        "tls.crl: has no effect: there are no certificates, and the listener speaks plain HTTP   [W60]",
    ),
    (
        {
            "listeners": WEB,
            "pools": {"app": {"backends": ["a:80", "b:80"], "tls": {"verify": False}}},
            "routes": TO_APP,
        },
        "pools.app.tls.verify: false: whoever answers is taken for a backend of this pool   [W68]",
    ),
    (
        {"listeners": WEB, "pools": {"app": {"backends": ["a:80", "b:443"]}}, "routes": TO_APP},
        "pools.app.backends[1]: b:443 is spoken to in plain HTTP: there is no [pools.X.tls]   [W70]",
    ),
    (
        {"listeners": WEB, "pools": {"app": {"backends": ["a:443", "10.0.0.1:443"], "tls": {}}}, "routes": TO_APP},
        "pools.app.tls: verifies the address 10.0.0.1, and the CAs of the system certify names: say server_name   [W71]",
    ),
    (
        {"protocol": "tcp", "client_half_close": "finish"},
        'client_half_close: has no effect: protocol = "tcp"   [W73]',
    ),
    (
        {
            "listeners": {"db": {"address": ":1", "protocol": "tcp"}},
            "pools": APP,
            "routes": [{"listeners": "db", "pool": "app", "strip_prefix": "/v1"}],
        },
        "routes[0].strip_prefix: has no effect: its connections are carried as they are   [W73]",
    ),
    (
        {
            "listeners": {"db": {"address": ":1", "protocol": "tcp", "default_pool": "app"}},
            "pools": {"app": {"backends": ["a:80", "b:80"], "affinity": {"cookie": True, "secret": SECRET}}},
        },
        "pools.app.affinity.cookie: has no effect: the connections to this pool are carried as they are   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80", "b:80"], "hedge": {"delay_s": 1}},
        "hedge: has no effect: the connections to this pool are carried as they are   [W73]",
    ),
    (
        {
            "listeners": {"db": {"address": ":1", "protocol": "tcp"}},
            "pools": {"app": {"backends": ["a:80", "b:80"], "policy": "maglev"}},
            "routes": [{"listeners": "db", "pool": "app", "key": {"header": "X-User"}}],
        },
        "routes[0].key: has no effect: its connections are carried as they are, and go by their client   [W73]",
    ),
    (
        {
            "listeners": {"db": {"address": ":1", "protocol": "tcp"}},
            "pools": APP,
            "routes": [
                {
                    "listeners": "db",
                    "pool": "app",
                    "rate_limits": [{"per_s": 1}, {"per_s": 1, "key": {"header": "X-User"}}],
                }
            ],
        },
        "routes[0].rate_limits[1].key: has no effect: its connections are carried as they are, and go by their client   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80"], "max_in_flight": 1, "queue": {"fair_by": {"header": "X-User"}}},
        "queue.fair_by: has no effect: the connections to this pool are carried as they are, and go by their client   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80"], "max_in_flight": 1, "queue": {"priority_by": {"header": "Priority"}}},
        "queue.priority_by: has no effect: the connections to this pool are carried as they are, and go by their client   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80", "b:80"], "policy": "prefix"},
        "policy: has nothing to go by: the connections to this pool are carried as they are   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80", "b:80"], "policy": {"choose": "two", "load": "reported"}},
        "policy: has nothing to go by: the connections to this pool are carried as they are   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80"], "timeouts": {"handshake_s": 5, "head_s": 5, "tunnel_idle_s": 9}},
        'timeouts.head_s: has no effect: protocol = "tcp"   [W73]',
    ),
    (
        {"protocol": "tcp", "backends": ["a:80"], "limits": {"connections": 5, "client_bytes_per_s": 500}},
        'limits.client_bytes_per_s: has no effect: protocol = "tcp"   [W73]',
    ),
    (
        {"protocol": "tcp", "backends": ["a:80"], "timeouts": {"deadline_header": "X-Deadline"}},
        'timeouts.deadline_header: has no effect: protocol = "tcp"   [W73]',
    ),
    (
        {
            "listeners": {"db": {"address": ":1", "protocol": "tcp", "default_pool": "app"}},
            "pools": {"app": {"backends": ["a:80", "b:80"], "limits": {"head_bytes": 5000}}},
        },
        "pools.app.limits.head_bytes: has no effect: the connections to this pool are carried as they are   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80", "b:80"], "max_in_flight": 3, "abandoned_s": 5},
        "abandoned_s: has no effect: the connections to this pool are carried as they are   [W73]",
    ),
    (
        {"protocol": "tcp", "backends": ["a:80", "b:80"], "policy": "maglev", "key": {"header": "X-User"}},
        'key: has no effect: protocol = "tcp", and connections go by their client   [W73]',
    ),
    (
        {"protocol": "tcp", "backends": ["a:80"], "timeouts": {"tunnel_idle_s": 60, "response_idle_s": 5}},
        'timeouts.response_idle_s: has no effect: protocol = "tcp"   [W73]',
    ),
    (
        {
            "listeners": {"db": {"address": ":1", "protocol": "tcp"}},
            "pools": {"app": {"backends": ["a:5432"], "tls": {"ca": "ca.pem"}}},
            "routes": [{"sni": "a.b", "pool": "app"}],
        },
        "routes[0].sni: the TLS of its clients goes inside the TLS of the pool app   [W74]",
    ),
    (
        {"listeners": WEB, "pools": APP, "routes": [*TO_APP, {"sni": "a.b", "pool": "app"}]},
        "routes[1].sni: leads nobody: no listener has tls.certificates or carries TCP   [W75]",
    ),
    (
        {"forwarding": {"proxy_protocol_from": ["10.0.0.0/8"]}},
        "forwarding.proxy_protocol_from: has no effect: proxy_protocol is off   [W72]",
    ),
    (
        {
            "listeners": {"web": {"address": "unix:/run/lb.sock", "tcp_keepalive": True}},
            "pools": APP,
            "routes": TO_APP,
        },
        "listeners.web.tcp_keepalive: has no effect: there are unix sockets alone, whose peers cannot go unnoticed   [W78]",
    ),
    (
        {
            "listeners": WEB,
            "pools": {"app": {"backends": ["unix:/run/a.sock"], "tcp_keepalive": {"idle_s": 5}}},
            "routes": TO_APP,
        },
        "pools.app.tcp_keepalive: has no effect: there are unix sockets alone, whose peers cannot go unnoticed   [W78]",
    ),
    (
        {"backends": FOUR, "leave_backups": True},
        "leave_backups: has no effect: the pool has no backups beside other backends   [W79]",
    ),
    (
        {"backends": FOUR, "protocol": "tcp", "max_in_flight": "adaptive"},
        (
            "max_in_flight: adaptive learns from how quickly backends accept: answers in a connection that is carried as it is are "
            "not seen   [W80]"
        ),
    ),
    (
        {"forwarding": {"proxy_protocol": "trusted", "proxy_protocol_from": ["0.0.0.0/0"]}},
        "forwarding.proxy_protocol_from: 0.0.0.0/0 is everybody: each client can say to be anybody   [W10]",
    ),
    (
        {"tls": "self-signed"},
        "tls.certificates: port 80 speaks TLS: browsers look for it at port 443   [W67]",
    ),
    (
        {
            "listen": {"port": 443},
            "tls": {"certificates": "self-signed", "ciphers": "ADH-AES128-GCM-SHA256:@SECLEVEL=0"},
        },
        "tls.ciphers: selects what anybody can read or change: ADH-AES128-GCM-SHA256   [W69]",
    ),
    (
        {"health_check": {"interval_s": 1, "timeout_s": 5}},
        "health_check.timeout_s: 5 is not shorter than interval_s = 1: a backend that does not answer is checked more seldom   [W07]",
    ),
    (
        {"health_check": {"interval_s": 5, "timeout_s": 5}},
        "health_check.timeout_s: 5 is not shorter than interval_s = 5: a backend that does not answer is checked more seldom   [W07]",
    ),
    (
        {
            "listeners": WEB,
            "pools": {"default": {"backends": ["a:80"], "health_check": {"interval_s": 1, "timeout_s": 5}}},
        },
        (
            "pools.default.health_check.timeout_s: 5 is not shorter than interval_s = 1: a backend that does not answer is checked "
            "more seldom   [W07]"
        ),
    ),
    (
        {"health_check": {"script": "redis", "path": "/up"}},
        "health_check.path: has no effect: a script sends what it says itself   [W76]",
    ),
    (
        {"health_check": {"script": "mysql"}},
        (
            "health_check.script: mysql without a user: servers count connections that end before a login, and block who has too many "
            '(max_connect_errors); name one that has no password, { preset = "mysql", user = "check" }   [W77]'
        ),
    ),
    (
        {"health_check": {"kind": "tcp", "path": "/up"}},
        'health_check.path: has no effect: kind = "tcp" only connects   [W08]',
    ),
    (
        {"timeouts": {"attempt_s": 100, "response_head_s": 10}},
        "timeouts.attempt_s: 100 has no effect: response_head_s = 10 bounds all attempts together   [W09]",
    ),
    (
        {"routes": [{"path": "/x", "pool": "default", "timeouts": {"attempt_s": 60}}]},
        "routes[0].timeouts.attempt_s: 60 has no effect: response_head_s = 60 bounds all attempts together   [W09]",
    ),
    (
        {"limits": {"connections": 15_000}},
        (
            "limits.connections: 15000 is more than 20000 descriptors are enough for: above 9980 clients, each with a connection to "
            "a backend, requests get a 503   [W12]"
        ),
    ),
    (
        {
            "listeners": {
                "a": {"address": ":1", "limits": {"connections": 5_000}},
                "b": {"address": ":2", "limits": {"connections": 6_000}},
            }
        },
        (
            "listeners.b.limits.connections: 6000, 11000 with those of the other listeners, is more than 20000 descriptors are "
            "enough for: above 9980 clients, each with a connection to a backend, requests get a 503   [W12]"
        ),
    ),
    (
        {"limits": {"connections": 10, "connections_per_client": 11}},
        "limits.connections_per_client: 11 has no effect: connections = 10 is less   [W13]",
    ),
    (
        {"forwarding": {"trusted_proxies": ["10.0.0.0/8", "0.0.0.0/0"]}},
        "forwarding.trusted_proxies: 0.0.0.0/0 is everybody: each client can say to be anybody   [W10]",
    ),
    (
        {"listeners": {"web": {"address": ":1", "trusted_proxies": ["::/0"]}}},
        "listeners.web.trusted_proxies: ::/0 is everybody: each client can say to be anybody   [W10]",
    ),
    (
        {"backends": ["10.0.0.1:80"], "retry": {"bad_statuses": [503]}},
        "retry.bad_statuses: has no effect: 10.0.0.1:80 is the only backend   [W14]",
    ),
    (
        {"backends": ["a:80", "b:80"], "retry": {"more_attempts": 0, "backoff_s": 0.1}},
        "retry.backoff_s: has no effect: more_attempts = 0, and nothing is tried again   [W41]",
    ),
    (
        {"backends": ["a:80", "b:80"], "retry": {"backoff_most_s": 0.1}},
        "retry.backoff_most_s: has no effect: backoff_s is 0, and there is no wait   [W41]",
    ),
    (
        {"backends": ["a:80", "b:80"], "retry": {"retry_after_most_s": 3}},
        "retry.retry_after_most_s: has no effect: without bad_statuses no answer is a reason to try again   [W41]",
    ),
    (
        {"backends": ["10.0.0.1:80"], "hedge": {"percentile": 95}},
        "hedge.percentile: hedges nothing: 10.0.0.1:80 is the only backend   [W42]",
    ),
    (
        {"backends": ["a:80", "b:80"], "hedge": {"delay_s": 0.1}, "affinity": {"client": True}},
        "hedge.delay_s: hedges nothing: affinity binds the requests, and another backend knows no session of theirs   [W42]",
    ),
    (
        {"backends": ["a:80", "b:80"], "hedge": {"delay_s": 0.1}, "retry": {"more_attempts": 0}},
        "hedge.delay_s: hedges nothing: a hedge is one of the attempts, and more_attempts = 0   [W42]",
    ),
    (
        {"backends": ["a:80", "b:80"], "hedge": {"delay_s": 0.1}, "retry": {"budget_percent": 0, "budget_per_s": 0}},
        "hedge.delay_s: hedges nothing: the retry budget pays for it, and there is none   [W42]",
    ),
    (
        {"backends": ["a:80", "b:80"], "hedge": {"percentile": 75}},
        "hedge.percentile: hedges 25 % of the requests, and budget_percent = 20 pays for no more than that   [W43]",
    ),
    (
        {"backends": ["a:80", "b:80"], "hedge": {"percentile": 95, "delay_s": 0.5}},
        "hedge.percentile: has no effect: delay_s says when   [W44]",
    ),
    ({"backends": ["a:80,weight=0", "b:80,weight=0"]}, "backends: nobody gets a request: every weight is 0   [W23]"),
    (
        {"backends": [{"address": "a:80", "backup": True}, {"address": "b:80", "backup": True}]},
        "backends: every backend is a backup: none is kept back   [W24]",
    ),
    (
        {"panic": {"even_down": True}},
        "panic.even_down: has no effect: threshold_percent is 0, and there is no panic   [W29]",
    ),
    (
        {"backends": ["a:80", "b:80"], "queue": {"when_full": "spill"}},
        "queue.when_full: spill has no effect: all backends are of one level, and there is none to go on to   [W30]",
    ),
    (
        {"policy": {"choose": "two", "load": "cost"}},
        "policy: counts requests: no route that leads here gives a cost   [W31]",
    ),
    (
        {"shadow": {"policy": {"choose": "scan", "load": "cost"}}},
        "shadow.policy: counts requests: no route that leads here gives a cost   [W31]",
    ),
    (
        {"backends": FOUR, "policy": {"choose": "prefix", "load_factor": 0}},
        "policy: load_factor = 0 without max_in_flight: all prompts that begin alike go to one backend   [W38]",
    ),
    (
        {"backends": FOUR, "policy": {"choose": "prefix", "blocks": 1_000_000}},
        "policy: blocks = 1000000 of 4 backends may take 600 MB of memory   [W39]",
    ),
    (
        {"backends": ["a:80"], "policy": "prefix"},
        "policy: waits for bodies to no effect: a:80 is the only backend   [W40]",
    ),
    (
        {"backends": ["a:80"], "shadow": {"policy": "prefix"}},
        "shadow.policy: waits for bodies to no effect: a:80 is the only backend   [W40]",
    ),
    (
        {"backends": FOUR, "ejection": {"success_rate_factor": 1.9}},
        "ejection.success_rate_factor: has no effect: min_backends = 5, and the pool has 4   [W22]",
    ),
    (
        {"backends": FOUR, "ejection": {"failure_percent": 85}},
        "ejection.failure_percent: has no effect: min_backends = 5, and the pool has 4   [W22]",
    ),
    (
        {"backends": FOUR, "ejection": {"success_rate_factor": 1.9, "min_backends": 3}},
        (
            "ejection.success_rate_factor: has no effect: of 4 backends none is ever more than 1.732 standard deviations below the "
            "mean   [W22]"
        ),
    ),
    (
        {"pools": APP, "routes": [{"pool": "app", "fallback": "app"}], "listeners": WEB},
        "routes[0].fallback: app is the pool that the route leads to   [W15]",
    ),
    ({"policy_budget_us": 5}, "policy_budget_us: has no effect: rr is a built-in, and no policy of your own   [W26]"),
    (
        {"backends": ["a:80"], "max_in_flight": 8, "adaptive": {"least": 2}},
        'adaptive.least: has no effect: max_in_flight = 8, and not "adaptive"   [W32]',
    ),
    (
        {"pools": {"app": {"backends": ["a:80"], "adaptive": {"most": 9}}}, "routes": TO_APP, "listeners": WEB},
        'pools.app.adaptive.most: has no effect: max_in_flight = 0, and not "adaptive"   [W32]',
    ),
    (
        {"backends": ["a:80"], "max_in_flight": "adaptive", "queue": {"length": 0}},
        (
            "max_in_flight: adaptive without a queue: while a limit is low, as it is when it is measured, what is beyond it gets 503"
            "   [W32]"
        ),
    ),
    (
        {"backends": ["a:80"], "max_in_flight": "adaptive", "queue": {"timeout_s": 0}},
        (
            "max_in_flight: adaptive without a queue: while a limit is low, as it is when it is measured, what is beyond it gets 503"
            "   [W32]"
        ),
    ),
    (
        {"backends": ["b:80", {"address": "a:80", "max_in_flight": "adaptive"}], "queue": {"timeout_s": 0}},
        (
            "backends[1].max_in_flight: adaptive without a queue: while a limit is low, as it is when it is measured, what is beyond "
            "it gets 503   [W32]"
        ),
    ),
    (
        {"backends": ["a:80"], "abandoned_s": 30},
        "abandoned_s: has no effect: without max_in_flight there are no places to be held   [W33]",
    ),
    (
        {"backends": ["a:80"], "profile": "wsgi", "buffer_request_bytes": 0},
        "buffer_request_bytes: 0 leaves workers to slow clients: wsgi keeps them away   [W47]",
    ),
    (
        {"backends": ["a:80"], "profile": "wsgi", "defaults": {"pool": {"buffer_response_bytes": 0}}},
        "defaults.pool.buffer_response_bytes: 0 leaves workers to slow clients: wsgi keeps them away   [W47]",
    ),
    (
        {"backends": ["a:80"], "profile": "inference", "buffer_response_bytes": 9},
        (
            "buffer_response_bytes: 9: inference reads nothing ahead, so that nothing is made for clients that leave   [W47]"
        ),
    ),
    (
        {"backends": ["a:80"], "profile": "inference", "timeouts": {"response_head_s": 60.0}},
        (
            "timeouts.response_head_s: 60 is less than the 600 of inference, the profile of default: longer answers are cut"
            "   [W48]"
        ),
    ),
    (
        {"backends": ["a:80"], "profile": "inference", "defaults": {"route": {"timeouts": {"response_idle_s": 90.0}}}},
        (
            "defaults.route.timeouts.response_idle_s: 90 is less than the 120 of inference, the profile of default: longer answers "
            "are cut   [W48]"
        ),
    ),
    (
        {"pools": {**MIRRORED, "next": {"backends": ["b:80", "a:80"]}}, **TO_MIRRORED},
        "pools.live.mirror.to: a:80 is in both pools: it may get the same request twice   [W45]",
    ),
    (
        {
            "pools": {
                "live": {"backends": ["a:80"], "mirror": {"to": "next", "body_bytes": 9}},
                "next": {"backends": ["b:80"]},
            },
            **TO_MIRRORED,
        },
        "pools.live.mirror.body_bytes: has no effect: methods = GET, HEAD, which have no bodies as a rule   [W46]",
    ),
    (
        {"backends": ["a:80"], "buffer_response_bytes": 2000, "limits": {"memory_bytes": 1000}},
        "buffer_response_bytes: 2000 is more than limits.memory_bytes = 1000, which all clients share   [W53]",
    ),
    (
        {"affinity": {"cookie": True}},
        "affinity.cookie: no secret is given: cookies hold until the process ends, and for no other balancer   [W34]",
    ),
    (
        {"defaults": {"pool": {"affinity": {"cookie": "lb"}}}},
        "defaults.pool.affinity.cookie: no secret is given: cookies hold until the process ends, and for no other balancer   [W34]",
    ),
    (
        {"affinity": {"header": "X-User", "secret": SECRET}},
        "affinity.secret: has no effect: nothing is signed: requests are bound by header   [W35]",
    ),
    (
        {"affinity": {"cookie": "lb", "secret": SECRET, "most": 5}},
        "affinity.most: has no effect: a cookie takes no room: its client keeps it   [W35]",
    ),
    (
        {"affinity": {"drain_s": 5}},
        "affinity.drain_s: has no effect: requests are bound by nothing: cookie, header, client or learn says by what   [W35]",
    ),
    (
        {"affinity": {"client": True, "when_full": "wait"}},
        "affinity.when_full: has no effect: without max_in_flight no backend is ever full   [W35]",
    ),
    (
        {"affinity": {"client": True, "when_full": "wait"}, "max_in_flight": 8, "queue": {"timeout_s": 0}},
        "affinity.when_full: has no effect: the queue lets nobody wait   [W35]",
    ),
    (
        {"affinity": {"cookie": {"same_site": "none", "secure": "never"}, "secret": SECRET}},
        (
            "affinity.cookie.same_site: SameSite=None without Secure: browsers throw it away; "
            'same_site = "auto" is right for both schemes   [W36]'
        ),
    ),
    (
        {
            "listeners": WEB,
            "pools": {
                name: {"backends": [f"{name}:80"], "affinity": {"cookie": "lb", "secret": SECRET}}
                for name in ("one", "two")
            },
            "routes": [{"path": "/1", "pool": "one"}, {"pool": "two"}],
        },
        "pools.two.affinity.cookie: lb is the cookie of the pool one too: without a name each has its own   [W37]",
    ),
    ({"checks": {"x": {}}}, "checks.x: no pool names them   [W16]"),
    ({"pools": APP, "routes": TO_APP}, UNSAID),
    (
        {"backends": ["10.0.0.1:80", "10.0.0.2:80"], "policy": "first"},
        "policy: first without max_in_flight: the backends after the first one only stand by   [W21]",
    ),
    (
        {"health_check": {"interval_s": 0, "agent": "header"}},
        "health_check.agent: has no effect: interval_s = 0 turns checks off   [W28]",
    ),
    (
        {"health_check": {"interval_s": 0, "busy_statuses": [429]}},
        "health_check.busy_statuses: has no effect: interval_s = 0 turns checks off   [W28]",
    ),
    (
        {"health_check": {"agent": "body", "agent_header": "X-State"}},
        'health_check.agent_header: has no effect: agent = "body" reads no header   [W28]',
    ),
    (
        {"backends": ["a:80", "unix:/run/a"], "health_check": {"agent_port": 9999}},
        "health_check.agent_port: has no effect: unix:/run/a is a unix socket   [W28]",
    ),
    ({"key": "path"}, "key: has no effect: default goes by rr, which looks at no key   [W27]"),
    (
        {"listeners": WEB, "pools": APP, "routes": [{"pool": "app", "key": "path"}]},
        "routes[0].key: has no effect: app goes by rr, which looks at no key   [W27]",
    ),
    (
        {"routes": [{"path": "/a", "answer": {"status": 503}, "key": "path"}]},
        "routes[0].key: has no effect: the route leads to no pool   [W27]",
    ),
    ({"log": {"format": "json"}}, "log.format: has no effect: without log.file there is no access log   [W20]"),
    (
        {"routes": [{"path": "/x", "pool": "default", "log": "json"}]},
        "routes[0].log: has no effect: without log.file there is no access log   [W20]",
    ),
    (
        {"defaults": {"listener": {"log": "json"}}},
        "defaults.listener.log: has no effect: without log.file there is no access log   [W20]",
    ),
    # Ways.
    (
        {"routes": [{"path_prefix": "/a", "pool": "default"}, {"path": "/a/b", "pool": "default"}]},
        "routes[1]: never reached: routes[0] takes every request that it could   [W03]",
    ),
    (
        {
            "listeners": {"a": {"address": ":1"}, "b": {"address": ":2"}},
            "pools": APP,
            "routes": [{"listeners": ["a", "b"], "pool": "app"}, {"host": "x.example.com", "pool": "app"}],
        },
        "routes[1]: never reached: routes[0] takes every request that it could   [W03]",
    ),
    (
        {
            "listeners": {"web": {"address": ":1", "default_pool": "app"}},
            "pools": {**APP, "other": {"backends": ["c:80"]}},
            "routes": [{"pool": "other"}],
        },
        "listeners.web.default_pool: app gets nothing: routes[0] takes every request   [W04]",
    ),
    (
        {"listeners": WEB, "pools": {**APP, "other": {"backends": ["c:80"]}}, "routes": TO_APP},
        "pools.other: nothing leads to the pool other   [W05]",
    ),
    (
        {"pools": APP, "routes": [{"pool": "app"}], "backends": ["a:80"]},
        "backends: nothing leads to the pool default   [W05]",
    ),
    (
        {"routes": [{"path_prefix": "/admin", "deny": True}, {"pool": "default"}]},
        passed_as("/admin%2Fx", "routes[1]"),
    ),
    (
        {"routes": [{"path_prefix": "/admin", "answer": {"status": 404}}]},
        passed_as("/admin%2Fx", "the default pool of default", "of [defaults.route]"),
    ),
    (
        {
            "routes": [
                {"path_prefix": "/admin", "pool": "default", "allow_clients": ["10.0.0.0/8"]},
                {"pool": "default"},
            ]
        },
        passed_as("/admin%2Fx", "routes[1]"),
    ),
    # Of those between, one leads to no pool, one refuses it, and one takes only some.
    (
        {
            "routes": [
                {"path_prefix": "/admin", "deny": True},
                {"method": "GET", "redirect": {"to": "https://x.example.com"}},
                {"path_prefix": ["/admin", "/b"], "pool": "default"},
                {"host": "a.example.com", "pool": "default", "encoded_slash": "refuse"},
                {"host": "*.example.com", "pool": "default"},
            ]
        },
        passed_as("/admin%2Fx", "routes[4]"),
    ),
    # Of a whole path another slash is left to escape, and further below the longest prefix.
    ({"routes": [{"path": "/a/b", "deny": True}, {"pool": "default"}]}, passed_as("/a%2Fb", "routes[1]")),
    (
        {"routes": [{"path": "/a/b", "deny": True}, {"path_prefix": "/a", "pool": "default"}, {"deny": True}]},
        passed_as("/a/%2Fb", "routes[1]"),
    ),
    ({"routes": [{"path": "/a", "deny": True}, {"pool": "default"}]}, passed_as("/%2Fa", "routes[1]")),
    # Where the route is reached, and not only where it is hidden.
    (
        {
            "listeners": {"a": {"address": ":1"}, "b": {"address": ":2"}},
            "pools": APP,
            "routes": [
                {"listeners": ["a"], "pool": "app"},
                {"path_prefix": "/x", "deny": True},
                {"pool": "app", "encoded_slash": "refuse", "method": "GET"},
                {"split": {"app": 1}},
            ],
        },
        passed_as("/x%2Fx", "routes[3]", number=1),
    ),
    (
        {
            "listeners": {"web": {"address": ":1"}, "other": {"address": ":2"}},
            "pools": APP,
            "routes": [{"listeners": ["web"], "pool": "app"}],
        },
        "listeners.other: leads to no pool   [W06]",
    ),
    (
        {"backends": [], "listen": {"port": 81}, "routes": [{"redirect": {"to": "https://x.example.com"}}]},
        "listen: leads to no pool   [W06]",
    ),
    (
        {
            "listeners": {"web": {"address": ":1"}, "inner": {"address": "unix:/run/lb"}},
            "pools": {"app": {"backends": ["unix:/run/lb"]}},
            "routes": TO_APP,
        },
        "pools.app.backends[0]: unix:/run/lb is the listener inner   [W11]",
    ),
]


@pytest.mark.parametrize(("tables", "said"), DOUBTFUL)
def test_a_doubt_says_where_it_is_and_what_comes_of_it(tables, said):
    assert said in doubted(**tables)


@pytest.mark.parametrize(("tables", "said"), DOUBTFUL)
def test_what_is_doubtful_for_one_reason_is_doubted_once(tables, said):
    others = [one for one in doubted(**tables) if one != said]
    # A pool that gets nothing because of a route is used by nobody, and a listener that a backend is leads round.
    assert all(one.endswith(("[W05]", "[W11]")) for one in others)


@pytest.mark.parametrize(
    "tables",
    [
        {"health_check": {"interval_s": 0, "timeout_s": 5}},  # nobody is checked
        {"health_check": {"interval_s": 0.1}},
        {"health_check": {"interval_s": 5, "timeout_s": 4.9}},
        {"timeouts": {"attempt_s": 9, "response_head_s": 10}},
        {"limits": {"connections": 9_980, "connections_per_client": 9_980}},
        {"limits": {"connections_per_client": 100_000}},
        {"forwarding": {"trusted_proxies": ["10.0.0.0/8", "fd00::/8"]}},
        {"backends": ["app.internal:80"], "retry": {"bad_statuses": [503]}},  # a name may be several
        {"backends": ["10.0.0.1:80", "10.0.0.2:80"], "policy": "first", "max_in_flight": 10},
        {"backends": [{"address": "a:80", "max_in_flight": "adaptive"}], "adaptive": {"most": 9}, "abandoned_s": 5},
        {"backends": ["10.0.0.1:80", "10.0.0.2:80"], "policy": "first", "max_in_flight": "adaptive", "adaptive": {"most": 9}},
        {"backends": ["10.0.0.1:80"], "policy": "first"},
        # A route of another listener hides nothing, and one of each of two hides it only together.
        {
            "listeners": {"a": {"address": ":1"}, "b": {"address": ":2"}},
            "pools": APP,
            "routes": [{"listeners": ["a"], "pool": "app"}, {"host": "x.example.com", "pool": "app"}],
        },
        {"routes": [{"clients": ["10.0.0.0/8"], "pool": "default"}, {"clients": ["10.0.0.1"], "pool": "default"}]},
        {"checks": {"default": {}}},
        {"policy": "ring", "key": "path"},
        {"panic": {"even_down": True, "threshold_percent": 50}},
        {"backends": ["a:80", {"address": "b:80", "backup": True}], "queue": {"when_full": "spill"}},
        {"backends": ["a:80", {"address": "b:80", "priority": 1}], "queue": {"when_full": "spill"}},
        {"policy": {"choose": "two", "load": "cost"}, "cost": "bytes"},
        {"policy": {"choose": "two", "load": "cost"}, "defaults": {"route": {"cost": 5}}},
        {
            "listeners": WEB,
            "pools": {"app": {**APP["app"], "policy": {"choose": "two", "load": "cost"}}},
            "routes": [{"path": "/a", "pool": "app", "cost": 5}, {"pool": "app"}],
        },
        {"defaults": {"route": {"key": "path"}}},
        {"affinity": {"cookie": {"same_site": "none"}, "secret": SECRET, "max_age_s": 60, "drain_s": 5}},
        {"affinity": {"client": True, "most": 5, "when_full": "wait"}, "max_in_flight": 5},
        {"affinity": {"client": True, "when_full": "wait"}, "health_check": {"agent": "header"}},
        # A secret for whoever signs.
        {"defaults": {"pool": {"affinity": {"secret": SECRET}}}},
        {
            "listeners": WEB,
            "pools": {
                name: {"backends": [f"{name}:80"], "affinity": {"cookie": cookie}}
                for name, cookie in (("one", "lb"), ("two", {"name": "lb", "path": "/2"}), ("three", True), ("four", True))
            },
            "routes": [{"path": f"/{name}", "pool": name} for name in ("one", "two", "three", "four")],
            "defaults": {"pool": {"affinity": {"secret": SECRET}}},
        },
        {
            "listeners": WEB,
            "pools": {"app": {"backends": ["a:80"], "policy": {"choose": "ring", "bound": 2}}},
            "routes": [{"pool": "app", "key": "path"}],
        },
        # What keeps clients out of a path has nobody behind it who takes the same in another spelling.
        {"routes": [{"path_prefix": "/a", "deny": True}, {"pool": "default", "encoded_slash": "refuse"}]},
        {"routes": [{"path_prefix": "/a", "deny": True}], "defaults": {"route": {"encoded_slash": "refuse"}}},
        {"routes": [{"path_prefix": "/a", "deny": True}, {"path_prefix": ["/a", "/b"], "pool": "default"}, {"deny": True}]},
        {"routes": [{"path_prefix": "/", "host": "a", "deny": True}]},
        {"routes": [{"host": "a", "deny": True}]},
        {"routes": [{"host": "a", "path": "/x", "deny": True}, {"host": ["b", "*.a"], "pool": "default"}, {"deny": True}]},
        {"routes": [{"method": "PUT", "path": "/x", "deny": True}, {"method": "GET", "pool": "default"}, {"deny": True}]},
        {"routes": [{"path_prefix": "/a", "answer": {"status": 503}}, {"path": "/b", "redirect": {"to": "/c"}}]},
        {
            "routes": [{"path_prefix": "/a", "timeouts": {"response_head_s": 9}, "pool": "default"}, {"pool": "default"}],
            "defaults": {"route": {"allow_clients": ["10.0.0.0/8"]}},
        },
        {"pools": {"app": {"targets": {"file": "a.json"}, "retry": {"bad_statuses": [503]}}}, "routes": TO_APP, "listeners": WEB},
        {"pools": {"app": {"backends": ["127.0.0.1:8080"]}}, "listeners": {"web": {"address": "10.0.0.1:8080", "default_pool": "app"}}},
    ],
)  # fmt: skip
def test_what_has_its_effect_is_not_doubted(tables):
    assert doubted(**tables) == []


def test_an_older_name_of_a_key_is_told_wherever_it_stands():
    values = {
        "strategy": "rr",
        "upstream": {"fresh_s": 1},
        "pools": {"strategy": {"upstream": {"fresh_s": 1}, "strategy": "rr"}},
        "routes": [{"set_request_headers": {"strategy": "x"}}],
        "defaults": {"pool": {"strategy": "rr"}},
    }
    assert [str(one) for one in older_names(values)] == [
        "strategy: is called policy now; this name is understood for two releases   [W02]",
        "upstream.fresh_s: is called reuse_unsafe_within_s now; this name is understood for two releases   [W02]",
        "pools.strategy.upstream.fresh_s: is called reuse_unsafe_within_s now; this name is understood for two releases   [W02]",
        "pools.strategy.strategy: is called policy now; this name is understood for two releases   [W02]",
        "defaults.pool.strategy: is called policy now; this name is understood for two releases   [W02]",
    ]


@pytest.mark.parametrize(
    ("tables", "pool", "said"),
    [
        (
            {"backends": ["a:80", "b:80"]},
            "default",
            "backends[1]: b:80 is down until its name resolves: it is so   [W18]",
        ),
        ({"pools": APP}, "app", "pools.app.backends[1]: app/b:80 is down until its name resolves: it is so   [W18]"),
    ],
    ids=["flat", "by name"],
)
def test_a_name_that_does_not_resolve_is_doubted_at_its_backend(tables, pool, said):
    config = LoadBalancerConfig.model_validate(
        {"listeners": {"web": {"address": ":1", "default_pool": pool}}, **tables}
    )
    assert str(not_resolved(config, pool, 1, "it is so")) == said


def test_every_code_but_that_of_secrets_and_names_is_doubted_in_a_test():
    assert sorted({said[-4:-1] for _, said in DOUBTFUL}) == sorted(set(CODES) - {"W01", "W02", "W18", "W25", *IN_FILES})


@pytest.mark.parametrize("flat", [{}, {"listen": {"port": 8080}}, {"listen": {"interface": "127.0.0.1"}}])
def test_a_listener_that_nobody_names_is_doubted_unless_something_says_where_it_is(flat):
    config = LoadBalancerConfig.model_validate({"pools": APP, "routes": TO_APP, **flat})
    assert [one.code for one in doubts(config, 20_000, 9_980)] == ([] if flat else ["W19"])
    assert list(doubts(config, 20_000, 9_980, listening=False)) == []


def test_a_flag_that_says_the_port_leaves_no_doubt(tmp_path):
    (tmp_path / "lb.toml").write_text('routes = [{ pool = "app" }]\n[pools.app]\nbackends = ["a:80", "b:80"]\n')
    said = {
        name: list(doubts(from_flags(flags, tmp_path / "lb.toml", {}), 20_000, 9_980))
        for name, flags in FLAGGED.items()
    }
    assert [(name, [one.code for one in found]) for name, found in said.items()] == [("none", ["W19"]), ("port", [])]


def test_who_is_not_to_be_in_an_access_log_may_say_so_where_there_is_none():
    routes = [{"path": "/x", "pool": "default", "log": False}, {"path": "/y", "pool": "default", "log": True}]
    assert doubted(routes=routes) == []
    assert doubted(routes=[{"path": "/x", "pool": "default", "log": "json"}], log={"file": "stdout"}) == []
