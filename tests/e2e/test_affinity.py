"""Affinity of real processes: a cookie outlives a reload, a restart and another secret, and is good at a second balancer."""

import http.client
import os
import re
import signal
from pathlib import Path

import pytest
from processes import Stage, stage


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


SECRETS = ["the first secret of the house", "the second secret of the house"]


def written(world: Stage, ports: list[int], secret: str) -> Path:
    """A configuration file whose secret is in files beside it."""
    for number, text in enumerate(SECRETS):
        (world.folder / f"secret{number}").write_text(f"{text}\n")
        (world.folder / f"secret{number}").chmod(0o600)
    path = world.folder / "lb.toml"
    new = path.with_suffix(".new")
    backends = [f"127.0.0.1:{port}" for port in ports]
    new.write_text(f"backends = {backends}\n[affinity]\ncookie = true\nsecret = {secret}\n")
    os.replace(new, path)
    return path


def ask(port: int, cookie: str = "") -> tuple[str, str]:
    """Who answers, and the cookie that it sets."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/", headers={"Cookie": cookie} if cookie else {})
    response = connection.getresponse()
    response.read()
    connection.close()
    found = re.match("[^;]+", response.getheader("Set-Cookie") or "")
    return str(response.getheader("X-Backend")), found[0] if found else ""


def test_a_cookie_outlives_all_that_happens_to_balancers(world):
    ports = [world.backend(name=f"backend-{name}")[1] for name in "abc"]
    path = written(world, ports, '{ file = "secret0" }')
    first, port = world.balancer("--config", str(path))
    home, cookie = ask(port)
    assert {ask(port, cookie) for _ in range(4)} == {(home, "")}
    _, other = world.balancer("--config", str(path))
    assert {ask(other, cookie) for _ in range(4)} == {(home, "")}, "another balancer with the secret"
    written(world, ports, '[{ file = "secret1" }, { file = "secret0" }]')
    first.signal(signal.SIGHUP)
    first.wait_for("reload: changes pool default: affinity.secret: other values")
    same, newer = ask(port, cookie)
    assert same == home
    assert newer != cookie
    first.signal(signal.SIGTERM)
    first.wait()
    _, again = world.balancer("--config", str(path))
    assert {ask(again, newer) for _ in range(4)} == {(home, "")}, "after a restart"
    assert SECRETS[0] not in first.log
