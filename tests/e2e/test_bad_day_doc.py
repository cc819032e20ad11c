"""docs/operations.md, "A bad day": what it types is typed, at a real daemon with real backends, and prints what it shows."""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from ports import free_port
from processes import BIN, PATIENCE_S, listening, stage, until
from steering import OK, Admin, Load

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text()
PART = PAGE.partition("\n## A bad day\n")[2].partition("\n## ")[0]
SECTIONS = dict(re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", PART, re.MULTILINE | re.DOTALL))
FAILING = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"


class Typed(NamedTuple):
    """A command of the page, and what it is said to print."""

    command: str
    said: str


def typed(title: str) -> list[Typed]:
    """All that a section types, in its order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", SECTIONS[title], re.MULTILINE | re.DOTALL)
    pieces = [re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:] for block in blocks]
    return [Typed(command, said) for piece in pieces for command, said in zip(piece[::2], piece[1::2], strict=True)]


def shape(text: str) -> str:
    """What is the same each time: times, ids, addresses, counts and the width of columns are not."""
    for pattern, sign in (
        (r"[0-9a-f]{32}", "ID"),
        (r"[0-9]+(?:\.[0-9]+){3}:[0-9]+", "ADDRESS"),
        (r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?", "TIME"),
        (r"(?<![\w-])[0-9][0-9.,]* (?:ms|s|min|h|d)\b", "N"),
        (r"\bover (?=[0-9]+ times)", ""),
        (r"(?<![\w-])(?![2-5][0-9]{2}(?![0-9.,]))[0-9][0-9.,]*", "N"),
        (r"–", "N"),
        (r"N→N", "N"),
        (r" +", " "),
    ):
        text = re.sub(pattern, sign, text)
    return text


class Day:
    """A daemon before the backends b1, b2 and b3 of the pool `app`, and a shell."""

    def __init__(self, world, load: Load) -> None:
        self.folder, self.load = world.folder, load
        self.backends = [load.backend() for _ in range(3)]
        self.port, self.door = free_port(), str(self.folder / "admin.sock")
        listed = ", ".join(
            f'{{ name = "b{n}", address = "127.0.0.1:{one.port}" }}' for n, one in enumerate(self.backends, 1)
        )
        self.file = self.folder / "lb.toml"
        self.file.write_text(
            f'name = "edge-1"\n[admin]\nsocket = "{self.door}"\n'
            f'[log]\nfile = "{self.folder}/access.log"\nformat = "haproxy"\n'
            f'[listeners.web]\naddress = "127.0.0.1:{self.port}"\ndefault_pool = "app"\n'
            f'[pools.app]\nhealth_check = {{ path = "/health", interval_s = 0.2, timeout_s = 20 }}\nbackends = [{listed}]\n'
            "queue.no_backend_s = 0\n"
        )
        self.running = world.twistd("lb", "lb", "--config", str(self.file))
        until(lambda: os.path.exists(self.door) and listening(self.port), f"it runs: {self.running.log}")
        self.admin = Admin(self.door)

    def ask(self, method: str = "GET", path: str = "/") -> int:
        """The status of a request."""
        client = Admin(self.port)
        client.request(method, path, b"" if method == "POST" else None)
        answer = client.getresponse()
        answer.read()
        client.close()
        return answer.status

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type this; both streams come as one."""
        for theirs in ("/etc", "/var/log/lb"):
            command = re.sub(rf"(?<![\w/]){theirs}/", f"{self.folder}/", command)
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{self.folder}:{BIN}:{os.environ['PATH']}",
                "TWISTED_LB_ADMIN": f"unix:{self.door}",
                "LC_ALL": "C.UTF-8",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3 * PATIENCE_S,
            check=False,
        )

    def prints(self, one: Typed, **renamed: str) -> None:
        """Assert that it prints what the page shows, but for what differs each time."""
        command = one.command
        for theirs, ours in renamed.items():
            command = command.replace(theirs, ours)
        said = self.run(command).stdout.replace(str(self.folder), "/etc")
        wanted = one.said.replace("alice", pwd.getpwuid(os.getuid()).pw_name)
        assert shape(said) == shape(wanted), f"{one.command}\n{said}"

    def close(self) -> None:
        self.admin.close()


