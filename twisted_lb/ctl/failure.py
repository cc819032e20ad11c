"""How a verb ends when it is not done: the exit statuses, and failures that carry one."""

from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """Exit statuses of `lbctl`; scripts rely on them."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_REACHED = 3
    NO_SUCH_NAME = 4
    TIME_OVER = 5
    INTERRUPTED = 130


class Failure(Exception):
    """The end of a verb: a sentence, lines below it, and the status to end with.

    `problem` is the API's own answer, where it has refused; `code` is what that calls it.
    """

    def __init__(self, status: int, sentence: str, *more: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.more = more
        self.problem = problem

    @property
    def code(self) -> str:
        """What the API calls what is wrong; empty where it was not the API that refused."""
        return str((self.problem or {}).get("code") or "")
