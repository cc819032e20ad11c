"""Log files: bounded, opened anew after a rename, taken over from twistd."""

import contextlib
import io
import os
import stat
import threading
from pathlib import Path

import pytest
from twisted.logger import FileLogObserver, Logger, LogLevel, formatEvent, globalLogPublisher, textFileLogObserver
from twisted.python import logfile

from twisted_lb.log_files import LogFile, LogFiles


class Bench:
    """A log file in a folder, on a clock that the test moves."""

    def __init__(self, folder: Path, most_bytes: int = 100, old_files: int = 3) -> None:
        self.folder = folder
        self.path = folder / "lb.log"
        self.now = 0.0
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o640)
        os.fchmod(descriptor, 0o640)
        self.file = LogFile(
            str(self.path), descriptor, most_bytes=most_bytes, old_files=old_files, seconds=lambda: self.now
        )

    @property
    def files(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted(self.folder.iterdir())}


@pytest.fixture
def make(tmp_path):
    benches: list[Bench] = []

    def one(**bounds: int) -> Bench:
        benches.append(Bench(tmp_path, **bounds))
        return benches[-1]

    yield one
    for bench in benches:
        bench.file.close()


@pytest.fixture
def complaints():
    said: list[str] = []

    def observe(event):
        if event["log_namespace"] == "twisted_lb.log_files":
            said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


def test_text_and_bytes_are_appended_whatever_stands_in_them(make):
    bench = make()
    bench.file.write("one ü \udc80\n")
    bench.file.write(b"two\n")
    bench.file.flush()
    assert bench.files == {"lb.log": "one ü \\udc80\ntwo\n"}
    assert repr(bench.file) == f"<LogFile {bench.path}: 18 bytes>"


def test_a_file_that_would_grow_beyond_its_bound_is_renamed_and_so_are_those_before_it(make):
    bench = make(most_bytes=10, old_files=3)
    for number in range(6):
        bench.file.write(f"line {number}\n")
    assert bench.files == {"lb.log": "line 5\n", "lb.log.1": "line 4\n", "lb.log.2": "line 3\n", "lb.log.3": "line 2\n"}


def test_files_that_are_not_among_those_kept_are_left_alone_and_cost_nothing(make, monkeypatch):
    bench = make(most_bytes=10, old_files=1)
    (bench.folder / "lb.log.2").write_text("of yore")
    monkeypatch.setattr(os, "listdir", lambda *words: pytest.fail("the folder was read"))
    monkeypatch.setattr(os, "scandir", lambda *words: pytest.fail("the folder was read"))
    bench.file.write("line 0\n")
    bench.file.write("line 1\n")
    monkeypatch.undo()
    assert bench.files == {"lb.log": "line 1\n", "lb.log.1": "line 0\n", "lb.log.2": "of yore"}


def test_without_old_files_nothing_is_kept_but_the_present_one(make):
    bench = make(most_bytes=10, old_files=0)
    for number in range(3):
        bench.file.write(f"line {number}\n")
    assert bench.files == {"lb.log": "line 2\n"}


def test_a_bound_of_zero_is_none(make):
    bench = make(most_bytes=0)
    bench.file.write("x" * 100_000)
    assert list(bench.files) == ["lb.log"]


def test_a_line_longer_than_the_bound_has_a_file_of_its_own(make):
    bench = make(most_bytes=10)
    bench.file.write("x" * 30)
    bench.file.write("y" * 30)
    assert bench.files == {"lb.log": "y" * 30, "lb.log.1": "x" * 30}


def test_what_was_there_before_the_start_counts(make, tmp_path):
    (tmp_path / "lb.log").write_text("x" * 8)
    bench = make(most_bytes=10)
    bench.file.write("line\n")
    assert bench.files == {"lb.log": "line\n", "lb.log.1": "x" * 8}


def test_after_a_rename_from_outside_a_file_of_that_name_is_made_within_a_second(make):
    bench = make()
    bench.file.write("one\n")
    bench.path.rename(bench.folder / "moved")
    bench.now = 0.9
    bench.file.write("two\n")
    bench.now = 1.0
    bench.file.write("three\n")
    assert bench.files == {"lb.log": "three\n", "moved": "one\ntwo\n"}


