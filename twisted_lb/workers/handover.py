"""Handover: what a parent leaves to the program that it becomes (`execve`), in the same process: descriptors, workers, and what is known.

It is JSON in a memory file, whose number is in the environment. Descriptors in it are those of the process; another program reads it,
so that what it does not know is left out, and what is missing has a default.
"""

import base64
import json
import os
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import BackendEjected
from twisted_lb.respawn import HANDOVER
from twisted_lb.workers.facts import AgentSaid, Fact, Probed
from twisted_lb.workers.meeting import PROGRAM
from twisted_lb.workers.messages import memory_file, read_memory_file

# What is written so is read by programs of this number.
FORM: Final = 1


@dataclass(frozen=True)
class OldWorker:
    """A worker that runs: its process, and the row of the table that it writes, none where that is of another table."""

    pid: int
    slot: int
    row: int | None
    generation: int
    began_at: float
    leaving: bool
    leaves_at: float | None = None  # it is killed then, in monotonic seconds
    starts: bool = False  # it has no plan yet, and ends by itself without the parent that was to tell it one


@dataclass(frozen=True)
class OldSocket:
    """A listening socket with its clones: what it is for, and where it was wanted."""

    name: str
    where: str
    fds: list[int]


@dataclass(frozen=True)
class Handover:
    """What is handed over. `table`, `control` and `channels` (to write to, to read from, by slot) are descriptors. `counted` is what
    workers that have ended had counted, and all else that is a `codec` text: of use to the same program alone.
    """

    generation: int
    table: int
    slots: int
    rows: int
    control: int | None
    control_name: str
    channels: list[tuple[int, int]]
    sockets: list[OldSocket]
    doors: dict[str, int]
    workers: list[OldWorker]
    columns: list[tuple[str, str, int]]
    facts: list[Fact] = field(default_factory=list)
    wishes: dict[str, Any] = field(default_factory=dict)
    counted: bytes = b""
    restarts: int = 0
    pid_file: str = ""
    program: str = PROGRAM

    def descriptors(self) -> list[int]:
        """All descriptors of it."""
        found = [self.table, *(fd for pair in self.channels for fd in pair), *self.doors.values()]
        found += [fd for one in self.sockets for fd in one.fds]
        return found if self.control is None else [*found, self.control]

    def text(self) -> str:
        """All of it as JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["sockets"] = [asdict(one) for one in self.sockets]
        values["workers"] = [asdict(one) for one in self.workers]
        values["facts"] = list(map(_values_of, self.facts))
        values["counted"] = base64.b64encode(self.counted).decode()
        return json.dumps({"form": FORM, **values})

    @classmethod
    def of_text(cls, text: str) -> "Handover":
        """What was handed over; ValueError for what this program cannot read."""
        try:
            values = json.loads(text)
            form = values.pop("form")
            if form != FORM:
                raise ValueError(f"of form {form}, not {FORM}")
            known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
            known["sockets"] = [OldSocket(**one) for one in known["sockets"]]
            known["workers"] = [OldWorker(**one) for one in known["workers"]]
            known["channels"] = [(into, out) for into, out in known["channels"]]
            known["columns"] = [(pool, backend, column) for pool, backend, column in known["columns"]]
            known["facts"] = list(_facts_of(known.get("facts", ())))
            known["counted"] = base64.b64decode(known.get("counted", ""))
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    def leave(self) -> int:
        """Leave it to the next program: the descriptor of the memory file, which it inherits with all others."""
        fd = memory_file("handover", self.text().encode())
        for one in (fd, *self.descriptors()):
            os.set_inheritable(one, True)
        return fd

    def keep(self, fd: int) -> None:
        """There is no next program: this one goes on."""
        os.close(fd)
        for one in self.descriptors():
            os.set_inheritable(one, False)


def handed_over(environ: MutableMapping[str, str]) -> Handover | None:
    """What a program before this one has left to it; None where there was none. ValueError where it cannot be read."""
    number = environ.pop(HANDOVER, "")
    if not number.isdecimal():
        return None
    found = Handover.of_text(read_memory_file(int(number)).decode())
    for fd in found.descriptors():
        os.set_inheritable(fd, False)
    return found


def _values_of(fact: Fact) -> dict[str, Any]:
    match fact:
        case Probed():
            said = _text(fact.said)
            return {
                "kind": "probed",
                "pool": fact.pool,
                "backend": fact.backend,
                "passed": fact.passed,
                "reason": fact.reason,
                "silent": fact.silent,
                "busy": fact.busy,
                "said": said,
                "asked_at": fact.asked_at,
            }
        case AgentSaid():
            return {"kind": "agent", "pool": fact.pool, "backend": fact.backend, "said": _text(fact.said)}
        case BackendEjected():
            return {
                "kind": "ejected",
                "pool": fact.pool,
                "backend": fact.backend_name,
                "why": fact.detail,
                "until": fact.until,
                "at": fact.at,
                "rule": fact.rule.name,
            }
    return {"kind": ""}


def _facts_of(every: Iterable[dict[str, Any]]) -> Iterator[Fact]:
    for values in every:
        pool, backend = values["pool"], values["backend"]
        match values["kind"]:
            case "probed":
                said, busy = _bytes(values["said"]), values["busy"]
                yield Probed(
                    pool, backend, values["passed"], values["reason"], values["silent"], busy, said, values["asked_at"]
                )
            case "agent":
                yield AgentSaid(pool, backend, _bytes(values["said"]))
            case "ejected" if values["rule"] in EjectionRule.__members__:
                rule = EjectionRule[values["rule"]]
                yield BackendEjected(pool, backend, None, values["why"], values["until"], False, values["at"], rule)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("latin-1")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1")
