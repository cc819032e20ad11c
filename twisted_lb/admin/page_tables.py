"""Tables of the page, as HTML that the server makes: what is seen without a script, and before it has begun."""

import time
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any, Final
from urllib.parse import quote

from twisted_lb.admin.page_marks import NOBODY_KNOWS, TONES, clock, glyph, glyph_of, milliseconds, number
from twisted_lb.admin.page_requests import request_html
from twisted_lb.admin.words import became, counted, duration
from twisted_lb.portions import AT_ONCE, Making

_EVENT_GLYPHS: Final = {
    "up": "ready",
    "returned": "ready",
    "agent": "drain",
    "agent_garbled": "warn",
    "recovered": "ready",
    "exhausted": "down",
    "levels": "warn",
    "panic": "warn",
    "panic_over": "ready",
    "cut": "warn",
    "added": "file",
    "removed": "file",
    "changed": "weight",
    "limit_spared": "limit",
    "reset": "reload",
    "upgrade": "reload",
    "leak": "warn",
    "policy_failed": "warn",
    "policy_handed_over": "warn",
    "policy_taken_back": "ready",
}
_WORKER_GLYPHS: Final = {"serves": "ready", "starts": "slow", "drains": "drain", "hangs": "warn", "waits": "down"}
_WORKER_TONES: Final = {"warn": "s-down"}
_LEVELS: Final = {"well": "ready", "partly": "warn", "failing": "down"}
_LEVEL_TONES: Final = {"well": "s-ready", "partly": "s-slow", "failing": "s-down"}

# What is spoken with the backends of a pool, where that is not HTTP/1.1 alone.
_NAMES: Final = {"h1": "HTTP/1.1", "h2": "HTTP/2"}
_SPEAKS: Final = {"h1": "", "h2": " · HTTP/2 to backends", "auto": " · HTTP/2 to backends that take it"}

_COLUMNS: Final = (
    ("name", "Backend"),
    ("state", "State"),
    ("weight", "Weight"),
    ("flight", "In flight"),
    ("rate n", "Req/s, reuse"),
    ("share", "Share is / meant"),
    ("err n", "Err 1 m"),
    ("p50 n", "p50"),
    ("p99", "p99, last minute"),
    ("check", "Last check"),
)

Value = Mapping[str, Any]


def parts(whole: Value) -> Making[dict[str, str]]:
    """What the page's text has in its places, for all that the page shows."""
    status = whole["status"]
    known = {one["name"] for pool in status["pools"] for one in pool["backends"]}
    pools: list[str] = []
    for pool in status["pools"]:
        pools += [(yield from _pool(pool, status["now"]))]
    level = status["verdict"]["level"]
    return {
        "title": escape(f"{ {'well': '', 'partly': '△ ', 'failing': '✕ '}[level] }{status['name']} · twisted_lb"),
        "name": escape(status["name"]),
        "glyph": _LEVELS[level],
        "tone": _LEVEL_TONES[level],
        "facts": _facts(status),
        "asof": f"as of {clock(status['now'])}, anew every 10 s",
        "verdict": escape(status["verdict"]["text"]),
        "clauses": "\n".join(map(_clause, status["verdict"]["clauses"])),
        "pools": "\n".join(pools),
        "routes": "\n".join(map(_route, status["routes"])) or _nothing(6, "There is no route."),
        "listeners": "\n".join(map(_listener, status["listeners"])),
        "requests": "\n".join(map(request_html, whole["requests"]))
        or f"<tbody>{_nothing(5, 'Nothing failed.')}</tbody>",
        "worked": "" if status["workers"] else " hidden",
        "serving": _serving(status) if status["workers"] else "",
        "workers": "\n".join(_worker(one, status["now"]) for one in status["workers"]),
        "events": "\n".join(_event(one, known) for one in reversed(whole["events"])) or _nothing(3, "Nothing yet."),
        "config": "\n".join(map(_config, whole["config"])),
        "changes": "\n".join(_change(one, known) for one in status["changes"]) or _nothing(3, "None."),
        "warned": "" if status["warnings"] else " hidden",
        "warnings": "\n".join(
            f"<li>{glyph('warn', 's-slow')}<span>{escape(one)}</span></li>" for one in status["warnings"]
        ),
        "version": escape(f"twisted_lb {status['version']} ({status['build']}), pid {status['pid']}"),
    }