@pytest.mark.parametrize("there", [False, True], ids=["nothing there", "made by logrotate"])
def test_asked_to_it_is_opened_anew_at_once(make, there):
    bench = make()
    bench.file.write("one\n")
    bench.path.rename(bench.folder / "moved")
    if there:
        bench.path.write_text("")
    bench.file.reopen()
    bench.file.write("two\n")
    assert bench.files == {"lb.log": "two\n", "moved": "one\n"}


def test_a_file_that_is_removed_comes_back(make):
    bench = make()
    bench.path.unlink()
    bench.now = 2.0
    bench.file.write("one\n")
    assert bench.files == {"lb.log": "one\n"}


def test_a_file_that_is_cut_has_no_hole(make):
    """copytruncate: it is written on from its beginning."""
    bench = make(most_bytes=20)
    bench.file.write("x" * 15)
    os.truncate(bench.path, 0)
    bench.file.write("y" * 15)
    assert bench.files == {"lb.log": "y" * 15}


def test_a_new_file_has_the_mode_of_the_old_one_whatever_the_umask(make):
    bench = make(most_bytes=10)
    before = os.umask(0o077)
    try:
        bench.file.write("line 0\n")
        bench.file.write("line 1\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(bench.path.stat().st_mode) == 0o640


def test_a_file_of_another_process_is_not_renamed(make):
    """Two processes write to one name, as during a takeover: who is late to rotate finds it done."""
    bench = make(most_bytes=10)
    bench.file.write("line 0\n")
    bench.path.rename(bench.folder / "lb.log.1")
    bench.path.write_text("other\n")
    bench.file.write("12\n")
    bench.file.write("line 2\n")
    assert bench.files == {"lb.log": "line 2\n", "lb.log.1": "other\n", "lb.log.2": "line 0\n12\n"}


@pytest.mark.parametrize("what", ["renamed", "opened anew"])
def test_where_it_may_not_be_what_is_open_is_written_on_and_that_is_said_once(make, monkeypatch, complaints, what):
    bench = make(most_bytes=10)

    def refuse(*words):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace" if what == "renamed" else "open", refuse)
    for number in range(8):
        bench.now += 2
        if what == "opened anew" and number == 1:
            bench.path.rename(bench.folder / "moved")
        bench.file.write(f"line {number}\n")
    text = f"{bench.path} cannot be {what} and is written on: permission denied"
    assert complaints == [text]
    lines = "".join(f"line {number}\n" for number in range(8))
    assert bench.files == {"lb.log" if what == "renamed" else "moved": lines}
    monkeypatch.undo()
    bench.now += 2
    bench.file.write("x" * 30)
    assert bench.files["lb.log"] == "x" * 30


def test_a_full_disk_loses_lines_and_nothing_else(observed, tmp_path, logged_errors):
    full = LogFile("/dev/full", os.open("/dev/full", os.O_WRONLY), most_bytes=100, old_files=1)
    observer = observed(logfile.LogFile.fromFullPath(str(tmp_path / "log")))
    fine, observer._outFile = observer._outFile, full
    with pytest.raises(OSError, match="No space left"):
        full.write("one\n")
    say("two")
    assert len(logged_errors.take()) == 1
    observer._outFile = fine
    say("three")
    full.close()
    assert (tmp_path / "log").read_text().rstrip().endswith("three")


def test_lines_of_many_threads_are_whole_and_none_is_lost(make):
    bench = make(most_bytes=500, old_files=1000)

    def write(name: str) -> None:
        for number in range(200):
            bench.file.write(f"{name} {number}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = "".join(bench.files.values()).splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "abcd" for number in range(200))
    assert len(bench.files) > 3


# Taken over.


@pytest.fixture
def observed():
    """Log observers of the process while a test lasts."""
    observers: list[FileLogObserver] = []

    def add(out) -> FileLogObserver:
        observer = textFileLogObserver(out, timeFormat=None)
        observers.append(observer)
        globalLogPublisher.addObserver(observer)
        return observer

    yield add
    for observer in observers:
        globalLogPublisher.removeObserver(observer)
        with contextlib.suppress(OSError):
            observer._outFile.close()


def say(text: str) -> None:
    Logger("test").emit(LogLevel.info, "{text}", text=text)


def taken_over(most_bytes: int = 1000, old_files: int = 2) -> LogFiles:
    files = LogFiles(most_bytes, old_files)
    files.take_over()
    return files


def test_the_file_of_twistd_is_bounded_from_the_start_of_the_service_on(observed, tmp_path):
    observed(logfile.LogFile.fromFullPath(str(tmp_path / "twistd.log")))
    say("before")
    files = taken_over()
    for number in range(100):
        say(f"{number} " + "x" * 80)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["twistd.log", "twistd.log.1", "twistd.log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert (tmp_path / "twistd.log").read_text().rstrip().endswith("99 " + "x" * 80)
    assert repr(files).startswith("<LogFiles [<LogFile ")


def test_twistds_own_handler_of_sigusr1_opens_it_anew_and_renames_nothing(observed, tmp_path):
    of_twistd = logfile.LogFile.fromFullPath(str(tmp_path / "twistd.log"))
    observed(of_twistd)
    taken_over()
    say("one")
    of_twistd.rotate()
    assert [path.name for path in tmp_path.iterdir()] == ["twistd.log"]
    (tmp_path / "twistd.log").rename(tmp_path / "moved")
    of_twistd.rotate()
    say("two")
    assert "one" in (tmp_path / "moved").read_text()
    assert "two" in (tmp_path / "twistd.log").read_text()


def test_asked_to_all_are_opened_anew(observed, tmp_path):
    for name in "ab":
        observed(logfile.LogFile.fromFullPath(str(tmp_path / name)))
    files = taken_over()
    say("one")
    for name in "ab":
        (tmp_path / name).rename(tmp_path / f"{name}-moved")
    files.reopen()
    say("two")
    for name in "ab":
        assert "one" in (tmp_path / f"{name}-moved").read_text()
        assert (tmp_path / name).read_text().strip().endswith("two")


def test_one_file_of_two_observers_is_taken_over_once_and_a_second_service_shares_it(observed, tmp_path):
    of_twistd = logfile.LogFile.fromFullPath(str(tmp_path / "log"))
    first, second = observed(of_twistd), observed(of_twistd)
    [ours] = taken_over().files
    assert first._outFile is second._outFile is ours
    assert taken_over().files == [ours]


def test_a_file_that_twist_has_opened_is_taken_over_too(observed, tmp_path):
    out = (tmp_path / "twist.log").open("a")
    observed(out)
    [ours] = taken_over().files
    assert ours.path == str(tmp_path / "twist.log")
    assert out.closed
    say("one")
    assert "one" in (tmp_path / "twist.log").read_text()


class StandardOutput(io.TextIOWrapper):
    """As the interpreter makes it."""

    name = "<stdout>"  # type: ignore[assignment]


def test_standard_output_is_left_alone_also_where_it_is_a_file(observed, tmp_path):
    out = StandardOutput((tmp_path / "out").open("wb"))
    descriptor = os.fdopen(os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT), "w")
    memory = io.StringIO()
    observers = [observed(one) for one in (out, descriptor, memory)]
    assert taken_over().files == []
    assert [observer._outFile for observer in observers] == [out, descriptor, memory]
    assert not out.closed


def test_what_is_taken_over_is_known_by_what_twisted_calls_it():
    """Names of Twisted's that are nobody's promise."""
    assert globalLogPublisher._observers is not None
    assert hasattr(textFileLogObserver(io.StringIO()), "_outFile")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_of_roots_belongs_to_who_the_process_is_going_to_be(observed, tmp_path):
    observed(logfile.LogFile.fromFullPath(str(tmp_path / "twistd.log")))
    LogFiles(1000, 2).give(65534, 65533)
    found = (tmp_path / "twistd.log").stat()
    assert (found.st_uid, found.st_gid) == (65534, 65533)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_is_behind_a_link_stays_roots(observed, tmp_path, link):
    (tmp_path / "shadow").touch()
    link(tmp_path / "shadow", tmp_path / "twistd.log")
    observed(logfile.LogFile.fromFullPath(str(tmp_path / "twistd.log")))
    LogFiles(1000, 2).give(65534, 65533)
    assert (tmp_path / "shadow").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_is_somebodys_already_stays_so(observed, tmp_path):
    (tmp_path / "twistd.log").touch()
    os.chown(tmp_path / "twistd.log", 65532, 65532)
    observed(logfile.LogFile.fromFullPath(str(tmp_path / "twistd.log")))
    LogFiles(1000, 2).give(65534, 65533)
    assert (tmp_path / "twistd.log").stat().st_uid == 65532
