"""`lbctl` against a real daemon: how each verb ends where something is wrong, and all exit statuses, as a shell sees them."""

import io
import os
import signal
import socket
import subprocess
from contextlib import closing, redirect_stderr, redirect_stdout

import pytest
from ports import free_port
from processes import BIN, PATIENCE_S, listening, stage, until
from steering import Admin, Load

from twisted_lb.ctl.main import VERBS, main

CONFIG = """
name = "edge-1"
[admin]
socket = "{door}"
[listeners.web]
address = "127.0.0.1:{port}"
[defaults.pool.health_check]
interval_s = 0
[pools.app]
backends = [
    {{ name = "a1", address = "127.0.0.1:{busy}" }},
    {{ name = "a2", address = "127.0.0.1:{other}" }},
]
[pools.lone]
backends = [{{ name = "l1", address = "127.0.0.1:9" }}]
[[routes]]
path_prefix = "/app"
pool = "app"
[[routes]]
path_prefix = "/lone"
pool = "lone"
"""


class Operated:
    """A daemon whose backend `app/a1` keeps a request for ever, as soon as it has one."""

    def __init__(self, world, load: Load) -> None:
        self.busy, self.other = load.backend(delay_s=3600.0), load.backend()
        self.folder = world.folder
        self.door, self.port = str(world.folder / "admin.sock"), free_port()
        self.file = world.folder / "lb.toml"
        self.text = CONFIG.format(door=self.door, port=self.port, busy=self.busy.port, other=self.other.port)
        self.file.write_text(self.text)
        self.running = world.twistd("lb", "lb", "--config", str(self.file))
        until(lambda: os.path.exists(self.door) and listening(self.port), f"it runs: {self.running.log}")

    def restore(self) -> None:
        """Be as at the start again."""
        self.file.write_text(self.text)
        with closing(Admin(self.door)) as admin:
            admin.change("POST", "/v1/reload", {})
            admin.change("DELETE", "/v1/changes")


@pytest.fixture(scope="module")
def operated(tmp_path_factory, workers):
    load = Load()
    with stage(tmp_path_factory.mktemp("lbctl")) as world:
        one = Operated(world, load)
        yield one
        assert "Traceback" not in one.running.log
    load.close()


