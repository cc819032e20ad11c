"""Rehearsals: a program that is to take the place of a running one does all that may fail, in a process of its own, and ends."""

import contextlib
import os
import subprocess
import sys
from collections.abc import MutableMapping
from typing import Final, NoReturn

from twisted_lb.check import problems_of
from twisted_lb.config.load import Source
from twisted_lb.config.problems import Severity, report
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.errors import START_ERROR, ConfigError, StartError, listen_error
from twisted_lb.net.sockets import bind_tcp, bind_unix, inode_of, unlink_own
from twisted_lb.openings import STATUS
from twisted_lb.plan import plan_of
from twisted_lb.planned import Plan
from twisted_lb.process import cpus
from twisted_lb.respawn import HANDOVER
from twisted_lb.service.last_words import gist
from twisted_lb.workers.codec import Encoder, unsendable
from twisted_lb.workers.handover import Handover
from twisted_lb.workers.messages import read_memory_file

# A worker has so long to take the plan, in seconds.
_WORKER_S: Final = 40.0


def rehearse(source: Source, environ: MutableMapping[str, str]) -> NoReturn:
    """Rehearse a start by this configuration, and end: 0, or with what is wrong on standard error."""
    try:
        said = _rehearsed(source, environ)
    except (StartError, ConfigError, ValueError) as error:
        said = str(error)
    if said:
        sys.stderr.write(f"{said.strip()}\n")
    sys.stderr.flush()
    sys.stdout.flush()
    # Nothing that was imported is to do anything at an end in order.
    os._exit(START_ERROR if said else 0)


def _rehearsed(source: Source, environ: MutableMapping[str, str]) -> str:
    """What is wrong; empty where nothing is."""
    errors = [one for one in problems_of(source) if one.severity is Severity.ERROR]
    if errors:
        return report(errors, "nothing was changed")
    config = source.load()
    workers = cpus() if config.workers == "auto" else config.workers
    if workers == 1:
        return "workers = 1: an upgrade needs workers; one process takes the place of them by a restart, with takeover"
    number = environ.get(HANDOVER, "")
    handover = Handover.of_text(read_memory_file(int(number)).decode())
    plan = plan_of(config)
    why = unsendable(plan)
    if why:
        return f"workers need --config: {why}"
    wanted = {name: listener.addresses for name, listener in plan.listeners.items()}
    given = _given({one.name for one in handover.sockets if not one.where}, list(wanted))
    listeners = [one for name, addresses in wanted.items() if name not in given for one in addresses]
    status = [] if config.status is None or STATUS in given else [config.status.address]
    _bind([*listeners, *status], {one.where for one in handover.sockets})
    return _with_a_worker(plan)


def _given(names: set[str], listeners: list[str]) -> set[str]:
    """What has sockets of a service manager, which stand for all its addresses: by their names, or as there is but one (`openings`)."""
    return names | set(listeners) if len(listeners) == 1 and names - {STATUS} else names


def _bind(wanted: list[ListenAddress], open_: set[str]) -> None:
    """See that what is not open yet can be bound."""
    for address in wanted:
        if address.where in open_:
            continue
        try:
            if address.path:
                sock = bind_unix(address.path, address.mode, address.group)
            else:
                sock = bind_tcp(address.interface, address.port)
        except (OSError, LookupError) as error:
            raise listen_error(address.where, error) from None
        with contextlib.closing(sock):
            if address.path:
                unlink_own(address.path, inode_of(address.path))


def _with_a_worker(plan: Plan) -> str:
    """Have a worker take the plan; what is wrong with that."""
    encoded = Encoder().encode(plan)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one or os.getcwd() for one in sys.path)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "twisted_lb.workers.rehearsal"],
            input=encoded.for_one_who_knows(set()),
            capture_output=True,
            timeout=_WORKER_S,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a worker cannot be started: {error}"
    said = gist(done.stderr.decode("utf-8", "replace"))
    return "" if done.returncode == 0 else f"a worker cannot take the plan: {said or f'status {done.returncode}'}"
