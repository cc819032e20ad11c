"""Bulk through a relay by splice: the kernel moves it, and all else is as if it were read and written."""

import contextlib
import os
import socket

import pytest
from joined import IDLE_S, Joined, open_descriptors
from tls_peers import client_context
from turned import Loop, Recorder
from wires import SIP_BYTES, stream_pair
from world import Peer

from twisted_lb.net.pipes import CAN_SPLICE, PIPE_BYTES, Pipes
from twisted_lb.net.tls import TlsTransport
from twisted_lb.net.transport import HIGH_WATER_BYTES, LEAST_SPLICE_BYTES, LOW_WATER_BYTES, RECEIVE_BYTES, Transport

pytestmark = pytest.mark.skipif(not CAN_SPLICE, reason="there is no splice here")

PATTERN = bytes(range(251)) * 4096


def stream(at: int, size: int) -> bytes:
    """These bytes of a stream in which no two places look alike for long."""
    begin = at % 251
    whole = PATTERN[begin:] + PATTERN * (size // len(PATTERN) + 1)
    return whole[:size]


class Bulk(Joined):
    """A relay whose two directions are spliced from the beginning, or from `enter` on."""

    def __init__(self, *, most_pipes: int = 4, enter: bool = True, websocket: bool = False) -> None:
        self.descriptors = open_descriptors()
        super().__init__(most_pipes=most_pipes, websocket=websocket)
        self.begin()
        self.sent = {self.client: 0, self.backend: 0}
        if enter:
            self.enter()

    def enter(self, *, up: bool = True, down: bool = True) -> None:
        client, backend = self.near
        for near, wanted in ((client, up), (backend, down)):
            if wanted:
                self.relay.splice(near.protocol)

    def put(self, peer: Peer, size: int) -> int:
        """Send so much of the stream, or what the kernel takes of it, and let everybody react."""
        taken = 0
        with contextlib.suppress(BlockingIOError):
            taken = peer.offer(stream(self.sent[peer], size))
        self.sent[peer] += taken
        self.world.run()
        return taken

    def flood(self, peer: Peer) -> None:
        """Send as much as anybody takes."""
        while self.put(peer, 65536) or self.world.run():
            pass

    def other(self, peer: Peer) -> Peer:
        return self.backend if peer is self.client else self.client

    def all_came(self, sender: Peer) -> bool:
        got = self.other(sender).received
        return got == stream(0, self.sent[sender])


@pytest.fixture
def bulk():
    all_bulk: list[Bulk] = []

    def one(**options) -> Bulk:
        all_bulk.append(Bulk(**options))
        return all_bulk[-1]

    yield one
    for each in all_bulk:
        each.close()
        assert open_descriptors() == each.descriptors


both = pytest.mark.parametrize("up", [True, False], ids=["up", "down"])


def ends(one: Bulk, *, up: bool) -> tuple[Peer, Peer]:
    return (one.client, one.backend) if up else (one.backend, one.client)


@both
def test_bulk_comes_out_as_it_went_in_and_is_counted(bulk, up):
    one = bulk()
    sender, reader = ends(one, up=up)
    for _ in range(40):
        one.put(sender, 100_000)
        reader.read()
    assert one.pipes.in_use == 2
    assert one.all_came(sender)
    assert (one.relay.bytes_up, one.relay.bytes_down) == ((one.sent[sender], 0) if up else (0, one.sent[sender]))


def test_both_directions_at_once(bulk):
    one = bulk()
    for _ in range(40):
        one.put(one.client, 90_000)
        one.put(one.backend, 110_000)
        one.client.read()
        one.backend.read()
    assert one.pipes.in_use == 2
    assert one.all_came(one.client)
    assert one.all_came(one.backend)


def test_a_whole_receive_begins_it():
    world = Bulk(enter=False)
    try:
        near = world.near[1]
        near.protocol.dataReceived(b"x" * (RECEIVE_BYTES - 1))
        world.client.read()
        assert world.pipes.in_use == 0
        near.protocol.dataReceived(b"x" * RECEIVE_BYTES)
        assert world.pipes.in_use == (0 if world.near[0].unsent else 1)
        world.client.read()
        near.protocol.dataReceived(b"x" * RECEIVE_BYTES)
        world.client.read()
        assert world.pipes.in_use == 1
        assert world.relay.bytes_down == len(world.client.received) == 3 * RECEIVE_BYTES - 1
    finally:
        world.close()


@both
def test_little_at_a_time_ends_it_and_the_pipe_is_kept_for_the_next_one(bulk, up):
    one = bulk()
    sender, reader = ends(one, up=up)
    one.put(sender, LEAST_SPLICE_BYTES)
    assert one.pipes.in_use == 2
    one.put(sender, LEAST_SPLICE_BYTES - 1)
    assert (one.pipes.in_use, one.pipes.idle) == (1, 1)
    one.put(sender, 100)
    reader.read()
    assert one.all_came(sender)
    one.enter(up=up, down=not up)
    assert (one.pipes.in_use, one.pipes.idle) == (2, 0)
    one.put(sender, 50_000)
    reader.read()
    assert one.all_came(sender)


@both
def test_a_side_that_does_not_read_stops_the_other_and_gets_everything(bulk, up):
    one = bulk()
    sender, reader = ends(one, up=up)
    one.flood(sender)
    near = one.near[1 if up else 0]
    assert HIGH_WATER_BYTES < near.unsent <= PIPE_BYTES
    assert near.backlog() > near.unsent
    while len(reader.received) < one.sent[sender]:
        assert reader.read(), "it is not read on"
    assert near.unsent == 0
    one.put(sender, 70_000)
    reader.read()
    assert one.all_came(sender)


@both
def test_a_slow_side_takes_it_bit_by_bit(bulk, up):
    one = bulk()
    sender, reader = ends(one, up=up)
    for _ in range(30):
        one.flood(sender)
        with contextlib.suppress(BlockingIOError):
            reader.sip(SIP_BYTES)
        one.world.run()
    sender.shut()
    reader.read()
    assert one.all_came(sender)
    assert (reader.closed, reader.was_reset) == (True, False)
    assert one.pipes.in_use == 1


def test_a_pipe_that_is_full_of_small_packets_stops_the_sender_and_nothing_spins(bulk):
    """Each packet takes a place of its own: there is no room before the high mark of bytes is reached."""
    one = bulk()
    one.flood(one.client)  # the backend's side is full from here on, but for what is taken below
    while one.near[1].unsent:
        with contextlib.suppress(BlockingIOError):
            one.backend.sip(SIP_BYTES)
        one.world.run()
    while one.near[1].unsent < LOW_WATER_BYTES:
        one.put(one.client, LEAST_SPLICE_BYTES)
    before = one.near[1].unsent
    for _ in range(2000):
        one.put(one.client, 20)
    assert before < one.near[1].unsent < HIGH_WATER_BYTES
    one.backend.read()
    assert one.all_came(one.client)


# Ends.


@both
def test_a_fin_is_passed_on_behind_what_is_in_the_pipe(bulk, up):
    one = bulk()
    sender, reader = ends(one, up=up)
    one.flood(sender)
    sender.shut()
    assert not reader.closed
    reader.read()
    assert one.all_came(sender)
    assert reader.closed
    one.put(reader, 60_000)
    sender.read()
    assert one.all_came(reader), "the other direction goes on"
    reader.shut()
    sender.read()
    assert (sender.closed, one.told[1], one.cut) == (True, "over", "")


def test_of_a_backend_that_is_reset_the_client_gets_what_is_in_the_pipe(bulk):
    one = bulk()
    one.flood(one.backend)
    one.backend.reset()
    while not one.over:
        with contextlib.suppress(BlockingIOError):
            one.client.sip(SIP_BYTES)
        one.world.run()
    while not one.client.was_reset:
        one.client.read()
        one.world.advance(0.2)
    assert one.told[1] == "over, CUT_SHORT"
    assert one.client.received == stream(0, one.relay.bytes_down)
    assert not one.client.closed


def test_of_a_client_that_is_reset_nothing_is_left(bulk):
    one = bulk()
    one.flood(one.client)
    one.client.reset()
    assert one.told[0] == "over, CLIENT_GONE"
    one.backend.read()
    assert (one.backend.was_reset, one.backend.closed) == (True, False)
    assert one.pipes.in_use == 0
    got = one.backend.received
    assert got == stream(0, len(got))


@both
def test_a_reader_that_is_reset_takes_its_pipe_along(bulk, up):
    one = bulk()
    sender, reader = ends(one, up=up)
    one.flood(sender)
    reader.reset()
    with contextlib.suppress(ConnectionResetError):  # it may have been told at once
        one.put(sender, 70_000)
    assert one.over == 1
    one.world.advance(5)
    assert one.pipes.in_use == 0


def test_a_reader_that_goes_between_two_pieces_is_noticed_at_the_next_one(bulk):
    one = bulk()
    one.put(one.client, 50_000)
    one.backend.read()
    one.backend.reset()
    with contextlib.suppress(ConnectionResetError):
        one.put(one.client, 50_000)
    assert one.told[1] == "over, CUT_SHORT"
    one.world.advance(1)
    assert one.pipes.in_use == 0


def test_a_cut_drops_what_is_in_the_pipes(bulk):
    one = bulk()
    one.flood(one.client)
    one.flood(one.backend)
    one.relay.cut()
    assert one.pipes.in_use == 0
    one.told.append("over")  # whoever cuts it is not told
    one.world.run()
    for peer in (one.client, one.backend):
        peer.read()
        assert peer.was_reset


def test_bytes_in_the_pipe_are_no_silence_while_they_are_taken(bulk):
    one = bulk()
    one.flood(one.client)
    one.client.sock.shutdown(socket.SHUT_WR)
    before = one.near[1].backlog()
    one.world.advance(IDLE_S + 0.5)
    while one.near[1].backlog() == before:
        with contextlib.suppress(BlockingIOError):
            one.backend.sip(SIP_BYTES)
        one.world.run()
    one.world.advance(IDLE_S)
    assert one.told == []
    one.backend.read()
    assert one.all_came(one.client)


# Who has none.


def test_who_gets_no_pipe_copies(bulk):
    one = bulk(most_pipes=0)
    one.put(one.client, 70_000)
    one.backend.read()
    assert one.all_came(one.client)
    assert one.pipes.in_use == 0


def test_where_frames_are_counted_nothing_is_spliced(bulk):
    one = bulk(websocket=True)
    one.near[0].protocol.dataReceived(b"\x00" * RECEIVE_BYTES)
    one.backend.read()
    assert one.pipes.in_use == 0


def test_of_two_directions_one_may_have_the_last_pipe(bulk):
    one = bulk(most_pipes=1)
    for _ in range(20):
        one.put(one.client, 70_000)
        one.put(one.backend, 70_000)
        one.client.read()
        one.backend.read()
    assert one.pipes.in_use == 1
    assert one.all_came(one.client)
    assert one.all_came(one.backend)


def test_a_direction_that_lies_idle_loses_its_pipe_to_another_and_reads_on(bulk):
    one = bulk(most_pipes=1, enter=False)
    one.enter(down=False)
    one.put(one.client, 70_000)
    one.world.advance(2)
    one.enter(up=False)
    assert one.pipes.in_use == 1
    for _ in range(5):
        one.put(one.client, 70_000)
        one.put(one.backend, 70_000)
        one.client.read()
        one.backend.read()
    assert one.all_came(one.client)
    assert one.all_came(one.backend)


def test_many_at_once_with_fewer_pipes(bulk):
    pipes = Pipes(8)
    loop = Loop("epoll")
    lines = []
    for _ in range(12):
        (one, far), (other, end) = stream_pair(), stream_pair()
        source, sink = Transport(loop.poller, one), Transport(loop.poller, other)
        source.open(Recorder())
        sink.open(Recorder())
        lines.append((source, sink, far, end))
    spliced = [source.splice_to(sink, pipes, len_told) for source, sink, _, _ in lines for len_told in [lambda _: None]]
    assert spliced.count(True) == pipes.in_use == 8
    for source, sink, far, end in lines:
        far.send(stream(0, 80_000))
        loop.run()
        got = b""
        with contextlib.suppress(BlockingIOError):
            while data := end.recv(1 << 20):
                got += data
                loop.run()
        assert got + source.protocol.data == stream(0, 80_000)
        source.abortConnection()
        sink.abortConnection()
        far.close()
        end.close()
        loop.run()
    assert pipes.in_use == 0
    pipes.close()
    loop.poller.stop()


# A transport by itself.


class Line:
    """Two transports, one spliced to the other, of sockets of this family."""

    def __init__(self, kind: str, family: str) -> None:
        self.loop = Loop(kind)
        self.pipes = Pipes()
        self.moved: list[int] = []
        pair = stream_pair if family == "tcp" else unix_pair
        (one, self.far), (other, self.end) = pair(), pair()
        self.source, self.sink = Transport(self.loop.poller, one), Transport(self.loop.poller, other)
        for transport in (self.source, self.sink):
            transport.open(Recorder())
        assert self.source.splice_to(self.sink, self.pipes, self.moved.append)

    def read(self) -> bytes:
        got = b""
        self.loop.run()
        with contextlib.suppress(BlockingIOError):
            while data := self.end.recv(1 << 20):
                got += data
                self.loop.run()
        return got

    def close(self) -> None:
        for transport in (self.source, self.sink):
            transport.abortConnection()
        self.loop.run()
        assert self.pipes.in_use == 0
        self.pipes.close()
        assert self.loop.poller.watched == 0
        self.loop.poller.stop()
        self.far.close()
        self.end.close()


def unix_pair() -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


@pytest.fixture(params=[("epoll", "tcp"), ("epoll", "unix"), ("reactor", "tcp")], ids="-".join)
def line(request):
    one = Line(*request.param)
    yield one
    one.close()


def test_each_piece_is_told_and_none_of_it_is_received(line):
    line.far.send(b"x" * 60_000)
    assert line.read() == b"x" * 60_000
    assert sum(line.moved) == 60_000
    assert line.source.protocol.data == b""


def test_when_it_ends_the_protocol_hears_of_the_rest(line):
    line.far.send(b"short")
    assert line.read() == b"short"
    line.far.send(b"and received")
    line.loop.run()
    assert (line.source.protocol.data, line.pipes.in_use) == (b"and received", 0)


def test_a_producer_is_paused_and_resumed_as_for_any_bytes(line):
    line.sink.registerProducer(line.sink.protocol, True)
    sent = fill(line)
    assert line.sink.protocol.told == ["made", "pause"]
    line.source.pauseProducing()
    while "resume" not in line.sink.protocol.told:
        assert line.sink.unsent > LOW_WATER_BYTES
        assert line.end.recv(SIP_BYTES)
        line.loop.run()
    line.source.resumeProducing()
    got = len(line.read())
    assert got <= sent
    assert line.sink.unsent == 0


def fill(line: Line) -> int:
    """Send until the sink has more than it likes."""
    sent = 0
    while line.sink.unsent <= HIGH_WATER_BYTES:
        with contextlib.suppress(BlockingIOError):
            sent += line.far.send(b"x" * 65536)
        line.loop.run()
    return sent


def test_an_urgent_byte_holds_nothing_up(line):
    """Splice stops before it, again and again; reading leaves it out, as it ever does."""
    if line.far.family != socket.AF_INET:
        pytest.skip("a thing of TCP")
    line.far.send(b"x" * 20_000)
    got = line.read()
    line.far.send(b"y" * 20_000 + b"!", socket.MSG_OOB)
    line.far.send(b"z" * 20_000)
    got += line.read() + line.source.protocol.data
    assert sorted(got) == sorted(b"x" * 20_000 + b"y" * 20_000 + b"z" * 20_000)


@pytest.mark.parametrize("how", ["loseConnection", "loseWriteConnection"])
def test_a_close_waits_for_what_is_in_the_pipe(line, how):
    line.sink.registerProducer(line.source, True)
    fill(line)
    moved = sum(line.moved)
    getattr(line.sink, how)()
    line.sink.write(b"not any more")
    got = line.read()
    assert len(got) == moved
    assert set(got) == {ord("x")}
    assert line.end.recv(1) == b""


def test_an_abort_does_not(line):
    line.sink.registerProducer(line.source, True)
    fill(line)
    line.sink.abortConnection()
    assert (line.sink.unsent, line.pipes.in_use, line.pipes.idle) == (0, 0, 0)


def test_what_comes_for_one_that_closes_is_received_again(line):
    line.sink.loseWriteConnection()
    line.far.send(b"x" * 30_000)
    line.loop.run()
    assert line.source.protocol.data == b"x" * 30_000
    assert line.pipes.in_use == 0


def test_a_source_that_is_lost_leaves_what_came_to_be_sent(line):
    line.sink.registerProducer(line.source, True)
    fill(line)
    moved = sum(line.moved)
    line.source.abortConnection()
    assert len(line.read()) == moved
    assert (line.pipes.in_use, line.pipes.idle) == (0, 1)


def test_to_write_there_before_the_pipe_is_empty_is_a_mistake(line):
    line.sink.registerProducer(line.source, True)
    fill(line)
    with pytest.raises(AssertionError, match="overtake"):
        line.sink.write(b"out of order")


def test_to_write_there_while_it_is_empty_is_none(line):
    line.far.send(b"x" * 20_000)
    line.loop.run()
    line.sink.write(b"between")
    line.far.send(b"y" * 20_000)
    assert line.read() == b"x" * 20_000 + b"between" + b"y" * 20_000


class Kernel:
    """A socket of a kernel in memory."""

    def __init__(self, sock: socket.socket) -> None:
        self.fileno = sock.fileno
        self.read, self.write, self.writev = os.read, os.write, os.writev

    def read_slowly(self, fd: int, most: int) -> bytes:
        return os.read(fd, min(most, 10))


def test_a_socket_that_no_kernel_knows_is_not_spliced():
    loop = Loop("epoll")
    (one, far), (other, end) = stream_pair(), stream_pair()
    kernel = Kernel(other)
    kernel.read = kernel.read_slowly
    source, sink = Transport(loop.poller, one), Transport(loop.poller, kernel)
    assert not source.splice_to(sink, Pipes(), lambda _: None)
    assert not sink.splice_to(source, Pipes(), lambda _: None)
    for sock in (one, far, other, end):
        sock.close()
    loop.poller.stop()


def test_who_does_something_with_the_bytes_is_not_spliced():
    loop = Loop("epoll")
    (one, far), (other, end) = stream_pair(), stream_pair()
    source = Transport(loop.poller, one)
    sink = TlsTransport(loop.poller, other, client_context(), None, server_side=False)
    pipes = Pipes()
    assert (source.splices, sink.splices) == (True, False)
    assert not source.splice_to(sink, pipes, lambda _: None)
    assert not sink.splice_to(source, pipes, lambda _: None)
    assert pipes.in_use == 0
    for sock in (one, far, other, end):
        sock.close()
    loop.poller.stop()
