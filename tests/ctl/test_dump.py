"""`lbctl support-dump`: all that a bug report needs, and no secret, whatever it hides in."""

import json
import re
import stat

import pytest
from ctl_house import Problem, Raw
from ctl_sample import EVENTS, RETRIED, VALUES, certificate, status

from twisted_lb.ctl.dump import Anonymous, without_secrets

SECRET = "hunter2SECRETabc"
# Wherever a secret may stand, in texts that others have written.
LEAKS = [
    f"GET /login?password={SECRET}&x=1 HTTP/1.1",
    f"http://x.org/a?{SECRET}",
    f"x.org?{SECRET}",
    f"/a#{SECRET}",
    f"redis://user:{SECRET}@db.example.com:6379/0",
    f"Authorization: Bearer {SECRET}",
    f"authorization=Basic {SECRET}",
    f"Bearer {SECRET}",
    f"said: Cookie: a=1; sid={SECRET}; b=2",
    f"Set-Cookie: sid={SECRET}; Path=/",
    f"X-Api-Key: {SECRET}",
    f"X-Auth-Token: {SECRET}",
    f"api_key={SECRET}",
    f"DB_PASSWORD={SECRET}",
    f"client_secret: {SECRET}",
    f"session_id={SECRET}",
    f"Proxy-Authorization: Digest username=x, response={SECRET}",
    f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.sig",
    f"/encoded%3Fpassword%3D{SECRET}",
    f"/a%23{SECRET}",
    f"/page;jsessionid={SECRET}",
    f"/page%3Bsid%3D{SECRET}/x",
    f"/reset/token/{SECRET}",
    f"token%3D{SECRET}",
    f"the password is {SECRET}",
    f"api-key {SECRET}",
    f"https://user:p@{SECRET}@db.example.com/",
    f"https://user:p?{SECRET}@db.example.com/",
    f"/a;b?x={SECRET}",
    f"/it's?x={SECRET}",
    f"/x?q='{SECRET}'&t=1",
    f"PGPASSWORD={SECRET}",
    f"pwd={SECRET}",
    f"aws_access_key={SECRET}",
    f"{'long_' * 40}token={SECRET}",
]
KEYS = [
    "authorization",
    "Cookie",
    "set-cookie",
    "token",
    "tokens",
    "admin_password",
    "api-key",
    "query",
    "client_secret",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_text_keeps_a_secret(text):
    for value in (text, [text], {"reason": text}, {"a": {"b": [f"x “{text}” y"]}}):
        assert SECRET not in json.dumps(without_secrets(value)), value


@pytest.mark.parametrize(
    "piece",
    [
        "/",
        "/a",
        "a.",
        "a-",
        "x-",
        "1.",
        "_.",
        "a+",
        "a:",
        ":",
        "%3",
        ";a",
        "token",
        "token%3a",
        "token is ",
        "session",
        "eyJ.",
        "basic ",
        "a://",
    ],
)
def test_no_path_that_a_client_chooses_makes_a_dump_long(piece):
    """A look that is not linear in this text would not come back."""
    text = piece * 20_000
    assert without_secrets([text])
    assert Anonymous().all_of(text)


@pytest.mark.parametrize("key", KEYS)
def test_no_key_of_a_secret_keeps_its_value(key):
    for value in (SECRET, [SECRET], {"ops": SECRET}):
        assert SECRET not in json.dumps(without_secrets({key: value}))
    named = {"key": f"admin.{key}.ops", "value": SECRET, "source": "lb.toml:3"}
    assert SECRET not in json.dumps(without_secrets(named)) or key == "query"


def test_what_is_no_secret_stays():
    told = status() | {"changes": []}
    assert without_secrets(told) == told
    assert without_secrets(RETRIED) == RETRIED
    assert without_secrets(VALUES) == VALUES


@pytest.fixture
def asked(api):
    """An API with secrets in all of its answers."""
    event = EVENTS[0] | {"text": LEAKS[0]}
    told = status()
    told["pools"][0]["backends"][0]["reason"] = LEAKS[5]
    told["pools"][0]["backends"][0]["labels"] = {"token": SECRET}
    api.answers |= {
        "GET /v1/status": told,
        "GET /v1/config": {"values": [{"key": "admin.tokens.ops", "value": SECRET, "source": "default"}, *VALUES]},
        "GET /v1/events": {"events": [event], "last": 1},
        "GET /v1/explain": {"requests": [RETRIED | {"path": f"/x?{SECRET}", "detail": LEAKS[8]}]},
        "GET /metrics": Raw(f'twisted_lb_x{{a="/b?{SECRET}"}} 1\n'.encode(), "text/plain"),
    }
    return api


def test_the_dump_has_all_parts_and_no_secret(lbctl, asked):
    assert lbctl("support-dump") == 0
    dump = json.loads(lbctl.out)
    assert set(dump) == {
        *(
            "lbctl",
            "made_at",
            "status",
            "config",
            "events",
            "explain_last",
            "explain_failed",
            "explain_slowest",
            "metrics",
        )
    }
    assert SECRET not in lbctl.out
    assert dump["status"]["pools"][0]["backends"][1]["address"] == "10.0.0.12:8000"
    assert dump["config"]["values"][1]["key"] == "listeners.web.address"


def test_an_anonymous_dump_names_no_machine_and_nobody(lbctl, asked):
    told = status()
    told["pools"][0]["backends"][0] |= {
        "address": "db-7.internal.example.com:80",
        "backend": "db-7.internal.example.com:80",
    }
    told["pools"][0]["backends"][1] |= {"address": "[2001:db8::17]:80"}
    asked.answers["GET /v1/status"] = told
    assert lbctl("support-dump", "--anonymous") == 0
    for word in (
        "10.0.",
        "203.0.113",
        "2001:db8",
        "example.com",
        "alice",
        "bob",
        "deploy 2026",
        "/run/static",
        "edge-1",
    ):
        assert word not in lbctl.out, word
    backends = json.loads(lbctl.out)["status"]["pools"]
    assert backends[0]["backends"][0]["address"] == "host-1:80"
    # The same thing has the same name everywhere.
    assert backends[0]["backends"][2]["address"].startswith("ip-")


def test_a_url_keeps_neither_its_host_nor_its_path():
    names = Anonymous()
    said = "from http://lists.corp.example:8080/teams/a.json and https://10.0.0.9/x, then http://***@db.corp/y?***"
    assert names.all_of(said) == "from http://url-1 and https://url-2, then http://url-3?***"


def test_a_name_stands_for_the_same_thing_everywhere():
    names = Anonymous()
    told = names.all_of({"a": "10.0.0.1:80 and 10.0.0.2", "b": ["x 10.0.0.2:1", {"client": "10.0.0.1"}]})
    assert told == {"a": "ip-1:80 and ip-2", "b": ["x ip-2:1", {"client": "client-1"}]}


def test_a_file_is_new_and_ones_own(lbctl, asked, tmp_path):
    file = tmp_path / "dump.json"
    assert lbctl("support-dump", str(file)) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert SECRET not in file.read_text()
    assert lbctl.out.startswith(f"{file}: ")
    assert lbctl("support-dump", str(file)) == 1
    assert lbctl.err == f"lbctl: {file}: File exists\n"


def test_on_a_terminal_it_is_a_file_with_a_name_of_its_own(lbctl, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lbctl("support-dump", terminal=True) == 0
    assert [one.name for one in tmp_path.iterdir()] == ["support-dump-edge-1-1417.json"]


def test_a_part_that_is_not_there_does_not_keep_the_others(lbctl, api):
    api.answers["GET /v1/config"] = Problem(403, "read_only", "this token may only read")
    assert lbctl("support-dump") == 0
    dump = json.loads(lbctl.out)
    assert dump["config"] == {"failed": "refused: this token may only read"}
    assert dump["status"]["generation"] == 42


def test_without_a_daemon_there_is_no_dump(lbctl, tmp_path):
    assert lbctl("support-dump", "--admin", f"unix:{tmp_path}/none") == 3
    assert lbctl.out == ""


def test_certificates_and_their_clients_are_anonymous_and_stay_the_same_everywhere(lbctl, api):
    told = status()
    told["listeners"][0]["certificates"] = [
        certificate("*.example.com", "www.example.com", "vm", days=80, file="/etc/tls/acme-inc.pem")
        | {"issuer": "CN=Acme Inc"}
    ]
    agreed = {
        "text": "TLSv1.3 (www.example.com), certificate CN=alice,O=Acme (Inc)",
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "server_name": "www.example.com",
        "resumed": False,
        "client_subject": "CN=alice,O=Acme (Inc)",
        "client_fingerprint": "ab" * 32,
    }
    api.answers["GET /v1/status"] = told
    proxy = {
        "text": "TLSv1.3 (www.example.com), certificate CN=bob, id 10.0.0.7-51234-acme, endpoint vpce-08d2bf15",
        "authority": "www.example.com",
        "alpn": "h2",
        "unique_id": "10.0.0.7-51234-acme",
        "tls_version": "TLSv1.3",
        "tls_cipher": "TLS_AES_256_GCM_SHA384",
        "client_cn": "bob",
        "client_verified": True,
        "aws_vpce_id": "vpce-08d2bf15",
        "azure_pel_id": "",
        "gcp_conn_id": "",
    }
    api.answers["GET /v1/explain"] = {"requests": [RETRIED | {"tls": agreed, "proxy": proxy}]}
    metric = (
        'twisted_lb_certificate_expires_timestamp_seconds{certificate="*.example.com (ECDSA)",listener="web"} 1.8e9'
    )
    api.answers["GET /metrics"] = Raw(metric.encode(), "text/plain")
    assert lbctl("support-dump", "--anonymous") == 0
    for word in ("example", "vm", "alice", "bob", "vpce-", "08d2", "51234", "cme", "Inc", "abab", "90d7"):
        assert word not in re.sub("certificate|vmin", "", lbctl.out), word
    dump = json.loads(lbctl.out)
    [one] = dump["status"]["listeners"][0]["certificates"]
    tls = dump["explain_last"]["requests"][0]["tls"]
    assert tls["server_name"] == one["names"][1]
    assert one["names"][0] in dump["metrics"][0]
    assert tls["version"] == "TLSv1.3"
