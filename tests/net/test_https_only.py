"""What is for https alone: the redirect there, HSTS, and the challenges of ACME that come before."""

import pytest
from world import World

from twisted_lb.net.challenges import Challenges

GET = b"GET /x?y=1 HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nhi"
HSTS = "max-age=31536000; includeSubDomains"
TOKEN = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"


@pytest.fixture
def world(request):
    worlds = []

    def make(side: str, **route) -> World:
        routes = [{"name": "all", "pool": "app", **route}]
        worlds.append(
            World(
                (),
                side=side,
                pools={"app": {"backends": ["a:80"]}},
                listeners={"default": {"address": ":80"}},
                routes=routes,
            )
        )
        return worlds[-1]

    yield make
    for one in worlds:
        one.close()


def test_what_came_without_tls_is_sent_to_https_with_its_path_and_method(world):
    client = world("engine", https_only=True).client()
    head = client.send(GET).read().partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 308 ")
    assert b"\r\nLocation: https://shop.example/x?y=1\r\n" in head


def test_what_came_without_tls_is_sent_to_the_port_that_the_route_names(world):
    client = world("engine", https_only=8443).client()
    head = client.send(GET).read().partition(b"\r\n\r\n")[0]
    assert b"\r\nLocation: https://shop.example:8443/x?y=1\r\n" in head


@pytest.mark.parametrize("side", ["engine", "tls"])
@pytest.mark.parametrize("https_only", [True, False])
def test_hsts_is_said_over_tls_alone_and_in_place_of_the_backend_s(world, side, https_only):
    one = world(side, hsts=HSTS, https_only=https_only and side == "tls")
    client = one.client()
    client.send(GET)
    one.backend().send(OK)
    said = [line for line in client.read().splitlines() if line.lower().startswith(b"strict-transport")]
    assert said == [
        f"Strict-Transport-Security: {HSTS}".encode() if side == "tls" else b"Strict-Transport-Security: max-age=1"
    ]


@pytest.fixture
def webroot(tmp_path):
    folder = tmp_path / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / TOKEN).write_text(f"{TOKEN}.thumbprint")
    (folder / "dots.txt").write_text("no token")
    (folder / "folder").mkdir()
    (folder / "long").write_text("x" * 5000)
    (tmp_path / "secret").write_text("secret")
    return tmp_path


@pytest.mark.parametrize("host", [b"shop.example", b"203.0.113.9", b""])
def test_a_challenge_is_answered_before_deny_and_redirect_on_any_host(world, webroot, host):
    one = world("engine", https_only=True)
    one.engine.challenges = Challenges(str(webroot))
    one.engine.go_by(one.engine.table)
    version = b"1.1" if host else b"1.0"
    line = b"Host: " + host + b"\r\n" if host else b""
    answer = (
        one.client()
        .send(b"GET /.well-known/acme-challenge/%b HTTP/%b\r\n%b\r\n" % (TOKEN.encode(), version, line))
        .read()
    )
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + f"{TOKEN}.thumbprint".encode())


@pytest.mark.parametrize(
    "target",
    [
        "none",
        "dots.txt",
        "folder",
        "long",
        "",
        "../../secret",
        "%2e%2e/secret",
        "../acme-challenge/" + TOKEN,
        TOKEN + "/",
        "x" * 300,
    ],
)
def test_what_is_no_challenge_goes_on_as_usual(world, webroot, target):
    one = world("engine", https_only=True)
    one.engine.challenges = Challenges(str(webroot))
    one.engine.go_by(one.engine.table)
    answer = one.client().send(f"GET /.well-known/acme-challenge/{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).read()
    assert answer.startswith(b"HTTP/1.1 308 ")


def test_a_challenge_is_answered_to_get_and_head_alone(world, webroot):
    one = world("engine", https_only=True)
    one.engine.challenges = Challenges(str(webroot))
    one.engine.go_by(one.engine.table)
    request = f"/.well-known/acme-challenge/{TOKEN} HTTP/1.1\r\nHost: a\r\n".encode()
    assert one.client().send(b"POST " + request + b"Content-Length: 0\r\n\r\n").read().startswith(b"HTTP/1.1 308 ")
    assert one.client().send(b"HEAD " + request + b"\r\n").read().endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("side", "action"), [("engine", ("redirect", 308)), ("tls", ("pool", None))])
def test_whoever_asks_where_a_request_would_go_is_told_of_the_redirect(world, side, action):
    routed = world(side, https_only=True).plane.route("GET", "http://shop.example/")
    assert (routed.action, routed.status) == action
