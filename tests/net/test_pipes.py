"""Pipes: made when they are needed, bounded, used again only while they are empty, and none is left open."""

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from wires import arrived, stream_pair

from twisted_lb.net.pipes import CAN_SPLICE, MOST_PIPES, PIPE_BYTES, Pipe, Pipes
from twisted_lb.process import room_for_clients

pytestmark = pytest.mark.skipif(not CAN_SPLICE, reason="there is no splice here")


class Taken:
    """Pipes, and who has one: `gave_up` are those from whom one was taken away."""

    def __init__(self, most: int = MOST_PIPES) -> None:
        self.pipes = Pipes(most)
        self.gave_up: list[int] = []
        self.now = 100.0

    def take(self, number: int = 0) -> Pipe:
        pipe = self.ask(number)
        assert pipe is not None
        return pipe

    def ask(self, number: int = 0) -> Pipe | None:
        held: list[Pipe] = []

        def let_go() -> None:
            self.gave_up.append(number)
            self.pipes.give(held[0])

        pipe = self.pipes.take(self.now, let_go)
        if pipe is not None:
            held.append(pipe)
        return pipe


@pytest.fixture
def pair():
    """Makes pairs of connected sockets."""
    made: list[socket.socket] = []

    def one() -> tuple[socket.socket, socket.socket]:
        ends = stream_pair()
        made.extend(ends)
        return ends

    yield one
    for sock in made:
        sock.close()


def open_descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_none_is_made_before_it_is_needed():
    before = open_descriptors()
    pipes = Pipes()
    assert open_descriptors() == before
    assert (pipes.in_use, pipes.idle, repr(pipes)) == (0, 0, f"<Pipes 0 of {MOST_PIPES} in use, 0 idle>")


def test_a_pipe_takes_a_mebibyte_and_is_used_again():
    taken = Taken()
    pipe = taken.take()
    assert (pipe.room, repr(pipe)) == (PIPE_BYTES, f"<Pipe 0 of {PIPE_BYTES} bytes>")
    taken.pipes.give(pipe)
    assert (taken.pipes.in_use, taken.pipes.idle) == (0, 1)
    assert taken.take() is pipe
    taken.pipes.give(pipe)
    taken.pipes.close()


def test_no_child_of_the_process_has_it():
    taken = Taken()
    pipe = taken.take()
    assert not os.get_inheritable(pipe.read_fd)
    assert not os.get_inheritable(pipe.write_fd)
    taken.pipes.give(pipe)
    taken.pipes.close()


def test_one_with_bytes_in_it_is_closed_and_never_used_again(pair):
    taken = Taken()
    near, far = pair()
    far.send(b"somebody's")
    arrived()
    pipe = taken.take()
    assert pipe.fill(near.fileno(), 1000, 1.0) == 10
    before = open_descriptors()
    taken.pipes.give(pipe)
    assert (taken.pipes.idle, open_descriptors()) == (0, before - 2)


def test_bytes_go_through_in_their_order(pair):
    taken = Taken()
    (near, far), (back, end) = pair(), pair()
    pipe = taken.take()
    got = b""
    for piece in (b"one, ", b"two, ", b"three"):
        far.send(piece)
        arrived()
        assert pipe.fill(near.fileno(), 1 << 20, 1.0) == len(piece)
        if piece != b"one, ":
            assert pipe.pour(back.fileno()) > 0
            arrived()
            got += end.recv(100)
    assert (got, pipe.held) == (b"one, two, three", 0)
    far.shutdown(1)
    arrived()
    assert pipe.fill(near.fileno(), 1 << 20, 1.0) == 0
    taken.pipes.give(pipe)
    taken.pipes.close()


def test_at_most_so_many_are_in_use_and_a_few_are_kept():
    before = open_descriptors()
    taken = Taken()
    pipes = [taken.take() for _ in range(MOST_PIPES)]
    assert taken.ask() is None
    assert open_descriptors() == before + 2 * MOST_PIPES
    for pipe in pipes:
        taken.pipes.give(pipe)
    assert (taken.pipes.in_use, taken.pipes.idle) == (0, 8)
    taken.pipes.close()
    assert open_descriptors() == before


def test_after_the_end_none_is_kept():
    before = open_descriptors()
    taken = Taken()
    pipe = taken.take()
    taken.pipes.close()
    taken.pipes.give(pipe)
    assert open_descriptors() == before


def test_where_all_are_in_use_one_that_lies_idle_is_taken_away(pair):
    taken = Taken(2)
    near, far = pair()
    far.send(b"x")
    arrived()
    full, empty = taken.take(1), taken.take(2)
    full.fill(near.fileno(), 10, taken.now)
    assert taken.ask(3) is None, "it was in use just now"
    taken.now += 1.5
    assert taken.take(3) is empty
    assert taken.gave_up == [2]
    assert taken.ask(4) is None, "of the two one has bytes in it"
    for pipe in (full, empty):
        taken.pipes.give(pipe)
    taken.pipes.close()


def test_a_process_with_few_descriptors_has_few_pipes():
    """Connections need them more; what is counted for clients leaves room for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = Taken()
    pipes = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        while (pipe := taken.ask()) is not None:
            pipes.append(pipe)
        assert len(pipes) == 8
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for pipe in pipes:
            taken.pipes.give(pipe)
        taken.pipes.close()
    for limit, most in ((1024, 8), (1 << 20, MOST_PIPES)):
        assert 2 * room_for_clients(limit, 2) + 2 + 32 + 2 * most <= limit


def test_none_is_asked_for_where_there_are_none():
    assert Taken(0).ask() is None


# Of somebody who is not root.

OF_NOBODY = """
import os, resource
from twisted_lb.net.pipes import Pipes
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65533)
    os.setuid(65533)
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
other = os.pipe()
pipes = Pipes(100)
rooms = []
while True:
    pipe = pipes.take(0.0, lambda: None)
    if pipe is None:
        break
    rooms.append(pipe.room)
print(*rooms)
"""


def test_who_has_too_many_gets_smaller_ones_and_then_none():
    """EPERM: /proc/sys/fs/pipe-user-pages-soft bounds the pipes of a user, and beyond it a new one is no use."""
    soft = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
    if soft != 16384 or resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 10_240:
        pytest.skip("another limit than usual")
    ran = subprocess.run([sys.executable, "-c", OF_NOBODY], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rooms = [int(word) for word in ran.stdout.split()]
    assert sorted(set(rooms)) == [65536, PIPE_BYTES]
    assert rooms == sorted(rooms, reverse=True)
    # Together no more than the 64 MiB, each page of 4 KiB.
    assert rooms.count(PIPE_BYTES) == 63
    assert sum(rooms) <= 16384 * 4096
