"""`lbctl doctor`: each thing that is looked at, when it is well and when it is not."""

import contextlib
import json
import socket
import threading

import pytest
from ctl_sample import NOW, VALUES, status

from twisted_lb import __version__
from twisted_lb.ctl import doctor


class Peer:
    """A backend on a pair of sockets: what it answers, None for a refused connection, an error for that."""

    def __init__(self, answer):
        self.answer = answer
        self.heard = b""

    def connect(self):
        if isinstance(self.answer, OSError):
            raise self.answer
        ours, theirs = socket.socketpair()
        theirs.settimeout(10)
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return ours

    def _serve(self, sock):
        with sock, contextlib.suppress(OSError):  # who asks may be gone
            if self.answer:
                self.heard = sock.recv(65536)
                sock.sendall(self.answer)


@pytest.fixture
def peers(monkeypatch):
    """Backends by their addresses; all others are well."""
    found = {}
    monkeypatch.setattr(doctor, "_connected", lambda address, port: found.get(address, WELL()).connect())
    return found


def WELL():
    return Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def machine(monkeypatch, tmp_path, api):
    """What the machine says: files below a folder in the place of /proc."""
    files = {
        "7/limits": "Limit  Soft Limit  Hard Limit  Units\nMax open files            65536   65536   files\n",
        "7/status": "Name:\tx\nCapEff:\t0000000000000000\n",
        "sys/net/core/somaxconn": "4096\n",
        "sys/net/ipv4/ip_unprivileged_port_start": "1024\n",
    }

    def write(**changed):
        for name, text in (files | changed).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for n in range(12):
            (tmp_path / "7/fd").mkdir(exist_ok=True)
            (tmp_path / f"7/fd/{n}").touch()

    monkeypatch.setattr(doctor, "_PROC", str(tmp_path))
    write()
    config = tmp_path / "lb.toml"
    config.touch(0o640)
    told = status() | {"pid": 7, "version": __version__}
    told["file"] = {"path": str(config), "changed_s": None}
    for pool in told["pools"]:
        for one in pool["backends"]:
            one["usable"], one["admin"] = True, "ready"
    api.answers |= {"GET /v1/status": told, "GET /v1/config": {"values": CONFIG}}
    write.told, write.config = told, config
    return write


CONFIG = [
    {"key": f"pools.{pool}.health_check.{key}", "value": value, "source": "default"}
    for pool, path in (("app", "/health"), ("api", "/ready"), ("static", "/"))
    for key, value in (
        ("kind", "http"), ("path", path), ("method", "GET"), ("host", ""), ("port", ""),
        ("expect_statuses", "200-299, 404"), ("headers", "***"),
    )
]  # fmt: skip


def findings(lbctl, ending=0):
    assert lbctl("--json", "doctor") == ending
    said = json.loads(lbctl.out)
    assert said["well"] is (ending == 0)
    return {one["subject"]: (one["level"], one["text"], one["hint"]) for one in said["findings"]}


def test_all_is_well(lbctl, api, peers, machine):
    found = findings(lbctl)
    assert {level for level, _, _ in found.values()} == {"good"}
    assert found["daemon"][1] == f"edge-1 answers at unix:{api.path}"
    assert (found["version"][1], found["clock"][1]) == (f"{__version__}, as lbctl's", "as here")
    assert (found["descriptors"][1], found["somaxconn"][1]) == ("12 of 65,536", "4096")
    assert found["app/b1"][1] == "GET /health: 200"
    assert found[str(machine.config)][1] == "mode 0640"
    assert len([name for name in found if "/" in name and not name.startswith("/")]) == 19


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"pools.app.tls.verify": True}, "TLS"),
        ({"pools.app.send_proxy": "v2"}, "a PROXY header"),
        ({"pools.app.tls.verify": True, "pools.app.send_proxy": "v1"}, "a PROXY header and TLS"),
    ],
)
def test_a_backend_that_is_greeted_first_is_connected_to_and_asked_nothing(lbctl, api, peers, machine, said, text):
    values = [{"key": key, "value": value, "source": "lb.toml:9"} for key, value in said.items()]
    api.answers["GET /v1/config"] = {"values": [*CONFIG, *values]}
    assert findings(lbctl)["app/b1"][:2] == ("good", f"connects from here; {text} come first, by the daemon alone")


def test_it_is_a_table_with_a_sum(lbctl, peers, machine):
    machine.told["ready"], machine.told["ready_text"] = False, "stopping"
    assert lbctl("doctor") == 1
    lines = lbctl.out.splitlines()
    assert lines[2].startswith("✗ ready ")
    assert "no: stopping" in lines[2]
    assert lines[-1].startswith("1 wrong, nothing doubtful; ")


@pytest.mark.parametrize(
    ("change", "subject", "level", "text"),
    [
        ({"version": "0.0.1"}, "version", "doubtful", f"the daemon is 0.0.1, lbctl {__version__}"),
        ({"now": NOW + 60}, "clock", "doubtful", "the daemon's is 60 s ahead"),
        ({"now": NOW - 60}, "clock", "doubtful", "the daemon's is 60 s behind"),
        ({"ready": False, "ready_text": "stopping"}, "ready", "bad", "no: stopping"),
    ],
)
def test_what_the_daemon_says_of_itself(lbctl, peers, machine, change, subject, level, text):
    machine.told.update(change)
    assert findings(lbctl, int(level == "bad"))[subject][:2] == (level, text)


