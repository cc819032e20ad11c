"""A connected stream socket that writes through: `write` tries `send` at once and keeps only what the kernel refused.

It offers Twisted's transport interface, so protocols written for it run over Twisted's own endpoints as well.
"""

# Over 350 lines and 20 attributes, and one job, Twisted's transport interface: it has as many methods.

import _socket
import errno
import fcntl
import os
import socket
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from mypy_extensions import mypyc_attr
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from twisted_lb.net.interfaces import Producer, Receiver, StreamProtocol, StreamTransport
from twisted_lb.net.pipes import CAN_SPLICE, Pipe, Pipes
from twisted_lb.net.poller import ERROR, HANGUP, PEER_CLOSED, READ, WRITE, Pollable, Poller
from twisted_lb.net.resets import ResetAware

# One receive: this much at most, in a body of megabytes; it begins with the least and grows while all of it is filled.
# Memory for it is taken before it is known how much comes.
RECEIVE_BYTES: Final = 262144
_LEAST_RECEIVE_BYTES: Final = 16384
_RECEIVE_GROWTH: Final = 8
# A splice that brings less costs as much as a receive and a send: it is left, and what comes is read.
LEAST_SPLICE_BYTES: Final = 16384
# What one splice takes at the most where very many have something to do.
_CROWDED_SPLICE_BYTES: Final = 65536
# A registered producer is paused above the first mark and resumed below the second.
HIGH_WATER_BYTES: Final = 65536
LOW_WATER_BYTES: Final = 16384
_VECTORS: Final = 64
_ABORT: Final = struct.pack("ii", 1, 0)
_STREAM: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
# Looked up once, not for each connection.
_READ_FD: Final[Callable[[int, int], bytes]] = os.read
_WRITE_FD: Final[Callable[[int, bytes], int]] = os.write
_WRITEV_FD: Final[Callable[[int, list[bytes]], int]] = os.writev

_UNIX: Final = int(socket.AF_UNIX)

DONE: Final = Failure(ConnectionDone())
ABORTED: Final = Failure(ConnectionAborted())


def _ignore(_argument: object) -> None:
    """The stand-in for the protocol of a connection that is gone."""


_IGNORE: Final[Callable[[object], None]] = _ignore


class _Splicing:
    """Bulk on its way from one transport to another through a pipe, which the other one has; `moved` is told how much it is."""

    __slots__ = ("moved", "pipe", "sink")

    def __init__(self, pipe: Pipe, sink: "Transport", moved: Callable[[int], None]) -> None:
        self.pipe: Final = pipe
        self.sink: Final = sink
        self.moved: Final = moved


