"""`lbctl doctor` beside a real daemon: what is well, and the backend that is not there."""

import json
import os
import subprocess

from ports import free_port
from processes import BIN, listening, stage, until

CONFIG = """\
[listeners.web]
address = "127.0.0.1:{port}"
default_pool = "app"
[pools.app]
backends = [{{ name = "here", address = "127.0.0.1:{here}" }}, {{ name = "gone", address = "127.0.0.1:{gone}" }}]
[pools.app.health_check]
interval_s = 0.2
path = "/"
"""


def doctor(path: str) -> tuple[int, dict]:
    done = subprocess.run(
        [BIN / "lbctl", "--admin", f"unix:{path}", "--json", "doctor"], capture_output=True, timeout=60, check=False
    )
    assert done.stderr == b""
    said = json.loads(done.stdout)
    return done.returncode, {one["subject"]: (one["level"], one["text"]) for one in said["findings"]}


def test_doctor_finds_the_backend_that_is_gone_and_nothing_else(tmp_path):
    with stage(tmp_path) as world:
        _, here = world.backend(name="here")
        port, gone, path = free_port(), free_port(), str(tmp_path / "admin.sock")
        (tmp_path / "lb.toml").write_text(CONFIG.format(port=port, here=here, gone=gone))
        running = world.twistd("lb", "lb", "--config", str(tmp_path / "lb.toml"), "--admin", f"unix:{path}")
        until(lambda: listening(port) and os.path.exists(path), f"it runs: {running.log}")
        running.wait_for("app/gone is down")
        status, found = doctor(path)
        assert status == 1
        assert found["app/here"] == ("good", "GET /: 200")
        assert found["app/gone"] == ("bad", "connection refused, from here")
        assert [name for name, (level, _) in found.items() if level == "bad"] == ["app/gone"]
        assert found["daemon"] == ("good", f"{port} answers at unix:{path}")
        assert found["descriptors"][1].partition(" of ")[0].isdigit()
        world.backend(gone, name="gone")
        until(lambda: doctor(path)[0] == 0, "all is well")
