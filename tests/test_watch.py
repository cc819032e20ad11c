"""Watching files, on time that the test moves."""

import os
from hashlib import sha256

import pytest

from twisted_lb.testing import HeapClock
from twisted_lb.watch import Watch, digest


class Desk:
    """Files that are watched; `read` takes what they say now for what was read."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.clock = HeapClock(1000.0)
        self.told: list[float] = []
        self.digests: dict[str, str] = {}
        self.write("lb.toml", "one")
        self.read("lb.toml")
        self.watch = Watch(lambda: self.digests, self.clock, lambda: self.told.append(self.clock.seconds()))
        self.watch.start()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def read(self, *names: str) -> None:
        self.digests = {str(self.folder / name): digest(self.folder / name) for name in names}

    def wait(self, seconds: float) -> int:
        """How often a change was told meanwhile."""
        before = len(self.told)
        self.clock.advance(seconds)
        return len(self.told) - before


@pytest.fixture
def desk(tmp_path):
    one = Desk(tmp_path)
    yield one
    one.watch.stop()
    assert not one.clock.getDelayedCalls()


def test_what_stays_as_it_is_is_not_told(desk):
    desk.write("lb.toml", "one")
    os.utime(desk.folder / "lb.toml", (1, 1))
    assert desk.wait(10) == 0


def test_a_change_is_told_once_when_it_has_lasted(desk):
    desk.write("lb.toml", "two")
    assert desk.wait(1.1) == 0
    assert desk.wait(0.2) == 1
    assert desk.wait(10) == 0


def test_while_it_changes_nothing_is_told(desk):
    desk.write("lb.toml", "two")
    desk.wait(1.1)
    desk.write("lb.toml", "three")
    assert desk.wait(0.2) == 0
    assert desk.wait(0.2) == 1


def test_what_is_again_as_it_was_read_is_no_change(desk):
    desk.write("lb.toml", "two")
    desk.wait(1.1)
    desk.write("lb.toml", "one")
    assert desk.wait(10) == 0


def test_what_could_not_be_applied_is_told_again_only_when_it_has_changed(desk):
    desk.write("lb.toml", "bad")
    assert desk.wait(10) == 1
    desk.write("lb.toml", "good")
    assert desk.wait(10) == 1


def test_what_was_read_since_is_known(desk):
    desk.write("lb.toml", "two")
    desk.read("lb.toml")
    desk.watch.settle()
    assert desk.wait(10) == 0
    desk.write("lb.toml", "one")
    assert desk.wait(10) == 1


def test_a_symlink_that_is_swapped_is_a_change_of_what_it_leads_to(tmp_path):
    """As Kubernetes does it with a ConfigMap: `lb.toml` leads to `..data/lb.toml`, and `..data` to a folder by date."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lb.toml").write_text(name)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "lb.toml").symlink_to("..data/lb.toml")
    clock, told = HeapClock(0.0), []
    path = str(tmp_path / "lb.toml")
    watch = Watch(lambda: {path: sha256(b"one").hexdigest()}, clock, lambda: told.append("changed"))
    watch.start()
    clock.advance(5)
    assert told == []
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "..data")
    clock.advance(5)
    assert told == ["changed"]
    watch.stop()


def test_a_file_that_is_removed_is_a_change(desk):
    (desk.folder / "lb.toml").unlink()
    assert desk.wait(10) == 1


def test_a_file_that_comes_is_a_change(desk):
    desk.write("note.txt", "not one of them")
    assert desk.wait(10) == 0
    desk.digests[str(desk.folder / "more.toml")] = ""  # an include matches it by now
    desk.write("more.toml", "x")
    assert desk.wait(10) == 1
    desk.read("lb.toml", "more.toml")
    desk.watch.settle()
    assert desk.wait(10) == 0


def test_what_was_tried_is_not_told_again_though_more_files_are_watched(desk):
    desk.write("lb.toml", "bad, and includes more.toml, which is not there")
    assert desk.wait(10) == 1
    desk.read("lb.toml", "more.toml")
    desk.watch.tried(dict(desk.digests))
    assert desk.wait(10) == 0
    desk.write("more.toml", "x")
    assert desk.wait(10) == 1


def test_a_name_that_no_file_can_have_is_one_of_a_file_that_is_not_there(desk):
    assert digest(desk.folder / "a\0b") == ""


def test_who_does_not_watch_any_more_is_told_nothing(desk):
    desk.write("lb.toml", "two")
    desk.wait(1.1)
    desk.watch.stop()
    assert desk.wait(10) == 0