@mypyc_attr(free_list_len=1)
class Transport(Pollable, StreamTransport):
    """A transport over one socket, from connected to closed. The poller drives it; `open` starts it. `peer` is its
    address, if known, as the socket module gives it; `port_name` likewise what `port_name()` returns. A socket that no
    kernel knows brings `read`, `write` and `writev`, with the arguments of those of `os`. Instead of a socket a
    descriptor and its family may be given: many connections end before a socket object was needed.
    """

    __slots__ = (
        "_broken", "_closing", "_family", "_fd", "_gone", "_half_closing", "_host", "_interest", "_made", "_parked", "_paused",
        "_peer", "_peer_closed", "_pending", "_pipe", "_pipes", "_poller", "_port_name", "_producer", "_producer_left", "_producer_paused",
        "_read_ended", "_read_fd", "_reason", "_receive", "_receive_bytes", "_receiver", "_splicing", "_write_ended",
        "_write_fd", "_writev_fd", "protocol", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        poller: Poller,
        sock: _socket.socket | int,
        peer: Any = None,
        port_name: str | None = None,
        family: int = socket.AF_INET,
    ) -> None:  # over 45 lines: one attribute each
        self.protocol: StreamProtocol | None = None
        # Bytes that the kernel has not taken yet.
        self.unsent: int = 0
        self._poller: Final = poller
        # Less work than the methods of a socket, which take their arguments as a tuple.
        read, write, writev = _READ_FD, _WRITE_FD, _WRITEV_FD
        if isinstance(sock, int):
            self._made: _socket.socket | None = None
            self._fd: int = sock
            self._family: int = family
        else:
            self._made = sock
            self._fd = sock.fileno()
            self._family = family
            if isinstance(sock, _socket.socket):
                self._family = sock.family
            elif hasattr(sock, "writev"):
                kernel: Any = sock
                read, write, writev = kernel.read, kernel.write, kernel.writev
        self._read_fd: Final[Callable[[int, int], bytes]] = read
        self._write_fd: Final[Callable[[int, bytes], int]] = write
        self._writev_fd: Final[Callable[[int, list[bytes]], int]] = writev
        self._receive: Callable[[bytes], None] = _IGNORE
        self._receiver: Receiver | None = None
        self._receive_bytes: int = _LEAST_RECEIVE_BYTES
        # Made when it is needed for the first time: most connections never are slow, and an empty one takes 600 bytes.
        self._pending: deque[memoryview] | None = None
        # Another place of such bytes, behind those, and from where it is; the way that bytes of the peer take through the pipe of another.
        self._pipe: Pipe | None = None
        self._pipes: Pipes | None = None
        self._splicing: _Splicing | None = None
        self._producer: Producer | None = None
        self._producer_paused: bool = False
        self._interest: int = 0
        self._paused: bool = False
        self._read_ended: bool = False  # the peer's FIN was read
        self._write_ended: bool = False  # ours was sent
        self._peer_closed: bool = False  # it was noticed while paused
        self._parked: bool = False  # so was the end of everything; the descriptor has left the poller
        self._closing: bool = False
        self._half_closing: bool = False
        self._broken: bool = False  # a send failed
        self._gone: bool = False
        # Why, and whom to tell beside the protocol, until both are told.
        self._reason: Failure = DONE
        self._producer_left: Producer | None = None
        # Asked for once: a peer that reset the connection has no name any more.
        self._peer: Any = peer
        self._host: Any = None
        self._port_name: Final = port_name

    @property
    def _sock(self) -> _socket.socket:
        """The socket object; made when it is needed for the first time, without what socket.socket adds in Python."""
        made = self._made
        if made is None:
            if self._gone:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # the number may be somebody else's by now
            # The type says that it does not block, which is true already.
            made = self._made = _socket.socket(self._family, _STREAM, 0, self._fd)
        return made

    def open(self, protocol: StreamProtocol) -> None:
        """Give the connection to its protocol and start reading."""
        self.switch(protocol)
        self._interest = READ | PEER_CLOSED
        self._poller.add(self._fd, self, self._interest)
        self._begin(protocol)

    def _begin(self, protocol: StreamProtocol) -> None:
        """Tell the protocol that it is connected."""
        receiver = self._receiver
        try:
            if receiver is not None:
                receiver.makeConnection(self)
            else:
                protocol.makeConnection(self)
        except Exception:
            self.abortConnection()
            raise

    def open_behind(self, header: bytes, protocol: StreamProtocol, *, apart: bool) -> None:
        """Give the connection to its protocol as `open` does. The header is sent first, in one piece with what the protocol writes at once;
        or `apart`, since the protocol may close at once.
        """
        self.switch(protocol)
        self._interest = READ | PEER_CLOSED
        self._poller.add(self._fd, self, self._interest)
        if apart:
            self.write(header)
        else:
            self._keep(memoryview(header))
        self._begin(protocol)
        if self.unsent:
            self._flush()
            self._watch()

    def take_over(self, protocol: StreamProtocol, received: bytes) -> None:
        """Give the connection to its protocol, with the bytes that have come already, on a descriptor that the poller watches, for
        reading, and for writing where something is unsent.
        """
        self.switch(protocol)
        self._interest = READ | PEER_CLOSED | (WRITE if self.unsent else 0)
        self._poller.hand_over(self._fd, self)
        self._begin(protocol)
        if received and not self._closing and not self._gone:
            self._give(received)

    def switch(self, protocol: StreamProtocol) -> None:
        """See StreamTransport."""
        self.protocol = protocol
        self._receiver = protocol if isinstance(protocol, Receiver) else None
        self._receive = protocol.dataReceived if self._receiver is None else _IGNORE

    # Events.

    def ready(self, flags: int) -> None:
        """See Pollable."""
        # An event may be older than the wish not to read.
        if (flags != READ or not self._interest & READ) and not self._wants_read(flags):
            return
        if self._splicing is not None and self._pull(self._splicing):
            return
        max_bytes = _LEAST_RECEIVE_BYTES if self._poller.crowded else self._receive_bytes
        try:
            data = self._read_fd(self._fd, max_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(Failure(ConnectionLost(str(error))))
            return
        if data:
            size = len(data)
            if size == max_bytes:
                self._receive_bytes = min(max_bytes * _RECEIVE_GROWTH, RECEIVE_BYTES)
            elif size < _LEAST_RECEIVE_BYTES:
                self._receive_bytes = _LEAST_RECEIVE_BYTES
            receiver = self._receiver
            if receiver is not None:
                receiver.dataReceived(data)
            else:
                self._receive(data)
            return
        self._read_end()

    def _give(self, data: bytes) -> None:
        """Give the protocol bytes of its peer."""
        receiver = self._receiver
        if receiver is not None:
            receiver.dataReceived(data)
        else:
            self._receive(data)

    def _wants_read(self, flags: int) -> bool:
        """Whether to read, after all that is not reading was seen to."""
        if flags & WRITE and self.unsent:
            self._flush()
        if self._gone or not flags & ~WRITE:
            return False
        if self._closing or self._read_ended:
            self._watch_for_end(flags)
            return False
        if self._paused:
            self._remember_end(flags)
            return False
        return True

    def _read_end(self) -> None:
        """The peer sent its FIN (half-close)."""
        if self._broken:
            self._lose(Failure(ConnectionLost("the peer closed while it was written to")))
            return
        ended = getattr(self.protocol, "readConnectionLost", None)
        if ended is None:
            # A protocol that knows nothing of half-closed connections: Twisted's rule is that it is over.
            self._lose(DONE)
            return
        self._read_ended = True
        ended()
        if self._write_ended:
            self._lose(DONE)
        self._watch()  # of what is left of it, mostly nothing

    def _remember_end(self, flags: int) -> None:
        """Remember an end that was noticed while paused: after the pause what came before it is read."""
        self._peer_closed = True
        if flags & (ERROR | HANGUP) and not self.unsent:
            # A hang-up is level-triggered and cannot be masked: it would be reported for ever.
            self._parked = True
            self._poller.park(self._fd)
            protocol = self.protocol
            # Behind a FIN of ours a hang-up without an error is the peer's FIN, which is no reset.
            if (flags & ERROR or not self._write_ended) and isinstance(protocol, ResetAware):
                protocol.connectionBroken()
        else:
            self._watch()

    def _watch_for_end(self, flags: int) -> None:
        """Watch for the end alone: reading is over; of interest is only a connection that broke, or is quite closed."""
        if flags & ERROR:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._lose(Failure(ConnectionLost(os.strerror(code) if code else "connection lost")))
        elif flags & HANGUP:
            self._lose(DONE)

    def crashed(self) -> None:
        """See Pollable."""
        self.abortConnection()

    # Writing.

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now and keep the rest; nothing, silently, once closing or gone."""
        if self._closing or self._gone or self._half_closing or self._broken:
            return
        if self.unsent:
            self._keep(memoryview(data))
            return
        try:
            sent = self._write_fd(self._fd, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._fail_writing(error)
            return
        if sent != len(data):
            self._keep(memoryview(data)[sent:])
            self._watch()

    def write_pieces(self, pieces: list[bytes]) -> None:
        """Send several pieces as one, without a copy into one; at most as many as `writev` takes, 1,024."""
        if self._closing or self._gone or self._half_closing or self._broken:
            return
        sent = 0
        if not self.unsent:
            try:
                sent = self._writev_fd(self._fd, pieces)
            except (BlockingIOError, InterruptedError):
                pass  # all of it is kept
            except OSError as error:
                self._fail_writing(error)
                return
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
            else:
                self._keep(memoryview(piece)[sent:])
                sent = 0
        if self.unsent:
            self._watch()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """Send several pieces as one: Twisted's ITransport asks for it."""
        self.write(b"".join(pieces))

    def _keep(self, data: memoryview) -> None:
        if not data:
            return
        assert self._pipe is None or not self._pipe.held, "bytes that would overtake those in the pipe"
        if self._pending is None:
            self._pending = deque()
        self._pending.append(data)
        self.unsent += len(data)
        if self.unsent > HIGH_WATER_BYTES:
            self._stop_producer()

    def _stop_producer(self) -> None:
        """Stop whoever fills the buffer until it is below the low mark."""
        if self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()

    def _flush(self) -> None:
        if not self._pending:
            if not self._pour():
                return
        else:
            try:
                sent = self._sock.sendmsg(list(islice(self._pending, _VECTORS)))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail_writing(error)
                return
            self._took(sent)
        if not self.unsent:
            if self._closing:
                self._lose(DONE)
                return
            if self._half_closing:
                self._shut_down()
            self._watch()
        if self._producer_paused and self.unsent <= LOW_WATER_BYTES:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def _fail_writing(self, error: OSError) -> None:
        """Sending failed: the peer takes no more. What it sent before that (a 413, say) is still to be read."""
        self._broken = True
        self._pending = None
        self.unsent = 0
        if self._pipe is not None:
            self._give_pipe_back()
        if self._closing or self._read_ended:
            self._lose(Failure(ConnectionLost(str(error))))
        else:
            self._watch()

    def backlog(self) -> int:
        """Bytes that the peer has not taken, here and in the kernel (slow read). Asked for only when a client seems to
        stand still: the kernel calls a socket writable again only after a third of a buffer of megabytes has gone.
        """
        if self._gone:
            return 0
        try:
            queued = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return self.unsent
        return self.unsent + int.from_bytes(queued, sys.byteorder)

    def _took(self, sent: int) -> None:
        self.unsent -= sent
        pending = self._pending
        assert pending is not None
        while sent:
            first = pending[0]
            if sent < len(first):
                pending[0] = first[sent:]
                return
            sent -= len(first)
            pending.popleft()

    # Bulk: bytes of one transport's peer for another's, which are not looked at on their way (splice).

    @property
    def splices(self) -> bool:
        """Whether the kernel can move its bytes by itself: it has a socket of the kernel's, and nothing happens to them in between."""
        return CAN_SPLICE and type(self) is Transport and self._read_fd is _READ_FD

    def splice_to(self, sink: "Transport", pipes: Pipes, moved: Callable[[int], None]) -> bool:
        """Let the kernel move what comes from here on to another transport, as if each piece were received and written there at once;
        `moved` is told how many bytes of it, before they are. Whether it is so: both can, nothing is unsent there, and there is a pipe.

        It ends by itself as soon as little comes at a time, or when there is no more to come, and the protocol hears of the rest as
        ever. Nobody else writes there meanwhile.
        """
        if self._splicing is not None or sink.unsent or sink._pipe is not None:
            return False
        if not (self.splices and sink.splices and sink.takes_pieces):
            return False
        pipe = pipes.take(self._poller.clock.now, sink._give_pipe_back)
        if pipe is None:
            return False
        sink._pipe = pipe
        sink._pipes = pipes
        self._splicing = _Splicing(pipe, sink, moved)
        return True

    @property
    def takes_pieces(self) -> bool:
        """Whether what is written is sent: it is not closing in either way, nor broken."""
        return not (self._closing or self._gone or self._half_closing or self._broken)

    def _pull(self, splicing: _Splicing) -> bool:
        """Fill the pipe, and hand it on; False where there is nothing for it, and the protocol is to hear of what comes."""
        pipe, sink = splicing.pipe, splicing.sink
        if sink._pipe is not pipe or not sink.takes_pieces:
            self._end_splicing(splicing)
            return False
        poller = self._poller
        most = min(pipe.room, _CROWDED_SPLICE_BYTES) if poller.crowded else pipe.room
        try:
            moved = pipe.fill(self._fd, most, poller.clock.now)
        except (BlockingIOError, InterruptedError):
            if not pipe.held:
                return False  # nothing is there, or a byte that is urgent (MSG_OOB), which only reading leaves behind
            sink._stop_producer()  # it is full: in it each packet may take a place of its own
            return True
        except OSError as error:
            if error.errno == errno.EINVAL and not pipe.held:
                self._end_splicing(splicing)  # a socket of which the kernel cannot
                return False
            self._lose(Failure(ConnectionLost(str(error))))
            return True
        if not moved:
            if pipe.held:
                sink._stop_producer()  # the end: it waits until what came before it is out of the way
                return True
            self._end_splicing(splicing)
            return False
        splicing.moved(moved)
        sink._take_piped(moved)
        if moved < LEAST_SPLICE_BYTES and not pipe.held:
            self._end_splicing(splicing)
        return True

    def _end_splicing(self, splicing: _Splicing) -> None:
        """Read from here on; what is in the pipe is the other one's to send."""
        self._splicing = None
        pipe, sink = splicing.pipe, splicing.sink
        if sink._pipe is pipe:
            pipe.ending = True
            if not pipe.held:
                sink._give_pipe_back()

    def _take_piped(self, moved: int) -> None:
        """Send what has come into the pipe, and keep the rest there."""
        unsent = self.unsent
        self.unsent = unsent + moved
        if not unsent:
            if self._pour() and not self.unsent:
                return
            self._watch()
        if self.unsent > HIGH_WATER_BYTES:
            self._stop_producer()

    def _pour(self) -> bool:
        """Send of what is in the pipe; whether any of it was taken."""
        pipe = self._pipe
        assert pipe is not None
        try:
            sent = pipe.pour(self._fd)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._fail_writing(error)
            return False
        self.unsent -= sent
        if pipe.ending and not pipe.held:
            self._give_pipe_back()
        return True

    def _give_pipe_back(self) -> None:
        """Have no pipe any more; whoever fills it sees that, and what is in it is lost."""
        pipe, pipes = self._pipe, self._pipes
        self._pipe = self._pipes = None
        if pipe is not None and pipes is not None:
            pipes.give(pipe)

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """Let the write buffer pause and resume a producer (back-pressure); only streaming ones."""
        if self._producer is not None or not streaming:
            raise RuntimeError("one streaming producer at a time")
        self._producer = producer

    def unregisterProducer(self) -> None:
        """See StreamTransport."""
        self._producer = None
        self._producer_paused = False

    # Reading.

    def pauseProducing(self) -> None:
        """Read no more until `resumeProducing`; at most what is being delivered still arrives."""
        if not self._paused:
            self._paused = True
            self._watch()

    def resumeProducing(self) -> None:
        """Read again, first of all what came before an end that was noticed meanwhile. Delivers nothing by itself."""
        if self._paused:
            self._paused = False
            self._parked = False
            self._watch()

    def stopProducing(self) -> None:
        """Twisted's word for `loseConnection`, for whom the transport is a producer."""
        self.loseConnection()

    # Closing.

    def loseConnection(self) -> None:
        """Read no more, send what is kept, close; `connectionLost` comes later."""
        if self._closing or self._gone:
            return
        self._closing = True
        if self.unsent:
            self._parked = False
            self._watch()
        else:
            self._lose(DONE)

    def loseWriteConnection(self) -> None:
        """Half-close: send a FIN after what is kept; reading goes on."""
        if self._closing or self._gone or self._half_closing:
            return
        self._half_closing = True
        if not self.unsent:
            self._shut_down()

    def _shut_down(self) -> None:
        self._write_ended = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            # ENOTCONN: the peer reset it; reading will find out, if there is any left to do.
            if error.errno != errno.ENOTCONN or self._read_ended:
                self._lose(Failure(ConnectionLost(str(error))))
            return
        if self._read_ended:
            self._lose(DONE)

    def abortConnection(self) -> None:
        """Close now with a reset, whatever is kept; `connectionLost` comes later."""
        if self._gone:
            return
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        except OSError:
            pass  # the socket is already dead, and closing it is all that was wanted
        self._lose(ABORTED)

    def _lose(self, reason: Failure) -> None:
        """Leave the poller now; tell the protocol after the batch, and close the socket then."""
        if self._gone:
            return
        self._gone = True
        self._poller.forget(self._fd)
        self._pending = None
        self.unsent = 0
        if self._splicing is not None:
            self._end_splicing(self._splicing)
        if self._pipe is not None:
            self._give_pipe_back()
        self._producer_left = self._producer
        self._producer = None
        self._receive = _IGNORE
        self._interest = 0  # nothing is read any more
        self._reason = reason
        self._poller.tell_after_batch(self)
        self._poller.close_later(self._fd if self._made is None else self._made)

    def batch_ended(self) -> None:
        """See Pollable: tell of the end."""
        reason, producer = self._reason, self._producer_left
        self._producer_left = None
        if producer is not None:
            producer.stopProducing()
        protocol, receiver = self.protocol, self._receiver
        self.protocol = self._receiver = None
        if receiver is not None:
            receiver.connectionLost(reason)
        elif protocol is not None:
            protocol.connectionLost(reason)

    def _watch(self) -> None:
        """Tell the poller what is of interest now, if that changed."""
        if self._gone or self._parked:
            return
        interest = WRITE if self.unsent else 0
        if not self._closing and not self._read_ended:
            if not self._paused:
                interest |= READ | PEER_CLOSED
            elif not self._peer_closed:
                interest |= PEER_CLOSED
        if interest != self._interest or self._peer_closed:
            self._interest = interest
            self._poller.change(self._fd, interest)

    @property
    def flushed(self) -> bool:
        """See StreamTransport."""
        return not self.unsent

    @property
    def can_half_close(self) -> bool:
        """See StreamTransport."""
        return True

    @property
    def disconnecting(self) -> bool:
        """Twisted's line receivers ask: whether `loseConnection` was called."""
        return self._closing

    @property
    def connected(self) -> bool:
        """Twisted's protocols ask: whether the connection is not gone."""
        return not self._gone

    # Addresses.

    def peer_name(self) -> str:
        """The address of the peer without its port; "unix" for a unix socket."""
        if self._family == _UNIX:
            return "unix"
        name: str = self._peer_address()[0]
        return name

    def peer_port(self) -> int:
        """The port of the peer; 0 for a unix socket, and where it is not known."""
        if self._family == _UNIX:
            return 0
        port: int = self._peer_address()[1]
        return port

    def port_name(self) -> str:
        """The port that the peer connected to; empty for a unix socket."""
        if self._port_name is not None:
            return self._port_name
        if self._family == _UNIX:
            return ""
        port = self._host_address()[1]
        return str(port) if port else ""

    def say_host(self, host: str, port: int) -> None:
        """The address that the peer connected to is another one than our end's: a proxy was there, and has told."""
        self._host = (host, port)

    def host_name(self) -> str:
        """The address that the peer connected to, without its port; "unix" for a unix socket."""
        return "unix" if self._family == _UNIX else str(self._host_address()[0])

    def getPeer(self) -> Any:
        """Twisted's address object of the peer, also after the end of the connection."""
        return _address(self._family, self._peer_address())

    def getHost(self) -> Any:
        """Twisted's address object of our end, also after the end of the connection if it was asked for before."""
        return _address(self._family, self._host_address())

    def _peer_address(self) -> Any:
        if self._peer is None:
            self._peer = self._ask(peer=True)
        return self._peer

    def _host_address(self) -> Any:
        if self._host is None:
            self._host = self._ask(peer=False)
        return self._host

    def _ask(self, *, peer: bool) -> Any:
        try:
            return self._sock.getpeername() if peer else self._sock.getsockname()
        except OSError:
            return "" if self._family == _UNIX else ("unknown", 0)

    def getHandle(self) -> Any:
        """Twisted's name for the socket itself, to be asked about its peer."""
        return self._sock

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Twisted's name for TCP_NODELAY."""
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def __repr__(self) -> str:
        state = "gone" if self._gone else "closing" if self._closing else "paused" if self._paused else "open"
        return f"<Transport fd={self._fd} {state} unsent={self.unsent}>"


def _address(family: int, name: Any) -> Any:
    if family == _UNIX:
        return UNIXAddress(name or None)
    host, port = name[:2]
    return (IPv6Address if family == socket.AF_INET6 else IPv4Address)("TCP", host, port)
