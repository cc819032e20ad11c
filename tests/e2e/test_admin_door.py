"""The admin door of real daemons: where it is, whose it is, and who has it after a takeover."""

import contextlib
import http.client
import os
import re
import signal
import socket
import stat
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import TERM, listening, stage, until
from steering import Admin


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def folder():
    """A folder with a short name, since a unix socket has 107 bytes, that everybody may look into."""
    with tempfile.TemporaryDirectory(prefix="lb-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def asked(at, method="GET", path="/v1/status", body=None, **fields):
    with closing(Admin(at)) as admin:
        return admin.ask(method, path, body, **fields)


def config(world, **tables):
    """A file with one backend that nobody checks."""
    path = world.folder / "lb.toml"
    head = tables.pop("head", "")
    path.write_text(f'{head}\nbackends = ["127.0.0.1:9"]\nhealth_check.interval_s = 0\n')
    return path


def started(world, *words, name="lb", before=()):
    """A daemon that is there, and its port."""
    port = free_port()
    running = world.twistd(
        name, *before, "lb", "-p", str(port), "--interface", "127.0.0.1", "-b", "127.0.0.1:9", "-c", "0", *words
    )
    until(lambda: listening(port) or running.process.poll() is not None, "the balancer")
    assert running.process.poll() is None, running.log
    return running, port


def test_where_nobody_asks_and_there_is_no_folder_there_is_no_door(world):
    running, _ = started(world)
    running.wait_for("twisted_lb .* on ")
    assert "admin" not in running.log


@pytest.mark.parametrize("variable", ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"])
def test_the_default_socket_is_its_users_alone_and_goes_with_the_daemon(world, folder, monkeypatch, variable):
    monkeypatch.setenv(variable, f"{folder}:/nowhere" if variable == "RUNTIME_DIRECTORY" else str(folder))
    running, port = started(world)
    path = folder / "twisted_lb" / f"{port}.admin.sock"
    running.wait_for(f" admin socket at {path}")
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o755
    status, said = asked(str(path))
    assert (status, said["name"], said["pid"], said["scope"]) == (200, str(port), running.pid, "change")
    status, said = asked(str(path), "PATCH", "/v1/backends/default/127.0.0.1%3A9", {"weight": 4, "reason": "try"})
    assert status == 200, said
    running.wait_for(rf"admin: \w+ \(uid {os.getuid()} pid {os.getpid()}\): default/127.0.0.1:9 weight 1 → 4: “try”")
    running.signal(TERM)
    running.wait()
    assert not path.exists()


def test_mode_and_group_open_the_socket(world):
    path = world.folder / "admin.sock"
    table = f'[admin]\nsocket = "{path}"\nmode = "0660"\n'
    file = world.folder / "lb.toml"
    file.write_text(f'name = "edge"\n{table}')
    running, _ = started(world, "--config", str(file))
    running.wait_for("admin socket at ")
    assert mode_of(path) == 0o660
    assert asked(str(path))[1]["name"] == "edge"


def test_an_explicit_socket_that_another_process_has_ends_the_start(world):
    path = world.folder / "admin.sock"
    started(world, "--admin", f"unix:{path}")
    until(path.exists, "the first one")
    second = world.twistd("second", "lb", "-p", str(free_port()), "-b", "127.0.0.1:9", "--admin", f"unix:{path}")
    assert second.wait() == 1
    assert second.log.splitlines()[-1] == f"twistd lb: admin.socket {path}: another process listens there"
    assert asked(str(path))[0] == 200


def test_a_port_is_read_by_all_and_changed_with_the_token_that_was_logged_once(world):
    port = free_port()
    running, _ = started(world, "--admin", f"127.0.0.1:{port}")
    running.wait_for("the token of this start is ")
    (token,) = re.findall(r"the token of this start is (\S+)", running.log)
    assert asked(port)[1]["scope"] == "read"
    path = "/v1/backends/default/127.0.0.1%3A9"
    status, said = asked(port, "PATCH", path, {"weight": 2})
    assert (status, said["code"]) == (403, "read_only")
    status, said = asked(port, "PATCH", path, {"weight": 2}, Authorization=f"Bearer {token}x")
    assert (status, said["code"]) == (401, "no_token")
    assert asked(port, "PATCH", path, {"weight": 2}, Authorization=f"Bearer {token}")[0] == 200
    running.wait_for(r"admin: start-token \(127\.0\.0\.1\): default/127\.0\.0\.1:9 weight 1 → 2")
    assert asked(port, Host="evil.example")[1]["code"] == "bad_host"
    assert running.log.count(token) == 1


def test_a_taken_page_port_and_a_living_default_socket_are_warnings(world, folder, monkeypatch):
    (folder / "twisted_lb").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    path = folder / "twisted_lb" / "edge.admin.sock"
    file = config(world, head='name = "edge"')
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        page = taken.getsockname()[1]
        running, _ = started(world, "--config", str(file), "--admin", f"127.0.0.1:{page}")
        running.wait_for(f"no admin socket at {path}: another process listens there")
        running.wait_for(f"no admin page on 127.0.0.1:{page}: already in use")
        running.signal(TERM)
        running.wait()
        assert path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_the_sockets_are_those_of_the_user_that_the_daemon_becomes(world, folder, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(folder))
    running, port = started(world, before=("--uid", "65534", "--gid", "65534"))
    path = folder / "twisted_lb" / f"{port}.admin.sock"
    running.wait_for("admin socket at ")
    assert (os.stat(path).st_uid, os.stat(path.parent).st_uid, mode_of(path)) == (65534, 65534, 0o600)
    assert asked(str(path))[0] == 200
    running.signal(TERM)
    running.wait()
    assert not path.exists()


class Instances:
    """Instances that take over from one another, all with the same words."""

    def __init__(self, world, *words):
        self.world, self.port, self.count = world, free_port(), 0
        self.words = ("--takeover", str(world.folder / "takeover"), *words)

    def start(self):
        self.count += 1
        words = ["-p", str(self.port), "--interface", "127.0.0.1", "-b", "127.0.0.1:9", "-c", "0"]
        return self.world.twistd(f"lb-{self.count}", "lb", *words, *self.words)


def test_one_that_takes_over_has_the_door_and_at_no_moment_nobody_has(world):
    path, page = str(world.folder / "admin.sock"), free_port()
    file = world.folder / "lb.toml"
    file.write_text(
        f'[admin]\nsocket = "{path}"\naddress = "127.0.0.1:{page}"\ntokens = {{ ops = "0123456789abcdef" }}\n'
    )
    instances = Instances(world, "--config", str(file))
    old = instances.start()
    until(lambda: os.path.exists(path) and listening(page), "the first one")
    assert asked(path)[1]["pid"] == old.pid
    new = instances.start()
    seen = set()

    def looked():
        with closing(Admin(path)) as admin:
            admin.connect()  # never refused, and never no such file
            with contextlib.suppress(OSError, http.client.HTTPException):  # the old one is leaving
                seen.add(admin.ask("GET", "/v1/status")[1]["pid"])
        return new.pid in seen

    until(looked, "the new one answers")
    assert old.wait() == 0
    until(lambda: listening(page), "the page of the new one")
    assert asked(path)[1]["pid"] == asked(page)[1]["pid"] == new.pid
    assert "Traceback" not in old.log + new.log
    new.signal(TERM)
    new.wait()
    assert not os.path.exists(path)


def test_one_that_takes_over_and_cannot_have_the_socket_says_so_and_goes_on(world):
    folder = world.folder / "door"
    folder.mkdir()
    instances = Instances(world, "--admin", f"unix:{folder}/admin.sock")
    old = instances.start()
    until((folder / "admin.sock").exists, "the first one")
    (folder / "admin.sock").unlink()
    folder.rmdir()
    new = instances.start()
    new.wait_for(f"took over from process {old.pid}")
    assert old.wait() == 0
    assert f"admin.socket {folder}/admin.sock: No such file or directory" in new.log
    assert listening(instances.port)
    assert "Traceback" not in new.log


# What a file says, asked for through the door.


@pytest.fixture
def watched(world):
    """A daemon that watches its file, its door, and the file."""
    file = config(world, head="watch = true")
    path = str(world.folder / "admin.sock")
    running, _ = started(world, "--config", str(file), "--admin", f"unix:{path}")
    running.wait_for("admin socket at ")
    return running, path, file


def test_a_look_at_what_would_change_does_not_keep_the_watch_from_changing_it(watched):
    running, path, file = watched
    file.write_text(file.read_text().replace('"127.0.0.1:9"', '"127.0.0.1:9", "127.0.0.1:10"').replace("-b", ""))
    file.write_text(file.read_text() + "timeouts.connect_s = 7\n")
    status, said = asked(path, "GET", "/v1/plan")
    assert (status, said["applied"], said["changed"]) == (200, False, True), said
    assert said["generation"] == 1
    running.wait_for("reload: ")
    until(lambda: asked(path)[1]["generation"] == 2, "the watch has applied it")
    assert asked(path)[1]["loaded_by"] == "watch"
    status, said = asked(path, "GET", "/v1/plan")
    assert (said["changed"], said["generation"]) == (False, 2)


def test_reloads_good_and_bad_and_two_at_once(watched):
    running, path, file = watched
    file.write_text(file.read_text().replace("watch = true", "watch = false"))
    until(lambda: asked(path)[1]["generation"] == 2, "nobody watches any more")
    good = file.read_text()
    file.write_text(f'{good}polcy = "rr"\n')
    for method, url, body in (("POST", "/v1/reload", {"reason": "try"}), ("GET", "/v1/plan", None)):
        status, said = asked(path, method, url, body)
        assert (status, said["code"]) == (422, "bad_configuration")
        assert said["problems"][0]["place"].startswith("lb.toml:4") or "lb.toml:4" in said["problems"][0]["text"]
        assert "polcy" in said["report"]
    assert asked(path)[1]["file"]["changed_s"] is not None
    assert asked(path)[1]["generation"] == 2
    file.write_text(f"{good}timeouts.connect_s = 7\n")
    with closing(Admin(path)) as one, closing(Admin(path)) as other:
        for admin in (one, other):
            admin.request("POST", "/v1/reload", b"{}", {"Content-Type": "application/json"})
        assert [admin.getresponse().status for admin in (one, other)] == [200, 200]
    assert asked(path)[1]["generation"] in (3, 4)
    assert asked(path)[1]["file"]["changed_s"] is None
    assert running.log.count("generation") == 0
    assert len(re.findall(r"admin: \S+ \(uid \d+ pid \d+\): reload", running.log)) == 3


def test_values_come_with_their_sources(watched):
    _, path, _ = watched
    values = {one["key"]: (one["value"], one["source"]) for one in asked(path, "GET", "/v1/config")[1]["values"]}
    assert values["watch"][0] == "true"
    assert values["watch"][1].endswith("lb.toml:1")
    assert values["admin.socket"][1] == "--admin"
    assert path in values["admin.socket"][0]
    assert values["admin.tokens"] == ("***", "default")
    assert values["pools.default.policy"] == ("rr", "default")


def test_a_stop_waits_for_nobody_at_the_door(watched):
    running, path, _ = watched
    with closing(socket.socket(socket.AF_UNIX)) as stream:
        stream.connect(path)
        stream.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        assert stream.recv(5) == b"HTTP/"
        running.signal(signal.SIGTERM)
        assert running.wait() == -TERM
    assert "Traceback" not in running.log
