"""A list in a file: when it is read, and what it may be."""

import json
import os
from pathlib import Path

import pytest
from discovering import RULES, START, Follower, following

from twisted_lb.discovery.file import SETTLE_S, FileSource, content_of, stamp_of
from twisted_lb.discovery.prometheus import MOST_BYTES
from twisted_lb.testing import HeapClock

PATH = "/lists/api.json"


def listed(*names: str) -> bytes:
    return json.dumps([{"targets": [f"{name}:80" for name in names]}]).encode()


class Disk:
    """One file, or none, in memory; each write is a new stamp, unless `still`."""

    def __init__(self, content: bytes | None = None) -> None:
        self.content = content
        self.stamp = (1, 1, 0, 1, 1)
        self.reads = 0
        # What happens while it is read.
        self.meanwhile = lambda: None

    def write(self, content: bytes | None, *, still: bool = False) -> None:
        self.content = content
        if not still:
            self.stamp = (*self.stamp[:3], self.stamp[3] + 1, self.stamp[4] + 1)

    def stamp_of(self, path: str) -> tuple[int, int, int, int, int]:
        assert path == PATH
        if self.content is None:
            raise FileNotFoundError(2, "No such file or directory")
        return self.stamp

    def content_of(self, path: str) -> bytes:
        self.reads += 1
        assert self.content is not None
        content = self.content
        self.meanwhile()
        return content


def on(disk: Disk, clock: HeapClock | None = None):
    clock = clock or HeapClock(START)
    return following(FileSource(PATH, clock, 2.0, stamp=disk.stamp_of, content=disk.content_of), clock)


def settle(follower: Follower) -> None:
    """Let the next look come, and wait until the file has stood still."""
    follower.look()
    follower.clock.advance(SETTLE_S)


def test_at_the_start_it_is_read_at_once():
    with on(Disk(listed("a", "b"))) as follower:
        follower.clock.settle()
        assert follower.told == [["a", "b"]]


def test_what_has_changed_is_read_when_it_has_stood_still_for_a_moment():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(listed("a", "b"))
        follower.look()
        assert follower.told == [["a"]]
        follower.clock.advance(SETTLE_S)
        assert follower.told == [["a"], ["a", "b"]]


def test_half_a_file_is_not_read_while_somebody_writes_it():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        whole = listed("a", "b", "c")
        disk.write(whole[:10])
        follower.look()
        for end in (20, 30, len(whole)):
            follower.clock.advance(SETTLE_S / 2)
            disk.write(whole[:end])
            follower.clock.advance(SETTLE_S / 2)
        follower.clock.advance(SETTLE_S)
        assert follower.told == [["a"], ["a", "b", "c"]]
        assert not any("not JSON" in line for line in follower.said)


def test_what_changes_while_it_is_read_is_read_again():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(listed("b", "c"))
        disk.meanwhile = lambda: (disk.write(listed("d", "e")), setattr(disk, "meanwhile", lambda: None))
        settle(follower)
        follower.clock.advance(5 * SETTLE_S)
        assert follower.told == [["a"], ["d", "e"]]


def test_a_file_that_is_written_all_the_time_is_left_for_the_next_look():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(listed("b"))
        follower.look()
        for _ in range(20):
            disk.write(listed("b"))
            follower.clock.advance(SETTLE_S / 2)
        assert follower.said[-1] == f"file {PATH}: somebody is writing it all the time; what is known stays: 1 backend"
        follower.clock.advance(5)
        assert follower.told == [["a"], ["b"]]


def test_it_is_not_read_again_while_nothing_changes():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        for _ in range(10):
            follower.look()
        assert disk.reads == 2


def test_a_second_write_within_one_tick_of_the_file_systems_clock_is_seen():
    """What was read once is read again at the next look, whatever its times say."""
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.look()
        disk.write(listed("b"), still=True)
        follower.look()
        assert follower.told == [["a"], ["b"]]


def test_another_time_on_the_same_content_is_no_change():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(listed("a"))
        settle(follower)
        assert follower.told == [["a"]]
        assert follower.said == [f"file {PATH}: 1 backend, 1 new or changed, 0 gone"]


def test_a_mistake_in_it_is_named_once_and_stays_one_while_nothing_changes():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(b'[{"targets": ["b"]}]')
        settle(follower)
        for _ in range(5):
            follower.look()
            assert follower.provider.state.failing
        assert follower.told == [["a"]]
        assert follower.said[1:] == [
            f"file {PATH}: [0].targets[0]: 'b': no port, expected HOST:PORT; what is known stays: 1 backend"
        ]
        disk.write(listed("a"))
        settle(follower)
        assert not follower.provider.state.failing
        assert follower.said[-1] == f"file {PATH} is there again"