@pytest.fixture
def daemon(operated, monkeypatch):
    monkeypatch.setenv("TWISTED_LB_ADMIN", f"unix:{operated.door}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(operated.folder)
    yield operated
    operated.restore()


def ended(*words: str) -> tuple[int, str, str]:
    """Status, output and errors of a call."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = main(words)
    return status, out.getvalue(), err.getvalue()


def typed(*words: str) -> tuple[int, str, str]:
    """The same of a process of its own."""
    done = subprocess.run([BIN / "lbctl", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.returncode, done.stdout, done.stderr


def refused(said: tuple[int, str, str], status: int, what: str) -> None:
    """Assert that it has ended so, with a sentence on stderr that says what."""
    found, out, err = said
    assert (found, out) == (status, ""), err
    assert err.startswith("lbctl: ")
    assert what in " ".join(err.split())
    assert "Traceback" not in err
    assert "mistake of lbctl's" not in err


WRONG = [
    ("backends nothing", 4, 'there is no pool "nothing"'),
    ("top --tab 9 --once", 2, "--tab"),
    ("events --last x", 2, "argument --last"),
    ("tail --backend app/a9", 4, 'there is no backend "app/a9"; did you mean "app/a2"?'),
    ("tail --pool ap", 4, 'there is no pool "ap"'),
    ("config app", 2, "unrecognized arguments: app"),
    ("explain 0123456789abcdef0123456789abcdef", 4, "no longer known"),
    ("explain", 2, "which request?"),
    ("explain --next nothing", 4, 'there is no pool "nothing"'),
    ("route GET nowhere", 1, "nowhere"),
    ("route GET / --listener wbe", 4, 'there is no listener "wbe"'),
    ("drain lone/l1", 1, "last usable backend of lone"),
    ("drain app/a1 app/a2", 1, "last usable backends of app"),
    ("drain app/b1", 4, 'there is no backend "app/b1"'),
    ("drain app/a1 --wait soon", 2, "argument --wait"),
    ("maint lone/l1", 1, "last usable backend of lone"),
    ("maint 'x*'", 4, "x*"),
    ("ready l2", 4, 'there is no backend "l2"'),
    ("weight app/a1 heavy", 2, "a weight is a whole number from 0 to 256"),
    ("weight app/a3 2", 4, 'there is no backend "app/a3"'),
    ("weight lone/l1 0", 1, "last usable backend of lone"),
    ("add nothing 127.0.0.1:81", 4, 'there is no pool "nothing"'),
    ("add app nonsense", 1, "refused: 'nonsense': no port"),
    ("add app 127.0.0.1:81 --name a1", 1, "a1"),
    ("remove app/a3", 4, 'there is no backend "app/a3"'),
    ("remove lone/l1", 1, "last usable backend of lone"),
    ("reset app/a3", 4, 'there is no backend "app/a3"'),
    ("support-dump nowhere/dump.json", 1, "nowhere/dump.json"),
]


@pytest.mark.parametrize(("words", "status", "what"), WRONG, ids=[words for words, _, _ in WRONG])
def test_what_is_wrong_is_said_in_a_sentence_and_nothing_has_changed(daemon, words, status, what):
    with closing(Admin(daemon.door)) as admin:
        before = admin.ask("GET", "/v1/status")[1]["etag"]
        refused(ended(*(word.strip("'") for word in words.split())), status, what)
        assert admin.ask("GET", "/v1/status")[1]["etag"] == before


def test_a_wrong_file_is_told_alike_by_all_that_read_it(daemon):
    daemon.file.write_text(daemon.text.replace("[pools.lone]", "polcy = 3\n[pools.lone]"))
    place = 'lb.toml:14:1: pools.app.polcy: unknown key; did you mean "policy"?'
    for words, status in (("check lb.toml", 1), ("reload", 1), ("reload --dry-run", 1), ("diff", 2)):
        found, out, err = ended(*words.split())
        assert found == status, words
        assert place in out + err, words
        assert "Traceback" not in out + err
    daemon.file.write_text(daemon.text.replace('127.0.0.1:9"', '127.0.0.1:10"'))
    found, out, _ = ended("diff")
    assert (found, "pool lone" in out) == (1, True)
    found, out, err = ended("check", "nowhere.toml")
    assert (found, out.splitlines()[0], err) == (2, "nowhere.toml: No such file or directory", "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_an_option_that_there_is_not(verb):
    refused(ended(verb, "--no-such-option"), 2, f"see lbctl {verb} --help")


ASKING = ["status", "backends", "top --once", "events", "tail", "config", "explain --last 1", "route GET http://x/",
          "diff", "drain a", "maint a", "ready a", "weight a 1", "add a b:1", "remove a", "reset", "reload", "support-dump -"]  # fmt: skip


@pytest.mark.parametrize("words", ASKING)
def test_every_verb_that_asks_a_daemon_names_the_one_that_it_did_not_reach(tmp_path, words):
    nobody = f"unix:{tmp_path}/admin.sock"
    refused(ended("--admin", nobody, *words.split()), 3, f"{nobody}: no such file")


def test_0_is_done(daemon):
    status, out, err = typed("status")
    assert (status, err) == (0, "")
    assert "\n● Ready, and nobody has asked yet" in out or "\n● All 3 backends are used." in out


def test_1_is_refused_or_not_well(daemon):
    refused(typed("drain", "lone/l1"), 1, "last usable backend of lone")
    assert typed("drain", "lone/l1", "--force")[0] == 0
    status, out, err = typed("status")
    assert (status, err) == (1, "")
    assert "lone answers nothing" in out


def test_1_is_what_a_health_check_says_of_a_daemon_that_is_not_there(tmp_path):
    found, out, err = typed("--admin", f"unix:{tmp_path}/admin.sock", "healthcheck")
    assert found == 1
    assert "no such file" in out + err


def test_2_is_a_mistake_of_who_typed_it(daemon):
    refused(typed("drian", "app/a1"), 2, 'there is no verb "drian"; did you mean "drain"?')


def test_3_is_a_daemon_that_was_not_reached(tmp_path):
    refused(
        typed("--admin", f"unix:{tmp_path}/admin.sock", "status"), 3, f"tried unix:{tmp_path}/admin.sock: no such file"
    )


def test_4_is_a_name_that_there_is_not(daemon):
    refused(typed("drain", "app/a11"), 4, 'there is no backend "app/a11"; did you mean "app/a1"?')


def test_5_is_a_time_that_is_over_and_the_drain_stays(daemon):
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE_S) as client:
        for count in (1, 2):  # it has its turn
            if not daemon.busy.requests:
                client.sendall(b"GET /app HTTP/1.1\r\nHost: x\r\n\r\n")
                until(lambda n=count: daemon.busy.requests + daemon.other.requests >= n, "a backend has it")
        assert daemon.busy.requests == 1
        status, out, err = typed("drain", "app/a1", "--wait", "0.3s")
        assert status == 5, err
        assert out.splitlines() == ["app/a1: ready → drained", "app/a1: 0.3 s are over; left: 1 request"]
        assert err.splitlines()[-1].strip() == "It stays drained. Wait on: lbctl drain app/a1 --wait 5m"
        with closing(Admin(daemon.door)) as admin:
            assert admin.ask("GET", "/v1/backends/app/a1")[1]["state"] == "drained"


def test_130_is_an_interrupt(daemon):
    follow = subprocess.Popen(
        [BIN / "lbctl", "events", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with closing(Admin(daemon.door)) as admin:
        admin.change("PATCH", "/v1/backends/app/a2", {"weight": 3})
    while "app/a2 weight 1 → 3" not in follow.stdout.readline():
        assert follow.poll() is None
    follow.send_signal(signal.SIGINT)
    out, err = follow.communicate(timeout=PATIENCE_S)
    assert follow.returncode == 130
    assert "Traceback" not in out + err
