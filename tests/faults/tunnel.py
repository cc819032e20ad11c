"""A tunnel, judged: what came out of it went in on the other side, and at a stop perhaps a close frame behind it."""

from typing import TYPE_CHECKING

from faults.reader import Reader
from faults.tape import PUT

if TYPE_CHECKING:
    from faults.oracle import Oracle
    from faults.town import Town

# RFC 6455 5.5.1, 7.4.1: going away. For the backend it is masked.
GOOD_BYE = b"\x88\x02\x03\xe9"


def said_good_bye(town: "Town") -> bool:
    """Whether tunnels may have been told that the balancer goes away."""
    return town.operator.stop is not None and town.operator.stop.began is not None


def is_good_bye(tail: bytes) -> bool:
    """Whether this is a close frame, or the beginning of one that the kernel did not take whole: none of it, too."""
    if GOOD_BYE.startswith(tail):
        return True
    mask, code = tail[2:6], tail[6:]
    return b"\x88\x82".startswith(tail[:2]) and GOOD_BYE[2:].startswith(
        bytes(a ^ b for a, b in zip(mask, code, strict=False))
    )


def came_out(out: bytes, went_in: bytes, *, parted: bool) -> bool:
    """Whether this came out of a tunnel into which that went; with a close frame behind it where they `parted`."""
    longest = 8 if parted else 0
    return any(
        went_in.startswith(out[: len(out) - length]) and is_good_bye(out[len(out) - length :])
        for length in range(min(longest, len(out)) + 1)
    )


def judge_tunnel(oracle: "Oracle", name: str, answers: Reader) -> None:
    """Of the request with this name, which ends these answers."""
    assert answers.tunnel is not None
    _, ask = oracle.asks[name]
    _, whole = oracle.answers[answers.messages[-1].get("x-nonce")]
    parted = said_good_bye(oracle.town)
    if not came_out(bytes(answers.tunnel), whole.body, parted=parted):
        oracle.complain(f"{name}: other bytes come out of its tunnel than went in")
    attempt = oracle.backends.attempts[name][-1]
    assert attempt.tape is not None
    assert attempt.request is not None
    inwards = attempt.tape.all(PUT)[attempt.request.head_ends_at :]
    if not came_out(inwards, ask.tunnel or b"", parted=parted):
        oracle.complain(f"{name}: the backend gets other bytes out of its tunnel")
