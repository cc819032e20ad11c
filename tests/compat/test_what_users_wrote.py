"""What users have in their files goes on working: lb.tac, run_parallel_clients.sh and the programs of README.md as they were
before twisted_lb was taken apart and put together anew, unchanged, run against the tree of today.

This stays, whatever is moved or renamed. Where a copy fails, mend the tree: a copy is never edited, and none goes.
"""

import hashlib
import http.client
import importlib
import inspect
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import PATIENCE_S, Running, Stage, listening, stage, until

ROOT = Path(__file__).parent.parent.parent
FILES = Path(__file__).parent / "files"

# The copies, each with the beginning of its SHA-256.
COPIES = {
    "bounds.toml": "6915b9d08e462df1",
    "class.py": "f5e886516c687324",
    "commands.txt": "f18368d678fc0440",
    "embedded.py": "a3749ac1e516d850",
    "everything.toml": "b4c4f9e63b05bdd8",
    "lb.tac": "a21ffee200f5d40d",
    "proxy.toml": "5aa4f7490f50db47",
    "run_parallel_clients.sh": "bcc5f22646f3de86",
}
COMMANDS = [
    shlex.split(line, comments=True)
    for line in (FILES / "commands.txt").read_text().splitlines()
    if line.startswith("twistd -n")
]


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


def moved(text: str, ports: Mapping[int, int]) -> str:
    """The text with other ports, so that tests which run at the same time do not meet."""
    return re.sub(r"\b80[0-9]{2}\b", lambda found: str(ports[int(found[0])]), text)


def free_ports(*wanted: int) -> dict[int, int]:
    return {port: free_port() for port in wanted}


def started(process: subprocess.Popen, *ports: int) -> None:
    until(lambda: all(map(listening, ports)) or process.poll() is not None, f"{ports} are listened on")
    assert process.poll() is None, process.args


def answers(port: int, path: str, count: int) -> Counter[str]:
    """Requests on one connection, by who answered."""
    found: Counter[str] = Counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        for _ in range(count):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            found[response.headers["X-Backend"]] += 1
    return found


def clients(folder: Path, *words: str) -> str:
    """What the copy of run_parallel_clients.sh says, in a checkout as it was one."""
    shutil.copy(FILES / "run_parallel_clients.sh", folder)
    (folder / "twisted_lb").symlink_to(ROOT / "twisted_lb")
    script = folder / "run_parallel_clients.sh"
    return subprocess.run([script, *words], capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout


def from_tac_file(world: Stage, ports: Mapping[int, int]) -> Running:
    text = (FILES / "lb.tac").read_text()
    (world.folder / "lb.tac").write_text(moved(text, ports))
    running = world.twistd("tac", "-y", "lb.tac")
    started(running.process, *ports.values())
    return running


def test_the_copies_are_what_they_were():
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in FILES.iterdir()}
    assert found == COPIES
    assert os.access(FILES / "run_parallel_clients.sh", os.X_OK)


def test_the_tac_file_balances_and_stops(world):
    ports = free_ports(8080, 8081, 8082, 8083)
    running = from_tac_file(world, ports)
    assert answers(ports[8080], "/", 30) == {f"be-{ports[port]}": 10 for port in (8081, 8082, 8083)}
    running.signal(signal.SIGTERM)
    running.wait()
    assert "Traceback" not in running.log
    assert "is ejected" not in running.log


def test_the_parallel_clients_count_who_answered(world):
    ports = free_ports(8080, 8081, 8082, 8083)
    from_tac_file(world, ports)
    report = clients(world.folder, "-u", f"http://127.0.0.1:{ports[8080]}/", "-n", "60")
    counts = {name: count for count, name in (line.split() for line in report.splitlines()[1:])}
    assert counts == {**{f"be-{ports[port]}": "20" for port in (8081, 8082, 8083)}, "failed": "0"}


def test_the_commands_that_are_typed_by_hand_balance(world):
    ports = free_ports(8081, 8082, 8000)
    by_hand = [words for words in COMMANDS if "be" in words or "localhost:8081" in words]
    assert len(by_hand) == 3
    for name, words in zip(["one", "two", "lb"], by_hand, strict=True):
        running = world.twistd(name, *(moved(word, ports) for word in words[2:]))
        port = int(moved(words[-1], ports))
        started(running.process, port)
    assert answers(ports[8000], "/", 10) == {f"be-{ports[8081]}": 5, f"be-{ports[8082]}": 5}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_is_understood(words):
    command, flags = words[2], words[3:]
    options = importlib.import_module({"lb": "twisted_lb.tap", "be": "twisted_lb.backend_tap"}[command]).Options()
    options.parseOptions(flags)
    assert options.config


@pytest.mark.parametrize("name", sorted(name for name in COPIES if name.endswith(".toml")))
def test_a_configuration_file_is_understood(name):
    from twisted_lb.tap import Options

    options = Options()
    options.parseOptions(["--config", str(FILES / name)])
    assert [str(spec.address) for spec in options.config.backends] == ["app1:8000", "app2:8000"]


def test_the_class_assigns_servers():
    exec(compile((FILES / "class.py").read_text(), "class.py", "exec"), {"print": lambda *words: None})


def test_the_program_with_a_balancer_inside_balances(world):
    ports = {**{port: world.backend()[1] for port in (8081, 8082)}, **free_ports(8000)}
    script = world.folder / "embedded.py"
    script.write_text(moved((FILES / "embedded.py").read_text(), ports))
    program = subprocess.Popen([sys.executable, "-P", script], stderr=subprocess.PIPE, text=True)
    world.others.append(program)
    started(program, ports[8000])
    assert answers(ports[8000], "/api/whoami.json?x=1", 4) == {f"be-{ports[8081]}": 2, f"be-{ports[8082]}": 2}
    program.terminate()
    _, errors = program.communicate(timeout=PATIENCE_S)
    assert (program.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        "twisted_lb.LoadBalancer",
        "twisted_lb.Assignment",
        "twisted_lb.NoServerAvailable",
        "twisted_lb.tap.load_balancer",
        "twisted_lb.backend_tap.backend",
        "twisted_lb.service.LoadBalancerService",
        "twisted_lb.service.OrderedServices",
        "twisted_lb.config.LoadBalancerConfig",
        "twisted_lb.net.resource.BalancedReverseProxyResource",
    ],
)
def test_a_name_that_users_import_exists(name):
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_the_command_that_the_documentation_named_renders_the_reference(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["config_reference"])
    runpy.run_module("twisted_lb.config_reference", run_name="__main__")
    assert capsys.readouterr().out == (ROOT / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("name", ["balancer", "engine", "port"])
def test_what_users_ask_a_service_is_a_property(name):
    from twisted_lb.service import LoadBalancerService

    assert isinstance(inspect.getattr_static(LoadBalancerService, name), property)
