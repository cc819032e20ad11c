"""The support dump of a real daemon whose configuration, requests and operators are full of secrets."""

import json
import os
import pwd
import socket
import subprocess
from contextlib import closing

import pytest
from ports import free_port
from processes import BIN, listening, stage, until
from steering import Admin

SECRET = "hunter2SECRETabc"
HOST = "machine7.corp.example"

CONFIG = """\
name = "{host}"
state_file = "{folder}/state-password={secret}.json"
[admin]
tokens = {{ ops = "{secret}-ops" }}
read_tokens = {{ looks = "{secret}-looks" }}
[listeners.web]
address = "127.0.0.1:{port}"
[log]
file = "{folder}/access-token={secret}.log"
[listeners.web.error_pages]
502 = "{folder}/page-api_key={secret}.html"
[pools.app]
[pools.app.health_check]
interval_s = 0.2
path = "/health?token={secret}"
headers = {{ Authorization = "Bearer {secret}", X-Api-Key = "{secret}", Cookie = "sid={secret}" }}
[[pools.app.backends]]
name = "b1"
address = "127.0.0.1:{backend}"
labels = {{ token = "{secret}", note = "password={secret}" }}
[pools.listed]
targets = {{ url = "http://127.0.0.1:{nobody}/list?key={secret}", refresh_s = 1 }}
[pools.listed.health_check]
interval_s = 0
[[routes]]
path = "/old"
redirect = {{ to = "https://new.example/token={secret}/x" }}
[[routes]]
path = "/keyed"
query = {{ token = {{ exact = "{secret}" }} }}
headers = {{ X-Api-Key = {{ exact = "{secret}" }}, Cookie = {{ prefix = "sid={secret}" }} }}
answer = {{ text = "password={secret}" }}
[[routes]]
path_prefix = "/listed"
pool = "listed"
[[routes]]
pool = "app"
set_request_headers = {{ Authorization = "Basic {secret}", X-Secret = "{secret}" }}
set_response_headers = {{ Set-Cookie = "sid={secret}", X-Api-Token = "{secret}" }}
"""

REQUESTS = [
    "GET /login?password={secret} HTTP/1.1",
    "GET http://user:{secret}@x.example/absolute?token={secret} HTTP/1.1",
    "GET /session;jsessionid={secret} HTTP/1.1",
    "GET /reset/token={secret}/now HTTP/1.1",
    "GET /encoded%3Fpassword%3D{secret} HTTP/1.1",
    "GET /old?sid={secret} HTTP/1.1",
    "GET /listed/x?sid={secret} HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "GET /bad path?token={secret} HTTP/1.1",
]
FIELDS = (
    "Host: x.example\r\nCookie: sid={secret}\r\nAuthorization: Bearer {secret}\r\nX-Api-Key: {secret}\r\n"
    "Referer: https://x.example/?token={secret}\r\nX-Forwarded-For: {secret}\r\nConnection: close\r\n\r\n"
)
REASONS = [
    "token={secret}",
    "see https://wiki.example/?key={secret}",
    "Authorization: Bearer {secret}",
    "password {secret}",
]


def filled(text: str, **more) -> str:
    return text.format(secret=SECRET, **more)


def ask(port: int, line: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(filled(f"{line}\r\n{FIELDS}").encode("latin-1"))
        while sock.recv(65536):
            pass


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """The path of the admin socket of a balancer that all of this has happened to."""
    with stage(tmp_path_factory.mktemp("dump")) as world:
        _, backend = world.backend(name="b1")
        port, path = free_port(), str(world.folder / "admin.sock")
        (world.folder / filled("page-api_key={secret}.html")).write_text(filled("<p>{secret}"))
        config = world.folder / "lb.toml"
        config.write_text(
            filled(CONFIG, folder=world.folder, host=HOST, port=port, backend=backend, nobody=free_port())
        )
        config.chmod(0o600)
        running = world.twistd("lb", "lb", "--config", str(config), "--admin", f"unix:{path}")
        until(lambda: (listening(port) and os.path.exists(path)) or running.process.poll() is not None, "it runs")
        assert running.process.poll() is None, running.log
        for line in REQUESTS:
            ask(port, line)
        with closing(Admin(path)) as admin:
            for n, reason in enumerate(REASONS):
                admin.change(
                    "PATCH",
                    "/v1/backends/app/b1",
                    {"admin": "drain" if n % 2 == 0 else "ready", "force": True, "reason": filled(reason)},
                )
            admin.change("PATCH", "/v1/backends/app/b1", {"weight": 3, "reason": filled("password={secret}")})
            ask(port, REQUESTS[0])
        yield path


def dump(path: str, *words: str) -> str:
    said = subprocess.run(
        [BIN / "lbctl", "--admin", f"unix:{path}", "support-dump", *words], capture_output=True, timeout=60, check=True
    )
    return said.stdout.decode()


def found(value, where="", word=SECRET):
    """Where a word stands."""
    if isinstance(value, dict):
        return [
            one
            for key, part in value.items()
            for one in [*found(str(key), f"{where} key", word), *found(part, f"{where}.{key}", word)]
        ]
    if isinstance(value, list):
        return [one for n, part in enumerate(value) for one in found(part, f"{where}[{n}]", word)]
    return [f"{where}: {value}"] if word in str(value) else []


@pytest.mark.parametrize("words", [(), ("--anonymous",)])
def test_no_secret_comes_out(daemon, words):
    text = dump(daemon, *words)
    assert found(json.loads(text)) == []
    assert SECRET not in text


def test_an_anonymous_one_names_no_machine_no_place_and_nobody(daemon):
    said = json.loads(dump(daemon, "--anonymous"))
    user = pwd.getpwuid(os.getuid()).pw_name
    for word in (
        HOST,
        "127.0.0.1",
        os.path.dirname(daemon),
        "x.example",
        "new.example",
        "wiki",
        f"by {user}",
    ):
        assert found(said, word=word) == []


def test_what_helps_is_still_there(daemon):
    said = json.loads(dump(daemon))
    assert {one["path"].partition("?")[0] for one in said["explain_last"]["requests"]} >= {
        "/login",
        "/listed/x",
        "/old",
    }
    assert [one["text"].partition(":")[0] for one in said["events"]["events"] if one["kind"] == "admin"][:2] == [
        "ready → drain",
        "drain → ready",
    ]
    values = {one["key"]: one["value"] for one in said["config"]["values"]}
    assert (values["pools.app.policy"], values["pools.app.backends.b1.weight"]) == ("rr", "3")
    assert 'twisted_lb_backend_weight{backend="b1",pool="app"} 3.0' in said["metrics"]