@pytest.fixture
def load():
    one = Load()
    yield one
    one.close()


@pytest.fixture
def day(tmp_path, load):
    with stage(tmp_path) as world:
        one = Day(world, load)
        yield one
        one.close()
        assert "Traceback" not in one.running.log


def test_each_of_its_sections_has_something_that_is_tried():
    assert list(SECTIONS) == [
        "Which backend is sick?",
        "A deploy, one backend after the other",
        "Another configuration",
        "What the log says",
        "Alerts",
        "How much one process carries",
    ]
    assert [len(typed(title)) for title in SECTIONS] == [7, 0, 5, 5, 1, 0]


def test_the_sick_ones_are_found_and_taken_out(day):
    down, broken, _ = day.backends
    broken.says, down.checked = None, FAILING
    until(lambda: "times" in day.admin.ask("GET", "/v1/backends/app/b1")[1]["reason"], "its checks have failed")

    def newest():
        return day.admin.ask("GET", "/v1/explain?failed=1")[1]["requests"]

    while not newest():  # whose turn it is
        assert day.ask("GET", "/items") == 200
    while day.ask("POST", "/orders") != 502:
        pass
    (failed,) = newest()
    for one in typed("Which backend is sick?"):
        ids = dict.fromkeys(re.findall("[0-9a-f]{32}", one.command), failed["id"])
        day.prints(one, **ids)
    day.load.settle()
    seen = broken.requests
    assert [day.ask() for _ in range(6)] == [200] * 6
    assert broken.requests == seen
    refused = day.run("lbctl drain app/b3")
    assert (refused.returncode, "--force" in refused.stdout) == (1, True)
    broken.says = day.backends[2].says
    assert day.run("lbctl ready app/b2 --wait 30s").returncode == 0
    assert {day.ask() for _ in range(4)} == {200}
    assert broken.requests > seen


