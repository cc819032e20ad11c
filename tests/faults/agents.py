"""Agents of a town's backends, which say what they like, and the judge of what must follow from what the balancer has heard.

Words are read here once more, by rules of our own, from the bytes on the tapes.
"""

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from faults.reader import Message, Reader
from faults.tape import ENDS, TOOK, Check, Entry

from twisted_lb.config import LoadBalancerConfig

if TYPE_CHECKING:
    from faults.ledger import Change, Member
    from faults.oracle import Oracle

PORT = 9999
BUSY = 429
# What was claimed may leave a little later, where the kernel takes nothing.
ON_ITS_WAY_S = 0.35
SAYINGS = [
    *["ready", "up", "ready up 100%", "ready,up"] * 3,
    *["drain", "maint # moved", "down", "fail", "stopped # disk", "0%", "0", "drain 50%", "DOWN\t20"],
    *["50%", "12", "300%", "maxconn:1000", "\x00\xff\x80 what", "weight=5", "999999%", "257", "# drain", ""],
]
WELL = "ready up 100%"
LINE_ENDS = "\n\r"


class Agents:
    """What the agents of one town say, by chance of its own. `kind` is where: header, body or port; empty: there are none. `busy`: a
    status means that.
    """

    def __init__(self, seed: int, *, wanted: bool) -> None:
        self.rng = rng = random.Random(f"{seed}/agents")
        self.kind = rng.choice(["header", "body", "port"]) if wanted and rng.random() < 0.3 else ""
        self.busy = bool(self.kind) and rng.random() < 0.5

    def configured(self, config: LoadBalancerConfig) -> LoadBalancerConfig:
        """These settings, with agents that are asked, if there are any."""
        if not self.kind or not config.health_check.enabled:
            return config
        changes: dict[str, object] = {"busy_statuses": (BUSY,) if self.busy else ()}
        changes |= {"agent_port": PORT} if self.kind == "port" else {"agent": self.kind}
        return config.model_copy(update={"health_check": config.health_check.model_copy(update=changes)})

    def says(self, *, calm: bool) -> str:
        """A line, without its end."""
        return WELL if calm else self.rng.choice(SAYINGS)

    def answer(self, status: str, *, calm: bool) -> bytes:
        """An answer to a check that else has this status."""
        if self.busy and not calm and self.rng.random() < 0.2:
            status = f"{BUSY} Enough"
        heard = calm or self.rng.random() < 0.85
        field, body = b"", b""
        if heard and self.kind == "header":
            field = b"agent-check:  " + self.says(calm=calm).encode("latin-1").replace(b"\x00", b"\xfe") + b"\r\n"
        elif heard and self.kind == "body" and not status.startswith("204"):
            body = self.says(calm=calm).encode("latin-1") + self.rng.choice([b"", b"\n", b"\r\nall is well\n"])
        length = b"" if status.startswith("204") else b"Content-Length: %d\r\n" % len(body)
        return b"HTTP/1.1 %b\r\n%b%b\r\n%b" % (status.encode(), field, length, body)


class Line:
    """A connection to the port of an agent, which says a line and closes; now and then without an end, or nothing."""

    def __init__(self, agents: Agents, server: Any) -> None:
        self._agents = agents
        self._server = server

    def makeConnection(self, transport: Any) -> None:
        calm = self._server.calm
        ends = ["\n"] if calm else ["\n", "\r\n", "\n", ""]
        if calm or self._agents.rng.random() < 0.9:
            said = self._agents.says(calm=calm) + self._agents.rng.choice(ends)
            self._server.note(f"has an agent that says {said!r}")
            transport.write(said.encode("latin-1"))
        transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        pass

    def readConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        pass


class State:
    """What holds of what the agent of one backend has said."""

    def __init__(self) -> None:
        self.wish = self.down = self.weight = ""
        self.busy = False
        self.certain = True

    def hear(self, line: bytes) -> None:
        """Take a line; one that speaks of everything tells anew what holds."""
        kinds: set[str] = set()
        text = "".join(chr(byte) if 32 <= byte < 127 or byte == 9 else "?" for byte in line)
        for word in text.replace(",", " ").replace("\t", " ").lower().split(" "):
            if word.startswith("#"):
                break
            if word in ("drain", "maint", "ready"):
                self.wish = word.removeprefix("ready")
                kinds.add("wish")
            elif word in ("down", "fail", "stopped", "up"):
                self.down = word.removeprefix("up")
                kinds.add("health")
            elif word.removesuffix("%").isdecimal() and (word.endswith("%") or int(word) <= 256):
                self.weight = word
                kinds.add("weight")
        self.certain = self.certain or len(kinds) == 3

    def miss(self) -> None:
        """It was asked, and not heard: whether what it has said still holds depends on how often that was so by the settings then."""
        if self.wish or self.down or self.weight:
            self.certain = False

    @property
    def withdrawn(self) -> str:
        """What takes it out though it is well; empty for nothing."""
        return self.wish or ("busy" if self.busy else "") or ("no weight" if self.weight in ("0", "0%") else "")


