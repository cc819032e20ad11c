"""`lbctl doctor`: what may be wrong around a daemon, as far as it can be seen from here: reach, clock, descriptors, files, backends."""

import os
import re
import socket
import stat
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted_lb import __version__
from twisted_lb.ctl.certificates import flaws_of
from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, part, text_of
from twisted_lb.ctl.tables import Cell, aligned
from twisted_lb.ctl.text import BOLD, DIM, GREEN, RED, YELLOW, Words, count, duration, plural
from twisted_lb.ctl.workers import served

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"
_SIGNS: Final = {GOOD: ("✓", GREEN), DOUBTFUL: ("‼", YELLOW), BAD: ("✗", RED)}
# So long a backend may take to be connected, and to answer.
_PATIENCE_S: Final = 3.0
# So many are asked at once.
_AT_ONCE: Final = 16
# Clocks of one machine agree better, those of two machines with NTP too.
_CLOCK_S: Final = 2.0
# Below that a burst of new connections is refused before anybody has seen it.
_SOMAXCONN: Final = 1024
_DESCRIPTORS: Final = 4096
_PROC: Final = "/proc"


@dataclass(frozen=True)
class Finding:
    """Something that was looked at: how it is, what it is about, in words, and what may help."""

    level: str
    subject: str
    text: str
    hint: str = ""


def _run(session: Session, _: Namespace) -> int:
    """Look at everything; 1 where something is wrong."""
    status, began = session.status(), session.clock.time()
    config = {text_of(one, "key"): one for one in items(session.api.get("/v1/config"), "values")}
    found = [
        *_daemon(session, status, began),
        *_workers(status),
        *_machine(session, status),
        *_files(session, status, config),
    ]
    found += [*_certificates(status), *_backends(status, config)]
    bad = sum(one.level == BAD for one in found)
    doubtful = sum(one.level == DOUBTFUL for one in found)
    console = session.console
    if console.as_json:
        console.say_json({"well": not bad, "findings": [vars(one) for one in found]})
    else:
        rows: list[list[Cell]] = [
            [Words(_SIGNS[one.level], f" {one.subject}"), one.text, Words((one.hint, DIM))] for one in found
        ]
        console.say_cut(aligned(rows, [False] * 3, ascii_only=console.ascii_only))
        total = f"{count(bad) if bad else 'nothing'} wrong, {count(doubtful) if doubtful else 'nothing'} doubtful"
        console.say("", Words((f"{total}; {plural(len(found), 'thing')} looked at", BOLD)))
    return Status.REFUSED if bad else Status.DONE


def _daemon(session: Session, status: Answer, now: float) -> Iterator[Finding]:
    yield Finding(GOOD, "daemon", f"{text_of(status, 'name')} answers at {session.where.name}")
    theirs = text_of(status, "version")
    if theirs == __version__:
        yield Finding(GOOD, "version", f"{theirs}, as lbctl's")
    else:
        yield Finding(DOUBTFUL, "version", f"the daemon is {theirs}, lbctl {__version__}", "install them together")
    if status.get("ready"):
        yield Finding(GOOD, "ready", f"for {duration(status.get('uptime_s'))}")
    else:
        yield Finding(BAD, "ready", f"no: {text_of(status, 'ready_text')}", "lbctl status")
    off = number_of(status, "now") - now
    if abs(off) > _CLOCK_S:
        yield Finding(DOUBTFUL, "clock", f"the daemon's is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}", "NTP")
    else:
        yield Finding(GOOD, "clock", "as here")


def _machine(session: Session, status: Answer) -> Iterator[Finding]:
    """What only the daemon's own machine knows: nothing from elsewhere."""
    if not session.where.path:
        return
    pid = int(number_of(status, "pid"))
    limit = re.search(r"^Max open files +(\d+)", _read(f"{_PROC}/{pid}/limits"), re.MULTILINE)
    # Each process has a limit of its own: the one that has most open, be it a worker.
    pids = [pid, *(int(number_of(one, "pid")) for one in items(status, "workers"))]
    used = max((many for one in pids if one and (many := _open(one)) is not None), default=None)
    if limit is not None:
        most = int(limit[1])
        scarce = most < _DESCRIPTORS or (used is not None and used > most * 0.8)
        text = f"{'' if used is None else f'{count(used)} of '}{count(most)}"
        hint = "LimitNOFILE= of its unit, or ulimit -n" if scarce else ""
        yield Finding(DOUBTFUL if scarce else GOOD, "descriptors", text, hint)
    backlog = _read(f"{_PROC}/sys/net/core/somaxconn").strip()
    if backlog.isdigit():
        small = int(backlog) < _SOMAXCONN
        hint = f"sysctl net.core.somaxconn={_SOMAXCONN * 4}" if small else ""
        yield Finding(DOUBTFUL if small else GOOD, "somaxconn", backlog, hint)
    yield from _ports(status, pid)


