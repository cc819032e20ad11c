"""Decisions in words: which backends a request would go to, or went to, and why not to the others."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.session import items, text_of
from twisted_lb.ctl.text import Words, count, duration, glyph, join

# So many backends are named where there may be hundreds.
MOST: Final = 5


def local_name(candidate: Answer, pool: str) -> str:
    """A candidate's name without its pool, which is said beside."""
    return text_of(candidate, "backend").removeprefix(f"{pool}/")


def state_of(candidate: Answer) -> str:
    """Why a candidate was skipped, as the name of a state; empty where it was not."""
    return text_of(candidate, "state", "unknown") if candidate.get("skipped") else ""


def load_of(candidate: Answer) -> str:
    """`6/64`; without a bound `6`; nothing where it is not known."""
    load, limit = candidate.get("load"), candidate.get("limit")
    if load is None:
        return ""
    return f"{count(load)}/{count(limit)}" if limit else count(load)


def named(candidates: Sequence[Answer], pool: str) -> str:
    """`a1 6/64, a3 3/32 and 5 more`."""
    shown = [f"{local_name(one, pool)} {load_of(one)}".rstrip() for one in candidates[:MOST]]
    more = f" and {len(candidates) - MOST} more" if len(candidates) > MOST else ""
    return ", ".join(shown) + more


def split(candidates: Iterable[Answer]) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """Those that had room, those that were full, and those that were out; not those that the request has tried."""
    free: list[Answer] = []
    full: list[Answer] = []
    out: list[Answer] = []
    for one in candidates:
        state = state_of(one)
        if state != "tried":
            (free if not state else full if state == "full" else out).append(one)
    return free, full, out


def out_words(candidate: Answer, pool: str, ago: str) -> Words:
    """One that was out, and why: `⊘ a9 ejected, 17 s left (5 failures in a row)`, `◐ a4 drained by alice: “deploy”, 5 min ago`."""
    state, reason = state_of(candidate), text_of(candidate, "reason")
    left = f", {duration(candidate['left_s'])} left" if candidate.get("left_s") is not None else ""
    said = f" ({reason})" if reason else ""
    if reason.startswith("by "):
        when = f", {duration(candidate['for_s'])} {ago}" if candidate.get("for_s") is not None else ""
        said = f" {reason}{when}"
    return glyph(state) + f" {local_name(candidate, pool)} {state}{left}{said}"


def out_lines(out: Sequence[Answer], pool: str, ago: str = "ago") -> list[Words]:
    """Those that were out, one a line as far as there are few. `ago`: from when on it is counted how long somebody is out."""
    if len(out) <= MOST:
        return [out_words(one, pool, ago) for one in out]
    first = [out_words(one, pool, ago) for one in out[: MOST - 1]]
    return [*first, Words(f"and {len(out) - len(first)} more")]


def labelled(label: str, lines: Sequence[Words | str], width: int = 10) -> list[Words]:
    """Lines with a label before the first one."""
    return [Words((label if not at else "").ljust(width)) + line for at, line in enumerate(lines)]


def decision_lines(decision: Answer) -> list[Words]:
    """A decision that is not made yet: the rule, the order, and who is out."""
    pool = text_of(decision, "pool")
    free, full, out = split(items(decision, "candidates"))
    order = join((f"{at} {local_name(one, pool)} {load_of(one)}".rstrip() for at, one in enumerate(free[:8], 1)), "   ")
    if len(free) > 8:
        order += f"   and {len(free) - 8} more"
    worker = decision.get("worker")
    whose = f"at worker {worker}" if isinstance(worker, int) else ""
    lines = labelled("pool", [", ".join(filter(None, [pool, text_of(decision, "rule"), whose]))])
    lines += labelled("order", [order]) if free else []
    lines += labelled("full", [named(full, pool)]) if full else []
    return [*lines, *labelled("skipped", out_lines(out, pool))]


def outlook(decision: Answer) -> str:
    """What would become of a request, in a sentence."""
    picked: Any = decision.get("picked")
    if picked:
        pool = text_of(decision, "pool")
        name = picked if str(picked).startswith(f"{pool}/") else f"{pool}/{picked}"
        trial = "; it would find out whether that is back" if decision.get("trial") else ""
        free, _, _ = split(items(decision, "candidates"))
        # By chance it may be any of them.
        first = not free or local_name(free[0], pool) == name.removeprefix(f"{pool}/")
        return f"The first that has room gets it: {name}{trial}." if first else f"{name} gets it{trial}."
    return "It would wait in the queue." if decision.get("waits") else "Nobody can take it: the client would get a 503."
