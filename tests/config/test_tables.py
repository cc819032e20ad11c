"""Tables by name: what is wrong in them and between them, in exact words."""

from pathlib import Path

import pytest

from twisted_lb.config.load import load_toml
from twisted_lb.errors import ConfigError

POOL = '[pools.api]\nbackends = ["a:80"]\n'


def refusal(folder: Path, text: str) -> list[str]:
    file = folder / "lb.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_toml(file)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # Names of objects.
        (
            '[pools."a/b"]\nbackends = ["a:80"]',
            'lb.toml:1:8: pools."a/b": should be 1 to 100 letters, digits and -_., a letter or digit first, not \'a/b\'',
        ),
        (
            f'{POOL}[[routes]]\npool = "app"',
            'lb.toml:4:8: routes[0].pool: there is no pool "app"; did you mean "api"? (pools: api)',
        ),
        (
            '[[routes]]\npool = "app"',
            'lb.toml:2:8: routes[0].pool: there is no pool "app"; there is no pool at all',
        ),
        (
            f'{POOL}[[routes]]\npool = "api"\nfallback = "ap"',
            'lb.toml:5:12: routes[0].fallback: there is no pool "ap"; did you mean "api"? (pools: api)',
        ),
        (
            f'{POOL}[pools.api.mirror]\nto = "ap"',
            'lb.toml:4:6: pools.api.mirror.to: there is no pool "ap"; did you mean "api"? (pools: api)',
        ),
        (
            f'{POOL}[pools.api.mirror]\nto = "api"',
            "lb.toml:4:6: pools.api.mirror.to: api is the pool itself: its requests are mirrored to another one",
        ),
        (
            f'{POOL}[pools.api.mirror]\nto = "b"\nmethods = []\n[pools.b]\nbackends = ["b:80"]',
            'lb.toml:5:11: pools.api.mirror.methods: should name a method, such as "GET", or be "*" for all',
        ),
        (
            f"{POOL}[[routes]]\nsplit = {{ api = 1, ap = 2 }}",
            'lb.toml:4:20: routes[0].split.ap: there is no pool "ap"; did you mean "api"? (pools: api)',
        ),
        (
            f'{POOL}[[routes]]\npool = "api"\nlisteners = "web"',
            'lb.toml:5:13: routes[0].listeners: there is no listener "web" (listeners: default)',
        ),
        (
            f'{POOL}check = "x"\n[checks.y]',
            'lb.toml:3:9: pools.api.check: there is no check "x" (checks: y)',
        ),
        (
            f'{POOL}[defaults.pool]\ncheck = "x"',
            'lb.toml:4:9: defaults.pool.check: there is no check "x"; there is no check at all',
        ),
        (
            f'{POOL}[listeners.web]\naddress = ":80"\ndefault_pool = "x"',
            'lb.toml:5:16: listeners.web.default_pool: there is no pool "x" (pools: api)',
        ),
        (
            f'ready_requires = ["x"]\n{POOL}',
            'lb.toml:1:18: ready_requires: there is no pool "x" (pools: api)',
        ),
        (
            "[[routes]]\nname = 'a'\ndeny = true\n[[routes]]\nname = 'a'\ndeny = true",
            "lb.toml:5:8: routes[1].name: a is routes[0] already (lb.toml:1)",
        ),
        (
            "[[routes]]\nname = 'routes[1]'\ndeny = true\n[[routes]]\ndeny = true",
            ("lb.toml:2:8: routes[0].name: should be 1 to 100 letters, digits and -_., a letter or digit first, not 'routes[1]'"),
        ),
        (
            "[[routes]]\nname = 'default'\ndeny = true",
            ("lb.toml:2:8: routes[0].name: default is what the route is called that leads to the pool default whatever no other "
            "one takes"),
        ),
        (
            f'{POOL}[listeners.status]\naddress = ":80"',
            "lb.toml:3:12: listeners.status: status is what the socket of the status address is called",
        ),
        # Addresses.
        (
            f'{POOL}[listeners]\na.address = ":80"\nb.address = "10.0.0.1:80"',
            "lb.toml:5:13: listeners.b.address: 10.0.0.1:80 is taken by listeners.a, with port 80 (lb.toml:4)",
        ),
        (
            f'{POOL}[listeners]\na.address = "unix:/a"\nb.address = ["unix:/b", "unix:/a"]',
            "lb.toml:5:25: listeners.b.address[1]: unix:/a is taken by listeners.a (lb.toml:4)",
        ),
        (
            f'takeover = "/run/./lb"\n{POOL}[listeners]\na.address = "unix:/run/lb"',
            "lb.toml:1:12: takeover: /run/./lb is taken by listeners.a (lb.toml:5)",
        ),
        (
            f'{POOL}[listeners]\na.address = "unix:/run/lb"\nb.address = "unix:/run//lb"',
            "lb.toml:5:13: listeners.b.address: unix:/run//lb is taken by listeners.a, with unix:/run/lb (lb.toml:4)",
        ),
        (
            "[pools.a]\nbackends = ['a:80']\n[pools.b]\nbackends = [\n'b:80',\n'c:80',\n'b:80']",
            "lb.toml:7:1: pools.b.backends[2]: b:80 is there twice (lb.toml:5)",
        ),
        (
            f"{POOL}[defaults.listener]\naddress = ':80'",
            "lb.toml:4:1: defaults.listener.address: unknown key; it belongs into [listeners.NAME]",
        ),
        (
            f"{POOL}[defaults.pool]\nbackends = []",
            "lb.toml:4:1: defaults.pool.backends: unknown key; it belongs into [pools.NAME]",
        ),
        (
            f"{POOL}[defaults.backend]\naddress = 'a:80'",
            "lb.toml:4:1: defaults.backend.address: unknown key; it belongs into the backend itself",
        ),
        (
            f'status = "127.0.0.1:80"\n{POOL}[listeners]\na.address = ":80"',
            "lb.toml:1:10: status: 127.0.0.1:80 is taken by listeners.a (lb.toml:5)",
        ),
        (
            f"{POOL}[listeners]\na.address = []",
            "lb.toml:4:13: listeners.a.address: should be at least one address",
        ),
        (
            f'{POOL}[listeners]\na.address = {{ address = ":80", mode = "0600" }}',
            "lb.toml:4:13: listeners.a.address: mode is for unix sockets, and :80 is none",
        ),
        (
            f'{POOL}[listeners]\na.address = "80"',
            ("lb.toml:4:13: listeners.a.address: '80' should be IP:PORT, [IPv6]:PORT, :PORT or unix:/path, such as "
            '"127.0.0.1:8080"'),
        ),
        (
            '[pools.api]\nbackends = ["127.0.0.1:80"]\n[listeners.web]\naddress = ":80"\ndefault_pool = "api"',
            "lb.toml:2:13: pools.api.backends[0]: backend 127.0.0.1:80 is this balancer itself",
        ),
        # Routes.
        (
            f"{POOL}[[routes]]\nhost = 'x'",
            "lb.toml:3:3: routes[0]: leads nowhere: it needs one of pool, split, redirect, answer, deny",
        ),
        (
            f"{POOL}[[routes]]\npool = 'api'\ndeny = true",
            "lb.toml:3:3: routes[0]: pool and deny are both given: a route has one of pool, split, redirect, answer, deny",
        ),
        (
            f"{POOL}[[routes]]\nsplit = {{ api = 0 }}",
            "lb.toml:3:3: routes[0]: split: all weights are 0",
        ),
        (
            f"{POOL}[[routes]]\npool = 'api'\nsplit_by = 'client'",
            "lb.toml:3:3: routes[0]: split_by is for a split",
        ),
        (
            f"{POOL}[[routes]]\nsplit = {{ api = 1 }}\nsplit_by = 'route'",
            "lb.toml:3:3: routes[0]: split_by: by route all requests would go to the same pool",
        ),
        (
            f"{POOL}[[routes]]\ndeny = true\nfallback = 'api'",
            "lb.toml:3:3: routes[0]: fallback is for a pool or a split",
        ),
        (
            "[[routes]]\nanswer = { status = 204, text = 'x' }",
            "lb.toml:2:10: routes[0].answer: an answer of 204 has no body",
        ),
        (
            "[[routes]]\nanswer = { text = 'x', file = 'y' }",
            "lb.toml:2:10: routes[0].answer: text and file are both given",
        ),
        (
            "[[routes]]\nredirect = { to = 'ftp://x' }",
            ("lb.toml:2:19: routes[0].redirect.to: should be http://HOST, https://HOST, with a path if wanted, or a path, not "
            "'ftp://x'"),
        ),
        (
            "[[routes]]\ndeny = true\nhost = 'a:80'",
            ("lb.toml:3:8: routes[0].host: should be a host name without port, such as api.example.com or *.example.com, not "
            "'a:80'"),
        ),
        (
            "[[routes]]\ndeny = true\npath = '/a%20b'",
            "lb.toml:3:8: routes[0].path: should be a path, as it is without percent-encoding, such as /v1, not '/a%20b'",
        ),
        (
            "[[routes]]\ndeny = true\npath_prefix = ['/a', '/a/../b']",
            "lb.toml:3:22: routes[0].path_prefix[1]: should be a path without empty and dot segments, not '/a/../b'",
        ),
        (
            "[[routes]]\ndeny = true\nheaders = { Connection = { present = true } }",
            "lb.toml:3:13: routes[0].headers.Connection: should be the name of a field that is passed on, not 'Connection'",
        ),
        (
            '[[routes]]\ndeny = true\npath = "/a\\u0001"',
            ("lb.toml:3:8: routes[0].path: should be a path without control characters: a request with one is refused, "
            "not '/a\\x01'"),
        ),
        (
            "[[routes]]\ndeny = true\ndeny_clients = 'fe80::1%eth0'",
            ("lb.toml:3:16: routes[0].deny_clients: fe80::1%eth0 should be without a zone: what is written after % is "
            "different on every machine"),
        ),
        (
            f"{POOL}[listeners.web]\naddress = ':80'\ndefault_pool = 'api'\ntrusted_proxies = ['fe80::1%eth0']",
            ("lb.toml:6:19: listeners.web.trusted_proxies: fe80::1%eth0 should be without a zone: what is written after % is "
            "different on every machine"),
        ),
        (
            "[[routes]]\ndeny = true\nrate_limits = [{ per_s = 0.01, burst = 1_000_000 }]",
            "lb.toml:3:16: routes[0].rate_limits[0]: a burst of 1,000,000 at 0.01 a second takes more than a year to come back",
        ),
        (
            "[[routes]]\ndeny = true\nrate_limits = { per_s = 1e-9 }",
            "lb.toml:3:15: routes[0].rate_limits: a rate of 1e-09 a second is not between 1e-06 and 1,000,000",
        ),
        (
            "[[routes]]\ndeny = true\nset_response_headers = { X-A = '1', x_a = '2' }",
            "lb.toml:3:24: routes[0].set_response_headers: X-A and x_a are the same field",
        ),
        (
            "[defaults.route.set_request_headers]\nX-A = '1'\n[[routes]]\ndeny = true\nset_request_headers = { x-a = '2' }",
            "lb.toml:5:23: routes[0].set_request_headers: X-A and x-a are the same field",
        ),
        (
            "[[routes]]\ndeny = true\nclients = '10.0.0.1/8'",
            "lb.toml:3:11: routes[0].clients: 10.0.0.1/8 should be an address or a network, such as 10.0.0.0/8",
        ),
        (
            "[[routes]]\ndeny = true\nheaders = { X = { exact = 'a', prefix = 'b' } }",
            "lb.toml:3:17: routes[0].headers.X: should be one of exact, prefix and present",
        ),
        (
            "[[routes]]\ndeny = true\nset_request_headers = { X-A = '{cilent}' }",
            ("lb.toml:3:31: routes[0].set_request_headers.X-A: {cilent} is none of {client}, {host}, {request_id}, {backend}, "
            "{pool}"),
        ),
        (
            "[[routes]]\ndeny = true\nset_response_headers = { Content-Length = '5' }",
            ("lb.toml:3:26: routes[0].set_response_headers.Content-Length: is not for anybody to set: the balancer writes it "
            "itself, not 'Content-Length'"),
        ),
        (
            "[[routes]]\ndeny = true\nreplace_prefix = {}",
            "lb.toml:3:18: routes[0].replace_prefix: should not be empty",
        ),
        (
            "[[routes]]\ndeny = true\nrate_limits = { per_s = 1, key = { haeder = 'X' } }",
            ('lb.toml:3:34: routes[0].rate_limits.key: should be "client", "route", or a table with one of header, cookie and '
            'query, as { header = "X-User" }'),
        ),
        # Keys that stand elsewhere, or nowhere.
        (
            "[[routes]]\ndeny = true\nrate_limits = [{ per_s = 1, requests = 1 }]",
            "lb.toml:3:29: routes[0].rate_limits[0].requests: unknown key; there are per_s, burst, key, dry_run",
        ),
        (
            "[[routes]]\ndeny = true\nrate_limits = { per_s = 1, requests = 1 }",
            "lb.toml:3:28: routes[0].rate_limits.requests: unknown key; there are per_s, burst, key, dry_run",
        ),
        (
            f"{POOL}interval_s = 3",
            "lb.toml:3:1: pools.api.interval_s: unknown key; it belongs into [pools.api.health_check] or [pools.api.tcp_keepalive]",
        ),
        (
            f"{POOL}response_head_s = 3",
            "lb.toml:3:1: pools.api.response_head_s: unknown key; it belongs into [routes.timeouts]",
        ),
        (
            f"{POOL}policies = 'rr'",
            'lb.toml:3:1: pools.api.policies: unknown key; did you mean "policy"?',
        ),
        ("[pools.api]\npolicy = 'rr'", "lb.toml:1:8: pools.api: no backend: give at least one, such as 127.0.0.1:8081"),
        ("version = 2\nbackends = ['a:80']", "lb.toml:1:11: version: written for a newer release: this one knows version 1, not 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_told_where_it_stands(tmp_path, text, said):
    assert refusal(tmp_path, text) == [said]


def test_one_value_may_stand_for_a_list_of_one(tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text(
        f'{POOL}[listeners.web]\naddress = ":0"\ndeny_clients = "10.0.0.0/8"\nrate_limits = {{ per_s = 2 }}\n'
        '[[routes]]\npool = "api"\nhost = "A.example.com."\nmethod = "GET"\nheaders = { X = "1" }\nclients = { file = "x" }\n'
    )
    config = load_toml(file)
    [route] = config.routes
    assert (route.host, route.method, route.headers["X"].exact) == (("a.example.com",), ("GET",), "1")
    assert config.listeners["web"].deny_clients == ("10.0.0.0/8",)
    assert config.listeners["web"].rate_limits[0].key.source == "client"
