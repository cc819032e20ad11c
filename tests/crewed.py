"""What a crew needs beside itself, without a process: a reactor that starts none, a data plane that has nothing."""

import json
import os
from types import MappingProxyType, SimpleNamespace
from typing import Any

from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_lb.workers.crew import Crew
from twisted_lb.workers.life import Life
from twisted_lb.workers.worker import START_FD

# No process has this number: os.kill would say so.
NOBODY = 2**22 + 1


class Wire:
    """The transport of a link: what is sent is kept."""

    disconnecting = False

    def write(self, data: bytes) -> None: ...

    def writeSequence(self, data: Any) -> None: ...

    def sendFileDescriptor(self, fd: int) -> None: ...

    def loseConnection(self) -> None: ...

    def getPeer(self) -> None: ...

    def getHost(self) -> None: ...


class Reactor(Clock):
    """A reactor that starts no process."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Life] = []
        self.told: list[tuple[list[str], dict[str, Any]]] = []  # command lines, and what they begin with
        self.refuses: OSError | None = None

    def spawnProcess(self, life: Life, executable: str, args: list[str], **more: Any) -> Any:
        if self.refuses is not None:
            raise self.refuses
        self.spawned.append(life)
        self.told.append((args, json.loads(os.pread(more["childFDs"][START_FD], 1 << 20, 0))))
        return SimpleNamespace(pid=NOBODY + len(self.spawned))

    def adoptStreamConnection(self, fd: int, family: int, factory: Any) -> None:
        factory.buildProtocol(None).makeConnection(Wire())


class Plane:
    """A data plane that has nothing."""

    plan: Any = SimpleNamespace(pools={}, listeners={}, tunnel_drain_s=100.0)
    clusters: Any = MappingProxyType({})


def serve(crew: Crew, life: Life) -> None:
    crew.imported(life)
    crew.taken(life, crew._version, "")


def end(life: Life) -> None:
    if life.linked:
        life.link.connectionLost()
    if life in life.crew.lives:
        life.processEnded(Failure(ProcessTerminated(signal=9)))


def with_backends(*names: str) -> dict[str, Any]:
    return {
        "app": SimpleNamespace(
            pool=SimpleNamespace(backends={name: SimpleNamespace(name=name, gradient=None) for name in names})
        )
    }