def test_what_the_machine_has_too_little_of(lbctl, peers, machine):
    machine(**{"7/limits": "Max open files            1024   4096   files\n", "sys/net/core/somaxconn": "128\n"})
    found = findings(lbctl)
    assert found["descriptors"] == ("doubtful", "12 of 1,024", "LimitNOFILE= of its unit, or ulimit -n")
    assert found["somaxconn"] == ("doubtful", "128", "sysctl net.core.somaxconn=4096")
    machine(**{"7/limits": "Max open files            14   14   files\n"})
    assert findings(lbctl)["descriptors"][0] == "doubtful"


def test_a_port_that_could_not_be_bound_again(lbctl, peers, machine):
    machine.told["listeners"][0]["addresses"] = ["0.0.0.0:80"]
    found = findings(lbctl)["listener web"]
    assert found[:2] == ("doubtful", "0.0.0.0:80: by its rights now it could not be bound again")
    machine(**{"7/status": "CapEff:\t0000000000000400\n"})
    assert "listener web" not in findings(lbctl)
    machine(**{"sys/net/ipv4/ip_unprivileged_port_start": "0\n"})
    assert "listener web" not in findings(lbctl)


def test_files_that_others_may_write_or_read(lbctl, peers, machine, api):
    config = str(machine.config)
    machine.config.chmod(0o644)
    assert findings(lbctl)[config][0] == "good"
    api.answers["GET /v1/config"] = {"values": [*CONFIG, *VALUES]}
    assert findings(lbctl)[config] == (
        "doubtful", "a secret stands in it, and everybody may read it", f"chmod o-r {config}",
    )  # fmt: skip
    machine.config.chmod(0o666)
    assert findings(lbctl, 1)[config] == ("bad", "everybody on this machine may write to it", f"chmod o-w {config}")
    machine.config.unlink()
    assert findings(lbctl)[config][:2] == ("doubtful", "cannot be looked at: No such file or directory")


def test_a_file_that_is_not_in_force(lbctl, peers, machine):
    machine.told["file"]["changed_s"] = 180.0
    lbctl("--json", "doctor")
    told = [one for one in json.loads(lbctl.out)["findings"] if one["subject"] == str(machine.config)]
    assert (told[0]["level"], told[0]["text"]) == ("doubtful", "changed 3 min ago, not loaded")


@pytest.mark.parametrize(
    ("answer", "level", "text"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "good", "GET /health: 404"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "bad", "GET /health: 500"),
        (b"SSH-2.0-x\r\n", "bad", "GET /health: no HTTP (BadStatusLine)"),
        (ConnectionRefusedError(111, "Connection refused"), "bad", "connection refused, from here"),
        (TimeoutError("timed out"), "bad", "no answer in time, from here"),
        (socket.gaierror(-2, "Name or service not known"), "bad", "its name does not resolve, from here"),
    ],
)
def test_each_backend_is_asked_from_here(lbctl, peers, machine, answer, level, text):
    peers["10.0.0.11:8000"] = Peer(answer)
    assert findings(lbctl, int(level == "bad"))["app/b1"][:2] == (level, text)


def test_who_is_well_from_here_and_not_for_the_daemon_is_doubtful(lbctl, peers, machine):
    one = machine.told["pools"][0]["backends"][0]
    one["usable"], one["state"] = False, "down"
    assert findings(lbctl)["app/b1"][:2] == ("doubtful", "GET /health: 200; the daemon says down")


def test_who_was_taken_out_need_not_answer(lbctl, peers, machine):
    machine.told["pools"][0]["backends"][0]["admin"] = "maint"
    peers["10.0.0.11:8000"] = Peer(ConnectionRefusedError(111, "Connection refused"))
    assert findings(lbctl)["app/b1"][:2] == ("doubtful", "connection refused, from here; it is taken out (maint)")


def test_a_check_with_fields_that_are_not_shown_is_not_called_wrong_for_their_lack(lbctl, peers, machine, api):
    peers["10.0.0.11:8000"] = Peer(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    assert findings(lbctl, 1)["app/b1"][0] == "bad"
    shown = [
        one | ({"source": "lb.toml:3"} if one["key"] == "pools.app.health_check.headers" else {}) for one in CONFIG
    ]
    api.answers["GET /v1/config"] = {"values": shown}
    assert findings(lbctl)["app/b1"][:2] == ("good", "GET /health: 401, without the fields that only the daemon knows")


def test_who_is_not_checked_is_only_connected(lbctl, peers, machine):
    machine.told["pools"][0]["check"] = "none"
    peer = peers["10.0.0.11:8000"] = WELL()
    assert findings(lbctl)["app/b1"][:2] == ("good", "connects from here")
    assert peer.heard == b""


def workers(*states: str) -> list[dict]:
    return [{"slot": slot, "pid": 70 + slot, "state": state} for slot, state in enumerate(states)]


def test_workers_that_all_serve_are_well_and_the_one_with_the_most_descriptors_counts(
    lbctl, api, peers, machine, tmp_path
):
    machine.told["workers"] = workers("serves", "serves")
    machine(**{f"71/fd/{n}": "" for n in range(40)})
    found = findings(lbctl)
    assert found["workers"] == ("good", "2 of 2 serve", "")
    assert found["descriptors"] == ("good", "40 of 65,536", "")


def test_a_worker_that_is_missing_is_doubtful(lbctl, api, peers, machine):
    # One drains whose place another one has taken already.
    machine.told["workers"] = [*workers("serves", "waits"), {"slot": 0, "pid": 9, "state": "drains"}]
    assert findings(lbctl)["workers"] == ("doubtful", "1 of 2 serve", "lbctl workers, and the log")


def test_one_process_has_no_workers_that_could_be_missing(lbctl, api, peers, machine):
    machine.told["workers"] = []
    assert "workers" not in findings(lbctl)
