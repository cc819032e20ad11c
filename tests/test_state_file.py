"""The file of what was changed at run time: written in place of the old one, and never a reason not to start."""

import json
import os
import stat

import pytest
from builders import specs
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.core.backend import AdminState
from twisted_lb.core.overlay import Overlay
from twisted_lb.state_file import StateFile, load_state, write_atomically
from twisted_lb.testing import HeapClock


@pytest.fixture
def said():
    lines: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.state_file":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def names(folder) -> list[str]:
    return [path.name for path in folder.iterdir()]


def drained() -> Overlay:
    one = Overlay()
    one.command("default", "a:1", AdminState.DRAIN)
    return one


def changes(**some) -> bytes:
    """What a file says of the pool `default`."""
    pool = {"admin": {}, "weights": {}, "added": [], "removed": [], **some}
    return json.dumps({"version": 1, "pools": {"default": pool}}).encode()


def test_what_was_written_is_what_is_loaded(tmp_path, said):
    path = str(tmp_path / "state")
    clock, overlay = HeapClock(0.0), drained()
    file = StateFile(path, lambda: overlay, clock)
    file.changed()
    overlay.remove("default", "b:1", specs("b:1"))
    file.changed()
    assert not os.path.exists(path)
    clock.advance(1)
    assert load_state(path)[0].lines() == ["drain of a:1", "removed b:1"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert names(tmp_path) == ["state"]
    assert not clock.getDelayedCalls()
    assert said == []


def test_at_the_end_what_was_to_be_written_is(tmp_path):
    path = str(tmp_path / "state")
    clock = HeapClock(0.0)
    file = StateFile(path, drained, clock)
    file.changed()
    file.close()
    assert load_state(path)[0].lines() == ["drain of a:1"]
    assert not clock.getDelayedCalls()
    os.unlink(path)
    file.close()
    assert not os.path.exists(path)


def test_what_is_another_instances_to_write_is_left_to_it(tmp_path):
    clock = HeapClock(0.0)
    file = StateFile(str(tmp_path / "state"), drained, clock)
    file.changed()
    file.close(write=False)
    assert (names(tmp_path), clock.getDelayedCalls()) == ([], [])


def test_without_a_file_there_are_no_changes(tmp_path, said):
    assert load_state(str(tmp_path / "state"))[0].pools == {}
    assert said == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff", "utf-8"),
        (b"[" * 100_000, ""),
        (b'{"version": 9}', "should be of version 1"),
        (json.dumps({"version": 1, "pools": 3}).encode(), "is not complete"),
        (changes(weights={"a:1": [0.5, 1]}), "is not complete"),
        (changes(weights={"a:1": [True, 1]}), "is not complete"),
        (changes(added=[{"name": "x\ny", "address": "x:1"}]), r"'x\ny' is no name of a backend"),
    ],
)
def test_a_broken_file_is_a_warning_and_no_changes(tmp_path, said, text, why):
    path = tmp_path / "state"
    path.write_bytes(text)
    assert load_state(str(path))[0].pools == {}
    [line] = said
    assert line.startswith(f"state_file {path}: ")
    assert why in line
    assert line.endswith("; nothing of it is taken over")


def test_a_file_that_cannot_be_written_is_said_once(tmp_path, said):
    clock = HeapClock(0.0)
    file = StateFile(str(tmp_path / "nowhere" / "state"), drained, clock)
    for _ in range(2):
        file.changed()
        clock.advance(1)
    assert said == [
        f"state_file {tmp_path}/nowhere/state: No such file or directory; runtime changes are lost at a restart"
    ]
    (tmp_path / "nowhere").mkdir()
    file.changed()
    clock.advance(1)
    assert load_state(file.path)[0].lines() == ["drain of a:1"]


def test_the_old_file_stays_whole_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = str(tmp_path / "state")
    write_atomically(path, {"old": True})

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, {"new": True})
    assert (json.loads((tmp_path / "state").read_text()), names(tmp_path)) == ({"old": True}, ["state"])
