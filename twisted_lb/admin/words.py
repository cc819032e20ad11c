"""Words: how it is, and what follows from a change, in sentences that page, command line and log share."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.admin.operator import BackendView, Clause, ListenerView, PoolView, VerdictView

# States that ask for attention although the backend gets requests.
_STRAINED: Final = ("full", "slow start")
_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def duration(seconds: float) -> str:
    """`41 s`, `5 min`, `3 h`, `6 d`."""
    if seconds < 100:
        return f"{max(0, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} d"


def counted(number: int, noun: str) -> str:
    """`1 request`, `4 requests`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def left(requests: int, tunnels: int) -> str:
    """`4 requests and 2 tunnels`; empty for nothing."""
    parts = [counted(requests, "request")] if requests else []
    parts += [counted(tunnels, "tunnel")] if tunnels else []
    return " and ".join(parts)


def grave_flaws(listeners: Sequence[ListenerView]) -> list[str]:
    """What is so wrong with certificates and revocation lists of listeners that clients are lost by it, each once."""
    return list(dict.fromkeys(flaw.text for one in listeners for flaw in one.every_flaw if flaw.grave))


def verdict(pools: Sequence[PoolView], *, ready: bool, why_not: str, flaws: Sequence[str] = ()) -> VerdictView:
    """The verdict on these pools: one sentence with counts, and a clause for each backend that is not simply used. `why_not` says
    why the balancer is not ready, where it is not; `flaws` by what clients are lost before their first request.
    """
    backends = [one for pool in pools for one in pool.backends]
    clauses = [_clause(one) for one in backends if not one.usable or one.state in _STRAINED]
    panics = [pool for pool in pools if pool.panic]
    silent = [pool for pool in pools if not pool.usable]
    unused = sum(not one.usable for one in backends)
    if silent:
        level = "partly" if all(awaited(pool) for pool in silent) else "failing"
        return VerdictView(level, " ".join(_silent(pool) for pool in silent), clauses)
    if panics:
        return VerdictView("partly", " ".join(_in_panic(pool) for pool in panics), clauses)
    if unused:
        text = f"{unused} of {counted(len(backends), 'backend')} {'is' if unused == 1 else 'are'} not used; every pool answers."
        return VerdictView("partly", text, clauses)
    if not ready:
        return VerdictView("partly", f"Not ready: {why_not}.", clauses)
    if flaws:
        more = f" And {len(flaws) - 1} more." if len(flaws) > 1 else ""
        return VerdictView("partly", f"{flaws[0]}.{more}", clauses)
    if not backends:
        return VerdictView("well", "There is no pool; routes answer themselves.", clauses)
    if not any(one.requests for one in backends):
        text = f"Ready, and nobody has asked yet: {counted(len(backends), 'backend')} in {counted(len(pools), 'pool')}."
        return VerdictView("well", text, clauses)
    standing_by = sum(one.state == "standby" for one in backends)
    if standing_by:
        used = len(backends) - standing_by
        text = f"{used} of {counted(len(backends), 'backend')} {'is' if used == 1 else 'are'} used, {standing_by} {'stands' if standing_by == 1 else 'stand'} by."
        return VerdictView("well", text, clauses)
    every = "The one backend is used." if len(backends) == 1 else f"All {len(backends)} backends are used."
    return VerdictView("well", every, clauses)


def awaited(pool: PoolView) -> bool:
    """Whether nobody in a pool is used because first checks are still to come, as at a start."""
    return not pool.usable and any(one.state == "unknown" for one in pool.backends)


def _silent(pool: PoolView) -> str:
    count = len(pool.backends)
    if awaited(pool):
        unknown = sum(one.state == "unknown" for one in pool.backends)
        whose = (
            "its backend"
            if count == 1
            else f"its {count} backends"
            if unknown == count
            else f"{unknown} of its {count} backends"
        )
        return f"{pool.name} waits for the first check of {whose}."
    if not count:
        return f"{pool.name} answers nothing: it has no backend."
    whose = "its one backend is not" if count == 1 else f"none of its {count} backends is"
    return f"{pool.name} answers nothing: {whose} usable."