def test_failures_are_shown_as_they_come(day):
    assert "`lbctl tail --failed`" in SECTIONS["Which backend is sick?"]
    for one in day.backends:
        one.says = None
    tail = subprocess.Popen(
        [sys.executable, "-P", "-m", "twisted_lb.ctl", "tail", "--failed", "--admin", f"unix:{day.door}"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert day.ask("POST", "/orders") == 502
        assert "NO_RESPONSE  POST /orders" in tail.stdout.readline()
    finally:
        tail.kill()
        tail.communicate()


def deployed(day: Day, number: int, before: list[tuple[str, int]]) -> None:
    """Be the program `deploy`: when it is called, another version runs in place of this one. `before`: how the backend was then."""
    begin, done, one = day.folder / f"begin-b{number}", day.folder / f"done-b{number}", day.backends[number - 1]
    until(begin.exists, f"{begin.name} begins")
    with closing(Admin(day.door)) as admin:
        told = admin.ask("GET", f"/v1/backends/app/b{number}")[1]
    before.append((told["state"], told["in_flight"]))
    day.load.restart(one, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv2")
    done.touch()


def test_the_rolling_deploy_is_noticed_by_nobody_and_each_backend_is_deployed_while_it_is_empty(day):
    title = "A deploy, one backend after the other"
    (shown,) = re.findall(r"^```sh\n(.*?)^```$", SECTIONS[title], re.MULTILINE | re.DOTALL)
    script = ROOT / "examples" / "rolling-deploy"
    assert script.read_text() == shown
    assert os.access(script, os.X_OK)
    deploy = day.folder / "deploy"
    deploy.write_text('#!/bin/sh\nname=${1#app/}\n: >"begin-$name"\nwhile ! [ -e "done-$name" ]; do sleep 0.05; done\n')
    deploy.chmod(0o755)
    load = day.load
    load.ask(day.port, 8, pause_s=0.005)
    until(lambda: all(one.requests for one in day.backends), "all are used")
    before: list[tuple[str, int]] = []
    threads = [threading.Thread(target=deployed, args=(day, number, before)) for number in (1, 2, 3)]
    for one in threads:
        one.start()
    done = day.run(f"{script} app")
    for one in threads:
        one.join()
    assert done.returncode == 0, done.stdout
    steps = re.findall(r"^(app/b\d): .*(→ drained|empty|→ ready|usable)", done.stdout, re.MULTILINE)
    assert [step for step in steps if step[1] != "usable"] == [
        (f"app/b{n}", step) for n in (1, 2, 3) for step in ("→ drained", "empty", "→ ready")
    ]
    assert before == [("drained", 0)] * 3
    asked = [one.requests for one in day.backends]
    until(
        lambda: all(one.requests > count for one, count in zip(day.backends, asked, strict=True)), "all are used again"
    )
    assert load.enough() == []
    backends = day.admin.ask("GET", "/v1/status")[1]["pools"][0]["backends"]
    assert [(one["state"], one["failures"]) for one in backends] == [("ready", 0)] * 3


def test_the_rolling_deploy_ends_where_something_is_wrong_and_says_what(day):
    (day.folder / "deploy").write_text("#!/bin/sh\nexit 7\n")
    (day.folder / "deploy").chmod(0o755)
    script = ROOT / "examples" / "rolling-deploy"
    assert day.run(f"{script} app").returncode == 7
    assert [one["state"] for one in day.admin.ask("GET", "/v1/backends")[1]["backends"]] == [
        "drained",
        "ready",
        "ready",
    ]
    day.run("lbctl drain app/b2")
    assert day.run("lbctl ready app/b1; lbctl drain app/b1").returncode == 0
    refused = day.run(f"{script} app")
    assert refused.returncode == 7  # who is out already may stay so
    assert day.run(f"{script} nothing").returncode == 4


def test_another_configuration_is_looked_at_loaded_and_reset(day):
    check, dry, reload, sources, reset = typed("Another configuration")
    assert day.run('lbctl drain app/b2 --reason "closes connections"').returncode == 0
    text = day.file.read_text().replace("interval_s = 0.2, timeout_s = 20", "interval_s = 2.0")
    day.file.write_text(text)
    assert day.run("lbctl reload").returncode == 0
    day.file.write_text(text.replace("interval_s = 2.0", "interval_s = 1.0"))
    for one in (check, dry, reload, sources, reset):
        day.prints(one)
    assert day.admin.ask("GET", "/v1/status")[1]["changes"] == []
    day.file.write_text(text.replace("interval_s", "intrval_s"))
    wrong, not_loaded = day.run("lbctl check /etc/lb.toml"), day.run("lbctl reload")
    assert (wrong.returncode, not_loaded.returncode) == (1, 1)
    assert wrong.stdout.splitlines()[0] in not_loaded.stdout
    assert day.admin.ask("GET", "/v1/status")[1]["generation"] == 3


NEEDED = [name for name in ("halog", "jq", "column") if shutil.which(name) is None]


@pytest.mark.skipif(bool(NEEDED), reason=f"missing: {NEEDED} (Debian: apt install haproxy jq bsdextrautils)")
def test_the_log_is_counted_by_halog_and_by_jq(day):
    *of_halog, failed, slowest = typed("What the log says")
    log = day.folder / "access.log"

    def lines() -> int:
        return log.read_text().count("\n") if log.exists() else 0

    def all_say(answer: bytes | None) -> None:
        for one in day.backends:
            one.says = answer

    assert [day.ask() for _ in range(20)] == [200] * 20
    all_say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    assert [day.ask() for _ in range(3)] == [404] * 3
    all_say(None)
    assert [day.ask("POST") for _ in range(2)] == [502] * 2
    day.run("lbctl drain 'app/*' --force")
    assert day.ask() == 503
    until(lambda: lines() == 26, "all lines are there")
    statuses, states, servers = of_halog
    for one in (statuses, states):
        assert day.run(one.command).stdout == one.said
    day.prints(servers)  # whose turn it was first is chance

    day.file.write_text(day.file.read_text().replace('"haproxy"', '"json"'))
    log.rename(day.folder / "access.log.1")
    done = day.run("lbctl reset && lbctl reload")
    assert done.returncode == 0, done.stdout
    os.kill(day.admin.ask("GET", "/v1/status")[1]["pid"], signal.SIGUSR1)
    until(log.exists, "the log is opened anew")
    all_say(OK)
    day.ask("GET", "/quick")
    day.backends[2].delay_s = 0.5
    for _ in range(3):
        day.ask("GET", "/slow")
    day.backends[2].delay_s, day.backends[1].says = 0.0, None
    while sum("error.type" in line for line in log.read_text().splitlines()) < 2:
        day.ask("POST", "/orders")
    assert day.run(failed.command).stdout == failed.said
    day.prints(slowest)


NUMBER = r"[0-9][0-9,.]*"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: apt install prometheus)")
def test_the_rules_and_the_file_that_names_them_are_right_and_each_alert_has_a_row(tmp_path):
    (one,) = typed("Alerts")
    shutil.copy(ROOT / "docs" / "alerts.yml", tmp_path)
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", SECTIONS["Alerts"], re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "lb.token").write_text("secret")
    text = text.replace("/etc/prometheus/lb.token", str(tmp_path / "lb.token"))
    (tmp_path / "prometheus.yml").write_text(text)
    for command, said in (one, ("promtool check config prometheus.yml", None)):
        done = subprocess.run(shlex.split(command), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert said is None or done.stdout.strip() == said.strip()
    rules = re.findall("alert: (.*)", (ROOT / "docs" / "alerts.yml").read_text())
    assert re.findall(r"^\| ([A-Z]\w+) \|", SECTIONS["Alerts"], re.MULTILINE) == rules


def test_its_figures_are_those_that_were_measured_give_or_take_a_quarter():
    part, measured = SECTIONS["How much one process carries"], (ROOT / "docs" / "benchmarks.md").read_text()
    titles = {
        "small, 64 connections": "Small, keep-alive, 64 connections",
        "small, 1,000 connections": "Small, keep-alive, 1,000 connections",
        "on a connection of its own": "A new connection for each request, 64 at a time",
        "with 64 KiB of answer": "64 KiB down, 64 connections",
    }

    def row(title: str, build: str) -> list[float]:
        lines = measured.partition(f"### {title}\n")[2]
        # Not the row of its version, where a table tells who was measured.
        table = lines.partition("\n### ")[0]
        (cells,) = re.findall(rf"^\| ours, {build} \|(?! twisted_lb)(.*)\|$", table, re.MULTILINE)
        return [float(number.replace(",", "")) for number in re.findall(rf"(?<= ){NUMBER}(?= )", cells)]

    def near(said: str, value: float) -> None:
        assert float(said.replace(",", "")) == pytest.approx(value, rel=0.25)

    for name, title in titles.items():
        ((compiled, pure),) = re.findall(rf"^\| {name} \| ({NUMBER}) µs \| ({NUMBER}) µs \|$", part, re.MULTILINE)
        near(compiled, row(title, "compiled")[0])
        near(pure, row(title, "pure")[0])
    memory = re.findall(rf"\| ({NUMBER}) KB, pure ({NUMBER}) KB \|", part)
    for (compiled, pure), column in zip(memory, (0, 1), strict=True):
        near(compiled, row("Memory of a connection", "compiled")[column] / 1000)
        near(pure, row("Memory of a connection", "pure")[column] / 1000)
    ((size,),) = [re.findall(rf"^\| memory of the process \| ({NUMBER}) MB \|$", part, re.MULTILINE)]
    near(size, row("Small, keep-alive, 64 connections", "compiled")[-1] * 1.048576)
