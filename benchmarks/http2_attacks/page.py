"""What docs/http2.md says of attacks: the newest run as a table. No number in it is typed by hand."""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yardstick.page import digits, machine, table

from http2_attacks.attacks import ATTACKS

PAGE = Path(__file__).parent.parent.parent / "docs" / "http2.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
TITLES = {"compiled": "ours", "pure": "ours, pure", "haproxy": "HAProxy", "nginx": "NGINX"}
CODES = {-1: "closed", 0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR", 9: "COMPRESSION_ERROR", 11: "ENHANCE_YOUR_CALM"}  # fmt: skip

Rounds = list[dict[str, Any]]


def render(run: dict[str, Any]) -> str:
    """The part of the page."""
    measured = run["measurements"]["http2-abuse"]
    names = list(next(iter(measured["attacks"].values())))
    parts = [machine(run)]
    parts.append(
        f"CPU seconds in {measured['seconds']:g} s of the attack, how much its resident memory has grown at most, and p50 and p99 of the "
        "honest client in ms: each the median of "
        f"{len(next(iter(next(iter(measured['attacks'].values())).values())))} rounds."
    )
    heading = ["", *(f"{TITLES[name]}: CPU s" for name in names), *(f"{TITLES[name]}: MiB" for name in names)]
    heading += [f"{TITLES[name]}: p50, p99" for name in names]
    parts.append(table(heading, list(costs(measured["attacks"], names))))
    parts.append(
        "Whether the attacker was sent away, how, and after how many frames of a connection, in the median of its connections; of who was not, "
        "how many frames came in all."
    )
    parts.append(table(["", *(TITLES[name] for name in names)], list(ends(measured["attacks"], names))))
    return "\n\n".join(parts)


def costs(attacks: dict[str, dict[str, Rounds]], names: list[str]) -> Iterator[list[str]]:
    """A row for each attack."""
    for attack, found in attacks.items():
        cells = [digits(median(found[name], "cpu_s")) for name in names]
        cells += [digits((median(found[name], "grown_bytes") or 0) / 2**20) for name in names]
        cells += [waits(found[name]) for name in names]
        yield [ATTACKS[attack].title, *cells]


def median(rounds: Rounds, key: str) -> float | None:
    """Of the rounds in which there was such a number."""
    found = [one[key] for one in rounds if one[key] is not None]
    return statistics.median(found) if found else None


def waits(rounds: Rounds) -> str:
    """The latencies; and how many of the honest client's requests had no answer, if any."""
    lost = sum(one["lost"] for one in rounds)
    said = ", ".join(digits(median(rounds, key)) for key in ("p50_ms", "p99_ms"))
    return said + (f"; {lost} of {lost + sum(one['answered'] for one in rounds)} lost" if lost else "")


def ends(attacks: dict[str, dict[str, Rounds]], names: list[str]) -> Iterator[list[str]]:
    """A row for each attack but the calm."""
    for attack, found in attacks.items():
        if ATTACKS[attack].connections:
            yield [ATTACKS[attack].title, *(end(found[name]) for name in names)]


def end(rounds: Rounds) -> str:
    """What became of the attacker's connections."""
    told = [one["attacker"] for one in rounds]
    frames = [one for each in told for one in each["frames_until"]]
    if not frames:
        return f"no: {digits(float(sum(each['frames'] for each in told)))}"
    codes: dict[int, int] = {}
    for each in told:
        for code, count in each["codes"].items():
            codes[int(code)] = codes.get(int(code), 0) + count
    most = max(codes, key=lambda code: codes[code])
    return f"{CODES.get(most, str(most))}, {statistics.median(frames):,.0f}"


def write(run: dict[str, Any]) -> None:
    """Between the marks of the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, behind = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{render(run)}\n\n{END}{behind}")