def nothing_known(why: str) -> dict[str, str]:
    """The page for who may not read yet, and why: nothing of this balancer is in it."""
    empty = dict.fromkeys(
        (
            "facts",
            "clauses",
            "pools",
            "routes",
            "listeners",
            "requests",
            "serving",
            "workers",
            "events",
            "config",
            "changes",
            "version",
        ),
        "",
    )
    return {
        **empty,
        "worked": " hidden",
        "warned": " hidden",
        "warnings": "",
        "title": "twisted_lb",
        "name": "",
        "glyph": "unknown",
        "tone": "s-unknown",
        "asof": "",
        "verdict": escape(why),
    }


def _nothing(columns: int, text: str) -> str:
    return f'<tr><td colspan="{columns}" class="none">{text}</td></tr>'


def _link(name: str) -> str:
    return f'<a href="#b-{quote(name)}">{escape(name)}</a>'


def _where(name: str, known: Collection[str]) -> str:
    return _link(name) if name in known else escape(name)


def _meter(part: float, *, high: bool = False, aim: float | None = None) -> str:
    meant = "" if aim is None else f'<rect class="aim" x="{min(99.0, aim):.1f}%" width="2" height="7"></rect>'
    return (
        '<svg aria-hidden="true" class="meter"><rect class="track" height="7" rx="2" width="100%"></rect>'
        f'<rect class="fill{" high" if high else ""}" height="7" rx="2" width="{min(100.0, part):.1f}%"></rect>{meant}</svg>'
    )


# The parts of the page.


def _facts(status: Value) -> str:
    ready = "ready" if status["ready"] else "not ready"
    facts = [f"<b>{ready}</b>", f"up {duration(status['now'] - status['began'])}", f"generation {status['generation']}"]
    if status["workers"]:
        facts.append(f'<a href="#workers">{_serving(status)}</a>')
    spans = "".join(f"<span>{one}</span>" for one in facts)
    file = status["file"]
    if file is None or file.get("changed_at") is None:
        return spans
    ago = duration(status["now"] - file["changed_at"])
    return f'{spans}<span class="note">{escape(file["changed"])} changed {ago} ago, not loaded</span>'


def _clause(clause: Value) -> str:
    kind = glyph_of(clause["state"])
    return (
        f"<li>{glyph(kind)}<span>{_link(clause['subject'])}<span> {escape(clause['is'])} ({escape(clause['text'])})</span>"
        "</span></li>"
    )


def _pool(pool: Value, now: float) -> Making[str]:
    usable, every = pool["usable"], len(pool["backends"])
    standing = sum(one["state"] == "standby" for one in pool["backends"])
    used = usable - standing
    tone = "s-ready" if usable == every and every else "s-slow" if usable or _awaited(pool) else "s-down"
    none = "waits for a first check" if _awaited(pool) else "answers nothing"
    said = f"all {every} used" if used == every and every else f"{used} of {every} used" if usable else none
    said += f", {standing} {'stands' if standing == 1 else 'stand'} by" if standing else ""
    facts = (
        f"{pool['policy']}{_SPEAKS[pool['protocol']]} · {number(pool['rate'])} req/s · {pool['in_flight']} in flight · "
        f"{pool['queued']} of {pool['queue']} queued · {'no checks' if pool['check'] == 'none' else pool['check']}"
        f"{_levels(pool)}"
    )
    head = "".join(f'<th scope="col" class="w-{name}">{text}</th>' for name, text in _COLUMNS)
    backends, rows = pool["backends"], ""
    for begin in range(0, every, AT_ONCE):
        rows += "\n".join(_backend(one, now, leveled=bool(pool["levels"])) for one in backends[begin : begin + AT_ONCE])
        if begin + AT_ONCE < every:
            rows += "\n"
            yield
    return (
        f'<div class="pool"><div class="scroll"><table><caption>{escape(pool["name"])}<span class="{tone}">{said}</span>'
        f"<span>{escape(facts)}</span></caption><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div></div>"
    )


def _levels(pool: Value) -> str:
    """Which level has what part of the requests, where there are several, and whether others than usable ones are used."""
    parts = [f"{_level(one) + 's' * (one['level'] is None)} {one['share']} %" for one in pool["levels"]]
    return "".join(f" · {part}" for part in (", ".join(parts), "in panic" if pool["panic"] else "") if part)


def _level(one: Value) -> str:
    return "backup" if one["level"] is None else f"level {one['level']}"


def _awaited(pool: Value) -> bool:
    return any(one["state"] == "unknown" for one in pool["backends"])


