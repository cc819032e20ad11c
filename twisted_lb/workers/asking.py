"""Asking: a question to several workers, and their answers together."""

import json
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.workers.life import Life
from twisted_lb.workers.messages import Ask, GoneError, Read, read_memory_file

# An answer is waited for so long, in seconds.
_ANSWER_S: Final = 1.0

_log = Logger(namespace="twisted_lb.workers")


def ask(
    lives: Iterable[Life], question: str, arguments: Mapping[str, Any], reactor: Any
) -> "Deferred[dict[Hashable, bytes]]":
    """What these workers answer to a question, by their lives; those that do not in time are left out."""
    answers: dict[Hashable, bytes] = {}
    asked = list(lives)
    if not asked:
        return succeed(answers)
    done: Deferred[dict[Hashable, bytes]] = Deferred()
    left = len(asked)

    def over(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not done.called:
            timer.cancel()
            done.callback(answers)

    def late() -> None:
        if not done.called:
            done.callback(answers)

    timer = reactor.callLater(_ANSWER_S, late)
    for life in asked:
        answer = life.link.callRemote(Ask, question=question, arguments=json.dumps(arguments))
        answer.addCallback(_read, life, answers)
        answer.addErrback(_not_answered, life, question)
        answer.addBoth(over)
    return done


def _read(found: dict[str, Any], life: Life, answers: dict[Hashable, bytes]) -> None:
    answers[life] = read_memory_file(found["answer"])
    if life.linked:
        life.link.callRemote(Read, number=found["number"])


def _not_answered(failure: Failure, life: Life, question: str) -> None:
    if not failure.check(ConnectionLost, ConnectionDone, GoneError):  # who has ended answers nothing
        _log.warn(
            "worker {slot} cannot answer {question}: {why}",
            slot=life.slot,
            question=question,
            why=failure.getErrorMessage(),
        )
