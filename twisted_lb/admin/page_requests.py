"""Requests on the page, explained, as HTML that the server makes: each attempt with the waterfall of its phases, and who else there
was. The script makes the same of the same answers.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from twisted_lb.admin.page_marks import NOBODY_KNOWS, clock, glyph, glyph_of, milliseconds

# Of the candidates so many are named: those that were asked, those that were out, and then others.
MOST_CANDIDATES: Final = 8
# Shorter is nothing.
_SHORTEST_S: Final = 5e-5
# An answer that somebody wanted, by whomever it was.
_WELL: Final = ("OK", "ANSWER", "REDIRECT")
_KEY: Final = (
    ("queue", "queue"),
    ("connect", "connect"),
    ("first", "first byte"),
    ("rest", "rest"),
    ("bad", "where it failed"),
)
# A connection that is carried as it is (TCP): nobody knows its first byte, and what comes behind the connect is that it is open.
_KEY_TCP: Final = (("queue", "queue"), ("connect", "connect"), ("rest", "open"), ("bad", "where it failed"))
_N: Final = ' class="n"'
_KNOWN: Final = "no backend was asked"

Value = Mapping[str, Any]


def bad_and_slow(bad: Sequence[Value], slow: Sequence[Value]) -> list[Value]:
    """Requests that went wrong, and the slowest, each once, the newest first."""
    found = {one["id"]: one for one in slow} | {one["id"]: one for one in bad}
    slowest = {one["id"] for one in slow}
    marked = [{**one, "slow": name in slowest} for name, one in found.items()]
    return sorted(marked, key=lambda one: -one["at"])


def request_html(one: Value) -> str:
    """A request: a row, and one that explains it when it is opened."""
    way = " → ".join(attempt["backend"] for attempt in one["attempts"])
    said = " · ".join(filter(None, (_word(one), "" if one["outcome"] in _WELL else one["outcome"], way)))
    target = one["path"] + ("?…" if one["query"] else "")
    status = _status(one)
    return (
        f'<tbody id="r-{escape(one["id"])}"><tr class="req"><td>{clock(one["at"])}</td>'
        f'<th scope="row"><span class="mono">{escape(one["method"])} {escape(target)}</span></th>'
        f'<td><span class="status x{status[0] if one["status"] else NOBODY_KNOWS}">{status}</span></td><td>{escape(said)}</td>'
        f'<td class="n">{_took(one["took_s"])}</td></tr><tr class="why"><td colspan="5"><details><summary>Why? '
        f'<span class="id">{escape(one["id"])}</span></summary>{_explained(one)}</details></td></tr></tbody>'
    )


def _is_session(one: Value) -> bool:
    return bool(one["method"] == "TCP")


def _status(one: Value) -> str:
    """What its client was told; of a session whether it is still open, where a backend has it."""
    if _is_session(one) and any(attempt["connect_s"] is not None for attempt in one["attempts"]):
        return "open" if one["running"] else "closed"
    return str(one["status"] or NOBODY_KNOWS)


def _word(one: Value) -> str:
    if one["running"]:
        return "running"
    if one["outcome"] not in _WELL:
        return "refused" if one["local_reply"] and (one["status"] or 500) < 500 else "failed"
    return "retried, then well" if len(one["attempts"]) > 1 else "slow" if one.get("slow") else ""


def _took(seconds: float | None) -> str:
    if seconds is None:
        return NOBODY_KNOWS
    return "0" if seconds < _SHORTEST_S else milliseconds(seconds * 1000)


def _explained(one: Value) -> str:
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in _texts(one))
    return f"<div>{paragraphs}{_attempts(one)}{_candidates(one)}</div>"


def _texts(one: Value) -> list[str]:
    where = [f"{name} {one[name]}" for name in ("client", "listener", "route", "pool") if one[name]]
    where += [f"over {one['tls']['text']}"] if one["tls"] else []
    where += [f"told by its proxy: {one['proxy']['text']}"] if one["proxy"] else []
    attempts = one["attempts"]
    reasons = {attempt["reason"] for attempt in attempts}
    told = [" · ".join(where), *map(_how, attempts)]
    told += [] if attempts or one["running"] else ["No backend was asked."]
    told += [note for note in one["note"] if note != _KNOWN]
    return [*told, one["detail"]] if one["detail"] and one["detail"] not in reasons else told


def _how(attempt: Value) -> str:
    """Why an attempt was made, and there."""
    told = [f"{attempt['number']}  {attempt['backend']}", *_over(attempt)]
    if attempt["retried"]:
        number, most, left = attempt["number"], attempt["most"], attempt["budget_left"]
        # Some attempts cost none: there may be more of them than the route allows.
        of = f"; attempt {number} of {most}" if number <= most else ""
        more = "" if left is None else f"; {left} more in the budget"
        why = attempt["retried"]
        told.append(f"{why if why.startswith('hedged: ') else f'retried: {why}'}{of}{more}")
    rule = attempt["decision"]["rule"]
    return " · ".join([*told, f"chosen: {rule}"] if rule else told)


def _over(attempt: Value) -> list[str]:
    """What was spoken with the backend, where that is not HTTP/1.1."""
    if attempt["protocol"] in (None, "HTTP/1.1"):
        return []
    return [f"over {attempt['protocol']}" + (f", stream {attempt['stream']}" if attempt["stream"] else "")]


# The waterfall.


def _attempts(one: Value) -> str:
    attempts = one["attempts"]
    waited_s = one["queue_s"] - sum(attempt["queue_s"] for attempt in attempts)
    session = _is_session(one)
    rows = [_attempt(attempt, _whole_s(one), session=session) for attempt in attempts]
    if waited_s > _SHORTEST_S:
        rows.append(_last_wait(one, waited_s))
    if not rows:
        return ""
    phases = ("Open",) if session else ("First byte", "Rest")
    heads = ("Attempt", "Ended", "Queue", "Connect", *phases, "When")
    head = "".join(f'<th scope="col"{_N if name in heads[2:-1] else ""}>{name}</th>' for name in heads)
    key = "".join(
        f'<span><svg aria-hidden="true" viewBox="0 0 9 9"><rect class="f-{kind}" width="9" height="9"></rect></svg>{name}</span>'
        for kind, name in (_KEY_TCP if session else _KEY)
    )
    return (
        f'<table class="attempts"><caption class="sr">Attempts</caption><thead><tr>{head}</tr></thead><tbody>'
        f'{"".join(rows)}</tbody></table><p class="key" aria-hidden="true">{key}</p>'
    )


def _whole_s(one: Value) -> float:
    """How long all of it took, or has until what is known of it."""
    ends = [attempt["began_s"] + sum(s for _, s in _phases(attempt)) for attempt in one["attempts"]]
    return float(max(one["took_s"] or 0.0, one["queue_s"], *ends, _SHORTEST_S))


def _phases(attempt: Value) -> list[tuple[str, float]]:
    """The phases of an attempt behind its wait, in their order, and how long each took; in the last one it failed, if it did."""
    if attempt["connect_s"] is None:
        phases = [("connect", attempt["took_s"])]
    else:
        phases = [
            (name, attempt[f"{key}_s"])
            for name, key in (("connect", "connect"), ("first", "first_byte"), ("rest", "rest"))
        ]
    known = [(name, s) for name, s in phases if s is not None]
    if known and attempt["outcome"] not in (None, "OK"):
        known[-1] = ("bad", known[-1][1])
    return known


def _attempt(attempt: Value, whole_s: float, *, session: bool) -> str:
    outcome = attempt["outcome"]
    sign = "…" if not outcome else "✓" if outcome == "OK" else "✗"
    reason = f"<small>{escape(attempt['reason'])}</small>" if attempt["reason"] else ""
    then = f"<small>then it was {escape(attempt['then'])}</small>" if attempt["then"] else ""
    connect_s = attempt["took_s"] if attempt["connect_s"] is None else attempt["connect_s"]
    connect = "reused" if attempt["reused"] and not connect_s else _took(connect_s)
    first = () if session else (_took(attempt["first_byte_s"]),)
    times = (_took(attempt["queue_s"]), connect, *first, _took(attempt["rest_s"]))
    parts = [("queue", attempt["queue_s"]), *_phases(attempt)]
    return _row(
        f"{attempt['number']}  {escape(attempt['backend'])}",
        f"{sign} {outcome or 'running'}{reason}{then}",
        times,
        _water(attempt["began_s"] - attempt["queue_s"], parts, whole_s),
    )


def _last_wait(one: Value, waited_s: float) -> str:
    """A wait in the queue behind which no attempt came."""
    whole_s = _whole_s(one)
    begin_s = max(0.0, whole_s - waited_s)
    times = (_took(waited_s), *[NOBODY_KNOWS] * (2 if _is_session(one) else 3))
    ended = "… waits" if one["running"] else "✗ no attempt"
    return _row("in the queue", ended, times, _water(begin_s, [("queue", waited_s)], whole_s))


def _row(name: str, ended: str, times: Sequence[str], water: str) -> str:
    cells = "".join(f'<td class="n nowrap">{one}</td>' for one in times)
    return f'<tr><th scope="row" class="nowrap">{name}</th><td>{ended}</td>{cells}<td class="w-water">{water}</td></tr>'


def _water(begin_s: float, parts: Sequence[tuple[str, float]], whole_s: float) -> str:
    """The bar of one attempt on the time of the whole request, and when it was in words."""
    at, bars = max(0.0, begin_s), ""
    for kind, length_s in parts:
        if length_s >= _SHORTEST_S:
            width = max(0.4, 100 * length_s / whole_s)
            left = min(100 * at / whole_s, 100 - width)
            bars += f'<rect class="f-{kind}" x="{left:.2f}%" width="{width:.2f}%" height="9"></rect>'
        at += length_s
    when = f"at {_took(max(0.0, begin_s))}, for {_took(at - max(0.0, begin_s))}"
    return (
        f'<svg class="water" aria-hidden="true"><rect class="track" width="100%" height="9" rx="2"></rect>{bars}</svg>'
        f"<small>{when}</small>"
    )


# Who else there was.


def _candidates(one: Value) -> str:
    tried = [attempt["backend"] for attempt in one["attempts"]]
    found = {each["backend"]: each for each in (*one["skipped"], *one["candidates"])}
    if not found:
        return ""
    asked = [found[name] for name in dict.fromkeys(tried) if name in found]
    out = [each for name, each in found.items() if each["skipped"] and name not in tried]
    others = [each for name, each in found.items() if not each["skipped"] and name not in tried]
    every = [*asked, *out, *others]
    picked = one["decision"]["picked"] if one["decision"] else None
    rows = "".join(_candidate(each, picked, tried) for each in every[:MOST_CANDIDATES])
    more = len(every) - MOST_CANDIDATES
    rest = f'<tr><td colspan="6" class="zero">and {more} more</td></tr>' if more > 0 else ""
    heads = ("Candidate", "State", "In flight", "Weight", "Value")
    head = "".join(f'<th scope="col"{_N if name in heads[2:] else ""}>{name}</th>' for name in heads)
    return (
        f'<table class="candidates"><caption class="sr">Candidates</caption><thead><tr>{head}<th scope="col"><span class="sr">Note</span></th>'
        f"</tr></thead><tbody>{rows}{rest}</tbody></table>"
    )


def _candidate(each: Value, picked: str | None, tried: Sequence[str]) -> str:
    name, load, limit = each["backend"], each["load"], each["limit"]
    running = NOBODY_KNOWS if load is None else f"{load} / {limit}" if limit else str(load)
    value = NOBODY_KNOWS if each["rank"] is None else f"{each['rank']:.2f}".rstrip("0").rstrip(".")
    kind = glyph_of(each["state"])
    return (
        f'<tr><th scope="row">{escape(name)}</th><td>{glyph(kind)} {escape(each["state"])}</td><td class="n">{running}</td>'
        f'<td class="n">{each["weight"]}</td><td class="n">{value}</td><td>{escape(_note(each, picked, tried))}</td></tr>'
    )


def _note(each: Value, picked: str | None, tried: Sequence[str]) -> str:
    if each["backend"] == picked:
        return "taken"
    if each["backend"] in tried:
        return "tried before"
    left = "" if each["left_s"] is None else f"{each['left_s']:.0f} s left"
    return ", ".join(filter(None, (each["skipped"], each["reason"], left)))