def _backend(one: Value, now: float, *, leveled: bool) -> str:
    state, kind = one["state"], glyph_of(one["state"])
    labels = ", ".join(f"{key} {value}" for key, value in one["labels"].items())
    place = " · ".join(filter(None, (one["address"], _level(one) if leveled else "", labels)))
    word = f'<{"span" if state == "ready" else "b"} class="{TONES.get(kind, f"s-{kind}")}">{escape(state)}'
    word += "</span>" if state == "ready" else "</b>"
    reason = escape(one["reason"], quote=True)
    cells = (
        f'<th scope="row">{escape(one["backend"])}<small title="{escape(place, quote=True)}">{escape(place)}</small></th>',
        f'<td class="state">{glyph(kind)}{word} for {duration(now - one["since"])}<small title="{reason}">{reason}</small></td>',
        f'<td class="c-weight" data-l="Weight">{_weight(one)}</td>',
        f'<td class="c-flight" data-l="In flight">{_flight(one)}</td>',
        f'<td class="c-rate n" data-l="Req/s, reuse">{number(one["rate"], 1)}<small>{_reuse(one["reuse"])}</small></td>',
        f'<td class="c-share" data-l="Share is / meant">{_share(one)}</td>',
        f'<td class="c-err n" data-l="Err 1 m">{number(one["errors_60s"])}</td>',
        f'<td class="c-p50 n" data-l="p50">{milliseconds(one["p50_ms"])}</td>',
        f'<td class="c-p99" data-l="p99, last minute"><span class="v">{milliseconds(one["p99_ms"])}</span></td>',
        f'<td class="c-check" data-l="Last check">{_check(one, now)}</td>',
    )
    tinted = "" if state == "ready" else f' class="r-{kind}"'
    return f'<tr id="b-{escape(one["name"], quote=True)}"{tinted}>{"".join(cells)}</tr>'


def _weight(one: Value) -> str:
    now = one["weight_effective"]
    return str(one["weight"]) + ("" if now == one["weight"] else f"<small>now {now:g}</small>")


def _flight(one: Value) -> str:
    running, limit, tunnels = one["in_flight"] - one["tunnels"], one["limit"], one["tunnels"]
    text = f"{running} / {limit}" if limit else str(running)
    if one.get("limit_why"):
        text = f'<span title="{escape(one["limit_why"], quote=True)}">{text}</span>'
    text += f" + {tunnels} tunnel{'' if tunnels == 1 else 's'}" if tunnels else ""
    text += _meter(100 * one["in_flight"] / limit, high=one["in_flight"] >= limit * 0.9) if limit else ""
    return text + _wires(one["connections"])


def _wires(wires: Value) -> str:
    """The connections that calls share, and what the backend took, where it has the choice; the column is narrow."""
    http1, http2, chose = wires["http1"], wires["http2"], wires["chose"]
    if not (http2 or chose):
        return ""
    said = [f"{counted(wires['calls'], 'call')} on {counted(http2, 'connection')} of HTTP/2"] if http2 else []
    said += [f"{counted(http1, 'connection')} of HTTP/1.1"] if http1 else []
    said += [f"it took {_NAMES[chose]} (ALPN)"] if chose else []
    short = f"HTTP/2: {http2}" if http2 else f"HTTP/1.1: {http1}" if http1 else _NAMES[chose]
    return f'<small title="{", ".join(said)}">{short}</small>'


def _share(one: Value) -> str:
    aim = one["intended"]
    text = f"{number(one['share'], 1)} / {NOBODY_KNOWS if aim is None else f'{aim:.1f} %'}"
    return text + _meter(2 * (one["share"] or 0), aim=None if not aim else 2 * aim)


def _reuse(value: float | None) -> str:
    return NOBODY_KNOWS if value is None else f"{value:.0%}".replace("%", " %")


def _check(one: Value, now: float) -> str:
    if not one["checks"]:
        return NOBODY_KNOWS
    last = one["checks"][0]
    took = "" if last["ms"] is None else f"{milliseconds(last['ms'])}, "
    return f"{'✓' if last['passed'] else '✗'} {escape(last['what'][:120])}<small>{took}{duration(now - last['at'])} ago</small>"


def _route(route: Value) -> str:
    paths = [*route["path"], *(f"{one}*" for one in route["path_prefix"])]
    matches = " ".join((", ".join(route["method"]), ", ".join(route["host"]), ", ".join(paths))).strip() or "everything"
    return (
        f'<tr><td>{route["n"]}</td><th scope="row" class="mono">{escape(matches)}</th><td>{escape(route["to"])}</td>'
        f'<td class="n">{number(route["rate"], 1)}</td><td class="n">{number(route["errors_60s"])}</td>'
        f'<td class="nowrap">{escape(route["place"])}</td></tr>'
    )


