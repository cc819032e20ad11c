"""What tests over real sockets stand on: the two ends of a connection agree before a test goes on."""

import socket
import struct

import pytest
from wires import End, arrived, cut, stream_pair


@pytest.fixture
def pair():
    near, far = stream_pair()
    yield near, far
    near.close()
    far.close()


def fill(sock: socket.socket) -> int:
    """Send as much as is taken without anybody reading."""
    total = 0
    while True:
        try:
            total += sock.send(b"x" * 50_000)
        except BlockingIOError:
            if not arrived():
                return total


def test_what_was_sent_is_there(pair):
    near, far = pair
    for _ in range(200):
        near.send(b"x" * 3000)
        arrived()
        assert far.recv(4000) == b"x" * 3000


def test_so_is_the_end(pair):
    near, far = pair
    near.send(b"bye")
    near.shutdown(socket.SHUT_WR)
    arrived()
    assert (far.recv(10), far.recv(10)) == (b"bye", b"")


def test_and_a_reset_whose_error_is_not_taken_away(pair):
    near, far = pair
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()
    arrived()
    with pytest.raises(ConnectionResetError):
        far.recv(10)


def test_an_end_that_is_full_is_not_waited_for(pair):
    near, far = pair
    held = fill(near)
    assert not arrived()
    near.close()
    arrived()
    taken = 0
    while True:
        try:
            data = far.recv(1 << 16)
        except BlockingIOError:
            assert arrived()
            continue
        if not data:
            break
        taken += len(data)
    assert taken == held


def test_buffers_do_not_grow_by_the_pace_of_traffic(pair):
    near, far = pair
    fill(near)
    first = End.of(far).unread
    for _ in range(20):
        while True:
            try:
                far.recv(1 << 16)
            except BlockingIOError:
                if not arrived():
                    break
            else:
                arrived()
        fill(near)
    assert End.of(far).unread < 1.1 * first


def test_what_a_failing_test_leaves_is_cut():
    near, far = stream_pair()
    cut()
    assert (near.fileno(), far.fileno()) == (-1, -1)
    assert not arrived()
