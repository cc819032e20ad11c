"""Respawning: the command line that this process was started with, for the program that takes its place in it."""

import contextlib
import errno
import getopt
import os
import sys
from collections.abc import Sequence
from typing import Final

from twisted.scripts._twistd_unix import ServerOptions

# The variables of a program that takes the place of this one: the number of the descriptor of what it inherits (workers.handover), and
# that it is only to see whether it can (service.rehearsal).
HANDOVER: Final = "TWISTED_LB_HANDOVER"
REHEARSES: Final = "TWISTED_LB_REHEARSES"


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "/"  # it is gone


# Where the process was started: twistd changes its directory later. This module is imported before.
STARTED_IN: Final = _folder()


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is the interpreter's, with the program, and what is the program's."""
    for at, word in enumerate(words):
        if word == "-m":
            return list(words[: at + 2]), list(words[at + 2 :])
        if word.startswith("-m") or not word.startswith("-"):
            return list(words[: at + 1]), list(words[at + 1 :])
        if word in ("-W", "-X") and at + 1 < len(words):
            return _behind(words, at + 2)
        if word == "-c":
            raise ValueError("it is a program of `python -c`")
    raise ValueError("it has no program")


def _behind(words: Sequence[str], at: int) -> tuple[list[str], list[str]]:
    before, own = _split(words[at:])
    return [*words[:at], *before], own


def _interpreter() -> list[str]:
    """What the first line of our program names, if it is a script that can be executed: the interpreter, and an option perhaps."""
    with contextlib.suppress(ValueError, OSError):
        before, _ = _split(sys.orig_argv[1:])
        if os.access(before[-1], os.X_OK):
            with open(before[-1], "rb") as file:
                first = file.readline(256)  # as the kernel does
            if first.startswith(b"#!"):
                return os.fsdecode(first[2:]).strip().split(maxsplit=1)
    return []


# And by what, where the first line of a script names it: [] where none does.
STARTED_BY: Final = _interpreter()
# Options of twistd that have done their work: whoever it is that starts again is a daemon already, is the user that it was to be, and
# has a pid file.
_DONE: Final = ("nodaemon", "pidfile", "uid", "gid", "euid")


class Respawn:
    """How this process is started again: `executable` with `words`, in the folder `folder`. ValueError where it cannot be.

    `words` are what the interpreter was called with (sys.orig_argv). The paths in them stay as they are: behind a link there may
    be another version by now. So it is with the interpreter: where it was `named` by the first line of a script, the script is executed,
    whatever its first line says by now.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: str = STARTED_IN,
        executable: str = "",
        named: Sequence[str] = STARTED_BY,
    ) -> None:
        self.folder: Final = folder
        self.pid_file: str = ""
        self.log_file: str = ""
        self.run_folder: str = ""
        before, own = _split(words[1:])
        own = list(own if _is_ours(before) else self._twistds(own))
        script = os.path.join(folder, before[-1])
        if [words[0], *before[:-1]] == named:
            self.executable: str = script
            self.words: list[str] = [before[-1], *own]
        else:
            self.executable = executable or sys.executable
            self.words = [words[0], *before, *own]

    def obstacle(self) -> str:
        """What twistd could not have that it was given at the start, when it was another user perhaps; empty where that is nothing."""
        if self.log_file and not _may(self.log_file, os.R_OK | os.W_OK):
            folder = os.path.dirname(self.log_file)
            if os.path.exists(self.log_file) or not _may(folder, os.W_OK | os.X_OK):
                return f"{self.log_file}: {os.strerror(errno.EACCES)}"
        if self.run_folder and not _may(self.run_folder, os.X_OK):
            return f"{self.run_folder}: {os.strerror(errno.EACCES)}"
        return ""

    def _twistds(self, own: Sequence[str]) -> list[str]:
        """The words of twistd as they are to be now."""
        options = ServerOptions()
        try:
            given, rest = getopt.getopt(list(own), options.shortOpt, options.longOpt)
        except getopt.GetoptError as error:
            raise ValueError(f"twistd's options are not understood: {error}") from None
        found = [(options.synonyms[word.lstrip("-")], word, value) for word, value in given]
        if any(name == "chroot" for name, _, _ in found):
            raise ValueError("it was started with --chroot")
        daemon = not any(name == "nodaemon" for name, _, _ in found)
        self.pid_file = next((value for name, _, value in reversed(found) if name == "pidfile"), "twistd.pid")
        if self.pid_file:
            self.pid_file = os.path.join(self.folder, self.pid_file)
        words = ["--nodaemon", "--pidfile="]
        if daemon and not any(name in ("logfile", "syslog", "logger") for name, _, _ in found):
            words.append("--logfile=twistd.log")
            self.log_file = os.path.join(self.folder, "twistd.log")
        for name, _, value in found:
            if name == "logfile" and value != "-":
                self.log_file = os.path.join(self.folder, value)
            elif name == "rundir":
                self.run_folder = os.path.join(self.folder, value)
        for name, word, value in found:
            if name not in _DONE:
                words += [f"{word}={value}" if value and word.startswith("--") else word]
                if value and not word.startswith("--"):
                    words.append(value)
        return [*words, *rest]


def _may(path: str, what: int) -> bool:
    return os.access(path, what, effective_ids=True)


def _is_ours(before: Sequence[str]) -> bool:
    """Whether it is `python -m twisted_lb`, which is no daemon and has no pid file."""
    return list(before[-2:]) == ["-m", "twisted_lb"]