def test_a_file_that_is_missing_at_the_start_is_no_backends_and_a_warning():
    disk = Disk()
    with on(disk) as follower:
        follower.look()
        follower.look()
        assert follower.said == [f"file {PATH}: not there; no list is known yet"]
        disk.write(listed("a"))
        follower.look()
        assert follower.told == [["a"]]


def test_a_file_that_is_gone_later_removes_nothing():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        before = disk.content
        disk.write(None)
        for _ in range(100):
            follower.look()
        assert follower.said[1:] == [f"file {PATH}: not there; what is known stays: 1 backend"]
        disk.write(before)
        settle(follower)
        assert follower.told == [["a"]]
        assert not follower.provider.state.failing


def test_a_file_that_was_emptied_is_no_empty_list():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(b"")
        for _ in range(5):
            settle(follower)
        assert follower.told == [["a"]]
        assert follower.provider.state.failing


def test_an_empty_list_is_confirmed_by_the_next_look_though_nothing_changes():
    disk = Disk(listed("a", "b", "c"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(b"[]")
        settle(follower)
        assert len(follower.told) == 1
        follower.look()
        assert follower.told[1:] == [[]]


def test_a_stop_while_it_waits_leaves_nothing_behind():
    disk = Disk(listed("a"))
    with on(disk) as follower:
        follower.clock.settle()
        disk.write(listed("b"))
        follower.look()
        follower.provider.stop()
        assert follower.clock.getDelayedCalls() == []
        assert follower.told == [["a"]]


# On a real disk.


def really(path: Path):
    clock = HeapClock(START)
    return following(FileSource(str(path), clock, RULES["refresh_s"]), clock)


def test_a_configmap_changes_by_a_symlink_to_another_folder(tmp_path):
    """As the kubelet does it: NAME -> ..data/NAME, ..data -> ..DATE, and ..data is replaced by rename."""
    for date, name in (("..1", "a"), ("..2", "b")):
        (tmp_path / date).mkdir()
        (tmp_path / date / "list.json").write_bytes(listed(name))
        os.utime(tmp_path / date / "list.json", (1, 1))  # images and archives have such times
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "list.json").symlink_to("..data/list.json")
    with really(tmp_path / "list.json") as follower:
        follower.look()
        follower.look()
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        settle(follower)
        assert follower.told == [["a"], ["b"]]


@pytest.mark.parametrize("how", ["renamed over it", "written into it"])
def test_other_content_of_the_same_length_and_time_is_seen(tmp_path, how):
    file = tmp_path / "list.json"
    file.write_bytes(listed("a"))
    os.utime(file, (1, 1))
    with really(file) as follower:
        for _ in range(3):
            follower.look()
        if how == "renamed over it":
            (tmp_path / "new").write_bytes(listed("b"))
            os.utime(tmp_path / "new", (1, 1))
            (tmp_path / "new").rename(file)
        else:
            file.write_bytes(listed("b"))
            os.utime(file, (1, 1))
        settle(follower)
        assert follower.told == [["a"], ["b"]]


def complaint(path: Path) -> str:
    with really(path) as follower:
        follower.look()
        assert follower.told == []
        return follower.provider.state.error


def test_what_is_no_file_is_not_read_and_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert complaint(tmp_path / "pipe") == "not a file"
    assert complaint(tmp_path) in ("not a file", "is a directory")
    assert complaint(Path("/dev/zero")) == "not a file"
    assert complaint(tmp_path / "missing") == "not there"
    (tmp_path / "loop").symlink_to("loop")
    assert complaint(tmp_path / "loop") == "too many levels of symbolic links"


def test_a_file_that_may_not_be_read_says_so():
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    clock = HeapClock(START)
    with following(
        FileSource("/etc/shadow", clock, 2.0, stamp=lambda path: (1,) * 5, content=refuse), clock
    ) as follower:
        follower.look()
        assert follower.said == ["file /etc/shadow: permission denied; no list is known yet"]


def test_no_more_is_read_than_a_list_may_have(tmp_path):
    file = tmp_path / "list.json"
    with file.open("wb") as out:
        out.truncate(10 * MOST_BYTES)
    assert len(content_of(str(file))) == MOST_BYTES + 1
    assert stamp_of(str(file))[2] == 10 * MOST_BYTES
    assert complaint(file) == f"longer than {MOST_BYTES} bytes"
