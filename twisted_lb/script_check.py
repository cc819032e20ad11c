"""Script checks: what is sent to a backend that speaks no HTTP, what has to come, and how a failure is told (send and expect)."""

import json
import re
from collections.abc import Sequence
from typing import Final

from twisted_lb.core.address import Address
from twisted_lb.core.script import STEP_BYTES, Script, Step
from twisted_lb.probes import Hearing, ProbeResult

# So much is shown of what came.
_SHOWN_BYTES: Final = 100
_TEXT: Final = re.compile(rb"[\t\r\n -~]+")


class ScriptCheck:
    """The question of a script, as it is sent and heard."""

    def __init__(self, script: Script) -> None:
        self._waits: Final = _waits_of(script.steps)
        self._first: Final = b"".join(step.send for step in script.steps[: self._waits[0].number - 1])
        self._secrets: Final = script.secrets

    def request(self, address: Address) -> bytes:
        """See Question: all that is sent before anything is waited for."""
        return self._first

    def hear(self, address: Address) -> Hearing:
        """See Question."""
        return _Dialogue(self._waits, self._secrets)


def _waits_of(steps: Sequence[Step]) -> "list[_Wait]":
    """The steps that wait, each with what is sent when it is over; there is one at least."""
    waits: list[_Wait] = []
    for number, step in enumerate(steps, 1):
        if step.waits:
            waits.append(_Wait(number, step))
        elif waits:
            waits[-1].then += step.send
    return waits


class _Wait:
    """A step that waits: its `number`, from 1, and what is sent `then`, up to the next one."""

    def __init__(self, number: int, step: Step) -> None:
        self.number: Final = number
        self.then = b""
        said = _quoted(step.expect.rstrip(b"\r\n") or step.expect) if step.expect else ""
        self.what: Final = step.what or said or f"a match of {_quoted(step.matches)}"
        self.pattern: Final = re.compile(step.matches or re.escape(step.expect), re.MULTILINE)
        self.unless: Final = re.compile(step.unless, re.MULTILINE) if step.unless else None


def _end_of(pattern: re.Pattern[bytes] | None, data: bytes) -> int | None:
    """How much has to be here for a pattern to match; None where it does not. What comes of an answer is therefore the same in
    whatever pieces it comes.
    """
    if pattern is None or pattern.search(data) is None:
        return None
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        if pattern.search(data, 0, middle) is None:
            low = middle + 1
        else:
            high = middle
    return high


class _Dialogue:
    """What comes of one run through a script. It has passed with its last wait; what is sent after that is a good-bye, whose answer is
    read and not looked at.
    """

    def __init__(self, waits: Sequence[_Wait], secrets: Sequence[bytes]) -> None:
        self.result: ProbeResult | None = None
        self.over = False
        self.reply = b""
        self._waits: Final = waits
        self._secrets: Final = secrets
        self._at = 0
        self._received = b""  # since the last step
        self._behind = 0  # bytes that came when it had passed

    def feed(self, data: bytes) -> None:
        """See Hearing."""
        if self.result is not None:
            self._behind += len(data)
            self.over = self._behind > STEP_BYTES
            return
        self._received += data
        while self.result is None and self._goes_on(self._waits[self._at]):
            pass

    def end(self) -> None:
        """See Hearing."""
        self.cut("closed")

    def cut(self, reason: str) -> None:
        """See Hearing."""
        self.over = True
        if self.result is None:
            came = self._shown(self._received)
            self._fail(f"got {came or 'nothing'}: {reason}", silent=not self._received)

    def _goes_on(self, wait: _Wait) -> bool:
        """Whether a wait is over, and the next one may be."""
        seen = self._received[:STEP_BYTES]
        end, refused = _end_of(wait.pattern, seen), _end_of(wait.unless, seen)
        if refused is not None and (end is None or refused <= end):
            self._fail(f"got {self._shown(_said(wait.unless, seen))}")
        elif end is not None:
            self._passed(wait, end)
            return True
        elif len(self._received) > STEP_BYTES:
            self._fail(f"got {STEP_BYTES // 1024} KiB without that")
        return False

    def _passed(self, wait: _Wait, end: int) -> None:
        came, self._received = self._received[:end], self._received[end:]
        if wait.then:
            # What came before it is no answer to it.
            self.reply, self._received = self.reply + wait.then, b""
        self._at += 1
        if self._at == len(self._waits):
            self.over = not wait.then
            said = _said(wait.pattern, came).rstrip(b"\r\n")
            # What is no text says nothing to anybody.
            readable = _TEXT.fullmatch(said)
            self.result = ProbeResult(True, f"got {self._shown(said)}" if readable else wait.what)

    def _fail(self, got: str, *, silent: bool = False) -> None:
        wait = self._waits[self._at]
        self.over = True
        self.result = ProbeResult(False, f"step {wait.number}: expected {wait.what}, {got}", silent=silent)

    def _shown(self, came: bytes) -> str:
        """What came, as a text of the configuration has it, without secrets that were said again; empty for nothing."""
        for secret in self._secrets:
            came = came.replace(secret, b"***")
        came = came.rstrip(b"\r\n") or came
        cut = came[:_SHOWN_BYTES]
        return (_quoted(cut) + "..." * (len(came) > len(cut))) if cut else ""


def _said(pattern: re.Pattern[bytes] | None, came: bytes) -> bytes:
    """What is shown of what came: the group `said` of a pattern that has one, else all of it."""
    found = None if pattern is None else pattern.search(came)
    said = None if found is None else found.groupdict().get("said")
    return came if said is None else bytes(said)


def _quoted(data: bytes) -> str:
    return json.dumps(data.decode("latin-1"))
