"""Upgrades that cannot be: nothing has changed, the reason is said, and all goes on."""

import os
import socket
import threading

import pytest
from ports import free_port
from processes import stage, until
from upgrading import TERM, USR2, Copies, Daemon, Load, OverHttp, daemons, mixed

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def daemon(world):
    with daemons(world) as make:
        yield make


@pytest.fixture
def copies(tmp_path):
    return Copies(tmp_path)


def refused(lb: Daemon, why: str, *, load: Load | None = None) -> str:
    """What lbctl says, in one piece; nothing has changed."""
    before, log = lb.pids(), len(lb.log)
    done = lb.lbctl("upgrade")
    assert (done.returncode, done.stdout) == (1, ""), done
    assert why in done.stderr, done.stderr
    assert "upgrade: nothing was changed: " in lb.log[log:]
    assert why in lb.log[log:]
    assert lb.pids() == before
    assert lb.get()[0] == 200
    if load is not None:
        load.more()
    return done.stderr


def test_a_broken_file_changes_nothing_and_a_mended_one_does(daemon):
    lb = daemon().start()
    load = Load(OverHttp(lb.port, "/", keeps=False), OverHttp(lb.port, "/", keeps=True)).begin()
    good = lb.file.read_text()
    lb.file.write_text(good + "no_such_key = 1\n")
    said = refused(lb, "no_such_key: unknown key", load=load)
    assert len(said.splitlines()) < 8, said
    lb.file.write_text(good)
    lb.upgrade()
    load.more()
    assert load.end() == []


@pytest.mark.long
def test_what_cannot_be_had_changes_nothing(daemon):
    lb = daemon().start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        lb.listeners = f'[listeners.side]\naddress = "127.0.0.1:{other.getsockname()[1]}"'
        lb.write()
        refused(lb, f"127.0.0.1:{other.getsockname()[1]}: already in use")
    lb.listeners = '[listeners.side]\naddress = "unix:/no/such/folder/sock"'
    lb.write()
    refused(lb, "/no/such/folder/sock")
    lb.listeners = ""
    lb.write(1)
    refused(lb, "an upgrade needs workers")
    lb.file.unlink()
    refused(lb, "lb.toml")
    lb.write()
    lb.upgrade()


@pytest.mark.long
@pytest.mark.parametrize("module", ["service/balancer.py", "workers/worker.py", "planned.py"])
def test_a_broken_program_changes_nothing(daemon, copies, module):
    """In what the parent imports, in what only workers do, and in what both do."""
    lb = daemon()
    copy = copies.make("v1")
    lb.environment = copies.environment("v1")
    lb.start()
    load = Load(OverHttp(lb.port, "/", keeps=False), OverHttp(lb.port, "/", keeps=True)).begin()
    file = copy / module
    good = file.read_text()
    file.write_text(f"{good}\nthis is no program\n")
    said = refused(lb, "invalid syntax", load=load)
    assert str(file) in said
    assert len(said.splitlines()) < 5, said
    lb.lb.signal(USR2)
    lb.lb.wait_for("upgrade: nothing was changed: ", 2)
    load.more()
    file.write_text(good)
    lb.upgrade()
    load.more()
    assert load.end() == []


@pytest.mark.long
def test_a_missing_interpreter_changes_nothing(daemon, copies):
    lb = daemon()
    v1 = copies.venv("v1")
    lb.start(program=[str(v1 / "bin" / "python"), "-m", "twisted_lb", "lb"])
    v1.rename(v1.with_name("v0"))
    refused(lb, "No such file or directory")
    v1.with_name("v0").rename(v1)
    lb.upgrade()


@pytest.mark.long
def test_one_process_refuses_and_goes_on(world, daemon):
    lb = daemon()
    lb.write(1)
    lb.start(wait=False)
    until(lb.reached, lb.log)
    done = lb.lbctl("upgrade")
    assert done.returncode == 1
    assert "one process has nobody who goes on meanwhile" in done.stderr
    lb.lb.signal(USR2)
    lb.lb.wait_for("upgrade: nothing was changed: one process", 2)
    assert lb.get()[0] == 200


@pytest.mark.long
def test_a_second_one_meanwhile_is_refused(daemon):
    lb = daemon().start()
    answers = []
    first = threading.Thread(target=lambda: answers.append(lb.ask("/v1/upgrade", "POST", {})))
    first.start()
    lb.lb.wait_for("upgrade: the new program rehearses")
    assert "an upgrade is under way" in str(lb.ask("/v1/upgrade", "POST", {}))
    first.join()
    lb.arrive(answers[0]["program"])
    assert lb.lb.log.count("the new program rehearses") == 1


@pytest.mark.long
def test_a_stop_during_a_rehearsal_is_a_stop(daemon):
    lb = daemon().start()
    pids = lb.pids()
    lb.lb.signal(USR2)
    lb.lb.wait_for("upgrade: the new program rehearses")
    lb.lb.signal(TERM)
    assert lb.lb.wait() == -TERM
    assert "takes the place" not in lb.log
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids.values())


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2)])
def test_another_number_of_workers_is_another_number_of_workers(daemon, before, after):
    lb = daemon(workers=before).start()
    load = mixed(lb.port).begin()
    lb.write(after)
    lb.upgrade()
    load.more()
    assert sorted(lb.pids()) == list(range(after))
    lb.forget_old()
    lb.upgrade()
    load.more()
    assert sorted(lb.pids()) == list(range(after))
    assert load.end() == []


@pytest.mark.long
def test_listeners_come_and_go(daemon):
    lb = daemon().start()
    side, other = free_port(), free_port()
    load = mixed(lb.port).begin()
    lb.listeners = f'[listeners.a]\naddress = "127.0.0.1:{side}"\n[listeners.z]\naddress = "127.0.0.1:{other}"'
    lb.write()
    lb.upgrade()
    both = Load(OverHttp(side, "/", keeps=False), OverHttp(other, "/", keeps=False)).begin()
    assert both.end() == []
    lb.listeners = f'[listeners.z]\naddress = "127.0.0.1:{other}"'
    lb.write()
    lb.upgrade()
    assert OverHttp(other, "/", keeps=False)() == ""
    with pytest.raises(ConnectionRefusedError):
        OverHttp(side, "/", keeps=False)()
    lb.forget_old()
    load.more()
    assert load.end() == []
