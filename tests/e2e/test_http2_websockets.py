"""WebSockets over HTTP/2 (RFC 8441) as a browser speaks them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port
from processes import listening, stage, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PEER = Path(__file__).parent / "peers" / "websocket_page.py"


@pytest.mark.skipif(not CHROMIUM, reason="chromium is missing")
def test_chromium_speaks_websocket_on_the_connection_that_its_page_came_on(tmp_path):
    with stage(tmp_path) as world:
        backend, said = free_port(), tmp_path / "said"
        with said.open("wb") as out:
            world.others.append(subprocess.Popen([sys.executable, PEER, str(backend)], stdout=out))
        until(lambda: listening(backend), "the backend")
        log = tmp_path / "access.log"
        config = tmp_path / "lb.toml"
        config.write_text(f'backends = ["127.0.0.1:{backend}"]\nhealth_check.interval_s = 0\nlog.file = "{log}"\n')
        _, port = world.balancer("--tls", "self-signed", "--config", str(config))
        words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"]
        words += [f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0", f"https://localhost:{port}/"]
        browser = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        world.others.append(browser)
        until(lambda: "GET /said" in said.read_text(), "the end of the WebSocket")
        assert "GET /said?got=300005&code=1000&clean=true&page=h2 HTTP/1.1" in said.read_text()
        until(lambda: " 101 " in log.read_text(), "a line in the log")
        (line,) = [line for line in log.read_text().splitlines() if "/echo" in line]
        assert '"GET /echo HTTP/2.0" 101' in line
        browser.terminate()
        browser.wait(30)
