"""What parent and workers say to each other: commands of AMP over a socket pair, none of which is answered but questions.

What is long (plans, answers) goes as a descriptor of a memory file, and what may be now and then (facts, lines, questions) as several
values of a message (`Long`): none is too long to be sent. Objects in it are those of this program (`codec.py`).
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

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """See IFileDescriptorReceiver. It comes a moment before its message: no program that this one becomes meanwhile is to have it."""
        os.set_inheritable(descriptor, False)
        super().fileDescriptorReceived(descriptor)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See IProtocol."""
        BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
        # A descriptor comes before the rest of its message, which may never come.
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])


# AMP has 16 bits for the length of a value.
_MOST_BYTES: Final = 60_000


class Long(String):
    """Bytes, as many as there are: those beyond what one value of a message takes are its next ones, `facts-1`, `facts-2`."""

    def toBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        """See IArgumentType."""
        super().toBox(name, strings, objects, proto)
        value = strings[name]
        for number, begin in enumerate(range(0, len(value), _MOST_BYTES)):
            strings[_part(name, number)] = value[begin : begin + _MOST_BYTES]

    def fromBox(self, name: bytes, strings: Any, objects: Any, proto: Any) -> None:
        """See IArgumentType."""
        parts = [strings[name]]
        while (one := strings.pop(_part(name, len(parts)), None)) is not None:
            parts.append(one)
        strings[name] = b"".join(parts)
        super().fromBox(name, strings, objects, proto)


class LongText(Long):
    """The same of a text."""

    def toString(self, inObject: str) -> bytes:
        """See Argument."""
        return inObject.encode()

    def fromString(self, inString: bytes) -> str:
        """See Argument."""
        return inString.decode()


def _part(name: bytes, number: int) -> bytes:
    return b"%b-%d" % (name, number) if number else name


class Sock(Command):
    """To a worker: a listening socket, by its number from now on."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"number", Integer()), (b"sock", Descriptor())]
    requiresAnswer = False


class Channel(Command):
    """To a worker: the end of what brings connections to a slot: for its own to read from, for others to write to."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"slot", Integer()), (b"sock", Descriptor())]
    requiresAnswer = False


class Meet(Command):
    """To a worker: the control socket, on which another parent finds it when this one is gone."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"sock", Descriptor())]
    requiresAnswer = False


class Configure(Command):
    """To a worker: go by this generation (`Generation`)."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"version", Integer()), (b"blob", Descriptor())]
    requiresAnswer = False


class Tell(Command):
    """To a worker: facts of backends, in their order (`facts.py`)."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"facts", Long())]
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


class GoneError(Exception):
    """Whoever was asked has ended what it did."""


class Ask(Command):
    """To a worker: a question, by the name of a method of `worker.Answers`, with its arguments as JSON."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"question", Unicode()), (b"arguments", LongText())]
    response: ClassVar[list[tuple[bytes, Argument]]] = [(b"number", Integer()), (b"answer", Descriptor())]
    errors: ClassVar[dict[type[Exception], bytes]] = {GoneError: b"GONE"}


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

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"facts", Long())]
    requiresAnswer = False


class Leaves(Command):
    """From a worker: it drains unasked, and ends when all has ended, or after so many seconds."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"most_s", Float())]
    requiresAnswer = False


class Ends(Command):
    """From a worker: it ends when the parent hangs up, and has counted so much in all (`Answers.measures`), or nothing."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"counted", Descriptor())]
    requiresAnswer = False


class Said(Command):
    """From a worker: lines for the log, each with its level and namespace."""

    arguments: ClassVar[list[tuple[bytes, Argument]]] = [(b"lines", Long())]
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
    """Objects as texts, in their order: many in a few that are about as long as a value of AMP may be, so that none holds up what comes
    behind it for long.
    """
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
