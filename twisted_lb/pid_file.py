"""twistd's pid file, and its log: looked at before twistd does, so that what is wrong is one line, and what is stale is gone."""

import os
from collections.abc import Mapping
from typing import Any

from twisted_lb.errors import StartError


def prepare(twistd: Mapping[str, Any], command: str, taken: Mapping[str, str] | None = None) -> None:
    """Make way for the files that a twistd with these options is going to write. StartError for one that it cannot, and for one
    that is another file of ours: `taken` has those by what they are.

    Removed is a pid file that names nobody, or this process: in a container that was killed and started again the process
    numbers are the same as before, and twistd would take itself for the server that is running already.
    """
    pid_file = twistd.get("pidfile")
    if pid_file and not twistd.get("chroot"):
        path = os.path.abspath(pid_file)
        _refuse_taken("pid file", path, taken or {}, command)
        _refuse_running(path, command)
        _refuse_unwritable("pid file", path, "--pidfile= does without one", command)
    log = twistd.get("logfile") or ("" if twistd.get("nodaemon") or twistd.get("debug") else "twistd.log")
    if log not in ("", "-") and not twistd.get("syslog") and not twistd.get("logger"):
        _refuse_taken("log", os.path.abspath(log), taken or {}, command)
        _refuse_unwritable("log", os.path.abspath(log), "--logfile names another one", command)


def _refuse_taken(what: str, path: str, taken: Mapping[str, str], command: str) -> None:
    """StartError if one of our own files has this path."""
    for whose, other in taken.items():
        if os.path.realpath(other) == os.path.realpath(path):
            raise StartError(f"{whose}: {other} is the {what} {path}", command)


def _refuse_running(path: str, command: str) -> None:
    """StartError if the process that the pid file names is another one and lives; a stale pid file is removed."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(64).strip()
    except OSError:
        return  # there is none, or the next look says what is wrong
    if text and not text.isdecimal():
        raise StartError(f"pid file {path}: {text!r} is no process", command)
    pid = int(text or 0)
    if pid != os.getpid() and _lives(pid):
        raise StartError(f"pid file {path}: process {pid} runs already; --pidfile names another file", command)
    try:
        os.unlink(path)
    except OSError:
        pass  # Twisted looks at it next, and says what is wrong with it


def _lives(pid: int) -> bool:
    try:
        if pid > 0:
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0


def _refuse_unwritable(what: str, path: str, way_out: str, command: str) -> None:
    """StartError if a file cannot be written there, in a directory that is not ours, say."""
    existed = os.path.lexists(path)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600))
        if not existed:
            os.unlink(path)
    except OSError as error:
        raise StartError(f"{what} {path}: {os.strerror(error.errno or 0)}; {way_out}", command) from None