def _ports(status: Answer, pid: int) -> Iterator[Finding]:
    """Whether another start could bind what this one has."""
    first = _read(f"{_PROC}/sys/net/ipv4/ip_unprivileged_port_start").strip()
    least = int(first) if first.isdigit() else 1024
    rights = re.search(r"^CapEff:\s+([0-9a-f]+)", _read(f"{_PROC}/{pid}/status"), re.MULTILINE)
    may = rights is not None and bool(int(rights[1], 16) & 1 << 10)  # CAP_NET_BIND_SERVICE
    for listener in items(status, "listeners"):
        for address in lines_of(listener, "addresses"):
            port = address.rpartition(":")[2]
            if port.isdigit() and 0 < int(port) < least and not may:
                yield Finding(
                    DOUBTFUL,
                    f"listener {text_of(listener, 'name')}",
                    f"{address}: by its rights now it could not be bound again",
                    "started as root, or AmbientCapabilities=CAP_NET_BIND_SERVICE",
                )


def _open(pid: int) -> int | None:
    """How many descriptors a process has open, as far as that can be seen."""
    try:
        return sum(1 for _ in Path(f"{_PROC}/{pid}/fd").iterdir())
    except OSError:
        return None


def _workers(status: Answer) -> Iterator[Finding]:
    """The processes that move requests, where there are several."""
    found = items(status, "workers")
    if not found:
        return
    serve, places = served(found)
    missing = serve < places
    hint = "lbctl workers, and the log" if missing else ""
    yield Finding(DOUBTFUL if missing else GOOD, "workers", f"{count(serve)} of {count(places)} serve", hint)


def _files(session: Session, status: Answer, config: Mapping[str, Answer]) -> Iterator[Finding]:
    """The configuration and the socket: who else may read and write them, and whether the file is in force."""
    file = part(status, "file")
    path = text_of(file, "path")
    if file.get("changed_s") is not None:
        text = f"changed {duration(file['changed_s'])} ago, not loaded"
        yield Finding(DOUBTFUL, text_of(file, "changed") or path, text, "lbctl diff, lbctl reload")
    hidden = any(one.get("value") == "***" and text_of(one, "source") not in ("default", "") for one in config.values())
    if session.where.path and path:
        yield from _access(path, stat.S_IROTH if hidden else 0, "a secret stands in it, and everybody may read it")
    if session.where.path:
        yield from _access(session.where.path, 0, "")


def _access(path: str, forbidden: int, why: str) -> Iterator[Finding]:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        yield Finding(DOUBTFUL, path, f"cannot be looked at: {error.strerror}")
        return
    if mode & stat.S_IWOTH:
        yield Finding(BAD, path, "everybody on this machine may write to it", f"chmod o-w {path}")
    elif mode & forbidden:
        yield Finding(DOUBTFUL, path, why, f"chmod o-r {path}")
    else:
        yield Finding(GOOD, path, f"mode {stat.S_IMODE(mode):04o}")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _certificates(status: Answer) -> Iterator[Finding]:
    """What listeners serve TLS with."""
    for listener in items(status, "listeners"):
        served = items(listener, "certificates")
        if not served:
            continue
        subject, flaws = f"TLS of {text_of(listener, 'name')}", flaws_of([listener])
        for flaw in flaws:
            yield Finding(BAD if flaw.get("grave") else DOUBTFUL, subject, text_of(flaw, "text"), "lbctl certificates")
        if not flaws:
            first = min(number_of(one, "expires_at") for one in served)
            yield Finding(
                GOOD, subject, f"{plural(len(served), 'certificate')}, {_ahead(first - number_of(status, 'now'))}"
            )


