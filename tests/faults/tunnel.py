"""A tunnel, judged: what came out of it went in on the other side."""

from typing import TYPE_CHECKING

from faults.reader import Reader
from faults.tape import PUT

if TYPE_CHECKING:
    from faults.oracle import Oracle


def judge_tunnel(oracle: "Oracle", name: str, answers: Reader) -> None:
    """Of the request with this name, which ends these answers."""
    assert answers.tunnel is not None
    _, ask = oracle.asks[name]
    _, whole = oracle.answers[answers.messages[-1].get("x-nonce")]
    out = bytes(answers.tunnel)
    if out != whole.body[: len(out)]:
        oracle.complain(f"{name}: other bytes come out of its tunnel than went in")
    attempt = oracle.backends.attempts[name][-1]
    assert attempt.tape is not None
    assert attempt.request is not None
    inwards = attempt.tape.all(PUT)[attempt.request.head_ends_at :]
    if inwards != (ask.tunnel or b"")[: len(inwards)]:
        oracle.complain(f"{name}: the backend gets other bytes out of its tunnel")
