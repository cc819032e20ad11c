"""The first minute of somebody who has cloned this: `scripts/demo`, and what it says to try."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from processes import PATIENCE_S, listening, until

ROOT = Path(__file__).parent.parent.parent
PORTS = (8080, 8081, 8082, 8083, 8090)
# It installs Twisted and pydantic first.
INSTALLING_S = 300
NOT_CLONED = shutil.ignore_patterns(".git", ".venv*", "*.egg-info", "*.so", "__pycache__", "build")


def all_free() -> bool:
    for port in PORTS:
        with closing(socket.socket()) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def clients(folder: Path) -> str:
    script = folder / "run_parallel_clients.sh"
    return subprocess.run([script], capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout


def page() -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", 8090, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


@pytest.mark.long
@pytest.mark.skipif(not all_free(), reason="the demonstration's ports are in use")
def test_the_demonstration_does_what_it_says(tmp_path):
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=NOT_CLONED)
    with (tmp_path / "out").open("w+") as out:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TWISTED_LB"))}
        demo = subprocess.Popen([folder / "scripts" / "demo"], stdout=out, stderr=out, env=environment)
        try:
            ends_at = time.monotonic() + INSTALLING_S
            while not listening(PORTS[0]):
                assert demo.poll() is None
                assert time.monotonic() < ends_at
                time.sleep(0.1)
            # By turns, with the demonstration's own visitors between them.
            counts = [int(line.split()[0]) for line in clients(folder).splitlines() if " be-80" in line]
            assert sum(counts) == 200
            assert all(40 <= count <= 95 for count in counts)
            assert len(counts) == 3
            until(lambda: b"All 3 backends are used." in page(), "the page says that all is well")
            command = next(line for line in (tmp_path / "out").read_text().splitlines() if "/lbctl " in line).split()[
                :4
            ]
            said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
            assert "All 3 backends are used." in said.stdout
            with closing(http.client.HTTPConnection("127.0.0.1", 8082, timeout=PATIENCE_S)) as connection:
                connection.request("GET", "/down?seconds=3")
                assert connection.getresponse().status == 200
            report = clients(folder)
            assert "0 failed" in report
            assert "be-8082" not in report
            until(lambda: "be-8082" in clients(folder), "it comes back")
        finally:
            demo.send_signal(signal.SIGINT)
            assert demo.wait(PATIENCE_S) == -signal.SIGINT
    said = (tmp_path / "out").read_text()
    assert "(pure)" in said
    assert "Traceback" not in said
    assert not any(listening(port) for port in PORTS)
    assert list(folder.glob("twistd.*")) == []
