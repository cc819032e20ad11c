"""Why that answer, asked of a real daemon with `lbctl explain ID`, for each way in which a request can go."""

import http.client
import io
import json
import os
import socket
from contextlib import closing, redirect_stdout

import pytest
from ports import free_port
from processes import PATIENCE_S, listening, stage, until
from steering import Admin, Load

from twisted_lb.ctl.main import main

FAILING = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
CONFIG = """
[admin]
socket = "{door}"
[listeners.web]
address = "127.0.0.1:{port}"
[defaults.pool.queue]
no_backend_s = 0
[defaults.pool.health_check]
path = "/health"
interval_s = 0.2
timeout_s = 20
[pools.app]
backends = [
    {{ name = "good", address = "127.0.0.1:{good}" }},
    {{ name = "silent", address = "127.0.0.1:{silent}" }},
    {{ name = "drained", address = "127.0.0.1:{drained}" }},
    {{ name = "sick", address = "127.0.0.1:{sick}" }},
]
[pools.left]
health_check.interval_s = 0
backends = [{{ name = "nobody", address = "127.0.0.1:{nobody}" }}]
[pools.slow]
backends = [{{ name = "slow", address = "127.0.0.1:{slow}" }}]
[[routes]]
path_prefix = "/app"
pool = "app"
[[routes]]
path_prefix = "/left"
pool = "left"
[[routes]]
path_prefix = "/slow"
pool = "slow"
[[routes]]
name = "seldom"
path_prefix = "/seldom"
pool = "app"
rate_limits = [{{ per_s = 0.001, burst = 1 }}]
"""


class Asked:
    """A daemon before backends of each kind, to which requests are sent with an id of their own."""

    def __init__(self, world, load: Load) -> None:
        backends = {name: load.backend() for name in ("good", "silent", "drained", "sick")}
        self.slow = load.backend(delay_s=3600.0)
        backends["silent"].says = None
        backends["sick"].checked = FAILING
        self.door, self.port = str(world.folder / "admin.sock"), free_port()
        ports = {name: one.port for name, one in backends.items()}
        config = world.folder / "lb.toml"
        config.write_text(
            CONFIG.format(door=self.door, port=self.port, slow=self.slow.port, nobody=free_port(), **ports)
        )
        self.running = world.twistd("lb", "lb", "--config", str(config))
        until(lambda: os.path.exists(self.door) and listening(self.port), f"it runs: {self.running.log}")
        with closing(Admin(self.door)) as admin:
            admin.change("PATCH", "/v1/backends/app/drained", {"admin": "drain", "reason": "deploy"})
            until(lambda: admin.ask("GET", "/v1/backends/app/sick")[1]["state"] == "down", "its checks fail")

    def ask(self, method: str, path: str, name: str) -> int:
        """The status of a request with that id."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as client:
            client.request(method, path, b"" if method == "POST" else None, {"X-Request-ID": name})
            answer = client.getresponse()
            answer.read()
            return answer.status

    def retried(self) -> dict:
        """What is told of a request that was tried twice."""
        for number in range(10):
            assert self.ask("GET", "/app", f"get-{number}") == 200
            told = self.explained(f"get-{number}")
            if len(told["attempts"]) > 1:
                return told
        raise AssertionError("nobody was retried")

    def explained(self, name: str) -> dict:
        """What `lbctl explain` tells of it, in words and as JSON."""
        with redirect_stdout(io.StringIO()) as out:
            assert main(["explain", name, "--admin", f"unix:{self.door}"]) == 0
            assert main(["explain", name, "--json", "--admin", f"unix:{self.door}"]) == 0
        self.words, _, text = out.getvalue().rpartition("\n{")
        return json.loads("{" + text)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    load = Load()
    with stage(tmp_path_factory.mktemp("explain")) as world:
        one = Asked(world, load)
        yield one
        assert "Traceback" not in one.running.log
    load.close()


def test_a_retried_request_tells_both_attempts_and_who_was_passed_over_for_what(asked):
    told = asked.retried()
    first, second = told["attempts"]
    assert (told["status"], told["running"]) == (200, False)
    assert (first["backend"], first["outcome"]) == ("app/silent", "NO_RESPONSE")
    assert (second["backend"], second["outcome"]) == ("app/good", "OK")
    assert second["retried"]
    states = {one["backend"]: one for one in first["decision"]["candidates"]}
    assert states["app/drained"]["skipped"] == "taken out by the operator"
    assert states["app/sick"]["skipped"] == "down by its checks"
    assert "status 500" in states["app/sick"]["reason"]
    assert states["app/good"]["skipped"] is None
    again = {one["backend"]: one["skipped"] for one in second["decision"]["candidates"]}
    assert again["app/silent"] == "tried by this request"
    for name in ("app/silent", "app/good", "drained", "sick"):
        assert name in asked.words


def test_a_refused_request_and_then_one_that_met_nobody_since_the_backend_is_ejected(asked):
    assert asked.ask("GET", "/left", "refused") == 502
    told = asked.explained("refused")
    assert [(one["backend"], one["outcome"]) for one in told["attempts"]] == [("left/nobody", "REFUSED")]
    assert "refused" in told["attempts"][0]["reason"].lower()
    for number in range(10):  # it is out for a second, and after each trial twice as long
        if asked.ask("GET", "/left", f"too-late-{number}") == 503:
            break
    told = asked.explained(f"too-late-{number}")
    assert (told["outcome"], told["attempts"]) == ("NO_BACKEND", [])
    (one,) = told["skipped"]
    assert (one["backend"], one["skipped"], one["reason"]) == (
        "left/nobody",
        "ejected by traffic",
        "connection refused",
    )
    assert "ejected" in asked.words


def test_a_client_of_whom_there_were_too_many(asked):
    asked.ask("GET", "/seldom", "first")
    assert asked.ask("GET", "/seldom", "second") == 429
    told = asked.explained("second")
    assert (told["status"], told["outcome"], told["attempts"]) == (429, "RATE_LIMITED", [])
    assert "seldom" in told["detail"] + str(told["route"])
    assert "RATE_LIMITED" in asked.words


def test_a_request_that_no_route_took(asked):
    assert asked.ask("GET", "/nowhere", "lost") == 404
    told = asked.explained("lost")
    assert (told["status"], told["outcome"], told["pool"], told["attempts"]) == (404, "NO_ROUTE", None, [])
    assert "NO_ROUTE" in asked.words


def test_a_request_that_still_runs(asked):
    with socket.create_connection(("127.0.0.1", asked.port), timeout=PATIENCE_S) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nX-Request-ID: patient\r\n\r\n")
        until(lambda: asked.slow.requests, "it is at its backend")
        told = asked.explained("patient")
        assert (told["running"], told["attempts"][0]["backend"]) == (True, "slow/slow")
        assert "slow/slow" in asked.words