def _ahead(seconds: float) -> str:
    return f"none expires within {plural(int(seconds // 86_400), 'day')}"


# -- backends


def _backends(status: Answer, config: Mapping[str, Answer]) -> list[Finding]:
    # Late: a start has no use for it.
    from concurrent.futures import ThreadPoolExecutor

    asked = [(pool, one) for pool in items(status, "pools") for one in items(pool, "backends")]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(lambda pair: _backend(pair[0], pair[1], config), asked))


def _backend(pool: Answer, backend: Answer, config: Mapping[str, Answer]) -> Finding:
    """Whether a backend can be reached from here, and answers its check."""
    name, admin = text_of(backend, "name"), text_of(backend, "admin")
    key = f"pools.{text_of(pool, 'name')}.health_check"
    check = {
        part_: text_of(config.get(f"{key}.{part_}", {}), "value")
        for part_ in ("kind", "path", "method", "host", "port", "expect_statuses")
    }
    fields = text_of(config.get(f"{key}.headers", {}), "source", "default") != "default"
    greeted = _greeted(text_of(pool, "name"), config)
    asks = text_of(pool, "check") not in ("none", "") and check["kind"] == "http" and not greeted
    try:
        with closing(_connected(text_of(backend, "address"), check["port"] if asks else "")) as sock:
            text, good = (
                _answer(sock, text_of(backend, "address"), check, fields=fields)
                if asks
                else (f"connects from here{greeted}", True)
            )
    except OSError as error:
        text, good = f"{_why(error)}, from here", False
    if good:
        seen = "" if backend.get("usable") or admin != "ready" else f"; the daemon says {text_of(backend, 'state')}"
        return Finding(DOUBTFUL if seen else GOOD, name, f"{text}{seen}", "lbctl backends -o wide" if seen else "")
    if admin != "ready":
        return Finding(DOUBTFUL, name, f"{text}; it is taken out ({admin})")
    return Finding(BAD, name, text)


def _greeted(pool: str, config: Mapping[str, Answer]) -> str:
    """What has to be said before anything is asked, which the daemon alone does."""
    over_tls = f"pools.{pool}.tls.verify" in config
    header = text_of(config.get(f"pools.{pool}.send_proxy", {}), "value") not in ("", "off")
    said = " and ".join(word for word, wanted in (("a PROXY header", header), ("TLS", over_tls)) if wanted)
    return f"; {said} come first, by the daemon alone" if said else ""


def _connected(address: str, port: str) -> socket.socket:
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_PATIENCE_S)
            sock.connect(address.removeprefix("unix:"))
        except OSError:
            sock.close()
            raise
        return sock
    host, _, own = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port or own)), timeout=_PATIENCE_S)


def _answer(sock: socket.socket, address: str, check: Mapping[str, str], *, fields: bool) -> tuple[str, bool]:
    """What a backend answers to its check, and whether that is good. `fields`: its check has some that are not shown."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("localhost", timeout=_PATIENCE_S)
    connection.sock = sock
    method, path = check["method"] or "GET", check["path"] or "/"
    host = check["host"] or ("localhost" if address.startswith("unix:") else address)
    try:
        connection.request(method, path, headers={"Host": host, "Connection": "close"})
        status = connection.getresponse().status
    except (HTTPException, ValueError) as error:
        return f"{method} {path}: no HTTP ({type(error).__name__})", False
    good = _expected(status, check["expect_statuses"])
    if not good and fields and status in (401, 403):
        return f"{method} {path}: {status}, without the fields that only the daemon knows", True
    return f"{method} {path}: {status}", good


def _expected(status: int, statuses: str) -> bool:
    """Whether one of `200-299, 404` is this one."""
    ranges = re.findall(r"(\d{3})(?:\s*[-–]\s*(\d{3}))?", statuses)
    return any(int(low) <= status <= int(high or low) for low, high in ranges) if ranges else 200 <= status < 400


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    return "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()


def _none(_: ArgumentParser) -> Any:
    """No arguments."""


VERBS: Final = (Verb("doctor", "doctor", "what may be wrong around it, seen from here", _none, _run),)
