"""The writer of the access log and its destinations: batches, a bounded buffer, files that are renamed, a system's log."""

import contextlib
import errno
import os
import re
import socket
import stat
import threading
from pathlib import Path

import pytest

from twisted_lb.access_log.destinations import (
    FileDestination,
    StreamDestination,
    SyslogDestination,
    destination_of,
)
from twisted_lb.access_log.writer import SLOW_S, Writer
from twisted_lb.errors import StartError

LINE = b"0123456789abcde\n"  # 16 bytes


class Turns:
    """A reactor's turns, and time, by hand."""

    def __init__(self) -> None:
        self.calls = []
        self.timers = []
        self.now = 0.0

    def soon(self, call) -> None:
        self.calls.append(call)

    def later(self, delay, call):
        timer = Timer(call)
        self.timers.append(timer)
        return timer

    def end(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()

    def time_passes(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer.call()

    def seconds(self) -> float:
        return self.now


class Timer:
    def __init__(self, call) -> None:
        self.call = call

    def cancel(self) -> None:
        self.call = lambda: None


class Fake:
    """A destination that takes as much as a test says, and as long as it says."""

    where = "a file"
    may_block = True

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.lost = 0
        self.taken: list[bytes] = []
        self.takes: int | None = None
        self.slow_s = 0.0
        self.error: OSError | None = None
        self.reopened: list[int] = []
        self.closed = False

    def write(self, data: bytes) -> int:
        self.turns.now += self.slow_s
        if self.takes is None:
            if self.error is not None:
                raise self.error
            self.taken.append(data)
            return len(data)
        part, self.takes = data[: self.takes], 0 if self.error is None else None
        if part:
            self.taken.append(part)
        return len(part)

    def reopen(self) -> None:
        self.reopened.append(len(self.taken))

    def wait(self, most_s: float) -> None:
        self.turns.now += most_s / 2

    def close(self) -> None:
        self.closed = True

    @property
    def text(self) -> bytes:
        return b"".join(self.taken)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def fake(turns) -> Fake:
    return Fake(turns)


@pytest.fixture
def writer(turns, fake):
    one = Writer(fake, turns.soon, turns.later, most_bytes=160_000, seconds=turns.seconds)
    yield one
    fake.slow_s = 0.0
    if not fake.closed:
        one.close()


@pytest.fixture
def said():
    from twisted.logger import formatEvent, globalLogPublisher

    heard = []

    def observe(event):
        if event["log_namespace"].startswith("twisted_lb.access_log"):
            heard.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield heard
    globalLogPublisher.removeObserver(observe)


def test_the_lines_of_a_turn_are_one_write(turns, fake, writer):
    for _ in range(3):
        writer.line(LINE)
    assert (fake.taken, len(turns.calls)) == ([], 1)
    turns.end()
    assert fake.taken == [LINE * 3]
    writer.line(LINE)
    turns.end()
    assert fake.taken == [LINE * 3, LINE]


def test_many_bytes_are_written_before_the_turn_ends(turns, fake, writer):
    for _ in range(5000):
        writer.line(LINE)
    assert list(map(len, fake.taken)) == [65536]
    turns.end()
    assert fake.text == LINE * 5000


def test_what_is_not_taken_waits_and_what_is_beyond_the_bound_is_dropped_and_counted(turns, fake, writer, said):
    fake.takes = 0
    for _ in range(10_050):
        writer.line(LINE)
        if turns.calls:
            turns.end()
    assert (fake.taken, writer.dropped) == ([], 50)
    assert said == ["access log a file: 1 lines were dropped: nobody takes them fast enough"]
    turns.now += 61
    writer.line(LINE)
    assert said[1:] == ["access log a file: 50 lines were dropped: nobody takes them fast enough"]
    fake.takes = None
    turns.time_passes()
    assert fake.text == LINE * 10_000
    writer.line(LINE)
    turns.end()
    assert (fake.text, writer.dropped) == (LINE * 10_001, 51)


def test_a_line_that_was_taken_in_part_is_completed(turns, fake, writer):
    fake.takes = 20
    writer.line(LINE)
    writer.line(LINE)
    turns.end()
    assert fake.text == (LINE * 2)[:20]
    writer.line(LINE)
    turns.end()
    assert fake.text == (LINE * 2)[:20]  # it is asked again when time has passed
    fake.takes = None
    turns.time_passes()
    assert fake.text == LINE * 3


def test_on_a_full_disk_lines_are_dropped_and_the_next_one_is_whole(turns, fake, writer, said):
    fake.takes, fake.error = 20, OSError(errno.ENOSPC, "No space left on device")
    for _ in range(4):
        writer.line(LINE)
    turns.end()
    assert (fake.text, writer.dropped) == ((LINE * 2)[:20], 3)
    writer.line(LINE)
    turns.end()
    assert writer.dropped == 4
    assert said == ["access log a file: 3 lines were dropped: no space left on device"]
    fake.error = None
    writer.line(LINE)
    turns.end()
    # The torn one ends, so that it is not a part of another.
    assert fake.text == (LINE * 2)[:20] + b"\n" + LINE
    writer.line(LINE)
    turns.end()
    assert fake.text.endswith(b"\n" + LINE * 2)


def test_reopening_writes_first_what_waits(turns, fake, writer):
    writer.line(LINE)
    writer.reopen()
    assert (fake.taken, fake.reopened) == ([LINE], [1])


def test_a_close_writes_what_waits_and_after_it_lines_are_dropped(turns, fake, writer):
    writer.line(LINE)
    writer.close()
    assert (fake.taken, fake.closed) == ([LINE], True)
    writer.line(LINE)
    turns.end()
    assert (fake.taken, writer.dropped) == ([LINE], 1)


def test_a_close_waits_for_a_moment_and_no_longer(turns, fake, writer):
    fake.takes = 0
    for _ in range(3):
        writer.line(LINE)
    turns.end()
    writer.close()
    assert (fake.closed, writer.dropped) == (True, 3)
    assert turns.now < 3


def test_after_a_slow_write_a_thread_writes_until_one_is_fast_again(turns, fake, writer):
    fake.slow_s = SLOW_S
    writer.line(b"1" + LINE)
    turns.end()
    held, wrote = threading.Event(), threading.Event()
    own = threading.get_ident()
    by: list[int] = []
    write = fake.write

    def slowly(data: bytes) -> int:
        by.append(threading.get_ident())
        held.wait(60)
        sent = write(data)
        wrote.set()
        return sent

    fake.write = slowly
    for number in (b"2", b"3"):
        writer.line(number + LINE)
        turns.end()  # it does not wait
    writer.reopen()
    assert fake.text == b"1" + LINE
    fake.slow_s = 0.0
    held.set()
    behind = writer._behind
    while not behind.done:
        wrote.wait(60)
        if not behind.done:
            behind.call(wrote.set)
    assert fake.text == b"1" + LINE + b"2" + LINE + b"3" + LINE
    assert fake.reopened == [3]
    assert own not in by
    writer.line(b"4" + LINE)
    turns.end()
    assert by[-1] == own
    assert fake.text.endswith(b"4" + LINE)


def test_what_waits_for_the_thread_is_bounded_too(turns, fake, writer):
    fake.slow_s = SLOW_S
    writer.line(LINE)
    turns.end()
    held = threading.Event()
    write = fake.write

    def slowly(data: bytes) -> int:
        held.wait(60)
        return write(data)

    fake.write = slowly
    for _ in range(15_000):
        writer.line(LINE)
    turns.end()
    assert writer.dropped >= 15_000 - 160_000 // len(LINE) > 0
    held.set()
    fake.slow_s = 0.0
    writer.close()
    assert fake.text.count(LINE) + writer.dropped == 15_001


# Files.


def test_a_new_file_may_be_read_by_its_group_and_an_old_one_is_appended_to(tmp_path):
    path = tmp_path / "access.log"
    before = os.umask(0o077)
    try:
        FileDestination(str(path)).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    path.write_bytes(b"old\n")
    one = FileDestination(str(path))
    one.write(LINE)
    path.write_bytes(b"")  # copytruncate
    one.write(LINE)
    one.close()
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (LINE, 0o600)


def test_a_renamed_file_is_opened_anew_when_somebody_says_so(tmp_path):
    path = tmp_path / "access.log"
    one = FileDestination(str(path))
    one.write(LINE)
    path.rename(tmp_path / "access.log.1")
    one.write(LINE)
    one.reopen()
    one.write(LINE)
    one.close()
    assert (path.read_bytes(), (tmp_path / "access.log.1").read_bytes()) == (LINE, LINE * 2)


@pytest.mark.parametrize("kind", ["no folder", "a folder"])
def test_what_cannot_be_opened_is_said_in_one_line(tmp_path, kind):
    path = {"no folder": tmp_path / "no" / "x", "a folder": tmp_path}[kind]
    with pytest.raises(StartError, match=re.escape(f"the access log {path} cannot be opened: ")):
        destination_of(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_that_is_made_is_its_owners_and_one_that_was_there_stays_whose_it_is(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_bytes(b"")
    os.chown(old, 12346, 12347)
    aim = tmp_path / "aim"
    aim.write_bytes(b"")
    (tmp_path / "link").symlink_to(aim)
    for path in (new, old, tmp_path / "link"):
        destination_of(str(path), (12345, 12344)).close()
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in (new, old, aim)}
    assert owners == {"new": (12345, 12344), "old": (12346, 12347), "aim": (os.geteuid(), os.getegid())}


def test_a_pipe_that_nobody_reads_holds_nothing_up(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(StartError, match="cannot be opened"):
        FileDestination(str(path))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    one = FileDestination(str(path))
    while one.write(b"x" * 4095 + b"\n"):
        pass
    one.close()
    os.close(reader)


# Standard output.


def drained(reader: int) -> bytes:
    os.set_blocking(reader, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reader, 65536):
            data += piece
    return data


def test_a_pipe_takes_what_there_is_room_for_and_is_not_changed():
    reader, out = os.pipe()
    one = StreamDestination(out)
    data = LINE * 65536  # 1 MiB
    taken = one.write(data)
    assert 0 < taken < len(data)
    assert one.write(data) == 0
    assert os.get_blocking(out)
    assert drained(reader) == data[:taken]
    assert one.write(data[taken:]) > 0
    one.close()
    os.close(out)
    os.close(reader)


def test_a_socket_takes_what_there_is_room_for_and_is_not_changed():
    near, far = socket.socketpair()
    one = StreamDestination(near.fileno())
    data = LINE * 65536
    taken = one.write(data)
    assert 0 < taken < len(data)
    assert near.getblocking()
    assert far.recv(len(LINE)) == LINE
    one.close()
    near.close()
    far.close()


def test_standard_output_that_is_a_file_may_block(tmp_path):
    with (tmp_path / "out").open("wb") as out:
        one = StreamDestination(out.fileno())
        assert one.may_block
        assert one.write(LINE) == len(LINE)
        one.close()
    assert (tmp_path / "out").read_bytes() == LINE


# The system's log.


@pytest.fixture
def syslog(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a unix socket is short
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("log")
    server.setblocking(False)
    yield server
    server.close()


def test_each_line_is_a_datagram_as_haproxy_sends_it(syslog, monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    one = SyslogDestination("log", lambda: 784111777.0)
    assert one.write(LINE * 2 + b"x" * 10_000 + b"\n") == len(LINE) * 2 + 10_001
    prefix = b"<134>Nov  6 08:49:37 twisted_lb[%d]: " % os.getpid()
    assert [syslog.recv(65536) for _ in range(2)] == [prefix + LINE[:-1]] * 2
    assert syslog.recv(65536) == (prefix + b"x" * 10_000)[:8192]
    one.close()
    monkeypatch.undo()
    time.tzset()


def test_what_the_system_s_log_does_not_take_at_once_is_lost_and_counted(syslog):
    one = SyslogDestination("log")
    data = LINE * 5000
    assert one.write(data) == len(data)
    got = 0
    with contextlib.suppress(BlockingIOError):
        while syslog.recv(65536):
            got += 1
    assert got > 0
    assert got + one.lost == 5000
    one.close()


def test_a_system_s_log_that_was_restarted_is_found_again(syslog, tmp_path):
    one = SyslogDestination("log")
    syslog.close()
    one.write(LINE)
    assert one.lost == 1
    Path("log").unlink()
    one.write(LINE)
    assert one.lost == 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind("log")
        one.write(LINE)
        assert again.recv(65536).endswith(LINE[:-1])
    one.close()


def test_where_nobody_listens_for_the_system_s_log_is_said_in_one_line():
    with pytest.raises(StartError, match="the access log cannot go to syslog: nowhere: no such file or directory"):
        SyslogDestination("nowhere")


def test_lost_datagrams_are_said(turns, fake, writer, said):
    fake.may_block = False
    write = fake.write

    def losing(data: bytes) -> int:
        fake.lost += 2
        return write(data)

    fake.write = losing
    writer.line(LINE)
    turns.end()
    assert writer.dropped == 2
    assert said == ["access log a file: 2 lines were dropped: the system's log does not take them"]
