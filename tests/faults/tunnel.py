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


def without_good_bye(out: bytes) -> bytes:
    """What came out of a tunnel before its close frame, if there is one, or the part of one that the kernel took before the
    end.
    """
    if out.endswith(GOOD_BYE):
        return out[:-4]
    mask, code = out[-6:-2], out[-2:]
    if out[-8:-6] == b"\x88\x82" and bytes(a ^ b for a, b in zip(mask, code, strict=False)) == GOOD_BYE[2:]:
        return out[:-8]
    for length in range(min(len(out), 7), 0, -1):
        if out[-length:][:2] in (b"\x88\x82"[:length], GOOD_BYE[:length]):
            return out[:-length]
    return out


def judge_tunnel(oracle: "Oracle", name: str, answers: Reader) -> None:
    """Of the request with this name, which ends these answers."""
    assert answers.tunnel is not None
    _, ask = oracle.asks[name]
    _, whole = oracle.answers[answers.messages[-1].get("x-nonce")]
    parted = said_good_bye(oracle.town)
    out = bytes(answers.tunnel)
    out = without_good_bye(out) if parted else out
    if out != whole.body[: len(out)]:
        oracle.complain(f"{name}: other bytes come out of its tunnel than went in")
    attempt = oracle.backends.attempts[name][-1]
    assert attempt.tape is not None
    assert attempt.request is not None
    inwards = attempt.tape.all(PUT)[attempt.request.head_ends_at :]
    inwards = without_good_bye(inwards) if parted else inwards
    if inwards != (ask.tunnel or b"")[: len(inwards)]:
        oracle.complain(f"{name}: the backend gets other bytes out of its tunnel")