def _listener(one: Value) -> str:
    bounded = one["limit"] < 1 << 40
    limit = f" / {number(one['limit'])}" + _meter(100 * one["connections"] / one["limit"]) if bounded else ""
    return (
        f'<tr><th scope="row">{escape(one["name"])}</th><td class="mono">{escape(", ".join(one["addresses"]))}</td>'
        f'<td class="nowrap">{_secured(one["tls"])}</td>'
        f'<td>{number(one["connections"])}{limit}</td><td class="n">{number(one["rate"], 1)}</td>'
        f'<td class="n">{number(one["refused_60s"])}</td></tr>'
    )


def _secured(tls: Value | None) -> str:
    """Until when the certificates of a listener are good, and what is wrong with them."""
    if tls is None:
        return "no"
    until = f"until {time.strftime('%Y-%m-%d', time.gmtime(tls['expires_at']))}"
    if not tls["flaws"]:
        return until
    worst, *more = tls["flaws"]
    texts = escape("\n".join(one["text"] for one in tls["flaws"]), quote=True)
    said = worst["kind"] + (f" and {len(more)} more" if more else "")
    sign = glyph("down", "s-down") if worst["grave"] else glyph("warn", "s-slow")
    return f'{sign}{until}<small title="{texts}">{escape(said)}</small>'


def _serving(status: Value) -> str:
    """How many workers serve, of how many that should, and how often one was started anew."""
    workers, restarts = status["workers"], status["worker_restarts"]
    serving = sum(one["state"] == "serves" for one in workers)
    again = f", {counted(restarts, 'restart')}" if restarts else ""
    return f"{serving} of {counted(len({one['slot'] for one in workers}), 'worker')} serve{again}"


def _worker(one: Value, now: float) -> str:
    """A row of `lbctl workers`, in the same words and numbers."""
    kind = _WORKER_GLYPHS.get(one["state"], "unknown")
    covered = "" if one["covered_by"] is None else f", covered by {one['covered_by']}"
    lasts = duration(0 if one["since"] is None else now - one["since"])
    return (
        f'<tr><th scope="row" data-l="Worker">{one["slot"]}</th><td class="n" data-l="Process">{one["pid"] or NOBODY_KNOWS}</td>'
        f'<td class="state">{glyph(kind, _WORKER_TONES.get(kind))}{escape(one["state"])}{covered}</td>'
        f'<td class="n" data-l="For">{lasts}</td>'
        f'<td class="n" data-l="Connections">{number(one["connections"])}</td>'
        f'<td class="n" data-l="In flight">{number(one["in_flight"])}</td>'
        f'<td class="n" data-l="Requests">{number(one["requests"])}</td>'
        f'<td class="n" data-l="Req/s">{number(one["rate"], 1)}</td>'
        f'<td class="n" data-l="Lag p99">{milliseconds(one["lag_p99_ms"])}</td></tr>'
    )


def _event(event: Value, known: Collection[str]) -> str:
    kind = event["kind"]
    word = became(event["text"]) if kind == "admin" else kind
    sign = _EVENT_GLYPHS.get(word, word)
    subject = _where(event["subject"], known)
    said = escape(event["text"].removeprefix(f"{kind}: "))
    actor = f" · {escape(event['actor'])}" if event["actor"] else ""
    between = ": " if subject and said else ""
    return (
        f"<tr><td>{clock(event['at'])}</td><td>{glyph(sign)}{escape(word.replace('_', ' '))}</td>"
        f"<td>{subject}{between}{said}{actor}</td></tr>"
    )


def _config(one: Value) -> str:
    runtime = ' class="runtime"' if one["source"].startswith("runtime") else ""
    return (
        f'<tr{runtime}><th class="mono" scope="row">{escape(one["key"])}</th><td class="mono">{escape(one["value"])}</td>'
        f"<td>{escape(one['source'])}</td></tr>"
    )


def _change(change: Value, known: Collection[str]) -> str:
    at = "" if change["at"] is None else clock(change["at"])
    reason = f"<small>“{escape(change['reason'])}”</small>" if change["reason"] else ""
    return (
        f"<tr><td>{at}</td><td>{_where(change['subject'], known)} {escape(change['change'])}</td>"
        f"<td>{escape(change['actor'])}{reason}</td></tr>"
    )


def filled(text: str, values: Mapping[str, str]) -> str:
    """The page's text with these values in its places, `{{name}}`, each of which is HTML."""
    pieces: Sequence[str] = text.split("{{")
    return pieces[0] + "".join(values[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:]))