def _in_panic(pool: PoolView) -> str:
    those = f"{pool.usable} of {len(pool.backends)} backends {'is' if pool.usable == 1 else 'are'} usable"
    return f"{pool.name} is in panic: {those}, so others are used too."


def _clause(backend: BackendView) -> Clause:
    # Who is full is so from moment to moment.
    since = [] if backend.state == "full" else [f"for {duration(backend.since_s)}"]
    return Clause(backend.name, backend.state, ", ".join([*since, *([backend.reason] if backend.reason else [])]))


def became(change: str) -> str:
    """What it is behind a change of admin state: `drain` of `ready → drain: “deploy”`."""
    return change.partition(": “")[0].rpartition("→ ")[2]


_IS: Final = {
    "slow start": "starts slowly",
    "maint": "is out for maintenance",
    "weight 0": "has weight 0",
    "unknown": "was not checked yet",
    "standby": "stands by",
}


def is_so(state: str) -> str:
    """A state as the end of a sentence that begins with a name: `is down`."""
    return _IS.get(state, f"is {state}")


def consequences(pool: PoolView, gone: BackendView) -> list[str]:
    """What follows when a backend gets no new requests any more: what goes on, what the pool keeps, what moves to whom."""
    others = [one for one in pool.backends if one.usable and one.name != gone.name]
    lines = []
    running = left(gone.in_flight - gone.tunnels, gone.tunnels)
    if running:
        lines.append(f"{running} {'goes' if gone.in_flight == 1 else 'go'} on")
    if not gone.usable:
        return [
            *lines,
            f"{gone.name} gets no requests as it is ({gone.state}); {pool.name} keeps {len(others)} of {len(pool.backends)}",
        ]
    if not others:
        rate = f" ({pool.rate:.0f} a second now)" if pool.rate else ""
        return [
            *lines,
            f"{gone.name} is the last usable backend of {pool.name}; every request to {pool.name} would be refused{rate}",
        ]
    lines.append(f"{pool.name} keeps {len(others)} of {len(pool.backends)}")
    weight = sum(one.weight_effective for one in others)
    if weight and gone.weight_effective:
        more = f"+{gone.weight_effective / weight:.0%}".replace("%", " %")
        whose = (
            f"the other {_NUMBERS[len(others)]}"
            if 1 < len(others) < len(_NUMBERS)
            else "the other"
            if len(others) == 1
            else "the others"
        )
        lines.append(f"new load on {whose} {more}")
    return lines


def limited(backend: BackendView, limit: int) -> list[str]:
    """What follows when a backend may have so many requests in flight, 0 for no bound, and has more."""
    if not 0 < limit < backend.in_flight:
        return []
    return [
        (
            f"{backend.name} has {counted(backend.in_flight, 'request')} in flight: they go on, and no new one comes before "
            f"fewer than {limit} are left"
        )
    ]


def admitted(pool: PoolView, backend: BackendView, weight: int) -> list[str]:
    """What follows when a backend is to get requests, with this weight: its part of them, or why it gets none all the same."""
    if not backend.up or backend.ejected:
        why = (
            "down by its checks" if backend.known and not backend.up else "ejected" if backend.up else "not checked yet"
        )
        return [f"{backend.name} still gets nothing: it is {why}"]
    if backend.agent_state:
        return [f"{backend.name} still gets nothing: it is {backend.agent_state}"]
    others = sum(one.weight_effective for one in pool.backends if one.usable and one.name != backend.name)
    part, before = weight / (others + weight), backend.weight_effective / (others + backend.weight_effective or 1)
    if part == before:
        return []
    return [
        f"{backend.name} is meant to take {part * 100:.1f} % of new requests to {pool.name}, now {before * 100:.1f} %"
    ]
