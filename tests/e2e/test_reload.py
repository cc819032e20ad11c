"""Reloads of real processes: what the file says is in force, without a restart and without anybody noticing."""

import os
import signal
import socket

import pytest
from ports import free_port
from processes import listening, stage, until


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


class Paper:
    """A configuration file with two backends to choose from, and a listener `more` where that is wanted."""

    def __init__(self, world) -> None:
        self.path = world.folder / "lb.toml"
        self.ports = [world.backend(name=f"backend-{name}")[1] for name in "ab"]
        self.more = free_port()

    def write(self, *names: str, more: str = "", head: str = "") -> None:
        """Replace it as a whole."""
        backends = ", ".join(f'"127.0.0.1:{self.ports["ab".index(name)]}"' for name in names)
        text = f"{head}\nbackends = [{backends}]\n[health_check]\ninterval_s = 0\n{more}"
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.path)

    @property
    def listener(self) -> str:
        return f'[listeners.more]\naddress = "127.0.0.1:{self.more}"\n'


class Client:
    """A client that keeps its connection."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=30)

    def ask(self) -> bytes:
        """An answer, head and body."""
        self._sock.sendall(b"GET /whoami.json HTTP/1.1\r\nHost: x\r\n\r\n")
        heard = b""
        while not heard.endswith(b"}\n") and not heard.endswith(b"}"):
            data = self._sock.recv(65536)
            if not data:
                break
            heard += data
        return heard

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def paper(world):
    return Paper(world)


def test_hangup_has_the_file_in_force_and_a_kept_connection_notices_nothing(world, paper):
    port = free_port()
    listen = f'[listen]\nport = {port}\ninterface = "127.0.0.1"\n'
    paper.write("a", more=listen)
    balancer = world.twistd("lb", "lb", "--config", str(paper.path))
    until(lambda: listening(port), "the balancer")
    client = Client(port)
    assert client.ask().startswith(b"HTTP/1.1 200 ")
    paper.write("b", more=f'{listen}{paper.listener}default_pool = "default"\n')
    balancer.signal(signal.SIGHUP)
    balancer.wait_for("connections cut: 0")
    assert f"reload: changes pool default: +127.0.0.1:{paper.ports[1]}, -127.0.0.1:{paper.ports[0]}" in balancer.log
    assert client.ask().startswith(b"HTTP/1.1 200 ")
    assert listening(paper.more)
    paper.write("b", more=listen)
    balancer.signal(signal.SIGHUP)
    balancer.wait_for("reload: removes listener more")
    until(lambda: not listening(paper.more), "the listener is gone")
    assert client.ask().startswith(b"HTTP/1.1 200 ")
    client.close()


def test_a_file_with_mistakes_changes_nothing_and_says_all_of_them(world, paper):
    paper.write("a")
    balancer, port = world.balancer("--config", str(paper.path))
    paper.write("b", head='polcy = "rr"\nread_start_s = 3')
    balancer.signal(signal.SIGHUP)
    balancer.wait_for("reload: nothing was changed")
    assert "polcy" in balancer.log
    assert "read_start_s" in balancer.log
    client = Client(port)
    assert client.ask().startswith(b"HTTP/1.1 200 ")
    client.close()


def test_flags_hold_on_over_a_reload(world, paper):
    paper.write("a")
    balancer, port = world.balancer("--config", str(paper.path), "-s", "rand")
    paper.write("b", head='policy = "rr"')
    balancer.signal(signal.SIGHUP)
    balancer.wait_for("connections cut: 0")
    assert "policy" not in balancer.log.partition("reload:")[2]
    assert listening(port)


def test_a_watched_file_is_reloaded_by_itself(world, paper):
    paper.write("a", head="watch = true")
    balancer, _ = world.balancer("--config", str(paper.path))
    paper.write("b", head="watch = true")
    balancer.wait_for(f"reload: changes pool default: \\+127.0.0.1:{paper.ports[1]}")
