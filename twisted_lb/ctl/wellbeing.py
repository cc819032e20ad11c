"""`lbctl healthcheck` and `version`: one line each, for Docker, systemd and people."""

from argparse import ArgumentParser, Namespace

from twisted_lb import __version__
from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.session import Session, Verb, text_of


def _run_healthcheck(session: Session, _: Namespace) -> int:
    """Print whether the daemon takes new requests; 0 or 1, as Docker wants it, also where there is no daemon."""
    console = session.console
    try:
        status = session.status()
    except Failure as failure:
        if failure.status != Status.NOT_REACHED:
            raise
        console.say(
            f"not well: {failure.sentence} {'; '.join(failure.more[:-1])}".replace("tried ", "tried: ").rstrip()
        )
        return Status.REFUSED
    if console.as_json:
        console.say_json({"ready": bool(status.get("ready")), "text": text_of(status, "ready_text")})
    elif status.get("ready"):
        console.say(f"OK: {text_of(status, 'name')} is ready")
    else:
        console.say(f"not ready: {text_of(status, 'ready_text')}")
    return Status.DONE if status.get("ready") else Status.REFUSED


def _run_version(session: Session, _: Namespace) -> int:
    """Print both versions; without a daemon its own."""
    console, silent = session.console, "no daemon answers"
    status: Answer = {}
    try:
        status = session.status()
    except Failure as failure:
        if failure.status != Status.NOT_REACHED:
            silent = failure.sentence
    daemon = status.get("version")
    if console.as_json:
        console.say_json({"lbctl": __version__, "daemon": daemon, "build": status.get("build")})
        return Status.DONE
    console.say(f"lbctl {__version__}")
    if daemon is None:
        console.tell(silent)
    else:
        console.say(f"twisted_lb {daemon} ({text_of(status, 'build')}) at {session.where.name}")
        if daemon != __version__:
            console.tell("They are not the same: what one of them knows may be news to the other.")
    return Status.DONE


def _none(_: ArgumentParser) -> None:
    """No arguments."""


HEALTHCHECK = Verb("healthcheck", "healthcheck", "one line for Docker and systemd: 0 or 1", _none, _run_healthcheck)
VERSION = Verb("version", "version", "of lbctl and of the daemon", _none, _run_version)
