"""What parent and workers say to each other: commands of AMP over a socket pair, none of which is answered but questions and the last words of a worker.

What may be long (plans, answers) goes as a descriptor of a memory file. Objects in it are those of this program (`codec.py`).
"""

import os
from typing import Any, ClassVar, Final

from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.amp import (
    AMP,
    Argument,
    BinaryBoxProtocol,
    Command,
    Descriptor,
    Float,
    Integer,
    String,
    Unicode,
)
from twisted.python.failure import Failure

from twisted_lb.workers.codec import dumped, loaded


class OneProtocol(Factory):
    """Makes one connection's protocol, which is there already."""

    def __init__(self, protocol: AMP) -> None:
        self._protocol: Final = protocol

    def buildProtocol(self, addr: object) -> AMP:
        """See IProtocolFactory."""
        return self._protocol


class Quiet(AMP):
    """A protocol of messages that says nothing in the log of its connection."""

    def makeConnection(self, transport: Any) -> None:
        """See IProtocol."""
        self._transportPeer, self._transportHost = transport.getPeer(), transport.getHost()
        BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See IProtocol."""
        BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
        # A descriptor comes before the rest of its message, which may never come.
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


class Sock(Command):
    """To a worker: a listening socket, by its number from now on."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"number", Integer()), (b"sock", Descriptor())]
    requiresAnswer = False


class Channel(Command):
    """To a worker: the end of what brings connections to a slot: for its own to read from, for others to write to."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"slot", Integer()), (b"sock", Descriptor())]
    requiresAnswer = False


class Configure(Command):
    """To a worker: go by this generation (`Generation`)."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"version", Integer()), (b"blob", Descriptor())]
    requiresAnswer = False


class Tell(Command):
    """To a worker: facts of backends, in their order (`facts.py`)."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"facts", String())]
    requiresAnswer = False


class Leave(Command):
    """To a worker: accept no more, and end when all has ended, or after so many seconds."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"most_s", Float())]
    requiresAnswer = False


class Hurry(Command):
    """To a worker: that has lasted long enough."""

    requiresAnswer = False


class Reopen(Command):
    """To a worker: the log files have been renamed."""

    requiresAnswer = False


class HasEndedError(Exception):
    """A worker that is asked has nothing to tell any more."""


class Ask(Command):
    """To a worker: a question, by the name of a method of `worker.Answers`, with its arguments as JSON."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"question", Unicode()), (b"arguments", Unicode())]
    response: ClassVar[list[tuple[bytes, Argument]]] = [(b"number", Integer()), (b"answer", Descriptor())]
    errors: ClassVar[dict[type[Exception], bytes]] = {HasEndedError: b"ENDED"}


class Read(Command):
    """To a worker: the answer of this number has been read."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"number", Integer())]
    requiresAnswer = False


class Ready(Command):
    """From a worker: it has imported everything."""

    requiresAnswer = False


class Taken(Command):
    """From a worker: it goes by this version; or does not, for `problem`."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"version", Integer()), (b"problem", Unicode())]
    requiresAnswer = False


class Found(Command):
    """From a worker: what its traffic has found out of backends, in its order (`facts.py`)."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"facts", String())]
    requiresAnswer = False


class Leaves(Command):
    """From a worker: it drains unasked, and ends when all has ended, or after so many seconds."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"most_s", Float())]
    requiresAnswer = False


class Counted(Command):
    """From a worker that ends in order: what it has counted, as it tells when it is asked for its measures. Nothing comes behind that; it is
    answered, since whoever closes with something unread takes away what is under way.
    """

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"answer", Descriptor())]


class Said(Command):
    """From a worker: lines for the log, each with its level and namespace."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"lines", String())]
    requiresAnswer = False


def memory_file(name: str, data: bytes) -> int:
    """The descriptor of a memory file with this in it; whoever sends it closes it afterwards."""
    fd = os.memfd_create(f"twisted_lb {name}", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memory_file(fd: int) -> bytes:
    """What is in a memory file that has come; its descriptor is closed."""
    try:
        size = os.fstat(fd).st_size
        found = bytearray()
        while len(found) < size:
            data = os.pread(fd, size - len(found), len(found))
            if not data:
                break
            found += data
        return bytes(found)
    finally:
        os.close(fd)


def packed(values: list[Any]) -> list[bytes]:
    """Objects as texts of at most what a value of AMP may have, in their order."""
    texts: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for data in map(dumped, values):
        if batch and size + len(data) > _MOST_BYTES:
            texts.append(dumped(batch))
            batch, size = [], 0
        batch.append(data)
        size += len(data) + 8
    if batch:
        texts.append(dumped(batch))
    return texts


def unpacked(text: bytes) -> list[Any]:
    """The objects of such a text."""
    return [loaded(data) for data in loaded(text)]


# AMP has 16 bits for the length of a value.
_MOST_BYTES = 60_000