class Agreeing:
    """Whoever drains or stops itself, is busy, or wants no weight gets nothing new once that was heard; and nobody is left out for
    what its agent has taken back.
    """

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._town = oracle.town
        self.complain = oracle.complain

    def judge(self) -> None:
        agents = self._town.agents
        if not agents.kind or not self._town.checked:
            return
        histories = {member: list(self._history(member)) for member in self._town.members.all}
        for name, attempts in self._oracle.backends.attempts.items():
            for one in attempts:
                if one.member is not None:
                    since, state = _at(histories[one.member], one.at)
                    late = one.dialled is not None or one.when > since + ON_ITS_WAY_S
                    # Of a check that ends at the same moment the FIN may be behind what it has led to.
                    at_once = any(at >= one.at and when == one.when for at, when, _ in histories[one.member])
                    if late and not at_once and state is not None and state[0]:
                        self._judge_asked(name, one.backend, one.at, *state)
        changes = self._town.changes
        for change, later in pairwise(changes):
            if change.when < later.when:
                self._judge_usable(change, histories)

    def _judge_asked(self, name: str, backend: str, at: int, word: str, down: bool) -> None:
        change = self._oracle.change(at)
        if not (down and backend in change.panicked) and (down or backend not in change.keeping):
            self.complain(f"{name}: {backend} was asked, and says {word} of itself")

    def _judge_usable(self, change: "Change", histories: "dict[Member, list[Any]]") -> None:
        """Who is well in all other respects is usable if it does not say otherwise."""
        for member, history in histories.items():
            if member.address in change.well and member.there(change.at):
                _, state = _at(history, change.at)
                if state is not None and bool(state[0]) is (member.address in change.usable):
                    self.complain(f"{member} is usable, or not, at {change.when}, and says {state[0]!r}")

    def _history(self, member: "Member") -> Iterator[tuple[int, float, tuple[str, bool] | None]]:
        """From when on what takes it out by its own word, and whether that is `down` alone; None where nobody can tell."""
        state = State()
        told: list[tuple[int, float, Check | None, bool]] = []
        for check in (*self._town.network.checked, *self._town.network.agents):
            if check.address == member.address and member.there(check.at) and check.when > member.since.when:
                entry = self._heard_at(check)
                if entry is not None:
                    told.append((*entry, check, check in self._town.network.agents))
        told += [(at, when, None, False) for at, when in member.rested]
        for at, when, check, by_port in sorted(told, key=lambda one: one[0]):
            if check is None:
                state = State()  # in maintenance nothing holds
            elif not any(begun <= when and check.when <= ended for begun, ended in member.maintained):
                self._take(state, check, by_port=by_port)
            word = state.withdrawn or state.down
            yield at, when, (word, not state.withdrawn) if state.certain else None

    def _take(self, state: State, check: Check, *, by_port: bool) -> None:
        kind = self._town.agents.kind
        line = None if by_port != (kind == "port") else self._line(check)
        if line is not None:
            state.hear(line)
        elif by_port == (kind == "port"):
            state.miss()
        answer = None if by_port else _answer(check)
        if answer is not None and self._town.agents.busy and (answer.status == BUSY or 200 <= answer.status < 400):
            state.busy = answer.status == BUSY

    def _line(self, check: Check) -> bytes | None:
        if check.tape is None:
            return None
        if self._town.agents.kind == "port":
            said = check.tape.all(TOOK).decode("latin-1")
            ends = [said.index(end) for end in LINE_ENDS if end in said]
            return said[: min(ends)].encode("latin-1") if ends else None
        answer = _answer(check)
        if answer is None:
            return None
        if self._town.agents.kind == "header":
            return answer.fields.get(b"agent-check")
        line, ended, _ = bytes(answer.body).replace(b"\r", b"\n").partition(b"\n")
        return line if ended or answer.complete else None

    def _heard_at(self, check: Check) -> tuple[int, float] | None:
        """When it was known what it says, or that nothing came; None when nothing was ever known."""
        if check.failed_at is not None:
            told = check.failed in ("REFUSED", "CONNECT_TIMEOUT", "BACKLOG_FULL")
            return (check.failed_at, check.failed_when) if told else None
        if check.tape is None:
            return check.at, check.when  # its time was over while it was still to be connected: nobody can tell when
        entry: Entry | None = None
        line = self._line(check)
        if check in self._town.network.agents:
            entry = check.tape.entry_of(TOOK, len(line)) if line is not None else None
        elif (answer := _answer(check)) is not None:
            assert answer.head_ends_at is not None
            # Where its body says it, a line that has ended is enough.
            more = len(line) + 1 if self._town.agents.kind == "body" and line is not None else 0
            more = min(more, len(answer.body))
            entry = check.tape.entry_of(TOOK, answer.head_ends_at - 1 + more)
            if self._town.agents.kind == "body" and line is None:
                entry = None
        entry = entry or check.tape.first(*ENDS)
        return None if entry is None else (entry.at, entry.when)


def _answer(check: Check) -> Message | None:
    """The answer to a check, None where no head of one came."""
    if check.tape is None:
        return None
    (answer, *_) = [*Reader(lambda index: b"GET").feed(check.tape.all(TOOK)).messages, None]
    return answer if answer is not None and answer.head_ends_at is not None else None


def _at(history: list[tuple[int, float, tuple[str, bool] | None]], at: int) -> tuple[float, tuple[str, bool] | None]:
    """What held at a moment, and since when."""
    before = [one for one in history if one[0] < at]
    return (before[-1][1], before[-1][2]) if before else (0.0, ("", False))
